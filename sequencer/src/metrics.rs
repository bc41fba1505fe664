//! What does a node count?
//!
//! Numbers live beside the code that moves them; here they get their names and become one text. The table of all names is in
//! `docs/operating.md`.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, AtomicU64},
};

use lockstep_consensus::handle::Handle;
use lockstep_protocol::refusal::Refusal;
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{
    application::Application,
    gossip::Gossip,
    heads::HeadsMetrics,
    index::Applied,
    labels::ReasonLabel,
    pool::Pool,
    public,
    rpc::metrics::{CallMetrics, LevelsMetrics, SubscriptionMetrics},
};

/// A node's numbers.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Calls to the RPC.
    pub calls: CallMetrics,
    /// Subscriptions.
    pub subscriptions: SubscriptionMetrics,
    /// What posters tell of levels.
    pub levels: LevelsMetrics,
    refused: Family<ReasonLabel, Counter>,
    height: Gauge,
    timestamp: Gauge<f64, AtomicU64>,
    bundles: Counter,
    cancels: Counter,
    body_bytes: Counter,
    age: Histogram,
    peers: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// All numbers, at zero.
    pub fn new() -> Arc<Self> {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("lockstep")),
            calls: CallMetrics::default(),
            subscriptions: SubscriptionMetrics::default(),
            levels: LevelsMetrics::default(),
            refused: Family::default(),
            height: Gauge::default(),
            timestamp: Gauge::default(),
            bundles: Counter::default(),
            cancels: Counter::default(),
            body_bytes: Counter::default(),
            // 4 ms to half a minute.
            age: Histogram::new(exponential_buckets(0.004, 2.0, 14)),
            peers: Gauge::default(),
        };
        {
            let mut registry = metrics.registry.lock().expect("just made");
            let chain = registry.sub_registry_with_prefix("chain");
            chain.register("height", "The latest height that is served", metrics.height.clone());
            chain.register("timestamp_seconds", "Timestamp of that block", metrics.timestamp.clone());
            chain.register("bundles", "Bundles ordered", metrics.bundles.clone());
            chain.register("cancels", "Cancels ordered", metrics.cancels.clone());
            chain.register("leg_bytes", "Bytes of the legs ordered", metrics.body_bytes.clone());
            chain.register(
                "block_age_seconds",
                "From a block's timestamp until it is served here",
                metrics.age.clone(),
            );
            chain.register("peers", "Validators connected", metrics.peers.clone());
            let rpc = registry.sub_registry_with_prefix("rpc");
            metrics.calls.register(rpc);
            metrics.subscriptions.register(rpc);
            metrics.levels.register(rpc);
            drop(metrics.refused.get_or_create(&ReasonLabel { reason: "malformed" }));
            rpc.register("unreadable", "Bundles that could not be read, by reason", metrics.refused.clone());
        }
        Arc::new(metrics)
    }

    /// Adds the numbers of the parts.
    pub fn register(&self, pool: &Pool, application: &Application, gossip: &Gossip) {
        let mut registry = self.registry.lock().expect("nobody panics while registering");
        pool.metrics().register(&mut registry);
        application.metrics().register(&mut registry);
        application.l1().metrics().register(&mut registry);
        gossip.metrics().register(&mut registry);
        application.facts().metrics().register(&mut registry);
    }

    /// Adds the numbers of those who watch rollups.
    pub fn register_heads(&self, heads: &HeadsMetrics) {
        heads.register(&mut self.registry.lock().expect("nobody panics while registering"));
    }

    /// Adds the numbers of the public network.
    pub fn register_public(&self, public: &public::Metrics) {
        public.register(&mut self.registry.lock().expect("nobody panics while registering"));
    }

    /// Counts a bundle that could not even be read.
    pub fn refuse(&self, refusal: &Refusal) {
        self.refused.get_or_create(&ReasonLabel { reason: refusal.reason() }).inc();
    }

    /// Counts a block that is served now, `age_ms` after its timestamp.
    pub fn block(&self, applied: &Applied, age_ms: u64) {
        let header = &applied.header;
        self.height.set(i64::try_from(header.height.0).unwrap_or(i64::MAX));
        self.timestamp.set(seconds(header.timestamp_ms));
        self.bundles.inc_by(applied.body.bundles().len() as u64);
        self.cancels.inc_by(applied.body.cancels().len() as u64);
        self.body_bytes.inc_by(applied.body.bundles().iter().map(|bundle| bundle.bytes()).sum());
        self.age.observe(seconds(age_ms));
    }

    /// All numbers of the node and its log, in the OpenMetrics text format.
    pub fn encode(&self, log: &Handle) -> String {
        self.peers.set(i64::try_from(log.peers()).unwrap_or(i64::MAX));
        let mut text = String::new();
        let registry = self.registry.lock().expect("nobody panics while encoding");
        encode(&mut text, &registry).expect("writing to memory does not fail");
        // One text has one end: the log's.
        let ours = text.strip_suffix("# EOF\n").unwrap_or(&text);
        format!("{ours}{}", log.metrics())
    }
}

#[allow(clippy::cast_precision_loss, reason = "a metric in seconds; milliseconds of centuries fit a double exactly")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1_000.0
}
