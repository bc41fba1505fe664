//! What the unit tests of this crate share: a small network, funded accounts, a state to look at, and bundles of really
//! signed transactions.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Signature, TxKind, U256};
use lockstep_protocol::{
    account::AccountRecord,
    bundle::{Bundle, Cancel, Kind, Leg, NonceRange, SignedBundle, SignedCancel, Tag, Transaction},
    genesis::{Balance, Format, Genesis, GroupKeyBytes, Rollup, Rules},
    ids::{Account, Hash32, Height, NetworkId, RollupId},
    limits::{MAX_LEG_BYTES, MAX_TRANSACTION_BYTES},
    signature::AccountKey,
};
use secp256k1::{Message, SECP256K1, SecretKey};

use crate::pool::{Pool, PoolConfig, StateView};

pub(crate) const ROLLUP_A: RollupId = RollupId(901);
pub(crate) const ROLLUP_B: RollupId = RollupId(902);
pub(crate) const ACCOUNTS: u8 = 8;
pub(crate) const CREDITS: u64 = 1_000_000;
/// What every bundle of `bundle` may cost. It has about 270 bytes of legs, and base fees are 1.
pub(crate) const MAX_FEE: u64 = 10_000;

pub(crate) fn network() -> NetworkId {
    NetworkId::from_name("test")
}

pub(crate) fn key(number: u8) -> AccountKey {
    AccountKey::ed25519([number + 1; 32])
}

pub(crate) fn account(number: u8) -> Account {
    key(number).account()
}

pub(crate) fn genesis() -> Genesis {
    let mut balances: Vec<_> =
        (0..ACCOUNTS).map(|number| Balance { account: account(number), credits: CREDITS }).collect();
    balances.sort_by_key(|balance| balance.account);
    let rollup = |id: RollupId| Rollup::new(id, id.to_string(), Format::Eip2718, 1);
    Genesis {
        network: "test".into(),
        timestamp_ms: 1_000,
        group_key: GroupKeyBytes([0; 96]),
        sharing: Vec::new(),
        validators: vec![Hash32([1; 32])],
        rollups: vec![rollup(ROLLUP_A), rollup(ROLLUP_B)],
        balances,
        settlement: None,
    }
}

pub(crate) fn rules() -> Rules {
    genesis().rules().expect("the genesis of the tests is good")
}

/// A transfer on `chain`, signed by the key of all ones.
pub(crate) fn transaction(chain: u64, nonce: u64) -> Transaction {
    call(chain, nonce, 0)
}

fn call(chain: u64, nonce: u64, input_bytes: usize) -> Transaction {
    let unsigned = TxEip1559 {
        chain_id: chain,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 1_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to: TxKind::Call(Address::repeat_byte(0x35)),
        value: U256::from(1),
        input: vec![1; input_bytes].into(),
        ..TxEip1559::default()
    };
    let signature = sign(&unsigned.signature_hash());
    Transaction(TxEnvelope::from(unsigned.into_signed(signature)).encoded_2718())
}

pub(crate) fn transaction_key() -> SecretKey {
    SecretKey::from_byte_array([1; 32]).expect("one is a scalar")
}

pub(crate) fn sign(hash: &B256) -> Signature {
    let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &transaction_key());
    let (recovery, compact) = signature.serialize_compact();
    let word = |from: usize| U256::from_be_slice(&compact[from..from + 32]);
    Signature::new(word(0), word(32), i32::from(recovery) == 1)
}

/// A good bundle of two legs.
pub(crate) fn bundle(number: u8, nonce: u64, tip: u64) -> Bundle {
    let leg = |rollup: RollupId| Leg { rollup, transactions: vec![transaction(rollup.0, nonce)] };
    Bundle {
        network: network(),
        account: account(number),
        nonce,
        tag: Tag::default(),
        valid_until: Height(1_000),
        tip,
        max_fee: MAX_FEE,
        legs: vec![leg(ROLLUP_A), leg(ROLLUP_B)],
        kind: Kind::Plain,
    }
}

/// A good bundle with as many bytes as may be: in each of two legs the largest transaction, and small ones.
pub(crate) fn largest(number: u8, nonce: u64) -> Bundle {
    let leg = |rollup: RollupId| {
        // What stands around the input: found by encoding.
        let around = call(rollup.0, 0, MAX_TRANSACTION_BYTES - 256).0.len() - (MAX_TRANSACTION_BYTES - 256);
        let mut leg = Leg { rollup, transactions: vec![call(rollup.0, 0, MAX_TRANSACTION_BYTES - around)] };
        while leg.bytes() + transaction(rollup.0, 0).0.len() as u64 + 8 <= MAX_LEG_BYTES as u64 {
            leg.transactions.push(transaction(rollup.0, leg.transactions.len() as u64));
        }
        leg
    };
    Bundle { legs: vec![leg(ROLLUP_A), leg(ROLLUP_B)], max_fee: 400_000, ..bundle(number, nonce, 0) }
}

pub(crate) fn signed(number: u8, nonce: u64, tip: u64) -> SignedBundle {
    bundle(number, nonce, tip).sign(&key(number))
}

pub(crate) fn cancel(number: u8, first: u64, last: u64) -> SignedCancel {
    let nonces = NonceRange { first, last };
    Cancel { network: network(), account: account(number), nonces }.sign(&key(number))
}

/// A state that a test writes.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) height: Height,
    pub(crate) records: HashMap<Account, AccountRecord>,
    pub(crate) base_fees: BTreeMap<RollupId, u64>,
}

#[derive(Default)]
pub(crate) struct View(pub(crate) Mutex<State>);

impl View {
    /// The state after block 1: all accounts are funded.
    pub(crate) fn funded() -> Arc<Self> {
        let record = |number| AccountRecord { balance: CREDITS, ..AccountRecord::new(network(), account(number)) };
        let records = (0..ACCOUNTS).map(|number| (account(number), record(number))).collect();
        Arc::new(Self(Mutex::new(State { height: Height(1), records, base_fees: BTreeMap::new() })))
    }

    /// Changes an account's record.
    pub(crate) fn change(&self, number: u8, change: impl FnOnce(&mut AccountRecord)) {
        change(self.0.lock().unwrap().records.get_mut(&account(number)).unwrap());
    }

    pub(crate) fn use_nonce(&self, number: u8, nonce: u64) {
        self.change(number, |record| record.nonces.consume(nonce).unwrap());
    }

    pub(crate) fn set_height(&self, height: u64) {
        self.0.lock().unwrap().height = Height(height);
    }

    pub(crate) fn set_base_fee(&self, rollup: RollupId, base_fee: u64) {
        self.0.lock().unwrap().base_fees.insert(rollup, base_fee);
    }
}

impl StateView for View {
    fn height(&self) -> Height {
        self.0.lock().unwrap().height
    }

    fn account(&self, account: &Account) -> Option<AccountRecord> {
        self.0.lock().unwrap().records.get(account).cloned()
    }

    fn base_fee(&self, rollup: RollupId) -> Option<u64> {
        self.0.lock().unwrap().base_fees.get(&rollup).copied()
    }
}

pub(crate) fn pool(view: &Arc<View>) -> Arc<Pool> {
    pool_with(view, PoolConfig::default())
}

pub(crate) fn pool_with(view: &Arc<View>, config: PoolConfig) -> Arc<Pool> {
    Pool::new(Arc::new(rules()), config, view.clone())
}
