//! How do several transactions get into L1 blocks, in order, exactly the ones that were meant?
//!
//! They take consecutive nonces from L1's own count, so their order is L1's rule and not luck. One that is not included is
//! offered again at a higher price under the same nonce, so at most one of its versions counts. If somebody else uses a nonce
//! (a second poster, an earlier run), the round ends with [`SendError::Displaced`]: what is missing then is derived anew.
//!
//! L1 that is down or slow is waited for. What was included may be taken back by a reorganisation later: that too shows when
//! what to post is derived from L1 the next time, so it is not watched for here.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, B256};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use serde::{Deserialize, Serialize};

use super::{
    envelope::{Draft, EnvelopeError, Sidecar},
    fees::{self, Caps, FeeConfig, Market, Price},
    l1::{L1, Receipt},
    rpc::RpcError,
    signer::Signer,
    verdict::{Handed, Judged, judge},
};
use crate::retry::Backoff;

/// What an L1 transaction should do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Where it goes.
    pub to: Address,
    /// Calldata.
    pub data: Vec<u8>,
    /// Blobs of 131,072 bytes.
    pub blobs: Vec<Vec<u8>>,
    /// Gas limit, where it is known; otherwise L1 is asked for an estimate.
    pub gas: Option<u64>,
}

/// How transactions are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SenderConfig {
    /// What may be paid.
    pub fees: FeeConfig,
    /// Proofs that go with blobs.
    pub sidecar: Sidecar,
    /// L1 blocks after which a transaction that is not included is offered at a higher price.
    pub bump_after_blocks: u64,
    /// L1 blocks after which a round is given up and derived anew.
    pub give_up_after_blocks: u64,
    /// Pause between two looks at L1, milliseconds.
    pub poll_ms: u64,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            fees: FeeConfig::default(),
            sidecar: Sidecar::default(),
            // The offer leaves room for six full blocks in a row; half of them show that it was not the base fee.
            bump_after_blocks: 3,
            // A channel that is not closed by then is lost on the OP Stack.
            give_up_after_blocks: 50,
            poll_ms: 1_000,
        }
    }
}

/// A transaction in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// Its hash.
    pub hash: B256,
    /// The L1 block.
    pub block: u64,
    /// Whether it did what it was sent for; one that reverted is included too.
    pub succeeded: bool,
    /// What it cost, wei, without blobs.
    pub cost: u128,
}

/// Why a round ended without all of it in blocks. None of these needs a person, except where it says so.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// L1 was asked too often in vain.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// A nonce of ours was used by a transaction that is not of this round.
    #[error("nonce {nonce} was used by another transaction")]
    Displaced {
        /// The nonce.
        nonce: u64,
    },
    /// The market, or what a replacement must offer, is above the configured caps.
    #[error("L1 asks for more than the configured cap: base fee {base_fee} wei, blob base fee {blob_base_fee} wei")]
    TooDear {
        /// Wei a unit of gas.
        base_fee: u128,
        /// Wei a unit of blob gas.
        blob_base_fee: u128,
    },
    /// Not included in time, though L1 moved on.
    #[error("nonce {nonce} was not included within {blocks} L1 blocks")]
    Stuck {
        /// The nonce.
        nonce: u64,
        /// How long was waited.
        blocks: u64,
    },
    /// L1's pool has blobs from this key and takes no calldata, or the other way round: what is there must be replaced by its like.
    #[error("L1's pool has a transaction of this key of the other kind, blobs or calldata: {0}")]
    Reserved(RpcError),
    /// L1 refuses the transaction for good: a person should look.
    #[error("L1 refuses the transaction: {0}")]
    Refused(RpcError),
    /// Nothing was signed: a person should look.
    #[error("not signed: {0}")]
    Unsigned(String),
}

impl From<EnvelopeError> for SendError {
    fn from(error: EnvelopeError) -> Self {
        Self::Unsigned(error.to_string())
    }
}

/// What a sender counts.
#[derive(Clone, Debug, Default)]
pub struct SenderMetrics {
    /// Transactions in blocks.
    pub included: Counter,
    /// Replacements sent.
    pub replaced: Counter,
    /// Rounds that ended because somebody else used a nonce.
    pub displaced: Counter,
    /// 1 while L1 asks for more than the caps.
    pub too_dear: Gauge,
    /// Wei spent on gas, without blobs; in gwei.
    pub spent_gwei: Counter,
}

