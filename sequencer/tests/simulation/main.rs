//! Whole networks of the real application and pool under clients' load, and with rollups that settle, with everything that can go
//! wrong.
//!
//! After every final block, on every validator: agreement, no gap in any lane, no nonce used twice, conserved balances. At
//! the end of a run: equal states, and one outcome for every accepted bundle. Every seed is printed;
//! `LOCKSTEP_SEEDS=200` spreads that many over the scenarios, and `LOCKSTEP_SEED=7` runs one seed of each.

mod dishonest;
mod ledger;
mod load;
mod network;
mod settlement;
mod wan;

use std::time::Duration;

use dishonest::Dishonest;
use load::Load;
use lockstep_consensus::simulate::{City, Conduct, DiskFaults, Link, Simulation};
use network::Network;

const SCENARIOS: u64 = 25;
const ALL: [usize; 4] = [0, 1, 2, 3];

/// Runs a scenario with its share of the seeds.
fn over_seeds(name: &str, scenario: impl Fn(u64)) {
    // Silent unless RUST_LOG says otherwise.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match (number("LOCKSTEP_SEED"), number("LOCKSTEP_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, total) => 0..total.unwrap_or(SCENARIOS).div_ceil(SCENARIOS),
    };
    for seed in seeds {
        eprintln!("{name}: LOCKSTEP_SEED={seed}");
        scenario(seed);
    }
}

#[test]
fn lost_messages_and_partitions_lose_no_bundle() {
    over_seeds("weather", |seed| {
        let Network { mut simulation, shared } = Network::new(seed);
        let mut load = Load::new(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            load.act(city, &shared, &ALL, 40).await;
            city.link(Link { latency: Duration::from_millis(30), jitter: Duration::from_millis(25), loss: 80 }).await;
            load.act(city, &shared, &ALL, 40).await;
            city.link(Link::default()).await;
            let alone = (seed % 4) as usize;
            let others: Vec<_> = ALL.into_iter().filter(|index| *index != alone).collect();
            city.partition(&[&others]).await;
            load.act(city, &shared, &ALL, 40).await;
            city.heal().await;
            load.act(city, &shared, &ALL, 10).await;
            city.partition(&[&[0, 1], &[2, 3]]).await;
            load.act(city, &shared, &ALL, 40).await;
            let height = city.height();
            city.sleep(Duration::from_secs(5)).await;
            assert!(city.height() <= height + 1, "no half may go on");
            city.heal().await;
            // No pool was lost, so no client has to send anything again.
            shared.until_settled(city, &ALL).await;
        });
        load.check_outcomes(&shared);
    });
}

#[test]
fn each_validator_may_crash_and_come_back_under_load() {
    over_seeds("crashes", |seed| {
        let Network { mut simulation, shared } = Network::new(seed);
        let mut load = Load::new(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            for index in ALL {
                load.act(city, &shared, &ALL, 20).await;
                city.crash(index).await;
                load.act(city, &shared, &ALL, 20).await;
                city.start(index).await;
                load.act(city, &shared, &ALL, 5).await;
            }
            load.retry_all(&shared, &ALL);
            shared.until_settled(city, &ALL).await;
        });
        load.check_outcomes(&shared);
    });
}

#[test]
fn all_validators_may_lose_power_at_once_under_load() {
    over_seeds("blackouts", |seed| {
        let Network { mut simulation, shared } = Network::new(seed);
        let mut load = Load::new(seed);
        for _ in 0..3 {
            simulation.run(async |city: &mut City<'_>| {
                city.start_all().await;
                let height = city.height();
                city.until_height(height + 2).await;
                load.act(city, &shared, &ALL, 40).await;
            });
        }
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            load.retry_all(&shared, &ALL);
            shared.until_settled(city, &ALL).await;
        });
        load.check_outcomes(&shared);
    });
}

