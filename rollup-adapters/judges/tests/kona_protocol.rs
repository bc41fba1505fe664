//! Does kona read what the Optimism adapter writes, and does the adapter read what kona and real chains wrote?

use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{B256, Bytes};
use alloy_rlp::Encodable;
use kona_genesis::{HardForkConfig, RollupConfig};
use kona_protocol::{
    Batch as KonaBatch, BatchReader, BlockInfo, Channel, Frame as KonaFrame, RawSpanBatch, SingleBatch,
};
use lockstep_adapters::{
    Batch, BatchTarget, ExecutedBlock, RollupAdapter,
    conformance::{self, Seed, Subject, World},
    optimism::{
        BatchFormat, Compression, Frame, Optimism, OptimismConfig, SingularBatch, SpanBatch, decode_data, decompress,
        encode_data, split,
    },
};
use lockstep_judges::{published, transactions};
use lockstep_protocol::ids::{Hash32, RollupId};

const CHAIN: u64 = 10;
const GENESIS: u64 = 1_686_789_347;

fn adapter(format: BatchFormat, compression: Compression) -> Optimism {
    let config = OptimismConfig { chain_id: CHAIN, block_time: 2, genesis_timestamp: GENESIS, format, compression };
    Optimism::new(config).expect("a block time of two seconds")
}

fn subject(adapter: &Optimism) -> Subject<'_> {
    Subject {
        adapter,
        rollup: RollupId(CHAIN),
        transaction: &|seed| transactions::any(seed, CHAIN),
        unfit: (0..50).map(|seed| transactions::any(&mut Seed(seed), CHAIN + 1)).filter(named_chain).collect(),
        batches_are_linked: true,
        targets: vec![BatchTarget::Calldata { bytes_max: 10_000 }, BatchTarget::Blobs { per_transaction: 3 }],
    }
}

/// Whether a transaction names its chain: an old legacy transaction fits every chain.
fn named_chain(bytes: &Vec<u8>) -> bool {
    let envelope = alloy_consensus::TxEnvelope::decode_2718(&mut bytes.as_slice()).expect("alloy wrote it");
    alloy_consensus::Transaction::chain_id(&envelope).is_some()
}

fn rollup_config() -> RollupConfig {
    let mut config = RollupConfig {
        block_time: 2,
        l2_chain_id: CHAIN.into(),
        hardforks: HardForkConfig { delta_time: Some(0), fjord_time: Some(0), ..Default::default() },
        ..Default::default()
    };
    config.genesis.l2_time = GENESIS;
    config
}

const ALL: [(BatchFormat, Compression); 4] = [
    (BatchFormat::Singular, Compression::Zlib { level: 9 }),
    (BatchFormat::Singular, Compression::Brotli { quality: 9 }),
    (BatchFormat::Span, Compression::Zlib { level: 1 }),
    (BatchFormat::Span, Compression::Brotli { quality: 5 }),
];

#[test]
fn the_adapter_conforms_on_transactions_that_alloy_wrote() {
    for (format, compression) in ALL {
        conformance::run(&subject(&adapter(format, compression)), 3);
    }
}

#[test]
fn kona_reads_the_same_blocks_from_our_frames() {
    for (format, compression) in ALL {
        for seed in 0..5 {
            let adapter = adapter(format, compression);
            let world = World::new(&subject(&adapter), &mut Seed(seed), 150, 5, 900);
            let plan = adapter.blocks(&world.lane, &world.tip, &world.l1).expect("gives blocks");
            assert!(plan.skipped.is_empty(), "alloy's transactions are all fit: {:?}", plan.skipped);
            let executed: Vec<_> = (0u8..)
                .zip(plan.blocks)
                .map(|(index, planned)| ExecutedBlock {
                    hash: Hash32([index; 32]),
                    block: planned.block,
                    lane: planned.lane,
                })
                .collect();
            let batches =
                adapter.encode(&executed, &world.tip, BatchTarget::Calldata { bytes_max: 10_000 }).expect("encodes");
            let read = read_with_kona(&batches);
            assert_eq!(read.len(), executed.len(), "{format:?} {compression:?} seed {seed}");
            let parents = std::iter::once(world.tip.hash).chain(executed.iter().map(|block| block.hash));
            for ((read, ours), parent) in read.iter().zip(&executed).zip(parents) {
                assert_eq!(read.timestamp, ours.block.timestamp);
                assert_eq!(read.epoch_num, ours.block.l1.number);
                assert_eq!(
                    read.transactions.iter().map(|bytes| bytes.to_vec()).collect::<Vec<_>>(),
                    ours.block.transactions
                );
                if format == BatchFormat::Singular {
                    assert_eq!((read.parent_hash.0, read.epoch_hash.0), (parent.0, ours.block.l1.hash.0));
                }
            }
        }
    }
}

