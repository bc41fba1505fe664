//! What does a final block change in the pool?
//!
//! What was ordered leaves; what can never be ordered any more leaves with a reason; what an account can no longer pay for
//! leaves, the latest nonces first. Reads no state itself: the caller brings the records of the accounts that changed.

use std::collections::BTreeMap;

use lockstep_protocol::{
    account::AccountRecord,
    ids::{Account, BundleId, Height},
    refusal::Refusal,
    transition::check_validity,
};

use super::{
    Dropped, classes,
    outbox::Item,
    view::BaseFees,
    waiting::{REMINDER_INTERVAL, Reminded, Waiting, check_cancel},
};

/// Parked bundles that are looked at again at each height: enough for a pool full of them within some seconds.
const UNPARKED_PER_HEIGHT: usize = 1_024;
/// Bundles and cancels that are passed on again at each height, so that reminders never crowd out what is new.
const REMINDERS_PER_HEIGHT: usize = 128;

/// What a final block did, as far as the pool is concerned.
pub(crate) struct Change<'a> {
    /// The block's height.
    pub(crate) height: Height,
    /// What it ordered.
    pub(crate) ordered: &'a [BundleId],
    /// Whether it decided a settlement, which may have freed what others wait for.
    pub(crate) decided: bool,
    /// Accounts that changed, with their records now.
    pub(crate) records: &'a BTreeMap<Account, Option<AccountRecord>>,
    /// Base fees of the next block.
    pub(crate) base_fees: BaseFees,
}

/// What the pool made of it.
#[derive(Default)]
pub(crate) struct Settled {
    /// Bundles of the block that had waited here.
    pub(crate) ordered: usize,
    /// Bundles that left without having been ordered.
    pub(crate) dropped: Vec<Dropped>,
    /// What to pass on again.
    pub(crate) reminders: Vec<Item>,
}

impl Waiting {
    /// Accounts with something in the pool, in order.
    pub(crate) fn open_accounts(&self) -> Vec<Account> {
        let mut accounts: Vec<_> = self.accounts.keys().copied().collect();
        accounts.sort_unstable();
        accounts
    }

    /// Takes a final block into account. Heights may be skipped if the records of all open accounts are given.
    pub(crate) fn settle(&mut self, change: Change<'_>) -> Settled {
        let mut settled = Settled::default();
        for id in change.ordered {
            settled.ordered += usize::from(self.remove(id).is_some());
        }
        for (account, record) in change.records {
            self.recheck(account, record.as_ref(), &mut settled.dropped);
        }
        if change.height >= self.height {
            self.height = change.height;
            self.base_fees = change.base_fees;
        }
        if change.decided {
            // The best of those that wait for it first.
            (self.freed, self.parked_cursor) = (self.height, None);
        }
        self.expire(&mut settled.dropped);
        self.unpark(UNPARKED_PER_HEIGHT);
        settled.reminders = self.remind();
        settled
    }

    fn recheck(&mut self, account: &Account, record: Option<&AccountRecord>, dropped: &mut Vec<Dropped>) {
        let Some(open) = self.accounts.get(account) else { return };
        if open.cancel.as_ref().is_some_and(|cancel| check_cancel(cancel, record).is_err()) {
            self.remove_cancel(account);
        }
        let Some(open) = self.accounts.get(account) else { return };
        let check = |nonce: u64| record.map_or(Err(Refusal::UnknownAccount), |record| record.nonces.check(nonce));
        let used = open.by_nonce.iter().filter_map(|(nonce, id)| Some((*id, check(*nonce).err()?)));
        for (id, refusal) in used.collect::<Vec<_>>() {
            self.remove(&id);
            dropped.push(Dropped { id, refusal });
        }
        let balance = record.map_or(0, |record| record.balance);
        while let Some(open) = self.accounts.get(account).filter(|open| open.promised > balance) {
            let (_, id) = open.by_nonce.last_key_value().expect("only bundles promise anything");
            let id = *id;
            let promised = open.promised;
            let bundle = self.remove(&id).expect("an open bundle waits");
            let needed = bundle.signed().bundle.max_fee;
            let available = balance.saturating_sub(promised - needed);
            dropped.push(Dropped { id, refusal: Refusal::InsufficientBalance { needed, available } });
        }
    }

    fn expire(&mut self, dropped: &mut Vec<Dropped>) {
        let height = self.height.next();
        while let Some((_, id)) = self.expiry.first().copied().filter(|(until, _)| *until < height) {
            let bundle = self.remove(&id).expect("a bundle that expires waits");
            let bundle = &bundle.signed().bundle;
            // A settlement may be too late for its deadline before its bundle is.
            let late =
                check_validity(bundle.valid_until, height).and_then(|()| classes::check_deadline(bundle, height));
            dropped.push(Dropped { id, refusal: late.expect_err("it cannot be ordered any more") });
        }
    }

    fn remind(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        while items.len() < REMINDERS_PER_HEIGHT {
            let Some((due, what)) = self.reminders.first().copied().filter(|(due, _)| *due <= self.height) else {
                break;
            };
            self.reminders.remove(&(due, what));
            let again = Height(self.height.0.saturating_add(REMINDER_INTERVAL));
            items.push(match what {
                Reminded::Bundle(id) => {
                    let entry = self.bundles.get_mut(&id).expect("a bundle with a reminder waits");
                    entry.reminder = Some(again);
                    Item::Bundle(entry.bundle.clone())
                }
                Reminded::Cancel(account) => {
                    let open = self.accounts.get_mut(&account).expect("an account with a reminder is open");
                    open.cancel_reminder = Some(again);
                    Item::Cancel(open.cancel.expect("a cancel with a reminder waits"))
                }
            });
            self.reminders.insert((again, what));
        }
        items
    }
}
