//! Does the Arbitrum adapter keep what every adapter promises, and Nitro's own rules?

use std::io::Write;

use alloy_rlp::{Encodable, Header};
use lockstep_adapters::{
    AdapterError, Batch, BatchTarget, ChainTip, DecodeError, ExecutedBlock, L1View, LaneBlock, LaneCursor, NativeBlock,
    Plan, RollupAdapter, SkipReason, Skipped,
    arbitrum::{
        Arbitrum, ArbitrumConfig, BATCH_BYTES_MAX, BLOB_DATA_BYTES_MAX, BLOCK_BYTES_MAX, BLOCK_GAS, Event,
        MESSAGE_BYTES_MAX, SEGMENTS_MAX, compress, decode_blobs, decode_message, decompress, encode_blobs,
        encode_message,
    },
    conformance::{self, Seed, Subject},
};
use lockstep_protocol::{
    header::L1Origin,
    ids::{Hash32, Height, RollupId},
};
use proptest::{collection::vec, prelude::*};

const CHAIN: u64 = 42_161;

fn adapter(delayed_depth: Option<u64>) -> Arbitrum {
    Arbitrum::new(ArbitrumConfig { chain_id: CHAIN, quality: 5, delayed_depth, block_gas: BLOCK_GAS })
}

/// An EIP-1559 transaction of the given chain, with random fields and signature.
fn transaction(seed: &mut Seed, chain: u64, data: usize) -> Vec<u8> {
    let gas = seed.draw() >> (64 - 20);
    with_gas(seed, chain, data, gas)
}

fn with_gas(seed: &mut Seed, chain: u64, data: usize, gas: u64) -> Vec<u8> {
    let mut list = Vec::new();
    chain.encode(&mut list);
    for bits in [16, 30, 40] {
        (seed.draw() >> (64 - bits)).encode(&mut list);
    }
    gas.encode(&mut list);
    seed.bytes::<20>().encode(&mut list);
    (seed.draw() >> 8).encode(&mut list);
    (0..data).map(|_| seed.draw() as u8).collect::<Vec<_>>().as_slice().encode(&mut list);
    list.push(0xc0);
    (seed.draw() % 2 == 1).encode(&mut list);
    for _ in 0..2 {
        let mut word = seed.bytes::<32>();
        word[0] |= 1;
        word.encode(&mut list);
    }
    let mut out = vec![2];
    Header { list: true, payload_length: list.len() }.encode(&mut out);
    out.extend(list);
    out
}

#[test]
fn conforms() {
    let adapter = adapter(None);
    let seed = &mut Seed(7);
    let subject = Subject {
        adapter: &adapter,
        rollup: RollupId(CHAIN),
        transaction: &|seed| {
            let data = seed.below(200) as usize;
            transaction(seed, CHAIN, data)
        },
        unfit: vec![vec![], vec![0x6a, 0xc0], vec![0xc0], transaction(seed, CHAIN + 1, 0)],
        batches_are_linked: false,
        targets: vec![
            BatchTarget::Calldata { bytes_max: 90_000 },
            BatchTarget::Calldata { bytes_max: 12_000 },
            BatchTarget::Blobs { per_transaction: 6 },
            BatchTarget::Blobs { per_transaction: 1 },
        ],
    };
    for seed in 1..4 {
        conformance::run(&subject, seed);
    }
}

fn l1(number: u64) -> L1Origin {
    L1Origin { number, hash: Hash32([number as u8; 32]), timestamp: 100 + 12 * number }
}

fn block(height: u64, timestamp_ms: u64, l1: L1Origin, transactions: Vec<Vec<u8>>) -> LaneBlock {
    LaneBlock { rollup: RollupId(CHAIN), height: Height(height), timestamp_ms, l1, transactions }
}

fn tip() -> ChainTip {
    let lane = LaneCursor { ms: 1_000_000, taken: 0 };
    ChainTip { number: 1, timestamp: 1_000, l1: l1(10), lane, ..Default::default() }
}

fn native(plan: &Plan) -> Vec<NativeBlock> {
    plan.blocks.iter().map(|planned| planned.block.clone()).collect()
}

fn executed(plan: &Plan) -> Vec<ExecutedBlock> {
    let executed = plan.blocks.iter().map(|planned| ExecutedBlock {
        hash: Hash32::default(),
        block: planned.block.clone(),
        lane: planned.lane,
    });
    executed.collect()
}

