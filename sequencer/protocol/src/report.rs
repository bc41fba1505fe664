//! Reports: an account's numbered events, in a hash chain whose head stands in the account's record.
//!
//! Any node can replay them and none can hide one: the numbers are dense and the chain ends in the authenticated state.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    bundle::{NonceRange, Tag},
    digest::digest,
    ids::{BundleId, Hash32, Height, SettlementId},
    settlement::Decision,
};

/// Something that the log did to an account.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its number; the account's first report is 1.
    pub sequence: u64,
    /// The block that did it.
    pub height: Height,
    /// What was done.
    pub event: Event,
}

/// What a report reports.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// Credits arrived.
    Funded {
        /// How many.
        credits: u64,
    },
    /// A bundle was ordered.
    Ordered {
        /// Which.
        bundle: BundleId,
        /// Its nonce, used now.
        nonce: u64,
        /// Its submitter's label.
        tag: Tag,
        /// Base fees and tip. Credits.
        fee: u64,
    },
    /// Nonces were cancelled; no bundle will ever be ordered under them.
    Cancelled {
        /// The nonces that were free. Those of the request that are missing here came too late.
        nonces: Vec<NonceRange>,
    },
    /// A settlement was decided, for ever.
    Decided {
        /// Which.
        settlement: SettlementId,
        /// The nonce of its bundle.
        nonce: u64,
        /// What.
        decision: Decision,
    },
}

/// The chain after `report`: `blake3("lockstep/report/v1" || chain || borsh(report))`.
pub fn chain(chain: Hash32, report: &Report) -> Hash32 {
    digest("lockstep/report/v1", &(chain, report))
}
