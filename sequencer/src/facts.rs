//! How do heads, observations, voids, leases and aborts get into the log?
//!
//! Facts come from this node's watchers, from its clients and from other validators. What can be told at once is checked at
//! once; the rest is proven against the state by [`run`](Facts::run), which follows the log. The application offers what is
//! proven; what it offers in vain costs nothing, the transition leaves it out.
//!
//! * `following`: when a fact is proven, `proving`: would the log take it, `waiting`: what waits and what is held,
//! * `attestations`: who signed which head, `view`: what the log keeps of rollups,
//! * `outbox`: what is passed on, `ids`: when two facts are about the same thing.

mod attestations;
mod following;
pub(crate) mod ids;
mod metrics;
mod outbox;
mod proving;
mod refused;
mod view;
mod waiting;

pub use metrics::{FactsMetrics, KindLabel, RollupLabel};
pub use refused::Refused;
pub use view::RollupView;

pub(crate) use ids::FactId;
pub(crate) use outbox::Item;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use lockstep_consensus::config::GOSSIP_BYTES_MAX;
use lockstep_protocol::{
    body::{self, CheckedBody},
    genesis::Rules,
    ids::{Hash32, Height, RollupId, SettlementId},
    rpc::{Fact, FactSent},
    settlement::{Head, HeadAttestation, HeadCertificate, Level, Observation, SignedAbort, SignedLease, Void},
    wire::{Wire, WireError},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified, mpsc, oneshot};
use tracing::{debug, info, warn};

use crate::outbox::Outbox;
use attestations::{Attestations, Taken};
use view::View;
use waiting::{Held, Waiting};

/// Bytes of the largest fact that is taken: what fits a message among validators, with room for its frame.
pub const FACT_BYTES_MAX: usize = 256 * 1024;
const _: () = assert!(FACT_BYTES_MAX + 1024 <= GOSSIP_BYTES_MAX, "the largest fact fits a message");
/// Facts that wait to be proven: more than a block has room for.
const INTAKE_MAX: usize = 512;
/// Facts of clients that are read and proven at once. Further ones are refused before they are read.
const CLIENTS_MAX: usize = 64;
/// Bytes of a certificate but for its signatures, with what stands around it in a body.
const CERTIFICATE_BYTES: usize = 128;
/// Bytes of a signature in a certificate.
const SIGNATURE_BYTES: usize = 65;

/// What a node knows that the log should hear of.
pub struct Facts {
    rules: Arc<Rules>,
    state: Mutex<State>,
    outbox: Outbox<Item>,
    intake: mpsc::Sender<Arrival>,
    arrivals: Mutex<Option<mpsc::Receiver<Arrival>>>,
    moved: Notify,
    stirred: Notify,
    clients: Arc<Semaphore>,
    metrics: FactsMetrics,
}

struct State {
    view: View,
    attestations: Attestations,
    waiting: Waiting,
    held: Held,
    /// Rollups of which a certificate was ever made.
    certified: BTreeSet<RollupId>,
}

/// A fact whose shape and signature are good.
struct Arrival {
    fact: Fact,
    /// The validator that passed it on; a client of this node otherwise.
    source: Option<Hash32>,
    reply: Option<oneshot::Sender<Result<FactSent, Refused>>>,
}

/// What came of facts that a validator passed on.
pub(crate) struct Received {
    /// How many may be worth a block.
    pub(crate) taken: usize,
    /// How many no honest validator passes on.
    pub(crate) dishonest: usize,
}

impl Facts {
    /// No facts yet. Nothing is proven until [`run`](Self::run) follows the log.
    pub fn new(rules: Arc<Rules>) -> Arc<Self> {
        let (intake, arrivals) = mpsc::channel(INTAKE_MAX);
        let metrics = FactsMetrics::default();
        metrics.prepare(&rules);
        let state = State {
            view: View::new(&rules),
            attestations: Attestations::default(),
            waiting: Waiting::default(),
            held: Held::default(),
            certified: BTreeSet::new(),
        };
        Arc::new(Self {
            rules,
            state: Mutex::new(state),
            outbox: Outbox::default(),
            intake,
            arrivals: Mutex::new(Some(arrivals)),
            moved: Notify::new(),
            stirred: Notify::new(),
            clients: Arc::new(Semaphore::new(CLIENTS_MAX)),
            metrics,
        })
    }

    /// Its numbers.
    pub fn metrics(&self) -> &FactsMetrics {
        &self.metrics
    }

    /// What the log keeps of a rollup; nothing if the rollup takes no part, or before the state was read.
    pub fn view(&self, rollup: RollupId) -> Option<Arc<RollupView>> {
        let state = self.state();
        state.view.is_loaded().then(|| state.view.rollup(rollup).cloned()).flatten()
    }

