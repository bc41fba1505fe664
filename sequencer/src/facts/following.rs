//! When is a fact proven, and what becomes of it then?
//!
//! The task that follows the log: what arrives is proven at once, what is held when its head is certified, and what waits again
//! some blocks later. How a fact is proven is `proving.rs`.

use lockstep_consensus::{handle::Handle, machine::Records};
use lockstep_protocol::{
    ids::{Hash32, Height},
    limits::HEAD_RING,
    rpc::{Fact, FactSent},
    settlement::{FactError, HeadCertificate, Observation},
};
use tracing::{debug, warn};

use super::{
    Arrival, FactId, Facts, Refused, State, ids,
    outbox::Item,
    proving::{self, Piece, Unproven},
};

/// Facts that are proven together, with one look at the state.
const PROVEN_AT_ONCE: usize = 32;

impl Facts {
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
        // Also where no rollup takes part in settlements: leases wait there too, and must not outlive their time.
        let (header, records) = if keys.is_empty() { (log.tip(), Records::new()) } else { log.read(keys).await? };
        {
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

    fn count(&self) {
        let state = self.state();
        self.metrics.waiting.set(i64::try_from(state.waiting.len()).unwrap_or(i64::MAX));
        self.metrics.held.set(i64::try_from(state.held.len()).unwrap_or(i64::MAX));
    }
}

impl State {
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
