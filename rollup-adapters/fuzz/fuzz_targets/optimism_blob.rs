//! Blobs in the OP Stack's packing from anybody. The fuzzer's bytes are spread over a blob, since a whole one is long.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::optimism::{decode_blob, encode_blob};

fuzz_target!(|bytes: &[u8]| {
    let mut blob = vec![0; 131_072];
    let length = bytes.len().min(blob.len());
    blob[..length].copy_from_slice(&bytes[..length]);
    if let Ok(data) = decode_blob(&blob) {
        assert_eq!(encode_blob(&data).as_ref(), Ok(&blob));
    }
    assert!(decode_blob(bytes).is_err() || bytes.len() == blob.len());
});