/// The blocks that kona finds in our L1 transactions. Span batches carry no hash for each block; those stay zero.
fn read_with_kona(batches: &[Batch]) -> Vec<SingleBatch> {
    let mut blocks = Vec::new();
    let mut open: Option<Channel> = None;
    for batch in batches {
        let Batch::Calldata(data) = batch else { panic!("calldata was asked for") };
        for frame in KonaFrame::parse_frames(data).expect("kona reads our frames") {
            let channel = open.get_or_insert_with(|| Channel::new(frame.id, BlockInfo::default()));
            channel.add_frame(frame, BlockInfo::default()).expect("kona takes our frames in our order");
            if channel.is_ready() {
                let data = channel.frame_data().expect("a ready channel has its data");
                let mut reader = BatchReader::new(data, 100_000_000);
                reader.decompress().expect("kona decompresses our channel");
                let config = rollup_config();
                while let Some(batch) = reader.next_batch(&config) {
                    match batch {
                        KonaBatch::Single(single) => blocks.push(single),
                        KonaBatch::Span(span) => blocks.extend(span.batches.into_iter().map(|element| SingleBatch {
                            epoch_num: element.epoch_num,
                            timestamp: element.timestamp,
                            transactions: element.transactions,
                            ..Default::default()
                        })),
                    }
                }
                open = None;
            }
        }
    }
    assert!(open.is_none(), "every channel is closed");
    blocks
}

#[test]
fn a_singular_batch_has_the_bytes_that_kona_gives_it() {
    for seed in 0..200 {
        let seed = &mut Seed(seed);
        let ours = SingularBatch {
            parent: Hash32(seed.bytes()),
            epoch_number: seed.draw() >> seed.below(64),
            epoch_hash: Hash32(seed.bytes()),
            timestamp: seed.draw() >> seed.below(64),
            transactions: (0..seed.below(5)).map(|_| transactions::any(seed, CHAIN)).collect(),
        };
        let kona = SingleBatch {
            parent_hash: B256::from(ours.parent.0),
            epoch_num: ours.epoch_number,
            epoch_hash: B256::from(ours.epoch_hash.0),
            timestamp: ours.timestamp,
            transactions: ours.transactions.iter().cloned().map(Bytes::from).collect(),
        };
        let mut golden = Vec::new();
        KonaBatch::Single(kona).encode(&mut golden).expect("kona encodes");
        assert_eq!(ours.encode(), golden, "seed {}", seed.0);
        assert_eq!(SingularBatch::decode(&golden[1..]), Ok(ours), "seed {}", seed.0);
    }
}

#[test]
fn the_transactions_of_a_span_batch_have_the_bytes_that_kona_gives_them() {
    for seed in 0..200 {
        let seed = &mut Seed(seed);
        let count = 1 + seed.below(40) as usize;
        let ours: Vec<_> = (0..count).map(|_| transactions::any(seed, CHAIN)).collect();
        let span = SpanBatch {
            blocks: vec![lockstep_adapters::optimism::SpanBlock { origin_changed: true, transactions: ours.clone() }],
            ..Default::default()
        };
        let bytes = span.encode(CHAIN).expect("encodes");
        let raw = RawSpanBatch::decode(&mut &bytes[1..]).expect("kona reads our span batch");
        assert_eq!(raw.payload.txs.full_txs(CHAIN), Ok(ours.clone()), "seed {}", seed.0);
        // Kona's encoder wants the network form, where a typed transaction is an RLP string.
        let wrapped = ours.iter().map(|bytes| {
            if bytes[0] >= 0xc0 {
                return Bytes::from(bytes.clone());
            }
            let mut wrapped = Vec::new();
            bytes.as_slice().encode(&mut wrapped);
            Bytes::from(wrapped)
        });
        let mut golden = kona_span(&raw);
        golden.payload.txs = Default::default();
        golden.payload.txs.add_txs(wrapped.collect(), CHAIN).expect("kona takes the transactions");
        let mut out = vec![1];
        golden.encode(&mut out).expect("kona encodes");
        assert_eq!(bytes, out, "seed {}", seed.0);
    }
}

