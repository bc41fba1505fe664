//! Are both collections bounded, and is nothing lost that fits?

use lockstep_protocol::{
    ids::{Address20, RollupId, SettlementId},
    settlement::{Claim, Level, Observation, Subject, proof::ProofNode},
};

use super::*;

fn fact(number: u64, bytes: usize) -> (FactId, Fact) {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let claim = Claim { subject: Subject::Leg { settlement: SettlementId(id), leg: 0 }, proof: Vec::new() };
    let account_proof = vec![ProofNode(vec![7; bytes])];
    let (rollup, level, contract) = (RollupId(1), Level::Executed, Address20([1; 20]));
    (id, Fact::Observation(Observation { rollup, level, number, contract, account_proof, claims: vec![claim] }))
}

#[test]
fn facts_are_offered_in_the_order_in_which_they_came_but_for_those_that_are_taken() {
    let mut waiting = Waiting::default();
    for number in [3, 1, 2] {
        let (id, fact) = fact(number, 100);
        assert!(waiting.insert(id, fact, Height(1)));
    }
    let numbers = |taken: &HashSet<FactId>| {
        let number = |fact: &Fact| match fact {
            Fact::Observation(observation) => observation.number,
            other => panic!("{other:?}"),
        };
        waiting.free(taken).map(|(fact, _)| number(fact)).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&HashSet::new()), [3, 1, 2]);
    assert_eq!(numbers(&HashSet::from([fact(1, 0).0])), [3, 2]);
}

#[test]
fn what_waits_is_bounded_in_bytes_and_room_comes_back() {
    let mut waiting = Waiting::default();
    let mut taken = 0;
    while waiting.insert(fact(taken, 100_000).0, fact(taken, 100_000).1, Height(1)) {
        taken += 1;
    }
    assert!(waiting.bytes <= WAITING_BYTES_MAX && waiting.bytes > WAITING_BYTES_MAX - 200_000, "{}", waiting.bytes);
    assert_eq!(waiting.len() as u64, taken);
    assert!(waiting.insert(fact(0, 1).0, fact(0, 1).1, Height(1)), "what is there already needs no room");
    for number in 0..taken {
        assert!(waiting.remove(&fact(number, 0).0));
        assert!(!waiting.remove(&fact(number, 0).0));
    }
    assert_eq!((waiting.len(), waiting.bytes), (0, 0));
}

#[test]
fn what_waits_long_is_proven_again_a_few_at_a_time() {
    let mut waiting = Waiting::default();
    for number in 0..3 * PROVEN_AGAIN_MAX as u64 {
        waiting.insert(fact(number, 1).0, fact(number, 1).1, Height(10));
    }
    assert_eq!(waiting.unproven(Height(9 + PROVEN_HEIGHTS)).len(), 0);
    let mut rounds = 0;
    loop {
        let due = waiting.unproven(Height(10 + PROVEN_HEIGHTS));
        if due.is_empty() {
            break;
        }
        assert!(due.len() <= PROVEN_AGAIN_MAX);
        due.iter().for_each(|(id, _)| waiting.proven(id, Height(10 + PROVEN_HEIGHTS)));
        rounds += 1;
    }
    assert_eq!(rounds, 3);
}

#[test]
fn a_source_that_fills_its_share_keeps_nobody_else_out() {
    let mut held = Held::default();
    let (flooder, other) = (Some(Hash32([1; 32])), None);
    let taken = (0..1_000).filter(|number| held.insert(fact(*number, 1).0, fact(*number, 1).1, flooder, Height(1)));
    assert_eq!(taken.count(), HELD_MAX);
    assert!(held.insert(fact(2_000, 1).0, fact(2_000, 1).1, other, Height(1)));
    let mut held = Held::default();
    let taken =
        (0..1_000).filter(|number| held.insert(fact(*number, 9_000).0, fact(*number, 9_000).1, flooder, Height(1)));
    assert!((HELD_BYTES_MAX / 10_000..=HELD_BYTES_MAX / 9_000).contains(&taken.count()));
    assert!(held.insert(fact(2_000, 9_000).0, fact(2_000, 9_000).1, other, Height(1)));
}

#[test]
fn what_is_held_is_let_go_in_time_however_often_it_is_tried() {
    let mut held = Held::default();
    let (id, fact) = fact(1, 1);
    for height in 1..=HELD_HEIGHTS {
        assert!(held.insert(id, fact.clone(), None, Height(height)));
        assert_eq!(held.expire(Height(height)), 0);
    }
    assert_eq!(held.ready(|_| true).len(), 1);
    assert_eq!(held.expire(Height(1 + HELD_HEIGHTS)), 1);
    assert_eq!(held.len(), 0);
}
