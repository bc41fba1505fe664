//! A follower gives out a lane's items all, in order, and once, or says what it cannot have.

use std::{sync::Arc, time::Duration};

use lockstep_sdk::{
    Client,
    error::{CheckError, Fault},
    follow::{Cursor, FollowError, LaneFollower, Start, Update},
    protocol::{
        certificate::{CertificateError, Finality},
        ids::{Height, NetworkId},
        lane::{LaneError, LaneItem},
        rpc::LanePage,
    },
};

use crate::{
    fork::{busy, story},
    node::{Script, ScriptedNode, Tip, client, client_with, tip},
    world::{ROLLUPS, World, certify, group},
};

const LANE: lockstep_sdk::protocol::ids::RollupId = ROLLUPS[0];
const PATIENCE: Duration = Duration::from_secs(10);

fn polling(world: &World, nodes: &[&ScriptedNode]) -> Client {
    client_with(world, nodes, |config| config.follow.subscribe = false)
}

async fn next(follower: &mut LaneFollower) -> Result<Update, FollowError> {
    tokio::time::timeout(PATIENCE, follower.next()).await.expect("an update in time")
}

/// The heights of all items up to `up_to`.
async fn items(follower: &mut LaneFollower, up_to: u64) -> Vec<u64> {
    let mut heights = Vec::new();
    while follower.height() < Height(up_to) {
        match next(follower).await.expect("an update") {
            Update::Item(item) => heights.push(item.header.height.0),
            Update::Nothing { up_to } => assert_eq!(up_to, follower.height()),
        }
    }
    heights
}

fn page(change: impl Fn(&mut LanePage) + Send + Sync + 'static) -> Script {
    let change = move |mut truth: LanePage| {
        change(&mut truth);
        truth
    };
    Script { page: Box::new(change), ..Script::default() }
}

#[tokio::test]
async fn every_item_is_given_from_genesis_over_pages_and_over_a_subscription() {
    let (world, tip) = (busy(14), tip(10));
    let node = ScriptedNode::honest(&world, &tip).await;
    for client in [polling(&world, &[&node]), client(&world, &[&node])] {
        tip.send_replace(10);
        let mut follower = client.follow(LANE, Start::Genesis).await.expect("a follower");
        assert_eq!(items(&mut follower, 10).await, (1..=10).collect::<Vec<_>>());
        tip.send_replace(14);
        assert_eq!(items(&mut follower, 14).await, [11, 12, 13, 14]);
        assert!(follower.faults().is_empty(), "{}", follower.faults());
    }
    assert_eq!(node.calls("subscribeLane"), 1);
}

#[tokio::test]
async fn nothing_for_you_is_proven_too() {
    let (world, tip) = (story(), tip(12));
    let node = ScriptedNode::honest(&world, &tip).await;
    let mut follower = polling(&world, &[&node]).follow(ROLLUPS[1], Start::Genesis).await.expect("a follower");
    assert_eq!(items(&mut follower, 12).await, [5, 9]);
    tip.send_replace(14);
    assert_eq!(next(&mut follower).await.expect("an update"), Update::Nothing { up_to: Height(14) });
}

