//! Who is connected to the feed, and how do all of them learn of a new message?
//!
//! A message is signed, serialised and framed once, put into the backlog, and every client's task is woken; each writes what lies
//! between its own place and the newest message in one go. What one client is sent is in `client.rs`.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
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
    Broadcast, FeedMessage, OutOfOrder,
    backlog::text_frame,
    client::{self, Client, Departure},
    handshake::{self, Asked},
    shared::{FeedConfig, FeedStats, History, Shared},
};

/// Connections that shake hands at one time beyond the clients: the rest are dropped without an answer.
const HANDSHAKES_MAX: u64 = 128;
/// Pause after the system refuses to accept: it is out of files or memory, and asking again at once does not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A feed that is being served. Ends when it is dropped.
#[derive(Debug)]
pub struct FeedServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    accept: JoinHandle<()>,
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
        let shared = Arc::new(Shared::new(config, next, history));
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
        self.shared.stats()
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
