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
    pub(super) inbox: Address,
    /// The L1 block that the inbox was created in.
    pub(super) deployed_at: u64,
}

/// Derives for as long as somebody listens, or until the chains part. An L1 that does not answer is waited for.
pub(super) async fn run(source: Source, genesis: Genesis, client: String, tell: watch::Sender<Derived>) {
    let mut derivation = None;
    while !tell.is_closed() && tell.borrow().disagreement.is_none() {
        let step = async {
            let derivation = match &mut derivation {
                Some(derivation) => derivation,
                none => none.insert(Derivation::begin(&source, &genesis).await?),
            };
            derivation.follow(&source, &client, &tell).await
        };
        let trouble = step.await.err().map(|error| format!("{error:#}"));
        if let Some(trouble) = trouble.as_ref().filter(|_| tell.borrow().trouble.is_none()) {
            warn!(trouble, "cannot derive the Nitro-style rollup from L1");
        }
        tell.send_if_modified(|derived| std::mem::replace(&mut derived.trouble, trouble.clone()) != trouble);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What L1 has led to so far.
struct Derivation {
    node: Node,
    delayed: DelayedSource,
    /// The next delayed message that no batch has read.
    delayed_next: u64,
    /// The next L1 block.
    next: u64,
}

/// What the batches of one L1 block hold.
struct Batches {
    bytes: u64,
    /// Each one's time and transactions.
    messages: Vec<(u64, Vec<Vec<u8>>)>,
    /// The next delayed message after them.
    delayed_next: u64,
}

impl Derivation {
    async fn begin(source: &Source, genesis: &Genesis) -> Result<Self> {
        let (l1, bridge) = (&source.l1, source.inbox);
        let initial = DelayedSource::initial(l1, bridge, source.deployed_at).await?;
        Ok(Self {
            node: Node::start(chain::derived(genesis.clone())).await?,
            delayed: DelayedSource::new(l1.clone(), bridge, &initial),
            delayed_next: initial.tip.delayed,
            next: source.deployed_at,
        })
    }

    /// Goes on to L1's newest block. A block is executed once all of it was read, so that any failure leaves whole blocks.
    async fn follow(&mut self, source: &Source, client: &str, tell: &watch::Sender<Derived>) -> Result<()> {
        let latest = source.l1.latest().await?.number;
        while self.next <= latest {
            let Batches { bytes, messages, delayed_next } = self.read(source, latest).await?;
            (self.next, self.delayed_next) = (self.next + 1, delayed_next);
            tell.send_if_modified(|derived| {
                derived.bytes += bytes;
                bytes > 0
            });
            for (timestamp, transactions) in messages {
                tell.send_modify(|derived| derived.transactions += transactions.len() as u64);
                let executed = chain::execute(&self.node, timestamp, transactions.into_iter().map(Bytes::from)).await;
                match executed {
                    Ok(block) => compare(client, block, tell).await?,
                    Err(error) => part(tell, format!("what L1 leads to cannot be executed: {error:#}")),
                }
                if tell.is_closed() || tell.borrow().disagreement.is_some() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads the next L1 block's batches; L1's newest block is `latest`.
    async fn read(&mut self, source: &Source, latest: u64) -> Result<Batches> {
        let l1 = &source.l1;
        let mut batches = Batches { bytes: 0, messages: Vec::new(), delayed_next: self.delayed_next };
        let header = l1.header(self.next).await?.context("L1 has lost a block")?;
        for log in l1.logs(header.hash, &[source.inbox]).await? {
            let delivered = BatchDelivered::from_log(&log.topics, &log.data);
            // Batch 0 came with the inbox, and is nothing but the message that initialises the chain: its genesis.
            let Some(delivered) = delivered.filter(|delivered| delivered.sequence > 0) else { continue };
            let data = batch_data(source, header.hash, delivered.sequence).await?;
            self.delayed.advance(latest, header.number).await?;
            batches.bytes += data.len() as u64;
            for event in decompress(&data)? {
                batches.messages.push(match event {
                    Event::Message { timestamp, message, .. } => (timestamp, decode_message(&message)?),
                    Event::Delayed => {
                        let message = self.delayed.inbox().get(batches.delayed_next);
                        let message = message.context("a delayed message is missing")?;
                        batches.delayed_next += 1;
                        (message.header.timestamp, delayed_transactions(message))
                    }
                });
            }
            ensure!(
                batches.delayed_next == delivered.delayed_read,
                "batch {} read other delayed messages",
                delivered.sequence
            );
        }
        Ok(batches)
    }
}

/// The chains part here, for good.
fn part(tell: &watch::Sender<Derived>, disagreement: String) {
    tell.send_modify(|derived| derived.disagreement = Some(disagreement));
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
                part(tell, format!("block {number} is {found}, L1 leads to {hash}"));
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
async fn batch_data(source: &Source, block: B256, sequence: u64) -> Result<Vec<u8>> {
    let l1 = &source.l1;
    let block = l1.block(block).await?.context("L1 has lost a block")?;
    for transaction in block.transactions.iter().filter(|transaction| transaction.to == Some(source.inbox)) {
        let input = &transaction.input;
        let word = |at: usize| -> Option<u64> {
            let word = input.get(at..at.checked_add(32)?)?;
            Some(u64::from_be_bytes(word[24..].try_into().ok()?))
        };
        // Of several posters' calls for the same number, one succeeds.
        if word(4) != Some(sequence) || !l1.receipt(transaction.hash).await?.is_some_and(|receipt| receipt.succeeded())
        {
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