#[tokio::test]
async fn a_cursor_resumes_at_another_node_without_loss_or_repetition() {
    let (world, tip) = (busy(12), tip(12));
    let (first, second) = (ScriptedNode::honest(&world, &tip).await, ScriptedNode::honest(&world, &tip).await);
    let mut follower = polling(&world, &[&first]).follow(LANE, Start::Genesis).await.expect("a follower");
    let mut seen = Vec::new();
    for _ in 0..5 {
        let Update::Item(item) = next(&mut follower).await.expect("an item") else { panic!("busy lane") };
        seen.push(item.header.height.0);
    }
    let text = serde_json::to_string(&follower.cursor()).expect("JSON");
    assert!(text.len() < 4096, "{} bytes to keep", text.len());
    drop(follower);
    let cursor: Cursor = serde_json::from_str(&text).expect("the same");
    assert_eq!(cursor.height(), Height(5));
    let mut follower = polling(&world, &[&second]).follow(LANE, Start::Cursor(cursor)).await.expect("a follower");
    seen.extend(items(&mut follower, 12).await);
    assert_eq!(seen, (1..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cursor_that_does_not_prove_itself_is_refused() {
    let (world, tip) = (busy(4), tip(4));
    let node = ScriptedNode::honest(&world, &tip).await;
    let client = polling(&world, &[&node]);
    let mut follower = client.follow(LANE, Start::Genesis).await.expect("a follower");
    assert_eq!(items(&mut follower, 4).await.len(), 4);
    let good = follower.cursor();
    let refused = async |cursor: Cursor| client.follow(LANE, Start::Cursor(cursor)).await.err().expect("refused");
    let mut bent = good.clone();
    bent.item.as_mut().expect("a place").leaf.sequence -= 1;
    assert!(matches!(refused(bent).await, FollowError::Cursor(LaneError::Path { .. })));
    let mut forged = good.clone();
    let item = forged.item.as_mut().expect("a place");
    item.finality = Finality { descendants: vec![], certificate: certify(&group(8), &item.header) };
    assert!(matches!(refused(forged).await, FollowError::Cursor(LaneError::Certificate(CertificateError::Forged(_)))));
    let foreign = Cursor { network: NetworkId::from_name("elsewhere"), ..good.clone() };
    assert!(matches!(refused(foreign).await, FollowError::WrongNetwork { .. }));
    let wrong = Cursor { rollup: ROLLUPS[1], ..good };
    assert!(matches!(refused(wrong).await, FollowError::WrongLane { .. }));
}

#[tokio::test]
async fn a_follower_joins_at_a_height_and_gives_all_from_there() {
    let (world, tip) = (story(), tip(14));
    let node = ScriptedNode::honest(&world, &tip).await;
    let client = polling(&world, &[&node]);
    // The first lane has items at 2, 3, 5, 6, 9 and 13.
    for (start, expected) in [(1, vec![2, 3, 5, 6, 9, 13]), (6, vec![6, 9, 13]), (7, vec![9, 13]), (14, vec![])] {
        let mut follower = client.follow(LANE, Start::Height(Height(start))).await.expect("a follower");
        assert_eq!(items(&mut follower, 14).await, expected, "from {start}");
    }
    // The anchor of a long quiet stretch is looked for further back.
    let contents = (0..200)
        .map(|height| (vec![], if height == 2 { vec![crate::fork::one_leg(&crate::world::bob(), 0)] } else { vec![] }));
    let long = World::new(contents.collect());
    tip.send_replace(200);
    let node = ScriptedNode::honest(&long, &tip).await;
    let mut follower = polling(&long, &[&node]).follow(LANE, Start::Height(Height(150))).await.expect("a follower");
    assert_eq!(follower.cursor().height(), Height(3));
    assert_eq!(items(&mut follower, 200).await, [] as [u64; 0]);
}

#[tokio::test]
async fn a_lane_whose_past_nobody_has_cannot_be_joined_there() {
    let (world, tip) = (busy(8), tip(8));
    let node = ScriptedNode::start(&world, &tip, Script { oldest: 6, ..Script::default() }).await;
    let error = polling(&world, &[&node]).follow(LANE, Start::Height(Height(7))).await.err().expect("pruned");
    assert!(matches!(error, FollowError::NoAnchor { height: Height(7), .. }), "{error}");
}

/// Asserts that a node which changes what it serves so is found to tell `expected`, that it alone gets nobody past it, and
/// that with an honest node beside it every item is given.
async fn followed_in_spite_of(world: &Arc<World>, tip: &Tip, script: impl Fn() -> Script, expected: LaneError) {
    let lie = Fault::Lie(CheckError::Lane(expected.clone()));
    let liar = ScriptedNode::start(world, tip, script()).await;
    let mut follower = polling(world, &[&liar]).follow(LANE, Start::Genesis).await.expect("a follower");
    let error = loop {
        match next(&mut follower).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    match (&expected, &error) {
        (LaneError::Gap { height, from, to }, FollowError::Gap { height: h, from: f, to: t, faults, .. }) => {
            assert_eq!((height, from, to), (h, f, t));
            assert!(faults.iter().any(|fault| fault.fault == lie), "{faults}");
        }
        (LaneError::Gap { .. }, _) => panic!("{error}"),
        (_, FollowError::NoAnswer { faults, .. }) => {
            assert!(faults.iter().any(|fault| fault.fault == lie), "{expected}: {faults}");
        }
        _ => panic!("{expected}: {error}"),
    }
    let stood = follower.height();
    assert!(next(&mut follower).await.is_err(), "an error is no skip");
    assert_eq!(follower.height(), stood);
    let honest = ScriptedNode::honest(world, tip).await;
    let client = polling(world, &[&liar, &honest]);
    let mut follower = client.follow(LANE, Start::Genesis).await.expect("a follower");
    let up_to = *tip.borrow();
    assert_eq!(items(&mut follower, up_to).await, (1..=up_to).collect::<Vec<_>>(), "{expected}");
    assert_eq!(client.nodes().iter().map(|node| node.lies).collect::<Vec<_>>(), [1, 0], "{expected}");
}

#[tokio::test]
async fn forged_foreign_dropped_swapped_and_replayed_items_are_each_refused() {
    let (world, tip) = (busy(6), tip(6));
    let second = |change: fn(&mut LaneItem)| {
        move || {
            page(move |page| {
                if let Some(item) = page.items.iter_mut().find(|item| item.header.height == Height(2)) {
                    change(item);
                }
            })
        }
    };
    let forged = second(|item| {
        let certificate = certify(&group(8), &item.header);
        item.finality = Finality { descendants: vec![], certificate };
    });
    let error = LaneError::Certificate(CertificateError::Forged(Height(2)));
    followed_in_spite_of(&world, &tip, forged, error).await;

    let foreign = World::of("elsewhere", 7, vec![Default::default(); 2]).item(LANE, Height(2));
    let lie = move || {
        let foreign = foreign.clone();
        page(move |page| {
            if let Some(item) = page.items.iter_mut().find(|item| item.header.height == Height(2)) {
                *item = foreign.clone();
            }
        })
    };
    let (expected, found) = (NetworkId::from_name("test"), NetworkId::from_name("elsewhere"));
    let error = LaneError::Certificate(CertificateError::WrongNetwork { expected, found });
    followed_in_spite_of(&world, &tip, lie, error).await;

    let dropped = || page(|page| page.items.retain(|item| item.header.height != Height(2)));
    let error = LaneError::Gap { height: Height(3), from: 2, to: 2 };
    followed_in_spite_of(&world, &tip, dropped, error).await;

    let swapped = second(|item| item.transactions[0][0].0[0] ^= 1);
    let error = LaneError::Transactions { height: Height(2), entry: 0 };
    followed_in_spite_of(&world, &tip, swapped, error).await;

    let hidden = second(|item| {
        item.entries.clear();
        item.transactions.clear();
    });
    let error = LaneError::Gap { height: Height(2), from: 2, to: 2 };
    followed_in_spite_of(&world, &tip, hidden, error).await;

    let first = world.item(LANE, Height(1));
    let replayed = move || {
        let first = first.clone();
        page(move |page| page.items.insert(0, first.clone()))
    };
    let error = LaneError::Replayed { height: Height(1), verified: Height(1) };
    followed_in_spite_of(&world, &tip, replayed, error).await;

    let other_lane = world.item(ROLLUPS[1], Height(2));
    let lie = move || {
        let other = other_lane.clone();
        page(move |page| {
            if let Some(item) = page.items.iter_mut().find(|item| item.header.height == Height(2)) {
                *item = other.clone();
            }
        })
    };
    followed_in_spite_of(&world, &tip, lie, LaneError::WrongLane { expected: LANE, found: ROLLUPS[1] }).await;
}

#[tokio::test]
async fn a_range_that_leads_nowhere_is_refused() {
    let (world, tip) = (busy(6), tip(6));
    let endless = page(|page| {
        page.items.clear();
        page.tip = None;
        page.next_height = page.next_height.next();
    });
    let stuck = page(|page| {
        page.items.clear();
        page.tip = None;
        page.next_height = Height(0);
    });
    for script in [endless, stuck] {
        let liar = ScriptedNode::start(&world, &tip, script).await;
        let honest = ScriptedNode::honest(&world, &tip).await;
        let mut follower = polling(&world, &[&liar, &honest]).follow(LANE, Start::Genesis).await.expect("a follower");
        assert_eq!(items(&mut follower, 6).await, [1, 2, 3, 4, 5, 6]);
        let first = follower.faults().iter().next().expect("a fault").clone();
        assert_eq!(first.node, liar.url);
        assert!(matches!(first.fault, Fault::Malformed { .. }), "{}", first.fault);
    }
}

#[tokio::test]
async fn what_a_subscription_leaves_out_is_filled_from_another_node() {
    let (world, tip) = (busy(10), tip(4));
    let push = |item: LaneItem| if item.header.height == Height(6) { vec![] } else { vec![item] };
    let leaky = ScriptedNode::start(&world, &tip, Script { push: Box::new(push), ..Script::default() }).await;
    let honest = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&leaky, &honest]);
    let mut follower = client.follow(LANE, Start::Genesis).await.expect("a follower");
    assert_eq!(items(&mut follower, 4).await, [1, 2, 3, 4]);
    let moves = tokio::spawn(async move {
        // The subscription starts once all that is there has been read.
        for height in 5..=10 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            tip.send_replace(height);
        }
    });
    assert_eq!(items(&mut follower, 10).await, [5, 6, 7, 8, 9, 10]);
    moves.await.expect("no panic");
    let gap = Fault::Lie(CheckError::Lane(LaneError::Gap { height: Height(7), from: 6, to: 6 }));
    assert!(
        follower.faults().iter().any(|fault| fault.node == leaky.url && fault.fault == gap),
        "{}",
        follower.faults()
    );
    assert_eq!(honest.calls("subscribeLane"), 1, "the other node is subscribed to instead");
}

#[tokio::test]
async fn a_subscription_that_repeats_or_forges_is_left() {
    let (world, tip) = (busy(8), tip(3));
    let pushes: [fn(LaneItem) -> Vec<LaneItem>; 2] = [
        |item| vec![item.clone(), item],
        |mut item| {
            item.finality = Finality { descendants: vec![], certificate: certify(&group(8), &item.header) };
            vec![item]
        },
    ];
    for push in pushes {
        tip.send_replace(3);
        let liar = ScriptedNode::start(&world, &tip, Script { push: Box::new(push), ..Script::default() }).await;
        let honest = ScriptedNode::honest(&world, &tip).await;
        let client = client(&world, &[&liar, &honest]);
        let mut follower = client.follow(LANE, Start::Genesis).await.expect("a follower");
        assert_eq!(items(&mut follower, 3).await, [1, 2, 3]);
        let moves = tip.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(150)).await;
            moves.send_replace(8);
        });
        assert_eq!(items(&mut follower, 8).await, [4, 5, 6, 7, 8]);
        assert!(follower.faults().iter().any(|fault| fault.node == liar.url && fault.fault.is_lie()));
    }
}

