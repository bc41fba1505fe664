//! Is what is posted what was meant, and does posting go on whatever happens?
//!
//! One round after the other: where does the inbox stand, which messages come next, one call, until it is in a block; then the
//! contract's event is compared with the accumulator that the call was to make. Nothing is remembered between rounds. Two posters
//! post nothing twice: a batch whose number is taken reverts.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task};

use super::{
    BLOB_DATA_BYTES_MAX,
    inbox::{BLOBS_GAS, BatchCall, BatchDelivered},
    inbox_reader::{InboxError, InboxReader},
    journal::JournalReader,
    next_batch::{self, PostPolicy, next_batch},
};
use crate::{
    Batch, BatchTarget,
    poster::{
        Lease, Market, Request, RpcError, SendError, Sender,
        envelope::versioned_hash,
        fees::blobs_are_cheaper,
        lease::{LeaseError, Verdict},
        target::Choice,
    },
    retry::Backoff,
    serve::{Number, OnL1, Service, Status},
};

pub use crate::poster::Target;

/// Bytes of messages that one round looks at: a full batch in six blobs after compression.
const ROUND_BYTES_MAX: usize = 12 << 20;
/// Calldata of one batch: pools take 128 KiB for a whole transaction, the contract 117,964 bytes of data with its header.
const CALLDATA_BYTES: usize = 110_000;
/// Blobs of one L1 transaction.
const BLOBS: usize = 6;
/// Gas for a call besides its calldata: a dozen storage slots, two events and the hash of the data.
const CALL_GAS: u64 = 400_000;

/// How a poster posts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostConfig {
    /// Where batches go.
    pub target: Target,
    /// Seconds, by L1's clock, that a message may wait for a batch to fill.
    pub max_delay_seconds: u64,
    /// The same where nothing waits but the inbox's own reports of batches.
    pub reports_max_delay_seconds: u64,
    /// Quality of brotli, 0 to 11.
    pub brotli_quality: u32,
    /// Pause between two looks at what there is, milliseconds.
    pub poll_ms: u64,
}

impl Default for PostConfig {
    fn default() -> Self {
        // Delayed messages can be forced in after a day: reports wait for a quarter of that.
        Self {
            target: Target::Auto,
            max_delay_seconds: 120,
            reports_max_delay_seconds: 6 * 3_600,
            brotli_quality: 9,
            poll_ms: 1_000,
        }
    }
}

/// Why a round ended early. The next begins with the question where the inbox stands.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts of the causes say what each variant means")]
pub enum PostError {
    #[error(transparent)]
    Inbox(#[from] InboxError),
    #[error("L1: {0}")]
    L1(#[from] RpcError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Batch(#[from] next_batch::PostError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error("the journal cannot be read: {0}")]
    Journal(#[from] std::io::Error),
    #[error("the inbox {inbox} takes no batches from {key}")]
    NotAPoster { inbox: Address, key: Address },
    #[error("the call for batch {sequence} reverted in L1 transaction {transaction}: somebody else posted it")]
    Reverted { sequence: u64, transaction: B256 },
    /// The contract took something else than what was meant. A person must look.
    #[error("batch {sequence} in L1 transaction {transaction} is not what was posted: its accumulator is another one")]
    Accumulator { sequence: u64, transaction: B256 },
}

/// What a poster says.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PostStatus {
    /// Name of the rollup's stack.
    pub stack: &'static str,
    /// The rollup.
    pub rollup: u64,
    /// The address that pays.
    pub address: String,
    /// Whether this poster holds the lease.
    pub leads: bool,
    /// The next message of the lane.
    pub next_message: u64,
    /// Messages that L1 has.
    pub posted_messages: u64,
    /// Batches that L1 has.
    pub batches: u64,
    /// The last batch in the chain that somebody forced in.
    pub forced_batch: Option<u64>,
    /// Batches that this process had included, each with the accumulator that was computed before.
    pub batches_posted: u64,
    /// Bytes of them.
    pub bytes_posted: u64,
    /// Transactions in them.
    pub transactions_posted: u64,
    /// Bytes on L1 for each transaction, of what this process posted.
    pub bytes_per_transaction: f64,
    /// Rounds that ended early.
    pub failures: u64,
    /// What L1 holds, by anybody's batches: message `n` is block `n`.
    pub on_l1: Option<OnL1>,
    /// What it waits for, if it does.
    pub trouble: Option<String>,
}

impl Status for PostStatus {
    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn numbers(&self) -> Vec<Number> {
        vec![
            Number::gauge("leads", "1 while this poster may post", self.leads),
            Number::gauge("next_message", "Next message of the lane", self.next_message),
            Number::gauge("posted_messages", "Messages that L1 has", self.posted_messages),
            Number::gauge("batches", "Batches that L1 has", self.batches),
            Number::gauge("forced_batch", "Last batch in the chain that was forced in", self.forced_batch.unwrap_or(0)),
            Number::counter("batches_posted", "Batches of this process, included as meant", self.batches_posted),
            Number::counter("bytes_posted", "Bytes of batches of this process", self.bytes_posted),
            Number::counter("transactions_posted", "Transactions in batches of this process", self.transactions_posted),
            Number::counter("failures", "Rounds that ended early", self.failures),
            Number::gauge("waiting", "1 while it waits for something that does not work", self.trouble.is_some()),
        ]
    }
}

/// Posts one rollup's messages.
pub struct Poster {
    config: PostConfig,
    choice: Choice,
    inbox: InboxReader,
    journal: JournalReader,
    sender: Sender,
    lease: Box<dyn Lease>,
    service: Arc<Service<PostStatus>>,
}

impl Poster {
    /// A poster of what `journal` has to `inbox`.
    pub fn new(
        config: PostConfig,
        inbox: InboxReader,
        journal: JournalReader,
        sender: Sender,
        lease: Box<dyn Lease>,
        service: Arc<Service<PostStatus>>,
    ) -> Self {
        service.register(|registry| sender.metrics().register(registry));
        service.update(|status| status.address = sender.address().to_string());
        let choice = Choice::new(config.target);
        Self { config, choice, inbox, journal, sender, lease, service }
    }

    /// Posts until `stop` is true. A round that is on its way then is left to the next start.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::endless();
        while !*stop.borrow() {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = self.attempt(&mut backoff) => {}
            }
        }
    }

