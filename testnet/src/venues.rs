//! Which venues does the city have, who plays there, and is every unit of their margin accounted for?
//!
//! On each rollup a hub, an escrow, a venue with one market, and a token as collateral. One bundle creates them all through the
//! lanes, as anybody's would. Makers hold opposite positions on both rollups and move margin between them; takers are liquidated
//! when the price turns against them. What happens is read from the rollups' own nodes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use alloy_primitives::{Address, TxKind, U256};
use alloy_sol_types::SolCall;
use anyhow::{Context, Result, bail};
use lockstep_contracts::{
    abi::{MarginEscrow, TestToken},
    deploy,
};
use lockstep_protocol::{
    genesis::{Balance, Genesis},
    ids::{Address20, AssetId, RollupId},
    settlement::{
        Level,
        config::{Asset, Corridor, Participant, SettlementConfig},
    },
};
use lockstep_sdk::Client;
use tokio::{sync::watch, task::JoinSet};

use self::{
    conservation::Auditor,
    floor::Floor,
    player::{Call, Ordered, Player},
    settlements::Settlements,
};
use crate::{
    network::{ROLLUPS, Settlement},
    promises::{self, Promise},
    traffic::Book,
};

pub mod conservation;
pub mod events;
mod floor;
mod market;
mod player;
pub mod reading;
pub mod settlements;
mod tower;

pub use lockstep_contracts::deploy::Addresses as Contracts;

/// What the venues take as collateral, by its name everywhere.
pub const ASSET_NAME: &str = "USDC";
/// Its smallest units in one of it.
pub const UNIT: u128 = 10_u128.pow(DECIMALS as u32);
/// Its decimal places.
pub const DECIMALS: u8 = 6;

/// Most that may be under way in a corridor: what the makers have, several times over.
const CORRIDOR_CAP: u128 = 20_000_000 * UNIT;
/// Most that one account may have under way.
const ACCOUNT_CAP: u128 = 1_000_000 * UNIT;
/// Heights after a deadline until a rollup that has not applied a decision is late: minutes, because its node may be killed.
const APPLY_WINDOW: u64 = 4_096;
/// Bytes of a block of a lane that liquidations may use before all others.
const LIQUIDATION_BYTES: u64 = 64 * 1_024;
/// Most that one leg may move.
const MAX_LEG: u128 = 100_000 * UNIT;
/// What commits may move through legs that are not prepared any more. The city's rollups do not leave their histories.
const REDO_BUDGET: u128 = 1_000_000 * UNIT;
/// The pool of each escrow, from which credits are paid.
const POOL: u128 = 20_000_000 * UNIT;
/// The house's margin at each venue: the other side of every position.
const HOUSE: u128 = 20_000_000 * UNIT;
/// What a visitor has at each venue.
const VISITOR: u128 = 10_000 * UNIT;
/// Gas of minting, approving and depositing.
const TOKEN_GAS: u64 = 200_000;
/// How long the contracts may take until they stand on every rollup: a few of the slower one's blocks.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a waiting loop looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Everybody who will play, before there is a network. Their keys follow from seeds that anybody may know.
pub struct Cast {
    deployer: Player,
    oracle: Player,
    liquidator: Player,
    members: Vec<floor::Member>,
    visitor: Address,
}

/// The open venues. Dropping them ends everything that their players do.
pub struct Venues {
    contracts: Contracts,
    nodes: [String; ROLLUPS.len()],
    books: Books,
    floor: Option<Floor>,
    pending: Option<floor::Opening>,
    ordered: Vec<(Address, Ordered)>,
    _watching: JoinSet<()>,
    picture: watch::Receiver<Option<tower::Picture>>,
}

/// What everybody writes into and everybody may look at.
#[derive(Clone, Default)]
pub(crate) struct Books(Arc<Mutex<Kept>>);

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) settlements: Settlements,
    pub(crate) auditor: Auditor,
}

/// The venues at a glance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// How far margin transfers came.
    pub settlements: settlements::View,
    /// Where all margin is.
    pub totals: conservation::Totals,
    /// How often that was checked.
    pub checks: u64,
    /// How often it was wrong.
    pub breaches: u64,
    /// The price at each venue.
    pub prices: Vec<u128>,
}

