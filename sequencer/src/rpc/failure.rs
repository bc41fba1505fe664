//! How does a method say no?
//!
//! With a code of JSON-RPC or EIP-1474, a sentence, and `data`: a stable reason with its facts.

use jsonrpsee::types::ErrorObjectOwned;
use lockstep_protocol::{
    refusal::Refusal,
    rpc::{FactRefused, QueryError, codes},
};

use crate::{
    facts::Refused,
    index::{IndexError, feed::FeedError},
};

/// Why a method has no result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A bundle or cancel was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A fact was refused.
    #[error(transparent)]
    Fact(#[from] Refused),
    /// The question has no answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The node failed.
    #[error("the node failed; its operator finds the cause in its log")]
    Node,
}

impl Failure {
    /// Parameters that are not what the method takes.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        QueryError::BadRequest { detail: detail.into() }.into()
    }

    fn code(&self) -> i32 {
        match self {
            Self::Refused(_) | Self::Fact(_) => codes::REFUSED,
            Self::Node => codes::INTERNAL,
            Self::Query(query) => match query {
                QueryError::BadRequest { .. } => codes::INVALID_PARAMS,
                QueryError::TooMany { .. } | QueryError::TooSlow { .. } => codes::LIMIT,
                QueryError::AheadOfTip { .. } | QueryError::NotReady { .. } => codes::UNAVAILABLE,
                QueryError::Pruned { .. }
                | QueryError::UnknownRollup { .. }
                | QueryError::UnknownBundle { .. }
                | QueryError::UnknownSettlement { .. } => codes::NOT_FOUND,
            },
        }
    }
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        tracing::error!(%error, "a question could not be answered");
        Self::Node
    }
}

impl From<FeedError> for Failure {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Query(query) => Self::Query(query),
            FeedError::Index(error) => error.into(),
        }
    }
}

impl From<Failure> for ErrorObjectOwned {
    fn from(failure: Failure) -> Self {
        let (code, message) = (failure.code(), failure.to_string());
        match failure {
            Failure::Refused(refusal) => Self::owned(code, message, Some(refusal)),
            Failure::Fact(refused) => Self::owned(code, message, Some(FactRefused::from(refused))),
            Failure::Query(query) => Self::owned(code, message, Some(query)),
            Failure::Node => Self::owned(code, message, None::<()>),
        }
    }
}
