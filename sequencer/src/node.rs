//! What is a running node made of?
//!
//! Starts the parts in order, joins them, and stops them in order. What each part does is its own business.
//!
//! ```text
//!  clients --> rpc --> admission --> pool <--> gossip <--> other validators
//!               ^                     |  ^
//!               |            candidate|  |settled
//!              feed                   v  |
//!               ^      final blocks  log (consensus, state)
//!               +---- index <---------+
//!
//!  rollup nodes --> heads --> facts <--> gossip, rpc, state; candidate --> log
//! ```

mod error;
mod process;
mod rollups;

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lockstep_consensus::{
    config::{Join, Limits, Retention},
    handle::Handle,
    keys::Group,
    node::{Config as LogConfig, Node as Log, StartError},
};
use lockstep_protocol::{
    account::AccountRecord,
    genesis::Genesis,
    ids::{Account, Height, RollupId},
    limits::MAX_BODY_BYTES,
};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc, oneshot},
    task::JoinHandle,
};
use tracing::{debug, error, info};

use crate::{
    admission::Admission,
    application::{Application, FINALIZED_QUEUE},
    config::Config,
    gossip::Gossip,
    index::{
        Applied, Index, IndexError,
        feed::Feed,
        follow::{catch_up, follow},
    },
    keys,
    metrics::Metrics,
    pool::{Pool, PoolConfig, StateView},
    public::{self, Lent},
    rpc::{self, Levels, Outcomes, Server, Service},
};

pub use error::NodeError;
pub use process::{block_on, init_log, raise_file_limit, terminated};

/// Longest wait for calls that run when the node is stopped: most waits for a bundle are longer, and can be asked again.
const STOP_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether the index is let go.
const RELEASE_INTERVAL: Duration = Duration::from_millis(2);
/// How often it is looked whether the log still runs.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// A running node.
pub struct Node {
    log: Log,
    around: Around,
}

/// What runs around the log.
struct Around {
    server: Server,
    public: Option<public::Service>,
    index: Arc<Index>,
    service: Arc<Service>,
    stop_following: oneshot::Sender<()>,
    following: JoinHandle<Result<(), IndexError>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Runs a node until `stop` is ready, or until it fails.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
    let node = Node::start(&config).await?;
    node.run(stop).await
}

/// Deletes the index and makes it again from the node's own blocks, without talking to anybody. Returns its height.
pub async fn rebuild_index(config: Config) -> Result<Height, NodeError> {
    let genesis = keys::load_genesis(&config.genesis)?;
    let path = config.index_file();
    // Whoever runs on this folder holds the file; a damaged one is nobody's.
    if let Err(error @ IndexError::InUse(_)) = Index::open(&path, &genesis) {
        return Err(error.into());
    }
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(NodeError::Delete { path, source }),
        Ok(()) | Err(_) => {}
    }
    let parts = Parts::new(&config, genesis)?;
    // Alone: an ephemeral port, and peers that nobody is. With these the log opens its archive and can finalize nothing,
    // unless it is the only validator.
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut log = parts.log_config(&config)?;
    log.listen = nobody;
    log.peers.iter_mut().for_each(|(_, address)| *address = (Ipv4Addr::LOCALHOST, 1).into());
    log.local = true;
    let log = start_log(log, parts.application.clone()).await?;
    let caught_up = catch_up(&parts.index, &log.handle()).await;
    stop_log(log).await;
    caught_up?;
    Ok(parts.index.height())
}

/// What exists before the log runs.
struct Parts {
    genesis: Genesis,
    index: Arc<Index>,
    pool: Arc<Pool>,
    application: Arc<Application>,
    blocks: mpsc::Receiver<lockstep_consensus::block::Block>,
}

impl Parts {
    fn new(config: &Config, genesis: Genesis) -> Result<Self, NodeError> {
        let index = Arc::new(Index::open(&config.index_file(), &genesis)?);
        let bounds =
            PoolConfig { max_bytes: config.pool.max_bytes, max_open_per_account: config.pool.max_open_per_account };
        let pool = Pool::new(index.rules().clone(), bounds, Arc::new(View(index.clone())));
        let (sender, blocks) = mpsc::channel(FINALIZED_QUEUE);
        let application = Application::new(&genesis, pool.clone(), sender)?;
        Ok(Self { genesis, index, pool, application, blocks })
    }

    fn log_config(&self, config: &Config) -> Result<LogConfig, NodeError> {
        let group = Group::decode(&self.genesis.sharing).map_err(NodeError::Group)?;
        Ok(LogConfig {
            identity: keys::load_identity(&config.keys)?,
            group,
            listen: config.p2p.listen,
            peers: config.p2p.peers.iter().map(|(name, address)| (*name, *address)).collect(),
            directory: config.log_folder(),
            local: config.p2p.local,
            threads: process::threads(config.threads),
            timing: config.timing(),
            limits: Limits { body_bytes_max: MAX_BODY_BYTES },
            retention: match config.retention.blocks {
                0 => Retention::Everything,
                blocks => Retention::Blocks(blocks),
            },
            join: Join::Replay,
        })
    }
}

