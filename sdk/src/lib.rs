//! What a market maker links: build and sign bundles, send them to several nodes, and believe no node.
//!
//! A client is given one key, the network's group key, out of band. Everything it reports was proven with that key: headers
//! by their certificates, records by state proofs, outcomes by an account's report chain, lanes by their hash chain. A node
//! that answers falsely is passed over, counted, and named.
//!
//! ```no_run
//! use std::time::Duration;
//! use lockstep_sdk::{BundleBuilder, Client, Trust, client::Config};
//! use lockstep_sdk::protocol::{evidence::BundleState, genesis::Genesis, ids::RollupId, signature::AccountKey};
//!
//! # async fn trade(signed_on_10: Vec<u8>, signed_on_8453: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! // From a place that you trust, not from a node.
//! let genesis: Genesis = serde_json::from_slice(&std::fs::read("genesis.json")?)?;
//! let nodes = vec!["http://node-1:8545".into(), "http://node-2:8545".into()];
//! let client = Client::new(Trust::from_genesis(&genesis)?, Config { nodes, ..Config::default() })?;
//!
//! let key = AccountKey::ed25519([7; 32]);
//! let bundle = BundleBuilder::new()
//!     .leg(RollupId(10), [signed_on_10])
//!     .leg(RollupId(8453), [signed_on_8453])
//!     .valid_for(64);
//! let signed = client.prepare(bundle, &key).await?;
//! let outcome = client.submit_and_wait(&signed, Duration::from_secs(30)).await?;
//! match outcome.state {
//!     BundleState::Ordered { height, fee } => println!("both legs in block {height}, for {fee} credits"),
//!     BundleState::Expired => println!("neither leg was ordered, and neither ever will be"),
//!     other => println!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Which question is answered where
//!
//! | you want to | call | what you get is |
//! | --- | --- | --- |
//! | send a bundle and know how it ends | [`Client::submit_and_wait`] | proven; [`Evidence`] convinces third parties too |
//! | look how it stands | [`Client::prove`], [`Client::status`] | proven; a node's word |
//! | follow a rollup's lane | [`Client::follow`] | proven, item by item, without gaps |
//! | follow your account | [`Client::reports`] | proven, numbered, without gaps |
//! | know balance, nonces, base fees | [`Client::account`], [`Client::lane`] | proven |
//! | move margin between venues | [`MarginTransfer`], [`Client::run_transfer`] | each step proven; levels and venues' reasons are words |
//! | know why a transfer would be refused | [`Client::dry_run`], [`transfer::Venue`] | the log's rules over proven records; the rollups' word |
//! | know how a settlement stands, and how it was decided | [`Client::settlement_record`], [`Client::prove_decision`] | proven; [`DecisionProof`] convinces third parties too |
//! | take a lane's decisions to a contract | [`Client::decisions`] | proven, each with what it is of |
//! | know what is open, what may move | [`Client::unsettled`], [`Client::rollup_status`], [`Client::corridors`] | a node's word; what a settlement moves is proven by its id |
//! | estimate a fee | [`Client::prepare`], [`BundleBuilder::estimate`] | a node's word, bounded by `max_fee` |
//!
//! # Retries
//!
//! `(account, nonce)` is the idempotency key: of all bundles with it at most one is ever ordered. The same signed bundle may be
//! sent to any node any number of times; [`Client::submit_and_wait`] does, and when a node then says `nonce_used`, the proof
//! tells by whom. Nonces need no order, and reach about a thousand above the highest used.
//!
//! # What is not proven
//!
//! *Freshness*: a proof shows how things stood at its height, and a node may show an old one. Heights are part of every
//! answer, a node far behind is passed over ([`client::Config::max_lag`]), and nodes are asked in turn. *A refusal*: see
//! [`SubmitError::Refused`]. *Execution*: ordering is not execution; a leg may fail by its rollup's own rules.
//!
//! # TLS
//!
//! `https://` and `wss://` need the cargo feature `tls`, off by default: answers prove themselves over any transport. What TLS
//! adds is privacy of what you send until it is ordered; use it, or a private network, towards nodes that are not yours.

pub mod bundle;
pub mod client;
mod config;
pub mod decision;
pub mod error;
mod feed;
pub mod follow;
mod node;
mod nodes;
pub mod proof;
pub mod reports;
mod rpc;
mod settlements;
pub mod submit;
mod track;
pub mod transfer;
pub mod trust;

pub use lockstep_protocol as protocol;

pub use bundle::BundleBuilder;
pub use client::Client;
pub use decision::{DecisionProof, Verdict};
pub use error::{Error, Fault};
pub use follow::LaneFollower;
pub use node::NodeStats;
pub use submit::{Outcome, SubmitError};
pub use transfer::MarginTransfer;
pub use trust::{Evidence, Trust};
