//! A whole chain, made ahead of the test: blocks, certificates, lanes, reports, and a proof for every record at every height.

use std::{collections::BTreeMap, sync::Arc};

use blst::min_sig::SecretKey;
use commonware_codec::Encode as _;
use commonware_cryptography::Blake3;
use commonware_parallel::Sequential;
use commonware_runtime::{
    Runner as _,
    buffer::paged::{CacheRef, page_size},
    deterministic,
};
use commonware_storage::{
    journal::contiguous::fixed::Config as LogConfig,
    merkle::full::Config as MerkleConfig,
    mmr,
    qmdb::{
        current::{FixedConfig, ordered::fixed},
        floor::Proportional,
    },
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize, sequence::FixedBytes};
use lockstep_sdk::{
    protocol::{
        body::{CheckedBody, CheckedBundle, Facts},
        bundle::{SignedBundle, SignedCancel, Transaction},
        certificate::{Certificate, CertificateSignature, Finality},
        evidence::Reports,
        genesis::{Balance, Format, Genesis, GroupKeyBytes, Rollup, Rules},
        header::Header,
        ids::{Account, Hash32, Height, RollupId, SettlementId},
        lane::{LaneEntry, LaneItem, LaneLeaf},
        report::{self, Report},
        rpc::{
            CorridorStatus, DecisionPage, HexBytes, LanePage, OrderedBy, RollupStatus, SettlementStatus, StateProof,
            StateQuery, UnsettledPage,
        },
        settlement::{
            DecisionRange, Intent, LaneDecision, decision,
            records::{
                ExposurePage, RollupRecord, SettlementRecord, exposure_key, in_flight_key, rollup_key, settlement_key,
            },
        },
        signature::AccountKey,
        state::{Key, Record, Records, Stored, account_key, lane_key, treasury_key},
        transition::{Position, apply, genesis_lanes},
        tree::Tree,
    },
    trust::Trust,
};

pub(crate) const ROLLUPS: [RollupId; 2] = [RollupId(901), RollupId(902)];
/// Items of one page that a node serves.
pub(crate) const PAGE: usize = 4;
const DST: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

type Database<E> = fixed::Db<mmr::Family, E, FixedBytes<32>, FixedBytes<256>, Blake3, EightCap, 32, Sequential>;

/// What one block orders.
pub(crate) type Content = (Vec<SignedCancel>, Vec<SignedBundle>);

/// What one block is told and orders.
pub(crate) type Told = (Facts, Vec<SignedCancel>, Vec<SignedBundle>);

pub(crate) struct World {
    pub(crate) genesis: Genesis,
    pub(crate) blocks: Vec<Block>,
    reports: BTreeMap<Account, Vec<Report>>,
    settlements: BTreeMap<SettlementId, (Intent, OrderedBy)>,
}

pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) finality: Finality,
    leaves: Vec<LaneLeaf>,
    entries: BTreeMap<RollupId, Vec<LaneEntry>>,
    transactions: BTreeMap<RollupId, Vec<Vec<Transaction>>>,
    decisions: BTreeMap<RollupId, Vec<LaneDecision>>,
    proofs: BTreeMap<Key, (Option<Record>, Vec<u8>)>,
}

pub(crate) fn alice() -> AccountKey {
    AccountKey::ed25519([1; 32])
}

pub(crate) fn bob() -> AccountKey {
    AccountKey::secp256k1([2; 32]).expect("a scalar")
}

/// Never funded.
pub(crate) fn stranger() -> AccountKey {
    AccountKey::ed25519([3; 32])
}

pub(crate) fn group(seed: u8) -> SecretKey {
    SecretKey::key_gen(&[seed; 32], &[]).expect("32 bytes are enough")
}

pub(crate) fn genesis(network: &str, group: &SecretKey) -> Genesis {
    let rollup = |id: RollupId| Rollup::new(id, format!("rollup-{id}"), Format::Eip2718, 1);
    let mut balances = [alice(), bob()].map(|key| Balance { account: key.account(), credits: 1_000_000 }).to_vec();
    balances.sort_by_key(|balance| balance.account);
    Genesis {
        network: network.into(),
        timestamp_ms: 1_000,
        group_key: GroupKeyBytes(group.sk_to_pk().compress()),
        sharing: vec![1],
        validators: vec![Hash32([9; 32])],
        rollups: ROLLUPS.map(rollup).to_vec(),
        balances,
        settlement: None,
    }
}

pub(crate) fn certify(group: &SecretKey, header: &Header) -> Certificate {
    let mut certificate = Certificate {
        epoch: header.epoch,
        view: header.view,
        parent_view: header.parent_view,
        signature: CertificateSignature([0; 48]),
    };
    let message = certificate.message(header.network, &header.digest());
    certificate.signature = CertificateSignature(group.sign(&message, DST, &[]).compress());
    certificate
}

