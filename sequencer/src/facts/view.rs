//! What does the log keep of each rollup, and which heads does a settlement still wait for?
//!
//! A copy of the state's records about rollups, refreshed after each block with what the block touched. Decides nothing about
//! validity: the transition does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lockstep_protocol::{
    genesis::Rules,
    ids::{Height, RollupId, SettlementId},
    limits::HEAD_RING,
    settlement::{
        Head, Level,
        records::{HeadRecord, RollupRecord, Seen, SettlementRecord, head_key, rollup_key, settlement_key},
    },
    state::{Key, Records, Stored},
};

/// Settlements that are followed, the newest: they only tell whether a head is worth a block of its own, and where there are
/// more there are blocks enough.
const FOLLOWED_MAX: usize = 256;
/// Heights after its last step for which a settlement is waited for. A rollup that halts must not keep the log busy.
const AWAITED_HEIGHTS: u64 = 512;

/// What the log keeps of a rollup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollupView {
    /// Its record.
    pub record: RollupRecord,
    /// The heads that the log keeps, of any incarnation.
    slots: BTreeMap<(Level, u64), Head>,
}

impl RollupView {
    /// The kept heads of the current incarnation.
    pub fn kept(&self) -> impl Iterator<Item = &Head> {
        self.slots.values().filter(|head| head.incarnation == self.record.incarnation)
    }

    /// Whether the log keeps a head of this level and number, so that proofs against it count.
    pub fn keeps(&self, level: Level, number: u64) -> bool {
        let kept = self.slots.get(&(level, number % HEAD_RING));
        kept.is_some_and(|head| head.number == number && head.incarnation == self.record.incarnation)
    }

    /// Whether the log has use for a certificate of this head: it is newer than the latest of its level, or shows a
    /// reorganization.
    pub fn wants(&self, head: &Head) -> bool {
        let current = self.record.incarnation;
        if head.incarnation == current {
            self.record.latest[head.level as usize].is_none_or(|latest| head.number > latest)
        } else {
            current.checked_add(1) == Some(head.incarnation) && self.contradicts(head)
        }
    }

    /// Whether a kept head of the same number is another block.
    fn contradicts(&self, head: &Head) -> bool {
        let other = |level| self.slots.get(&(level, head.number % HEAD_RING));
        Level::ALL.into_iter().filter_map(other).any(|kept| {
            kept.number == head.number
                && kept.incarnation == self.record.incarnation
                && (kept.block_hash, kept.state_root) != (head.block_hash, head.state_root)
        })
    }

    #[cfg(test)]
    pub(crate) fn of(record: RollupRecord, kept: impl IntoIterator<Item = Head>) -> Self {
        Self { record, slots: kept.into_iter().map(|head| ((head.level, head.number % HEAD_RING), head)).collect() }
    }
}

/// What the log keeps of all rollups.
pub(super) struct View {
    rollups: BTreeMap<RollupId, Arc<RollupView>>,
    height: Height,
    /// Heads that blocks have touched and that were not read since.
    touched: Vec<(Height, RollupId, Level, u64)>,
    followed: BTreeMap<SettlementId, Height>,
    awaited: BTreeSet<(RollupId, Level)>,
    loaded: bool,
}

impl View {
    pub(super) fn new(rules: &Rules) -> Self {
        let rollups = rules.participants().map(|rollup| (rollup, Arc::default())).collect();
        Self {
            rollups,
            height: Height(0),
            touched: Vec::new(),
            followed: BTreeMap::new(),
            awaited: BTreeSet::new(),
            loaded: false,
        }
    }

    pub(super) fn rollup(&self, rollup: RollupId) -> Option<&Arc<RollupView>> {
        self.rollups.get(&rollup)
    }

    /// The height that the copy is of.
    pub(super) fn height(&self) -> Height {
        self.height
    }

    /// Whether the state was read since the start.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Whether a settlement waits for something that only a head of this level can show.
    pub(super) fn awaits(&self, rollup: RollupId, level: Level) -> bool {
        self.awaited.contains(&(rollup, level))
    }

