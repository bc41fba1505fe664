//! A log with two rollups that settle between each other, each block of the log one block of each rollup.
//!
//! What leads to a decision is the protocol's own: bundles, heads with the validators' signatures, proofs. There is no consensus, and
//! the validators' watchers are honest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use alloy_primitives::Bytes;
use lockstep_adapters::{
    poster::Signer,
    relay::{ApplyConfig, Chain, Links, Log, ObserverConfig, Relay, Strays},
    serve::{RelayStatus, Service},
};
use lockstep_contracts as contracts;
use lockstep_protocol::{
    body::Facts,
    bundle::{Bundle, Kind, Leg, SignedBundle, Transaction},
    genesis::Genesis,
    ids::{Account, Address20, BundleId, Hash32, Height, RollupId, SettlementId},
    lane::LaneItem,
    rpc::{DecisionPage, RollupStatus, SettlementStatus},
    settlement::{
        DecisionRange, Head, HeadCertificate, Intent, LaneDecision, Level, MarginTransfer, Observation, Side, Void,
        config::{Asset, Corridor, Participant, SettlementConfig},
        decision,
        head::{Ed25519Bytes, HeadSignature},
        records::{HeadRecord, RollupRecord, SettlementRecord, head_key, rollup_key, settlement_key},
    },
    signature::{AccountKey, Signature},
};
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
};

mod wire;

pub(crate) use wire::{Fragile, Wire};

use crate::{
    fixture::{self, Network},
    venue::{PLENTY, Venue, addresses, asset, trader_key},
    world::leg,
};

pub(crate) const ROLLUPS: [u64; 2] = [10, 901];
pub(crate) const MARGIN: u128 = 100_000;
/// Pause between two blocks of the log.
const TICK: Duration = Duration::from_millis(10);
/// The relayers' own look is as quick.
const POLL: Duration = Duration::from_millis(5);
/// Only ends a test that hangs.
const HANG: Duration = Duration::from_secs(120);
/// Heights for which an observation waits for its head, as nodes hold it.
const HELD: u64 = 64;
/// The account that users send settlements with, and the first that relayers pay with.
const USER: u8 = 0;
const RELAYER: u8 = 2;

fn validators() -> Vec<AccountKey> {
    let mut keys: Vec<_> = (0..4).map(|seed| AccountKey::ed25519([0x51 + seed; 32])).collect();
    keys.sort_by_key(AccountKey::account);
    keys
}

fn public(key: &AccountKey) -> Hash32 {
    match key.account() {
        Account::Ed25519(public) => public,
        Account::Secp256k1(_) => panic!("validators have ed25519 keys"),
    }
}

fn genesis() -> Genesis {
    let mut genesis = fixture::genesis("lockstep-relay-1", 6, 1 << 50, &ROLLUPS);
    genesis.validators = validators().iter().map(public).collect();
    let at = addresses();
    for rollup in &mut genesis.rollups {
        rollup.settlement = Some(Participant {
            hub: Address20(at.hub.into_array()),
            escrows: vec![Address20(at.escrow.into_array())],
            settled_level: Level::Executed,
        });
    }
    let [a, b] = ROLLUPS.map(RollupId);
    let corridor = |from, to| Corridor { from, to, asset: asset(), cap: PLENTY };
    genesis.settlement = Some(SettlementConfig {
        apply_window: 8_192,
        assets: vec![Asset { asset: asset(), account_cap: PLENTY }],
        corridors: vec![corridor(a, b), corridor(b, a)],
    });
    genesis
}

/// The log and the rollups.
pub(crate) struct City {
    core: Mutex<Core>,
    /// Bundles of relayers that the network will lose.
    pub(crate) lose: AtomicU64,
}

struct Core {
    network: Network,
    venues: BTreeMap<u64, Venue>,
    observations: Vec<(Height, Observation)>,
    voids: Vec<Void>,
    bundles: Vec<SignedBundle>,
    ordered: BTreeSet<BundleId>,
    nonces: BTreeMap<u8, u64>,
    intents: BTreeMap<SettlementId, (Intent, Height)>,
    lanes: BTreeMap<RollupId, Lane>,
}

#[derive(Default)]
struct Lane {
    decisions: Vec<LaneDecision>,
    /// Where blocks with decisions end: how many there are then, and the proof.
    ends: Vec<(usize, LaneItem)>,
}

/// What a settlement came to.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) record: SettlementRecord,
    pub(crate) ordered: Height,
    /// The height at which every leg had been seen applied.
    pub(crate) settled: Height,
}

