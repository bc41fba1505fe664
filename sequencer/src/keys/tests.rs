//! Do the files of a dealt network fit together, and are wrong ones refused?

use super::*;
use lockstep_protocol::{genesis::Format, ids::RollupId};

fn options(out: &Path, validators: u16) -> DealOptions {
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    DealOptions {
        network: "lockstep-keys-test".into(),
        rollups: [901, 900].map(|id| Rollup::new(RollupId(id), format!("r{id}"), Format::Eip2718, 1)).to_vec(),
        balances: vec![Balance { account: AccountKey::ed25519([1; 32]).account(), credits: 5 }],
        places: (0..validators).map(|i| Place { p2p: address(1000 + i), rpc: address(2000 + i) }).collect(),
        pace: Pace::default(),
        l1: None,
        settlement: None,
        rollup_nodes: Vec::new(),
        out: out.to_owned(),
    }
}

#[test]
fn every_dealt_folder_is_all_that_its_validator_needs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dealt = deal(options(folder.path(), 4)).expect("dealt");
    assert_eq!(dealt.validators.len(), 4);
    assert_eq!(load_genesis(&dealt.genesis_file).expect("genesis"), dealt.genesis);
    for (index, validator) in dealt.validators.iter().enumerate() {
        let config = Config::load(&validator.config).expect("a configuration");
        assert_eq!(load_genesis(&config.genesis).expect("its own genesis"), dealt.genesis);
        let identity = load_identity(&config.keys).expect("its keys");
        assert_eq!(identity.name(), validator.name);
        assert_eq!(dealt.genesis.validators[index], validator.name);
        assert_eq!(config.p2p.peers[&validator.name], validator.place.p2p);
        assert_eq!(config.rpc.listen, validator.place.rpc);
        assert_eq!(config.p2p.peers.len(), 4);
    }
}

#[test]
fn a_network_is_never_dealt_over_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    deal(options(folder.path(), 1)).expect("dealt");
    assert!(matches!(deal(options(folder.path(), 1)), Err(KeysError::Exists(_))));
}

#[cfg(unix)]
#[test]
fn secrets_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("account.key");
    let secret = Secret::generate(AccountKind::Secp256k1).expect("random bytes");
    secret.save(&path).expect("written");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(Secret::load(&path).expect("readable") == secret);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("opened up");
    let error = Secret::load(&path).expect_err("readable by others").to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn what_is_not_a_key_is_refused_and_no_secret_is_shown() {
    for text in [
        "",
        "ed25519",
        "ed25519:00",
        "ed25519:0x00",
        "bls:0x00",
        "secp256k1:0x00",
        &format!("secp256k1:0x{}", "f".repeat(64)),
    ] {
        assert!(text.parse::<Secret>().is_err(), "{text}");
    }
    let secret = Secret::Ed25519([0xab; 32]);
    assert!(!format!("{secret:?}").contains("abab"), "a debug text must not hold the seed");
}

#[test]
fn swapped_key_files_are_told_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dealt = deal(options(folder.path(), 1)).expect("dealt");
    let config = Config::load(&dealt.validators[0].config).expect("a configuration");
    let swapped = KeyPaths { validator: config.keys.share, share: config.keys.validator };
    let error = load_identity(&swapped).err().expect("swapped").to_string();
    assert!(error.contains("swap"), "{error}");
}

#[test]
fn a_genesis_that_was_edited_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dealt = deal(options(folder.path(), 4)).expect("dealt");
    let edit = |change: &dyn Fn(&mut Genesis)| {
        let mut genesis = dealt.genesis.clone();
        change(&mut genesis);
        let path = folder.path().join("edited.json");
        std::fs::write(&path, serde_json::to_string(&genesis).expect("JSON")).expect("written");
        load_genesis(&path)
    };
    assert!(edit(&|_| ()).is_ok());
    assert!(edit(&|genesis| genesis.group_key.0[5] ^= 1).is_err());
    assert!(edit(&|genesis| genesis.validators.truncate(3)).is_err());
    assert!(edit(&|genesis| genesis.sharing.truncate(40)).is_err());
    assert!(edit(&|genesis| genesis.rollups.clear()).is_err());
}

#[test]
fn accounts_read_as_they_are_shown() {
    for secret in [Secret::Ed25519([3; 32]), Secret::Secp256k1([3; 32])] {
        let account = secret.account_key().expect("an account key").account();
        assert_eq!(parse_account(&secret.public()), Ok(account));
    }
    assert!(parse_account("0x00").is_err() && parse_account("ed25519:0x00").is_err());
}
