//! Rollups in memory beside a log that settles between them: see `chain.rs` for one of them.
//!
//! Heads, proofs and signatures are real; only blocks of rollups and their virtual machine are not.

use std::collections::BTreeMap;

use lockstep_protocol::{
    body::Facts,
    bundle::{Bundle, Kind, SignedBundle},
    genesis::{Genesis, Rules},
    ids::{Account, Address20, Hash32, Height, RollupId, SettlementId},
    settlement::{
        Head, HeadAttestation, HeadCertificate, Intent, LaneDecision, Level, MarginTransfer, Observation,
        SettlementLeg, Side, Subject, Void,
        config::{Asset, Corridor, Participant, SettlementConfig},
        decision,
        head::Ed25519Bytes,
        records::{
            ExposurePage, InFlightRecord, RollupRecord, SettlementRecord, exposure_key, in_flight_key, rollup_key,
            settlement_key,
        },
    },
    signature::{AccountKey, Signature},
    state::Stored,
};

pub(crate) use super::chain::{Chain, State, asset, escrow_of, hub_of};
use crate::fixture::{Block, Network, genesis, key, leg};

pub(crate) const WINDOW: u64 = 40;
pub(crate) const CORRIDOR_CAP: u128 = 1_000;
pub(crate) const ACCOUNT_CAP: u128 = 700;
/// What each trader has at each venue, and each venue in its pool.
pub(crate) const MARGIN: u128 = 2_000;
const TRADERS: u8 = 3;

/// A trader's address at every venue.
pub(crate) fn trader(index: u8) -> Address20 {
    Address20([index + 1; 20])
}

/// Validators' keys, in the order of the genesis.
pub(crate) fn validators() -> Vec<AccountKey> {
    let mut keys: Vec<_> = (0..4).map(|seed| AccountKey::ed25519([0x51 + seed; 32])).collect();
    keys.sort_by_key(AccountKey::account);
    keys
}

fn public(key: &AccountKey) -> Hash32 {
    match key.account() {
        Account::Ed25519(public) => public,
        Account::Secp256k1(_) => panic!("validators have ed25519 keys"),
    }
}

pub(crate) fn settlement_genesis(rollups: &[u64]) -> Genesis {
    let mut genesis = genesis("lockstep-settlement-1", TRADERS, 1 << 40, rollups);
    genesis.validators = validators().iter().map(public).collect();
    for rollup in &mut genesis.rollups {
        rollup.settlement = Some(Participant {
            hub: hub_of(rollup.id.0),
            escrows: vec![escrow_of(rollup.id.0)],
            settled_level: Level::Executed,
        });
        rollup.posters = vec![key(0).account()];
    }
    let mut corridors = Vec::new();
    for from in rollups {
        for to in rollups.iter().filter(|to| *to != from) {
            let (from, to) = (RollupId(*from), RollupId(*to));
            corridors.push(Corridor { from, to, asset: asset(), cap: CORRIDOR_CAP });
        }
    }
    genesis.settlement = Some(SettlementConfig {
        apply_window: WINDOW,
        assets: vec![Asset { asset: asset(), account_cap: ACCOUNT_CAP }],
        corridors,
    });
    genesis
}

/// Margin of all traders, and a pool.
fn first_state() -> State {
    let mut state = State::default();
    for index in 0..TRADERS {
        state.escrow.fund(trader(index), asset(), MARGIN);
    }
    state.escrow.stock(asset(), MARGIN);
    state
}

/// The log and its rollups.
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) chains: BTreeMap<u64, Chain>,
    /// Every settlement that anybody signed.
    pub(crate) intents: BTreeMap<SettlementId, Intent>,
    /// What the log has decided in each lane.
    pub(crate) decisions: BTreeMap<RollupId, Vec<LaneDecision>>,
    /// Every block, as bytes and what it did.
    pub(crate) blocks: Vec<Block>,
    pub(crate) nonces: BTreeMap<u8, u64>,
}

impl World {
    pub(crate) fn new(rollups: &[u64]) -> Self {
        Self::from_genesis(settlement_genesis(rollups))
    }

