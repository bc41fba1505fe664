//! A random life of a log and its rollups: whatever users, validators, rollups, relayers and forgers may do, in any order.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use lockstep_protocol::{
    body::{Body, Facts, Invalid},
    ids::{Height, SettlementId},
    report::Event,
    settlement::{Abort, Decision, LegStatus, Level, Subject},
    state::Key,
};

use super::world::{WINDOW, World, asset, escrow_of};
use crate::fixture::{Block, Network, key};

/// The rollups of a walk.
pub(crate) const ROLLUPS: [u64; 3] = [10, 901, 42_161];

/// One thing that happens. Numbers are taken modulo what there is to choose from.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Order {
        who: u8,
        from: u8,
        to: u8,
        amount: u16,
        heights: u8,
    },
    /// A prepare transaction is executed, whether its bundle was ordered or not.
    Prepare {
        settlement: u8,
        leg: u8,
    },
    /// Signed, its prepare transactions public, and never ordered.
    Leak {
        who: u8,
        from: u8,
        to: u8,
        heights: u8,
    },
    Show {
        rollup: u8,
        level: u8,
    },
    Relay {
        rollup: u8,
        most: u8,
    },
    Reorg {
        rollup: u8,
        depth: u8,
    },
    Cover {
        rollup: u8,
    },
    Abort {
        who: u8,
        settlement: u8,
    },
    Void {
        settlement: u8,
        leg: u8,
    },
    Pass {
        heights: u8,
    },
    /// Facts of an earlier block come again.
    Replay {
        block: u8,
    },
    Forge {
        rollup: u8,
        how: u8,
    },
}

pub(crate) fn actions() -> impl Strategy<Value = Vec<Action>> {
    let any = any::<u8>;
    let action = prop_oneof![
        4 => (0..3_u8, any(), any(), 1..600_u16, 4..30_u8)
            .prop_map(|(who, from, to, amount, heights)| Action::Order { who, from, to, amount, heights }),
        6 => (any(), any()).prop_map(|(settlement, leg)| Action::Prepare { settlement, leg }),
        1 => (0..3_u8, any(), any(), 4..12_u8).prop_map(|(who, from, to, heights)| Action::Leak { who, from, to, heights }),
        8 => (any(), 0..8_u8).prop_map(|(rollup, level)| Action::Show { rollup, level }),
        4 => (any(), 1..4_u8).prop_map(|(rollup, most)| Action::Relay { rollup, most }),
        1 => (any(), 1..4_u8).prop_map(|(rollup, depth)| Action::Reorg { rollup, depth }),
        1 => any().prop_map(|rollup| Action::Cover { rollup }),
        1 => (0..4_u8, any()).prop_map(|(who, settlement)| Action::Abort { who, settlement }),
        1 => (any(), any()).prop_map(|(settlement, leg)| Action::Void { settlement, leg }),
        2 => (1..12_u8).prop_map(|heights| Action::Pass { heights }),
        2 => any().prop_map(|block| Action::Replay { block }),
        2 => (any(), 0..6_u8).prop_map(|(rollup, how)| Action::Forge { rollup, how }),
    ];
    prop::collection::vec(action, 30..90)
}

/// What an outsider has seen of a walk.
pub(crate) struct Walk {
    pub(crate) world: World,
    /// Each settlement's decision, as the lanes carry it.
    pub(crate) decided: BTreeMap<SettlementId, (u8, Height)>,
    /// What reports say.
    pub(crate) reported: BTreeMap<SettlementId, Decision>,
    pub(crate) ordered: BTreeSet<SettlementId>,
    /// Legs that stood prepared in some block of their rollup.
    pub(crate) prepared: BTreeSet<(SettlementId, u8)>,
    pub(crate) reorgs: u32,
    /// What was tried against the log and refused.
    pub(crate) refused: u32,
}

