//! What happens at one rate?
//!
//! Signs the bundles, offers them, waits for what is on the way, and adds up. Does not judge (`ramp.rs`) or print (`report.rs`).

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use lockstep_protocol::{ids::Height, limits::MAX_VALIDITY};
use serde::Serialize;

use super::{
    Stand,
    arrive::{Arrived, Expected},
    ramp::Step,
    schedule::Schedule,
    send::{Doors, Prepared, Sent},
};
use crate::{
    accounts::Sender,
    latency::Percentiles,
    process::{Usage, usage},
};

/// Bundles of one step: they are signed before it and held in memory, about a kilobyte each.
const BUNDLES_MAX: usize = 1_000_000;
/// How long after the load bundles that still wait for a nonce window may be sent.
const GRACE: Duration = Duration::from_secs(5);
/// How long what was accepted may take to become final after the last was sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked whether everything has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Heights that may pass between signing a step's bundles and sending the last: the validity that is left is the run's.
const VALID_FOR: u64 = MAX_VALIDITY - 64;

/// What happened at one rate.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// What the ramp judges.
    #[serde(flatten)]
    pub step: Step,
    /// Bundles of the step.
    pub bundles: usize,
    /// Taken by a validator.
    pub accepted: u64,
    /// Refused, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Not answered for, by what happened instead.
    pub unanswered: BTreeMap<String, u64>,
    /// Became final, also after the load.
    pub finalized: usize,
    /// Accepted and not final after all waiting.
    pub missing: u64,
    /// Seen more than once in the lane. Must be zero.
    pub repeated: u64,
    /// Waited for a nonce window.
    pub held_back: u64,
    /// How much later than due bundles left this process.
    pub late: Percentiles,
    /// Blocks a second while it was measured.
    pub block_rate: f64,
    /// What each validator cost while it was measured.
    pub nodes: Vec<Option<Cost>>,
    /// What this process, which made the load, cost.
    pub generator: Option<Cost>,
}

/// What a process cost over a while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Processor seconds.
    pub cpu_seconds: f64,
    /// The same a second: 1 is a whole core.
    pub cores: f64,
    /// Resident memory at its end.
    pub memory_mib: f64,
    /// The most it ever was.
    pub memory_peak_mib: f64,
    /// What it wrote to disk.
    pub written_mib: f64,
}

impl StepReport {
    /// Whether the network kept up, or why not.
    pub fn judge(&self) -> Result<(), String> {
        if self.missing > 0 {
            return Err(format!("{} accepted and not final", self.missing));
        }
        self.step.judge()
    }
}

/// Measures `rate`.
pub(crate) async fn run(stand: &Stand, rate: f64, arrived: &Arc<Arrived>) -> Result<StepReport> {
    let args = &stand.args;
    let length = args.warm_up + args.length;
    let due = Schedule::new(args.arrivals(), rate, args.seed).within(length);
    ensure!(!due.is_empty(), "a rate of {rate} for {length:?} is no bundle at all");
    ensure!(due.len() <= BUNDLES_MAX, "{} bundles, at most {BUNDLES_MAX} are signed at once", due.len());
    let tip = stand.client.tip().await?.header.height;
    let bundles = Arc::new(prepare(&stand.senders, due.len(), stand.client.trust().network(), tip)?);
    let doors = Doors::new(&stand.network.urls(), usize::from(args.connections))?;

    // A moment, so that the first bundles are not late.
    let start = Instant::now() + Duration::from_millis(100);
    let ids = bundles.iter().map(|bundle| bundle.id);
    let expected = Expected::new(ids, due.clone(), start, args.warm_up..length, stand.senders.len());
    arrived.expect(expected);
    let sending = doors.send(bundles.clone(), &due, start, length + GRACE, usize::from(args.batch), arrived);
    let measuring = meter(stand, arrived, start + args.warm_up, start + length);
    let (sent, meter) = tokio::join!(sending, measuring);
    drained(arrived, &sent).await;

    let state = arrived.state();
    let refused = sent.refused.values().sum::<u64>() + sent.failed.values().sum::<u64>();
    let step = Step {
        offered: rate,
        achieved: state.in_time as f64 / args.length.as_secs_f64(),
        refused,
        latency: state.latency.percentiles(),
    };
    Ok(StepReport {
        step,
        bundles: bundles.len(),
        accepted: sent.accepted,
        refusals: sent.refused,
        unanswered: sent.failed,
        finalized: state.finalized,
        missing: sent.accepted.saturating_sub(state.finalized as u64),
        repeated: state.repeated,
        held_back: sent.held_back,
        late: sent.late.percentiles(),
        block_rate: meter.blocks as f64 / args.length.as_secs_f64(),
        nodes: meter.nodes,
        generator: meter.generator,
    })
}

