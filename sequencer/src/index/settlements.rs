//! What does the index know of settlements?
//!
//! The state has every settlement's record, by its id alone. Whoever observes legs or relays decisions needs more: what the
//! settlement moves, which are not settled yet, and what was decided in a lane, in order. That is kept here, told from the
//! same replay as the rest.

use std::collections::BTreeSet;

use lockstep_protocol::{
    body::CheckedBody,
    header::Header,
    ids::{Height, RollupId, SettlementId},
    limits::{CORRIDORS_PER_PAGE, DUE_PAGES},
    rpc::{CorridorStatus, OrderedBy, RollupStatus, SettlementStatus, UnsettledPage},
    settlement::{
        Intent, Subject, decision,
        records::{
            DuePage, ExposurePage, RollupRecord, Seen, SettlementRecord, due_key, exposure_key, rollup_key,
            settlement_key,
        },
    },
    state::Records,
    transition::Outcome,
};

pub use super::layer::DecisionRow;
use super::{
    Index, IndexError,
    layer::{Layer, SettlementRow},
    read_record,
};

impl Index {
    /// Where a settlement stands; none if it is not known.
    pub fn settlement(&self, settlement: &SettlementId) -> Result<Option<SettlementStatus>, IndexError> {
        // The row and the record must be of one height: blocks come between two looks.
        loop {
            let tip = self.height();
            let Some(row) = self.settlement_row(settlement)? else { return Ok(None) };
            let record = self.record(&settlement_key(settlement))?;
            if self.height() != tip {
                continue;
            }
            return Ok(record.map(|record| SettlementStatus {
                settlement: *settlement,
                intent: row.intent,
                ordered: row.ordered.map(|(bundle, height)| OrderedBy {
                    bundle: lockstep_protocol::ids::BundleId(bundle),
                    height: Height(height),
                }),
                record: read_record(&record),
                changed: Height(row.changed),
                tip,
            }));
        }
    }

    /// Settlements with a leg on `rollup` that were not seen applied on every leg, or were then found short of something, by id,
    /// from after `after`.
    pub fn unsettled(
        &self,
        rollup: RollupId,
        after: Option<SettlementId>,
        max: usize,
    ) -> Result<UnsettledPage, IndexError> {
        let ids = {
            let live = self.read();
            // Layers may take away what the file has: as many more are read as they do.
            let changes = live.layers().flat_map(|layer| &layer.unsettled);
            let gone = changes.filter(|((of, _), open)| *of == rollup && !**open).count();
            let mut found: BTreeSet<SettlementId> =
                self.store.unsettled(rollup, after, max.saturating_add(gone).saturating_add(1))?.into_iter().collect();
            let layers: Vec<_> = live.layers().collect();
            // Oldest first: later rows take the place of earlier ones.
            for layer in layers.into_iter().rev() {
                for ((_, settlement), open) in layer.unsettled.iter().filter(|((of, _), _)| *of == rollup) {
                    match open {
                        true if after.is_none_or(|after| *settlement > after) => found.insert(*settlement),
                        true => false,
                        false => found.remove(settlement),
                    };
                }
            }
            found
        };
        let more = ids.len() > max;
        let mut settlements = Vec::with_capacity(ids.len().min(max));
        let mut last = None;
        for id in ids.into_iter().take(max) {
            last = Some(id);
            // Settled meanwhile is no reason to leave it out: whoever asks learns it.
            settlements.extend(self.settlement(&id)?);
        }
        Ok(UnsettledPage { settlements, next: last.filter(|_| more), tip: self.height() })
    }

    /// At most `max` decisions of a lane from number `from` (the first is 1). They end where a block ends; a block that decides
    /// more is given whole.
    pub fn decisions(&self, rollup: RollupId, from: u64, max: usize) -> Result<Vec<DecisionRow>, IndexError> {
        let live = self.read();
        let row = |sequence: u64| -> Result<Option<DecisionRow>, IndexError> {
            match live.layers().find_map(|layer| layer.decisions.get(&(rollup, sequence))) {
                Some(row) => Ok(Some(row.clone())),
                None => self.store.decision(rollup, sequence),
            }
        };
        let mut rows: Vec<DecisionRow> = Vec::new();
        // Where the last whole block ends.
        let mut whole = 0;
        for sequence in from.max(1).. {
            let next = row(sequence)?;
            let height = next.as_ref().map(|next| next.height);
            if rows.last().is_some_and(|last| Some(last.height) != height) {
                whole = rows.len();
            }
            let full = rows.len() >= max && whole > 0;
            match next {
                Some(next) if !full => rows.push(next),
                _ => break,
            }
        }
        rows.truncate(whole);
        Ok(rows)
    }

    /// What the log knows of a rollup; none if it is not of this network.
    pub fn rollup_status(&self, rollup: RollupId) -> Result<Option<RollupStatus>, IndexError> {
        let Some(lane) = self.lane(rollup) else { return Ok(None) };
        let tip = self.height();
        let record: RollupRecord =
            self.record(&rollup_key(rollup))?.map_or_else(RollupRecord::default, |record| read_record(&record));
        let healthy = record.check_health(rollup, tip.next()).is_ok();
        Ok(Some(RollupStatus { rollup, record, healthy, decision_sequence: lane.leaf.decision_sequence, tip }))
    }

