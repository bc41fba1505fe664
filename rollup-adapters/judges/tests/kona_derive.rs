//! Does kona derive from L1 exactly the blocks that the adapter built from the lane?
//!
//! The whole derivation pipeline of another code base, under the Holocene and Isthmus rules: signed batcher transactions
//! in L1 blocks, as calldata and as blobs, several frames to a channel, in several L1 blocks. Execution is not part of it:
//! block hashes are stand-ins that commit to parent and content.

use std::sync::Arc;

use alloy_eips::BlockNumHash;
use alloy_primitives::{B256, keccak256};
use futures::executor::block_on;
use kona_derive::{
    EthereumDataSource, Pipeline, PipelineBuilder, PipelineErrorKind, ResetSignal, SignalReceiver,
    StatefulAttributesBuilder, StepResult,
};
use kona_genesis::{ChainGenesis, HardForkConfig, RollupConfig};
use kona_protocol::{BlockInfo, L1BlockInfoTx, L2BlockInfo};
use lockstep_adapters::{
    Batch, BatchTarget, ChainTip, ExecutedBlock, L1View, NativeBlock, PlannedBlock, RollupAdapter,
    conformance::{Seed, Subject, World},
    optimism::{
        Bank, BatchFormat, CHANNEL_TIMEOUT_L1_BLOCKS, Compression, Optimism, OptimismConfig, decode_data, encode_data,
    },
};
use lockstep_judges::{
    l1::{Batcher, Chains, INBOX},
    transactions,
};
use lockstep_protocol::{
    header::L1Origin,
    ids::{Hash32, RollupId},
};

const CHAIN: u64 = 10;
const BLOCK_TIME: u64 = 2;

struct Story {
    adapter: Optimism,
    chains: Chains,
    batcher: Batcher,
    world: World,
    blocks: Vec<ExecutedBlock>,
    /// The last L1 block of the lane; batches are included after it.
    l1_end: u64,
}

impl Story {
    fn new(format: BatchFormat, compression: Compression, seed: u64) -> Self {
        let config = OptimismConfig {
            chain_id: CHAIN,
            block_time: BLOCK_TIME,
            genesis_timestamp: 1_700_000_000,
            format,
            compression,
        };
        let adapter = Optimism::new(config).expect("a block time of two seconds");
        let batcher = Batcher::default();
        let chains = Chains::new(&batcher);
        let subject = Subject {
            adapter: &adapter,
            rollup: RollupId(CHAIN),
            transaction: &|seed| transactions::any(seed, CHAIN),
            unfit: vec![],
            batches_are_linked: true,
            targets: vec![],
        };
        let world = on_real_headers(World::new(&subject, &mut Seed(seed), 200, 6, 900), &chains);
        let plan = adapter.blocks(&world.lane, &world.tip, &world.l1).expect("gives blocks");
        let mut tip = world.tip.clone();
        let blocks = plan.blocks.into_iter().map(|PlannedBlock { block, lane }| {
            let executed = ExecutedBlock { hash: stand_in_hash(&tip, &block), block, lane };
            tip = tip.after(&executed);
            executed
        });
        let blocks: Vec<_> = blocks.collect();
        assert!(blocks.len() > 30 && blocks.iter().any(|executed| executed.block.transactions.len() > 3));
        let l1_end = (1..).find(|ahead| chains.l1_block(world.tip.l1.number + ahead).is_none()).expect("it ends");
        let l1_end = world.tip.l1.number + l1_end - 1;
        Self { adapter, chains, batcher, world, blocks, l1_end }
    }

    fn encode(&self, target: BatchTarget) -> Vec<Batch> {
        self.adapter.encode(&self.blocks, &self.world.tip, target).expect("encodes")
    }

    /// Mines L1 blocks after the lane's, each with the batches that `schedule` gives it.
    fn post(&self, schedule: &[Vec<Batch>]) {
        let mut block = self.chains.l1_block(self.l1_end).expect("mined");
        for batches in schedule {
            self.chains.mine(block.number + 1, block.timestamp + 12);
            block = self.chains.l1_block(block.number + 1).expect("just mined");
            for batch in batches {
                self.chains.include(block.number, &self.batcher, batch);
            }
        }
    }

    /// What kona derives on top of the tip until L1 ends.
    fn derive(&self) -> Vec<NativeBlock> {
        block_on(derive(self))
    }
}

