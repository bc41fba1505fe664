//! Who serves a range that does not prove itself is refused with the reason, counted and blocked; an honest peer's is taken.

use lockstep_protocol::{ids::Height, lane::LaneItem, rpc::LanePage};

use super::{
    chain::{A, B, Chain, forged, with_other_entries},
    world::{Lie, Memory, Node, caught_up, eventually, held, mirror},
};

const BLOCKS: usize = 40;

async fn is_refused(reason: &'static str, lie: Lie) {
    let mut chain = Chain::new("lies", 3);
    let source = Memory::new();
    for _ in 0..BLOCKS {
        source.finalized(&chain.block(&[A, B]));
    }
    source.set_lie(Some(lie));
    let liar = Node::with_source(chain.genesis(), source.clone(), |_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let mirror = mirror(chain.genesis(), &folder, liar.handle().addresses(), |_| {}).await;
    let metrics = mirror.handle().metrics().clone();
    eventually("the lie is found", || metrics.faults(reason) > 0).await;
    eventually("the liar is out", || {
        let status = mirror.handle().status();
        let status = status.borrow();
        status.blocked == 1 && status.peers.is_empty()
    })
    .await;
    assert!(metrics.ranges("faulty") > 0);
    for height in [mirror.store().height(A), mirror.store().height(B)] {
        assert!(height < chain.height(), "{reason}: the range was taken up to height {height}");
    }
    assert!(held(&mirror, A).await.iter().all(|item| source.lane(A).contains(item)), "{reason}: a lie was kept");

    let truth = Memory::new();
    for (a, b) in source.lane(A).into_iter().zip(source.lane(B)) {
        truth.finalized(&[(A, a), (B, b)].into());
    }
    let honest = Node::with_source(chain.genesis(), truth, |_| {}).await;
    mirror.handle().dial(honest.handle().addresses()[0].clone()).await;
    caught_up(&mirror, &chain).await;
    for rollup in [A, B] {
        assert_eq!(held(&mirror, rollup).await, source.lane(rollup));
    }
    assert_eq!(mirror.handle().status().borrow().blocked, 1, "{reason}: and nobody else is blocked");
    mirror.shutdown().await.unwrap();
    liar.stop().await;
    honest.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_certificate_is_refused() {
    is_refused("forged", |_, mut page| {
        page.items = page.items.into_iter().map(forged).collect();
        page
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_item_is_refused() {
    is_refused("gap", |_, mut page| {
        page.items.retain(|item| item.header.height != Height(20));
        page
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_withheld_before_the_tip_are_refused() {
    is_refused("gap", |_, mut page| {
        if page.tip.is_some() {
            page.items.truncate(3);
        }
        page
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_transaction_is_refused() {
    is_refused("transactions", |_, mut page| {
        for item in &mut page.items {
            item.transactions[0].swap(0, 1);
        }
        page
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_entries_under_a_true_header_are_refused() {
    is_refused("chain", |_, mut page| {
        page.items = page.items.into_iter().map(with_other_entries).collect();
        page
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_item_is_refused() {
    is_refused("replayed", |_, mut page| {
        if let Some(first) = page.items.first().cloned() {
            page.items.insert(1, first);
        }
        page
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_lanes_items_are_refused() {
    is_refused("wrong_lane", |_, mut page| {
        for item in &mut page.items {
            item.leaf.rollup = if item.leaf.rollup == A { B } else { A };
        }
        page
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_networks_items_are_refused() {
    is_refused("wrong_network", |from, page| {
        let rollup = page.items.first().or(page.tip.as_ref()).map_or(A, |item| item.leaf.rollup);
        let mut items = Chain::new("another network", 3).items(rollup, BLOCKS);
        items.retain(|item| item.header.height >= from);
        LanePage { items, ..page }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_item_among_the_items_is_refused() {
    is_refused("page", |_, mut page| {
        if let Some(first) = page.items.first().cloned() {
            page.items.insert(1, LaneItem { entries: vec![], transactions: vec![], ..first });
        }
        page
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_ends() {
    let mut chain = Chain::new("pardon", 4);
    let source = Memory::new();
    source.finalized(&chain.block(&[A, B]));
    source.set_lie(Some(|_, mut page| {
        page.items = page.items.into_iter().map(forged).collect();
        page
    }));
    let node = Node::with_source(chain.genesis(), source.clone(), |_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = node.handle().addresses();
    let mirror = mirror(chain.genesis(), &folder, bootstrap, |config| config.network.block_seconds = 1).await;
    let status = mirror.handle().status();
    eventually("it is blocked", || status.borrow().blocked == 1).await;
    source.set_lie(None);
    caught_up(&mirror, &chain).await;
    assert!(status.borrow().peers.contains(&node.handle().peer_id()));
    assert_eq!(status.borrow().blocked, 0);
}
