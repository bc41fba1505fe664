//! What does an escrow contract do with one leg? A model in Rust, without a chain, a clock or a caller.
//!
//! The Solidity contract is held against this model. Amounts are per asset; `owed` is what must still be paid in because a redone
//! leg found too little.

use std::collections::BTreeMap;

use lockstep_protocol::{
    ids::{Address20, AssetId, SettlementId},
    settlement::{LegStatus, SettlementLeg, Side},
};

/// Why a call reverts, without any effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revert {
    /// The leg is known already: prepared, refused, decided.
    Known(LegStatus),
    /// The other decision stands.
    Decided(LegStatus),
}

/// An escrow with its venue's ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Escrow {
    /// Tokens that the contract holds.
    pub(crate) tokens: BTreeMap<AssetId, u128>,
    /// What accounts can use.
    pub(crate) free: BTreeMap<(Address20, AssetId), u128>,
    /// Debits that stand prepared.
    pub(crate) in_flight: BTreeMap<AssetId, u128>,
    /// What credits are paid from.
    pub(crate) pool: BTreeMap<AssetId, u128>,
    /// Credits that stand prepared.
    pub(crate) reserved: BTreeMap<AssetId, u128>,
    /// Of each leg, what it found too little.
    pub(crate) owed: BTreeMap<(SettlementId, u8), (AssetId, u128)>,
    /// Every leg that is not `None`.
    pub(crate) legs: BTreeMap<(SettlementId, u8), LegStatus>,
}

fn entry<K: Ord>(map: &mut BTreeMap<K, u128>, key: K) -> &mut u128 {
    map.entry(key).or_insert(0)
}

impl Escrow {
    pub(crate) fn status(&self, settlement: SettlementId, index: u8) -> LegStatus {
        self.legs.get(&(settlement, index)).copied().unwrap_or(LegStatus::None)
    }

    /// The user's own call. A venue that says no is recorded, not reverted.
    pub(crate) fn prepare(
        &mut self,
        settlement: SettlementId,
        index: u8,
        leg: &SettlementLeg,
    ) -> Result<LegStatus, Revert> {
        match self.status(settlement, index) {
            LegStatus::None => {}
            status => return Err(Revert::Known(status)),
        }
        let (from, to) = match leg.side {
            Side::Debit => (entry(&mut self.free, (leg.account, leg.asset)), entry(&mut self.in_flight, leg.asset)),
            Side::Credit => (entry(&mut self.pool, leg.asset), entry(&mut self.reserved, leg.asset)),
        };
        let status = if *from >= leg.amount {
            *from -= leg.amount;
            *to += leg.amount;
            LegStatus::Prepared
        } else {
            LegStatus::Refused
        };
        self.legs.insert((settlement, index), status);
        Ok(status)
    }

    /// A certified commit. Without effect the second time; never fails for want of money.
    pub(crate) fn commit(
        &mut self,
        settlement: SettlementId,
        index: u8,
        leg: &SettlementLeg,
    ) -> Result<LegStatus, Revert> {
        let account = (leg.account, leg.asset);
        let status = match self.status(settlement, index) {
            LegStatus::Prepared => {
                let (from, to) = match leg.side {
                    Side::Debit => (entry(&mut self.in_flight, leg.asset), entry(&mut self.pool, leg.asset)),
                    Side::Credit => (entry(&mut self.reserved, leg.asset), entry(&mut self.free, account)),
                };
                *from -= leg.amount;
                *to += leg.amount;
                LegStatus::Committed
            }
            // The rollup has left the history in which the leg stood prepared, and in this one it may even have been
            // refused: done again, with what there is.
            LegStatus::None | LegStatus::Refused => {
                let (from, to) = match leg.side {
                    Side::Debit => (entry(&mut self.free, account), entry(&mut self.pool, leg.asset)),
                    Side::Credit => (entry(&mut self.pool, leg.asset), entry(&mut self.free, account)),
                };
                let taken = leg.amount.min(*from);
                *from -= taken;
                *to += leg.amount;
                if taken < leg.amount {
                    self.owed.insert((settlement, index), (leg.asset, leg.amount - taken));
                    LegStatus::Shortfall
                } else {
                    LegStatus::Committed
                }
            }
            status @ (LegStatus::Committed | LegStatus::Shortfall) => return Ok(status),
            status => return Err(Revert::Decided(status)),
        };
        self.legs.insert((settlement, index), status);
        Ok(status)
    }

    /// A certified abort. Without effect the second time.
    pub(crate) fn release(
        &mut self,
        settlement: SettlementId,
        index: u8,
        leg: &SettlementLeg,
    ) -> Result<LegStatus, Revert> {
        match self.status(settlement, index) {
            LegStatus::Prepared => {
                let (from, to) = match leg.side {
                    Side::Debit => {
                        (entry(&mut self.in_flight, leg.asset), entry(&mut self.free, (leg.account, leg.asset)))
                    }
                    Side::Credit => (entry(&mut self.reserved, leg.asset), entry(&mut self.pool, leg.asset)),
                };
                *from -= leg.amount;
                *to += leg.amount;
            }
            // A tombstone: a prepare that comes late finds it.
            LegStatus::None | LegStatus::Refused | LegStatus::Released => {}
            status => return Err(Revert::Decided(status)),
        }
        self.legs.insert((settlement, index), LegStatus::Released);
        Ok(LegStatus::Released)
    }

    /// Somebody pays what a leg found too little.
    pub(crate) fn cover(&mut self, settlement: SettlementId, index: u8) {
        if let Some((asset, amount)) = self.owed.remove(&(settlement, index)) {
            *entry(&mut self.tokens, asset) += amount;
            self.legs.insert((settlement, index), LegStatus::Committed);
        }
    }

    pub(crate) fn fund(&mut self, account: Address20, asset: AssetId, amount: u128) {
        *entry(&mut self.tokens, asset) += amount;
        *entry(&mut self.free, (account, asset)) += amount;
    }

    pub(crate) fn stock(&mut self, asset: AssetId, amount: u128) {
        *entry(&mut self.tokens, asset) += amount;
        *entry(&mut self.pool, asset) += amount;
    }

    pub(crate) fn free_total(&self, asset: AssetId) -> u128 {
        self.free.iter().filter(|((_, held), _)| *held == asset).map(|(_, amount)| amount).sum()
    }

    pub(crate) fn owed_total(&self, asset: AssetId) -> u128 {
        self.owed.values().filter(|(owed, _)| *owed == asset).map(|(_, amount)| amount).sum()
    }

    /// S5: what the books hold is what the contract holds and is owed.
    pub(crate) fn balances(&self, asset: AssetId) -> (u128, u128) {
        let of = |map: &BTreeMap<AssetId, u128>| map.get(&asset).copied().unwrap_or_default();
        let booked = self.free_total(asset) + of(&self.in_flight) + of(&self.pool) + of(&self.reserved);
        (booked, of(&self.tokens) + self.owed_total(asset))
    }
}
