//! Four validators on simulated disks and links, with everything that can go wrong.
//!
//! Every run checks after every final block that honest validators agree; `LOCKSTEP_SEEDS=200` runs more seeds.

mod counter;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use counter::{Counters, key_of, number_of, record_of};
use lockstep_consensus::{
    block::Block,
    config::{Join, Retention, Timing},
    handle::Handle,
    machine::{Candidate, Genesis, Invalid, Key, Machine, Outcome, Position, Records, Standing},
    proof,
    simulate::{City, Conduct, DiskFaults, Link, Simulation},
};
use lockstep_protocol::header::{Header, L1Origin};

const COUNTERS: u64 = 4;
const STEPS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(300);
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Runs a claim over the seeds, from one that depends on the claim.
fn over_seeds(first: u64, claim: impl Fn(u64)) {
    let count = std::env::var("LOCKSTEP_SEEDS").map_or(2, |count| count.parse().expect("LOCKSTEP_SEEDS is a number"));
    for seed in first..first + count {
        eprintln!("seed {seed}");
        claim(seed);
    }
}

/// A network whose pools all hold the same steps, as gossip would bring about. The machines outlive crashes, like an
/// index on disk.
struct Network {
    simulation: Simulation,
    machines: Vec<Arc<Counters>>,
    handles: Arc<Mutex<Vec<Option<Handle>>>>,
}

fn filled() -> Arc<Counters> {
    let machine = Arc::new(Counters::default());
    for counter in 0..COUNTERS {
        (1..=STEPS).for_each(|number| machine.submit((counter, number)));
    }
    machine
}

fn network(seed: u64) -> Network {
    network_with(seed, |_, machine| machine)
}

/// `wrap` makes the machine of a validator from the counters that it should have.
fn network_with(
    seed: u64,
    wrap: impl Fn(usize, Arc<dyn Machine>) -> Arc<dyn Machine> + Send + Sync + 'static,
) -> Network {
    let machines: Vec<_> = (0..4).map(|_| filled()).collect();
    let handles: Arc<Mutex<Vec<Option<Handle>>>> = Arc::new(Mutex::new(vec![None; 4]));
    let (kept, opened) = (machines.clone(), handles.clone());
    let simulation = Simulation::new(seed, 4, move |index| wrap(index, kept[index].clone()))
        .timing(Timing::with_heartbeat(HEARTBEAT))
        .on_start(move |index, handle, _| opened.lock().unwrap()[index] = Some(handle));
    Network { simulation, machines, handles }
}

impl Network {
    fn with(mut self, change: impl FnOnce(Simulation) -> Simulation) -> Self {
        self.simulation = change(self.simulation);
        self
    }
}

/// Whether every one of these validators has seen every step in a final block.
fn all_ordered(machines: &[Arc<Counters>]) -> bool {
    machines.iter().all(|machine| {
        let inner = machine.inner();
        (0..COUNTERS).all(|counter| inner.counters.get(&counter) == Some(&STEPS))
    })
}

async fn until_ordered(city: &mut City<'_>, machines: &[Arc<Counters>]) {
    city.until("ordering every step", PATIENCE, |_| all_ordered(machines)).await;
}

#[test]
fn every_step_is_ordered_once_and_the_state_can_be_read_and_proven() {
    over_seeds(100, |seed| {
        let Network { mut simulation, machines, handles } = network(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            until_ordered(city, &machines).await;
            let height = city.height();
            city.until_height(height + 3).await;
            let handle = handles.lock().unwrap()[1].clone().expect("it was started");
            let (header, records) = handle.read((0..=COUNTERS).map(key_of).collect()).await.expect("it runs");
            assert!(header.height.0 >= height);
            for counter in 0..COUNTERS {
                assert_eq!(number_of(&records[&key_of(counter)]), STEPS);
                let proven = handle.prove(key_of(counter)).await.expect("it runs");
                assert_eq!(proven.record, Some(record_of(STEPS)));
                let state = city.header(proven.header.height.0).expect("it is final").state;
                assert!(proof::verify(&state, &key_of(counter), proven.record.as_ref(), &proven.proof));
            }
            let absent = handle.prove(key_of(COUNTERS)).await.expect("it runs");
            assert!(proof::verify(&absent.header.state, &key_of(COUNTERS), None, &absent.proof));
            assert!(!proof::verify(&absent.header.state, &key_of(0), None, &absent.proof));
            assert_eq!(handle.peers(), 3);
        });
        // What is in the log is exactly what was submitted, and L1 never went backwards.
        let inner = machines[0].inner();
        assert!(inner.pool.is_empty());
        let headers: Vec<_> = inner.log.values().collect();
        assert!(headers.windows(2).all(|pair| pair[0].timestamp_ms < pair[1].timestamp_ms));
        assert!(headers.windows(2).all(|pair| pair[0].l1.number <= pair[1].l1.number));
        assert_eq!(headers[0].l1.number, 5, "a candidate behind the parent's L1 origin takes the parent's");
    });
}