impl City {
    /// A city whose relayers have ether; nothing moves before [`Self::live`].
    pub(crate) async fn new() -> Arc<Self> {
        let network = Network::from_genesis(genesis());
        let key = network.genesis.group_key;
        let mut venues = BTreeMap::new();
        for id in ROLLUPS {
            venues.insert(id, Venue::new(id, network.rules.network, &key, &ROLLUPS, MARGIN, MARGIN * 10).await);
        }
        let core = Core {
            network,
            venues,
            observations: Vec::new(),
            voids: Vec::new(),
            bundles: Vec::new(),
            ordered: BTreeSet::new(),
            nonces: BTreeMap::new(),
            intents: BTreeMap::new(),
            lanes: BTreeMap::new(),
        };
        let city = Arc::new(Self { core: Mutex::new(core), lose: AtomicU64::new(0) });
        // Accounts are funded, and every rollup's head is seen.
        for _ in 0..3 {
            city.tick().await;
        }
        city
    }

    /// Makes blocks until the task is aborted.
    pub(crate) fn live(self: &Arc<Self>) -> Living {
        let city = Arc::clone(self);
        Living(tokio::spawn(async move {
            loop {
                city.tick().await;
                tokio::time::sleep(TICK).await;
            }
        }))
    }

    pub(crate) async fn tick(&self) {
        self.core.lock().await.tick().await;
    }

    /// Sends a transfer of a trader's margin, with both prepares; its deadline in heights from now.
    pub(crate) async fn transfer(&self, who: usize, from: u64, to: u64, amount: u128, heights: u64) -> SettlementId {
        let mut core = self.core.lock().await;
        let legs = vec![leg(from, who, Side::Debit, amount), leg(to, who, Side::Credit, amount)];
        let transfer = MarginTransfer { legs, deadline: Height(core.network.next().0 + heights) };
        let nonce = core.nonce(USER);
        let intent = Intent { account: fixture::key(USER).account(), nonce, transfer: transfer.clone() };
        let prepare = |(index, rollup)| {
            let venue = &core.venues[&rollup];
            let raw = venue.sign(trader_key(who), venue.at.escrow, contracts::prepare(&intent, index));
            Leg { rollup: RollupId(rollup), transactions: vec![Transaction(raw.to_vec())] }
        };
        let mut legs: Vec<_> = [(0, from), (1, to)].map(prepare).into();
        legs.sort_by_key(|leg| leg.rollup);
        let bundle = Bundle { legs, kind: Kind::Settlement(transfer), ..core.network.bundle(USER, nonce, &[]) };
        let sid = bundle.settlement().expect("it is one");
        let height = core.network.next();
        core.intents.insert(sid, (intent, height));
        core.bundles.push(bundle.sign(&fixture::key(USER)));
        sid
    }

    pub(crate) async fn record(&self, sid: SettlementId) -> Option<SettlementRecord> {
        self.core.lock().await.network.record(&settlement_key(&sid))
    }

    /// Executes the debit's prepare of a transfer whose bundle is never sent.
    pub(crate) async fn leak(&self, who: usize, from: u64, to: u64, amount: u128, heights: u64) -> SettlementId {
        let mut core = self.core.lock().await;
        let legs = vec![leg(from, who, Side::Debit, amount), leg(to, who, Side::Credit, amount)];
        let transfer = MarginTransfer { legs, deadline: Height(core.network.next().0 + heights) };
        let intent = Intent { account: fixture::key(USER).account(), nonce: 900, transfer };
        let sid = intent.sid(core.network.rules.network);
        let venue = core.venues.get_mut(&from).expect("it is one of the two");
        let raw = venue.sign(trader_key(who), venue.at.escrow, contracts::prepare(&intent, 0));
        assert!(venue.block(vec![raw]).await[0].succeeded);
        sid
    }

    /// Waits until every leg was seen applied.
    pub(crate) async fn settled(&self, sid: SettlementId) -> End {
        let mut end = None;
        until("every leg is seen applied", async || {
            let core = self.core.lock().await;
            let record: Option<SettlementRecord> = core.network.record(&settlement_key(&sid));
            end = record.filter(|record| record.settled).map(|record| {
                let (ordered, settled) = (core.intents[&sid].1, core.network.parent.height);
                End { record, ordered, settled }
            });
            end.is_some()
        })
        .await;
        end.expect("it was waited for")
    }

