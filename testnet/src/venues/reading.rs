//! What do the books of a venue say at one block?
//!
//! One JSON-RPC batch of calls that all name the same block, so that what is read fits together. Judges nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall;
use anyhow::{Context, Result};
use jsonrpsee_core::{
    client::{BatchResponse, ClientT},
    params::{ArrayParams, BatchRequestBuilder},
    rpc_params,
};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_contracts::abi::{MarginEscrow, ReferenceVenue, TestToken};
use serde_json::json;

use super::{Contracts, asset_word};

/// Patience with a rollup's node: it may be down, and is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The books of one rollup's venue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The block of which all this holds.
    pub block: u64,
    /// The price at the venue.
    pub price: u128,
    /// Everybody who ever had margin there.
    pub accounts: BTreeMap<Address, Margin>,
    /// The pool that can be promised.
    pub inventory: u128,
    /// The pool that is promised.
    pub reserved: u128,
    /// Tokens that the escrow's books say it has.
    pub held: u128,
    /// What accounts owe to the pool.
    pub owed: u128,
    /// Tokens that it has.
    pub tokens: U256,
}

/// One account at a venue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margin {
    /// What the venue can move.
    pub free: u128,
    /// What settlements hold.
    pub in_flight: u128,
    /// What it owes to the pool.
    pub debt: u128,
    /// Its position, 1e18 for one; below zero is short.
    pub size: i128,
    /// Margin and unrealised profit.
    pub equity: i128,
}

/// A rollup's node.
pub(super) fn client(url: &str) -> Result<HttpClient> {
    HttpClientBuilder::new().request_timeout(ANSWER_TIMEOUT).build(url).context("a client of a rollup's node")
}

/// The newest block of a node.
pub(super) async fn head(node: &HttpClient) -> Result<u64> {
    let number: alloy_primitives::U64 = node.request("eth_blockNumber", rpc_params![]).await?;
    Ok(number.to())
}

/// Whether all contracts are there.
pub(super) async fn stand(node: &HttpClient, contracts: &Contracts) -> bool {
    for address in [contracts.token, contracts.hub, contracts.escrow, contracts.venue] {
        let code: Result<Bytes, _> = node.request("eth_getCode", rpc_params![address, "latest"]).await;
        if !code.is_ok_and(|code| !code.is_empty()) {
            return false;
        }
    }
    true
}

/// Reads the books at `block`.
pub(super) async fn read(
    node: &HttpClient,
    contracts: &Contracts,
    accounts: &BTreeSet<Address>,
    block: u64,
) -> Result<Reading> {
    let Contracts { token, escrow, venue, .. } = *contracts;
    let mut calls = vec![
        (venue, ReferenceVenue::priceCall {}.abi_encode()),
        (escrow, MarginEscrow::assetOfCall { asset: asset_word() }.abi_encode()),
        (token, TestToken::balanceOfCall { account: escrow }.abi_encode()),
    ];
    for account in accounts {
        calls.push((escrow, MarginEscrow::accountOfCall { account: *account, asset: asset_word() }.abi_encode()));
        calls.push((venue, ReferenceVenue::positionsCall { account: *account }.abi_encode()));
        calls.push((venue, ReferenceVenue::equityOfCall { account: *account }.abi_encode()));
    }
    let answers = call_all(node, calls, block).await?;
    let asset = MarginEscrow::assetOfCall::abi_decode_returns(&answers[1])?;
    let mut reading = Reading {
        block,
        price: small(ReferenceVenue::priceCall::abi_decode_returns(&answers[0])?),
        accounts: BTreeMap::new(),
        inventory: asset.inventory,
        reserved: asset.reserved,
        held: asset.held,
        owed: asset.owed,
        tokens: TestToken::balanceOfCall::abi_decode_returns(&answers[2])?,
    };
    for (account, answers) in accounts.iter().zip(answers[3..].chunks_exact(3)) {
        let held = MarginEscrow::accountOfCall::abi_decode_returns(&answers[0])?;
        let position = ReferenceVenue::positionsCall::abi_decode_returns(&answers[1])?;
        let equity = ReferenceVenue::equityOfCall::abi_decode_returns(&answers[2])?;
        let margin = Margin {
            free: held.free.to(),
            in_flight: held.inFlight.to(),
            debt: held.debt.to(),
            size: position.size,
            equity: i128::try_from(equity).context("an equity beyond all money")?,
        };
        reading.accounts.insert(*account, margin);
    }
    Ok(reading)
}

async fn call_all(node: &HttpClient, calls: Vec<(Address, Vec<u8>)>, block: u64) -> Result<Vec<Bytes>> {
    let mut batch = BatchRequestBuilder::new();
    for (to, input) in calls {
        let mut params = ArrayParams::new();
        params.insert(json!({ "to": to, "data": Bytes::from(input) }))?;
        params.insert(format!("{block:#x}"))?;
        batch.insert("eth_call", params)?;
    }
    let answers: BatchResponse<'_, Bytes> = node.batch_request(batch).await?;
    let answers: Result<Vec<_>, _> = answers.into_iter().collect();
    answers.map_err(|error| anyhow::anyhow!("a call at block {block}: {error}"))
}

fn small(number: U256) -> u128 {
    number.saturating_to()
}
