//! How does a whole network of validators run, and fail, in one deterministic process?
//!
//! A [`Simulation`] runs real validators on a simulated clock, disk and network: the same seed gives the same run, down
//! to the order of every event. A script, an async closure over a [`City`], cuts links, crashes validators, injects disk
//! faults and looks at what becomes of the log. That no two honest validators disagree is checked after every final
//! block, whatever the script does.
//!
//! ```no_run
//! # use std::{sync::Arc, time::Duration};
//! # use lockstep_consensus::{machine::Machine, simulate::Simulation};
//! # fn machine(_index: usize) -> Arc<dyn Machine> { unimplemented!() }
//! let mut simulation = Simulation::new(7, 4, machine);
//! simulation.run(async |city| {
//!     city.start_all().await;
//!     city.until_height(10).await;
//!     city.crash(2).await;
//!     city.until_height(20).await;
//! });
//! // All of them lose power at the same moment: only what was synced to disk is left.
//! simulation.run(async |city| {
//!     city.start_all().await;
//!     city.until_height(30).await;
//! });
//! ```

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use commonware_runtime::deterministic;
use lockstep_protocol::{header::Header, ids::Hash32};

mod city;
mod links;
mod witness;

pub use city::City;
pub use commonware_runtime::deterministic::Context;
pub use links::Link;

use crate::{
    block::Block,
    config::{Join, Limits, Retention, Timing},
    handle::Handle,
    keys::{self, Group, Identity},
    machine::Machine,
};

/// Simulated time after which a run has failed: a script that waits for ever must not hang a test.
const RUN_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Simulated time of one step of every task that has something to do. A message passes some ten tasks within a validator.
const STEP: Duration = Duration::from_millis(1);

/// How a validator behaves.
#[derive(Clone, Default)]
pub enum Conduct {
    /// By the rules.
    #[default]
    Honest,
    /// Runs twice with the same keys. One half of the others hears the one, the other half the other, and both hear
    /// everybody: it equivocates in every way that the protocol has, and nobody cuts it off for that. Clocks of the two are 7 ms apart, so that they never
    /// propose the same block. Each makes its own machine, and [`Simulation::on_start`] is called for each.
    Twins,
    /// Proposes, but shows nobody the block.
    Withholds,
    /// Changes the headers that it proposes. `state_ops`, `sync_start` and `sync_end` must stay: a wrong one stops the
    /// liar's own node. (To propose invalid bodies, give it a machine whose `build` breaks a rule.)
    Lies(Arc<dyn Fn(&mut Header) + Send + Sync>),
}

/// How often the simulated disk fails an operation, in thousandths. A validator whose disk fails stops, as it must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Failing syncs.
    pub sync: u16,
    /// Failing writes, of which some bytes may stay.
    pub write: u16,
    /// Failing reads.
    pub read: u16,
    /// Failing opens of a file.
    pub open: u16,
}

type MakeMachine = Arc<dyn Fn(usize) -> Arc<dyn Machine> + Send + Sync>;
type OnStart = Arc<dyn Fn(usize, Handle, Context) + Send + Sync>;
type OnFinal = Arc<dyn Fn(usize, &Block) + Send + Sync>;

/// What a simulation is made of. Shared by its runs.
struct Plan {
    seed: u64,
    group: Group,
    identities: Vec<Identity>,
    machine: MakeMachine,
    on_start: OnStart,
    on_final: OnFinal,
    conduct: Vec<Conduct>,
    timing: Timing,
    limits: Limits,
    retention: Retention,
    join: Vec<Join>,
    link: Link,
    faulty_disks: bool,
    step: Duration,
}

/// A network of validators that runs again and again on the same disks.
pub struct Simulation {
    plan: Plan,
    resume: Option<deterministic::Checkpoint>,
    witness: witness::Witness,
}

impl Simulation {
    /// `count` validators with keys that follow from `seed`. `machine` makes the state machine of a validator, by index,
    /// whenever it starts: what a machine holds in memory is lost in a crash.
    pub fn new(seed: u64, count: u32, machine: impl Fn(usize) -> Arc<dyn Machine> + Send + Sync + 'static) -> Self {
        let (group, identities) = keys::deal_insecurely(count, seed).expect("a simulation has a sensible size");
        let plan = Plan {
            seed,
            group,
            identities,
            machine: Arc::new(machine),
            on_start: Arc::new(|_, _, _| {}),
            on_final: Arc::new(|_, _| {}),
            conduct: vec![Conduct::Honest; count as usize],
            timing: Timing::default(),
            limits: Limits::default(),
            retention: Retention::default(),
            join: vec![Join::default(); count as usize],
            link: Link::default(),
            faulty_disks: false,
            step: STEP,
        };
        Self { witness: witness::Witness::new(count as usize), plan, resume: None }
    }

