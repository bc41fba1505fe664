//! Moves margin between venues: both legs or neither, in one call.
//!
//! ```text
//! MarginTransfer --prepare_transfer--> SignedBundle --run_transfer--> steps: Ordered, Prepared, Decided, Applied, Settled
//! ```
//!
//! The signed bundle is all that has to be kept: it holds the intent, both `prepare` transactions and every signature. Write
//! it down before it is run. After a crash the same bundle is run again: it has the same id and the same settlement id, is
//! ordered at most once, and the steps are told from the beginning.
//!
//! * [`venue`]: what a venue's rollup says, `native`: the bytes it gets.
//! * [`steps`]: how far a transfer is, proven. [`dry_run`]: why it would be refused, before anything is sent.
//! * [`reason`]: why it did not go through.
//!
//! ```no_run
//! use std::time::Duration;
//! use lockstep_sdk::{Client, protocol::{ids::{AssetId, RollupId}, signature::AccountKey}};
//! use lockstep_sdk::transfer::{MarginTransfer, Venue, Wallet, steps::Step};
//!
//! # async fn hedge(client: Client, asset: AssetId, here: Venue, there: Venue, wallet: Wallet) -> Result<(), Box<dyn std::error::Error>> {
//! let key = AccountKey::ed25519([7; 32]);
//! let transfer = MarginTransfer::new(asset).debit(&here, &wallet, 1_000_000).credit(&there, &wallet, 1_000_000);
//! let signed = client.prepare_transfer(&transfer, &key).await?;
//! std::fs::write("transfer.json", serde_json::to_vec(&signed)?)?;
//! let mut run = client.run_transfer(signed, transfer.venues())?;
//! while let Some(step) = run.next(Duration::from_secs(60)).await? {
//!     println!("{step}");
//! }
//! # Ok(())
//! # }
//! ```

pub mod dry_run;
pub(crate) mod native;
pub mod reason;
pub mod steps;
pub mod venue;

use std::collections::BTreeMap;

use lockstep_protocol::{
    bundle::SignedBundle,
    ids::{AssetId, Height},
    limits::{MAX_DEADLINE, MIN_DEADLINE},
    refusal::Refusal,
    settlement::{self, Intent, Level, SettlementLeg, Side},
    signature::AccountKey,
};

pub use native::Wallet;
pub use reason::Reason;
pub use steps::{Step, TransferRun};
pub use venue::Venue;

use crate::{
    bundle::{BuildError, BundleBuilder},
    client::Client,
    error::Error,
};
use native::{Native, prepare_call};
use venue::VenueError;

/// Gas of a `prepare` that never meets the contract's floor: `MarginEscrow.PREPARE_GAS`.
pub const PREPARE_GAS: u64 = 500_000;
/// Heights from the tip to the deadline if nothing else is said: half a minute under load, two of an idle network.
pub const DEFAULT_DEADLINE: u64 = 128;
/// Wei for a unit of gas to whoever makes the rollup's block: the log has ordered it, so little does.
const PRIORITY_FEE: u128 = 1_000_000;
/// The base fee that is paid at most, over the latest: it doubles in six full blocks.
const BASE_FEE_FACTOR: u128 = 2;

/// A transfer of one asset between venues, before it is signed.
#[derive(Clone, Debug)]
#[must_use = "a transfer does nothing until it is prepared"]
pub struct MarginTransfer {
    asset: AssetId,
    legs: Vec<TransferLeg>,
    level: Level,
    deadline_in: u64,
    nonce: Option<u64>,
    gas_limit: u64,
    tip: u64,
    tag: [u8; 16],
}

/// What one venue does.
#[derive(Clone, Debug)]
struct TransferLeg {
    venue: Venue,
    wallet: Wallet,
    side: Side,
    amount: u128,
}

/// A transfer cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts of the causes say what each variant means")]
pub enum TransferError {
    #[error(transparent)]
    Ask(Box<Error>),
    #[error(transparent)]
    Venue(#[from] VenueError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("the deadline is {found} heights ahead, {min} to {max} are allowed")]
    Deadline { min: u64, max: u64, found: u64 },
    #[error("a bundle that is no settlement")]
    NoSettlement,
}

impl From<Error> for TransferError {
    fn from(error: Error) -> Self {
        Self::Ask(Box::new(error))
    }
}

impl From<Refusal> for TransferError {
    fn from(refusal: Refusal) -> Self {
        Self::Build(refusal.into())
    }
}

impl MarginTransfer {
    /// A transfer of `asset` without legs, shown on executed blocks.
    pub fn new(asset: AssetId) -> Self {
        Self {
            asset,
            legs: Vec::new(),
            level: Level::Executed,
            deadline_in: DEFAULT_DEADLINE,
            nonce: None,
            gas_limit: PREPARE_GAS,
            tip: 0,
            tag: [0; 16],
        }
    }

    /// Takes `amount` from the wallet's margin at a venue. In the asset's smallest unit.
    pub fn debit(self, venue: &Venue, wallet: &Wallet, amount: u128) -> Self {
        self.leg(venue, wallet, Side::Debit, amount)
    }

