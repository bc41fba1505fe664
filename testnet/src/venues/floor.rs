//! What do players do: who pushes the price, who trades, who moves margin, who liquidates?
//!
//! Everybody acts on what the tower last read of the venues, which is a moment old, as in any market. A venue may say no.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::{Address, I256, TxKind, U256};
use alloy_sol_types::SolCall;
use lockstep_contracts::{abi::ReferenceVenue, deploy::PREPARE_GAS, prepare};
use lockstep_protocol::{
    ids::{Address20, Height, RollupId, SettlementId},
    settlement::{Intent, Level, MarginTransfer, SettlementLeg, transfer::Side},
};
use tokio::{
    sync::{Mutex, watch},
    task::JoinSet,
    time::{Interval, MissedTickBehavior},
};

use super::{
    Books, Contracts, UNIT, asset,
    market::{ANCHOR, Market},
    player::{Call, Player},
    reading::{Margin, Reading},
    top_up,
    tower::Picture,
};
use crate::{network::ROLLUPS, traffic::Book};

/// Makers: each with opposite positions on the two rollups, so that every move of the price gives to one and takes from the other.
const MAKERS: u64 = 16;
/// What a maker has at each venue,
const MAKER_MARGIN: u128 = 50_000 * UNIT;
/// and five times that in its position: a price that moves by a hundredth moves a twentieth of the margin.
const MAKER_LEVERAGE_TENTHS: u128 = 50;
/// Takers: each with one position on one rollup, as large as the venue allows, and nothing to move.
const TAKERS: u64 = 8;
const TAKER_MARGIN: u128 = 10_000 * UNIT;
const TAKER_LEVERAGE_TENTHS: u128 = 92;
/// The venue's own rules: margin of a position's worth that must be there after margin left, and below which it is closed.
const STAY_BPS: u128 = 1_100;
const MAINTENANCE_BPS: u128 = 500;
const BPS: u128 = 10_000;
/// Of free margin, the most that a transfer takes: prices move before it executes.
const TAKE_BPS: u128 = 8_000;
/// The least that a transfer moves.
const LEAST: u128 = UNIT;
/// Heights until a transfer is decided at the latest: twenty seconds of a busy network, ten blocks of the slower rollup.
const DEADLINE: u64 = 512;
/// How often the price moves.
const PRICE_INTERVAL: Duration = Duration::from_secs(1);
/// How often players look after their positions.
const TEND_INTERVAL: Duration = Duration::from_millis(500);
/// How long after an action its effect may still be invisible, so that it is not done twice.
const PATIENCE: Duration = Duration::from_secs(6);
/// Gas limits, each well above what is used: what is not used is not paid.
const PRICE_GAS: u64 = 100_000;
const TRADE_GAS: u64 = 400_000;
const LIQUIDATE_GAS: u64 = 500_000;

/// A player with what it wants at each venue.
pub(super) struct Member {
    pub(super) player: Player,
    /// Its first margin.
    pub(super) margin: [u128; ROLLUPS.len()],
    /// Its position, 1e18 for one.
    pub(super) wants: [i128; ROLLUPS.len()],
}

/// What is needed to open the floor.
pub(super) struct Opening {
    pub(super) oracle: Player,
    pub(super) liquidator: Player,
    pub(super) members: Vec<Member>,
    pub(super) contracts: Contracts,
    pub(super) book: Book,
    pub(super) books: Books,
    pub(super) picture: watch::Receiver<Option<Picture>>,
}

