//! The state transition: what ordering a body does to accounts and lanes.
//!
//! Total and deterministic: the same position, body and records give the same outcome on every machine, and nothing that is
//! passed in changes. A proposer (`build`) and a verifier (`apply`) run the same code; the one leaves out what does not
//! fit, the other calls it invalid.

mod books;
mod facts;
mod keys;
mod store;

use std::collections::BTreeMap;

use crate::{
    account::AccountRecord,
    body::{CheckedBody, CheckedBundle, Class, FRAME_BYTES, Facts, Invalid, Section, encoded_len},
    bundle::{NonceRange, SignedCancel},
    fees,
    genesis::Rules,
    header::{Header, L1Origin},
    ids::{Account, BundleId, Hash32, Height, RollupId},
    lane::{LaneContext, LaneEntry, LaneLeaf, content},
    limits::{
        MAX_BODY_BYTES, MAX_BUNDLES_PER_BODY, MAX_CANCELS_PER_BODY, MAX_EVIDENCE_BYTES, MAX_LANE_BYTES, MAX_VALIDITY,
    },
    refusal::Refusal,
    report::{self, Event, Report},
    settlement::{FactError, LaneDecision, Observation},
    state::{Key, LaneRecord, Record, Records, Stored, TreasuryRecord, account_key, lane_key, treasury_key},
    tree::Tree,
};

use books::Opening;
use store::{Store, read};

/// Where in the log a body stands.
#[derive(Clone, Debug)]
pub struct Position {
    /// The parent's header.
    pub parent: Header,
    /// The block's timestamp.
    pub timestamp_ms: u64,
    /// The block's L1 origin.
    pub l1: L1Origin,
}

/// What a body did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The records that changed.
    pub writes: BTreeMap<Key, Record>,
    /// All lanes after the block, by rollup.
    pub leaves: Vec<LaneLeaf>,
    /// Root of the lane tree over them.
    pub lanes: Hash32,
    /// What the block has for each rollup; rollups without an entry are left out.
    pub entries: BTreeMap<RollupId, Vec<LaneEntry>>,
    /// What the block decides in each lane, in the order of its chain; rollups without a decision are left out.
    pub decisions: BTreeMap<RollupId, Vec<LaneDecision>>,
    /// What the block reports to accounts, in order.
    pub reports: Vec<(Account, Report)>,
}

/// What a proposer made of its candidates.
#[derive(Clone, Debug)]
pub struct Built {
    /// What fits, in order.
    pub body: CheckedBody,
    /// What it does.
    pub outcome: Outcome,
    /// What does not fit, and why.
    pub left_out: Vec<(BundleId, Refusal)>,
}

impl Position {
    /// The block's height.
    pub fn height(&self) -> Height {
        self.parent.height.next()
    }

    /// Checks what a header may say after its parent.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.timestamp_ms <= self.parent.timestamp_ms {
            return Err(Invalid::Timestamp { timestamp_ms: self.timestamp_ms, parent_ms: self.parent.timestamp_ms });
        }
        let (now, before) = (self.l1, self.parent.l1);
        let back = now.number < before.number || now.timestamp < before.timestamp;
        if back || (now.number == before.number && now != before) {
            return Err(Invalid::L1 { number: now.number, parent: before.number });
        }
        Ok(())
    }
}

/// Executes a body exactly; anything that does not fit makes the block invalid.
pub fn apply(rules: &Rules, position: &Position, body: &CheckedBody, records: &Records) -> Result<Outcome, Invalid> {
    position.check()?;
    let mut execution = Execution::new(rules, position, records);
    execution.facts(&body.facts)?;
    for (index, cancel) in body.cancels.iter().enumerate() {
        execution.cancel(cancel).map_err(|refusal| Invalid::Cancel { index, refusal })?;
    }
    for (index, bundle) in body.bundles.iter().enumerate() {
        execution.order(bundle).map_err(|refusal| Invalid::Bundle { index, refusal })?;
    }
    Ok(execution.finish())
}

