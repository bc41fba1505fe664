//! How does a Nitro node follow a lane?
//!
//! The lane's messages are numbered and kept (`stream.rs`), and then served as a sequencer feed, to any number of nodes, which run
//! unmodified. It executes nothing. What L1 confirms is told to the feed's clients too. Trouble with the lane or L1 is waited
//! out; the feed goes on serving what there is. Where L1 took the order over, all clients are cut, and connect again to a feed with
//! other messages: a node that has executed the old ones learns from L1 that they are void.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{sync::watch, time};

use super::{
    feed::{FeedConfig, FeedMessage, FeedServer, History},
    inbox_reader::InboxReader,
    stream::{Step, Stream, StreamError},
};
use crate::{
    retry::Backoff,
    serve::{Service, Status},
};

/// Bytes of messages that a feed begins with after a restart, for clients that do not say what they want.
const RECENT_BYTES: usize = 4 << 20;

/// What a driver says.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedStatus {
    /// Name of the rollup's stack.
    pub stack: &'static str,
    /// The rollup.
    pub rollup: u64,
    /// Where clients connect.
    pub feed: String,
    /// The next message's number.
    pub next_message: u64,
    /// Height of the log up to which the lane was read.
    pub lane_height: u64,
    /// Messages of the delayed inbox that are in the chain.
    pub delayed: u64,
    /// The last batch in the chain that somebody forced in.
    pub forced_batch: Option<u64>,
    /// The last message that L1 has.
    pub confirmed: Option<u64>,
    /// Transactions that this process sent.
    pub transactions: u64,
    /// Lane transactions that are in no message.
    pub skipped: u64,
    /// Clients connected now.
    pub clients: u64,
    /// Clients that were cut because they did not keep up.
    pub too_slow: u64,
    /// Bytes sent to clients.
    pub bytes: u64,
    /// What it waits for, if it does.
    pub trouble: Option<String>,
    /// Failed attempts.
    pub failures: u64,
}

impl Status for FeedStatus {
    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn numbers(&self) -> Vec<(&'static str, &'static str, f64)> {
        vec![
            ("next_message", "Number of the next message", self.next_message as f64),
            ("lane_height", "Height of the log up to which the lane was read", self.lane_height as f64),
            ("delayed_messages", "Messages of the delayed inbox in the chain", self.delayed as f64),
            ("forced_batch", "Last batch in the chain that was forced in", self.forced_batch.unwrap_or(0) as f64),
            ("confirmed_message", "Last message that L1 has", self.confirmed.unwrap_or(0) as f64),
            ("transactions", "Lane transactions sent by this process", self.transactions as f64),
            ("skipped_transactions", "Lane transactions that are in no message", self.skipped as f64),
            ("feed_clients", "Clients of the feed", self.clients as f64),
            ("feed_clients_too_slow", "Clients cut because they did not keep up", self.too_slow as f64),
            ("feed_bytes", "Bytes sent to clients", self.bytes as f64),
            ("failures", "Failed attempts", self.failures as f64),
            ("waiting", "1 while it waits for something that does not work", f64::from(self.trouble.is_some())),
        ]
    }
}

/// Why a driver ends. It is started again by hand or by its supervisor.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The feed cannot be served.
    #[error("the feed cannot be served at {address}: {source}")]
    Listen {
        /// Where it was to be.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The journal cannot be read or written.
    #[error("the journal cannot be used: {0}")]
    Journal(String),
}

/// Serves one rollup's feed.
pub struct Driver {
    stream: Stream,
    server: FeedServer,
    inbox: InboxReader,
    poll: Duration,
    service: Arc<Service<FeedStatus>>,
}

