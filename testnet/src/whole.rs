//! How does a city start that has everything in it: L1, validators, rollups, relayers, venues?
//!
//! The order in which the parts need each other. What they are is told elsewhere.

use std::path::PathBuf;

use alloy_primitives::Address;
use anyhow::Result;
use lockstep_protocol::genesis::Balance;
use lockstep_sequencer::config::{L1Config, Pace};

use crate::{
    city::City,
    network::Plan,
    rollups::{L1Kind, OpStack, Rollups, relays},
    venues::Cast,
};

/// How often validators ask L1.
const L1_POLL_MS: u64 = 200;

/// What the city shall be.
#[derive(Clone, Debug)]
pub struct Choices {
    /// The executable whose commands run the parts.
    pub executable: PathBuf,
    /// Where all files go.
    pub folder: PathBuf,
    /// How many validators.
    pub validators: usize,
    /// Nodes at which followers begin.
    pub followers: Vec<usize>,
    /// What the rollups are posted to.
    pub l1: L1Kind,
    /// What the OP Stack rollup runs on, if not on the embedded node.
    pub op_stack: Option<OpStack>,
    /// Who else has credits.
    pub balances: Vec<Balance>,
    /// A wallet with ether, and margin at both venues.
    pub visitor: Address,
    /// A second relayer for each rollup.
    pub standby: bool,
}

/// What has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many validators serve.
    Validators(usize),
    /// L1 and the rollups, with all their parts.
    Rollups,
    /// The venues.
    Venues,
}

/// Starts it all. Nobody trades yet, and there is no traffic.
pub async fn start(choices: Choices, mut tell: impl FnMut(Step)) -> Result<City> {
    let Choices { executable, folder, validators, followers, l1, op_stack, balances, visitor, standby } = choices;
    let cast = Cast::new(visitor);
    let wallets = City::wallets().into_iter().chain(cast.wallets()).chain(relays::wallets()).collect();
    let l1 = Rollups::start_l1(&executable, &folder, wallets, l1).await?.with_op_stack(op_stack);
    let plan = Plan {
        executable,
        folder: folder.clone(),
        validators,
        balances: balances.into_iter().chain(cast.balances()).chain(relays::balances()).collect(),
        pace: Pace::default(),
        l1: Some(L1Config { confirmations: 1, poll_ms: L1_POLL_MS, ..L1Config::new(l1.url()) }),
        settlement: Some(cast.settlement(l1.rollup_urls(), l1.poster_urls())),
    };
    let mut city = City::start(plan, &followers, |ready| tell(Step::Validators(ready))).await?;
    city.join_rollups(l1).await?;
    city.start_relays(standby)?;
    tell(Step::Rollups);
    city.open_venues(cast).await?;
    tell(Step::Venues);
    Ok(city)
}
