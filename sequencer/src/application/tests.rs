use std::collections::BTreeMap;

use lockstep_consensus::machine::Record;
use lockstep_protocol::{
    account::AccountRecord,
    bundle::SignedBundle,
    ids::BundleId,
    limits::MAX_BODY_BYTES,
    signature::Signature,
    state::{Stored, account_key},
};
use proptest::prelude::*;

use super::*;
use crate::fixture::*;

/// A log of one node, in memory, without votes.
struct Chain {
    view: Arc<View>,
    pool: Arc<Pool>,
    application: Arc<Application>,
    blocks: mpsc::Receiver<Block>,
    records: BTreeMap<Key, Record>,
    tip: Header,
}

impl Chain {
    fn new() -> Self {
        let view = View::funded();
        let pool = pool(&view);
        let (sender, blocks) = mpsc::channel(FINALIZED_QUEUE);
        let application = Application::new(&genesis(), pool.clone(), sender).unwrap();
        let log = application.genesis();
        let tip = Header {
            network: log.network,
            timestamp_ms: log.timestamp_ms,
            body: log.config,
            lanes: log.lanes,
            sync_end: 1,
            ..Header::default()
        };
        Self { view, pool, application, blocks, records: BTreeMap::new(), tip }
    }

    /// A chain whose first block has funded the accounts.
    fn funded() -> Self {
        let mut chain = Self::new();
        let block = chain.propose();
        chain.adopt(&block);
        chain
    }

    fn position(&self) -> LogPosition {
        LogPosition {
            parent: self.tip.clone(),
            epoch: 0,
            view: self.tip.view + 1,
            leader: Hash32([1; 32]),
            height: self.tip.height.next(),
            timestamp_ms: self.tip.timestamp_ms + 1,
            l1: self.tip.l1,
        }
    }

    fn staged(&self, body: &Bytes) -> Result<Records, Invalid> {
        let keys = self.application.keys(&self.position(), body)?;
        Ok(keys.into_iter().map(|key| (key, self.records.get(&key).copied())).collect())
    }

    fn propose(&self) -> Block {
        let position = self.position();
        let candidate = self.application.candidate(&self.tip, MAX_BODY_BYTES).body;
        let records = self.staged(&candidate).unwrap();
        let (body, outcome) = self.application.build(&position, candidate, &records);
        self.block(body, outcome.lanes)
    }

    fn block(&self, body: Bytes, lanes: Hash32) -> Block {
        let position = self.position();
        let header = Header {
            view: position.view,
            parent_view: self.tip.view,
            leader: position.leader,
            height: position.height,
            parent: self.tip.digest(),
            timestamp_ms: position.timestamp_ms,
            body: hash_body(&body),
            lanes,
            ..self.tip.clone()
        };
        Block::new(header, body).unwrap()
    }

    fn apply(&self, body: &Bytes, standing: Standing) -> Result<Outcome, Invalid> {
        let records = self.staged(body)?;
        self.application.apply(&self.position(), body, &records, standing)
    }

    /// Makes a block the tip, without its being final.
    fn adopt(&mut self, block: &Block) {
        let outcome = self.apply(block.body(), Standing::Candidate).unwrap();
        assert_eq!(outcome.lanes, block.header().lanes);
        for (key, record) in outcome.writes {
            self.records.insert(key, record.expect("nothing is ever deleted"));
        }
        self.tip = block.header().clone();
    }

    fn record(&self, number: u8) -> AccountRecord {
        AccountRecord::from_record(&self.records[&account_key(&account(number))]).unwrap()
    }

    fn submit(&self, number: u8, nonce: u64) -> BundleId {
        self.pool.submit(signed(number, nonce, 5)).unwrap().bundle_id
    }
}

fn bundles(block: &Block) -> Vec<BundleId> {
    Body::from_wire(block.body()).unwrap().bundles.iter().map(|signed| signed.bundle.id()).collect()
}

fn body_of(bundles: Vec<SignedBundle>) -> Bytes {
    let mut body = Body { bundles, ..Body::default() };
    body.bundles.sort_by_key(|signed| signed.bundle.id());
    body.to_wire().into()
}

#[test]
fn what_a_leader_builds_every_other_node_reproduces() {
    let mut leader = Chain::funded();
    let mut other = Chain::funded();
    assert_eq!(leader.record(0).balance, CREDITS);
    let mut expected: Vec<_> = (0..4).map(|number| leader.submit(number, 0)).collect();
    leader.pool.cancel(cancel(5, 0, 3)).unwrap();
    expected.sort();
    let block = leader.propose();
    assert_eq!(bundles(&block), expected);
    leader.adopt(&block);
    other.adopt(&block);
    assert_eq!(leader.records, other.records);
    assert!(leader.record(0).balance < CREDITS);
    assert!(leader.record(5).nonces.check(3).is_err());
}

#[test]
fn a_leader_waits_for_work_and_not_for_what_its_ancestors_hold() {
    let mut chain = Chain::funded();
    assert!(!chain.application.waiting(&chain.tip));
    let mut offered = Vec::new();
    for nonce in 0..3 {
        offered.push(chain.submit(0, nonce));
        assert!(chain.application.waiting(&chain.tip));
        let block = chain.propose();
        assert_eq!(bundles(&block), [offered[nonce as usize]], "only what its unfinalized ancestors do not hold");
        chain.adopt(&block);
        assert!(!chain.application.waiting(&chain.tip));
    }
    // On another branch it is all open again.
    let funded = Chain::funded().tip;
    assert!(chain.application.waiting(&funded));
    let candidate = Body::from_wire(&chain.application.candidate(&funded, MAX_BODY_BYTES).body).unwrap();
    assert_eq!(candidate.bundles.len(), 3);
}

