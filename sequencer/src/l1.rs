//! What has this validator itself seen of L1?
//!
//! Follows an L1 node's newest blocks by standard JSON-RPC. A leader offers a block that everybody has had time to see; a
//! voter abstains from one that it has not seen. Proves nothing about L1: the quorum's eyes are what an origin rests on.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicI64, AtomicU64},
    },
    time::{Duration, Instant},
};

use jsonrpsee_core::{ClientError, client::ClientT, rpc_params};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_protocol::{header::L1Origin, ids::Hash32};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use serde::Deserialize;
use tracing::{info, warn};

use crate::config::L1Config;

/// Blocks remembered: a quarter of an hour and more of any L1, far beyond what an honest leader lags.
const BLOCKS_MAX: usize = 128;
/// How long the others are given to see a block before it is offered: two looks at the default pace.
const SEEN_BY_ALL: Duration = Duration::from_millis(2_000);
/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(5_000);
/// Largest answer that is read: a block without its transactions' bodies, at their greatest number.
const ANSWER_BYTES_MAX: u32 = 1024 * 1024;

/// What was seen of L1. Without a node to look at ([`follow`](Self::follow)) nothing is ever seen, and no origin moves.
#[derive(Debug, Default)]
pub struct L1View {
    seen: Mutex<Seen>,
    metrics: L1Metrics,
}

#[derive(Debug, Default)]
struct Seen {
    /// By number, a chain without gaps.
    blocks: BTreeMap<u64, (L1Origin, Instant)>,
    /// Blocks that an origin stays behind the newest.
    depth: u64,
    /// The origin of the last final block: a quorum has seen it.
    agreed: L1Origin,
}

/// What is counted of L1.
#[derive(Debug, Default)]
pub struct L1Metrics {
    height: Gauge<i64, AtomicI64>,
    failures: Counter<u64, AtomicU64>,
    reorganised: Counter<u64, AtomicU64>,
}

/// A block as `eth_getBlockByNumber` and `eth_getBlockByHash` describe it. Quantities are hex without leading zeros.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcBlock {
    number: String,
    hash: Hash32,
    parent_hash: Hash32,
    timestamp: String,
}

/// Why a look at L1 told nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Rpc(#[from] ClientError),
    #[error("it has no block {0}")]
    NoBlock(String),
    #[error("{0} is not a quantity")]
    Quantity(String),
    #[error("block {child} does not follow the block that it names as its parent")]
    Broken { child: u64 },
}

impl L1View {
    /// The block to offer as the next origin; the default if there is none.
    pub fn offer(&self) -> L1Origin {
        let seen = self.seen();
        let Some((newest, _)) = seen.blocks.last_key_value() else { return L1Origin::default() };
        let deep = newest.saturating_sub(seen.depth);
        let old = |(_, (_, at)): &(&u64, &(L1Origin, Instant))| at.elapsed() >= SEEN_BY_ALL;
        seen.blocks.range(..=deep).rev().find(old).map(|(_, (origin, _))| *origin).unwrap_or_default()
    }

    /// Whether this validator can vouch for an origin: it is the agreed one, or a block that it has seen.
    pub fn has_seen(&self, origin: &L1Origin) -> bool {
        let seen = self.seen();
        *origin == seen.agreed || seen.blocks.get(&origin.number).is_some_and(|(known, _)| known == origin)
    }

    /// Notes the origin of a final block.
    pub fn agree(&self, origin: L1Origin) {
        let mut seen = self.seen();
        if origin.number >= seen.agreed.number {
            seen.agreed = origin;
        }
    }

