//! What do validators tell each other about what waits, byte for byte?
//!
//! [`WIRE_VERSION`](lockstep_protocol::wire::WIRE_VERSION), then in borsh a list of signed cancels and a list of signed
//! bundles. Nothing is checked here but the form.

use borsh::{BorshDeserialize, BorshSerialize};
use lockstep_protocol::{
    bundle::{SignedBundle, SignedCancel},
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
}

// An item takes at least as many bytes in a message as a quarter of its memory, so the bound on the message bounds the lists.
impl Wire for Announcement {
    const MAX_BYTES: usize = MESSAGE_BYTES_MAX;
}
