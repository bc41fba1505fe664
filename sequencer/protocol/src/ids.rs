//! Names for everything that is identified: networks, rollups, accounts, bundles, heights.
//!
//! Newtypes only. How an id is computed stands beside the thing that it identifies.

use alloy_primitives::{Address, keccak256};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::fmt;

use crate::hex;

/// A 32-byte hash. The field that holds it says which hash function made it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Hash32(pub [u8; 32]);

/// A network: `keccak256` of its name, so that a contract can compute it. Part of every signed or hashed domain.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct NetworkId(pub [u8; 32]);

impl NetworkId {
    /// The id of the network called `name`, for example `lockstep-testnet-1`.
    pub fn from_name(name: &str) -> Self {
        Self(keccak256(name.as_bytes()).0)
    }
}

/// A bundle: `blake3("lockstep/bundle/v1" || borsh(bundle))`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct BundleId(pub [u8; 32]);

/// A settlement: see `settlement::transfer`, which says how contracts compute it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct SettlementId(pub [u8; 32]);

/// An asset, the same on every rollup: `keccak256` of its symbol. Each escrow maps it to a token.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct AssetId(pub [u8; 32]);

impl AssetId {
    /// The asset called `symbol`, for example `USDC`.
    pub fn from_symbol(symbol: &str) -> Self {
        Self(keccak256(symbol.as_bytes()).0)
    }
}

/// A rollup; equal to its EIP-155 chain id where it has one.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct RollupId(pub u64);

/// The number of a block in the log. Genesis is 0.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct Height(pub u64);

impl Height {
    /// The height after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Who submits a bundle and pays for it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Account {
    /// An ed25519 public key (RFC 8032, 32 bytes), verified under the ZIP 215 rules.
    Ed25519(Hash32),
    /// An Ethereum address, recovered from an EIP-191 `personal_sign` signature.
    Secp256k1(Address20),
}

impl Account {
    /// The account as contracts name it: `keccak256` of its borsh form, a variant byte and the key or address.
    pub fn word(&self) -> Hash32 {
        Hash32(match self {
            Self::Ed25519(key) => keccak256([&[0], key.0.as_slice()].concat()).0,
            Self::Secp256k1(address) => keccak256([&[1], address.0.as_slice()].concat()).0,
        })
    }
}

/// The 20 bytes of an Ethereum address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Address20(pub [u8; 20]);

impl From<Address> for Address20 {
    fn from(address: Address) -> Self {
        Self(address.0.0)
    }
}

macro_rules! hex_bytes {
    ($($name:ident: $len:literal),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex::fmt(&self.0, f)
            }
        }
        impl std::str::FromStr for $name {
            type Err = hex::HexError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                hex::decode_fixed::<$len>(text).map(Self)
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                hex::deserialize_fixed::<$len, D>(deserializer).map(Self)
            }
        }
    )*};
}
hex_bytes!(Hash32: 32, NetworkId: 32, BundleId: 32, SettlementId: 32, AssetId: 32, Address20: 20);

macro_rules! number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
number!(RollupId, Height);

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519(key) => write!(f, "ed25519:{key}"),
            Self::Secp256k1(address) => write!(f, "secp256k1:{address}"),
        }
    }
}