impl Books {
    pub(crate) fn keep(&self) -> MutexGuard<'_, Kept> {
        // Every entry is complete on its own: whoever panicked while writing one is reported by that panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cast {
    /// The city's players. `visitor` gets margin at both venues as well.
    pub fn new(visitor: Address) -> Self {
        Self {
            deployer: Player::new("deployer", 0),
            oracle: Player::new("oracle", 0),
            liquidator: Player::new("liquidator", 0),
            members: floor::members(),
            visitor,
        }
    }

    fn players(&self) -> impl Iterator<Item = &Player> {
        let members = self.members.iter().map(|member| &member.player);
        [&self.deployer, &self.oracle, &self.liquidator].into_iter().chain(members)
    }

    /// Wallets that need ether on the rollups.
    pub fn wallets(&self) -> Vec<Address> {
        self.players().map(Player::address).chain([self.visitor]).collect()
    }

    /// What a genesis gives to the players' accounts.
    pub fn balances(&self) -> Vec<Balance> {
        self.players().map(|player| Balance { account: player.account(), credits: player.credits() }).collect()
    }

    /// Where the contracts will stand, on every rollup.
    pub fn contracts(&self) -> Contracts {
        Contracts::of(self.deployer.address(), 0)
    }

    /// What the log is told about settlements on rollups whose nodes are, or will be, at `nodes`.
    pub fn settlement(&self, nodes: [String; ROLLUPS.len()], posters: [Vec<String>; ROLLUPS.len()]) -> Settlement {
        let corridor = |from, to| Corridor { from, to, asset: asset(), cap: CORRIDOR_CAP };
        let [(one, _), (other, _)] = ROLLUPS;
        let config = SettlementConfig {
            apply_window: APPLY_WINDOW,
            assets: vec![Asset { asset: asset(), account_cap: ACCOUNT_CAP }],
            corridors: vec![corridor(one, other), corridor(other, one)],
        };
        let contracts = self.contracts();
        // What is executed counts as settled: the city's rollups have one sequencer, which is the log.
        let participant = Participant {
            hub: Address20::from(contracts.hub),
            escrows: vec![Address20::from(contracts.escrow)],
            settled_level: Level::Executed,
        };
        Settlement {
            config,
            participants: ROLLUPS.map(|_| participant.clone()),
            nodes,
            posters,
            liquidators: vec![self.liquidator.account()],
            liquidation_bytes: LIQUIDATION_BYTES,
        }
    }

