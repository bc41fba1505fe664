//! The shapes of the public JSON-RPC, shared by the node that serves it and the SDK that calls it.
//!
//! Field names are camelCase; bytes are `0x` hexadecimal; 64-bit integers are JSON numbers. A bundle, a cancel or a lane item
//! may also travel as the hexadecimal of its wire envelope.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData};

use crate::{
    certificate::Finality,
    evidence::BundleState,
    genesis::{GroupKeyBytes, Rollup},
    header::Header,
    hex,
    ids::{Account, BundleId, Hash32, Height, NetworkId, RollupId, SettlementId},
    lane::LaneItem,
    limits::Limits,
    settlement::records::{in_flight_key, lease_key, rollup_key, settlement_key},
    state::{Key, account_key, lane_key, treasury_key},
};

mod settlement;

pub use settlement::{
    CorridorStatus, DecisionPage, Fact, FactRefused, FactSent, OrderedBy, RollupStatus, SettlementStatus, UnsettledPage,
};

/// Error codes, from JSON-RPC 2.0 and EIP-1474.
pub mod codes {
    /// Parameters that are not what the method takes (JSON-RPC 2.0).
    pub const INVALID_PARAMS: i32 = -32602;
    /// The node failed; nothing is wrong with the request (JSON-RPC 2.0).
    pub const INTERNAL: i32 = -32603;
    /// Nothing under that name, or not any more (EIP-1474).
    pub const NOT_FOUND: i32 = -32001;
    /// The node cannot answer yet (EIP-1474, resource unavailable).
    pub const UNAVAILABLE: i32 = -32002;
    /// A bundle or cancel was refused; `data` is the refusal (EIP-1474, transaction rejected).
    pub const REFUSED: i32 = -32003;
    /// More was asked for than the node gives at once (EIP-1474).
    pub const LIMIT: i32 = -32005;
}

/// `data` of an error that is not a refusal of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[allow(missing_docs, reason = "the texts say what each variant and its facts mean")]
pub enum QueryError {
    #[error("height {height} is ahead of the tip {tip}")]
    AheadOfTip { height: Height, tip: Height },
    #[error("height {height} is pruned, the oldest here is {oldest}: start from a snapshot")]
    Pruned { height: Height, oldest: Height },
    #[error("rollup {rollup} is not registered on this network")]
    UnknownRollup { rollup: RollupId },
    #[error("nothing is known of bundle {bundle}: send it again, or prove its outcome by its account and nonce")]
    UnknownBundle { bundle: BundleId },
    #[error("nothing is known of settlement {settlement}")]
    UnknownSettlement { settlement: SettlementId },
    #[error("at most {max} are allowed, found {found}")]
    TooMany { max: u64, found: u64 },
    #[error("{detail}")]
    BadRequest { detail: String },
    #[error("not ready: {detail}")]
    NotReady { detail: String },
    #[error("the subscriber was too slow and was cut off: resume from height {resume_from}")]
    TooSlow { resume_from: Height },
}

/// Result of `lockstep_getNetwork`: what a client needs to sign and to verify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// Its id.
    pub id: NetworkId,
    /// The key that verifies everything. Compare it with the one you were given out of band.
    pub group_key: GroupKeyBytes,
    /// Hash of the genesis.
    pub genesis: Hash32,
    /// The rollups.
    pub rollups: Vec<Rollup>,
    /// The limits.
    pub limits: Limits,
}

/// Result of `lockstep_sendBundle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// The bundle's id.
    pub bundle_id: BundleId,
    /// Height known to the node that took it.
    pub height: Height,
}

/// Result of `lockstep_cancelBundle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelSent {
    /// Digest of the cancel.
    pub digest: Hash32,
    /// Height known to the node that took it.
    pub height: Height,
}

/// Result of `lockstep_getBundle` and `lockstep_waitBundle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleStatus {
    /// Which.
    pub bundle_id: BundleId,
    /// Where it stands.
    #[serde(flatten)]
    pub state: BundleState,
    /// How far each leg has come, once it is ordered.
    pub legs: Vec<LegStatus>,
    /// Height known to the node.
    pub tip: Height,
}

/// How far a leg has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegStatus {
    /// The leg's rollup.
    pub rollup: RollupId,
    /// The level reached, as far as the node that is asked can see: one without a node of the rollup sees the order only.
    pub level: Level,
    /// The lane's sequence after the block that ordered it.
    pub sequence: u64,
    /// The rollup's block that executed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// Transactions of it that the rollup left out, and why: a leg that was ordered may still be invalid there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedTransaction>,
}

