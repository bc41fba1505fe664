//! A running network with its traffic and everybody who watches it.
//!
//! What the testnet shows to a person and what the fault tests torment are the same thing: this. Shows nothing itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_primitives::Address;
use anyhow::{Context, Result};
use lockstep_protocol::ids::Height;
use lockstep_sdk::{Client, client::Config, trust::Trust};

use crate::{
    accounts::{self, Sender},
    latency::Percentiles,
    ledger::Counts,
    levels::{Climb, Levels},
    network::{Network, Plan, ROLLUPS},
    nodes::Nodes,
    promises::{self, Credits, Execution, Promise},
    rollups::{L1Started, RollupView, Rollups, View},
    table,
    traffic::{Book, Traffic},
    venues::{self, Cast, Venues},
    watch::Watch,
};

/// How long a network may take until all of its validators serve.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long bundles on the way may take to their outcome once nothing new is sent. Most of them need a few blocks; those that
/// were lost with a killed validator are sent again after seconds.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(120);
/// How long followers may take to the last height at which something was ordered.
const REACH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long rollups may take to execute what was ordered and to post it.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How often a waiting loop looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Accounts that send, each one bundle at a time.
const SENDERS: usize = 64;

/// A running network with traffic and followers.
pub struct City {
    /// The validators. Kill them, start them again: the city goes on.
    pub network: Network,
    book: Book,
    clients: Vec<Client>,
    senders: Arc<Vec<Sender>>,
    watch: Watch,
    rollups: Option<Rollups>,
    venues: Option<Venues>,
    traffic: Option<Traffic>,
    levels: Option<Levels>,
    began: Instant,
    pace: Pace,
}

/// Recent heights, for a block rate.
struct Pace {
    at: Instant,
    height: Height,
    rate: f64,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ending {
    /// How long there was traffic.
    pub elapsed: Duration,
    /// The last height that was heard of.
    pub height: Height,
    /// How many bundles came how far.
    pub counts: Counts,
    /// From submitting to the proven outcome.
    pub finality: Percentiles,
    /// What there was to see of L1 and the rollups.
    pub chains: View,
    /// How legs of some bundles climbed on their rollups.
    pub climbs: Vec<Climb>,
    /// What happened at the venues, where there are any.
    pub venues: Option<venues::View>,
    /// What was promised, and whether it was kept.
    pub promises: Vec<Promise>,
}

/// A part of the city that can be killed and started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A validator, by its place.
    Validator(usize),
    /// A part of the rollups, by its name.
    Rollup(String),
}

impl Part {
    /// What it is one of, as kills are counted.
    pub fn kind(&self) -> String {
        match self {
            Self::Validator(_) => "validator".to_owned(),
            // The second relayer of a rollup is a relayer.
            Self::Rollup(name) => name.trim_end_matches("-2").to_owned(),
        }
    }
}

impl City {
    /// Deals a network, starts it, and watches it with followers that begin at each of the nodes in `followers`.
    pub async fn start(mut plan: Plan, followers: &[usize], progress: impl FnMut(usize)) -> Result<Self> {
        let senders = Arc::new(accounts::mixed(SENDERS));
        plan.balances.extend(accounts::balances(&senders));
        let mut network = Network::deal(plan)?;
        network.start_all()?;
        network.all_ready(READY_TIMEOUT, progress).await?;
        let clients = clients(&network)?;
        let book = Book::new(followers.len());
        let watchers: Vec<_> = followers.iter().map(|node| clients[*node].clone()).collect();
        let watch = Watch::start(&book, &watchers).await?;
        let began = Instant::now();
        let pace = Pace { at: began, height: Height(0), rate: 0.0 };
        Ok(Self {
            network,
            book,
            clients,
            senders,
            watch,
            rollups: None,
            venues: None,
            traffic: None,
            levels: None,
            began,
            pace,
        })
    }

    /// The wallets whose transfers the traffic is made of: rollups whose genesis funds them can execute it.
    pub fn wallets() -> Vec<Address> {
        accounts::mixed(SENDERS).iter().map(Sender::wallet).collect()
    }

    /// Joins rollups to the running network: their drivers follow its lanes.
    pub async fn join_rollups(&mut self, l1: L1Started) -> Result<()> {
        self.rollups = Some(l1.start_rollups(self.network.genesis_file(), &self.network.urls()).await?);
        Ok(())
    }

    /// Starts relayers between the log and the rollups, with a second one of each if the first may be killed.
    pub fn start_relays(&mut self, standby: bool) -> Result<()> {
        let (genesis, nodes) = (self.network.genesis_file(), self.network.urls());
        self.rollups
            .as_mut()
            .context("relayers are between rollups and the log")?
            .start_relays(genesis, &nodes, standby)
    }

