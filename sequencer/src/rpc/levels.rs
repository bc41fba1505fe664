//! How far have the rollups brought an ordered bundle?
//!
//! Asks the operator's own node of each rollup (`[[rollups]]`): receipts by hash, the tags `safe` and `finalized`, nonces.
//! Only when somebody asks, a bounded number at once, and not again for what was told a moment ago; whoever comes too many is
//! told the order alone. Proves nothing, and neither index nor log waits for it.
//!
//! A rollup's node knows what was posted when it has derived it, which is `safe`. What is `posted` before, posters tell, where the
//! configuration names them: `posters.rs`.

mod ask;
mod posters;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::keccak256;
use futures::{StreamExt, TryStreamExt, stream};
use jsonrpsee_core::{client::ClientT, rpc_params};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_protocol::{
    bundle::Transaction,
    evidence::BundleState,
    ids::{Address20, BundleId, Hash32, RollupId},
    lane::LaneEntry,
    rpc::{BundleStatus, LegStatus, Level, SkippedTransaction},
};
use serde::Deserialize;
use tokio::{sync::Semaphore, time::Instant};
use tracing::debug;

use super::{Service, metrics::LevelsMetrics};
use crate::{
    config::{L1Config, RollupConfig},
    formats::eip2718,
};
use ask::{ANSWER_BYTES_MAX, AskError, quantity};
use posters::Posters;

/// Legs of one rollup that are asked for at once. More are told the order alone.
const LEGS_AT_ONCE: usize = 8;
/// Receipts of one leg that are asked for at once.
const RECEIPTS_AT_ONCE: usize = 8;
/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_000);
/// Longest wait for all that is asked for a leg: callers wait for a bundle's order much longer.
const LEG_TIMEOUT: Duration = Duration::from_millis(3_000);
/// Legs that are remembered: those of some thousand bundles that are looked at again and again.
const REMEMBERED: usize = 8_192;
/// A rollup whose latest block is so much younger than the order has passed it: a batch of another block cannot still hold it.
const PASSED_SECONDS: u64 = 60;

/// What rollups' nodes tell of legs.
pub struct Levels {
    rollups: BTreeMap<RollupId, Rollup>,
}

/// A rollup's node.
struct Rollup {
    client: HttpClient,
    posters: Option<Posters>,
    /// What was told is good for so long.
    fresh: Duration,
    asking: Semaphore,
    tags: tokio::sync::Mutex<Option<(Instant, Tags)>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    legs: HashMap<BundleId, (Instant, Told)>,
    order: VecDeque<BundleId>,
}

/// What was told of a leg.
#[derive(Clone, Debug)]
struct Told {
    level: Level,
    block: Option<u64>,
    skipped: Vec<SkippedTransaction>,
}

/// Where a rollup's node is.
#[derive(Clone, Copy, Debug, Default)]
struct Tags {
    latest_timestamp: u64,
    /// On L1, by the word of its posters.
    posted: Option<u64>,
    safe: Option<u64>,
    finalized: Option<u64>,
}

