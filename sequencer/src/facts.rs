//! How do heads, observations, voids, leases and aborts get into the log?
//!
//! Facts come from this node's watchers, from its clients and from other validators. What can be told at once is checked at
//! once; the rest is proven against the state by [`run`](Facts::run), which follows the log. The application offers what is
//! proven; what it offers in vain costs nothing, the transition leaves it out.
//!
//! * `proving`: would the log take it, `waiting`: what waits and what is held, `attestations`: who signed which head,
//! * `view`: what the log keeps of rollups, `outbox`: what is passed on, `ids`: when two facts are about the same thing.

mod attestations;
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
pub(crate) use outbox::{Item, Outbox};

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use lockstep_consensus::{config::GOSSIP_BYTES_MAX, handle::Handle};
use lockstep_protocol::{
    body::{self, CheckedBody},
    genesis::Rules,
    ids::{Hash32, Height, RollupId},
    limits::HEAD_RING,
    rpc::{Fact, FactSent},
    settlement::{
        FactError, Head, HeadAttestation, HeadCertificate, Level, Observation, SignedAbort, SignedLease, Void,
    },
    wire::{Wire, WireError},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, futures::Notified, mpsc, oneshot};
use tracing::{debug, info, warn};

use attestations::{Attestations, Taken};
use proving::{Piece, Unproven};
use view::View;
use waiting::{Held, Waiting};

