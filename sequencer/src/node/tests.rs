//! Does a node order what it is given, find its place again after a stop, and stay up whatever it is sent?

use std::{net::TcpListener, sync::atomic::Ordering};

use lockstep_protocol::{
    evidence::BundleState,
    genesis::Balance,
    ids::{Address20, AssetId, BundleId, Hash32},
    settlement::{
        Level,
        config::{Asset, Corridor, Participant, SettlementConfig},
    },
    signature::AccountKey,
};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::*;
use crate::{
    config::Pace,
    fixture,
    keys::{DealOptions, Dealt, Place},
    rpc::tests::{call, hex_of},
};

/// Longest wait for anything on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Enough for the largest bundles.
const CREDITS: u64 = 1 << 40;

/// A dealt network whose nodes run in this process.
pub(crate) struct Network {
    _folder: tempfile::TempDir,
    pub(crate) dealt: Dealt,
}

impl Network {
    /// Called and funded as the fixtures expect.
    pub(crate) fn deal(validators: usize) -> Self {
        Self::deal_with(validators, |_| ())
    }

    /// As [`deal`](Self::deal), with a corridor from the first rollup to the second.
    pub(crate) fn deal_settling(validators: usize) -> Self {
        let asset = AssetId([0xa5; 32]);
        Self::deal_with(validators, |options| {
            for rollup in &mut options.rollups {
                let (hub, escrows) = (Address20([1; 20]), vec![Address20([2; 20])]);
                rollup.settlement = Some(Participant { hub, escrows, settled_level: Level::Executed });
            }
            options.settlement = Some(SettlementConfig {
                apply_window: 64,
                assets: vec![Asset { asset, account_cap: 1_000 }],
                corridors: vec![Corridor { from: fixture::ROLLUP_A, to: fixture::ROLLUP_B, asset, cap: 500 }],
            });
        })
    }

    /// With some things otherwise.
    pub(crate) fn deal_with(validators: usize, change: impl FnOnce(&mut DealOptions)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // Held until all are chosen, so that none comes twice.
        let held: Vec<_> = (0..validators).map(|_| TcpListener::bind(loopback(0)).expect("a free port")).collect();
        let place = |held: &TcpListener| Place { p2p: held.local_addr().expect("bound"), rpc: loopback(0) };
        let balance = |number| Balance { account: fixture::account(number), credits: CREDITS };
        let mut options = DealOptions {
            network: "test".into(),
            rollups: fixture::genesis().rollups,
            balances: (0..fixture::ACCOUNTS).map(balance).collect(),
            places: held.iter().map(place).collect(),
            pace: Pace { heartbeat_ms: 100, min_interval_ms: 10 },
            l1: None,
            settlement: None,
            rollup_nodes: Vec::new(),
            out: folder.path().join("net"),
        };
        change(&mut options);
        Self { dealt: keys::deal(options).expect("dealt"), _folder: folder }
    }

    pub(crate) fn config(&self, validator: usize) -> Config {
        let mut config = Config::load(&self.dealt.validators[validator].config).expect("a dealt configuration");
        config.threads = 2;
        config.rpc.slow_subscriber_ms = 300;
        config
    }

    pub(crate) async fn start(&self, validator: usize) -> Node {
        let config = self.config(validator);
        let start = Node::start(&config);
        tokio::time::timeout(PATIENCE, start).await.expect("a start in time").expect("started")
    }
}

/// Stops a node, which must not wait for anybody.
pub(crate) async fn stop(node: Node) {
    tokio::time::timeout(PATIENCE, node.stop()).await.expect("a stop in time").expect("a clean stop");
}

/// Waits for a height.
pub(crate) async fn reached(node: &Node, height: u64) {
    let mut heights = node.index().watch();
    let reached = heights.wait_for(|served| served.0 >= height);
    tokio::time::timeout(PATIENCE, reached).await.expect("blocks are made").expect("the index lives");
}

