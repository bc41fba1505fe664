//! A network in memory: genesis, keys, records, and one BLS key that signs as the whole group would.
//!
//! No consensus: every block that is built here is final at once.

#![allow(dead_code, reason = "tests, vectors and benches each use a part of it")]

use blst::min_sig::SecretKey;
use std::collections::{BTreeMap, BTreeSet};

use lockstep_protocol::{
    account::AccountRecord,
    body::{Body, CheckedBody, CheckedBundle, Facts},
    bundle::{Bundle, Cancel, Kind, Leg, NonceRange, SignedBundle, SignedCancel, Tag, Transaction},
    certificate::{Certificate, CertificateSignature, Finality, Verifier},
    evidence::Reports,
    genesis::{Balance, Format, Genesis, GroupKeyBytes, Rollup, Rules},
    header::{Header, L1Origin},
    ids::{Account, BundleId, Hash32, Height, RollupId},
    lane::{LaneItem, LaneLeaf},
    refusal::Refusal,
    report::Report,
    signature::AccountKey,
    state::{Key, Record, Records, Stored, TreasuryRecord, account_key, lane_key, treasury_key},
    transition::{Built, Outcome, Position, apply, build, genesis_lanes},
    tree::Tree,
    wire::Wire,
};

pub(crate) const DST: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
pub(crate) const ROLLUPS: [u64; 3] = [10, 901, 42_161];

/// Account keys by number: even ones are ed25519, odd ones secp256k1.
pub(crate) fn key(index: u8) -> AccountKey {
    let mut seed = [0x11; 32];
    seed[31] = index;
    if index.is_multiple_of(2) {
        AccountKey::ed25519(seed)
    } else {
        AccountKey::secp256k1(seed).expect("a small scalar is a key")
    }
}

pub(crate) fn group_key(seed: u8) -> SecretKey {
    SecretKey::key_gen(&[seed; 32], &[]).expect("32 bytes are enough")
}

pub(crate) fn genesis(name: &str, accounts: u8, credits: u64, rollups: &[u64]) -> Genesis {
    let mut balances: Vec<_> = (0..accounts).map(|index| Balance { account: key(index).account(), credits }).collect();
    balances.sort_by_key(|balance| balance.account);
    Genesis {
        network: name.to_owned(),
        timestamp_ms: 1_700_000_000_000,
        group_key: GroupKeyBytes(group_key(7).sk_to_pk().to_bytes()),
        sharing: vec![1, 2, 3],
        validators: vec![Hash32([1; 32]), Hash32([2; 32]), Hash32([3; 32]), Hash32([4; 32])],
        rollups: rollups
            .iter()
            .map(|id| Rollup::new(RollupId(*id), format!("rollup {id}"), Format::Eip2718, 1))
            .collect(),
        balances,
        settlement: None,
    }
}

/// A block that was built and executed.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) body: Body,
    pub(crate) outcome: Outcome,
    pub(crate) left_out: Vec<(BundleId, Refusal)>,
}

pub(crate) struct Network {
    pub(crate) genesis: Genesis,
    pub(crate) rules: Rules,
    pub(crate) group: SecretKey,
    pub(crate) state: BTreeMap<Key, Record>,
    pub(crate) parent: Header,
    pub(crate) reports: BTreeMap<Account, Vec<Report>>,
}

impl Network {
    pub(crate) fn new(accounts: u8, credits: u64, rollups: &[u64]) -> Self {
        Self::from_genesis(genesis("lockstep-test-1", accounts, credits, rollups))
    }

    pub(crate) fn from_genesis(genesis: Genesis) -> Self {
        let rules = genesis.rules().expect("the genesis is good");
        let parent = Header {
            network: rules.network,
            timestamp_ms: genesis.timestamp_ms,
            body: genesis.hash(),
            lanes: genesis_lanes(&rules),
            sync_end: 1,
            ..Header::default()
        };
        Self { genesis, rules, group: group_key(7), state: BTreeMap::new(), parent, reports: BTreeMap::new() }
    }

    /// Height of the next block.
    pub(crate) fn next(&self) -> Height {
        self.parent.height.next()
    }

    pub(crate) fn position(&self) -> Position {
        let origin = &self.parent.l1;
        let l1 = L1Origin {
            number: origin.number + 1,
            hash: Hash32(origin.number.to_be_bytes().repeat(4).try_into().expect("32 bytes")),
            timestamp: origin.timestamp + 12,
        };
        Position { parent: self.parent.clone(), timestamp_ms: self.parent.timestamp_ms + 250, l1 }
    }

    pub(crate) fn stage(&self, keys: &BTreeSet<Key>) -> Records {
        keys.iter().map(|key| (*key, self.state.get(key).copied())).collect()
    }

    pub(crate) fn stage_for(&self, body: &CheckedBody) -> Records {
        let mut keys = body.keys(&self.rules, self.next());
        let first = self.stage(&keys);
        keys.extend(body.more_keys(&self.rules, self.next(), &first));
        self.stage(&keys)
    }

    /// The body of what was given, or why it is invalid; then what applying it gives.
    pub(crate) fn apply(&self, body: Body) -> Result<Outcome, lockstep_protocol::body::Invalid> {
        let checked = CheckedBody::new(body, &self.rules, |_, _| false)?;
        apply(&self.rules, &self.position(), &checked, &self.stage_for(&checked))
    }

    pub(crate) fn build(&self, cancels: Vec<SignedCancel>, bundles: Vec<SignedBundle>) -> Built {
        self.build_with(Facts::default(), cancels, bundles)
    }

