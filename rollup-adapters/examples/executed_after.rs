//! How long after the log made a transaction final has its rollup executed it?
//!
//! Watches a testnet that is running: `lockstep-testnet --dir DIR --for 60s`, and beside it
//! `cargo run --release -p lockstep-adapters --example executed_after -- DIR 30`. For each rollup, a follower of its lane notes when it
//! has verified a transaction, and its execution client is asked every few milliseconds for new blocks. What is told is the time between
//! the two, so it is too long by the pause between two questions at most. A block of the OP Stack rollup is made when its time is
//! over, which is most of what its transactions wait.

#![allow(clippy::print_stdout, reason = "figures are for whoever runs this")]

use std::{collections::HashMap, path::Path, time::Duration};

use alloy_primitives::{B256, U64, keccak256};
use lockstep_adapters::{
    feed::{LaneSource, NetworkLane},
    poster::Rpc,
    settings::trust,
};
use lockstep_protocol::ids::RollupId;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

/// Pause between two questions for new blocks.
const POLL: Duration = Duration::from_millis(5);
/// Patience with one question.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The rollups of the testnet, and where their execution clients' files are.
const ROLLUPS: [(u64, &str, &str); 2] = [(901, "OP Stack", "op"), (902, "Nitro", "nitro")];

/// What is read of a validator's file and of a chain's.
#[derive(Deserialize)]
struct Listening {
    rpc: String,
}

#[derive(Deserialize)]
struct Nodes {
    nodes: Vec<String>,
    genesis: std::path::PathBuf,
}

#[derive(Deserialize)]
struct Block {
    transactions: Vec<B256>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: executed_after DIR SECONDS";
    let folder = arguments.next().ok_or(usage)?;
    let seconds: u64 = arguments.next().ok_or(usage)?.parse()?;
    let watched = ROLLUPS.map(|(rollup, stack, files)| {
        let files = Path::new(&folder).join(files);
        tokio::spawn(async move { watch(rollup, stack, &files, seconds).await.map_err(|error| error.to_string()) })
    });
    for watched in watched {
        println!("{}", watched.await??);
    }
    Ok(())
}

async fn watch(rollup: u64, stack: &str, files: &Path, seconds: u64) -> Result<String, Box<dyn std::error::Error>> {
    let chain: Listening = toml::from_str(&std::fs::read_to_string(files.join("chain.toml"))?)?;
    let drive = std::fs::read_to_string(files.join("drive.toml"))?;
    // The OP Stack's file has the log at its top, Nitro's in a section.
    let drive: toml::Table = toml::from_str(&drive)?;
    let drive = drive.get("lane").and_then(toml::Value::as_table).unwrap_or(&drive).clone();
    let log: Nodes = drive.try_into()?;
    let rpc = Rpc::new(&format!("http://{}", chain.rpc), TIMEOUT, None)?;
    let mut lane = NetworkLane::new(trust(&log.genesis)?, log.nodes, RollupId(rollup))?;
    let begin = Instant::now();
    let mut next = rpc.call::<U64>("eth_blockNumber", &[]).await?.to::<u64>() + 1;
    // When each transaction was final, or was executed, if that was seen first.
    let (mut ordered, mut executed) = (HashMap::new(), HashMap::new());
    let mut took: Vec<Duration> = Vec::new();
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut caught_up = false;
    while begin.elapsed() < Duration::from_secs(seconds) {
        tokio::select! {
            block = lane.next() => {
                let (block, now) = (block?, Instant::now());
                for transaction in &block.transactions {
                    let hash = keccak256(transaction);
                    match executed.remove(&hash) {
                        Some(_) if caught_up => took.push(Duration::ZERO),
                        // From before we looked.
                        Some(_) => {}
                        None => drop(ordered.insert(hash, now)),
                    }
                }
            }
            _ = poll.tick() => {
                let head = rpc.call::<U64>("eth_blockNumber", &[]).await?.to::<u64>();
                let now = Instant::now();
                while next <= head {
                    let asked = [json!(U64::from(next)), json!(false)];
                    let block: Block = rpc.call("eth_getBlockByNumber", &asked).await?;
                    for hash in block.transactions {
                        match ordered.remove(&hash) {
                            Some(since) if caught_up => took.push(now - since),
                            Some(_) => {}
                            None => drop(executed.insert(hash, now)),
                        }
                    }
                    next += 1;
                }
                // The lane is read from its beginning: only from then on do both sides tell of the same moment.
                caught_up |= begin.elapsed() > Duration::from_secs(seconds) / 3;
            }
        }
    }
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default().as_millis();
    Ok(format!(
        "rollup {rollup} ({stack}): {} transactions, executed after p50 {} ms, p90 {} ms, p99 {} ms",
        took.len(),
        at(50),
        at(90),
        at(99)
    ))
}