/// The same world, with L1 blocks whose hashes are those of headers that link.
fn on_real_headers(mut world: World, chains: &Chains) -> World {
    let mut origins = Vec::new();
    let mut number = world.tip.l1.number;
    while let Some(origin) = world.l1.get(number) {
        let hash = chains.mine(number, origin.timestamp);
        origins.push(L1Origin { number, hash: Hash32(hash.0), timestamp: origin.timestamp });
        number += 1;
    }
    world.l1 = L1View::new(origins).expect("contiguous");
    let real = |origin: &L1Origin| *world.l1.get(origin.number).expect("mined");
    world.tip.l1 = real(&world.tip.l1);
    world.lane.iter_mut().for_each(|block| block.l1 = real(&block.l1));
    world
}

fn stand_in_hash(parent: &ChainTip, block: &NativeBlock) -> Hash32 {
    let mut bytes = parent.hash.0.to_vec();
    bytes.extend_from_slice(&block.timestamp.to_be_bytes());
    bytes.extend_from_slice(&block.l1.hash.0);
    block.transactions.iter().for_each(|transaction| bytes.extend_from_slice(keccak256(transaction).as_slice()));
    Hash32(keccak256(&bytes).0)
}

fn rollup_config(tip: &ChainTip) -> RollupConfig {
    let zero = Some(0);
    RollupConfig {
        genesis: ChainGenesis {
            l1: BlockNumHash { number: tip.l1.number, hash: B256::from(tip.l1.hash.0) },
            l2_time: 1_700_000_000,
            ..Default::default()
        },
        block_time: BLOCK_TIME,
        max_sequencer_drift: 600,
        seq_window_size: 3_600,
        channel_timeout: 300,
        l1_chain_id: 1,
        l2_chain_id: CHAIN.into(),
        hardforks: HardForkConfig {
            regolith_time: zero,
            canyon_time: zero,
            delta_time: zero,
            ecotone_time: zero,
            fjord_time: zero,
            granite_time: zero,
            holocene_time: zero,
            isthmus_time: zero,
            ..Default::default()
        },
        batch_inbox_address: INBOX,
        ..Default::default()
    }
}

async fn derive(story: &Story) -> Vec<NativeBlock> {
    let chains = story.chains.clone();
    let mut tip = story.world.tip.clone();
    let config = Arc::new(rollup_config(&tip));
    let start = chains.l1_block(tip.l1.number).expect("mined");
    let mut safe = L2BlockInfo {
        block_info: BlockInfo {
            hash: B256::from(tip.hash.0),
            number: tip.number,
            parent_hash: B256::ZERO,
            timestamp: tip.timestamp,
        },
        l1_origin: start.id(),
        seq_num: 0,
    };
    chains.advance(safe);
    let mut pipeline = PipelineBuilder::new()
        .rollup_config(config.clone())
        .dap_source(EthereumDataSource::new_from_parts(chains.clone(), chains.clone(), &config))
        .l2_chain_provider(chains.clone())
        .chain_provider(chains.clone())
        .builder(StatefulAttributesBuilder::new(config.clone(), chains.clone(), chains.clone()))
        .origin(start)
        .build_polled();
    let reset = ResetSignal { l2_safe_head: safe, l1_origin: start, system_config: None };
    pipeline.signal(reset.signal()).await.expect("the pipeline starts");

    let mut derived = Vec::new();
    loop {
        match pipeline.step(safe).await {
            StepResult::PreparedAttributes => {}
            StepResult::AdvancedOrigin => continue,
            // The end of L1: the next block does not exist yet.
            StepResult::OriginAdvanceErr(PipelineErrorKind::Temporary(_)) => return derived,
            StepResult::StepFailed(PipelineErrorKind::Temporary(_)) => continue,
            StepResult::OriginAdvanceErr(error) | StepResult::StepFailed(error) => {
                panic!("derivation fails: {error:?}")
            }
        }
        for attributes in pipeline.by_ref() {
            let transactions = attributes.inner.transactions.expect("derived attributes have transactions");
            let (first, rest) = transactions.split_first().expect("the L1 info comes first");
            let info = l1_info(first);
            let origin = chains.l1_block(info.number).expect("derived from L1");
            assert_eq!(origin.hash, info.hash);
            let l1 = L1Origin { number: origin.number, hash: Hash32(origin.hash.0), timestamp: origin.timestamp };
            let block = NativeBlock {
                timestamp: attributes.inner.payload_attributes.timestamp,
                l1,
                transactions: rest.iter().map(|bytes| bytes.to_vec()).collect(),
                delayed: None,
            };
            let hash = stand_in_hash(&tip, &block);
            safe = L2BlockInfo {
                block_info: BlockInfo {
                    hash: B256::from(hash.0),
                    number: tip.number + 1,
                    parent_hash: B256::from(tip.hash.0),
                    timestamp: block.timestamp,
                },
                l1_origin: info,
                seq_num: if info.number == tip.l1.number { safe.seq_num + 1 } else { 0 },
            };
            chains.advance(safe);
            let executed = ExecutedBlock { hash, block, ..Default::default() };
            tip = tip.after(&executed);
            derived.push(executed.block);
        }
    }
}

