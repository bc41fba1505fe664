//! What does a network of real processes survive?
//!
//! `kill -9`, garbage on every port, and its own command line. Real disks, real sockets, one network at a time: two would
//! compete for the processors and measure each other.

mod command_line;
mod crash;
mod garbage;
mod op_stack;
mod posters;
mod refusals;
mod rollups;
mod venues;

use std::path::Path;

use lockstep_sequencer::config::Pace;
use lockstep_testnet::{city::Ending, network::Plan};
use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits until no other test has a network.
async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// The executable whose `node` command runs a validator.
const EXECUTABLE: &str = env!("CARGO_BIN_EXE_lockstep-testnet");

/// Four validators in `folder`.
fn plan(folder: &Path) -> Plan {
    Plan {
        executable: EXECUTABLE.into(),
        folder: folder.join("network"),
        validators: 4,
        balances: Vec::new(),
        pace: Pace::default(),
        l1: None,
        settlement: None,
    }
}

/// All promises were kept, over enough bundles that this says something.
#[track_caller]
fn assert_kept(ending: &Ending, ordered_min: u64) {
    for promise in &ending.promises {
        assert!(promise.kept, "{promise}\n{ending:#?}");
    }
    assert!(ending.counts.ordered >= ordered_min, "only {} bundles were ordered: {ending:#?}", ending.counts.ordered);
}
