//! What do validators tell each other about what waits, byte for byte?
//!
//! [`WIRE_VERSION`](lockstep_protocol::wire::WIRE_VERSION), then in borsh seven lists: signed cancels, signed bundles,
//! attestations of heads, observations, voids, signed leases, signed aborts. Nothing is checked here but the form.

use borsh::{BorshDeserialize, BorshSerialize};
use lockstep_protocol::{
    bundle::{SignedBundle, SignedCancel},
    rpc::Fact,
    settlement::{HeadAttestation, Observation, SignedAbort, SignedLease, Void},
    wire::Wire,
};

use super::MESSAGE_BYTES_MAX;

/// What validators tell each other about what waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Announcement {
    /// Cancels that a client brought.
    pub cancels: Vec<SignedCancel>,
    /// Bundles that a client brought.
    pub bundles: Vec<SignedBundle>,
    /// What the sender, or another validator, has signed of rollups.
    pub attestations: Vec<HeadAttestation>,
    /// Observations that a client brought.
    pub observations: Vec<Observation>,
    /// Voids that a client brought.
    pub voids: Vec<Void>,
    /// Leases that a client brought.
    pub leases: Vec<SignedLease>,
    /// Aborts that a client brought.
    pub aborts: Vec<SignedAbort>,
}

impl Announcement {
    /// Adds a fact to the list of its kind.
    pub(super) fn add(&mut self, fact: Fact) {
        match fact {
            Fact::Observation(observation) => self.observations.push(observation),
            Fact::Void(void) => self.voids.push(void),
            Fact::Lease(signed) => self.leases.push(signed),
            Fact::Abort(signed) => self.aborts.push(signed),
        }
    }

    /// Takes the facts out, all but attestations.
    pub(super) fn take_facts(&mut self) -> Vec<Fact> {
        let Self { observations, voids, leases, aborts, .. } = self;
        let observations = observations.drain(..).map(Fact::Observation);
        let voids = voids.drain(..).map(Fact::Void);
        let signed = leases.drain(..).map(Fact::Lease).chain(aborts.drain(..).map(Fact::Abort));
        observations.chain(voids).chain(signed).collect()
    }

    /// Adds all that another message holds.
    pub(super) fn append(&mut self, other: &mut Self) {
        self.cancels.append(&mut other.cancels);
        self.bundles.append(&mut other.bundles);
        self.attestations.append(&mut other.attestations);
        self.observations.append(&mut other.observations);
        self.voids.append(&mut other.voids);
        self.leases.append(&mut other.leases);
        self.aborts.append(&mut other.aborts);
    }
}

// An item takes at least as many bytes in a message as a sixth of its memory, so the bound on the message bounds the lists.
impl Wire for Announcement {
    const MAX_BYTES: usize = MESSAGE_BYTES_MAX;
}
