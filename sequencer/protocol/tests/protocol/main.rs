//! Does the crate keep its promises through its public interface?

mod bodies;
mod evidence;
mod fixture;
mod genesis;
mod golden;
mod golden_settlement;
mod lanes;
mod ledger;
mod nonces;
mod refusals;
mod settlement;
mod signatures;
mod tree;
mod vectors;
mod wire;

use proptest::test_runner::{Config, FileFailurePersistence};

/// Runs `cases` cases. A failing seed is printed, and kept beside the test as `*.regressions`.
fn config(cases: u32) -> Config {
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as _);
    Config { cases, failure_persistence, ..Config::default() }
}
