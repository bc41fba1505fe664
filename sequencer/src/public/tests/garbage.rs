//! Garbage on the port, on each protocol and on the topics disturbs nobody; too much is refused.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, StreamProtocol, SwarmBuilder, gossipsub, identify, noise,
    request_response::{self, Message, OutboundRequestId, ProtocolSupport},
    swarm::{NetworkBehaviour, Swarm, SwarmEvent},
    tcp, yamux,
};
use lockstep_protocol::{
    ids::{Height, RollupId},
    limits::MAX_BUNDLE_BYTES,
    refusal::Refusal,
    rpc::QueryError,
    wire::Wire,
};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::public::{
    BundleAnswer, Metrics, RangeAnswer, RangeRequest,
    behaviour::Names,
    frames::Frames,
    wire::{self, MAX_RANGE_BYTES},
};

use super::{
    chain::{A, B, Chain},
    world::{Memory, Node, caught_up, eventually, mirror},
};

/// A peer that may say anything.
#[derive(NetworkBehaviour)]
struct Rogue {
    gossip: gossipsub::Behaviour,
    requests: request_response::Behaviour<Frames>,
    identify: identify::Behaviour,
}

struct Peer {
    swarm: Swarm<Rogue>,
}

impl Peer {
    /// Connects, speaking one protocol of requests without its limits.
    async fn connect(node: &Node, names: &Names, protocol: StreamProtocol) -> Self {
        let keypair = libp2p::identity::Keypair::generate_ed25519();
        let config = gossipsub::ConfigBuilder::default()
            .validation_mode(gossipsub::ValidationMode::Anonymous)
            .heartbeat_initial_delay(Duration::from_millis(50))
            .max_transmit_size(16 * 1024 * 1024)
            .build()
            .unwrap();
        let limit = 16 * 1024 * 1024;
        let frames = Frames { max_request: limit, max_response: limit, metrics: Arc::new(Metrics::default()) };
        let rogue = Rogue {
            gossip: gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, config).unwrap(),
            requests: request_response::Behaviour::with_codec(
                frames,
                [(protocol, ProtocolSupport::Outbound)],
                request_response::Config::default().with_request_timeout(Duration::from_secs(30)),
            ),
            identify: identify::Behaviour::new(identify::Config::new(names.version(), keypair.public())),
        };
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| rogue)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        swarm.dial(node.handle().addresses()[0].clone()).unwrap();
        loop {
            if let SwarmEvent::ConnectionEstablished { .. } = swarm.select_next_some().await {
                return Self { swarm };
            }
        }
    }

    fn send(&mut self, node: &Node, request: Vec<u8>) -> OutboundRequestId {
        self.swarm.behaviour_mut().requests.send_request(&node.handle().peer_id(), request)
    }

    /// The answers to all of them, in any order; `None` where there was none.
    async fn answers(&mut self, requests: Vec<OutboundRequestId>) -> BTreeMap<OutboundRequestId, Option<Vec<u8>>> {
        let mut answers = BTreeMap::new();
        while answers.len() < requests.len() {
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(RogueEvent::Requests(request_response::Event::Message {
                    message: Message::Response { request_id, response },
                    ..
                })) => {
                    answers.insert(request_id, Some(response));
                }
                SwarmEvent::Behaviour(RogueEvent::Requests(request_response::Event::OutboundFailure {
                    request_id,
                    ..
                })) => {
                    answers.insert(request_id, None);
                }
                _ => {}
            }
        }
        answers
    }

    async fn ask(&mut self, node: &Node, request: Vec<u8>) -> Option<Vec<u8>> {
        let id = self.send(node, request);
        self.answers(vec![id]).await.remove(&id).flatten()
    }
}

async fn network(name: &str) -> (Chain, Node, Names) {
    let mut chain = Chain::new(name, 10);
    let source = Memory::new();
    for _ in 0..20 {
        source.finalized(&chain.block(&[A, B]));
    }
    let node = Node::with_source(chain.genesis(), source, |_| {}).await;
    let names = Names::new(chain.genesis().network_id());
    (chain, node, names)
}

