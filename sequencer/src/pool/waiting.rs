//! Which bundles and cancels wait, who may join them, and who has to leave?
//!
//! The pool's core: no lock, no clock, no signature. Everything in it was verified, and for every account the most that its
//! bundles may cost together is covered by its balance, so that whatever waits can be paid. What to propose is
//! `selection.rs`, what a final block changes is `upkeep.rs`.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    iter,
    ops::RangeInclusive,
    sync::Arc,
};

use lockstep_protocol::{
    account::AccountRecord,
    body::{CheckedBundle, Class},
    bundle::{Bundle, SignedBundle, SignedCancel},
    fees,
    ids::{Account, BundleId, Height},
    limits::MAX_OPEN_SETTLEMENTS,
    refusal::Refusal,
    transition::check_validity,
};

use super::{
    Dropped, PoolConfig,
    classes::{self, CLASSES},
    view::BaseFees,
};

/// Memory that a waiting bundle takes beside its encoded bytes: its place in six tables, its allocations, and that of its
/// signature among the verified. 924 bytes for two-leg transfers, as `tests/pool_memory.rs` measures; it makes
/// `PoolConfig::max_bytes` a bound of memory.
pub(crate) const ENTRY_BYTES: usize = 960;
/// Cancels that may wait, one for each account. Each takes about 300 bytes.
pub(crate) const CANCELS_MAX: usize = 16_384;
/// Heights after which what came from a client is passed on again, in case the others lost it.
pub(crate) const FIRST_REMINDER: u64 = 8;
/// Heights between later repetitions.
pub(crate) const REMINDER_INTERVAL: u64 = 64;

/// Heights that a settlement which could not be opened is left alone at first. Twice as many each time, so that what cannot be
/// opened for long costs a busy network few attempts and keeps an idle one idle.
const FIRST_HOLD: u64 = 4;
/// How often that doubles: 256 heights at most.
const HOLD_DOUBLINGS: u32 = 6;

/// A bundle's place among those that wait: the order of a body, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    class: Class,
    tip: u64,
    bytes: u64,
    id: BundleId,
}

impl Rank {
    pub(crate) fn of(bundle: &CheckedBundle) -> Self {
        Self { class: bundle.class(), tip: bundle.signed().bundle.tip, bytes: bundle.bytes(), id: bundle.id() }
    }

    /// The rank that a bundle of good shape and this class would have.
    pub(crate) fn of_unverified(bundle: &Bundle, class: Class) -> Self {
        Self { class, tip: bundle.tip, bytes: bundle.bytes(), id: bundle.id() }
    }

    /// All ranks of a class.
    pub(crate) fn all(class: Class) -> RangeInclusive<Self> {
        let first = Self { class, tip: u64::MAX, bytes: 0, id: BundleId([0; 32]) };
        let last = Self { class, tip: 0, bytes: u64::MAX, id: BundleId([u8::MAX; 32]) };
        first..=last
    }

    fn tip_per_kilobyte(&self) -> u64 {
        let tip = u128::from(self.tip) * 1_000 / u128::from(self.bytes.max(1));
        u64::try_from(tip).unwrap_or(u64::MAX)
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let mine = u128::from(self.tip) * u128::from(other.bytes);
        let theirs = u128::from(other.tip) * u128::from(self.bytes);
        self.class.cmp(&other.class).then_with(|| theirs.cmp(&mine)).then_with(|| self.id.cmp(&other.id))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Who brought a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A client of this node: it must be passed on.
    Client,
    /// Another validator.
    Validator,
}

/// What is known of the state when a bundle asks to join.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// Height of the next block.
    pub(crate) next: Height,
    /// The account's record.
    pub(crate) record: Option<&'a AccountRecord>,
}

/// What became of a bundle that asked to join.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It waits, and these had to leave for it.
    New(Vec<Dropped>),
    /// It waited already.
    Known,
}

pub(crate) struct Entry {
    pub(crate) bundle: Arc<CheckedBundle>,
    /// Bytes that it counts for.
    pub(crate) size: usize,
    /// When to pass it on again.
    pub(crate) reminder: Option<Height>,
    /// The block that could not open it, and the first that may try again.
    pub(crate) held: Option<(Height, Height)>,
    /// How often it could not.
    holds: u32,
}

/// What is passed on again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reminded {
    Bundle(BundleId),
    /// The account's.
    Cancel(Account),
}

/// What an account has in the pool.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) by_nonce: BTreeMap<u64, BundleId>,
    /// Sum of what its bundles may cost at most. Credits.
    pub(crate) promised: u64,
    /// How many of its bundles are settlements.
    pub(crate) settlements: u32,
    pub(crate) cancel: Option<SignedCancel>,
    /// When to pass the cancel on again.
    pub(crate) cancel_reminder: Option<Height>,
}

