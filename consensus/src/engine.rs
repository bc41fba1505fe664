//! How are the parts of a validator wired?
//!
//! Starts every actor of a validator on a given runtime and network. Chooses sizes and names; knows neither sockets
//! (`node.rs`) nor simulated links (`simulate.rs`).

use std::{
    future::Future,
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use commonware_broadcast::buffered;
use commonware_consensus::{
    marshal::{self, core::Actor as MarshalActor, resolver::p2p as marshal_resolver, standard::Deferred},
    simplex::{
        self,
        config::{Floor, ForwardPolicy, SkipBudget, SkipPolicy},
        elector::{Config as _, Elector as _, RoundRobin, RoundRobinElector},
    },
    types::{Epoch, FixedEpocher, Height as LogHeight, ViewDelta},
};
use commonware_cryptography::{
    Digested, Digestible, Sha256,
    certificate::{ConstantProvider, Scheme as _},
};
use commonware_glue::stateful::{
    self, PruneConfig, Stateful, SyncPlan,
    db::{DatabaseSet, SyncEngineConfig, p2p as state_resolver},
    probe::{self, Probe},
};
use commonware_macros::select;
use commonware_p2p::{Blocker, Provider, Receiver, Sender};
use commonware_runtime::{
    Clock, Metrics, Spawner, Storage,
    telemetry::metrics::{Gauge, GaugeExt as _, MetricsExt as _},
};
use commonware_storage::{archive::prunable, mmr};
use commonware_utils::{N3f1, NZU64, NZUsize, NonZeroDuration, channel::mpsc, ordered::Quorum as _, sync::Mutex};
use futures::FutureExt;
use lockstep_protocol::ids::Hash32;
use rand_core::CryptoRng;
use tracing::warn;

use crate::{
    application::{Execution, Tamper},
    block::{Archive, Block, StateRoots, Variant},
    channels::{GOSSIP_QUEUE, Peers, gossip},
    config::{Join, Limits, Retention, SYNC_BATCH, Timing},
    handle::{Handle, Live, Shared},
    machine::Machine,
    pacing::{Paced, Waker},
    reader::StateReader,
    repeat::Noted,
    storage::{self, Sizes},
    tip::Tip,
    types::{Database, PublicKey, STRATEGY, Scheme, State},
};

/// The only epoch, until validator sets change.
pub(crate) const EPOCH: Epoch = Epoch::zero();

/// One epoch covers every height.
const EPOCH_BLOCKS: NonZeroU64 = NZU64!(u64::MAX);

/// Requests that an actor holds before its overflow policy applies: a few per peer.
const MAILBOX: NonZeroUsize = NZUsize!(256);

/// Blocks of one sender that wait to be asked for. A leader has few in flight; each may be a whole body.
const BLOCKS_PER_SENDER: usize = 8;

/// Views below the last final one whose votes and blocks are kept for peers that lag a little.
const VIEW_RETENTION: ViewDelta = ViewDelta::new(64);

/// Missing blocks asked for at once when catching up. Each may be a whole body, so this bounds memory.
const REPAIRS: NonZeroUsize = NZUsize!(16);

/// Final blocks handed to execution before it has acknowledged them. Marshal keeps twice as many in memory.
const UNACKNOWLEDGED: NonZeroUsize = NZUsize!(8);

/// Final blocks between attempts to prune.
const PRUNE_INTERVAL: NonZeroUsize = NZUsize!(256);

/// Headers looked at to find the one of a state that is ahead of the archive's position after a crash.
const TIP_SEARCH_MAX: u64 = 64;

/// Longest wait for a quorum of peers before a validator votes: what a leader that nobody hears costs, on a network whose
/// connections take that long.
const QUORUM_PATIENCE: Duration = Duration::from_millis(2_000);

/// How often a validator that starts looks who is connected: a fraction of a view.
const QUORUM_LOOK: Duration = Duration::from_millis(10);

/// How often a node that joins by state sync says what it waits for.
const JOIN_ALARM: Duration = Duration::from_secs(10);

/// What a runtime must offer.
pub(crate) trait Env: Spawner + Metrics + Clock + Storage + CryptoRng {}

impl<E: Spawner + Metrics + Clock + Storage + CryptoRng> Env for E {}

/// What makes one validator different from another.
pub(crate) struct Setup {
    pub(crate) me: PublicKey,
    pub(crate) scheme: Scheme,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) timing: Timing,
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
    pub(crate) join: Join,
    /// Prefix of every partition: lets several validators share a disk in simulations.
    pub(crate) partition: String,
    pub(crate) sizes: Sizes,
    pub(crate) tamper: Option<Tamper>,
    pub(crate) skew: Duration,
}