    /// Opens the venues of `cast` on the joined rollups.
    pub async fn open_venues(&mut self, cast: Cast) -> Result<()> {
        let nodes = self.rollups.as_ref().context("venues are on rollups")?.urls();
        self.venues = Some(cast.open(self.network.genesis(), &self.book, &self.clients, nodes).await?);
        Ok(())
    }

    /// The venues, if they were opened.
    pub fn venues(&self) -> Option<&Venues> {
        self.venues.as_ref()
    }

    /// All validators, as parts.
    pub fn validators(&self) -> Vec<Part> {
        (0..self.network.validators().len()).map(Part::Validator).collect()
    }

    /// All parts of the rollups that can be killed and started again.
    pub fn rollup_parts(&mut self) -> Vec<Part> {
        self.rollups.as_mut().map(Rollups::parts).unwrap_or_default().into_iter().map(Part::Rollup).collect()
    }

    /// `kill -9` of a part.
    pub fn kill_part(&mut self, part: &Part) -> Result<()> {
        match part {
            Part::Validator(index) => self.network.kill(*index),
            Part::Rollup(name) => self.rollups.as_mut().context("the city has no rollups")?.kill(name),
        }
    }

    /// Starts a part that was killed on what its folder holds.
    pub fn start_part(&mut self, part: &Part) -> Result<()> {
        match part {
            Part::Validator(index) => self.network.start(*index),
            Part::Rollup(name) => self.rollups.as_mut().context("the city has no rollups")?.start(name),
        }
    }

    /// Waits until all validators serve: after some of them were killed.
    pub async fn all_back(&mut self) -> Result<()> {
        self.network.all_ready(READY_TIMEOUT, |_| {}).await
    }

    /// The rollups, if they were joined. Kill their parts, start them again: the city goes on.
    pub fn rollups(&mut self) -> Option<&mut Rollups> {
        self.rollups.as_mut()
    }

    /// Begins to trade at the venues: `rate` margin transfers a second, or none, and a price that follows from `seed`.
    pub fn begin_trading(&mut self, rate: Option<f64>, seed: u64) {
        if let Some(venues) = &mut self.venues {
            venues.begin(rate, seed);
        }
    }

    /// Begins to send `rate` bundles a second over all nodes.
    pub fn begin_traffic(&mut self, rate: f64) {
        // One node: another, asked in between, may have yet to learn how far a leg is.
        let one = client(&self.network, self.network.urls().into_iter().take(1).collect());
        self.began = Instant::now();
        self.traffic = Some(Traffic::start(self.book.clone(), self.clients.clone(), self.senders.clone(), rate));
        // Without venues, nodes know no rollup's node to ask.
        self.levels = one.ok().filter(|_| self.venues.is_some()).map(|one| Levels::start(self.book.clone(), one));
    }

    /// A client that prefers the node at each place.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// How legs of some bundles climbed on their rollups.
    pub fn climbs(&self) -> Vec<Climb> {
        self.levels.as_ref().map(Levels::climbs).unwrap_or_default()
    }

    /// What was written down so far.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// What there is to see now.
    pub fn snapshot(&mut self) -> table::Snapshot {
        let height = self.book.height();
        let block_rate = self.pace.note(height);
        let lane = |(rollup, name): (_, &str)| {
            let view = self.watch.lane(rollup);
            table::Lane {
                rollup: rollup.0,
                name: name.to_owned(),
                sequence: view.sequence,
                entries: view.entries,
                verified: view.verified.0,
                followers_good: view.good,
                followers: view.followers,
            }
        };
        let lanes = ROLLUPS.map(lane).to_vec();
        let validators = self.network.validators().len();
        let validators_up = self.network.running();
        let finality = self.book.finality().percentiles();
        let chains = self.rollups.as_ref().map(Rollups::view).unwrap_or_default();
        let ledger = self.book.ledger();
        let counts = ledger.counts();
        table::Snapshot {
            elapsed: self.began.elapsed(),
            validators_up,
            validators,
            height: height.0,
            block_rate,
            finality,
            ordered: counts.ordered,
            pending: ledger.pending().count() as u64,
            not_ordered: counts.not_ordered.values().sum(),
            refused: counts.refused.clone(),
            lanes,
            breaches: ledger.breaches().count()
                + self.venues.as_ref().map_or(0, |venues| venues.view().breaches)
                + chains.rollups.iter().map(RollupView::disagreements).sum::<u64>(),
            chains,
            venues: self.venues.as_ref().map(Venues::view),
            kills: None,
        }
    }