    /// Looks at L1 for as long as it is polled. An L1 that does not answer is asked again: until it does, this validator offers
    /// nothing new, and votes for nothing that it has not seen.
    pub async fn follow(&self, config: &L1Config) {
        self.seen().depth = config.confirmations;
        let client = HttpClientBuilder::new()
            .request_timeout(ANSWER_TIMEOUT)
            .max_response_size(ANSWER_BYTES_MAX)
            .build(&config.url)
            .expect("a checked configuration has a URL that a client can be made for");
        let mut looks = tokio::time::interval(Duration::from_millis(config.poll_ms));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            looks.tick().await;
            match self.look(&client).await {
                Ok(()) if failing => {
                    failing = false;
                    info!(url = config.url, "L1 answers again");
                }
                Ok(()) => {}
                Err(error) => {
                    self.metrics.failures.inc();
                    if !std::mem::replace(&mut failing, true) {
                        warn!(url = config.url, %error, "cannot look at L1: this validator moves no origin until it answers");
                    }
                }
            }
        }
    }

    /// Its numbers.
    pub fn metrics(&self) -> &L1Metrics {
        &self.metrics
    }

    /// Learns the newest block, and those between it and what is known.
    async fn look(&self, client: &HttpClient) -> Result<(), LookError> {
        let newest = block(client, "eth_getBlockByNumber", "latest").await?;
        let mut fresh = vec![newest];
        let wanted = if self.seen().blocks.is_empty() { self.seen().depth as usize + 1 } else { BLOCKS_MAX };
        while let Some((child, parent)) = fresh.last().copied().filter(|(child, _)| child.number > 0)
            && fresh.len() < wanted.min(BLOCKS_MAX)
            && !self.is_known(child.number - 1, &parent)
        {
            let next = block(client, "eth_getBlockByHash", &parent.to_string()).await?;
            if next.0.number.checked_add(1) != Some(child.number) || next.0.hash != parent {
                return Err(LookError::Broken { child: child.number });
            }
            fresh.push(next);
        }
        self.learn(fresh.into_iter().map(|(origin, _)| origin));
        Ok(())
    }

    fn is_known(&self, number: u64, hash: &Hash32) -> bool {
        self.seen().blocks.get(&number).is_some_and(|(origin, _)| origin.hash == *hash)
    }

    /// Takes blocks from the newest down to where they meet what is known, if they do.
    fn learn(&self, fresh: impl DoubleEndedIterator<Item = L1Origin>) {
        let mut seen = self.seen();
        let mut fresh = fresh.rev().peekable();
        let Some(first) = fresh.peek().map(|origin| origin.number) else { return };
        let gone = seen.blocks.split_off(&first);
        if first.checked_sub(1).is_none_or(|before| !seen.blocks.contains_key(&before)) {
            // A gap: what is below it could no longer be told to be of the same chain.
            seen.blocks.clear();
        }
        let now = Instant::now();
        for origin in fresh {
            // A block keeps the time at which it was first seen.
            let at = gone.get(&origin.number).filter(|(known, _)| *known == origin).map_or(now, |(_, at)| *at);
            seen.blocks.insert(origin.number, (origin, at));
        }
        if gone.iter().any(|(number, (origin, _))| seen.blocks.get(number).is_none_or(|(known, _)| known != origin)) {
            self.metrics.reorganised.inc();
        }
        while seen.blocks.len() > BLOCKS_MAX {
            seen.blocks.pop_first();
        }
        let newest = seen.blocks.last_key_value().map_or(0, |(number, _)| *number);
        self.metrics.height.set(i64::try_from(newest).unwrap_or(i64::MAX));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder of what was seen panics")
    }
}

impl L1Metrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("l1");
        registry.register("height", "The newest L1 block seen", self.height.clone());
        registry.register("failures", "Looks at L1 that told nothing", self.failures.clone());
        registry.register("reorganised", "Looks that found seen blocks replaced", self.reorganised.clone());
    }
}

/// A block and its parent's hash.
async fn block(client: &HttpClient, method: &str, which: &str) -> Result<(L1Origin, Hash32), LookError> {
    let found: Option<RpcBlock> = client.request(method, rpc_params![which, false]).await?;
    let found = found.ok_or_else(|| LookError::NoBlock(which.to_owned()))?;
    let (number, timestamp) = (quantity(&found.number)?, quantity(&found.timestamp)?);
    Ok((L1Origin { number, hash: found.hash, timestamp }, found.parent_hash))
}

fn quantity(text: &str) -> Result<u64, LookError> {
    let digits = text.strip_prefix("0x").ok_or_else(|| LookError::Quantity(text.to_owned()))?;
    u64::from_str_radix(digits, 16).map_err(|_| LookError::Quantity(text.to_owned()))
}

#[cfg(test)]
mod tests;
