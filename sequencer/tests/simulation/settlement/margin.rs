//! Who moves margin, who watches the rollups, and who carries decisions to them?
//!
//! Traders, validators' observers and a relayer around a simulated network, and the rollups themselves. What they send goes
//! through validators' pools, fact pools and gossip like anybody's. After every step the promises are checked.

use std::{collections::BTreeMap, time::Duration};

use lockstep_consensus::simulate::City;
use lockstep_protocol::{
    bundle::{Bundle, Kind, Leg, SignedBundle, Tag, Transaction},
    certificate::Verifier,
    genesis::{Balance, Format, Genesis, GroupKeyBytes, Rollup as Registered},
    ids::{Account, Address20, Hash32, Height, RollupId, SettlementId},
    lane::LaneLeaf,
    refusal::Refusal,
    settlement::{
        Decision, Intent, Level, MarginTransfer, SettlementLeg, Side,
        config::{Asset, Corridor, Participant, SettlementConfig},
    },
    signature::AccountKey,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use secp256k1::SecretKey;

use super::{
    chain::{State, asset, escrow_of, hub_of},
    observer::Observer,
    promises::{Promises, Rollups},
    relayer::Relayer,
    rollup::{Call, Rollup},
};
use crate::network::{Network, ROLLUPS, Shared, VALIDATORS};

/// What each trader has at each venue.
pub(crate) const MARGIN: u128 = 5_000;
/// What each venue can credit.
pub(crate) const INVENTORY: u128 = 20_000;
pub(crate) const CORRIDOR_CAP: u128 = 10_000;
pub(crate) const ACCOUNT_CAP: u128 = 6_000;
/// Heights after a deadline by which decisions are to be applied.
pub(crate) const WINDOW: u64 = 60;
/// Who may go first, within a share.
pub(crate) const LIQUIDATOR: u16 = 60_000;
const LIQUIDATION_BYTES: u64 = 2_000;
/// Who carries decisions, one after the other.
const RELAYERS: [u16; 2] = [60_001, 60_002];
const CREDITS: u64 = 50_000_000;
const MAX_FEE: u64 = 200_000;
/// Simulated time between two looks.
const TICK: Duration = Duration::from_millis(50);
/// Heights after which what was not ordered is sent again.
const RETRY_HEIGHTS: u64 = 24;

pub(crate) struct Margin {
    pub(crate) rollups: Rollups,
    pub(crate) observers: Vec<Observer>,
    pub(crate) relayer: Relayer,
    pub(crate) promises: Promises,
    pub(crate) rng: StdRng,
    nonces: BTreeMap<u16, u64>,
    /// What was sent, by whom, and when last.
    sent: BTreeMap<SettlementId, (SignedBundle, u64)>,
}

/// A key of a trader, liquidator or relayer: it signs for the account and for the rollups.
pub(crate) fn secret(number: u16) -> SecretKey {
    let mut scalar = [0x22; 32];
    scalar[30..].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_byte_array(scalar).expect("a small scalar")
}

pub(crate) fn key(number: u16) -> AccountKey {
    AccountKey::secp256k1(secret(number).secret_bytes()).expect("a small scalar")
}

pub(crate) fn address(number: u16) -> Address20 {
    match key(number).account() {
        Account::Secp256k1(address) => address,
        Account::Ed25519(_) => unreachable!("traders have wallets"),
    }
}

/// The keys with which validators sign heads, in the order of the genesis.
pub(crate) fn head_keys() -> Vec<AccountKey> {
    let mut keys: Vec<_> = (0..VALIDATORS).map(|seed| AccountKey::ed25519([0x51 + seed as u8; 32])).collect();
    keys.sort_by_key(AccountKey::account);
    keys
}

pub(crate) fn public(key: &AccountKey) -> Hash32 {
    match key.account() {
        Account::Ed25519(public) => public,
        Account::Secp256k1(_) => unreachable!("validators have ed25519 keys"),
    }
}

/// A network whose rollups all take part.
pub(crate) fn genesis(traders: u16) -> Genesis {
    let numbers = (0..traders).chain([LIQUIDATOR]).chain(RELAYERS);
    let mut balances: Vec<_> =
        numbers.map(|number| Balance { account: key(number).account(), credits: CREDITS }).collect();
    balances.sort_by_key(|balance| balance.account);
    let rollup = |id: RollupId| {
        let mut rollup = Registered::new(id, id.to_string(), Format::Eip2718, 1);
        let escrows = vec![escrow_of(id.0)];
        rollup.settlement = Some(Participant { hub: hub_of(id.0), escrows, settled_level: Level::Executed });
        (rollup.liquidators, rollup.liquidation_bytes) = (vec![key(LIQUIDATOR).account()], LIQUIDATION_BYTES);
        rollup
    };
    let ways = ROLLUPS.into_iter().flat_map(|from| ROLLUPS.into_iter().map(move |to| (from, to)));
    let ways = ways.filter(|(from, to)| from != to);
    Genesis {
        network: "simulation".into(),
        timestamp_ms: 1_700_000_000_000,
        group_key: GroupKeyBytes([0; 96]),
        sharing: Vec::new(),
        validators: head_keys().iter().map(public).collect(),
        rollups: ROLLUPS.map(rollup).to_vec(),
        balances,
        settlement: Some(SettlementConfig {
            apply_window: WINDOW,
            assets: vec![Asset { asset: asset(), account_cap: ACCOUNT_CAP }],
            corridors: ways.map(|(from, to)| Corridor { from, to, asset: asset(), cap: CORRIDOR_CAP }).collect(),
        }),
    }
}

pub(crate) fn leg(who: u16, rollup: RollupId, side: Side, amount: u128) -> SettlementLeg {
    let (escrow, account) = (escrow_of(rollup.0), address(who));
    SettlementLeg { rollup, escrow, account, asset: asset(), side, amount, level: Level::Executed }
}

impl Margin {
    /// Rollups that begin where the log does, with margin of these traders.
    pub(crate) fn new(seed: u64, network: &Network, traders: u16) -> Self {
        let rules = network.shared.rules.clone();
        let group = GroupKeyBytes(network.simulation.group().public_key());
        let verifier = Verifier::new(rules.network, &group).expect("the group has a key");
        let mut state = State::default();
        (0..traders).for_each(|number| state.escrow.fund(address(number), asset(), MARGIN));
        state.escrow.stock(asset(), INVENTORY);
        let rollups: Rollups =
            ROLLUPS.into_iter().map(|id| (id, Rollup::new(id, verifier.clone(), state.clone()))).collect();
        Self {
            promises: Promises::new(rules.clone(), &rollups),
            rollups,
            observers: (0..VALIDATORS).map(|place| Observer::new(place, rules.network)).collect(),
            relayer: Relayer::new(RELAYERS[0]),
            rng: StdRng::seed_from_u64(seed),
            nonces: BTreeMap::new(),
            sent: BTreeMap::new(),
        }
    }

    /// Everybody does what they do once, and every promise is checked.
    pub(crate) async fn step(&mut self, city: &mut City<'_>, shared: &Shared) {
        city.sleep(TICK).await;
        {
            let ledger = shared.ledger.lock().unwrap();
            // What was certified was there before it was certified.
            self.promises.note_new(&ledger, &self.rollups);
            self.rollups.values_mut().for_each(|rollup| rollup.follow(&ledger));
        }
        self.promises.check_rollups(&self.rollups);
        for observer in &mut self.observers {
            if city.runs(observer.place()) {
                observer.look(&shared.facts(observer.place()), &mut self.rollups);
            }
        }
        let up: Vec<_> = (0..VALIDATORS).filter(|validator| city.runs(*validator)).collect();
        if let Some(validator) = up.choose(&mut self.rng).copied() {
            self.relayer.act(city, shared, validator, &self.promises, &self.rollups).await;
            self.send_again(shared, validator);
        }
    }

    pub(crate) async fn steps(&mut self, city: &mut City<'_>, shared: &Shared, count: usize) {
        for _ in 0..count {
            self.step(city, shared).await;
        }
    }

    /// Steps until something holds.
    ///
    /// # Panics
    ///
    /// If that takes more than `most` steps.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        city: &mut City<'_>,
        shared: &Shared,
        most: usize,
        mut holds: impl FnMut(&Self) -> bool,
    ) {
        for _ in 0..most {
            if holds(self) {
                return;
            }
            self.step(city, shared).await;
        }
        let open = self.promises.known.keys().map(|settlement| (settlement, self.promises.record(settlement)));
        let open: Vec<_> = open.filter(|(_, record)| record.as_ref().is_none_or(|record| !record.settled)).collect();
        panic!("{what}: not within {most} steps, at height {}: {open:#?}", shared.height());
    }

    /// Steps until heights have passed.
    pub(crate) async fn until_height(&mut self, city: &mut City<'_>, shared: &Shared, height: u64) {
        self.until("passing heights", city, shared, 2_000, |margin| margin.promises.height() >= height).await;
    }

    /// Steps until the log has heard of every rollup, so that settlements are taken.
    pub(crate) async fn begin(&mut self, city: &mut City<'_>, shared: &Shared) {
        let heard = |margin: &Self| ROLLUPS.iter().all(|id| margin.promises.rollup(*id).latest[0].is_some());
        self.until("hearing of every rollup", city, shared, 400, heard).await;
    }

    /// Steps until everything is decided, applied and seen to be, then looks at the sums of all.
    pub(crate) async fn settle(&mut self, city: &mut City<'_>, shared: &Shared) {
        self.until("settling everything", city, shared, 1_500, |margin| margin.promises.all_settled()).await;
        for (id, rollup) in &self.rollups {
            let state = rollup.chain.tip();
            let decided = self.promises.lanes.get(id).map_or(0, Vec::len);
            assert_eq!(state.applied, decided, "rollup {id} has taken every decision");
        }
    }

    /// A transfer's bundle, with the prepare transactions for both venues.
    pub(crate) fn transfer(
        &mut self,
        who: u16,
        from: RollupId,
        to: RollupId,
        amount: u128,
        heights: u64,
    ) -> SignedBundle {
        let legs = vec![leg(who, from, Side::Debit, amount), leg(who, to, Side::Credit, amount)];
        self.transfer_of(who, legs, heights)
    }

    pub(crate) fn transfer_of(&mut self, who: u16, legs: Vec<SettlementLeg>, heights: u64) -> SignedBundle {
        let deadline = Height(self.promises.height() + 1 + heights);
        let nonce = self.next_nonce(who);
        let intent = Intent { account: key(who).account(), nonce, transfer: MarginTransfer { legs, deadline } };
        let mut prepares: BTreeMap<RollupId, Vec<Transaction>> = BTreeMap::new();
        for (index, place) in (0_u8..).zip(&intent.transfer.legs) {
            let call = Call::Prepare { intent: intent.clone(), leg: index };
            prepares.entry(place.rollup).or_default().push(call.sign(place.rollup, &secret(who)));
        }
        let legs = prepares.into_iter().map(|(rollup, transactions)| Leg { rollup, transactions }).collect();
        let bundle = Bundle { kind: Kind::Settlement(intent.transfer), ..self.bundle(who, nonce, legs) };
        bundle.sign(&key(who))
    }

    /// A plain bundle of one transaction.
    pub(crate) fn call(&mut self, who: u16, rollup: RollupId, call: &Call) -> SignedBundle {
        let nonce = self.next_nonce(who);
        let legs = vec![Leg { rollup, transactions: vec![call.sign(rollup, &secret(who))] }];
        self.bundle(who, nonce, legs).sign(&key(who))
    }

    /// A plain bundle of transactions that somebody else signed.
    pub(crate) fn carry(&mut self, who: u16, legs: Vec<Leg>) -> SignedBundle {
        let nonce = self.next_nonce(who);
        self.bundle(who, nonce, legs).sign(&key(who))
    }

    fn next_nonce(&mut self, who: u16) -> u64 {
        let next = self.nonces.entry(who).or_default();
        *next += 1;
        *next - 1
    }

    fn bundle(&mut self, who: u16, nonce: u64, legs: Vec<Leg>) -> Bundle {
        Bundle {
            network: self.observers[0].network(),
            account: key(who).account(),
            nonce,
            tag: Tag(self.rng.random()),
            valid_until: Height(self.promises.height() + 2_000),
            tip: 0,
            max_fee: MAX_FEE,
            legs,
            kind: Kind::Plain,
        }
    }

    /// Hands a transfer to a validator; it is sent again until it is ordered or too late.
    pub(crate) fn send(&mut self, shared: &Shared, validator: usize, signed: SignedBundle) -> SettlementId {
        let settlement = signed.bundle.settlement().expect("it is one");
        shared.pool(validator).submit(signed.clone()).expect("it is good");
        self.sent.insert(settlement, (signed, self.promises.height()));
        settlement
    }

    fn send_again(&mut self, shared: &Shared, validator: usize) {
        let (height, promises) = (self.promises.height(), &self.promises);
        self.sent.retain(|settlement, (signed, _)| {
            let deadline = signed.bundle.transfer().expect("it is one").deadline;
            !promises.ordered.contains_key(settlement) && deadline.0 > height + 4
        });
        for (signed, last) in self.sent.values_mut().filter(|(_, last)| last.saturating_add(RETRY_HEIGHTS) <= height) {
            *last = height;
            match shared.pool(validator).submit(signed.clone()) {
                Ok(_) | Err(Refusal::NonceUsed { .. } | Refusal::BadDeadline { .. } | Refusal::NotReady { .. }) => {}
                Err(refusal) => panic!("refused when it was sent again: {refusal}"),
            }
        }
    }

    pub(crate) fn decision(&self, settlement: &SettlementId) -> Option<Decision> {
        self.promises.decision(settlement)
    }

    /// Whether all of these are decided.
    pub(crate) fn decided(&self, settlements: &[SettlementId]) -> bool {
        settlements.iter().all(|settlement| self.promises.decision(settlement).is_some())
    }

    pub(crate) fn rollup(&mut self, id: RollupId) -> &mut Rollup {
        self.rollups.get_mut(&id).expect("it has a chain")
    }

    /// Another relayer takes the place of the one that is there: it knows nothing but what the chain says.
    pub(crate) fn replace_relayer(&mut self) {
        let number = if self.relayer.number() == RELAYERS[0] { RELAYERS[1] } else { RELAYERS[0] };
        self.relayer = Relayer::new(number);
    }

    /// Some of everybody's margin, both ways, as far as the caps allow.
    pub(crate) fn anything(&mut self, shared: &Shared, validator: usize, traders: u16) -> SettlementId {
        let who = self.rng.random_range(0..traders);
        let pair: Vec<_> = ROLLUPS[..].choose_multiple(&mut self.rng, 2).copied().collect();
        let (amount, heights) = (self.rng.random_range(1..400), self.rng.random_range(40..80));
        let signed = self.transfer(who, pair[0], pair[1], amount, heights);
        self.send(shared, validator, signed)
    }
}

/// The leaf of a lane after the latest block of the book.
pub(crate) fn leaf_of(leaves: &[LaneLeaf], rollup: RollupId) -> LaneLeaf {
    *leaves.iter().find(|leaf| leaf.rollup == rollup).expect("every rollup has a lane")
}
