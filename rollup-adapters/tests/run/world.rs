//! An L1, a rollup's execution client and a lane, in a time of their own.
//!
//! The log makes a block every half second and L1 one every twelve, by clocks that the test moves: nothing depends on how fast
//! the machine is. Nodes are real ones, on free ports of the loopback.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, address, b256};
use lockstep_adapters::{
    LaneBlock,
    feed::{Answer, FeedError, LANE_PATIENCE, LaneSource},
    optimism::{
        BatchFormat, Compression, Optimism, OptimismConfig,
        chain::Chain,
        derive::{Derivation, Derived},
        driver::{self, Driver, DriverConfig},
        engine::Engine,
        post::{self, PostConfig, Poster},
        rollup::Rollup,
    },
    poster::{FeeConfig, Jwt, L1, Lease, Rpc, Sender, SenderConfig, Signer, Unleased},
    serve::{DriverStatus, PosterStatus, Service},
};
use lockstep_evm::{Config, Genesis, L1 as L1Role, Node, Optimism as OptimismRole, Role, genesis, op_genesis};
use lockstep_protocol::ids::{Height, RollupId};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use serde_json::json;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

pub(crate) const CHAIN: u64 = 901;
pub(crate) const L1_CHAIN: u64 = 900;
pub(crate) const BEGIN: u64 = 1_700_000_000;
pub(crate) const L1_SECONDS: u64 = 12;
pub(crate) const LOG_MS: u64 = 500;
pub(crate) const INBOX: Address = address!("ff00000000000000000000000000000000000901");
pub(crate) const PORTAL: Address = address!("1000000000000000000000000000000000000001");
pub(crate) const SYSTEM_CONFIG: Address = address!("1000000000000000000000000000000000000002");
pub(crate) const BATCHER: [u8; 32] = [0xba; 32];
/// Where the system configuration keeps who signs blocks that are not on L1 yet (specs, Batcher and system config).
const UNSAFE_BLOCK_SIGNER_SLOT: B256 = b256!("65a7ed542fb37fe237fdfbdd70b31598523fe5b32879e307bae27a0bd9581c08");
/// The contract that keeps what the L1-info transaction says.
const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");
pub(crate) const JWT: B256 = B256::repeat_byte(7);
const MILLION: u64 = 1_000_000;

/// Emits what it is called with: three or four topics, and the rest as data.
fn emitter(topics: u8) -> Bytes {
    let bytes = topics * 32;
    let mut code = vec![0x60, bytes, 0x36, 0x03, 0x80, 0x60, bytes, 0x60, 0x00, 0x37];
    for topic in (0..topics).rev() {
        code.extend([0x60, topic * 32, 0x35]);
    }
    // The length lies below the topics; then the offset, LOGn, STOP.
    code.extend([0x80 + topics, 0x60, 0x00, 0xa0 + topics, 0x00]);
    code.into()
}

/// What the contract of every OP Stack rollup that keeps the L1-info does: it puts the packed arguments where execution clients look
/// for what posting costs (specs, Isthmus, "L1 attributes"; offset in the call, bits to drop, slot).
fn l1_block() -> Bytes {
    let fields = [(4, 128, 3), (20, 128, 0), (36, 0, 1), (68, 0, 7), (100, 0, 2), (132, 0, 4), (164, 160, 8)];
    // PUSH1 offset, CALLDATALOAD, PUSH1 bits, SHR, PUSH1 slot, SSTORE.
    let store = |(at, bits, slot)| [0x60, at, 0x35, 0x60, bits, 0x1c, 0x60, slot, 0x55];
    fields.into_iter().flat_map(store).collect::<Vec<u8>>().into()
}

/// A key whose transactions count their own nonces.
#[derive(Clone)]
pub(crate) struct Wallet {
    key: SecretKey,
    pub(crate) address: Address,
    pub(crate) nonce: u64,
}

impl Wallet {
    pub(crate) fn new(number: u8) -> Self {
        Self::from_secret([number; 32])
    }

