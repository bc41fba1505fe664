//! Four validators with the application, pool, gossip and an indexer each, in one deterministic process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use commonware_runtime::{Clock, Spawner, Supervisor};
use lockstep_consensus::{
    block::Block,
    config::Timing,
    handle::Handle,
    machine::{Candidate, Genesis as LogGenesis, Invalid, Key, Machine, Outcome, Position, Records, Standing},
    simulate::{City, Conduct, Context, Simulation},
};
use lockstep_protocol::{
    account::AccountRecord,
    body::Body,
    genesis::{Balance, Format, Genesis, GroupKeyBytes, Rollup, Rules},
    header::{Header, L1Origin},
    ids::{Account, Hash32, Height, RollupId},
    signature::AccountKey,
    wire::Wire,
};
use lockstep_sequencer::{
    application::{Application, FINALIZED_QUEUE},
    facts::Facts,
    gossip::Gossip,
    pool::{Pool, PoolConfig, StateView},
};
use tokio::sync::mpsc;

use crate::ledger::{Ledger, Use};

pub(crate) const VALIDATORS: usize = 4;
/// Where the second of twins keeps its index.
const SECOND_TWIN: usize = VALIDATORS;
pub(crate) const ROLLUPS: [RollupId; 3] = [RollupId(901), RollupId(902), RollupId(903)];
pub(crate) const ACCOUNTS: u8 = 6;
const CREDITS: u64 = 50_000_000;
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(200);
/// Simulated time that pools may take to empty once everything is healed.
const PATIENCE: Duration = Duration::from_secs(300);

/// Changes the machine of a validator, for a dishonest one.
pub(crate) type Wrap = fn(Arc<dyn Machine>, u64) -> Arc<dyn Machine>;

/// A network that outlives its runs: indexes are kept as if on disk, pools are not.
pub(crate) struct Network {
    pub(crate) simulation: Simulation,
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    genesis: Genesis,
    pub(crate) rules: Arc<Rules>,
    pub(crate) ledger: Mutex<Ledger>,
    /// How far each validator's index has come.
    indexed: Mutex<[u64; VALIDATORS + 1]>,
    /// What was made for the latest start of each validator.
    nodes: Mutex<BTreeMap<usize, Node>>,
    /// The validator that runs twice, and its name once it is known.
    twins: Option<usize>,
    twins_name: OnceLock<Hash32>,
    /// Proposals of the twins that others voted for, by view: whether a block has bundles, by its time.
    equivocations: Mutex<BTreeMap<u64, BTreeMap<u64, bool>>>,
}

/// An honest validator's machine, which notes what it votes for.
struct Voter {
    machine: Arc<dyn Machine>,
    shared: Arc<Shared>,
}

struct Node {
    pool: Arc<Pool>,
    application: Arc<Application>,
    blocks: Option<mpsc::Receiver<Block>>,
}

/// The state as of a validator's index.
struct Indexed {
    shared: Arc<Shared>,
    validator: usize,
}

impl StateView for Indexed {
    fn height(&self) -> Height {
        Height(self.shared.indexed.lock().unwrap()[self.validator])
    }

    fn account(&self, account: &Account) -> Option<AccountRecord> {
        let height = self.height();
        self.shared.ledger.lock().unwrap().account(height, account)
    }

    fn base_fee(&self, rollup: RollupId) -> Option<u64> {
        let height = self.height();
        self.shared.ledger.lock().unwrap().base_fee(height, rollup)
    }
}

pub(crate) fn account_key(number: u8) -> AccountKey {
    if number % 3 == 2 {
        AccountKey::secp256k1([number + 1; 32]).expect("a small scalar")
    } else {
        AccountKey::ed25519([number + 1; 32])
    }
}

