//! Does the Optimism adapter keep what every adapter promises, and the OP Stack's own rules?

use alloy_rlp::{Encodable, Header};
use lockstep_adapters::{
    AdapterError, Batch, BatchTarget, ChainTip, ExecutedBlock, L1View, LaneBlock, LaneCursor, NativeBlock, Plan,
    RollupAdapter, SkipReason,
    conformance::{self, Seed, Subject, World},
    optimism::{BLOCK_BYTES_MAX, BatchFormat, Compression, Optimism, OptimismConfig, SEQUENCER_DRIFT_SECONDS_MAX},
};
use lockstep_protocol::{
    header::L1Origin,
    ids::{Hash32, Height, RollupId},
};

const CHAIN: u64 = 8453;

fn adapter(format: BatchFormat, compression: Compression) -> Optimism {
    let config = OptimismConfig { chain_id: CHAIN, block_time: 2, genesis_timestamp: 90, format, compression };
    Optimism::new(config).expect("a block time of two seconds")
}

/// An EIP-1559 transaction of the given chain, with random fields and signature.
fn transaction(seed: &mut Seed, chain: u64, data: usize) -> Vec<u8> {
    let mut list = Vec::new();
    chain.encode(&mut list);
    for bits in [16, 30, 40, 20] {
        (seed.draw() >> (64 - bits)).encode(&mut list);
    }
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

fn subject(adapter: &Optimism) -> Subject<'_> {
    let seed = &mut Seed(7);
    let fit = transaction(seed, CHAIN, 3);
    let mut longer = fit.clone();
    longer.push(0);
    let mut blob = fit.clone();
    blob[0] = 3;
    let mut shorter = fit.clone();
    shorter.truncate(fit.len() - 1);
    Subject {
        adapter,
        rollup: RollupId(CHAIN),
        transaction: &|seed| {
            let data = seed.below(200) as usize;
            transaction(seed, CHAIN, data)
        },
        unfit: vec![
            vec![],
            vec![0x7e, 0xc0],
            vec![0x05],
            vec![0xc0],
            blob,
            longer,
            shorter,
            transaction(seed, CHAIN + 1, 0),
        ],
        batches_are_linked: true,
        targets: vec![
            BatchTarget::Calldata { bytes_max: 120_000 },
            BatchTarget::Calldata { bytes_max: 8_000 },
            BatchTarget::Blobs { per_transaction: 6 },
            BatchTarget::Blobs { per_transaction: 1 },
        ],
    }
}

const FORMATS: [BatchFormat; 2] = [BatchFormat::Singular, BatchFormat::Span];

#[test]
fn conforms_with_zlib() {
    for format in FORMATS {
        conformance::run(&subject(&adapter(format, Compression::Zlib { level: 6 })), 1);
    }
}

#[test]
fn conforms_with_brotli() {
    for format in FORMATS {
        conformance::run(&subject(&adapter(format, Compression::Brotli { quality: 5 })), 2);
    }
}

fn l1(number: u64, timestamp: u64) -> L1Origin {
    L1Origin { number, hash: Hash32([number as u8; 32]), timestamp }
}

/// A lane block every second from `start`, with one transaction each, which has seen `seen(second)`.
fn lane(start: u64, seconds: u64, seen: impl Fn(u64) -> L1Origin) -> Vec<LaneBlock> {
    (0..=seconds)
        .map(|second| LaneBlock {
            rollup: RollupId(CHAIN),
            height: Height(second),
            timestamp_ms: (start + second) * 1_000,
            l1: seen(second),
            transactions: vec![transaction(&mut Seed(second), CHAIN, 1)],
        })
        .collect()
}

fn tip(timestamp: u64, l1: L1Origin) -> ChainTip {
    ChainTip {
        number: 1,
        hash: Hash32([1; 32]),
        timestamp,
        l1,
        lane: LaneCursor { ms: timestamp * 1_000, taken: 0 },
        delayed: 0,
    }
}