/// Everybody at work. Dropping it ends them, with what they have on the way.
pub(super) struct Floor {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// A member at work.
struct Desk {
    address: Address,
    wants: [i128; ROLLUPS.len()],
    margin: [u128; ROLLUPS.len()],
    player: Arc<Mutex<Player>>,
    /// When it last traded at each venue.
    traded: [Option<Instant>; ROLLUPS.len()],
    /// The settlements that it has under way.
    transfers: Vec<SettlementId>,
}

/// Makers and takers.
pub(super) fn members() -> Vec<Member> {
    let position = |margin: u128, tenths: u128| (margin * tenths / 10 * 10_u128.pow(18) / ANCHOR).cast_signed();
    let sign = |number: u64| if number.is_multiple_of(2) { 1 } else { -1 };
    let makers = (0..MAKERS).map(|number| {
        let size = sign(number) * position(MAKER_MARGIN, MAKER_LEVERAGE_TENTHS);
        Member { player: Player::new("maker", number), margin: [MAKER_MARGIN; 2], wants: [size, -size] }
    });
    let takers = (0..TAKERS).map(|number| {
        let size = sign(number / 2) * position(TAKER_MARGIN, TAKER_LEVERAGE_TENTHS);
        let mut member = Member { player: Player::new("taker", number), margin: [0; 2], wants: [0; 2] };
        let place = if number.is_multiple_of(2) { 0 } else { 1 };
        (member.margin[place], member.wants[place]) = (TAKER_MARGIN, size);
        member
    });
    makers.chain(takers).collect()
}

impl Floor {
    /// Puts everybody to work.
    pub(super) fn open(opening: Opening, rate: Option<f64>, seed: u64) -> Self {
        let Opening { oracle, liquidator, members, contracts, book, books, picture } = opening;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(push_prices(oracle, contracts, book.clone(), Market::new(seed), stopped.clone()));
        tasks.spawn(liquidate(liquidator, contracts, book.clone(), picture.clone(), stopped.clone()));
        let desk = |member: Member| Desk {
            address: member.player.address(),
            wants: member.wants,
            margin: member.margin,
            player: Arc::new(Mutex::new(member.player)),
            traded: [None; ROLLUPS.len()],
            transfers: Vec::new(),
        };
        let desks = members.into_iter().map(desk).collect();
        tasks.spawn(trade(desks, contracts, book, books, picture, rate, stopped));
        Self { stop, tasks }
    }

