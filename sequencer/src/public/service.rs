//! How is the public network started, asked and stopped?
//!
//! [`Service`] owns the tasks, [`Handle`] is what others hold. What happens in between is `actor.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use libp2p::{Multiaddr, PeerId, TransportError, identity::Keypair};
use lockstep_protocol::{
    bundle::SignedBundle,
    certificate::{CertificateError, Verifier},
    genesis::{Genesis, GenesisError},
    ids::{BundleId, Height, RollupId},
    refusal::Refusal,
    rpc::QueryError,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    BundleSink, LaneSource, Metrics, PublicConfig,
    actor::{Actor, Parts},
    behaviour::{self, Names, Roles},
    lanes::Lanes,
    verifier::{self, Keep},
};
use crate::keys::{AccountKind, KeysError, Secret};

/// Commands that wait to be taken.
const MAX_QUEUED_COMMANDS: usize = 256;

/// What the public network of a process is made of.
pub struct Setup {
    pub(super) config: PublicConfig,
    pub(super) keypair: Keypair,
    pub(super) verifier: Verifier,
    /// Every lane of the network.
    pub(super) rollups: Vec<RollupId>,
    /// The lanes that are gossiped and served here.
    pub(super) followed: BTreeSet<RollupId>,
    pub(super) source: Arc<dyn LaneSource>,
    pub(super) sink: Option<Arc<dyn BundleSink>>,
    /// A mirror's store: then lanes are followed over the network. A node's come from its log instead, and are published.
    pub(super) keep: Option<Keep>,
}

impl Setup {
    /// A node: publishes the lanes of `source` as they grow, serves them, and takes bundles for `sink`.
    pub fn node(
        config: PublicConfig,
        genesis: &Genesis,
        source: Arc<dyn LaneSource>,
        sink: Arc<dyn BundleSink>,
    ) -> Result<Self, StartError> {
        let followed = genesis.rules()?.rollup_ids();
        Self::new(config, genesis, followed, source, Some(sink), None)
    }

    pub(super) fn new(
        config: PublicConfig,
        genesis: &Genesis,
        followed: BTreeSet<RollupId>,
        source: Arc<dyn LaneSource>,
        sink: Option<Arc<dyn BundleSink>>,
        keep: Option<Keep>,
    ) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let rollups: Vec<_> = genesis.rules()?.rollup_ids().into_iter().collect();
        if let Some(unknown) = followed.iter().find(|rollup| !rollups.contains(rollup)) {
            return Err(StartError::UnknownRollup(*unknown));
        }
        let keypair = load_or_make_key(&config.key)?;
        let verifier = Verifier::new(genesis.network_id(), &genesis.group_key)?;
        Ok(Self { config, keypair, verifier, rollups, followed, source, sink, keep })
    }
}

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
    peer: PeerId,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    metrics: Arc<Metrics>,
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

/// A running public network. It stops when this is dropped; `shutdown` also waits for it.
pub struct Service {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), Stopped>>,
}

impl Service {
    /// Starts to listen, to call the bootstrap peers and to serve. Runs on the current tokio runtime.
    pub async fn start(setup: Setup) -> Result<Self, StartError> {
        let Setup { config, keypair, verifier, rollups, followed, source, sink, keep } = setup;
        let peer = keypair.public().to_peer_id();
        // Before the lanes are read, so that nothing is missed in between.
        let items = source.subscribe();
        let mut known = BTreeMap::new();
        for rollup in &followed {
            let latest = match source.latest(*rollup).await {
                // Until it is ready, gossip is judged from genesis: what comes waits for what is between.
                Err(QueryError::NotReady { .. }) => None,
                latest => latest?,
            };
            known.insert(*rollup, latest);
        }
        let names = Names::new(verifier.network());
        let roles = Roles { rollups, takes_bundles: sink.is_some(), max_incoming: config.max_incoming };
        let metrics = Arc::new(Metrics::new());
        let mut swarm = behaviour::swarm(keypair, &names, &roles, &metrics)?;
        for address in &config.listen {
            swarm
                .listen_on(address.clone())
                .map_err(|source| StartError::Listen { address: address.clone(), source })?;
        }
        for address in &config.external {
            swarm.add_external_address(address.clone());
        }
        let follows = keep.is_some();
        let (queue, reports, thread) = verifier::start(Lanes::new(verifier, known), keep);
        let (commands, command) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let (status, statuses) = watch::channel(Status::default());
        let (stop, stopped) = oneshot::channel();
        let parts = Parts {
            config,
            followed,
            follows,
            source,
            sink,
            items,
            queue,
            reports,
            commands: command,
            status,
            metrics: metrics.clone(),
            stop: stopped,
        };
        let actor = tokio::spawn(Actor::new(swarm, names, parts).run());
        let ended = tokio::spawn(async move {
            let result = actor.await.map_err(|error| Stopped::Task(error.to_string()))?;
            thread.await.map_err(|error| Stopped::Task(error.to_string()))?;
            result
        });
        let handle = Handle { peer, commands, status: statuses, metrics };
        Ok(Self { handle, stop: Some(stop), ended })
    }

    /// What others hold.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until it stops by itself, which it does only for a reason.
    pub async fn stopped(&mut self) -> Result<(), Stopped> {
        (&mut self.ended).await.unwrap_or_else(|error| Err(Stopped::Task(error.to_string())))
    }

    /// Stops it, and waits until everything it held is let go.
    pub async fn shutdown(mut self) -> Result<(), Stopped> {
        drop(self.stop.take());
        self.stopped().await
    }
}

/// The key in a file; a new one if there is no file.
fn load_or_make_key(path: &Path) -> Result<Keypair, StartError> {
    let secret = if path.exists() {
        Secret::load(path)?
    } else {
        let secret = Secret::generate(AccountKind::Ed25519)?;
        secret.save(path)?;
        secret
    };
    let Secret::Ed25519(seed) = secret else { return Err(StartError::KeyKind) };
    Keypair::ed25519_from_bytes(seed).map_err(|_| StartError::KeyKind)
}