    async fn attempt(&mut self, backoff: &mut Backoff) {
        match self.round().await {
            Ok(posted) => {
                backoff.succeeded();
                self.service.update(|status| status.trouble = None);
                if !posted {
                    tokio::time::sleep(Duration::from_millis(self.config.poll_ms)).await;
                }
            }
            Err(error) => {
                self.service.update(|status| {
                    status.trouble = Some(error.to_string());
                    status.failures += 1;
                });
                drop(backoff.failed(error).await);
            }
        }
    }

    /// Posts the next batch, if it is time. Returns whether one was posted.
    pub async fn round(&mut self) -> Result<bool, PostError> {
        let Some(call) = self.next().await? else { return Ok(false) };
        match self.lease.may_post().await? {
            Verdict::Held => self.service.update(|status| status.leads = true),
            Verdict::Other { holder } => {
                tracing::debug!(holder, "somebody else posts");
                self.service.update(|status| status.leads = false);
                return Ok(false);
            }
        }
        let (inbox, key) = (self.inbox.inbox(), self.sender.address());
        if !self.inbox.is_batch_poster(key).await? {
            return Err(PostError::NotAPoster { inbox, key });
        }
        // What an earlier run left in L1's pool is most likely this very batch: it is waited for, and looked for again.
        self.sender.settle().await?;
        if self.next().await?.is_none_or(|now| now.sequence != call.sequence) {
            return Ok(true);
        }
        self.post(call).await?;
        Ok(true)
    }

    /// What is to be posted now, if anything.
    async fn next(&mut self) -> Result<Option<BatchCall>, PostError> {
        let mut state = self.inbox.state().await?;
        let forced = self.journal.forced();
        if let Some(tail) = forced.filter(|tail| tail.batch + 1 == state.batches) {
            state.forced = tail.messages;
            state.messages += tail.messages;
        }
        self.service.update(|status| {
            status.posted_messages = state.messages;
            status.batches = state.batches;
            status.forced_batch = forced.map(|tail| tail.batch);
        });
        let (l1, l1_hash) = (state.l1_number, state.l1_hash);
        let on_l1 = state.messages.checked_sub(1).map(|block| OnL1 { block, block_hash: None, l1, l1_hash });
        let (journal, from) = (self.journal.clone(), state.messages);
        let messages = task::spawn_blocking(move || journal.placed(from, ROUND_BYTES_MAX));
        let messages = messages.await.expect("reading does not panic")?;
        let Some(last) = messages.last() else {
            self.service.update(|status| status.on_l1 = on_l1);
            return Ok(None);
        };
        let next_message = last.message.sequence + 1;
        self.service.update(|status| status.next_message = next_message);
        let bytes: usize = messages.iter().map(|placed| placed.message.content.len()).sum();
        let target = self.target(&self.sender.market().await?, bytes, self.inbox.l1().latest().await?.takes_blobs);
        let policy = PostPolicy {
            wait_seconds: self.config.max_delay_seconds,
            reports_wait_seconds: self.config.reports_max_delay_seconds,
            quality: self.config.brotli_quality,
        };
        // Compression takes a while and must not hold up whoever shares this thread.
        let found = task::spawn_blocking(move || next_batch(&state, &messages, &policy, target));
        let found = found.await.expect("encoding does not panic");
        // What L1 counts are other messages than the chain's, as long as these do not continue them.
        let others = |error: &next_batch::PostError| {
            use next_batch::PostError::{Forced, Fork, Start};
            matches!(error, Start { .. } | Forced { .. } | Fork { .. })
        };
        let counts = !found.as_ref().is_err_and(others);
        self.service.update(|status| status.on_l1 = on_l1.filter(|_| counts));
        Ok(found?)
    }

