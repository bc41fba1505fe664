//! When are two facts about the same thing?
//!
//! An id names what a fact is about, not its proof: of several that say the same, one waits and one is ordered.

use borsh::BorshSerialize;
use lockstep_protocol::{
    body,
    genesis::Rules,
    ids::{Account, Hash32, RollupId, SettlementId},
    rpc::Fact,
    settlement::{Head, Level, Observation, Subject},
};

/// What a fact is about, hashed.
pub(crate) type FactId = [u8; 32];

fn id(kind: u8, about: &impl BorshSerialize) -> FactId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind]);
    borsh::to_writer(&mut hasher, about).expect("a hasher takes everything");
    hasher.finalize().into()
}

/// The id of a head.
pub(crate) fn head(head: &Head) -> FactId {
    id(0, &(head.rollup, head.level, head.number, head.incarnation))
}

fn claim(rollup: RollupId, level: Level, subject: &Subject) -> FactId {
    id(1, &(rollup, level, subject))
}

fn void(settlement: SettlementId) -> FactId {
    id(2, &settlement)
}

fn lease(rollup: RollupId, holder: &Account) -> FactId {
    id(3, &(rollup, holder))
}

fn abort(settlement: SettlementId) -> FactId {
    id(4, &settlement)
}

/// The id of a fact that says one thing: of an observation with several claims, that of the first.
pub(crate) fn piece(fact: &Fact, rules: &Rules) -> FactId {
    match fact {
        Fact::Observation(observation) => match observation.claims.first() {
            Some(first) => claim(observation.rollup, observation.level, &first.subject),
            None => id(5, &observation.rollup),
        },
        Fact::Void(shown) => void(shown.sid(rules.network)),
        Fact::Lease(signed) => lease(signed.lease.rollup, &signed.lease.holder),
        Fact::Abort(signed) => abort(signed.abort.settlement),
    }
}

/// The ids of all facts of a body.
pub(crate) fn all(facts: &body::Facts, rules: &Rules) -> Vec<FactId> {
    let heads = facts.heads.iter().map(|certificate| head(&certificate.head));
    let claims = |observation: &Observation| {
        let (rollup, level) = (observation.rollup, observation.level);
        observation.claims.iter().map(|shown| claim(rollup, level, &shown.subject)).collect::<Vec<_>>()
    };
    let claims = facts.observations.iter().flat_map(claims);
    let voids = facts.voids.iter().map(|shown| void(shown.sid(rules.network)));
    let leases = facts.leases.iter().map(|signed| lease(signed.lease.rollup, &signed.lease.holder));
    let aborts = facts.aborts.iter().map(|signed| abort(signed.abort.settlement));
    heads.chain(claims).chain(voids).chain(leases).chain(aborts).collect()
}

/// The digest that whoever sends a fact is told.
pub(crate) fn digest(fact: &Fact) -> Hash32 {
    Hash32(match fact {
        Fact::Observation(observation) => id(0, observation),
        Fact::Void(void) => id(1, void),
        Fact::Lease(signed) => id(2, signed),
        Fact::Abort(signed) => id(3, signed),
    })
}

/// Cuts a fact into parts that say one thing each.
pub(crate) fn pieces(fact: &Fact) -> Vec<Fact> {
    match fact {
        Fact::Observation(observation) => {
            let part = |claim: &_| Observation { claims: vec![Clone::clone(claim)], ..observation.clone() };
            observation.claims.iter().map(|claim| Fact::Observation(part(claim))).collect()
        }
        whole => vec![whole.clone()],
    }
}

/// Encoded bytes of a fact.
pub(crate) fn bytes(fact: &Fact) -> usize {
    match fact {
        Fact::Observation(observation) => borsh::object_length(observation),
        Fact::Void(void) => borsh::object_length(void),
        Fact::Lease(signed) => borsh::object_length(signed),
        Fact::Abort(signed) => borsh::object_length(signed),
    }
    .expect("measuring does not fail")
}