/// Everything that waits.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) config: PoolConfig,
    /// The height whose effects are taken into account.
    pub(crate) height: Height,
    /// Base fees of the block after it.
    pub(crate) base_fees: BaseFees,
    pub(crate) bundles: HashMap<BundleId, Entry>,
    /// Bundles that the fees allow, as far as is known.
    pub(crate) ready: BTreeMap<Rank, Arc<CheckedBundle>>,
    /// Bundles that allow less than the fee came to when they were last looked at, and settlements that could not be opened.
    pub(crate) parked: BTreeMap<Rank, Arc<CheckedBundle>>,
    /// The latest block that decided a settlement: what could not be opened before it perhaps can.
    pub(crate) freed: Height,
    /// Where the search for parked bundles that became ready goes on.
    pub(crate) parked_cursor: Option<Rank>,
    pub(crate) accounts: HashMap<Account, Open>,
    /// Accounts with a cancel.
    pub(crate) cancels: BTreeSet<Account>,
    pub(crate) expiry: BTreeSet<(Height, BundleId)>,
    pub(crate) reminders: BTreeSet<(Height, Reminded)>,
    /// Memory that the bundles of each class count for.
    pub(crate) bytes: [usize; CLASSES.len()],
}

impl Waiting {
    pub(crate) fn new(config: PoolConfig, height: Height, base_fees: BaseFees) -> Self {
        Self { config, height, base_fees, ..Self::default() }
    }

    /// Memory that all bundles count for.
    pub(crate) fn all_bytes(&self) -> usize {
        self.bytes.iter().sum()
    }

    /// Whether a bundle of good shape could join now, or waits already. Changes nothing, and costs less than a signature.
    pub(crate) fn check(&self, signed: &SignedBundle, class: Class, facts: Facts<'_>) -> Result<Option<Rank>, Refusal> {
        let rank = Rank::of_unverified(&signed.bundle, class);
        if self.bundles.contains_key(&rank.id) {
            return Ok(None);
        }
        let replaced = self.check_account(&signed.bundle, facts)?;
        self.displaced(&rank, size(signed), replaced)?;
        Ok(Some(rank))
    }

    /// Lets a verified bundle in, if need be instead of others.
    pub(crate) fn admit(
        &mut self,
        bundle: Arc<CheckedBundle>,
        facts: Facts<'_>,
        source: Source,
    ) -> Result<Admitted, Refusal> {
        let (id, rank, size) = (bundle.id(), Rank::of(&bundle), size(bundle.signed()));
        if self.bundles.contains_key(&id) {
            return Ok(Admitted::Known);
        }
        let signed = &bundle.signed().bundle;
        let replaced = self.check_account(signed, facts)?;
        let evicted = self.displaced(&rank, size, replaced)?;
        let full = self.full(bundle.class());
        let mut dropped = Vec::with_capacity(evicted.len() + 1);
        for id in evicted {
            self.remove(&id).expect("an evicted bundle waits");
            dropped.push(Dropped { id, refusal: full.clone() });
        }
        if let Some(id) = replaced {
            self.remove(&id).expect("a replaced bundle waits");
            let refusal = Refusal::ReplacementUnderpriced { nonce: signed.nonce, tip: signed.tip };
            dropped.push(Dropped { id, refusal });
        }
        let reminder = first_reminder(facts.next, source);
        let open = self.accounts.entry(signed.account).or_default();
        open.by_nonce.insert(signed.nonce, id);
        open.promised = open.promised.checked_add(signed.max_fee).expect("promises are covered by a balance");
        open.settlements += u32::from(bundle.class() == Class::Settlement);
        self.expiry.insert((classes::last_height(signed), id));
        self.reminders.extend(reminder.map(|height| (height, Reminded::Bundle(id))));
        self.bytes[bundle.class() as usize] += size;
        self.ready.insert(rank, bundle.clone());
        self.bundles.insert(id, Entry { bundle, size, reminder, held: None, holds: 0 });
        Ok(Admitted::New(dropped))
    }

