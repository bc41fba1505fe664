//! What is made of gossip and pages, without a network.

use std::{collections::BTreeMap, sync::Arc};

use libp2p::{PeerId, gossipsub::MessageId};
use lockstep_protocol::{
    ids::{Height, RollupId},
    lane::{LaneError, LaneItem},
    wire::Wire,
};

use crate::public::{
    lanes::{Lanes, Outcome, Page, Ticket, Verdict},
    wire::Fault,
};

use super::chain::{A, B, Chain, forged, with_other_entries};

fn lanes(chain: &Chain, own: Option<LaneItem>) -> Lanes {
    Lanes::new(chain.verifier(), BTreeMap::from([(A, own)]))
}

fn ticket(number: u64) -> Ticket {
    Ticket { message: MessageId::from(number.to_string()), peer: PeerId::random() }
}

/// Gossips one item; its own verdict, if it has one at once, and the verdicts on those that waited for it.
fn gossip(lanes: &mut Lanes, item: &LaneItem) -> (Option<Verdict>, Vec<Verdict>, usize) {
    let (mut out, ticket) = (Outcome::default(), ticket(item.header.height.0));
    lanes.gossip(A, &item.to_wire(), ticket.clone(), &mut out);
    let (own, others): (Vec<_>, Vec<_>) = out.verdicts.into_iter().partition(|(other, _)| *other == ticket);
    let own = own.into_iter().map(|(_, verdict)| verdict).next();
    (own, others.into_iter().map(|(_, verdict)| verdict).collect(), out.verified.len())
}

fn reason(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Reject(fault)) => fault.reason(),
        other => panic!("not rejected: {other:?}"),
    }
}

fn page(lanes: &mut Lanes, from: u64, items: &[LaneItem], tip: Option<LaneItem>) -> (Result<(), Fault>, Outcome) {
    let mut out = Outcome::default();
    let page = Page { from: Height(from), max_items: 256, items: items.to_vec(), tip };
    (lanes.page(A, page, &mut out), out)
}

#[test]
fn items_in_order_are_accepted_once() {
    let mut chain = Chain::new("judge", 1);
    let items = chain.items(A, 3);
    let mut lanes = lanes(&chain, None);
    for item in &items {
        let height = item.header.height;
        assert_eq!(gossip(&mut lanes, item), (Some(Verdict::Accept(A, height)), vec![], 1));
        assert_eq!(gossip(&mut lanes, item), (Some(Verdict::Ignore), vec![], 0), "the same again");
    }
    assert_eq!(lanes.place(A), Some((Height(3), false)));
}

#[test]
fn an_item_that_came_too_early_waits_and_is_forwarded_when_its_turn_comes() {
    let mut chain = Chain::new("judge", 1);
    let items = chain.items(A, 4);
    let mut lanes = lanes(&chain, None);
    for early in [3, 2, 1] {
        assert_eq!(gossip(&mut lanes, &items[early]), (None, vec![], 0));
    }
    assert_eq!(lanes.place(A), Some((Height(0), true)));
    let accepted = (2..=4).map(|height| Verdict::Accept(A, Height(height))).collect();
    assert_eq!(gossip(&mut lanes, &items[0]), (Some(Verdict::Accept(A, Height(1))), accepted, 4));
    assert_eq!(lanes.place(A), Some((Height(4), false)));
}

#[test]
fn an_early_item_with_false_entries_is_found_out_when_a_page_fills_the_gap() {
    let mut chain = Chain::new("judge", 1);
    let items = chain.items(A, 4);
    let mut lanes = lanes(&chain, None);
    assert_eq!(gossip(&mut lanes, &with_other_entries(items[2].clone())).0, None, "its header is true");
    assert_eq!(gossip(&mut lanes, &items[3]).0, None);
    let (result, out) = page(&mut lanes, 1, &items[..3], None);
    assert_eq!(result, Ok(()));
    let verdicts: Vec<_> = out.verdicts.into_iter().map(|(_, verdict)| verdict).collect();
    assert_eq!(verdicts.len(), 2);
    assert_eq!(reason(Some(verdicts[0].clone())), "chain");
    assert_eq!(verdicts[1], Verdict::Accept(A, Height(4)));
    let heights: Vec<_> = out.verified.iter().map(|item| item.header.height.0).collect();
    assert_eq!(heights, [1, 2, 3, 4]);
    assert_eq!(*out.verified[2], items[2], "the true item, from the page");
}