#[tokio::test]
async fn a_gap_that_nobody_fills_is_an_error_until_somebody_does() {
    let (world, tip) = (busy(6), tip(6));
    let drops = || page(|page| page.items.retain(|item| item.header.height != Height(4)));
    let nodes = [ScriptedNode::start(&world, &tip, drops()).await, ScriptedNode::start(&world, &tip, drops()).await];
    let mut follower = polling(&world, &[&nodes[0], &nodes[1]]).follow(LANE, Start::Genesis).await.expect("a follower");
    assert_eq!(items(&mut follower, 3).await, [1, 2, 3]);
    for _ in 0..2 {
        match next(&mut follower).await {
            Err(FollowError::Gap { rollup, from: 4, to: 4, height: Height(5), faults }) => {
                assert_eq!(rollup, LANE);
                assert!(nodes.iter().all(|node| faults.iter().any(|fault| fault.node == node.url)), "{faults}");
            }
            other => panic!("{other:?}"),
        }
    }
    let cursor = follower.cursor();
    assert_eq!(cursor.height(), Height(3));
    let honest = ScriptedNode::honest(&world, &tip).await;
    let client = polling(&world, &[&nodes[0], &honest]);
    let mut follower = client.follow(LANE, Start::Cursor(cursor)).await.expect("a follower");
    assert_eq!(items(&mut follower, 6).await, [4, 5, 6]);
}

