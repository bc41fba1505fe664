//! Do validators that watch rollups make the log settle, and does nothing else get in?

use std::time::{Duration, Instant};

use lockstep_protocol::{
    bundle::{Kind, SignedBundle},
    ids::{Height, SettlementId},
    limits::HEAD_RING,
    rpc::codes,
    settlement::{
        Decision, LegStatus, Level, MarginTransfer, Side,
        records::{SettlementRecord, settlement_key},
    },
    state::Stored,
};
use serde_json::{Value, json};

use super::*;
use crate::{
    config::{Config, RollupConfig},
    fixture::{self, ROLLUP_A, ROLLUP_B},
    node::{
        Node,
        tests::{Network, PATIENCE, reached, stop},
    },
    rollups::{Rollup, Served, leg, participant, settlement_config},
    rpc::tests::{call, hex_of},
};

/// Validators in one process, and the two rollups that they watch.
struct City {
    network: Network,
    nodes: Vec<Node>,
    rollups: [Served; 2],
}

impl City {
    async fn start(validators: usize) -> Self {
        Self::start_with(validators, |_, _| {}).await
    }

    /// With validators' configurations changed.
    async fn start_with(validators: usize, change: impl Fn(usize, &mut Config)) -> Self {
        let rollups = [ROLLUP_A, ROLLUP_B].map(|id| Arc::new(Mutex::new(Rollup::new(id))));
        let [a, b] = rollups;
        let rollups = [Served::start(a).await, Served::start(b).await];
        let network = Network::deal_with(validators, |options| {
            for rollup in &mut options.rollups {
                rollup.settlement = Some(participant(rollup.id));
                rollup.posters = vec![fixture::account(7)];
            }
            options.settlement = Some(settlement_config(&[ROLLUP_A, ROLLUP_B]));
            let watch = |served: &Served| RollupConfig {
                id: served.rollup().id,
                rpc: served.url.clone(),
                poll_ms: 50,
                posters: Vec::new(),
            };
            options.rollup_nodes = rollups.iter().map(watch).collect();
        });
        let start = async |validator| {
            let mut config = network.config(validator);
            change(validator, &mut config);
            Node::start(&config).await.expect("started")
        };
        let nodes = futures::future::join_all((0..validators).map(start)).await;
        Self { network, nodes, rollups }
    }

    async fn stop(self) {
        futures::future::join_all(self.nodes.into_iter().map(stop)).await;
        self.rollups.iter().for_each(Served::stop);
    }

    fn facts(&self, node: usize) -> &Arc<Facts> {
        &self.nodes[node].service().facts
    }

    /// The sum of a counter over its labels.
    fn counted(&self, node: usize, name: &str) -> u64 {
        counted(&self.nodes[node], name)
    }

    /// Waits until something holds.
    async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self).await {
            assert!(Instant::now() < deadline, "{what} takes too long");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the log has a head of this number or a later one, and returns which.
    async fn certified(&self, rollup: usize, level: Level, number: u64) -> u64 {
        let id = self.rollups[rollup].rollup().id;
        let latest = |city: &Self| city.facts(0).view(id)?.record.latest[level as usize];
        self.until("a certificate", async |city| latest(city).is_some_and(|latest| latest >= number)).await;
        latest(self).expect("it was there")
    }

    async fn record(&self, node: usize, settlement: SettlementId) -> Option<SettlementRecord> {
        let (_, records) =
            self.nodes[node].service().log.read(vec![settlement_key(&settlement)]).await.expect("it runs");
        let record = records.into_values().next().flatten()?;
        Some(SettlementRecord::from_record(&record).expect("a settlement"))
    }

    /// A transfer from the first rollup to the second.
    fn transfer(&self, account: u8, nonce: u64, heights: u64) -> (SettlementId, SignedBundle) {
        let deadline = Height(self.nodes[0].index().height().0 + heights);
        let legs = vec![leg(ROLLUP_A, Side::Debit, 10), leg(ROLLUP_B, Side::Credit, 10)];
        let kind = Kind::Settlement(MarginTransfer { legs, deadline });
        let bundle = fixture::bundle(account, nonce, 1);
        let bundle = lockstep_protocol::bundle::Bundle { kind, ..bundle };
        (bundle.settlement().expect("it is one"), bundle.sign(&fixture::key(account)))
    }

    async fn order(&self, bundle: &SignedBundle) {
        let sent = call(self.nodes[0].rpc_address(), "lockstep_sendBundle", json!([hex_of(bundle)])).await;
        assert!(sent["result"].is_object(), "{sent}");
    }

    async fn send_fact(&self, node: usize, fact: &Fact) -> Value {
        call(self.nodes[node].rpc_address(), "lockstep_sendFact", json!([fact])).await
    }

    /// Executes a leg on its rollup, and shows it at the rollup's newest block at once.
    fn step(&self, rollup: usize, settlement: SettlementId, status: LegStatus) -> Fact {
        let place = (settlement, u8::try_from(rollup).expect("a few"));
        let mut rollup = self.rollups[rollup].rollup();
        rollup.set([place], status);
        Fact::Observation(rollup.observe(Level::Executed, rollup.number(), [place]))
    }
}