#[test]
fn a_lie_is_rejected_with_its_own_reason_and_moves_nothing() {
    let mut chain = Chain::new("judge", 1);
    let items = chain.items(A, 3);
    let other_lane = chain.block(&[A, B]).remove(&B).unwrap();
    let foreign = Chain::new("elsewhere", 1).items(A, 1).remove(0);
    let mut lanes = lanes(&chain, None);
    assert_eq!(reason(gossip(&mut lanes, &forged(items[0].clone())).0), "forged");
    assert_eq!(reason(gossip(&mut lanes, &forged(items[2].clone())).0), "forged", "also where it comes too early");
    assert_eq!(reason(gossip(&mut lanes, &with_other_entries(items[0].clone())).0), "chain");
    assert_eq!(reason(gossip(&mut lanes, &other_lane).0), "wrong_lane");
    assert_eq!(reason(gossip(&mut lanes, &foreign).0), "wrong_network");
    let mut path = items[0].clone();
    path.path[0].0[0] ^= 1;
    assert_eq!(reason(gossip(&mut lanes, &path).0), "path");
    let mut swapped = items[0].clone();
    swapped.transactions[0].swap(0, 1);
    assert_eq!(reason(gossip(&mut lanes, &swapped).0), "transactions");
    let mut short = items[0].clone();
    short.transactions.clear();
    assert_eq!(reason(gossip(&mut lanes, &short).0), "shape");
    let mut out = Outcome::default();
    lanes.gossip(A, b"\x01garbage", ticket(1), &mut out);
    assert_eq!(reason(out.verdicts.pop().map(|(_, verdict)| verdict)), "malformed");
    assert_eq!(lanes.place(A), Some((Height(0), false)));
    assert_eq!(gossip(&mut lanes, &items[0]).0, Some(Verdict::Accept(A, Height(1))), "and the truth is still taken");
}

#[test]
fn a_node_judges_by_its_own_log_and_forwards_what_is_ahead_of_it() {
    let mut chain = Chain::new("judge", 1);
    let items = chain.items(A, 5);
    let mut lanes = lanes(&chain, Some(items[1].clone()));
    assert_eq!(gossip(&mut lanes, &forged(items[0].clone())).0, Some(Verdict::Ignore), "it has that height itself");
    assert_eq!(gossip(&mut lanes, &items[2]).0, Some(Verdict::Accept(A, Height(3))));
    assert_eq!(gossip(&mut lanes, &items[4]).0, None);
    let mut out = Outcome::default();
    lanes.own(Arc::new(items[3].clone()), &mut out);
    assert_eq!(out.verdicts.pop().map(|(_, verdict)| verdict), Some(Verdict::Accept(A, Height(5))));
}

#[test]
fn what_waits_is_bounded() {
    let mut chain = Chain::new("judge", 1);
    let items = chain.items(A, 60);
    let mut lanes = lanes(&chain, None);
    let waiting = items[1..].iter().filter(|item| gossip(&mut lanes, item).0.is_none()).count();
    assert_eq!(waiting, 32);
    let (_, accepted, verified) = gossip(&mut lanes, &items[0]);
    assert_eq!((accepted.len(), verified), (32, 33));
    let (result, out) = page(&mut lanes, 34, &items[33..], None);
    assert_eq!((result, out.verified.len()), (Ok(()), 27));
}

#[test]
fn a_page_is_judged_as_a_whole_and_what_it_proved_before_its_fault_stands() {
    let mut chain = Chain::new("judge", 1);
    let items = chain.items(A, 6);
    let empty = chain.block(&[B]).remove(&A).unwrap();
    let fault = |lanes: &mut Lanes, from, items: &[LaneItem], tip| match page(lanes, from, items, tip) {
        (Err(fault), out) => (fault.reason(), out.verified.len()),
        (Ok(()), out) => panic!("taken, with {} items", out.verified.len()),
    };
    let dropped = [items[0].clone(), items[2].clone()];
    assert_eq!(fault(&mut lanes(&chain, None), 1, &dropped, None), ("gap", 1));
    let withheld = Some(empty.clone());
    assert_eq!(fault(&mut lanes(&chain, None), 1, &items[..2], withheld), ("gap", 2));
    let replayed = [items[0].clone(), items[1].clone(), items[0].clone()];
    assert_eq!(fault(&mut lanes(&chain, None), 1, &replayed, None), ("replayed", 2));
    assert_eq!(fault(&mut lanes(&chain, Some(items[2].clone())), 4, &items[..1], None), ("replayed", 0));
    assert_eq!(fault(&mut lanes(&chain, None), 1, &[items[0].clone(), empty.clone()], None), ("page", 1));
    assert_eq!(fault(&mut lanes(&chain, None), 1, &[], Some(items[0].clone())), ("page", 0));
    let many = vec![items[0].clone(); 257];
    assert_eq!(fault(&mut lanes(&chain, None), 1, &many, None), ("page", 0));

    let mut lanes = lanes(&chain, None);
    let (result, out) = page(&mut lanes, 1, &items, Some(empty.clone()));
    assert_eq!((result, out.verified.len()), (Ok(()), 7));
    assert_eq!(lanes.place(A), Some((empty.header.height, false)));
    // A page that gossip has overtaken teaches nothing, and nothing is wrong with it.
    let (result, out) = page(&mut lanes, 3, &items[2..], Some(empty));
    assert_eq!((result, out.verified.len()), (Ok(()), 0));
}

#[test]
fn every_fault_has_a_name_that_the_metrics_know() {
    let height = Height(1);
    let faults = [
        Fault::Misplaced(height),
        Fault::TooManyItems { max: 1, found: 2 },
        LaneError::Gap { height, from: 1, to: 2 }.into(),
        LaneError::Chain { height }.into(),
        LaneError::WrongLane { expected: A, found: RollupId(1) }.into(),
    ];
    for fault in faults {
        assert!(Fault::REASONS.contains(&fault.reason()), "{fault}");
    }
}
