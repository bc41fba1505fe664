//! Does one of several posters post at a time, and does another when it stops?

use lockstep_adapters::poster::lease::{BookFuture, HEIGHTS_MAX, Lease, LeaseBook, LogLease, Verdict};
use lockstep_protocol::{
    ids::Height,
    settlement::{SignedLease, records::LeaseRecord},
};

use crate::book::{Book, HEIGHTS, ROLLUP, poster};

/// Blocks come while something is asked.
async fn ask(book: &Book, lease: &mut impl Lease) -> Verdict {
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

/// A log that is asked at a node which is ahead of the one that is given offers.
struct Uneven(Book);

impl LeaseBook for Uneven {
    fn read(&self) -> BookFuture<'_, (Option<LeaseRecord>, Height)> {
        Box::pin(async {
            let (record, tip) = self.0.read().await?;
            Ok((record, Height(tip.0 + 30)))
        })
    }

    fn offer(&self, signed: SignedLease) -> BookFuture<'_, ()> {
        self.0.offer(signed)
    }
}

#[tokio::test]
async fn the_longest_lease_is_taken_by_a_node_that_is_behind_too() {
    let book = Book::new();
    let network = book.0.lock().expect("no holder panics").0.rules.network;
    let mut lease = LogLease::new(Uneven(book.clone()), poster(0), network, ROLLUP, u64::MAX);
    assert_eq!(ask(&book, &mut lease).await, Verdict::Held);
    let tip = book.0.lock().expect("no holder panics").0.parent.height;
    let left = book.record().expect("it is taken").until.0 - tip.0;
    assert!((HEIGHTS_MAX..HEIGHTS_MAX + 30).contains(&left), "{left} heights");
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
