//! How does a certificate of the engine become one that a third party checks?
//!
//! The types, the bytes that are signed and the check are `lockstep-protocol`'s, which links none of the engine. Nothing
//! is checked here: what the archive holds was.

use commonware_codec::Encode;
use lockstep_protocol::certificate::{Certificate, CertificateSignature};

use crate::types::Finalization;

/// A certificate as third parties know it.
pub(crate) fn certificate(finalization: &Finalization) -> Certificate {
    let proposal = &finalization.proposal;
    let signature = finalization.certificate.encode();
    let signature = signature.as_ref().try_into().expect("a point of G1 is compressed to 48 bytes");
    Certificate {
        epoch: proposal.round.epoch().get(),
        view: proposal.round.view().get(),
        parent_view: proposal.parent.get(),
        signature: CertificateSignature(signature),
    }
}
