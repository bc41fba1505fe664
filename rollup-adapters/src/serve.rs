//! How does somebody outside see how a driver, a poster or a relayer is doing?
//!
//! Three pages over HTTP: `/status` (JSON, everything), `/metrics` (OpenMetrics, the numbers: `metrics.rs`), `/healthz` (200 while it
//! works, 503 and the trouble while it waits for something). Reading changes nothing.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use alloy_primitives::B256;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::{net::TcpListener, sync::Semaphore, sync::watch};

use crate::optimism::derive::Derived;

mod metrics;
#[cfg(test)]
mod tests;

pub use metrics::Number;

/// Connections at once: scrapers and a person or two.
const CONNECTIONS_MAX: usize = 32;
/// Time for a request's head; who dawdles is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Skipped transactions that are kept for `/status`; all are in the log.
const SKIPPED_MAX: usize = 64;

/// What can be said of how something runs.
pub trait Status: Serialize + Clone + Send + 'static {
    /// What it waits for, if it does.
    fn trouble(&self) -> Option<&str>;
    /// The numbers for `/metrics`.
    fn numbers(&self) -> Vec<Number>;
}

/// What a driver says.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriverStatus {
    /// Name of the rollup's stack.
    pub stack: &'static str,
    /// The rollup.
    pub rollup: u64,
    /// The latest executed block.
    pub executed: Executed,
    /// Height of the log up to which the lane was read.
    pub lane_height: u64,
    /// Blocks made by this process.
    pub blocks: u64,
    /// Lane transactions in them.
    pub transactions: u64,
    /// Lane transactions that no block holds.
    pub skipped: u64,
    /// The latest of them.
    pub latest_skipped: Vec<SkippedTransaction>,
    /// How far L1 leads, and whether to what was executed.
    pub derivation: Derived,
    /// L1 as this process sees it.
    pub l1: L1Status,
    /// What it waits for, if it does.
    pub trouble: Option<String>,
    /// Failed attempts.
    pub failures: u64,
    /// How often it found its place anew.
    pub resumed: u64,
    /// How often L1 was reorganised under its head.
    pub reorganised: u64,
}

/// Up to which block of the rollup L1 holds batches, and how to check that: nodes of the log tell the level `posted` by it.
///
/// Both stacks' posters say it alike, and whether they hold the lease or not: it is read from L1, so batches of others count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OnL1 {
    /// The latest block of the rollup that is in a batch on L1.
    pub block: u64,
    /// Its hash, where the poster knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_hash: Option<B256>,
    /// The L1 block up to which L1 was read for that.
    pub l1: u64,
    /// Its hash: once L1 has another block of that number, nothing of this counts.
    pub l1_hash: B256,
}

/// An executed block.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Executed {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Root of the state after it.
    pub state_root: B256,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// The L1 block that it is built on.
    pub l1_origin: u64,
}

/// L1, seen from here.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct L1Status {
    /// The latest block.
    pub number: u64,
    /// Why it is not followed, if it is not.
    pub trouble: Option<String>,
}

/// A lane transaction that no block holds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SkippedTransaction {
    /// The block that would have held it.
    pub block: u64,
    /// keccak256 of its bytes, be they a transaction or not.
    pub hash: B256,
    /// Height of its lane block.
    pub height: u64,
    /// Its index in its lane block.
    pub index: usize,
    /// Why.
    pub reason: String,
}

impl DriverStatus {
    /// Notes a skipped transaction.
    pub fn note(&mut self, skipped: SkippedTransaction) {
        if self.latest_skipped.len() >= SKIPPED_MAX {
            self.latest_skipped.remove(0);
        }
        self.latest_skipped.push(skipped);
    }
}

