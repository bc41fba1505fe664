//! Do the real contracts of Arbitrum Nitro take what our poster posts, and make the accumulator of it that we computed?
//!
//! The judges are anvil and `@arbitrum/nitro-contracts`, both from npm; `judges/nitro/run.sh` installs them and names them to this
//! test. Where they are not named, it says that it was skipped.
#![cfg(feature = "run")]

mod city;
mod forced;
#[path = "../run/proxy.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod proxy;
mod trouble;

use std::{fs, time::Duration};

use lockstep_adapters::arbitrum::post::{PostError, Target};

use city::{City, DEPTH, OWNER, call, transact, transaction};

#[tokio::test]
async fn the_real_contracts_take_every_message_once_with_the_accumulators_that_we_compute() {
    for (name, bufferable) in [("plain", false), ("buffered", true)] {
        let Some((_anvil, beacon, mut city)) = City::begin(name, bufferable, DEPTH).await else { return };
        let mut index = 0;
        for round in 0..8 {
            // A signed transaction in the delayed inbox, both ways there are, and a deposit.
            city.contracts.delayed(&[&[4][..], &transaction(1_000 + round, 0)].concat(), "sendL2Message(bytes)").await;
            city.contracts.delayed(&[0xff; 70], "sendL2MessageFromOrigin(bytes)").await;
            transact(&city.contracts.l1, OWNER, Some(city.contracts.inbox), call("depositEth()", &[]), 5).await;
            // Long enough at times that a buffer of delay is in use, and proof is wanted.
            city.contracts.mine(round * 4).await;
            for bytes in [100, 30_000, 60_000, 3_000] {
                index += 1;
                city.lane_block(vec![transaction(index, bytes), transaction(index + 500, bytes / 3)]).await;
            }
            let target = if round % 2 == 0 { Target::Calldata } else { Target::Blobs };
            let mut poster = city.poster(0, target).await;
            while poster.round().await.expect("the contract takes it, with our accumulator") {}
            assert_eq!(city.posted().await, city.stream.position().next(), "round {round}");
        }
        assert!(city.stream.position().tip.delayed > 20, "delayed messages and the inbox's reports");
        assert_eq!(city.contracts.derived(&beacon).await, city.meant());
        fs::remove_dir_all(&city.folder).expect("cleans up");
    }
}

#[tokio::test]
async fn posters_that_are_killed_doubled_and_reorganised_under_post_nothing_twice_and_leave_nothing_out() {
    let Some((_anvil, beacon, mut city)) = City::begin("trouble", true, DEPTH).await else { return };
    for index in 0..24 {
        city.contracts.delayed(&[index as u8; 40], "sendL2Message(bytes)").await;
        city.contracts.mine(1).await;
        city.lane_block(vec![transaction(index, 40_000)]).await;
        match index % 4 {
            // Killed while it works, wherever it is then.
            0 => {
                let mut poster = city.poster(0, Target::Calldata).await;
                drop(tokio::time::timeout(Duration::from_millis(3 * index), poster.round()).await);
            }
            // Two at once.
            1 => {
                let (mut one, mut other) =
                    (city.poster(0, Target::Calldata).await, city.poster(1, Target::Blobs).await);
                let (one, other) = tokio::join!(one.round(), other.round());
                for ended in [&one, &other] {
                    assert!(
                        matches!(ended, Ok(_) | Err(PostError::Reverted { .. } | PostError::Inbox(_))),
                        "{ended:?}"
                    );
                }
                assert!(one.is_ok() || other.is_ok());
            }
            // L1 takes back what was just posted.
            2 => {
                let mut poster = city.poster(0, Target::Blobs).await;
                while poster.round().await.expect("posts") {}
                city.contracts.reorganise(1 + index / 8).await;
            }
            _ => {}
        }
    }
    let mut poster = city.poster(1, Target::Calldata).await;
    while poster.round().await.expect("posts what is missing") {}
    assert_eq!(city.posted().await, city.stream.position().next());
    assert_eq!(city.contracts.derived(&beacon).await, city.meant());
    fs::remove_dir_all(&city.folder).expect("cleans up");
}

#[tokio::test]
async fn reorganisations_of_l1_of_one_to_ten_blocks_are_posted_over() {
    const DEEPEST: u64 = 10;
    // Delayed messages wait until no reorganisation of these can take them back.
    let Some((_anvil, beacon, mut city)) = City::begin("reorganised", true, DEEPEST + 1).await else { return };
    for depth in 1..=DEEPEST {
        let target = if depth % 2 == 0 { Target::Blobs } else { Target::Calldata };
        // Several batches, some of them below what is taken back.
        for part in 0..4 {
            city.contracts.delayed(&[part as u8; 40], "sendL2Message(bytes)").await;
            city.lane_block(vec![transaction(4 * depth + part, 1_000)]).await;
            city.contracts.mine(2).await;
            let mut poster = city.poster(0, target).await;
            while poster.round().await.expect("posts") {}
        }
        let (before, all) = (city.posted().await, city.stream.position().next());
        assert_eq!(before, all);
        city.contracts.reorganise(depth).await;
        let after = city.posted().await;
        assert!(after < before, "{depth} blocks were taken back, and no batch with them");
        let mut poster = city.poster(1, target).await;
        while poster.round().await.expect("posts again what was taken back") {}
        assert_eq!(city.posted().await, city.stream.position().next(), "depth {depth}");
    }
    assert!(city.stream.position().tip.delayed > 5, "delayed messages were sequenced between reorganisations");
    assert_eq!(city.contracts.derived(&beacon).await, city.meant());
    fs::remove_dir_all(&city.folder).expect("cleans up");
}
