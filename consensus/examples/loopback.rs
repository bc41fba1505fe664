//! How fast is the log? Four validators in one process, on loopback sockets and real directories.
//!
//! ```text
//! cargo run --release -p lockstep-consensus --example loopback -- <seconds> <body bytes> <keys per block>
//! ```
//!
//! First idle: one small body at a time, from its arrival in every pool to its being final on all four. Then loaded:
//! every leader always has a full body. Figures are of this machine with all four validators on it; compare, don't quote.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use lockstep_consensus::{
    block::Block,
    config::{Join, Limits, Retention, Timing},
    keys::{self, Identity},
    machine::{Candidate, Genesis, Invalid, Key, Machine, Outcome, Position, RECORD_BYTES, Records, Standing},
    node::{Config, Node},
};
use lockstep_protocol::{
    header::{Header, L1Origin},
    ids::{Hash32, NetworkId},
};

/// Bodies of filler; each block rewrites some of a hundred thousand records.
struct Filler {
    busy: Arc<AtomicBool>,
    work: Arc<AtomicU64>,
    body: Bytes,
    keys: u64,
    done: Mutex<Vec<Done>>,
}

#[derive(Clone, Copy)]
struct Done {
    at: Instant,
    after_ms: u64,
    bytes: usize,
}

impl Filler {
    fn outcome(&self, position: &Position) -> Outcome {
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&position.height.0.to_be_bytes());
        let writes = self.touched(position).map(|key| (key, Some(record))).collect();
        Outcome { writes, lanes: position.parent.lanes }
    }

    fn touched(&self, position: &Position) -> impl Iterator<Item = Key> {
        let height = position.height.0;
        (0..self.keys).map(move |index| {
            let account = (height.wrapping_mul(7_919) + index * 31) % 100_000;
            let mut key = [0; 32];
            key[..8].copy_from_slice(&account.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            key
        })
    }
}

impl Machine for Filler {
    fn genesis(&self) -> Genesis {
        Genesis {
            network: NetworkId::from_name("loopback"),
            timestamp_ms: 1,
            config: Hash32::default(),
            lanes: Hash32::default(),
            l1: L1Origin::default(),
        }
    }

    fn waiting(&self, _: &Header) -> bool {
        self.busy.load(Ordering::Relaxed) || self.work.load(Ordering::Relaxed) > 0
    }

    fn candidate(&self, _: &Header, _: usize) -> Candidate {
        let work = self.work.load(Ordering::Relaxed);
        let body = if self.busy.load(Ordering::Relaxed) {
            self.body.clone()
        } else {
            Bytes::copy_from_slice(&work.to_be_bytes())
        };
        Candidate { body, l1: L1Origin::default() }
    }

    fn keys(&self, position: &Position, _: &Bytes) -> Result<Vec<Key>, Invalid> {
        Ok(self.touched(position).collect())
    }

    fn build(&self, position: &Position, candidate: Bytes, _: &Records) -> (Bytes, Outcome) {
        (candidate, self.outcome(position))
    }

    fn apply(&self, position: &Position, _: &Bytes, _: &Records, _: Standing) -> Result<Outcome, Invalid> {
        Ok(self.outcome(position))
    }

    fn seen(&self, _: &L1Origin) -> bool {
        true
    }

    fn finalized(&self, block: &Block) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
        let after_ms = now.saturating_sub(block.header().timestamp_ms);
        self.done.lock().expect("not poisoned").push(Done { at: Instant::now(), after_ms, bytes: block.body().len() });
    }
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let seconds = arguments.next().unwrap_or(10);
    let body_bytes = arguments.next().unwrap_or(64 * 1024) as usize;
    let keys_per_block = arguments.next().unwrap_or(100);

    let (group, identities) = keys::deal(4).expect("four validators");
    let listeners: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
    drop(listeners);
    let directory = std::env::temp_dir().join(format!("lockstep-loopback-{}", std::process::id()));
    let busy = Arc::new(AtomicBool::new(false));
    let work = Arc::new(AtomicU64::new(0));
    let mut nodes = Vec::new();
    let mut machines = Vec::new();
    for index in 0..4 {
        let machine = Arc::new(Filler {
            busy: busy.clone(),
            work: work.clone(),
            body: vec![0x5a; body_bytes].into(),
            keys: keys_per_block,
            done: Mutex::default(),
        });
        let config = Config {
            identity: identities[index].clone(),
            group: group.clone(),
            listen: addresses[index],
            peers: identities.iter().map(Identity::name).zip(addresses.clone()).collect(),
            directory: directory.join(index.to_string()),
            local: true,
            threads: 1,
            timing: Timing::default(),
            limits: Limits::default(),
            retention: Retention::Everything,
            join: Join::Replay,
        };
        nodes.push(Node::start(config, machine.clone()).expect("the node starts"));
        machines.push(machine);
    }
    let height = |index: usize| nodes[index].handle().tip().height.0;
    while (0..4).any(|index| height(index) < 3) {
        std::thread::sleep(Duration::from_millis(10));
    }

    // Idle: from a small body's arrival to its being final everywhere.
    let mut idle = Vec::new();
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(137));
        let counts: Vec<_> = machines.iter().map(|machine| machine.done.lock().expect("not poisoned").len()).collect();
        let begin = Instant::now();
        work.fetch_add(1, Ordering::Relaxed);
        nodes.iter().for_each(|node| node.handle().wake());
        while machines.iter().zip(&counts).any(|(machine, count)| {
            !machine.done.lock().expect("not poisoned")[*count..].iter().any(|done| done.bytes > 0)
        }) {
            std::thread::sleep(Duration::from_micros(200));
        }
        idle.push(begin.elapsed().as_micros() as u64);
        work.store(0, Ordering::Relaxed);
    }
    idle.sort_unstable();
    println!(
        "idle: arrival to final on all four, p50 {:.1} ms, p90 {:.1} ms, max {:.1} ms",
        percentile(&idle, 50) as f64 / 1e3,
        percentile(&idle, 90) as f64 / 1e3,
        percentile(&idle, 100) as f64 / 1e3
    );

    // Loaded.
    busy.store(true, Ordering::Relaxed);
    nodes.iter().for_each(|node| node.handle().wake());
    std::thread::sleep(Duration::from_secs(2));
    machines.iter().for_each(|machine| machine.done.lock().expect("not poisoned").clear());
    let cpu = cpu_seconds();
    std::thread::sleep(Duration::from_secs(seconds));
    let cpu = cpu_seconds() - cpu;
    busy.store(false, Ordering::Relaxed);
    let done = machines[0].done.lock().expect("not poisoned").clone();
    let span = done.last().expect("blocks").at.duration_since(done[0].at).as_secs_f64();
    let bytes: usize = done.iter().map(|done| done.bytes).sum();
    let mut latency: Vec<_> = done.iter().map(|done| done.after_ms).collect();
    latency.sort_unstable();
    println!(
        "loaded: {} bytes and {keys_per_block} keys a block: {:.1} blocks/s, {:.2} MB/s, proposed to final p50 {} ms, p99 {} \
         ms, {:.1} ms of CPU a block for all four, {} MiB resident for all four",
        body_bytes,
        done.len() as f64 / span,
        bytes as f64 / span / 1e6,
        percentile(&latency, 50),
        percentile(&latency, 99),
        cpu * 1e3 / done.len() as f64,
        resident_mib(),
    );
    nodes.into_iter().for_each(Node::stop);
    std::fs::remove_dir_all(directory).expect("the directory is ours");
}

/// CPU time of this process, from Linux's account of it.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}
