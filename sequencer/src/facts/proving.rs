//! Would the log take a fact now?
//!
//! Executes a block that holds nothing but the fact, and its head if need be, on top of the applied tip, with the transition that every validator runs.
//! So nothing is judged here that the log would judge otherwise. The block is thrown away.

use std::collections::BTreeSet;

use lockstep_consensus::handle::{Handle, Stopped};
use lockstep_protocol::{
    body::{self, CheckedBody, Invalid, Section},
    genesis::Rules,
    ids::Height,
    rpc::Fact,
    settlement::{FactError, Head, HeadCertificate},
    state::{Key, Records},
    transition::{self, Position},
};
use tracing::debug;

use super::Refused;

/// Reads of the state that may meet a moving tip before it is given up: a read takes a small part of a block's time.
const ATTEMPTS_MAX: usize = 8;

/// Why nothing was proven.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unproven {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The tip moved on whenever the state was read.
    #[error("the tip moves faster than the state is read")]
    Moving,
}

/// A fact, with the certificate of its head where the log does not have that yet: both may go into one block.
pub(super) struct Piece {
    pub(super) fact: Fact,
    pub(super) certificate: Option<HeadCertificate>,
}

/// Checks what can be told of a fact without the state: its shape, and who signed it.
pub(super) fn check(fact: &Fact, rules: &Rules) -> Result<(), FactError> {
    match fact {
        Fact::Observation(observation) => observation.check_shape(rules),
        Fact::Void(void) => void.check_shape(rules),
        Fact::Lease(signed) => signed.lease.check_shape(rules).and_then(|()| signed.check_signature()),
        Fact::Abort(signed) => signed.abort.check_shape(rules).and_then(|()| signed.check_signature()),
    }
}

/// For each fact, whether the log would take it on top of its tip, whose height is returned.
pub(super) async fn prove(
    rules: &Rules,
    log: &Handle,
    pieces: &[Piece],
) -> Result<(Height, Vec<Result<(), Refused>>), Unproven> {
    let bodies: Vec<CheckedBody> = pieces.iter().map(|piece| alone(piece, rules)).collect();
    for _ in 0..ATTEMPTS_MAX {
        let tip = log.tip();
        let height = tip.height.next();
        let keys: BTreeSet<Key> = bodies.iter().flat_map(|body| body.keys(rules, height)).collect();
        let (header, mut records) = log.read(keys.into_iter().collect()).await?;
        if header.height != tip.height {
            continue;
        }
        let more: BTreeSet<Key> = bodies.iter().flat_map(|body| body.more_keys(rules, height, &records)).collect();
        let more: Vec<Key> = more.into_iter().filter(|key| !records.contains_key(key)).collect();
        if !more.is_empty() {
            let (header, further) = log.read(more).await?;
            if header.height != tip.height {
                continue;
            }
            records.extend(further);
        }
        let position = Position { timestamp_ms: header.timestamp_ms + 1, l1: header.l1, parent: header };
        let tries = bodies.iter().zip(pieces).map(|(body, piece)| attempt(rules, &position, body, piece, &records));
        let tried = tries.collect();
        return Ok((tip.height, tried));
    }
    Err(Unproven::Moving)
}

fn attempt(
    rules: &Rules,
    position: &Position,
    body: &CheckedBody,
    piece: &Piece,
    records: &Records,
) -> Result<(), Refused> {
    if body.facts().is_empty() {
        return Err(Refused::Malformed("the fact has no place in a block".into()));
    }
    match transition::apply(rules, position, body, records) {
        Ok(_) => Ok(()),
        // The log has left the head behind in the meantime.
        Err(Invalid::Fact { section: Section::Head, .. }) => Err(unknown_head(piece)),
        Err(Invalid::Fact { error, .. }) => Err(error.into()),
        Err(other) => {
            debug!(error = %other, "a block of one fact is refused for another reason");
            Err(Refused::Malformed(other.to_string()))
        }
    }
}

fn unknown_head(piece: &Piece) -> Refused {
    let head = piece.certificate.as_ref().map(|certificate| certificate.head);
    let unknown = |head: Head| FactError::UnknownHead { rollup: head.rollup, level: head.level, number: head.number };
    head.map_or(Refused::Busy, |head| unknown(head).into())
}

/// A body with this fact, its head where that is needed, and nothing else.
fn alone(piece: &Piece, rules: &Rules) -> CheckedBody {
    let mut facts = body::Facts { heads: piece.certificate.clone().into_iter().collect(), ..body::Facts::default() };
    add(&mut facts, piece.fact.clone());
    CheckedBody::arrange(Vec::new(), Vec::new()).with_facts(facts, rules)
}

/// Adds a fact to those of a body.
pub(super) fn add(facts: &mut body::Facts, fact: Fact) {
    match fact {
        Fact::Observation(observation) => facts.observations.push(observation),
        Fact::Void(void) => facts.voids.push(void),
        Fact::Lease(signed) => facts.leases.push(signed),
        Fact::Abort(signed) => facts.aborts.push(signed),
    }
}
