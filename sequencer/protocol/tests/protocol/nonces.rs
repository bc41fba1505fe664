//! Is a nonce used at most once, over any edge of the window?

use lockstep_protocol::{account::NonceWindow, limits::NONCE_WINDOW, refusal::Refusal};
use proptest::prelude::*;
use std::collections::BTreeSet;

use crate::config;

/// A window whose highest used nonce is just below `next`, and in which none of the others is used.
fn window_at(next: u64) -> NonceWindow {
    let mut bytes = next.to_le_bytes().to_vec();
    bytes.resize(8 + 128, 0);
    borsh::from_slice(&bytes).expect("a number and a bitmap")
}

#[derive(Clone, Copy, Debug)]
enum Use {
    /// Relative to one above the highest used.
    Relative(i64),
    /// One of the nonces that were tried before.
    Retry(prop::sample::Index),
}

fn uses() -> impl Strategy<Value = Vec<Use>> {
    let offset = prop_oneof![
        6 => -8..8_i64,
        3 => -1_100..1_100_i64,
        2 => prop_oneof![Just(-1_025_i64), Just(-1_024), Just(-1_023), Just(1_022), Just(1_023), Just(1_024), Just(63), Just(64)],
    ];
    prop::collection::vec(
        prop_oneof![3 => offset.prop_map(Use::Relative), 1 => any::<prop::sample::Index>().prop_map(Use::Retry)],
        1..300,
    )
}

fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => Just(0_u64),
        1 => 1..3_000_u64,
        1 => any::<u64>(),
        2 => (0..1_200_u64).prop_map(|below| u64::MAX - below),
    ]
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn a_nonce_is_used_at_most_once_over_any_retries_and_jumps(start in starts(), uses in uses()) {
        let mut window = window_at(start);
        // The model forgets nothing.
        let mut used = BTreeSet::new();
        let mut next = start;
        let mut tried = Vec::new();
        for step in uses {
            let nonce = match step {
                Use::Relative(offset) => next.saturating_add_signed(offset),
                Use::Retry(index) if !tried.is_empty() => tried[index.index(tried.len())],
                Use::Retry(_) => continue,
            };
            tried.push(nonce);
            let lowest = next.saturating_sub(NONCE_WINDOW);
            let within = nonce >= lowest && u128::from(nonce) < u128::from(next) + u128::from(NONCE_WINDOW);
            let free = within && nonce != u64::MAX && !used.contains(&nonce);
            let before = window.clone();
            let verdict = window.consume(nonce);
            prop_assert_eq!(verdict.is_ok(), free, "nonce {} with next {}: {:?}", nonce, next, verdict);
            if free {
                prop_assert!(used.insert(nonce));
                next = next.max(nonce + 1);
                prop_assert_eq!(window.is_used(nonce), Some(true));
            } else {
                prop_assert_eq!(&window, &before, "a refused use changes nothing");
                let expected = if nonce < lowest {
                    matches!(verdict, Err(Refusal::NonceBelowWindow { .. }))
                } else if used.contains(&nonce) {
                    matches!(verdict, Err(Refusal::NonceUsed { .. }))
                } else {
                    matches!(verdict, Err(Refusal::NonceTooFarAhead { .. }))
                };
                prop_assert!(expected, "{:?}", verdict);
            }
            prop_assert_eq!(window.next(), next);
        }
        // Every nonce that the window still tells apart, it tells as the model does.
        for nonce in next.saturating_sub(NONCE_WINDOW)..next {
            prop_assert_eq!(window.is_used(nonce), Some(used.contains(&nonce)), "nonce {}", nonce);
        }
    }
}

#[test]
fn a_jump_of_a_whole_window_leaves_every_skipped_nonce_free() {
    let mut window = window_at(5_000);
    window.consume(5_000 + NONCE_WINDOW - 1).unwrap();
    for nonce in 5_000..5_000 + NONCE_WINDOW - 1 {
        assert_eq!(window.is_used(nonce), Some(false));
        window.consume(nonce).unwrap();
    }
    assert_eq!(window.is_used(4_999), None);
}

#[test]
fn a_nonce_just_beyond_the_furthest_jump_is_refused_with_the_furthest() {
    let mut window = NonceWindow::default();
    assert_eq!(
        window.consume(NONCE_WINDOW),
        Err(Refusal::NonceTooFarAhead { nonce: NONCE_WINDOW, highest: NONCE_WINDOW - 1 })
    );
    window.consume(NONCE_WINDOW - 1).unwrap();
    window.consume(0).unwrap();
    window.consume(NONCE_WINDOW).unwrap();
    assert_eq!(window.check(0), Err(Refusal::NonceBelowWindow { nonce: 0, lowest: 1 }));
}

#[test]
fn the_last_number_is_never_used_so_that_next_stands_above_every_nonce() {
    let mut window = window_at(u64::MAX - 1);
    assert_eq!(window.consume(u64::MAX), Err(Refusal::NonceTooFarAhead { nonce: u64::MAX, highest: u64::MAX - 1 }));
    window.consume(u64::MAX - 1).unwrap();
    assert_eq!(window.next(), u64::MAX);
    assert_eq!(window.check(u64::MAX - 1), Err(Refusal::NonceUsed { nonce: u64::MAX - 1 }));
    assert!(window.check(u64::MAX).is_err());
    window.consume(u64::MAX - 2).unwrap();
}
