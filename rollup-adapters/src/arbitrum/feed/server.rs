//! Who is connected to the feed, and how do all of them learn of a new message?
//!
//! A message is signed, serialised and framed once, put into the backlog, and every client's task is woken; each writes what lies
//! between its own place and the newest message in one go. What one client is sent is in `client.rs`.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time,
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        handshake::server::{ErrorResponse, Request, Response},
        http::StatusCode,
    },
};

use super::{
    Broadcast, FeedMessage, FeedSigner, OutOfOrder,
    backlog::{Backlog, BacklogLimits, text_frame},
    client::{self, Client, Departure},
    handshake::{self, Asked},
};

/// Connections that shake hands at one time beyond the clients: the rest are dropped without an answer.
const HANDSHAKES_MAX: u64 = 128;
/// Pause after the system refuses to accept: it is out of files or memory, and asking again at once does not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// A feed that is being served. Ends when it is dropped.
#[derive(Debug)]
pub struct FeedServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    accept: JoinHandle<()>,
}

pub(super) struct Shared {
    pub(super) config: FeedConfig,
    pub(super) history: Option<Arc<dyn History>>,
    backlog: Mutex<Backlog>,
    /// Counts what is published, to wake clients.
    news: watch::Sender<u64>,
    tasks: AtomicU64,
    clients: AtomicU64,
    connected: AtomicU64,
    refused: AtomicU64,
    too_slow: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().expect("nobody panics while holding the backlog")
    }
}

impl FeedServer {
    /// Serves a feed whose next message will be `next`. Older ones are looked for in `history`, if it is given.
    pub async fn bind(
        address: SocketAddr,
        config: FeedConfig,
        next: u64,
        history: Option<Arc<dyn History>>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
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
        });
        let accept = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { shared, address, accept })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all clients and serves a feed whose next message will be `next`, at the same address: what was served from there on is
    /// void, and who comes back with any of it is served from there.
    pub async fn restart(&mut self, next: u64) -> io::Result<()> {
        self.accept.abort();
        // Aborted, or it ended by itself before.
        drop((&mut self.accept).await);
        self.shared.backlog().restart(next);
        let listener = TcpListener::bind(self.address).await?;
        self.accept = tokio::spawn(accept(listener, self.shared.clone()));
        Ok(())
    }

    /// Sends messages to everybody. They must follow the last one; none is sent if they do not follow each other.
    pub fn publish(&self, messages: &mut [FeedMessage]) -> Result<(), OutOfOrder> {
        let next = self.shared.backlog().next();
        for (expected, message) in (next..).zip(messages.iter()) {
            if message.sequence != expected {
                return Err(OutOfOrder { expected, found: message.sequence });
            }
        }
        // The expensive part is done without holding up clients; only the driver publishes.
        let frames: Vec<_> = messages
            .iter_mut()
            .map(|message| {
                if let Some(signer) = &self.shared.config.signer {
                    signer.sign(message);
                }
                (message.sequence, text_frame(&Broadcast::json_of(message)))
            })
            .collect();
        let mut backlog = self.shared.backlog();
        for (sequence, frame) in frames {
            backlog.push(sequence, frame)?;
        }
        drop(backlog);
        self.shared.news.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Tells everybody up to which message L1 confirms.
    pub fn confirm(&self, sequence: u64) {
        let frame = text_frame(&Broadcast::json_of_confirmed(sequence));
        if self.shared.backlog().confirm(sequence, frame) {
            self.shared.news.send_modify(|count| *count += 1);
        }
    }

    /// The number of the next message.
    pub fn next(&self) -> u64 {
        self.shared.backlog().next()
    }

    /// What happened so far.
    pub fn stats(&self) -> FeedStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FeedStats {
            clients: read(&self.shared.clients),
            connected: read(&self.shared.connected),
            refused: read(&self.shared.refused),
            too_slow: read(&self.shared.too_slow),
            bytes: read(&self.shared.bytes),
            next: self.next(),
        }
    }

    /// Ends all connections and waits until they are.
    pub async fn stop(mut self) {
        self.accept.abort();
        drop((&mut self.accept).await);
    }
}

impl Drop for FeedServer {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and the clients with it.
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the feed cannot accept clients for now");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if shared.tasks.load(Ordering::Relaxed) >= shared.config.clients_max.saturating_add(HANDSHAKES_MAX) {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        shared.tasks.fetch_add(1, Ordering::Relaxed);
        let held = Held { shared: shared.clone(), counter: |shared| &shared.tasks };
        clients.spawn(async move {
            connection(&held.shared, stream, peer).await;
        });
    }
}

/// Gives a count back, even if the task that took it is aborted.
struct Held {
    shared: Arc<Shared>,
    counter: fn(&Shared) -> &AtomicU64,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.counter)(&self.shared).fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    // News from here on wake the client, whatever happens between its first look and its first wait.
    let news = shared.news.subscribe();
    let greeted = time::timeout(shared.config.handshake_timeout, greet(shared, stream)).await;
    let (stream, asked, held) = match greeted {
        Ok(Ok(greeted)) => greeted,
        failed => {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            let reason = match failed {
                Ok(Err(error)) => error.to_string(),
                _ => "it took too long".into(),
            };
            tracing::debug!(%peer, reason, "a feed client did not shake hands");
            return;
        }
    };
    shared.connected.fetch_add(1, Ordering::Relaxed);
    let mut client = Client::new(shared, stream, asked);
    tracing::debug!(%peer, requested = asked.from, from = client.place(), "a feed client connected");
    let departure = client::serve(&mut client, news).await;
    match &departure {
        Departure::Gone | Departure::Closed => {
            tracing::debug!(%peer, at = client.place(), %departure, "a feed client left")
        }
        departure => {
            if departure.is_too_slow() {
                shared.too_slow.fetch_add(1, Ordering::Relaxed);
            }
            tracing::warn!(%peer, at = client.place(), %departure, "a feed client was cut");
        }
    }
    drop(held);
}

async fn greet(
    shared: &Arc<Shared>,
    stream: TcpStream,
) -> Result<(TcpStream, Asked, Held), tokio_tungstenite::tungstenite::Error> {
    stream.set_nodelay(true)?;
    let mut admitted = None;
    #[allow(clippy::result_large_err, reason = "the signature is the library's")]
    let answer = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let (asked, response) = handshake::answer(request, response, shared.config.chain_id)?;
        if shared.clients.fetch_add(1, Ordering::Relaxed) >= shared.config.clients_max {
            shared.clients.fetch_sub(1, Ordering::Relaxed);
            return Err(handshake::refusal(StatusCode::SERVICE_UNAVAILABLE, "too many feed clients".into()));
        }
        admitted = Some((asked, Held { shared: shared.clone(), counter: |shared| &shared.clients }));
        Ok(response)
    };
    // The library refuses requests with anything behind them, and has read nothing since: the bare stream loses nothing.
    let stream = accept_hdr_async(stream, answer).await?.into_inner();
    let (asked, held) = admitted.expect("a handshake that succeeded was answered");
    Ok((stream, asked, held))
}
