//! Does one of several posters post at a time, and does another when it stops?

use std::sync::{Arc, Mutex};

use lockstep_adapters::poster::lease::{BookFuture, Lease, LeaseBook, LogLease, Verdict};
use lockstep_protocol::{
    body::Facts,
    genesis::Genesis,
    ids::{Height, RollupId},
    settlement::{
        SignedLease,
        records::{LeaseRecord, lease_key},
    },
    signature::AccountKey,
};

use crate::fixture::{self, Network};

const ROLLUP: RollupId = RollupId(10);
const HEIGHTS: u64 = 20;

fn poster(number: u8) -> AccountKey {
    AccountKey::ed25519([0x70 + number; 32])
}

fn genesis() -> Genesis {
    let mut genesis = fixture::genesis("lockstep-lease-1", 1, 1_000, &[ROLLUP.0]);
    let mut posters = vec![poster(0).account(), poster(1).account()];
    posters.sort();
    genesis.rollups[0].posters = posters;
    genesis
}

/// The log: takes what is offered in its next block.
#[derive(Clone)]
struct Book(Arc<Mutex<(Network, Vec<SignedLease>)>>);

impl Book {
    fn new() -> Self {
        let book = Self(Arc::new(Mutex::new((Network::from_genesis(genesis()), Vec::new()))));
        book.block();
        book
    }

    fn block(&self) {
        let mut held = self.0.lock().expect("no holder panics");
        let leases = std::mem::take(&mut held.1);
        held.0.advance_with(Facts { leases, ..Facts::default() }, vec![], vec![]);
    }

    fn record(&self) -> Option<LeaseRecord> {
        self.0.lock().expect("no holder panics").0.record(&lease_key(ROLLUP))
    }

    fn lease(&self, number: u8) -> LogLease<Self> {
        let network = self.0.lock().expect("no holder panics").0.rules.network;
        LogLease::new(self.clone(), poster(number), network, ROLLUP, HEIGHTS)
    }
}

impl LeaseBook for Book {
    fn read(&self) -> BookFuture<'_, (Option<LeaseRecord>, Height)> {
        Box::pin(async {
            let tip = self.0.lock().expect("no holder panics").0.parent.height;
            Ok((self.record(), tip))
        })
    }

    fn offer(&self, signed: SignedLease) -> BookFuture<'_, ()> {
        Box::pin(async move {
            self.0.lock().expect("no holder panics").1.push(signed);
            Ok(())
        })
    }
}

/// Blocks come while something is asked.
async fn ask(book: &Book, lease: &mut LogLease<Book>) -> Verdict {
    let blocks = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            book.block();
        }
    };
    tokio::select! {
        verdict = lease.may_post() => verdict.expect("the log answers"),
        () = blocks => unreachable!("blocks never end"),
    }
}

#[tokio::test]
async fn of_two_posters_one_posts_and_goes_on_as_long_as_it_asks() {
    let book = Book::new();
    let (mut first, mut second) = (book.lease(0), book.lease(1));
    let both = tokio::join!(ask(&book, &mut first), ask(&book, &mut second));
    let (leader, other) = match both {
        (Verdict::Held, Verdict::Other { .. }) => (&mut first, &mut second),
        (Verdict::Other { .. }, Verdict::Held) => (&mut second, &mut first),
        both => panic!("one of two posts: {both:?}"),
    };
    let term = book.record().expect("it is taken").term;
    for _ in 0..6 * HEIGHTS {
        book.block();
        assert_eq!(ask(&book, leader).await, Verdict::Held);
        assert!(matches!(ask(&book, other).await, Verdict::Other { .. }));
    }
    let record = book.record().expect("it is held");
    assert_eq!((record.term, term), (1, 1), "it never changed hands");
}

#[tokio::test]
async fn when_its_holder_stops_another_takes_over_and_the_first_waits_when_it_is_back() {
    let book = Book::new();
    let (mut first, mut second) = (book.lease(0), book.lease(1));
    assert_eq!(ask(&book, &mut first).await, Verdict::Held);
    let until = book.record().expect("it is taken").until;
    drop(first);
    let mut waited = 0;
    while let Verdict::Other { holder } = ask(&book, &mut second).await {
        assert_eq!(holder, poster(0).account().to_string());
        book.block();
        waited += 1;
        assert!(waited < 10 * HEIGHTS, "it is never taken over");
    }
    let record = book.record().expect("it is taken");
    assert_eq!((record.holder, record.term), (poster(1).account(), 2));
    assert!(waited + 2 >= HEIGHTS / 2 && record.until > until, "not before it was over: {waited} blocks");
    let mut back = book.lease(0);
    assert!(matches!(ask(&book, &mut back).await, Verdict::Other { .. }));
}

#[tokio::test]
async fn a_log_that_does_not_take_the_lease_lets_nobody_post() {
    let book = Book::new();
    let network = book.0.lock().expect("no holder panics").0.rules.network;
    // Not one of the rollup's posters.
    let mut stranger = LogLease::new(book.clone(), poster(9), network, ROLLUP, HEIGHTS);
    let blocks = async {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            book.block();
        }
    };
    tokio::select! {
        verdict = stranger.may_post() => assert!(verdict.is_err(), "{verdict:?}"),
        () = blocks => unreachable!("blocks never end"),
    }
    assert_eq!(book.record(), None);
}
