//! A certificate convinces somebody who links none of this: its bytes are checked here by another BLS library, from the
//! format that `lockstep-protocol` documents, in its `certificate.rs`.
//!
//! `vectors/finality.json` is the vector for other implementations. A change of it is a change of the wire;
//! `LOCKSTEP_BLESS=1` writes it anew.

mod counter;

use std::sync::{Arc, Mutex};

use blst::{BLST_ERROR, min_sig};
use commonware_codec::{Copying, Decode, DecodeExt, RangeCfg};
use commonware_consensus::{
    simplex::{
        scheme::bls12381_threshold::standard::Scheme,
        types::{Finalization, Finalize, Proposal},
    },
    types::{Epoch, Round, View},
};
use commonware_cryptography::{
    bls12381::primitives::{
        group::Share,
        sharing::{ModeVersion, Sharing},
        variant::MinSig,
    },
    ed25519, keccak256,
};
use commonware_parallel::Sequential;
use commonware_utils::{NZU32, non_empty, ordered::Set};
use counter::{Counters, network};
use lockstep_consensus::{
    config::VALIDATORS_MAX,
    handle::Handle,
    keys::{self, Group, Identity, KeyError},
    simulate::{City, Simulation},
};
use lockstep_protocol::{
    certificate::{Certificate, CertificateSignature, Finality},
    header::{Header, L1Origin},
    ids::{Hash32, Height, NetworkId},
};

const CIPHERSUITE: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

/// LEB128.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What a certificate signs, by the documented format.
fn message(network: &NetworkId, certificate: &Certificate, digest: &Hash32) -> Vec<u8> {
    let namespace = [&b"lockstep"[..], &network.0, b"_FINALIZE"].concat();
    let mut message = Vec::new();
    varint(namespace.len() as u64, &mut message);
    message.extend_from_slice(&namespace);
    varint(certificate.epoch, &mut message);
    varint(certificate.view, &mut message);
    varint(certificate.parent_view, &mut message);
    message.extend_from_slice(&digest.0);
    message
}

fn verifies(group_key: &[u8; 96], network: &NetworkId, certificate: &Certificate, header: &Header) -> bool {
    let key = min_sig::PublicKey::key_validate(group_key).expect("the group key is a point of G2");
    let Ok(signature) = min_sig::Signature::sig_validate(&certificate.signature.0, true) else {
        return false;
    };
    let message = message(network, certificate, &header.digest());
    signature.verify(true, &message, CIPHERSUITE, &[], &key, false) == BLST_ERROR::BLST_SUCCESS
}

/// A header with a different value in every field.
fn header() -> Header {
    Header {
        network: network(),
        epoch: 3,
        view: 1_000,
        parent_view: 998,
        leader: Hash32([0x11; 32]),
        height: Height(900),
        parent: Hash32([0x22; 32]),
        timestamp_ms: 1_700_000_000_123,
        l1: L1Origin { number: 20_000_000, hash: Hash32([0x33; 32]), timestamp: 1_700_000_000 },
        body: Hash32([0x44; 32]),
        lanes: Hash32([0x55; 32]),
        state: Hash32([0x66; 32]),
        state_ops: Hash32([0x77; 32]),
        sync_start: 256,
        sync_end: 5_000,
    }
}