#[test]
fn a_large_lane_block_becomes_several_blocks_that_each_fit_a_batch_of_calldata() {
    let adapter = adapter(None);
    let seed = &mut Seed(3);
    let mut transactions: Vec<_> = (0..20).map(|_| transaction(seed, CHAIN, 9_000)).collect();
    transactions.insert(4, transaction(seed, CHAIN, BLOCK_BYTES_MAX));
    let lane = [block(1, 1_000_000, l1(10), vec![]), block(2, 1_000_400, l1(10), transactions.clone())];
    let plan = adapter.blocks(&lane, &tip(), &L1View::default()).expect("gives blocks");
    assert_eq!(native(&plan).iter().map(|block| block.transactions.len()).collect::<Vec<_>>(), [8, 8, 4]);
    assert_eq!(plan.skipped, [Skipped { height: Height(2), index: 4, reason: SkipReason::TooLarge }]);
    // A driver that restarts in the middle of the lane block goes on where it stopped.
    let first = &executed(&plan)[0];
    assert_eq!(first.lane, LaneCursor { ms: 1_000_000, taken: 9 });
    let rest = adapter.blocks(&lane, &tip().after(first), &L1View::default()).expect("gives blocks");
    assert_eq!(rest.blocks, plan.blocks[1..]);
    let batches =
        adapter.encode(&executed(&plan), &tip(), BatchTarget::Calldata { bytes_max: 90_000 }).expect("encodes");
    assert_eq!(adapter.decode(&batches, &tip(), &L1View::default()), Ok(native(&plan)));
}

// A node stops executing a message once its block's gas is used up (Nitro 6dce8d139, `arbos/block_processor.go`,
// `ProduceBlockAdvanced`): up to ArbOS 41 it passes over each transaction whose gas limit exceeds what is left, from ArbOS 50
// on all after it is used up. It counts 21,000 for its own first transaction and for each invalid one.
#[test]
fn no_message_asks_for_more_gas_than_a_node_executes_of_it() {
    let adapter = adapter(None);
    let seed = &mut Seed(11);
    let room = BLOCK_GAS - 21_000;
    let gas =
        [9_000_000, room - 9_000_000, 1, room - 20_999, 20_000, room, room + 1, u64::MAX, 21_000, room - 21_000, 5];
    let transactions: Vec<_> = gas.iter().map(|gas| with_gas(seed, CHAIN, 0, *gas)).collect();
    let lane = [block(1, 1_000_000, l1(10), vec![]), block(2, 1_000_400, l1(10), transactions.clone())];
    let plan = adapter.blocks(&lane, &tip(), &L1View::default()).expect("gives blocks");
    // What is exactly full stays together; one that asks for all or more stands alone; none is left out.
    assert_eq!(
        native(&plan).iter().map(|block| block.transactions.len()).collect::<Vec<_>>(),
        [2, 1, 1, 1, 1, 1, 1, 2, 1]
    );
    assert_eq!(native(&plan).into_iter().flat_map(|block| block.transactions).collect::<Vec<_>>(), transactions);
    assert_eq!(plan.skipped, []);
    // Invalid ones count as much as valid ones, and many small ones as the least that the node counts.
    let many: Vec<_> = (0..2_000).map(|_| with_gas(seed, CHAIN, 0, 0)).collect();
    let lane = [block(1, 1_000_000, l1(10), vec![]), block(2, 1_000_400, l1(10), many)];
    let tight = Arbitrum::new(ArbitrumConfig { block_gas: 101 * 21_000, ..adapter.config().clone() });
    let plan = tight.blocks(&lane, &tip(), &L1View::default()).expect("gives blocks");
    assert_eq!(native(&plan).iter().map(|block| block.transactions.len()).collect::<Vec<_>>(), [100; 20]);
}

