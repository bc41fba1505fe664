//! What do others hold of a running public network?

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use libp2p::{Multiaddr, PeerId};
use lockstep_protocol::{
    bundle::SignedBundle,
    ids::{BundleId, Height, RollupId},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Metrics, error::SubmitError};

/// How the public network stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Addresses that are listened on, as they are in fact.
    pub listen: Vec<Multiaddr>,
    /// Connected peers.
    pub peers: BTreeSet<PeerId>,
    /// How many peers are kept out.
    pub blocked: usize,
    /// Up to which height each lane is verified.
    pub lanes: BTreeMap<RollupId, Height>,
}

pub(super) enum Command {
    Submit(Box<SignedBundle>, oneshot::Sender<Result<BundleId, SubmitError>>),
    Dial(Multiaddr),
}

/// What others hold of a running public network. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) peer: PeerId,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) metrics: Arc<Metrics>,
}

impl Handle {
    /// Who we are.
    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// How things stand; the receiver tells of changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Addresses that others can put into their `bootstrap`.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        let listen = &self.status.borrow().listen;
        listen.iter().map(|address| address.clone().with_p2p(self.peer).unwrap_or_else(|address| address)).collect()
    }

    /// The numbers.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Connects to a peer, some time soon.
    pub async fn dial(&self, address: Multiaddr) {
        let _ = self.commands.send(Command::Dial(address)).await;
    }

    /// Hands a bundle to a connected peer that takes bundles.
    pub async fn submit(&self, bundle: SignedBundle) -> Result<BundleId, SubmitError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Submit(Box::new(bundle), reply);
        self.commands.send(command).await.map_err(|_| SubmitError::Stopped)?;
        answer.await.map_err(|_| SubmitError::Stopped)?
    }
}