impl Status for DriverStatus {
    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref().or(self.derivation.disagreement.as_deref()).or(self.derivation.trouble.as_deref())
    }

    fn numbers(&self) -> Vec<Number> {
        let mut numbers = vec![
            Number::gauge("executed_block", "Number of the latest executed block", self.executed.number),
            Number::gauge("lane_height", "Height of the log up to which the lane was read", self.lane_height),
            Number::counter("blocks", "Blocks made by this process", self.blocks),
            Number::counter("transactions", "Lane transactions in blocks made by this process", self.transactions),
            Number::counter("skipped_transactions", "Lane transactions that no block holds", self.skipped),
            Number::counter("failures", "Failed attempts", self.failures),
            Number::gauge("waiting", "1 while it waits for something that does not work", self.trouble().is_some()),
            Number::counter("resumed", "Times that it found its place anew", self.resumed),
            Number::counter("l1_reorganisations", "Times that L1 was reorganised under its head", self.reorganised),
            Number::gauge("l1_block", "Latest block of L1", self.l1.number),
            Number::gauge("l1_down", "1 while L1 does not answer", self.l1.trouble.is_some()),
        ];
        numbers.extend(derivation(&self.derivation));
        numbers
    }
}

/// What a poster says.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PosterStatus {
    /// Name of the rollup's stack.
    pub stack: &'static str,
    /// The rollup.
    pub rollup: u64,
    /// The address that pays.
    pub address: String,
    /// Whether this poster holds the lease.
    pub leads: bool,
    /// The latest executed block.
    pub executed: u64,
    /// The latest block that is in a batch that this process had included.
    pub posted: u64,
    /// L1 transactions with batches that this process had included.
    pub batches_posted: u64,
    /// Bytes of batches in them.
    pub bytes_posted: u64,
    /// Transactions in them.
    pub transactions_posted: u64,
    /// Bytes on L1 for each transaction, of what this process posted.
    pub bytes_per_transaction: f64,
    /// Rounds that were begun.
    pub rounds: u64,
    /// Rounds that were in blocks and moved the safe head not as far as they should have.
    pub without_effect: u64,
    /// Rounds that ended early.
    pub failures: u64,
    /// How far L1 leads, and whether to what was executed.
    pub derivation: Derived,
    /// What L1 holds, by anybody's batches, once L1 was read to its end.
    pub on_l1: Option<OnL1>,
    /// What it waits for, if it does.
    pub trouble: Option<String>,
}

impl Status for PosterStatus {
    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref().or(self.derivation.disagreement.as_deref()).or(self.derivation.trouble.as_deref())
    }

    fn numbers(&self) -> Vec<Number> {
        let mut numbers = vec![
            Number::gauge("leads", "1 while this poster may post", self.leads),
            Number::gauge("executed_block", "Number of the latest executed block", self.executed),
            Number::gauge("posted_block", "Latest block in a batch that this process posted", self.posted),
            Number::counter("batches_posted", "L1 transactions with batches, included", self.batches_posted),
            Number::counter("bytes_posted", "Bytes of batches, included", self.bytes_posted),
            Number::counter("transactions_posted", "Transactions in batches, included", self.transactions_posted),
            Number::counter("rounds", "Rounds of posting", self.rounds),
            Number::counter(
                "rounds_without_effect",
                "Rounds that did not move the safe head as they should",
                self.without_effect,
            ),
            Number::counter("failures", "Rounds that ended early", self.failures),
            Number::gauge("waiting", "1 while it waits for something that does not work", self.trouble().is_some()),
        ];
        numbers.extend(derivation(&self.derivation));
        numbers
    }
}

