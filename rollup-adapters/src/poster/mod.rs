//! How does a batch get into an L1 block, whatever happens to us, to L1 and to the fees meanwhile?
//!
//! ```text
//! rpc.rs          one JSON-RPC endpoint over HTTP: bounded in time and size, with a JWT where it wants one
//! l1.rs           what is asked of L1, in standard `eth_*` calls alone
//! l1_chain.rs     the recent headers of L1 as one chain, and how far a reorganisation went back
//! beacon.rs       blobs, which the execution layer does not keep
//! fees.rs         what to offer, what to offer when it is not taken, and blobs or calldata (pure)
//! signer.rs       the key: in a file, or with an external command
//! envelope.rs     a request, a nonce and a price -> a signed transaction
//! sender.rs       several transactions in order, until they are in blocks
//! target.rs       blobs or calldata, also while one of them is stuck
//! verdict.rs      what a node's refusal means
//! lease.rs        may I post now?
//! ```
//!
//! Nothing is remembered across a restart, because L1 remembers: what to post next is what L1 does not have yet, nonces
//! are L1's, and a transaction that an earlier run left in the pool is waited for or replaced. What is posted twice has no
//! effect the second time. What to post is each rollup's own: `optimism/post.rs`, `arbitrum/`.

pub mod beacon;
pub mod blob_schedule;
pub(crate) mod envelope;
pub mod fees;
pub mod l1;
pub mod l1_chain;
pub mod lease;
pub mod rpc;
pub mod sender;
pub mod signer;
pub(crate) mod target;
mod verdict;

pub use beacon::Beacon;
pub use blob_schedule::BlobSchedule;
pub use envelope::Sidecar;
pub use fees::{FeeConfig, Market, Price};
pub use l1::{L1, L1Block, L1Header, L1Transaction, Log};
pub use l1_chain::L1Chain;
pub use lease::{Lease, LogLease, NetworkBook, Unleased};
pub use rpc::{Jwt, Rpc, RpcError};
pub use sender::{Included, Request, SendError, Sender, SenderConfig};
pub use signer::{Signer, SignerConfig, SignerError};
pub use target::Target;