    /// A log whose first blocks have funded the accounts and seen every rollup.
    pub(crate) fn from_genesis(genesis: Genesis) -> Self {
        let rollups: Vec<_> = genesis.rollups.iter().map(|rollup| rollup.id.0).collect();
        Self::from_genesis_of(genesis, &rollups)
    }

    /// Of these of its rollups.
    pub(crate) fn from_genesis_of(genesis: Genesis, rollups: &[u64]) -> Self {
        let rollups: Vec<_> = rollups.iter().map(|rollup| RollupId(*rollup)).collect();
        let mut world = Self {
            network: Network::from_genesis(genesis),
            chains: rollups.iter().map(|id| (id.0, Chain::new(*id, first_state()))).collect(),
            intents: BTreeMap::new(),
            decisions: BTreeMap::new(),
            blocks: Vec::new(),
            nonces: BTreeMap::new(),
        };
        world.advance(Facts::default(), vec![]);
        for rollup in rollups {
            world.chains.get_mut(&rollup.0).expect("it has a chain").mine(|_| {});
            let head = world.certify(rollup.0, Level::Executed);
            world.advance(Facts { heads: vec![head], ..Facts::default() }, vec![]);
        }
        world
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.network.rules
    }

    pub(crate) fn advance(&mut self, facts: Facts, bundles: Vec<SignedBundle>) -> Block {
        let before = self.network.record_leaves();
        let block = self.network.advance_with(facts, vec![], bundles);
        for (rollup, decisions) in &block.outcome.decisions {
            self.decisions.entry(*rollup).or_default().extend(decisions.iter().cloned());
        }
        for leaf in &block.outcome.leaves {
            let new = block.outcome.decisions.get(&leaf.rollup).cloned().unwrap_or_default();
            let (sequence, chain) = before.get(&leaf.rollup).copied().unwrap_or_default();
            let range = decision::DecisionRange { rollup: leaf.rollup, sequence, chain, decisions: new };
            range.verify(leaf).expect("what was decided leads to the leaf");
        }
        self.blocks.push(block.clone());
        block
    }

    /// Heights pass.
    pub(crate) fn pass(&mut self, heights: u64) {
        for _ in 0..heights {
            self.advance(Facts::default(), vec![]);
        }
    }

    pub(crate) fn incarnation(&self, rollup: u64) -> u32 {
        self.rollup(rollup).incarnation
    }

    pub(crate) fn rollup(&self, rollup: u64) -> RollupRecord {
        self.network.record(&rollup_key(RollupId(rollup))).unwrap_or_default()
    }

    pub(crate) fn settlement(&self, settlement: &SettlementId) -> Option<SettlementRecord> {
        self.network.record(&settlement_key(settlement))
    }

    pub(crate) fn in_flight(&self, account: &Account) -> InFlightRecord {
        self.network.record(&in_flight_key(account)).unwrap_or_default()
    }

    pub(crate) fn under_way(&self, corridor: usize) -> u128 {
        let page = self.network.record::<ExposurePage>(&exposure_key(corridor / 15)).unwrap_or_default();
        page.under_way[corridor % 15]
    }

    /// A head with the signatures of some validators, whatever it says.
    pub(crate) fn sign(&self, head: Head, signers: &[u8]) -> HeadCertificate {
        let attestations: Vec<_> = signers.iter().map(|signer| self.attest(head, *signer)).collect();
        let signatures = attestations
            .iter()
            .map(|attestation| lockstep_protocol::settlement::head::HeadSignature {
                validator: attestation.validator,
                signature: attestation.signature,
            })
            .collect();
        HeadCertificate { head, signatures }
    }

    pub(crate) fn attest(&self, head: Head, signer: u8) -> HeadAttestation {
        let keys = validators();
        let key = &keys[usize::from(signer)];
        let signature = match key.sign(&head.digest(self.rules().network, &public(key)).0) {
            Signature::Ed25519(bytes) => Ed25519Bytes(bytes),
            Signature::Secp256k1(_) => panic!("validators have ed25519 keys"),
        };
        HeadAttestation { head, validator: signer, signature }
    }