/// What a relayer says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayStatus {
    /// The rollup.
    pub rollup: u64,
    /// The hub.
    pub hub: String,
    /// The address that pays on the rollup; absent for one that only observes.
    pub address: Option<String>,
    /// The account that pays in the log.
    pub account: Option<String>,
    /// Height of the log.
    pub height: u64,
    /// The rollup's latest block.
    pub block: u64,
    /// The latest block that the log has certified as executed.
    pub certified: Option<u64>,
    /// Reorganisations of the rollup that the log has seen.
    pub incarnation: u32,
    /// Whether the log takes settlements that touch the rollup.
    pub healthy: bool,
    /// Legs that the log wants to see.
    pub wanted: u64,
    /// Observations that nodes took from this process.
    pub observations: u64,
    /// Claims in them.
    pub claims: u64,
    /// Observations that they did not take; many if several observe.
    pub refused: u64,
    /// Legs that contradicted a decision.
    pub contradictions: u64,
    /// Legs that stand prepared although their settlement was never ordered.
    pub strays: u64,
    /// Proofs of such legs that nodes took.
    pub voids: u64,
    /// Decisions in the rollup's lane.
    pub decided: u64,
    /// Decisions that the hub has taken.
    pub applied: u64,
    /// Calls of the hub sent, versions of one counted each.
    pub calls: u64,
    /// Calls of this process that were executed and did something.
    pub calls_succeeded: u64,
    /// Calls of this process that reverted: another relayer was faster, mostly.
    pub calls_reverted: u64,
    /// Decisions in the calls that did something.
    pub decisions_applied: u64,
    /// Gas of all executed calls.
    pub gas_used: u64,
    /// From sending to seeing the latest call executed, milliseconds.
    pub latest_call_ms: u64,
    /// Times that an escrow would not take a recorded decision.
    pub stubborn: u64,
    /// Looks that ended early.
    pub failures: u64,
    /// What observing waits for, if it does.
    pub observing_trouble: Option<String>,
    /// What applying waits for, if it does.
    pub applying_trouble: Option<String>,
}

impl RelayStatus {
    /// Notes how a look of the observer ended.
    pub fn note_observing(&mut self, trouble: Option<String>) {
        self.failures += u64::from(trouble.is_some());
        self.observing_trouble = trouble;
    }

    /// Notes how a look of the applier ended.
    pub fn note_applying(&mut self, trouble: Option<String>) {
        self.failures += u64::from(trouble.is_some());
        self.applying_trouble = trouble;
    }

    /// Notes an executed call.
    pub fn note_call(&mut self, decisions: u64, succeeded: bool, gas: u64, ms: u64) {
        self.gas_used += gas;
        self.latest_call_ms = ms;
        if succeeded {
            self.calls_succeeded += 1;
            self.decisions_applied += decisions;
        } else {
            self.calls_reverted += 1;
        }
    }
}

impl Status for RelayStatus {
    fn trouble(&self) -> Option<&str> {
        self.applying_trouble.as_deref().or(self.observing_trouble.as_deref())
    }

    fn numbers(&self) -> Vec<Number> {
        vec![
            Number::gauge("log_height", "Height of the log", self.height),
            Number::gauge("executed_block", "Number of the latest executed block", self.block),
            Number::gauge("certified_block", "Latest block that the log has certified", self.certified.unwrap_or(0)),
            Number::gauge("incarnation", "Reorganisations of the rollup that the log has seen", self.incarnation),
            Number::gauge("healthy", "1 while the log takes settlements that touch the rollup", self.healthy),
            Number::gauge("legs_wanted", "Legs that the log wants to see", self.wanted),
            Number::counter("observations", "Observations taken from this process", self.observations),
            Number::counter("claims", "Claims in the observations taken from this process", self.claims),
            Number::counter("observations_refused", "Observations of this process not taken", self.refused),
            Number::counter("contradictions", "Legs that contradicted a decision", self.contradictions),
            Number::gauge("strays", "Legs prepared whose settlement was never ordered", self.strays),
            Number::counter("voids", "Proofs of strays taken from this process", self.voids),
            Number::gauge("decided", "Decisions in the lane", self.decided),
            Number::gauge("applied", "Decisions that the hub has taken", self.applied),
            Number::counter("calls", "Calls of the hub sent", self.calls),
            Number::counter("calls_succeeded", "Calls executed that did something", self.calls_succeeded),
            Number::counter("calls_reverted", "Calls executed that did nothing", self.calls_reverted),
            Number::counter("decisions_applied", "Decisions in the calls that did something", self.decisions_applied),
            Number::counter("gas_used", "Gas of all executed calls", self.gas_used),
            Number::gauge(
                "latest_call_ms",
                "Milliseconds from sending to seeing the latest call executed",
                self.latest_call_ms,
            ),
            Number::counter("stubborn_legs", "Times that an escrow would not take a decision", self.stubborn),
            Number::counter("failures", "Failed attempts", self.failures),
            Number::gauge("waiting", "1 while it waits for something that does not work", self.trouble().is_some()),
        ]
    }
}

