//! How far did each margin transfer come, and how long did it take?
//!
//! The book behind the table of settlements. It is told facts with the moment at which a client saw them; it asks nobody.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use lockstep_protocol::ids::SettlementId;
use serde::Serialize;

use super::events::{Event, Heard, Kind, LegId};
use crate::{
    latency::{Latency, Percentiles},
    network::ROLLUPS,
};

/// Legs of the city's transfers: one is debited, one is credited.
const LEGS: usize = 2;

/// The book.
#[derive(Default)]
pub struct Settlements {
    open: HashMap<SettlementId, Entry>,
    counts: Counts,
    to_decided: Latency,
    to_applied: Latency,
    to_applied_at: [Latency; ROLLUPS.len()],
    locked: Latency,
    gas: Gas,
}

/// How many came how far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Whose bundle was ordered.
    pub ordered: u64,
    /// Decided: every leg moves.
    pub committed: u64,
    /// Decided: no leg moves, by reason.
    pub aborted: BTreeMap<String, u64>,
    /// Decided, and seen so on every rollup.
    pub applied: u64,
    /// Committed, by the rollup that was debited, in the order of the rollups.
    pub ways: [u64; ROLLUPS.len()],
    /// What was moved. Smallest units.
    pub moved: u128,
    /// Positions that were liquidated.
    pub liquidated: u64,
}

/// What to show.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// How many came how far.
    pub counts: Counts,
    /// Ordered and not decided.
    pub undecided: usize,
    /// Decided and not applied everywhere.
    pub unapplied: usize,
    /// From ordered to decided, as a client sees both.
    pub to_decided: Percentiles,
    /// From ordered to applied on every rollup.
    pub to_applied: Percentiles,
    /// From ordered to committed on each rollup, in their order.
    pub to_applied_at: [Percentiles; ROLLUPS.len()],
    /// How long the debited margin was at no venue.
    pub locked: Percentiles,
    /// What it cost.
    pub gas: Gas,
}

/// Gas, in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the field's own")]
pub struct Gas {
    pub prepares: u64,
    pub prepare_gas: u64,
    pub hub_calls: u64,
    pub hub_gas: u64,
    pub legs_applied: u64,
}

#[derive(Debug, Default)]
struct Entry {
    /// By somebody of the city: others' settlements are not waited for.
    sent: bool,
    ordered: Option<Instant>,
    decided: Option<Decided>,
    /// When a debit was seen prepared.
    locked: Option<Instant>,
    /// Legs that were seen applied, by rollup and index.
    applied: Vec<(usize, LegId)>,
    debit: Option<(usize, u128)>,
}

#[derive(Debug)]
struct Decided {
    commit: bool,
}

impl Settlements {
    /// Its bundle is about to be sent. Before, because a rollup may show it sooner than the answer comes.
    pub fn send(&mut self, sid: SettlementId) {
        self.open.entry(sid).or_default().sent = true;
    }

    /// Its bundle is proven to be ordered, at this moment, or never to be.
    pub fn conclude(&mut self, sid: SettlementId, ordered: Option<Instant>) {
        let Some(at) = ordered else {
            self.open.remove(&sid);
            return;
        };
        self.counts.ordered += 1;
        self.open.entry(sid).or_default().ordered = Some(at);
        self.close(sid, at);
    }

    /// Whether something is still to come of it.
    pub fn is_open(&self, sid: &SettlementId) -> bool {
        self.open.contains_key(sid)
    }

    /// A decision was read and verified. `Err` has the reason of an abort.
    pub fn decide(&mut self, sid: SettlementId, decision: Result<(), &str>, at: Instant) {
        match decision {
            Ok(()) => self.counts.committed += 1,
            Err(reason) => *self.counts.aborted.entry(reason.to_owned()).or_default() += 1,
        }
        let entry = self.open.entry(sid).or_default();
        entry.decided = Some(Decided { commit: decision.is_ok() });
        if let Some(ordered) = entry.ordered {
            self.to_decided.record(at.saturating_duration_since(ordered));
        }
        self.close(sid, at);
    }

    /// Contracts of the rollup at `place` said something.
    pub fn note(&mut self, place: usize, event: &Event, at: Instant) {
        match event {
            Event::Prepared { leg, debit: true, amount, .. } => {
                let entry = self.open.entry(leg.0).or_default();
                entry.locked.get_or_insert(at);
                entry.debit = Some((place, *amount));
            }
            Event::Committed { leg } | Event::Released { leg } => {
                let entry = self.open.entry(leg.0).or_default();
                if entry.applied.contains(&(place, *leg)) {
                    return;
                }
                entry.applied.push((place, *leg));
                self.gas.legs_applied += 1;
                if let (Event::Committed { .. }, Some(ordered)) = (event, entry.ordered) {
                    self.to_applied_at[place].record(at.saturating_duration_since(ordered));
                }
                if let (Some((debited, _)), Some(locked)) = (entry.debit, entry.locked)
                    && debited == place
                {
                    self.locked.record(at.saturating_duration_since(locked));
                }
                self.close(leg.0, at);
            }
            Event::Liquidated { .. } => self.counts.liquidated += 1,
            _ => {}
        }
    }

