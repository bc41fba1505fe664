//! What does a validator sign with, and what does everybody know about the set?
//!
//! Bytes in and out; no file is touched here. A validator holds an ed25519 key, which names it and secures its
//! connections, and a share of the group's BLS12-381 key, with which it votes.

use std::num::NonZeroU32;

use commonware_codec::{Copying, Decode, DecodeExt, Encode, RangeCfg};
use commonware_consensus::types::Participant;
use commonware_cryptography::{
    Signer,
    bls12381::{
        dkg::feldman_desmedt,
        primitives::{
            group::Share,
            sharing::{Mode, ModeVersion, Sharing},
            variant::MinSig,
        },
    },
    ed25519::PrivateKey,
};
use commonware_math::algebra::Random;
use commonware_utils::{
    N3f1, TryFromIterator,
    ordered::{Quorum, Set},
};
use lockstep_protocol::ids::{Hash32, NetworkId};
use rand_core::CryptoRng;

use crate::{
    config::VALIDATORS_MAX,
    types::{PublicKey, Scheme},
};

const CONSENSUS_NAMESPACE: &[u8] = b"lockstep";
const TRANSPORT_NAMESPACE: &[u8] = b"lockstep-p2p";

/// The prefix of everything that validators of `network` sign in consensus. See `finality.rs` for the whole message.
pub fn consensus_namespace(network: &NetworkId) -> Vec<u8> {
    [CONSENSUS_NAMESPACE, &network.0].concat()
}

/// The prefix of everything that validators of `network` sign to open a connection.
pub fn transport_namespace(network: &NetworkId) -> Vec<u8> {
    [TRANSPORT_NAMESPACE, &network.0].concat()
}

/// Why bytes are not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not an encoding of what was expected.
    #[error("not a {what}: {reason}")]
    Encoding {
        /// What was expected.
        what: &'static str,
        /// What the decoder found.
        reason: String,
    },
    /// More validators than this software is built for, or none.
    #[error("{0} validators, expected 1 to {VALIDATORS_MAX}")]
    Validators(usize),
    /// A validator is named twice.
    #[error("a validator is named twice")]
    Duplicate,
    /// The share is not of this group's key, or not this validator's.
    #[error("the share does not belong to validator {0} of this group")]
    Share(Hash32),
    /// The key is not one of the group's validators.
    #[error("{0} is not a validator of this group")]
    Stranger(Hash32),
}

/// What everybody knows about a validator set: its members, and the group key with the commitments to its shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    validators: Set<PublicKey>,
    sharing: Sharing<MinSig>,
}

impl Group {
    /// The group's public key: a compressed point of G2. It outlives the set.
    pub fn public_key(&self) -> [u8; 96] {
        self.sharing.public().encode().as_ref().try_into().expect("a point of G2 is compressed to 96 bytes")
    }

    /// The validators, in the order in which they take turns.
    pub fn validators(&self) -> impl Iterator<Item = Hash32> + '_ {
        self.validators.iter().map(name)
    }

    /// `validators` (length and 32 bytes each) and the public sharing of the key.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.validators.encode().to_vec();
        bytes.extend_from_slice(&self.sharing.encode());
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        let most = NonZeroU32::new(VALIDATORS_MAX).expect("there may be a validator");
        let limits = (RangeCfg::from(1..=VALIDATORS_MAX as usize), ());
        let (validators, sharing) =
            <(Set<PublicKey>, Sharing<MinSig>)>::decode_cfg(Copying(bytes), &(limits, (most, ModeVersion::v0())))
                .map_err(|error| KeyError::Encoding { what: "group", reason: error.to_string() })?;
        if sharing.total().get() as usize != validators.len() {
            return Err(KeyError::Validators(sharing.total().get() as usize));
        }
        if sharing.required() != validators.quorum::<N3f1>() {
            return Err(KeyError::Encoding { what: "group", reason: "threshold is not the quorum".into() });
        }
        Ok(Self { validators, sharing })
    }

    pub(crate) fn set(&self) -> &Set<PublicKey> {
        &self.validators
    }

    /// The scheme with which `identity` votes.
    pub(crate) fn signer(&self, network: &NetworkId, identity: &Identity) -> Result<Scheme, KeyError> {
        let me = identity.key.public_key();
        let position = self.validators.position(&me).ok_or_else(|| KeyError::Stranger(name(&me)))?;
        if identity.share.index != Participant::from_usize(position) {
            return Err(KeyError::Share(name(&me)));
        }
        let namespace = consensus_namespace(network);
        Scheme::signer(&namespace, self.validators.clone(), self.sharing.clone(), identity.share.clone())
            .ok_or_else(|| KeyError::Share(name(&me)))
    }
}

/// The secrets of one validator.
#[derive(Clone)]
pub struct Identity {
    pub(crate) key: PrivateKey,
    pub(crate) share: Share,
}

impl Identity {
    /// From the 32 bytes of an ed25519 seed and an encoded share.
    pub fn decode(seed: &[u8], share: &[u8]) -> Result<Self, KeyError> {
        let key = PrivateKey::decode(Copying(seed))
            .map_err(|error| KeyError::Encoding { what: "ed25519 seed", reason: error.to_string() })?;
        let share = Share::decode(Copying(share))
            .map_err(|error| KeyError::Encoding { what: "share of the group key", reason: error.to_string() })?;
        Ok(Self { key, share })
    }

    /// The 32 bytes of the ed25519 seed. Secret.
    pub fn seed(&self) -> [u8; 32] {
        self.key.encode().as_ref().try_into().expect("an ed25519 seed has 32 bytes")
    }

    /// The encoded share: its index as a varint and 32 bytes of a scalar. Secret.
    pub fn share(&self) -> Vec<u8> {
        self.share.encode().to_vec()
    }

    /// The validator's name: its ed25519 public key.
    pub fn name(&self) -> Hash32 {
        name(&self.key.public_key())
    }
}

/// A validator's key as the rest of the system names it.
pub(crate) fn name(key: &PublicKey) -> Hash32 {
    Hash32(key.as_ref().try_into().expect("an ed25519 key has 32 bytes"))
}

/// Makes the keys of `count` validators. Whoever runs this has seen every secret: a trusted dealer.
pub fn deal(count: u32) -> Result<(Group, Vec<Identity>), KeyError> {
    deal_with(count, commonware_utils::rng::sys_rng())
}

/// The keys that `seed` always gives. For tests and simulations only: anybody can make them again.
pub fn deal_insecurely(count: u32, seed: u64) -> Result<(Group, Vec<Identity>), KeyError> {
    deal_with(count, commonware_utils::TestRng::new(seed))
}

fn deal_with(count: u32, mut rng: impl CryptoRng) -> Result<(Group, Vec<Identity>), KeyError> {
    if count == 0 || count > VALIDATORS_MAX {
        return Err(KeyError::Validators(count as usize));
    }
    let mut keys: Vec<_> = (0..count).map(|_| PrivateKey::random(&mut rng)).collect();
    keys.sort_by_key(|key| key.public_key());
    let validators = Set::try_from_iter(keys.iter().map(|key| key.public_key())).map_err(|_| KeyError::Duplicate)?;
    let (output, shares) = feldman_desmedt::deal::<MinSig, _, N3f1>(&mut rng, Mode::NonZeroCounter, validators.clone())
        .expect("there is at least one validator");
    let identities = keys
        .into_iter()
        .map(|key| {
            let share = shares.get_value(&key.public_key()).expect("every validator was dealt a share").clone();
            Identity { key, share }
        })
        .collect();
    Ok((Group { validators, sharing: output.public().clone() }, identities))
}