    pub(crate) fn from_secret(secret: [u8; 32]) -> Self {
        let key = SecretKey::from_byte_array(secret).expect("a key");
        let public = PublicKey::from_secret_key(SECP256K1, &key).serialize_uncompressed();
        Self { key, address: Address::from_raw_public_key(&public[1..]), nonce: 0 }
    }

    /// A transaction with a nonce of its own choice; the wallet's own does not move.
    pub(crate) fn sign(
        &self,
        chain_id: u64,
        nonce: u64,
        to: Address,
        value: u128,
        input: Vec<u8>,
        gas: u64,
    ) -> Vec<u8> {
        let transaction = TxEip1559 {
            chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000,
            to: TxKind::Call(to),
            value: U256::from(value),
            access_list: Default::default(),
            input: input.into(),
        };
        let hash = transaction.signature_hash();
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &self.key);
        let (recovery, compact) = signature.serialize_compact();
        let (r, s) = compact.split_at(32);
        let signature = Signature::new(U256::from_be_slice(r), U256::from_be_slice(s), i32::from(recovery) == 1);
        transaction.into_signed(signature).encoded_2718()
    }

    /// The next transfer on the rollup.
    pub(crate) fn transfer(&mut self) -> Vec<u8> {
        self.nonce += 1;
        self.sign(CHAIN, self.nonce - 1, Address::repeat_byte(0x77), 1, vec![], 21_000)
    }
}

/// A dense lane that every source of it reads.
#[derive(Clone, Default)]
pub(crate) struct Lane {
    blocks: Arc<Mutex<Vec<LaneBlock>>>,
    grown: Arc<Notify>,
}

impl Lane {
    pub(crate) fn push(&self, block: LaneBlock) {
        self.blocks.lock().expect("no holder panics").push(block);
        self.grown.notify_waiters();
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.lock().expect("no holder panics").len()
    }

    pub(crate) fn all(&self) -> Vec<LaneBlock> {
        self.blocks.lock().expect("no holder panics").clone()
    }

    fn at(&self, height: u64) -> Option<LaneBlock> {
        let blocks = self.blocks.lock().expect("no holder panics");
        blocks.get(usize::try_from(height.checked_sub(1)?).ok()?).cloned()
    }
}

/// One follower's place in the lane. It tells of heights with content, and of long stretches without, as a network does.
pub(crate) struct Follower {
    lane: Lane,
    after: u64,
}

impl Follower {
    pub(crate) fn new(lane: &Lane) -> Self {
        Self { lane: lane.clone(), after: 0 }
    }
}

impl LaneSource for Follower {
    fn next(&mut self) -> Answer<'_, LaneBlock> {
        Box::pin(async move {
            loop {
                let grown = self.lane.grown.notified();
                let mut last = None;
                while let Some(block) = self.lane.at(self.after + 1) {
                    self.after += 1;
                    let busy = !block.transactions.is_empty();
                    last = Some(block);
                    if busy {
                        break;
                    }
                }
                match last {
                    Some(block) => return Ok(block),
                    None => grown.await,
                }
            }
        })
    }

    fn header(&mut self, height: Height) -> Answer<'_, LaneBlock> {
        let block = self.lane.at(height.0).expect("only heights that exist are asked for");
        Box::pin(async move { Ok(LaneBlock { transactions: vec![], ..block }) })
    }

    fn tip(&mut self) -> Answer<'_, LaneBlock> {
        self.header(Height(self.lane.len() as u64))
    }

    fn seek(&mut self, after: Height) -> Answer<'_, ()> {
        self.after = after.0;
        Box::pin(async { Ok::<(), FeedError>(()) })
    }
}

/// Everything outside of driver and poster.
pub(crate) struct World {
    pub(crate) l1: Arc<Node>,
    pub(crate) l1_genesis: Genesis,
    /// The rollup's genesis.json.
    pub(crate) genesis: Genesis,
    pub(crate) rollup: Rollup,
    /// rollup.json, as op-node reads it.
    pub(crate) json: String,
    pub(crate) lane: Lane,
    /// Log time, milliseconds.
    clock_ms: u64,
    /// How long a driver waits for the lane before it says so.
    pub(crate) lane_patience: Duration,
    pub(crate) folder: tempfile::TempDir,
}

