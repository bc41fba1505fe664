//! How many transfers a second does a rollup execute, with senders recovered and a state root for every block?
//!
//! In memory and on disk, and beside it what the published trie needs for one root over all accounts from scratch, which is what
//! a node would pay for each block if its trie were not incremental.

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{KECCAK_EMPTY, TrieAccount, root::state_root_unhashed};
use lockstep_evm::{BlockInput, Config, Node, Role, Rollup, accounts};
use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

const CHAIN: u64 = 9;
const START: u64 = 1_700_000_000;
const ACCOUNTS: u64 = 10_000;
const BLOCKS: u64 = 20;
const TRANSFERS: u64 = 1_000;

#[tokio::main]
async fn main() {
    // `cargo test --benches` only wants to know that it runs.
    let blocks = if std::env::args().any(|argument| argument == "--bench") { BLOCKS } else { 1 };
    let keys: Vec<B256> = (0..ACCOUNTS).map(|index| keccak256(index.to_be_bytes())).collect();
    sign_message(keys[0], B256::ZERO).expect("hashes are keys of the curve but for a chance of 2^-128");
    let addresses: Vec<Address> = keys.iter().map(|key| accounts::address_of(*key)).collect();
    // Senders and recipients far apart, so that a block touches twice as many accounts as it has transfers.
    let raw: Vec<Vec<Bytes>> = (0..blocks)
        .map(|block| {
            (0..TRANSFERS)
                .map(|index| {
                    let number = block * TRANSFERS + index;
                    let at = |number: u64| usize::try_from(number % ACCOUNTS).expect("it is small");
                    let to = addresses[at(number * 7_919 + 1)];
                    accounts::transfer(keys[at(number)], CHAIN, number / ACCOUNTS, to, 1)
                })
                .collect()
        })
        .collect();
    let mut out = std::io::stdout();
    let folder = tempfile::tempdir().expect("a folder");
    for (name, folder) in [("in memory", None), ("durable", Some(folder.path()))] {
        let took = run(&addresses, &raw, folder).await;
        #[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
        let rate = (blocks * TRANSFERS) as f64 / took.as_secs_f64();
        writeln!(out, "{name}: {rate:.0} transfers/s, {:.2?} a block of {TRANSFERS}", took / blocks as u32)
            .expect("stdout");
    }
    let account = TrieAccount {
        nonce: 1,
        balance: U256::from(1),
        storage_root: alloy_trie::EMPTY_ROOT_HASH,
        code_hash: KECCAK_EMPTY,
    };
    let start = Instant::now();
    let root = state_root_unhashed(addresses.iter().map(|address| (*address, account)));
    writeln!(out, "one root of {ACCOUNTS} accounts from scratch (alloy-trie): {:.2?} ({root})", start.elapsed())
        .expect("stdout");
}

async fn run(addresses: &[Address], raw: &[Vec<Bytes>], folder: Option<&Path>) -> Duration {
    let rich = U256::from(10).pow(U256::from(20));
    let mut genesis = lockstep_evm::genesis(CHAIN, START, addresses, rich);
    genesis.gas_limit = 1_000_000_000;
    let role =
        Role::Rollup(Rollup { base_fee: Some(1_000_000), beneficiary: Address::repeat_byte(1), l1_decides: false });
    let config = Config { folder: folder.map(Path::to_owned), ..Config::new(genesis, role) };
    let node = Node::start(config).await.expect("it starts");
    let start = Instant::now();
    for (number, transactions) in (1..).zip(raw) {
        let input =
            BlockInput { timestamp: START + number, transactions: transactions.clone(), ..BlockInput::default() };
        let made = node.execute_block(input).await.expect("a block");
        assert_eq!(made.skipped.len(), 0, "{:?}", made.skipped.first());
    }
    let took = start.elapsed();
    node.stop().await;
    took
}