#[test]
fn a_lone_validator_reads_and_proves_the_empty_state_of_genesis() {
    let Network { mut simulation, handles, .. } = network(150);
    simulation.run(async |city: &mut City<'_>| {
        city.start(0).await;
        city.sleep(Duration::from_secs(20)).await;
        let handle = handles.lock().unwrap()[0].clone().expect("it was started");
        let proven = handle.prove(key_of(1)).await.expect("it runs");
        assert_eq!((proven.header.height.0, proven.record), (0, None));
        assert!(proof::verify(&proven.header.state, &key_of(1), None, &proven.proof));
        assert!(!proof::verify(&proven.header.state, &key_of(1), Some(&record_of(1)), &proven.proof));
        assert_eq!(city.height(), 0, "one of four orders nothing");
    });
}

#[test]
fn equal_seeds_give_equal_runs_and_other_seeds_other_runs() {
    let run = |seed| {
        let Network { mut simulation, machines, .. } = network(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            city.until_height(5).await;
            city.crash(1).await;
            until_ordered(city, &[&machines[..1], &machines[2..]].concat()).await;
        });
        simulation.fingerprint()
    };
    assert_eq!(run(200), run(200));
    assert_ne!(run(200), run(201));
}

#[test]
fn each_validator_may_crash_and_come_back() {
    over_seeds(300, |seed| {
        let Network { mut simulation, machines, .. } = network(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            for index in 0..4 {
                let height = city.height();
                city.until_height(height + 3).await;
                city.crash(index).await;
                let height = city.height();
                city.until_height(height + 8).await;
                city.start(index).await;
                let height = city.height();
                city.until_height(height).await;
            }
            until_ordered(city, &machines).await;
        });
    });
}

#[test]
fn all_may_lose_power_at_once_again_and_again() {
    over_seeds(400, |seed| {
        let Network { mut simulation, machines, handles } = network(seed);
        let mut reached = 0;
        for _ in 0..4 {
            reached = simulation.run(async |city: &mut City<'_>| {
                city.start_all().await;
                for handle in handles.lock().unwrap().iter().flatten() {
                    // The machine heard of a block before its state was durable, so one may be executed again.
                    assert!(handle.tip().height.0 + 16 >= reached, "a final block was forgotten");
                }
                city.until_height(reached + 7).await;
                city.height()
            });
        }
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            until_ordered(city, &machines).await;
        });
    });
}

#[test]
fn one_cut_off_validator_changes_nothing_and_catches_up() {
    over_seeds(500, |seed| {
        let Network { mut simulation, machines, .. } = network(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            city.until_height(3).await;
            city.partition(&[&[0, 1, 3]]).await;
            city.until("going on with three", PATIENCE, |city| city.height() > 40).await;
            assert!(city.heights()[2] < 10, "nobody tells the one that is cut off");
            city.heal().await;
            let height = city.height();
            city.until_height(height + 5).await;
            until_ordered(city, &machines).await;
        });
    });
}

#[test]
fn two_against_two_stand_still_and_go_on_when_healed() {
    over_seeds(600, |seed| {
        let Network { mut simulation, machines, .. } = network(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            city.until_height(3).await;
            city.partition(&[&[0, 1], &[2, 3]]).await;
            city.sleep(Duration::from_secs(1)).await;
            let height = city.height();
            city.sleep(Duration::from_secs(60)).await;
            assert_eq!(city.height(), height, "no half may finalize");
            city.heal().await;
            city.until_height(height + 5).await;
            until_ordered(city, &machines).await;
        });
    });
}

