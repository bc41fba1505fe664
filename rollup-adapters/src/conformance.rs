//! Does an adapter keep what every adapter promises?
//!
//! [`run`] is one call that a test of a new adapter makes. It panics at the first broken claim, naming the seed. It does
//! not know any rollup's format: that the bytes are what the rollup itself reads is shown by judges that are not ours.

use alloy_primitives::keccak256;
use lockstep_protocol::{
    header::L1Origin,
    ids::{Hash32, Height, RollupId},
};

use crate::{
    AdapterError, Batch, BatchTarget, ChainTip, ExecutedBlock, L1View, LaneBlock, LaneCursor, NativeBlock,
    PlannedBlock, RollupAdapter, adapter::BLOB_BYTES,
};

/// What the suite needs to know of the adapter under test.
pub struct Subject<'a> {
    /// The adapter.
    pub adapter: &'a dyn RollupAdapter,
    /// The rollup that it serves.
    pub rollup: RollupId,
    /// Makes a transaction that this rollup accepts in a batch, a different one each time.
    pub transaction: &'a dyn Fn(&mut Seed) -> Vec<u8>,
    /// Transactions that must never reach a batch.
    pub unfit: Vec<Vec<u8>>,
    /// Whether a batch names what it builds on, so that a missing one shows. Where it does not (Arbitrum), the contract that
    /// takes batches counts them.
    pub batches_are_linked: bool,
    /// Where batches may go, each with what one L1 transaction may carry.
    pub targets: Vec<BatchTarget>,
}

/// A small deterministic generator (SplitMix64), so that a failure repeats from its seed.
#[derive(Clone, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// Bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.draw() as u8)
    }
}

/// A piece of a log, of L1, and the chain that they start from.
pub struct World {
    /// Where the rollup stands.
    pub tip: ChainTip,
    /// Its lane, dense.
    pub lane: Vec<LaneBlock>,
    /// L1.
    pub l1: L1View,
}

const START: u64 = 1_750_000_000;
const L1_SECONDS: u64 = 12;

impl World {
    /// `heights` lane blocks of up to `transactions_max` transactions, at most `pause_ms` apart.
    pub fn new(subject: &Subject<'_>, seed: &mut Seed, heights: u64, transactions_max: u64, pause_ms: u64) -> Self {
        let l1_blocks = heights * pause_ms / (L1_SECONDS * 1_000) + 3;
        let l1: Vec<_> = (0..l1_blocks)
            .map(|index| L1Origin {
                number: 20_000_000 + index,
                hash: Hash32(keccak256((seed.0 ^ index).to_be_bytes()).0),
                timestamp: START + index * L1_SECONDS,
            })
            .collect();
        let tip = ChainTip { number: 7, hash: Hash32(seed.bytes()), timestamp: START, l1: l1[0], ..Default::default() };
        let mut now = START * 1_000;
        let tip = ChainTip { lane: LaneCursor { ms: now, taken: 0 }, ..tip };
        let lane = (0..heights)
            .map(|index| {
                let count = if index == 0 { 0 } else { seed.below(transactions_max + 1) };
                let seen = (now / 1_000 - START) / L1_SECONDS;
                let block = LaneBlock {
                    rollup: subject.rollup,
                    height: Height(100 + index),
                    timestamp_ms: now,
                    l1: l1[seen as usize],
                    transactions: (0..count).map(|_| (subject.transaction)(seed)).collect(),
                };
                now += 1 + seed.below(pause_ms);
                block
            })
            .collect();
        Self { tip, lane, l1: L1View::new(l1).expect("made contiguous") }
    }

    /// All blocks of the lane, in calls of one plan each, and the tip after each.
    fn blocks(&self, adapter: &dyn RollupAdapter) -> Vec<ExecutedBlock> {
        let mut tip = self.tip.clone();
        let mut executed = Vec::new();
        loop {
            let plan = adapter.blocks(&self.lane, &tip, &self.l1).expect("a plain lane gives blocks");
            if plan.blocks.is_empty() {
                return executed;
            }
            for block in plan.blocks {
                let block = execute(&tip, block);
                tip = tip.after(&block);
                executed.push(block);
            }
        }
    }
}

