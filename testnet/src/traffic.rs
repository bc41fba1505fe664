//! Who keeps the network busy?
//!
//! Sends bundles at a steady rate through the SDK, each with a wallet's transfers on every rollup, and writes down what
//! became of each one. A bundle is resent until its outcome is proven: nodes may be killed at any time.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use lockstep_protocol::{bundle::SignedBundle, evidence::BundleState, ids::Height};
use lockstep_sdk::{
    Client,
    error::{Error, Fault},
    submit::SubmitError,
};
use tokio::{sync::watch, task::JoinSet, time::MissedTickBehavior};

use crate::{accounts::Sender, latency::Latency, ledger::Ledger};

/// Heights for which a bundle is valid: seconds under load; long enough to outlive a restart, in which no block is made.
const VALID_FOR: u64 = 256;
/// How long a node is waited for before the bundle is sent again.
const FIRST_WAIT: Duration = Duration::from_secs(3);
/// Pause after an attempt that was over at once.
const PAUSE: Duration = Duration::from_millis(250);
/// How long one attempt at an outcome may take. There is always another.
const ATTEMPT: Duration = Duration::from_secs(20);

/// What the traffic and everyone who looks at it share.
#[derive(Clone)]
pub struct Book(Arc<Shared>);

struct Shared {
    ledger: Mutex<Ledger>,
    finality: Mutex<Latency>,
    /// The highest height that a proof or a follower told of.
    height: AtomicU64,
}

/// Traffic that flows until it is stopped. Dropping it ends it, with everything that is on the way.
pub struct Traffic {
    stop: watch::Sender<bool>,
    task: JoinSet<()>,
}

impl Book {
    /// An empty book for what `followers` see.
    pub fn new(followers: usize) -> Self {
        Self(Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(followers)),
            finality: Mutex::default(),
            height: AtomicU64::new(0),
        }))
    }

    /// The ledger.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every entry is complete on its own: whoever panicked while writing one is reported by that panic.
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it took from submitting to the proven outcome.
    pub fn finality(&self) -> MutexGuard<'_, Latency> {
        self.0.finality.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest final height that was heard of.
    pub fn height(&self) -> Height {
        Height(self.0.height.load(Ordering::Relaxed))
    }

    /// Notes that a height is final.
    pub fn note_height(&self, height: Height) {
        self.0.height.fetch_max(height.0, Ordering::Relaxed);
    }
}

impl Traffic {
    /// Starts to send `rate` bundles a second, through one client after the other.
    pub fn start(book: Book, clients: Vec<Client>, senders: Arc<Vec<Sender>>, rate: f64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(flow(book, clients, senders, rate, stopped));
        Self { stop, task }
    }

    /// Stops to send, and waits at most for `within` until every bundle on the way has its outcome. Says whether all have.
    pub async fn drain(mut self, within: Duration) -> bool {
        self.stop.send_replace(true);
        matches!(tokio::time::timeout(within, self.task.join_next()).await, Ok(Some(Ok(()))))
    }
}

async fn flow(
    book: Book,
    clients: Vec<Client>,
    senders: Arc<Vec<Sender>>,
    rate: f64,
    mut stopped: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    // What could not be sent while the network stood still is not sent in one burst afterwards.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut on_the_way = JoinSet::new();
    for turn in 0_usize.. {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => break,
        }
        while on_the_way.try_join_next().is_some() {}
        // A network that stands still is not sent more than a bundle of each.
        let Some(index) = (0..senders.len()).map(|n| (turn + n) % senders.len()).find(|n| senders[*n].take()) else {
            continue;
        };
        let (book, client, senders) = (book.clone(), clients[turn % clients.len()].clone(), senders.clone());
        on_the_way.spawn(async move {
            let sender = &senders[index];
            let signed = sender.next_bundle(client.trust().network(), book.height(), VALID_FOR);
            sender.give_back(follow_through(&book, &client, &signed).await);
        });
    }
    while on_the_way.join_next().await.is_some() {}
}

/// Sends one bundle and does not let go of it before its outcome is proven, or every node has refused it. Says whether it
/// was ordered.
pub(crate) async fn follow_through(book: &Book, client: &Client, signed: &SignedBundle) -> bool {
    let id = signed.bundle.id();
    book.ledger().send(id, signed.bundle.legs.iter().map(|leg| leg.rollup).collect());
    let start = Instant::now();
    match client.send(signed).await {
        Ok(sent) => {
            book.note_height(sent.height);
            book.ledger().accept(id);
        }
        Err(Error::Refused { refusal, faults })
            if faults.iter().all(|fault| matches!(fault.fault, Fault::Refused(_))) =>
        {
            book.ledger().refuse(id, refusal.reason());
            return false;
        }
        Err(Error::Invalid(refusal)) => {
            book.ledger().refuse(id, refusal.reason());
            return false;
        }
        // Some node did not answer: it may have taken the bundle, or not.
        Err(error) => tracing::debug!(%id, %error, "no node answers for a bundle yet"),
    }
    let mut outcome = client.wait(&signed.bundle, FIRST_WAIT).await;
    loop {
        match outcome {
            Ok(outcome) => {
                book.note_height(outcome.proven_at().height);
                book.finality().record(start.elapsed());
                let ordered = matches!(outcome.state, BundleState::Ordered { .. });
                book.ledger().conclude(id, outcome.state);
                return ordered;
            }
            Err(SubmitError::Deadline { taken: true, .. }) => book.ledger().accept(id),
            Err(error) => {
                tracing::debug!(%id, %error, "no outcome yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
        outcome = client.submit_and_wait(signed, ATTEMPT).await;
    }
}