/// A transaction that was ordered, and that its rollup left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SkippedTransaction {
    /// Its place in the leg.
    pub index: usize,
    /// Why, in the rollup's terms: `nonce too low`, `insufficient funds`.
    pub reason: String,
}

/// How far a leg has come. Ordering is not execution: a leg may still fail by its rollup's own rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Level {
    /// In a finalized block.
    Ordered,
    /// In a block of the rollup.
    Executed,
    /// In a batch on L1.
    Posted,
    /// In a block that is derived from L1.
    Safe,
    /// In a block that is derived from finalized L1 blocks.
    Final,
}

/// A header with the proof that it is final. Result of `lockstep_getHeader` and item of `lockstep_subscribeHeaders`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinalHeader {
    /// keccak256 of the header's bytes.
    pub digest: Hash32,
    /// The header.
    pub header: Header,
    /// Why it is final.
    pub finality: Finality,
}

/// Result of `lockstep_getLane`: consecutive items of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LanePage {
    /// Items with entries, by height, from the height asked for.
    pub items: Vec<LaneItem>,
    /// If the page reaches the tip: the proof that nothing came after the last item, an item without entries.
    pub tip: Option<LaneItem>,
    /// Ask for this height next.
    pub next_height: Height,
}

/// What `lockstep_getState` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StateQuery {
    /// An account's record.
    Account(Account),
    /// A lane's record.
    Lane(RollupId),
    /// The network's record.
    Treasury,
    /// A settlement's record.
    Settlement(SettlementId),
    /// What the log knows of a rollup.
    Rollup(RollupId),
    /// Who posts for a rollup.
    Lease(RollupId),
    /// What an account has under way.
    InFlight(Account),
}

impl StateQuery {
    /// The key of the record.
    pub fn key(&self) -> Key {
        match self {
            Self::Account(account) => account_key(account),
            Self::Lane(rollup) => lane_key(*rollup),
            Self::Treasury => treasury_key(),
            Self::Settlement(settlement) => settlement_key(settlement),
            Self::Rollup(rollup) => rollup_key(*rollup),
            Self::Lease(rollup) => lease_key(*rollup),
            Self::InFlight(account) => in_flight_key(account),
        }
    }
}

/// Result of `lockstep_getState`: a record, or its absence, proven against a final header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateProof {
    /// The header whose state root the proof leads to.
    pub header: Header,
    /// Why the header is final.
    pub finality: Finality,
    /// The key asked for.
    pub key: Hash32,
    /// The record's 256 bytes; absent where the state has none.
    pub record: Option<HexBytes>,
    /// The proof, as the authenticated database encodes it.
    pub proof: HexBytes,
}

/// Base fee of a lane. Result of `lockstep_getFees`, one for each rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneFee {
    /// The lane.
    pub rollup: RollupId,
    /// Credits for a byte in the next block.
    pub base_fee: u64,
    /// It never falls below this.
    pub min_base_fee: u64,
}

/// Bytes as hexadecimal text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HexBytes(#[serde(with = "hex::bytes")] pub Vec<u8>);

impl fmt::Debug for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::fmt(&self.0, f)
    }
}

/// A message as a JSON object, or as the hexadecimal of its wire envelope.
///
/// ```
/// use lockstep_protocol::{bundle::SignedBundle, rpc::Message};
///
/// let text: Message<SignedBundle> = serde_json::from_str(r#""0x0100""#)?;
/// assert!(matches!(text, Message::Wire(_)));
/// let refused = serde_json::from_str::<Message<SignedBundle>>(r#"{"bundel": 1}"#).unwrap_err();
/// assert!(refused.to_string().contains("unknown field `bundel`"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Message<T> {
    /// The envelope.
    Wire(HexBytes),
    /// The object.
    Object(T),
}

// By hand: serde's untagged enums copy the value first, and do not say which field is wrong.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Message<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MessageVisitor(PhantomData))
    }
}

struct MessageVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MessageVisitor<T> {
    type Value = Message<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, or the hexadecimal text of its wire envelope")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        hex::decode(text).map(|bytes| Message::Wire(HexBytes(bytes))).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Message::Object)
    }
}
