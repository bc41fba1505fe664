//! A rollup with the real contracts, on the embedded node.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, I256, Signature, TxKind, U256};
use jsonrpsee_core::{client::ClientT, params::ArrayParams};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_contracts::{
    SolCall,
    abi::ReferenceVenue,
    deploy::{Addresses, Plan},
};
use lockstep_evm::{Config, L1, Node, Role, genesis};
use lockstep_sdk::{
    protocol::{
        hex,
        ids::{Address20, RollupId},
    },
    transfer::{Venue, Wallet},
};
use secp256k1::{Message, SECP256K1, SecretKey};
use serde_json::{Value, json};

use crate::{
    settling::{ASSET, settling_genesis},
    world::ROLLUPS,
};

/// What the trader's account holds at each venue, and what each pool has.
pub(crate) const MARGIN: u128 = 300;
pub(crate) const INVENTORY: u128 = 350;
/// Most that one leg may move, and that may come in from the other rollup.
pub(crate) const MAX_LEG: u128 = 10_000;
pub(crate) const CORRIDOR: u128 = 320;

const DEPLOYER: [u8; 32] = [0xde; 32];
const TRADER: [u8; 32] = [0x7a; 32];

/// Where the contracts are, on every rollup of the tests.
pub(crate) fn addresses() -> Addresses {
    Addresses::of(of(&wallet(DEPLOYER)), 0)
}

/// Who has margin.
pub(crate) fn trader() -> Wallet {
    wallet(TRADER)
}

/// Who has nothing, not even gas.
pub(crate) fn pauper() -> Wallet {
    wallet([0x9a; 32])
}

fn wallet(secret: [u8; 32]) -> Wallet {
    Wallet::new(secret).expect("a scalar")
}

fn of(wallet: &Wallet) -> Address {
    Address::from(wallet.address().0)
}

pub(crate) struct Rollup {
    id: RollupId,
    node: Node,
    rpc: HttpClient,
}

impl Rollup {
    /// Both rollups of the tests.
    pub(crate) async fn pair() -> [Self; 2] {
        let [a, b] = ROLLUPS;
        [Self::start(a, b).await, Self::start(b, a).await]
    }

    async fn start(id: RollupId, other: RollupId) -> Self {
        let rich = U256::from(10).pow(U256::from(20));
        let funded = [DEPLOYER, TRADER].map(|secret| of(&wallet(secret)));
        // A block for every transaction.
        let role = Role::L1(L1 { interval: None, instant: true, ..L1::default() });
        let node = Node::start(Config::new(genesis(id.0, 0, &funded, rich), role)).await.expect("a node");
        let rpc = HttpClientBuilder::default().build(node.rpc_url()).expect("its address");
        let rollup = Self { id, node, rpc };
        let log = settling_genesis();
        let plan = Plan {
            deployer: funded[0],
            nonce: 0,
            network: log.network_id(),
            group_key: log.group_key,
            treasury: funded[0],
            asset: ASSET,
            symbol: "TST".into(),
            decimals: 6,
            price: U256::from(1_000_000),
            oracle: funded[0],
            max_leg: MAX_LEG,
            redo_budget: MAX_LEG,
            corridors: vec![(other, CORRIDOR)],
            inventory: INVENTORY,
            house: 1_000,
            deposits: vec![(funded[1], MARGIN)],
        };
        for (nonce, step) in (0..).zip(plan.steps().expect("a good key")) {
            rollup.transact(DEPLOYER, nonce, step.to, step.input.to_vec(), step.gas).await;
        }
        rollup
    }

    pub(crate) fn venue(&self) -> Venue {
        let escrow = Address20(addresses().escrow.0.0);
        Venue::new(self.id, escrow, &self.node.rpc_url()).expect("a URL")
    }

    /// A venue at which there is no contract.
    pub(crate) fn no_venue(&self) -> Venue {
        Venue::new(self.id, Address20([9; 20]), &self.node.rpc_url()).expect("a URL")
    }

    /// The trader takes a position that leaves it 80 of its margin to move.
    pub(crate) async fn trade(&self) {
        let trade = ReferenceVenue::tradeCall { change: I256::try_from(POSITION).expect("small") };
        self.transact(TRADER, 0, Some(addresses().venue), trade.abi_encode(), 1_000_000).await;
    }

    /// Calls the hub, as anybody may.
    pub(crate) async fn call_hub(&self, input: Vec<u8>) {
        let nonce = self.ask("eth_getTransactionCount", json!([of(&wallet(DEPLOYER)), "latest"])).await;
        let nonce = u64::from_str_radix(nonce.as_str().expect("text").trim_start_matches("0x"), 16).expect("a number");
        self.transact(DEPLOYER, nonce, Some(addresses().hub), input, 5_000_000).await;
    }

    async fn transact(&self, secret: [u8; 32], nonce: u64, to: Option<Address>, input: Vec<u8>, gas: u64) {
        let transaction = TxEip1559 {
            chain_id: self.id.0,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: 10_000_000_000,
            max_priority_fee_per_gas: 1,
            to: to.map_or(TxKind::Create, TxKind::Call),
            input: input.into(),
            ..TxEip1559::default()
        };
        self.send(&signed(transaction, secret)).await;
    }

    /// Has a transaction executed, which must not revert.
    pub(crate) async fn send(&self, raw: &[u8]) {
        let hash = self.ask("eth_sendRawTransaction", json!([hex::encode(raw)])).await;
        loop {
            let receipt = self.ask("eth_getTransactionReceipt", json!([hash])).await;
            if !receipt.is_null() {
                assert_eq!(receipt["status"], "0x1", "{receipt}");
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let mut array = ArrayParams::new();
        for value in params.as_array().expect("a list") {
            array.insert(value).expect("JSON");
        }
        self.rpc.request(method, array).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }
}

/// Worth 2,000 at the venue's price, of which a tenth and a hundredth must stay.
const POSITION: i64 = 2_000_000_000_000_000;

fn signed(transaction: TxEip1559, secret: [u8; 32]) -> Vec<u8> {
    let key = SecretKey::from_byte_array(secret).expect("a scalar");
    let message = Message::from_digest(transaction.signature_hash().0);
    let (recovery, bytes) = SECP256K1.sign_ecdsa_recoverable(message, &key).serialize_compact();
    let signature = Signature::from_bytes_and_parity(&bytes, i32::from(recovery) == 1);
    transaction.into_signed(signature).encoded_2718()
}