/// An execution client of the rollup.
pub(crate) struct Client {
    pub(crate) node: Node,
    pub(crate) rpc: String,
    pub(crate) engine: String,
}

/// Something that runs until it is killed.
pub(crate) struct Running<S> {
    pub(crate) service: Arc<Service<S>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    derivation: JoinHandle<()>,
}

impl<S> Running<S> {
    /// Ends it wherever it is, as `kill -9` would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        self.derivation.abort();
        let _ = self.task.await;
        let _ = self.derivation.await;
    }

    /// Ends it as SIGTERM would.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("it ends by itself");
        self.derivation.abort();
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

impl World {
    /// A world in which these wallets have something on the rollup, and on L1.
    pub(crate) async fn new(wallets: &[Wallet]) -> Self {
        let wallets: Vec<Address> = wallets.iter().map(|wallet| wallet.address).collect();
        let batcher = Wallet::from_secret(BATCHER).address;
        let funded: Vec<Address> = wallets.iter().copied().chain([batcher]).collect();
        let mut first = genesis(L1_CHAIN, BEGIN, &funded, ether(1_000));
        for (address, topics) in [(PORTAL, 4), (SYSTEM_CONFIG, 3)] {
            first.alloc.entry(address).or_default().code = Some(emitter(topics));
        }
        // op-node asks for a proof of it when it starts.
        let signer = (UNSAFE_BLOCK_SIGNER_SLOT, batcher.into_word());
        first.alloc.entry(SYSTEM_CONFIG).or_default().storage = Some([signer].into());
        let role = L1Role { interval: None, instant: false, ..L1Role::default() };
        let l1 = Arc::new(Node::start(Config::new(first.clone(), Role::L1(role))).await.expect("an L1"));
        let origin = l1.genesis().hash;
        let mut genesis = Genesis { gas_limit: 60_000_000, ..op_genesis(CHAIN, BEGIN, &wallets, ether(1)) };
        genesis.alloc.entry(L1_BLOCK).or_default().code = Some(l1_block());
        let probe = client(&genesis).await;
        let l2 = probe.node.genesis().hash;
        probe.node.stop().await;
        let mut scalar = [0; 32];
        scalar[0] = 1;
        scalar[27] = 7;
        scalar[31] = 5;
        let json = json!({
            "genesis": {
                "l1": { "hash": origin, "number": 0 },
                "l2": { "hash": l2, "number": 0 },
                "l2_time": BEGIN,
                "system_config": {
                    "batcherAddr": batcher, "overhead": B256::ZERO, "scalar": B256::from(scalar), "gasLimit": 60_000_000,
                },
            },
            "block_time": 2, "max_sequencer_drift": 600, "seq_window_size": 3_600, "channel_timeout": 300,
            "l1_chain_id": L1_CHAIN, "l2_chain_id": CHAIN, "regolith_time": 0, "canyon_time": 0, "delta_time": 0,
            "ecotone_time": 0, "fjord_time": 0, "granite_time": 0, "holocene_time": 0, "isthmus_time": 0,
            "chain_op_config": { "eip1559Elasticity": 6, "eip1559Denominator": 250, "eip1559DenominatorCanyon": 250 },
            "batch_inbox_address": INBOX, "deposit_contract_address": PORTAL, "l1_system_config_address": SYSTEM_CONFIG,
        });
        let json = json.to_string();
        let rollup = Rollup::parse(&json).expect("a rollup.json");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (lane, clock_ms, lane_patience) = (Lane::default(), BEGIN * 1_000, LANE_PATIENCE);
        Self { l1, l1_genesis: first, genesis, rollup, json, lane, clock_ms, lane_patience, folder }
    }

    /// A fresh execution client of the rollup, at genesis.
    pub(crate) async fn client(&self) -> Client {
        client(&self.genesis).await
    }

    /// Mines an L1 block, twelve seconds after the last.
    pub(crate) async fn mine(&self) {
        mine(&self.l1).await;
    }