#[test]
fn what_the_pool_does_not_know_to_be_ordered_is_left_out() {
    let mut chain = Chain::funded();
    chain.submit(0, 0);
    let block = chain.propose();
    chain.adopt(&block);
    *chain.application.recent() = Recent::default();
    let second = chain.submit(0, 1);
    let candidate = chain.application.candidate(&chain.tip, MAX_BODY_BYTES).body;
    assert_eq!(Body::from_wire(&candidate).unwrap().bundles.len(), 2, "offered again");
    let block = chain.propose();
    assert_eq!(bundles(&block), [second]);
    assert_eq!(chain.application.metrics().left_out.get(), 1);
    chain.adopt(&block);
}

#[test]
fn an_index_that_stands_still_does_not_make_the_leader_spin() {
    let chain = Chain::funded();
    chain.submit(0, 0);
    let far = |height| Header { height: Height(height), ..chain.tip.clone() };
    assert!(chain.application.waiting(&far(1 + ANCESTORS_MAX)));
    assert!(!chain.application.waiting(&far(2 + ANCESTORS_MAX)));
    assert!(
        Body::from_wire(&chain.application.candidate(&far(2 + ANCESTORS_MAX), 1_000).body).unwrap().bundles.is_empty()
    );
}

#[test]
fn bodies_that_no_honest_leader_makes_are_invalid() {
    let chain = Chain::funded();
    let refusal = |body: Bytes| chain.apply(&body, Standing::Candidate).unwrap_err().to_string();
    let good = body_of(vec![signed(0, 0, 5), signed(1, 0, 5)]);
    assert!(chain.apply(&good, Standing::Candidate).is_ok());

    let mut forged = signed(0, 0, 5);
    forged.signature = Signature::Ed25519([9; 64]);
    let forged = body_of(vec![forged, signed(1, 0, 5)]);
    assert_eq!(refusal(forged.clone()), "a signature of the body is not its account's");
    assert!(chain.apply(&forged, Standing::Finalized).is_ok(), "what a quorum signed is not judged again");
    assert_eq!(refusal(forged), "a signature of the body is not its account's", "nor does that vouch for it");

    let mut reversed = Body::from_wire(&good).unwrap();
    reversed.bundles.reverse();
    assert_eq!(refusal(reversed.to_wire().into()), "bundle 1 is out of order");
    assert_eq!(refusal(body_of(vec![signed(0, 0, 5), signed(0, 0, 5)])), "bundle 1 is out of order");
    let mut twice = vec![bundle(0, 0, 5), bundle(0, 0, 5)];
    twice[1].tag.0[0] = 1;
    let twice = twice.into_iter().map(|bundle| bundle.sign(&key(0))).collect();
    assert_eq!(refusal(body_of(twice)), "bundle 1: nonce 0 is used");
    let too_long = Bytes::from(vec![1; MAX_BODY_BYTES + 1]);
    assert!(refusal(too_long).contains("at most 1048576 are allowed"));
    assert!(refusal(Bytes::new()).contains("empty message"));
    assert_eq!(chain.application.metrics().invalid.get(), 7);
}

#[test]
fn a_slow_indexer_is_skipped_and_never_waited_for() {
    let mut chain = Chain::funded();
    let block = chain.propose();
    for _ in 0..FINALIZED_QUEUE + 3 {
        chain.application.finalized(&block);
    }
    assert_eq!(chain.application.metrics().skipped.get(), 3);
    assert_eq!(chain.application.metrics().finalized.get(), FINALIZED_QUEUE as u64 + 3);
    for _ in 0..FINALIZED_QUEUE {
        assert_eq!(chain.blocks.try_recv().unwrap(), block);
    }
    assert!(chain.blocks.try_recv().is_err());
    chain.blocks.close();
    chain.application.finalized(&block);
}

#[test]
fn memories_of_bodies_are_bounded_and_lose_the_oldest() {
    let mut chain = Chain::funded();
    for _ in 0..3 * BODIES {
        let block = chain.propose();
        chain.adopt(&block);
    }
    let recent = chain.application.recent();
    assert!(recent.len() <= BODIES);
    assert!(recent.get(&Chain::new().tip, &hash_body(b"")).is_none());
    drop(recent);
    chain.view.set_height(chain.tip.height.0);
    chain.pool.finalized(chain.tip.height, &[]);
    chain.propose();
    assert_eq!(chain.application.recent().len(), 1, "what is settled goes");
}

const BODIES: usize = recent::BODIES_MAX;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn damaged_bodies_never_panic(bit in 0_usize..8 * 1_000, kept in 0_usize..1_000) {
        let chain = Chain::funded();
        let good = body_of(vec![signed(0, 0, 5), signed(1, 0, 5)]);
        let mut flipped = good.to_vec();
        let bit = bit % (8 * flipped.len());
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(chain.apply(&flipped.into(), Standing::Candidate).is_err(), "every bit is covered by a signature");
        let truncated = good.slice(..kept % good.len());
        prop_assert!(chain.apply(&truncated, Standing::Candidate).is_err());
    }
}
