//! Where is the real data that other projects publish with their crates?

use std::{path::PathBuf, process::Command};

/// A file of a published crate that this one depends on, wherever cargo has unpacked it.
///
/// Panics if cargo does not know the crate or the file is not there: then the judge is gone, and nobody should think
/// that it agreed.
pub fn file(package: &str, path: &str) -> Vec<u8> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let found = packages.iter().find(|entry| entry["name"] == package).expect("cargo knows the package");
    let manifest = PathBuf::from(found["manifest_path"].as_str().expect("a path"));
    let file = manifest.with_file_name(path);
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The bytes of a file of hex digits, with or without a line end.
pub fn hex_file(package: &str, path: &str) -> Vec<u8> {
    let text = String::from_utf8(file(package, path)).expect("hex digits are text");
    alloy_primitives::hex::decode(text.trim()).expect("hex digits")
}
