//! The client: questions to several nodes, answered by one that is believed.
//!
//! Sending a bundle and waiting for its outcome is in `submit.rs`, following a lane in `follow.rs`.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lockstep_protocol::{
    account::AccountRecord,
    bundle::{SignedBundle, SignedCancel},
    genesis::Rollup,
    header::Header,
    ids::{Account, BundleId, Height, RollupId},
    limits::Limits,
    rpc::{BundleStatus, CancelSent, FinalHeader, LaneFee, Network, Sent, StateQuery},
    signature::AccountKey,
    state::LaneRecord,
};
use tokio::time::Instant;

pub use crate::config::Config;
use crate::{
    bundle::{BuildError, BundleBuilder},
    error::{CheckError, ConfigError, Error, Fault},
    node::{Node, NodeStats},
    nodes::Nodes,
    rpc,
    trust::{Proven, Trust},
};

/// A client of one network over several nodes. Cheap to clone; all clones share what they know of the nodes.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) trust: Trust,
    pub(crate) nodes: Nodes,
    pub(crate) config: Config,
    /// The highest height that was proven final to this client.
    known: AtomicU64,
}

impl Client {
    /// A client that trusts `trust` and asks the nodes of `config`. Connects when it is used.
    pub fn new(trust: Trust, config: Config) -> Result<Self, ConfigError> {
        let nodes = Nodes::new(&config)?;
        Ok(Self { inner: Arc::new(Inner { trust, nodes, config, known: AtomicU64::new(0) }) })
    }

    /// What this client trusts.
    pub fn trust(&self) -> &Trust {
        &self.inner.trust
    }

    /// How the nodes behaved so far, in the order in which they were given.
    pub fn nodes(&self) -> Vec<NodeStats> {
        self.inner.nodes.stats()
    }

    /// The network as a node describes it. Id and group key are compared with the trusted ones; the rest is its word.
    pub async fn network(&self) -> Result<Network, Error> {
        self.ask(|node, timeout| async move {
            let network = rpc::get_network(&node, timeout).await?;
            let expected = self.trust().network();
            if network.id != expected {
                return Err(CheckError::Network { expected, found: network.id }.into());
            }
            if network.group_key != *self.trust().group_key() {
                return Err(CheckError::GroupKey.into());
            }
            Ok(network)
        })
        .await
    }

    /// The latest header of a node, proven final. How late it is, nobody can prove.
    pub async fn tip(&self) -> Result<FinalHeader, Error> {
        self.final_header(None).await
    }

    /// The header at a height, proven final.
    pub async fn header(&self, height: Height) -> Result<FinalHeader, Error> {
        self.final_header(Some(height)).await
    }

    /// An account's record, proven. `None` for an account that was never funded.
    pub async fn account(&self, account: Account) -> Result<Proven<AccountRecord>, Error> {
        self.ask(|node, timeout| async move {
            let answer = rpc::get_state(&node, StateQuery::Account(account), timeout).await?;
            let value = self.trust().check_account(account, &answer).map_err(Fault::Lie)?;
            self.note_height(&answer.header)?;
            Ok(Proven { value, header: answer.header })
        })
        .await
    }

    /// A lane's record, proven: its leaf and its base fee for the next block.
    pub async fn lane(&self, rollup: RollupId) -> Result<Proven<LaneRecord>, Error> {
        self.ask(|node, timeout| async move {
            let answer = rpc::get_state(&node, StateQuery::Lane(rollup), timeout).await?;
            let value = self.trust().check_lane(rollup, &answer).map_err(Fault::Lie)?;
            self.note_height(&answer.header)?;
            Ok(Proven { value, header: answer.header })
        })
        .await
    }

    /// Base fees of all lanes, as a node quotes them: good for an estimate, and a bundle's `max_fee` bounds the error. What
    /// is paid is decided by the log. [`Self::lane`] proves a base fee.
    pub async fn fees(&self) -> Result<Vec<LaneFee>, Error> {
        self.ask(|node, timeout| async move { rpc::get_fees(&node, timeout).await }).await
    }

