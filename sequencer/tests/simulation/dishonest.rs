//! A leader that breaks a rule of the body in every block that it proposes.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lockstep_consensus::{
    block::Block,
    machine::{Candidate, Genesis, Invalid, Key, Machine, Outcome, Position, Records, Standing},
};
use lockstep_protocol::{
    body::Body,
    bundle::{Bundle, Kind, Leg, SignedBundle, Tag, Transaction},
    header::{Header, L1Origin},
    ids::Height,
    signature::Signature,
    wire::Wire,
};

use crate::network::{ROLLUPS, account_key};

/// How a body is spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoil {
    /// A bundle that its account did not sign.
    ForgedSignature,
    /// A good bundle that was ordered before.
    Replay,
    /// Two bundles in the wrong order, or the same twice.
    Order,
    /// A bundle that costs more than its account has.
    Overspend,
    /// Not a body.
    Garbage,
}

const SPOILS: [Spoil; 5] = [Spoil::ForgedSignature, Spoil::Replay, Spoil::Order, Spoil::Overspend, Spoil::Garbage];

pub(crate) struct Dishonest {
    honest: Arc<dyn Machine>,
    spoil: Spoil,
    /// The latest good bundle that was seen in a final block.
    seen: Mutex<Option<SignedBundle>>,
}

impl Dishonest {
    pub(crate) fn wrap(honest: Arc<dyn Machine>, seed: u64) -> Arc<dyn Machine> {
        let spoil = SPOILS[usize::try_from(seed % SPOILS.len() as u64).unwrap()];
        Arc::new(Self { honest, spoil, seen: Mutex::default() })
    }

    fn spoil(&self, body: Bytes, height: Height) -> Bytes {
        let good = Body::from_wire(&body).expect("the honest half makes bodies");
        let overspending = |max_fee| Bundle {
            network: self.honest.genesis().network,
            account: account_key(0).account(),
            nonce: 1 << 9,
            tag: Tag::default(),
            valid_until: height,
            tip: max_fee,
            max_fee,
            legs: vec![Leg { rollup: ROLLUPS[0], transactions: vec![Transaction(vec![2])] }],
            kind: Kind::Plain,
        };
        let mut spoilt = Body { cancels: Vec::new(), ..good };
        match self.spoil {
            Spoil::ForgedSignature => {
                let forged = Signature::Ed25519([5; 64]);
                spoilt.bundles = vec![SignedBundle { bundle: overspending(1_000), signature: forged }];
            }
            Spoil::Replay => match self.seen.lock().unwrap().clone() {
                Some(seen) => spoilt.bundles = vec![seen],
                // Nothing to replay yet: a body that is not one.
                None => return Bytes::from_static(b"nothing"),
            },
            Spoil::Order => {
                let bundle = overspending(1_000).sign(&account_key(0));
                spoilt.bundles = vec![bundle.clone(), bundle];
            }
            Spoil::Overspend => spoilt.bundles = vec![overspending(u64::MAX / 2).sign(&account_key(0))],
            Spoil::Garbage => return Bytes::from_static(b"\x01garbage"),
        }
        spoilt.to_wire().into()
    }
}

impl Machine for Dishonest {
    fn genesis(&self) -> Genesis {
        self.honest.genesis()
    }

    fn waiting(&self, _: &Header) -> bool {
        true
    }

    fn candidate(&self, parent: &Header, limit: usize) -> Candidate {
        self.honest.candidate(parent, limit)
    }

    fn keys(&self, position: &Position, body: &Bytes) -> Result<Vec<Key>, Invalid> {
        self.honest.keys(position, body)
    }

    fn leads(&self, position: &Position, body: &Bytes) -> Vec<Key> {
        self.honest.leads(position, body)
    }

    fn more_keys(&self, position: &Position, body: &Bytes, records: &Records) -> Vec<Key> {
        self.honest.more_keys(position, body, records)
    }

    fn build(&self, position: &Position, candidate: Bytes, records: &Records) -> (Bytes, Outcome) {
        let (body, outcome) = self.honest.build(position, candidate, records);
        (self.spoil(body, position.height), outcome)
    }

    fn apply(
        &self,
        position: &Position,
        body: &Bytes,
        records: &Records,
        standing: Standing,
    ) -> Result<Outcome, Invalid> {
        self.honest.apply(position, body, records, standing)
    }

    fn seen(&self, origin: &L1Origin) -> bool {
        self.honest.seen(origin)
    }

    fn finalized(&self, block: &Block) {
        if let Ok(body) = Body::from_wire(block.body())
            && let Some(signed) = body.bundles.last()
        {
            *self.seen.lock().unwrap() = Some(signed.clone());
        }
        self.honest.finalized(block);
    }
}