    /// All corridors, in the order of the genesis.
    pub fn corridors(&self) -> Result<Vec<CorridorStatus>, IndexError> {
        let config = &self.rules.settlement;
        let mut corridors = Vec::with_capacity(config.corridors.len());
        for (page, chunk) in config.corridors.chunks(CORRIDORS_PER_PAGE).enumerate() {
            let exposure: ExposurePage =
                self.record(&exposure_key(page))?.map_or_else(ExposurePage::default, |record| read_record(&record));
            corridors.extend(chunk.iter().zip(exposure.under_way).map(|(corridor, under_way)| CorridorStatus {
                from: corridor.from,
                to: corridor.to,
                asset: corridor.asset,
                cap: corridor.cap,
                under_way,
            }));
        }
        Ok(corridors)
    }

    fn settlement_row(&self, settlement: &SettlementId) -> Result<Option<SettlementRow>, IndexError> {
        let live = self.read();
        match live.layers().find_map(|layer| layer.settlements.get(settlement)) {
            Some(row) => Ok(Some(row.clone())),
            None => self.store.settlement(settlement),
        }
    }

    /// What a block adds about settlements. `before` has what the block read.
    pub(super) fn settlement_rows(
        &self,
        header: &Header,
        body: &CheckedBody,
        before: &Records,
        outcome: &Outcome,
        layer: &mut Layer,
    ) -> Result<(), IndexError> {
        let (height, facts) = (header.height, body.facts());
        for bundle in body.bundles().iter().map(|bundle| &bundle.signed().bundle) {
            let (Some(settlement), Some(transfer)) = (bundle.settlement(), bundle.transfer()) else { continue };
            let intent = Intent { account: bundle.account, nonce: bundle.nonce, transfer: transfer.clone() };
            let ordered = Some((bundle.id().0, height.0));
            layer.settlements.insert(settlement, SettlementRow { intent, ordered, changed: height.0 });
        }
        for void in &facts.voids {
            let row = SettlementRow { intent: void.intent.clone(), ordered: None, changed: height.0 };
            layer.settlements.insert(void.sid(self.rules.network), row);
        }
        let claimed = facts.observations.iter().flat_map(|observation| &observation.claims);
        let mut touched: BTreeSet<SettlementId> = claimed
            .filter_map(|claim| match claim.subject {
                Subject::Leg { settlement, .. } => Some(settlement),
                Subject::Deposit { .. } => None,
            })
            .collect();
        touched.extend(outcome.decisions.values().flatten().map(|decision| decision.settlement));
        touched.extend(layer.settlements.keys());
        // Those that are late from now on.
        let asked = self.due_a_window_before(height, before);
        touched.extend(asked.filter(|settlement| outcome.writes.contains_key(&settlement_key(settlement))));
        for settlement in touched {
            let known = match layer.settlements.get(&settlement) {
                Some(row) => Some(row.clone()),
                None => self.settlement_row(&settlement)?,
            };
            let row = known.expect("what was ordered or voided has a row");
            let row = SettlementRow { changed: height.0, ..row };
            if let Some(record) = outcome.writes.get(&settlement_key(&settlement)) {
                let open = waits(&read_record(record));
                for rollup in row.intent.transfer.legs.iter().map(|leg| leg.rollup) {
                    if self.rules.rollups.contains_key(&rollup) {
                        layer.unsettled.insert((rollup, settlement), open);
                    }
                }
            }
            layer.settlements.insert(settlement, row);
        }
        for (rollup, decisions) in &outcome.decisions {
            let lane = self.lane(*rollup).expect("every rollup has a lane").leaf;
            let (mut sequence, mut before) = (lane.decision_sequence, lane.decisions);
            for decided in decisions {
                sequence += 1;
                let intent = layer.settlements[&decided.settlement].intent.clone();
                let row = DecisionRow { height, before, decision: decided.clone(), intent };
                before = decision::chain(before, decided.settlement, decided.outcome);
                layer.decisions.insert((*rollup, sequence), row);
            }
        }
        Ok(())
    }

    /// Settlements whose apply window ends at `height`.
    fn due_a_window_before<'a>(
        &self,
        height: Height,
        before: &'a Records,
    ) -> impl Iterator<Item = SettlementId> + use<'a> {
        let deadline = height.0.checked_sub(self.rules.settlement.apply_window).map(Height);
        let keys = deadline.into_iter().flat_map(|deadline| (0..DUE_PAGES).map(move |page| due_key(deadline, page)));
        let pages = keys.filter_map(|key| before.get(&key).copied().flatten());
        let pages = pages.map(|record| read_record::<DuePage>(&record));
        // The pages are a ring: one may still be another deadline's.
        let pages = pages.filter(move |page| Some(page.deadline) == deadline);
        pages.flat_map(|page| page.entries).map(|due| due.settlement)
    }
}

/// Whether somebody has to show something of it. Also one that was settled may be found short, after a reorganization: until it
/// is shown covered, its rollup takes no new settlement.
fn waits(record: &SettlementRecord) -> bool {
    !record.settled || record.legs.iter().any(|leg| leg.seen == Seen::Shortfall)
}