fn derivation(derived: &Derived) -> Vec<Number> {
    vec![
        Number::gauge("derived_l1_block", "L1 block up to which L1 was derived", derived.l1),
        Number::gauge("safe_block", "Number of the latest executed block that L1 leads to", derived.safe.number),
        Number::gauge(
            "finalized_block",
            "Number of the latest executed block that finalized L1 leads to",
            derived.finalized.number,
        ),
        Number::gauge("derivation_agreed", "1 while L1 leads to what was executed", derived.agreed),
        Number::counter("derived_blocks", "Blocks that were compared and equal", derived.blocks),
        Number::counter(
            "derived_transactions",
            "Transactions of blocks that were compared and equal",
            derived.transactions,
        ),
        Number::counter("derived_bytes", "Bytes of batcher data read", derived.bytes),
        Number::counter("derived_dropped", "Frames, channels and batches without effect", derived.dropped),
        Number::gauge("window_left", "L1 blocks until the sequencing window ends", derived.window_left),
    ]
}

/// What a page is made of.
pub struct Service<S> {
    status: Mutex<S>,
    registry: Mutex<Registry>,
    begin: Instant,
}

impl<S: Status> Service<S> {
    /// A service that begins with this status.
    pub fn new(status: S) -> Arc<Self> {
        let registry = Mutex::new(metrics::registry());
        Arc::new(Self { status: Mutex::new(status), registry, begin: Instant::now() })
    }

    /// Changes the status.
    pub fn update(&self, change: impl FnOnce(&mut S)) {
        // Plain values: whoever panicked while holding them left them readable.
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The status now.
    pub fn status(&self) -> S {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds metrics that others keep.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn page(&self, path: &str) -> Option<(StatusCode, &'static str, String)> {
        let status = self.status();
        match path {
            "/healthz" => Some(match status.trouble() {
                None => (StatusCode::OK, "text/plain", "ok\n".into()),
                Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{trouble}\n")),
            }),
            "/status" => {
                let json = serde_json::to_string_pretty(&status).expect("plain values have a JSON form");
                Some((StatusCode::OK, "application/json", json + "\n"))
            }
            "/metrics" => {
                let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
                let text = metrics::page(status.numbers(), &registry, self.begin.elapsed());
                Some((StatusCode::OK, metrics::CONTENT_TYPE, text.expect("text is written to memory")))
            }
            _ => None,
        }
    }

    /// Binds the address that the pages are served at; port 0 takes a free one.
    pub async fn bind(listen: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    /// Serves the pages until `stop` is true.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, mostly: it passes.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            // Beyond the bound, the connection is closed at once.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let service = Arc::clone(&self);
            tokio::spawn(async move {
                let answer = service_fn(move |request: Request<Incoming>| {
                    let answer = service.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), answer);
                let _ = connection.await;
                drop(place);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let page = if request.method() == Method::GET { self.page(request.uri().path()) } else { None };
        let (status, kind, text) =
            page.unwrap_or_else(|| (StatusCode::NOT_FOUND, "text/plain", "GET /healthz, /status or /metrics\n".into()));
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response
    }
}
