//! What do the server and its clients share?

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    FeedMessage, FeedSigner,
    backlog::{Backlog, BacklogLimits},
};

/// How a feed is served. The defaults are Nitro's where it has one.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// The chain whose feed it is.
    pub chain_id: u64,
    /// Clients at one time; others are answered 503.
    pub clients_max: u64,
    /// Messages held in memory. A client that was up to date and falls behind them is cut.
    pub backlog: BacklogLimits,
    /// How long a write may make no progress before the client is cut.
    pub write_timeout: Duration,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Pause between pings.
    pub ping: Duration,
    /// A client from which nothing came for this long, not even a pong, is cut.
    pub silence: Duration,
    /// Who signs messages, if anybody.
    pub signer: Option<FeedSigner>,
}

impl FeedConfig {
    /// The defaults, for a chain.
    pub fn new(chain_id: u64) -> Self {
        Self {
            chain_id,
            clients_max: 1_024,
            backlog: BacklogLimits::default(),
            write_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(5),
            ping: Duration::from_secs(5),
            silence: Duration::from_secs(15),
            signer: None,
        }
    }
}

/// Where messages are that the backlog no longer holds.
pub trait History: Send + Sync + 'static {
    /// Messages from `from` on without a gap, about `bytes_max` bytes of content but at least one; none if `from` is not held.
    fn read(&self, from: u64, bytes_max: usize) -> io::Result<Vec<FeedMessage>>;

    /// The first message held, if there is one.
    fn first(&self) -> Option<u64>;
}

/// What the feed's counters say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedStats {
    /// Clients connected now.
    pub clients: u64,
    /// Clients that ever connected.
    pub connected: u64,
    /// Handshakes that were refused or failed.
    pub refused: u64,
    /// Clients that were cut because they did not keep up.
    pub too_slow: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// The next message's number.
    pub next: u64,
}

/// What the server and its clients' tasks share.
pub(super) struct Shared {
    pub(super) config: FeedConfig,
    pub(super) history: Option<Arc<dyn History>>,
    pub(super) backlog: Mutex<Backlog>,
    /// Counts what is published, to wake clients.
    pub(super) news: watch::Sender<u64>,
    pub(super) tasks: AtomicU64,
    pub(super) clients: AtomicU64,
    pub(super) connected: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) too_slow: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(config: FeedConfig, next: u64, history: Option<Arc<dyn History>>) -> Self {
        Self {
            backlog: Mutex::new(Backlog::new(next, config.backlog)),
            config,
            history,
            news: watch::Sender::new(0),
            tasks: AtomicU64::new(0),
            clients: AtomicU64::new(0),
            connected: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().expect("nobody panics while holding the backlog")
    }

    pub(super) fn stats(&self) -> FeedStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FeedStats {
            clients: read(&self.clients),
            connected: read(&self.connected),
            refused: read(&self.refused),
            too_slow: read(&self.too_slow),
            bytes: read(&self.bytes),
            next: self.backlog().next(),
        }
    }
}