    /// The limits in force, as a node tells them.
    pub async fn limits(&self) -> Result<Limits, Error> {
        self.ask(|node, timeout| async move { rpc::get_limits(&node, timeout).await }).await
    }

    /// The registered rollups, as a node tells them.
    pub async fn rollups(&self) -> Result<Vec<Rollup>, Error> {
        self.ask(|node, timeout| async move { rpc::get_rollups(&node, timeout).await }).await
    }

    /// Where a node says a bundle stands: quick, and not proven. For what is proven see [`Self::prove`].
    pub async fn status(&self, bundle: BundleId) -> Result<BundleStatus, Error> {
        self.ask(|node, timeout| async move {
            let status = rpc::get_bundle(&node, bundle, timeout).await?;
            if status.bundle_id != bundle {
                return Err(Fault::Malformed { detail: format!("the status of bundle {}", status.bundle_id) });
            }
            Ok(status)
        })
        .await
    }

    /// Fills in what the builder lacks (nonce, `max_fee`) from the network, and signs.
    ///
    /// The nonce is the account's next one *now*: two bundles prepared at the same time get the same, so that only one of
    /// them is ever ordered. Who has several on the way counts nonces itself.
    pub async fn prepare(&self, builder: BundleBuilder, key: &AccountKey) -> Result<SignedBundle, PrepareError> {
        let (builder, tip) = if builder.has_nonce() {
            let tip = self.tip().await?.header.height;
            (builder, tip)
        } else {
            let account = self.account(key.account()).await?;
            let nonce = account.value.map_or(0, |record| record.nonces.next());
            (builder.nonce(nonce), account.header.height)
        };
        let builder = if builder.has_max_fee() { builder } else { builder.estimate(&self.fees().await?)? };
        Ok(builder.sign(self.trust().network(), key, tip)?)
    }

    /// Sends a bundle to the first node that takes it. Any number of times: the same bundle is ordered at most once.
    ///
    /// A node that takes a bundle promises nothing; see [`Self::submit_and_wait`].
    pub async fn send(&self, signed: &SignedBundle) -> Result<Sent, Error> {
        let nodes = &self.inner.nodes;
        self.send_around(signed, self.deadline(), nodes.preferred(), self.inner.config.rounds).await
    }

    /// Sends a cancel to the first node that takes it.
    pub async fn cancel(&self, signed: &SignedCancel) -> Result<CancelSent, Error> {
        signed.cancel.check_shape(self.trust().network()).map_err(Error::Invalid)?;
        signed.check_signature().map_err(Error::Invalid)?;
        let digest = signed.cancel.digest();
        self.ask(|node, timeout| async move {
            let sent = rpc::cancel_bundle(&node, signed, timeout).await?;
            if sent.digest != digest {
                return Err(Fault::Malformed { detail: format!("took cancel {}, sent was {digest}", sent.digest) });
            }
            Ok(sent)
        })
        .await
    }

    async fn final_header(&self, height: Option<Height>) -> Result<FinalHeader, Error> {
        self.ask(|node, timeout| async move {
            let answer = rpc::get_header(&node, height, timeout).await?;
            self.trust().check_header(&answer, height).map_err(Fault::Lie)?;
            if height.is_none() {
                self.note_height(&answer.header)?;
            }
            Ok(answer)
        })
        .await
    }

    pub(crate) async fn ask<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        ask: impl Fn(Arc<Node>, Duration) -> F,
    ) -> Result<T, Error> {
        self.inner.nodes.ask(self.deadline(), ask).await
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.inner.config.deadline
    }

    /// Notes that a header was proven final, and finds out who is far behind what is known.
    pub(crate) fn note_height(&self, header: &Header) -> Result<(), Fault> {
        let height = header.height;
        let known = self.inner.known.fetch_max(height.0, Ordering::Relaxed);
        if height.0.saturating_add(self.inner.config.max_lag) < known {
            return Err(Fault::Behind { height, known: Height(known) });
        }
        Ok(())
    }
}

/// A bundle could not be prepared.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts of the causes say what each variant means")]
pub enum PrepareError {
    #[error(transparent)]
    Ask(#[from] Error),
    #[error(transparent)]
    Build(#[from] BuildError),
}
