//! Transactions from anybody: what is found fit survives the columns of a span batch unchanged.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::optimism::{SpanBatch, SpanBlock, check};

fuzz_target!(|bytes: &[u8]| {
    if check(bytes, 10).is_err() {
        return;
    }
    let block = SpanBlock { origin_changed: false, transactions: vec![bytes.to_vec()] };
    let span = SpanBatch { blocks: vec![block], ..Default::default() };
    let encoded = span.encode(10).expect("a fit transaction");
    assert_eq!(SpanBatch::decode(&encoded[1..], 10), Ok(span));
});
