//! Four validators on loopback sockets and real directories.

mod counter;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::executor::block_on;

use counter::{Counters, key_of, number_of, record_of};
use lockstep_consensus::{
    config::{Join, Limits, Retention, Timing},
    keys::{self, Group, Identity},
    node::{Config, Node},
    proof,
};
use lockstep_protocol::{
    header::Header,
    ids::{Hash32, Height},
};

const VALIDATORS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(30);

struct City {
    group: Group,
    identities: Vec<Identity>,
    addresses: Vec<SocketAddr>,
    directory: tempfile::TempDir,
    machines: Vec<Arc<Counters>>,
    nodes: Vec<Option<Node>>,
}

impl City {
    fn new() -> Self {
        let (group, identities) = keys::deal(VALIDATORS).expect("four validators can be dealt keys");
        // Free ports: bound once, then released to the validators.
        let listeners: Vec<_> =
            (0..VALIDATORS).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        Self {
            group,
            identities,
            addresses,
            directory: tempfile::tempdir().expect("a directory"),
            machines: (0..VALIDATORS).map(|_| Arc::new(Counters::default())).collect(),
            nodes: (0..VALIDATORS).map(|_| None).collect(),
        }
    }

    fn start(&mut self, index: usize) {
        let config = Config {
            identity: self.identities[index].clone(),
            group: Group::decode(&self.group.encode()).expect("a group survives its encoding"),
            listen: self.addresses[index],
            peers: self.identities.iter().map(Identity::name).zip(self.addresses.clone()).collect(),
            directory: self.directory.path().join(index.to_string()),
            local: true,
            threads: 2,
            timing: Timing::default(),
            limits: Limits::default(),
            retention: Retention::Everything,
            join: Join::Replay,
        };
        self.nodes[index] = Some(Node::start(config, self.machines[index].clone()).expect("the node starts"));
    }

    fn start_all(&mut self) {
        for index in 0..VALIDATORS as usize {
            self.start(index);
        }
    }

    fn stop(&mut self, index: usize) {
        self.nodes[index].take().expect("the node runs").stop();
    }

    fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().expect("the node runs")
    }

    fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < PATIENCE, "{what} took longer than {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Submits steps of `counter` to every pool, as gossip would.
fn submit(city: &City, counter: u64, numbers: std::ops::RangeInclusive<u64>) {
    for machine in &city.machines {
        numbers.clone().for_each(|number| machine.submit((counter, number)));
    }
    city.nodes.iter().flatten().for_each(|node| node.handle().wake());
}

fn assert_agreement(city: &City) {
    let logs: Vec<_> = city.machines.iter().map(|machine| machine.inner().log.clone()).collect();
    for (index, log) in logs.iter().enumerate() {
        for (height, header) in log {
            for other in &logs {
                assert!(other.get(height).is_none_or(|other| other == header), "{index} disagrees at {height}");
            }
        }
    }
}

#[test]
fn four_validators_order_prove_and_survive_restarts() {
    let mut city = City::new();
    city.start_all();
    submit(&city, 1, 1..=100);
    city.wait("ordering", || city.machines.iter().all(|machine| machine.inner().counters.get(&1) == Some(&100)));
    city.wait("connections", || (0..4).all(|index| city.node(index).handle().peers() == 3));

    // Records and proofs at the applied tip, against a header that a certificate covers.
    let handle = city.node(0).handle();
    let (header, records) = block_on(handle.read(vec![key_of(1), key_of(2)])).expect("the log runs");
    assert_eq!(number_of(&records[&key_of(1)]), 100);
    assert_eq!(records[&key_of(2)], None);
    assert!(header.height.0 > 0);
    for (key, record) in [(key_of(1), Some(record_of(100))), (key_of(2), None)] {
        let proven = block_on(handle.prove(key)).expect("the log runs");
        assert_eq!(proven.record, record);
        let state = proven.header.state;
        assert!(proof::verify(&state, &key, record.as_ref(), &proven.proof));
        // One gap proves the absence of every key in it, so the other key is one that is there.
        let other = if record.is_some() { key_of(2) } else { key_of(1) };
        assert!(!proof::verify(&state, &other, record.as_ref(), &proven.proof), "another key");
        assert!(!proof::verify(&state, &key, Some(&record_of(99)), &proven.proof), "another record");
        assert!(!proof::verify(&Hash32([1; 32]), &key, record.as_ref(), &proven.proof), "another root");
        assert!(!proof::verify(&state, &key, record.as_ref(), &proven.proof[..100]), "cut short");
    }

    // Every height is final to a third party.
    for height in 1..=handle.tip().height.0 {
        let block = block_on(handle.block(Height(height))).expect("the archive keeps every block");
        let finality = block_on(handle.finality(Height(height))).expect("every final block has finality");
        let mut parent = block.header().clone();
        for child in &finality.descendants {
            assert_eq!(child.parent, parent.digest());
            parent = child.clone();
        }
        assert_eq!(finality.certificate.view, parent.view);
    }
    assert!(block_on(handle.block(Height(1_000_000))).is_none());
    assert!(block_on(handle.finality(Height(1_000_000))).is_none());
    assert!(block_on(handle.finality(Height(0))).is_none(), "genesis is not finalized by anybody");
    assert!(handle.metrics().lines().count() > 100);

    // A message of the application reaches the three others.
    let mut inboxes: Vec<_> = (1..4).map(|index| city.node(index).handle().inbox().expect("asked first")).collect();
    assert!(city.node(1).handle().inbox().is_none(), "there is one inbox");
    handle.gossip(vec![9; 70_000].into()).expect("there is room");
    assert!(handle.gossip(vec![9; 1 << 20].into()).is_err(), "longer than a message may be");
    for inbox in &mut inboxes {
        let (sender, message) = inbox.blocking_recv().expect("the log runs");
        assert_eq!((sender, message.len()), (city.identities[0].name(), 70_000));
    }

    // One is stopped: the others go on, and it catches up from its own directory.
    city.stop(3);
    let stopped_at = city.machines[3].height();
    submit(&city, 2, 1..=10);
    city.wait("going on with three", || {
        city.machines[..3].iter().all(|machine| machine.inner().counters.get(&2) == Some(&10))
    });
    city.start(3);
    assert!(city.node(3).handle().tip().height.0 >= stopped_at.saturating_sub(1), "the state was kept");
    city.wait("catching up", || city.machines[3].inner().counters.get(&2) == Some(&10));

    // All are stopped.
    let before: Header = city.node(0).handle().tip();
    (0..4).for_each(|index| city.stop(index));
    city.start_all();
    assert!(city.node(0).handle().tip().height >= before.height);
    submit(&city, 3, 1..=10);
    city.wait("going on after all stopped", || {
        city.machines.iter().all(|machine| machine.inner().counters.get(&3) == Some(&10))
    });
    assert_agreement(&city);
    (0..4).for_each(|index| city.stop(index));
}
