//! What have the contracts of a rollup said since somebody last listened?
//!
//! Logs in their order, and what their transactions cost. A place that moves forward; judges nothing.

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_sol_types::SolEventInterface;
use anyhow::Result;
use jsonrpsee_core::{
    client::{BatchResponse, ClientT},
    params::{ArrayParams, BatchRequestBuilder},
    rpc_params,
};
use jsonrpsee_http_client::HttpClient;
use lockstep_contracts::abi::{
    MarginEscrow::MarginEscrowEvents, ReferenceVenue::ReferenceVenueEvents, SettlementHub::SettlementHubEvents,
};
use lockstep_protocol::ids::SettlementId;
use serde::Deserialize;
use serde_json::json;

use super::{Contracts, reading};

/// Blocks that are listened to at once: seconds of the faster rollup, and within what nodes serve.
const BLOCKS_MAX: u64 = 1_000;
/// Receipts that are asked for at once, within what nodes take in a batch.
const RECEIPTS_MAX: usize = 500;

/// A leg of a settlement.
pub type LegId = (SettlementId, u8);

/// What a contract said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the contracts' own words")]
pub enum Event {
    Deposited { account: Address, amount: u128 },
    Withdrawn { account: Address, amount: u128 },
    Moved { from: Address, to: Address },
    Prepared { leg: LegId, account: Address, debit: bool, amount: u128 },
    Refused { leg: LegId, account: Address, reason: u8 },
    Committed { leg: LegId },
    Released { leg: LegId },
    Short { leg: LegId },
    Liquidated { account: Address, bad_debt: u128 },
    DecisionsTaken { sequence: u64 },
}

/// What a transaction of a settlement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It prepares a leg, or is refused to.
    Prepare,
    /// It has the hub take decisions.
    HubCall,
}

impl Event {
    /// What the transaction does in which this was said, if it settles.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Prepared { .. } | Self::Refused { .. } => Some(Kind::Prepare),
            Self::DecisionsTaken { .. } => Some(Kind::HubCall),
            _ => None,
        }
    }
}

/// What was said, and in which transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The transaction.
    pub transaction: B256,
    /// What.
    pub event: Event,
}

/// Gas that a transaction used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Which.
    pub transaction: B256,
    /// How much.
    pub gas: u64,
}

/// What was heard at once.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The last block of it.
    pub block: u64,
    /// In order.
    pub said: Vec<Said>,
    /// Of the transactions in which it was said.
    pub costs: Vec<Cost>,
}

#[derive(Deserialize)]
struct Log {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    #[serde(rename = "transactionHash")]
    transaction: B256,
}

#[derive(Deserialize, Debug)]
struct Receipt {
    #[serde(rename = "transactionHash")]
    transaction: B256,
    #[serde(rename = "gasUsed")]
    gas_used: U64,
}

/// Everything from `next` on that the contracts said, up to the newest block or as much as is listened to at once.
pub(super) async fn listen(node: &HttpClient, contracts: &Contracts, next: u64) -> Result<Option<Heard>> {
    let head = reading::head(node).await?;
    if head < next {
        return Ok(None);
    }
    let block = head.min(next + BLOCKS_MAX - 1);
    let filter = json!({
        "fromBlock": format!("{next:#x}"), "toBlock": format!("{block:#x}"),
        "address": [contracts.escrow, contracts.venue, contracts.hub],
    });
    let logs: Vec<Log> = node.request("eth_getLogs", rpc_params![filter]).await?;
    let said: Vec<_> = logs.iter().filter_map(|log| decode(contracts, log)).collect();
    let mut transactions: Vec<_> = said.iter().map(|said| said.transaction).collect();
    transactions.dedup();
    transactions.truncate(RECEIPTS_MAX);
    let costs = receipts(node, &transactions).await?;
    Ok(Some(Heard { block, said, costs }))
}

async fn receipts(node: &HttpClient, transactions: &[B256]) -> Result<Vec<Cost>> {
    if transactions.is_empty() {
        return Ok(Vec::new());
    }
    let mut batch = BatchRequestBuilder::new();
    for transaction in transactions {
        let mut params = ArrayParams::new();
        params.insert(transaction)?;
        batch.insert("eth_getTransactionReceipt", params)?;
    }
    let answers: BatchResponse<'_, Option<Receipt>> = node.batch_request(batch).await?;
    let receipts = answers.into_iter().filter_map(Result::ok).flatten();
    Ok(receipts.map(|receipt| Cost { transaction: receipt.transaction, gas: receipt.gas_used.to() }).collect())
}

/// What of it the city keeps books of.
fn decode(contracts: &Contracts, log: &Log) -> Option<Said> {
    let event = if log.address == contracts.escrow {
        escrow(MarginEscrowEvents::decode_raw_log(&log.topics, &log.data).ok()?)?
    } else if log.address == contracts.venue {
        match ReferenceVenueEvents::decode_raw_log(&log.topics, &log.data).ok()? {
            ReferenceVenueEvents::Liquidated(event) => {
                Event::Liquidated { account: event.account, bad_debt: small(event.badDebt) }
            }
            _ => return None,
        }
    } else {
        match SettlementHubEvents::decode_raw_log(&log.topics, &log.data).ok()? {
            SettlementHubEvents::DecisionsTaken(event) => Event::DecisionsTaken { sequence: event.sequence },
            _ => return None,
        }
    };
    Some(Said { transaction: log.transaction, event })
}

fn escrow(event: MarginEscrowEvents) -> Option<Event> {
    let leg = |sid: B256, index: u8| (SettlementId(sid.0), index);
    Some(match event {
        MarginEscrowEvents::Deposited(event) => {
            Event::Deposited { account: event.account, amount: small(event.amount) }
        }
        MarginEscrowEvents::Withdrawn(event) => {
            Event::Withdrawn { account: event.account, amount: small(event.amount) }
        }
        MarginEscrowEvents::Settled(event) => Event::Moved { from: event.from, to: event.to },
        MarginEscrowEvents::LegPrepared(event) => Event::Prepared {
            leg: leg(event.sid, event.legIndex),
            account: event.account,
            debit: event.side == 0,
            amount: small(event.amount),
        },
        MarginEscrowEvents::LegRefused(event) => {
            Event::Refused { leg: leg(event.sid, event.legIndex), account: event.account, reason: event.reason }
        }
        MarginEscrowEvents::LegCommitted(event) => Event::Committed { leg: leg(event.sid, event.legIndex) },
        MarginEscrowEvents::LegReleased(event) => Event::Released { leg: leg(event.sid, event.legIndex) },
        MarginEscrowEvents::LegShort(event) => Event::Short { leg: leg(event.sid, event.legIndex) },
        _ => return None,
    })
}

fn small(number: U256) -> u128 {
    number.saturating_to()
}
