//! Span batches from anybody: read one way or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::optimism::SpanBatch;

fuzz_target!(|bytes: &[u8]| {
    let Ok(span) = SpanBatch::decode(bytes, 10) else { return };
    assert_eq!(&span.encode(10).expect("what was read can be written")[1..], bytes);
});
