//! Why does a node not start, or not run any more?

use std::path::PathBuf;

use lockstep_consensus::{keys::KeyError, node::StartError};
use lockstep_protocol::genesis::GenesisError;

use crate::{heads::SignedError, index::IndexError, keys::KeysError, public, rpc::ServerError};

/// Why a node does not start, or does not run any more.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Keys or genesis.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The keys are not of this network.
    #[error("{0}: the files under [keys] and the genesis belong to different networks or validators")]
    Group(KeyError),
    /// The genesis is wrong.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The record of signed heads.
    #[error("{0}. Without it this validator could sign two blocks of one number")]
    Heads(#[from] SignedError),
    /// The log.
    #[error("the log does not start: {0}")]
    Log(#[from] StartError),
    /// The log ended by itself.
    #[error("the log has ended; the cause is above. Starting the node again recovers what can be recovered")]
    LogEnded,
    /// The RPC.
    #[error(transparent)]
    Rpc(#[from] ServerError),
    /// The public network does not start.
    #[error("the public network does not start: {0}. Leave [public] out to run without it")]
    Public(#[from] public::StartError),
    /// The public network ended by itself.
    #[error("the public network has ended: {0}")]
    PublicEnded(public::Stopped),
    /// The operating system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The old index cannot be deleted.
    #[error("cannot delete {path}: {source}")]
    Delete {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}
