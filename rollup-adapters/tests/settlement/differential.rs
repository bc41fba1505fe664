//! Does the Solidity leg machine do what the model in Rust does, step by step, over random lives?
//!
//! The model is the one that the coordinator's invariants are tested with. It speaks of the pool, a contract of `inventory + owed`.
//! Where the two differ on purpose, they are compared again once the difference is over: a credit that finds too little is taken
//! in part by the model, and not at all by the contract until it is covered; and while an asset is short, the contract refuses what
//! the model's pool still promises. So while an asset is short nothing is prepared in it, and only its statuses are compared.
//!
//! `LOCKSTEP_SEED` runs one seed, `LOCKSTEP_SEEDS` that many.

use std::collections::BTreeMap;

use alloy_primitives::{Address, U256};
use lockstep_contracts::{
    self as contracts, SolCall,
    abi::{MarginEscrow, TestToken},
    deploy,
};
use lockstep_protocol::{
    ids::{AssetId, SettlementId},
    settlement::{Intent, LegStatus, Side},
};

use crate::{
    contracts::cover,
    escrow_model::{Escrow, Revert},
    venue::{DEPLOYER, Dice, PLENTY, Venue, asset, deployer, trader, trader_key, word},
    world::{ABORT, COMMIT, Decider, HERE, THERE, leg_of},
};

const STEPS: u64 = 60;
const SEEDS: u64 = 3;
const MARGIN: u128 = 1_000;
const INVENTORY: u128 = 1_500;
/// Below the contract's bound on one account's open credits, which the model does not have.
const OPEN_MAX: usize = 12;

/// Contract and model, side by side.
struct Pair {
    log: Decider,
    venue: Venue,
    model: Escrow,
    /// Assets with their tokens.
    assets: Vec<(AssetId, Address)>,
    intents: Vec<Intent>,
    /// What is short, by asset.
    short: BTreeMap<AssetId, Intent>,
    taken: usize,
    /// How often something was short.
    shortfalls: usize,
}

impl Pair {
    async fn new() -> Self {
        let log = Decider::new("lockstep-differential-1");
        let venue = Venue::new(HERE, log.network, &log.group_key(), &[THERE], MARGIN, INVENTORY).await;
        let token = venue.at.token;
        let mut pair = Self {
            log,
            venue,
            model: Escrow::default(),
            assets: vec![(asset(), token)],
            intents: Vec::new(),
            short: BTreeMap::new(),
            taken: 0,
            shortfalls: 0,
        };
        for index in 0..3 {
            pair.model.fund(trader(index), asset(), MARGIN);
        }
        pair.model.stock(asset(), INVENTORY);
        pair.second_asset().await;
        pair
    }

    /// Another asset with a token of its own.
    async fn second_asset(&mut self) {
        let other = AssetId::from_symbol("WETH");
        let token = deployer().create(self.venue.nonce(DEPLOYER));
        let raw = self.venue.create(DEPLOYER, deploy::test_token("WETH", "WETH", 18));
        assert!(self.venue.block(vec![raw]).await[0].succeeded);
        let escrow = self.venue.at.escrow;
        let asset = word(other);
        let limit = PLENTY.try_into().expect("it fits");
        let redo = PLENTY.try_into().expect("it fits");
        for input in [
            MarginEscrow::listAssetCall { asset, token }.abi_encode(),
            MarginEscrow::setLimitsCall { asset, maxLeg: limit, redoBudget: redo }.abi_encode(),
            MarginEscrow::setCorridorCall { rollup: THERE, asset, cap: PLENTY }.abi_encode(),
        ] {
            assert!(self.venue.send(DEPLOYER, escrow, input).await.succeeded);
        }
        self.assets.push((other, token));
        self.stock(1, INVENTORY).await;
        for index in 0..3 {
            self.fund(1, index, MARGIN).await;
        }
    }

    async fn pay(&mut self, asset: usize, amount: u128, call: Vec<u8>) {
        let (token, escrow) = (self.assets[asset].1, self.venue.at.escrow);
        let amount = U256::from(amount);
        for (to, input) in [
            (token, TestToken::mintCall { to: deployer(), amount }.abi_encode()),
            (token, TestToken::approveCall { spender: escrow, value: amount }.abi_encode()),
            (escrow, call),
        ] {
            assert!(self.venue.send(DEPLOYER, to, input).await.succeeded);
        }
    }