impl SenderMetrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("l1_transactions_included", "L1 transactions in blocks", self.included.clone());
        registry.register("l1_transactions_replaced", "Replacements at a higher price", self.replaced.clone());
        registry.register("l1_rounds_displaced", "Rounds ended by another user of the nonce", self.displaced.clone());
        registry.register("l1_too_dear", "1 while L1 asks for more than the caps", self.too_dear.clone());
        registry.register("l1_spent_gwei", "Gwei paid for gas, without blobs", self.spent_gwei.clone());
    }
}

/// Polls in which a node may lack the receipt of a transaction whose nonce it counts: load-balanced nodes disagree briefly.
const RECEIPT_POLLS_MAX: u32 = 5;
/// Failed calls in a row before a round is given up; with the longest pause of [`Backoff`], several minutes.
const FAILURES_MAX: u32 = 60;
/// Attempts to outbid what an earlier run left in the pool: 1.1^80 covers every cap.
const OUTBID_MAX: usize = 80;
/// Transactions of one round: a channel and a half on the OP Stack.
pub const ROUND_MAX: usize = 40;

/// Sends transactions of one key.
pub struct Sender {
    l1: Arc<L1>,
    signer: Signer,
    chain_id: u64,
    config: SenderConfig,
    caps: Caps,
    metrics: SenderMetrics,
}

/// A transaction on its way.
struct Flight {
    nonce: u64,
    draft: Draft,
    price: Price,
    /// Hashes of all versions that were sent.
    hashes: Vec<B256>,
    raw: Vec<u8>,
    /// L1 block number at which the last version was sent.
    sent_at: u64,
    missing_polls: u32,
    included: Option<Included>,
}

impl Sender {
    /// A sender on the chain that `l1` serves.
    pub async fn new(l1: Arc<L1>, signer: Signer, config: SenderConfig) -> Result<Self, RpcError> {
        let chain_id = l1.chain_id().await?;
        let caps = config.fees.caps();
        Ok(Self { l1, signer, chain_id, config, caps, metrics: SenderMetrics::default() })
    }

    /// The address that pays.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// L1 itself.
    pub fn l1(&self) -> &L1 {
        &self.l1
    }

    /// What is counted.
    pub fn metrics(&self) -> &SenderMetrics {
        &self.metrics
    }

    /// What L1 asks at the moment.
    pub async fn market(&self) -> Result<Market, RpcError> {
        let latest = self.l1.latest().await?;
        let tip = match self.l1.priority_fee().await {
            Ok(tip) => tip,
            // Not a method that every node has; the least tip is then the tip.
            Err(RpcError::Call { .. }) => 0,
            Err(error) => return Err(error),
        };
        Ok(Market { base_fee: latest.base_fee, tip, blob_base_fee: latest.blob_base_fee })
    }

    /// Waits until nothing of an earlier run is in L1's pool, or until it is clear that it is stuck there.
    ///
    /// What waits there is most likely what would be sent now. Returns whether the pool is clear; if not, the next round
    /// replaces what is there.
    pub async fn settle(&self) -> Result<bool, RpcError> {
        let mut begin = None;
        let mut backoff = Backoff::new(FAILURES_MAX);
        loop {
            let looked = async {
                let address = self.address();
                let (latest, pending) = (self.l1.nonce(address).await?, self.l1.pending_nonce(address).await?);
                Ok::<_, RpcError>((pending > latest, self.l1.latest().await?.number))
            };
            match looked.await {
                Ok((false, _)) => return Ok(true),
                Ok((true, block)) => {
                    backoff.succeeded();
                    let begin = *begin.get_or_insert(block);
                    if block.saturating_sub(begin) >= self.config.bump_after_blocks {
                        tracing::warn!(address = %self.address(), "transactions of an earlier run are stuck, replacing them");
                        return Ok(false);
                    }
                    tokio::time::sleep(Duration::from_millis(self.config.poll_ms)).await;
                }
                Err(error) => backoff.failed(error).await?,
            }
        }
    }

