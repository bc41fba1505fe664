//! Why a bundle or a cancel is not accepted: a stable reason and the facts.

use serde::{Deserialize, Serialize};

use crate::ids::{Address20, AssetId, Height, NetworkId, RollupId, SettlementId};

/// A refusal. In JSON: `{"reason":"expired","validUntil":120,"height":121}`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[allow(missing_docs, reason = "the texts say what each variant and its facts mean")]
pub enum Refusal {
    #[error("not a message of this protocol: {detail}")]
    Malformed { detail: String },
    #[error("the signature is not the account's over this message")]
    BadSignature,
    #[error("made for network {found}, this is {expected}")]
    WrongNetwork { expected: NetworkId, found: NetworkId },
    #[error("a bundle needs at least one leg")]
    NoLegs,
    #[error("{found} legs, at most {max} are allowed")]
    TooManyLegs { max: usize, found: usize },
    #[error("legs must be sorted by rollup: {rollup} comes too late")]
    UnsortedLegs { rollup: RollupId },
    #[error("two legs for rollup {rollup}: put their transactions into one")]
    RepeatedLeg { rollup: RollupId },
    #[error("the leg for rollup {rollup} has no transaction")]
    EmptyLeg { rollup: RollupId },
    #[error("the leg for rollup {rollup} has {found} transactions, at most {max} are allowed")]
    TooManyTransactions { rollup: RollupId, max: usize, found: usize },
    #[error("a transaction for rollup {rollup} has {found} bytes, at most {max} are allowed")]
    OversizedTransaction { rollup: RollupId, max: usize, found: usize },
    #[error("the leg for rollup {rollup} has {found} bytes, at most {max} are allowed")]
    OversizedLeg { rollup: RollupId, max: usize, found: u64 },
    #[error("the bundle has {found} bytes, at most {max} are allowed")]
    OversizedBundle { max: usize, found: usize },
    #[error("rollup {rollup} is not registered on this network")]
    UnknownRollup { rollup: RollupId },
    #[error("transaction {index} for rollup {rollup} is malformed: {detail}")]
    MalformedTransaction { rollup: RollupId, index: usize, detail: String },
    #[error("transaction {index} for rollup {rollup} is signed for chain {found:?}")]
    WrongChainId { rollup: RollupId, index: usize, found: Option<u64> },
    #[error("valid until height {valid_until}, the next block is {height}")]
    Expired { valid_until: Height, height: Height },
    #[error("valid until height {valid_until}, at most {max} is allowed now")]
    ValidityTooFar { valid_until: Height, max: Height },
    #[error("account is not known on this network: fund it first")]
    UnknownAccount,
    #[error("needs {needed} credits, the account has {available} that are not promised yet")]
    InsufficientBalance { needed: u64, available: u64 },
    #[error("the fee comes to {needed} credits now, the bundle allows {max_fee}")]
    FeeTooLow { needed: u64, max_fee: u64 },
    #[error("nonce {nonce} is used")]
    NonceUsed { nonce: u64 },
    #[error("nonce {nonce} is below the window, which starts at {lowest}")]
    NonceBelowWindow { nonce: u64, lowest: u64 },
    #[error("nonce {nonce} is too far ahead, at most {highest} is allowed now")]
    NonceTooFarAhead { nonce: u64, highest: u64 },
    #[error("nonces {first}..={last} are not a range of 1 to {max}")]
    BadNonceRange { first: u64, last: u64, max: u64 },
    #[error("every nonce of {first}..={last} is used already: too late to cancel")]
    NothingToCancel { first: u64, last: u64 },
    #[error("one cancel an account a block")]
    CancelPending,
    #[error("the lane of rollup {rollup} is full in this block")]
    LaneFull { rollup: RollupId },
    #[error("the block is full")]
    BodyFull,
    #[error("the account has {open} open bundles, at most {max} are allowed")]
    TooManyOpen { max: usize, open: usize },
    #[error(
        "the pool is full: it holds {bytes} bytes, and every bundle in it pays at least {tip_per_kilobyte} per 1,000 bytes"
    )]
    PoolFull { bytes: usize, tip_per_kilobyte: u64 },
    #[error("nonce {nonce} is taken by a waiting bundle; to replace it pay a tip above {tip}")]
    ReplacementUnderpriced { nonce: u64, tip: u64 },
    #[error("a settlement has {min} to {max} legs, found {found}")]
    SettlementLegCount { min: usize, max: usize, found: usize },
    #[error("leg {leg} of the settlement moves nothing")]
    ZeroAmount { leg: usize },
    #[error("what is debited of asset {asset} is not what is credited")]
    UnbalancedAsset { asset: AssetId },
    #[error("rollup {rollup} has a leg in only one of the bundle and its settlement")]
    UnmatchedLeg { rollup: RollupId },
    #[error("rollup {rollup} takes no part in settlements")]
    NoSettlements { rollup: RollupId },
    #[error("contract {escrow} is no escrow of rollup {rollup}")]
    UnknownEscrow { rollup: RollupId, escrow: Address20 },
    #[error("there is no corridor from {from} to {to} for asset {asset}")]
    NoCorridor { from: RollupId, to: RollupId, asset: AssetId },
    #[error("deadline {deadline} is not within {min} and {max}")]
    BadDeadline { deadline: Height, min: Height, max: Height },
    #[error("too many settlements are due at height {deadline}: choose another deadline")]
    DeadlineFull { deadline: Height },
    #[error("rollup {rollup} is quarantined until {until}, with {late} late legs and {shortfalls} shortfalls")]
    RollupQuarantined { rollup: RollupId, late: u32, shortfalls: u32, until: Height },
    #[error("nothing was seen of rollup {rollup} since height {seen_at}")]
    RollupSilent { rollup: RollupId, seen_at: Height },
    #[error("the corridor from {from} to {to} for asset {asset} has {available} left")]
    CorridorFull {
        from: RollupId,
        to: RollupId,
        asset: AssetId,
        #[serde(with = "crate::decimal")]
        available: u128,
    },
    #[error("the account may put {available} more of asset {asset} under way")]
    AccountCapReached {
        asset: AssetId,
        #[serde(with = "crate::decimal")]
        available: u128,
    },
    #[error("the account has {open} open settlements, at most {max} are allowed")]
    TooManySettlements { max: u32, open: u32 },
    #[error("settlement {settlement} is decided already")]
    SettlementKnown { settlement: SettlementId },
    #[error("liquidators of rollup {rollup} have used their share of this block")]
    LiquidationFull { rollup: RollupId },
    #[error("the node is not ready: {detail}")]
    NotReady { detail: String },
}

