//! What does `kill -9` cost? A moment, and no promise.

use std::time::Duration;

use lockstep_testnet::{city::City, restarts};
use tokio::time::sleep;

use crate::{assert_kept, plan, turn};

/// Bundles a second while validators are killed.
const RATE: f64 = 30.0;
/// How long a restarted validator may take until it serves.
const READY: Duration = Duration::from_secs(60);

async fn busy_city(folder: &tempfile::TempDir) -> City {
    // A follower at every node: what a restarted one serves is verified too.
    let mut city = City::start(plan(folder.path()), &[0, 1, 2, 3], |_| {}).await.expect("the network starts");
    city.begin_traffic(RATE).expect("traffic starts");
    sleep(Duration::from_secs(2)).await;
    city
}

fn ordered(city: &City) -> u64 {
    city.book().ledger().counts().ordered
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_each_validator_in_turn_breaks_no_promise() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut city = busy_city(&folder).await;
    for index in 0..4 {
        city.network.kill(index).expect("killed");
        let before = ordered(&city);
        sleep(Duration::from_secs(3)).await;
        assert!(ordered(&city) > before, "three of four validators go on without validator {index}");
        city.network.start(index).expect("started");
        city.network.ready(index, READY).await.expect("a killed validator comes back by itself");
        sleep(Duration::from_secs(1)).await;
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
        city.network.all_ready(READY, |_| {}).await.expect("a killed network comes back by itself");
        let before = ordered(&city);
        sleep(Duration::from_secs(3)).await;
        assert!(ordered(&city) > before, "a network that came back orders");
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
    city.network.ready(1, READY).await.expect("a killed validator comes back by itself");
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
    city.network.ready(2, READY).await.expect("a killed validator comes back by itself");
    sleep(Duration::from_secs(5)).await;
    assert!(ordered(&city) > before, "three of four are one");
    city.network.start(3).expect("started");
    city.network.ready(3, READY).await.expect("a killed validator comes back by itself");
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