    async fn stock(&mut self, asset: usize, amount: u128) {
        let id = self.assets[asset].0;
        let call = MarginEscrow::provideCall { asset: word(id), amount: U256::from(amount) };
        self.pay(asset, amount, call.abi_encode()).await;
        self.model.stock(id, amount);
    }

    async fn fund(&mut self, asset: usize, who: usize, amount: u128) {
        let (id, account) = (self.assets[asset].0, Address::from(trader(who).0));
        let call = MarginEscrow::depositCall { asset: word(id), account, amount: U256::from(amount) };
        self.pay(asset, amount, call.abi_encode()).await;
        self.model.fund(trader(who), id, amount);
    }

    fn sid(&self, intent: &Intent) -> SettlementId {
        intent.sid(self.log.network)
    }

    fn is_short(&self, intent: &Intent) -> bool {
        self.short.contains_key(&intent.transfer.legs[0].asset)
    }

    /// A new leg, mostly one that its account or the pool can pay.
    fn invent(&mut self, dice: &mut Dice) {
        let asset = self.assets[dice.below(2) as usize].0;
        let (side, other) = if dice.below(2) == 0 { (Side::Debit, Side::Credit) } else { (Side::Credit, Side::Debit) };
        let most = if dice.below(5) == 0 { 2_500 } else { 300 };
        let amount = u128::from(1 + dice.below(most));
        let who = dice.below(3) as usize;
        let legs = vec![leg_of(HERE, who, side, amount, asset), leg_of(THERE, who, other, amount, asset)];
        let intent = self.log.intent(legs);
        self.intents.push(intent);
    }

    async fn prepare(&mut self, intent: &Intent) {
        let open = self.model.legs.values().filter(|status| **status == LegStatus::Prepared).count();
        if self.is_short(intent) || open >= OPEN_MAX {
            return;
        }
        let leg = intent.transfer.legs[0];
        let expected = self.model.prepare(self.sid(intent), 0, &leg);
        let who = (0..3).find(|who| trader(*who) == leg.account).expect("a trader");
        let escrow = self.venue.at.escrow;
        let done = self.venue.send(trader_key(who), escrow, contracts::prepare(intent, 0)).await;
        assert_eq!(done.succeeded, expected.is_ok(), "{expected:?}");
        if let Err(Revert::Decided(status)) = expected {
            panic!("a prepare is never against a decision: {status:?}");
        }
    }

    async fn decide(&mut self, intent: &Intent, outcome: u8) {
        // A redo while its asset is short would differ by what the model still counts as its pool.
        let undone = matches!(self.model.status(self.sid(intent), 0), LegStatus::None | LegStatus::Refused);
        if self.is_short(intent) && outcome == COMMIT && undone {
            return;
        }
        let (sid, leg) = (self.sid(intent), intent.transfer.legs[0]);
        // The model reverts where a decision contradicts what stands; the contract leaves it as it is, so that the hub goes on.
        let _ = match outcome {
            COMMIT => self.model.commit(sid, 0, &leg),
            _ => self.model.release(sid, 0, &leg),
        };
        self.log.decide(intent, outcome);
        let call = self.log.call(self.taken, 1);
        assert!(self.venue.send(DEPLOYER, self.venue.at.hub, call).await.succeeded);
        self.taken += 1;
        if self.model.status(sid, 0) == LegStatus::Shortfall {
            let known = self.short.insert(leg.asset, intent.clone());
            self.shortfalls += usize::from(known.is_none());
        }
    }

