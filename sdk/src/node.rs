//! One node: calls with a deadline, answers sorted into kinds, and a memory of how it behaved.
//!
//! Does not choose between nodes (`nodes.rs`) and does not judge what an answer says (`trust.rs`).

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jsonrpsee_core::{
    client::{ClientT, Error as RpcError},
    params::ArrayParams,
};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use jsonrpsee_ws_client::{WsClient, WsClientBuilder};
use lockstep_protocol::{limits::MAX_BUNDLE_BYTES, rpc::codes};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::error::{ConfigError, Fault};

/// Bytes of the longest answer that is read: a page of lane items in hexadecimal, several full bodies.
const MAX_RESPONSE_BYTES: u32 = 32 * 1024 * 1024;
/// Bytes of the longest request: a bundle in hexadecimal, and its frame.
const MAX_REQUEST_BYTES: u32 = 2 * MAX_BUNDLE_BYTES as u32 + 4096;
/// Notifications that wait to be read on a subscription. A reader that is slower resumes by ranges.
const MAX_NOTIFICATIONS: usize = 64;
/// No call takes longer, whatever its caller allows.
const MAX_CALL: Duration = Duration::from_secs(120);
/// After a failure a node is asked last for this long, doubled by every further one.
const BENCH: Duration = Duration::from_millis(250);
/// Doublings of [`BENCH`]: 8 s, so that a node that restarts is soon used again.
const MAX_DOUBLINGS: u32 = 5;
/// After a false answer a node is asked last for this long. It is still asked: it may be the only one left.
const LIE_BENCH: Duration = Duration::from_secs(60);
/// Characters of a remote error that are kept.
const MAX_DETAIL: usize = 300;

/// How a node behaved so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStats {
    /// The node, without credentials and path.
    pub node: String,
    /// Questions put to it.
    pub calls: u64,
    /// Questions that it did not answer, or answered with an error of its own.
    pub failures: u64,
    /// Answers that were not believed.
    pub lies: u64,
    /// The latest failure or lie.
    pub last_fault: Option<String>,
    /// Whether it is asked last for now.
    pub benched: bool,
}

pub(crate) struct Node {
    name: String,
    ws_url: String,
    http: HttpClient,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    stats: NodeStats,
    in_a_row: u32,
    benched_until: Option<Instant>,
}

