//! How does a Nitro node follow a lane?
//!
//! The lane's messages are numbered and kept (`stream.rs`), and then served as a sequencer feed, to any number of nodes, which run
//! unmodified. It executes nothing. What L1 confirms is told to the feed's clients too. Trouble with the lane or L1 is waited
//! out; the feed goes on serving what there is. Where L1 took the order over, all clients are cut, and connect again to a feed with
//! other messages: a node that has executed the old ones learns from L1 that they are void.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{sync::watch, time};

use super::{
    feed::{FeedConfig, FeedMessage, FeedServer, History},
    inbox_reader::InboxReader,
    sequence::Position,
    stream::{Step, Stream, StreamError},
};
use crate::{
    feed::{LANE_PATIENCE, Quiet},
    retry::Backoff,
    serve::{Number, Service, Status},
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
    /// Why it is not known what L1 confirms, if it is not. The feed goes on without.
    pub l1_trouble: Option<String>,
    /// What it waits for, if it does.
    pub trouble: Option<String>,
    /// Failed attempts.
    pub failures: u64,
}

impl Status for FeedStatus {
    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn numbers(&self) -> Vec<Number> {
        vec![
            Number::gauge("next_message", "Number of the next message", self.next_message),
            Number::gauge("lane_height", "Height of the log up to which the lane was read", self.lane_height),
            Number::gauge("delayed_messages", "Messages of the delayed inbox in the chain", self.delayed),
            Number::gauge("forced_batch", "Last batch in the chain that was forced in", self.forced_batch.unwrap_or(0)),
            Number::gauge("confirmed_message", "Last message that L1 has", self.confirmed.unwrap_or(0)),
            Number::counter("transactions", "Lane transactions sent by this process", self.transactions),
            Number::counter("skipped_transactions", "Lane transactions that are in no message", self.skipped),
            Number::gauge("feed_clients", "Clients of the feed", self.clients),
            Number::counter("feed_clients_too_slow", "Clients cut because they did not keep up", self.too_slow),
            Number::counter("feed_bytes", "Bytes sent to clients", self.bytes),
            Number::counter("failures", "Failed attempts", self.failures),
            Number::gauge("waiting", "1 while it waits for something that does not work", self.trouble.is_some()),
            Number::gauge("l1_down", "1 while L1 does not answer", self.l1_trouble.is_some()),
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
    feed: Feed,
    inbox: InboxReader,
    poll: Duration,
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
        Ok(Self { stream, feed: Feed { server, service, quiet: Quiet::new(LANE_PATIENCE) }, inbox, poll })
    }

    /// Tells that the lane brings nothing once that is so for `patience`.
    pub fn with_lane_patience(mut self, patience: Duration) -> Self {
        self.feed.quiet = Quiet::new(patience);
        self
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.feed.server.address()
    }

    /// Drives until `stop` is true, or until the journal cannot be written.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), DriveError> {
        let Self { mut stream, mut feed, inbox, poll } = self;
        let mut backoff = Backoff::endless();
        let mut look = time::interval(poll);
        look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut stopping = stop.clone();
        // Beside the lane: an L1 that does not answer delays no message.
        let (tell, mut confirmed) = watch::channel(Ok(0));
        tokio::spawn(watch_l1(inbox, poll, tell));
        feed.stands_at(stream.position());
        loop {
            let step = {
                // Kept until it is done, however often something else is looked at: what L1 is asked for it may take longer.
                let mut step = pin!(stream.next());
                loop {
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => break None,
                        _ = look.tick() => {
                            feed.tell();
                            feed.waits();
                        }
                        Ok(()) = confirmed.changed() => {
                            let messages = confirmed.borrow_and_update().clone();
                            feed.confirm(messages);
                        }
                        step = &mut step => break Some(step),
                    }
                }
            };
            match step {
                None => break,
                Some(Ok(step)) => {
                    backoff.succeeded();
                    feed.publish(&step).await?;
                    feed.stands_at(stream.position());
                }
                Some(Err(StreamError::Journal(error))) => return Err(DriveError::Journal(error.to_string())),
                Some(Err(error)) => {
                    feed.failed(&error);
                    tokio::select! {
                        _ = stopping.wait_for(|stop| *stop) => break,
                        failed = backoff.failed(error) => drop(failed),
                    }
                }
            }
        }
        feed.server.stop().await;
        Ok(())
    }
}

/// What clients, and whoever looks, are told.
struct Feed {
    server: FeedServer,
    service: Arc<Service<FeedStatus>>,
    quiet: Quiet,
}

impl Feed {
    /// Nothing was followed yet.
    fn waits(&mut self) {
        if let Some(trouble) = self.quiet.waits("no lane block was followed") {
            self.service.update(|status| status.trouble = Some(trouble));
        }
    }

    fn failed(&mut self, error: &StreamError) {
        self.quiet.failed(matches!(error, StreamError::Lane(_)));
        self.service.update(|status| {
            status.trouble = Some(error.to_string());
            status.failures += 1;
        });
    }

    async fn publish(&mut self, step: &Step) -> Result<(), DriveError> {
        self.quiet.ends();
        if let Some(first) = step.rewound.filter(|first| *first < self.server.next()) {
            // Other messages than before: clients begin again.
            let address = self.server.address();
            let restarted = self.server.restart(first).await;
            restarted.map_err(|source| DriveError::Listen { address, source })?;
        }
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
        Ok(())
    }

    /// Says where the chain stands.
    fn stands_at(&self, position: &Position) {
        self.service.update(|status| {
            status.delayed = position.tip.delayed;
            status.forced_batch = position.forced.map(|tail| tail.batch);
        });
        self.tell();
    }

    /// Says how the server does.
    fn tell(&self) {
        let stats = self.server.stats();
        self.service.update(|status| {
            status.next_message = stats.next;
            status.clients = stats.clients;
            status.too_slow = stats.too_slow;
            status.bytes = stats.bytes;
        });
    }

    /// Tells clients how many messages L1 has. If that is not known now, it is at the next look.
    fn confirm(&self, messages: Result<u64, String>) {
        let known = messages.as_ref().ok();
        // More than we have: L1 has what an earlier run of ours sequenced, and this one is about to.
        let last = known.and_then(|messages| (*messages).min(self.server.next()).checked_sub(1));
        if let Some(last) = last {
            self.server.confirm(last);
        }
        self.service.update(|status| {
            status.confirmed = last.or(status.confirmed);
            match (&messages, &status.l1_trouble) {
                (Ok(messages), Some(_)) => tracing::info!(messages, "L1 answers again"),
                (Err(error), None) => tracing::warn!(error, "what L1 confirms is not known, the feed goes on"),
                _ => {}
            }
            status.l1_trouble = messages.err();
        });
    }
}

/// Tells how many messages L1 has, again and again, until nobody listens.
async fn watch_l1(inbox: InboxReader, poll: Duration, tell: watch::Sender<Result<u64, String>>) {
    while !tell.is_closed() {
        let messages = inbox.messages().await.map_err(|error| error.to_string());
        tell.send_modify(|told| *told = messages);
        time::sleep(poll).await;
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
