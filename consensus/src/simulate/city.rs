//! What can a script do to a simulated network?
//!
//! Starts, crashes and cuts off validators, and waits for heights. What it finds wrong panics with the seed.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use commonware_cryptography::Signer;
use commonware_p2p::simulated;
use commonware_runtime::{
    Clock, Spawner, Supervisor,
    deterministic::{self, Context},
};
use commonware_utils::{NZUsize, channel::oneshot};
use futures::{FutureExt, future::LocalBoxFuture};
use lockstep_protocol::header::Header;

use super::{
    Conduct, DiskFaults, Link, Plan,
    links::{self, Links, Oracle, thousandths},
    witness::{Witness, Witnessed},
};
use crate::{
    channels::{Channels, Peers},
    engine::{self, Setup},
    handle::Handle,
    machine::Machine,
    storage::Sizes,
    types::PublicKey,
};

/// How often a waiting script looks again.
const POLL: Duration = Duration::from_millis(10);

/// Simulated time that a validator may take from a start to an open state. State sync lasts as long as peers let it.
const START_TIMEOUT: Duration = Duration::from_secs(600);

/// How far apart the clocks of twins are.
const TWIN_SKEW: Duration = Duration::from_millis(7);

/// Simulated time that [`City::until_height`] waits. Partitions and lost messages cost seconds, not minutes.
const HEIGHT_TIMEOUT: Duration = Duration::from_secs(600);

/// A simulated network while a script runs.
pub struct City<'a> {
    context: Context,
    plan: &'a Plan,
    witness: Witness,
    oracle: Oracle,
    links: Links,
    names: Vec<PublicKey>,
    running: Vec<Option<Running>>,
    starts: Vec<u32>,
}

struct Running {
    handle: Handle,
    // One task for each instance, two for twins. Taken when it was seen to have ended.
    tasks: Vec<Option<commonware_runtime::Handle<()>>>,
}

impl<'a> City<'a> {
    pub(super) async fn new(context: Context, plan: &'a Plan, witness: Witness) -> Self {
        let names: Vec<_> = plan.identities.iter().map(|identity| identity.key.public_key()).collect();
        let config = simulated::Config {
            max_size: plan.limits.message_bytes_max(),
            max_peers_per_set: NZUsize!(names.len()),
            // Whoever sees twins equivocate cuts them off. They shall do it again and again.
            disconnect_on_block: !plan.conduct.iter().any(|conduct| matches!(conduct, Conduct::Twins)),
            tracked_peer_sets: NZUsize!(2),
        };
        let (network, oracle) =
            simulated::Network::new_with_peers(context.child("network"), config, names.clone()).await;
        network.start();
        let links = Links::new(oracle.clone(), names.clone(), plan.link);
        let count = names.len();
        let mut city = Self {
            context,
            plan,
            witness,
            oracle,
            links,
            names,
            running: (0..count).map(|_| None).collect(),
            starts: vec![0; count],
        };
        city.heal().await;
        city
    }

    /// Starts every validator that does not run.
    pub async fn start_all(&mut self) {
        for index in 0..self.running.len() {
            if self.running[index].is_none() {
                self.start(index).await;
            }
        }
    }

    /// Starts a validator and waits until its state is open.
    ///
    /// # Panics
    ///
    /// If it runs, or if it fails to start although disks are sound.
    pub async fn start(&mut self, index: usize) {
        let started = self.try_start(index).await;
        assert!(started || self.plan.faulty_disks, "{}: validator {index} does not start", self.seed());
    }