/// Signs bundles on all processors, in the order in which they are due: one of each account after the other.
fn prepare(
    senders: &[Sender],
    count: usize,
    network: lockstep_protocol::ids::NetworkId,
    tip: Height,
) -> Result<Vec<Prepared>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(senders.len());
    let accounts = senders.len();
    // Each thread signs for accounts of its own, so that their nonces count up without anybody waiting.
    let signed: Vec<Vec<(usize, Prepared)>> = std::thread::scope(|scope| {
        let work = |thread: usize| {
            let indices = (0..count).filter(move |index| (index % accounts) % threads == thread);
            indices
                .map(|index| (index, Prepared::new(&senders[index % accounts].next_bundle(network, tip, VALID_FOR))))
                .collect()
        };
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("signing does not fail")).collect()
    });
    let mut all: Vec<_> = signed.into_iter().flatten().collect();
    all.sort_unstable_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, prepared)| prepared).collect())
}

/// Waits until everything that was accepted is final, or nothing more is to be hoped for.
async fn drained(arrived: &Arrived, sent: &Sent) {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    while (arrived.state().finalized as u64) < sent.accepted && Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What was used between two times.
struct Meter {
    blocks: u64,
    nodes: Vec<Option<Cost>>,
    generator: Option<Cost>,
}

async fn meter(stand: &Stand, arrived: &Arrived, from: Instant, to: Instant) -> Meter {
    let look = || (stand.network.usage(), usage(std::process::id()), arrived.state().height);
    tokio::time::sleep_until(from.into()).await;
    let (nodes, generator, height) = look();
    tokio::time::sleep_until(to.into()).await;
    let (nodes_after, generator_after, height_after) = look();
    let length = to - from;
    let cost = |before: Option<Usage>, after: Option<Usage>| Some(Cost::between(&before?, &after?, length));
    Meter {
        blocks: height_after.0.saturating_sub(height.0),
        nodes: nodes.into_iter().zip(nodes_after).map(|(before, after)| cost(before, after)).collect(),
        generator: cost(generator, generator_after),
    }
}

impl Cost {
    fn between(before: &Usage, after: &Usage, length: Duration) -> Self {
        const MIB: f64 = 1_048_576.0;
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        Self {
            cpu_seconds: cpu,
            cores: cpu / length.as_secs_f64(),
            memory_mib: after.memory as f64 / MIB,
            memory_peak_mib: after.memory_peak as f64 / MIB,
            written_mib: after.written.saturating_sub(before.written) as f64 / MIB,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts;
    use lockstep_protocol::ids::NetworkId;
    use std::collections::BTreeSet;

    #[test]
    fn bundles_are_prepared_in_order_with_dense_nonces_for_every_account() {
        let senders = accounts::fast(5);
        let network = NetworkId::from_name("test");
        let first = prepare(&senders, 23, network, Height(10)).expect("signed");
        let again = accounts::fast(5);
        let expected: Vec<_> = (0..23)
            .map(|index| Prepared::new(&again[index % 5].next_bundle(network, Height(10), VALID_FOR)).id)
            .collect();
        assert_eq!(first.iter().map(|bundle| bundle.id).collect::<Vec<_>>(), expected);
        let ids: BTreeSet<_> = first.iter().map(|bundle| bundle.id).collect();
        assert_eq!(ids.len(), 23);
    }

    #[test]
    fn a_cost_is_the_difference_of_what_counts_up_and_the_last_of_what_does_not() {
        let before = Usage { cpu: Duration::from_secs(10), memory: 1 << 20, memory_peak: 2 << 20, written: 5 << 20 };
        let after = Usage { cpu: Duration::from_secs(14), memory: 3 << 20, memory_peak: 4 << 20, written: 9 << 20 };
        let cost = Cost::between(&before, &after, Duration::from_secs(8));
        let expected = Cost { cpu_seconds: 4.0, cores: 0.5, memory_mib: 3.0, memory_peak_mib: 4.0, written_mib: 4.0 };
        assert_eq!(cost, expected);
    }
}
