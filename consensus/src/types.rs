//! Which concrete types does the log run on?
//!
//! Every generic parameter of the consensus stack is chosen here, once.

use commonware_consensus::simplex::{scheme::bls12381_threshold::standard, types as simplex};
use commonware_cryptography::{Blake3, bls12381::primitives::variant::MinSig, ed25519, keccak256};
use commonware_glue::stateful::db::Shared;
use commonware_parallel::Sequential;
use commonware_storage::{mmr, qmdb::current::ordered::fixed, translator::EightCap};
use commonware_utils::sequence::FixedBytes;

use crate::{proof::CHUNK_BYTES, record::RECORD_BYTES};

/// Who a validator is: its transport key.
pub(crate) type PublicKey = ed25519::PublicKey;

/// What a certificate signs and a child names: `keccak256` of the header's bytes.
pub(crate) type Digest = keccak256::Digest;

/// Threshold signatures with the group key in G2 and signatures in G1, the cheapest to check in the EVM.
pub(crate) type Scheme = standard::Scheme<PublicKey, MinSig>;

/// Proof that a quorum finalized a block.
pub(crate) type Finalization = simplex::Finalization<Scheme, Digest>;

/// The round, leader and parent of a proposal.
pub(crate) type Context = simplex::Context<Digest, PublicKey>;

/// Signatures and hashes are computed on the task that needs them: four validators share two cores in the testnet.
pub(crate) type Strategy = Sequential;

/// The value of [`Strategy`].
pub(crate) const STRATEGY: Strategy = Sequential;

/// The authenticated state on disk.
pub(crate) type Database<E> =
    fixed::Db<mmr::Family, E, FixedBytes<32>, FixedBytes<RECORD_BYTES>, Blake3, EightCap, CHUNK_BYTES, Strategy>;

/// The authenticated state as it is shared between execution and readers.
pub(crate) type State<E> = Shared<Database<E>>;
