//! How does somebody who is no validator serve the lanes to others?
//!
//! `lockstep mirror` joins the public network through any peer, follows the lanes from genesis, checks every item with the
//! group key of a `genesis.json`, keeps what is proven and serves it in turn. It trusts nobody and has no link to the
//! validators' private network; who reads from it need not trust it either.

mod store;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use libp2p::Multiaddr;
use lockstep_protocol::{
    genesis::{Genesis, GenesisError},
    ids::RollupId,
};

use super::{Handle, PublicConfig, Service, Setup, StartError, Stopped};
use crate::keys::{KeysError, load_genesis};

pub use store::{MirrorStore, StoreError};

/// Between two lines of the log that say how far the mirror is.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// The command line of `lockstep mirror`.
#[derive(Clone, Debug, clap::Args)]
pub struct MirrorArgs {
    /// The network's genesis.json. Its group key is all that the mirror trusts: get it from where you trust.
    #[arg(long)]
    pub genesis: PathBuf,
    /// Folder for the lanes and the mirror's own key. Made if it is missing.
    #[arg(long)]
    pub data: PathBuf,
    /// A peer to join through, for example /ip4/192.0.2.1/tcp/9645/p2p/12D3KooW... May be given several times.
    #[arg(long = "bootstrap", required = true)]
    pub bootstrap: Vec<Multiaddr>,
    /// An address to serve others on, for example /ip4/0.0.0.0/tcp/9645 or /ip4/0.0.0.0/udp/9645/quic-v1. May be given
    /// several times.
    #[arg(long = "listen")]
    pub listen: Vec<Multiaddr>,
    /// An address at which others reach this mirror, where it differs from those it listens on.
    #[arg(long = "external")]
    pub external: Vec<Multiaddr>,
    /// A rollup to follow, by its id. May be given several times; without it, all of the network's.
    #[arg(long = "rollup")]
    pub rollups: Vec<u64>,
    /// Connections from others, at most.
    #[arg(long, default_value_t = PublicConfig::default().max_incoming)]
    pub max_incoming: u32,
}

/// What a mirror is to do.
#[derive(Clone, Debug)]
pub struct MirrorConfig {
    /// The network.
    pub genesis: Genesis,
    /// Folder for the lanes.
    pub data: PathBuf,
    /// The lanes to follow; none: all.
    pub rollups: BTreeSet<RollupId>,
    /// How it takes part in the network.
    pub network: PublicConfig,
}

/// Why there is no mirror.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The genesis cannot be read.
    #[error(transparent)]
    Files(#[from] KeysError),
    /// The genesis is none.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The folder cannot be made.
    #[error("cannot make {path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The lanes cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The public network does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The public network stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Signals of the operating system cannot be heard.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

impl MirrorArgs {
    /// Reads the genesis, and what else the command line names.
    pub fn into_config(self) -> Result<MirrorConfig, MirrorError> {
        Ok(MirrorConfig {
            genesis: load_genesis(&self.genesis)?,
            rollups: self.rollups.into_iter().map(RollupId).collect(),
            network: PublicConfig {
                key: self.data.join("public.key"),
                listen: self.listen,
                external: self.external,
                bootstrap: self.bootstrap,
                max_incoming: self.max_incoming,
                ..PublicConfig::default()
            },
            data: self.data,
        })
    }
}

/// A running mirror.
pub struct Mirror {
    service: Service,
    store: MirrorStore,
}

impl Mirror {
    /// Starts to follow and to serve, from where the folder's lanes end.
    pub async fn start(config: MirrorConfig) -> Result<Self, MirrorError> {
        let MirrorConfig { genesis, data, mut rollups, network } = config;
        let known = genesis.rules()?.rollup_ids();
        if rollups.is_empty() {
            rollups = known;
        }
        std::fs::create_dir_all(&data).map_err(|source| MirrorError::Folder { path: data.clone(), source })?;
        let store = MirrorStore::open(&data.join("lanes.redb"), &genesis, &rollups)?;
        let keeper = store.clone();
        let keep = Box::new(move |items: &[Arc<_>]| keeper.keep(items).map_err(|error| error.to_string()));
        let source = Arc::new(store.clone());
        let setup = Setup::new(network, &genesis, rollups, source, None, Some(keep))?;
        Ok(Self { service: Service::start(setup).await?, store })
    }

    /// Its part in the public network.
    pub fn handle(&self) -> Handle {
        self.service.handle()
    }

    /// Its lanes.
    pub fn store(&self) -> &MirrorStore {
        &self.store
    }

    /// Stops it, and lets its file go.
    pub async fn shutdown(self) -> Result<(), MirrorError> {
        Ok(self.service.shutdown().await?)
    }
}

/// Runs a mirror until the process is asked to stop.
pub async fn run(config: MirrorConfig) -> Result<(), MirrorError> {
    let mut terminate = stop_signal()?;
    let mut mirror = Mirror::start(config).await?;
    let mut say = tokio::time::interval(SAY_EVERY);
    loop {
        tokio::select! {
            ended = mirror.service.stopped() => return Ok(ended?),
            _ = &mut terminate => break,
            _ = say.tick() => {
                let handle = mirror.handle();
                let status = handle.status();
                let status = status.borrow();
                tracing::info!(
                    peers = status.peers.len(),
                    blocked = status.blocked,
                    verified = handle.metrics().verified.get(),
                    served = handle.metrics().served_items.get(),
                    lanes = ?status.lanes,
                    "mirror"
                );
            }
        }
    }
    mirror.shutdown().await
}

/// Resolves when the process is asked to stop: Ctrl-C, or SIGTERM where there is one.
fn stop_signal() -> Result<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>, MirrorError> {
    #[cfg(unix)]
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(MirrorError::Signals)?;
    Ok(Box::pin(async move {
        #[cfg(unix)]
        let asked = async {
            terminate.recv().await;
        };
        #[cfg(not(unix))]
        let asked = std::future::pending::<()>();
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = asked => {}
        }
    }))
}