#[tokio::test]
async fn pruned_history_is_an_error_that_says_where_it_is_missing() {
    let (world, tip) = (busy(6), tip(6));
    let node = ScriptedNode::start(&world, &tip, Script { oldest: 4, ..Script::default() }).await;
    let mut follower = polling(&world, &[&node]).follow(LANE, Start::Genesis).await.expect("a follower");
    let error = next(&mut follower).await.expect_err("nobody has it");
    assert!(error.to_string().contains("height 1 is pruned, the oldest here is 4"), "{error}");
}

#[tokio::test]
async fn a_follower_moves_on_when_its_node_dies_or_falls_silent() {
    let (world, tip) = (busy(12), tip(3));
    let dies = ScriptedNode::honest(&world, &tip).await;
    let stuck = ScriptedNode::start(&world, &tip, Script { stuck_at: 5, ..Script::default() }).await;
    let honest = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&dies, &stuck, &honest]);
    let mut follower = client.follow(LANE, Start::Genesis).await.expect("a follower");
    assert_eq!(items(&mut follower, 3).await, [1, 2, 3]);
    let moves = tip.clone();
    let killer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        dies.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        moves.send_replace(12);
    });
    assert_eq!(items(&mut follower, 12).await, (4..=12).collect::<Vec<_>>());
    killer.await.expect("no panic");
}

