//! How does a rollup's execution client follow the lane?
//!
//! One block after the other: the lane up to the block's timestamp (`feed.rs`), what L1 adds (`attributes.rs`), the block made
//! and taken over by the client (`build.rs`, `engine.rs`), then the next.
//!
//! **Which heights a block covers**: the L2 block with timestamp `T` covers the lane after its parent's timestamp and up to
//! `T`, by the timestamps of the log's headers. Only what a full block leaves over comes later; how much that is follows from the
//! lane and from what the block holds (`block.rs`), so it can always be counted again.
//!
//! **Nothing is remembered that cannot be found again.** A driver that starts asks the client for its head and finds its place in the
//! lane (`driver/resume.rs`); killed between any two calls it makes the same block again. A reorganisation of L1 takes the chain back
//! to the last block whose L1 origin is still there, and the same lane is built on the new one.
//!
//! **Trouble is waited for.** A client that is syncing, slow, gone or wrong, an L1 that is down, nodes that do not answer: the
//! same step is tried again with growing pauses, a line in the log when it begins and when it ends, and a metric in
//! between. No transaction is skipped because of it.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use alloy_primitives::{B256, keccak256};
use lockstep_protocol::ids::{Hash32, RollupId};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    GasRoom, INVALID_MAX, Optimism,
    attributes::{Attributes, AttributesError},
    build::{Built, PayloadBlock, build},
    chain::{Chain, ChainError, L2Block},
    derive::{BlockRef, Derived},
    engine::{Engine, EngineError, Forkchoice},
    l1_info::L1_INFO_GAS,
    places::{Place, Places},
    rollup::Rollup,
};
use crate::{
    AdapterError, ChainTip, LaneCursor, NativeBlock, Skipped,
    feed::{FeedError, LANE_PATIENCE, LaneFeed, LaneSource, Quiet},
    poster::{L1, L1Chain, Log, RpcError},
    retry::Backoff,
    serve::{DriverStatus, Service, SkippedTransaction},
};

mod insist;
mod resume;

/// L1 blocks before the head's origin that are kept: how deep a reorganisation is followed.
const L1_BEFORE_HEAD: u64 = 128;
/// L1 blocks after it that are fetched ahead: what a driver that is far behind builds on next.
const L1_AFTER_HEAD: u64 = 512;
/// Waiting for the lane is interrupted this often, to look at L1. What was asked of nodes goes on at the next attempt.
const LANE_WAIT_MAX: Duration = Duration::from_secs(1);

/// How a driver drives.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// Pause between two looks at L1.
    pub l1_poll: Duration,
    /// The first block to build is the one after this: the block with which the chain joined. Genesis by default.
    pub joined_after: Option<u64>,
    /// Gas that the deposits of one L1 block may take together.
    pub deposits_gas_max: u64,
    /// Where the places of recent blocks are kept.
    pub places: Option<PathBuf>,
    /// That the lane closes no block for so long beyond its time is told.
    pub lane_patience: Duration,
}

impl Default for DriverConfig {
    fn default() -> Self {
        // 20 million is the resource limit of the portal's gas market.
        Self {
            l1_poll: Duration::from_secs(1),
            joined_after: None,
            deposits_gas_max: 20_000_000,
            places: None,
            lane_patience: LANE_PATIENCE,
        }
    }
}