    /// Does something with a rollup between two blocks.
    pub(crate) async fn with_venue<T>(&self, rollup: u64, act: impl AsyncFnOnce(&mut Venue) -> T) -> T {
        let mut core = self.core.lock().await;
        act(core.venues.get_mut(&rollup).expect("it is one of the two")).await
    }

    /// What the log has credited to an account.
    pub(crate) async fn balance(&self, account: Account) -> u64 {
        self.core.lock().await.network.account(account).map_or(0, |record| record.balance)
    }

    /// Starts a relayer of `rollup`, number `number`, whose log is `log`.
    pub(crate) async fn relay_through(
        self: &Arc<Self>,
        log: Arc<dyn Log>,
        rollup: u64,
        number: usize,
        config: Option<ApplyConfig>,
    ) -> Relaying {
        let (rpc, hub) = self.with_venue(rollup, async |venue| (venue.rpc(), venue.at.hub)).await;
        let chain = Arc::new(Chain::new(rpc, Address20(hub.into_array())));
        let service = Service::new(RelayStatus { rollup, ..RelayStatus::default() });
        let links = Links { log, chain, service: Arc::clone(&service) };
        let signer = Signer::from_secret(relayer_key(number)).expect("a key");
        let apply = config.map(|config| (config, signer));
        let strays = Strays {
            network: self.core.lock().await.network.rules.network,
            escrows: vec![Address20(addresses().escrow.into_array())],
            accounts: vec![fixture::key(USER).account()],
        };
        let observe = ObserverConfig { fee_accounts: vec![payer()], strays: Some(strays) };
        let relay = Relay::new(links, RollupId(rollup), Level::Executed, observe, apply, POLL);
        let (stop, stopped) = watch::channel(false);
        Relaying { service, stop, task: tokio::spawn(relay.run(stopped)) }
    }