    fn target(&self, market: &Market, bytes: usize, takes_blobs: bool) -> BatchTarget {
        // Compression leaves three fifths.
        let compressed = bytes / 5 * 3;
        let count = compressed.div_ceil(BLOB_DATA_BYTES_MAX).clamp(1, BLOBS);
        match self.choice.blobs(takes_blobs, || blobs_are_cheaper(market, compressed, count)) {
            true => BatchTarget::Blobs { per_transaction: BLOBS },
            false => BatchTarget::Calldata { bytes_max: CALLDATA_BYTES },
        }
    }

    async fn post(&mut self, call: BatchCall) -> Result<(), PostError> {
        let (first, sequence) = (call.messages_before, call.sequence);
        let data = call.calldata();
        let (bytes, request) = match &call.data {
            Batch::Calldata(batch) => {
                let gas = CALL_GAS + crate::poster::fees::calldata_gas(&data);
                (batch.len(), Request { to: self.inbox.inbox(), data, blobs: vec![], gas: Some(gas) })
            }
            Batch::Blobs(blobs) => {
                let bytes = blobs.iter().map(Vec::len).sum();
                let blobs = blobs.clone();
                (bytes, Request { to: self.inbox.inbox(), data, blobs, gas: Some(BLOBS_GAS) })
            }
        };
        tracing::info!(
            batch = sequence,
            first,
            end = call.messages_after,
            bytes,
            delayed = call.delayed_read,
            "posting"
        );
        let sent = self.sender.send(vec![request]).await;
        self.choice.sent(matches!(call.data, Batch::Blobs(_)), &sent);
        let sent = sent?;
        let Some(included) = sent.first() else { return Ok(()) };
        let transaction = included.hash;
        if !included.succeeded {
            return Err(PostError::Reverted { sequence, transaction });
        }
        // A reorganisation since then took the receipt too: the next round finds out.
        let Some(receipt) = self.inbox.l1().receipt(transaction).await? else { return Ok(()) };
        let inbox = self.inbox.inbox();
        let mut events = receipt.logs.iter().filter(|log| log.address == inbox);
        let delivered = events.find_map(|log| BatchDelivered::from_log(&log.topics, &log.data));
        let (call, hashes) = task::spawn_blocking(move || {
            let hashes = match &call.data {
                Batch::Calldata(_) => Vec::new(),
                Batch::Blobs(blobs) => blobs.iter().filter_map(|blob| versioned_hash(blob)).collect(),
            };
            (call, hashes)
        })
        .await
        .expect("hashing does not panic");
        if !delivered.is_some_and(|delivered| delivered.is_of(&call, &hashes)) {
            return Err(PostError::Accumulator { sequence, transaction });
        }
        let posted = self.journal.placed(call.messages_before, ROUND_BYTES_MAX)?;
        let posted = posted.iter().take_while(|placed| placed.message.sequence < call.messages_after);
        let transactions: usize =
            posted.filter_map(|placed| placed.message.transactions().ok()).map(|transactions| transactions.len()).sum();
        tracing::info!(
            batch = sequence,
            l1 = included.block,
            transactions,
            bytes,
            "posted, with the accumulator that was meant"
        );
        self.service.update(|status| {
            status.posted_messages = call.messages_after;
            status.batches_posted += 1;
            status.bytes_posted += bytes as u64;
            status.transactions_posted += transactions as u64;
            status.bytes_per_transaction = status.bytes_posted as f64 / status.transactions_posted.max(1) as f64;
        });
        Ok(())
    }
}