#[test]
fn delayed_messages_fall_due_once_l1_is_deep_enough_above_them() {
    let adapter = adapter(Some(20));
    let view = |numbers: std::ops::Range<u64>| {
        let delayed = numbers.clone().map(|number| if number < 12 { 0 } else { 3 }).collect();
        L1View::with_delayed(numbers.map(l1).collect(), delayed).expect("contiguous")
    };
    let transactions = vec![transaction(&mut Seed(1), CHAIN, 1)];
    let lane = [
        block(1, 1_000_000, l1(31), vec![]),
        block(2, 1_001_000, l1(31), transactions.clone()),
        block(3, 1_002_000, l1(32), vec![]),
        block(4, 1_003_500, l1(33), transactions.clone()),
    ];
    let plan = adapter.blocks(&lane, &tip(), &view(10..40)).expect("gives blocks");
    let order: Vec<_> = native(&plan).iter().map(|block| (block.timestamp, block.l1.number, block.delayed)).collect();
    // Three messages arrived in L1 block 12: due when the log has seen block 32, before that lane block's own.
    assert_eq!(
        order,
        [(1_001, 31, None), (1_001, 31, Some(0)), (1_001, 31, Some(1)), (1_001, 31, Some(2)), (1_003, 33, None)]
    );
    let tip = tip();
    for target in [BatchTarget::Calldata { bytes_max: 90_000 }, BatchTarget::Blobs { per_transaction: 1 }] {
        let batches = adapter.encode(&executed(&plan), &tip, target).expect("encodes");
        assert_eq!(adapter.decode(&batches, &tip, &view(10..40)), Ok(native(&plan)));
    }
    // Interrupted anywhere, the rest follows: no delayed message twice, none left out.
    let all = executed(&plan);
    for done in 0..all.len() {
        let tip = all[..done].iter().fold(tip.clone(), |tip, block| tip.after(block));
        let rest = adapter.blocks(&lane, &tip, &view(10..40)).expect("gives blocks");
        assert_eq!(rest.blocks, plan.blocks[done..], "after {done}");
    }
    let behind = adapter.blocks(&lane, &tip, &view(10..12));
    assert_eq!(behind, Err(AdapterError::L1Behind { last: 11, needed: 12 }));
    let mut skipping = all;
    skipping.remove(1);
    assert!(matches!(
        adapter.encode(&skipping, &tip, BatchTarget::Calldata { bytes_max: 90_000 }),
        Err(AdapterError::Block { rule: "delayed messages come in their order", .. })
    ));
}

#[test]
fn messages_have_nitros_bytes() {
    let one = vec![vec![0xaa, 0xbb]];
    assert_eq!(encode_message(&one), Ok(vec![4, 0xaa, 0xbb]));
    let two = vec![vec![0xaa, 0xbb], vec![0xcc]];
    let bytes = [&[3][..], &[0, 0, 0, 0, 0, 0, 0, 3, 4, 0xaa, 0xbb], &[0, 0, 0, 0, 0, 0, 0, 2, 4, 0xcc]].concat();
    assert_eq!(encode_message(&two), Ok(bytes.clone()));
    assert_eq!(decode_message(&bytes), Ok(two));
    assert_eq!(encode_message(&[]), Ok(vec![3]));
    assert_eq!(decode_message(&[3]), Ok(vec![]));
    // A list in a list is read, sixteen deep and no deeper.
    let nested = |depth: usize| {
        (0..depth).fold(vec![4, 0xee], |inner, _| [&[3], &(inner.len() as u64).to_be_bytes()[..], &inner].concat())
    };
    assert_eq!(decode_message(&nested(16)), Ok(vec![vec![0xee]]));
    assert!(matches!(decode_message(&nested(17)), Err(DecodeError::Limit { .. })));
    assert!(matches!(decode_message(&[3, 255, 255, 255, 255, 255, 255, 255, 255, 4]), Err(DecodeError::Truncated(_))));
    assert!(matches!(decode_message(&[0, 1, 2]), Err(DecodeError::Version { .. })));
    assert!(matches!(decode_message(&vec![4; MESSAGE_BYTES_MAX + 1]), Err(DecodeError::Limit { .. })));
    assert!(encode_message(&[vec![0; MESSAGE_BYTES_MAX]]).is_err());
}

/// A batch of raw content, compressed by the crate itself rather than by our code.
fn batch(content: &[u8]) -> Vec<u8> {
    let mut stream = brotli::CompressorWriter::new(vec![0], 4_096, 5, 22);
    stream.write_all(content).expect("writes to memory");
    stream.into_inner()
}

#[test]
fn segments_are_read_as_nitro_reads_them() {
    let mut compressed = brotli::CompressorWriter::new(vec![1], 4_096, 5, 22);
    compressed.write_all(&[4, 0xdd]).expect("writes to memory");
    let compressed = compressed.into_inner();
    let mut content = Vec::new();
    for segment in [&[3, 0x82, 0x03, 0xe8][..], &[4, 7], &[0, 4, 0xaa], &[2], &[3, 5], &compressed, &[4, 1]] {
        segment.encode(&mut content);
    }
    let message = |timestamp, l1_number, message| Event::Message { timestamp, l1_number, message };
    let events = vec![message(1_000, 7, vec![4, 0xaa]), Event::Delayed, message(1_005, 7, vec![4, 0xdd])];
    assert_eq!(decompress(&batch(&content)), Ok(events.clone()));
    assert_eq!(decompress(&compress(&events, 9).expect("compresses")), Ok(events));
    for refused in [&[0x80][..], &[5], &[0x82, 2, 0], &[0x82, 3, 0], &[0xc0], &[0x82, 3]] {
        assert!(decompress(&batch(refused)).is_err(), "{refused:02x?}");
    }
    assert!(matches!(decompress(&[0x50]), Err(DecodeError::Version { .. })));
    let overflow = [&[0x8a, 3, 0x88][..], &[0xff; 8], &[0x82, 3, 1]].concat();
    assert!(matches!(decompress(&batch(&overflow)), Err(DecodeError::Invalid { .. })));
}

