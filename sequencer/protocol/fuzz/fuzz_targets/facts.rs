//! Can bytes that are no attestation, certificate, observation, void, lease or abort harm a node that reads them?

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{
    settlement::{DecisionRange, HeadAttestation, HeadCertificate, LegStatus, Observation, SignedAbort, SignedLease, Void},
    wire::Wire,
};

fn read<T: Wire>(bytes: &[u8]) -> Option<T> {
    let value = T::from_wire(bytes).ok()?;
    assert_eq!(value.to_wire(), bytes);
    Some(value)
}

fuzz_target!(|bytes: &[u8]| {
    read::<HeadAttestation>(bytes);
    read::<HeadCertificate>(bytes);
    read::<DecisionRange>(bytes);
    if let Some(observation) = read::<Observation>(bytes) {
        // A root that the first node has: so that the walk goes beyond it.
        let root = observation.account_proof.first().map(|node| alloy_primitives::keccak256(&node.0).0);
        if let Ok(root) = observation.storage_root(lockstep_protocol::ids::Hash32(root.unwrap_or_default())) {
            for claim in &observation.claims {
                let _ = claim.word(root).and_then(LegStatus::of);
            }
        }
    }
    if let Some(void) = read::<Void>(bytes) {
        let _ = (void.shown(), void.sid(Default::default()), void.intent.transfer.check_shape());
    }
    if let Some(signed) = read::<SignedLease>(bytes) {
        let _ = signed.check_signature();
    }
    if let Some(signed) = read::<SignedAbort>(bytes) {
        let _ = signed.check_signature();
    }
});