    /// Called for every start of a validator, after its machine was made, with its handle and a context whose tasks end with
    /// the validator.
    pub fn on_start(mut self, call: impl Fn(usize, Handle, Context) + Send + Sync + 'static) -> Self {
        self.plan.on_start = Arc::new(call);
        self
    }

    /// Called after every final block on every honest validator, in height order on each.
    pub fn on_final(mut self, call: impl Fn(usize, &Block) + Send + Sync + 'static) -> Self {
        self.plan.on_final = Arc::new(call);
        self
    }

    /// Sets how one validator behaves. At most a third, less one, may be other than honest for the log to stay live.
    pub fn conduct(mut self, index: usize, conduct: Conduct) -> Self {
        self.plan.conduct[index] = conduct;
        self
    }

    /// Sets the timing of all validators.
    pub fn timing(mut self, timing: Timing) -> Self {
        timing.check().expect("a simulation has a sensible timing");
        self.plan.timing = timing;
        self
    }

    /// Sets the limits of all validators.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.plan.limits = limits;
        self
    }

    /// Sets what all validators keep.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.plan.retention = retention;
        self
    }

    /// Sets how one validator begins with an empty disk.
    pub fn join(mut self, index: usize, join: Join) -> Self {
        self.plan.join[index] = join;
        self
    }

    /// Sets the links between all validators.
    pub fn link(mut self, link: Link) -> Self {
        self.plan.link = link;
        self
    }

    /// Sets the simulated time that a step of the tasks takes: shorter where figures of the network alone are wanted.
    pub fn step(mut self, step: Duration) -> Self {
        self.plan.step = step;
        self
    }

    /// Says that disks may fail in this simulation: a validator that stops by itself is then no failure of the run. The
    /// script turns faults on and off with [`City::disk_faults`] and restarts the fallen with [`City::tend`].
    pub fn with_faulty_disks(mut self) -> Self {
        self.plan.faulty_disks = true;
        self
    }

    /// Name of a validator: its ed25519 key.
    pub fn name(&self, index: usize) -> Hash32 {
        self.plan.identities[index].name()
    }

    /// The validator set, with the group key.
    pub fn group(&self) -> &Group {
        &self.plan.group
    }

    /// Runs a script until it returns; then every validator loses power. The next run begins with what was synced to
    /// their disks, with no validator started.
    ///
    /// # Panics
    ///
    /// If two honest validators disagreed, if a validator stopped by itself without an injected fault, or if the script
    /// panics. The message names the seed.
    pub fn run<T>(&mut self, script: impl AsyncFnOnce(&mut City<'_>) -> T) -> T {
        let runner = match self.resume.take() {
            Some(checkpoint) => deterministic::Runner::from(checkpoint),
            None => {
                let genesis = (self.plan.machine)(0).genesis();
                let config = deterministic::Config::new()
                    .with_seed(self.plan.seed)
                    .with_cycle(self.plan.step)
                    .with_start_time(UNIX_EPOCH + Duration::from_millis(genesis.timestamp_ms))
                    .with_timeout(Some(RUN_TIMEOUT))
                    // A panic is how a validator stops on a disk fault. The city tells it from a failure.
                    .with_catch_panics(true);
                deterministic::Runner::new(config)
            }
        };
        let (plan, witness) = (&self.plan, self.witness.clone());
        let (value, checkpoint) = runner.start_and_recover(|context| async move {
            let mut city = City::new(context, plan, witness).await;
            let value = script(&mut city).await;
            city.check().await;
            value
        });
        self.resume = Some(checkpoint);
        value
    }

    /// A fingerprint of everything that has happened in all runs: equal for equal seeds and scripts.
    pub fn fingerprint(&self) -> String {
        self.resume.as_ref().map(|checkpoint| checkpoint.auditor().state()).unwrap_or_default()
    }
}
