//! A rollup for tests: blocks with real state roots and real proofs, a history that can be left, and a node that serves it.
//!
//! Its contracts are tables that a test writes; there is no virtual machine. Used by unit tests and by simulations.

#[path = "../../protocol/tests/protocol/settlement/trie.rs"]
mod trie;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard},
};

use alloy_primitives::U256;
use jsonrpsee::{
    RpcModule,
    server::{Server, ServerHandle},
    types::ErrorObjectOwned,
};
use lockstep_protocol::{
    ids::{Account, Address20, AssetId, Hash32, RollupId, SettlementId},
    settlement::{
        Claim, Head, LegStatus, Level, Observation, SettlementLeg, Side, Subject,
        config::{Asset, Corridor, Participant, SettlementConfig},
    },
};
use serde_json::{Value, json};

use trie::{Storage, account_proof, storage_proof};

/// What moves in tests.
pub(crate) fn asset() -> AssetId {
    AssetId::from_symbol("USDC")
}

/// A rollup's only escrow.
pub(crate) fn escrow_of(rollup: RollupId) -> Address20 {
    address(0xe0, rollup)
}

/// A rollup's hub.
pub(crate) fn hub_of(rollup: RollupId) -> Address20 {
    address(0x40, rollup)
}

fn address(kind: u8, rollup: RollupId) -> Address20 {
    let mut bytes = [kind; 20];
    bytes[12..].copy_from_slice(&rollup.0.to_be_bytes());
    Address20(bytes)
}

/// A rollup's part in settlements.
pub(crate) fn participant(rollup: RollupId) -> Participant {
    Participant { hub: hub_of(rollup), escrows: vec![escrow_of(rollup)], settled_level: Level::Executed }
}

/// Corridors between all of these rollups, wide enough for every test.
pub(crate) fn settlement_config(rollups: &[RollupId]) -> SettlementConfig {
    let cap = 1 << 40;
    let pairs = rollups.iter().flat_map(|from| rollups.iter().map(move |to| (*from, *to)));
    let corridors = pairs.filter(|(from, to)| from != to).map(|(from, to)| Corridor { from, to, asset: asset(), cap });
    SettlementConfig {
        apply_window: 500,
        assets: vec![Asset { asset: asset(), account_cap: cap }],
        corridors: corridors.collect(),
    }
}

/// A leg that takes `amount` from a venue, or gives it to one.
pub(crate) fn leg(rollup: RollupId, side: Side, amount: u128) -> SettlementLeg {
    let (escrow, account) = (escrow_of(rollup), Address20([0x77; 20]));
    SettlementLeg { rollup, escrow, account, asset: asset(), side, amount, level: Level::Executed }
}

/// What a rollup's contracts hold after a block.
#[derive(Clone, Default)]
pub(crate) struct State {
    /// In the escrow.
    pub(crate) legs: BTreeMap<(SettlementId, u8), LegStatus>,
    /// In the hub.
    pub(crate) deposits: BTreeMap<Account, u64>,
}

struct Block {
    hash: Hash32,
    root: Hash32,
    state: State,
}

/// A rollup as one of its nodes shows it. Its first block is number 0.
pub(crate) struct Rollup {
    pub(crate) id: RollupId,
    blocks: Vec<Block>,
    /// Makes blocks of another history other blocks.
    salt: u64,
    /// Blocks behind the newest at which `safe` and `finalized` stand.
    pub(crate) behind: [u64; 2],
}

impl Rollup {
    pub(crate) fn new(id: RollupId) -> Self {
        let mut rollup = Self { id, blocks: Vec::new(), salt: 0, behind: [2, 4] };
        rollup.mine(|_| {});
        rollup
    }

