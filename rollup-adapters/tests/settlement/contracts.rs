//! Do the committed contracts do with a leg what they promise, when driven from Rust alone?

use alloy_primitives::{Address, U256};
use lockstep_contracts::{
    self as contracts, SolCall, SolInterface,
    abi::{MarginEscrow, SettlementHub, TestToken},
};
use lockstep_protocol::{
    certificate::CertificateSignature,
    lane::LaneItem,
    settlement::{Intent, LegStatus, Side},
};

use crate::{
    fixture,
    venue::{DEPLOYER, Done, Venue, asset, deployer, trader, trader_key, word},
    world::{ABORT, COMMIT, Decider, HERE, THERE, leg},
};

type HubError = SettlementHub::SettlementHubErrors;
type EscrowError = MarginEscrow::MarginEscrowErrors;

const MARGIN: u128 = 1_000;
const INVENTORY: u128 = 5_000;

async fn world() -> (Decider, Venue) {
    let log = Decider::new("lockstep-test-1");
    let venue = Venue::new(HERE, log.network, &log.group_key(), &[THERE], MARGIN, INVENTORY).await;
    (log, venue)
}

async fn prepare(venue: &mut Venue, intent: &Intent, index: u8) -> Done {
    let account = intent.transfer.legs[usize::from(index)].account;
    let who = (0..3).find(|who| trader(*who) == account).expect("a trader");
    venue.send(trader_key(who), venue.at.escrow, contracts::prepare(intent, index)).await
}

/// Takes everything that was decided and the hub does not have.
async fn relay(log: &mut Decider, venue: &mut Venue) -> Done {
    let have = usize::try_from(venue.hub_sequence().await).expect("a small number");
    let done = venue.send(DEPLOYER, venue.at.hub, log.call(have, usize::MAX)).await;
    assert!(done.succeeded);
    done
}

async fn free(venue: &Venue, who: usize) -> u128 {
    venue.account(trader(who), asset()).await.free.to()
}

#[tokio::test]
async fn a_debit_and_a_credit_are_prepared_and_committed() {
    let (mut log, mut venue) = world().await;
    let (debit, credit) = (log.transfer(0, Side::Debit, 300), log.transfer(1, Side::Credit, 200));
    for intent in [&debit, &credit] {
        assert!(prepare(&mut venue, intent, 0).await.succeeded);
        assert_eq!(venue.leg(intent.sid(log.network), 0).await, LegStatus::Prepared);
    }
    assert_eq!((free(&venue, 0).await, free(&venue, 1).await), (MARGIN - 300, MARGIN));
    let books = venue.books(asset()).await;
    assert_eq!((books.inventory, books.reserved), (INVENTORY - 200, 200));
    log.decide(&debit, COMMIT);
    log.decide(&credit, COMMIT);
    relay(&mut log, &mut venue).await;
    for intent in [&debit, &credit] {
        assert_eq!(venue.leg(intent.sid(log.network), 0).await, LegStatus::Committed);
    }
    assert_eq!((free(&venue, 0).await, free(&venue, 1).await), (MARGIN - 300, MARGIN + 200));
    let books = venue.books(asset()).await;
    assert_eq!((books.inventory, books.reserved, books.owed), (INVENTORY + 300 - 200, 0, 0));
    venue.assert_balanced(venue.at.token, asset()).await;
    assert_eq!(venue.hub_sequence().await, 2);
}