fn counted(node: &Node, name: &str) -> u64 {
    let service = node.service();
    let (name, text) = (format!("lockstep_{name}_total"), service.metrics.encode(&service.log));
    let values = text.lines().filter(|line| line.starts_with(&name)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<u64>().expect("a count")).sum()
}

fn reason(answer: &Value) -> &str {
    assert_eq!(answer["error"]["code"], codes::REFUSED, "{answer}");
    assert!(answer["error"]["data"]["detail"].is_string(), "{answer}");
    answer["error"]["data"]["reason"].as_str().unwrap_or_else(|| panic!("a reason: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn validators_that_watch_rollups_make_the_log_commit_and_settle() {
    let city = City::start(4).await;
    for rollup in 0..2 {
        for _ in 0..6 {
            city.rollups[rollup].rollup().mine(|_| {});
        }
        for level in Level::ALL {
            city.certified(rollup, level, 1).await;
        }
    }
    let (settlement, bundle) = city.transfer(0, 0, 500);
    let started = Instant::now();
    city.order(&bundle).await;
    city.until("ordering", async |city| city.record(0, settlement).await.is_some()).await;
    let ordered = started.elapsed();

    // Each leg is shown to another validator, before anybody has signed the block.
    for rollup in 0..2 {
        let fact = city.step(rollup, settlement, LegStatus::Prepared);
        let asked = Instant::now();
        let sent = city.send_fact(1 + rollup, &fact).await;
        eprintln!("answered after {:?}", asked.elapsed());
        assert_eq!(sent["result"]["digest"], json!(ids::digest(&fact)), "{sent}");
    }
    let decided = |record: &SettlementRecord| record.decided.map(|decided| decided.decision);
    city.until("deciding", async |city| {
        city.record(0, settlement).await.is_some_and(|record| decided(&record).is_some())
    })
    .await;
    let elapsed = started.elapsed();
    let record = city.record(0, settlement).await.expect("ordered");
    assert_eq!(decided(&record), Some(Decision::Commit));
    eprintln!("ordered after {ordered:?}, decided after {elapsed:?}");

    for rollup in 0..2 {
        let fact = city.step(rollup, settlement, LegStatus::Committed);
        let sent = city.send_fact(3, &fact).await;
        assert!(sent["result"].is_object(), "{sent}");
    }
    city.until("settling", async |city| city.record(0, settlement).await.is_some_and(|record| record.settled)).await;
    for node in 0..4 {
        city.until("emptying the pools", async |city| {
            let state = city.facts(node).state();
            state.waiting.len() + state.held.len() == 0
        })
        .await;
        let equivocations = &city.facts(node).metrics().equivocations;
        assert_eq!(
            city.nodes[node]
                .service()
                .metrics
                .encode(&city.nodes[node].service().log)
                .matches("equivocations_total{")
                .count(),
            0
        );
        let _ = equivocations;
    }
    city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_so_is_refused_by_name_and_never_offered() {
    let city = City::start(1).await;
    let number = city.certified(0, Level::Executed, 0).await;
    city.certified(1, Level::Executed, 0).await;
    let (settlement, bundle) = city.transfer(0, 0, 500);
    let shown = |number, legs: Vec<(SettlementId, u8)>| {
        Fact::Observation(city.rollups[0].rollup().observe(Level::Executed, number, legs))
    };
    let unknown = city.send_fact(0, &shown(number, vec![(settlement, 0)])).await;
    assert_eq!(reason(&unknown), "unknown_settlement");
    city.order(&bundle).await;
    city.until("ordering", async |city| city.record(0, settlement).await.is_some()).await;
    let nothing = city.send_fact(0, &shown(number, vec![(settlement, 0)])).await;
    assert_eq!(reason(&nothing), "nothing_new", "the slot is empty");

    let fact = city.step(0, settlement, LegStatus::Prepared);
    let number = city.certified(0, Level::Executed, 1).await;
    let Fact::Observation(good) = &fact else { panic!("an observation") };
    let mut forged = good.clone();
    forged.claims[0].proof.pop();
    let forged = city.send_fact(0, &Fact::Observation(forged)).await;
    assert_eq!(reason(&forged), "bad_storage_proof");
    let mut forged = good.clone();
    forged.account_proof.remove(0);
    assert_eq!(reason(&city.send_fact(0, &Fact::Observation(forged)).await), "bad_account_proof");
    let mut elsewhere = good.clone();
    elsewhere.rollup = RollupId(7);
    assert_eq!(reason(&city.send_fact(0, &Fact::Observation(elsewhere)).await), "no_participant");
    let mut empty = good.clone();
    empty.claims.clear();
    assert_eq!(reason(&city.send_fact(0, &Fact::Observation(empty)).await), "no_claims");
    let far = Fact::Observation(Observation { number: number + HEAD_RING + 1, ..good.clone() });
    assert_eq!(reason(&city.send_fact(0, &far).await), "unknown_head");

    let address = city.nodes[0].rpc_address();
    for garbage in [json!([7]), json!(["0x00"]), json!([{ "head": 1 }]), json!([{ "lease": {} }]), json!([null, 1])] {
        let answer = call(address, "lockstep_sendFact", garbage.clone()).await;
        assert!(answer["error"].is_object(), "{garbage} gave {answer}");
    }
    let long = call(address, "lockstep_sendFact", json!(["x".repeat(600_000)])).await;
    assert_eq!(reason(&long), "too_large");

    assert!(city.send_fact(0, &fact).await["result"].is_object(), "what is so is taken");
    let noted = async |city: &City| {
        use lockstep_protocol::settlement::records::Seen;
        city.record(0, settlement).await.is_some_and(|record| record.legs[0].seen == Seen::Prepared)
    };
    city.until("noting", noted).await;
    assert_eq!(reason(&city.send_fact(0, &fact).await), "nothing_new", "a replay");
    assert_eq!(city.facts(0).state().waiting.len(), 0);
    let height = city.nodes[0].index().height().0;
    reached(&city.nodes[0], height + 2).await;
    city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_that_leaves_its_history_is_told_once_and_signed_on() {
    let city = City::start(4).await;
    for _ in 0..8 {
        city.rollups[0].rollup().mine(|_| {});
    }
    let before = city.certified(0, Level::Executed, 8).await;
    city.rollups[0].rollup().reorg(3);
    for _ in 0..5 {
        city.rollups[0].rollup().mine(|_| {});
    }
    let view = |city: &City| city.facts(0).view(ROLLUP_A).expect("read");
    city.until("a new incarnation", async |city| view(city).record.incarnation == 1).await;
    let after = city.certified(0, Level::Executed, 10).await;
    assert!(after >= 10 && before == 8);
    let view = view(&city);
    {
        let rollup = city.rollups[0].rollup();
        for kept in view.kept() {
            assert_eq!(*kept, rollup.head(kept.level, kept.number, 1), "what is kept is of the new history");
        }
    }
    assert!(view.record.quarantined_until.0 > 0);
    for node in 0..4 {
        assert_eq!(city.counted(node, "facts_equivocations"), 0, "nobody lied");
        assert_eq!(city.counted(node, "application_invalid"), 0, "and no block was in vain");
    }
    city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_validator_signs_nothing_else_in_place_of_what_it_signed() {
    let mut city = City::start(1).await;
    for _ in 0..4 {
        city.rollups[0].rollup().mine(|_| {});
    }
    city.certified(0, Level::Executed, 4).await;
    stop(city.nodes.pop().expect("one")).await;
    city.rollups[0].rollup().reorg(2);
    for _ in 0..2 {
        city.rollups[0].rollup().mine(|_| {});
    }
    let config = city.network.config(0);
    let genesis = crate::keys::load_genesis(&config.genesis).expect("a genesis");
    let seed = crate::keys::load_identity(&config.keys).expect("keys").seed();
    let rules = Arc::new(genesis.rules().expect("good"));
    let metrics = Arc::new(crate::heads::HeadsMetrics::new(&rules));
    let key = lockstep_protocol::signature::AccountKey::ed25519(seed);
    let signer = crate::heads::Signer::open(rules.clone(), key, &config.heads_file(), metrics).expect("opened");
    let signer = signer.expect("a validator");
    let heads: Vec<Head> = {
        let rollup = city.rollups[0].rollup();
        (0..=4).map(|number| rollup.head(Level::Executed, number, 0)).collect()
    };
    let signed = signer.sign(&heads).expect("kept");
    let numbers: Vec<u64> = signed.iter().map(|attestation| attestation.head.number).collect();
    assert_eq!(numbers, [0, 1, 2], "3 and 4 were other blocks");
    assert!(signed.iter().all(|attestation| attestation.check(&rules).is_ok()));
    city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_liar_in_four_certifies_nothing_and_is_named() {
    let lies = Arc::new(Mutex::new(Rollup::new(ROLLUP_A)));
    lies.lock().expect("kept").reorg(0);
    for _ in 0..3 {
        lies.lock().expect("kept").mine(|state| state.deposits.extend([(fixture::account(0), 7)]));
    }
    let liar = Served::start(lies).await;
    let url = liar.url.clone();
    let city = City::start_with(4, move |validator, config| {
        if validator == 3 {
            config.rollups[0].rpc = url.clone();
        }
    })
    .await;
    for _ in 0..3 {
        city.rollups[0].rollup().mine(|_| {});
    }
    city.certified(0, Level::Executed, 3).await;
    let view = city.facts(0).view(ROLLUP_A).expect("read");
    assert!(view.kept().count() > 0 && view.record.incarnation == 0);
    {
        let rollup = city.rollups[0].rollup();
        assert!(view.kept().all(|kept| *kept == rollup.head(kept.level, kept.number, 0)), "only what is true");
    }

    // It signs both histories of one number.
    let config = city.network.config(3);
    let genesis = crate::keys::load_genesis(&config.genesis).expect("a genesis");
    let rules = genesis.rules().expect("good");
    let key = lockstep_protocol::signature::AccountKey::ed25519(
        crate::keys::load_identity(&config.keys).expect("keys").seed(),
    );
    let lockstep_protocol::ids::Account::Ed25519(name) = key.account() else { panic!("an ed25519 key") };
    let validator = rules.validators.iter().position(|validator| *validator == name).expect("a validator");
    let attest = |block: u8| {
        let (block_hash, state_root) = (Hash32([block; 32]), Hash32([block; 32]));
        let (rollup, level) = (ROLLUP_A, Level::Executed);
        let head = Head { rollup, level, number: 1_000, block_hash, state_root, incarnation: 0 };
        let lockstep_protocol::signature::Signature::Ed25519(signature) =
            key.sign(&head.digest(rules.network, &name).0)
        else {
            panic!("an ed25519 signature")
        };
        let signature = lockstep_protocol::settlement::head::Ed25519Bytes(signature);
        HeadAttestation { head, validator: u8::try_from(validator).expect("a few"), signature }
    };
    city.facts(3).remind(vec![attest(1)]);
    city.facts(3).remind(vec![attest(2)]);
    for node in 0..3 {
        city.until("naming the liar", async |city| city.counted(node, "facts_equivocations") == 1).await;
    }
    // The log goes on.
    city.rollups[0].rollup().mine(|_| {});
    city.certified(0, Level::Executed, 4).await;
    city.stop().await;
    liar.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_node_that_is_gone_is_asked_again_and_disturbs_nobody() {
    let mut city = City::start(1).await;
    city.certified(1, Level::Executed, 0).await;
    city.rollups[0].stop();
    city.until("noticing", async |city| city.counted(0, "heads_failures") > 0).await;
    city.rollups[1].rollup().mine(|_| {});
    city.certified(1, Level::Executed, 1).await;
    let height = city.nodes[0].index().height().0;
    reached(&city.nodes[0], height + 3).await;
    city.nodes.drain(..).next().map(stop).expect("one").await;
    city.stop().await;
}