#[tokio::test]
async fn without_subscriptions_ranges_are_asked_for() {
    let (world, tip) = (busy(9), tip(3));
    let node = ScriptedNode::start(&world, &tip, Script { no_push: true, ..Script::default() }).await;
    let mut follower = client(&world, &[&node]).follow(LANE, Start::Genesis).await.expect("a follower");
    assert_eq!(items(&mut follower, 3).await, [1, 2, 3]);
    tip.send_replace(9);
    assert_eq!(items(&mut follower, 9).await, [4, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn a_next_that_is_dropped_loses_nothing() {
    let (world, tip) = (busy(30), tip(1));
    let node = ScriptedNode::honest(&world, &tip).await;
    let mut follower = client(&world, &[&node]).follow(LANE, Start::Genesis).await.expect("a follower");
    let moves = tip.clone();
    let mover = tokio::spawn(async move {
        for height in 2..=30 {
            tokio::time::sleep(Duration::from_millis(7)).await;
            moves.send_replace(height);
        }
    });
    let mut heights = Vec::new();
    let mut patience = Duration::from_millis(1);
    while heights.len() < 30 {
        if let Ok(update) = tokio::time::timeout(patience, follower.next()).await
            && let Update::Item(item) = update.expect("an update")
        {
            heights.push(item.header.height.0);
        }
        patience = (patience + Duration::from_millis(1)).min(Duration::from_millis(50));
    }
    mover.await.expect("no panic");
    assert_eq!(heights, (1..=30).collect::<Vec<_>>());
}
