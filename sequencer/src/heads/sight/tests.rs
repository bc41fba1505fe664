//! Are the rules of "Heads" kept, whatever the own node shows?

use std::collections::BTreeMap;

use lockstep_protocol::{
    ids::{Hash32, Height},
    settlement::records::RollupRecord,
};
use proptest::prelude::*;

use super::*;

const ROLLUP: RollupId = RollupId(901);

fn hash(number: u64, fork: u8) -> Hash32 {
    let mut hash = [fork; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    Hash32(hash)
}

/// A block of a chain that left the first one, fork 0, at `from`.
fn block(number: u64, fork: u8, from: u64) -> Block {
    let of = |number| if number >= from { fork } else { 0 };
    let parent = number.checked_sub(1).map_or(Hash32::default(), |before| hash(before, of(before)));
    Block { number, hash: hash(number, of(number)), parent, state_root: hash(number, of(number)) }
}

fn chain(numbers: std::ops::RangeInclusive<u64>, fork: u8, from: u64) -> Chain {
    let mut chain = Chain::default();
    chain.extend(&numbers.rev().map(|number| block(number, fork, from)).collect::<Vec<_>>());
    chain
}

fn head(level: Level, number: u64, fork: u8, incarnation: u32) -> Head {
    let hash = hash(number, fork);
    Head { rollup: ROLLUP, level, number, block_hash: hash, state_root: hash, incarnation }
}

fn view(incarnation: u32, kept: impl IntoIterator<Item = Head>) -> RollupView {
    let kept: Vec<Head> = kept.into_iter().collect();
    let mut latest = [None; 3];
    for head in kept.iter().filter(|head| head.incarnation == incarnation) {
        let latest = &mut latest[head.level as usize];
        *latest = (*latest).max(Some(head.number));
    }
    RollupView::of(RollupRecord { incarnation, latest, seen_at: Height(1), ..RollupRecord::default() }, kept)
}

fn signs(sight: Sight) -> Vec<(Level, u64, u32)> {
    match sight {
        Sight::Sign(heads) => heads.iter().map(|head| (head.level, head.number, head.incarnation)).collect(),
        other => panic!("signs nothing: {other:?}"),
    }
}

fn executed(numbers: std::ops::RangeInclusive<u64>, incarnation: u32) -> Vec<(Level, u64, u32)> {
    numbers.map(|number| (Level::Executed, number, incarnation)).collect()
}

#[test]
fn every_block_since_the_last_look_is_signed_and_of_many_the_newest() {
    let (view_of, tags) = (view(0, [head(Level::Executed, 10, 0, 0)]), Tags::default());
    let mut cursor = Cursor::default();
    let seen = |cursor: &Cursor, chain: &Chain| sight(ROLLUP, &view_of, chain, &tags, cursor);
    assert_eq!(signs(seen(&cursor, &chain(5..=14, 0, 99))), executed(11..=14, 0));
    cursor.signed[0] = Some(14);
    assert_eq!(signs(seen(&cursor, &chain(5..=14, 0, 99))), []);
    assert_eq!(signs(seen(&cursor, &chain(5..=17, 0, 99))), executed(15..=17, 0));
    assert_eq!(signs(seen(&cursor, &chain(5..=1_000, 0, 9_999))), executed(969..=1_000, 0));
    let first = sight(ROLLUP, &view(0, []), &chain(0..=3, 0, 99), &tags, &Cursor::default());
    assert_eq!(signs(first), executed(0..=3, 0), "before the log knows anything");
}

#[test]
fn a_node_that_is_behind_the_log_signs_nothing() {
    let view = view(0, [head(Level::Executed, 10, 0, 0), head(Level::Executed, 15, 0, 0)]);
    let seen = |chain: &Chain| sight(ROLLUP, &view, chain, &Tags::default(), &Cursor::default());
    assert_eq!(seen(&Chain::default()), Sight::Behind);
    assert_eq!(seen(&chain(5..=14, 0, 99)), Sight::Behind);
    assert_eq!(signs(seen(&chain(5..=16, 0, 99))), executed(16..=16, 0));
}

#[test]
fn kept_heads_below_what_is_known_are_asked_for_first() {
    let view = view(0, [head(Level::Executed, 4, 0, 0), head(Level::Final, 2, 0, 0), head(Level::Executed, 12, 0, 0)]);
    let mut chain = chain(8..=14, 0, 99);
    let seen = |chain: &Chain| sight(ROLLUP, &view, chain, &Tags::default(), &Cursor::default());
    assert_eq!(seen(&chain), Sight::Needs(BTreeSet::from([2, 4])));
    chain.note(block(2, 0, 99));
    chain.note(block(4, 0, 99));
    assert_eq!(signs(seen(&chain)), executed(13..=14, 0));
    let mut other = self::chain(8..=14, 0, 99);
    other.note(block(2, 0, 99));
    other.note(block(4, 1, 4));
    assert_eq!(seen(&other), Sight::Reorganized(head(Level::Executed, 4, 1, 1)));
}

#[test]
fn the_lowest_conflict_is_signed_in_the_next_incarnation_and_nothing_else() {
    let kept = [(Level::Executed, 10), (Level::Safe, 8), (Level::Executed, 12), (Level::Executed, 20)];
    let view = view(3, kept.map(|(level, number)| head(level, number, 0, 3)));
    let seen = |chain: &Chain| sight(ROLLUP, &view, chain, &Tags::default(), &Cursor::default());
    assert_eq!(seen(&chain(1..=13, 1, 9)), Sight::Reorganized(head(Level::Executed, 10, 1, 4)), "though 20 is above");
    assert_eq!(seen(&chain(1..=13, 1, 8)), Sight::Reorganized(head(Level::Executed, 8, 1, 4)));
    assert_eq!(seen(&chain(1..=19, 1, 13)), Sight::Behind, "there is no block 20 yet");
    assert_eq!(seen(&chain(1..=20, 1, 13)), Sight::Reorganized(head(Level::Executed, 20, 1, 4)));
}

#[test]
fn heads_of_an_incarnation_that_was_left_bind_nobody() {
    let view = view(1, [head(Level::Executed, 10, 0, 0), head(Level::Executed, 9, 1, 1)]);
    let seen =
        sight(ROLLUP, &view, &chain(1..=12, 1, 9), &Tags::default(), &Cursor { incarnation: 0, signed: [Some(12); 3] });
    assert_eq!(signs(seen), executed(10..=12, 1), "nor does what was signed in it");
}

#[test]
fn tags_are_signed_with_the_aligned_blocks_below_them() {
    let tags = Tags { safe: Some(block(70, 0, 99)), finalized: Some(block(20, 0, 99)) };
    let (view, chain) = (view(0, [head(Level::Executed, 80, 0, 0)]), chain(10..=80, 0, 99));
    let mut cursor = Cursor::default();
    let of = |sight: Sight, level| {
        let all = signs(sight).into_iter();
        all.filter(|(of, ..)| *of == level).map(|(_, number, _)| number).collect::<Vec<_>>()
    };
    let seen = |cursor: &Cursor| sight(ROLLUP, &view, &chain, &tags, cursor);
    assert_eq!(seen(&cursor), Sight::Needs(BTreeSet::from([0])), "block 0 is aligned, and below what is known");
    cursor.signed[2] = Some(0);
    assert_eq!(of(seen(&cursor), Level::Safe), [16, 32, 48, 64, 70]);
    assert_eq!(of(seen(&cursor), Level::Final), [16, 20]);
    cursor.signed = [None, Some(64), Some(20)];
    assert_eq!(of(seen(&cursor), Level::Safe), [70]);
    assert_eq!(of(seen(&cursor), Level::Final), [0; 0]);
    let torn = Tags { safe: Some(block(70, 1, 60)), finalized: Some(block(90, 0, 99)) };
    let torn = sight(ROLLUP, &view, &chain, &torn, &Cursor::default());
    assert_eq!(signs(torn), [], "of another chain, or above the tip");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Rules 2 and 3, over random histories of the own node and random kept heads.
    #[test]
    fn what_is_signed_stands_on_a_chain_with_every_kept_head(
        tip in 1_u64..60,
        fork in 0_u8..3,
        from in 0_u64..60,
        lowest in 0_u64..60,
        kept in prop::collection::vec((0_usize..3, 0_u64..60, 0_u8..2, 0_u32..2), 0..12),
        incarnation in 0_u32..2,
    ) {
        let lowest = lowest.min(tip);
        let mut own = chain(lowest..=tip, fork, from);
        for number in 0..lowest {
            own.note(block(number, fork, from));
        }
        let kept: BTreeMap<_, _> = kept
            .into_iter()
            .map(|(level, number, fork, incarnation)| ((level, number), head(Level::ALL[level], number, fork, incarnation)))
            .collect();
        let view = view(incarnation, kept.into_values());
        let current: Vec<Head> = view.kept().copied().collect();
        let on_chain = |head: &Head| own.at(head.number).is_some_and(|own| own.hash == head.block_hash);
        match sight(ROLLUP, &view, &own, &Tags { safe: Some(block(tip, fork, from)), finalized: None }, &Cursor::default()) {
            Sight::Sign(heads) => {
                prop_assert!(current.iter().all(on_chain), "all kept heads are on the chain");
                prop_assert!(heads.iter().all(|head| on_chain(head) && head.incarnation == incarnation));
                prop_assert!(heads.iter().all(|head| view.wants(head)), "and the log has use for each");
            }
            Sight::Reorganized(head) => {
                prop_assert!(on_chain(&head) && head.incarnation == incarnation + 1);
                prop_assert!(view.wants(&head), "it contradicts a kept head");
                let lower = current.iter().filter(|kept| kept.number < head.number);
                prop_assert!(lower.clone().all(on_chain), "and no lower one");
            }
            Sight::Behind => prop_assert!(current.iter().any(|kept| kept.number > tip)),
            Sight::Needs(_) => prop_assert!(false, "everything was known"),
        }
    }
}
