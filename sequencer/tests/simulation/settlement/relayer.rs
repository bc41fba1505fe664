//! Who shows the log what rollups did, and carries its decisions to them?
//!
//! Anybody. This one keeps nothing that matters: it proves what the rollups hold and the log does not know, and hands each hub
//! what it has not taken. It may die after any number of actions.

use std::collections::BTreeMap;

use lockstep_consensus::simulate::City;
use lockstep_protocol::{
    bundle::{Bundle, Kind, Leg, Tag},
    ids::{Height, RollupId, SettlementId},
    lane::{LaneItem, LaneLeaf},
    rpc::Fact,
    settlement::{DecisionRange, LegStatus, Level, Subject, records::Seen},
    tree::Tree,
};
use lockstep_sequencer::facts::Refused;

use super::{
    chain::escrow_of,
    margin::{key, leaf_of, secret},
    promises::{Promises, Rollups},
    rollup::Call,
};
use crate::network::Shared;

/// Log heights after which something is done again that had no effect.
const PATIENCE: u64 = 10;
/// Legs of an observation.
const CLAIMS_MAX: usize = 64;
const MAX_FEE: u64 = 1_000_000;

pub(crate) struct Relayer {
    number: u16,
    /// Actions until it dies.
    pub(crate) left: usize,
    next_nonce: u64,
    /// What was shown of a leg, and at which height.
    shown: BTreeMap<(SettlementId, u8), (LegStatus, u64)>,
    /// Up to where a hub was handed decisions, and at which height.
    handed: BTreeMap<RollupId, (usize, u64)>,
    pub(crate) actions: usize,
}

impl Relayer {
    pub(crate) fn new(number: u16) -> Self {
        let (shown, handed) = (BTreeMap::new(), BTreeMap::new());
        Self { number, left: usize::MAX, next_nonce: 0, shown, handed, actions: 0 }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    fn takes_an_action(&mut self) -> bool {
        let alive = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.actions += usize::from(alive);
        alive
    }

    pub(crate) async fn act(
        &mut self,
        city: &City<'_>,
        shared: &Shared,
        validator: usize,
        promises: &Promises,
        rollups: &Rollups,
    ) {
        for id in rollups.iter().filter(|(_, rollup)| !rollup.dark).map(|(id, _)| id) {
            self.show(*id, shared, validator, promises, rollups).await;
            self.hand_over(*id, city, shared, validator, promises, rollups).await;
        }
    }

    /// Proves the legs of a rollup of which the log does not know what they have come to.
    async fn show(&mut self, id: RollupId, shared: &Shared, validator: usize, promises: &Promises, rollups: &Rollups) {
        let (rollup, height) = (&rollups[&id], promises.height());
        let incarnation = promises.rollup(id).incarnation;
        let mut news = Vec::new();
        for (settlement, intent) in &promises.known {
            let Some(record) = promises.record(settlement) else { continue };
            // A settled one may have been short in a later history.
            if record.settled && record.legs.iter().all(|leg| leg.seen != Seen::Shortfall) {
                continue;
            }
            for (index, leg) in (0_u8..).zip(&intent.transfer.legs).filter(|(_, leg)| leg.rollup == id) {
                let (status, seen) = (rollup.status(*settlement, index), &record.legs[usize::from(index)]);
                let wanted = match (record.decided.is_some(), status) {
                    (false, LegStatus::Prepared) => Seen::Prepared,
                    (false, LegStatus::Refused) => Seen::Refused,
                    (true, LegStatus::Committed | LegStatus::Released) => Seen::Applied,
                    (true, LegStatus::Shortfall) => Seen::Shortfall,
                    _ => continue,
                };
                let known = (seen.seen, seen.incarnation) == (wanted, incarnation);
                let last = self.shown.get(&(*settlement, index));
                let lately = last.is_some_and(|(shown, at)| *shown == status && at + PATIENCE > height);
                if !known && !lately && leg.level == Level::Executed {
                    news.push((*settlement, index, status));
                }
            }
        }
        news.truncate(CLAIMS_MAX);
        if news.is_empty() || !self.takes_an_action() {
            return;
        }
        let subjects = news.iter().map(|(settlement, leg, _)| Subject::Leg { settlement: *settlement, leg: *leg });
        let number = rollup.chain.number();
        let observation = rollup.chain.observe(Level::Executed, number, escrow_of(id.0), subjects);
        for (settlement, leg, status) in news {
            self.shown.insert((settlement, leg), (status, height));
        }
        match shared.facts(validator).submit(Fact::Observation(observation)).await {
            Ok(_) | Err(Refused::NotReady | Refused::Busy | Refused::Fact(_)) => {}
            Err(refused) => panic!("an honest observation is refused: {refused}"),
        }
    }

    /// Hands a hub the decisions that it has not taken, through its own lane.
    async fn hand_over(
        &mut self,
        id: RollupId,
        city: &City<'_>,
        shared: &Shared,
        validator: usize,
        promises: &Promises,
        rollups: &Rollups,
    ) {
        let (state, height) = (rollups[&id].chain.tip(), promises.height());
        let decided = promises.lanes.get(&id).map_or(&[][..], Vec::as_slice);
        let lately = self.handed.get(&id).is_some_and(|(from, at)| *from == state.applied && at + PATIENCE > height);
        if decided.len() <= state.applied || lately {
            return;
        }
        let Some(finality) = city.handle(validator).finality(Height(height)).await else { return };
        if !self.takes_an_action() {
            return;
        }
        let (item, next_nonce) = {
            let ledger = shared.ledger.lock().unwrap();
            let page = ledger.page_at(height);
            let tree = Tree::new(page.leaves.iter().map(LaneLeaf::hash).collect()).expect("there are lanes");
            let leaf = leaf_of(&page.leaves, id);
            let path = tree.path(leaf.hash()).expect("the leaf is in the tree");
            let (entries, transactions) = (Vec::new(), Vec::new());
            let record = ledger.account(Height(height), &key(self.number).account()).expect("relayers are funded");
            let item = LaneItem { header: page.header.clone(), finality, leaf, path, entries, transactions };
            (item, record.nonces.next())
        };
        let decisions = decided[state.applied..].to_vec();
        let intents = decisions.iter().map(|decided| promises.known[&decided.settlement].clone()).collect();
        let range = DecisionRange { rollup: id, sequence: state.applied as u64, chain: state.chain, decisions };
        self.next_nonce = self.next_nonce.max(next_nonce);
        let call = Call::Apply { item: Box::new(item), range, intents };
        let bundle = Bundle {
            network: shared.network(),
            account: key(self.number).account(),
            nonce: self.next_nonce,
            tag: Tag::default(),
            valid_until: Height(height + 2 * PATIENCE),
            tip: 1,
            max_fee: MAX_FEE,
            legs: vec![Leg { rollup: id, transactions: vec![call.sign(id, &secret(self.number))] }],
            kind: Kind::Plain,
        };
        // A node that has just started, or a block that came in between, refuses: there is another time.
        if shared.pool(validator).submit(bundle.sign(&key(self.number))).is_ok() {
            self.next_nonce += 1;
            self.handed.insert(id, (state.applied, height));
        }
    }
}
