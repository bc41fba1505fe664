//! What must hold after every final block?
//!
//! An independent book of the log, kept from the blocks alone. It checks agreement, validity, lanes, nonces and balances, and
//! remembers every height, so that validators can look at the state as of theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lockstep_consensus::block::Block;
use lockstep_protocol::{
    account::AccountRecord,
    body::{Body, CheckedBody, Facts},
    bundle::{Bundle, Transaction},
    genesis::Rules,
    header::Header,
    ids::{Account, BundleId, Hash32, Height, RollupId},
    lane::{LaneContext, LaneEntry, LaneLeaf, content},
    report::{Event, Report},
    settlement::{Intent, LaneDecision},
    state::{Key, LaneRecord, Record, Records, Stored, TreasuryRecord, account_key, lane_key, treasury_key},
    transition::{self, Position, lane_root},
    wire::Wire,
};

/// The state after a block, and what the block reported.
pub(crate) struct Page {
    pub(crate) header: Header,
    pub(crate) records: Arc<BTreeMap<Key, Record>>,
    pub(crate) reports: Vec<(Account, Report)>,
    /// All lanes after it.
    pub(crate) leaves: Vec<LaneLeaf>,
    /// The transactions of each entry of each lane.
    pub(crate) lanes: BTreeMap<RollupId, Vec<Vec<Transaction>>>,
    pub(crate) facts: Facts,
    /// The settlements that it ordered.
    pub(crate) intents: Vec<Intent>,
    pub(crate) decisions: BTreeMap<RollupId, Vec<LaneDecision>>,
}

/// What used a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Ordered(BundleId),
    Cancelled,
}

pub(crate) struct Ledger {
    rules: Arc<Rules>,
    pages: Vec<Page>,
    leaves: BTreeMap<RollupId, LaneLeaf>,
    uses: BTreeMap<(Account, u64), Use>,
}

impl Ledger {
    pub(crate) fn new(rules: Arc<Rules>) -> Self {
        let leaves = rules.rollups.keys().map(|rollup| (*rollup, LaneLeaf::genesis(rules.network, *rollup))).collect();
        Self { rules, pages: Vec::new(), leaves, uses: BTreeMap::new() }
    }

    pub(crate) fn height(&self) -> u64 {
        self.pages.len() as u64
    }

    pub(crate) fn page(&self, height: Height) -> Option<&Page> {
        self.pages.get(usize::try_from(height.0.checked_sub(1)?).unwrap())
    }

    pub(crate) fn page_at(&self, height: u64) -> &Page {
        self.page(Height(height)).expect("a height of the book")
    }