/// Signs with the shares of `signers`.
fn certify(group: &Group, signers: &[Identity], header: &Header) -> Option<Certificate> {
    let limits = ((RangeCfg::from(1..=VALIDATORS_MAX as usize), ()), (NZU32!(VALIDATORS_MAX), ModeVersion::v0()));
    let (validators, sharing) =
        <(Set<ed25519::PublicKey>, Sharing<MinSig>)>::decode_cfg(Copying(&group.encode()), &limits).expect("encoded");
    let namespace = keys::consensus_namespace(&header.network);
    let proposal = Proposal::new(
        Round::new(Epoch::new(header.epoch), View::new(header.view)),
        View::new(header.parent_view),
        keccak256::Digest(header.digest().0),
    );
    let mut scheme = None;
    let votes: Vec<_> = signers
        .iter()
        .map(|signer| {
            let share = Share::decode(Copying(&signer.share())).expect("encoded");
            let signing: Scheme<_, MinSig> =
                Scheme::signer(&namespace, validators.clone(), sharing.clone(), share).expect("dealt");
            let vote = Finalize::sign(&signing, proposal.clone()).expect("a signer signs");
            scheme = Some(signing);
            vote
        })
        .collect();
    let finalization = Finalization::from_finalizes(&scheme?, non_empty![@votes.iter()], &Sequential).ok()?;
    let encoded = commonware_codec::Encode::encode(&finalization.certificate);
    Some(Certificate {
        epoch: header.epoch,
        view: header.view,
        parent_view: header.parent_view,
        signature: CertificateSignature(encoded.as_ref().try_into().expect("48 bytes")),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_vector_verifies_and_has_not_changed() {
    let (group, identities) = keys::deal_insecurely(4, 2).expect("four validators");
    let header = header();
    let certificate = certify(&group, &identities[..3], &header).expect("three of four are a quorum");
    assert_eq!(certify(&group, &identities[1..], &header), Some(certificate), "any quorum makes the same signature");
    assert_eq!(certify(&group, &identities[..2], &header), None, "two of four are not enough");
    assert!(verifies(&group.public_key(), &network(), &certificate, &header));

    // Nothing may be changed.
    let mut other = header.clone();
    other.timestamp_ms += 1;
    assert!(!verifies(&group.public_key(), &network(), &certificate, &other));
    assert!(!verifies(&group.public_key(), &NetworkId::from_name("other"), &certificate, &header));
    for change in 0..4 {
        let mut forged = certificate;
        match change {
            0 => forged.epoch += 1,
            1 => forged.view += 1,
            2 => forged.parent_view += 1,
            _ => forged.signature.0[47] ^= 1,
        }
        assert!(!verifies(&group.public_key(), &network(), &forged, &header), "change {change}");
    }
    let (stranger, _) = keys::deal_insecurely(4, 3).expect("four validators");
    assert!(!verifies(&stranger.public_key(), &network(), &certificate, &header));

    let vector = format!(
        "{{\n  \"networkName\": \"counters\",\n  \"groupPublicKey\": \"0x{}\",\n  \"header\": \"0x{}\",\n  \
         \"headerDigest\": \"0x{}\",\n  \"epoch\": {},\n  \"view\": {},\n  \"parentView\": {},\n  \
         \"signature\": \"0x{}\",\n  \"message\": \"0x{}\"\n}}\n",
        hex(&group.public_key()),
        hex(&header.encode()),
        hex(&header.digest().0),
        certificate.epoch,
        certificate.view,
        certificate.parent_view,
        hex(&certificate.signature.0),
        hex(&message(&network(), &certificate, &header.digest())),
    );
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/finality.json");
    if std::env::var_os("LOCKSTEP_BLESS").is_some() {
        std::fs::write(&path, &vector).expect("the vector can be written");
    }
    assert_eq!(std::fs::read_to_string(&path).expect("the vector is there"), vector);
}

#[test]
fn every_final_block_of_a_running_network_has_a_certificate_that_verifies() {
    let handle: Arc<Mutex<Option<Handle>>> = Arc::default();
    let opened = handle.clone();
    let mut simulation = Simulation::new(5, 4, |_| Arc::new(Counters::default()))
        .on_start(move |_, handle, _| *opened.lock().expect("not poisoned") = Some(handle));
    let group_key = simulation.group().public_key();
    simulation.run(async |city: &mut City<'_>| {
        city.start_all().await;
        city.until_height(6).await;
        let handle = handle.lock().expect("not poisoned").clone().expect("it was started");
        for height in 1..=6 {
            let header = city.header(height).expect("it is final");
            let Finality { descendants, certificate } =
                handle.finality(Height(height)).await.expect("a final block has finality");
            let mut last = header;
            for child in descendants {
                assert_eq!(child.parent, last.digest());
                last = child;
            }
            assert!(verifies(&group_key, &network(), &certificate, &last), "height {height}");
            assert_eq!((certificate.epoch, certificate.view), (last.epoch, last.view));
        }
    });
}

#[test]
fn keys_survive_their_encoding_and_strangers_are_refused() {
    let (group, identities) = keys::deal(4).expect("four validators");
    assert_eq!(Group::decode(&group.encode()).expect("encoded"), group);
    let names: Vec<_> = group.validators().collect();
    assert_eq!(names, identities.iter().map(Identity::name).collect::<Vec<_>>());
    for identity in &identities {
        let again = Identity::decode(&identity.seed(), &identity.share()).expect("encoded");
        assert_eq!((again.name(), again.share()), (identity.name(), identity.share()));
    }
    let mut long = group.encode();
    long.push(0);
    assert!(matches!(Group::decode(&long), Err(KeyError::Encoding { .. })), "bytes are left over");
    assert!(matches!(Group::decode(&group.encode()[1..]), Err(KeyError::Encoding { .. })));
    assert!(matches!(Group::decode(&[]), Err(KeyError::Encoding { .. })));
    assert!(Identity::decode(&[1; 31], &identities[0].share()).is_err());
    assert!(Identity::decode(&[1; 32], &[0xff; 33]).is_err());
    assert_eq!(keys::deal(0).map(|_| ()), Err(KeyError::Validators(0)));
    assert_eq!(keys::deal(VALIDATORS_MAX + 1).map(|_| ()), Err(KeyError::Validators(VALIDATORS_MAX as usize + 1)));
    assert_ne!(keys::deal(4).expect("four").0.public_key(), group.public_key(), "dealing is random");
}