#[test]
fn lost_and_late_messages_delay_but_never_divide() {
    over_seeds(700, |seed| {
        let Network { mut simulation, machines, .. } = network(seed);
        simulation.run(async |city: &mut City<'_>| {
            city.link(Link { latency: Duration::from_millis(40), jitter: Duration::from_millis(30), loss: 100 }).await;
            city.start_all().await;
            city.until_height(25).await;
            city.link(Link::default()).await;
            until_ordered(city, &machines).await;
            let height = city.height();
            city.until_height(height + 3).await;
        });
    });
}

#[test]
fn failing_disks_stop_validators_but_never_the_agreement() {
    over_seeds(800, |seed| {
        let Network { mut simulation, machines, .. } = network(seed).with(Simulation::with_faulty_disks);
        let fallen = simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            city.until_height(3).await;
            city.disk_faults(DiskFaults { sync: 4, write: 4, read: 2, open: 2 });
            let mut fallen = 0;
            for _ in 0..40 {
                city.sleep(Duration::from_millis(500)).await;
                fallen += city.tend().await;
            }
            city.disk_faults(DiskFaults::default());
            city.tend().await;
            let height = city.height();
            city.until_height(height + 10).await;
            until_ordered(city, &machines).await;
            fallen
        });
        assert!(fallen > 0, "seed {seed}: no disk failed, so nothing was shown");
    });
}

#[test]
fn an_equivocating_validator_divides_nobody() {
    over_seeds(900, |seed| {
        // The twins fill their own pools; the honest three keep theirs.
        let Network { mut simulation, machines, .. } =
            network_with(seed, |index, machine| if index == 3 { filled() } else { machine })
                .with(|simulation| simulation.conduct(3, Conduct::Twins));
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            city.until("ordering every step", PATIENCE, |_| all_ordered(&machines[..3])).await;
            city.until_height(25).await;
        });
    });
}

#[test]
fn a_withholding_leader_loses_its_turns_only() {
    over_seeds(1_000, |seed| {
        let Network { mut simulation, machines, .. } =
            network(seed).with(|simulation| simulation.conduct(0, Conduct::Withholds));
        let name = simulation.name(0);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            city.until_height(15).await;
            until_ordered(city, &machines).await;
            let leaders: Vec<_> = (1..=city.height()).filter_map(|height| city.header(height)).collect();
            assert!(leaders.iter().all(|header| header.leader != name), "nobody saw its blocks");
        });
    });
}

type Lie = fn(&mut Header);

#[test]
fn a_lying_leader_loses_its_turns_only() {
    let lies: [(&str, Lie); 7] = [
        ("old timestamp", |header| header.timestamp_ms = 1_000),
        ("far timestamp", |header| header.timestamp_ms += 3_600_000),
        ("last timestamp", |header| header.timestamp_ms = u64::MAX),
        ("older l1", |header| header.l1.number = 1),
        ("lanes", |header| header.lanes.0[0] ^= 1),
        ("state root", |header| header.state.0[0] ^= 1),
        ("network", |header| header.network.0[0] ^= 1),
    ];
    for (index, (lie, tamper)) in lies.into_iter().enumerate() {
        let seed = 1_100 + index as u64;
        eprintln!("{lie}, seed {seed}");
        let Network { mut simulation, machines, .. } =
            network(seed).with(|simulation| simulation.conduct(1, Conduct::Lies(Arc::new(tamper))));
        let name = simulation.name(1);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            city.until_height(12).await;
            until_ordered(city, &machines).await;
            let headers: Vec<_> = (1..=city.height()).filter_map(|height| city.header(height)).collect();
            assert!(headers.iter().all(|header| header.leader != name), "{lie}: a lie became final");
        });
    }
}

/// Counters whose leader orders steps that skip numbers, and reports what it likes.
struct Cheating(Arc<dyn Machine>);

impl Machine for Cheating {
    fn genesis(&self) -> Genesis {
        self.0.genesis()
    }

    fn waiting(&self, _: &Header) -> bool {
        true
    }

    fn candidate(&self, parent: &Header, limit: usize) -> Candidate {
        self.0.candidate(parent, limit)
    }

