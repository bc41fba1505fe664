//! Which records may a block touch?
//!
//! Two steps, so that the state is read twice at most however long a chain of records is: what the body and the height name, and
//! what the records of the first step name. Proposer and verifier stage both before they execute.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    body::CheckedBody,
    genesis::Rules,
    ids::{Account, Height, SettlementId},
    limits::{CORRIDORS_PER_PAGE, DUE_PAGES, DUE_PER_PAGE},
    settlement::{
        Level, Subject,
        records::{
            Due, DuePage, SettlementRecord, deposit_key, due_key, exposure_key, head_key, in_flight_key, lease_key,
            rollup_key, settlement_key,
        },
    },
    state::{Key, Records, account_key, lane_key, treasury_key},
    transition::store::read,
};

impl CheckedBody {
    /// First step: every key that the body and the height name.
    pub fn keys(&self, rules: &Rules, height: Height) -> BTreeSet<Key> {
        let mut keys = BTreeSet::from([treasury_key()]);
        keys.extend(rules.rollups.keys().map(|rollup| lane_key(*rollup)));
        if height == Height(1) {
            keys.extend(rules.balances.iter().map(|balance| account_key(&balance.account)));
        }
        keys.extend(self.cancels.iter().map(|signed| account_key(&signed.cancel.account)));
        keys.extend(self.bundles.iter().map(|bundle| account_key(&bundle.signed().bundle.account)));
        keys.extend(self.facts.leases.iter().map(|signed| lease_key(signed.lease.rollup)));
        if rules.participants().next().is_some() {
            self.settlement_keys(rules, height, &mut keys);
        }
        keys
    }

    fn settlement_keys(&self, rules: &Rules, height: Height, keys: &mut BTreeSet<Key>) {
        keys.extend(rules.participants().map(rollup_key));
        keys.extend((0..rules.settlement.corridors.len().div_ceil(CORRIDORS_PER_PAGE)).map(exposure_key));
        keys.extend(self.leads(rules, height));
        for certificate in &self.facts.heads {
            // A head may contradict one of any level.
            let head = &certificate.head;
            keys.extend(Level::ALL.map(|level| head_key(head.rollup, level, head.number)));
        }
        for observation in &self.facts.observations {
            keys.insert(head_key(observation.rollup, observation.level, observation.number));
            for claim in &observation.claims {
                match &claim.subject {
                    Subject::Leg { .. } => {}
                    Subject::Deposit { account } => {
                        keys.insert(account_key(account));
                        keys.insert(deposit_key(observation.rollup, account));
                    }
                }
            }
        }
        for void in &self.facts.voids {
            keys.insert(settlement_key(&void.sid(rules.network)));
            keys.insert(account_key(&void.intent.account));
            keys.extend(void.shown().map(|leg| head_key(leg.rollup, void.level, void.number)));
        }
        for (settlement, account, _) in self.settlements() {
            keys.extend([settlement_key(&settlement), in_flight_key(&account)]);
        }
    }

    /// The keys of the first step whose records name further keys.
    pub fn leads(&self, rules: &Rules, height: Height) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        if rules.participants().next().is_none() {
            return keys;
        }
        for deadline in deadlines(rules, height) {
            keys.extend((0..DUE_PAGES).map(|page| due_key(deadline, page)));
        }
        keys.extend(self.shown().map(|settlement| settlement_key(&settlement)));
        keys.extend(self.settlements().map(|(_, _, deadline)| due_key(deadline, 0)));
        keys
    }

    /// Second step: every key that the records of the `leads` name. `records` holds those; others may be missing.
    pub fn more_keys(&self, rules: &Rules, height: Height, records: &Records) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        if rules.participants().next().is_none() {
            return keys;
        }
        let [now, late] = due(rules, height, |key| read(records, key));
        for Due { settlement, account } in now {
            keys.extend([settlement_key(&settlement), account_key(&account), in_flight_key(&account)]);
        }
        keys.extend(late.iter().map(|due| settlement_key(&due.settlement)));
        for settlement in self.shown() {
            if let Some(record) = read::<SettlementRecord>(records, &settlement_key(&settlement)) {
                keys.extend([account_key(&record.account), in_flight_key(&record.account)]);
            }
        }
        let mut new: BTreeMap<Height, usize> = BTreeMap::new();
        for (_, _, deadline) in self.settlements() {
            *new.entry(deadline).or_default() += 1;
        }
        for (deadline, new) in new {
            let count = first_page(deadline, |key| read(records, key)).count;
            let count = usize::try_from(count).expect("pages are few");
            let pages = count / DUE_PER_PAGE..(count + new).div_ceil(DUE_PER_PAGE).min(DUE_PAGES);
            keys.extend(pages.map(|page| due_key(deadline, page)));
        }
        keys
    }

    /// Settlements that the body says something about.
    fn shown(&self) -> impl Iterator<Item = SettlementId> + '_ {
        let claims = self.facts.observations.iter().flat_map(|observation| &observation.claims);
        let claimed = claims.filter_map(|claim| match &claim.subject {
            Subject::Leg { settlement, .. } => Some(*settlement),
            Subject::Deposit { .. } => None,
        });
        claimed.chain(self.facts.aborts.iter().map(|signed| signed.abort.settlement))
    }

    /// Settlements that the body opens.
    fn settlements(&self) -> impl Iterator<Item = (SettlementId, Account, Height)> + '_ {
        self.bundles.iter().filter_map(|bundle| {
            let signed = &bundle.signed().bundle;
            Some((bundle.settlement()?, signed.account, signed.transfer()?.deadline))
        })
    }
}

/// The deadlines that a block at `height` looks at: its own, and the one whose apply window ends with it.
fn deadlines(rules: &Rules, height: Height) -> impl Iterator<Item = Height> {
    let late = height.0.checked_sub(rules.settlement.apply_window).map(Height);
    std::iter::once(height).chain(late)
}

/// What is due at `height`, and what was due when the apply window began that ends now.
pub(crate) fn due(rules: &Rules, height: Height, page: impl Fn(&Key) -> Option<DuePage>) -> [Vec<Due>; 2] {
    let mut found = deadlines(rules, height).map(|deadline| entries(deadline, &page));
    [found.next().unwrap_or_default(), found.next().unwrap_or_default()]
}

/// The settlements of a deadline, by id.
fn entries(deadline: Height, page: impl Fn(&Key) -> Option<DuePage>) -> Vec<Due> {
    let pages = (0..DUE_PAGES).map_while(|number| {
        let page = page(&due_key(deadline, number))?;
        (page.deadline == deadline).then_some(page.entries)
    });
    let mut entries: Vec<_> = pages.flatten().collect();
    entries.sort();
    entries
}

/// The first page of a deadline: it counts the entries of all.
pub(crate) fn first_page(deadline: Height, page: impl Fn(&Key) -> Option<DuePage>) -> DuePage {
    let found = page(&due_key(deadline, 0)).filter(|page| page.deadline == deadline);
    found.unwrap_or_else(|| DuePage::empty(deadline))
}