/// Bytes of the largest fact that is taken: what fits a message among validators, with room for its frame.
pub const FACT_BYTES_MAX: usize = 256 * 1024;
const _: () = assert!(FACT_BYTES_MAX + 1024 <= GOSSIP_BYTES_MAX, "the largest fact fits a message");
/// Facts that wait to be proven: more than a block has room for.
const INTAKE_MAX: usize = 512;
/// Facts that are proven together, with one look at the state.
const PROVEN_AT_ONCE: usize = 32;
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
    outbox: Outbox,
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
    pub(crate) fn outbox(&self) -> &Outbox {
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

    /// Follows the log: proves what arrives, and what waits again when the state has moved. Runs until the log has stopped.
    pub async fn run(&self, log: &Handle) {
        let arrivals = self.arrivals.lock().expect("no holder of the arrivals panics").take();
        let Some(mut arrivals) = arrivals else {
            warn!("somebody else proves the facts of this node");
            return;
        };
        let mut batch = Vec::with_capacity(PROVEN_AT_ONCE);
        let mut moved = true;
        loop {
            let result = if moved { self.look(log).await } else { self.take(log, std::mem::take(&mut batch)).await };
            match result {
                Ok(()) | Err(Unproven::Moving) => {}
                Err(Unproven::Stopped(_)) => return,
            }
            // In this order, so that a run of it can be repeated.
            moved = tokio::select! {
                biased;
                () = self.moved.notified() => true,
                count = arrivals.recv_many(&mut batch, PROVEN_AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    false
                }
            };
        }
    }

    /// The state has moved, or a head was certified.
    async fn look(&self, log: &Handle) -> Result<(), Unproven> {
        let keys = self.state().view.keys();
        if !keys.is_empty() {
            let (header, records) = log.read(keys).await?;
            let mut state = self.state();
            if state.view.refresh(&self.rules, header.height, &records) {
                self.stirred.notify_waiters();
            }
            let State { view, attestations, .. } = &mut *state;
            for rollup in self.rules.participants() {
                if let Some(view) = view.rollup(rollup) {
                    attestations.prune(rollup, view);
                }
            }
        }
        let (held, waiting) = {
            let mut state = self.state();
            let height = state.view.height();
            self.metrics.dropped.inc_by(state.held.expire(height) as u64);
            (state.held.ready(|fact| state.may_be_ready(fact)), state.waiting.unproven(height))
        };
        let again = waiting.into_iter().map(|(id, fact)| (id, fact, None));
        let all: Vec<_> = held.into_iter().chain(again).collect();
        if !all.is_empty() {
            let outcomes = self.prove(log, all.iter().map(|(_, fact, _)| fact.clone()).collect()).await?;
            let mut woken = false;
            let (height, results) = outcomes;
            for ((id, fact, source), result) in all.into_iter().zip(results) {
                woken |= self.settle(id, fact, source, height, result).is_ok_and(|proven| proven);
            }
            if woken {
                log.wake();
            }
        }
        self.count();
        Ok(())
    }

    /// Proves what has arrived.
    async fn take(&self, log: &Handle, arrivals: Vec<Arrival>) -> Result<(), Unproven> {
        let pieces: Vec<Vec<Fact>> = arrivals.iter().map(|arrival| ids::pieces(&arrival.fact)).collect();
        let (height, results) = match self.prove(log, pieces.concat()).await {
            Ok(proven) => proven,
            Err(error) => {
                for reply in arrivals.into_iter().filter_map(|arrival| arrival.reply) {
                    // Whoever asked may have gone.
                    let _ = reply.send(Err(Refused::Busy));
                }
                return Err(error);
            }
        };
        let mut results = results.into_iter();
        let mut woken = false;
        for (arrival, pieces) in arrivals.into_iter().zip(pieces) {
            let mut taken = Vec::with_capacity(pieces.len());
            let mut refused = None;
            for (piece, result) in pieces.into_iter().zip(results.by_ref()) {
                let id = ids::piece(&piece, &self.rules);
                match self.settle(id, piece.clone(), arrival.source, height, result) {
                    Ok(proven) => {
                        woken |= proven;
                        taken.push(piece);
                    }
                    Err(error) => {
                        debug!(%error, from = ?arrival.source, "a fact is not taken");
                        refused.get_or_insert(error);
                    }
                }
            }
            let digest = ids::digest(&arrival.fact);
            if arrival.source.is_none() {
                self.outbox.push(joined(taken.clone()).into_iter().map(Item::Fact));
            } else if let Some(refused) = &refused {
                self.metrics.refuse(refused.reason());
            }
            if let Some(reply) = arrival.reply {
                let answer = match refused {
                    Some(refused) if taken.is_empty() => Err(refused),
                    _ => Ok(FactSent { digest, height }),
                };
                let _ = reply.send(answer);
            }
        }
        if woken {
            log.wake();
        }
        self.count();
        Ok(())
    }

    async fn prove(&self, log: &Handle, facts: Vec<Fact>) -> Result<(Height, Vec<Result<(), Refused>>), Unproven> {
        let pieces: Vec<Piece> = {
            let state = self.state();
            facts.into_iter().map(|fact| Piece { certificate: state.certificate(&fact), fact }).collect()
        };
        proving::prove(&self.rules, log, &pieces).await
    }

    /// Files a fact by what proving it gave: whether it waits now and did not before, or why it is not taken.
    fn settle(
        &self,
        id: FactId,
        fact: Fact,
        source: Option<Hash32>,
        height: Height,
        result: Result<(), Refused>,
    ) -> Result<bool, Refused> {
        let mut state = self.state();
        match result {
            Ok(()) if state.waiting.contains(&id) => {
                state.waiting.proven(&id, height);
                state.held.remove(&id);
                Ok(false)
            }
            Ok(()) => {
                self.metrics.proven(&fact);
                state.held.remove(&id);
                if state.waiting.insert(id, fact, height) { Ok(true) } else { Err(Refused::Busy) }
            }
            Err(Refused::Fact(error)) if state.may_become_true(&error, source) => {
                state.waiting.remove(&id);
                self.stirred.notify_waiters();
                if state.held.insert(id, fact, source, height) { Ok(false) } else { Err(Refused::Busy) }
            }
            Err(refused) => {
                let was = state.waiting.remove(&id) | state.held.remove(&id);
                self.metrics.dropped.inc_by(u64::from(was));
                Err(refused)
            }
        }
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

    fn count(&self) {
        let state = self.state();
        self.metrics.waiting.set(i64::try_from(state.waiting.len()).unwrap_or(i64::MAX));
        self.metrics.held.set(i64::try_from(state.held.len()).unwrap_or(i64::MAX));
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

    /// The certificate that the log lacks to take this fact.
    fn certificate(&self, fact: &Fact) -> Option<HeadCertificate> {
        let Fact::Observation(Observation { rollup, level, number, .. }) = fact else { return None };
        let view = self.view.rollup(*rollup)?;
        if view.keeps(*level, *number) {
            return None;
        }
        self.attestations.certificate(view, *rollup, *level, *number).cloned()
    }

    /// Whether there is a reason to prove a fact again that is held.
    fn may_be_ready(&self, fact: &Fact) -> bool {
        let Fact::Observation(observation) = fact else { return true };
        let Observation { rollup, level, number, .. } = observation;
        let Some(view) = self.view.rollup(*rollup) else { return true };
        let passed = view.record.latest[*level as usize].is_some_and(|latest| latest >= *number);
        passed || self.certificate(fact).is_some()
    }

    /// Whether a fact that the log would not take now may be true in some heights.
    fn may_become_true(&self, error: &FactError, source: Option<Hash32>) -> bool {
        match error {
            FactError::UnknownHead { rollup, level, number } => {
                let latest = self.view.rollup(*rollup).map(|view| view.record.latest[*level as usize]);
                latest
                    .is_some_and(|latest| latest.is_none_or(|latest| *number > latest && *number - latest <= HEAD_RING))
            }
            // Its log may be ahead of this node's.
            FactError::UnknownSettlement { .. } | FactError::TooEarly { .. } | FactError::LeaseTerm { .. } => {
                source.is_some()
            }
            _ => false,
        }
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

/// Puts the pieces of one fact together again.
fn joined(pieces: Vec<Fact>) -> Option<Fact> {
    let mut pieces = pieces.into_iter();
    let mut whole = pieces.next()?;
    for piece in pieces {
        if let (Fact::Observation(whole), Fact::Observation(piece)) = (&mut whole, piece) {
            whole.claims.extend(piece.claims);
        }
    }
    Some(whole)
}

fn encoded(value: &impl borsh::BorshSerialize) -> usize {
    borsh::object_length(value).expect("measuring does not fail")
}

#[cfg(test)]
mod tests;
