//! What does `kill -9` cost? A moment, and no promise.

use std::time::{Duration, Instant};

use lockstep_testnet::{city::City, nodes::Nodes, restarts};
use tokio::time::sleep;

use crate::{assert_kept, plan, turn};

/// Bundles a second while validators are killed.
const RATE: f64 = 30.0;
/// How long anything may take that the network does by itself.
const PATIENCE: Duration = Duration::from_secs(60);

async fn busy_city(folder: &tempfile::TempDir) -> City {
    // A follower at every node: what a restarted one serves is verified too.
    let mut city = City::start(plan(folder.path()), &[0, 1, 2, 3], |_| {}).await.expect("the network starts");
    city.begin_traffic(RATE);
    sleep(Duration::from_secs(2)).await;
    city
}

fn ordered(city: &City) -> u64 {
    city.book().ledger().counts().ordered
}

/// Waits until the network has ordered more than a few bundles from now on.
async fn goes_on(city: &City, claim: &str) {
    let enough = ordered(city) + 20;
    let deadline = Instant::now() + PATIENCE;
    while ordered(city) < enough {
        assert!(Instant::now() < deadline, "{claim}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Starts a validator, and waits until it serves blocks that were made after it was killed.
async fn comes_back(city: &mut City, index: usize) {
    let known = city.book().height();
    city.network.start(index).expect("started");
    city.network.ready(index, PATIENCE).await.expect("a killed validator comes back by itself");
    let nodes = Nodes::new(&city.network).expect("clients");
    nodes.wait_tip(index, known.next()).await.expect("a restarted validator catches up");
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_each_validator_in_turn_breaks_no_promise() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut city = busy_city(&folder).await;
    for index in 0..4 {
        city.network.kill(index).expect("killed");
        goes_on(&city, "three of four validators go on").await;
        comes_back(&mut city, index).await;
    }
    let ending = city.finish().await;
    assert_kept(&ending, 100);
    stop(city).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_all_validators_at_once_breaks_no_promise() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut city = busy_city(&folder).await;
    for _ in 0..3 {
        city.network.kill_all().expect("killed");
        city.network.start_all().expect("started");
        city.network.all_ready(PATIENCE, |_| {}).await.expect("a killed network comes back by itself");
        goes_on(&city, "a network that came back orders").await;
    }
    let ending = city.finish().await;
    assert_kept(&ending, 100);
    stop(city).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_killed_again_while_it_starts_comes_back() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut city = busy_city(&folder).await;
    for pause_ms in [20, 60, 120, 250, 500] {
        city.network.kill(1).expect("killed");
        city.network.start(1).expect("started");
        sleep(Duration::from_millis(pause_ms)).await;
    }
    city.network.ready(1, PATIENCE).await.expect("a killed validator comes back by itself");
    let ending = city.finish().await;
    assert_kept(&ending, 50);
    stop(city).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_four_order_nothing_and_go_on_when_a_third_is_back() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut city = busy_city(&folder).await;
    city.network.kill(2).expect("killed");
    city.network.kill(3).expect("killed");
    // What was being decided when they died may still become final.
    sleep(Duration::from_secs(2)).await;
    let before = ordered(&city);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(ordered(&city), before, "two of four are no quorum");
    city.network.start(2).expect("started");
    goes_on(&city, "three of four are one").await;
    comes_back(&mut city, 3).await;
    let ending = city.finish().await;
    assert_kept(&ending, 50);
    stop(city).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_are_measured_every_time() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let figures = restarts::measure(plan(folder.path()), 2).await.expect("measured");
    for found in [figures.one_ready, figures.one_proposes, figures.all_first_block, figures.all_ready] {
        assert_eq!(found.count, 2, "{figures:#?}");
        assert!(found.max_ms > 0.0 && found.max_ms < 60_000.0, "{figures:#?}");
    }
    assert!(figures.promises.iter().all(|promise| promise.kept), "{figures:#?}");
}

async fn stop(mut city: City) {
    let statuses = city.network.stop_all().await.expect("all validators stop when asked");
    assert_eq!(statuses.len(), 4);
    assert!(statuses.iter().all(|status| status.success()), "{statuses:?}");
}
