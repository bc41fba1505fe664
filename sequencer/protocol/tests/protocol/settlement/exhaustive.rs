//! Two rollups, three settlements, one reorganization, one liar: does any interleaving break a promise?
//!
//! Explores every reachable state of the coordinator's machine beside the model of the contracts' legs, without amounts,
//! proofs and heights. To one settlement everything may happen at any moment: refusal, abort, deadline, window, shortfall, and
//! evidence that comes late, twice or never. The other two go their way beside it, over deadlines and the reorganization.
//! States are compared in a canonical form in which these two are in one order.

use std::collections::BTreeSet;

use lockstep_protocol::{
    ids::Height,
    settlement::{
        AbortReason, Decision, LegStatus, Level,
        machine::{Effect, Fact, Ground, Grounds},
        records::{LegRecord, RollupRecord, Seen, SettlementRecord},
    },
};

use super::world::World;
use crate::fixture::key;

const SETTLEMENTS: usize = 3;
/// Two legs: settlement `n` debits on rollup 0 and credits on rollup 1.
const LEGS: usize = 2;
/// What the exploration comes to; a change of the machine or of the model changes it.
const STATES: usize = 1_512_439;
/// Stops an exploration that a change has made endless.
const STATES_MAX: usize = 3_000_000;

#[derive(Clone)]
struct State {
    records: [Option<SettlementRecord>; SETTLEMENTS],
    rollups: [RollupRecord; LEGS],
    /// Each leg in its escrow.
    legs: [[LegStatus; LEGS]; SETTLEMENTS],
    /// Rollup 0 as the log still sees it, between a reorganization and the head that tells of it.
    before: Option<[LegStatus; SETTLEMENTS]>,
    reorganized: bool,
    asked: [bool; SETTLEMENTS],
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Order(usize),
    Prepare(usize, usize),
    Refuse(usize, usize),
    /// A claim about the leg as it stands, at a head that the log has.
    Show(usize, usize),
    /// A claim about a leg of rollup 0 at a head of the history that was left.
    ShowBefore(usize),
    Expire(usize),
    Abort(usize),
    /// The window ends.
    Ask(usize),
    Apply(usize, usize),
    /// A redone debit finds too little.
    Short(usize),
    Cover(usize),
    Reorganize,
    /// Heads of the new history are certified.
    Tell,
}

impl State {
    fn first() -> Self {
        Self {
            records: [const { None }; SETTLEMENTS],
            rollups: [RollupRecord::default(); LEGS],
            legs: [[LegStatus::None; LEGS]; SETTLEMENTS],
            before: None,
            reorganized: false,
            asked: [false; SETTLEMENTS],
        }
    }

    /// What makes a difference, with like settlements in one order.
    fn canonical(&self) -> [u8; 16] {
        let mut each: Vec<Vec<u8>> = (0..SETTLEMENTS)
            .map(|number| {
                let mut bytes: Vec<u8> = self.legs[number].iter().map(|status| *status as u8).collect();
                bytes.push(self.before.map_or(9, |before| before[number] as u8));
                bytes.push(u8::from(self.asked[number]));
                if let Some(record) = &self.records[number] {
                    bytes.extend([record.late, u8::from(record.settled)]);
                    bytes.push(record.decided.map_or(0, |decided| decided.decision.outcome()));
                    bytes.extend(record.legs.iter().flat_map(|leg| [leg.seen as u8, leg.incarnation as u8]));
                }
                bytes
            })
            .collect();
        each[1..].sort();
        let mut bytes = vec![u8::from(self.reorganized), self.rollups[0].incarnation as u8];
        // Counters follow from the records: see `check`.
        bytes.extend(each.into_iter().flatten());
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        digest
    }

    fn grounds(&self) -> Grounds {
        let ground = |record| Ground { record, settled_level: Level::Executed };
        (0..).zip(self.rollups.map(ground)).collect()
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for number in 0..SETTLEMENTS {
            let decided =
                self.records[number].as_ref().and_then(|record| record.decided).map(|decided| decided.decision);
            match &self.records[number] {
                None => steps.push(Step::Order(number)),
                Some(_) if number > 0 => steps.extend(decided.is_none().then_some(Step::Expire(number))),
                Some(_) if decided.is_none() => steps.extend([Step::Expire(number), Step::Abort(number)]),
                Some(_) if !self.asked[number] => steps.push(Step::Ask(number)),
                Some(_) => {}
            }
            if number > 0 {
                self.calm_steps(number, &mut steps);
                continue;
            }
            for leg in 0..LEGS {
                let status = self.legs[number][leg];
                if status == LegStatus::None {
                    steps.extend([Step::Prepare(number, leg), Step::Refuse(number, leg)]);
                }
                if self.records[number].is_some() {
                    steps.push(Step::Show(number, leg));
                }
                let open = matches!(status, LegStatus::None | LegStatus::Prepared | LegStatus::Refused);
                if decided.is_some() && open {
                    steps.push(Step::Apply(number, leg));
                }
            }
            let redone = matches!(self.legs[number][0], LegStatus::None | LegStatus::Refused);
            if decided == Some(Decision::Commit) && redone {
                steps.push(Step::Short(number));
            }
            if self.legs[number][0] == LegStatus::Shortfall {
                steps.push(Step::Cover(number));
            }
            if self.before.is_some() && self.records[number].is_some() {
                steps.push(Step::ShowBefore(number));
            }
        }
        if !self.reorganized {
            steps.push(Step::Reorganize);
        }
        if self.before.is_some() {
            steps.push(Step::Tell);
        }
        steps
    }