/// Why a step was not made. The next attempt begins by asking the client where it stands.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts of the causes say what each variant means")]
pub enum DriverError {
    #[error("L1: {0}")]
    L1(#[from] RpcError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("lane: {0}")]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Attributes(#[from] AttributesError),
    /// L1 took back more than is held.
    #[error("L1 does not have the origin of block {0}, and what was before is not held")]
    TooDeep(u64),
    /// L1 does not have a block that it had a moment ago.
    #[error("L1 block {0} is gone")]
    Gone(u64),
    /// The client calls a head valid and does not follow it.
    #[error("the execution client calls block {asked} the head and answers with block {found}")]
    NotFollowed { asked: u64, found: u64 },
}

/// Drives one rollup's execution client.
pub struct Driver {
    config: DriverConfig,
    rollup: Rollup,
    adapter: Optimism,
    chain: Arc<Chain>,
    engine: Engine,
    l1: Arc<L1>,
    feed: LaneFeed,
    quiet: Quiet,
    derived: watch::Receiver<Derived>,
    service: Arc<Service<DriverStatus>>,
    l1_chain: L1Chain,
    places: Places,
    state: Option<State>,
    /// The latest head that the client called valid.
    told: u64,
    /// The client has lost blocks that it had: its word that it follows is checked.
    lost: bool,
    looked_at_l1: Option<Instant>,
    /// Where L1 ended when a block needed more of it.
    l1_end: Option<u64>,
}

/// Where the chain stands.
struct State {
    head: L2Block,
    cursor: LaneCursor,
    told: Forkchoice,
}

impl State {
    fn tip(&self) -> ChainTip {
        ChainTip {
            number: self.head.number,
            hash: Hash32(self.head.hash.0),
            timestamp: self.head.timestamp,
            l1: self.head.info.origin,
            lane: self.cursor,
            delayed: 0,
        }
    }
}

/// What a driver talks to.
pub struct Links {
    /// The execution client, for reading.
    pub chain: Arc<Chain>,
    /// The execution client's Engine API.
    pub engine: Engine,
    /// L1.
    pub l1: Arc<L1>,
    /// The lane.
    pub lane: Box<dyn LaneSource>,
    /// How far L1 leads: `derive.rs`.
    pub derived: watch::Receiver<Derived>,
}

impl Driver {
    /// A driver of the chain of `rollup`, whose blocks `adapter` plans.
    pub fn new(
        config: DriverConfig,
        rollup: Rollup,
        adapter: Optimism,
        links: Links,
        service: Arc<Service<DriverStatus>>,
    ) -> Self {
        let Links { chain, engine, l1, lane, derived } = links;
        Self {
            feed: LaneFeed::new(lane, RollupId(rollup.l2_chain_id)),
            l1_chain: L1Chain::new(rollup.genesis.l1.number),
            places: Places::open(config.places.as_deref()),
            quiet: Quiet::new(config.lane_patience.saturating_add(Duration::from_secs(rollup.block_time))),
            config,
            rollup,
            adapter,
            chain,
            engine,
            l1,
            derived,
            service,
            state: None,
            told: 0,
            lost: false,
            looked_at_l1: None,
            l1_end: None,
        }
    }

    /// Drives until `stop` is true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::endless();
        while !*stop.borrow() {
            tokio::select! {
                _ = stop.changed() => {}
                () = self.attempt(&mut backoff) => {}
            }
        }
        if let Err(error) = self.places.write() {
            tracing::warn!(%error, "the file of places cannot be written: the next start will take longer");
        }
    }

    async fn attempt(&mut self, backoff: &mut Backoff) {
        match self.step().await {
            Ok(()) => {
                if backoff.failures() > 0 && !self.quiet.is_told() {
                    self.service.update(|status| status.trouble = None);
                }
                backoff.succeeded();
            }
            Err(error) => {
                // Whatever is thought of the client's head may be wrong now.
                self.state = None;
                self.looked_at_l1 = None;
                self.quiet.failed(matches!(error, DriverError::Feed(_)));
                self.service.update(|status| {
                    status.trouble = Some(error.to_string());
                    status.failures += 1;
                });
                drop(backoff.failed(error).await);
            }
        }
    }

    /// Makes the next block, or waits a while for what it needs.
    pub async fn step(&mut self) -> Result<(), DriverError> {
        if self.state.is_none() {
            self.resume().await?;
        }
        self.look_at_l1().await?;
        self.rewind().await?;
        let Some(state) = &self.state else { return Ok(()) };
        let next_ms = state.head.timestamp.saturating_add(self.rollup.block_time).saturating_mul(1_000);
        match timeout(LANE_WAIT_MAX, self.feed.close(next_ms)).await {
            // Nothing to build yet, but L1 may have moved what is safe.
            Err(_) => {
                self.tell_safe().await?;
                if let Some(trouble) = self.quiet.waits("the lane has closed no block") {
                    self.service.update(|status| status.trouble = Some(trouble));
                }
                return Ok(());
            }
            Ok(closed) => closed?,
        }
        if self.quiet.ends() {
            self.service.update(|status| status.trouble = None);
        }
        let tip = state.tip();
        let place = match self.adapter.place_next(self.feed.blocks(), &tip, &self.l1_chain.view()?) {
            // The log has seen a block of L1 that our node has not: it will.
            Err(AdapterError::L1Behind { last, .. }) => {
                self.looked_at_l1 = None;
                // Far behind, headers come in parts, and the next part is there already.
                if self.l1_end == Some(last) {
                    tokio::time::sleep(self.config.l1_poll.min(LANE_WAIT_MAX)).await;
                }
                self.l1_end = Some(last);
                return Ok(());
            }
            place => place?,
        };
        if let Some(place) = place {
            self.make(place, &tip).await?;
        }
        Ok(())
    }

