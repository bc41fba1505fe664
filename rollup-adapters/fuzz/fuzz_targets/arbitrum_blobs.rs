//! Blobs in Nitro's packing from anybody. The fuzzer's bytes are spread over two blobs, since whole ones are long.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::arbitrum::{decode_blobs, encode_blobs};

fuzz_target!(|bytes: &[u8]| {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let blobs: Vec<Vec<u8>> = [first, second]
        .map(|bytes| {
            let mut blob = vec![0; 131_072];
            let length = bytes.len().min(blob.len());
            blob[..length].copy_from_slice(&bytes[..length]);
            blob
        })
        .to_vec();
    for blobs in [&blobs[..1], &blobs[..]] {
        if let Ok(batch) = decode_blobs(blobs) {
            assert_eq!(encode_blobs(&batch, blobs.len()).as_deref(), Ok(blobs));
        }
    }
});