impl Node {
    /// Starts a node. It serves when this returns; `/readyz` tells when it has caught up.
    pub async fn start(config: &Config) -> Result<Self, NodeError> {
        let parts = Parts::new(config, keys::load_genesis(&config.genesis)?)?;
        let index = parts.index.clone();
        let log = start_log(parts.log_config(config)?, parts.application.clone()).await?;
        match Self::join(config, parts, &log).await {
            Ok(around) => Ok(Self { log, around }),
            Err(error) => {
                stop_log(log).await;
                released(&index).await;
                Err(error)
            }
        }
    }

    /// Joins the parts to a log that runs.
    async fn join(config: &Config, parts: Parts, log: &Log) -> Result<Around, NodeError> {
        let Parts { genesis, index, pool, application, blocks } = parts;
        let handle = log.handle();
        let facts = application.facts().clone();
        let gossip = Gossip::new(pool.clone(), facts.clone());
        let metrics = Metrics::new();
        metrics.register(&pool, &application, &gossip);
        let watchers = rollups::watchers(config, index.rules(), &application, &metrics)?;
        metrics.levels.begin(index.rules().rollups.keys().copied());
        let feed = Arc::new(Feed::new(index.clone(), handle.clone()));
        let outcomes = Arc::new(Outcomes::new(index.clone(), pool.clone()));
        let service = Arc::new(Service {
            network: rpc::network(&genesis),
            index: index.clone(),
            feed: feed.clone(),
            log: handle.clone(),
            pool: pool.clone(),
            facts: facts.clone(),
            admission: Admission::start(pool.clone())?,
            outcomes: outcomes.clone(),
            levels: Levels::new(&config.rollups, config.l1.as_ref(), &metrics.levels),
            metrics: metrics.clone(),
            slow_subscriber: Duration::from_millis(config.rpc.slow_subscriber_ms),
            heartbeat: Duration::from_millis(config.pace.heartbeat_ms),
            started_ms: now_ms(),
        });
        // Before anything runs that would have to be stopped: the port may be taken.
        let server = Server::start(&config.rpc, service.clone()).await?;
        let mut tasks = Vec::new();
        let l1 = application.l1().clone();
        l1.agree(handle.tip().l1);
        if let Some(config) = config.l1.clone() {
            tasks.push(tokio::spawn(async move { l1.follow(&config).await }));
        }
        let public = match &config.public {
            Some(section) => {
                let lent = Lent::new(service.clone());
                let setup = public::Setup::node(section.clone(), &genesis, lent.clone(), lent.clone())?;
                let public = public::Service::start(setup).await?;
                metrics.register_public(public.handle().metrics());
                tasks.push(tokio::spawn(lent.tell()));
                Some(public)
            }
            None => None,
        };
        info!(
            network = genesis.network,
            height = %index.height(),
            log = %handle.tip().height,
            rpc = %server.address(),
            p2p = %config.p2p.listen,
            "node started"
        );

        let (stop_following, stopped) = oneshot::channel::<()>();
        let settled = (pool.clone(), outcomes.clone());
        let each = move |applied: Arc<Applied>| serve(&applied, &feed, &metrics, &settled.0, &settled.1);
        let stop = async move {
            // Dropped or told, it is over.
            let _ = stopped.await;
        };
        let following = tokio::spawn(follow(index.clone(), handle.clone(), blocks, each, stop));
        tasks.push(tokio::spawn(pass_on(gossip.clone(), handle.clone())));
        rollups::follow_open(&index, &facts)?;
        let log = handle.clone();
        tasks.push(tokio::spawn(async move { facts.run(&log).await }));
        tasks.extend(watchers.into_iter().map(|watcher| tokio::spawn(watcher.watch())));
        tasks.push(tokio::spawn(wake_waiters(pool, outcomes)));
        tasks.push(receive_gossip(gossip, handle)?);
        Ok(Around { server, public, index, service, stop_following, following, tasks })
    }

    /// Where its RPC listens.
    pub fn rpc_address(&self) -> SocketAddr {
        self.around.server.address()
    }

    /// Its index.
    pub fn index(&self) -> &Arc<Index> {
        &self.around.index
    }

    /// What its RPC answers from.
    pub fn service(&self) -> &Arc<Service> {
        &self.around.service
    }