    /// Stops to send, waits for every outcome, and judges the promises. All validators must run.
    pub async fn finish(&mut self) -> Ending {
        let elapsed = self.began.elapsed();
        let mut margin = None;
        if let Some(venues) = &mut self.venues {
            if !venues.close(DRAIN_TIMEOUT).await {
                tracing::warn!("players' bundles are without an outcome after {DRAIN_TIMEOUT:?}");
            }
            if !venues.rest(SETTLE_TIMEOUT).await {
                tracing::warn!("settlements are not applied after {SETTLE_TIMEOUT:?}");
            }
            margin = Some(venues.promise());
        }
        if let Some(traffic) = self.traffic.take()
            && !traffic.drain(DRAIN_TIMEOUT).await
        {
            tracing::warn!("bundles are without an outcome after {DRAIN_TIMEOUT:?}");
        }
        let height = self.book.height();
        // Past it nothing was ordered, so that from there on all followers stand at the same leaf.
        let last_ordered = self.book.ledger().last_ordered();
        if !self.watch.reach(last_ordered, REACH_TIMEOUT).await {
            tracing::warn!("followers have not reached height {last_ordered} after {REACH_TIMEOUT:?}");
        }
        let credits = self.credits().await.map_err(|error| format!("they cannot be read: {error:#}"));
        let ends = self.watch.ends();
        let executed = match &mut self.rollups {
            Some(rollups) => {
                let mut expected: Vec<_> =
                    self.senders.iter().map(|sender| (sender.wallet(), [sender.transfers(); 2])).collect();
                expected.extend(self.venues.iter().flat_map(Venues::expected));
                vec![promises::executed(&settle(rollups, &expected).await)]
            }
            None => Vec::new(),
        };
        let finality = self.book.finality().percentiles();
        let chains = self.rollups.as_ref().map(Rollups::view).unwrap_or_default();
        let venues = self.venues.as_ref().map(Venues::view);
        let climbs = self.climbs();
        let mut ledger = self.book.ledger();
        let mut promises = promises::judge(&mut ledger, &ends, last_ordered, credits);
        promises.extend(executed);
        promises.extend(margin);
        Ending { elapsed, height, counts: ledger.counts().clone(), finality, chains, climbs, venues, promises }
    }

    /// Stops the rollups, then the validators.
    pub async fn stop_all(&mut self) -> Result<()> {
        if let Some(rollups) = &mut self.rollups {
            rollups.stop_all().await?;
        }
        self.network.stop_all().await.map(drop)
    }

    /// All credits that there are, each proven. Nothing may be ordered meanwhile.
    async fn credits(&self) -> Result<Credits> {
        let client = &self.clients[0];
        let genesis = self.network.genesis();
        let mut credits = Credits { supply: genesis.rules()?.supply, ..Credits::default() };
        for balance in &genesis.balances {
            let record = client.account(balance.account).await?.value.context("a funded account has a record")?;
            let sum = credits.accounts.checked_add(record.balance);
            credits.accounts = sum.context("all balances together exceed 64 bits")?;
        }
        credits.treasury = Nodes::new(&self.network)?.treasury(0).await?;
        Ok(credits)
    }
}

/// Waits until the rollups have executed everything, and L1 leads there; then looks at what they hold.
async fn settle(rollups: &mut Rollups, expected: &[(Address, [u64; ROLLUPS.len()])]) -> Vec<Execution> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut executions = rollups.executions(expected).await;
    // What does not answer just now is asked again.
    let open = |execution: &Execution| execution.missing > 0 || execution.height == u64::MAX;
    while executions.iter().any(open) && Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
        executions = rollups.executions(expected).await;
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let heights: Vec<_> = executions.iter().map(|execution| execution.height).collect();
    rollups
        .reach(left, |view| {
            let arrived = |(rollup, height): (&RollupView, &u64)| {
                rollup.derived >= Some(*height) && rollup.stock.is_none_or(|stock| stock.safe >= Some(*height))
            };
            view.rollups.len() == heights.len() && view.rollups.iter().zip(&heights).all(arrived)
        })
        .await;
    for (execution, seen) in executions.iter_mut().zip(rollups.view().rollups) {
        (execution.derived, execution.agreed, execution.stock) = (seen.derived.unwrap_or(0), seen.agreed, seen.stock);
        execution.trouble = seen.trouble;
    }
    executions
}

impl Pace {
    /// Blocks a second since a second or more ago.
    fn note(&mut self, height: Height) -> f64 {
        let passed = self.at.elapsed();
        if passed >= Duration::from_secs(1) {
            self.rate = height.0.saturating_sub(self.height.0) as f64 / passed.as_secs_f64();
            (self.at, self.height) = (Instant::now(), height);
        }
        self.rate
    }
}

/// For each node a client that asks it first and knows all others.
fn clients(network: &Network) -> Result<Vec<Client>> {
    let urls = network.urls();
    (0..urls.len())
        .map(|first| {
            let nodes = urls.iter().cycle().skip(first).take(urls.len()).cloned().collect();
            client(network, nodes)
        })
        .collect()
}

fn client(network: &Network, nodes: Vec<String>) -> Result<Client> {
    let trust = Trust::from_genesis(network.genesis())?;
    Ok(Client::new(trust, Config { nodes, ..Config::default() })?)
}
