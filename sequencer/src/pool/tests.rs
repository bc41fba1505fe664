mod by_class;
mod refusals;
mod selecting;
mod upkeep;

use std::collections::HashSet;

use lockstep_protocol::{bundle::SignedBundle, ids::BundleId, refusal::Refusal, report::Report};

use super::{waiting::Reminded, *};
use crate::fixture::*;

fn ids(bundles: &[Arc<CheckedBundle>]) -> Vec<BundleId> {
    bundles.iter().map(|bundle| bundle.id()).collect()
}

/// Everything that could be proposed in the next block.
fn select_all(pool: &Pool) -> Selection {
    let height = pool.height().next();
    pool.select(&Request { height, taken: &HashSet::new(), bytes: 1 << 20, count: 10_000 })
}

fn ordered(signed: &SignedBundle, height: u64) -> (Account, Report) {
    let bundle = &signed.bundle;
    let event = Event::Ordered { bundle: bundle.id(), nonce: bundle.nonce, tag: bundle.tag, fee: 300 };
    (bundle.account, Report { sequence: 1, height: Height(height), event })
}

/// All that must hold between the tables of the pool, whatever happened.
fn check_invariants(pool: &Pool, view: &View) {
    let waiting = pool.lock();
    for class in classes::CLASSES {
        let entries = waiting.bundles.values().filter(|entry| entry.bundle.class() == class);
        assert_eq!(waiting.bytes[class as usize], entries.map(|entry| entry.size).sum::<usize>());
    }
    assert!(waiting.all_bytes() <= waiting.config.max_bytes);
    assert_eq!(waiting.ready.len() + waiting.parked.len(), waiting.bundles.len());
    assert_eq!(waiting.expiry.len(), waiting.bundles.len());
    let bundles = waiting.bundles.iter().filter_map(|(id, entry)| Some((entry.reminder?, Reminded::Bundle(*id))));
    let cancels = waiting.accounts.iter();
    let cancels = cancels.filter_map(|(account, open)| Some((open.cancel_reminder?, Reminded::Cancel(*account))));
    assert_eq!(waiting.reminders, bundles.chain(cancels).collect());
    assert_eq!(waiting.accounts.values().map(|open| open.by_nonce.len()).sum::<usize>(), waiting.bundles.len());
    assert_eq!(waiting.accounts.values().filter(|open| open.cancel.is_some()).count(), waiting.cancels.len());
    for (account, open) in &waiting.accounts {
        assert!(!open.by_nonce.is_empty() || open.cancel.is_some(), "an idle account is forgotten");
        let max_fee = |id| waiting.bundles[id].bundle.signed().bundle.max_fee;
        let settles =
            |id: &&BundleId| waiting.bundles[*id].bundle.class() == lockstep_protocol::body::Class::Settlement;
        assert_eq!(open.settlements as usize, open.by_nonce.values().filter(settles).count());
        assert_eq!(open.promised, open.by_nonce.values().map(max_fee).sum::<u64>());
        let record = view.account(account).expect("only known accounts get in");
        if waiting.height == view.height() {
            assert!(open.promised <= record.balance, "every promise is covered");
            assert!(open.by_nonce.keys().all(|nonce| record.nonces.check(*nonce).is_ok()), "every nonce is free");
        }
        for (nonce, id) in &open.by_nonce {
            let bundle = &waiting.bundles[id].bundle.signed().bundle;
            assert_eq!((bundle.nonce, bundle.account), (*nonce, *account));
            assert!(classes::last_height(bundle) > waiting.height, "nothing expired waits");
        }
    }
}
