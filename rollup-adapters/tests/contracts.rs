//! Are the committed artifacts of the contracts those of the committed sources, with the storage that the log proves?
//! Holds hashes only, so that it needs no Solidity compiler; `contracts/judge.sh` compiles and compares.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use alloy_primitives::keccak256;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts")
}

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Path and hash of everything that an artifact was made from, and of the artifacts.
fn hashes() -> BTreeMap<String, String> {
    let text = read("artifacts/hashes.json");
    let pairs: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.trim().trim_end_matches(',').split_once(": "))
        .map(|(path, hash)| (path.trim_matches('"').to_owned(), hash.trim_matches('"').to_owned()))
        .collect();
    assert!(pairs.len() > 15, "hashes.json has lost entries: {}", pairs.len());
    pairs
}

fn names(sub: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(folder().join(sub)).unwrap_or_else(|error| panic!("{sub}: {error}"));
    let mut names: Vec<_> = entries
        .map(|entry| format!("{sub}/{}", entry.expect("a readable folder").file_name().to_string_lossy()))
        .filter(|name| name.ends_with(ending) && name != "artifacts/hashes.json")
        .collect();
    names.sort();
    names
}

#[test]
fn artifacts_are_those_of_the_sources() {
    for (path, expected) in hashes() {
        let found = format!("{:#x}", keccak256(fs::read(folder().join(&path)).unwrap_or_default()));
        assert_eq!(found, expected, "{path} has changed: run contracts/judge.sh, or `node build.mjs` in contracts/");
    }
}

#[test]
fn no_source_and_no_artifact_is_left_out() {
    let hashes = hashes();
    for (sub, ending) in [("src", ".sol"), ("artifacts", ".json")] {
        let listed: Vec<_> = hashes.keys().filter(|path| path.starts_with(&format!("{sub}/"))).cloned().collect();
        assert_eq!(listed, names(sub, ending), "{sub} and hashes.json differ");
    }
}

#[test]
fn what_observers_prove_stands_at_slot_zero() {
    for (contract, mapping, kind) in [
        ("MarginEscrow", "words", "mapping(bytes32 => uint256)"),
        ("SettlementHub", "feeDeposits", "mapping(bytes32 => uint256)"),
    ] {
        let artifact = read(&format!("artifacts/{contract}.json"));
        let entry = format!(
            "\"storageLayout\": [\n  {{\n   \"label\": \"{mapping}\",\n   \"slot\": 0,\n   \"offset\": 0,\n   \"type\": \"{kind}\"\n"
        );
        assert!(artifact.contains(&entry), "{mapping} is not the first variable of {contract}");
    }
}
