//! Singular batches from anybody: read one way or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::optimism::SingularBatch;

fuzz_target!(|bytes: &[u8]| {
    let Ok(batch) = SingularBatch::decode(bytes) else { return };
    assert_eq!(&batch.encode()[1..], bytes);
});
