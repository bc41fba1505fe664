//! How do bundles get to the validators at the time at which they are due?
//!
//! In JSON-RPC batches over kept HTTP connections, spread over all validators. Never waits for an answer before the next is sent.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use jsonrpsee_core::{client::ClientT, params::BatchRequestBuilder, rpc_params};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_protocol::{bundle::SignedBundle, hex, ids::BundleId, refusal::Refusal, rpc::codes, wire::Wire};
use serde::de::IgnoredAny;
use tokio::{sync::Semaphore, task::JoinSet, time::MissedTickBehavior};

use super::arrive::Arrived;
use crate::latency::Latency;

/// How often it is looked what is due. Shorter than a block takes by far, longer than a timer's resolution.
const TICK: Duration = Duration::from_millis(2);
/// A validator that does not answer a batch within this has failed it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// A bundle, ready to be sent.
pub(crate) struct Prepared {
    pub(crate) id: BundleId,
    wire: String,
}

/// What became of the sending.
#[derive(Clone, Default)]
pub(crate) struct Sent {
    /// Taken by a validator.
    pub(crate) accepted: u64,
    /// Refused, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Not answered, by what happened instead.
    pub(crate) failed: BTreeMap<String, u64>,
    /// How much later than due bundles were sent: what this machine and the nonce windows cost, not the network.
    pub(crate) late: Latency,
    /// Bundles that waited for their account's nonce window.
    pub(crate) held_back: u64,
}

/// The validators, as they are sent to.
pub(crate) struct Doors {
    doors: Vec<Arc<Door>>,
}

struct Door {
    client: HttpClient,
    /// One permit for each connection.
    free: Semaphore,
}

impl Prepared {
    pub(crate) fn new(signed: &SignedBundle) -> Self {
        Self { id: signed.bundle.id(), wire: hex::encode(&signed.to_wire()) }
    }
}

impl Doors {
    /// The validators at `urls`, each with so many connections.
    pub(crate) fn new(urls: &[String], connections: usize) -> Result<Self> {
        let door = |url: &String| {
            let client = HttpClientBuilder::new()
                .request_timeout(ANSWER_TIMEOUT)
                .max_request_size(16 * 1024 * 1024)
                .build(url)
                .with_context(|| format!("a client for {url}"))?;
            Ok(Arc::new(Door { client, free: Semaphore::new(connections) }))
        };
        Ok(Self { doors: urls.iter().map(door).collect::<Result<_>>()? })
    }

    /// Sends each of `bundles` when it is due after `start`, and waits for all answers. What still may not be sent at `give_up`
    /// is not sent any more.
    pub(crate) async fn send(
        &self,
        bundles: Arc<Vec<Prepared>>,
        due: &[Duration],
        start: Instant,
        give_up: Duration,
        batch_max: usize,
        arrived: &Arc<Arrived>,
    ) -> Sent {
        let sent = Arc::new(Mutex::new(Sent::default()));
        let mut tick = tokio::time::interval_at(start.into(), TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut answers = JoinSet::new();
        let mut next = 0;
        let mut turn = 0;
        let mut held_to = 0;
        while next < bundles.len() {
            tick.tick().await;
            while answers.try_join_next().is_some() {}
            let passed = start.elapsed();
            if passed > give_up {
                break;
            }
            let ready_to = next + due[next..].partition_point(|due| *due <= passed);
            let mut open_to = next;
            {
                let state = arrived.state();
                while open_to < ready_to && state.windows.may_send(open_to) {
                    open_to += 1;
                }
            }
            {
                let mut sent = lock(&sent);
                if open_to < ready_to {
                    sent.held_back += (ready_to.max(held_to) - open_to.max(held_to)) as u64;
                    held_to = held_to.max(ready_to);
                }
                for due in &due[next..open_to] {
                    sent.late.record(passed.saturating_sub(*due));
                }
            }
            while next < open_to {
                let end = open_to.min(next + batch_max);
                let door = self.doors[turn % self.doors.len()].clone();
                answers.spawn(knock(door, bundles.clone(), next..end, sent.clone(), arrived.clone()));
                turn += 1;
                next = end;
            }
        }
        while answers.join_next().await.is_some() {}
        lock(&sent).clone()
    }
}

/// Sends a batch to one validator, and writes down its answers.
async fn knock(
    door: Arc<Door>,
    bundles: Arc<Vec<Prepared>>,
    batch: std::ops::Range<usize>,
    sent: Arc<Mutex<Sent>>,
    arrived: Arc<Arrived>,
) {
    // The semaphore is never closed; if it were, the batch would count as not answered.
    let Ok(_permit) = door.free.acquire().await else { return };
    let mut request = BatchRequestBuilder::new();
    for bundle in &bundles[batch.clone()] {
        request.insert("lockstep_sendBundle", rpc_params![&bundle.wire]).expect("a text has a JSON form");
    }
    let answers = door.client.batch_request::<IgnoredAny>(request).await;
    let mut sent = lock(&sent);
    match answers {
        Ok(answers) => {
            for (index, answer) in batch.zip(answers) {
                match answer {
                    Ok(_) => sent.accepted += 1,
                    Err(error) => {
                        let data = error.data().map_or("null", |data| data.get());
                        let reason = reason(error.code(), error.message(), data);
                        *sent.refused.entry(reason).or_default() += 1;
                        arrived.state().windows.conclude(index);
                    }
                }
            }
        }
        Err(error) => {
            let error = error.to_string();
            *sent.failed.entry(error).or_default() += batch.len() as u64;
        }
    }
}

fn reason(code: i32, message: &str, data: &str) -> String {
    match serde_json::from_str::<Refusal>(data) {
        Ok(refusal) if code == codes::REFUSED => refusal.reason().to_owned(),
        _ => format!("error {code}: {message}"),
    }
}

fn lock(sent: &Mutex<Sent>) -> std::sync::MutexGuard<'_, Sent> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_reason_and_anything_else_by_its_code() {
        let data = r#"{"reason":"expired","validUntil":120,"height":121}"#;
        assert_eq!(reason(codes::REFUSED, "whatever", data), "expired");
        assert_eq!(reason(codes::INTERNAL, "broken", data), "error -32603: broken");
        assert_eq!(reason(codes::REFUSED, "broken", "null"), "error -32003: broken");
    }
}
