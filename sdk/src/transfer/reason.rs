//! Why does a transfer not go through, in words that a trader can act on?

use lockstep_protocol::{
    evidence::BundleState,
    ids::{Height, RollupId},
    refusal::Refusal,
    settlement::AbortReason,
};

/// Why an escrow refused its leg. The numbers are `MarginEscrow.Refusal`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VenueReason {
    /// The escrow does not list the asset.
    UnknownAsset,
    /// Nothing, or more than one leg may move.
    Amount,
    /// Less free margin than the leg takes.
    InsufficientMargin,
    /// The account owes the pool from an earlier transfer.
    Indebted,
    /// The venue said no: what remains would not cover the account's positions, or it takes no credit.
    Venue,
    /// Less in the pool than the leg is to be given.
    InventoryEmpty,
    /// More would have come in from that rollup than the escrow trusts it with.
    CorridorCap,
    /// A credit whose debits are on several rollups.
    AmbiguousCorridor,
    /// The account has too many credits under way.
    OpenCredits,
    /// A reason of a later contract.
    Other(u8),
}

/// Why a transfer does not go through, or did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The escrow of a leg refuses it.
    Venue {
        /// Where.
        rollup: RollupId,
        /// The leg's place in the transfer.
        leg: usize,
        /// Why; none if the rollup does not tell.
        why: Option<VenueReason>,
        /// What there is of what is too little, if that is the matter and known. In the asset's smallest unit.
        available: Option<u128>,
    },
    /// `prepare` would fail, which is no vote: the transfer would expire.
    Reverts {
        /// Where.
        rollup: RollupId,
        /// The leg's place in the transfer.
        leg: usize,
        /// What the rollup says.
        detail: String,
    },
    /// The account cannot pay the rollup's gas.
    NoGas {
        /// Where.
        rollup: RollupId,
        /// Wei.
        needed: u128,
        /// Wei.
        available: u128,
    },
    /// The rollup left the transaction out, as a node says.
    Skipped {
        /// Where.
        rollup: RollupId,
        /// Why, in the rollup's terms.
        detail: String,
    },
    /// The log does not take it.
    Log(Refusal),
    /// The bundle was not ordered, and never will be.
    NotOrdered(BundleState),
    /// The log aborted it.
    Aborted {
        /// Why.
        why: AbortReason,
        /// The deadline that it had.
        deadline: Height,
    },
}

impl VenueReason {
    /// The reason with this number.
    pub fn of(number: u8) -> Self {
        match number {
            1 => Self::UnknownAsset,
            2 => Self::Amount,
            3 => Self::InsufficientMargin,
            4 => Self::Indebted,
            5 => Self::Venue,
            6 => Self::InventoryEmpty,
            7 => Self::CorridorCap,
            8 => Self::AmbiguousCorridor,
            9 => Self::OpenCredits,
            other => Self::Other(other),
        }
    }
}

impl Reason {
    /// A stable name, for logs and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Venue { why, .. } => match why {
                Some(VenueReason::UnknownAsset) => "unknown_asset",
                Some(VenueReason::Amount) => "amount",
                Some(VenueReason::InsufficientMargin) => "insufficient_margin",
                Some(VenueReason::Indebted) => "indebted",
                Some(VenueReason::Venue) => "venue_refused",
                Some(VenueReason::InventoryEmpty) => "inventory_empty",
                Some(VenueReason::CorridorCap) => "corridor_cap",
                Some(VenueReason::AmbiguousCorridor) => "ambiguous_corridor",
                Some(VenueReason::OpenCredits) => "open_credits",
                Some(VenueReason::Other(_)) | None => "refused",
            },
            Self::Reverts { .. } => "reverts",
            Self::NoGas { .. } => "no_gas",
            Self::Skipped { .. } => "skipped",
            Self::Log(refusal) => refusal.reason(),
            Self::NotOrdered(BundleState::Cancelled { .. }) => "bundle_cancelled",
            Self::NotOrdered(BundleState::Replaced { .. }) => "bundle_replaced",
            Self::NotOrdered(_) => "bundle_expired",
            Self::Aborted { why, .. } => why.name(),
        }
    }
}

impl std::fmt::Display for VenueReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownAsset => f.write_str("the escrow does not list the asset"),
            Self::Amount => f.write_str("the amount is above what one leg may move"),
            Self::InsufficientMargin => f.write_str("insufficient free margin"),
            Self::Indebted => f.write_str("the account owes the pool from an earlier transfer"),
            Self::Venue => f.write_str("the venue says no: what remains would not cover the account's positions"),
            Self::InventoryEmpty => f.write_str("the escrow's inventory is too small"),
            Self::CorridorCap => f.write_str("the escrow's cap for that corridor is reached"),
            Self::AmbiguousCorridor => f.write_str("the credit is paid for by several rollups"),
            Self::OpenCredits => f.write_str("the account has too many credits under way"),
            Self::Other(number) => write!(f, "the escrow refuses for a reason that is not known here ({number})"),
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Venue { rollup, leg, why, available } => {
                write!(f, "leg {leg} is refused on rollup {rollup}")?;
                if let Some(why) = why {
                    write!(f, ": {why}")?;
                }
                available.map_or(Ok(()), |available| write!(f, ", {available} available"))
            }
            Self::Reverts { rollup, leg, detail } => {
                write!(f, "leg {leg} cannot be prepared on rollup {rollup}: {detail}")
            }
            Self::NoGas { rollup, needed, available } => {
                write!(f, "the account needs {needed} wei for gas on rollup {rollup} and has {available}")
            }
            Self::Skipped { rollup, detail } => write!(f, "rollup {rollup} left the transaction out: {detail}"),
            Self::Log(refusal) => write!(f, "{refusal}"),
            Self::NotOrdered(BundleState::Cancelled { height }) => {
                write!(f, "its bundle was cancelled at height {height} before it was ordered")
            }
            Self::NotOrdered(BundleState::Replaced { height, by }) => {
                write!(f, "bundle {by} took its nonce at height {height}")
            }
            Self::NotOrdered(_) => f.write_str("its bundle expired before it was ordered"),
            Self::Aborted { why, deadline } => match why {
                AbortReason::Expired => {
                    write!(f, "the deadline, height {deadline}, passed before every leg was seen prepared")
                }
                AbortReason::Refused => f.write_str("a venue refused its leg"),
                AbortReason::Cancelled => f.write_str("its owner took it back"),
                AbortReason::Quarantined => f.write_str("a rollup that it touches is behind with earlier decisions"),
                AbortReason::Unknown => f.write_str("it was prepared without being ordered in time"),
            },
        }
    }
}
