//! Which node is asked, which next, and when is it enough?
//!
//! Prefers the node that served last, puts benched ones last, and goes around a bounded number of times with a jittered
//! pause in between. Does not know what is asked.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lockstep_protocol::{refusal::Refusal, rpc::QueryError};
use rand::Rng;
use tokio::time::Instant;

use crate::{
    config::Config,
    error::{ConfigError, Error, Fault, Faults},
    node::{Node, NodeStats},
};

/// Nodes of one client: more than a network has validators that serve strangers.
pub(crate) const MAX_NODES: usize = 64;
/// First pause between rounds over all nodes; it doubles.
const BACKOFF: Duration = Duration::from_millis(50);
/// Longest pause between rounds: about a heartbeat of an idle network.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

pub(crate) struct Nodes {
    nodes: Vec<Arc<Node>>,
    preferred: AtomicUsize,
    rounds: u32,
    call_timeout: Duration,
}

impl Nodes {
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        if config.nodes.is_empty() {
            return Err(ConfigError::NoNodes);
        }
        if config.nodes.len() > MAX_NODES {
            return Err(ConfigError::TooManyNodes { max: MAX_NODES, found: config.nodes.len() });
        }
        Ok(Self {
            nodes: config.nodes.iter().map(|url| Node::new(url).map(Arc::new)).collect::<Result<_, _>>()?,
            preferred: AtomicUsize::new(0),
            rounds: config.rounds.max(1),
            call_timeout: config.call_timeout,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&self, index: usize) -> &Arc<Node> {
        &self.nodes[index]
    }

    pub(crate) fn stats(&self) -> Vec<NodeStats> {
        self.nodes.iter().map(|node| node.stats()).collect()
    }

    /// The node that gave the last good answer.
    pub(crate) fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    /// All nodes in the order in which to ask them: around from `start`, benched ones last.
    pub(crate) fn order(&self, start: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).map(|step| (start + step) % self.len()).collect();
        order.sort_by_key(|index| self.nodes[*index].is_benched());
        order
    }

    /// Notes what a node did.
    pub(crate) fn note<T>(&self, index: usize, result: &Result<T, Fault>) {
        match result {
            Ok(_) => {
                self.nodes[index].succeeded();
                self.preferred.store(index, Ordering::Relaxed);
            }
            Err(fault) => self.nodes[index].failed(fault),
        }
    }

    /// Prefers the next node from now on: the last one had nothing to tell, which nobody can prove.
    pub(crate) fn rotate(&self) {
        let next = (self.preferred() + 1) % self.len();
        self.preferred.store(next, Ordering::Relaxed);
    }

    /// How long a call may take that is to end by `deadline`.
    pub(crate) fn call_timeout(&self, deadline: Instant) -> Duration {
        self.call_timeout.min(deadline.saturating_duration_since(Instant::now()))
    }

    /// Asks node after node, several times around, until one gives an answer that `ask` believes.
    pub(crate) async fn ask<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        deadline: Instant,
        ask: impl Fn(Arc<Node>, Duration) -> F,
    ) -> Result<T, Error> {
        self.ask_around(deadline, self.preferred(), self.rounds, ask).await
    }

    /// Asks node after node, beginning with `start` and going around `rounds` times.
    pub(crate) async fn ask_around<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        deadline: Instant,
        start: usize,
        rounds: u32,
        ask: impl Fn(Arc<Node>, Duration) -> F,
    ) -> Result<T, Error> {
        let mut faults = Faults::default();
        for round in 0..rounds {
            let mut again = false;
            for index in self.order(start) {
                let timeout = self.call_timeout(deadline);
                if timeout.is_zero() {
                    return Err(Error::from_faults(faults));
                }
                let node = &self.nodes[index];
                let result = ask(node.clone(), timeout).await;
                self.note(index, &result);
                match result {
                    Ok(answer) => return Ok(answer),
                    Err(fault) => {
                        again |= worth_another_try(&fault);
                        faults.push(node.name(), fault);
                    }
                }
            }
            if !again {
                break;
            }
            if round + 1 < rounds {
                pause(round, deadline).await;
            }
        }
        Err(Error::from_faults(faults))
    }
}

/// Whether the same question to the same node may be answered soon.
fn worth_another_try(fault: &Fault) -> bool {
    match fault {
        Fault::Unreachable { .. } | Fault::Timeout { .. } | Fault::Rpc { .. } | Fault::Behind { .. } => true,
        Fault::Query(query) => matches!(query, QueryError::NotReady { .. }),
        Fault::Refused(refusal) => passes_by_itself(refusal),
        Fault::Fact(refused) => refused.reason == "not_ready",
        Fault::Malformed { .. } | Fault::Lie(_) | Fault::Nothing { .. } => false,
    }
}

/// The refusal may be gone soon without anybody's doing, or is one node's alone.
pub(crate) fn passes_by_itself(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::NotReady { .. }
            | Refusal::PoolFull { .. }
            | Refusal::BodyFull
            | Refusal::LaneFull { .. }
            | Refusal::CancelPending
    )
}

/// Waits before round `round + 1`, at most until `deadline`. Jittered, so that clients do not return in step.
pub(crate) async fn pause(round: u32, deadline: Instant) {
    let longest = BACKOFF.saturating_mul(2_u32.saturating_pow(round)).min(MAX_BACKOFF);
    let wait = longest.mul_f64(rand::rng().random_range(0.5..1.0));
    tokio::time::sleep_until(deadline.min(Instant::now() + wait)).await;
}