impl World {
    /// A chain of network `test` under the group key 7, whose blocks order `contents`, from height 1.
    pub(crate) fn new(contents: Vec<Content>) -> Arc<Self> {
        Self::of("test", 7, contents)
    }

    pub(crate) fn of(network: &str, group_seed: u8, contents: Vec<Content>) -> Arc<Self> {
        let told = contents.into_iter().map(|(cancels, bundles)| (Facts::default(), cancels, bundles));
        Self::grown(genesis(network, &group(group_seed)), group_seed, told.collect())
    }

    /// A chain from `genesis`, under its group key.
    pub(crate) fn grown(genesis: Genesis, group_seed: u8, contents: Vec<Told>) -> Arc<Self> {
        // Its own thread: the database's runtime drives itself.
        let build =
            move || deterministic::Runner::default().start(|context| build(context, genesis, group_seed, contents));
        Arc::new(std::thread::spawn(build).join().expect("the chain is built"))
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::from_genesis(&self.genesis).expect("a good key")
    }

    pub(crate) fn block(&self, height: Height) -> &Block {
        &self.blocks[usize::try_from(height.0 - 1).expect("small")]
    }

    pub(crate) fn item(&self, rollup: RollupId, height: Height) -> LaneItem {
        let block = self.block(height);
        let leaf = *block.leaves.iter().find(|leaf| leaf.rollup == rollup).expect("a known rollup");
        let tree = Tree::new(block.leaves.iter().map(LaneLeaf::hash).collect()).expect("leaves");
        LaneItem {
            header: block.header.clone(),
            finality: block.finality.clone(),
            leaf,
            path: tree.path(leaf.hash()).expect("its leaf"),
            entries: block.entries.get(&rollup).cloned().unwrap_or_default(),
            transactions: block.transactions.get(&rollup).cloned().unwrap_or_default(),
        }
    }

    pub(crate) fn page(&self, rollup: RollupId, from: Height, tip: Height) -> LanePage {
        let mut items: Vec<_> = (from.0.max(1)..=tip.0)
            .map(|height| self.item(rollup, Height(height)))
            .filter(|item| {
                let decides = self.block(item.header.height).decisions.contains_key(&rollup);
                decides || !item.entries.is_empty()
            })
            .collect();
        if items.len() > PAGE {
            items.truncate(PAGE);
            let next_height = items[PAGE - 1].header.height.next();
            return LanePage { items, tip: None, next_height };
        }
        let mut proof = self.item(rollup, tip);
        proof.entries.clear();
        proof.transactions.clear();
        LanePage { items, tip: Some(proof), next_height: tip.next() }
    }

    pub(crate) fn state(&self, query: StateQuery, tip: Height) -> StateProof {
        let key = query.key();
        let block = self.block(tip);
        let (record, proof) = block.proofs.get(&key).expect("a key that was proven");
        StateProof {
            header: block.header.clone(),
            finality: block.finality.clone(),
            key: Hash32(key),
            record: record.map(|record| HexBytes(record.to_vec())),
            proof: HexBytes(proof.clone()),
        }
    }

    fn record<T: Stored>(&self, key: Key, height: Height) -> Option<T> {
        let (record, _) = self.block(height).proofs.get(&key)?;
        record.map(|record| T::from_record(&record).expect("a good record"))
    }

    pub(crate) fn settlement(&self, settlement: SettlementId, tip: Height) -> Option<SettlementStatus> {
        let (intent, ordered) = self.settlements.get(&settlement).filter(|(_, ordered)| ordered.height <= tip)?;
        let at = |height: u64| self.record::<SettlementRecord>(settlement_key(&settlement), Height(height));
        let changed = (1..=tip.0).rev().find(|height| *height == 1 || at(*height) != at(height - 1)).map(Height)?;
        let record = at(tip.0)?;
        Some(SettlementStatus { settlement, intent: intent.clone(), ordered: Some(*ordered), record, changed, tip })
    }

    pub(crate) fn unsettled(&self, rollup: RollupId, tip: Height) -> UnsettledPage {
        let all = self.settlements.keys().filter_map(|settlement| self.settlement(*settlement, tip));
        let touches = |status: &SettlementStatus| status.intent.transfer.legs.iter().any(|leg| leg.rollup == rollup);
        let open = all.filter(|status| !status.record.settled && touches(status));
        UnsettledPage { settlements: open.collect(), next: None, tip }
    }

