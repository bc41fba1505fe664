//! How does the Nitro-style rollup's inbox get onto L1?
//!
//! One transaction creates it, as an operator of an Orbit chain would have Nitro's own contracts created. What it is: `contracts/`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, Bytes, TxKind, U256, hex};
use anyhow::{Context, Result, ensure};
use lockstep_adapters::poster::L1;
use lockstep_protocol::ids::RollupId;
use serde_json::Value;

use crate::{rollups::l1::L1_CHAIN, transfers::Wallet};

/// The compiled contract.
const ARTIFACT: &str = include_str!("../../../contracts/artifacts/NitroInbox.json");
/// How long L1 may take to include the creation: several of its blocks.
const CREATED_TIMEOUT: Duration = Duration::from_secs(30);
/// Gas that creating it may take. It takes 1.7 million.
const CREATION_GAS: u64 = 2_000_000;
/// By how much a batch's clocks may be off, blocks and seconds: Arbitrum One's.
const VARIATION: [u64; 4] = [7_200, 64, 86_400, 768];

/// Creates the inbox of `rollup`, which takes batches from `posters` alone, the first of whom pays. Its address, and the L1 block
/// that it is in.
pub(super) async fn deploy(l1: &Arc<L1>, rollup: RollupId, posters: &[Wallet]) -> Result<(Address, u64)> {
    let poster = posters.first().context("an inbox without posters takes nothing")?;
    let addresses: Vec<Address> = posters.iter().map(Wallet::address).collect();
    let artifact: Value = serde_json::from_str(ARTIFACT).context("reading the inbox's artifact")?;
    let code = artifact["bytecode"].as_str().context("the inbox's artifact has bytecode")?;
    let mut input = hex::decode(code).context("the inbox's bytecode is hexadecimal")?;
    input.extend(arguments(rollup, &addresses));
    let transaction = TxEip1559 {
        chain_id: L1_CHAIN,
        nonce: l1.nonce(poster.address()).await?,
        gas_limit: CREATION_GAS,
        max_fee_per_gas: 100_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Create,
        input: Bytes::from(input),
        ..TxEip1559::default()
    };
    let address = poster.address().create(transaction.nonce);
    let hash = l1.send(&poster.sign_transaction(transaction)).await?;
    let deadline = Instant::now() + CREATED_TIMEOUT;
    loop {
        if let Some(receipt) = l1.receipt(hash).await? {
            ensure!(receipt.succeeded(), "the inbox was not created: transaction {hash} has failed");
            return Ok((address, receipt.block_number.to()));
        }
        ensure!(Instant::now() < deadline, "L1 has not included the inbox's creation after {CREATED_TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The constructor's arguments by the contract ABI: chain id, its configuration, the first price of data (L1's own), the
/// variation, who may post.
fn arguments(rollup: RollupId, posters: &[Address]) -> Vec<u8> {
    let config = format!(r#"{{"chainId":{}}}"#, rollup.0);
    let word = |number: u64| U256::from(number).to_be_bytes::<32>();
    // Eight words of head, then the text, then the list.
    let text_words = config.len().div_ceil(32) as u64;
    let head = [rollup.0, 256, 0, VARIATION[0], VARIATION[1], VARIATION[2], VARIATION[3], 256 + 32 + 32 * text_words];
    let mut bytes: Vec<u8> = head.into_iter().flat_map(word).collect();
    bytes.extend(word(config.len() as u64));
    bytes.extend_from_slice(config.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(word(posters.len() as u64));
    bytes.extend(posters.iter().flat_map(|poster| poster.into_word()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_in_their_places() {
        let bytes = arguments(RollupId(902), &[Address::repeat_byte(7), Address::repeat_byte(8)]);
        assert_eq!(bytes.len(), 8 * 32 + 2 * 32 + 3 * 32);
        let word = |index: usize| U256::from_be_slice(&bytes[32 * index..32 * (index + 1)]);
        assert_eq!(word(0), U256::from(902));
        assert_eq!((word(1), word(7)), (U256::from(256), U256::from(320)));
        assert_eq!(word(8), U256::from(15), "the text's length");
        assert_eq!(&bytes[288..303], br#"{"chainId":902}"#);
        assert_eq!(word(10), U256::from(2), "two posters");
        assert_eq!(Address::from_word(word(11).into()), Address::repeat_byte(7));
        assert_eq!(Address::from_word(word(12).into()), Address::repeat_byte(8));
    }
}
