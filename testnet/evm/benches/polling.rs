//! What does it cost a node to be polled by validators, twenty times a second each, while its rollup makes ten blocks a second?
//!
//! Node and pollers share this process, so the CPU time is that of both.

#![allow(clippy::print_stdout, reason = "figures are for whoever runs this")]

use alloy_primitives::{B256, U256};
use jsonrpsee_core::{client::ClientT, params::ArrayParams};
use jsonrpsee_http_client::HttpClientBuilder;
use lockstep_evm::{
    BlockInput, Config, Node, Role, Rollup,
    accounts::{DEV_KEYS, dev_accounts, transfer},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CHAIN: u64 = 902;
const POLLERS: usize = 4;
const POLLS_PER_SECOND: u32 = 20;
const BLOCKS_PER_SECOND: u32 = 10;
const TRANSFERS_PER_BLOCK: u64 = 50;
const SLOTS_PER_PROOF: u64 = 16;
const SECONDS: u32 = 10;
const FOLLOWED: u32 = 2;

#[tokio::main]
async fn main() {
    let ether = U256::from(10).pow(U256::from(20));
    let genesis = lockstep_evm::genesis(CHAIN, 0, &dev_accounts(), ether);
    let role = Role::Rollup(Rollup { base_fee: Some(1), l1_decides: true, ..Rollup::default() });
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { folder: Some(folder.path().to_owned()), ..Config::new(genesis, role) };
    let node = Node::start(config).await.expect("it starts");
    let idle = blocks(&node, 0, FOLLOWED).await;
    let pollers: Vec<_> = (0..POLLERS).map(|_| tokio::spawn(poll(node.rpc_url()))).collect();
    let busy = blocks(&node, BLOCKS_PER_SECOND * FOLLOWED, SECONDS).await;
    let mut took = Vec::new();
    for poller in pollers {
        took.extend(poller.await.expect("it polls"));
    }
    took.sort_unstable();
    let at = |part: usize| took[took.len() * part / 100];
    println!(
        "{} rounds of 6 questions: p50 {:?}, p99 {:?}, slowest {:?}; CPU {idle:.1}% of a core without pollers, {busy:.1}% with",
        took.len(),
        at(50),
        at(99),
        took[took.len() - 1],
    );
    node.stop().await;
}

/// Makes blocks for so many seconds: the process's share of a core meanwhile.
async fn blocks(node: &Node, made: u32, seconds: u32) -> f64 {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / BLOCKS_PER_SECOND);
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    for number in u64::from(made)..u64::from(made + seconds * BLOCKS_PER_SECOND) {
        tick.tick().await;
        let transfers = (0..TRANSFERS_PER_BLOCK)
            .map(|index| transfer(DEV_KEYS[0], CHAIN, number * TRANSFERS_PER_BLOCK + index, dev_accounts()[1], 1));
        let input = BlockInput { timestamp: number / 10, transactions: transfers.collect(), ..BlockInput::default() };
        node.execute_block(input).await.expect("a block");
        node.mark(number, number.saturating_sub(100)).await.expect("marked");
    }
    (cpu_seconds() - cpu) / begun.elapsed().as_secs_f64() * 100.0
}

/// Asks what a watcher of settlements asks, in rounds.
async fn poll(url: String) -> Vec<Duration> {
    let client = HttpClientBuilder::default().build(url).expect("the node's own address");
    let ask = async |method: &str, params: Value| {
        let mut array = ArrayParams::new();
        params.as_array().expect("a list").iter().for_each(|value| array.insert(value).expect("JSON is JSON"));
        client.request::<Value, _>(method, array).await.expect("an answer")
    };
    let mut took = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / POLLS_PER_SECOND);
    let account = dev_accounts()[1];
    let slots: Vec<B256> = (0..SLOTS_PER_PROOF).map(|slot| B256::from(U256::from(slot))).collect();
    for _ in 0..SECONDS * POLLS_PER_SECOND {
        tick.tick().await;
        let begun = Instant::now();
        let mut numbers = Vec::new();
        for tag in ["latest", "safe", "finalized"] {
            numbers.push(ask("eth_getBlockByNumber", json!([tag, false])).await["number"].clone());
        }
        for number in &numbers[1..] {
            ask("eth_getProof", json!([account, slots, number])).await;
        }
        ask("eth_call", json!([{ "to": account }, "latest"])).await;
        took.push(begun.elapsed());
    }
    took
}

/// CPU time of this process so far; nothing where the system does not say.
fn cpu_seconds() -> f64 {
    /// Linux's unit of it for programs (`USER_HZ`).
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // After the state, which is no number: utime and stime are fields 14 and 15 of all.
    fields.get(10..12).map_or(0.0, |times| times.iter().sum::<f64>() / TICKS_PER_SECOND)
}
