//! The block header: what a finalization certificate signs, in a fixed layout that a contract can slice.
//!
//! All integers are big-endian. The digest of a block is `keccak256` of these bytes.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 4 | magic `LSH1` |
//! | 4 | 32 | network |
//! | 36 | 8 | epoch |
//! | 44 | 8 | view |
//! | 52 | 8 | parent view |
//! | 60 | 32 | leader, an ed25519 public key |
//! | 92 | 8 | height |
//! | 100 | 32 | parent, the digest of the parent's header |
//! | 132 | 8 | timestamp, milliseconds since the Unix epoch |
//! | 140 | 8 | L1 origin: number |
//! | 148 | 32 | L1 origin: hash |
//! | 180 | 8 | L1 origin: timestamp, seconds |
//! | 188 | 32 | body, `blake3` of the body's bytes |
//! | 220 | 32 | lanes, the root of the lane tree |
//! | 252 | 32 | state, the canonical root of the authenticated state |
//! | 284 | 32 | state operations root, what a state sync is checked against |
//! | 316 | 8 | first operation of the state sync range |
//! | 324 | 8 | end (exclusive) of the state sync range |

use alloy_primitives::keccak256;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::ids::{Hash32, Height, NetworkId};

/// Length of an encoded header.
pub const HEADER_BYTES: usize = 332;

const MAGIC: [u8; 4] = *b"LSH1";

/// A block of L1 that the log has seen. It never goes backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct L1Origin {
    /// Block number on L1.
    pub number: u64,
    /// Block hash on L1.
    pub hash: Hash32,
    /// Timestamp of the L1 block, seconds.
    pub timestamp: u64,
}

/// A block header. Its bytes are given in the module's table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The network that made it.
    pub network: NetworkId,
    /// Epoch of the validator set.
    pub epoch: u64,
    /// View in which it was proposed.
    pub view: u64,
    /// View of its parent.
    pub parent_view: u64,
    /// The proposer's ed25519 key.
    pub leader: Hash32,
    /// Its place in the log.
    pub height: Height,
    /// Digest of the parent's header.
    pub parent: Hash32,
    /// Milliseconds since the Unix epoch; strictly greater than the parent's.
    pub timestamp_ms: u64,
    /// The latest L1 block that the log has seen.
    pub l1: L1Origin,
    /// `blake3` of the body.
    pub body: Hash32,
    /// Root of the lane tree after this block.
    pub lanes: Hash32,
    /// Canonical root of the authenticated state after this block.
    pub state: Hash32,
    /// Root over the state's operations: the target of a state sync.
    pub state_ops: Hash32,
    /// First operation that a state sync needs.
    pub sync_start: u64,
    /// One past the last operation that a state sync needs; greater than `sync_start`.
    pub sync_end: u64,
}

/// Why bytes are not a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not `HEADER_BYTES` long.
    #[error("a header has {HEADER_BYTES} bytes, found {0}")]
    Length(usize),
    /// Does not start with the magic of a version that we know.
    #[error("unknown header version {0:02x?}")]
    Version([u8; 4]),
    /// The state sync range is empty.
    #[error("empty state sync range {start}..{end}")]
    SyncRange {
        /// First operation.
        start: u64,
        /// One past the last operation.
        end: u64,
    },
}

impl Header {
    /// The bytes that the digest covers.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Writer { bytes: [0; HEADER_BYTES], at: 0 };
        out.put(&MAGIC);
        out.put(&self.network.0);
        out.put(&self.epoch.to_be_bytes());
        out.put(&self.view.to_be_bytes());
        out.put(&self.parent_view.to_be_bytes());
        out.put(&self.leader.0);
        out.put(&self.height.0.to_be_bytes());
        out.put(&self.parent.0);
        out.put(&self.timestamp_ms.to_be_bytes());
        out.put(&self.l1.number.to_be_bytes());
        out.put(&self.l1.hash.0);
        out.put(&self.l1.timestamp.to_be_bytes());
        out.put(&self.body.0);
        out.put(&self.lanes.0);
        out.put(&self.state.0);
        out.put(&self.state_ops.0);
        out.put(&self.sync_start.to_be_bytes());
        out.put(&self.sync_end.to_be_bytes());
        out.bytes
    }

    /// Reads a header, refusing unknown versions and an empty state sync range.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_| HeaderError::Length(bytes.len()))?;
        let mut input = Reader { bytes, at: 0 };
        let magic = input.take();
        if magic != MAGIC {
            return Err(HeaderError::Version(magic));
        }
        let header = Self {
            network: NetworkId(input.take()),
            epoch: input.number(),
            view: input.number(),
            parent_view: input.number(),
            leader: Hash32(input.take()),
            height: Height(input.number()),
            parent: Hash32(input.take()),
            timestamp_ms: input.number(),
            l1: L1Origin { number: input.number(), hash: Hash32(input.take()), timestamp: input.number() },
            body: Hash32(input.take()),
            lanes: Hash32(input.take()),
            state: Hash32(input.take()),
            state_ops: Hash32(input.take()),
            sync_start: input.number(),
            sync_end: input.number(),
        };
        if header.sync_start >= header.sync_end {
            return Err(HeaderError::SyncRange { start: header.sync_start, end: header.sync_end });
        }
        Ok(header)
    }

    /// What a certificate signs and a child names as its parent.
    pub fn digest(&self) -> Hash32 {
        Hash32(keccak256(self.encode()).0)
    }
}

struct Writer {
    bytes: [u8; HEADER_BYTES],
    at: usize,
}

impl Writer {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }
}

struct Reader<'a> {
    bytes: &'a [u8; HEADER_BYTES],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        field
    }

    fn number(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}

// Borsh carries a header as its fixed bytes, without a length.
impl BorshSerialize for Header {
    fn serialize<W: borsh::io::Write>(&self, writer: &mut W) -> borsh::io::Result<()> {
        writer.write_all(&self.encode())
    }
}

impl BorshDeserialize for Header {
    fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Self> {
        let mut bytes = [0; HEADER_BYTES];
        reader.read_exact(&mut bytes)?;
        Self::decode(&bytes).map_err(|error| borsh::io::Error::new(borsh::io::ErrorKind::InvalidData, error))
    }
}
