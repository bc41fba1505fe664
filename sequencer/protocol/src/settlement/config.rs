//! What does a network's genesis say about settlements?

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{Address20, AssetId, RollupId},
    limits::{MAX_APPLY_WINDOW, MAX_ASSETS, MAX_CORRIDORS, MAX_ESCROWS},
    settlement::Level,
};

/// The network's part: what may move, and how much of it at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettlementConfig {
    /// Heights after a settlement's deadline by which its decision must be applied on every leg, or its rollup is late.
    pub apply_window: u64,
    /// What may move, sorted.
    pub assets: Vec<Asset>,
    /// Between which rollups, sorted by (from, to, asset).
    pub corridors: Vec<Corridor>,
}

/// An asset that may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asset {
    /// Its id.
    pub asset: AssetId,
    /// Most that one account may have in settlements that are not settled.
    #[serde(with = "crate::decimal")]
    pub account_cap: u128,
}

/// A way from one rollup to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Corridor {
    /// Where it is debited.
    pub from: RollupId,
    /// Where it is credited.
    pub to: RollupId,
    /// What.
    pub asset: AssetId,
    /// Most that may be under way, in settlements that are not settled: what can be lost if the rollup leaves its history.
    #[serde(with = "crate::decimal")]
    pub cap: u128,
}

/// A rollup's part.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Participant {
    /// The contract that takes decisions and deposits.
    pub hub: Address20,
    /// The contracts that hold margin, sorted.
    pub escrows: Vec<Address20>,
    /// How settled a head must be for what it shows to be final to the log: applied decisions and deposits.
    pub settled_level: Level,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum ConfigError {
    #[error("an apply window of {0} heights, 1 to {MAX_APPLY_WINDOW} are allowed")]
    ApplyWindow(u64),
    #[error("at most {MAX_ASSETS} assets are allowed, found {0}")]
    AssetCount(usize),
    #[error("assets must be sorted and distinct")]
    Assets,
    #[error("at most {MAX_CORRIDORS} corridors are allowed, found {0}")]
    CorridorCount(usize),
    #[error("corridors must be sorted by (from, to, asset) and distinct")]
    Corridors,
    #[error("a corridor from {from} to {to}: one of them takes no part, or its asset is not listed")]
    Corridor { from: RollupId, to: RollupId },
    #[error("rollup {rollup} needs 1 to {MAX_ESCROWS} escrows, sorted and distinct, and none of them its hub")]
    Escrows { rollup: RollupId },
    #[error("rollup {rollup} takes part, but the network has no settlement section")]
    NoSection { rollup: RollupId },
}

impl SettlementConfig {
    /// Checks the section; `takes_part` says which rollups are in.
    pub(crate) fn check(&self, takes_part: impl Fn(RollupId) -> bool) -> Result<(), ConfigError> {
        if !(1..=MAX_APPLY_WINDOW).contains(&self.apply_window) {
            return Err(ConfigError::ApplyWindow(self.apply_window));
        }
        if self.assets.len() > MAX_ASSETS {
            return Err(ConfigError::AssetCount(self.assets.len()));
        }
        if self.assets.windows(2).any(|pair| pair[0].asset >= pair[1].asset) {
            return Err(ConfigError::Assets);
        }
        if self.corridors.len() > MAX_CORRIDORS {
            return Err(ConfigError::CorridorCount(self.corridors.len()));
        }
        if self.corridors.windows(2).any(|pair| pair[0].place() >= pair[1].place()) {
            return Err(ConfigError::Corridors);
        }
        for corridor in &self.corridors {
            let (from, to) = (corridor.from, corridor.to);
            if !takes_part(from) || !takes_part(to) || self.asset_index(corridor.asset).is_none() {
                return Err(ConfigError::Corridor { from, to });
            }
        }
        Ok(())
    }

    /// The place of a corridor among them.
    pub fn corridor_index(&self, from: RollupId, to: RollupId, asset: AssetId) -> Option<usize> {
        self.corridors.binary_search_by_key(&(from, to, asset), Corridor::place).ok()
    }

    /// The place of an asset among them.
    pub fn asset_index(&self, asset: AssetId) -> Option<usize> {
        self.assets.binary_search_by_key(&asset, |listed| listed.asset).ok()
    }
}

impl Corridor {
    fn place(&self) -> (RollupId, RollupId, AssetId) {
        (self.from, self.to, self.asset)
    }
}

impl Participant {
    pub(crate) fn check(&self, rollup: RollupId) -> Result<(), ConfigError> {
        let counted = (1..=MAX_ESCROWS).contains(&self.escrows.len());
        let sorted = self.escrows.windows(2).all(|pair| pair[0] < pair[1]);
        if counted && sorted && !self.escrows.contains(&self.hub) {
            Ok(())
        } else {
            Err(ConfigError::Escrows { rollup })
        }
    }
}
