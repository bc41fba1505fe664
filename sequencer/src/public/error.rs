//! What can go wrong with the public network of a process?

use libp2p::{Multiaddr, TransportError};
use lockstep_protocol::{
    certificate::CertificateError, genesis::GenesisError, ids::RollupId, refusal::Refusal, rpc::QueryError,
};

use crate::keys::KeysError;

/// Why the public network does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value is out of its range.
    #[error("{0}")]
    Config(&'static str),
    /// The key file cannot be used.
    #[error(transparent)]
    Key(#[from] KeysError),
    /// The key file holds another kind of key.
    #[error("the key of the public network must be an ed25519 one")]
    KeyKind,
    /// The genesis is none.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The genesis has no usable group key.
    #[error(transparent)]
    GroupKey(#[from] CertificateError),
    /// A lane was asked for that the network does not have.
    #[error("rollup {0} is not registered on this network")]
    UnknownRollup(RollupId),
    /// The lanes we hold cannot be read.
    #[error("the lanes held here cannot be read: {0}")]
    Source(#[from] QueryError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: Multiaddr,
        /// Why not.
        source: TransportError<std::io::Error>,
    },
    /// The transports cannot be set up.
    #[error("the transports of the public network: {0}")]
    Transport(String),
    /// Gossip cannot be set up.
    #[error("the gossip of the public network: {0}")]
    Gossip(String),
}

/// Why the public network stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Verified items cannot be kept.
    #[error("verified lane items cannot be stored: {0}")]
    Store(String),
    /// A task of ours ended without being asked to.
    #[error("a task of the public network ended: {0}")]
    Task(String),
}

/// Why a bundle was not handed in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// No connected peer takes bundles.
    #[error("no connected peer takes bundles")]
    NoPeer,
    /// A peer refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is not known whether a peer took it: submit it again.
    #[error("no answer: {0}. Submit it again, it is ordered once at most")]
    NoAnswer(String),
    /// The public network has stopped.
    #[error("the public network has stopped")]
    Stopped,
}