#[test]
fn failing_disks_lose_no_accepted_bundle_that_its_client_sends_again() {
    over_seeds("disks", |seed| {
        let Network { mut simulation, shared } = Network::new(seed).with(Simulation::with_faulty_disks);
        let mut load = Load::new(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            load.act(city, &shared, &ALL, 20).await;
            city.disk_faults(DiskFaults { sync: 4, write: 4, read: 2, open: 2 });
            let mut fallen = 0;
            for _ in 0..12 {
                load.act(city, &shared, &ALL, 10).await;
                city.sleep(Duration::from_millis(300)).await;
                fallen += city.tend().await;
            }
            city.disk_faults(DiskFaults::default());
            // A fault is found when the file is next synced, which may be much later.
            let sound = city.height() + 20;
            while city.heights().into_iter().any(|height| height < sound) {
                fallen += city.tend().await;
                city.sleep(Duration::from_millis(300)).await;
            }
            assert!(fallen > 0, "no disk failed, so nothing was shown");
            load.retry_all(&shared, &ALL);
            shared.until_settled(city, &ALL).await;
        });
        load.check_outcomes(&shared);
    });
}

#[test]
fn an_equivocating_leader_divides_nobody() {
    over_seeds("twins", |seed| {
        let twins = (seed % 4) as usize;
        let honest: Vec<_> = ALL.into_iter().filter(|index| *index != twins).collect();
        let Network { mut simulation, shared } = Network::with_twins(seed, twins);
        let mut load = Load::new(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            load.act(city, &shared, &honest, 120).await;
            shared.until_settled(city, &honest).await;
        });
        load.check_outcomes(&shared);
        let (views, full) = shared.equivocations();
        eprintln!("  {views} views with votes for two valid blocks, {full} with bundles in both");
        assert!(full > 0, "nobody voted for both, so nothing was shown: {views} views");
    });
}

#[test]
fn the_largest_bundle_reaches_every_pool() {
    over_seeds("largest", |seed| {
        let Network { mut simulation, shared } = Network::new(seed);
        let mut load = Load::new(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            city.until_height(2).await;
            let origin = (seed % 4) as usize;
            let id = load.send_largest(&shared, origin);
            let received = |validator: &usize| shared.pool(*validator).metrics().received.get() == 1;
            city.until("passing it on", Duration::from_secs(5), |_| {
                ALL.iter().filter(|validator| **validator != origin).all(received)
            })
            .await;
            shared.until_settled(city, &ALL).await;
            assert!(shared.ledger.lock().unwrap().height_of(&id).is_some(), "and is ordered");
        });
    });
}

#[test]
fn a_leader_that_proposes_invalid_bodies_loses_its_turns_only() {
    over_seeds("invalid", |seed| {
        let Network { mut simulation, shared } = Network::with_dishonest(seed, 2, Dishonest::wrap);
        let honest = [0, 1, 3];
        let name = simulation.name(2);
        let mut load = Load::new(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            load.act(city, &shared, &honest, 120).await;
            shared.until_settled(city, &honest).await;
            let mut headers = (1..=city.height()).filter_map(|height| city.header(height));
            assert!(headers.all(|header| header.leader != name), "an invalid body became final");
            assert!(honest.iter().any(|index| shared.invalid(*index) > 0), "nobody saw an invalid body");
        });
        load.check_outcomes(&shared);
    });
}

#[test]
fn a_withholding_leader_delays_but_loses_nothing() {
    over_seeds("withholding", |seed| {
        let withholding = (seed % 4) as usize;
        let Network { mut simulation, shared } =
            Network::new(seed).with(|simulation| simulation.conduct(withholding, Conduct::Withholds));
        let name = simulation.name(withholding);
        let mut load = Load::new(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            // Its clients are served too: it passes their bundles on.
            load.act(city, &shared, &ALL, 120).await;
            shared.until_settled(city, &ALL).await;
            let mut headers = (1..=city.height()).filter_map(|height| city.header(height));
            assert!(headers.all(|header| header.leader != name), "nobody saw its blocks");
        });
        load.check_outcomes(&shared);
    });
}