    async fn look_at_l1(&mut self) -> Result<(), DriverError> {
        if self.looked_at_l1.is_some_and(|last| last.elapsed() < self.config.l1_poll) {
            return Ok(());
        }
        let head = self.state.as_ref().map_or(0, |state| state.head.info.origin.number);
        let derived = self.derived.borrow().clone();
        match self.l1_chain.refresh(&self.l1, head.saturating_add(L1_AFTER_HEAD)).await {
            Ok(_) => {
                let number = self.l1_chain.last().map_or(0, |last| last.number);
                self.service.update(|status| {
                    if status.l1.trouble.take().is_some() {
                        tracing::info!(number, "L1 answers again");
                    }
                    status.l1.number = number;
                    status.derivation = derived;
                });
            }
            // Blocks that need nothing new of L1 go on without it.
            Err(error) if self.l1_chain.last().is_some() => {
                self.service.update(|status| {
                    if status.l1.trouble.is_none() {
                        tracing::warn!(%error, "L1 does not answer, going on as long as nothing new of it is needed");
                    }
                    status.l1.trouble = Some(error.to_string());
                });
            }
            Err(error) => return Err(error.into()),
        }
        self.looked_at_l1 = Some(Instant::now());
        Ok(())
    }

    fn gas(&self, gas_limit: u64) -> GasRoom {
        GasRoom::under(gas_limit, L1_INFO_GAS, self.config.deposits_gas_max)
    }

    /// Has the client make the block that stands at `place`, and makes it the head.
    async fn make(&mut self, place: NativeBlock, tip: &ChainTip) -> Result<(), DriverError> {
        let begin = Instant::now();
        let Some(state) = &self.state else { return Ok(()) };
        let l1 = self.l1_chain.get(place.l1.number).filter(|header| header.hash.0 == place.l1.hash.0);
        let l1 = l1.ok_or(DriverError::Gone(place.l1.number))?;
        let mut logs: Vec<Log> = Vec::new();
        if place.l1.number != tip.l1.number {
            let contracts = [self.rollup.deposit_contract_address, self.rollup.l1_system_config_address];
            logs = self.l1.logs(l1.hash, &contracts).await?;
        }
        let attributes = Attributes::derive(&self.rollup, &state.head, place.timestamp, l1, &logs)?;
        let gas = self.gas(attributes.system.gas_limit);
        let on_parent = self.forkchoice(&state.head);
        let (engine, isthmus) = (&self.engine, self.rollup.isthmus(attributes.timestamp));
        let mut invalid = HashSet::new();
        let mut candidates =
            self.adapter.fill(self.feed.blocks(), tip, place.clone(), &gas, |_| false).0.block.transactions;
        let (planned, skipped, Built { payload, block, .. }) = loop {
            let make = |indexes: Vec<usize>| {
                let json = attributes.to_json(indexes.iter().map(|index| candidates[*index].as_slice()));
                let forkchoice = &on_parent;
                async move { engine.make(forkchoice, json, isthmus).await }
            };
            // One more than may be left out: the block ends before that one.
            let most = (INVALID_MAX + 1).saturating_sub(invalid.len()).max(1);
            let built = build(&attributes.deposits, &candidates, most, make).await?;
            invalid.extend(built.invalid.iter().map(|index| keccak256(&candidates[*index])));
            // What is invalid has left its gas to others, which may be invalid as well.
            let is_invalid = |hash: &B256| invalid.contains(hash);
            let (planned, skipped) = self.adapter.fill(self.feed.blocks(), tip, place.clone(), &gas, is_invalid);
            if built.included.iter().map(|index| &candidates[*index]).eq(&planned.block.transactions) {
                break (planned, skipped, built);
            }
            candidates = planned.block.transactions;
        };
        let next = self.check(&state.head, &attributes, &block)?;
        engine.take(&payload, attributes.parent_beacon_block_root).await?;
        let head = L2Block { transactions: planned.block.transactions, ..next };
        // Before it is the head: a place that is known too early is no harm, one that is not known costs time.
        self.places.push(place_of(&head, planned.lane));
        let forkchoice = self.forkchoice(&head);
        engine.update(&forkchoice).await?;
        if self.lost {
            self.insist(&forkchoice, &on_parent, (&attributes, isthmus), &head).await?;
        }
        self.told = head.number;
        self.report(&head, &skipped, begin.elapsed());
        self.feed.forget_before(planned.lane.ms);
        self.l1_chain.forget_before(head.info.origin.number.saturating_sub(L1_BEFORE_HEAD));
        self.state = Some(State { head, cursor: planned.lane, told: forkchoice });
        Ok(())
    }

