//! How soon does a killed validator, or a killed network, count again? In simulated time, so that no machine is too slow.
//!
//! The timeouts of a view are ten seconds here: whatever takes less did not wait for one.

mod counter;

use std::{sync::Arc, time::Duration};

use counter::Counters;
use lockstep_consensus::{
    config::Timing,
    simulate::{City, Simulation},
};
use lockstep_protocol::ids::Hash32;

const HEARTBEAT: Duration = Duration::from_millis(200);
/// Time between two steps: there is always work, as on a busy network.
const PACE: Duration = Duration::from_millis(20);
/// Two repetitions of the newest words, a round of turns, and what links and disks take.
const SOON_MS: u64 = 1_500;
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);
const CERTIFICATION_TIMEOUT: Duration = Duration::from_secs(11);
const PATIENCE: Duration = Duration::from_secs(60);

struct Network {
    simulation: Simulation,
    machines: Vec<Arc<Counters>>,
    names: Vec<Hash32>,
}

fn network(seed: u64) -> Network {
    eprintln!("seed {seed}");
    let machines: Vec<_> = (0..4).map(|_| Arc::new(Counters::default())).collect();
    let kept = machines.clone();
    let timing = Timing {
        leader_timeout: LEADER_TIMEOUT,
        certification_timeout: CERTIFICATION_TIMEOUT,
        skip_timeout: Duration::from_secs(12),
        ..Timing::with_heartbeat(HEARTBEAT)
    };
    let simulation = Simulation::new(seed, 4, move |index| kept[index].clone()).timing(timing);
    let names = (0..4).map(|index| simulation.name(index)).collect();
    Network { simulation, machines, names }
}

/// Submits a step to every validator.
fn submit(city: &City<'_>, machines: &[Arc<Counters>], number: &mut u64) {
    *number += 1;
    for (index, machine) in machines.iter().enumerate() {
        machine.submit((1, *number));
        if city.runs(index) {
            city.handle(index).wake();
        }
    }
}

/// Keeps the network busy for a while.
async fn busy(city: &mut City<'_>, machines: &[Arc<Counters>], number: &mut u64, time: Duration) {
    let end = city.now_ms() + time.as_millis() as u64;
    while city.now_ms() < end {
        submit(city, machines, number);
        city.sleep(PACE).await;
    }
}

/// Simulated milliseconds until a block is final that was proposed from now on, by `leader` if one is named.
async fn until_new_block(
    city: &mut City<'_>,
    machines: &[Arc<Counters>],
    number: &mut u64,
    leader: Option<Hash32>,
) -> u64 {
    let begin = city.now_ms();
    let mut height = city.height();
    loop {
        submit(city, machines, number);
        city.sleep(PACE).await;
        let now = city.now_ms();
        assert!(now - begin < PATIENCE.as_millis() as u64, "no new block; heights {:?}", city.heights());
        while let Some(header) = city.header(height + 1) {
            if header.timestamp_ms >= begin && leader.is_none_or(|leader| header.leader == leader) {
                return now - begin;
            }
            height += 1;
        }
    }
}

#[test]
fn a_killed_validator_takes_the_turn_that_others_wait_for() {
    let Network { mut simulation, machines, names } = network(2_000);
    simulation.run(async |city: &mut City<'_>| {
        let mut number = 0;
        city.start_all().await;
        for down_ms in [20, 60, 150, 400, 1_000] {
            for (index, name) in names.iter().enumerate() {
                // Another moment of its turn every time.
                let running = Duration::from_millis(500 + 7 * down_ms + 13 * index as u64);
                busy(city, &machines, &mut number, running).await;
                city.crash(index).await;
                busy(city, &machines, &mut number, Duration::from_millis(down_ms)).await;
                city.start(index).await;
                let took = until_new_block(city, &machines, &mut number, Some(*name)).await;
                eprintln!("{index} was down for {down_ms} ms and has a block of its own final after {took} ms");
                assert!(took < SOON_MS, "it took {took} ms");
            }
        }
    });
}

#[test]
fn a_leader_that_comes_back_proposes_when_it_is_heard() {
    let Network { mut simulation, machines, names } = network(2_100);
    simulation.run(async |city: &mut City<'_>| {
        city.start_all().await;
        city.until_height(8).await;
        // Blocks of an idle network are a heartbeat apart: it is killed while the others wait for its block.
        let turns: Vec<_> = (5..=8).map(|height| city.header(height).expect("it is final").leader).collect();
        let place = turns.iter().position(|leader| *leader == names[2]).expect("all take turns");
        let before = turns[(place + 3) % 4];
        city.until("the turn before its own", PATIENCE, |city| {
            let height = city.heights()[2];
            city.header(height).is_some_and(|header| header.leader == before)
        })
        .await;
        let height = city.height();
        city.crash(2).await;
        city.partition(&[&[0, 1, 3]]).await;
        city.sleep(Duration::from_millis(400)).await;
        city.start(2).await;
        city.sleep(Duration::from_millis(400)).await;
        assert_eq!(city.height(), height, "everybody waits for it");
        city.heal().await;
        let took = until_new_block(city, &machines, &mut 0, Some(names[2])).await;
        assert!(took < SOON_MS, "what it proposed to nobody is lost for {took} ms");
    });
}

#[test]
fn after_a_power_cut_votes_are_said_again_and_not_waited_for() {
    let Network { mut simulation, machines, .. } = network(2_200);
    let (mut number, mut soon, mut lost) = (0, 0, 0);
    for cut in 0..12 {
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            let took = until_new_block(city, &machines, &mut number, None).await;
            eprintln!("cut {cut}: the first new block is final after {took} ms");
            // All may have voted for a block that nobody had synced yet. It is gone with the power, its view with it, and
            // with an early vote the next.
            if took < SOON_MS {
                soon += 1;
            } else {
                lost += 1;
            }
            assert!(took < SOON_MS + 2 * CERTIFICATION_TIMEOUT.as_millis() as u64, "it took {took} ms");
            busy(city, &machines, &mut number, Duration::from_millis(500 + 11 * cut)).await;
        });
    }
    assert!(soon > 2 * lost, "of twelve cuts {lost} cost a timeout");
}