impl Driver {
    /// Serves at `listen` what `stream` has and makes; asks L1 every `poll` what it confirms.
    pub async fn bind(
        stream: Stream,
        listen: SocketAddr,
        config: FeedConfig,
        inbox: InboxReader,
        poll: Duration,
        service: Arc<Service<FeedStatus>>,
    ) -> Result<Self, DriveError> {
        let next = stream.position().next();
        let history = Arc::new(stream.journal().reader());
        let mut recent = recent(history.as_ref(), next).map_err(|error| DriveError::Journal(error.to_string()))?;
        let first = recent.first().map_or(next, |message| message.sequence);
        let server = FeedServer::bind(listen, config, first, Some(history)).await;
        let server = server.map_err(|source| DriveError::Listen { address: listen, source })?;
        server.publish(&mut recent).expect("a journal gives messages in order");
        tracing::info!(address = %server.address(), next, "serving the feed");
        service.update(|status| status.feed = format!("ws://{}", server.address()));
        Ok(Self { stream, server, inbox, poll, service })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Drives until `stop` is true, or until the journal cannot be written.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), DriveError> {
        let mut backoff = Backoff::endless();
        let mut confirm = time::interval(self.poll);
        let mut stopping = stop.clone();
        confirm.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        self.tell();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                _ = confirm.tick() => self.confirm().await,
                step = self.stream.next() => match step {
                    Ok(step) => {
                        backoff.succeeded();
                        if let Some(first) = step.rewound.filter(|first| *first < self.server.next()) {
                            self.begin_again(first).await?;
                        }
                        self.publish(&step);
                    }
                    Err(StreamError::Journal(error)) => return Err(DriveError::Journal(error.to_string())),
                    Err(error) => {
                        self.service.update(|status| {
                            status.trouble = Some(error.to_string());
                            status.failures += 1;
                        });
                        tokio::select! {
                            _ = stopping.wait_for(|stop| *stop) => break,
                            failed = backoff.failed(error) => drop(failed),
                        }
                    }
                }
            }
        }
        self.server.stop().await;
        Ok(())
    }

    /// Serves from message `first` on what is in the chain now.
    async fn begin_again(&mut self, first: u64) -> Result<(), DriveError> {
        let address = self.server.address();
        let restarted = self.server.restart(first).await;
        restarted.map_err(|source| DriveError::Listen { address, source })
    }

    fn publish(&mut self, step: &Step) {
        let mut messages: Vec<FeedMessage> = step.messages.iter().map(|numbered| numbered.message.clone()).collect();
        self.server.publish(&mut messages).expect("the stream numbers messages in order");
        for skipped in &step.skipped {
            tracing::warn!(height = %skipped.height, index = skipped.index, reason = %skipped.reason, "a lane transaction is in no message");
        }
        let sent = |message: &FeedMessage| message.transactions().map_or(0, |transactions| transactions.len() as u64);
        let transactions: u64 = messages.iter().filter(|message| !message.is_delayed()).map(sent).sum();
        if let Some(last) = messages.last() {
            tracing::info!(message = last.sequence, height = %step.height, transactions, "sequenced");
        }
        self.service.update(|status| {
            status.lane_height = step.height.0;
            status.transactions += transactions;
            status.skipped += step.skipped.len() as u64;
            status.trouble = None;
        });
        self.tell();
    }

    fn tell(&self) {
        let stats = self.server.stats();
        let position = self.stream.position();
        self.service.update(|status| {
            status.next_message = stats.next;
            status.delayed = position.tip.delayed;
            status.forced_batch = position.forced.map(|tail| tail.batch);
            status.clients = stats.clients;
            status.too_slow = stats.too_slow;
            status.bytes = stats.bytes;
        });
    }

    /// Tells clients what L1 has. If it is not known now, it is at the next look.
    async fn confirm(&mut self) {
        match self.inbox.messages().await {
            Ok(messages) => {
                // More than we have: L1 has what an earlier run of ours sequenced, and this one is about to.
                if let Some(last) = messages.min(self.server.next()).checked_sub(1) {
                    self.server.confirm(last);
                    self.service.update(|status| status.confirmed = Some(last));
                }
            }
            Err(error) => tracing::debug!(%error, "what L1 confirms is not known"),
        }
        self.tell();
    }
}

/// The newest messages before `next`, about [`RECENT_BYTES`] of them.
fn recent(history: &impl History, next: u64) -> std::io::Result<Vec<FeedMessage>> {
    let Some(first) = history.first() else { return Ok(Vec::new()) };
    // How many that are is found by looking back twice as far each time.
    let mut back = 64;
    loop {
        let from = next.saturating_sub(back).max(first);
        let messages = history.read(from, RECENT_BYTES)?;
        let whole = messages.last().is_none_or(|last| last.sequence + 1 == next);
        if whole && from > first {
            back *= 2;
            continue;
        }
        if whole {
            return Ok(messages);
        }
        // Too far: the last distance that was whole.
        return history.read(next.saturating_sub(back / 2).max(first), usize::MAX);
    }
}