    /// Nothing goes wrong with the others but deadlines and the reorganization, and what happens to them is shown at once.
    fn calm_steps(&self, number: usize, steps: &mut Vec<Step>) {
        let Some(record) = &self.records[number] else { return };
        for (leg, status) in self.legs[number].into_iter().enumerate() {
            match status {
                LegStatus::None if record.decided.is_none() => steps.push(Step::Prepare(number, leg)),
                LegStatus::None | LegStatus::Prepared if record.decided.is_some() => {
                    steps.push(Step::Apply(number, leg));
                }
                _ => {}
            }
            if record.legs[leg].incarnation != self.rollups[leg].incarnation {
                steps.push(Step::Show(number, leg));
            }
        }
        if self.before.is_some() {
            steps.push(Step::ShowBefore(number));
        }
    }

    fn take(&mut self, step: Step) {
        self.take_alone(step);
        if let Step::Prepare(number @ 1.., leg) | Step::Apply(number @ 1.., leg) = step {
            self.take_alone(Step::Show(number, leg));
        }
    }

    fn take_alone(&mut self, step: Step) {
        match step {
            Step::Order(number) => {
                let leg = |rollup| LegRecord {
                    rollup,
                    escrow: 0,
                    level: Level::Executed,
                    seen: Seen::Nothing,
                    incarnation: 0,
                };
                self.records[number] = Some(SettlementRecord {
                    account: key(0).account(),
                    nonce: number as u64,
                    deadline: Height(100),
                    decided: None,
                    settled: false,
                    late: 0,
                    legs: vec![leg(0), leg(1)],
                    flows: vec![],
                });
            }
            Step::Prepare(number, leg) => self.legs[number][leg] = LegStatus::Prepared,
            Step::Refuse(number, leg) => self.legs[number][leg] = LegStatus::Refused,
            Step::Show(number, leg) => {
                // Nobody certifies the new history before telling that the old one was left.
                if leg == 0 && self.before.is_some() {
                    return;
                }
                self.show(number, leg, self.legs[number][leg]);
            }
            Step::ShowBefore(number) => {
                let before = self.before.expect("the log does not know yet");
                self.show(number, 0, before[number]);
            }
            Step::Expire(number) => {
                let effect = self.records[number].as_ref().and_then(SettlementRecord::expire);
                self.carry_out(number, effect.expect("it is open"));
            }
            Step::Abort(number) => self.carry_out(number, Effect::Decide(Decision::Abort(AbortReason::Cancelled))),
            Step::Ask(number) => {
                self.asked[number] = true;
                let mut grounds = self.grounds();
                self.records[number].as_mut().expect("it was ordered").mark_late(&mut grounds);
                self.keep(&grounds);
            }
            Step::Apply(number, leg) => {
                let decided = self.records[number].as_ref().and_then(|record| record.decided).expect("it is decided");
                let commit = decided.decision == Decision::Commit;
                self.legs[number][leg] = if commit { LegStatus::Committed } else { LegStatus::Released };
            }
            Step::Short(number) => self.legs[number][0] = LegStatus::Shortfall,
            Step::Cover(number) => self.legs[number][0] = LegStatus::Committed,
            Step::Reorganize => {
                self.reorganized = true;
                self.before = Some(self.legs.map(|legs| legs[0]));
                self.legs.iter_mut().for_each(|legs| legs[0] = LegStatus::None);
            }
            Step::Tell => {
                self.before = None;
                self.rollups[0].incarnation += 1;
            }
        }
    }

    fn show(&mut self, number: usize, leg: usize, status: LegStatus) {
        let mut grounds = self.grounds();
        let record = self.records[number].as_mut().expect("it was ordered");
        let untouched = record.clone();
        let fact = Fact { leg, status, level: Level::Executed };
        match record.observe(fact, &mut grounds) {
            Ok(effect) => {
                self.keep(&grounds);
                self.carry_out(number, effect);
            }
            Err(_) => assert_eq!(*record, untouched),
        }
    }

