//! What must hold after every final block, and after every block of every rollup?
//!
//! One check for each promise of `docs/settlement.md`, by its name, kept from final blocks and from what the rollups hold: it
//! trusts neither the log's own books nor the rollups'.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lockstep_protocol::{
    genesis::Rules,
    ids::{Account, Height, RollupId, SettlementId},
    limits::{CORRIDORS_PER_PAGE, MAX_OPEN_SETTLEMENTS},
    report::Event,
    settlement::{
        Decision, Intent, LaneDecision, LegStatus, Side,
        records::{
            ExposurePage, InFlightRecord, RollupRecord, Seen, SettlementRecord, exposure_key, in_flight_key,
            rollup_key, settlement_key,
        },
    },
    state::{Key, Record, Stored},
};

use super::{
    chain::asset,
    rollup::{Rollup, moved},
};
use crate::ledger::{Ledger, Page};

pub(crate) type Rollups = BTreeMap<RollupId, Rollup>;

pub(crate) struct Promises {
    rules: Arc<Rules>,
    height: u64,
    /// The state after it.
    records: Arc<BTreeMap<Key, Record>>,
    /// Every settlement that the log has ordered, or aborted unordered.
    pub(crate) known: BTreeMap<SettlementId, Intent>,
    /// Those that it has ordered, and where.
    pub(crate) ordered: BTreeMap<SettlementId, Height>,
    /// What was decided, and where.
    pub(crate) decided: BTreeMap<SettlementId, (Decision, Height)>,
    /// The decisions of each lane.
    pub(crate) lanes: BTreeMap<RollupId, Vec<LaneDecision>>,
    /// What each venue began with: what its accounts could claim.
    first: BTreeMap<RollupId, u128>,
    /// Legs that were released, by rollup and history.
    released: BTreeSet<(RollupId, u32, SettlementId, u8)>,
    /// Heads that the log has taken.
    pub(crate) heads: usize,
}

impl Promises {
    pub(crate) fn new(rules: Arc<Rules>, rollups: &Rollups) -> Self {
        let first = rollups.iter().map(|(id, rollup)| (*id, rollup.chain.tip().escrow.free_total(asset()))).collect();
        Self {
            rules,
            height: 0,
            records: Arc::default(),
            known: BTreeMap::new(),
            ordered: BTreeMap::new(),
            decided: BTreeMap::new(),
            lanes: BTreeMap::new(),
            first,
            released: BTreeSet::new(),
            heads: 0,
        }
    }

    pub(crate) fn height(&self) -> u64 {
        self.height
    }

    fn read<T: Stored>(&self, key: &Key) -> Option<T> {
        self.records.get(key).map(|record| T::from_record(record).expect("a record is of the kind that its key says"))
    }

    pub(crate) fn record(&self, settlement: &SettlementId) -> Option<SettlementRecord> {
        self.read(&settlement_key(settlement))
    }

    pub(crate) fn rollup(&self, rollup: RollupId) -> RollupRecord {
        self.read(&rollup_key(rollup)).unwrap_or_default()
    }

    pub(crate) fn decision(&self, settlement: &SettlementId) -> Option<Decision> {
        self.decided.get(settlement).map(|(decision, _)| *decision)
    }

    pub(crate) fn under_way(&self, corridor: usize) -> u128 {
        let page: ExposurePage = self.read(&exposure_key(corridor / CORRIDORS_PER_PAGE)).unwrap_or_default();
        page.under_way[corridor % CORRIDORS_PER_PAGE]
    }

    /// Whether everything that was decided is applied, and seen to be, and nobody is short.
    pub(crate) fn all_settled(&self) -> bool {
        let short = self.rules.participants().any(|rollup| self.rollup(rollup).shortfalls > 0);
        !short && self.known.keys().all(|settlement| self.record(settlement).is_some_and(|record| record.settled))
    }

    /// Takes the final blocks that came since.
    pub(crate) fn note_new(&mut self, ledger: &Ledger, rollups: &Rollups) {
        while self.height < ledger.height() {
            self.height += 1;
            self.note(ledger.page_at(self.height), rollups);
        }
    }

    fn note(&mut self, page: &Page, rollups: &Rollups) {
        let height = page.header.height;
        let before = std::mem::replace(&mut self.records, page.records.clone());
        for certificate in &page.facts.heads {
            let head = certificate.head;
            let known = rollups[&head.rollup].history.contains_key(&head.block_hash);
            assert!(known, "a lie was certified: {head:?} at {height}");
            self.heads += 1;
        }
        let network = self.rules.network;
        for intent in &page.intents {
            let settlement = intent.sid(network);
            assert!(self.ordered.insert(settlement, height).is_none(), "S1: {settlement} was ordered twice");
            self.known.insert(settlement, intent.clone());
        }
        let voids = page.facts.voids.iter().map(|void| (void.sid(network), void.intent.clone()));
        self.known.extend(voids);
        self.one_decision(page);
        self.prepared_before_commit(page, rollups);
        self.settled_stays(&before);
        self.caps_hold(height);
        self.deadlines_hold(height);
    }