#[tokio::test]
async fn an_abort_releases_and_leaves_a_tombstone() {
    let (mut log, mut venue) = world().await;
    let prepared = log.transfer(0, Side::Debit, 300);
    let refused = log.transfer(1, Side::Debit, MARGIN + 1);
    let late = log.transfer(2, Side::Credit, 50);
    prepare(&mut venue, &prepared, 0).await;
    assert!(prepare(&mut venue, &refused, 0).await.succeeded, "a no is recorded, not reverted");
    assert_eq!(venue.leg(refused.sid(log.network), 0).await, LegStatus::Refused);
    // 3: too little free margin.
    assert_eq!(venue.leg_word(refused.sid(log.network), 0).await >> 8, U256::from(3));
    for intent in [&prepared, &refused, &late] {
        log.decide(intent, ABORT);
    }
    relay(&mut log, &mut venue).await;
    for intent in [&prepared, &refused, &late] {
        assert_eq!(venue.leg(intent.sid(log.network), 0).await, LegStatus::Released);
    }
    assert_eq!(free(&venue, 0).await, MARGIN);
    // S10: whoever comes late finds the tombstone.
    let sid = alloy_primitives::B256::from(late.sid(log.network).0);
    let sender = Address::from(trader(2).0);
    let data = venue.ask(sender, venue.at.escrow, &contracts::prepare(&late, 0)).await.expect_err("too late");
    let error = EscrowError::abi_decode(&data).expect("a named error");
    assert_eq!(error, EscrowError::LegExists(MarginEscrow::LegExists { sid, legIndex: 0, status: 4 }));
    assert!(!prepare(&mut venue, &late, 0).await.succeeded);
    assert_eq!(venue.books(asset()).await.inventory, INVENTORY);
    venue.assert_balanced(venue.at.token, asset()).await;
}

#[tokio::test]
async fn a_commit_without_a_prepare_is_done_with_what_there_is_and_covered_later() {
    let (mut log, mut venue) = world().await;
    let (whole, short) = (log.transfer(0, Side::Debit, 400), log.transfer(1, Side::Debit, MARGIN + 250));
    let credit = log.transfer(2, Side::Credit, 70);
    for intent in [&whole, &short, &credit] {
        log.decide(intent, COMMIT);
    }
    relay(&mut log, &mut venue).await;
    assert_eq!(venue.leg(whole.sid(log.network), 0).await, LegStatus::Committed);
    assert_eq!(venue.leg(credit.sid(log.network), 0).await, LegStatus::Committed);
    let sid = short.sid(log.network);
    assert_eq!(venue.leg(sid, 0).await, LegStatus::Shortfall);
    assert_eq!(venue.leg_word(sid, 0).await >> 8, U256::from(250));
    assert_eq!((free(&venue, 1).await, venue.books(asset()).await.owed), (0, 250));
    venue.assert_balanced(venue.at.token, asset()).await;
    // What is owed is paid out of what comes in.
    let amount = U256::from(250);
    let (token, escrow) = (venue.at.token, venue.at.escrow);
    let account = Address::from(trader(1).0);
    for (to, input) in [
        (token, TestToken::mintCall { to: deployer(), amount }.abi_encode()),
        (token, TestToken::approveCall { spender: escrow, value: amount }.abi_encode()),
        (escrow, MarginEscrow::depositCall { asset: word(asset()), account, amount }.abi_encode()),
        (escrow, cover(&short)),
    ] {
        assert!(venue.send(DEPLOYER, to, input).await.succeeded);
    }
    assert_eq!(venue.leg(sid, 0).await, LegStatus::Committed);
    assert_eq!(venue.books(asset()).await.owed, 0);
    venue.assert_balanced(venue.at.token, asset()).await;
}

/// Calldata of `cover` has the arguments of `prepare`.
pub(crate) fn cover(intent: &Intent) -> Vec<u8> {
    [&MarginEscrow::coverCall::SELECTOR[..], &contracts::prepare(intent, 0)[4..]].concat()
}

#[tokio::test]
async fn what_is_applied_is_applied_once_and_never_undone() {
    let (mut log, mut venue) = world().await;
    let (committed, released) = (log.transfer(0, Side::Debit, 100), log.transfer(1, Side::Credit, 100));
    for intent in [&committed, &released] {
        prepare(&mut venue, intent, 0).await;
    }
    log.decide(&committed, COMMIT);
    log.decide(&released, ABORT);
    relay(&mut log, &mut venue).await;
    let before = (free(&venue, 0).await, free(&venue, 1).await, venue.books(asset()).await);
    // A log that decides again, and otherwise, moves nothing.
    for outcome in [COMMIT, ABORT, 3] {
        log.decide(&committed, outcome);
        log.decide(&released, outcome);
    }
    relay(&mut log, &mut venue).await;
    assert_eq!(venue.leg(committed.sid(log.network), 0).await, LegStatus::Committed);
    assert_eq!(venue.leg(released.sid(log.network), 0).await, LegStatus::Released);
    assert_eq!((free(&venue, 0).await, free(&venue, 1).await, venue.books(asset()).await), before);
    assert!(!prepare(&mut venue, &committed, 0).await.succeeded, "a second prepare");
}

