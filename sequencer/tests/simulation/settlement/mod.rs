//! Margin that moves between rollups over a whole network, with everything that can go wrong on either side.
//!
//! The application, pools, fact pools and gossip are the real ones; rollups execute their lanes into real state roots. After every
//! final block and every step of the rollups all promises of `docs/settlement.md` are checked: see `promises.rs`.

// The rollup's contracts are those of the protocol's own tests.
#[allow(dead_code, reason = "the protocol's tests use more of it")]
#[path = "../../../protocol/tests/protocol/settlement/chain.rs"]
mod chain;
#[path = "../../../protocol/tests/protocol/settlement/escrow_model.rs"]
mod escrow_model;
#[allow(dead_code, reason = "the protocol's tests use more of it")]
#[path = "../../../protocol/tests/protocol/settlement/trie.rs"]
mod trie;

mod faults;
mod margin;
mod observer;
mod promises;
mod relayer;
mod replays;
mod rollup;
mod venues;

use lockstep_consensus::simulate::City;
use lockstep_protocol::{
    ids::RollupId,
    settlement::{AbortReason, Decision},
};

use crate::{
    ALL,
    network::{Network, ROLLUPS, Shared},
    over_seeds,
};
use margin::Margin;

const A: RollupId = ROLLUPS[0];
const B: RollupId = ROLLUPS[1];
const C: RollupId = ROLLUPS[2];
const EXPIRED: Option<Decision> = Some(Decision::Abort(AbortReason::Expired));
const REFUSED: Option<Decision> = Some(Decision::Abort(AbortReason::Refused));
const COMMIT: Option<Decision> = Some(Decision::Commit);

/// Plays a scene with some traders over its share of the seeds, from the moment that the log has heard of every rollup. At the
/// end everything must settle, and every validator's state be the same.
fn play(name: &str, traders: u16, scene: impl AsyncFn(&mut Margin, &mut City<'_>, &Shared, u64)) {
    over_seeds(name, |seed| {
        let mut network = Network::of(seed, margin::genesis(traders));
        let mut margin = Margin::new(seed, &network, traders);
        let shared = network.shared.clone();
        network.simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            margin.begin(city, &shared).await;
            scene(&mut margin, city, &shared, seed).await;
            margin.settle(city, &shared).await;
            shared.until_settled(city, &ALL).await;
        });
        let (ordered, decided) = (margin.promises.ordered.len(), &margin.promises.decided);
        let commits = decided.values().filter(|(decision, _)| *decision == Decision::Commit).count();
        let (height, heads) = (margin.promises.height(), margin.promises.heads);
        eprintln!("  height {height}: {ordered} ordered, {commits} of {} committed, {heads} heads", decided.len());
    });
}
