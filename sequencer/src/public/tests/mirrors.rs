//! Mirrors need no validator: they resume, and serve each other.

use std::collections::BTreeSet;

use lockstep_protocol::{
    ids::{Height, RollupId},
    rpc::QueryError,
};

use crate::public::{
    LaneSource, StartError,
    mirror::{Mirror, MirrorConfig, MirrorError, StoreError},
};

use super::{
    chain::{A, B, Chain},
    world::{Memory, Node, caught_up, eventually, held, mirror},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_mirror_gets_everything_from_another_mirror_when_the_node_is_gone() {
    let mut chain = Chain::new("late", 5);
    let source = Memory::new();
    // More than one answer holds, over QUIC this time.
    for height in 0..600 {
        source.finalized(&chain.block(if height % 3 == 0 { &[A, B] } else { &[A] }));
    }
    let quic = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    let node = Node::with_source(chain.genesis(), source.clone(), |config| config.listen = quic.clone()).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let bootstrap = node.handle().addresses();
    let first = mirror(chain.genesis(), &folders[0], bootstrap, |config| config.network.listen = quic).await;
    caught_up(&first, &chain).await;
    node.stop().await;
    let late = mirror(chain.genesis(), &folders[1], first.handle().addresses(), |_| {}).await;
    // The first mirror has the proof of the tip only if the node gave it one for a lane that ended before.
    let last = source.lane(B).last().unwrap().header.height;
    eventually("the late mirror has both lanes", || {
        late.store().height(A) >= chain.height() && late.store().height(B) >= last
    })
    .await;
    for rollup in [A, B] {
        assert_eq!(held(&late, rollup).await, source.lane(rollup));
    }
    assert!(first.handle().metrics().served_items.get() >= 800);
    late.shutdown().await.unwrap();
    first.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_resumes_where_it_stopped() {
    let mut chain = Chain::new("resume", 6);
    let source = Memory::new();
    for _ in 0..30 {
        source.finalized(&chain.block(&[A, B]));
    }
    let node = Node::with_source(chain.genesis(), source.clone(), |_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let first = mirror(chain.genesis(), &folder, node.handle().addresses(), |_| {}).await;
    caught_up(&first, &chain).await;
    let name = first.handle().peer_id();
    first.shutdown().await.unwrap();
    for _ in 0..10 {
        source.finalized(&chain.block(&[A]));
    }
    let again = mirror(chain.genesis(), &folder, node.handle().addresses(), |_| {}).await;
    assert_eq!(again.handle().peer_id(), name, "its key is kept");
    assert_eq!(again.store().height(A), Height(30), "before anything was asked for");
    caught_up(&again, &chain).await;
    for rollup in [A, B] {
        assert_eq!(held(&again, rollup).await, source.lane(rollup));
    }
    // Ten items and two proofs of the tip: nothing that was verified before was fetched again.
    assert!(again.handle().metrics().verified.get() <= 12, "{}", again.handle().metrics().verified.get());
    assert_eq!(node.handle().metrics().requests("rate_limited"), 0);
    again.shutdown().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_answers_what_it_has_not_with_three_different_reasons() {
    let mut chain = Chain::new("answers", 7);
    let source = Memory::new();
    for _ in 0..5 {
        source.finalized(&chain.block(&[A]));
    }
    let node = Node::with_source(chain.genesis(), source.clone(), |_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let only_a = BTreeSet::from([A]);
    let mirror = mirror(chain.genesis(), &folder, node.handle().addresses(), |config| config.rollups = only_a).await;
    eventually("lane A is here", || mirror.store().height(A) == chain.height()).await;
    let store = mirror.store();
    assert!(matches!(store.page(B, Height(1), 10).await, Err(QueryError::NotReady { .. })), "not followed");
    let ahead = QueryError::AheadOfTip { height: Height(9), tip: Height(5) };
    assert_eq!(store.page(A, Height(9), 10).await, Err(ahead));
    let page = store.page(A, Height(2), 3).await.unwrap();
    assert_eq!((page.items.as_slice(), page.next_height), (&source.lane(A)[1..4], Height(5)));
    assert!(store.latest(B).await.unwrap().is_none());
    assert_eq!(store.latest(A).await.unwrap(), source.lane(A).pop());
    // The chain goes on without the lane: the proof of that is kept and served.
    source.finalized(&chain.block(&[B]));
    eventually("the proof that nothing came", || mirror.store().height(A) == Height(6)).await;
    let page = store.page(A, Height(6), 10).await.unwrap();
    assert!(page.items.is_empty() && page.tip.is_some_and(|tip| tip.header.height == Height(6)));
    mirror.shutdown().await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_folder_of_another_network_or_a_lane_that_is_not_there_is_refused() {
    let (chain, other) = (Chain::new("mine", 8), Chain::new("theirs", 8));
    let folder = tempfile::tempdir().unwrap();
    mirror(chain.genesis(), &folder, vec![], |_| {}).await.shutdown().await.unwrap();
    let config = |genesis: &lockstep_protocol::genesis::Genesis, rollups: &[RollupId]| MirrorConfig {
        genesis: genesis.clone(),
        data: folder.path().join("mirror"),
        rollups: rollups.iter().copied().collect(),
        network: Default::default(),
    };
    let error = Mirror::start(config(other.genesis(), &[])).await.err().unwrap();
    assert!(matches!(error, MirrorError::Store(StoreError::WrongNetwork(_))), "{error}");
    let config = MirrorConfig {
        network: crate::public::PublicConfig { key: folder.path().join("public.key"), ..Default::default() },
        ..config(chain.genesis(), &[RollupId(5)])
    };
    let error = Mirror::start(config).await.err().unwrap();
    assert!(matches!(error, MirrorError::Start(StartError::UnknownRollup(RollupId(5)))), "{error}");
}