    /// The block that the client made, if it stands where it should.
    fn check(&self, parent: &L2Block, attributes: &Attributes, block: &PayloadBlock) -> Result<L2Block, EngineError> {
        let number: u64 = block.block_number.to();
        let stands = number == parent.number + 1
            && block.parent_hash == parent.hash
            && block.timestamp.to::<u64>() == attributes.timestamp;
        if !stands {
            return Err(EngineError::Answer("with a block at another place".into()));
        }
        Ok(L2Block {
            number,
            hash: block.block_hash,
            parent_hash: block.parent_hash,
            timestamp: attributes.timestamp,
            state_root: block.state_root,
            info: attributes.info,
            system: attributes.system,
            gas_used: block.gas_used.to(),
            transactions: Vec::new(),
        })
    }

    /// What the client is told: this head, and what L1 has led to so far, as far as it is before this head.
    fn forkchoice(&self, head: &L2Block) -> Forkchoice {
        let derived = self.derived.borrow();
        let before = |block: &BlockRef| if block.number <= head.number { block.hash } else { B256::ZERO };
        Forkchoice { head: head.hash, safe: before(&derived.safe), finalized: before(&derived.finalized) }
    }

    async fn tell_safe(&mut self) -> Result<(), DriverError> {
        let Some(state) = &self.state else { return Ok(()) };
        let forkchoice = self.forkchoice(&state.head);
        if forkchoice != state.told {
            self.engine.update(&forkchoice).await?;
            let (head, height) = (state.head.clone(), self.feed.height().0);
            self.told(&head, height);
            if let Some(state) = &mut self.state {
                state.told = forkchoice;
            }
        }
        Ok(())
    }

    fn told(&self, head: &L2Block, height: u64) {
        let derived = self.derived.borrow().clone();
        self.service.update(|status| {
            status.executed.number = head.number;
            status.executed.hash = head.hash;
            status.executed.state_root = head.state_root;
            status.executed.timestamp = head.timestamp;
            status.executed.l1_origin = head.info.origin.number;
            status.lane_height = height;
            status.derivation = derived;
        });
    }

    fn report(&mut self, head: &L2Block, skipped: &[Skipped], took: Duration) {
        tracing::info!(
            number = head.number,
            hash = %head.hash,
            transactions = head.transactions.len(),
            skipped = skipped.len(),
            l1 = head.info.origin.number,
            ms = took.as_millis() as u64,
            "executed a block"
        );
        let lane = self.feed.blocks();
        let mut told = Vec::with_capacity(skipped.len());
        for Skipped { height, index, reason } in skipped {
            let of =
                lane.binary_search_by_key(height, |block| block.height).expect("the lane is held up to the next block");
            let hash = keccak256(&lane[of].transactions[*index]);
            tracing::info!(block = head.number, %hash, height = height.0, index, %reason, "skipped a transaction");
            let reason = reason.to_string();
            told.push(SkippedTransaction { block: head.number, hash, height: height.0, index: *index, reason });
        }
        self.told(head, self.feed.height().0);
        self.service.update(|status| {
            status.blocks += 1;
            status.transactions += head.transactions.len() as u64;
            status.skipped += told.len() as u64;
            told.into_iter().for_each(|one| status.note(one));
        });
    }
}

fn place_of(block: &L2Block, cursor: LaneCursor) -> Place {
    Place { number: block.number, hash: block.hash, ms: cursor.ms, taken: cursor.taken }
}
