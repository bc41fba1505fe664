//! Atomic settlement: margin moves between rollups, all legs or none. The log is the coordinator.
//!
//! ```text
//!                 every leg observed Prepared            every leg observed applied
//!   Ordered ------------------------------------> Commit ---------------------------> Settled
//!      |  a leg observed Refused, the deadline,                                          ^
//!      |  the owner's abort, a quarantined rollup                                        |
//!      +------------------------------------------> Abort -------------------------------+
//!   never ordered, a leg Prepared, too late to order -> Abort (Unknown)
//! ```
//!
//! What the log believes of a rollup is what two thirds of the validators signed about its blocks ([`head`]), and what a
//! storage proof shows against one of those blocks ([`observation`]). [`machine`] is the state machine of one settlement;
//! `transition` drives it and keeps the books around it: caps, deadlines, decisions in lanes, reports.
//! `docs/settlement.md` says what is promised and by whom.

pub mod abort;
pub(crate) mod chain;
pub mod config;
pub mod decision;
pub mod error;
pub mod head;
pub mod lease;
pub mod machine;
pub mod observation;
pub mod proof;
pub mod records;
pub mod transfer;
pub mod void;

pub use abort::{Abort, SignedAbort};
pub use decision::{AbortReason, DecidedLeg, Decision, DecisionRange, LaneDecision};
pub use error::FactError;
pub use head::{Head, HeadAttestation, HeadCertificate};
pub use lease::{Lease, SignedLease};
pub use observation::{Claim, LegStatus, Observation, Subject};
pub use transfer::{Flow, Intent, Level, MarginTransfer, SettlementLeg, Side};
pub use void::Void;
