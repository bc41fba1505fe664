//! How fast and how small are our batches, against kona's encoder and against brotli alone on the same content?
//!
//! `cargo bench -p lockstep-judges`. Both sides run in one process on the same transactions. Bytes are printed first:
//! they do not vary.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use alloy_primitives::Bytes;
use alloy_rlp::Encodable;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kona_protocol::{RawSpanBatch, SpanBatchBits, SpanBatchPayload, SpanBatchPrefix, SpanBatchTransactions};
use lockstep_adapters::{
    Batch, BatchTarget, ChainTip, ExecutedBlock, NativeBlock, RollupAdapter, arbitrum,
    optimism::{BatchFormat, Compression, Optimism, OptimismConfig, SpanBatch, SpanBlock, compress},
};
use lockstep_judges::traffic::Traffic;

const CHAIN: u64 = 10;
const BLOCKS: usize = 60;
const PER_BLOCK: usize = 100;
const TRANSACTIONS: usize = BLOCKS * PER_BLOCK;

fn blocks() -> Vec<Vec<Vec<u8>>> {
    let mut traffic = Traffic::new(1, CHAIN);
    (0..BLOCKS).map(|_| (0..PER_BLOCK).map(|_| traffic.transaction()).collect()).collect()
}

fn ours(blocks: &[Vec<Vec<u8>>]) -> SpanBatch {
    let block = |transactions: &Vec<Vec<u8>>| SpanBlock { origin_changed: false, transactions: transactions.clone() };
    SpanBatch { blocks: blocks.iter().map(block).collect(), ..Default::default() }
}

/// The adapter's batches from executed blocks, as calldata of one channel.
fn channel(blocks: &[ExecutedBlock], quality: u32) -> Vec<u8> {
    let compression = Compression::Brotli { quality };
    let config =
        OptimismConfig { chain_id: CHAIN, block_time: 2, genesis_timestamp: 0, format: BatchFormat::Span, compression };
    let adapter = Optimism::new(config).expect("a block time of two seconds");
    let target = BatchTarget::Calldata { bytes_max: 127 * 1024 };
    let batches = adapter.encode(blocks, &ChainTip::default(), target).expect("encodes");
    let data = batches.iter().flat_map(|batch| match batch {
        Batch::Calldata(data) => data[1 + 22..data.len() - 1].to_vec(),
        Batch::Blobs(_) => unreachable!("calldata was asked for"),
    });
    data.collect()
}

fn executed(blocks: &[Vec<Vec<u8>>]) -> Vec<ExecutedBlock> {
    let block = |(transactions, index): (&Vec<Vec<u8>>, u64)| ExecutedBlock {
        block: NativeBlock { timestamp: 2 * (index + 1), transactions: transactions.clone(), ..Default::default() },
        ..Default::default()
    };
    blocks.iter().zip(0..).map(block).collect()
}

/// Kona's encoder, which takes transactions in their network form.
fn kona(wrapped: Vec<Bytes>) -> Vec<u8> {
    let mut txs = SpanBatchTransactions::default();
    txs.add_txs(wrapped, CHAIN).expect("kona takes the transactions");
    let payload = SpanBatchPayload {
        block_count: BLOCKS as u64,
        origin_bits: SpanBatchBits::new(vec![0; BLOCKS.div_ceil(8)]),
        block_tx_counts: vec![PER_BLOCK as u64; BLOCKS],
        txs,
    };
    let mut out = vec![1];
    RawSpanBatch { prefix: SpanBatchPrefix::default(), payload }.encode(&mut out).expect("kona encodes");
    out
}

fn wrap(blocks: &[Vec<Vec<u8>>]) -> Vec<Bytes> {
    let wrap = |bytes: &Vec<u8>| {
        let mut out = Vec::new();
        bytes.as_slice().encode(&mut out);
        Bytes::from(out)
    };
    blocks.iter().flatten().map(wrap).collect()
}