    /// What three honest validators say of a rollup's latest block.
    pub(crate) fn certify(&self, rollup: u64, level: Level) -> HeadCertificate {
        let chain = &self.chains[&rollup];
        self.sign(chain.head(level, chain.number(), self.incarnation(rollup)), &[0, 1, 3])
    }

    /// What honest validators say after a reorganization: the lowest number that the log remembers differently.
    pub(crate) fn certify_reorg(&self, rollup: u64) -> Option<HeadCertificate> {
        use lockstep_protocol::settlement::records::{HeadRecord, head_key};
        let chain = &self.chains[&rollup];
        let incarnation = self.incarnation(rollup);
        let differs = (0..=chain.number()).find(|number| {
            Level::ALL.iter().any(|level| {
                let known = self.network.record::<HeadRecord>(&head_key(chain.id, *level, *number));
                known.is_some_and(|known| {
                    known.head.number == *number
                        && known.head.incarnation == incarnation
                        && known.head.block_hash != chain.blocks[*number as usize].0
                })
            })
        });
        differs.map(|number| self.sign(chain.head(Level::Executed, number, incarnation + 1), &[1, 2, 3]))
    }

    /// What honest validators say of a rollup now, if they may say anything: see the observer's rules in the documentation.
    pub(crate) fn honest_head(&self, rollup: u64, level: Level) -> Option<HeadCertificate> {
        if let Some(reorg) = self.certify_reorg(rollup) {
            return Some(reorg);
        }
        let (record, number) = (self.rollup(rollup), self.chains[&rollup].number());
        let gone = record.latest.iter().flatten().any(|latest| *latest > number);
        let said = record.latest[level as usize] == Some(number);
        (!gone && !said).then(|| self.certify(rollup, level))
    }

    pub(crate) fn next_nonce(&mut self, account: u8) -> u64 {
        let nonce = self.nonces.entry(account).or_default();
        *nonce += 1;
        *nonce - 1
    }

    /// A transfer of a trader's margin, signed; its deadline in heights from the next block.
    pub(crate) fn transfer(&mut self, who: u8, from: u64, to: u64, amount: u128, heights: u64) -> SignedBundle {
        let nonce = self.next_nonce(who);
        let deadline = Height(self.network.next().0 + heights);
        let transfer = MarginTransfer { legs: vec![debit(who, from, amount), credit(who, to, amount)], deadline };
        self.settle(who, nonce, transfer)
    }

    pub(crate) fn settle(&mut self, who: u8, nonce: u64, transfer: MarginTransfer) -> SignedBundle {
        let mut rollups: Vec<_> = transfer.legs.iter().map(|leg| leg.rollup.0).collect();
        rollups.sort_unstable();
        rollups.dedup();
        let bundle = Bundle {
            legs: rollups.iter().map(|rollup| leg(*rollup, &[b"prepare"])).collect(),
            kind: Kind::Settlement(transfer.clone()),
            ..self.network.bundle(who, nonce, &[])
        };
        let intent = Intent { account: key(who).account(), nonce, transfer };
        let settlement = bundle.settlement().expect("it is one");
        assert_eq!(settlement, intent.sid(self.rules().network));
        self.intents.insert(settlement, intent);
        bundle.sign(&key(who))
    }

    /// The legs of a settlement on a rollup.
    pub(crate) fn legs(&self, settlement: &SettlementId, rollup: u64) -> Vec<(u8, SettlementLeg)> {
        let legs = self.intents[settlement].transfer.legs.iter().copied();
        (0..).zip(legs).filter(|(_, leg)| leg.rollup.0 == rollup).collect()
    }

    /// A block of a rollup that executes the prepare transactions of a settlement.
    pub(crate) fn prepare(&mut self, settlement: &SettlementId, rollup: u64) {
        let legs = self.legs(settlement, rollup);
        let chain = self.chains.get_mut(&rollup).expect("it has a chain");
        chain.mine(|state| {
            for (index, leg) in &legs {
                // A prepare that comes twice, or too late, reverts.
                let _ = state.escrow.prepare(*settlement, *index, leg);
            }
        });
    }