    pub(crate) fn decisions(&self, rollup: RollupId, from: u64, max: usize, tip: Height) -> DecisionPage {
        let (mut sequence, mut chain) = (0, Hash32::default());
        let mut range: Option<DecisionRange> = None;
        let mut last = None;
        for height in (1..=tip.0).map(Height) {
            for decision in self.block(height).decisions.get(&rollup).into_iter().flatten() {
                if sequence + 1 >= from {
                    let start = DecisionRange { rollup, sequence, chain, decisions: Vec::new() };
                    range.get_or_insert(start).decisions.push(decision.clone());
                    last = Some(height);
                }
                sequence += 1;
                chain = decision::chain(chain, decision.settlement, decision.outcome);
            }
            if range.as_ref().is_some_and(|range| range.decisions.len() >= max) {
                break;
            }
        }
        let range = range.unwrap_or(DecisionRange { rollup, sequence, chain, decisions: Vec::new() });
        let intents = range.decisions.iter().map(|decision| self.settlements[&decision.settlement].0.clone()).collect();
        let item = last.map(|height| {
            let item = self.item(rollup, height);
            LaneItem { entries: Vec::new(), transactions: Vec::new(), ..item }
        });
        DecisionPage { range, intents, item }
    }

    pub(crate) fn rollup_status(&self, rollup: RollupId, tip: Height) -> RollupStatus {
        let record: RollupRecord = self.record(rollup_key(rollup), tip).unwrap_or_default();
        let healthy = record.check_health(rollup, tip.next()).is_ok();
        let decision_sequence = self.item(rollup, tip).leaf.decision_sequence;
        RollupStatus { rollup, record, healthy, decision_sequence, tip }
    }

    pub(crate) fn corridors(&self, tip: Height) -> Vec<CorridorStatus> {
        let exposure: ExposurePage = self.record(exposure_key(0), tip).unwrap_or_default();
        let corridors = self.genesis.settlement.iter().flat_map(|config| &config.corridors);
        let told = corridors.zip(exposure.under_way).map(|(corridor, under_way)| CorridorStatus {
            from: corridor.from,
            to: corridor.to,
            asset: corridor.asset,
            cap: corridor.cap,
            under_way,
        });
        told.collect()
    }

    pub(crate) fn reports(&self, account: Account, first: u64, count: u64, tip: Height) -> Reports {
        let all = self.reports.get(&account).map(Vec::as_slice).unwrap_or_default();
        let known: Vec<_> = all.iter().filter(|report| report.height <= tip).cloned().collect();
        let start = lockstep_sdk::protocol::account::AccountRecord::new(self.genesis.network_id(), account).reports;
        let before = known.iter().filter(|report| report.sequence < first).fold(start, report::chain);
        let asked = known.into_iter().filter(|report| report.sequence >= first);
        Reports { before, reports: asked.take(usize::try_from(count).expect("small")).collect() }
    }
}

async fn build(context: deterministic::Context, genesis: Genesis, group_seed: u8, contents: Vec<Told>) -> World {
    let group = group(group_seed);
    let rules = genesis.rules().expect("a good genesis");
    let mut state = Records::new();
    let mut database: Database<_> = fixed::Db::init(context, database_config(), None).await.expect("a fresh database");
    let mut parent = Header {
        network: rules.network,
        timestamp_ms: genesis.timestamp_ms,
        lanes: genesis_lanes(&rules),
        sync_end: 1,
        ..Header::default()
    };
    let mut blocks = Vec::new();
    let mut reports: BTreeMap<Account, Vec<Report>> = BTreeMap::new();
    let settlements = settlements(&contents);
    let mut keys = known_keys();
    keys.extend(settlements.keys().map(settlement_key));
    for (facts, cancels, bundles) in contents {
        let position = Position { parent: parent.clone(), timestamp_ms: parent.timestamp_ms + 1_000, l1: parent.l1 };
        let height = position.height();
        let checked = bundles.into_iter().map(|bundle| CheckedBundle::new(bundle, &rules).expect("a good bundle"));
        let body = CheckedBody::arrange(cancels, checked.collect()).with_facts(facts, &rules);
        let mut records = Records::new();
        for key in body.keys(&rules, height) {
            records.insert(key, state.get(&key).copied().flatten());
        }
        for key in body.more_keys(&rules, height, &records) {
            records.insert(key, state.get(&key).copied().flatten());
        }
        let outcome = apply(&rules, &position, &body, &records).expect("a block that may be ordered");
        let mut batch = database.new_batch();
        for (key, record) in &outcome.writes {
            batch = batch.write(FixedBytes::new(*key), Some(FixedBytes::new(*record)));
            state.insert(*key, Some(*record));
        }
        let sealed = batch.merkleize(&database, None, &mut Proportional).await.expect("sealed");
        database = database.apply_batch(sealed).await.expect("applied").commit().await.expect("committed");
        for (account, report) in outcome.reports {
            reports.entry(account).or_default().push(report);
        }
        let header = Header {
            network: rules.network,
            view: height.0,
            parent_view: parent.view,
            height,
            parent: parent.digest(),
            timestamp_ms: position.timestamp_ms,
            lanes: outcome.lanes,
            state: Hash32(database.root().0),
            sync_end: 1,
            ..Header::default()
        };
        let mut proofs = BTreeMap::new();
        for key in &keys {
            proofs.insert(*key, prove(&database, *key, state.get(key).copied().flatten()).await);
        }
        blocks.push(Block {
            finality: Finality { descendants: Vec::new(), certificate: certify(&group, &header) },
            leaves: outcome.leaves,
            transactions: transactions(&body, &rules),
            entries: outcome.entries,
            decisions: outcome.decisions,
            proofs,
            header: header.clone(),
        });
        parent = header;
    }
    // A view may end without a certificate of its own: every third block but the last is final by the one after it.
    for index in (0..blocks.len().saturating_sub(1)).filter(|index| index % 3 == 2) {
        let child = blocks[index + 1].header.clone();
        let certificate = certify(&group, &child);
        blocks[index].finality = Finality { descendants: vec![child], certificate };
    }
    World { genesis, blocks, reports, settlements }
}

