//! Do the posters of a rollup take turns by the lease in the log, and are levels told in their order meanwhile?

use std::{collections::BTreeSet, time::Duration};

use alloy_primitives::Address;
use lockstep_protocol::{rpc::Level, settlement::records::LeaseRecord};
use lockstep_testnet::{
    city::City,
    levels::Climb,
    network::ROLLUPS,
    rollups::{L1Kind, View},
    whole::{self, Choices},
};
use tokio::time::{Instant, sleep};

use super::{EXECUTABLE, assert_kept, turn};

/// Bundles a second.
const RATE: f64 = 5.0;
/// How long anything may take that the city does by itself: a lease, several batches, finality of L1.
const PATIENCE: Duration = Duration::from_secs(120);
/// The names of the first posters.
const POSTERS: [&str; 2] = ["op-poster", "nitro-poster"];

async fn reach(city: &mut City, claim: &str, enough: impl FnMut(&View) -> bool) -> View {
    let rollups = city.rollups().expect("joined");
    assert!(rollups.reach(PATIENCE, enough).await, "{claim}: {:#?}", rollups.view());
    rollups.view()
}

/// Who posts for each rollup, by the log.
async fn leases(city: &City) -> Vec<LeaseRecord> {
    let mut leases = Vec::new();
    for (rollup, _) in ROLLUPS {
        let lease = city.clients()[0].lease(rollup).await.expect("proven");
        leases.push(lease.value.expect("somebody took the lease"));
    }
    leases
}

/// Waits until a leg was followed on each rollup up to finality.
async fn climbs(city: &City) -> Vec<Climb> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let climbs = city.climbs();
        if climbs.iter().map(|climb| climb.rollup).collect::<BTreeSet<_>>().len() == ROLLUPS.len() {
            return climbs;
        }
        assert!(Instant::now() < deadline, "no bundle was followed to its end");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_posters_the_other_takes_over_when_the_holder_is_killed_and_legs_climb_through_all_levels() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let choices = Choices {
        executable: EXECUTABLE.into(),
        folder: folder.path().join("city"),
        validators: 4,
        followers: vec![0, 2],
        l1: L1Kind::Embedded,
        op_stack: None,
        balances: Vec::new(),
        visitor: Address::repeat_byte(0x77),
        standby: false,
    };
    let mut city = whole::start(choices, |_| {}).await.expect("the city starts");
    city.begin_traffic(RATE);

    for climb in climbs(&city).await {
        let levels: Vec<Level> = climb.seen.iter().map(|(level, _)| *level).filter(|l| *l > Level::Ordered).collect();
        assert_eq!(levels, [Level::Executed, Level::Posted, Level::Safe, Level::Final], "{climb:?}");
    }

    let posting = |view: &View| view.rollups.iter().all(|rollup| rollup.leader.is_some() && rollup.batches > Some(0));
    let view = reach(&mut city, "one of two posts", posting).await;
    let first: Vec<usize> = view.rollups.iter().filter_map(|rollup| rollup.leader).collect();
    let held = leases(&city).await;
    let names: Vec<String> = POSTERS
        .iter()
        .zip(&first)
        .map(|(name, leader)| if *leader == 0 { (*name).to_owned() } else { format!("{name}-2") })
        .collect();
    for name in &names {
        city.rollups().expect("joined").kill(name).expect("killed");
    }
    let killed = Instant::now();
    let executed: Vec<u64> = view.rollups.iter().map(|rollup| rollup.executed.expect("it answers")).collect();
    let others = |view: &View| {
        let mut places = view.rollups.iter().zip(&first).zip(&executed);
        places.all(|((rollup, first), executed)| {
            rollup.leader == Some(1 - first) && rollup.derived > Some(*executed) && rollup.agreed
        })
    };
    reach(&mut city, "the other posts, and L1 leads further", others).await;
    eprintln!("the others had posted what came after {:.1} s", killed.elapsed().as_secs_f64());
    for (before, now) in held.iter().zip(leases(&city).await) {
        assert!(now.holder != before.holder && now.term == before.term + 1, "{before:?}, then {now:?}");
    }

    // Back, they stand by: the lease is another's.
    for name in &names {
        city.rollups().expect("joined").start(name).expect("started again");
    }
    sleep(Duration::from_secs(10)).await;
    reach(&mut city, "who has it keeps it", others).await;
    let ending = city.finish().await;
    assert_eq!(city.rollups().expect("joined").failed().expect("looked after"), None);
    assert_kept(&ending, 100);
    city.stop_all().await.expect("everything stops when it is asked to");
}
