//! Is the pool's bound in bytes a bound of memory?
//!
//! Alone in its process, whose resident memory it looks at, so on Linux only.

#![cfg(target_os = "linux")]

use std::{collections::HashMap, sync::Arc};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Signature, TxKind, U256};
use lockstep_protocol::{
    account::AccountRecord,
    bundle::{Bundle, Kind, Leg, Tag, Transaction},
    genesis::{Balance, Format, Genesis, GroupKeyBytes, Rollup},
    ids::{Account, Hash32, Height, NetworkId, RollupId},
    signature::AccountKey,
};
use lockstep_sequencer::pool::{Pool, PoolConfig, StateView};
use secp256k1::{Message, SECP256K1, SecretKey};

const ROLLUPS: [RollupId; 2] = [RollupId(901), RollupId(902)];
const ACCOUNTS: u8 = 24;
const NONCES: u64 = 1_000;
const CREDITS: u64 = 1 << 40;

/// Everybody is rich and nothing is ordered.
struct Rich(HashMap<Account, AccountRecord>);

impl StateView for Rich {
    fn height(&self) -> Height {
        Height(1)
    }

    fn account(&self, account: &Account) -> Option<AccountRecord> {
        self.0.get(account).cloned()
    }

    fn base_fee(&self, _: RollupId) -> Option<u64> {
        Some(1)
    }
}

fn key(number: u8) -> AccountKey {
    AccountKey::ed25519([number + 1; 32])
}

fn transfer(chain: u64) -> Transaction {
    let unsigned = TxEip1559 {
        chain_id: chain,
        gas_limit: 21_000,
        max_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(Address::repeat_byte(0x35)),
        ..TxEip1559::default()
    };
    let key = SecretKey::from_byte_array([1; 32]).expect("one is a scalar");
    let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(unsigned.signature_hash().0), &key);
    let (recovery, compact) = signature.serialize_compact();
    let word = |from: usize| U256::from_be_slice(&compact[from..from + 32]);
    let signature = Signature::new(word(0), word(32), i32::from(recovery) == 1);
    Transaction(TxEnvelope::from(unsigned.into_signed(signature)).encoded_2718())
}

/// Bytes of the second field of `statm`, in pages.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

#[test]
fn what_waits_takes_no_more_memory_than_it_counts_for() {
    let network = NetworkId::from_name("memory");
    let rollup = |id: RollupId| Rollup::new(id, id.to_string(), Format::Eip2718, 1);
    let mut balances: Vec<_> =
        (0..ACCOUNTS).map(|number| Balance { account: key(number).account(), credits: CREDITS }).collect();
    balances.sort_by_key(|balance| balance.account);
    let genesis = Genesis {
        network: "memory".into(),
        timestamp_ms: 1_000,
        group_key: GroupKeyBytes([0; 96]),
        sharing: Vec::new(),
        validators: vec![Hash32([1; 32])],
        rollups: ROLLUPS.map(rollup).to_vec(),
        balances,
        settlement: None,
    };
    let rules = Arc::new(genesis.rules().expect("the genesis is good"));
    let record = |number| {
        let account = key(number).account();
        (account, AccountRecord { balance: CREDITS, ..AccountRecord::new(network, account) })
    };
    let view = Arc::new(Rich((0..ACCOUNTS).map(record).collect()));
    let pool = Pool::new(rules, PoolConfig::default(), view);
    let transfers = ROLLUPS.map(|rollup| transfer(rollup.0));
    let fill = |from: u64, to: u64| {
        for number in 0..ACCOUNTS {
            for nonce in from..to {
                let legs = ROLLUPS.iter().zip(&transfers);
                let bundle = Bundle {
                    network,
                    account: key(number).account(),
                    nonce,
                    tag: Tag::default(),
                    valid_until: Height(1_000),
                    tip: nonce,
                    max_fee: 10_000,
                    legs: legs
                        .map(|(rollup, transfer)| Leg { rollup: *rollup, transactions: vec![transfer.clone()] })
                        .collect(),
                    kind: Kind::Plain,
                };
                pool.submit(bundle.sign(&key(number))).expect("it is good");
            }
        }
    };
    // What the process needs in any case, and the tables that are bounded by themselves.
    fill(0, 100);
    let (bytes, memory) = (pool.usage().bytes, resident());
    fill(100, NONCES);
    let (counted, taken) = (pool.usage().bytes - bytes, resident() - memory);
    let bundles = pool.usage().bundles;
    assert_eq!(bundles, usize::from(ACCOUNTS) * 1_000, "none was evicted");
    let each = |bytes: usize| bytes / (bundles - usize::from(ACCOUNTS) * 100);
    eprintln!("{} bytes of memory for a bundle that counts for {}", each(taken), each(counted));
    assert!(taken <= counted, "{taken} bytes are taken, {counted} are counted");
    assert!(taken * 2 >= counted, "{taken} bytes are taken, {counted} are counted: the pool could hold far more");
}