    /// Sends `requests` in order and waits until all are in blocks.
    ///
    /// Dropping the future forgets the round; what was sent stays sent. At most [`ROUND_MAX`] requests are taken; the caller
    /// cuts before.
    pub async fn send(&mut self, requests: Vec<Request>) -> Result<Vec<Included>, SendError> {
        let mut backoff = Backoff::new(FAILURES_MAX);
        let mut drafts = Vec::new();
        for request in requests.into_iter().take(ROUND_MAX) {
            drafts.push(self.draft(request, &mut backoff).await?);
        }
        let (first, market, block) = loop {
            let start = async {
                let nonce = self.l1.nonce(self.address()).await?;
                Ok::<_, RpcError>((nonce, self.market().await?, self.l1.latest().await?.number))
            };
            match start.await {
                Ok(start) => break start,
                Err(error) => backoff.failed(error).await?,
            }
        };
        let mut flights = Vec::with_capacity(drafts.len());
        for (nonce, draft) in (first..).zip(drafts) {
            let flight = self.launch(nonce, draft, &market, block, &mut backoff).await?;
            flights.push(flight);
        }
        self.follow(flights, block, &mut backoff).await
    }

    async fn draft(&self, request: Request, backoff: &mut Backoff) -> Result<Draft, SendError> {
        let gas = match request.gas {
            Some(gas) => gas,
            None => loop {
                match self.l1.estimate_gas(self.address(), request.to, &request.data).await {
                    // State moves until inclusion: a fifth more than now.
                    Ok(gas) => break gas.saturating_add(gas / 5),
                    Err(error @ RpcError::Call { .. }) => return Err(SendError::Refused(error)),
                    Err(error) => backoff.failed(error).await?,
                }
            },
        };
        Ok(Draft::new(request.to, request.data, &request.blobs, gas, self.config.sidecar)?)
    }

    fn too_dear(&self, market: &Market) -> SendError {
        self.metrics.too_dear.set(1);
        SendError::TooDear { base_fee: market.base_fee, blob_base_fee: market.blob_base_fee }
    }

    /// Sends the first version of a transaction, outbidding what is in the pool under its nonce.
    async fn launch(
        &self,
        nonce: u64,
        draft: Draft,
        market: &Market,
        block: u64,
        backoff: &mut Backoff,
    ) -> Result<Flight, SendError> {
        let blobs = draft.has_blobs();
        let mut price = fees::first_offer(market, &self.caps, blobs).ok_or_else(|| self.too_dear(market))?;
        self.metrics.too_dear.set(0);
        let mut hashes = Vec::new();
        for _ in 0..OUTBID_MAX {
            let signed = draft.sign(&self.signer, self.chain_id, nonce, &price).await?;
            hashes.push(signed.hash);
            match self.hand_over(&signed.raw, backoff).await? {
                Handed::Taken => {
                    let raw = signed.raw;
                    return Ok(Flight {
                        nonce,
                        draft,
                        price,
                        hashes,
                        raw,
                        sent_at: block,
                        missing_polls: 0,
                        included: None,
                    });
                }
                Handed::Used => {
                    self.metrics.displaced.inc();
                    return Err(SendError::Displaced { nonce });
                }
                Handed::Underpriced => {
                    price =
                        fees::replacement(&price, market, &self.caps, blobs).ok_or_else(|| self.too_dear(market))?;
                    self.metrics.replaced.inc();
                }
            }
        }
        Err(self.too_dear(market))
    }

    async fn hand_over(&self, raw: &[u8], backoff: &mut Backoff) -> Result<Handed, SendError> {
        loop {
            match self.l1.send(raw).await {
                Ok(_) => {
                    backoff.succeeded();
                    return Ok(Handed::Taken);
                }
                Err(error) => match error.call().map(|(_, message)| judge(message)) {
                    Some(Judged::Handed(handed)) => return Ok(handed),
                    Some(Judged::Reserved) => return Err(SendError::Reserved(error)),
                    Some(Judged::Refused) => return Err(SendError::Refused(error)),
                    // The node is in trouble, or we have no money: both may pass.
                    Some(Judged::Later) | None => backoff.failed(error).await?,
                },
            }
        }
    }

