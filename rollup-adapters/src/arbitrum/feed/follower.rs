//! How does a node follow a feed in order, without a gap, whatever happens to the connection?
//!
//! It asks for the number that it needs next, passes over what it has had, refuses what does not follow or is signed by nobody
//! that it trusts, and connects again with growing pauses. It does not fetch from L1 what a feed no longer holds: that is an
//! error which says what is missing.

use std::{collections::VecDeque, time::Duration};

use alloy_primitives::Address;
use futures::StreamExt;
use tokio::{net::TcpStream, time};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        error::UrlError,
        http::{HeaderMap, HeaderValue},
        protocol::WebSocketConfig,
    },
};

use super::{
    Broadcast, BroadcastError, FeedMessage,
    handshake::{CHAIN_HEADER, CLIENT_VERSION_HEADER, FEED_VERSION, REQUESTED_HEADER, SERVER_VERSION_HEADER, number},
    signer,
};

/// Bytes of one WebSocket message: what Nitro's own server sends at once when a client catches up, 240 messages of 256 KiB in
/// base64.
const BROADCAST_BYTES_MAX: usize = 96 << 20;
/// First pause before connecting again.
const RECONNECT_MIN: Duration = Duration::from_millis(100);
/// Longest pause before connecting again: a feed that is back should not wait long for its clients.
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// Which feed to follow, and whom to believe.
#[derive(Clone, Debug)]
pub struct FollowerConfig {
    /// `ws://host:port`.
    pub url: String,
    /// The chain that it must be the feed of.
    pub chain_id: u64,
    /// Who may sign messages. Empty: signatures are not looked at.
    pub signers: Vec<Address>,
    /// A connection that brought nothing for this long, not even a ping, is given up (Nitro: 20 s).
    pub silence: Duration,
}

impl FollowerConfig {
    /// A feed whose signatures are not looked at.
    pub fn new(url: impl Into<String>, chain_id: u64) -> Self {
        Self { url: url.into(), chain_id, signers: Vec::new(), silence: Duration::from_secs(20) }
    }
}

/// What a feed says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedEvent {
    /// The next message.
    Message(Box<FeedMessage>),
    /// L1 has everything up to this message.
    Confirmed(u64),
}

/// Why a feed cannot be followed. The follower stands where it stood, and tries again when asked again.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The address is none.
    #[error("{url} is not the address of a feed: {source}")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// Another chain's feed.
    #[error("{url} is the feed of chain {found}, not of {expected}")]
    Chain {
        /// The feed.
        url: String,
        /// The chain that is followed.
        expected: u64,
        /// The chain found.
        found: u64,
    },
    /// A server of another protocol.
    #[error("{url} speaks version {found} of the feed's protocol, not {FEED_VERSION}")]
    Version {
        /// The feed.
        url: String,
        /// The version found.
        found: u64,
    },
    /// The feed does not have, or left out, what comes next.
    #[error("the feed goes on with message {found}, {expected} is next: take what is between from L1")]
    Gap {
        /// The next message.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// Signed by somebody else or not at all.
    #[error("message {sequence} is signed by {found:?}, whom nobody trusts")]
    Signature {
        /// The message.
        sequence: u64,
        /// Who signed it.
        found: Option<Address>,
    },
    /// Something that is not a feed's message.
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
}

/// Follows one feed. Take what it says with [`Self::next`].
#[derive(Debug)]
pub struct Follower {
    config: FollowerConfig,
    next: u64,
    socket: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    /// Read and not given out. Bounded by one broadcast: nothing is read before it is empty.
    ready: VecDeque<FeedEvent>,
    pause: Duration,
}

impl Follower {
    /// A follower that needs message `next`. Connects when it is first asked.
    pub fn new(config: FollowerConfig, next: u64) -> Self {
        Self { config, next, socket: None, ready: VecDeque::new(), pause: Duration::ZERO }
    }

    /// The message that comes next.
    pub fn position(&self) -> u64 {
        match self.ready.iter().find_map(|event| match event {
            FeedEvent::Message(message) => Some(message.sequence),
            FeedEvent::Confirmed(_) => None,
        }) {
            Some(sequence) => sequence,
            None => self.next,
        }
    }