    /// What the transactions used in which something was said.
    pub fn spend(&mut self, heard: &Heard) {
        for cost in &heard.costs {
            let mut said = heard.said.iter().filter(|said| said.transaction == cost.transaction);
            // A transaction is one or the other: decisions are taken by the hub, legs are prepared at an escrow.
            match said.find_map(|said| said.event.kind()) {
                Some(Kind::Prepare) => {
                    self.gas.prepares += 1;
                    self.gas.prepare_gas += cost.gas;
                }
                Some(Kind::HubCall) => {
                    self.gas.hub_calls += 1;
                    self.gas.hub_gas += cost.gas;
                }
                None => {}
            }
        }
    }

    /// Sent by the city, and not applied everywhere.
    pub fn open(&self) -> impl Iterator<Item = &SettlementId> {
        self.open.iter().filter(|(_, entry)| entry.sent).map(|(sid, _)| sid)
    }

    /// What to show.
    pub fn view(&self) -> View {
        let decided = self.open.values().filter(|entry| entry.decided.is_some()).count();
        let ordered = self.open.values().filter(|entry| entry.ordered.is_some() && entry.decided.is_none()).count();
        View {
            counts: self.counts.clone(),
            undecided: ordered,
            unapplied: decided,
            to_decided: self.to_decided.percentiles(),
            to_applied: self.to_applied.percentiles(),
            to_applied_at: self.to_applied_at.each_ref().map(Latency::percentiles),
            locked: self.locked.percentiles(),
            gas: self.gas,
        }
    }

    /// Forgets a settlement once all is known of it.
    fn close(&mut self, sid: SettlementId, at: Instant) {
        let Some(entry) = self.open.get(&sid) else { return };
        let (Some(ordered), Some(decided)) = (entry.ordered, &entry.decided) else { return };
        if entry.applied.len() < LEGS {
            return;
        }
        self.counts.applied += 1;
        if decided.commit {
            self.to_applied.record(at.saturating_duration_since(ordered));
            if let Some((debited, amount)) = entry.debit {
                self.counts.ways[debited] += 1;
                self.counts.moved += amount;
            }
        }
        self.open.remove(&sid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use std::time::Duration;

    const SID: SettlementId = SettlementId([1; 32]);

    #[test]
    fn a_transfer_is_timed_from_its_order_and_closed_when_both_legs_are_applied() {
        let (mut book, start) = (Settlements::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        book.send(SID);
        book.conclude(SID, Some(start));
        book.note(0, &Event::Prepared { leg: (SID, 0), account: Address::ZERO, debit: true, amount: 5 }, after(100));
        book.decide(SID, Ok(()), after(400));
        book.note(1, &Event::Committed { leg: (SID, 1) }, after(600));
        assert_eq!(book.view().unapplied, 1);
        // The same leg again, as after a listener's restart, is no second leg.
        book.note(1, &Event::Committed { leg: (SID, 1) }, after(700));
        assert_eq!(book.open().count(), 1);
        book.note(0, &Event::Committed { leg: (SID, 0) }, after(900));
        let view = book.view();
        assert_eq!((view.undecided, view.unapplied, view.counts.applied), (0, 0, 1));
        assert_eq!((view.counts.ways, view.counts.moved), ([1, 0], 5));
        for (found, expected) in
            [(view.to_decided.max_ms, 400.0), (view.to_applied.max_ms, 900.0), (view.locked.max_ms, 800.0)]
        {
            assert!((found / expected - 1.0).abs() < 0.01, "{found} is not {expected}");
        }
    }

    #[test]
    fn an_abort_is_counted_by_its_reason_and_moves_nothing() {
        let (mut book, now) = (Settlements::default(), Instant::now());
        book.conclude(SID, Some(now));
        book.decide(SID, Err("refused"), now);
        for place in 0..2 {
            book.note(place, &Event::Released { leg: (SID, place as u8) }, now);
        }
        let counts = book.view().counts;
        assert_eq!(counts.aborted, BTreeMap::from([("refused".to_owned(), 1)]));
        assert_eq!((counts.applied, counts.ways, counts.moved), (1, [0, 0], 0));
    }

    #[test]
    fn what_a_rollup_shows_before_the_submitter_knows_of_the_order_is_kept() {
        let (mut book, now) = (Settlements::default(), Instant::now());
        book.note(0, &Event::Committed { leg: (SID, 0) }, now);
        book.note(1, &Event::Committed { leg: (SID, 1) }, now);
        book.decide(SID, Ok(()), now);
        assert_eq!(book.view().counts.applied, 0);
        book.conclude(SID, Some(now));
        assert_eq!(book.view().counts.applied, 1);
    }
}
