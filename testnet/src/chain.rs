//! How does one chain of the testnet run: its L1, or a rollup's execution client?
//!
//! A process around the embedded EVM node. An OP Stack client waits for its driver at the Engine API; a Nitro-style one follows
//! its rollup's feed. Decides no order.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use alloy_primitives::{Address, B256, Bytes};
use anyhow::{Context, Result};
use lockstep_adapters::arbitrum::feed::{FeedEvent, Follower, FollowerConfig};
use lockstep_evm::{BlockInput, Config, Genesis, L1, Node, Optimism, Role, Rollup};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::rollups::nitro::finality;

/// Pause after a feed that could not be followed. The follower itself waits longer where nobody listens.
const FEED_PAUSE: Duration = Duration::from_millis(200);
/// What a Nitro-style rollup asks for gas: Arbitrum One's floor, which does not move.
const NITRO_BASE_FEE_WEI: u64 = 10_000_000;

/// A chain's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSettings {
    /// Its first block and what everybody holds in it: JSON, as geth reads it.
    pub genesis: PathBuf,
    /// Where its blocks are kept.
    pub data: PathBuf,
    /// Where its JSON-RPC is served.
    pub rpc: SocketAddr,
    /// Which chain it is.
    pub role: ChainRole,
}

/// Which chain it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum ChainRole {
    /// An L1 with a block every so many milliseconds.
    L1 {
        /// Between two blocks.
        interval_ms: u64,
    },
    /// The execution client of an OP Stack rollup.
    Optimism {
        /// Where its Engine API is served.
        engine: SocketAddr,
        /// The secret of that, 64 hex digits.
        jwt: B256,
    },
    /// A rollup that executes what a Nitro feed tells it, by Ethereum's rules.
    Nitro {
        /// `ws://host:port`.
        feed: String,
        /// L1's JSON-RPC: what it has is safe or final here.
        l1: String,
        /// The rollup's SequencerInbox there.
        inbox: Address,
    },
}

impl ChainSettings {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }
}

/// Runs a chain until `stop` is ready.
pub async fn run(settings: ChainSettings, stop: impl Future<Output = ()>) -> Result<()> {
    let text = std::fs::read_to_string(&settings.genesis)
        .with_context(|| format!("reading {}", settings.genesis.display()))?;
    let genesis: Genesis = serde_json::from_str(&text).context("reading a genesis")?;
    let chain_id = genesis.config.chain_id;
    let role = match &settings.role {
        ChainRole::L1 { interval_ms } => {
            Role::L1(L1 { interval: Some(Duration::from_millis(*interval_ms)), ..L1::default() })
        }
        ChainRole::Optimism { engine, jwt } => Role::Optimism(Optimism { engine: *engine, ..Optimism::new(*jwt) }),
        ChainRole::Nitro { .. } => nitro_rules(),
    };
    let config = Config { rpc: settings.rpc, folder: Some(settings.data), ..Config::new(genesis, role) };
    let node = Node::start(config).await?;
    tokio::pin!(stop);
    match settings.role {
        ChainRole::Nitro { feed, l1, inbox } => tokio::select! {
            ended = follow(&node, FollowerConfig::new(feed, chain_id)) => ended?,
            ended = finality::run(&node, &l1, inbox) => ended?,
            () = stop => {}
        },
        ChainRole::L1 { .. } | ChainRole::Optimism { .. } => stop.await,
    }
    node.stop().await;
    Ok(())
}

/// Makes a block of every message of a feed, for ever. Message `n` is block `n`: Nitro's first message is its genesis.
async fn follow(node: &Node, config: FollowerConfig) -> Result<()> {
    let mut follower = Follower::new(config, node.head().header.number + 1);
    loop {
        match follower.next().await {
            Ok(FeedEvent::Message(message)) => {
                let transactions = message.transactions().unwrap_or_else(|error| {
                    // Nitro makes an empty block of what it cannot read.
                    warn!(number = message.sequence, %error, "a message without transactions");
                    Vec::new()
                });
                execute(node, message.header.timestamp, transactions.into_iter().map(Bytes::from)).await?;
            }
            Ok(FeedEvent::Confirmed(sequence)) => info!(sequence, "L1 has these messages"),
            Err(error) => {
                warn!(%error, next = follower.position(), "cannot follow the feed");
                tokio::time::sleep(FEED_PAUSE).await;
            }
        }
    }
}

/// Makes a block of a message, as every node of the rollup does: what cannot be executed is left out. Number and hash.
pub(crate) async fn execute(
    node: &Node,
    timestamp: u64,
    transactions: impl Iterator<Item = Bytes>,
) -> Result<(u64, B256)> {
    let timestamp = timestamp.max(node.head().header.timestamp);
    let input = BlockInput { timestamp, transactions: transactions.collect(), ..BlockInput::default() };
    let result = node.execute_block(input).await?;
    let number = result.block.header.number;
    for skipped in &result.skipped {
        info!(number, index = skipped.index, hash = %skipped.hash, reason = %skipped.reason, "skipped");
    }
    Ok((number, result.block.hash))
}

/// A chain in memory by the rules of the Nitro-style rollup.
pub(crate) fn derived(genesis: Genesis) -> Config {
    Config::new(genesis, nitro_rules())
}

fn nitro_rules() -> Role {
    Role::Rollup(Rollup { base_fee: Some(NITRO_BASE_FEE_WEI), beneficiary: Address::ZERO, l1_decides: true })
}