impl Walk {
    pub(crate) fn new() -> Self {
        Self {
            world: World::new(&ROLLUPS),
            decided: BTreeMap::new(),
            reported: BTreeMap::new(),
            ordered: BTreeSet::new(),
            prepared: BTreeSet::new(),
            reorgs: 0,
            refused: 0,
        }
    }

    fn rollup(&self, choice: u8) -> u64 {
        ROLLUPS[usize::from(choice) % ROLLUPS.len()]
    }

    fn any_settlement(&self, choice: u8) -> Option<SettlementId> {
        let count = self.world.intents.len();
        // The latest few: what happens to those is what matters.
        let place = count.checked_sub(1 + usize::from(choice) % count.clamp(1, 4))?;
        let mut known: Vec<_> = self.world.intents.iter().collect();
        known.sort_by_key(|(settlement, intent)| (intent.transfer.deadline, **settlement));
        known.get(place).map(|(settlement, _)| **settlement)
    }

    /// Takes an action, and gives the blocks that it made to `check`.
    pub(crate) fn step(&mut self, action: &Action, check: &mut impl FnMut(&Self)) {
        let before = self.world.blocks.len();
        self.act(action);
        for block in self.world.blocks.split_off(before) {
            self.note(&block);
            self.world.blocks.push(block);
        }
        for (rollup, chain) in &self.world.chains {
            for ((settlement, leg), status) in &chain.tip().escrow.legs {
                if *status == LegStatus::Prepared {
                    self.prepared.insert((*settlement, *leg));
                }
                assert_eq!(self.world.intents[settlement].transfer.legs[usize::from(*leg)].rollup.0, *rollup);
            }
        }
        check(self);
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Order { who, from, to, amount, heights } => {
                let (from, to) = (self.rollup(from), self.rollup(to));
                if from != to {
                    let signed = self.world.transfer(who, from, to, u128::from(amount), u64::from(heights));
                    let block = self.world.advance(Facts::default(), vec![signed.clone()]);
                    if block.left_out.is_empty() {
                        self.ordered.insert(signed.bundle.settlement().expect("it is one"));
                    }
                }
            }
            Action::Leak { who, from, to, heights } => {
                let (from, to) = (self.rollup(from), self.rollup(to));
                if from != to {
                    self.world.transfer(who, from, to, 7, u64::from(heights));
                }
            }
            Action::Prepare { settlement, leg } => {
                if let Some(settlement) = self.any_settlement(settlement) {
                    let legs = &self.world.intents[&settlement].transfer.legs;
                    let rollup = legs[usize::from(leg) % legs.len()].rollup.0;
                    self.world.prepare(&settlement, rollup);
                }
            }
            Action::Show { rollup, level } => {
                let level = if level == 0 { Level::Safe } else { Level::Executed };
                self.world.show_at(self.rollup(rollup), level);
            }
            Action::Relay { rollup, most } => self.world.relay(self.rollup(rollup), usize::from(most)),
            Action::Reorg { rollup, depth } => {
                let rollup = self.rollup(rollup);
                self.world.chains.get_mut(&rollup).expect("it has a chain").reorg(usize::from(depth));
                self.reorgs += 1;
            }
            Action::Cover { rollup } => self.cover(self.rollup(rollup)),
            Action::Abort { who, settlement } => {
                if let Some(settlement) = self.any_settlement(settlement) {
                    // Number 3 is nobody's; the others own some.
                    let key = key(who);
                    let network = self.world.rules().network;
                    let abort = Abort { network, account: key.account(), settlement }.sign(&key);
                    self.world.advance(Facts { aborts: vec![abort], ..Facts::default() }, vec![]);
                }
            }
            Action::Void { settlement, leg } => self.void(settlement, leg),
            Action::Pass { heights } => self.world.pass(u64::from(heights)),
            Action::Replay { block } => {
                let latest = self.world.blocks.len() - 1 - usize::from(block) % self.world.blocks.len().min(12);
                let Body { heads, observations, voids, leases, aborts, .. } = self.world.blocks[latest].body.clone();
                self.world.advance(Facts { heads, observations, voids, leases, aborts }, vec![]);
            }
            Action::Forge { rollup, how } => self.forge(self.rollup(rollup), how),
        }
    }

    pub(crate) fn cover(&mut self, rollup: u64) {
        let chain = self.world.chains.get_mut(&rollup).expect("it has a chain");
        chain.mine(|state| {
            let owed: Vec<_> = state.escrow.owed.keys().copied().collect();
            owed.into_iter().for_each(|(settlement, leg)| state.escrow.cover(settlement, leg));
        });
    }

    fn void(&mut self, settlement: u8, leg: u8) {
        let Some(settlement) = self.any_settlement(settlement) else { return };
        let legs = &self.world.intents[&settlement].transfer.legs;
        let leg = leg % u8::try_from(legs.len()).expect("legs are few");
        let rollup = legs[usize::from(leg)].rollup.0;
        let Some(number) = self.world.rollup(rollup).latest[0] else { return };
        if number <= self.world.chains[&rollup].number() {
            let void = self.world.void(&settlement, leg, number);
            self.world.advance(Facts { voids: vec![void], ..Facts::default() }, vec![]);
        }
    }

    /// Something that is not so. A proposer leaves it out; a body that holds it is invalid.
    fn forge(&mut self, rollup: u64, how: u8) {
        let world = &self.world;
        let chain = &world.chains[&rollup];
        let mut lie = chain.head(Level::Executed, chain.number(), world.incarnation(rollup));
        lie.number += 1;
        lie.block_hash.0[0] ^= 1;
        let mut facts = Facts::default();
        match how {
            // f validators, then f + 1, lie together.
            0 => facts.heads.push(world.sign(lie, &[2])),
            1 => facts.heads.push(world.sign(lie, &[1, 2])),
            // One liar signs in the names of three.
            2 => {
                let mut forged = world.sign(lie, &[0, 1, 2]);
                forged.signatures[0].signature = forged.signatures[2].signature;
                forged.signatures[1].signature = forged.signatures[2].signature;
                facts.heads.push(forged);
            }
            // A next incarnation without a reason.
            3 => {
                // After an unseen reorganization there may be one.
                if world.rollup(rollup).latest.iter().flatten().any(|latest| *latest >= lie.number) {
                    return;
                }
                lie.incarnation += 1;
                facts.heads.push(world.sign(lie, &[0, 1, 2]));
            }
            // A leg that stands prepared in a block that nobody certified.
            _ => {
                let Some(settlement) = self.any_settlement(how) else { return };
                let Some((leg, shown)) = world.legs(&settlement, rollup).first().copied() else { return };
                let Some(number) = world.rollup(rollup).latest[0].filter(|number| *number <= chain.number()) else {
                    return;
                };
                let mut state = chain.blocks[number as usize].clone();
                state.1.escrow.legs.insert((settlement, leg), LegStatus::Prepared);
                if state.1.escrow.legs == chain.blocks[number as usize].1.escrow.legs {
                    return;
                }
                let subject = Subject::Leg { settlement, leg };
                let chain = self.world.chains.get_mut(&rollup).expect("it has a chain");
                let truth = std::mem::replace(&mut chain.blocks[number as usize], state);
                let mut forged = chain.observe(Level::Executed, number, escrow_of(rollup), [subject]);
                self.world.chains.get_mut(&rollup).expect("it has a chain").blocks[number as usize] = truth;
                if how == 5 {
                    // Under the true account, with the storage of the lie.
                    forged.account_proof = self.world.chains[&rollup]
                        .observe(Level::Executed, number, shown.escrow, [subject])
                        .account_proof;
                }
                facts.observations.push(forged);
            }
        }
        let body = Body { heads: facts.heads.clone(), observations: facts.observations.clone(), ..Body::default() };
        let verdict = self.world.network.apply(body);
        assert!(matches!(verdict, Err(Invalid::Fact { .. } | Invalid::Signature)), "{how}: {verdict:?}");
        self.refused += 1;
        // Whoever proposes has checked signatures; the rest is left out by the transition.
        facts.heads.retain(|head| head.head.incarnation != self.world.incarnation(rollup));
        let block = self.world.advance(facts, vec![]);
        assert!(block.body.heads.is_empty() && block.body.observations.is_empty(), "{how}");
    }

    fn note(&mut self, block: &Block) {
        let height = block.header.height;
        let mut lanes: BTreeMap<SettlementId, BTreeSet<u64>> = BTreeMap::new();
        for (rollup, decisions) in &block.outcome.decisions {
            for decided in decisions {
                let (outcome, at) = *self.decided.entry(decided.settlement).or_insert((decided.outcome, height));
                assert_eq!((outcome, at), (decided.outcome, height), "S1: a settlement was decided twice");
                assert!(lanes.entry(decided.settlement).or_default().insert(rollup.0), "S1: twice in one lane");
            }
        }
        for (settlement, lanes) in lanes {
            let legs = &self.world.intents[&settlement].transfer.legs;
            let touched: BTreeSet<u64> = legs.iter().map(|leg| leg.rollup.0).collect();
            assert_eq!(lanes, touched, "a decision is in every lane that it touches");
        }
        for (_, report) in &block.outcome.reports {
            if let Event::Decided { settlement, decision, .. } = report.event {
                assert_eq!(self.reported.insert(settlement, decision), None, "S1: reported twice");
            }
        }
    }

    /// Everything that was decided is applied and shown, and shortfalls are covered.
    pub(crate) fn settle_down(&mut self, check: &mut impl FnMut(&Self)) {
        self.step(&Action::Pass { heights: 31 }, check);
        for round in 0..3 {
            for place in 0..3 {
                self.step(&Action::Relay { rollup: place, most: u8::MAX }, check);
                if round == 1 {
                    self.step(&Action::Cover { rollup: place }, check);
                }
                // A rollup that was reorganized to a shorter history says nothing until it has outgrown the other.
                for _ in 0..8 {
                    self.step(&Action::Relay { rollup: place, most: u8::MAX }, check);
                }
                for _ in 0..3 {
                    self.step(&Action::Show { rollup: place, level: 1 }, check);
                }
            }
        }
    }

    pub(crate) fn decision(&self, settlement: &SettlementId) -> Option<u8> {
        self.decided.get(settlement).map(|(outcome, _)| *outcome)
    }

    pub(crate) fn status(&self, settlement: &SettlementId, leg: u8) -> LegStatus {
        let rollup = self.world.intents[settlement].transfer.legs[usize::from(leg)].rollup.0;
        self.world.chains[&rollup].tip().escrow.status(*settlement, leg)
    }

    /// Margin that traders can use, over all venues.
    pub(crate) fn free(&self) -> u128 {
        self.world.chains.values().map(|chain| chain.tip().escrow.free_total(asset())).sum()
    }

    pub(crate) fn owed(&self) -> u128 {
        self.world.chains.values().map(|chain| chain.tip().escrow.owed_total(asset())).sum()
    }

    /// The state that the log's bodies lead to, from nothing.
    pub(crate) fn replayed(&self) -> BTreeMap<Key, [u8; 256]> {
        let mut network = Network::from_genesis(self.world.network.genesis.clone());
        for block in &self.world.blocks {
            let outcome = network.apply(block.body.clone()).expect("what was final is valid");
            assert_eq!(outcome, block.outcome);
            network.state.extend(outcome.writes);
            network.parent = block.header.clone();
        }
        network.state
    }

    pub(crate) fn window_after(deadline: Height) -> u64 {
        deadline.0 + WINDOW
    }
}
