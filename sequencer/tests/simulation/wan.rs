//! How long does finality take where light is the limit?
//!
//! A network whose links all take the same one-way delay `d`, under steady load. Time is simulated, so the figures are exact
//! and the same everywhere: multiples of `d`, printed and held to a bound. Computation takes no time here; what it costs is
//! in the load figures.

use std::{collections::BTreeMap, time::Duration};

use lockstep_consensus::simulate::{City, Link};
use lockstep_protocol::ids::BundleId;

use crate::{
    load::Load,
    network::{Network, VALIDATORS},
};

/// One-way delay of every link: across a continent.
const DELAY_MS: u64 = 25;
/// Simulated seconds of load.
const SECONDS: u64 = 10;
/// Bundles a simulated second, over all validators in turn.
const RATE: u64 = 200;

/// What was seen of one run.
struct Figures {
    /// From a block's timestamp, taken when its leader stages it, to the block being final and indexed, on every validator. Milliseconds.
    finality: Vec<u64>,
    /// From a client's call to the bundle being final and indexed at the validator that took it. Milliseconds.
    service: Vec<u64>,
    bundles_per_block: f64,
}

#[test]
fn finality_takes_a_few_one_way_delays() {
    eprintln!("one-way delay  staged -> final, p50  p99   submit -> final, p50  p99   bundles a block");
    let delay = DELAY_MS;
    let mut figures = measure(delay);
    let in_delays = |times: &mut [u64], rank| quantile(times, rank) as f64 / delay as f64;
    let (p50, p99) = (in_delays(&mut figures.finality, 0.5), in_delays(&mut figures.finality, 0.99));
    let (service50, service99) = (in_delays(&mut figures.service, 0.5), in_delays(&mut figures.service, 0.99));
    let size = figures.bundles_per_block;
    eprintln!("{delay:>8} ms {p50:>18.2} d {p99:>6.2} d {service50:>16.2} d {service99:>5.2} d {size:>12.1}");
    // A leader stages its block while the view before still votes: its timestamp is up to two delays older than its
    // proposal. Then one to propose, one to notarize, one to finalize. Clients wait for their turn on top.
    assert!(p50 <= 6.0 && p99 <= 10.0, "staged -> final at {delay} ms: {p50} d, {p99} d");
    assert!(service50 <= 9.0 && service99 <= 15.0, "submit -> final at {delay} ms: {service50} d, {service99} d");
}

fn measure(delay: u64) -> Figures {
    let latency = Duration::from_millis(delay);
    let link = Link { latency, jitter: Duration::ZERO, loss: 0 };
    let Network { mut simulation, shared } = Network::new(delay).with(|simulation| simulation.link(link));
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
    let mut figures = Figures { finality: Vec::new(), service: Vec::new(), bundles_per_block: 0.0 };
    for (height, time) in indexed.iter().flatten() {
        let page = ledger.page(lockstep_protocol::ids::Height(*height)).expect("an indexed height is in the book");
        figures.finality.push(time - page.header.timestamp_ms);
    }
    let mut blocks = std::collections::BTreeSet::new();
    for (id, (validator, time)) in &sent {
        let Some(height) = ledger.height_of(id) else { continue };
        let Some(done) = indexed[*validator].get(&height) else { continue };
        figures.service.push(done - time);
        blocks.insert(height);
    }
    assert!(figures.service.len() as u64 > SECONDS * RATE * 8 / 10, "most bundles were ordered while we looked");
    figures.bundles_per_block = figures.service.len() as f64 / blocks.len() as f64;
    figures
}

fn quantile(times: &mut [u64], rank: f64) -> u64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * rank) as usize]
}