    /// S1: one decision for each settlement, for ever, the same in every lane and report.
    fn one_decision(&mut self, page: &Page) {
        let height = page.header.height;
        let mut lanes: BTreeMap<SettlementId, (u8, BTreeSet<RollupId>)> = BTreeMap::new();
        for (rollup, decisions) in &page.decisions {
            for decided in decisions {
                let (outcome, lanes) =
                    lanes.entry(decided.settlement).or_insert_with(|| (decided.outcome, BTreeSet::new()));
                assert_eq!(*outcome, decided.outcome, "S1: two lanes differ over {}", decided.settlement);
                assert!(lanes.insert(*rollup), "S1: {} twice in one lane", decided.settlement);
                self.lanes.entry(*rollup).or_default().push(decided.clone());
            }
        }
        for (settlement, (outcome, lanes)) in &lanes {
            let legs = &self.known[settlement].transfer.legs;
            let touched: BTreeSet<_> = legs.iter().map(|leg| leg.rollup).collect();
            assert_eq!(*lanes, touched, "S1: the decision of {settlement} is not in every lane that it touches");
            let decided = self.record(settlement).and_then(|record| record.decided).expect("S1: it has a record");
            assert_eq!((decided.decision.outcome(), decided.height), (*outcome, height));
            let again = self.decided.insert(*settlement, (decided.decision, height));
            assert_eq!(again, None, "S1: {settlement} was decided twice");
        }
        for (_, report) in &page.reports {
            if let Event::Decided { settlement, decision, .. } = report.event {
                assert_eq!(self.decided.get(&settlement), Some(&(decision, height)), "S1: reported otherwise");
            }
        }
    }

    /// S2: a commit only after every leg was prepared, in truth and in its rollup's history of the moment.
    fn prepared_before_commit(&self, page: &Page, rollups: &Rollups) {
        for decided in page.decisions.values().flatten().filter(|decided| decided.outcome == 1) {
            let settlement = decided.settlement;
            assert!(self.ordered.contains_key(&settlement), "S2: {settlement} was never ordered");
            let record = self.record(&settlement).expect("what was decided has a record");
            for (index, (leg, place)) in (0_u8..).zip(record.legs.iter().zip(&self.known[&settlement].transfer.legs)) {
                let now = self.rollup(place.rollup).incarnation;
                assert_eq!((leg.seen, leg.incarnation), (Seen::Prepared, now), "S2: {settlement} leg {index}");
                let history = &rollups[&place.rollup].history;
                let prepared = |legs: &BTreeMap<_, _>| legs.get(&(settlement, index)) == Some(&LegStatus::Prepared);
                assert!(history.values().any(prepared), "S2: leg {index} of {settlement} never stood prepared");
            }
        }
    }

    /// S1: what is decided or settled stays so.
    fn settled_stays(&self, before: &BTreeMap<Key, Record>) {
        for settlement in self.known.keys() {
            let Some(was) = before.get(&settlement_key(settlement)) else { continue };
            let was = SettlementRecord::from_record(was).expect("a settlement's record");
            let now = self.record(settlement).expect("S1: records stay");
            assert!(was.decided.is_none() || was.decided == now.decided, "S1: {settlement} was decided again");
        }
    }

    /// S9: what is under way is counted anew, and within every cap.
    fn caps_hold(&self, height: Height) {
        let corridors = &self.rules.settlement.corridors;
        let mut flows = vec![0_u128; corridors.len()];
        let mut accounts: BTreeMap<Account, (u32, u128)> = BTreeMap::new();
        for settlement in self.ordered.keys() {
            let record = self.record(settlement).expect("what was ordered has a record");
            let aborted = record.decided.is_some_and(|decided| decided.decision != Decision::Commit);
            if aborted || record.settled {
                continue;
            }
            let account = accounts.entry(record.account).or_default();
            account.0 += 1;
            for flow in &record.flows {
                flows[usize::from(flow.corridor)] += flow.amount;
                account.1 += flow.amount;
            }
        }
        for (index, flow) in flows.into_iter().enumerate() {
            assert_eq!(self.under_way(index), flow, "S9: corridor {index} at {height}");
            assert!(flow <= corridors[index].cap, "S9: corridor {index} at {height}");
        }
        for (account, (open, amount)) in accounts {
            let record: InFlightRecord = self.read(&in_flight_key(&account)).unwrap_or_default();
            assert_eq!((record.open, record.amounts[0]), (open, amount), "S9: {account} at {height}");
            assert!(open <= MAX_OPEN_SETTLEMENTS && amount <= self.rules.settlement.assets[0].account_cap);
        }
    }