fn l1_info(deposit: &[u8]) -> BlockNumHash {
    let envelope =
        <op_alloy_consensus::OpTxEnvelope as alloy_eips::eip2718::Decodable2718>::decode_2718(&mut &*deposit)
            .expect("kona wrote a deposit");
    let deposit = envelope.as_deposit().expect("the L1 info is a deposit");
    L1BlockInfoTx::decode_calldata(&deposit.input).expect("L1 info").id()
}

fn native(blocks: &[ExecutedBlock]) -> Vec<NativeBlock> {
    blocks.iter().map(|executed| executed.block.clone()).collect()
}

const FORMATS: [BatchFormat; 2] = [BatchFormat::Singular, BatchFormat::Span];
const COMPRESSIONS: [Compression; 2] = [Compression::Zlib { level: 6 }, Compression::Brotli { quality: 6 }];

#[test]
fn kona_derives_the_lane_from_calldata_of_several_frames_in_several_l1_blocks() {
    for (seed, (format, compression)) in
        (0..).zip(FORMATS.into_iter().flat_map(|format| COMPRESSIONS.map(|compression| (format, compression))))
    {
        let story = Story::new(format, compression, seed);
        let batches = story.encode(BatchTarget::Calldata { bytes_max: 9_000 });
        assert!(batches.len() > 3, "several frames");
        let schedule: Vec<_> = batches.chunks(2).map(<[_]>::to_vec).collect();
        story.post(&schedule);
        assert_eq!(story.derive(), native(&story.blocks), "{format:?} {compression:?}");
    }
}

#[test]
fn kona_derives_the_lane_from_blobs() {
    for format in FORMATS {
        let story = Story::new(format, Compression::Brotli { quality: 6 }, 11);
        let batches = story.encode(BatchTarget::Blobs { per_transaction: 6 });
        story.post(&[vec![], batches]);
        assert_eq!(story.derive(), native(&story.blocks), "{format:?}");
    }
}

#[test]
fn posting_twice_changes_nothing() {
    for format in FORMATS {
        let story = Story::new(format, Compression::Zlib { level: 6 }, 12);
        let batches = story.encode(BatchTarget::Calldata { bytes_max: 9_000 });
        // Once in full, with an interrupted first attempt before it and a second poster's copy after it.
        let schedule = [batches[..2].to_vec(), batches.clone(), batches.clone()];
        story.post(&schedule);
        assert_eq!(story.derive(), native(&story.blocks), "{format:?}");
    }
}

#[test]
fn a_channel_that_closes_too_late_is_lost_for_kona_and_for_our_bank() {
    for (late, arrives) in [(0, true), (1, false)] {
        let story = Story::new(BatchFormat::Span, Compression::Zlib { level: 6 }, 13);
        let batches = story.encode(BatchTarget::Calldata { bytes_max: 9_000 });
        let (last, first) = batches.split_last().expect("several frames");
        let mut schedule = vec![vec![]; CHANNEL_TIMEOUT_L1_BLOCKS as usize + late];
        schedule[0] = first.to_vec();
        schedule.push(vec![last.clone()]);
        story.post(&schedule);
        let derived = story.derive();
        assert_eq!(derived == native(&story.blocks), arrives, "{late} late");
        assert_eq!(derived.is_empty(), !arrives);

        let mut bank = Bank::default();
        let ready: usize = (0u64..)
            .zip(&schedule)
            .flat_map(|(number, batches)| batches.iter().map(move |batch| (number, batch)))
            .map(|(number, batch)| {
                let Batch::Calldata(data) = batch else { panic!("calldata was asked for") };
                bank.add(number, decode_data(data).expect("our frames")).ready.len()
            })
            .sum();
        assert_eq!(ready == 1, arrives, "our bank agrees with kona");
    }
}

