//! Which facts are to be passed on to the other validators?
//!
//! What goes because the queue is full is not lost: heads are signed again, and facts stay in this node's pool.

use lockstep_protocol::{rpc::Fact, settlement::HeadAttestation};

use super::ids;
use crate::outbox;

/// Encoded bytes of an attestation, and some more.
const ATTESTATION_BYTES: usize = 160;

/// Something to pass on.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Attestation(HeadAttestation),
    Fact(Fact),
}

impl outbox::Item for Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Attestation(_) => ATTESTATION_BYTES,
            Self::Fact(fact) => ids::bytes(fact),
        }
    }
}