    /// A block of a rollup that applies decisions of its lane, `most` of them, in their order.
    pub(crate) fn relay(&mut self, rollup: u64, most: usize) {
        let id = RollupId(rollup);
        let decisions = self.decisions.get(&id).cloned().unwrap_or_default();
        let intents = &self.intents;
        let chain = self.chains.get_mut(&rollup).expect("it has a chain");
        chain.mine(|state| {
            for decided in decisions.iter().skip(state.applied).take(most) {
                for place in &decided.legs {
                    assert_eq!(place.escrow, escrow_of(rollup));
                    let leg = intents[&decided.settlement].transfer.legs[usize::from(place.index)];
                    let result = match decided.outcome {
                        1 => state.escrow.commit(decided.settlement, place.index, &leg),
                        _ => state.escrow.release(decided.settlement, place.index, &leg),
                    };
                    result.expect("a decision never contradicts what a leg came to");
                }
                state.applied += 1;
                state.chain = decision::chain(state.chain, decided.settlement, decided.outcome);
            }
        });
    }

    /// Every leg that a rollup's escrow knows, shown at a head that the log has.
    pub(crate) fn observe_all(&self, rollup: u64, level: Level, number: u64) -> Option<Observation> {
        let chain = &self.chains[&rollup];
        let known = chain.blocks.get(number as usize)?.1.escrow.legs.keys();
        let subjects: Vec<_> =
            known.map(|(settlement, leg)| Subject::Leg { settlement: *settlement, leg: *leg }).collect();
        (!subjects.is_empty()).then(|| chain.observe(level, number, escrow_of(rollup), subjects))
    }

    /// The latest block of a rollup is certified, and all its legs are shown.
    pub(crate) fn show(&mut self, rollup: u64) -> Block {
        self.show_at(rollup, Level::Executed)
    }

    pub(crate) fn show_at(&mut self, rollup: u64, level: Level) -> Block {
        let head = self.honest_head(rollup, level);
        let shown =
            head.as_ref().map_or_else(|| self.rollup(rollup).latest[level as usize], |head| Some(head.head.number));
        let observations = shown.and_then(|number| self.observe_all(rollup, level, number)).into_iter().collect();
        self.advance(Facts { heads: head.into_iter().collect(), observations, ..Facts::default() }, vec![])
    }

    /// The proof that a leg stands at a rollup's latest certified block.
    pub(crate) fn void(&self, settlement: &SettlementId, leg: u8, number: u64) -> Void {
        let intent = self.intents[settlement].clone();
        let shown = intent.transfer.legs[usize::from(leg)];
        let subject = Subject::Leg { settlement: *settlement, leg };
        let observation = self.chains[&shown.rollup.0].observe(Level::Executed, number, shown.escrow, [subject]);
        let proof = observation.claims[0].proof.clone();
        Void { intent, leg, level: Level::Executed, number, account_proof: observation.account_proof, proof }
    }
}

impl Network {
    /// Decisions and their chain, of each lane.
    fn record_leaves(&self) -> BTreeMap<RollupId, (u64, Hash32)> {
        use lockstep_protocol::state::{LaneRecord, lane_key};
        let lanes = self.rules.rollups.keys().filter_map(|rollup| {
            let record = self.state.get(&lane_key(*rollup))?;
            let leaf = LaneRecord::from_record(record).expect("records are readable").leaf;
            Some((*rollup, (leaf.decision_sequence, leaf.decisions)))
        });
        lanes.collect()
    }
}

pub(crate) fn debit(who: u8, rollup: u64, amount: u128) -> SettlementLeg {
    SettlementLeg {
        rollup: RollupId(rollup),
        escrow: escrow_of(rollup),
        account: trader(who),
        asset: asset(),
        side: Side::Debit,
        amount,
        level: Level::Executed,
    }
}

pub(crate) fn credit(who: u8, rollup: u64, amount: u128) -> SettlementLeg {
    SettlementLeg { side: Side::Credit, ..debit(who, rollup, amount) }
}