    pub(crate) fn build_with(&self, facts: Facts, cancels: Vec<SignedCancel>, bundles: Vec<SignedBundle>) -> Built {
        let bundles = CheckedBundle::new_batch(bundles, &self.rules).into_iter().map(|b| b.expect("shape is good"));
        let candidates = CheckedBody::arrange(cancels, bundles.collect()).with_facts(facts, &self.rules);
        let records = self.stage_for(&candidates);
        build(&self.rules, &self.position(), candidates, &records)
    }

    /// Builds a block, has it verified from its bytes, and makes it the tip.
    pub(crate) fn advance(&mut self, cancels: Vec<SignedCancel>, bundles: Vec<SignedBundle>) -> Block {
        self.advance_with(Facts::default(), cancels, bundles)
    }

    pub(crate) fn advance_with(
        &mut self,
        facts: Facts,
        cancels: Vec<SignedCancel>,
        bundles: Vec<SignedBundle>,
    ) -> Block {
        let position = self.position();
        let Built { body, outcome, left_out } = self.build_with(facts, cancels, bundles);
        let bytes = body.to_body().to_wire();
        let body = Body::from_wire(&bytes).expect("what was built is within the limits");
        let applied = self.apply(body.clone()).expect("what was built is valid");
        assert_eq!(applied, outcome, "build and apply agree");
        self.state.extend(outcome.writes.iter().map(|(key, record)| (*key, *record)));
        for (account, report) in &outcome.reports {
            self.reports.entry(*account).or_default().push(report.clone());
        }
        let header = Header {
            network: self.rules.network,
            view: self.parent.view + 1,
            parent_view: self.parent.view,
            leader: Hash32([1; 32]),
            height: position.height(),
            parent: self.parent.digest(),
            timestamp_ms: position.timestamp_ms,
            l1: position.l1,
            body: Hash32(blake3::hash(&bytes).into()),
            lanes: outcome.lanes,
            sync_end: 1,
            ..Header::default()
        };
        self.parent = header.clone();
        Block { header, body, outcome, left_out }
    }

    pub(crate) fn record<T: Stored>(&self, key: &Key) -> Option<T> {
        self.state.get(key).map(|record| T::from_record(record).expect("records are readable"))
    }

    pub(crate) fn account(&self, account: Account) -> Option<AccountRecord> {
        self.record(&account_key(&account))
    }

    pub(crate) fn treasury(&self) -> u64 {
        self.record::<TreasuryRecord>(&treasury_key()).map_or(0, |treasury| treasury.credits)
    }

    pub(crate) fn base_fee(&self, rollup: u64) -> u64 {
        let record = self.record::<lockstep_protocol::state::LaneRecord>(&lane_key(RollupId(rollup)));
        record.expect("lanes have records after block 1").base_fee
    }

    /// Every report of an account.
    pub(crate) fn all_reports(&self, account: Account) -> Reports {
        Reports {
            before: AccountRecord::new(self.rules.network, account).reports,
            reports: self.reports.get(&account).cloned().unwrap_or_default(),
        }
    }

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::new(self.rules.network, &self.genesis.group_key).expect("the group has a key")
    }

    pub(crate) fn certify(&self, header: &Header) -> Certificate {
        certify(&self.group, header)
    }

    pub(crate) fn finality(&self, header: &Header) -> Finality {
        Finality { descendants: Vec::new(), certificate: self.certify(header) }
    }

    /// What `block` has for `rollup`, with its proof.
    pub(crate) fn item(&self, block: &Block, rollup: u64) -> LaneItem {
        lane_item(block, self.finality(&block.header), RollupId(rollup))
    }

    /// A bundle of one short transaction for each rollup, that anybody with credits can pay.
    pub(crate) fn bundle(&self, index: u8, nonce: u64, rollups: &[u64]) -> Bundle {
        Bundle {
            network: self.rules.network,
            account: key(index).account(),
            nonce,
            tag: Tag([0xab; 16]),
            valid_until: Height(self.next().0 + 100),
            tip: 0,
            max_fee: u64::MAX,
            legs: rollups.iter().map(|rollup| leg(*rollup, &[&nonce.to_be_bytes()])).collect(),
            kind: Kind::Plain,
        }
    }

    pub(crate) fn signed(&self, index: u8, nonce: u64, rollups: &[u64]) -> SignedBundle {
        self.bundle(index, nonce, rollups).sign(&key(index))
    }

    pub(crate) fn cancel(&self, index: u8, first: u64, last: u64) -> SignedCancel {
        let key = key(index);
        Cancel { network: self.rules.network, account: key.account(), nonces: NonceRange { first, last } }.sign(&key)
    }
}

pub(crate) fn leg(rollup: u64, transactions: &[&[u8]]) -> Leg {
    Leg {
        rollup: RollupId(rollup),
        transactions: transactions.iter().map(|bytes| Transaction(bytes.to_vec())).collect(),
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
    certificate.signature = CertificateSignature(group.sign(&message, DST, &[]).to_bytes());
    certificate
}

pub(crate) fn lane_item(block: &Block, finality: Finality, rollup: RollupId) -> LaneItem {
    let leaf = *block.outcome.leaves.iter().find(|leaf| leaf.rollup == rollup).expect("the rollup has a lane");
    let tree = Tree::new(block.outcome.leaves.iter().map(LaneLeaf::hash).collect()).expect("there are lanes");
    let legs = block.body.bundles.iter().flat_map(|signed| &signed.bundle.legs);
    LaneItem {
        header: block.header.clone(),
        finality,
        leaf,
        path: tree.path(leaf.hash()).expect("the leaf is in the tree"),
        entries: block.outcome.entries.get(&rollup).cloned().unwrap_or_default(),
        transactions: legs.filter(|leg| leg.rollup == rollup).map(|leg| leg.transactions.clone()).collect(),
    }
}