impl Node {
    pub(crate) fn new(url: &str) -> Result<Self, ConfigError> {
        let name = name_of(url).ok_or_else(|| ConfigError::Url(url.to_owned()))?;
        let (scheme, rest) = url.split_once("://").ok_or_else(|| ConfigError::Url(name.clone()))?;
        let secure = match scheme {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(ConfigError::Url(name)),
        };
        if secure && !cfg!(feature = "tls") {
            return Err(ConfigError::NoTls(name));
        }
        let s = if secure { "s" } else { "" };
        let http = HttpClientBuilder::new()
            .max_request_size(MAX_REQUEST_BYTES)
            .max_response_size(MAX_RESPONSE_BYTES)
            .request_timeout(MAX_CALL)
            .build(format!("http{s}://{rest}"))
            .map_err(|error| ConfigError::Client { node: name.clone(), detail: clip(error.to_string()) })?;
        Ok(Self { ws_url: format!("ws{s}://{rest}"), http, health: Mutex::default(), name })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Calls `lockstep_<method>` and notes failures. An answer that turns out false is for the caller to note.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: ArrayParams,
        timeout: Duration,
    ) -> Result<T, Fault> {
        self.health().stats.calls += 1;
        let timeout = timeout.min(MAX_CALL);
        let method = format!("lockstep_{method}");
        match tokio::time::timeout(timeout, self.http.request(&method, params)).await {
            Err(_) => Err(Fault::Timeout { after: timeout }),
            Ok(Err(error)) => Err(fault_of(error, timeout)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// A WebSocket connection for subscriptions.
    pub(crate) async fn connect(&self, timeout: Duration) -> Result<WsClient, Fault> {
        self.health().stats.calls += 1;
        let connect = WsClientBuilder::new()
            .max_request_size(MAX_REQUEST_BYTES)
            .max_response_size(MAX_RESPONSE_BYTES)
            .max_frame_size(MAX_RESPONSE_BYTES)
            .max_buffer_capacity_per_subscription(MAX_NOTIFICATIONS)
            .connection_timeout(timeout)
            .request_timeout(timeout)
            .build(&self.ws_url);
        match tokio::time::timeout(timeout, connect).await {
            Err(_) => Err(Fault::Timeout { after: timeout }),
            Ok(Err(error)) => Err(fault_of(error, timeout)),
            Ok(Ok(client)) => Ok(client),
        }
    }

    /// The node gave an answer that was believed.
    pub(crate) fn succeeded(&self) {
        self.health().succeeded();
    }

    pub(crate) fn failed(&self, fault: &Fault) {
        self.health().failed(fault, Instant::now());
        tracing::debug!(node = %self.name, %fault, "a node failed");
    }

    pub(crate) fn is_benched(&self) -> bool {
        self.health().is_benched(Instant::now())
    }

    pub(crate) fn stats(&self) -> NodeStats {
        let health = self.health();
        NodeStats { node: self.name.clone(), benched: health.is_benched(Instant::now()), ..health.stats.clone() }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Plain numbers: whoever panicked while holding them left them readable.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    fn succeeded(&mut self) {
        self.in_a_row = 0;
        // A lie is not made good by a true answer.
        if self.stats.lies == 0 {
            self.benched_until = None;
        }
    }

    fn failed(&mut self, fault: &Fault, now: Instant) {
        let bench = match fault {
            // It works; it only said no.
            Fault::Refused(_) | Fault::Fact(_) | Fault::Query(_) => return,
            Fault::Lie(_) => {
                self.stats.lies += 1;
                LIE_BENCH
            }
            _ => {
                self.stats.failures += 1;
                let doublings = self.in_a_row.min(MAX_DOUBLINGS);
                self.in_a_row = self.in_a_row.saturating_add(1);
                BENCH * 2_u32.pow(doublings)
            }
        };
        let until = now + bench;
        self.benched_until = Some(self.benched_until.map_or(until, |before| before.max(until)));
        self.stats.last_fault = Some(fault.to_string());
    }

    fn is_benched(&self, now: Instant) -> bool {
        self.benched_until.is_some_and(|until| until > now)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A fault from the client library's error.
pub(crate) fn fault_of(error: RpcError, timeout: Duration) -> Fault {
    match error {
        RpcError::Call(error) => {
            let data = error.data().map(|data| data.get()).unwrap_or("null");
            let code = error.code();
            if code == codes::REFUSED {
                if let Ok(refusal) = serde_json::from_str(data) {
                    return Fault::Refused(refusal);
                }
                if let Ok(refused) = serde_json::from_str(data) {
                    return Fault::Fact(refused);
                }
            }
            match serde_json::from_str(data) {
                Ok(query) => Fault::Query(query),
                Err(_) => Fault::Rpc { code, message: clip(error.message().to_owned()) },
            }
        }
        RpcError::RequestTimeout => Fault::Timeout { after: timeout },
        RpcError::ParseError(error) => Fault::Malformed { detail: clip(error.to_string()) },
        RpcError::Transport(error) => Fault::Unreachable { detail: chain(error.as_ref()) },
        other => Fault::Unreachable { detail: chain(&other) },
    }
}

/// An error with its causes: the outermost alone mostly says nothing.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    clip(text)
}

pub(crate) fn clip(text: String) -> String {
    match text.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Scheme and host: credentials and keys in paths belong in no log.
fn name_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next().filter(|host| !host.is_empty())?;
    Some(format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_paths_stay_out_of_names() {
        assert_eq!(
            name_of("https://me:secret@node.example:8545/v1/key?x=1").as_deref(),
            Some("https://node.example:8545")
        );
        assert_eq!(name_of("http://127.0.0.1:1").as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(name_of("127.0.0.1:1"), None);
        assert_eq!(name_of("http://"), None);
        let error = Node::new("ftp://me:secret@host/key").unwrap_err();
        assert_eq!(error, ConfigError::Url("ftp://host".into()));
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn https_without_the_feature_says_which_feature() {
        assert_eq!(Node::new("https://host").unwrap_err(), ConfigError::NoTls("https://host".into()));
        assert_eq!(Node::new("wss://host").unwrap_err(), ConfigError::NoTls("wss://host".into()));
    }

    #[test]
    fn failures_bench_a_node_longer_each_time_and_success_forgives() {
        let (mut health, start) = (Health::default(), Instant::now());
        let fault = Fault::Unreachable { detail: "gone".into() };
        health.failed(&fault, start);
        assert!(health.is_benched(start));
        let later = start + BENCH;
        assert!(!health.is_benched(later));
        health.failed(&fault, later);
        assert!(health.is_benched(later + BENCH), "the second failure in a row counts double");
        assert!(!health.is_benched(later + 2 * BENCH));
        health.succeeded();
        assert!(!health.is_benched(later));
        for _ in 0..100 {
            health.failed(&fault, later);
        }
        assert!(!health.is_benched(later + BENCH * 2_u32.pow(MAX_DOUBLINGS)), "but not for ever");
        assert_eq!(health.stats.failures, 102);
    }

    #[test]
    fn a_lie_is_not_made_good_by_a_true_answer() {
        let (mut health, start) = (Health::default(), Instant::now());
        health.failed(&Fault::Lie(crate::error::CheckError::GroupKey), start);
        health.succeeded();
        assert!(health.is_benched(start));
        assert_eq!((health.stats.lies, health.stats.failures), (1, 0));
        assert!(!health.is_benched(start + LIE_BENCH));
    }

    #[test]
    fn saying_no_is_no_failure() {
        let (mut health, start) = (Health::default(), Instant::now());
        health.failed(&Fault::Refused(lockstep_protocol::refusal::Refusal::BodyFull), start);
        assert!(!health.is_benched(start));
        assert_eq!(health.stats, NodeStats::default());
    }
}
