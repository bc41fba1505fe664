//! How is the public network started, asked and stopped?
//!
//! [`Service`] owns the tasks, [`Handle`] is what others hold. What happens in between is `actor.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use libp2p::identity::Keypair;
use lockstep_protocol::{certificate::Verifier, genesis::Genesis, ids::RollupId, rpc::QueryError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    BundleSink, LaneSource, Metrics, PublicConfig,
    actor::{Actor, Parts},
    behaviour::{self, Names, Roles},
    error::{StartError, Stopped},
    handle::{Handle, Status},
    lanes::Lanes,
    verifier::{self, Keep},
};
use crate::keys::{AccountKind, Secret};

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