/// Executes what fits of an arranged body, and leaves out the rest.
///
/// `apply` accepts the result and gives the same outcome, if the position passes its check and the signatures of facts and
/// cancels are good.
pub fn build(rules: &Rules, position: &Position, candidates: CheckedBody, records: &Records) -> Built {
    let mut execution = Execution::new(rules, position, records);
    let mut left_out = Vec::new();
    let mut room = Room(MAX_BODY_BYTES - FRAME_BYTES);
    let facts = execution.fitting_facts(candidates.facts, &mut room);
    let mut cancels = candidates.cancels;
    let mut kept = 0;
    cancels.retain(|signed| {
        let keep = kept < MAX_CANCELS_PER_BODY
            && signed.cancel.check_shape(rules.network).is_ok()
            && execution.can_cancel(signed).is_ok()
            && room.take(encoded_len(signed))
            && execution.cancel(signed).is_ok();
        kept += usize::from(keep);
        keep
    });
    let mut bundles = Vec::with_capacity(candidates.bundles.len());
    for bundle in candidates.bundles {
        let ordered = execution.check_order(&bundle).and_then(|order| {
            if bundles.len() == MAX_BUNDLES_PER_BODY || !room.take(encoded_len(bundle.signed())) {
                return Err(Refusal::BodyFull);
            }
            execution.commit_order(&bundle, order);
            Ok(())
        });
        match ordered {
            Ok(()) => bundles.push(bundle),
            Err(refusal) => left_out.push((bundle.id(), refusal)),
        }
    }
    Built { body: CheckedBody { facts, cancels, bundles }, outcome: execution.finish(), left_out }
}

/// Bytes that are left.
struct Room(usize);

impl Room {
    fn fits(&self, bytes: usize) -> bool {
        bytes <= self.0
    }

    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.fits(bytes);
        if fits {
            self.0 -= bytes;
        }
        fits
    }
}

struct Lane {
    before: Option<LaneRecord>,
    record: LaneRecord,
    used: u64,
    /// By liquidators.
    liquidated: u64,
    entries: Vec<LaneEntry>,
}

/// A bundle that fits: what ordering it costs and opens.
struct Order {
    fee: u64,
    opening: Option<Opening>,
}

struct Execution<'a> {
    rules: &'a Rules,
    records: &'a Records,
    height: Height,
    context: LaneContext,
    /// Accounts read so far; `None` for one without a record.
    accounts: BTreeMap<Account, Option<AccountRecord>>,
    lanes: BTreeMap<RollupId, Lane>,
    treasury_before: Option<TreasuryRecord>,
    treasury: TreasuryRecord,
    /// All other records.
    store: Store<'a>,
    decisions: BTreeMap<RollupId, Vec<LaneDecision>>,
    reports: Vec<(Account, Report)>,
}

impl<'a> Execution<'a> {
    fn new(rules: &'a Rules, position: &Position, records: &'a Records) -> Self {
        let height = position.height();
        let lanes = rules.rollups.values().map(|rollup| {
            let before: Option<LaneRecord> = read(records, &lane_key(rollup.id));
            let record = before.unwrap_or_else(|| LaneRecord {
                leaf: LaneLeaf::genesis(rules.network, rollup.id),
                base_fee: rollup.min_base_fee,
            });
            (rollup.id, Lane { before, record, used: 0, liquidated: 0, entries: Vec::new() })
        });
        let treasury_before: Option<TreasuryRecord> = read(records, &treasury_key());
        let mut execution = Self {
            rules,
            records,
            height,
            context: LaneContext { height, timestamp_ms: position.timestamp_ms, l1: position.l1 },
            accounts: BTreeMap::new(),
            lanes: lanes.collect(),
            treasury_before,
            treasury: treasury_before.unwrap_or_default(),
            store: Store::new(records),
            decisions: BTreeMap::new(),
            reports: Vec::new(),
        };
        if height == Height(1) {
            for balance in &rules.balances {
                let mut record = AccountRecord::new(rules.network, balance.account);
                record.balance = balance.credits;
                execution.report(&mut record, Event::Funded { credits: balance.credits });
                execution.accounts.insert(balance.account, Some(record));
            }
        }
        execution
    }

    fn facts(&mut self, facts: &Facts) -> Result<(), Invalid> {
        let at = |section, index| move |error| Invalid::Fact { section, index, error };
        for (index, head) in facts.heads.iter().enumerate() {
            self.head(head).map_err(at(Section::Head, index))?;
        }
        for (index, observation) in facts.observations.iter().enumerate() {
            self.observe(observation).map_err(at(Section::Observation, index))?;
        }
        self.deadlines();
        for (index, void) in facts.voids.iter().enumerate() {
            self.void(void).map_err(at(Section::Void, index))?;
        }
        for (index, lease) in facts.leases.iter().enumerate() {
            self.lease(lease).map_err(at(Section::Lease, index))?;
        }
        for (index, abort) in facts.aborts.iter().enumerate() {
            self.abort(abort).map_err(at(Section::Abort, index))?;
        }
        Ok(())
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), FactError> {
        let root = self.observed(observation)?;
        observation.claims.iter().try_for_each(|claim| self.claim(observation, claim, root))
    }

