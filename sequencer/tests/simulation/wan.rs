//! How long does finality take where light is the limit?
//!
//! A network whose links all take the same one-way delay `d`, under steady load. Time is simulated, so the figures are the
//! same everywhere: multiples of `d`, printed and held to a bound. Computation takes next to no time here; what it costs is
//! in the load figures.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lockstep_consensus::{
    config::{Handoff, Timing},
    simulate::{City, Link},
};
use lockstep_protocol::ids::{BundleId, Height};

use crate::{
    load::Load,
    network::{HEARTBEAT, Network, VALIDATORS},
};

/// Simulated seconds of load.
const SECONDS: u64 = 5;
/// Bundles a simulated second, over all validators in turn.
const RATE: u64 = 200;
/// Simulated time of a step of the tasks. With the simulation's own, the way of a message through a validator's tasks would
/// take longer than the network.
const STEP: Duration = Duration::from_micros(5);

/// Times that were seen in one run, in milliseconds.
#[derive(Default)]
struct Figures {
    /// From a block's timestamp, when its content was chosen, to the block being final and indexed, on every validator.
    finality: Vec<u64>,
    /// From a client's call to the bundle being final and indexed at the validator that took it.
    service: Vec<u64>,
    /// Between the timestamps of blocks.
    interval: Vec<u64>,
}

/// Simplex needs one delay to propose, one to notarize and one to finalize. A bundle is one away from a leader that is
/// another validator than its own, and then waits for the next block, on average half the time between two.
#[test]
fn finality_takes_a_few_one_way_delays() {
    eprintln!("handoff  one-way delay  chosen -> final, p50  p99   submit -> final, p50  p99   block interval, p50");
    for handoff in [Handoff::Wait, Handoff::Stage, Handoff::Vote] {
        for delay in [25, 50, 100] {
            let [finality, service] = measure(delay, handoff);
            // A staged block's content is a delay older than its proposal, and what comes meanwhile misses it.
            let (final50, service50, service99) = match handoff {
                Handoff::Wait => (3.1, 5.0, 6.2),
                Handoff::Stage => (4.1, 6.0, 7.2),
                Handoff::Vote => (3.1, 4.5, 5.2),
            };
            let told =
                format!("{handoff:?} at {delay} ms: chosen -> final {finality:?} d, submit -> final {service:?} d");
            assert!(finality.0 <= final50 && finality.1 <= final50 + 0.2, "{told}");
            assert!(service.0 <= service50 && service.1 <= service99, "{told}");
        }
    }
}

/// Median and 99th percentile of both times, in one-way delays.
fn measure(delay: u64, handoff: Handoff) -> [(f64, f64); 2] {
    let Figures { finality, service, interval } = run(delay, handoff);
    let [finality, service, interval] = [finality, service, interval].map(|mut times| {
        times.sort_unstable();
        let quantile = |rank: f64| times[((times.len() - 1) as f64 * rank) as usize] as f64 / delay as f64;
        (quantile(0.5), quantile(0.99))
    });
    let ((p50, p99), (s50, s99), (b50, _)) = (finality, service, interval);
    eprintln!("{handoff:<7?} {delay:>11} ms {p50:>19.2} d {p99:>5.2} d {s50:>16.2} d {s99:>5.2} d {b50:>18.2} d");
    [finality, service]
}

fn run(delay: u64, handoff: Handoff) -> Figures {
    let link = Link { latency: Duration::from_millis(delay), jitter: Duration::ZERO, loss: 0 };
    let timing = Timing { handoff, ..Timing::with_heartbeat(HEARTBEAT) };
    let Network { mut simulation, shared } =
        Network::new(delay).with(|simulation| simulation.link(link).timing(timing).step(STEP));
    let mut load = Load::new(delay);
    let mut sent: BTreeMap<BundleId, (usize, u64)> = BTreeMap::new();
    // When each height was indexed at each validator.
    let mut indexed: Vec<BTreeMap<u64, u64>> = vec![BTreeMap::new(); VALIDATORS];
    simulation.run(async |city: &mut City<'_>| {
        city.start_all().await;
        city.until_height(5).await;
        let first = city.height() + 1;
        for tick in 0..SECONDS * 1_000 {
            if tick % (1_000 / RATE) == 0 {
                let validator = (tick as usize / (1_000 / RATE) as usize) % VALIDATORS;
                if let Some(id) = load.send_one(&shared, validator) {
                    sent.insert(id, (validator, city.now_ms()));
                }
            }
            for (validator, times) in indexed.iter_mut().enumerate() {
                let height = shared.indexed(validator);
                let known = times.last_key_value().map_or(first - 1, |(height, _)| *height);
                times.extend((known + 1..=height).map(|height| (height, city.now_ms())));
            }
            city.sleep(Duration::from_millis(1)).await;
        }
    });
    let ledger = shared.ledger.lock().unwrap();
    let mut figures = Figures::default();
    let mut chosen = BTreeSet::new();
    for (height, time) in indexed.iter().flatten() {
        let page = ledger.page(Height(*height)).expect("an indexed height is in the book");
        figures.finality.push(time - page.header.timestamp_ms);
        chosen.insert(page.header.timestamp_ms);
    }
    let chosen: Vec<_> = chosen.into_iter().collect();
    figures.interval = chosen.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (id, (validator, time)) in &sent {
        let Some(height) = ledger.height_of(id) else { continue };
        let Some(done) = indexed[*validator].get(&height) else { continue };
        figures.service.push(done - time);
    }
    assert!(figures.service.len() as u64 > SECONDS * RATE * 8 / 10, "most bundles were ordered while we looked");
    figures
}