/// What is ordered at which height.
fn settlements(contents: &[Told]) -> BTreeMap<SettlementId, (Intent, OrderedBy)> {
    let bundles =
        (1..).zip(contents).flat_map(|(height, (_, _, bundles))| bundles.iter().map(move |one| (height, one)));
    let found = bundles.filter_map(|(height, SignedBundle { bundle, .. })| {
        let intent = Intent { account: bundle.account, nonce: bundle.nonce, transfer: bundle.transfer()?.clone() };
        Some((bundle.settlement()?, (intent, OrderedBy { bundle: bundle.id(), height: Height(height) })))
    });
    found.collect()
}

fn known_keys() -> Vec<Key> {
    let accounts = [alice(), bob(), stranger()].map(|key| account_key(&key.account()));
    let lanes = ROLLUPS.map(lane_key);
    let rollups = ROLLUPS.map(rollup_key);
    // One that nobody ever submits, too.
    let unknown = settlement_key(&SettlementId([5; 32]));
    let settling = [in_flight_key(&alice().account()), exposure_key(0), treasury_key(), unknown];
    accounts.into_iter().chain(lanes).chain(rollups).chain(settling).collect()
}

fn transactions(body: &CheckedBody, rules: &Rules) -> BTreeMap<RollupId, Vec<Vec<Transaction>>> {
    let of = |rollup: &RollupId| {
        let legs = body.bundles().iter().flat_map(|bundle| &bundle.signed().bundle.legs);
        legs.filter(|leg| leg.rollup == *rollup).map(|leg| leg.transactions.clone()).collect()
    };
    rules.rollups.keys().map(|rollup| (*rollup, of(rollup))).collect()
}

async fn prove<E: commonware_storage::Context + commonware_runtime::Spawner>(
    database: &Database<E>,
    key: Key,
    record: Option<Record>,
) -> (Option<Record>, Vec<u8>) {
    let name = FixedBytes::new(key);
    let (tag, proof) = match record {
        Some(_) => (1, database.key_value_proof(name).await.expect("a proof").encode()),
        None => (0, database.exclusion_proof(&name).await.expect("a proof").encode()),
    };
    (record, [&[tag], proof.as_ref()].concat())
}

fn database_config() -> FixedConfig<EightCap, Sequential> {
    let pages = CacheRef::new(page_size(1024), NZUsize!(64));
    FixedConfig {
        merkle_config: MerkleConfig {
            journal_partition: "nodes".into(),
            metadata_partition: "pins".into(),
            items_per_blob: NZU64!(1024),
            write_buffer: NZUsize!(4096),
            replay_buffer: NZUsize!(4096),
            strategy: Sequential,
            page_cache: pages.clone(),
        },
        journal_config: LogConfig {
            partition: "operations".into(),
            items_per_blob: NZU64!(1024),
            page_cache: pages,
            write_buffer: NZUsize!(4096),
            replay_buffer: NZUsize!(4096),
        },
        grafted_metadata_partition: "bitmap".into(),
        translator: EightCap,
        init_cache: Some(NZUsize!(1024)),
        init_buffer: NZUsize!(4096),
        init_concurrency: (),
    }
}