    /// Sends nothing new, and waits at most for `within` until everything on the way has its outcome. Says whether it has.
    pub(super) async fn close(mut self, within: Duration) -> bool {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

async fn push_prices(
    mut oracle: Player,
    contracts: Contracts,
    book: Book,
    mut market: Market,
    mut stopped: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(PRICE_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let price = ReferenceVenue::setPriceCall { price_: U256::from(market.step()) };
        let set = call(contracts.venue, price.abi_encode(), PRICE_GAS);
        oracle.send(&book, ROLLUPS.map(|(rollup, _)| (rollup, vec![set.clone()])).into()).await;
    }
}

async fn liquidate(
    mut liquidator: Player,
    contracts: Contracts,
    book: Book,
    mut picture: watch::Receiver<Option<Picture>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut tried: HashMap<(usize, Address), Instant> = HashMap::new();
    loop {
        tokio::select! {
            changed = picture.changed() => if changed.is_err() { return },
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let Some(seen) = picture.borrow_and_update().clone() else { continue };
        tried.retain(|_, at| at.elapsed() < PATIENCE);
        let mut legs = Vec::new();
        for (place, (rollup, _)) in ROLLUPS.into_iter().enumerate() {
            let reading = &seen.readings[place];
            let short = reading.accounts.iter().filter(|(_, margin)| is_liquidatable(margin, reading.price));
            let calls: Vec<_> = short
                .filter(|(account, _)| tried.insert((place, **account), Instant::now()).is_none())
                .map(|(account, _)| {
                    let close = ReferenceVenue::liquidateCall { account: *account };
                    call(contracts.venue, close.abi_encode(), LIQUIDATE_GAS)
                })
                .collect();
            if !calls.is_empty() {
                legs.push((rollup, calls));
            }
        }
        if !legs.is_empty() {
            liquidator.send(&book, legs).await;
        }
    }
}

/// Opens positions and moves margin, member after member.
async fn trade(
    mut desks: Vec<Desk>,
    contracts: Contracts,
    book: Book,
    books: Books,
    picture: watch::Receiver<Option<Picture>>,
    rate: Option<f64>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut tend = tokio::time::interval(TEND_INTERVAL);
    let mut transfer = rate.map(|rate| tokio::time::interval(Duration::from_secs_f64(1.0 / rate)));
    // What could not be sent while the network stood still is not sent in one burst afterwards.
    tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if let Some(transfer) = &mut transfer {
        transfer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut on_the_way = JoinSet::new();
    let mut turn = 0;
    loop {
        let transfers = tokio::select! {
            _ = tend.tick() => false,
            () = due(&mut transfer) => true,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        while on_the_way.try_join_next().is_some() {}
        let Some(seen) = picture.borrow().clone() else { continue };
        if !transfers {
            for desk in &mut desks {
                open_position(desk, &seen, &contracts, &book, &mut on_the_way);
            }
            continue;
        }
        for _ in 0..desks.len() {
            turn = (turn + 1) % desks.len();
            let desk = &mut desks[turn];
            {
                let kept = books.keep();
                desk.transfers.retain(|sid| kept.settlements.is_open(sid));
            }
            let Some(plan) = rebalance(desk, &seen) else { continue };
            let Ok(mut player) = desk.player.clone().try_lock_owned() else { continue };
            let account = desk.address;
            let intent = player.intent(plan.transfer(&contracts, account, book.height()));
            let sid = player.sid(&intent);
            // Before it is sent: a rollup may show it sooner than the answer comes.
            books.keep().settlements.send(sid);
            desk.transfers.push(sid);
            let (book, books) = (book.clone(), books.clone());
            on_the_way.spawn(async move {
                let calls = |intent: &Intent| plan.calls(&contracts, intent);
                let ordered = player.settle(&book, intent, calls).await;
                books.keep().settlements.conclude(sid, ordered.then(Instant::now));
            });
            break;
        }
    }
    while on_the_way.join_next().await.is_some() {}
}

/// Waits until a transfer is due: for ever, if none are wanted.
async fn due(transfer: &mut Option<Interval>) {
    match transfer {
        Some(transfer) => drop(transfer.tick().await),
        None => std::future::pending().await,
    }
}

/// Trades where a member lacks a position that it wants: at the beginning, and after it was liquidated.
fn open_position(desk: &mut Desk, seen: &Picture, contracts: &Contracts, book: &Book, on_the_way: &mut JoinSet<()>) {
    let mut legs = Vec::new();
    for (place, (rollup, _)) in ROLLUPS.into_iter().enumerate() {
        let margin = seen.readings[place].accounts.get(&desk.address).copied().unwrap_or_default();
        let waits = desk.traded[place].is_some_and(|at| at.elapsed() < PATIENCE);
        if desk.wants[place] == 0 || margin.size != 0 || waits {
            continue;
        }
        let lacks = desk.margin[place].saturating_sub(margin.equity.max(0).cast_unsigned());
        let mut calls = if lacks > 0 { top_up(contracts, desk.address, lacks) } else { Vec::new() };
        let change = I256::try_from(desk.wants[place]).expect("positions are small");
        calls.push(call(contracts.venue, ReferenceVenue::tradeCall { change }.abi_encode(), TRADE_GAS));
        legs.push((place, rollup, calls));
    }
    if legs.is_empty() {
        return;
    }
    let Ok(mut player) = desk.player.clone().try_lock_owned() else { return };
    for (place, ..) in &legs {
        desk.traded[*place] = Some(Instant::now());
    }
    let book = book.clone();
    on_the_way.spawn(async move {
        player.send(&book, legs.into_iter().map(|(_, rollup, calls)| (rollup, calls)).collect()).await;
    });
}

/// Margin that shall move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    from: usize,
    amount: u128,
    /// Whether profit must become margin first.
    realise: bool,
}

/// Evens out what a member has beyond its needs. Where its last transfer may still be invisible, it moves the least.
fn rebalance(desk: &Desk, seen: &Picture) -> Option<Plan> {
    if desk.wants.contains(&0) {
        return None;
    }
    let of = |place: usize| {
        let reading: &Reading = &seen.readings[place];
        reading.accounts.get(&desk.address).map(|margin| (*margin, spare(margin, reading.price)))
    };
    let ((one, spare_one), (other, spare_other)) = (of(0)?, of(1)?);
    let (from, margin, difference, spare) = match spare_one >= spare_other {
        true => (0, one, spare_one - spare_other, spare_one),
        false => (1, other, spare_other - spare_one, spare_other),
    };
    let spare = u128::try_from(spare).ok()?;
    let settled = desk.transfers.is_empty();
    let wanted = if settled { (difference / 2).cast_unsigned().max(LEAST) } else { LEAST };
    let amount = wanted.min(spare * TAKE_BPS / BPS).min(super::MAX_LEG);
    let realise = amount > margin.free * TAKE_BPS / BPS;
    (amount >= LEAST).then_some(Plan { from, amount, realise })
}

/// What an account has beyond what its position needs after margin left.
fn spare(margin: &Margin, price: u128) -> i128 {
    margin.equity - requirement(margin.size, price, STAY_BPS).cast_signed()
}

fn is_liquidatable(margin: &Margin, price: u128) -> bool {
    margin.size != 0 && margin.equity < requirement(margin.size, price, MAINTENANCE_BPS).cast_signed()
}

fn requirement(size: i128, price: u128, bps: u128) -> u128 {
    // Positions of millions at a price of thousands stay below 2^110.
    size.unsigned_abs() / 1_000_000_000 * price / 1_000_000_000 * bps / BPS
}

impl Plan {
    fn transfer(&self, contracts: &Contracts, account: Address, tip: Height) -> MarginTransfer {
        let leg = |place: usize, side| SettlementLeg {
            rollup: ROLLUPS[place].0,
            escrow: Address20::from(contracts.escrow),
            account: Address20::from(account),
            asset: asset(),
            side,
            amount: self.amount,
            level: Level::Executed,
        };
        let legs = vec![leg(self.from, Side::Debit), leg(1 - self.from, Side::Credit)];
        MarginTransfer { legs, deadline: Height(tip.0 + DEADLINE) }
    }

    /// What prepares it on each rollup.
    fn calls(&self, contracts: &Contracts, intent: &Intent) -> Vec<(RollupId, Vec<Call>)> {
        let prepare = |leg: u8| call(contracts.escrow, prepare(intent, leg), PREPARE_GAS);
        let mut debit = Vec::new();
        if self.realise {
            debit.push(call(contracts.venue, ReferenceVenue::tradeCall { change: I256::ZERO }.abi_encode(), TRADE_GAS));
        }
        debit.push(prepare(0));
        vec![(ROLLUPS[self.from].0, debit), (ROLLUPS[1 - self.from].0, vec![prepare(1)])]
    }
}

fn call(to: Address, input: Vec<u8>, gas: u64) -> Call {
    Call { to: TxKind::Call(to), input: input.into(), gas }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(desk: &Desk, equities: [i128; 2]) -> Picture {
        let reading = |place: usize| {
            let margin =
                Margin { free: 40_000 * UNIT, size: desk.wants[place], equity: equities[place], ..Margin::default() };
            Reading { price: ANCHOR, accounts: [(desk.address, margin)].into(), ..Reading::default() }
        };
        Picture { readings: [reading(0), reading(1)] }
    }

    fn desk(number: usize) -> Desk {
        let member = members().remove(number);
        Desk {
            address: member.player.address(),
            wants: member.wants,
            margin: member.margin,
            player: Arc::new(Mutex::new(member.player)),
            traded: [None; 2],
            transfers: Vec::new(),
        }
    }

    #[test]
    fn makers_are_hedged_and_all_positions_together_are_none() {
        let all = members();
        assert_eq!(all.len() as u64, MAKERS + TAKERS);
        for place in 0..2 {
            assert_eq!(all.iter().map(|member| member.wants[place]).sum::<i128>(), 0);
        }
        for maker in &all[..MAKERS as usize] {
            assert_eq!(maker.wants[0] + maker.wants[1], 0);
            assert_eq!(requirement(maker.wants[0], ANCHOR, BPS), MAKER_MARGIN * MAKER_LEVERAGE_TENTHS / 10);
        }
    }

    #[test]
    fn margin_goes_from_where_there_is_more_to_where_there_is_less() {
        let mut desk = desk(0);
        let rich = 60_000 * UNIT.cast_signed();
        let poor = 40_000 * UNIT.cast_signed();
        let plan = rebalance(&desk, &seen(&desk, [rich, poor])).expect("a plan");
        assert_eq!(plan, Plan { from: 0, amount: 10_000 * UNIT, realise: false });
        let plan = rebalance(&desk, &seen(&desk, [poor, rich])).expect("a plan");
        assert_eq!((plan.from, plan.amount), (1, 10_000 * UNIT));
        // While one is under way, what is seen may be old: the least is moved.
        desk.transfers.push(SettlementId([1; 32]));
        assert_eq!(rebalance(&desk, &seen(&desk, [rich, poor])).expect("a plan").amount, LEAST);
        // 250,000 at stake need 27,500.
        let bare = 27_500 * UNIT.cast_signed();
        assert_eq!(rebalance(&desk, &seen(&desk, [bare, bare])), None);
    }

    #[test]
    fn takers_have_nothing_to_move_and_are_liquidated_by_a_jump() {
        let desk = desk(MAKERS as usize);
        assert_eq!(rebalance(&desk, &seen(&desk, [0, 0])), None);
        let mut margin = Margin { size: desk.wants[0], equity: TAKER_MARGIN.cast_signed(), ..Margin::default() };
        assert!(!is_liquidatable(&margin, ANCHOR));
        margin.equity -= (requirement(margin.size, ANCHOR, 650)).cast_signed();
        assert!(is_liquidatable(&margin, ANCHOR));
    }
}