    /// Lets the log make blocks for so many seconds. `fill` gives the transactions of each; L1 blocks come in between.
    pub(crate) async fn pass(&mut self, seconds: u64, mut fill: impl FnMut(u64) -> Vec<Vec<u8>>) {
        for _ in 0..seconds * 1_000 / LOG_MS {
            self.clock_ms += LOG_MS;
            let mut head = self.l1.head();
            if head.header.timestamp + L1_SECONDS <= self.clock_ms / 1_000 {
                self.mine().await;
                head = self.l1.head();
            }
            let height = self.lane.len() as u64 + 1;
            self.lane.push(LaneBlock {
                rollup: RollupId(CHAIN),
                height: Height(height),
                timestamp_ms: self.clock_ms,
                l1: lockstep_protocol::header::L1Origin {
                    number: head.header.number,
                    hash: lockstep_protocol::ids::Hash32(head.hash.0),
                    timestamp: head.header.timestamp,
                },
                transactions: fill(height),
            });
        }
    }

    /// The number of the latest L2 block that the lane completes.
    pub(crate) fn target(&self) -> u64 {
        (self.clock_ms / 1_000 - BEGIN) / 2
    }

    /// Sends a transaction to L1's pool.
    pub(crate) async fn send_l1(&self, raw: &[u8]) {
        L1::new(rpc(&self.l1.rpc_url())).send(raw).await.expect("L1 takes it");
    }

    pub(crate) fn adapter(&self) -> Optimism {
        let config = OptimismConfig {
            chain_id: CHAIN,
            block_time: 2,
            genesis_timestamp: BEGIN,
            format: BatchFormat::Span,
            compression: Compression::Brotli { quality: 5 },
        };
        Optimism::new(config).expect("a block time of two seconds")
    }

    pub(crate) fn chain(&self, url: &str) -> Arc<Chain> {
        Arc::new(Chain::new(rpc(url), self.rollup.clone(), BEGIN))
    }

    /// Reads L1 to its end and compares it with what is executed.
    pub(crate) async fn derive(&self, client: &Client) -> Derived {
        let l1 = Arc::new(L1::new(rpc(&self.l1.rpc_url())));
        let mut derivation = Derivation::new(self.rollup.clone(), l1, None, self.chain(&client.rpc));
        while derivation.advance().await.expect("L1 is derived") {}
        derivation.derived().clone()
    }

    /// Starts a driver of `client`, which it and L1 are reached at by these URLs. With a name, its places outlive it.
    pub(crate) fn drive(
        &self,
        rpc_url: &str,
        engine_url: &str,
        l1_url: &str,
        name: Option<&str>,
    ) -> Running<DriverStatus> {
        let chain = self.chain(rpc_url);
        let jwt = Jwt::parse(&JWT.to_string()).expect("a secret");
        let engine = Engine::new(Rpc::new(engine_url, TIMEOUT, Some(jwt)).expect("a URL"));
        let l1 = Arc::new(L1::new(rpc(l1_url)));
        let (derived, derivation) = self.derivation(&l1, &chain);
        let config = DriverConfig {
            l1_poll: POLL,
            places: name.map(|name| self.folder.path().join(name)),
            lane_patience: self.lane_patience,
            ..DriverConfig::default()
        };
        let lane = Box::new(Follower::new(&self.lane));
        let links = driver::Links { chain, engine, l1, lane, derived };
        let service = Service::new(DriverStatus::default());
        let driver = Driver::new(config, self.rollup.clone(), self.adapter(), links, Arc::clone(&service));
        let (stop, stopped) = watch::channel(false);
        Running { service, stop, task: tokio::spawn(driver.run(stopped)), derivation }
    }

    /// Starts a driver of `client` without anything in between.
    pub(crate) fn drive_directly(&self, client: &Client) -> Running<DriverStatus> {
        self.drive(&client.rpc, &client.engine, &self.l1.rpc_url(), None)
    }

    fn derivation(&self, l1: &Arc<L1>, chain: &Arc<Chain>) -> (watch::Receiver<Derived>, JoinHandle<()>) {
        let (tell, derived) = watch::channel(Derived { agreed: true, ..Derived::default() });
        let derivation = Derivation::new(self.rollup.clone(), Arc::clone(l1), None, Arc::clone(chain));
        (derived, tokio::spawn(derivation.run(tell, POLL)))
    }