fn genesis() -> Genesis {
    let fund = |number| Balance { account: account_key(number).account(), credits: CREDITS };
    let mut balances: Vec<_> = (0..ACCOUNTS).map(fund).collect();
    balances.sort_by_key(|balance| balance.account);
    let rollup = |id: RollupId| Rollup::new(id, id.to_string(), Format::Eip2718, 1);
    Genesis {
        network: "simulation".into(),
        timestamp_ms: 1_700_000_000_000,
        group_key: GroupKeyBytes([0; 96]),
        sharing: Vec::new(),
        validators: vec![Hash32([1; 32])],
        rollups: ROLLUPS.map(rollup).to_vec(),
        balances,
        settlement: None,
    }
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(seed, genesis())
    }

    /// A network that begins with a genesis of the scenario's own.
    pub(crate) fn of(seed: u64, genesis: Genesis) -> Self {
        Self::make(seed, genesis, usize::MAX, |machine, _| machine, None)
    }

    /// A network in which one validator runs twice, each time with a pool of its own.
    pub(crate) fn with_twins(seed: u64, twins: usize) -> Self {
        Self::make(seed, genesis(), usize::MAX, |machine, _| machine, Some(twins))
            .with(|simulation| simulation.conduct(twins, Conduct::Twins))
    }

    /// A network in which one validator has a machine of its own.
    pub(crate) fn with_dishonest(seed: u64, dishonest: usize, wrap: Wrap) -> Self {
        Self::make(seed, genesis(), dishonest, wrap, None)
    }

    fn make(seed: u64, genesis: Genesis, dishonest: usize, wrap: Wrap, twins: Option<usize>) -> Self {
        let rules = Arc::new(genesis.rules().expect("the genesis of the simulation is good"));
        let shared = Arc::new(Shared {
            genesis,
            ledger: Mutex::new(Ledger::new(rules.clone())),
            rules,
            indexed: Mutex::default(),
            nodes: Mutex::default(),
            twins,
            twins_name: OnceLock::new(),
            equivocations: Mutex::default(),
        });

        let (makes, starts) = (shared.clone(), shared.clone());
        let simulation = Simulation::new(seed, VALIDATORS as u32, move |index| {
            let machine = makes.make(index);
            match twins {
                Some(twins) if twins != index => Arc::new(Voter { machine, shared: makes.clone() }) as Arc<dyn Machine>,
                _ if index == dishonest => wrap(machine, seed),
                _ => machine,
            }
        })
        .timing(Timing::with_heartbeat(HEARTBEAT))
        .on_start(move |index, handle, context| starts.start(index, &handle, &context));
        if let Some(twins) = twins {
            shared.twins_name.set(simulation.name(twins)).expect("set once");
        }
        Self { simulation, shared }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(Simulation) -> Simulation) -> Self {
        self.simulation = change(self.simulation);
        self
    }
}

impl Shared {
    pub(crate) fn pool(&self, validator: usize) -> Arc<Pool> {
        self.nodes.lock().unwrap()[&validator].pool.clone()
    }

    pub(crate) fn facts(&self, validator: usize) -> Arc<Facts> {
        self.nodes.lock().unwrap()[&validator].application.facts().clone()
    }

    pub(crate) fn network(&self) -> lockstep_protocol::ids::NetworkId {
        self.rules.network
    }

    pub(crate) fn used(&self, account: Account, nonce: u64) -> Option<Use> {
        self.ledger.lock().unwrap().used(account, nonce)
    }

    /// Views in which honest validators voted for two valid blocks of the twins, and of those the ones with bundles in both.
    pub(crate) fn equivocations(&self) -> (usize, usize) {
        let views = self.equivocations.lock().unwrap();
        let twice = views.values().filter(|blocks| blocks.len() > 1);
        (twice.clone().count(), twice.filter(|blocks| blocks.values().all(|full| *full)).count())
    }

    /// How far a validator's index has come.
    pub(crate) fn indexed(&self, validator: usize) -> u64 {
        self.indexed.lock().unwrap()[validator]
    }

    pub(crate) fn height(&self) -> u64 {
        self.ledger.lock().unwrap().height()
    }

    /// Bodies of others that a validator's latest application found invalid.
    pub(crate) fn invalid(&self, validator: usize) -> u64 {
        self.nodes.lock().unwrap()[&validator].application.metrics().invalid.get()
    }

    /// What a validator runs after a start: everything in memory is new.
    fn make(self: &Arc<Self>, validator: usize) -> Arc<dyn Machine> {
        // A machine that was made only to be asked for the genesis was never started.
        let started = self.nodes.lock().unwrap().get(&validator).is_some_and(|node| node.blocks.is_none());
        let validator = if started && self.twins == Some(validator) { SECOND_TWIN } else { validator };
        let view = Arc::new(Indexed { shared: self.clone(), validator });
        let pool = Pool::new(self.rules.clone(), PoolConfig::default(), view);
        let (sender, blocks) = mpsc::channel(FINALIZED_QUEUE);
        let application = Application::new(&self.genesis, pool.clone(), sender).expect("the genesis is good");
        let node = Node { pool, application: application.clone(), blocks: Some(blocks) };
        self.nodes.lock().unwrap().insert(validator, node);
        application
    }