#[tokio::test]
async fn decisions_are_taken_strictly_in_sequence() {
    let (mut log, mut venue) = world().await;
    let intents: Vec<_> = (0..5).map(|who| log.transfer(who % 3, Side::Debit, 10)).collect();
    for intent in &intents {
        prepare(&mut venue, intent, 0).await;
        log.decide(intent, COMMIT);
    }
    let item = log.item();
    let (range, all) = log.range(2);
    let skipping = contracts::apply(&item, &range, &all, 3).expect("a call");
    let missing = SettlementHub::DecisionsMissing { taken: 0, firstGiven: U256::from(3) };
    assert_eq!(venue.hub_refuses(skipping).await, HubError::DecisionsMissing(missing));
    let (mut range, mut all) = log.range(0);
    range.decisions.swap(1, 2);
    all.swap(1, 2);
    let swapped = contracts::apply(&item, &range, &all, 5).expect("a call");
    assert!(matches!(venue.hub_refuses(swapped).await, HubError::WrongDecisions(_)));
    // A prefix, then an overlap: what the hub has is passed over.
    let (range, all) = log.range(0);
    let prefix = contracts::apply(&item, &range, &all, 2).expect("a call");
    assert!(venue.send(DEPLOYER, venue.at.hub, prefix.clone()).await.succeeded);
    assert_eq!(venue.hub_sequence().await, 2);
    let nothing_new = HubError::NothingNew(SettlementHub::NothingNew { taken: 2 });
    assert_eq!(venue.hub_refuses(prefix).await, nothing_new);
    let overlap = contracts::apply(&item, &range, &all, 4).expect("a call");
    assert!(venue.send(DEPLOYER, venue.at.hub, overlap).await.succeeded);
    assert_eq!(venue.hub_sequence().await, 4);
    relay(&mut log, &mut venue).await;
    for intent in &intents {
        assert_eq!(venue.leg(intent.sid(log.network), 0).await, LegStatus::Committed);
    }
    venue.assert_balanced(venue.at.token, asset()).await;
}

/// A call for one decision, out of an item that was tampered with.
fn tampered(log: &mut Decider, tamper: impl FnOnce(&mut LaneItem)) -> Vec<u8> {
    let mut item = log.item();
    let (range, intents) = log.range(0);
    tamper(&mut item);
    contracts::apply(&item, &range, &intents, 1).expect("points of the curve")
}

#[tokio::test]
async fn nothing_is_believed_but_the_groups_certificate_over_this_lane() {
    let (mut log, mut venue) = world().await;
    let intent = log.transfer(0, Side::Debit, 10);
    prepare(&mut venue, &intent, 0).await;
    log.decide(&intent, COMMIT);
    log.decide_in(THERE, &intent, COMMIT);
    let forged = HubError::ForgedCertificate(SettlementHub::ForgedCertificate {});
    let other_group = tampered(&mut log, |item| {
        item.finality.certificate = fixture::certify(&fixture::group_key(8), &item.header);
    });
    let other_view = tampered(&mut log, |item| item.finality.certificate.view += 1);
    let infinity = {
        let mut point = [0; 48];
        point[0] = 0xc0;
        tampered(&mut log, |item| item.finality.certificate.signature = CertificateSignature(point))
    };
    assert_eq!(venue.hub_refuses(other_group).await, forged);
    assert_eq!(venue.hub_refuses(other_view).await, forged);
    assert!(matches!(venue.hub_refuses(infinity).await, HubError::InfinitySignature(_)));
    let header = tampered(&mut log, |item| item.header.timestamp_ms += 1);
    assert_eq!(venue.hub_refuses(header).await, forged);
    let network = tampered(&mut log, |item| {
        // Signed by the right key, for another network.
        item.header.network = lockstep_protocol::ids::NetworkId::from_name("another");
        item.finality.certificate = fixture::certify(&fixture::group_key(7), &item.header);
    });
    assert!(matches!(venue.hub_refuses(network).await, HubError::WrongNetwork(_)));
    let leaf = tampered(&mut log, |item| item.leaf.sequence += 1);
    assert!(matches!(venue.hub_refuses(leaf).await, HubError::NotInLanes(_)));
    // Another rollup's lane, proven without fault.
    let item = log.item_of(THERE);
    let (range, intents) = log.range(0);
    let wrong = contracts::apply(&item, &range, &intents, 1).expect("a call");
    let wrong_lane = HubError::WrongLane(SettlementHub::WrongLane { found: THERE });
    assert_eq!(venue.hub_refuses(wrong).await, wrong_lane);
    assert_eq!(venue.leg(intent.sid(log.network), 0).await, LegStatus::Prepared);
    relay(&mut log, &mut venue).await;
    assert_eq!(venue.leg(intent.sid(log.network), 0).await, LegStatus::Committed);
}