    /// Notes that a final block has touched a head.
    pub(super) fn touch(&mut self, height: Height, head: &Head) {
        self.touched.push((height, head.rollup, head.level, head.number));
    }

    /// Follows a settlement that a block has ordered.
    pub(super) fn follow(&mut self, settlement: SettlementId, height: Height) {
        self.followed.insert(settlement, height);
        if self.followed.len() > FOLLOWED_MAX {
            let oldest = self.followed.iter().min_by_key(|(id, height)| (**height, **id)).map(|(id, _)| *id);
            self.followed.remove(&oldest.expect("there are many"));
        }
    }

    /// What has to be read to refresh the copy.
    pub(super) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.rollups.keys().map(|rollup| rollup_key(*rollup)).collect();
        if self.loaded {
            keys.extend(self.touched.iter().map(|(_, rollup, level, number)| head_key(*rollup, *level, *number)));
        } else {
            for rollup in self.rollups.keys() {
                let slots = Level::ALL.into_iter().flat_map(|level| (0..HEAD_RING).map(move |slot| (level, slot)));
                keys.extend(slots.map(|(level, slot)| head_key(*rollup, level, slot)));
            }
        }
        keys.extend(self.followed.keys().map(settlement_key));
        keys
    }

    /// Takes what was read at `height`. Whether a settlement waits now for something that none waited for before.
    pub(super) fn refresh(&mut self, rules: &Rules, height: Height, records: &Records) -> bool {
        fn read<T: Stored>(records: &Records, key: &Key) -> Option<T> {
            let record = records.get(key).copied().flatten()?;
            Some(T::from_record(&record).expect("records of the state are of the kind that their key says"))
        }
        for (rollup, view) in &mut self.rollups {
            let record: RollupRecord = read(records, &rollup_key(*rollup)).unwrap_or_default();
            let slots: Vec<(Level, u64)> = if self.loaded {
                let touched = self.touched.iter().filter(|(_, of, ..)| of == rollup);
                touched.map(|(_, _, level, number)| (*level, number % HEAD_RING)).collect()
            } else {
                Level::ALL.into_iter().flat_map(|level| (0..HEAD_RING).map(move |slot| (level, slot))).collect()
            };
            if record == view.record && slots.is_empty() {
                continue;
            }
            let view = Arc::make_mut(view);
            view.record = record;
            for (level, slot) in slots {
                if let Some(known) = read::<HeadRecord>(records, &head_key(*rollup, level, slot)) {
                    view.slots.insert((level, slot), known.head);
                }
            }
        }
        // What a later block has touched was read too early.
        self.touched.retain(|(touched, ..)| *touched > height);
        self.height = height;
        self.loaded = true;
        let before = std::mem::take(&mut self.awaited);
        let rollups = &self.rollups;
        let awaited = &mut self.awaited;
        self.followed.retain(|settlement, since| {
            let Some(record) = read::<SettlementRecord>(records, &settlement_key(settlement)) else {
                // Ordered by a block that was not readable yet.
                return since.0.saturating_add(AWAITED_HEIGHTS) > height.0;
            };
            let step = record.decided.map_or(*since, |decided| decided.height.max(*since));
            if record.settled || step.0.saturating_add(AWAITED_HEIGHTS) <= height.0 {
                return false;
            }
            for leg in &record.legs {
                let Some(rollup) = rules.at_place(leg.rollup) else { continue };
                let Some(participant) = &rollup.settlement else { continue };
                let incarnation = rollups.get(&rollup.id).map_or(0, |view| view.record.incarnation);
                let (wanted, level) = match record.decided {
                    None => (Seen::Prepared, leg.level),
                    Some(_) => (Seen::Applied, participant.settled_level),
                };
                if leg.seen != wanted || leg.incarnation != incarnation {
                    awaited.insert((rollup.id, level));
                }
            }
            true
        });
        !self.awaited.is_subset(&before)
    }
}
