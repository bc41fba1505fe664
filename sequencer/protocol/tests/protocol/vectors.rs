//! Are the bytes still those of the committed vectors? A change of any is a change of the wire.

use crate::golden;

#[test]
fn the_bytes_are_those_of_the_golden_vectors() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors");
    for (name, value) in golden::files() {
        let text = std::fs::read_to_string(format!("{folder}/{name}.json")).expect("the vector is committed");
        let committed: serde_json::Value = serde_json::from_str(&text).expect("vectors are JSON");
        assert_eq!(value, committed, "{name}.json; see examples/vectors on how to rewrite it, and what that means");
    }
    let files = std::fs::read_dir(folder).expect("the vectors are committed").count();
    assert_eq!(files, golden::files().len(), "a file without a vector");
}