/// Stands in for execution: some hash that depends on the block.
fn execute(parent: &ChainTip, planned: PlannedBlock) -> ExecutedBlock {
    let PlannedBlock { block, lane } = planned;
    let mut bytes = parent.hash.0.to_vec();
    bytes.extend_from_slice(&block.timestamp.to_be_bytes());
    block.transactions.iter().for_each(|transaction| bytes.extend_from_slice(transaction));
    ExecutedBlock { hash: Hash32(keccak256(&bytes).0), block, lane }
}

fn native(blocks: &[ExecutedBlock]) -> Vec<NativeBlock> {
    blocks.iter().map(|executed| executed.block.clone()).collect()
}

/// Runs every claim with `seed`.
pub fn run(subject: &Subject<'_>, seed: u64) {
    for (claim, check) in CLAIMS {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(subject, &mut Seed(seed))));
        assert!(outcome.is_ok(), "the adapter breaks the claim \"{claim}\" with seed {seed}");
    }
}

type Check = fn(&Subject<'_>, &mut Seed);

const CLAIMS: &[(&str, Check)] = &[
    ("what is encoded is decoded, in order and complete", round_trip),
    ("how the lane is cut into calls does not change the blocks", cuts),
    ("an empty lane makes no batch, empty heights make empty blocks", empty),
    ("another rollup's lane, and a lane with a gap, is refused", foreign),
    ("an unfit transaction is skipped, reported, and in no batch", unfit),
    ("no L1 transaction carries more than its target allows", sizes),
    ("truncated, reordered and corrupted batches are refused without panic", corrupted),
    ("a fork of L1 is noticed", forks),
];

fn round_trip(subject: &Subject<'_>, seed: &mut Seed) {
    let world = World::new(subject, seed, 200, 4, 700);
    let blocks = world.blocks(subject.adapter);
    assert!(blocks.len() > 10, "the lane is long enough for blocks");
    let end_ms = blocks.last().map_or(0, |executed| executed.lane.ms);
    let ordered: Vec<_> = world
        .lane
        .iter()
        .filter(|block| block.timestamp_ms <= end_ms)
        .flat_map(|block| block.transactions.clone())
        .collect();
    let built: Vec<_> = blocks.iter().flat_map(|executed| executed.block.transactions.clone()).collect();
    assert!(!ordered.is_empty());
    assert_eq!(ordered, built, "the blocks hold the lane, in its order");
    for target in &subject.targets {
        let batches = subject.adapter.encode(&blocks, &world.tip, *target).expect("encodes");
        assert_eq!(subject.adapter.encode(&blocks, &world.tip, *target).as_ref(), Ok(&batches), "two posters agree");
        let decoded = subject.adapter.decode(&batches, &world.tip, &world.l1).expect("decodes");
        assert_eq!(decoded, native(&blocks));
    }
}

fn cuts(subject: &Subject<'_>, seed: &mut Seed) {
    let world = World::new(subject, seed, 150, 3, 2_500);
    let whole = world.blocks(subject.adapter);
    let mut tip = world.tip.clone();
    let mut pieces = Vec::new();
    for end in 1..=world.lane.len() {
        // Some calls see the whole lane so far, others only what the chain does not hold yet, and its predecessor.
        let held = world.lane.iter().filter(|block| block.timestamp_ms <= tip.lane.ms).count();
        let from = if seed.below(2) == 0 { 0 } else { held.saturating_sub(1).min(end - 1) };
        let plan = subject.adapter.blocks(&world.lane[from..end], &tip, &world.l1).expect("gives blocks");
        for block in plan.blocks {
            let block = execute(&tip, block);
            tip = tip.after(&block);
            pieces.push(block);
        }
    }
    assert_eq!(pieces, whole);
}

fn empty(subject: &Subject<'_>, seed: &mut Seed) {
    let world = World::new(subject, seed, 400, 0, 900);
    let nothing = subject.adapter.blocks(&[], &world.tip, &world.l1).expect("an empty lane is no error");
    assert!(nothing.blocks.is_empty() && nothing.skipped.is_empty());
    let blocks = world.blocks(subject.adapter);
    assert!(blocks.iter().all(|executed| executed.block.transactions.is_empty()));
    for target in &subject.targets {
        assert_eq!(subject.adapter.encode(&[], &world.tip, *target), Ok(vec![]));
        let batches = subject.adapter.encode(&blocks, &world.tip, *target).expect("encodes");
        assert_eq!(subject.adapter.decode(&batches, &world.tip, &world.l1), Ok(native(&blocks)));
    }
    assert_eq!(subject.adapter.decode(&[], &world.tip, &world.l1), Ok(vec![]));
}

fn foreign(subject: &Subject<'_>, seed: &mut Seed) {
    let world = World::new(subject, seed, 50, 2, 700);
    let blocks = |lane: &[LaneBlock]| subject.adapter.blocks(lane, &world.tip, &world.l1);
    let mut lane = world.lane.clone();
    lane[30].rollup = RollupId(subject.rollup.0 ^ 1);
    assert!(matches!(blocks(&lane), Err(AdapterError::ForeignLane { .. })));
    let mut lane = world.lane.clone();
    lane.remove(30);
    assert!(matches!(blocks(&lane), Err(AdapterError::LaneGap { .. })));
    let mut lane = world.lane.clone();
    lane[30].timestamp_ms = lane[29].timestamp_ms;
    assert!(matches!(blocks(&lane), Err(AdapterError::LaneBackwards { .. })));
    assert!(matches!(blocks(&world.lane[1..]), Err(AdapterError::LaneStartsLate { .. })));
}

fn unfit(subject: &Subject<'_>, seed: &mut Seed) {
    let mut world = World::new(subject, seed, 100, 2, 700);
    let fit = world.blocks(subject.adapter);
    for unfit in &subject.unfit {
        let at = 1 + seed.below(20) as usize;
        let block = &mut world.lane[at].transactions;
        let index = seed.below(block.len() as u64 + 1) as usize;
        block.insert(index, unfit.clone());
        let plan = subject.adapter.blocks(&world.lane, &world.tip, &world.l1).expect("gives blocks");
        assert!(
            plan.skipped.iter().any(|skipped| skipped.height == world.lane[at].height && skipped.index == index),
            "skipped and reported: {unfit:02x?}"
        );
    }
    let plan = subject.adapter.blocks(&world.lane, &world.tip, &world.l1).expect("gives blocks");
    assert_eq!(plan.skipped.len(), subject.unfit.len(), "each one is reported once");
    let left: Vec<_> = plan.blocks.into_iter().map(|planned| planned.block).collect();
    assert_eq!(left, native(&fit), "and the blocks are as if it had not been there");
    // A caller who puts it into a block all the same is refused.
    let mut spoiled = fit;
    let filled = spoiled.iter().position(|executed| !executed.block.transactions.is_empty()).expect("has transactions");
    for unfit in &subject.unfit {
        spoiled[filled].block.transactions[0].clone_from(unfit);
        for target in &subject.targets {
            let refused = subject.adapter.encode(&spoiled, &world.tip, *target);
            assert!(matches!(refused, Err(AdapterError::Block { .. })), "{unfit:02x?} gave {refused:?}");
        }
    }
}

fn sizes(subject: &Subject<'_>, seed: &mut Seed) {
    let world = World::new(subject, seed, 300, 30, 300);
    let blocks = world.blocks(subject.adapter);
    for target in &subject.targets {
        let batches = subject.adapter.encode(&blocks, &world.tip, *target).expect("encodes");
        for batch in &batches {
            match (batch, target) {
                (Batch::Calldata(data), BatchTarget::Calldata { bytes_max }) => assert!(data.len() <= *bytes_max),
                (Batch::Blobs(blobs), BatchTarget::Blobs { per_transaction }) => {
                    assert!((1..=*per_transaction).contains(&blobs.len()));
                    for blob in blobs {
                        assert_eq!(blob.len(), BLOB_BYTES);
                        // Below 0x73.. is below the BLS12-381 scalar modulus 0x73eda753...
                        assert!(blob.chunks_exact(32).all(|element| element[0] < 0x73));
                    }
                }
                _ => panic!("a batch for another target"),
            }
        }
        assert_eq!(subject.adapter.decode(&batches, &world.tip, &world.l1), Ok(native(&blocks)));
    }
    let tiny = subject.adapter.encode(&blocks, &world.tip, BatchTarget::Calldata { bytes_max: 8 });
    assert!(matches!(tiny, Err(AdapterError::Limit { .. })), "a target too small for anything is refused");
    let huge = subject.adapter.encode(&blocks, &world.tip, BatchTarget::Calldata { bytes_max: usize::MAX });
    assert!(matches!(huge, Err(AdapterError::Limit { .. })), "a target that L1 would not take is refused");
}

fn corrupted(subject: &Subject<'_>, seed: &mut Seed) {
    let world = World::new(subject, seed, 120, 8, 300);
    let blocks = world.blocks(subject.adapter);
    let decode = |batches: &[Batch]| subject.adapter.decode(batches, &world.tip, &world.l1);
    for target in &subject.targets {
        let batches = subject.adapter.encode(&blocks, &world.tip, *target).expect("encodes");
        let whole = Ok(native(&blocks));
        let refused = |batches: &[Batch], what: &str| {
            let result = decode(batches);
            assert!(result.is_err() || !subject.batches_are_linked && result != whole, "{what}: {result:?}");
        };
        for missing in 0..batches.len().saturating_sub(1) {
            let mut rest = batches.clone();
            rest.remove(missing);
            refused(&rest, "a batch is missing");
        }
        if batches.len() > 1 {
            let mut swapped = batches.clone();
            swapped.swap(0, 1);
            assert!(decode(&swapped).is_err(), "two batches are swapped");
        }
        for _ in 0..200 {
            let mut batches = batches.clone();
            let index = seed.below(batches.len() as u64) as usize;
            let part = match &mut batches[index] {
                Batch::Calldata(data) => data,
                Batch::Blobs(blobs) => {
                    let index = seed.below(blobs.len() as u64) as usize;
                    &mut blobs[index]
                }
            };
            let at = seed.below(part.len() as u64) as usize;
            if seed.below(4) == 0 {
                part.truncate(at);
                assert!(decode(&batches).is_err(), "cut at {at}");
            } else {
                part[at] ^= 1 << seed.below(8);
                // Not every format has a checksum, so a changed bit may decode: what matters is that nothing panics.
                drop(decode(&batches));
            }
        }
    }
}

fn forks(subject: &Subject<'_>, seed: &mut Seed) {
    let world = World::new(subject, seed, 200, 2, 700);
    let mut forked = world.tip.clone();
    forked.l1.hash = Hash32(seed.bytes());
    assert!(matches!(subject.adapter.blocks(&world.lane, &forked, &world.l1), Err(AdapterError::L1Fork { .. })));
    let mut lane = world.lane.clone();
    if let Some(last) = lane.last_mut() {
        last.l1.hash = Hash32(seed.bytes());
    }
    let gives = subject.adapter.blocks(&lane, &world.tip, &world.l1);
    let unharmed = subject.adapter.blocks(&world.lane, &world.tip, &world.l1);
    assert!(matches!(gives, Err(AdapterError::L1Fork { .. })) || gives == unharmed);
}
