//! The genesis configuration: what all members of a network agree on before the first block.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    digest::digest,
    hex,
    ids::{Account, Hash32, NetworkId, RollupId},
    limits::{
        MAX_GENESIS_ACCOUNTS, MAX_LANE_BYTES, MAX_LIQUIDATORS, MAX_NAME_BYTES, MAX_POSTERS, MAX_ROLLUPS,
        MAX_SHARING_BYTES, MAX_VALIDATORS,
    },
    settlement::{
        FactError,
        config::{ConfigError, Participant, SettlementConfig},
    },
};

/// A network's genesis, as `genesis.json` holds it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Genesis {
    /// The network's name; its id is the hash of it.
    pub network: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// The group's BLS12-381 public key, 96 bytes compressed in G2: the one key that verifies everything.
    pub group_key: GroupKeyBytes,
    /// Public commitment to the shares of the group key, as the consensus engine encodes it.
    #[serde(with = "hex::bytes")]
    pub sharing: Vec<u8>,
    /// The validators' ed25519 keys, sorted.
    pub validators: Vec<Hash32>,
    /// The rollups, sorted by id.
    pub rollups: Vec<Rollup>,
    /// First balances, sorted by account; block 1 writes them.
    pub balances: Vec<Balance>,
    /// What may move between rollups; none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement: Option<SettlementConfig>,
}

/// 96 bytes of a compressed point in G2.
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GroupKeyBytes(pub [u8; 96]);

/// A rollup that has a lane.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollup {
    /// Its id; the EIP-155 chain id where it has one.
    pub id: RollupId,
    /// For people.
    pub name: String,
    /// What a transaction of it looks like.
    pub format: Format,
    /// The base fee never falls below this. Credits per byte.
    pub min_base_fee: u64,
    /// Who may post its batches, sorted. They take turns by leases.
    #[serde(default)]
    pub posters: Vec<Account>,
    /// Accounts whose bundles go before all others, sorted.
    #[serde(default)]
    pub liquidators: Vec<Account>,
    /// Bytes of a block of its lane that those may use.
    #[serde(default)]
    pub liquidation_bytes: u64,
    /// Its part in settlements; none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement: Option<Participant>,
}

/// How a rollup's transactions are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Format {
    /// Ethereum's signed transactions: legacy, or typed by EIP-2718.
    Eip2718,
}

/// An account's first balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Balance {
    /// Whose.
    pub account: Account,
    /// How many credits.
    pub credits: u64,
}

/// What is wrong with a genesis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum GenesisError {
    #[error("the network needs a name")]
    NoName,
    #[error("a name of {0} bytes, at most {MAX_NAME_BYTES} are allowed")]
    LongName(usize),
    #[error("the network needs at least one validator")]
    NoValidators,
    #[error("at most {MAX_VALIDATORS} validators are allowed, found {0}")]
    ValidatorCount(usize),
    #[error("a sharing of {0} bytes, at most {MAX_SHARING_BYTES} are allowed")]
    LongSharing(usize),
    #[error("validators must be sorted and distinct: see {0}")]
    Validators(Hash32),
    #[error("the network needs 1 to {MAX_ROLLUPS} rollups, found {0}")]
    RollupCount(usize),
    #[error("rollups must be sorted and distinct: see {0}")]
    Rollups(RollupId),
    #[error("rollup {0} needs a minimum base fee of at least 1 credit a byte")]
    MinBaseFee(RollupId),
    #[error("at most {MAX_GENESIS_ACCOUNTS} accounts can be funded at genesis, found {0}")]
    AccountCount(usize),
    #[error("balances must be sorted by account and distinct: see {0}")]
    Balances(Account),
    #[error("all balances together must stay below 2^64 - 1, the fee that nobody can pay")]
    Supply,
    #[error("rollup {0}: at most {MAX_POSTERS} posters and {MAX_LIQUIDATORS} liquidators, sorted and distinct")]
    Roles(RollupId),
    #[error("rollup {0}: liquidators may use at most {MAX_LANE_BYTES} bytes of a block")]
    LiquidationBytes(RollupId),
    #[error(transparent)]
    Settlement(#[from] ConfigError),
}

/// The part of a checked genesis that the transition needs.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The network.
    pub network: NetworkId,
    /// Its rollups.
    pub rollups: BTreeMap<RollupId, Rollup>,
    /// First balances.
    pub balances: Vec<Balance>,
    /// Sum of all first balances.
    pub supply: u64,
    /// The validators' ed25519 keys, in the order of the genesis: head signatures name them by their place.
    pub validators: Vec<Hash32>,
    /// What may move between rollups.
    pub settlement: SettlementConfig,
}

impl Genesis {
    /// The network's id.
    pub fn network_id(&self) -> NetworkId {
        NetworkId::from_name(&self.network)
    }

    /// What the genesis header carries as its body: `blake3("lockstep/genesis/v1" || borsh(genesis))`.
    pub fn hash(&self) -> Hash32 {
        digest("lockstep/genesis/v1", self)
    }

