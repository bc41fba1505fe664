//! Can a transaction that a client sends harm the node that checks it? One that is taken has one form and one chain.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::ids::RollupId;

#[path = "../../src/formats/eip2718.rs"]
mod format;

fuzz_target!(|bytes: &[u8]| {
    let chain = RollupId(901);
    match format::check(bytes, chain) {
        Ok(_) => assert!(format::check(bytes, RollupId(902)).is_err(), "one chain takes it"),
        // Signed for another one: that one may take it, and no third.
        Err(format::TransactionError::ChainId(Some(other))) => {
            if format::check(bytes, RollupId(other)).is_ok() {
                assert!(format::check(&bytes[..bytes.len() - 1], RollupId(other)).is_err(), "a shorter form");
            }
        }
        Err(_) => {}
    }
});
