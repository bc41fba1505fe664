//! What does a relayer ask of the log, and tell it?
//!
//! Lockstep nodes answer, through the SDK. Decisions are proven; what stands open is a node's word, which costs a wasted look
//! at most.

use std::{future::Future, pin::Pin};

use lockstep_protocol::{
    evidence::BundleState,
    ids::{BundleId, RollupId, SettlementId},
    rpc::{DecisionPage, Fact, FactRefused, QueryError, RollupStatus, SettlementStatus},
    signature::AccountKey,
};
use lockstep_sdk::{BundleBuilder, Client, client::PrepareError};

/// Pages of open settlements that are read: with full ones, 4,096 settlements, more than caps let stand open.
const PAGES_MAX: usize = 32;
/// Settlements of a page: the most that a node gives.
const PAGE_MAX: u64 = 128;

/// Why the log gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It has no use for a fact.
    #[error("the log refuses a fact: {0}")]
    Fact(FactRefused),
    /// No node answers, or those that do refuse.
    #[error("{0}")]
    Nodes(Box<lockstep_sdk::Error>),
    /// No bundle was made.
    #[error("{0}")]
    Prepare(Box<PrepareError>),
    /// There is no key to pay with.
    #[error("no account key to send bundles with")]
    NoKey,
}

impl LogError {
    /// Whether nodes said no, so that nothing of what was sent will come of it.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Fact(_) | Self::NoKey | Self::Prepare(_) => true,
            Self::Nodes(error) => {
                matches!(**error, lockstep_sdk::Error::Refused { .. } | lockstep_sdk::Error::Invalid(_))
            }
        }
    }
}

impl From<lockstep_sdk::Error> for LogError {
    fn from(error: lockstep_sdk::Error) -> Self {
        Self::Nodes(Box::new(error))
    }
}

impl From<PrepareError> for LogError {
    fn from(error: PrepareError) -> Self {
        Self::Prepare(Box::new(error))
    }
}

/// What the log answers with.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, LogError>> + Send + 'a>>;

/// The log, as a relayer of one rollup sees it: the network, or a test.
pub trait Log: Send + Sync {
    /// What it knows of the rollup.
    fn status(&self) -> Answer<'_, RollupStatus>;
    /// The settlements with a leg on the rollup that were not seen applied everywhere.
    fn unsettled(&self) -> Answer<'_, Vec<SettlementStatus>>;
    /// Decisions of the rollup's lane from this number on, at most so many, proven.
    fn decisions(&self, from: u64, most: u64) -> Answer<'_, DecisionPage>;
    /// Whether it has ever ordered or decided a settlement.
    fn knows(&self, settlement: SettlementId) -> Answer<'_, bool>;
    /// Shows it something.
    fn send_fact(&self, fact: Fact) -> Answer<'_, ()>;
    /// Hands it a transaction for the rollup's lane, which may be ordered within so many heights.
    fn submit(&self, transaction: Vec<u8>, valid_for: u64) -> Answer<'_, BundleId>;
    /// Whether a bundle is ordered, by a node's word.
    fn is_ordered(&self, bundle: BundleId) -> Answer<'_, bool>;
}

/// The log over the network.
pub struct NetworkLog {
    client: Client,
    rollup: RollupId,
    key: Option<AccountKey>,
}

impl NetworkLog {
    /// The log as `client` reaches it. Bundles are paid by the account of `key`.
    pub fn new(client: Client, rollup: RollupId, key: Option<AccountKey>) -> Self {
        Self { client, rollup, key }
    }
}

impl Log for NetworkLog {
    fn status(&self) -> Answer<'_, RollupStatus> {
        Box::pin(async move { Ok(self.client.rollup_status(self.rollup).await?) })
    }

    fn unsettled(&self) -> Answer<'_, Vec<SettlementStatus>> {
        Box::pin(async move {
            let (mut all, mut after) = (Vec::new(), None);
            for _ in 0..PAGES_MAX {
                let page = self.client.unsettled(self.rollup, after, PAGE_MAX).await?;
                all.extend(page.settlements);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            Ok(all)
        })
    }

    fn decisions(&self, from: u64, most: u64) -> Answer<'_, DecisionPage> {
        Box::pin(async move { Ok(self.client.decisions(self.rollup, from, most).await?) })
    }

    fn knows(&self, settlement: SettlementId) -> Answer<'_, bool> {
        Box::pin(async move {
            match self.client.settlement(settlement).await {
                Ok(_) => Ok(true),
                Err(lockstep_sdk::Error::Query { query: QueryError::UnknownSettlement { .. }, .. }) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn send_fact(&self, fact: Fact) -> Answer<'_, ()> {
        Box::pin(async move {
            match self.client.send_fact(&fact).await {
                Ok(_) => Ok(()),
                Err(lockstep_sdk::Error::FactRefused { refused, .. }) => Err(LogError::Fact(refused)),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn submit(&self, transaction: Vec<u8>, valid_for: u64) -> Answer<'_, BundleId> {
        Box::pin(async move {
            let key = self.key.as_ref().ok_or(LogError::NoKey)?;
            let builder = BundleBuilder::new().leg(self.rollup, [transaction]).valid_for(valid_for);
            let signed = self.client.prepare(builder, key).await?;
            Ok(self.client.send(&signed).await?.bundle_id)
        })
    }

    fn is_ordered(&self, bundle: BundleId) -> Answer<'_, bool> {
        Box::pin(async move {
            match self.client.status(bundle).await {
                Ok(status) => Ok(matches!(status.state, BundleState::Ordered { .. })),
                // The node that is asked never saw it, or has forgotten it.
                Err(lockstep_sdk::Error::Query { query: QueryError::UnknownBundle { .. }, .. }) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }
}
