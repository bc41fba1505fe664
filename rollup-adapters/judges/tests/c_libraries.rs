//! Do the C libraries of zlib and brotli read our streams, and do we read theirs?
//!
//! Derivation runs on implementations in several languages, and lenient ones accept streams that strict ones refuse. The C
//! libraries come with python3 (zlib) and node (zlib and brotli); where neither is installed, the judge says so by name.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use alloy_primitives::hex;
use alloy_rlp::Encodable;
use lockstep_adapters::{
    Batch, BatchTarget, ChainTip, ExecutedBlock, NativeBlock, RollupAdapter,
    conformance::Seed,
    optimism::{BatchFormat, Compression, Optimism, OptimismConfig, compress, decode_data, decompress},
};
use lockstep_judges::{traffic::Traffic, transactions};

const PYTHON_INFLATE: &str = "import sys,zlib\nd=zlib.decompressobj()\no=d.decompress(bytes.fromhex(sys.stdin.read()))\nassert d.eof and not d.unused_data\nprint(o.hex())";
const PYTHON_DEFLATE: &str = "import sys,zlib\nprint(zlib.compress(bytes.fromhex(sys.stdin.read()),9).hex())";

fn node(function: &str) -> String {
    format!(
        "const i=Buffer.from(require('fs').readFileSync(0,'utf8').trim(),'hex');\
         process.stdout.write(require('zlib').{function}(i).toString('hex'))"
    )
}

/// Runs a program over hex digits. `None` if it is not installed; a program that fails is a judge that disagrees.
fn judge(program: &str, flag: &str, script: &str, input: &[u8]) -> Option<Vec<u8>> {
    let mut child =
        Command::new(program).args([flag, script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    child.stdin.take().expect("piped").write_all(hex::encode(input).as_bytes()).expect("the judge listens");
    let output = child.wait_with_output().expect("the judge ends");
    assert!(output.status.success(), "{program} refuses the stream");
    Some(hex::decode(String::from_utf8(output.stdout).expect("hex digits").trim()).expect("hex digits"))
}

fn batches(seed: u64) -> Vec<Vec<u8>> {
    let seed = &mut Seed(seed);
    (0..seed.below(60)).map(|_| (0..3).flat_map(|_| transactions::any(seed, 10)).collect()).collect()
}

/// What a channel holds before compression: one RLP string for each batch.
fn content(batches: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    batches.iter().for_each(|batch| batch.as_slice().encode(&mut out));
    out
}

#[test]
fn c_zlib_reads_our_channels_and_we_read_its() {
    let node = (node("inflateSync"), node("deflateSync"));
    let judges = [("python3", "-c", PYTHON_INFLATE, PYTHON_DEFLATE), ("node", "-e", &*node.0, &*node.1)];
    for (program, flag, inflate, deflate) in judges {
        for seed in [0, 1, 6, 9] {
            let batches = batches(seed);
            let channel = compress(&batches, Compression::Zlib { level: seed as u32 }).expect("compresses");
            let Some(read) = judge(program, flag, inflate, &channel) else {
                eprintln!("skipped: the C zlib of {program}, which is not installed");
                break;
            };
            assert_eq!(read, content(&batches), "{program}, level {seed}");
            let theirs = judge(program, flag, deflate, &content(&batches)).expect("it ran before");
            assert_eq!(decompress(&theirs), Ok(batches), "{program}, seed {seed}");
        }
    }
}

#[test]
fn c_brotli_reads_our_channels_and_we_read_its() {
    for seed in [0, 1, 5, 9, 11] {
        let batches = batches(seed);
        let channel = compress(&batches, Compression::Brotli { quality: seed as u32 }).expect("compresses");
        let Some(read) = judge("node", "-e", &node("brotliDecompressSync"), &channel[1..]) else {
            eprintln!("skipped: the C brotli of node, which is not installed");
            break;
        };
        assert_eq!(read, content(&batches), "quality {seed}");
        let theirs = judge("node", "-e", &node("brotliCompressSync"), &content(&batches)).expect("it ran before");
        assert_eq!(decompress(&[&[1], &*theirs].concat()), Ok(batches), "seed {seed}");
    }
}

/// Our span channels put stored blocks between pieces that were compressed by themselves.
#[test]
fn c_brotli_reads_our_span_channels() {
    // The largest at the highest qualities are compressed in halves.
    let cases =
        [(0, 1), (1, 40), (2, 300), (4, 1), (5, 1_100), (9, 2_000), (10, 3_000), (10, 300), (11, 3_000), (11, 1)];
    for (quality, count) in cases {
        let format = BatchFormat::Span;
        let compression = Compression::Brotli { quality };
        let config = OptimismConfig { chain_id: 10, block_time: 2, genesis_timestamp: 0, format, compression };
        let adapter = Optimism::new(config).expect("a block time of two seconds");
        let mut traffic = Traffic::new(u64::from(quality), 10);
        let transactions: Vec<_> = (0..count).map(|_| traffic.transaction()).collect();
        let block = NativeBlock { timestamp: 2, transactions, ..Default::default() };
        let executed = [ExecutedBlock { block, ..Default::default() }];
        let target = BatchTarget::Calldata { bytes_max: 100_000 };
        let batches = adapter.encode(&executed, &ChainTip::default(), target).expect("encodes");
        let channel: Vec<u8> = batches
            .iter()
            .flat_map(|batch| {
                let Batch::Calldata(data) = batch else { panic!("calldata was asked for") };
                decode_data(data).expect("our frames").into_iter().flat_map(|frame| frame.data)
            })
            .collect();
        let span = decompress(&channel).expect("we read our channel");
        let Some(read) = judge("node", "-e", &node("brotliDecompressSync"), &channel[1..]) else {
            eprintln!("skipped: the C brotli of node, which is not installed");
            break;
        };
        assert_eq!(read, content(&span), "quality {quality}, {count} transactions");
    }
}