#[test]
fn batches_beyond_nitros_limits_are_neither_written_nor_read() {
    let many = vec![Event::Delayed; SEGMENTS_MAX + 1];
    assert!(matches!(compress(&many, 1), Err(AdapterError::Limit { what: "segments of a batch", .. })));
    let most = compress(&many[1..], 1).expect("as many as Nitro takes");
    assert_eq!(decompress(&most).map(|events| events.len()), Ok(SEGMENTS_MAX));
    let beyond = batch(&vec![2; SEGMENTS_MAX + 1]);
    assert!(matches!(decompress(&beyond), Err(DecodeError::Limit { what: "segments of a batch", .. })));
    let bomb = batch(&vec![0; BATCH_BYTES_MAX + 1]);
    assert!(matches!(decompress(&bomb), Err(DecodeError::Limit { what: "batch", .. })));
    // Messages that unfold once more count too.
    let mut fold = brotli::CompressorWriter::new(vec![1], 4_096, 5, 22);
    fold.write_all(&vec![4; MESSAGE_BYTES_MAX]).expect("writes to memory");
    let mut segment = Vec::new();
    fold.into_inner().as_slice().encode(&mut segment);
    let bomb = batch(&segment.repeat(BATCH_BYTES_MAX / MESSAGE_BYTES_MAX + 1));
    assert!(matches!(decompress(&bomb), Err(DecodeError::Limit { what: "messages of a batch", .. })));
}

#[test]
fn blobs_hold_what_fits_and_refuse_anything_else() {
    let seed = &mut Seed(1);
    let one = BLOB_DATA_BYTES_MAX;
    for length in [0, 1, 31, 32, 55, 56, 5_000, 126_972, 126_976, one - 4, one - 3, one, 2 * one - 4, 3 * one - 4] {
        let batch: Vec<u8> = (0..length).map(|_| seed.draw() as u8).collect();
        let blobs = encode_blobs(&batch, 3).expect("fits");
        assert_eq!(blobs.len(), (length + 4).div_ceil(one).max(1), "{length}");
        assert_eq!(decode_blobs(&blobs).as_ref(), Ok(&batch));
        for _ in 0..100 {
            let mut spoiled = blobs.clone();
            let index = seed.below(blobs.len() as u64) as usize;
            let at = seed.below(spoiled[index].len() as u64) as usize;
            spoiled[index][at] ^= 1 << seed.below(8);
            assert_ne!(decode_blobs(&spoiled).as_ref(), Ok(&batch), "length {length}, byte {at}");
        }
        let mut more = blobs.clone();
        more.push(vec![0; blobs[0].len()]);
        assert!(decode_blobs(&more).is_err(), "a blob that holds nothing");
        if blobs.len() > 1 {
            assert_ne!(decode_blobs(&blobs[1..]).as_ref(), Ok(&batch));
        }
    }
    assert!(matches!(encode_blobs(&vec![0; one - 3], 1), Err(AdapterError::Limit { .. })));
    assert!(decode_blobs(&[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..300)) {
        drop(decompress(&bytes));
        drop(decompress(&batch(&bytes)));
        drop(decode_message(&bytes));
    }

    #[test]
    fn lists_are_read_back(transactions in vec(vec(any::<u8>(), 0..60), 0..6)) {
        let message = encode_message(&transactions).expect("small");
        prop_assert_eq!(decode_message(&message), Ok(transactions));
        for cut in 1..message.len() {
            if let Ok(fewer) = decode_message(&message[..cut]) {
                // A list may end after any of its items, and a single transaction anywhere: the segment's length says where.
                prop_assert!(encode_message(&fewer).is_ok());
            }
        }
    }
}

#[test]
fn a_batch_of_another_type_is_never_given_to_the_wrong_decoder() {
    let adapter = adapter(None);
    let calldata = Batch::Calldata(vec![0x50; 33]);
    assert!(adapter.decode(&[calldata], &tip(), &L1View::default()).is_err());
    assert!(adapter.decode(&[Batch::Blobs(vec![])], &tip(), &L1View::default()).is_err());
}