    /// L1: decided by its deadline. L2: applied within the window after it, or named late.
    fn deadlines_hold(&self, height: Height) {
        let mut late: BTreeMap<RollupId, u32> = BTreeMap::new();
        for settlement in self.ordered.keys() {
            let record = self.record(settlement).expect("what was ordered has a record");
            let decided = record.decided.map(|decided| decided.height);
            assert!(decided.is_some() || record.deadline > height, "L1: {settlement} is not decided at {height}");
            assert!(decided.is_none_or(|decided| decided <= record.deadline), "L1: {settlement} was decided late");
            for (index, leg) in self.known[settlement].transfer.legs.iter().enumerate() {
                let flagged = record.late & (1 << index) != 0;
                *late.entry(leg.rollup).or_default() += u32::from(flagged);
                let seen = &record.legs[index];
                let applied = seen.seen == Seen::Applied && seen.incarnation == self.rollup(leg.rollup).incarnation;
                let over = height.0 == record.deadline.0 + self.rules.settlement.apply_window;
                assert!(!over || applied || flagged || record.settled, "L2: {settlement} leg {index} at {height}");
            }
        }
        for (rollup, late) in late {
            let record = self.rollup(rollup);
            assert_eq!(record.late, late, "L2: rollup {rollup} at {height}");
            assert!(late == 0 || record.check_health(rollup, height).is_err(), "L2: a late rollup takes more");
        }
    }

    /// What holds of the rollups' contracts, after any of their blocks.
    pub(crate) fn check_rollups(&mut self, rollups: &Rollups) {
        for (id, rollup) in rollups {
            let escrow = &rollup.chain.tip().escrow;
            let (booked, held) = escrow.balances(asset());
            assert_eq!(booked, held, "S5: rollup {id}");
            let mut claims = escrow.free_total(asset()) + rollup.withdrawn();
            let mut come = 0;
            for ((settlement, index), status) in &escrow.legs {
                // A prepare of what the log never heard of moves too.
                let leg = rollup.intents[settlement].transfer.legs[usize::from(*index)];
                let amount = if moved(*status, leg.side) { leg.amount } else { 0 };
                match leg.side {
                    Side::Debit => claims += amount,
                    Side::Credit => come += amount,
                }
                self.by_decision(settlement, *status);
                if *status == LegStatus::Released {
                    self.released.insert((*id, rollup.reorgs, *settlement, *index));
                }
            }
            // S10: in one history, what was released stays released, whatever comes late.
            let here =
                (*id, rollup.reorgs, SettlementId([0; 32]), 0)..=(*id, rollup.reorgs, SettlementId([255; 32]), 255);
            for (_, _, settlement, index) in self.released.range(here) {
                assert_eq!(rollup.status(*settlement, *index), LegStatus::Released, "S10: {settlement} leg {index}");
            }
            // What a redone debit did not find stays with its account, and is owed by somebody: see `owed`.
            let kept = rollup.kept_by_shortfalls();
            assert_eq!(claims, self.first[id] + come + kept, "S4, S6: rollup {id}");
        }
        for (settlement, intent) in &self.known {
            self.one_outcome(settlement, intent, rollups);
        }
    }

    /// S8: nothing is released, or committed, but by a decision of the log.
    fn by_decision(&self, settlement: &SettlementId, status: LegStatus) {
        let outcome = self.decision(settlement).map(|decision| decision.outcome());
        match status {
            LegStatus::Released => assert_eq!(outcome, Some(2), "S8: {settlement}"),
            LegStatus::Committed | LegStatus::Shortfall => assert_eq!(outcome, Some(1), "S8: {settlement}"),
            _ => {}
        }
    }

    /// S3: never committed here and released there. S7: a credit counts only once its debit does not count any more.
    fn one_outcome(&self, settlement: &SettlementId, intent: &Intent, rollups: &Rollups) {
        let legs: Vec<_> = (0_u8..).zip(&intent.transfer.legs).collect();
        let status = |index: u8, rollup: RollupId| rollups.get(&rollup).map(|rollup| rollup.status(*settlement, index));
        let statuses: Vec<_> = legs.iter().filter_map(|(index, leg)| status(*index, leg.rollup)).collect();
        let some = |wanted: LegStatus| statuses.contains(&wanted);
        let taken = some(LegStatus::Committed) || some(LegStatus::Shortfall);
        assert!(!(taken && some(LegStatus::Released)), "S3: {settlement}: {statuses:?}");
        let calm = legs.iter().all(|(_, leg)| rollups.get(&leg.rollup).is_some_and(|rollup| rollup.reorgs == 0));
        let credited = legs
            .iter()
            .any(|(index, leg)| leg.side == Side::Credit && status(*index, leg.rollup) == Some(LegStatus::Committed));
        if calm && credited {
            for (index, leg) in legs.iter().filter(|(_, leg)| leg.side == Side::Debit) {
                let debit = status(*index, leg.rollup);
                let gone = matches!(debit, Some(LegStatus::Prepared | LegStatus::Committed));
                assert!(gone, "S7: {settlement} counts twice: {debit:?}");
            }
        }
    }
}
