//! Items travel from peer to peer, and only those that prove themselves.

use std::time::Duration;

use lockstep_protocol::ids::Height;

use super::{
    chain::{A, B, Chain, forged, with_other_entries},
    world::{Node, caught_up, eventually, held, mirror},
};

/// Long enough that no question is asked while a test runs: what arrives was told.
const NEVER_MS: u64 = 3_600_000;

/// Blocks until one of them has gone through: the mesh takes a heartbeat or two to form.
async fn tell_until_heard(chain: &mut Chain, node: &Node, heard: impl Fn() -> bool) {
    let mut blocks = 0;
    while !heard() {
        assert!(blocks < 300, "no gossip went through");
        blocks += 1;
        node.source.finalized(&chain.block(&[A, B]));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_reaches_a_mirror_two_hops_away_and_is_verified_on_the_way() {
    let mut chain = Chain::new("two-hops", 1);
    let (near_folder, far_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let near = mirror(chain.genesis(), &near_folder, vec![], |_| {}).await;
    // Neither the node nor the far mirror listens, so that they can only meet in the middle.
    let bootstrap = near.handle().addresses();
    let node = Node::start(chain.genesis(), |config| {
        config.listen.clear();
        config.bootstrap = bootstrap.clone();
    })
    .await;
    let far = mirror(chain.genesis(), &far_folder, bootstrap, |config| {
        config.network.listen.clear();
        config.network.poll_ms = NEVER_MS;
    })
    .await;
    let metrics = far.handle().metrics().clone();
    eventually("all are connected", || near.handle().status().borrow().peers.len() == 2).await;
    tell_until_heard(&mut chain, &node, || metrics.gossip("accepted") > 0).await;
    let before = metrics.gossip("accepted");
    for _ in 0..10 {
        node.source.finalized(&chain.block(&[A]));
    }
    eventually("ten more items are here", || far.store().height(A) == chain.height()).await;
    assert!(metrics.gossip("accepted") > before, "told, not only asked for");
    assert_eq!(held(&far, A).await, node.source.lane(A));
    assert_eq!(far.handle().status().borrow().peers.iter().collect::<Vec<_>>(), [&near.handle().peer_id()]);
    assert_eq!(metrics.gossip("rejected") + near.handle().metrics().gossip("rejected"), 0);
    for handle in [near.handle(), far.handle(), node.handle()] {
        assert_eq!(handle.status().borrow().blocked, 0);
    }
    far.shutdown().await.unwrap();
    near.shutdown().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_does_not_prove_itself_goes_no_further_and_its_sender_is_blocked() {
    for (reason, lie) in [("forged", forged as fn(_) -> _), ("chain", with_other_entries)] {
        let mut chain = Chain::new("gossip-lies", 2);
        let (folder, far_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let near = mirror(chain.genesis(), &folder, vec![], |_| {}).await;
        let bootstrap = near.handle().addresses();
        let liar = Node::start(chain.genesis(), |config| {
            config.listen.clear();
            config.bootstrap = bootstrap.clone();
        })
        .await;
        let far = mirror(chain.genesis(), &far_folder, bootstrap.clone(), |config| {
            config.network.listen.clear();
            config.network.poll_ms = NEVER_MS;
        })
        .await;
        let metrics = near.handle().metrics().clone();
        tell_until_heard(&mut chain, &liar, || far.handle().metrics().gossip("accepted") > 0).await;
        caught_up(&near, &chain).await;
        assert_eq!(metrics.faults(reason), 0);
        // The liar was honest so far. Its log keeps the true item, it tells another.
        let told = far.handle().metrics().gossip("accepted");
        let block = chain.block(&[A]);
        liar.source.publish(lie(block[&A].clone()));
        eventually("the lie is found", || metrics.faults(reason) == 1).await;
        eventually("the liar is out", || {
            let status = near.handle().status();
            let status = status.borrow();
            status.blocked == 1 && !status.peers.contains(&liar.handle().peer_id())
        })
        .await;
        assert_eq!(metrics.gossip("rejected"), 1);
        let height = near.store().height(A);
        assert!(height < chain.height(), "nothing was learned from it");
        // An honest node takes over where the liar left off.
        let honest = Node::start(chain.genesis(), |config| {
            config.listen.clear();
            config.bootstrap = bootstrap;
        })
        .await;
        for item in liar.source.lane(A).into_iter().zip(liar.source.lane(B)) {
            honest.source.finalized(&[(A, item.0), (B, item.1)].into());
        }
        honest.source.finalized(&block);
        caught_up(&near, &chain).await;
        assert_eq!(held(&near, A).await, honest.source.lane(A));
        // The far mirror never saw the lie: it would have blocked the near one.
        assert_eq!(far.handle().metrics().gossip("rejected"), 0, "told {told} before");
        assert_eq!(far.handle().status().borrow().blocked, 0);
        assert!(held(&far, A).await.iter().all(|item| honest.source.lane(A).contains(item)));
        assert!(far.store().height(A) > Height(0));
    }
}
