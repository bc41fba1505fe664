//! A rollup with the settlement contracts on it: an embedded node, whose blocks are what a test says.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use jsonrpsee_core::client::{ClientT, Error as ClientError};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_adapters::poster::Rpc;
use lockstep_contracts::{
    SolCall, SolInterface,
    abi::{Account, Asset, MarginEscrow, SettlementHub, TestToken},
    deploy::{Addresses, Plan},
};
use lockstep_evm::{BlockInput, Config, Node, Role, Rollup as RollupRole, accounts, genesis};
use lockstep_protocol::{
    genesis::GroupKeyBytes,
    ids::{Address20, AssetId, NetworkId, RollupId, SettlementId},
    settlement::LegStatus,
};
use serde_json::{Value, json};

/// Seconds since the epoch at the rollups' genesis.
const BEGIN: u64 = 1_700_000_000;
/// Pays for deployments; owns escrow and venue.
pub(crate) const DEPLOYER: B256 = accounts::DEV_KEYS[0];
/// Most that a corridor, a leg or a redo may move in these tests.
pub(crate) const PLENTY: u128 = 1 << 80;
/// Gas of a call where nothing else is said.
const GAS: u64 = 5_000_000;

pub(crate) fn asset() -> AssetId {
    AssetId::from_symbol("USDC")
}

pub(crate) fn word(asset: AssetId) -> B256 {
    B256::from(asset.0)
}

/// The traders' keys.
pub(crate) fn trader_key(index: usize) -> B256 {
    accounts::DEV_KEYS[1 + index]
}

pub(crate) fn trader(index: usize) -> Address20 {
    Address20(accounts::address_of(trader_key(index)).into_array())
}

pub(crate) fn deployer() -> Address {
    accounts::address_of(DEPLOYER)
}

/// Where contracts stand on every rollup of these tests.
pub(crate) fn addresses() -> Addresses {
    Addresses::of(deployer(), 0)
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) succeeded: bool,
    pub(crate) gas: u64,
}

/// A rollup with contracts.
pub(crate) struct Venue {
    pub(crate) id: RollupId,
    pub(crate) node: Node,
    pub(crate) at: Addresses,
    client: HttpClient,
    timestamp: u64,
}

impl Venue {
    /// A rollup whose traders have this much margin, and whose pool has this much. Others may pay in from `others`.
    pub(crate) async fn new(
        id: u64,
        network: NetworkId,
        group_key: &GroupKeyBytes,
        others: &[u64],
        margin: u128,
        inventory: u128,
    ) -> Self {
        let rich = U256::from(10).pow(U256::from(22));
        let first = genesis(id, BEGIN, &accounts::dev_accounts(), rich);
        let role = Role::Rollup(RollupRole { base_fee: None, ..RollupRole::default() });
        let node = Node::start(Config::new(first, role)).await.expect("a node");
        let client = HttpClientBuilder::new().build(node.rpc_url()).expect("a client");
        let mut venue = Self { id: RollupId(id), node, at: addresses(), client, timestamp: BEGIN };
        let plan = Plan {
            deployer: deployer(),
            nonce: 0,
            network,
            group_key: *group_key,
            treasury: Address::repeat_byte(0x7e),
            asset: asset(),
            symbol: "USDC".into(),
            decimals: 6,
            price: U256::from(2_000_000_000_u64),
            oracle: deployer(),
            max_leg: PLENTY,
            redo_budget: PLENTY,
            corridors: others.iter().map(|other| (RollupId(*other), PLENTY)).collect(),
            inventory,
            house: 0,
            deposits: (0..3).map(|index| (Address::from(trader(index).0), margin)).collect(),
        };
        assert_eq!(plan.addresses(), venue.at);
        for (nonce, step) in (0..).zip(plan.steps().expect("a group key")) {
            let raw = venue.sign_any(DEPLOYER, nonce, step.to, step.input.to_vec(), step.gas);
            let done = venue.block(vec![raw]).await;
            assert!(done[0].succeeded, "{}: {done:?}", step.what);
        }
        venue
    }

    pub(crate) fn rpc(&self) -> Rpc {
        Rpc::new(&self.node.rpc_url(), Duration::from_secs(10), None).expect("a URL")
    }

    /// A signed transaction, with a fee that no base fee of these tests reaches.
    fn sign_any(&self, key: B256, nonce: u64, to: Option<Address>, input: Vec<u8>, gas: u64) -> Bytes {
        let transaction = alloy_consensus::TxEip1559 {
            chain_id: self.id.0,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: 1_000_000_000_000,
            max_priority_fee_per_gas: 1,
            to: to.into(),
            input: input.into(),
            ..Default::default()
        };
        accounts::sign(transaction, key)
    }

    pub(crate) fn nonce(&self, key: B256) -> u64 {
        self.node.state().nonce(accounts::address_of(key))
    }

    /// A transaction with its sender's next nonce.
    pub(crate) fn sign(&self, key: B256, to: Address, input: Vec<u8>) -> Bytes {
        self.sign_any(key, self.nonce(key), Some(to), input, GAS)
    }

    /// The creation of a contract.
    pub(crate) fn create(&self, key: B256, code: Bytes) -> Bytes {
        self.sign_any(key, self.nonce(key), None, code.to_vec(), lockstep_contracts::deploy::CREATE_GAS)
    }

