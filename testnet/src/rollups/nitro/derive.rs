//! Does L1 alone lead to the blocks that the Nitro-style rollup executed?
//!
//! Reads the inbox's batches from L1 as a node that was never connected to the feed would, executes their messages on a chain of
//! its own, and compares block hashes with the execution client's.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, B256, Bytes};
use anyhow::{Context, Result, ensure};
use lockstep_adapters::{
    arbitrum::{
        Event, decode_blobs, decode_message, decompress, delayed::DelayedMessage, delayed_source::DelayedSource,
        feed::KIND_L2_MESSAGE, inbox::BatchDelivered,
    },
    poster::{Beacon, L1},
};
use lockstep_evm::{Genesis, Node};
use tokio::sync::watch;
use tracing::warn;

use crate::{chain, rollups::status};

/// Pause between two looks at L1.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// How far L1 leads.
#[derive(Clone, Debug, Default)]
pub(super) struct Derived {
    /// The newest block that is the same on both chains.
    pub(super) number: u64,
    /// Bytes of all batches.
    pub(super) bytes: u64,
    /// Transactions in them.
    transactions: u64,
    /// Where the chains part, for good.
    pub(super) disagreement: Option<String>,
    /// What is waited for.
    pub(super) trouble: Option<String>,
}

impl Derived {
    pub(super) fn bytes_per_transaction(&self) -> Option<f64> {
        (self.transactions > 0).then(|| self.bytes as f64 / self.transactions as f64)
    }
}

/// L1, and who keeps its blobs, if it takes any.
pub(super) struct Source {
    pub(super) l1: Arc<L1>,
    pub(super) beacon: Option<Beacon>,
}

/// Derives for as long as somebody listens, or until the chains part.
pub(super) async fn run(
    source: Source,
    inbox: Address,
    deployed_at: u64,
    genesis: Genesis,
    client: String,
    tell: watch::Sender<Derived>,
) {
    while !tell.is_closed() && tell.borrow().disagreement.is_none() {
        // From the beginning after trouble with L1: nothing of an unfinished look stays.
        if let Err(error) = derive(&source, inbox, deployed_at, &genesis, &client, &tell).await {
            warn!(%error, "cannot derive the Nitro-style rollup from L1");
            tell.send_modify(|derived| derived.trouble = Some(format!("{error:#}")));
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

async fn derive(
    source: &Source,
    inbox: Address,
    deployed_at: u64,
    genesis: &Genesis,
    client: &str,
    tell: &watch::Sender<Derived>,
) -> Result<()> {
    let l1 = &source.l1;
    let node = Node::start(chain::derived(genesis.clone())).await?;
    let bridge = inbox;
    let initial = DelayedSource::initial(l1, bridge, deployed_at).await?;
    let mut delayed = DelayedSource::new(l1.clone(), bridge, &initial);
    let mut delayed_next = initial.tip.delayed;
    let mut next = deployed_at;
    tell.send_replace(Derived::default());
    while !tell.is_closed() {
        let latest = l1.latest().await?;
        while next <= latest.number {
            let header = l1.header(next).await?.context("L1 has lost a block")?;
            for log in l1.logs(header.hash, &[inbox]).await? {
                let delivered = BatchDelivered::from_log(&log.topics, &log.data);
                // Batch 0 came with the inbox, and is nothing but the message that initialises the chain: its genesis.
                let Some(delivered) = delivered.filter(|delivered| delivered.sequence > 0) else { continue };
                let data = batch_data(source, header.hash, inbox, delivered.sequence).await?;
                delayed.advance(latest.number, header.number).await?;
                tell.send_modify(|derived| derived.bytes += data.len() as u64);
                for event in decompress(&data)? {
                    let (timestamp, messages) = match event {
                        Event::Message { timestamp, message, .. } => (timestamp, decode_message(&message)?),
                        Event::Delayed => {
                            let message = delayed.inbox().get(delayed_next).context("a delayed message is missing")?;
                            delayed_next += 1;
                            (message.header.timestamp, delayed_transactions(message))
                        }
                    };
                    tell.send_modify(|derived| derived.transactions += messages.len() as u64);
                    let block = chain::execute(&node, timestamp, messages.into_iter().map(Bytes::from)).await?;
                    compare(client, block, tell).await?;
                    if tell.borrow().disagreement.is_some() {
                        return Ok(());
                    }
                }
                ensure!(
                    delayed_next == delivered.delayed_read,
                    "batch {} read other delayed messages",
                    delivered.sequence
                );
            }
            next += 1;
        }
        tell.send_modify(|derived| derived.trouble = None);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Compares a derived block with the execution client's, once that has one of this number.
async fn compare(client: &str, (number, hash): (u64, B256), tell: &watch::Sender<Derived>) -> Result<()> {
    while !tell.is_closed() {
        match status::block_hash(client, number).await {
            Some(found) if found == hash => {
                tell.send_modify(|derived| derived.number = number);
                return Ok(());
            }
            Some(found) => {
                let disagreement = format!("block {number} is {found}, L1 leads to {hash}");
                tell.send_modify(|derived| derived.disagreement = Some(disagreement));
                return Ok(());
            }
            // It is down, or behind.
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
    Ok(())
}

/// What a delayed message makes a node execute.
fn delayed_transactions(message: &DelayedMessage) -> Vec<Vec<u8>> {
    match message.header.kind {
        KIND_L2_MESSAGE => decode_message(&message.content).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// What a poster's call gave to the inbox in this L1 block as batch `sequence`, which is the call's first argument: its blobs, or the
/// second argument of `addSequencerL2BatchFromOrigin`.
async fn batch_data(source: &Source, block: B256, inbox: Address, sequence: u64) -> Result<Vec<u8>> {
    let l1 = &source.l1;
    let block = l1.block(block).await?.context("L1 has lost a block")?;
    for transaction in block.transactions.iter().filter(|transaction| transaction.to == Some(inbox)) {
        let input = &transaction.input;
        let word = |at: usize| -> Option<u64> {
            let word = input.get(at..at.checked_add(32)?)?;
            Some(u64::from_be_bytes(word[24..].try_into().ok()?))
        };
        // Of several posters' calls for the same number, one succeeds.
        if word(4) != Some(sequence) || !l1.receipt(transaction.hash).await?.is_some_and(|receipt| receipt.succeeded()) {
            continue;
        }
        if !transaction.blob_versioned_hashes.is_empty() {
            let beacon = source.beacon.as_ref().context("a batch is in blobs, which nobody keeps here")?;
            let blobs = beacon.blobs(&block.header, &transaction.blob_versioned_hashes).await?;
            return decode_blobs(&blobs).context("a batch's blobs are not ours");
        }
        let read = || -> Option<Vec<u8>> {
            let start = usize::try_from(word(4 + 32)?).ok()?.checked_add(4)?;
            let (length, from) = (usize::try_from(word(start)?).ok()?, start.checked_add(32)?);
            input.get(from..from.checked_add(length)?).map(<[u8]>::to_vec)
        };
        return read().context("a batch's calldata is too short");
    }
    anyhow::bail!("batch {sequence} has no transaction in its L1 block")
}