/// The parts of a running validator.
pub(crate) struct Parts {
    tasks: [(&'static str, commonware_runtime::Handle<()>); 4],
    live: Arc<Live>,
}

impl Parts {
    /// Returns when a part has ended, which none does by itself: a disk fault, a broken invariant, or the runtime is
    /// stopping. The others go on until the task that started them ends.
    pub(crate) async fn ended(self) {
        let tasks = self.tasks.map(|(part, task)| {
            async move {
                let result = task.await;
                (part, result)
            }
            .boxed()
        });
        let ((part, result), _, _) = futures::future::select_all(tasks).await;
        drop(self.live);
        warn!(part, ?result, "a part of the validator has ended");
    }
}

/// Starts a validator under `context`. Returns when its state is open.
pub(crate) async fn start<E, P, B, S, R>(context: &E, setup: Setup, peers: Peers<P, B, S, R>) -> (Handle, Parts)
where
    E: Env,
    P: Provider<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let Setup { me, scheme, machine, timing, limits, retention, join, partition, sizes, tamper, skew } = setup;
    let Peers { provider: peer_set, blocker, channels, connected } = peers;
    let pages = sizes.page_cache();
    let genesis = genesis::<E>(machine.as_ref());
    let anchor = Digested::precomputed(genesis.clone(), genesis.digest());
    let fetch_timeout = NonZeroDuration::new(timing.fetch_timeout).expect("a checked timing has a fetch timeout");

    // Dissemination: blocks from leaders, and the archive of final ones.
    let backfill = marshal_resolver::init(
        context.child("backfill"),
        marshal_resolver::Config {
            public_key: me.clone(),
            peer_provider: peer_set.clone(),
            blocker: blocker.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout,
            fetch_retry_delay: timing.fetch_retry,
            priority_requests: false,
            priority_responses: false,
        },
        channels.backfill,
    );
    let (broadcast, buffer) = buffered::Engine::new(
        context.child("broadcast"),
        buffered::Config {
            public_key: me.clone(),
            mailbox_size: MAILBOX,
            deque_size: BLOCKS_PER_SENDER,
            priority: false,
            codec_config: limits.body_bytes_max,
            peer_provider: peer_set.clone(),
            strategy: STRATEGY,
        },
    );
    broadcast.start(channels.blocks);
    let certificates = prunable::Archive::init(
        context.child("certificates"),
        storage::archive(&sizes, &partition, "certificates", pages.clone(), ()),
    )
    .await
    .expect("the archive of certificates opens: a disk fault ends the node");
    let blocks = prunable::Archive::init(
        context.child("blocks"),
        storage::archive(&sizes, &partition, "blocks", pages.clone(), limits.body_bytes_max),
    )
    .await
    .expect("the archive of blocks opens: a disk fault ends the node");

    // State sync, if this validator begins with it.
    let schemes = ConstantProvider::<_, Epoch>::new(scheme.clone());
    let mut plan = SyncPlan::init(context.child("plan"), partition.clone()).await;
    let (prober, probing) = Probe::new(probe::Config {
        context: context.child("probe"),
        provider: schemes.clone(),
        strategy: STRATEGY,
        mailbox_size: MAILBOX,
        blocker: blocker.clone(),
        minimum_epoch: EPOCH,
        retry_timeout: fetch_timeout,
    });
    prober.start(channels.probe);
    let joining = plan.should_sync(join == Join::Sync);
    let waited = context.child("join").gauge("waited_seconds", "How long this node waited to join by state sync");
    if joining {
        let floor =
            alarmed(context, "more than a third of the validators to name a final block", &waited, probing.subscribe());
        plan = plan.set_floor(floor.await.expect("the probe runs until the node ends")).await;
    }

    let synced = plan.completed();
    let (marshal, archive_mailbox, floor) = MarshalActor::<_, Variant, _, _, _, _, _>::init(
        context.child("marshal"),
        certificates,
        blocks,
        marshal::Config {
            provider: schemes,
            epocher: FixedEpocher::new(EPOCH_BLOCKS),
            start: plan.marshal_start(anchor),
            partition_prefix: format!("{partition}-marshal"),
            mailbox_size: MAILBOX,
            view_retention: VIEW_RETENTION,
            prunable_items_per_section: sizes.cache_section,
            page_cache: pages.clone(),
            replay_buffer: sizes.buffer,
            key_write_buffer: sizes.buffer,
            value_write_buffer: sizes.buffer,
            block_codec_config: limits.body_bytes_max,
            max_repair: REPAIRS,
            max_pending_acks: UNACKNOWLEDGED,
            strategy: STRATEGY,
        },
    )
    .await;

    // State.
    let (state_actor, state_sync) = state_resolver::Actor::<_, _, _, _, mmr::Family, Database<E>>::new(
        context.child("state_resolver"),
        state_resolver::Config {
            peer_provider: peer_set,
            blocker: blocker.clone(),
            database: None,
            mailbox_size: MAILBOX,
            me: Some(me),
            fetch_timeout,
            fetch_retry_delay: timing.fetch_retry,
            max_serve_ops: SYNC_BATCH,
            priority_requests: false,
            priority_responses: false,
        },
    );
    state_actor.start(channels.state);
    let tip = Tip::new(genesis.header());
    let (stateful, state) = Stateful::new(
        context.child("state"),
        stateful::Config {
            application: Execution {
                machine: machine.clone(),
                genesis: genesis.clone(),
                tip: tip.clone(),
                body_bytes_max: limits.body_bytes_max,
                tamper,
            },
            db_config: storage::state(&sizes, &partition, pages.clone()),
            provider: (),
            marshal: (archive_mailbox.clone(), floor),
            mailbox_size: MAILBOX,
            plan,
            resolvers: state_sync,
            sync_config: SyncEngineConfig {
                fetch_batch_size: SYNC_BATCH,
                apply_batch_size: NZU64!(4 * SYNC_BATCH.get()),
                max_outstanding_requests: NZUsize!(8),
            },
            prune_config: match retention {
                Retention::Everything => None,
                Retention::Blocks(blocks) => Some(PruneConfig {
                    maintenance_interval: PRUNE_INTERVAL,
                    retained_marshal_blocks: blocks as usize,
                    retained_qmdb_blocks: 0,
                }),
            },
            strategy: STRATEGY,
        },
    );

    // Consensus.
    let seat = scheme.me().expect("a validator's keys are in its set").index();
    let others = scheme.participants().quorum::<N3f1>() as usize - 1;
    let elector = RoundRobin::<Sha256>::default();
    let turns: RoundRobinElector<Scheme> = elector.clone().build(scheme.participants());
    let waker = Waker::new();
    let paced = Paced {
        state: state.clone(),
        machine,
        timing,
        waker: waker.clone(),
        body_bytes_max: limits.body_bytes_max,
        skew,
    };
    let automaton =
        Deferred::new(context.child("deferred"), paced, archive_mailbox.clone(), FixedEpocher::new(EPOCH_BLOCKS));
    let marshal = marshal.start(state.clone(), buffer, backfill);
    probing.attach(archive_mailbox.clone());
    let stateful = stateful.start();
    let noted = Noted::new(automaton.clone(), seat);
    let engine = simplex::Engine::new(
        context.child("simplex"),
        simplex::Config {
            scheme,
            elector,
            blocker,
            automaton: automaton.clone(),
            relay: automaton,
            reporter: noted.clone(),
            strategy: STRATEGY,
            partition: format!("{partition}-simplex-{EPOCH}"),
            mailbox_size: MAILBOX,
            epoch: EPOCH,
            floor: Floor::Genesis(genesis.digest()),
            replay_buffer: sizes.buffer,
            write_buffer: sizes.buffer,
            page_cache: pages,
            leader_timeout: timing.leader_timeout,
            certification_timeout: timing.certification_timeout,
            timeout_retry: timing.nullify_retry,
            view_retention: VIEW_RETENTION,
            skip: SkipPolicy::Enabled { timeout: timing.skip_timeout, budget: SkipBudget::Participants },
            fetch_timeout,
            fetch_retry_delay: timing.fetch_retry,
            forward: ForwardPolicy::SilentLeader,
            track_historical_votes: false,
        },
    );
    let (votes, certificates) = (channels.votes.0.clone(), channels.certificates.0.clone());
    let repeated =
        noted.repeat(context.child("repeat"), votes, certificates, move |round| turns.elect(round, ()) == seat);
    let simplex = context.child("votes").spawn({
        let connected = connected.clone();
        move |context| async move {
            await_quorum(&context, connected.as_ref(), others).await;
            let engine = engine.start(channels.votes, channels.certificates, channels.resolver);
            select! {
                _ = engine => {},
                () = repeated => {},
            }
        }
    });

    // The application's own messages.
    let (outbox, outgoing) = mpsc::channel(GOSSIP_QUEUE);
    let (incoming, inbox) = mpsc::channel(GOSSIP_QUEUE);
    let gossip = context.child("gossip").spawn(move |_| gossip(channels.gossip, outgoing, incoming));

    let opening = state.subscribe_databases();
    let database =
        if joining { alarmed(context, "the state from peers", &waited, opening).await } else { opening.await };
    find_tip(&database, &archive_mailbox, synced, &tip).await;
    let reader = StateReader { context: context.child("reader"), state: database, tip: tip.clone() };
    let encoder = context.child("metrics");
    let live =
        Arc::new(Live { reader: Box::new(reader), metrics: Box::new(move || encoder.encode()), peers: connected });
    let shared = Shared {
        tip,
        archive: archive_mailbox,
        waker,
        outbox,
        inbox: Mutex::new(Some(inbox)),
        live: Arc::downgrade(&live),
    };
    let handle = Handle { shared: Arc::new(shared) };
    let tasks = [("archive", marshal), ("state", stateful), ("consensus", simplex), ("gossip", gossip)];
    (handle, Parts { tasks, live })
}

/// Waits until this validator and those it is connected to are a quorum, or for as long as that may take. What it says
/// before reaches too few to count, and a leader cannot take its block back.
async fn await_quorum<E: Env>(context: &E, connected: &(dyn Fn() -> usize + Send + Sync), others: usize) {
    let deadline = context.current() + QUORUM_PATIENCE;
    while connected() < others && context.current() < deadline {
        context.sleep(QUORUM_LOOK).await;
    }
}

/// Block 0: what the machine says, over an empty state.
fn genesis<E: Env>(machine: &dyn Machine) -> Block {
    let target = <State<E> as DatabaseSet<E>>::initial_sync_targets();
    let state = StateRoots {
        canonical: EMPTY_STATE,
        operations: Hash32(target.root.0),
        sync_start: *target.range.start(),
        sync_end: *target.range.end(),
    };
    Block::genesis(&machine.genesis(), state)
}

/// Canonical root of a state without records. A test compares it with a database that was just made.
const EMPTY_STATE: Hash32 = Hash32([
    0x67, 0x49, 0xee, 0xd2, 0x01, 0x75, 0x44, 0x1b, 0x07, 0xf0, 0x12, 0xa4, 0xfb, 0x78, 0xd6, 0x0a, 0x1e, 0x57, 0xb2,
    0xcf, 0x20, 0xbc, 0x9d, 0x82, 0x26, 0xf1, 0x0e, 0xe3, 0x37, 0x44, 0xae, 0x3d,
]);

/// Waits for what a joining node cannot do without, and says so now and then: on a new network it would wait for ever.
async fn alarmed<E: Env, T>(context: &E, what: &str, waited: &Gauge, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut seconds = 0;
    loop {
        select! {
            value = &mut future => return value,
            _ = context.sleep(JOIN_ALARM) => {
                seconds += JOIN_ALARM.as_secs();
                let _ = waited.try_set(seconds);
                warn!(seconds, "joining by state sync: still waiting for {what}. A new network must not begin like this");
            },
        }
    }
}

/// Finds the header of the state that was opened: of the block where a state sync ended, or of the archive's position or
/// a little above it, after a crash.
async fn find_tip<E: Env>(state: &State<E>, archive: &Archive, synced: Option<LogHeight>, tip: &Tip) {
    let root = Hash32(state.read().await.root().0);
    let position = archive.get_anchor().await.map_or(0, |(_, anchor)| anchor.inner().height().0);
    let above = (position..=position.saturating_add(TIP_SEARCH_MAX)).map(LogHeight::new);
    for height in synced.into_iter().chain(above) {
        let block = archive.get_block(height).await;
        if let Some(block) = block.filter(|block| block.inner().header().state == root) {
            tip.applied(block.inner().header());
            return;
        }
    }
    // Its readers wait: see `reader.rs`.
    if root != EMPTY_STATE {
        warn!(%root, "no stored header commits to the opened state: it can be read after the next final block");
    }
}
