//! Is every unit of margin conserved, and every transfer settled, whatever is killed while margin moves?

use std::{path::Path, time::Duration};

use alloy_primitives::Address;
use lockstep_testnet::{
    chaos::Chaos,
    city::{City, Ending, Part},
    rollups::{L1Kind, OpStack},
    venues,
    whole::{self, Choices},
};
use tokio::time::{Instant, sleep};

use super::{EXECUTABLE, assert_kept, turn};

/// Bundles a second beside the transfers.
const RATE: f64 = 5.0;
/// Margin transfers a second.
const TRANSFERS: f64 = 2.0;
/// How long anything may take that the city does by itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a part is dead.
pub(crate) const DEAD: Duration = Duration::from_millis(1_500);
/// What the price and the chaos follow from.
const SEED: u64 = 7;

pub(crate) async fn trading_city(folder: &Path, l1: L1Kind, op_stack: Option<OpStack>, standby: bool) -> City {
    let choices = Choices {
        executable: EXECUTABLE.into(),
        folder: folder.join("city"),
        validators: 4,
        followers: vec![0, 2],
        l1,
        op_stack,
        balances: Vec::new(),
        visitor: Address::repeat_byte(0x77),
        standby,
    };
    let mut city = whole::start(choices, |_| {}).await.expect("the city starts");
    city.begin_trading(Some(TRANSFERS), SEED);
    city.begin_traffic(RATE);
    city
}

fn view(city: &City) -> venues::View {
    city.venues().expect("they were opened").view()
}

/// Waits until `count` more transfers are applied on both rollups.
pub(crate) async fn settles(city: &City, count: u64, claim: &str) {
    let enough = view(city).settlements.counts.applied + count;
    let deadline = Instant::now() + PATIENCE;
    while view(city).settlements.counts.applied < enough {
        assert!(Instant::now() < deadline, "{claim} (seed {SEED}): {:#?}", view(city));
        sleep(Duration::from_millis(100)).await;
    }
}

/// Nothing is stuck, nothing is lost, and margin went both ways.
#[track_caller]
pub(crate) fn assert_settled(ending: &Ending) {
    assert_kept(ending, 20);
    let venues = ending.venues.as_ref().expect("there were venues");
    let settlements = &venues.settlements;
    assert_eq!((settlements.undecided, settlements.unapplied, venues.breaches), (0, 0, 0), "{venues:#?}");
    assert!(settlements.counts.ways.iter().all(|count| *count > 0), "both ways: {venues:#?}");
    assert_eq!(venues.totals.between, 0, "{venues:#?}");
    assert_eq!(venues.totals.in_flight, [0, 0], "{venues:#?}");
    assert!(ending.promises.iter().any(|promise| promise.promise.contains("margin")), "{ending:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn margin_settles_whichever_part_is_killed_while_it_moves() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut city = trading_city(folder.path(), L1Kind::Embedded, None, false).await;
    settles(&city, 3, "transfers settle").await;
    let mut parts = city.rollup_parts();
    assert_eq!(parts.len(), 11, "L1, and a client, a driver, two posters and a relayer for each rollup: {parts:?}");
    parts.push(Part::Validator(1));
    for part in parts {
        city.kill_part(&part).expect("killed");
        sleep(DEAD).await;
        city.start_part(&part).expect("started again");
        settles(&city, 2, &format!("transfers settle after {part:?} was killed")).await;
    }
    city.all_back().await.expect("a killed validator comes back by itself");
    let ending = city.finish().await;
    assert_settled(&ending);
    city.stop_all().await.expect("everything stops when it is asked to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_conserves_every_unit() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut city = trading_city(folder.path(), L1Kind::Embedded, None, true).await;
    let mut chaos = Chaos::new(SEED);
    let end = Instant::now() + Duration::from_secs(40);
    while Instant::now() < end {
        chaos.step(&mut city).expect("killed and started");
        sleep(Duration::from_millis(100)).await;
    }
    chaos.end(&mut city).expect("everything comes back");
    city.all_back().await.expect("a killed validator comes back by itself");
    assert!(chaos.kills().values().sum::<u64>() >= 10, "{:?}", chaos.kills());
    let ending = city.finish().await;
    assert_settled(&ending);
    city.stop_all().await.expect("everything stops when it is asked to");
}