    /// Lets a verified cancel in. One for each account.
    pub(crate) fn admit_cancel(
        &mut self,
        signed: SignedCancel,
        facts: Facts<'_>,
        source: Source,
    ) -> Result<(), Refusal> {
        let cancel = &signed.cancel;
        check_cancel(&signed, facts.record)?;
        if let Some(waiting) = self.accounts.get(&cancel.account).and_then(|open| open.cancel.as_ref()) {
            // The same again is the same wish.
            return if waiting.cancel == *cancel { Ok(()) } else { Err(Refusal::CancelPending) };
        }
        if self.cancels.len() >= CANCELS_MAX {
            return Err(Refusal::NotReady { detail: format!("{CANCELS_MAX} cancels are waiting") });
        }
        let reminder = first_reminder(facts.next, source);
        self.cancels.insert(cancel.account);
        self.reminders.extend(reminder.map(|height| (height, Reminded::Cancel(cancel.account))));
        let open = self.accounts.entry(cancel.account).or_default();
        (open.cancel, open.cancel_reminder) = (Some(signed), reminder);
        Ok(())
    }

    /// Whether a bundle is to be left alone in the next block.
    pub(crate) fn is_held(&self, id: &BundleId) -> bool {
        let held = self.bundles.get(id).and_then(|entry| entry.held);
        held.is_some_and(|(since, until)| until > self.height.next() && since >= self.freed)
    }

    /// Takes a bundle out.
    pub(crate) fn remove(&mut self, id: &BundleId) -> Option<Arc<CheckedBundle>> {
        let Entry { bundle, size, reminder, .. } = self.bundles.remove(id)?;
        let rank = Rank::of(&bundle);
        self.ready.remove(&rank).or_else(|| self.parked.remove(&rank)).expect("a waiting bundle has a rank");
        let signed = &bundle.signed().bundle;
        self.expiry.remove(&(classes::last_height(signed), *id));
        if let Some(height) = reminder {
            self.reminders.remove(&(height, Reminded::Bundle(*id)));
        }
        self.bytes[bundle.class() as usize] -= size;
        let open = self.accounts.get_mut(&signed.account).expect("the account of a waiting bundle is open");
        open.by_nonce.remove(&signed.nonce);
        open.promised -= signed.max_fee;
        open.settlements -= u32::from(bundle.class() == Class::Settlement);
        self.forget_if_idle(&signed.account);
        Some(bundle)
    }

    /// Leaves a settlement alone for a while that could not be opened in a block at `height`.
    pub(crate) fn hold(&mut self, id: &BundleId, height: Height) -> bool {
        let Some(entry) = self.bundles.get_mut(id) else { return false };
        let until = height.0.saturating_add(FIRST_HOLD << entry.holds.min(HOLD_DOUBLINGS));
        entry.held = Some((height, Height(until)));
        entry.holds = entry.holds.saturating_add(1);
        let rank = Rank::of(&entry.bundle);
        if let Some(bundle) = self.ready.remove(&rank) {
            self.parked.insert(rank, bundle);
        }
        true
    }

    pub(crate) fn remove_cancel(&mut self, account: &Account) {
        if self.cancels.remove(account) {
            let open = self.accounts.get_mut(account).expect("an account with a cancel is open");
            open.cancel = None;
            if let Some(height) = open.cancel_reminder.take() {
                self.reminders.remove(&(height, Reminded::Cancel(*account)));
            }
            self.forget_if_idle(account);
        }
    }

    fn forget_if_idle(&mut self, account: &Account) {
        if self.accounts.get(account).is_some_and(|open| open.by_nonce.is_empty() && open.cancel.is_none()) {
            self.accounts.remove(account);
        }
    }

    /// Checks everything but room; returns the bundle that would be replaced.
    fn check_account(&self, bundle: &Bundle, facts: Facts<'_>) -> Result<Option<BundleId>, Refusal> {
        check_validity(bundle.valid_until, facts.next)?;
        classes::check_deadline(bundle, facts.next)?;
        let record = facts.record.ok_or(Refusal::UnknownAccount)?;
        record.nonces.check(bundle.nonce)?;
        let needed = fee(bundle, &self.base_fees)?;
        if needed > bundle.max_fee {
            return Err(Refusal::FeeTooLow { needed, max_fee: bundle.max_fee });
        }
        let Some(open) = self.accounts.get(&bundle.account) else {
            return check_promise(bundle.max_fee, 0, record.balance).map(|()| None);
        };
        let replaced = open.by_nonce.get(&bundle.nonce).copied();
        let settles = |id: &BundleId| self.bundles[id].bundle.class() == Class::Settlement;
        let settlements = open.settlements - u32::from(replaced.as_ref().is_some_and(settles));
        // More of an account's could not be open at once.
        if bundle.transfer().is_some() && settlements >= MAX_OPEN_SETTLEMENTS {
            return Err(Refusal::TooManySettlements { max: MAX_OPEN_SETTLEMENTS, open: settlements });
        }
        let Some(id) = replaced else {
            if open.by_nonce.len() >= self.config.max_open_per_account {
                let (max, open) = (self.config.max_open_per_account, open.by_nonce.len());
                return Err(Refusal::TooManyOpen { max, open });
            }
            return check_promise(bundle.max_fee, open.promised, record.balance).map(|()| None);
        };
        let old = &self.bundles[&id].bundle.signed().bundle;
        if bundle.tip <= old.tip {
            return Err(Refusal::ReplacementUnderpriced { nonce: bundle.nonce, tip: old.tip });
        }
        check_promise(bundle.max_fee, open.promised - old.max_fee, record.balance).map(|()| replaced)
    }