impl Refusal {
    /// The stable reason, as metrics and JSON name it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::BadSignature => "bad_signature",
            Self::WrongNetwork { .. } => "wrong_network",
            Self::NoLegs => "no_legs",
            Self::TooManyLegs { .. } => "too_many_legs",
            Self::UnsortedLegs { .. } => "unsorted_legs",
            Self::RepeatedLeg { .. } => "repeated_leg",
            Self::EmptyLeg { .. } => "empty_leg",
            Self::TooManyTransactions { .. } => "too_many_transactions",
            Self::OversizedTransaction { .. } => "oversized_transaction",
            Self::OversizedLeg { .. } => "oversized_leg",
            Self::OversizedBundle { .. } => "oversized_bundle",
            Self::UnknownRollup { .. } => "unknown_rollup",
            Self::MalformedTransaction { .. } => "malformed_transaction",
            Self::WrongChainId { .. } => "wrong_chain_id",
            Self::Expired { .. } => "expired",
            Self::ValidityTooFar { .. } => "validity_too_far",
            Self::UnknownAccount => "unknown_account",
            Self::InsufficientBalance { .. } => "insufficient_balance",
            Self::FeeTooLow { .. } => "fee_too_low",
            Self::NonceUsed { .. } => "nonce_used",
            Self::NonceBelowWindow { .. } => "nonce_below_window",
            Self::NonceTooFarAhead { .. } => "nonce_too_far_ahead",
            Self::BadNonceRange { .. } => "bad_nonce_range",
            Self::NothingToCancel { .. } => "nothing_to_cancel",
            Self::CancelPending => "cancel_pending",
            Self::LaneFull { .. } => "lane_full",
            Self::BodyFull => "body_full",
            Self::TooManyOpen { .. } => "too_many_open",
            Self::PoolFull { .. } => "pool_full",
            Self::ReplacementUnderpriced { .. } => "replacement_underpriced",
            Self::SettlementLegCount { .. } => "settlement_leg_count",
            Self::ZeroAmount { .. } => "zero_amount",
            Self::UnbalancedAsset { .. } => "unbalanced_asset",
            Self::UnmatchedLeg { .. } => "unmatched_leg",
            Self::NoSettlements { .. } => "no_settlements",
            Self::UnknownEscrow { .. } => "unknown_escrow",
            Self::NoCorridor { .. } => "no_corridor",
            Self::BadDeadline { .. } => "bad_deadline",
            Self::DeadlineFull { .. } => "deadline_full",
            Self::RollupQuarantined { .. } => "rollup_quarantined",
            Self::RollupSilent { .. } => "rollup_silent",
            Self::CorridorFull { .. } => "corridor_full",
            Self::AccountCapReached { .. } => "account_cap_reached",
            Self::TooManySettlements { .. } => "too_many_settlements",
            Self::SettlementKnown { .. } => "settlement_known",
            Self::LiquidationFull { .. } => "liquidation_full",
            Self::NotReady { .. } => "not_ready",
        }
    }
}