    /// What the feed says next. Waits, and connects again, until there is something. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<FeedEvent, FollowError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if let Err(error) = self.receive().await {
                self.drop_connection();
                return Err(error);
            }
        }
    }

    async fn receive(&mut self) -> Result<(), FollowError> {
        let Some(socket) = &mut self.socket else { return self.connect().await };
        let message = match time::timeout(self.config.silence, socket.next()).await {
            Ok(Some(Ok(message))) => message,
            lost => {
                let reason = match lost {
                    Ok(Some(Err(error))) => error.to_string(),
                    Ok(_) => "it was closed".into(),
                    Err(_) => "nothing came for too long".into(),
                };
                tracing::warn!(url = self.config.url, next = self.next, reason, "the feed was lost");
                self.drop_connection();
                return Ok(());
            }
        };
        let bytes = match message {
            Message::Text(text) => text.into(),
            Message::Binary(bytes) => bytes,
            Message::Close(frame) => {
                let reason = frame.map_or_else(String::new, |frame| frame.reason.to_string());
                tracing::warn!(url = self.config.url, next = self.next, reason, "the feed said good-bye");
                self.drop_connection();
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.accept(Broadcast::from_json(&bytes)?)
    }

    /// Takes over what is new of a broadcast: all of it, or nothing.
    fn accept(&mut self, broadcast: Broadcast) -> Result<(), FollowError> {
        let mut next = self.next;
        let mut events = Vec::with_capacity(broadcast.messages.len() + 1);
        for message in broadcast.messages.into_iter().filter(|message| message.sequence >= self.next) {
            if message.sequence != next {
                return Err(FollowError::Gap { expected: next, found: message.sequence });
            }
            if !self.config.signers.is_empty() {
                let found = signer(&message, self.config.chain_id);
                if !found.is_some_and(|found| self.config.signers.contains(&found)) {
                    return Err(FollowError::Signature { sequence: next, found });
                }
            }
            next += 1;
            events.push(FeedEvent::Message(Box::new(message)));
        }
        events.extend(broadcast.confirmed.map(FeedEvent::Confirmed));
        self.next = next;
        self.ready.extend(events);
        // Whoever sends something new is worth asking again at once.
        self.pause = Duration::ZERO;
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), FollowError> {
        time::sleep(self.pause).await;
        self.pause = (self.pause * 2).clamp(RECONNECT_MIN, RECONNECT_MAX);
        let url = &self.config.url;
        let address = |source| FollowError::Address { url: url.clone(), source: Box::new(source) };
        let mut request = url.as_str().into_client_request().map_err(address)?;
        request.headers_mut().insert(CLIENT_VERSION_HEADER, HeaderValue::from(FEED_VERSION));
        request.headers_mut().insert(REQUESTED_HEADER, HeaderValue::from(self.next));
        let limits = WebSocketConfig::default()
            .max_message_size(Some(BROADCAST_BYTES_MAX))
            .max_frame_size(Some(BROADCAST_BYTES_MAX));
        let connecting = connect_async_with_config(request, Some(limits), true);
        match time::timeout(self.config.silence, connecting).await {
            Ok(Ok((socket, response))) => {
                self.check(response.headers())?;
                tracing::debug!(url, next = self.next, "following the feed");
                self.socket = Some(socket);
            }
            Ok(Err(Error::Url(UrlError::UnableToConnect(reason)))) => {
                tracing::warn!(url, next = self.next, reason, "the feed cannot be had");
            }
            Ok(Err(error @ (Error::Url(_) | Error::HttpFormat(_)))) => return Err(address(error)),
            Ok(Err(error)) => tracing::warn!(url, next = self.next, %error, "the feed cannot be had"),
            Err(_) => tracing::warn!(url, next = self.next, "the feed does not answer"),
        }
        Ok(())
    }

    /// A server that does not say what it serves is believed: old ones do not.
    fn check(&self, headers: &HeaderMap) -> Result<(), FollowError> {
        let url = || self.config.url.clone();
        // What is no number is no version and no chain that is known.
        let stated = |name| number(headers, name).unwrap_or(Some(u64::MAX));
        match (stated(SERVER_VERSION_HEADER), stated(CHAIN_HEADER)) {
            (Some(found), _) if found != FEED_VERSION => Err(FollowError::Version { url: url(), found }),
            (_, Some(found)) if found != self.config.chain_id => {
                Err(FollowError::Chain { url: url(), expected: self.config.chain_id, found })
            }
            _ => Ok(()),
        }
    }

    fn drop_connection(&mut self) {
        self.socket = None;
    }
}