    /// Creates the venues through the lanes, and waits until they stand on every rollup.
    pub async fn open(
        mut self,
        genesis: &Genesis,
        book: &Book,
        clients: &[Client],
        nodes: [String; ROLLUPS.len()],
    ) -> Result<Venues> {
        for (index, player) in self.players_mut().enumerate() {
            player.connect(clients[index % clients.len()].clone());
        }
        let contracts = self.contracts();
        let mut legs = Vec::new();
        for (rollup, _) in ROLLUPS {
            legs.push((rollup, self.creation(rollup, genesis)?));
        }
        if !self.deployer.send(book, legs).await {
            bail!("the bundle that creates the venues was not ordered");
        }
        let urls = nodes;
        let nodes = [reading::client(&urls[0])?, reading::client(&urls[1])?];
        let deadline = Instant::now() + OPEN_TIMEOUT;
        for (node, (rollup, _)) in nodes.iter().zip(ROLLUPS) {
            while !reading::stand(node, &contracts).await {
                if Instant::now() > deadline {
                    bail!("the contracts do not stand on rollup {rollup} after {OPEN_TIMEOUT:?}");
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        let ordered = self.players().map(|player| (player.address(), player.ordered())).collect();
        let books = Books::default();
        let (tell, picture) = watch::channel(None);
        let mut watching = JoinSet::new();
        watching.spawn(tower::listen(nodes, contracts, books.clone(), tell));
        for (rollup, _) in ROLLUPS {
            watching.spawn(tower::decisions(clients[0].clone(), rollup, books.clone()));
        }
        let pending = floor::Opening {
            oracle: self.oracle,
            liquidator: self.liquidator,
            members: self.members,
            contracts,
            book: book.clone(),
            books: books.clone(),
            picture: picture.clone(),
        };
        Ok(Venues {
            contracts,
            nodes: urls,
            books,
            floor: None,
            pending: Some(pending),
            ordered,
            _watching: watching,
            picture,
        })
    }

    fn players_mut(&mut self) -> impl Iterator<Item = &mut Player> {
        let members = self.members.iter_mut().map(|member| &mut member.player);
        [&mut self.deployer, &mut self.oracle, &mut self.liquidator].into_iter().chain(members)
    }

    /// All that makes a venue on `rollup`, in the order of the deployer's nonces.
    fn creation(&self, rollup: RollupId, genesis: &Genesis) -> Result<Vec<Call>> {
        let place = player::place(rollup);
        let deposits = self.members.iter().map(|member| (member.player.address(), member.margin[place]));
        let deposits = deposits.chain([(self.visitor, VISITOR)]);
        let others = ROLLUPS.iter().filter(|(other, _)| *other != rollup);
        let plan = deploy::Plan {
            deployer: self.deployer.address(),
            nonce: 0,
            network: genesis.network_id(),
            group_key: genesis.group_key,
            treasury: self.deployer.address(),
            asset: asset(),
            symbol: ASSET_NAME.to_owned(),
            decimals: DECIMALS,
            price: U256::from(market::ANCHOR),
            oracle: self.oracle.address(),
            max_leg: MAX_LEG,
            redo_budget: REDO_BUDGET,
            corridors: others.map(|(other, _)| (*other, CORRIDOR_CAP)).collect(),
            inventory: POOL,
            house: HOUSE,
            deposits: deposits.filter(|(_, amount)| *amount > 0).collect(),
        };
        let steps = plan.steps().context("planning the venues")?;
        let call = |step: deploy::Step| Call {
            to: step.to.map_or(TxKind::Create, TxKind::Call),
            input: step.input,
            gas: step.gas,
        };
        Ok(steps.into_iter().map(call).collect())
    }
}

impl Venues {
    /// The contracts, the same on every rollup.
    pub fn contracts(&self) -> Contracts {
        self.contracts
    }

    /// The rollups' nodes.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// Begins to trade: `rate` margin transfers a second, or none, and a price that follows from `seed`.
    pub fn begin(&mut self, rate: Option<f64>, seed: u64) {
        if let Some(opening) = self.pending.take() {
            self.floor = Some(Floor::open(opening, rate, seed));
        }
    }

    /// Ends trading: nothing new is sent. Says whether everything on the way has its outcome within the time.
    pub async fn close(&mut self, within: Duration) -> bool {
        match self.floor.take() {
            Some(floor) => floor.close(within).await,
            None => true,
        }
    }

    /// Waits at most for `within` until every settlement is decided and applied, and the books were read after that.
    pub async fn rest(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let at_rest = |kept: &Kept| kept.settlements.open().next().is_none() && kept.auditor.under_way() == 0;
        while !at_rest(&self.books.keep()) {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let before = self.books.keep().auditor.checks();
        while self.books.keep().auditor.checks() < before + 2 && Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        true
    }

    /// The transactions that were ordered for each player's wallet, on each rollup.
    pub fn expected(&self) -> Vec<(Address, [u64; ROLLUPS.len()])> {
        let count = |ordered: &Ordered| ordered.each_ref().map(|count| count.load(Ordering::Relaxed));
        self.ordered.iter().map(|(address, ordered)| (*address, count(ordered))).collect()
    }

    /// The venues at a glance.
    pub fn view(&self) -> View {
        let prices = self.picture.borrow().as_ref().map(|picture| picture.prices()).unwrap_or_default();
        let kept = self.books.keep();
        View {
            settlements: kept.settlements.view(),
            totals: kept.auditor.totals(),
            checks: kept.auditor.checks(),
            breaches: kept.auditor.breaches().count(),
            prices,
        }
    }

    /// Whether margin was conserved.
    pub fn promise(&self) -> Promise {
        let kept = self.books.keep();
        promises::margin(&kept.settlements.view(), &kept.auditor)
    }
}

/// The collateral as the log names it.
pub fn asset() -> AssetId {
    AssetId(asset_word().0)
}

fn asset_word() -> alloy_primitives::B256 {
    alloy_primitives::keccak256(ASSET_NAME)
}

/// Fresh collateral for whoever lost theirs: a test token may be minted by anyone.
fn top_up(contracts: &Contracts, account: Address, amount: u128) -> Vec<Call> {
    let amount = U256::from(amount);
    let call = |to, input: Vec<u8>| Call { to: TxKind::Call(to), input: input.into(), gas: TOKEN_GAS };
    vec![
        call(contracts.token, TestToken::mintCall { to: account, amount }.abi_encode()),
        call(contracts.token, TestToken::approveCall { spender: contracts.escrow, value: amount }.abi_encode()),
        call(contracts.escrow, MarginEscrow::depositCall { asset: asset_word(), account, amount }.abi_encode()),
    ]
}
