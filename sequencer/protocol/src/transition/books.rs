//! Which books are kept around settlements: corridors, accounts, deadlines, and the decisions in lanes?
//!
//! Reservations are conditional decrements: they commute, nothing waits for a lock, and nobody can hog one.

use std::collections::BTreeSet;

use crate::{
    bundle::Bundle,
    ids::{Account, Height, RollupId, SettlementId},
    limits::{CORRIDORS_PER_PAGE, DUE_PER_PAGE, MAX_DEADLINE, MAX_DUE, MAX_OPEN_SETTLEMENTS, MIN_DEADLINE},
    refusal::Refusal,
    report::Event,
    settlement::{
        DecidedLeg, Decision, LaneDecision, MarginTransfer, SettlementLeg,
        machine::{Ground, Grounds},
        records::{
            Due, DuePage, ExposurePage, FOREIGN, FlowRecord, InFlightRecord, LegRecord, RollupRecord, Seen,
            SettlementRecord, due_key, exposure_key, in_flight_key, rollup_key, settlement_key,
        },
    },
    transition::{Execution, keys::first_page},
};

/// A settlement that fits: what ordering it writes.
pub(crate) struct Opening {
    settlement: SettlementId,
    record: SettlementRecord,
    in_flight: InFlightRecord,
}