    fn keys(&self, position: &Position, body: &Bytes) -> Result<Vec<Key>, Invalid> {
        let mut keys = self.0.keys(position, body)?;
        keys.push(key_of(77));
        Ok(keys)
    }

    fn build(&self, position: &Position, _: Bytes, _: &Records) -> (Bytes, Outcome) {
        let body: Vec<u8> = [77u64, 5].iter().flat_map(|number| number.to_be_bytes()).collect();
        let lanes = lockstep_consensus::block::hash_body(&[&position.parent.lanes.0, &body[..]].concat());
        (body.into(), Outcome { writes: [(key_of(77), Some(record_of(5)))].into(), lanes })
    }

    fn apply(
        &self,
        position: &Position,
        body: &Bytes,
        records: &Records,
        standing: Standing,
    ) -> Result<Outcome, Invalid> {
        self.0.apply(position, body, records, standing)
    }

    fn seen(&self, origin: &L1Origin) -> bool {
        self.0.seen(origin)
    }

    fn finalized(&self, block: &Block) {
        self.0.finalized(block);
    }
}

#[test]
fn a_leader_with_an_invalid_body_loses_its_turns_only() {
    over_seeds(1_200, |seed| {
        let Network { mut simulation, machines, .. } =
            network_with(seed, |index, machine| if index == 2 { Arc::new(Cheating(machine)) } else { machine });
        let name = simulation.name(2);
        simulation.run(async |city: &mut City<'_>| {
            city.start_all().await;
            city.until_height(12).await;
            until_ordered(city, &machines).await;
            let headers: Vec<_> = (1..=city.height()).filter_map(|height| city.header(height)).collect();
            assert!(headers.iter().all(|header| header.leader != name), "an invalid body became final");
        });
        assert!(!machines[0].inner().counters.contains_key(&77));
    });
}

#[test]
fn a_newcomer_gets_the_state_from_peers_that_have_pruned_the_past() {
    over_seeds(1_300, |seed| {
        let Network { mut simulation, handles, .. } =
            network_with(seed, |index, machine| if index == 3 { Arc::new(Counters::default()) } else { machine })
                .with(|simulation| simulation.join(3, Join::Sync).retention(Retention::Blocks(16)));
        simulation.run(async |city: &mut City<'_>| {
            for index in 0..3 {
                city.start(index).await;
            }
            city.until_height(600).await;
            let handle = handles.lock().unwrap()[0].clone().expect("it was started");
            assert!(handle.block(lockstep_protocol::ids::Height(1)).await.is_none(), "the past was pruned");
            city.start(3).await;
            let height = city.height();
            city.until_height(height + 5).await;
            let newcomer = handles.lock().unwrap()[3].clone().expect("it was started");
            let (_, records) = newcomer.read(vec![key_of(0)]).await.expect("it runs");
            assert_eq!(number_of(&records[&key_of(0)]), STEPS);
        });
    });
}

#[test]
fn an_idle_leader_waits_for_the_heartbeat_and_is_woken_by_work() {
    let machines: Vec<_> = (0..4).map(|_| Arc::new(Counters::default())).collect();
    let kept = machines.clone();
    let mut simulation = Simulation::new(1_400, 4, move |index| kept[index].clone());
    simulation.run(async |city: &mut City<'_>| {
        city.start_all().await;
        city.until_height(5).await;
        let headers: Vec<_> = (2..=5).map(|height| city.header(height).expect("it is final")).collect();
        for pair in headers.windows(2) {
            let gap = pair[1].timestamp_ms - pair[0].timestamp_ms;
            assert!((1_000..1_200).contains(&gap), "idle blocks are a heartbeat apart, found {gap} ms");
            assert_eq!(pair[0].view + 1, pair[1].view, "no idle view is given up");
        }
        // Far from the next heartbeat, work arrives everywhere.
        city.sleep(Duration::from_millis(300)).await;
        let begin = city.now_ms();
        for (index, machine) in machines.iter().enumerate() {
            machine.submit((1, 1));
            city.handle(index).wake();
        }
        city.until("ordering", PATIENCE, |_| {
            machines.iter().all(|machine| machine.inner().counters.get(&1) == Some(&1))
        })
        .await;
        let took = city.now_ms() - begin;
        assert!(took < 150, "a woken leader proposes at once, but it took {took} ms");
    });
}
