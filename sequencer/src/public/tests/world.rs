//! Nodes and mirrors on loopback, and waiting for what must come about.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use libp2p::Multiaddr;
use lockstep_protocol::{
    bundle::SignedBundle,
    genesis::Genesis,
    ids::{BundleId, Height, RollupId},
    lane::LaneItem,
    refusal::Refusal,
    rpc::{LanePage, QueryError},
};
use tempfile::TempDir;
use tokio::sync::broadcast;

use crate::public::{
    BundleSink, Handle, LaneSource, PublicConfig, Service, Setup,
    mirror::{Mirror, MirrorConfig},
};

use super::chain::{A, B, Chain};

/// How long anything may take on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a source does to a page before it gives it away: `(asked from, page)`.
pub(super) type Lie = fn(Height, LanePage) -> LanePage;

/// Lanes in memory.
pub(super) struct Memory {
    lanes: Mutex<BTreeMap<RollupId, Vec<LaneItem>>>,
    tips: Mutex<BTreeMap<RollupId, LaneItem>>,
    items: broadcast::Sender<Arc<LaneItem>>,
    lie: Mutex<Option<Lie>>,
    stalled: AtomicBool,
}

impl Memory {
    pub(super) fn new() -> Arc<Self> {
        let lanes = [A, B].map(|rollup| (rollup, Vec::new())).into();
        let (items, _) = broadcast::channel(64);
        Arc::new(Self {
            lanes: Mutex::new(lanes),
            tips: Mutex::default(),
            items,
            lie: Mutex::default(),
            stalled: AtomicBool::default(),
        })
    }

    /// From now on pages are never found, or found again.
    pub(super) fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::SeqCst);
    }

    pub(super) fn set_lie(&self, lie: Option<Lie>) {
        *self.lie.lock().unwrap() = lie;
    }

    /// Takes over a block, as a node does that finalized it.
    pub(super) fn finalized(&self, block: &BTreeMap<RollupId, LaneItem>) {
        for (rollup, item) in block {
            self.tips
                .lock()
                .unwrap()
                .insert(*rollup, LaneItem { entries: vec![], transactions: vec![], ..item.clone() });
            if !item.entries.is_empty() {
                self.lanes.lock().unwrap().get_mut(rollup).unwrap().push(item.clone());
                self.publish(item.clone());
            }
        }
    }

    /// Tells subscribers of an item, whatever it is.
    pub(super) fn publish(&self, item: LaneItem) {
        let _ = self.items.send(Arc::new(item));
    }

    pub(super) fn lane(&self, rollup: RollupId) -> Vec<LaneItem> {
        self.lanes.lock().unwrap()[&rollup].clone()
    }

    fn read(&self, rollup: RollupId, from: Height, max_items: usize) -> Result<LanePage, QueryError> {
        let all = self.lane(rollup);
        let Some(tip) = self.tips.lock().unwrap().get(&rollup).cloned() else {
            return Err(QueryError::AheadOfTip { height: from, tip: Height(0) });
        };
        if from > tip.header.height {
            return Err(QueryError::AheadOfTip { height: from, tip: tip.header.height });
        }
        let items: Vec<_> = all.into_iter().filter(|item| item.header.height >= from).take(max_items).collect();
        if items.len() == max_items {
            let next_height = items[max_items - 1].header.height.next();
            return Ok(LanePage { items, tip: None, next_height });
        }
        let next_height = tip.header.height.next();
        Ok(LanePage { items, tip: Some(tip), next_height })
    }
}

impl LaneSource for Memory {
    fn page(&self, rollup: RollupId, from: Height, max_items: usize) -> BoxFuture<'_, Result<LanePage, QueryError>> {
        let lie = *self.lie.lock().unwrap();
        let page = self.read(rollup, from, max_items).map(|page| lie.map_or(page.clone(), |lie| lie(from, page)));
        if self.stalled.load(Ordering::SeqCst) { std::future::pending().boxed() } else { async { page }.boxed() }
    }

    fn latest(&self, rollup: RollupId) -> BoxFuture<'_, Result<Option<LaneItem>, QueryError>> {
        let latest = self.lane(rollup).pop();
        async { Ok(latest) }.boxed()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LaneItem>> {
        self.items.subscribe()
    }
}

/// Takes bundles with an even nonce.
pub(super) struct EvenNonces;

impl BundleSink for EvenNonces {
    fn submit(&self, signed: SignedBundle) -> BoxFuture<'_, Result<BundleId, Refusal>> {
        let nonce = signed.bundle.nonce;
        let verdict = if nonce.is_multiple_of(2) { Ok(signed.bundle.id()) } else { Err(Refusal::NonceUsed { nonce }) };
        async { verdict }.boxed()
    }
}

/// A node without a log: what it has finalized is told to it.
pub(super) struct Node {
    pub(super) service: Service,
    pub(super) source: Arc<Memory>,
    folder: TempDir,
}

impl Node {
    pub(super) async fn start(genesis: &Genesis, change: impl FnOnce(&mut PublicConfig)) -> Self {
        Self::with_source(genesis, Memory::new(), change).await
    }

    pub(super) async fn with_source(
        genesis: &Genesis,
        source: Arc<Memory>,
        change: impl FnOnce(&mut PublicConfig),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = loopback(&folder);
        change(&mut config);
        let listens = config.listen.len();
        let setup = Setup::node(config, genesis, source.clone(), Arc::new(EvenNonces)).unwrap();
        let service = Service::start(setup).await.unwrap();
        listening(&service.handle(), listens).await;
        Self { service, source, folder }
    }

    pub(super) fn handle(&self) -> Handle {
        self.service.handle()
    }

    /// Stops it for good.
    pub(super) async fn stop(self) {
        self.service.shutdown().await.unwrap();
        drop(self.folder);
    }
}

/// Starts a mirror in a folder.
pub(super) async fn mirror(
    genesis: &Genesis,
    folder: &TempDir,
    bootstrap: Vec<Multiaddr>,
    change: impl FnOnce(&mut MirrorConfig),
) -> Mirror {
    let mut config = MirrorConfig {
        genesis: genesis.clone(),
        data: folder.path().join("mirror"),
        rollups: BTreeSet::new(),
        network: PublicConfig { bootstrap, poll_ms: 300, ..loopback(folder) },
    };
    change(&mut config);
    let listens = config.network.listen.len();
    let mirror = Mirror::start(config).await.unwrap();
    listening(&mirror.handle(), listens).await;
    mirror
}

/// What a mirror holds of a lane.
pub(super) async fn held(mirror: &Mirror, rollup: RollupId) -> Vec<LaneItem> {
    match mirror.store().page(rollup, Height(1), 100_000).await {
        Ok(page) => page.items,
        Err(QueryError::AheadOfTip { .. }) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

/// Waits until a mirror is verified up to the chain's last item of both lanes.
pub(super) async fn caught_up(mirror: &Mirror, chain: &Chain) {
    eventually("the mirror has both lanes up to the tip", || {
        [A, B].iter().all(|rollup| mirror.store().height(*rollup) >= chain.height())
    })
    .await;
}

pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "in vain for {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn loopback(folder: &TempDir) -> PublicConfig {
    PublicConfig {
        key: folder.path().join("public.key"),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        ..PublicConfig::default()
    }
}

async fn listening(handle: &Handle, addresses: usize) {
    eventually("it listens", || handle.addresses().len() >= addresses).await;
}