    /// Pays what the asset is short of; then model and contract have the same money again.
    async fn make_good(&mut self, short: AssetId) {
        let Some(intent) = self.short.remove(&short) else { return };
        let sid = self.sid(&intent);
        let leg = intent.transfer.legs[0];
        let asset = self.assets.iter().position(|(id, _)| *id == short).expect("it is listed");
        let missing = self.model.owed[&(sid, 0)].1;
        let (amount, word) = (U256::from(missing), word(short));
        let call = match leg.side {
            Side::Debit => {
                let account = Address::from(leg.account.0);
                MarginEscrow::depositCall { asset: word, account, amount }.abi_encode()
            }
            Side::Credit => MarginEscrow::provideCall { asset: word, amount }.abi_encode(),
        };
        self.pay(asset, missing, call).await;
        let escrow = self.venue.at.escrow;
        assert!(self.venue.send(DEPLOYER, escrow, cover(&intent)).await.succeeded);
        self.model.cover(sid, 0);
    }

    async fn compare(&self, at: &str) {
        for intent in &self.intents {
            let sid = self.sid(intent);
            assert_eq!(self.venue.leg(sid, 0).await, self.model.status(sid, 0), "{at}: a leg's status");
        }
        for (id, token) in &self.assets {
            self.venue.assert_balanced(*token, *id).await;
            let (booked, held) = self.model.balances(*id);
            assert_eq!(booked, held, "{at}: S5 of the model");
            if self.short.contains_key(id) {
                continue;
            }
            let books = self.venue.books(*id).await;
            let of = |map: &BTreeMap<AssetId, u128>| map.get(id).copied().unwrap_or_default();
            assert_eq!(books.inventory + books.owed, of(&self.model.pool), "{at}: the pool");
            assert_eq!(books.reserved, of(&self.model.reserved), "{at}: what is reserved");
            assert_eq!(self.venue.tokens(*token).await, of(&self.model.tokens), "{at}: tokens");
            let mut in_flight = 0;
            for index in 0..3 {
                let account = self.venue.account(trader(index), *id).await;
                let free = self.model.free.get(&(trader(index), *id)).copied().unwrap_or_default();
                assert_eq!(account.free.to::<u128>(), free, "{at}: free margin of {index}");
                in_flight += account.inFlight.to::<u128>();
            }
            assert_eq!(in_flight, of(&self.model.in_flight), "{at}: what is in flight");
        }
    }
}

async fn live(seed: u64) -> (BTreeMap<u8, usize>, usize) {
    let mut dice = Dice::new(seed);
    let mut pair = Pair::new().await;
    pair.compare("at first").await;
    for step in 0..STEPS {
        let at = format!("seed {seed}, step {step}");
        if pair.intents.is_empty() || dice.below(3) == 0 {
            pair.invent(&mut dice);
        }
        let latest = pair.intents.len() as u64;
        // Mostly the latest, so that legs get somewhere; sometimes an old one, so that they are asked again.
        let index = if dice.below(3) == 0 { dice.below(latest) } else { latest - 1 - dice.below(latest.min(4)) };
        let intent = pair.intents[index as usize].clone();
        match dice.below(10) {
            0..4 => pair.prepare(&intent).await,
            4..7 => pair.decide(&intent, COMMIT).await,
            7..9 => pair.decide(&intent, ABORT).await,
            _ => {
                if let Some(asset) = pair.short.keys().next().copied() {
                    pair.make_good(asset).await;
                } else {
                    pair.fund(dice.below(2) as usize, dice.below(3) as usize, 100).await;
                }
            }
        }
        pair.compare(&at).await;
    }
    for asset in pair.assets.clone() {
        pair.make_good(asset.0).await;
    }
    pair.compare(&format!("seed {seed}, in the end")).await;
    let mut ends = BTreeMap::new();
    for status in pair.model.legs.values() {
        *ends.entry(*status as u8).or_insert(0) += 1;
    }
    (ends, pair.shortfalls)
}

#[tokio::test]
async fn the_contract_does_what_the_model_does() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("LOCKSTEP_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
            first..first + number("LOCKSTEP_SEEDS").unwrap_or(SEEDS)
        }
    };
    for seed in seeds {
        eprintln!("LOCKSTEP_SEED={seed}");
        let (ends, shortfalls) = live(seed).await;
        eprintln!("  legs by status in the end: {ends:?}; {shortfalls} shortfalls on the way");
        assert!(ends.values().sum::<usize>() > 5, "a life in which nothing happened");
    }
}
