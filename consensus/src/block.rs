//! What travels between validators: a header and the opaque bytes it names.
//!
//! Says nothing about what a body means (see `machine.rs`) or whether a block is valid (see `application.rs`).
//!
//! A block is encoded as the 332 bytes of its header, the body's length as a varint, and the body. Decoding refuses a
//! body that the header does not name, so a block in memory always has the body that its certificate covers.

use bytes::{BufMut, Bytes};
use commonware_codec::{Buf, Copying, DecodeExt, EncodeSize, Error as CodecError, RangeCfg, Read, ReadExt, Write};
use commonware_consensus::{
    Block as ConsensusBlock, BoundedBlock, CertifiableBlock, Heightable,
    marshal::{core::Mailbox, standard::Standard},
    types::{Epoch, Height as LogHeight, Round, View},
};
use commonware_cryptography::{Blake3, Digestible, Hasher, keccak256};
use commonware_storage::{merkle::Family as _, mmr};
use lockstep_protocol::{
    header::{HEADER_BYTES, Header, L1Origin},
    ids::{Hash32, Height, NetworkId},
};

use crate::types::{Context, Digest, PublicKey, Scheme};

/// Longest encoding of a body's length: a `u32` as a varint.
const LENGTH_BYTES_MAX: usize = 5;

/// A header and the body it names. Cloning is cheap: the body is shared.
#[derive(Clone, Debug)]
pub struct Block {
    header: Header,
    leader: PublicKey,
    digest: Digest,
    body: Bytes,
}

/// The facts that every validator must agree on before the first block. They become the header of block 0.
///
/// The authenticated state is empty at genesis: allocations are written by the block at height 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The network, part of every signed domain.
    pub network: NetworkId,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// A hash of the genesis configuration; stands where later headers name their body.
    pub config: Hash32,
    /// Root of the lane tree before the first block.
    pub lanes: Hash32,
    /// The L1 block from which the log starts.
    pub l1: L1Origin,
}

/// Blocks are disseminated whole.
pub(crate) type Variant = Standard<Block>;

/// The archive of final blocks, and the way to ask for any block.
pub(crate) type Archive = Mailbox<Scheme, Variant>;

/// Why a header and a body do not make a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The header names another body.
    #[error("the header names another body")]
    Body,
    /// The leader's bytes are not a point of the curve.
    #[error("the leader is not an ed25519 public key")]
    Leader,
    /// The parent is not from an earlier view of the epoch.
    #[error("the parent's view is not below the block's")]
    ParentView,
    /// The range of a state sync is more than the state's Merkle structure can hold.
    #[error("the state sync range exceeds what a Merkle structure can hold")]
    SyncRange,
}

impl Block {
    /// A block whose header names `body`.
    pub fn new(header: Header, body: Bytes) -> Result<Self, BlockError> {
        // Genesis has no body: its header names the configuration that everyone starts from.
        let named = header.height.0 == 0 && body.is_empty() || header.body == hash_body(&body);
        if !named {
            return Err(BlockError::Body);
        }
        if header.parent_view >= header.view && header.height.0 != 0 {
            return Err(BlockError::ParentView);
        }
        // State sync builds locations from these without a way to refuse them.
        if header.sync_end > *mmr::Family::MAX_LEAVES {
            return Err(BlockError::SyncRange);
        }
        let leader = PublicKey::decode(Copying(&header.leader.0)).map_err(|_| BlockError::Leader)?;
        let digest = keccak256::Digest(header.digest().0);
        Ok(Self { header, leader, digest, body })
    }

    /// The block at height 0.
    pub(crate) fn genesis(genesis: &Genesis, state: StateRoots) -> Self {
        let header = Header {
            network: genesis.network,
            leader: Hash32(NOBODY),
            timestamp_ms: genesis.timestamp_ms,
            l1: genesis.l1,
            body: genesis.config,
            lanes: genesis.lanes,
            state: state.canonical,
            state_ops: state.operations,
            sync_start: state.sync_start,
            sync_end: state.sync_end,
            ..Header::default()
        };
        Self::new(header, Bytes::new()).expect("genesis has a well-formed header")
    }

    /// What the certificate signs, opened.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The application's bytes.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The block's place in the log.
    pub fn height(&self) -> Height {
        self.header.height
    }

    /// `keccak256` of the header's bytes.
    pub fn id(&self) -> Hash32 {
        Hash32(self.digest.0)
    }
}

/// The leader of genesis: the identity point, a valid encoding that nobody holds a key for.
const NOBODY: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes
};

/// What a header commits to about the authenticated state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateRoots {
    pub(crate) canonical: Hash32,
    pub(crate) operations: Hash32,
    pub(crate) sync_start: u64,
    pub(crate) sync_end: u64,
}

impl From<&Header> for StateRoots {
    fn from(header: &Header) -> Self {
        Self {
            canonical: header.state,
            operations: header.state_ops,
            sync_start: header.sync_start,
            sync_end: header.sync_end,
        }
    }
}

/// How a header names a body.
pub fn hash_body(body: &[u8]) -> Hash32 {
    Hash32(Blake3::hash(&[body]).0)
}

impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Block {}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.header.encode());
        self.body.write(buf);
    }

    fn write_bufs(&self, buf: &mut impl commonware_codec::BufsMut) {
        buf.put_slice(&self.header.encode());
        self.body.write_bufs(buf);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        HEADER_BYTES + self.body.encode_size()
    }

    fn encode_inline_size(&self) -> usize {
        HEADER_BYTES + self.body.encode_inline_size()
    }
}

impl Read for Block {
    /// The longest body.
    type Cfg = usize;

    fn read_cfg(buf: &mut impl Buf, body_max: &usize) -> Result<Self, CodecError> {
        let header = <[u8; HEADER_BYTES]>::read(buf)?;
        let header = Header::decode(&header).map_err(|error| CodecError::Wrapped("header", error.into()))?;
        let body = Bytes::read_cfg(buf, &RangeCfg::from(0..=*body_max))?;
        Self::new(header, body).map_err(|error| CodecError::Wrapped("block", error.into()))
    }
}

impl BoundedBlock for Block {
    fn max_encode_size(body_max: &usize) -> usize {
        HEADER_BYTES + LENGTH_BYTES_MAX + body_max
    }
}

impl Digestible for Block {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        self.digest
    }
}

impl Heightable for Block {
    fn height(&self) -> LogHeight {
        LogHeight::new(self.header.height.0)
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> Digest {
        keccak256::Digest(self.header.parent.0)
    }
}

impl CertifiableBlock for Block {
    type Context = Context;

    fn context(&self) -> Context {
        Context {
            round: Round::new(Epoch::new(self.header.epoch), View::new(self.header.view)),
            leader: self.leader.clone(),
            parent: (View::new(self.header.parent_view), ConsensusBlock::parent(self)),
        }
    }
}