#[test]
fn what_kona_does_not_derive_our_decoder_refuses() {
    let story = Story::new(BatchFormat::Span, Compression::Zlib { level: 6 }, 14);
    let batches = story.encode(BatchTarget::Calldata { bytes_max: 9_000 });
    let mut swapped = batches;
    swapped.swap(0, 1);
    story.post(std::slice::from_ref(&swapped));
    assert!(story.derive().is_empty());
    assert!(story.adapter.decode(&swapped, &story.world.tip, &story.world.l1).is_err());
}

/// Frames of two channels, dropped, repeated and shuffled over transactions and L1 blocks. Our bank must never find a
/// channel that kona does not, or a poster would believe something landed that did not. The other way round, kona 0.4.5
/// completes channels whose frames arrive out of order in different transactions, which the specification (Holocene,
/// strict ordering of frames) and our bank refuse.
#[test]
fn our_bank_finds_the_channels_that_kona_finds_in_disorder() {
    let mut found = [0; 3];
    let mut kona_found_more = 0;
    for seed in 0..150 {
        let story = Story::new(BatchFormat::Singular, Compression::Zlib { level: 6 }, 20);
        let (first, second) = story.blocks.split_at(story.blocks.len() / 2);
        let tip = first.iter().fold(story.world.tip.clone(), |tip, block| tip.after(block));
        let target = BatchTarget::Calldata { bytes_max: 5_000 };
        let channels = [(first, &story.world.tip), (second, &tip)]
            .map(|(blocks, tip)| frames(&story.adapter.encode(blocks, tip, target).expect("encodes")));
        let mut frames = channels.concat();
        let seed_of = seed;
        let seed = &mut Seed(seed);
        let mut swapped = false;
        for _ in 0..seed.below(4) {
            let (from, to) = (seed.below(frames.len() as u64) as usize, seed.below(frames.len() as u64) as usize);
            match seed.below(3) {
                0 => {
                    swapped = true;
                    frames.swap(from, to);
                }
                1 => frames.insert(to, frames[from].clone()),
                _ => drop(frames.remove(from)),
            }
        }
        let mut schedule: Vec<Vec<Batch>> = vec![vec![]];
        let mut bank = Bank::default();
        let mut expected = 0;
        while !frames.is_empty() {
            let rest = frames.split_off(frames.len().min(1 + seed.below(3) as usize));
            let batch = Batch::Calldata(encode_data(&frames).expect("encodes"));
            if seed.below(2) == 0 {
                schedule.push(vec![]);
            }
            let ready = bank.add(schedule.len() as u64, frames).ready;
            // The second channel counts only on top of the first.
            for channel in ready {
                if expected < 2 && channel.id == channels[expected][0].channel {
                    expected += 1;
                }
            }
            schedule.last_mut().expect("not empty").push(batch);
            frames = rest;
        }
        story.post(&schedule);
        let derived = story.derive();
        let blocks = [0, first.len(), story.blocks.len()][expected];
        assert_eq!(derived, native(&story.blocks)[..derived.len()], "seed {seed_of}");
        assert!(derived.len() >= blocks, "seed {seed_of}: our bank believes more than kona");
        if derived.len() > blocks {
            assert!(swapped, "seed {seed_of}: kona finds more, and no frames were out of order");
            kona_found_more += 1;
        }
        found[expected] += 1;
    }
    assert!(found.iter().all(|count| *count > 5), "every outcome occurs: {found:?}");
    assert!(kona_found_more < 15, "kona found more {kona_found_more} times of 150");
}

fn frames(batches: &[Batch]) -> Vec<lockstep_adapters::optimism::Frame> {
    let data = batches.iter().map(|batch| match batch {
        Batch::Calldata(data) => decode_data(data).expect("our frames"),
        Batch::Blobs(_) => panic!("calldata was asked for"),
    });
    data.flatten().collect()
}