/// Sends a bundle and waits for its outcome.
pub(crate) async fn order(node: &Node, number: u8, nonce: u64) -> (BundleId, Height) {
    let signed = fixture::signed(number, nonce, 1);
    let sent = call(node.rpc_address(), "lockstep_sendBundle", json!([hex_of(&signed)])).await;
    assert_eq!(sent["result"]["bundleId"], json!(signed.bundle.id()), "{sent}");
    let id = signed.bundle.id();
    let status = node.service().outcomes.wait(id, Duration::from_secs(30)).await.expect("known");
    match status.state {
        BundleState::Ordered { height, .. } => (id, height),
        state => panic!("{id} is {state:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_validators_order_a_bundle_and_all_tell_the_same() {
    let network = Network::deal(4);
    let starts = (0..4).map(|validator| network.start(validator));
    let nodes = futures::future::join_all(starts).await;
    futures::future::join_all(nodes.iter().map(|node| reached(node, 1))).await;
    let (id, height) = order(&nodes[0], 0, 0).await;
    // The one that only heard of it by gossip orders its own too.
    let (_, later) = order(&nodes[3], 1, 0).await;
    for node in &nodes {
        reached(node, later.0).await;
        let ordered = node.index().bundle(&id).expect("readable").expect("ordered");
        assert_eq!(ordered.height, height);
        let expected = nodes[0].index().leaf_at(fixture::ROLLUP_A, later).expect("readable");
        assert_eq!(node.index().leaf_at(fixture::ROLLUP_A, later).expect("readable"), expected);
    }
    futures::future::join_all(nodes.into_iter().map(stop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_resumes_and_a_rebuilt_index_tells_the_same() {
    let network = Network::deal(1);
    let node = network.start(0).await;
    reached(&node, 1).await;
    let mut ordered = Vec::new();
    for nonce in 0..4 {
        ordered.push(order(&node, 0, nonce).await);
    }
    stop(node).await;

    let answers = |index: &Index| {
        let heights = index.lane_heights(fixture::ROLLUP_B, Height(0), 100).expect("readable");
        let leaves: Vec<_> = heights.iter().map(|height| index.leaf_at(fixture::ROLLUP_B, *height)).collect();
        let reports = index.reports(&fixture::account(0), 1, 100).expect("readable");
        let bundles: Vec<_> = ordered.iter().map(|(id, _)| index.bundle(id).expect("readable")).collect();
        format!("{heights:?} {leaves:?} {reports:?} {bundles:?}")
    };
    let config = network.config(0);
    let genesis = keys::load_genesis(&config.genesis).expect("a genesis");
    let open = || Index::open(&config.index_file(), &genesis).expect("opened");
    let (before, height) = {
        let index = open();
        (answers(&index), index.height())
    };

    let node = network.start(0).await;
    reached(&node, height.0 + 2).await;
    assert_eq!(answers(node.index()), before, "after a restart");
    let busy = rebuild_index(network.config(0)).await.expect_err("the node runs");
    assert!(matches!(busy, NodeError::Index(IndexError::InUse(_))), "{busy}");
    ordered.push(order(&node, 0, 4).await);
    stop(node).await;
    ordered.pop();

    // Rebuilt from a file that nothing can be read from.
    std::fs::write(config.index_file(), b"damaged").expect("overwritten");
    let error = Node::start(&config).await.err().expect("a damaged index").to_string();
    assert!(error.contains("lockstep index rebuild"), "{error}");
    let rebuilt = rebuild_index(network.config(0)).await.expect("rebuilt");
    assert!(rebuilt > height, "rebuilt to {rebuilt}, stood at {height} before");
    let index = open();
    assert_eq!(index.height(), rebuilt);
    let first_four = |index: &Index| {
        let reports = index.reports(&fixture::account(0), 1, 5).expect("readable");
        (format!("{reports:?}"), ordered.iter().map(|(id, _)| index.bundle(id).expect("readable")).collect::<Vec<_>>())
    };
    let (reports, bundles) = first_four(&index);
    assert!(before.contains(&reports) && before.contains(&format!("{bundles:?}")), "after the rebuild");
    drop(index);
    let node = network.start(0).await;
    reached(&node, rebuilt.0 + 2).await;
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_validators_port_disturbs_nothing() {
    // Of four on one address, so that strangers get as far as the handshake.
    let network = Network::deal(4);
    let nodes = futures::future::join_all((0..4).map(|validator| network.start(validator))).await;
    futures::future::join_all(nodes.iter().map(|node| reached(node, 1))).await;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut received = 0;
    for round in 0..40 {
        let port = network.config(round % 4).p2p.listen;
        // Connections that come too fast are closed at once, and others at any time: that is what is wanted.
        let Ok(mut peer) = TcpStream::connect(port).await else { continue };
        let garbage: Vec<u8> = (0..1 << 14)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed.to_be_bytes()[0]
            })
            .collect();
        received += usize::from(peer.write_all(&garbage[round..]).await.is_ok());
    }
    assert!(received > 0, "it listens");
    order(&nodes[1], 2, 0).await;
    futures::future::join_all(nodes.into_iter().map(stop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_together_is_refused_at_start_with_the_reason() {
    let (network, other) = (Network::deal(1), Network::deal(1));
    let mut foreign = network.config(0);
    foreign.keys = other.config(0).keys;
    let error = Node::start(&foreign).await.err().expect("keys of another network").to_string();
    assert!(error.contains("different networks"), "{error}");

    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let mut taken = network.config(0);
    taken.rpc.listen = held.local_addr().expect("bound");
    let error = Node::start(&taken).await.err().expect("a port that is taken").to_string();
    assert!(error.contains("rpc.listen"), "{error}");

    let mut mixed = other.config(0);
    mixed.data = network.config(0).data;
    let error = Node::start(&mixed).await.err().expect("another network's folder").to_string();
    assert!(error.contains("index rebuild"), "{error}");
    // None of it left anything behind that is in the way.
    let node = network.start(0).await;
    reached(&node, 1).await;
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_has_one_outcome_and_every_kind_of_outcome_is_told() {
    let network = Network::deal(1);
    let node = network.start(0).await;
    reached(&node, 1).await;
    let outcomes = node.service().outcomes.clone();
    let (first, height) = order(&node, 0, 0).await;
    let again = call(node.rpc_address(), "lockstep_sendBundle", json!([hex_of(&fixture::signed(0, 0, 1))])).await;
    assert_eq!(again["result"]["bundleId"], json!(first), "the same bundle again is answered alike: {again}");

    let rival = fixture::signed(0, 0, 2);
    let refused = call(node.rpc_address(), "lockstep_sendBundle", json!([hex_of(&rival)])).await;
    assert_eq!(refused["error"]["data"]["reason"], "nonce_used", "{refused}");
    let claim = crate::rpc::Claim::of(&rival.bundle);
    outcomes.remember(rival.bundle.id(), claim);
    let status = outcomes.status(rival.bundle.id()).expect("remembered");
    assert_eq!(status.state, BundleState::Replaced { height, by: first });

    let cancelled = call(node.rpc_address(), "lockstep_cancelBundle", json!([hex_of(&fixture::cancel(0, 7, 9))])).await;
    assert!(cancelled["result"]["digest"].is_string(), "{cancelled}");
    let late = fixture::signed(0, 8, 1);
    outcomes.remember(late.bundle.id(), crate::rpc::Claim::of(&late.bundle));
    let status = outcomes.wait(late.bundle.id(), Duration::from_secs(30)).await.expect("remembered");
    assert!(matches!(status.state, BundleState::Cancelled { .. }), "{status:?}");

    // Too dear to be ordered by anyone: it waits, and is over at its height.
    let mut bundle = fixture::bundle(1, 0, 0);
    bundle.valid_until = Height(node.index().height().0 + 5);
    let expiring = bundle.sign(&AccountKey::ed25519([2; 32]));
    outcomes.remember(expiring.bundle.id(), crate::rpc::Claim::of(&expiring.bundle));
    assert_eq!(outcomes.status(expiring.bundle.id()).expect("remembered").state, BundleState::Pending);
    let status = outcomes.wait(expiring.bundle.id(), Duration::from_secs(30)).await.expect("remembered");
    assert_eq!(status.state, BundleState::Expired);
    assert!(status.tip >= expiring.bundle.valid_until);

    let unknown = outcomes.status(BundleId(Hash32([9; 32]).0)).expect_err("never seen").to_string();
    assert!(unknown.contains("send it again"), "{unknown}");
    stop(node).await;
}

#[test]
fn the_command_line_node_stops_by_itself_when_told() {
    let network = Network::deal(1);
    let config = network.config(0);
    let stopped = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = stopped.clone();
    let stop = async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        flag.store(true, Ordering::SeqCst);
    };
    block_on(2, run(config, stop)).expect("a runtime").expect("a clean run");
    assert!(stopped.load(Ordering::SeqCst));
}