impl Execution<'_> {
    /// Whether a settlement may be opened now. Changes nothing. What can never change comes before what may be better in a
    /// later block.
    pub(crate) fn check_settlement(
        &self,
        bundle: &Bundle,
        transfer: &MarginTransfer,
        settlement: SettlementId,
    ) -> Result<Opening, Refusal> {
        let height = self.height.0;
        let deadline = transfer.deadline;
        let min = Height(height.saturating_add(MIN_DEADLINE));
        let max = Height(height.saturating_add(MAX_DEADLINE));
        if deadline < min || deadline > max {
            return Err(Refusal::BadDeadline { deadline, min, max });
        }
        if self.store.get::<SettlementRecord>(&settlement_key(&settlement)).is_some() {
            return Err(Refusal::SettlementKnown { settlement });
        }
        let config = &self.rules.settlement;
        let mut flows = Vec::new();
        for flow in transfer.flows()? {
            let (from, to, asset) = (flow.from, flow.to, flow.asset);
            let corridor = config.corridor_index(from, to, asset).ok_or(Refusal::NoCorridor { from, to, asset })?;
            flows.push((corridor, flow));
        }
        for leg in &transfer.legs {
            let record: RollupRecord = self.store.get(&rollup_key(leg.rollup)).unwrap_or_default();
            record.check_health(leg.rollup, self.height)?;
        }
        let mut in_flight: InFlightRecord = self.store.get(&in_flight_key(&bundle.account)).unwrap_or_default();
        if in_flight.open >= MAX_OPEN_SETTLEMENTS {
            return Err(Refusal::TooManySettlements { max: MAX_OPEN_SETTLEMENTS, open: in_flight.open });
        }
        in_flight.open += 1;
        for (_, flow) in &flows {
            let asset = flow.asset;
            let index = config.asset_index(asset).expect("the asset of a corridor is listed");
            let available = config.assets[index].account_cap.saturating_sub(in_flight.amounts[index]);
            if flow.amount > available {
                return Err(Refusal::AccountCapReached { asset, available });
            }
            in_flight.amounts[index] += flow.amount;
        }
        for (corridor, flow) in &flows {
            let available = config.corridors[*corridor].cap.saturating_sub(self.under_way(*corridor));
            if flow.amount > available {
                return Err(Refusal::CorridorFull { from: flow.from, to: flow.to, asset: flow.asset, available });
            }
        }
        let due = first_page(deadline, |key| self.store.get(key));
        if usize::try_from(due.count).is_ok_and(|count| count >= MAX_DUE) {
            return Err(Refusal::DeadlineFull { deadline });
        }
        let flow =
            |(corridor, amount)| FlowRecord { corridor: u8::try_from(corridor).expect("corridors are few"), amount };
        let record = SettlementRecord {
            account: bundle.account,
            nonce: bundle.nonce,
            deadline,
            decided: None,
            settled: false,
            late: 0,
            legs: transfer.legs.iter().map(|leg| self.leg_record(leg)).collect(),
            flows: flows.into_iter().map(|(corridor, each)| flow((corridor, each.amount))).collect(),
        };
        Ok(Opening { settlement, record, in_flight })
    }

    /// Opens a settlement that was checked.
    pub(crate) fn open(&mut self, opening: Opening) {
        let Opening { settlement, record, in_flight } = opening;
        for flow in &record.flows {
            self.move_under_way(flow, |under_way, amount| under_way.checked_add(amount));
        }
        self.store.put(in_flight_key(&record.account), &in_flight);
        self.append_due(record.deadline, Due { settlement, account: record.account });
        self.store.put(settlement_key(&settlement), &record);
    }

    fn append_due(&mut self, deadline: Height, due: Due) {
        let mut first = first_page(deadline, |key| self.store.get(key));
        let number = usize::try_from(first.count).expect("pages are few") / DUE_PER_PAGE;
        first.count += 1;
        if number == 0 {
            first.entries.push(due);
        } else {
            let key = due_key(deadline, number);
            let page = self.store.get(&key).filter(|page: &DuePage| page.deadline == deadline);
            let mut page = page.unwrap_or_else(|| DuePage::empty(deadline));
            page.entries.push(due);
            self.store.put(key, &page);
        }
        self.store.put(due_key(deadline, 0), &first);
    }

    /// Writes a decision down: in the settlement's record, in the lane of every rollup that it touches, and in the account's
    /// reports. An aborted settlement frees what it held.
    pub(crate) fn decide(&mut self, settlement: SettlementId, mut record: SettlementRecord, decision: Decision) {
        record.decide(decision, self.height);
        let outcome = decision.outcome();
        let places: BTreeSet<u8> = record.legs.iter().map(|leg| leg.rollup).collect();
        for place in places {
            let Some(rollup) = self.rules.at_place(place) else { continue };
            let escrows = rollup.settlement.as_ref().map(|participant| participant.escrows.as_slice());
            let legs = record.legs.iter().zip(0_u8..).filter(|(leg, _)| leg.rollup == place);
            let legs = legs.filter_map(|(leg, index)| {
                let escrow = *escrows?.get(usize::from(leg.escrow))?;
                Some(DecidedLeg { index, escrow })
            });
            let decided = LaneDecision { settlement, outcome, legs: legs.collect() };
            self.decisions.entry(rollup.id).or_default().push(decided);
            let lane = self.lanes.get_mut(&rollup.id).expect("every rollup has a lane");
            lane.record.leaf = lane.record.leaf.decide(settlement, outcome);
        }
        if matches!(decision, Decision::Abort(_)) {
            self.release(&record);
        }
        self.store.put(settlement_key(&settlement), &record);
        self.report_decision(record.account, Event::Decided { settlement, nonce: record.nonce, decision });
    }

    /// Whoever never funded an account here has no reports either; the lanes tell them.
    fn report_decision(&mut self, account: Account, event: Event) {
        let Ok(mut record) = self.account(account).cloned() else { return };
        self.report(&mut record, event);
        self.accounts.insert(account, Some(record));
    }

    /// Frees what a settlement held: at its abort, or once it is settled.
    pub(crate) fn release(&mut self, record: &SettlementRecord) {
        // One that was never ordered holds nothing.
        if record.flows.is_empty() {
            return;
        }
        let key = in_flight_key(&record.account);
        let mut in_flight: InFlightRecord = self.store.get(&key).expect("the account has this settlement open");
        in_flight.open = in_flight.open.checked_sub(1).expect("every open settlement was counted");
        for flow in &record.flows {
            self.move_under_way(flow, |under_way, amount| under_way.checked_sub(amount));
            let asset = self.rules.settlement.corridors[usize::from(flow.corridor)].asset;
            let index = self.rules.settlement.asset_index(asset).expect("the asset of a corridor is listed");
            let amount = &mut in_flight.amounts[index];
            *amount = amount.checked_sub(flow.amount).expect("what is under way was counted");
        }
        self.store.put(key, &in_flight);
    }

    fn under_way(&self, corridor: usize) -> u128 {
        let page: ExposurePage = self.store.get(&exposure_key(corridor / CORRIDORS_PER_PAGE)).unwrap_or_default();
        page.under_way[corridor % CORRIDORS_PER_PAGE]
    }

    fn move_under_way(&mut self, flow: &FlowRecord, change: impl Fn(u128, u128) -> Option<u128>) {
        let corridor = usize::from(flow.corridor);
        let key = exposure_key(corridor / CORRIDORS_PER_PAGE);
        let mut page: ExposurePage = self.store.get(&key).unwrap_or_default();
        let under_way = &mut page.under_way[corridor % CORRIDORS_PER_PAGE];
        *under_way = change(*under_way, flow.amount).expect("what is under way was counted, and stays below a cap");
        self.store.put(key, &page);
    }

    /// A leg as its settlement's record has it. A leg of another network is nobody's here.
    pub(crate) fn leg_record(&self, leg: &SettlementLeg) -> LegRecord {
        let escrow = self.rules.participant(leg.rollup).ok().and_then(|participant| {
            let place = participant.escrows.binary_search(&leg.escrow).ok()?;
            u8::try_from(place).ok()
        });
        let place = escrow.and_then(|_| self.rules.place_of(leg.rollup));
        LegRecord {
            rollup: place.unwrap_or(FOREIGN),
            escrow: escrow.unwrap_or_default(),
            level: leg.level,
            seen: Seen::Nothing,
            incarnation: 0,
        }
    }

    /// What is known of the rollups that a settlement touches.
    pub(crate) fn grounds(&self, record: &SettlementRecord) -> Grounds {
        let mut grounds = Grounds::new();
        for leg in &record.legs {
            let Some(rollup) = self.rules.at_place(leg.rollup) else { continue };
            let Some(participant) = &rollup.settlement else { continue };
            grounds.entry(leg.rollup).or_insert_with(|| Ground {
                record: self.store.get(&rollup_key(rollup.id)).unwrap_or_default(),
                settled_level: participant.settled_level,
            });
        }
        grounds
    }

    pub(crate) fn put_grounds(&mut self, grounds: &Grounds) {
        for (place, ground) in grounds {
            let rollup: RollupId = self.rules.at_place(*place).expect("grounds are of this network's rollups").id;
            self.store.put(rollup_key(rollup), &ground.record);
        }
    }
}
