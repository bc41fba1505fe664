//! The authenticated state: which keys hold which fixed-size records.

use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::BTreeMap;

use crate::{
    account::AccountRecord,
    digest::digest,
    ids::{Account, RollupId},
    lane::LaneLeaf,
};

/// A key: a blake3 hash over what the record is for.
pub type Key = [u8; 32];
/// A record: a kind, the borsh form of a value, and zeros.
pub type Record = [u8; RECORD_BYTES];
/// Length of every record.
pub const RECORD_BYTES: usize = 256;
/// Records by key; `None` where the state has none.
pub type Records = BTreeMap<Key, Option<Record>>;

/// What the state holds for a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LaneRecord {
    /// What headers commit to.
    pub leaf: LaneLeaf,
    /// Credits for a byte in the next block.
    pub base_fee: u64,
}

/// What the state holds for the network: the fees that were paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TreasuryRecord {
    /// All base fees and tips so far. Credits.
    pub credits: u64,
    /// All deposits so far. Credits.
    pub deposited: u64,
}

/// A record is not what its key says. The state is ours, so this is a broken invariant of ours, or a forged proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record is not of kind {0}")]
pub struct BadRecord(u8);

/// A value with a record form.
pub trait Stored: BorshSerialize + BorshDeserialize {
    /// First byte of its records.
    const KIND: u8;

    /// Its record.
    fn to_record(&self) -> Record {
        let mut record = [0; RECORD_BYTES];
        record[0] = Self::KIND;
        self.serialize(&mut &mut record[1..]).expect("every stored value fits a record");
        record
    }

    /// The value of a record.
    fn from_record(record: &Record) -> Result<Self, BadRecord> {
        let mut rest = record.as_slice();
        if u8::deserialize(&mut rest).ok() != Some(Self::KIND) {
            return Err(BadRecord(Self::KIND));
        }
        let value = Self::deserialize(&mut rest).map_err(|_| BadRecord(Self::KIND))?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(BadRecord(Self::KIND));
        }
        Ok(value)
    }
}

impl Stored for AccountRecord {
    const KIND: u8 = 1;
}

impl Stored for LaneRecord {
    const KIND: u8 = 2;
}

impl Stored for TreasuryRecord {
    const KIND: u8 = 3;
}

/// Key of an account's record.
pub fn account_key(account: &Account) -> Key {
    digest("lockstep/state/account/v1", account).0
}

/// Key of a lane's record.
pub fn lane_key(rollup: RollupId) -> Key {
    digest("lockstep/state/lane/v1", &rollup).0
}

/// Key of the network's record.
pub fn treasury_key() -> Key {
    digest("lockstep/state/treasury/v1", &()).0
}