    // Boxed here, so that the engine is compiled in this crate, and not in every test that starts a validator.
    fn try_start(&mut self, index: usize) -> LocalBoxFuture<'_, bool> {
        self.start_instances(index).boxed_local()
    }

    async fn start_instances(&mut self, index: usize) -> bool {
        assert!(self.running[index].is_none(), "{}: validator {index} runs", self.seed());
        self.starts[index] += 1;
        let context =
            self.context.child("validator").with_attribute("index", index).with_attribute("start", self.starts[index]);
        let me = self.names[index].clone();
        let others: Vec<_> = self.names.iter().filter(|name| **name != me).cloned().collect();
        let (near, far) = others.split_at(others.len() / 2);
        let conduct = &self.plan.conduct[index];
        let [first, second] = links::open(&context, &self.oracle, &me, conduct, (near.to_vec(), far.to_vec())).await;
        let mut tasks = Vec::new();
        let Some(handle) = self.spawn(&context, index, 0, first, &mut tasks).await else {
            return false;
        };
        (self.plan.on_start)(index, handle.clone(), context.child("application"));
        if matches!(conduct, Conduct::Twins) {
            let Some(twin) = self.spawn(&context, index, 1, second, &mut tasks).await else {
                return false;
            };
            (self.plan.on_start)(index, twin, context.child("application_of_twin"));
        }
        self.running[index] = Some(Running { handle, tasks });
        true
    }

    async fn spawn<S, R>(
        &self,
        context: &Context,
        index: usize,
        instance: usize,
        channels: Channels<S, R>,
        tasks: &mut Vec<Option<commonware_runtime::Handle<()>>>,
    ) -> Option<Handle>
    where
        S: commonware_p2p::Sender<PublicKey = PublicKey>,
        R: commonware_p2p::Receiver<PublicKey = PublicKey>,
    {
        let plan = self.plan;
        let identity = &plan.identities[index];
        let machine = (plan.machine)(index);
        let scheme = plan.group.signer(&machine.genesis().network, identity).expect("the dealt keys fit together");
        let tamper = match &plan.conduct[index] {
            Conduct::Honest | Conduct::Withholds | Conduct::Twins => None,
            Conduct::Lies(tamper) => Some(tamper.clone()),
        };
        // Equal twins would propose equal blocks; with other clocks they propose valid ones that differ.
        let skew = if instance == 0 { Duration::ZERO } else { TWIN_SKEW };
        let machine: Arc<dyn Machine> = match &plan.conduct[index] {
            // Twins are not expected to agree with anybody, not even with each other.
            Conduct::Twins => machine,
            _ => Arc::new(Witnessed { machine, witness: self.witness.clone(), index, on_final: plan.on_final.clone() }),
        };
        let setup = Setup {
            me: self.names[index].clone(),
            scheme,
            machine,
            timing: plan.timing,
            limits: plan.limits,
            retention: plan.retention,
            join: plan.join[index],
            partition: format!("validator-{index}-{instance}"),
            sizes: Sizes::SIMULATED,
            tamper,
            skew,
        };
        let peers = Peers {
            provider: self.oracle.manager(),
            blocker: self.oracle.control(self.names[index].clone()),
            channels,
            connected: self.links.counter(index),
        };
        let (ready, opened) = oneshot::channel();
        let task = context.child("instance").with_attribute("instance", instance).spawn(move |context| async move {
            let (handle, parts) = engine::start(&context, setup, peers).await;
            if ready.send(handle).is_ok() {
                parts.ended().await;
            }
        });
        let opened = self.context.timeout(START_TIMEOUT, opened).await;
        match opened {
            Ok(Ok(handle)) => {
                tasks.push(Some(task));
                Some(handle)
            }
            _ => {
                task.abort();
                let _ = task.await;
                None
            }
        }
    }

    /// Kills a validator: what it had not synced is lost.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub async fn crash(&mut self, index: usize) {
        let running = self.running[index].take();
        let Running { tasks, .. } = running.unwrap_or_else(|| panic!("{}: {index} does not run", self.seed()));
        for task in tasks.into_iter().flatten() {
            task.abort();
            let _ = task.await;
        }
        // Ended tasks let go of their files when the runtime next looks at them.
        self.context.sleep(POLL).await;
    }

    /// Restarts every validator that has stopped by itself, and says how many there were.
    pub async fn tend(&mut self) -> usize {
        let mut fallen = 0;
        for index in 0..self.running.len() {
            if self.has_fallen(index) {
                fallen += 1;
                self.crash(index).await;
            }
            // One that fell while it was starting is tried again, too.
            if self.running[index].is_none() && self.starts[index] > 0 {
                self.try_start(index).await;
            }
        }
        fallen
    }

    fn has_fallen(&mut self, index: usize) -> bool {
        let Some(running) = &mut self.running[index] else {
            return false;
        };
        for task in &mut running.tasks {
            if task.as_mut().is_some_and(|task| task.now_or_never().is_some()) {
                *task = None;
            }
        }
        running.tasks.iter().any(Option::is_none)
    }

    /// Whether a validator runs.
    pub fn runs(&self, index: usize) -> bool {
        self.running[index].is_some()
    }

    /// The way to a running validator.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn handle(&self, index: usize) -> Handle {
        let running = self.running[index].as_ref();
        running.unwrap_or_else(|| panic!("{}: {index} does not run", self.seed())).handle.clone()
    }

    /// Cuts every link between different groups. A validator in no group is alone.
    pub async fn partition(&mut self, groups: &[&[usize]]) {
        let group = |index: usize| groups.iter().position(|group| group.contains(&index));
        self.links.set(|from, to| group(from).is_some() && group(from) == group(to)).await;
    }

    /// Restores every link.
    pub async fn heal(&mut self) {
        self.links.set(|_, _| true).await;
    }

    /// Changes the quality of the links that are up.
    pub async fn link(&mut self, quality: Link) {
        self.links.set_quality(quality).await;
    }

    /// Makes every disk fail now and then, or not any more.
    pub fn disk_faults(&mut self, faults: DiskFaults) {
        assert!(self.plan.faulty_disks, "ask for it with `Simulation::with_faulty_disks`");
        let rate = |rate: u16| (rate > 0).then(|| thousandths(rate));
        let config = self.context.storage_fault_config();
        *config.write() = deterministic::FaultConfig {
            open_rate: rate(faults.open),
            read_rate: rate(faults.read),
            sync_rate: rate(faults.sync),
            write_rate: rate(faults.write).map(|failure_rate| deterministic::WriteConfig {
                failure_rate,
                retention_rate: thousandths(500),
                mode: deterministic::PartialWriteMode::Prefix,
            }),
            ..deterministic::FaultConfig::default()
        };
    }

    /// Lets simulated time pass.
    pub async fn sleep(&mut self, duration: Duration) {
        self.context.sleep(duration).await;
        self.check().await;
    }

    /// Waits until `holds`, looking every few simulated milliseconds.
    ///
    /// # Panics
    ///
    /// If it does not hold within `patience`.
    pub async fn until(&mut self, what: &str, patience: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = self.context.current() + patience;
        while !holds(self) {
            assert!(
                self.context.current() < deadline,
                "{}: {what} takes more than {patience:?}; heights {:?}",
                self.seed(),
                self.heights()
            );
            self.sleep(POLL).await;
        }
    }

    /// Waits until every running honest validator has finalized `height`.
    ///
    /// # Panics
    ///
    /// If that takes more than ten minutes.
    pub async fn until_height(&mut self, height: u64) {
        let what = format!("height {height}");
        self.until(&what, HEIGHT_TIMEOUT, |city| {
            (0..city.running.len())
                .filter(|index| city.runs(*index) && !matches!(city.plan.conduct[*index], Conduct::Twins))
                .all(|index| city.witness.height(index) >= height)
        })
        .await;
    }

    /// The highest final height on each validator; 0 for twins.
    pub fn heights(&self) -> Vec<u64> {
        (0..self.running.len()).map(|index| self.witness.height(index)).collect()
    }

    /// The highest final height on any honest validator.
    pub fn height(&self) -> u64 {
        self.heights().into_iter().max().unwrap_or_default()
    }

    /// The header that became final at a height on the first validator to get there.
    pub fn header(&self, height: u64) -> Option<Header> {
        self.witness.header(height)
    }

    /// The simulated time, milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        let now = self.context.current().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }

    /// A context for tasks of the script.
    pub fn context(&self) -> Context {
        self.context.child("script")
    }

    /// Panics if honest validators disagree, or if one has stopped by itself although disks are sound. A twin may: it
    /// meets a log that its sibling's equivocation has changed under it.
    pub(super) async fn check(&mut self) {
        if let Some(violation) = self.witness.violation() {
            panic!("{}: {violation}", self.seed());
        }
        if self.plan.faulty_disks {
            return;
        }
        for index in 0..self.running.len() {
            let may_fall = matches!(self.plan.conduct[index], Conduct::Twins);
            assert!(may_fall || !self.has_fallen(index), "{}: validator {index} has stopped by itself", self.seed());
        }
    }

    fn seed(&self) -> String {
        format!("seed {}", self.plan.seed)
    }
}