    /// As `facts`, without what does not fit. Of an observation the claims that tell something new are kept.
    fn fitting_facts(&mut self, mut facts: Facts, room: &mut Room) -> Facts {
        let mut evidence = Room(MAX_EVIDENCE_BYTES.min(room.0));
        facts.heads.retain(|head| {
            let bytes = encoded_len(head);
            evidence.fits(bytes) && self.head(head).is_ok() && evidence.take(bytes)
        });
        facts.observations.retain_mut(|observation| {
            let Ok(root) = self.observed(observation) else { return false };
            let claims = std::mem::take(&mut observation.claims);
            let mut bytes = encoded_len(observation);
            for claim in claims {
                let more = bytes + encoded_len(&claim);
                if evidence.fits(more) && self.claim(observation, &claim, root).is_ok() {
                    observation.claims.push(claim);
                    bytes = more;
                }
            }
            !observation.claims.is_empty() && evidence.take(bytes)
        });
        self.deadlines();
        facts.voids.retain(|void| {
            let bytes = encoded_len(void);
            evidence.fits(bytes) && self.void(void).is_ok() && evidence.take(bytes)
        });
        let used = MAX_EVIDENCE_BYTES.min(room.0) - evidence.0;
        room.take(used);
        facts.leases.retain(|lease| {
            let bytes = encoded_len(lease);
            room.fits(bytes) && self.lease(lease).is_ok() && room.take(bytes)
        });
        facts.aborts.retain(|abort| {
            let bytes = encoded_len(abort);
            room.fits(bytes) && self.abort(abort).is_ok() && room.take(bytes)
        });
        facts
    }

    fn account(&mut self, account: Account) -> Result<&mut AccountRecord, Refusal> {
        let records = self.records;
        self.accounts
            .entry(account)
            .or_insert_with(|| read(records, &account_key(&account)))
            .as_mut()
            .ok_or(Refusal::UnknownAccount)
    }

    fn report(&mut self, record: &mut AccountRecord, event: Event) {
        record.report_sequence += 1;
        let report = Report { sequence: record.report_sequence, height: self.height, event };
        record.reports = report::chain(record.reports, &report);
        self.reports.push((record.account, report));
    }

    fn can_cancel(&mut self, signed: &SignedCancel) -> Result<(), Refusal> {
        let NonceRange { first, last } = signed.cancel.nonces;
        let window = &self.account(signed.cancel.account)?.nonces;
        if last > window.highest() {
            return Err(Refusal::NonceTooFarAhead { nonce: last, highest: window.highest() });
        }
        if (first..=last).all(|nonce| window.check(nonce).is_err()) {
            return Err(Refusal::NothingToCancel { first, last });
        }
        Ok(())
    }

    fn cancel(&mut self, signed: &SignedCancel) -> Result<(), Refusal> {
        self.can_cancel(signed)?;
        let NonceRange { first, last } = signed.cancel.nonces;
        let mut record = self.account(signed.cancel.account)?.clone();
        // Ascending: a range is no longer than the window, so it never pushes its own nonces below it.
        let mut ranges: Vec<NonceRange> = Vec::new();
        for nonce in first..=last {
            if record.nonces.consume(nonce).is_err() {
                continue;
            }
            match ranges.last_mut() {
                Some(range) if range.last + 1 == nonce => range.last = nonce,
                _ => ranges.push(NonceRange { first: nonce, last: nonce }),
            }
        }
        self.report(&mut record, Event::Cancelled { nonces: ranges });
        self.accounts.insert(record.account, Some(record));
        Ok(())
    }

    fn order(&mut self, checked: &CheckedBundle) -> Result<(), Refusal> {
        let order = self.check_order(checked)?;
        self.commit_order(checked, order);
        Ok(())
    }