#[test]
fn a_block_holds_what_came_after_its_parent_and_up_to_its_timestamp() {
    let adapter = adapter(BatchFormat::Singular, Compression::Zlib { level: 6 });
    let lane = lane(100, 5, |_| l1(1, 100));
    let plan = adapter.blocks(&lane, &tip(100, l1(1, 100)), &L1View::default()).expect("gives blocks");
    let expected: Vec<Vec<_>> =
        [1..=2, 3..=4].map(|held| lane[held].iter().flat_map(|block| block.transactions.clone()).collect()).to_vec();
    assert_eq!(native(&plan).iter().map(|block| block.timestamp).collect::<Vec<_>>(), [102, 104]);
    assert_eq!(native(&plan).iter().map(|block| block.transactions.clone()).collect::<Vec<_>>(), expected);
}

#[test]
fn the_origin_moves_by_one_once_the_log_has_seen_it_and_time_has_reached_it() {
    let adapter = adapter(BatchFormat::Singular, Compression::Zlib { level: 6 });
    let view = L1View::new((1..5).map(|number| l1(number, 100 + 3 * (number - 1))).collect()).expect("contiguous");
    // The log has seen block 3 at second 1 (a clock ahead of L1's) and nothing since.
    let lane = lane(100, 13, |second| if second == 0 { l1(1, 100) } else { l1(3, 106) });
    let plan = adapter.blocks(&lane, &tip(100, l1(1, 100)), &view).expect("gives blocks");
    let origins: Vec<_> = native(&plan).iter().map(|block| (block.timestamp, block.l1.number)).collect();
    assert_eq!(origins, [(102, 1), (104, 2), (106, 3), (108, 3), (110, 3), (112, 3)]);
}

#[test]
fn an_l1_block_that_the_log_has_seen_and_we_have_not_is_waited_for() {
    let adapter = adapter(BatchFormat::Singular, Compression::Zlib { level: 6 });
    let lane = lane(100, 5, |second| l1(if second == 0 { 1 } else { 2 }, 100));
    let behind = adapter.blocks(&lane, &tip(100, l1(1, 100)), &L1View::new(vec![l1(1, 100)]).expect("one block"));
    assert_eq!(behind, Err(AdapterError::L1Behind { last: 1, needed: 2 }));
}

#[test]
fn transactions_wait_while_the_origin_is_older_than_the_drift() {
    let drift = SEQUENCER_DRIFT_SECONDS_MAX;
    let adapter = adapter(BatchFormat::Span, Compression::Brotli { quality: 5 });
    // L1 makes no block from second 0 to 1,806; the log sees the next only at second 1,810.
    let view = L1View::new(vec![l1(1, 100), l1(2, 100 + drift + 6)]).expect("contiguous");
    let lane = lane(100, drift + 12, |second| if second < drift + 10 { l1(1, 100) } else { l1(2, 100 + drift + 6) });
    let start = tip(100, l1(1, 100));
    let plan = adapter.blocks(&lane, &start, &view).expect("gives blocks");
    let counts: Vec<_> = native(&plan)
        .iter()
        .map(|block| {
            (block.timestamp - 100 - drift.min(block.timestamp - 100), block.l1.number, block.transactions.len())
        })
        .filter(|(past, ..)| *past > 0)
        .collect();
    // Past the drift: empty until the next origin can be adopted, even though the log has not seen it yet.
    assert_eq!(counts, [(2, 1, 0), (4, 1, 0), (6, 2, 6), (8, 2, 2), (10, 2, 2), (12, 2, 2)]);
    let held: usize = native(&plan).iter().map(|block| block.transactions.len()).sum();
    assert_eq!(held, lane.len() - 1, "nothing is lost");
}