    /// Starts a poster of what `client` executed, which reaches L1 at this URL.
    pub(crate) async fn post(&self, client: &Client, l1_url: &str, fees: FeeConfig) -> Running<PosterStatus> {
        self.post_of(&client.rpc, l1_url, fees).await
    }

    /// The same, of the execution client at `rpc_url`.
    pub(crate) async fn post_of(&self, rpc_url: &str, l1_url: &str, fees: FeeConfig) -> Running<PosterStatus> {
        self.post_leased(rpc_url, l1_url, fees, Box::new(Unleased)).await
    }

    /// The same, with a lease.
    pub(crate) async fn post_leased(
        &self,
        rpc_url: &str,
        l1_url: &str,
        fees: FeeConfig,
        lease: Box<dyn Lease>,
    ) -> Running<PosterStatus> {
        let chain = self.chain(rpc_url);
        let l1 = Arc::new(L1::new(rpc(l1_url)));
        let (derived, derivation) = self.derivation(&l1, &chain);
        let config = SenderConfig { fees, poll_ms: 10, ..SenderConfig::default() };
        let signer = Signer::from_secret(BATCHER).expect("a key");
        let sender = loop {
            match Sender::new(Arc::clone(&l1), Signer::from_secret(BATCHER).expect("a key"), config.clone()).await {
                Ok(sender) => break sender,
                Err(_) => tokio::time::sleep(POLL).await,
            }
        };
        assert_eq!(sender.address(), signer.address());
        let config = PostConfig { enough_bytes: 1, max_delay_seconds: 0, poll_ms: 10, ..PostConfig::default() };
        let links = post::Links { chain, sender, lease, derived, reads_blobs: false };
        let service = Service::new(PosterStatus::default());
        let poster = Poster::new(config, self.rollup.clone(), self.adapter(), links, Arc::clone(&service));
        let (stop, stopped) = watch::channel(false);
        Running { service, stop, task: tokio::spawn(poster.run(stopped)), derivation }
    }

    /// Waits until `client` has the block that the lane completes.
    pub(crate) async fn wait_for_head(&self, client: &Client) {
        let target = self.target();
        until("the lane is executed", || client.node.head().header.number >= target).await;
    }
}

/// Mines an L1 block, twelve seconds after the last.
pub(crate) async fn mine(l1: &Node) {
    let timestamp = l1.head().header.timestamp + L1_SECONDS;
    let set: Result<serde_json::Value, _> =
        rpc(&l1.rpc_url()).call("evm_setNextBlockTimestamp", &[json!(timestamp)]).await;
    set.expect("the next timestamp");
    l1.mine().await.expect("a block");
}

/// Mines L1 blocks in the background, so fast as they are taken note of.
pub(crate) struct Miner {
    task: JoinHandle<()>,
}

impl Miner {
    pub(crate) fn start(l1: &Arc<Node>) -> Self {
        let l1 = Arc::clone(l1);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                mine(&l1).await;
            }
        });
        Self { task }
    }

    pub(crate) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const POLL: Duration = Duration::from_millis(20);

pub(crate) fn rpc(url: &str) -> Rpc {
    Rpc::new(url, TIMEOUT, None).expect("a URL")
}

pub(crate) fn ether(amount: u64) -> U256 {
    U256::from(amount) * U256::from(MILLION * MILLION * MILLION)
}

async fn client(genesis: &Genesis) -> Client {
    let config = Config::new(genesis.clone(), Role::Optimism(OptimismRole::new(JWT)));
    let node = Node::start(config).await.expect("an execution client");
    let (rpc, engine) = (node.rpc_url(), node.engine_url().expect("an Engine API"));
    Client { node, rpc, engine }
}

/// Waits until something is so. The bound only ends a test that hangs.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = tokio::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(300), "{what}: not within five minutes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Hashes of all blocks.
pub(crate) fn hashes(client: &Client) -> Vec<B256> {
    let mut block = client.node.head();
    let mut hashes = vec![block.hash];
    while block.header.number > 0 {
        block = client.node.block(&block.header.parent_hash).expect("it is kept");
        hashes.push(block.hash);
    }
    hashes.reverse();
    hashes
}
