//! Brings clients' bundles to the pool, many at a time.
//!
//! One thread checks whatever has arrived while it checked the last lot: alone a bundle waits for nobody, and under load
//! account signatures are verified together, which costs a third. Decides nothing: see `pool.rs`.

use std::sync::Arc;

use lockstep_protocol::{bundle::SignedBundle, refusal::Refusal, rpc::Sent};
use tokio::sync::{mpsc, oneshot};

use crate::pool::Pool;

/// Bundles that may wait to be checked: a quarter of a second of one thread's work.
const QUEUE_MAX: usize = 2_048;
/// Bundles that are checked together: signatures gain little beyond, and the first of a lot waits for the last.
const LOT_MAX: usize = 64;

struct Job {
    signed: SignedBundle,
    answer: oneshot::Sender<Result<Sent, Refusal>>,
}

/// The way into the pool for clients' bundles. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub struct Admission {
    pool: Arc<Pool>,
    jobs: mpsc::Sender<Job>,
}

impl Admission {
    /// Starts the thread that checks bundles for `pool`.
    pub fn start(pool: Arc<Pool>) -> std::io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel(QUEUE_MAX);
        let checks = pool.clone();
        std::thread::Builder::new().name("admission".into()).spawn(move || {
            let mut lot = Vec::with_capacity(LOT_MAX);
            while queue.blocking_recv_many(&mut lot, LOT_MAX) > 0 {
                check(&checks, lot.drain(..));
            }
        })?;
        Ok(Self { pool, jobs })
    }

    /// Has a bundle checked and taken into the pool. Refused at once when too many wait to be checked.
    pub async fn submit(&self, signed: SignedBundle) -> Result<Sent, Refusal> {
        let (answer, verdict) = oneshot::channel();
        self.jobs.try_send(Job { signed, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                let refusal = Refusal::NotReady { detail: format!("{QUEUE_MAX} bundles wait to be checked") };
                self.pool.count_refusal(&refusal);
                refusal
            }
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        verdict.await.unwrap_or_else(|_| Err(stopping()))
    }
}

fn check(pool: &Pool, lot: impl Iterator<Item = Job>) {
    let (bundles, answers): (Vec<_>, Vec<_>) = lot.map(|job| (job.signed, job.answer)).unzip();
    for (answer, verdict) in answers.into_iter().zip(pool.submit_batch(bundles)) {
        // A client that went away still has its bundle in the pool, and finds it there when it asks again.
        let _ = answer.send(verdict);
    }
}

fn stopping() -> Refusal {
    Refusal::NotReady { detail: "the node is stopping".into() }
}

#[cfg(test)]
mod tests;
