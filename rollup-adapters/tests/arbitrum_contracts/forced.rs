//! Does the chain follow when somebody forces delayed messages into the real inbox?

use std::{fs, time::Duration};

use alloy_primitives::{U256, keccak256};
use lockstep_adapters::arbitrum::{
    delayed_source::DelayedSource,
    next_batch,
    post::{PostError, Target},
};

use crate::city::{City, DEPTH, OWNER, call, catch_up, messages, transact, transaction};

/// Blocks after which anybody may force a delayed message in, and after which clocks are too old for the inbox. A day's would take
/// anvil half a minute.
const WINDOW: u64 = 150;

/// Makes the inbox read all delayed messages up to number `last`, as anybody may.
async fn force(city: &City, last: u64) {
    let contracts = &city.contracts;
    let initial = DelayedSource::initial(&contracts.l1, contracts.bridge, contracts.deployed_at).await.expect("begins");
    let mut delayed = DelayedSource::new(contracts.l1.clone(), contracts.bridge, &initial);
    let latest = contracts.l1.latest().await.expect("anvil answers").number;
    delayed.advance(latest, latest).await.expect("anvil answers");
    let message = delayed.inbox().get(last).expect("it was delivered");
    let arguments = [
        U256::from(last + 1),
        U256::from(message.header.kind),
        U256::from(message.header.l1_number),
        U256::from(message.header.timestamp),
        U256::from(message.header.l1_base_fee.expect("L1 has one")),
        message.header.sender.into_word().into(),
        keccak256(&message.content).into(),
    ];
    let forced = call("forceInclusion(uint256,uint8,uint64[2],uint256,address,bytes32)", &arguments);
    transact(&contracts.l1, OWNER, Some(contracts.sequencer_inbox), forced, 0).await;
}

/// A delayed message that has a signed transaction.
async fn delay(city: &City, index: u64) {
    city.contracts.delayed(&[&[4][..], &transaction(index, 0)].concat(), "sendL2Message(bytes)").await;
}

#[tokio::test]
async fn what_is_forced_in_comes_where_l1_has_it_and_the_rest_is_ordered_and_posted_after_it() {
    for (name, bufferable, target) in [("forced", false, Target::Calldata), ("forced-buffered", true, Target::Blobs)] {
        let Some((_anvil, beacon, mut city)) = City::begin_with(name, bufferable, DEPTH, WINDOW).await else { return };
        let mut index = 0;
        let mut count = || {
            index += 1;
            index
        };
        // Twice: after the first time, the inbox's own count of messages was put right.
        for round in 0..2 {
            for _ in 0..3 {
                delay(&city, count()).await;
                city.contracts.mine(DEPTH).await;
                city.lane_block(vec![transaction(count(), 500)]).await;
            }
            let mut poster = city.poster(0, target).await;
            while poster.round().await.expect("posts") {}
            let posted = city.posted().await;
            assert_eq!(posted, city.stream.position().next());
            let delayed = city.stream.position().tip.delayed;

            // Nobody posts for longer than that, whatever the lane says and users send.
            for _ in 0..3 {
                delay(&city, count()).await;
                city.lane_block(vec![transaction(count(), 300), transaction(count(), 300)]).await;
                city.contracts.mine(DEPTH).await;
            }
            city.lane_block(vec![transaction(count(), 300)]).await;
            let before = city.messages();
            let made = city.stream.position().next();
            assert!(made > posted + 4 && city.stream.position().tip.delayed > delayed + 2);
            city.contracts.mine(WINDOW).await;
            force(&city, delayed + 1).await;
            force(&city, delayed + 2).await;
            assert_eq!(city.posted().await, posted, "the inbox does not count what is forced in");

            // Not deep enough: nothing is posted, and it is told why.
            let told = poster.round().await.expect_err("L1 has another order");
            assert!(matches!(told, PostError::Batch(next_batch::PostError::Forced { .. })), "{told}");
            assert!(told.to_string().contains("forced in"), "{told}");
            city.lane_block(vec![transaction(count(), 300)]).await;
            assert_eq!(city.messages()[..before.len()], before[..], "L1 may still take it back");

            // Deep enough: the same transactions follow, after what was forced in, with clocks that L1 takes.
            city.contracts.mine(DEPTH).await;
            city.order(vec![transaction(count(), 300)]).await;
            if round == 1 {
                // Stopped anywhere on the way.
                for wait in 0..40 {
                    drop(tokio::time::timeout(Duration::from_millis(wait / 2), city.stream.next()).await);
                    city.stream = {
                        let folder = city.folder.clone();
                        // The journal has one writer: this one goes before the next comes.
                        let elsewhere = folder.with_extension("none");
                        let other = city.another(&elsewhere).await;
                        drop(std::mem::replace(&mut city.stream, other));
                        city.another(&folder).await
                    };
                }
                if city.stream.position().height.0 < city.height || city.stream.position().forced.is_none() {
                    city.catch_up().await;
                }
            } else {
                assert_eq!(city.catch_up().await, Some(posted));
            }
            let after = city.messages();
            let place = posted as usize - 1;
            assert_eq!(after[..place], before[..place], "what L1 had stays");
            assert!(after[place..place + 3].iter().all(|message| message.is_delayed()));
            assert_eq!(after[place + 2].delayed_read, delayed + 3);
            let sent = |messages: &[lockstep_adapters::arbitrum::feed::FeedMessage]| {
                let own = messages.iter().filter(|message| !message.is_delayed());
                own.flat_map(|message| message.transactions().expect("ours")).collect::<Vec<_>>()
            };
            assert_eq!(sent(&after)[..sent(&before).len()], sent(&before), "the lane's order stays");
            // The stream's journal may be another one by now.
            let mut poster = city.poster(0, target).await;
            while poster.round().await.expect("posts, however old it is") {}
            assert_eq!(city.posted().await, city.stream.position().next(), "and the inbox counts again");
            assert_eq!(city.contracts.derived(&beacon).await, city.meant());
        }

        // Whoever comes late, or lost everything, finds the same.
        let folder = city.folder.with_extension("late");
        drop(fs::remove_dir_all(&folder));
        let mut late = city.another(&folder).await;
        assert!(catch_up(&mut late, city.height).await.is_some(), "it finds out on the way");
        assert_eq!(messages(&late), city.messages());
        for folder in [&folder, &city.folder.with_extension("none"), &city.folder] {
            drop(fs::remove_dir_all(folder));
        }
    }
}
