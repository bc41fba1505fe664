//! What does the pool ask of the state?
//!
//! Answers come from the latest height that the serving index has committed. They lag behind the log, so they serve
//! admission only: the transition decides.

use std::collections::BTreeMap;

use lockstep_protocol::{
    account::AccountRecord,
    ids::{Account, Height, RollupId},
};

/// The latest committed state. Called often and from several threads: answers must be quick.
pub trait StateView: Send + Sync + 'static {
    /// The height that the answers are of, or a later one. 0 before the first block.
    fn height(&self) -> Height;

    /// An account's record; `None` for one that was never funded.
    fn account(&self, account: &Account) -> Option<AccountRecord>;

    /// Credits for a byte in the block after [`height`](Self::height).
    fn base_fee(&self, rollup: RollupId) -> Option<u64>;
}

/// Credits for a byte of each lane in the next block.
pub(crate) type BaseFees = BTreeMap<RollupId, u64>;