    /// The newest number.
    pub(crate) fn number(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    /// Makes a block.
    pub(crate) fn mine(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.blocks.last().map(|block| block.state.clone()).unwrap_or_default();
        change(&mut state);
        let number = self.blocks.len() as u64;
        let (root, _) = account_proof(&self.storage(number, &state), hub_of(self.id));
        let parent = self.parent(number);
        let hash = blake3::hash(&[&parent.0[..], &root.0[..], &self.salt.to_be_bytes()].concat());
        self.blocks.push(Block { hash: Hash32(hash.into()), root, state });
    }

    /// Makes a block in which legs come to a status.
    pub(crate) fn set(&mut self, legs: impl IntoIterator<Item = (SettlementId, u8)>, status: LegStatus) {
        self.mine(|state| state.legs.extend(legs.into_iter().map(|leg| (leg, status))));
    }

    /// Leaves the last `depth` blocks, but never the first.
    pub(crate) fn reorg(&mut self, depth: usize) {
        self.blocks.truncate(self.blocks.len().saturating_sub(depth).max(1));
        self.salt += 1;
    }

    /// A head as an honest validator would state it.
    pub(crate) fn head(&self, level: Level, number: u64, incarnation: u32) -> Head {
        let Block { hash, root, .. } = &self.blocks[number as usize];
        Head { rollup: self.id, level, number, block_hash: *hash, state_root: *root, incarnation }
    }

    /// What `eth_getProof` answers about legs in the escrow.
    pub(crate) fn observe(
        &self,
        level: Level,
        number: u64,
        legs: impl IntoIterator<Item = (SettlementId, u8)>,
    ) -> Observation {
        let subjects = legs.into_iter().map(|(settlement, leg)| Subject::Leg { settlement, leg });
        self.show(level, number, escrow_of(self.id), subjects)
    }

    /// What `eth_getProof` answers.
    pub(crate) fn show(
        &self,
        level: Level,
        number: u64,
        contract: Address20,
        subjects: impl IntoIterator<Item = Subject>,
    ) -> Observation {
        let storage = self.storage(number, &self.blocks[number as usize].state);
        let (_, account_proof) = account_proof(&storage, contract);
        let claims = subjects
            .into_iter()
            .map(|subject| Claim { subject, proof: storage_proof(&storage[&contract], &subject.slot()) });
        let mut claims: Vec<_> = claims.collect();
        claims.sort_by_key(|claim| claim.subject);
        Observation { rollup: self.id, level, number, contract, account_proof, claims }
    }

    fn parent(&self, number: u64) -> Hash32 {
        number.checked_sub(1).map_or(Hash32::default(), |before| self.blocks[before as usize].hash)
    }

    fn storage(&self, number: u64, state: &State) -> Storage {
        let legs = state.legs.iter().map(|((settlement, leg), status)| {
            (
                Subject::Leg { settlement: *settlement, leg: *leg }.slot(),
                U256::from(*status as u8) + (U256::from(7) << 8),
            )
        });
        // Every block has a root of its own.
        let own = [(Hash32([2; 32]), U256::from(number + 1)), (Hash32([3; 32]), U256::from(self.salt + 1))];
        let deposits = state.deposits.iter();
        let deposits = deposits.map(|(account, sum)| (Subject::Deposit { account: *account }.slot(), U256::from(*sum)));
        BTreeMap::from([
            (escrow_of(self.id), legs.collect()),
            (hub_of(self.id), deposits.chain(own).collect()),
            (Address20([3; 20]), BTreeMap::new()),
            (Address20([4; 20]), BTreeMap::new()),
        ])
    }

    /// A block as `eth_getBlockByNumber` and `eth_getBlockByHash` describe it.
    fn described(&self, number: u64) -> Value {
        let Some(block) = self.blocks.get(number as usize) else { return Value::Null };
        json!({
            "number": format!("{number:#x}"), "hash": block.hash, "parentHash": self.parent(number),
            "stateRoot": block.root, "timestamp": "0x1", "transactions": [],
        })
    }

    fn named(&self, which: &str) -> Option<u64> {
        let tip = self.number();
        match which {
            "latest" => Some(tip),
            "safe" => Some(tip.saturating_sub(self.behind[0])),
            "finalized" => Some(tip.saturating_sub(self.behind[1])),
            number => u64::from_str_radix(number.strip_prefix("0x")?, 16).ok(),
        }
    }
}

/// A rollup behind a node that is asked over HTTP. Stops when it is dropped.
#[derive(Clone)]
pub(crate) struct Served {
    rollup: Arc<Mutex<Rollup>>,
    pub(crate) url: String,
    server: ServerHandle,
}

impl Served {
    /// Starts a node that shows `rollup`, which several may.
    pub(crate) async fn start(rollup: Arc<Mutex<Rollup>>) -> Self {
        let server = Server::builder().build((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let url = format!("http://{}", server.local_addr().expect("bound"));
        let mut module = RpcModule::new(rollup.clone());
        let no_block = |_| ErrorObjectOwned::owned(-32602, "no such block", None::<()>);
        module
            .register_method("eth_getBlockByNumber", move |params, rollup, _| {
                let (which, _): (String, bool) = params.parse()?;
                let rollup = rollup.lock().expect("kept");
                rollup.named(&which).map(|number| rollup.described(number)).ok_or(()).map_err(no_block)
            })
            .expect("a new name");
        module
            .register_method("eth_getBlockByHash", move |params, rollup, _| {
                let (hash, _): (Hash32, bool) = params.parse()?;
                let rollup = rollup.lock().expect("kept");
                let found = rollup.blocks.iter().position(|block| block.hash == hash);
                Ok::<_, ErrorObjectOwned>(found.map_or(Value::Null, |number| rollup.described(number as u64)))
            })
            .expect("a new name");
        Self { rollup, url, server: server.start(module) }
    }

    /// The rollup.
    pub(crate) fn rollup(&self) -> MutexGuard<'_, Rollup> {
        self.rollup.lock().expect("kept")
    }

    /// Stops the node; the rollup stays.
    pub(crate) fn stop(&self) {
        // Stopped already is stopped.
        let _ = self.server.stop();
    }
}