    /// Follows a settlement that was open when the node started, and changed last at `changed`: until it is settled, heads that
    /// it waits for are worth blocks of their own.
    pub fn follow(&self, settlement: SettlementId, changed: Height) {
        self.state().view.follow(settlement, changed);
    }

    /// Whether something waits for heads of a rollup. While nothing does, they may come at leisure.
    pub(crate) fn is_awaited(&self, rollup: RollupId) -> bool {
        let state = self.state();
        Level::ALL.into_iter().any(|level| state.view.awaits(rollup, level))
            || state.asked().iter().any(|(of, ..)| *of == rollup)
    }

    /// Ready when something has begun to wait for heads, after this was called.
    pub(crate) fn stirred(&self) -> Notified<'_> {
        self.stirred.notified()
    }

    /// A place among the clients whose facts are read and proven at once; given back when it is dropped.
    pub fn admit(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let place = self.clients.clone().try_acquire_owned().map_err(|_| Refused::Busy);
        place.inspect_err(|refused| self.metrics.refuse(refused.reason()))
    }

    /// Takes a client's fact: answers when it was proven, or is held because its head is still to come.
    pub async fn submit(&self, fact: Fact) -> Result<FactSent, Refused> {
        let sent = self.submitted(fact).await;
        sent.inspect_err(|refused| self.metrics.refuse(refused.reason()))
    }

    async fn submitted(&self, fact: Fact) -> Result<FactSent, Refused> {
        let found = ids::bytes(&fact);
        if found > FACT_BYTES_MAX {
            return Err(Refused::TooLarge { found, max: FACT_BYTES_MAX });
        }
        let fact = bounded(fact).map_err(|error| Refused::Malformed(error.to_string()))?;
        proving::check(&fact, &self.rules)?;
        if self.arrivals.lock().expect("no holder of the arrivals panics").is_some() {
            return Err(Refused::NotReady);
        }
        let (reply, answer) = oneshot::channel();
        let arrival = Arrival { fact, source: None, reply: Some(reply) };
        self.intake.try_send(arrival).map_err(|_| Refused::Busy)?;
        answer.await.map_err(|_| Refused::NotReady)?
    }

    /// Takes this validator's own attestations, and passes them on.
    pub fn attest(&self, attestations: Vec<HeadAttestation>) {
        self.outbox.push(attestations.iter().copied().map(Item::Attestation));
        for attestation in attestations {
            self.insert(attestation);
        }
    }

    /// Passes attestations on once more: those that heard them have them, others may have missed them.
    pub fn remind(&self, attestations: Vec<HeadAttestation>) {
        self.outbox.push(attestations.into_iter().map(Item::Attestation));
    }

    /// Takes what another validator passes on.
    pub(crate) fn receive(&self, sender: Hash32, attestations: Vec<HeadAttestation>, facts: Vec<Fact>) -> Received {
        let mut received = Received { taken: 0, dishonest: 0 };
        for attestation in attestations {
            if self.is_past(&attestation.head) {
                continue;
            }
            match attestation.check(&self.rules).and_then(|()| self.rules.participant(attestation.head.rollup)) {
                Ok(_) => received.taken += usize::from(self.insert(attestation)),
                Err(error) => {
                    debug!(%sender, %error, "an attestation that is none");
                    received.dishonest += 1;
                }
            }
        }
        for fact in facts {
            match proving::check(&fact, &self.rules) {
                Ok(()) => {
                    // Others and the sender itself offer what finds no room here.
                    let arrival = Arrival { fact, source: Some(sender), reply: None };
                    received.taken += usize::from(self.intake.try_send(arrival).is_ok());
                }
                Err(error) => {
                    debug!(%sender, %error, "a fact that is none");
                    received.dishonest += 1;
                }
            }
        }
        received
    }

    /// What is to be passed on.
    pub(crate) fn outbox(&self) -> &Outbox<Item> {
        &self.outbox
    }

    /// Whether something waits that is worth a block of its own. `taken` is what unfinalized ancestors hold.
    pub(crate) fn is_waiting(&self, taken: &HashSet<FactId>) -> bool {
        let state = self.state();
        if state.waiting.free(taken).next().is_some() {
            return true;
        }
        let asked = state.asked();
        state.heads(&self.rules, &asked).into_iter().any(|certificate| {
            let head = &certificate.head;
            let current = state.view.rollup(head.rollup).map_or(0, |view| view.record.incarnation);
            !taken.contains(&ids::head(head))
                && (head.incarnation != current
                    || state.view.awaits(head.rollup, head.level)
                    || asked.contains(&head.place()))
        })
    }

    /// What to put into a block after ancestors that hold `taken`, up to `most` bytes, and how many it has: heads first, then
    /// what came first.
    pub(crate) fn offer(&self, taken: &HashSet<FactId>, most: usize) -> (body::Facts, usize) {
        let state = self.state();
        let mut facts = body::Facts::default();
        let mut room = most;
        for certificate in state.heads(&self.rules, &state.asked()) {
            let bytes = CERTIFICATE_BYTES + SIGNATURE_BYTES * certificate.signatures.len();
            if !taken.contains(&ids::head(&certificate.head)) && bytes <= room {
                room -= bytes;
                facts.heads.push(certificate.clone());
            }
        }
        let mut places = BTreeSet::new();
        for (fact, bytes) in state.waiting.free(taken) {
            let bytes = match fact {
                // The proof of the account stands once for all claims about it.
                Fact::Observation(observation) if !places.insert(observation.place()) => {
                    bytes - encoded(&observation.account_proof)
                }
                _ => bytes,
            };
            if bytes > room {
                break;
            }
            room -= bytes;
            proving::add(&mut facts, fact.clone());
        }
        (facts, most - room)
    }

    /// A block is final, and its state readable.
    pub(crate) fn finalized(&self, height: Height, body: &CheckedBody) {
        let mut state = self.state();
        for certificate in &body.facts().heads {
            state.view.touch(height, &certificate.head);
        }
        let ordered = body.bundles().iter().filter_map(|bundle| bundle.settlement());
        let void = body.facts().voids.iter().map(|void| void.sid(self.rules.network));
        for settlement in ordered.chain(void) {
            state.view.follow(settlement, height);
        }
        for id in ids::all(body.facts(), &self.rules) {
            self.metrics.ordered.inc_by(u64::from(state.waiting.remove(&id)));
        }
        drop(state);
        self.moved.notify_one();
    }

    /// Whether the log has no use for an attestation of this head.
    fn is_past(&self, head: &Head) -> bool {
        let state = self.state();
        let Some(view) = state.view.rollup(head.rollup).filter(|_| state.view.is_loaded()) else { return false };
        head.incarnation <= view.record.incarnation && !view.wants(head)
    }

    /// Takes an attestation whose signature is good; whether it makes a certificate.
    fn insert(&self, attestation: HeadAttestation) -> bool {
        let Head { rollup, level, number, incarnation, .. } = attestation.head;
        let mut state = self.state();
        let taken = state.attestations.insert(&self.rules, attestation);
        let first = taken == Taken::Certified && state.certified.insert(rollup);
        let current = state.view.rollup(rollup).map_or(0, |view| view.record.incarnation);
        drop(state);
        match taken {
            Taken::Known => false,
            Taken::New => {
                self.metrics.attested(rollup);
                false
            }
            Taken::Certified => {
                self.metrics.attested(rollup);
                self.metrics.certified(rollup);
                if first || incarnation > current {
                    info!(%rollup, ?level, number, incarnation, "a quorum has signed a head");
                } else {
                    debug!(%rollup, ?level, number, incarnation, "a quorum has signed a head");
                }
                // Observations of it can be proven now.
                self.moved.notify_one();
                true
            }
            Taken::Equivocation(earlier) => {
                let key = self.rules.validators.get(usize::from(attestation.validator)).copied().unwrap_or_default();
                self.metrics.equivocated(key);
                warn!(validator = %key, ?earlier, later = ?attestation, "a validator has signed two blocks of one number");
                false
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the facts panics")
    }
}

impl State {
    /// Heads that observations are about which wait or are held.
    fn asked(&self) -> BTreeSet<(RollupId, Level, u64)> {
        let facts = self.waiting.facts().chain(self.held.facts());
        let observations = facts.filter_map(|fact| match fact {
            Fact::Observation(observation) => Some((observation.rollup, observation.level, observation.number)),
            _ => None,
        });
        observations.collect()
    }

    /// Certificates that are worth a place in a block.
    fn heads<'a>(&'a self, rules: &Rules, asked: &'a BTreeSet<(RollupId, Level, u64)>) -> Vec<&'a HeadCertificate> {
        let rollups = rules.participants().filter_map(|rollup| Some((rollup, self.view.rollup(rollup)?)));
        rollups
            .flat_map(|(rollup, view)| self.attestations.best(view, rollup, |head| asked.contains(&head.place())))
            .collect()
    }
}

/// A fact whose lists are all within their bounds, as those of every fact are that comes in the binary form.
fn bounded(fact: Fact) -> Result<Fact, WireError> {
    Ok(match fact {
        Fact::Observation(observation) => Fact::Observation(Observation::from_wire(&observation.to_wire())?),
        Fact::Void(void) => Fact::Void(Void::from_wire(&void.to_wire())?),
        Fact::Lease(signed) => Fact::Lease(SignedLease::from_wire(&signed.to_wire())?),
        Fact::Abort(signed) => Fact::Abort(SignedAbort::from_wire(&signed.to_wire())?),
    })
}

fn encoded(value: &impl borsh::BorshSerialize) -> usize {
    borsh::object_length(value).expect("measuring does not fail")
}

#[cfg(test)]
mod tests;
