//! Do rollups execute, post and re-derive everything that was ordered, whichever of their parts is killed?

use std::{path::Path, time::Duration};

use lockstep_sequencer::config::L1Config;
use lockstep_testnet::{
    city::City,
    rollups::{L1Kind, Rollups, View},
};

use super::{EXECUTABLE, assert_kept, plan, turn};

/// A few blocks of the slower rollup, with batches of theirs.
const A_WHILE: Duration = Duration::from_secs(6);
/// Drivers and posters give a question five seconds.
const L1_DOWN: Duration = Duration::from_secs(8);
/// How long L1 may take, once it is back, until it leads further than before. It takes a few of its blocks.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_of_the_rollups_and_l1_may_be_killed_while_they_work() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let l1 = Rollups::start_l1(Path::new(EXECUTABLE), folder.path(), City::wallets(), L1Kind::Embedded)
        .await
        .expect("an L1");
    let mut plan = plan(folder.path());
    plan.l1 = Some(L1Config { confirmations: 1, poll_ms: 200, ..L1Config::new(l1.url()) });
    let mut city = City::start(plan, &[0, 2], |_| {}).await.expect("a network");
    city.join_rollups(l1).await.expect("rollups");
    city.begin_traffic(20.0);
    tokio::time::sleep(A_WHILE).await;
    let parts = city.rollups().expect("joined").parts();
    assert_eq!(parts.len(), 9, "L1, and an execution client, a driver and two posters each: {parts:?}");
    for part in parts {
        let rollups = city.rollups().expect("joined");
        rollups.kill(&part).expect("killed");
        // Long enough that the others notice.
        tokio::time::sleep(Duration::from_secs(1)).await;
        city.rollups().expect("joined").start(&part).expect("started again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // L1 three times in a row, so that what posters had sent is lost on the way; and then for longer than anybody's patience.
    for down in [Duration::ZERO, Duration::ZERO, L1_DOWN] {
        let rollups = city.rollups().expect("joined");
        let before = rollups.view();
        rollups.kill("l1").expect("killed");
        tokio::time::sleep(down).await;
        let rollups = city.rollups().expect("joined");
        rollups.start("l1").expect("started again");
        let leads_further = |view: &View| {
            let pairs = view.rollups.iter().zip(&before.rollups);
            view.l1_height > before.l1_height && pairs.into_iter().all(|(now, before)| now.derived > before.derived)
        };
        let back = rollups.reach(PATIENCE, leads_further).await;
        assert!(back, "L1 was down for {down:?}: {:#?}, before: {before:#?}", rollups.view());
    }
    let ending = city.finish().await;
    let failed = city.rollups().expect("joined").failed().expect("looked after");
    assert_eq!(failed, None);
    assert_kept(&ending, 100);
    let view = city.rollups().expect("joined").view();
    assert!(view.rollups.iter().all(|rollup| rollup.batches > Some(0)), "nothing was posted: {view:#?}");
    assert!(view.rollups.iter().all(|rollup| rollup.trouble.is_none()), "something is waited for: {view:#?}");
    city.stop_all().await.expect("everything stops when it is asked to");
}