#[test]
fn what_a_full_block_leaves_over_comes_next_and_full_blocks_fit_both_targets() {
    let adapter = adapter(BatchFormat::Singular, Compression::Brotli { quality: 1 });
    let mut lane = lane(100, 7, |_| l1(1, 100));
    let seed = &mut Seed(5);
    lane[1].transactions = (0..25).map(|_| transaction(seed, CHAIN, 100_000)).collect();
    lane[2].transactions = vec![transaction(seed, CHAIN, BLOCK_BYTES_MAX)];
    let start = tip(100, l1(1, 100));
    let view = L1View::new(vec![l1(1, 100)]).expect("one block");
    let plan = adapter.blocks(&lane, &start, &view).expect("gives blocks");
    let counts: Vec<_> = native(&plan).iter().map(|block| block.transactions.len()).collect();
    assert_eq!(counts, [20, 5 + 2, 2]);
    let too_large = lockstep_adapters::Skipped { height: Height(2), index: 0, reason: SkipReason::TooLarge };
    assert_eq!(plan.skipped, [too_large]);
    // A driver that restarts after the full block goes on where it ended.
    let full = &executed(&plan)[0];
    let rest = adapter.blocks(&lane, &start.after(full), &view).expect("gives blocks");
    assert_eq!(rest.blocks, plan.blocks[1..]);
    for target in [BatchTarget::Calldata { bytes_max: 100_000 }, BatchTarget::Blobs { per_transaction: 1 }] {
        let batches = adapter.encode(std::slice::from_ref(full), &start, target).expect("a full block fits");
        assert!(batches.len() <= 25);
        assert_eq!(adapter.decode(&batches, &start, &view), Ok(vec![full.block.clone()]));
    }
}

#[test]
fn channels_are_cut_so_that_they_close_in_time() {
    let adapter = adapter(BatchFormat::Span, Compression::Zlib { level: 1 });
    let subject = subject(&adapter);
    let world = World::new(&subject, &mut Seed(11), 1_200, 60, 400);
    let plan = adapter.blocks(&world.lane, &world.tip, &world.l1).expect("gives blocks");
    let executed = executed(&plan);
    let batches = adapter.encode(&executed, &world.tip, BatchTarget::Calldata { bytes_max: 20_000 }).expect("encodes");
    let mut of_channel = std::collections::BTreeMap::<[u8; 16], usize>::new();
    for batch in &batches {
        let Batch::Calldata(data) = batch else { panic!("calldata was asked for") };
        *of_channel.entry(data[1..17].try_into().expect("16 bytes")).or_default() += 1;
    }
    assert!(of_channel.len() > 1 && of_channel.values().all(|count| *count <= 25), "{of_channel:?}");
    // The halves after the first cannot know their parent's hash before execution, so decoding does not check it.
    assert_eq!(adapter.decode(&batches, &world.tip, &world.l1), Ok(native(&plan)));
}

#[test]
fn a_batch_on_another_parent_is_refused() {
    for format in FORMATS {
        let adapter = adapter(format, Compression::Zlib { level: 6 });
        let lane = lane(100, 5, |_| l1(1, 100));
        let (start, view) = (tip(100, l1(1, 100)), L1View::new(vec![l1(1, 100)]).expect("one block"));
        let plan = adapter.blocks(&lane, &start, &view).expect("gives blocks");
        let executed = executed(&plan);
        let batches = adapter.encode(&executed, &start, BatchTarget::Calldata { bytes_max: 1_000 }).expect("encodes");
        assert!(adapter.decode(&batches, &start, &view).is_ok());
        let other = ChainTip { hash: Hash32([3; 32]), ..start.clone() };
        assert!(matches!(adapter.decode(&batches, &other, &view), Err(AdapterError::Block { .. })));
        let later = ChainTip { timestamp: 102, ..start };
        assert!(matches!(adapter.decode(&batches, &later, &view), Err(AdapterError::Block { .. })));
    }
}

fn native(plan: &Plan) -> Vec<NativeBlock> {
    plan.blocks.iter().map(|planned| planned.block.clone()).collect()
}

/// Stands in for execution: a different hash for each block.
fn executed(plan: &Plan) -> Vec<ExecutedBlock> {
    let executed = plan.blocks.iter().zip(0u64..).map(|(planned, index)| ExecutedBlock {
        hash: Hash32(Seed(index).bytes()),
        block: planned.block.clone(),
        lane: planned.lane,
    });
    executed.collect()
}