    fn start(self: &Arc<Self>, validator: usize, handle: &Handle, context: &Context) {
        let (validator, pool, facts, blocks) = {
            let mut nodes = self.nodes.lock().unwrap();
            let validator = if nodes[&validator].blocks.is_some() { validator } else { SECOND_TWIN };
            let node = nodes.get_mut(&validator).expect("a machine was made for it");
            let facts = node.application.facts().clone();
            (validator, node.pool.clone(), facts, node.blocks.take().expect("each is started once"))
        };
        let gossip = Gossip::new(pool.clone(), facts.clone());
        let (sends, receives) = (gossip.clone(), gossip);
        let log = handle.clone();
        context.child("send").spawn(move |context| async move {
            sends.send(&log, |duration| context.sleep(duration)).await;
        });
        let log = handle.clone();
        context.child("receive").spawn(move |_| async move { receives.receive(&log).await });
        let log = handle.clone();
        context.child("facts").spawn(move |_| async move { facts.run(&log).await });
        let (shared, log) = (self.clone(), handle.clone());
        context.child("index").spawn(move |_| async move { shared.index(validator, &pool, &log, blocks).await });
    }

    /// A validator's indexer: every final block in order, those that it was not sent from the archive.
    async fn index(&self, validator: usize, pool: &Pool, log: &Handle, mut blocks: mpsc::Receiver<Block>) {
        while let Some(block) = blocks.recv().await {
            loop {
                let next = Height(self.indexed.lock().unwrap()[validator]).next();
                if next > block.height() {
                    break;
                }
                let block = if next == block.height() { Some(block.clone()) } else { log.block(next).await };
                // The log stops, or has not got that far: the next block asks again.
                let Some(block) = block else { break };
                self.settle(validator, pool, &block);
            }
        }
    }

    fn settle(&self, validator: usize, pool: &Pool, block: &Block) {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.observe(validator, block);
        let reports = ledger.page(block.height()).expect("it was just observed").reports.clone();
        drop(ledger);
        self.indexed.lock().unwrap()[validator] = block.height().0;
        pool.finalized(block.height(), &reports);
    }

    /// Waits until nothing waits in the pools of these validators and their indexes have caught up; then compares what
    /// each reads from its state with the book.
    pub(crate) async fn until_settled(&self, city: &mut City<'_>, validators: &[usize]) {
        city.until("ordering everything", PATIENCE, |_| {
            validators.iter().all(|validator| self.pool(*validator).usage().bundles == 0)
        })
        .await;
        let height = city.height() + 3;
        city.until("catching up", PATIENCE, |_| {
            let indexed = self.indexed.lock().unwrap();
            validators.iter().all(|validator| indexed[*validator] >= height)
        })
        .await;
        let keys: Vec<_> = self.ledger.lock().unwrap().keys().into_iter().collect();
        for validator in validators {
            let (header, records) = city.handle(*validator).read(keys.clone()).await.expect("it runs");
            assert!(header.height.0 + 3 >= height, "validator {validator} is behind");
            // The state may be ahead of the index by the block under way.
            let known = self.ledger.lock().unwrap().height() >= header.height.0;
            if known {
                self.ledger.lock().unwrap().check_state(*validator, &header, &records);
            }
        }
    }
}

impl Machine for Voter {
    fn genesis(&self) -> LogGenesis {
        self.machine.genesis()
    }

    fn waiting(&self, parent: &Header) -> bool {
        self.machine.waiting(parent)
    }

    fn candidate(&self, parent: &Header, limit: usize) -> Candidate {
        self.machine.candidate(parent, limit)
    }

    fn keys(&self, position: &Position, body: &Bytes) -> Result<Vec<Key>, Invalid> {
        self.machine.keys(position, body)
    }

    fn leads(&self, position: &Position, body: &Bytes) -> Vec<Key> {
        self.machine.leads(position, body)
    }

    fn more_keys(&self, position: &Position, body: &Bytes, records: &Records) -> Vec<Key> {
        self.machine.more_keys(position, body, records)
    }

    fn build(&self, position: &Position, candidate: Bytes, records: &Records) -> (Bytes, Outcome) {
        self.machine.build(position, candidate, records)
    }

    // A candidate is executed by whoever has voted to notarize it.
    fn apply(
        &self,
        position: &Position,
        body: &Bytes,
        records: &Records,
        standing: Standing,
    ) -> Result<Outcome, Invalid> {
        let outcome = self.machine.apply(position, body, records, standing)?;
        if standing == Standing::Candidate && self.shared.twins_name.get() == Some(&position.leader) {
            let full = Body::from_wire(body).is_ok_and(|body| !body.bundles.is_empty());
            let mut views = self.shared.equivocations.lock().unwrap();
            views.entry(position.view).or_default().insert(position.timestamp_ms, full);
        }
        Ok(outcome)
    }

    fn seen(&self, origin: &L1Origin) -> bool {
        self.machine.seen(origin)
    }

    fn finalized(&self, block: &Block) {
        self.machine.finalized(block);
    }
}
