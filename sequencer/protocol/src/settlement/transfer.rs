//! What is a margin transfer, and how is its settlement called?
//!
//! Shapes, the id that contracts recompute, and which corridors the legs use. Decides nothing: see `machine.rs`.

use alloy_primitives::keccak256;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::{
    ids::{Account, Address20, AssetId, Height, NetworkId, RollupId, SettlementId},
    limits::{MAX_SETTLEMENT_LEGS, MIN_SETTLEMENT_LEGS},
    refusal::Refusal,
    wire,
};

/// Hashed first into every settlement id.
const DOMAIN: &[u8] = b"lockstep settlement v1";

/// Margin that moves between venues: what a settlement bundle promises on top of its native transactions.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MarginTransfer {
    /// What each venue does. Their order is part of the settlement's id.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_SETTLEMENT_LEGS>")]
    pub legs: Vec<SettlementLeg>,
    /// The height that decides what was not decided before.
    pub deadline: Height,
}

/// What one venue does in a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettlementLeg {
    /// Where.
    pub rollup: RollupId,
    /// The escrow contract of the venue.
    pub escrow: Address20,
    /// Whose margin, as the venue knows them.
    pub account: Address20,
    /// Of what.
    pub asset: AssetId,
    /// Given or received.
    pub side: Side,
    /// How much, in the asset's smallest unit.
    #[serde(with = "crate::decimal")]
    pub amount: u128,
    /// How settled a head must be to count as evidence for this leg.
    pub level: Level,
}

/// Which way margin moves at a venue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// From the account into the escrow.
    Debit,
    /// From the escrow to the account.
    Credit,
}

/// How settled a rollup's block is. Ordered: what holds at a level holds at those below.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// Executed by the rollup's nodes (`latest`).
    Executed,
    /// Derived from what stands on L1 (`safe`).
    Safe,
    /// Derived from finalized L1 blocks (`finalized`).
    Final,
}

impl Level {
    /// All of them, lowest first.
    pub const ALL: [Self; 3] = [Self::Executed, Self::Safe, Self::Final];
}

/// All that a settlement's id is made of.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Intent {
    /// Who submitted it, or would have.
    pub account: Account,
    /// The bundle's nonce.
    pub nonce: u64,
    /// What moves.
    pub transfer: MarginTransfer,
}

/// How much of an asset goes from one rollup to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it is debited.
    pub from: RollupId,
    /// Where it is credited.
    pub to: RollupId,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: u128,
}

impl Intent {
    /// The settlement's id:
    ///
    /// ```text
    /// keccak256(abi.encode(bytes32 domain, bytes32 network, bytes32 account, uint64 nonce, uint64 deadline, Leg[] legs))
    /// domain = keccak256("lockstep settlement v1")
    /// Leg    = (uint64 rollup, address escrow, address account, bytes32 asset, uint8 side, uint128 amount, uint8 level)
    /// ```
    pub fn sid(&self, network: NetworkId) -> SettlementId {
        sid(network, &self.account, self.nonce, &self.transfer)
    }
}

/// A settlement's id: see [`Intent::sid`].
pub fn sid(network: NetworkId, account: &Account, nonce: u64, transfer: &MarginTransfer) -> SettlementId {
    let mut words: Vec<[u8; 32]> = vec![
        keccak256(DOMAIN).0,
        network.0,
        account.word().0,
        number(u128::from(nonce)),
        number(u128::from(transfer.deadline.0)),
        // The legs start after these six words.
        number(6 * 32),
        number(transfer.legs.len() as u128),
    ];
    for leg in &transfer.legs {
        words.extend([
            number(u128::from(leg.rollup.0)),
            address(leg.escrow),
            address(leg.account),
            leg.asset.0,
            number(leg.side as u128),
            number(leg.amount),
            number(leg.level as u128),
        ]);
    }
    SettlementId(keccak256(words.concat()).0)
}

/// `number` as an ABI word.
pub(crate) fn number(number: u128) -> [u8; 32] {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&number.to_be_bytes());
    word
}

fn address(address: Address20) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&address.0);
    word
}

impl MarginTransfer {
    /// Checks all that can be told from the transfer alone.
    pub fn check_shape(&self) -> Result<(), Refusal> {
        let found = self.legs.len();
        if !(MIN_SETTLEMENT_LEGS..=MAX_SETTLEMENT_LEGS).contains(&found) {
            return Err(Refusal::SettlementLegCount { min: MIN_SETTLEMENT_LEGS, max: MAX_SETTLEMENT_LEGS, found });
        }
        if let Some(leg) = self.legs.iter().position(|leg| leg.amount == 0) {
            return Err(Refusal::ZeroAmount { leg });
        }
        self.flows().map(|_| ())
    }

    /// How much goes where: for each asset, debits fill credits in the order of the legs. At most one flow less than legs.
    ///
    /// An asset whose debits are not its credits, or exceed 128 bits, is unbalanced.
    pub fn flows(&self) -> Result<Vec<Flow>, Refusal> {
        let mut sides: BTreeMap<AssetId, [Vec<(RollupId, u128)>; 2]> = BTreeMap::new();
        for leg in &self.legs {
            sides.entry(leg.asset).or_default()[leg.side as usize].push((leg.rollup, leg.amount));
        }
        let mut flows: BTreeMap<(RollupId, RollupId, AssetId), u128> = BTreeMap::new();
        for (asset, [debits, credits]) in sides {
            let total =
                |side: &[(RollupId, u128)]| side.iter().try_fold(0_u128, |sum, (_, amount)| sum.checked_add(*amount));
            if total(&debits).is_none() || total(&debits) != total(&credits) {
                return Err(Refusal::UnbalancedAsset { asset });
            }
            let mut credits = credits.into_iter();
            let (mut to, mut wanted) = (RollupId(0), 0);
            for (from, mut given) in debits {
                while given > 0 {
                    if wanted == 0 {
                        (to, wanted) = credits.next().expect("credits come to as much as debits");
                    }
                    let amount = given.min(wanted);
                    // Never above the asset's debits, which fit.
                    *flows.entry((from, to, asset)).or_insert(0) += amount;
                    given -= amount;
                    wanted -= amount;
                }
            }
        }
        Ok(flows.into_iter().map(|((from, to, asset), amount)| Flow { from, to, asset, amount }).collect())
    }
}