    /// Looks after transactions until all are in blocks.
    async fn follow(
        &self,
        mut flights: Vec<Flight>,
        begin: u64,
        backoff: &mut Backoff,
    ) -> Result<Vec<Included>, SendError> {
        while flights.iter().any(|flight| flight.included.is_none()) {
            tokio::time::sleep(Duration::from_millis(self.config.poll_ms)).await;
            let looked = async {
                let nonce = self.l1.nonce(self.address()).await?;
                let block = self.l1.latest().await?.number;
                for flight in flights.iter_mut().filter(|flight| flight.nonce < nonce && flight.included.is_none()) {
                    flight.included = self.find(&flight.hashes).await?;
                    flight.missing_polls += u32::from(flight.included.is_none());
                }
                Ok::<_, RpcError>((nonce, block))
            };
            let (nonce, block) = match looked.await {
                Ok(looked) => looked,
                Err(error) => {
                    backoff.failed(error).await?;
                    continue;
                }
            };
            backoff.succeeded();
            if let Some(lost) = flights.iter().find(|flight| flight.missing_polls > RECEIPT_POLLS_MAX) {
                self.metrics.displaced.inc();
                return Err(SendError::Displaced { nonce: lost.nonce });
            }
            let Some(oldest) = flights.iter().position(|flight| flight.nonce >= nonce) else { continue };
            if block.saturating_sub(begin) >= self.config.give_up_after_blocks {
                let nonce = flights[oldest].nonce;
                return Err(SendError::Stuck { nonce, blocks: self.config.give_up_after_blocks });
            }
            // Later ones wait for the oldest: they are raised with it, or they would be the next to get stuck.
            if block.saturating_sub(flights[oldest].sent_at) >= self.config.bump_after_blocks {
                for flight in &mut flights[oldest..] {
                    self.raise(flight, block, backoff).await?;
                }
            }
        }
        let included: Vec<_> = flights.into_iter().filter_map(|flight| flight.included).collect();
        for included in &included {
            self.metrics.included.inc();
            self.metrics.spent_gwei.inc_by(u64::try_from(included.cost / 1_000_000_000).unwrap_or(u64::MAX));
        }
        Ok(included)
    }

    /// Offers a transaction again, at a higher price where the caps allow it.
    async fn raise(&self, flight: &mut Flight, block: u64, backoff: &mut Backoff) -> Result<(), SendError> {
        let market = match self.market().await {
            Ok(market) => market,
            Err(error) => {
                backoff.failed(error).await?;
                return Ok(());
            }
        };
        flight.sent_at = block;
        let Some(price) = fees::replacement(&flight.price, &market, &self.caps, flight.draft.has_blobs()) else {
            if self.metrics.too_dear.set(1) == 0 {
                tracing::warn!(nonce = flight.nonce, base_fee = %market.base_fee, "L1 asks for more than the cap, waiting");
            }
            // The same again, in case the pool dropped it.
            self.hand_over(&flight.raw, backoff).await?;
            return Ok(());
        };
        self.metrics.too_dear.set(0);
        let signed = flight.draft.sign(&self.signer, self.chain_id, flight.nonce, &price).await?;
        // Noted before it is sent: a version that was sent and not noted could not be recognised.
        flight.hashes.push(signed.hash);
        flight.price = price;
        flight.raw = signed.raw;
        self.hand_over(&flight.raw, backoff).await?;
        self.metrics.replaced.inc();
        tracing::info!(nonce = flight.nonce, fee = %price.fee, tip = %price.tip, "replaced a transaction that was not included");
        Ok(())
    }

    async fn find(&self, hashes: &[B256]) -> Result<Option<Included>, RpcError> {
        // The latest version is the likeliest.
        for hash in hashes.iter().rev() {
            if let Some(receipt) = self.l1.receipt(*hash).await? {
                return Ok(Some(included(&receipt)));
            }
        }
        Ok(None)
    }
}

fn included(receipt: &Receipt) -> Included {
    Included {
        hash: receipt.transaction_hash,
        block: receipt.block_number.to(),
        succeeded: receipt.succeeded(),
        cost: receipt.effective_gas_price.to::<u128>().saturating_mul(receipt.gas_used.to()),
    }
}