/// How many times as fast as brotli alone a channel from blocks is made: the median of runs in alternation.
fn speed(blocks: &[ExecutedBlock], content: &Vec<u8>, quality: u32, runs: usize) -> f64 {
    let mut ratios: Vec<f64> = (0..runs)
        .map(|_| {
            let begin = Instant::now();
            black_box(compress(std::slice::from_ref(content), Compression::Brotli { quality }).expect("small"));
            let alone = begin.elapsed();
            let begin = Instant::now();
            black_box(channel(blocks, quality));
            alone.as_secs_f64() / begin.elapsed().as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios[runs / 2]
}

fn span_batches(criterion: &mut Criterion) {
    let blocks = blocks();
    let span = ours(&blocks);
    let wrapped = wrap(&blocks);
    let content = span.encode(CHAIN).expect("fit transactions");
    assert_eq!(content, kona(wrapped.clone()), "both sides make the same bytes");
    let each = |bytes: usize| bytes as f64 / TRANSACTIONS as f64;
    let plain: usize = blocks.iter().flatten().map(Vec::len).sum();
    eprintln!("bytes per transaction: as signed {:.1}, in columns {:.1}", each(plain), each(content.len()));
    let events: Vec<_> = (0u64..)
        .zip(&blocks)
        .map(|(index, transactions)| arbitrum::Event::Message {
            timestamp: 1_750_000_000 + index,
            l1_number: 20_000_000 + index / 12,
            message: arbitrum::encode_message(transactions).expect("small"),
        })
        .collect();
    let blocks = executed(&blocks);
    for quality in [1, 5, 9, 11] {
        let alone = compress(std::slice::from_ref(&content), Compression::Brotli { quality }).expect("small").len();
        let ours = channel(&blocks, quality).len();
        let nitro = arbitrum::compress(&events, quality).expect("small").len();
        eprintln!(
            "  brotli {quality:>2}: alone {:.2}, ours {:.2} ({:.4}x), nitro {:.2}",
            each(alone),
            each(ours),
            ours as f64 / alone as f64,
            each(nitro)
        );
    }
    for (quality, runs) in [(1, 101), (5, 101), (9, 101), (11, 7)] {
        eprintln!("  brotli {quality:>2}: {:.2}x the speed of brotli alone", speed(&blocks, &content, quality, runs));
    }
    let begin = Instant::now();
    black_box(compress(std::slice::from_ref(&content), Compression::Brotli { quality: 11 }).expect("small"));
    let thorough = begin.elapsed();
    let begin = Instant::now();
    black_box(channel(&blocks, 5));
    eprintln!(
        "  ours at 5: {:.0}x the speed of brotli 11 alone",
        thorough.as_secs_f64() / begin.elapsed().as_secs_f64()
    );
    for level in [1, 6, 9] {
        let alone = compress(std::slice::from_ref(&content), Compression::Zlib { level }).expect("small");
        eprintln!("  zlib {level:>4}: {:.2}", each(alone.len()));
    }

    let mut group = criterion.benchmark_group("span batch");
    group
        .throughput(Throughput::Elements(TRANSACTIONS as u64))
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    group.bench_function("columns, ours", |bencher| bencher.iter(|| black_box(&span).encode(CHAIN)));
    group.bench_function("columns, kona", |bencher| {
        bencher.iter_batched(|| wrapped.clone(), kona, criterion::BatchSize::LargeInput);
    });
    group.bench_function("columns back, ours", |bencher| bencher.iter(|| SpanBatch::decode(&content[1..], CHAIN)));
    group.bench_function("columns back, kona", |bencher| {
        bencher.iter(|| RawSpanBatch::decode(&mut &content[1..]).map(|raw| raw.payload.txs.full_txs(CHAIN)));
    });
    for quality in [1, 5, 9, 11] {
        group.bench_function(format!("channel from blocks, brotli {quality}"), |bencher| {
            bencher.iter(|| channel(&blocks, quality));
        });
        group.bench_function(format!("brotli {quality} alone"), |bencher| {
            bencher.iter(|| compress(std::slice::from_ref(&content), Compression::Brotli { quality }));
        });
    }
    group.finish();
}

criterion_group!(benches, span_batches);
criterion_main!(benches);