    /// Checks the genesis and takes from it what the transition needs.
    pub fn rules(&self) -> Result<Rules, GenesisError> {
        if self.network.is_empty() {
            return Err(GenesisError::NoName);
        }
        let names = std::iter::once(&self.network).chain(self.rollups.iter().map(|rollup| &rollup.name));
        if let Some(long) = names.map(String::len).find(|length| *length > MAX_NAME_BYTES) {
            return Err(GenesisError::LongName(long));
        }
        if self.validators.is_empty() {
            return Err(GenesisError::NoValidators);
        }
        if self.validators.len() > MAX_VALIDATORS {
            return Err(GenesisError::ValidatorCount(self.validators.len()));
        }
        if self.sharing.len() > MAX_SHARING_BYTES {
            return Err(GenesisError::LongSharing(self.sharing.len()));
        }
        if let Some(key) = unsorted(&self.validators, |key| *key) {
            return Err(GenesisError::Validators(key));
        }
        if self.rollups.is_empty() || self.rollups.len() > MAX_ROLLUPS {
            return Err(GenesisError::RollupCount(self.rollups.len()));
        }
        if let Some(id) = unsorted(&self.rollups, |rollup| rollup.id) {
            return Err(GenesisError::Rollups(id));
        }
        if let Some(rollup) = self.rollups.iter().find(|rollup| rollup.min_base_fee == 0) {
            return Err(GenesisError::MinBaseFee(rollup.id));
        }
        for rollup in &self.rollups {
            rollup.check_roles()?;
            if let Some(participant) = &rollup.settlement {
                participant.check(rollup.id)?;
                if self.settlement.is_none() {
                    return Err(ConfigError::NoSection { rollup: rollup.id }.into());
                }
            }
        }
        if let Some(settlement) = &self.settlement {
            let takes_part = |id| self.rollups.iter().any(|rollup| rollup.id == id && rollup.settlement.is_some());
            settlement.check(takes_part)?;
        }
        if self.balances.len() > MAX_GENESIS_ACCOUNTS {
            return Err(GenesisError::AccountCount(self.balances.len()));
        }
        if let Some(account) = unsorted(&self.balances, |balance| balance.account) {
            return Err(GenesisError::Balances(account));
        }
        let supply = self.balances.iter().try_fold(0_u64, |sum, balance| sum.checked_add(balance.credits));
        // A fee that does not fit saturates at the largest number, so nobody may own that many credits.
        let supply = supply.filter(|supply| *supply < u64::MAX);
        Ok(Rules {
            network: self.network_id(),
            rollups: self.rollups.iter().map(|rollup| (rollup.id, rollup.clone())).collect(),
            balances: self.balances.clone(),
            supply: supply.ok_or(GenesisError::Supply)?,
            validators: self.validators.clone(),
            settlement: self.settlement.clone().unwrap_or_default(),
        })
    }
}

impl Rollup {
    /// A rollup without posters, liquidators or settlements.
    pub fn new(id: RollupId, name: impl Into<String>, format: Format, min_base_fee: u64) -> Self {
        Self {
            id,
            name: name.into(),
            format,
            min_base_fee,
            posters: Vec::new(),
            liquidators: Vec::new(),
            liquidation_bytes: 0,
            settlement: None,
        }
    }

    fn check_roles(&self) -> Result<(), GenesisError> {
        let (posters, liquidators) = (&self.posters, &self.liquidators);
        let counted = posters.len() <= MAX_POSTERS && liquidators.len() <= MAX_LIQUIDATORS;
        if !counted || unsorted(posters, |account| *account).or(unsorted(liquidators, |account| *account)).is_some() {
            return Err(GenesisError::Roles(self.id));
        }
        if self.liquidation_bytes > MAX_LANE_BYTES {
            return Err(GenesisError::LiquidationBytes(self.id));
        }
        Ok(())
    }
}

impl Rules {
    /// Validators that must agree: `2f + 1` of `n = 3f + 1`, or `n - f` where `n` is not of that form.
    pub fn quorum(&self) -> usize {
        let n = self.validators.len();
        n - n.saturating_sub(1) / 3
    }

    /// A rollup's part in settlements.
    pub fn participant(&self, rollup: RollupId) -> Result<&Participant, FactError> {
        let participant = self.rollups.get(&rollup).and_then(|rollup| rollup.settlement.as_ref());
        participant.ok_or(FactError::NoParticipant { rollup })
    }

    /// A rollup's place among the network's.
    pub fn place_of(&self, rollup: RollupId) -> Option<u8> {
        self.rollups.keys().position(|id| *id == rollup).and_then(|place| u8::try_from(place).ok())
    }

    /// The rollup at a place.
    pub fn at_place(&self, place: u8) -> Option<&Rollup> {
        self.rollups.values().nth(usize::from(place))
    }

    /// The rollups that take part in settlements.
    pub fn participants(&self) -> impl Iterator<Item = RollupId> + '_ {
        self.rollups.values().filter(|rollup| rollup.settlement.is_some()).map(|rollup| rollup.id)
    }

    /// The rollups' ids, ascending.
    pub fn rollup_ids(&self) -> BTreeSet<RollupId> {
        self.rollups.keys().copied().collect()
    }
}

/// The first item that does not come after the one before it.
fn unsorted<T, K: Ord>(items: &[T], key: impl Fn(&T) -> K) -> Option<K> {
    items.windows(2).find(|pair| key(&pair[0]) >= key(&pair[1])).map(|pair| key(&pair[1]))
}

impl std::fmt::Debug for GroupKeyBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        hex::fmt(&self.0, f)
    }
}

impl Serialize for GroupKeyBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        hex::bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for GroupKeyBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::deserialize_fixed::<96, D>(deserializer).map(Self)
    }
}
