//! How does a Nitro node learn the order before it is on L1?
//!
//! From a sequencer feed: JSON messages over WebSocket, in order, from a number that the client asks for.
//!
//! ```text
//! broadcast.rs  a message, its JSON, the hash that is signed
//! signature.rs  the signature
//! handshake.rs  the headers that both sides exchange
//! backlog.rs    messages held ready, as frames: every client is sent the same bytes
//! shared.rs     settings, counters, and what server and clients share
//! server.rs     accepts clients and tells all of them about new messages
//! client.rs     one client: what it is sent, what it says, when it is cut
//! incoming.rs   the frames that a client sends
//! follower.rs   the other end: follows a feed, in order, without gaps
//! ```
//!
//! The server is judged by a client that is not ours (`judges/nitro/`). It does not know where messages come from: the driver
//! publishes them (`drive.rs`).

mod backlog;
mod broadcast;
mod client;
mod follower;
mod handshake;
mod incoming;
mod server;
mod shared;
mod signature;

pub use backlog::{BacklogLimits, OutOfOrder};
pub use broadcast::{
    BROADCAST_VERSION, Broadcast, BroadcastError, FeedMessage, KIND_BATCH_REPORT, KIND_DEPOSIT, KIND_INITIALIZE,
    KIND_L2_MESSAGE, MESSAGES_MAX, MessageHeader, SEQUENCER,
};
pub(in crate::arbitrum) use broadcast::{MessageJson, message_from, message_json};
pub use client::Departure;
pub use follower::{FeedEvent, FollowError, Follower, FollowerConfig};
pub use handshake::{CHAIN_HEADER, CLIENT_VERSION_HEADER, FEED_VERSION, REQUESTED_HEADER, SERVER_VERSION_HEADER};
pub use incoming::{Nonsense, Said, next as next_client_frame};
pub use server::FeedServer;
pub use shared::{FeedConfig, FeedStats, History};
pub use signature::{FeedSigner, signer};
