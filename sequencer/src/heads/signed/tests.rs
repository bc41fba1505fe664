//! Is one block signed for each number and incarnation, whatever happens to the process?

use lockstep_protocol::{
    ids::{Hash32, RollupId},
    settlement::Level,
};

use super::*;

fn head(level: Level, number: u64, block: u8, incarnation: u32) -> Head {
    let (block_hash, state_root) = (Hash32([block; 32]), Hash32([block; 32]));
    Head { rollup: RollupId(901), level, number, block_hash, state_root, incarnation }
}

fn executed(number: u64, block: u8, incarnation: u32) -> Head {
    head(Level::Executed, number, block, incarnation)
}

#[test]
fn a_number_of_an_incarnation_has_one_block_at_all_levels() {
    let folder = tempfile::tempdir().expect("a folder");
    let signed = Signed::open(&folder.path().join("data").join("heads.redb")).expect("opened");
    let first = [executed(7, 1, 0), executed(8, 1, 0)];
    assert_eq!(signed.admit(&first).expect("kept"), first);
    assert_eq!(signed.admit(&first).expect("kept"), first, "the same again is no other block");
    let same = head(Level::Final, 7, 1, 0);
    assert_eq!(signed.admit(&[executed(7, 2, 0), same, executed(9, 2, 0)]).expect("kept"), [same, executed(9, 2, 0)]);
    let other_root = Head { state_root: Hash32([3; 32]), ..executed(7, 1, 0) };
    assert_eq!(signed.admit(&[other_root]).expect("kept"), []);
    let other_rollup = Head { rollup: RollupId(902), ..executed(7, 2, 0) };
    let next = executed(7, 2, 1);
    assert_eq!(signed.admit(&[other_rollup, next]).expect("kept"), [other_rollup, next]);
    assert_eq!(signed.admit(&[executed(7, 1, 1), executed(7, 3, 0)]).expect("kept"), []);
}

#[test]
fn two_blocks_of_one_number_in_one_call_are_one_too_many() {
    let folder = tempfile::tempdir().expect("a folder");
    let signed = Signed::open(&folder.path().join("heads.redb")).expect("opened");
    assert_eq!(signed.admit(&[executed(7, 1, 0), executed(7, 2, 0)]).expect("kept"), [executed(7, 1, 0)]);
}

#[test]
fn what_was_admitted_is_in_the_file_at_that_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("heads.redb");
    let signed = Signed::open(&path).expect("opened");
    for number in 0..20 {
        signed.admit(&[executed(number, 1, 0)]).expect("kept");
        // As after a kill: the file as it is, without anything that is done at the end.
        let copy = folder.path().join(format!("killed-{number}.redb"));
        std::fs::copy(&path, &copy).expect("copied");
        let after = Signed::open(&copy).expect("opened after a kill");
        assert_eq!(after.admit(&[executed(number, 2, 0)]).expect("kept"), [], "number {number}");
        assert_eq!(after.admit(&[executed(number, 1, 0)]).expect("kept"), [executed(number, 1, 0)]);
    }
    drop(signed);
    let again = Signed::open(&path).expect("opened again");
    assert_eq!(again.admit(&[executed(3, 2, 0)]).expect("kept"), []);
}

#[test]
fn what_is_forgotten_is_never_signed_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let signed = Signed::open(&folder.path().join("heads.redb")).expect("opened");
    signed.admit(&[executed(5, 1, 0), executed(6, 1, 0)]).expect("kept");
    let far = executed(5 + NUMBERS_MAX, 1, 0);
    assert_eq!(signed.admit(&[far]).expect("kept"), [far]);
    assert_eq!(signed.admit(&[executed(5, 1, 0), executed(5, 2, 0), executed(4, 1, 0)]).expect("kept"), []);
    assert_eq!(signed.admit(&[executed(6, 2, 0), executed(6, 1, 0)]).expect("kept"), [executed(6, 1, 0)], "in reach");
    for incarnation in 1..=3 {
        let next = executed(9, 1, incarnation);
        assert_eq!(signed.admit(&[next]).expect("kept"), [next]);
    }
    assert_eq!(signed.admit(&[executed(9, 1, 1), executed(90, 1, 1)]).expect("kept"), [], "a history long left");
    assert_eq!(signed.admit(&[executed(90, 1, 2)]).expect("kept"), [executed(90, 1, 2)]);
}

#[test]
fn a_file_that_is_none_of_ours_stops_the_signing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("heads.redb");
    std::fs::write(&path, b"something else").expect("written");
    let error = Signed::open(&path).err().expect("refused");
    assert!(error.to_string().contains("heads.redb"), "{error}");
}