    /// A block of exactly these, and what became of those that were not left out.
    pub(crate) async fn block(&mut self, transactions: Vec<Bytes>) -> Vec<Done> {
        self.timestamp += 1;
        let input = BlockInput { timestamp: self.timestamp, transactions, ..BlockInput::default() };
        let result = self.node.execute_block(input).await.expect("a block");
        let receipts = result.block.receipts.iter();
        receipts.map(|receipt| Done { succeeded: receipt.envelope.status(), gas: receipt.gas_used }).collect()
    }

    /// Takes the last `depth` blocks back, and makes one of `transactions` in their place.
    pub(crate) async fn leave(&mut self, depth: u64, transactions: Vec<Bytes>) {
        let mut parent = self.node.head();
        for _ in 0..depth {
            parent = self.node.block(&parent.header.parent_hash).expect("it is kept");
        }
        self.timestamp += 1;
        let input =
            BlockInput { timestamp: self.timestamp, transactions, parent: Some(parent.hash), ..BlockInput::default() };
        self.node.execute_block(input).await.expect("a block");
    }

    /// One call in a block of its own.
    pub(crate) async fn send(&mut self, key: B256, to: Address, input: Vec<u8>) -> Done {
        let raw = self.sign(key, to, input);
        self.block(vec![raw]).await[0]
    }

    /// What a call would say: its answer, or what it reverts with.
    pub(crate) async fn ask(&self, from: Address, to: Address, input: &[u8]) -> Result<Bytes, Bytes> {
        let call = json!({ "from": from, "to": to, "input": Bytes::copy_from_slice(input), "gas": "0x7a1200" });
        let answer: Result<Bytes, _> =
            self.client.request("eth_call", jsonrpsee_core::rpc_params![call, Value::from("latest")]).await;
        match answer {
            Ok(bytes) => Ok(bytes),
            Err(ClientError::Call(error)) => {
                let data = error.data().map(|data| data.get()).unwrap_or("\"0x\"");
                Err(serde_json::from_str(data).expect("revert data is hexadecimal"))
            }
            Err(error) => panic!("the node does not answer: {error}"),
        }
    }

    async fn view<C: SolCall>(&self, to: Address, call: C) -> C::Return {
        let answer = self.ask(Address::ZERO, to, &call.abi_encode()).await.expect("a view does not revert");
        C::abi_decode_returns(&answer).expect("it answers as declared")
    }

    /// The error that the hub gives for this call, and the proof that a transaction with it changes nothing.
    pub(crate) async fn hub_refuses(&mut self, input: Vec<u8>) -> SettlementHub::SettlementHubErrors {
        let data = self.ask(deployer(), self.at.hub, &input).await.expect_err("the hub refuses");
        let before = self.node.state().storage_root(self.at.hub);
        assert!(!self.send(DEPLOYER, self.at.hub, input).await.succeeded);
        assert_eq!(self.node.state().storage_root(self.at.hub), before);
        SettlementHub::SettlementHubErrors::abi_decode(&data).expect("a named error")
    }

    pub(crate) async fn hub_sequence(&self) -> u64 {
        self.view(self.at.hub, SettlementHub::decisionSequenceCall {}).await
    }

    pub(crate) async fn outcome(&self, sid: SettlementId) -> u8 {
        self.view(self.at.hub, SettlementHub::outcomeOfCall { sid: B256::from(sid.0) }).await
    }

    pub(crate) async fn leg_word(&self, sid: SettlementId, leg: u8) -> U256 {
        self.view(self.at.escrow, MarginEscrow::legWordCall { sid: B256::from(sid.0), legIndex: leg }).await
    }

    pub(crate) async fn leg(&self, sid: SettlementId, leg: u8) -> LegStatus {
        LegStatus::of(self.leg_word(sid, leg).await).expect("a status")
    }

    pub(crate) async fn account(&self, account: Address20, asset: AssetId) -> Account {
        let account = Address::from(account.0);
        self.view(self.at.escrow, MarginEscrow::accountOfCall { account, asset: word(asset) }).await
    }

    pub(crate) async fn books(&self, asset: AssetId) -> Asset {
        self.view(self.at.escrow, MarginEscrow::assetOfCall { asset: word(asset) }).await
    }

    pub(crate) async fn tokens(&self, token: Address) -> u128 {
        self.view(token, TestToken::balanceOfCall { account: self.at.escrow }).await.to()
    }

    /// S5: what the books hold is what the escrow holds and is owed.
    pub(crate) async fn assert_balanced(&self, token: Address, asset: AssetId) {
        let books = self.books(asset).await;
        let mut booked = books.inventory + books.owed + books.reserved;
        for index in 0..3 {
            let account = self.account(trader(index), asset).await;
            booked += account.free.to::<u128>() + account.inFlight.to::<u128>();
        }
        assert_eq!(booked, self.tokens(token).await + books.owed, "S5 on rollup {}", self.id);
    }
}

/// A number that follows from others; not for secrets.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 += 1;
        let hash = keccak256(self.0.to_be_bytes().repeat(4));
        self.0 = self.0.rotate_left(17) ^ u64::from_be_bytes(hash[..8].try_into().expect("eight bytes"));
        u64::from_be_bytes(hash[8..16].try_into().expect("eight bytes")) % bound
    }
}