fn range(rollup: RollupId, from: u64, max_items: u16) -> Vec<u8> {
    RangeRequest { rollup, from_height: Height(from), max_items }.to_wire()
}

fn refused(answer: Option<Vec<u8>>) -> QueryError {
    match RangeAnswer::from_wire(&answer.expect("an answer")).expect("an envelope") {
        RangeAnswer::Refused(text) => wire::refusal(&text).expect("a query error"),
        RangeAnswer::Page { items, .. } => panic!("a page of {} items", items.len()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_port_is_hung_up_on_and_others_are_served() {
    let (chain, node, _) = network("port").await;
    let address: Multiaddr = node.handle().addresses()[0].clone();
    let port = address.iter().find_map(|part| match part {
        libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..20 {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port.unwrap())).await.unwrap();
        let mut garbage = vec![0; random.random_range(1..64 * 1024)];
        random.fill_bytes(&mut garbage);
        // It may hang up in the middle of this.
        let _ = socket.write_all(&garbage).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
    }
    let metrics = node.handle().metrics().clone();
    eventually("all are hung up on", || metrics.failed_connections.get() >= 20).await;
    let folder = tempfile::tempdir().unwrap();
    let mirror = mirror(chain.genesis(), &folder, node.handle().addresses(), |_| {}).await;
    caught_up(&mirror, &chain).await;
    mirror.shutdown().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_excess_in_requests_for_ranges_are_refused() {
    let (_chain, node, names) = network("ranges").await;
    let metrics = node.handle().metrics().clone();
    let mut peer = Peer::connect(&node, &names, names.ranges()).await;
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for length in [0, 1, 18, 19] {
        let mut garbage = vec![0; length];
        random.fill_bytes(&mut garbage);
        garbage.iter_mut().take(1).for_each(|version| *version = 9);
        assert!(matches!(refused(peer.ask(&node, garbage).await), QueryError::BadRequest { .. }), "{length} bytes");
    }
    assert_eq!(metrics.requests("malformed"), 4);
    assert_eq!(peer.ask(&node, vec![1; 20]).await, None, "longer than any request: not even read");
    assert_eq!(peer.ask(&node, vec![1; 1024 * 1024]).await, None);
    eventually("both are counted", || metrics.requests("oversized") == 2).await;
    for found in [0, 257, u16::MAX] {
        let expected = QueryError::TooMany { max: 256, found: found.into() };
        assert_eq!(refused(peer.ask(&node, range(A, 1, found)).await), expected);
    }
    let ahead = QueryError::AheadOfTip { height: Height(21), tip: Height(20) };
    assert_eq!(refused(peer.ask(&node, range(A, 21, 1)).await), ahead);
    let answer = peer.ask(&node, range(A, 3, 5)).await.expect("the connection is still good");
    assert!(answer.len() <= MAX_RANGE_BYTES);
    let RangeAnswer::Page { items, next_height, .. } = RangeAnswer::from_wire(&answer).unwrap() else {
        panic!("refused");
    };
    assert_eq!((items, next_height), (node.source.lane(A)[2..7].to_vec(), Height(8)));
    assert_eq!(node.handle().status().borrow().blocked, 0, "asking badly is no lie");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_asks_too_often_is_told_so_and_another_is_served() {
    let (_chain, node, names) = network("often").await;
    let metrics = node.handle().metrics().clone();
    let mut peer = Peer::connect(&node, &names, names.ranges()).await;
    let mut asked = 0;
    while metrics.requests("rate_limited") == 0 {
        assert!(asked < 10_000, "nobody minds");
        assert!(peer.ask(&node, range(A, 1, 1)).await.is_some());
        asked += 1;
    }
    assert!(asked > 100, "{asked} are a burst that any mirror may need");
    assert_eq!(node.handle().status().borrow().blocked, 0, "it may ask again later");
    let mut other = Peer::connect(&node, &names, names.ranges()).await;
    assert!(other.ask(&node, range(A, 1, 1)).await.is_some());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_let_its_answers_end_gets_no_more_of_them() {
    let (_chain, node, names) = network("stuck").await;
    let metrics = node.handle().metrics().clone();
    node.source.stall(true);
    let mut peer = Peer::connect(&node, &names, names.ranges()).await;
    let requests: Vec<_> = (0..10).map(|_| peer.send(&node, range(A, 1, 1))).collect();
    let refused = tokio::time::timeout(Duration::from_secs(2), peer.answers(requests)).await;
    assert!(refused.is_err(), "not all are answered");
    assert_eq!((metrics.requests("answered"), metrics.requests("busy")), (4, 6));
    let mut other = Peer::connect(&node, &names, names.ranges()).await;
    node.source.stall(false);
    assert!(other.ask(&node, range(A, 1, 1)).await.is_some(), "another peer has a share of its own");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_network_is_left_alone() {
    let (_chain, node, _) = network("ours").await;
    let other = Chain::new("theirs", 10);
    let folder = tempfile::tempdir().unwrap();
    let stranger = mirror(other.genesis(), &folder, node.handle().addresses(), |_| {}).await;
    let (ours, theirs) = (node.handle().status(), stranger.handle().status());
    for _ in 0..50 {
        // It calls again every few seconds, and is hung up on each time.
        assert_eq!(stranger.handle().metrics().ranges("items"), 0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eventually("both are alone", || ours.borrow().peers.is_empty() && theirs.borrow().peers.is_empty()).await;
    assert_eq!(ours.borrow().blocked + theirs.borrow().blocked, 0);
    stranger.shutdown().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_excess_in_bundles_are_refused_with_a_reason() {
    let (_chain, node, names) = network("bundles").await;
    let metrics = node.handle().metrics().clone();
    let mut peer = Peer::connect(&node, &names, names.bundles()).await;
    for garbage in [vec![], vec![1], vec![0xff; 300], vec![1; MAX_BUNDLE_BYTES]] {
        let answer = peer.ask(&node, garbage).await.expect("an answer");
        let verdict = BundleAnswer::from_wire(&answer).unwrap().into_verdict().unwrap();
        assert!(matches!(verdict, Err(Refusal::Malformed { .. })), "{verdict:?}");
    }
    assert_eq!(metrics.bundles("malformed"), 4);
    assert_eq!(peer.ask(&node, vec![1; MAX_BUNDLE_BYTES + 1]).await, None);
    eventually("it is counted", || metrics.requests("oversized") == 1).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_a_topic_blocks_its_sender_alone() {
    let (chain, node, names) = network("topics").await;
    let metrics = node.handle().metrics().clone();
    let folder = tempfile::tempdir().unwrap();
    let mirror = mirror(chain.genesis(), &folder, node.handle().addresses(), |_| {}).await;
    let mut peer = Peer::connect(&node, &names, names.ranges()).await;
    let topic = names.topic(A);
    peer.swarm.behaviour_mut().gossip.subscribe(&topic).unwrap();
    loop {
        let heartbeat = tokio::time::timeout(Duration::from_millis(200), peer.swarm.select_next_some()).await;
        if let Ok(SwarmEvent::ConnectionClosed { .. }) = heartbeat {
            break;
        }
        let mut garbage = vec![1; 500];
        rand::rng().fill_bytes(&mut garbage[1..]);
        let _ = peer.swarm.behaviour_mut().gossip.publish(topic.clone(), garbage);
    }
    assert!(metrics.faults("malformed") > 0);
    eventually("it is blocked", || node.handle().status().borrow().blocked == 1).await;
    caught_up(&mirror, &chain).await;
    assert_eq!(mirror.handle().status().borrow().blocked, 0, "nothing was forwarded");
    assert_eq!(mirror.handle().metrics().gossip("rejected"), 0);
    assert!(node.handle().status().borrow().peers.contains(&mirror.handle().peer_id()));
    mirror.shutdown().await.unwrap();
    node.stop().await;
}