    /// Runs until `stop` is ready, or until a part fails; then stops what still runs.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
        tokio::pin!(stop);
        let mut looks = tokio::time::interval(WATCH_INTERVAL);
        let failure = loop {
            tokio::select! {
                () = &mut stop => break None,
                ended = &mut self.around.following => {
                    let ended = ended.expect("following the log does not panic");
                    break Some(ended.err().map_or(NodeError::LogEnded, NodeError::Index));
                }
                ended = public_ended(&mut self.around.public) => break Some(NodeError::PublicEnded(ended)),
                _ = looks.tick() => if self.log.has_ended() { break Some(NodeError::LogEnded) },
            }
        };
        match failure {
            None => {
                info!(height = %self.index().height(), "stopping");
                self.stop().await
            }
            Some(failure) => {
                error!(%failure, "stopping");
                let Self { log, around } = self;
                around.server.stop(STOP_PATIENCE).await;
                drop(around.public);
                end(around.tasks).await;
                stop_log(log).await;
                Err(failure)
            }
        }
    }

    /// Stops the node: first who asks, then what answers, then the log. Its folder is free when this returns.
    pub async fn stop(self) -> Result<(), NodeError> {
        let Self { log, around } = self;
        let Around { server, public, index, service, stop_following, following, tasks } = around;
        server.stop(STOP_PATIENCE).await;
        let public = match public {
            Some(public) => public.shutdown().await,
            None => Ok(()),
        };
        // Gone already is stopped.
        let _ = stop_following.send(());
        let followed = following.await.expect("following the log does not panic");
        end(tasks).await;
        drop(service);
        stop_log(log).await;
        released(&index).await;
        info!(height = %index.height(), "stopped");
        followed?;
        public.map_err(NodeError::PublicEnded)
    }
}

/// The index as the pool sees it.
struct View(Arc<Index>);

impl StateView for View {
    fn height(&self) -> Height {
        self.0.height()
    }

    fn account(&self, account: &Account) -> Option<AccountRecord> {
        match self.0.account(account) {
            Ok(record) => record,
            Err(error) => {
                // Nobody is let in on the word of a broken index; the follower of the log meets the same error and ends.
                error!(%error, "an account cannot be read");
                None
            }
        }
    }

    fn base_fee(&self, rollup: RollupId) -> Option<u64> {
        self.0.lane(rollup).map(|lane| lane.base_fee)
    }
}

/// Ready when the public network has ended by itself.
async fn public_ended(public: &mut Option<public::Service>) -> public::Stopped {
    match public {
        Some(public) => match public.stopped().await {
            Ok(()) => public::Stopped::Task("stopped".into()),
            Err(stopped) => stopped,
        },
        None => std::future::pending().await,
    }
}

/// A block is in the index: tells everybody who waits for it.
fn serve(applied: &Arc<Applied>, feed: &Feed, metrics: &Metrics, pool: &Pool, outcomes: &Outcomes) {
    let header = &applied.header;
    let age_ms = now_ms().saturating_sub(header.timestamp_ms);
    feed.push(applied.clone());
    pool.finalized(header.height, &applied.reports);
    outcomes.settle(applied);
    metrics.block(applied, age_ms);
    debug!(height = %header.height, bundles = applied.body.bundles().len(), age_ms, "served");
}

async fn pass_on(gossip: Arc<Gossip>, log: Handle) {
    gossip.send(&log, tokio::time::sleep).await;
}

/// Signatures are checked here: it has a thread of its own.
fn receive_gossip(gossip: Arc<Gossip>, log: Handle) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Handle::current();
    let (ended, end) = oneshot::channel::<()>();
    std::thread::Builder::new().name("gossip".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = gossip.receive(&log) => {}
                // Aborting the task drops the other end.
                _ = end => {}
            }
        });
    })?;
    Ok(tokio::spawn(async move {
        let _ended = ended;
        std::future::pending::<()>().await;
    }))
}

async fn wake_waiters(pool: Arc<Pool>, outcomes: Arc<Outcomes>) {
    let mut drops = pool.drops();
    loop {
        match drops.recv().await {
            Ok(dropped) => outcomes.dropped(&dropped.id),
            // Whoever waits looks by itself once a second.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

async fn end(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.abort();
        // Aborted is what was wanted.
        let _ = task.await;
    }
}

/// Returns when nobody else holds the index any more: threads and connections let go of it a moment after they were told.
async fn released(index: &Arc<Index>) {
    let deadline = tokio::time::Instant::now() + STOP_PATIENCE;
    while Arc::strong_count(index) > 1 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(RELEASE_INTERVAL).await;
    }
}

async fn start_log(config: LogConfig, application: Arc<Application>) -> Result<Log, NodeError> {
    let started = tokio::task::spawn_blocking(move || Log::start(config, application)).await;
    match started.expect("starting the log does not panic") {
        Ok(log) => Ok(log),
        Err(StartError::Keys(error)) => Err(NodeError::Group(error)),
        Err(error) => Err(error.into()),
    }
}

async fn stop_log(log: Log) {
    tokio::task::spawn_blocking(move || log.stop()).await.expect("stopping the log does not panic");
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