fn kona_span(raw: &RawSpanBatch) -> RawSpanBatch {
    RawSpanBatch { prefix: raw.prefix.clone(), payload: raw.payload.clone() }
}

#[test]
fn a_real_span_batch_of_143_blocks_is_read_and_written_back_to_the_same_bytes() {
    let channel = published::hex_file("kona-protocol", "testdata/batch.hex");
    let batches = decompress(&channel).expect("a real zlib channel");
    assert_eq!(batches.len(), 1);
    let (kind, body) = batches[0].split_first().expect("not empty");
    assert_eq!(*kind, 1, "a span batch");
    let raw = RawSpanBatch::decode(&mut &body[..]).expect("kona reads it");
    let chain = CHAIN;
    let span = SpanBatch::decode(body, chain).expect("we read it");
    assert_eq!(span.blocks.len(), 143);
    let ours: Vec<_> = span.blocks.iter().flat_map(|block| block.transactions.clone()).collect();
    assert_eq!(Ok(ours), raw.payload.txs.full_txs(chain), "the transactions that kona reads");
    assert_eq!(span.encode(chain).expect("writes it back"), batches[0]);
}

#[test]
fn a_second_published_span_batch_is_written_back_to_the_same_bytes() {
    let body = published::file("kona-protocol", "src/batch/testdata/raw_batch.hex");
    let span = SpanBatch::decode(&body, CHAIN).expect("we read it");
    assert_eq!(span.encode(CHAIN).expect("writes it back")[1..], body);
}

#[test]
fn a_real_batcher_transaction_is_cut_into_the_same_frames() {
    let raw = published::file("kona-derive", "testdata/raw_batcher_tx.hex");
    let envelope = alloy_consensus::TxEnvelope::decode_2718(&mut raw.as_slice()).expect("a real transaction");
    let data = alloy_consensus::Transaction::input(&envelope);
    let frames = decode_data(data).expect("we read the frames");
    assert_eq!(encode_data(&frames).expect("writes them back"), data.to_vec());
    let kona = KonaFrame::parse_frames(data).expect("kona reads the frames");
    assert_eq!(frames.len(), kona.len());
    for (ours, kona) in frames.iter().zip(&kona) {
        assert_eq!(
            (ours.channel, ours.number, &ours.data, ours.is_last),
            (kona.id, kona.number, &kona.data, kona.is_last)
        );
    }
    // The same size of frame cuts the same data into the same pieces. Only the channel's name is ours.
    let size = data.len() - 1;
    let again = split(&frames[0].data, size).expect("splits");
    assert_eq!(again, [Frame { channel: again[0].channel, number: 0, is_last: true, ..frames[0].clone() }]);
}

#[test]
fn kona_reads_frames_of_every_size() {
    for seed in 0..100 {
        let seed = &mut Seed(seed);
        let channel: Vec<u8> = (0..1 + seed.below(5_000)).map(|_| seed.draw() as u8).collect();
        let frames = split(&channel, 24 + seed.below(700) as usize).expect("splits");
        let kona = KonaFrame::parse_frames(&encode_data(&frames).expect("encodes")).expect("kona reads them");
        assert_eq!(kona.iter().flat_map(|frame| frame.data.clone()).collect::<Vec<_>>(), channel);
        assert!(
            kona.iter()
                .enumerate()
                .all(|(index, frame)| usize::from(frame.number) == index && frame.is_last == (index + 1 == kona.len()))
        );
    }
}