    pub(crate) async fn relay(self: &Arc<Self>, rollup: u64, number: usize) -> Relaying {
        let log = Arc::new(Wire { city: Arc::clone(self), rollup: RollupId(rollup), payer: RELAYER + number as u8 });
        self.relay_through(log, rollup, number, Some(ApplyConfig::default())).await
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begin = tokio::time::Instant::now();
    while !is_so().await {
        assert!(begin.elapsed() < HANG, "not within {HANG:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whose payments at the hub are observed.
pub(crate) fn payer() -> Account {
    AccountKey::ed25519([0xfe; 32]).account()
}

fn relayer_key(number: usize) -> [u8; 32] {
    lockstep_evm::accounts::DEV_KEYS[5 + number].0
}

/// Blocks are made while this lives.
pub(crate) struct Living(JoinHandle<()>);

impl Drop for Living {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A relayer that runs.
pub(crate) struct Relaying {
    pub(crate) service: Arc<Service<RelayStatus>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Relaying {
    /// Ends it wherever it is, as `kill -9` would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Ends it as SIGTERM would.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("it ends by itself");
    }
}

impl Core {
    fn nonce(&mut self, account: u8) -> u64 {
        let nonce = self.nonces.entry(account).or_default();
        *nonce += 1;
        *nonce - 1
    }

    async fn tick(&mut self) {
        let heads = self.venues.values().filter_map(|venue| self.head(venue)).collect();
        let observations = self.observations.iter().map(|(_, observation)| observation.clone()).collect();
        let bundles = std::mem::take(&mut self.bundles);
        let voids = std::mem::take(&mut self.voids);
        let block =
            self.network.advance_with(Facts { heads, observations, voids, ..Facts::default() }, vec![], bundles);
        let height = block.header.height;
        self.ordered.extend(block.body.bundles.iter().map(|signed| signed.bundle.id()));
        // What is about a head to come is held; the rest has had its chance.
        let latest: BTreeMap<_, _> = ROLLUPS.map(|id| (RollupId(id), self.rollup(RollupId(id)).latest)).into();
        self.observations.retain(|(since, observation)| {
            let known = latest[&observation.rollup][observation.level as usize];
            known.is_none_or(|number| number < observation.number) && since.0 + HELD > height.0
        });
        for (rollup, decisions) in &block.outcome.decisions {
            let lane = self.lanes.entry(*rollup).or_default();
            lane.decisions.extend(decisions.iter().cloned());
            let item = LaneItem { entries: vec![], transactions: vec![], ..self.network.item(&block, rollup.0) };
            lane.ends.push((lane.decisions.len(), item));
        }
        for (id, venue) in &mut self.venues {
            let legs = block.body.bundles.iter().flat_map(|signed| &signed.bundle.legs);
            let legs = legs.filter(|leg| leg.rollup.0 == *id);
            let transactions = legs.flat_map(|leg| &leg.transactions).map(|raw| Bytes::from(raw.0.clone()));
            venue.block(transactions.collect()).await;
        }
    }

    fn rollup(&self, rollup: RollupId) -> RollupRecord {
        self.network.record(&rollup_key(rollup)).unwrap_or_default()
    }

    /// What three honest validators say of a rollup now, if they may say anything.
    fn head(&self, venue: &Venue) -> Option<HeadCertificate> {
        let record = self.rollup(venue.id);
        let tip = venue.node.head();
        let mut ours = BTreeMap::new();
        let mut block = Arc::clone(&tip);
        // As far back as the log remembers.
        for _ in 0..lockstep_protocol::limits::HEAD_RING {
            ours.insert(block.header.number, Arc::clone(&block));
            let Some(parent) = venue.node.block(&block.header.parent_hash) else { break };
            block = parent;
        }
        let kept = |number| {
            let kept: Option<HeadRecord> = self.network.record(&head_key(venue.id, Level::Executed, number));
            kept.filter(|kept| kept.head.number == number && kept.head.incarnation == record.incarnation)
        };
        let left = ours
            .iter()
            .find(|(number, block)| kept(**number).is_some_and(|kept| kept.head.block_hash.0 != block.hash.0));
        let (block, incarnation) = match left {
            Some((_, block)) => (block, record.incarnation + 1),
            None if record.latest[0].is_some_and(|latest| latest >= tip.header.number) => return None,
            None => (&tip, record.incarnation),
        };
        let head = Head {
            rollup: venue.id,
            level: Level::Executed,
            number: block.header.number,
            block_hash: Hash32(block.hash.0),
            state_root: Hash32(block.header.state_root.0),
            incarnation,
        };
        let signatures = (0..3).zip(validators()).map(|(validator, key)| {
            let digest = head.digest(self.network.rules.network, &public(&key));
            match key.sign(&digest.0) {
                Signature::Ed25519(bytes) => HeadSignature { validator, signature: Ed25519Bytes(bytes) },
                Signature::Secp256k1(_) => panic!("validators have ed25519 keys"),
            }
        });
        Some(HeadCertificate { head, signatures: signatures.collect() })
    }

    fn status(&self, rollup: RollupId) -> RollupStatus {
        let decisions = self.lanes.get(&rollup).map_or(0, |lane| lane.decisions.len());
        let tip = self.network.parent.height;
        let decision_sequence = decisions as u64;
        RollupStatus { rollup, record: self.rollup(rollup), healthy: true, decision_sequence, tip }
    }

    fn unsettled(&self, rollup: RollupId) -> Vec<SettlementStatus> {
        let tip = self.network.parent.height;
        let all = self.intents.iter().filter_map(|(sid, (intent, _))| {
            let record: SettlementRecord = self.network.record(&settlement_key(sid))?;
            let here = intent.transfer.legs.iter().any(|leg| leg.rollup == rollup);
            let status =
                SettlementStatus { settlement: *sid, intent: intent.clone(), ordered: None, record, changed: tip, tip };
            (here && !status.record.settled).then_some(status)
        });
        all.collect()
    }

    fn decisions(&self, rollup: RollupId, from: u64, most: u64) -> DecisionPage {
        let skip = usize::try_from(from - 1).expect("a small number");
        let none = DecisionRange { rollup, sequence: 0, chain: Hash32::default(), decisions: vec![] };
        let Some(lane) = self.lanes.get(&rollup).filter(|lane| lane.decisions.len() > skip) else {
            return DecisionPage { range: none, intents: vec![], item: None };
        };
        let ends = lane.ends.iter().filter(|(count, _)| *count > skip);
        let fits = ends.clone().rfind(|(count, _)| (count - skip) as u64 <= most);
        let (end, item) = fits.or_else(|| ends.clone().next()).expect("decisions end somewhere");
        let chain = lane.decisions[..skip]
            .iter()
            .fold(Hash32::default(), |chain, decided| decision::chain(chain, decided.settlement, decided.outcome));
        let decisions = lane.decisions[skip..*end].to_vec();
        let intents = decisions.iter().map(|decided| self.intents[&decided.settlement].0.clone()).collect();
        DecisionPage {
            range: DecisionRange { sequence: from - 1, chain, decisions, ..none },
            intents,
            item: Some(item.clone()),
        }
    }
}
