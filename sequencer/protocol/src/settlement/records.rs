//! What does the authenticated state hold for settlements, and under which keys?
//!
//! Every record is of fixed size and every collection is bounded or a ring, so that the keys of a block are known before it is
//! executed. Nothing here decides: see `machine.rs`.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    digest::digest,
    ids::{Account, Height, RollupId, SettlementId},
    limits::{
        CORRIDORS_PER_PAGE, DUE_PER_PAGE, DUE_RING, HEAD_RING, MAX_ASSETS, MAX_FLOWS, MAX_HEAD_AGE, MAX_SETTLEMENT_LEGS,
    },
    refusal::Refusal,
    settlement::{Decision, Head, Level},
    state::{Key, Stored},
    wire,
};

/// The place of a rollup that is not of this network; its legs cannot be decided here.
pub const FOREIGN: u8 = u8::MAX;

/// A settlement. Its record stays for good: one decision for each id, ever.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettlementRecord {
    /// Who submitted it.
    pub account: Account,
    /// The bundle's nonce.
    pub nonce: u64,
    /// When it is decided at the latest.
    pub deadline: Height,
    /// What was decided, and where.
    pub decided: Option<Decided>,
    /// Whether every leg was seen applied.
    pub settled: bool,
    /// Bit for each leg whose rollup is late with the decision.
    pub late: u8,
    /// In the order of the transfer.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_SETTLEMENT_LEGS>")]
    pub legs: Vec<LegRecord>,
    /// What it takes from corridors until it is aborted or settled.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_FLOWS>")]
    pub flows: Vec<FlowRecord>,
}

/// A decision with its height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decided {
    /// What.
    pub decision: Decision,
    /// In which block.
    pub height: Height,
}

/// A leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegRecord {
    /// Place of its rollup among the network's, or [`FOREIGN`].
    pub rollup: u8,
    /// Place of its escrow among the rollup's.
    pub escrow: u8,
    /// What its evidence needs.
    pub level: Level,
    /// What was seen of it last.
    pub seen: Seen,
    /// In which of the rollup's incarnations. What was seen in an earlier one is not known any more.
    pub incarnation: u32,
}

/// What was seen of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// It stands prepared.
    Prepared,
    /// It was refused.
    Refused,
    /// The decision is applied.
    Applied,
    /// The decision is a commit, and there is too little to take.
    Shortfall,
}

/// What a settlement takes from a corridor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRecord {
    /// Place among the network's corridors.
    pub corridor: u8,
    /// How much.
    #[serde(with = "crate::decimal")]
    pub amount: u128,
}

/// What the log knows of a rollup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollupRecord {
    /// Reorganizations seen so far.
    pub incarnation: u32,
    /// Number of the latest head of each level, in this incarnation.
    pub latest: [Option<u64>; 3],
    /// The height that took the latest head.
    pub seen_at: Height,
    /// No new settlement before this height, after a reorganization.
    pub quarantined_until: Height,
    /// Legs that are late.
    pub late: u32,
    /// Legs that could not be taken in full.
    pub shortfalls: u32,
}

/// A head that the log has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadRecord {
    /// The head.
    pub head: Head,
    /// In which block.
    pub height: Height,
}

/// What is under way in some corridors, in the order of the genesis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ExposurePage {
    /// One for each corridor of the page.
    pub under_way: [u128; CORRIDORS_PER_PAGE],
}

/// What an account has in settlements that are neither aborted nor settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct InFlightRecord {
    /// How many.
    pub open: u32,
    /// How much of each asset, in the order of the genesis.
    pub amounts: [u128; MAX_ASSETS],
}

/// Settlements of one deadline: what the block at that height decides, and asks after again a window later.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct DuePage {
    /// The deadline. A page of another deadline is an empty one: the pages form a ring.
    pub deadline: Height,
    /// In the first page: entries of all pages.
    pub count: u32,
    /// This page's.
    #[borsh(deserialize_with = "wire::list::<_, _, DUE_PER_PAGE>")]
    pub entries: Vec<Due>,
}

/// A settlement with what is needed to find its other records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Due {
    /// Which.
    pub settlement: SettlementId,
    /// Whose.
    pub account: Account,
}

/// Who posts for a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRecord {
    /// Who.
    pub holder: Account,
    /// The last height.
    pub until: Height,
    /// Counts the changes of holder; the first is 1.
    pub term: u64,
}

/// What was credited to an account from deposits on a rollup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DepositRecord {
    /// Of the hub's counter for the account. Credits.
    pub credited: u64,
}

impl Stored for SettlementRecord {
    const KIND: u8 = 4;
}

impl Stored for RollupRecord {
    const KIND: u8 = 5;
}

impl Stored for HeadRecord {
    const KIND: u8 = 6;
}

impl Stored for ExposurePage {
    const KIND: u8 = 7;
}

impl Stored for InFlightRecord {
    const KIND: u8 = 8;
}

impl Stored for DuePage {
    const KIND: u8 = 9;
}

impl Stored for LeaseRecord {
    const KIND: u8 = 10;
}

impl Stored for DepositRecord {
    const KIND: u8 = 11;
}

/// Key of a settlement's record.
pub fn settlement_key(settlement: &SettlementId) -> Key {
    digest("lockstep/state/settlement/v1", settlement).0
}

/// Key of what is known of a rollup.
pub fn rollup_key(rollup: RollupId) -> Key {
    digest("lockstep/state/rollup/v1", &rollup).0
}

/// Key of a head: a ring of the latest [`HEAD_RING`] numbers of each level.
pub fn head_key(rollup: RollupId, level: Level, number: u64) -> Key {
    digest("lockstep/state/head/v1", &(rollup, level, number % HEAD_RING)).0
}

/// Key of a page of corridors.
pub fn exposure_key(page: usize) -> Key {
    digest("lockstep/state/exposure/v1", &(page as u64)).0
}

/// Key of what an account has under way.
pub fn in_flight_key(account: &Account) -> Key {
    digest("lockstep/state/in-flight/v1", account).0
}

/// Key of a page of a deadline: a ring of [`DUE_RING`] heights.
pub fn due_key(deadline: Height, page: usize) -> Key {
    digest("lockstep/state/due/v1", &(deadline.0 % DUE_RING, page as u64)).0
}

/// Key of a rollup's lease.
pub fn lease_key(rollup: RollupId) -> Key {
    digest("lockstep/state/lease/v1", &rollup).0
}

/// Key of what was credited to an account from a rollup.
pub fn deposit_key(rollup: RollupId, account: &Account) -> Key {
    digest("lockstep/state/deposit/v1", &(rollup, account)).0
}

impl RollupRecord {
    /// Whether a new settlement may touch the rollup at `height`.
    pub fn check_health(&self, rollup: RollupId, height: Height) -> Result<(), Refusal> {
        if self.is_behind() || height < self.quarantined_until {
            return Err(Refusal::RollupQuarantined {
                rollup,
                late: self.late,
                shortfalls: self.shortfalls,
                until: self.quarantined_until,
            });
        }
        let silent = height.0.saturating_sub(self.seen_at.0) > MAX_HEAD_AGE;
        if silent || self.latest == [None; 3] {
            return Err(Refusal::RollupSilent { rollup, seen_at: self.seen_at });
        }
        Ok(())
    }

    /// Whether the rollup owes something that was decided: open settlements that touch it are aborted.
    pub fn is_behind(&self) -> bool {
        self.late > 0 || self.shortfalls > 0
    }
}

impl DuePage {
    /// A page without entries.
    pub fn empty(deadline: Height) -> Self {
        Self { deadline, count: 0, entries: Vec::new() }
    }
}
