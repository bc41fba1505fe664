//! Batches in an uncompressed channel from anybody, through every rule of derivation.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::{
    Batch, ChainTip, L1View, RollupAdapter,
    optimism::{BatchFormat, Compression, Optimism, OptimismConfig, compress, encode_data, split},
};
use lockstep_protocol::{header::L1Origin, ids::Hash32};

fuzz_target!(|bytes: &[u8]| {
    let (format, compression) = (BatchFormat::Span, Compression::Zlib { level: 0 });
    let config = OptimismConfig { chain_id: 10, block_time: 2, genesis_timestamp: 0, format, compression };
    let adapter = Optimism::new(config).expect("a block time of two seconds");
    let l1: Vec<_> =
        (0..9).map(|number| L1Origin { number, hash: Hash32::default(), timestamp: number * 12 }).collect();
    let at = ChainTip { l1: l1[0], ..Default::default() };
    let view = L1View::new(l1).expect("contiguous");
    let batches: Vec<_> = bytes.split(|byte| *byte == 0xa5).map(<[u8]>::to_vec).collect();
    let channel = compress(&batches, compression).expect("short");
    let frames = split(&channel, 100_000).expect("splits");
    let posted: Vec<_> = frames.chunks(1).map(|frame| Batch::Calldata(encode_data(frame).expect("encodes"))).collect();
    if let Ok(blocks) = adapter.decode(&posted, &at, &view) {
        assert!(blocks.windows(2).all(|pair| pair[0].timestamp + 2 == pair[1].timestamp));
    }
});