    /// Who has to leave so that a newcomer has room: the worst of its class, and only those that it beats. A class that is within
    /// what it is sure of takes it back from the one that has borrowed most.
    fn displaced(&self, newcomer: &Rank, size: usize, replaced: Option<BundleId>) -> Result<Vec<BundleId>, Refusal> {
        let own = newcomer.class as usize;
        let mut used = self.bytes;
        if let Some(entry) = replaced.map(|id| &self.bundles[&id]) {
            used[entry.bundle.class() as usize] -= entry.size;
        }
        used[own] += size;
        let mut worst =
            CLASSES.map(|class| self.worst_first(class).filter(|rank| Some(rank.id) != replaced).peekable());
        let mut evicted = Vec::new();
        while used.iter().sum::<usize>() > self.config.max_bytes {
            let borrowed =
                |place: usize| used[place].saturating_sub(classes::memory(CLASSES[place], self.config.max_bytes));
            let most = (0..CLASSES.len()).filter(|place| *place != own).max_by_key(|place| borrowed(*place));
            let leaving = match most.filter(|place| borrowed(own) == 0 && borrowed(*place) > 0) {
                Some(place) => worst[place].next(),
                None => worst[own].next_if(|worst| newcomer < worst),
            };
            let leaving = leaving.ok_or_else(|| self.full(newcomer.class))?;
            used[leaving.class as usize] -= self.bundles[&leaving.id].size;
            evicted.push(leaving.id);
        }
        Ok(evicted)
    }

    fn worst_first(&self, class: Class) -> impl Iterator<Item = &Rank> {
        let mut ready = self.ready.range(Rank::all(class)).rev().map(|(rank, _)| rank).peekable();
        let mut parked = self.parked.range(Rank::all(class)).rev().map(|(rank, _)| rank).peekable();
        iter::from_fn(move || match (ready.peek(), parked.peek()) {
            (Some(a), Some(b)) if a < b => parked.next(),
            (None, Some(_)) => parked.next(),
            _ => ready.next(),
        })
    }

    /// What a newcomer of a class is told.
    fn full(&self, class: Class) -> Refusal {
        let worst = self.worst_first(class).next();
        Refusal::PoolFull { bytes: self.all_bytes(), tip_per_kilobyte: worst.map_or(0, Rank::tip_per_kilobyte) }
    }
}

/// What a bundle would pay in the next block.
pub(crate) fn fee(bundle: &Bundle, base_fees: &BaseFees) -> Result<u64, Refusal> {
    match bundle.legs.iter().find(|leg| !base_fees.contains_key(&leg.rollup)) {
        Some(leg) => Err(Refusal::UnknownRollup { rollup: leg.rollup }),
        None => Ok(fees::total(bundle.legs.iter().map(|leg| (base_fees[&leg.rollup], leg.bytes())), bundle.tip)),
    }
}

/// Whether a cancel would still cancel something, as the transition will ask.
pub(crate) fn check_cancel(signed: &SignedCancel, record: Option<&AccountRecord>) -> Result<(), Refusal> {
    let window = &record.ok_or(Refusal::UnknownAccount)?.nonces;
    let (first, last) = (signed.cancel.nonces.first, signed.cancel.nonces.last);
    if last > window.highest() {
        return Err(Refusal::NonceTooFarAhead { nonce: last, highest: window.highest() });
    }
    if (first..=last).all(|nonce| window.check(nonce).is_err()) {
        return Err(Refusal::NothingToCancel { first, last });
    }
    Ok(())
}

/// Only what a client brought here is passed on from here.
fn first_reminder(next: Height, source: Source) -> Option<Height> {
    (source == Source::Client).then(|| Height(next.0.saturating_add(FIRST_REMINDER)))
}

fn check_promise(needed: u64, promised: u64, balance: u64) -> Result<(), Refusal> {
    let available = balance.saturating_sub(promised);
    if needed > available { Err(Refusal::InsufficientBalance { needed, available }) } else { Ok(()) }
}

fn size(signed: &SignedBundle) -> usize {
    ENTRY_BYTES + borsh::object_length(signed).expect("measuring does not fail")
}