#[tokio::test]
async fn a_decision_given_without_its_settlement_is_recorded_and_applied_by_anyone() {
    let (mut log, mut venue) = world().await;
    let intent = log.transfer(0, Side::Credit, 10);
    prepare(&mut venue, &intent, 0).await;
    log.decide(&intent, COMMIT);
    let item = log.item();
    let (range, _) = log.range(0);
    // A settlement that is not the decision's is left out of the call.
    let other = log.transfer(1, Side::Credit, 10);
    let recording = contracts::apply(&item, &range, &[other], 1).expect("a call");
    assert!(venue.send(DEPLOYER, venue.at.hub, recording).await.succeeded);
    let sid = intent.sid(log.network);
    assert_eq!((venue.outcome(sid).await, venue.leg(sid, 0).await), (COMMIT, LegStatus::Prepared));
    let applying = contracts::apply_recorded(&intent, 0);
    assert!(venue.send(trader_key(2), venue.at.hub, applying.clone()).await.succeeded);
    assert_eq!(venue.leg(sid, 0).await, LegStatus::Committed);
    assert!(venue.send(trader_key(2), venue.at.hub, applying).await.succeeded, "any number of times");
    assert_eq!(free(&venue, 0).await, MARGIN + 10);
}

#[tokio::test]
async fn only_the_hub_decides_and_only_the_account_prepares() {
    let (mut log, venue) = world().await;
    let intent = log.intent(vec![leg(HERE, 0, Side::Debit, 10), leg(THERE, 0, Side::Credit, 10)]);
    let stranger = Address::from(trader(1).0);
    let data = venue.ask(stranger, venue.at.escrow, &contracts::prepare(&intent, 0)).await.expect_err("not its leg");
    let error = EscrowError::abi_decode(&data).expect("a named error");
    assert!(matches!(error, EscrowError::NotLegAccount(_)), "{error:?}");
    let own = Address::from(trader(0).0);
    let data = venue.ask(own, venue.at.escrow, &contracts::prepare(&intent, 1)).await.expect_err("another rollup's");
    let error = EscrowError::abi_decode(&data).expect("a named error");
    assert!(matches!(error, EscrowError::NotThisRollup(_)), "{error:?}");
    let data = venue.ask(own, venue.at.hub, &contracts::apply_recorded(&intent, 0)).await.expect_err("not decided");
    assert!(matches!(HubError::abi_decode(&data).expect("a named error"), HubError::Undecided(_)));
}

#[tokio::test]
async fn what_a_call_costs() {
    let (mut log, mut venue) = world().await;
    // Slots that every later call finds written.
    for side in [Side::Debit, Side::Credit] {
        let intent = log.transfer(0, side, 10);
        prepare(&mut venue, &intent, 0).await;
        log.decide(&intent, COMMIT);
    }
    relay(&mut log, &mut venue).await;
    for count in [1, 10] {
        let mut prepared = 0;
        for index in 0..count {
            let intent = log.transfer(0, if index % 2 == 0 { Side::Debit } else { Side::Credit }, 10);
            prepared = prepare(&mut venue, &intent, 0).await.gas;
            log.decide(&intent, COMMIT);
        }
        let done = relay(&mut log, &mut venue).await;
        eprintln!("prepare {prepared} gas; hub call with {count} decisions, three lanes: {} gas", done.gas);
        assert!(done.gas < 200_000 + 40_000 * count, "{done:?}");
    }
}