    /// Whether the bundle fits now, what it pays and opens. Changes nothing.
    ///
    /// What can never change comes before what may be better in the next block: a proposer that is told `LaneFull` may
    /// keep the bundle.
    fn check_order(&mut self, checked: &CheckedBundle) -> Result<Order, Refusal> {
        let bundle = &checked.signed().bundle;
        check_validity(bundle.valid_until, self.height)?;
        let account = self.account(bundle.account)?;
        account.nonces.check(bundle.nonce)?;
        let available = account.balance;
        let opening = match (bundle.transfer(), checked.settlement()) {
            (Some(transfer), Some(settlement)) => Some(self.check_settlement(bundle, transfer, settlement)?),
            _ => None,
        };
        let mut base_fees = Vec::with_capacity(bundle.legs.len());
        for leg in &bundle.legs {
            let lane = self.lanes.get(&leg.rollup).ok_or(Refusal::UnknownRollup { rollup: leg.rollup })?;
            if lane.used + leg.bytes() > MAX_LANE_BYTES {
                return Err(Refusal::LaneFull { rollup: leg.rollup });
            }
            let share = self.rules.rollups[&leg.rollup].liquidation_bytes;
            if checked.class() == Class::Liquidation && lane.liquidated + leg.bytes() > share {
                return Err(Refusal::LiquidationFull { rollup: leg.rollup });
            }
            base_fees.push((lane.record.base_fee, leg.bytes()));
        }
        let fee = fees::total(base_fees, bundle.tip);
        if fee > bundle.max_fee {
            return Err(Refusal::FeeTooLow { needed: fee, max_fee: bundle.max_fee });
        }
        if available < fee {
            return Err(Refusal::InsufficientBalance { needed: fee, available });
        }
        Ok(Order { fee, opening })
    }

    fn commit_order(&mut self, checked: &CheckedBundle, Order { fee, opening }: Order) {
        let bundle = &checked.signed().bundle;
        let mut record = self.account(bundle.account).expect("the account was checked").clone();
        record.nonces.consume(bundle.nonce).expect("the nonce was checked");
        record.balance = record.balance.checked_sub(fee).expect("the balance was checked");
        self.report(&mut record, Event::Ordered { bundle: checked.id(), nonce: bundle.nonce, tag: bundle.tag, fee });
        self.accounts.insert(bundle.account, Some(record));
        self.treasury.credits = self.treasury.credits.checked_add(fee).expect("all credits fit in 64 bits");
        for leg in &bundle.legs {
            let lane = self.lanes.get_mut(&leg.rollup).expect("the lane was checked");
            lane.used += leg.bytes();
            if checked.class() == Class::Liquidation {
                lane.liquidated += leg.bytes();
            }
            lane.entries.push(LaneEntry::Leg { bundle: checked.id(), content: content(&leg.transactions) });
        }
        if let Some(opening) = opening {
            self.open(opening);
        }
    }

    fn finish(self) -> Outcome {
        let mut writes = self.store.changes();
        let mut leaves = Vec::with_capacity(self.lanes.len());
        let mut entries = BTreeMap::new();
        for (rollup, lane) in self.lanes {
            let record = LaneRecord {
                leaf: lane.record.leaf.extend(self.context, &lane.entries),
                base_fee: fees::next_base_fee(
                    lane.record.base_fee,
                    lane.used,
                    self.rules.rollups[&rollup].min_base_fee,
                ),
            };
            if lane.before != Some(record) {
                writes.insert(lane_key(rollup), record.to_record());
            }
            leaves.push(record.leaf);
            if !lane.entries.is_empty() {
                entries.insert(rollup, lane.entries);
            }
        }
        if self.treasury_before != Some(self.treasury) {
            writes.insert(treasury_key(), self.treasury.to_record());
        }
        // Only an account that reported something has changed.
        for (account, _) in &self.reports {
            if let Some(Some(record)) = self.accounts.get(account) {
                writes.entry(account_key(account)).or_insert_with(|| record.to_record());
            }
        }
        Outcome { writes, lanes: lane_root(&leaves), leaves, entries, decisions: self.decisions, reports: self.reports }
    }
}

/// Whether a bundle valid until `valid_until` may be ordered at `height`.
pub fn check_validity(valid_until: Height, height: Height) -> Result<(), Refusal> {
    if valid_until < height {
        return Err(Refusal::Expired { valid_until, height });
    }
    let max = Height(height.0.saturating_add(MAX_VALIDITY));
    if valid_until > max {
        return Err(Refusal::ValidityTooFar { valid_until, max });
    }
    Ok(())
}

/// The root of the lane tree over `leaves`.
pub fn lane_root(leaves: &[LaneLeaf]) -> Hash32 {
    Tree::new(leaves.iter().map(LaneLeaf::hash).collect()).map(|tree| tree.root()).unwrap_or_default()
}

/// The lane root of a genesis header.
pub fn genesis_lanes(rules: &Rules) -> Hash32 {
    let leaves: Vec<_> = rules.rollups.keys().map(|rollup| LaneLeaf::genesis(rules.network, *rollup)).collect();
    lane_root(&leaves)
}