    /// Gives `amount` to the wallet's margin at a venue, out of its escrow's inventory. In the asset's smallest unit.
    pub fn credit(self, venue: &Venue, wallet: &Wallet, amount: u128) -> Self {
        self.leg(venue, wallet, Side::Credit, amount)
    }

    fn leg(mut self, venue: &Venue, wallet: &Wallet, side: Side, amount: u128) -> Self {
        self.legs.push(TransferLeg { venue: venue.clone(), wallet: wallet.clone(), side, amount });
        self
    }

    /// How settled a rollup's block must be to count as evidence. Higher is slower, and safe from reorganizations below.
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Heights from the tip until it is decided at the latest: how long the margin may be locked.
    pub fn deadline_in(mut self, heights: u64) -> Self {
        self.deadline_in = heights;
        self
    }

    /// The bundle's nonce, for who has several bundles on the way. By default the account's next.
    pub fn nonce(mut self, nonce: u64) -> Self {
        self.nonce = Some(nonce);
        self
    }

    /// Gas of each `prepare`. Only for rollups that charge more than the call, for instance for L1.
    pub fn gas_limit(mut self, gas: u64) -> Self {
        self.gas_limit = gas;
        self
    }

    /// Credits on top of the log's base fees.
    pub fn tip(mut self, credits: u64) -> Self {
        self.tip = credits;
        self
    }

    /// Your own label, returned in reports.
    pub fn tag(mut self, tag: [u8; 16]) -> Self {
        self.tag = tag;
        self
    }

    /// The venues of its legs, in their order.
    pub fn venues(&self) -> Vec<Venue> {
        self.legs.iter().map(|leg| leg.venue.clone()).collect()
    }

    /// What the log is asked to settle.
    fn settlement(&self, deadline: Height) -> settlement::MarginTransfer {
        let legs = self.legs.iter().map(|leg| SettlementLeg {
            rollup: leg.venue.rollup(),
            escrow: leg.venue.escrow(),
            account: leg.wallet.address(),
            asset: self.asset,
            side: leg.side,
            amount: leg.amount,
            level: self.level,
        });
        settlement::MarginTransfer { legs: legs.collect(), deadline }
    }
}

impl Client {
    /// Signs a transfer: a `prepare` transaction for each leg, with what the rollups say of nonces and fees, and the bundle
    /// around them. Sends nothing.
    ///
    /// The bundle's nonce is the account's next one *now*, and the transactions' nonces those that the rollups have executed:
    /// whoever prepares a second transfer before the first is executed gives the first one's place to it.
    pub async fn prepare_transfer(
        &self,
        transfer: &MarginTransfer,
        key: &AccountKey,
    ) -> Result<SignedBundle, TransferError> {
        let found = transfer.deadline_in;
        // One height passes at least until it is ordered.
        let (min, max) = (MIN_DEADLINE + 1, MAX_DEADLINE);
        if !(min..=max).contains(&found) {
            return Err(TransferError::Deadline { min, max, found });
        }
        let record = self.account(key.account()).await?;
        let next = record.value.map_or(0, |record| record.nonces.next());
        let (nonce, tip) = (transfer.nonce.unwrap_or(next), record.header.height);
        let settlement = transfer.settlement(Height(tip.0.saturating_add(found)));
        settlement.check_shape()?;
        let intent = Intent { account: key.account(), nonce, transfer: settlement };
        // After this height it would be refused: its deadline would be too near.
        let valid_for = found - MIN_DEADLINE;
        let mut bundle = BundleBuilder::new().nonce(nonce).valid_for(valid_for).tip(transfer.tip).tag(transfer.tag);
        // By rollup and address: a wallet's transactions on one rollup follow each other.
        let mut nonces = BTreeMap::new();
        for (place, leg) in (0_u8..).zip(&transfer.legs) {
            let sender = (leg.venue.rollup(), leg.wallet.address());
            let nonce = match nonces.get(&sender) {
                Some(next) => *next,
                None => {
                    leg.venue.check_chain().await?;
                    leg.venue.nonce(leg.wallet.address()).await?
                }
            };
            nonces.insert(sender, nonce.saturating_add(1));
            let base_fee = leg.venue.base_fee().await?;
            let transaction = Native {
                chain_id: leg.venue.rollup().0,
                nonce,
                priority_fee: PRIORITY_FEE,
                max_fee: base_fee.saturating_mul(BASE_FEE_FACTOR).saturating_add(PRIORITY_FEE),
                gas_limit: transfer.gas_limit,
                to: leg.venue.escrow(),
                input: prepare_call(&intent, place),
            };
            bundle = bundle.leg(leg.venue.rollup(), [transaction.sign(&leg.wallet)]);
        }
        let bundle = bundle.settlement(intent.transfer).estimate(&self.fees().await?)?;
        Ok(bundle.sign(self.trust().network(), key, tip)?)
    }
}