    fn carry_out(&mut self, number: usize, effect: Effect) {
        let record = self.records[number].as_mut().expect("it was ordered");
        match effect {
            Effect::Decide(decision) => {
                if decision == Decision::Commit {
                    let stands = |leg: &LegRecord| {
                        leg.seen == Seen::Prepared
                            && leg.incarnation == self.rollups[usize::from(leg.rollup)].incarnation
                    };
                    assert!(record.legs.iter().all(stands), "S2");
                }
                // Panics where one is decided: S1.
                record.decide(decision, Height(7));
            }
            Effect::Settled => assert!(record.legs.iter().all(|leg| leg.seen == Seen::Applied)),
            Effect::Noted => {}
        }
    }

    fn keep(&mut self, grounds: &Grounds) {
        self.rollups = [grounds[&0].record, grounds[&1].record];
    }

    fn check(&self) {
        for (record, legs) in self.records.iter().zip(&self.legs) {
            let taken = legs.iter().any(|leg| matches!(leg, LegStatus::Committed | LegStatus::Shortfall));
            assert!(!(taken && legs.contains(&LegStatus::Released)), "S3: {legs:?}");
            let outcome = record.as_ref().and_then(|record| record.decided).map(|decided| decided.decision.outcome());
            assert!(!taken || outcome == Some(1), "S8");
            assert!(!legs.contains(&LegStatus::Released) || outcome == Some(2), "S8");
        }
        for leg in 0..LEGS {
            let records = || self.records.iter().flatten();
            let late = records().filter(|record| record.late & (1 << leg) != 0).count();
            let short = records().filter(|record| record.legs[leg].seen == Seen::Shortfall).count();
            let rollup = self.rollups[leg];
            assert_eq!((rollup.late as usize, rollup.shortfalls as usize), (late, short));
        }
    }

    /// Whatever has happened: if rollups and relayers go on, everything is settled and nothing is owed.
    fn check_settles(mut self) {
        if self.before.is_some() {
            self.take(Step::Tell);
        }
        for number in (0..SETTLEMENTS).filter(|number| self.records[*number].is_some()).collect::<Vec<_>>() {
            if self.records[number].as_ref().is_some_and(|record| record.decided.is_none()) {
                self.take(Step::Expire(number));
            }
            for leg in 0..LEGS {
                match self.legs[number][leg] {
                    LegStatus::Shortfall => self.take(Step::Cover(number)),
                    LegStatus::Committed | LegStatus::Released => {}
                    _ => self.take(Step::Apply(number, leg)),
                }
                self.take(Step::Show(number, leg));
            }
            assert!(self.records[number].as_ref().is_some_and(|record| record.settled), "L2");
        }
        self.check();
        assert_eq!([self.rollups[0].late, self.rollups[1].late, self.rollups[0].shortfalls], [0; 3]);
    }
}

#[test]
fn no_interleaving_of_three_settlements_and_a_reorganization_breaks_a_promise() {
    let mut known = BTreeSet::from([State::first().canonical()]);
    let mut open = vec![State::first()];
    let mut transitions = 0_u64;
    while let Some(state) = open.pop() {
        state.check();
        for step in state.steps() {
            let mut next = state.clone();
            next.take(step);
            transitions += 1;
            assert!(known.len() < STATES_MAX, "too many states");
            if known.insert(next.canonical()) {
                next.clone().check_settles();
                open.push(next);
            }
        }
    }
    assert_eq!(known.len(), STATES, "after {transitions} transitions");
}

/// The liar's part: whatever it signs alone, or in other names, is no head. So the exploration needs no step for it.
#[test]
fn one_liar_makes_no_head() {
    let mut world = World::new(&[10, 901]);
    let chain = &world.chains[&10];
    let mut lie = chain.head(Level::Executed, chain.number(), 0);
    lie.number += 1;
    lie.state_root.0[0] ^= 1;
    for impersonated in 0_u8..16 {
        let signers: Vec<u8> = (0..4).filter(|signer| impersonated & (1 << signer) != 0).collect();
        let mut certificate = world.sign(lie, &signers);
        let own = world.attest(lie, 2).signature;
        certificate.signatures.iter_mut().for_each(|signature| signature.signature = own);
        let body = lockstep_protocol::body::Body { heads: vec![certificate], ..Default::default() };
        assert!(world.network.apply(body).is_err(), "{signers:?}");
    }
    world.chains.get_mut(&10).expect("it has a chain").mine(|_| {});
    assert_eq!(world.show(10).body.heads.len(), 1, "the truth is taken");
}