/// A leg as it was ordered.
pub(super) struct Ordered<'a> {
    /// Of which bundle.
    pub(super) bundle: BundleId,
    /// Its transactions.
    pub(super) transactions: &'a [Transaction],
    /// The block's timestamp, milliseconds.
    pub(super) timestamp_ms: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcBlock {
    number: String,
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcReceipt {
    block_number: Option<String>,
}

/// The status with what rollups' nodes say of its legs. Without their answers it is what it was.
pub(super) async fn with_levels(service: &Service, mut status: BundleStatus) -> BundleStatus {
    let BundleState::Ordered { height, .. } = status.state else { return status };
    let id = status.bundle_id;
    let legs = status.legs.iter_mut().filter(|leg| service.levels.knows(leg.rollup));
    let fill = async |leg: &mut LegStatus| {
        // A block that is pruned was ordered long ago.
        let Ok(item) = service.feed.item(leg.rollup, height).await else { return };
        let item = item.value();
        let place = item.entries.iter().position(|LaneEntry::Leg { bundle, .. }| *bundle == id);
        let Some(transactions) = place.and_then(|place| item.transactions.get(place)) else { return };
        let ordered = Ordered { bundle: id, transactions, timestamp_ms: item.header.timestamp_ms };
        service.levels.fill(leg, &ordered).await;
    };
    futures::future::join_all(legs.map(fill)).await;
    status
}

impl Levels {
    /// Asks the nodes of a checked configuration, and the posters that it names.
    pub fn new(rollups: &[RollupConfig], l1: Option<&L1Config>, metrics: &LevelsMetrics) -> Self {
        let rollup = |config: &RollupConfig| {
            let client = HttpClientBuilder::new()
                .request_timeout(ANSWER_TIMEOUT)
                .max_response_size(ANSWER_BYTES_MAX)
                .build(&config.rpc)
                .ok()?;
            let rollup = Rollup {
                client,
                posters: Posters::new(config, l1, metrics.clone()),
                fresh: Duration::from_millis(config.poll_ms),
                asking: Semaphore::new(LEGS_AT_ONCE),
                tags: tokio::sync::Mutex::new(None),
                known: Mutex::default(),
            };
            Some((config.id, rollup))
        };
        Self { rollups: rollups.iter().filter_map(rollup).collect() }
    }

    /// Whether anybody is there to ask about a rollup.
    pub(super) fn knows(&self, rollup: RollupId) -> bool {
        self.rollups.contains_key(&rollup)
    }

    /// Fills in how far a leg has come. What is not answered in time stays as it is.
    pub(super) async fn fill(&self, leg: &mut LegStatus, ordered: &Ordered<'_>) {
        let Some(rollup) = self.rollups.get(&leg.rollup) else { return };
        let told = match rollup.recall(&ordered.bundle) {
            Some((fresh, told)) if fresh => told,
            stale => {
                let asked = match rollup.asking.try_acquire() {
                    Ok(_permit) => tokio::time::timeout(LEG_TIMEOUT, rollup.ask(leg.rollup, ordered)).await.ok(),
                    Err(_) => None,
                };
                match asked {
                    Some(Ok(told)) => {
                        rollup.remember(ordered.bundle, told.clone());
                        told
                    }
                    failed => {
                        if let Some(Err(error)) = failed {
                            debug!(rollup = %leg.rollup, %error, "the rollup's node does not say how far it is");
                        }
                        let Some((_, told)) = stale else { return };
                        told
                    }
                }
            }
        };
        (leg.level, leg.block, leg.skipped) = (told.level, told.block, told.skipped);
    }
}

impl Rollup {
    async fn ask(&self, id: RollupId, ordered: &Ordered<'_>) -> Result<Told, AskError> {
        let hashes: Vec<_> = ordered.transactions.iter().map(hash).collect();
        let receipts = stream::iter(hashes).map(|hash| self.receipt(hash));
        let blocks: Vec<Option<u64>> = receipts.buffered(RECEIPTS_AT_ONCE).try_collect().await?;
        let tags = self.tags().await?;
        let mut skipped = Vec::new();
        let mut waiting = false;
        for (index, transaction) in
            ordered.transactions.iter().enumerate().filter(|(index, _)| blocks[*index].is_none())
        {
            match self.why_not(id, transaction, ordered.timestamp_ms, &tags).await? {
                Some(reason) => skipped.push(SkippedTransaction { index, reason }),
                None => waiting = true,
            }
        }
        let block = blocks.iter().flatten().max().copied().filter(|_| !waiting);
        let reached = |tag: Option<u64>| block.zip(tag).is_some_and(|(block, tag)| block <= tag);
        let level = match block {
            None => Level::Ordered,
            Some(_) if reached(tags.finalized) => Level::Final,
            Some(_) if reached(tags.safe) => Level::Safe,
            Some(_) if reached(tags.posted) => Level::Posted,
            Some(_) => Level::Executed,
        };
        Ok(Told { level, block, skipped })
    }

    /// The block that executed a transaction.
    async fn receipt(&self, hash: Hash32) -> Result<Option<u64>, AskError> {
        let receipt: Option<RpcReceipt> = self.client.request("eth_getTransactionReceipt", rpc_params![hash]).await?;
        receipt.and_then(|receipt| receipt.block_number).as_deref().map(quantity).transpose()
    }

    /// Why a transaction without a receipt will have none, if that can be told.
    async fn why_not(
        &self,
        id: RollupId,
        transaction: &Transaction,
        timestamp_ms: u64,
        tags: &Tags,
    ) -> Result<Option<String>, AskError> {
        // Another node may have let in what this one would not.
        let Ok(sender) = eip2718::check(&transaction.0, id) else { return Ok(Some("not a transaction".into())) };
        let Ok(decoded) = TxEnvelope::decode_2718_exact(&transaction.0) else { return Ok(None) };
        let next = self.nonce(sender).await?;
        if next > decoded.nonce() {
            // It may have been executed between the two questions.
            let executed = self.receipt(hash(transaction)).await?.is_some();
            return Ok((!executed).then(|| format!("nonce too low: {} is used, the next is {next}", decoded.nonce())));
        }
        if tags.latest_timestamp <= (timestamp_ms / 1_000).saturating_add(PASSED_SECONDS) {
            return Ok(None);
        }
        Ok(Some(if next < decoded.nonce() {
            format!("nonce too high: {}, the next is {next}", decoded.nonce())
        } else {
            "left out: the rollup is past it, most often for insufficient funds or too little gas".into()
        }))
    }

    async fn nonce(&self, account: Address20) -> Result<u64, AskError> {
        let nonce: String = self.client.request("eth_getTransactionCount", rpc_params![account, "latest"]).await?;
        quantity(&nonce)
    }

    /// Where the node is, asked once for all who want to know at the same time.
    async fn tags(&self) -> Result<Tags, AskError> {
        let mut kept = self.tags.lock().await;
        if let Some((at, tags)) = *kept
            && at.elapsed() < self.fresh
        {
            return Ok(tags);
        }
        let latest = self.block("latest").await?;
        // Young chains have no such block, and some nodes answer with an error.
        let number = |block: Result<Option<(u64, u64)>, AskError>| block.ok().flatten().map(|(number, _)| number);
        let posted = async {
            match &self.posters {
                Some(posters) => posters.posted(&self.client).await,
                None => None,
            }
        };
        let (safe, finalized, posted) = tokio::join!(self.block("safe"), self.block("finalized"), posted);
        let (safe, finalized) = (number(safe), number(finalized));
        let latest_timestamp = latest.map_or(0, |(_, timestamp)| timestamp);
        let tags = Tags { latest_timestamp, posted, safe, finalized };
        *kept = Some((Instant::now(), tags));
        Ok(tags)
    }

    async fn block(&self, tag: &str) -> Result<Option<(u64, u64)>, AskError> {
        let block: Option<RpcBlock> = self.client.request("eth_getBlockByNumber", rpc_params![tag, false]).await?;
        block.map(|block| Ok((quantity(&block.number)?, quantity(&block.timestamp)?))).transpose()
    }

    /// What was told of a leg, and whether that still counts. What is final stays.
    fn recall(&self, bundle: &BundleId) -> Option<(bool, Told)> {
        let known = self.known();
        let (at, told) = known.legs.get(bundle)?;
        Some((told.level == Level::Final || at.elapsed() < self.fresh, told.clone()))
    }

    fn remember(&self, bundle: BundleId, told: Told) {
        let mut known = self.known();
        if known.legs.insert(bundle, (Instant::now(), told)).is_none() {
            known.order.push_back(bundle);
        }
        if known.order.len() > REMEMBERED {
            let oldest = known.order.pop_front().expect("there are many");
            known.legs.remove(&oldest);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics while holding the known legs")
    }
}

fn hash(transaction: &Transaction) -> Hash32 {
    Hash32(keccak256(&transaction.0).0)
}

/// Levels of a node that has no rollup's node.
impl Default for Levels {
    fn default() -> Self {
        Self::new(&[], None, &LevelsMetrics::default())
    }
}

#[cfg(test)]
pub(super) mod tests;