    /// What a block has for a lane.
    pub(crate) fn lane(&self, height: u64, rollup: RollupId) -> &[Vec<Transaction>] {
        self.page_at(height).lanes.get(&rollup).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn account(&self, height: Height, account: &Account) -> Option<AccountRecord> {
        let record = self.page(height)?.records.get(&account_key(account))?;
        Some(AccountRecord::from_record(record).expect("an account's record"))
    }

    pub(crate) fn base_fee(&self, height: Height, rollup: RollupId) -> Option<u64> {
        let record = self.page(height)?.records.get(&lane_key(rollup))?;
        Some(LaneRecord::from_record(record).expect("a lane's record").base_fee)
    }

    pub(crate) fn used(&self, account: Account, nonce: u64) -> Option<Use> {
        self.uses.get(&(account, nonce)).copied()
    }

    /// The block that ordered a bundle.
    pub(crate) fn height_of(&self, id: &BundleId) -> Option<u64> {
        let ordered = |report: &Report| matches!(&report.event, Event::Ordered { bundle, .. } if bundle == id);
        let page = self.pages.iter().find(|page| page.reports.iter().any(|(_, report)| ordered(report)))?;
        Some(page.header.height.0)
    }

    pub(crate) fn ordered(&self) -> usize {
        self.uses.values().filter(|used| matches!(used, Use::Ordered(_))).count()
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.uses.len() - self.ordered()
    }

    /// Takes a final block as a validator saw it.
    ///
    /// # Panics
    ///
    /// If it breaks any promise.
    pub(crate) fn observe(&mut self, validator: usize, block: &Block) {
        let height = block.height().0;
        if height <= self.height() {
            let known = self.page(block.height()).expect("a height of the book").header.digest();
            assert_eq!(block.id(), known, "validator {validator} disagrees at height {height}");
            return;
        }
        assert_eq!(height, self.height() + 1, "validator {validator} skipped a height");
        let header = block.header().clone();
        let body = Body::from_wire(block.body()).expect("a final body is one");
        self.check_nonces(&body, height);
        let checked = CheckedBody::new(body, &self.rules, |_, _| false).expect("a final body is in order and signed");
        let (parent, before) = match self.pages.last() {
            Some(page) => (page.header.clone(), page.records.clone()),
            None => (self.genesis(&header), Arc::default()),
        };
        if self.height() > 0 {
            assert_eq!(header.parent, parent.digest(), "height {height} does not follow its parent");
        }
        let position = Position { parent, timestamp_ms: header.timestamp_ms, l1: header.l1 };
        let mut keys = checked.keys(&self.rules, header.height);
        let stage =
            |keys: &BTreeSet<Key>| -> Records { keys.iter().map(|key| (*key, before.get(key).copied())).collect() };
        let first = stage(&keys);
        keys.extend(checked.more_keys(&self.rules, header.height, &first));
        let staged = stage(&keys);
        let outcome = transition::apply(&self.rules, &position, &checked, &staged).expect("a final body is valid");
        self.check_lanes(&checked, &outcome.decisions, &header);
        let mut records = BTreeMap::clone(&before);
        records.extend(outcome.writes);
        self.check_balances(&records, height);
        self.note_cancels(&outcome.reports, height);
        let mut lanes: BTreeMap<RollupId, Vec<Vec<Transaction>>> = BTreeMap::new();
        let bundles = || checked.bundles().iter().map(|bundle| &bundle.signed().bundle);
        for leg in bundles().flat_map(|bundle| &bundle.legs) {
            lanes.entry(leg.rollup).or_default().push(leg.transactions.clone());
        }
        let intent = |bundle: &Bundle| {
            let (account, nonce, transfer) = (bundle.account, bundle.nonce, bundle.transfer()?.clone());
            Some(Intent { account, nonce, transfer })
        };
        let intents = bundles().filter_map(intent).collect();
        self.pages.push(Page {
            header,
            records: Arc::new(records),
            reports: outcome.reports,
            leaves: outcome.leaves,
            lanes,
            facts: checked.facts().clone(),
            intents,
            decisions: outcome.decisions,
        });
    }

    fn genesis(&self, first: &Header) -> Header {
        Header { network: self.rules.network, timestamp_ms: first.timestamp_ms - 1, l1: first.l1, ..Header::default() }
    }

    /// No nonce of an account is ever used twice.
    fn check_nonces(&mut self, body: &Body, height: u64) {
        for signed in &body.bundles {
            let bundle = &signed.bundle;
            let before = self.uses.insert((bundle.account, bundle.nonce), Use::Ordered(bundle.id()));
            assert_eq!(before, None, "nonce {} of {} is used again at {height}", bundle.nonce, bundle.account);
            assert!(bundle.valid_until.0 >= height, "ordered past its time");
            assert!(bundle.legs.iter().all(|leg| self.rules.rollups.contains_key(&leg.rollup)));
        }
    }

    /// Every leg of every bundle is in its lane, and the lanes lead to what the header commits to.
    fn check_lanes(&mut self, body: &CheckedBody, decisions: &BTreeMap<RollupId, Vec<LaneDecision>>, header: &Header) {
        let mut entries: BTreeMap<RollupId, Vec<LaneEntry>> = BTreeMap::new();
        for bundle in body.bundles() {
            for leg in &bundle.signed().bundle.legs {
                let entry = LaneEntry::Leg { bundle: bundle.id(), content: content(&leg.transactions) };
                entries.entry(leg.rollup).or_default().push(entry);
            }
        }
        for (rollup, leaf) in &mut self.leaves {
            let sequence = leaf.sequence;
            *leaf = leaf.extend(LaneContext::from(header), entries.get(rollup).map_or(&[], Vec::as_slice));
            assert_eq!(leaf.sequence, sequence + u64::from(entries.contains_key(rollup)), "the lane has a gap");
            let decided = decisions.get(rollup).into_iter().flatten();
            *leaf = decided.fold(*leaf, |leaf, decided| leaf.decide(decided.settlement, decided.outcome));
        }
        let leaves: Vec<_> = self.leaves.values().copied().collect();
        assert_eq!(lane_root(&leaves), header.lanes, "the lanes do not lead to the header at {}", header.height);
    }

    /// No credit is made or lost.
    fn check_balances(&self, records: &BTreeMap<Key, Record>, height: u64) {
        let balance = |account: &Account| {
            records.get(&account_key(account)).map_or(0, |record| AccountRecord::from_record(record).unwrap().balance)
        };
        let held: u64 = self.rules.balances.iter().map(|funded| balance(&funded.account)).sum();
        let treasury = records.get(&treasury_key()).map(|record| TreasuryRecord::from_record(record).unwrap());
        let TreasuryRecord { credits, deposited } = treasury.unwrap_or_default();
        assert_eq!(held + credits, self.rules.supply + deposited, "credits at height {height}");
    }

    fn note_cancels(&mut self, reports: &[(Account, Report)], height: u64) {
        for (account, report) in reports {
            let Event::Cancelled { nonces } = &report.event else { continue };
            for nonce in nonces.iter().flat_map(|range| range.first..=range.last) {
                // A bundle of the same block comes after the cancel and could not use the nonce any more.
                let before = self.uses.insert((*account, nonce), Use::Cancelled);
                assert_eq!(before, None, "nonce {nonce} of {account} is cancelled after its use, at {height}");
            }
        }
    }

    /// Everything that the state may hold.
    pub(crate) fn keys(&self) -> BTreeSet<Key> {
        let accounts = self.rules.balances.iter().map(|funded| account_key(&funded.account));
        let known = self.pages.last().into_iter().flat_map(|page| page.records.keys().copied());
        let lanes = self.rules.rollups.keys().map(|rollup| lane_key(*rollup));
        accounts.chain(lanes).chain([treasury_key()]).chain(known).collect()
    }

    /// What a validator reads at a height is what the book says.
    pub(crate) fn check_state(&self, validator: usize, header: &Header, state: &Records) {
        let Some(page) = self.page(header.height) else {
            assert_eq!(header.height, Height(0), "validator {validator} is ahead of the book");
            assert!(state.values().all(Option::is_none));
            return;
        };
        assert_eq!(page.header, *header, "validator {validator} has another header at {}", header.height);
        for (key, record) in state {
            let expected = page.records.get(key);
            assert_eq!(record.as_ref(), expected, "validator {validator}, {}", Hash32(*key));
        }
    }
}
