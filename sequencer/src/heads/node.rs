//! What does this validator's own rollup node say about blocks?
//!
//! Standard JSON-RPC over HTTP, with bounded waits and answers. Believes what it is told: the node is the validator's own.

use std::time::Duration;

use jsonrpsee_core::{ClientError, client::ClientT, rpc_params};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_protocol::ids::Hash32;
use serde::Deserialize;

use super::chain::Block;

/// Longest wait for an answer: a node that takes longer is behind anyway.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(2_000);
/// Largest answer that is read: a block with the hashes of some ten thousand transactions.
const ANSWER_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// A rollup node.
pub(crate) struct Node {
    client: HttpClient,
}

/// Why the node told nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error(transparent)]
    Rpc(#[from] ClientError),
    #[error("it has no block {0}")]
    NoBlock(String),
    #[error("{0} is not a quantity")]
    Quantity(String),
    #[error("it shows block {shown} where block {wanted} was asked for")]
    Another { wanted: u64, shown: u64 },
}

/// A block as `eth_getBlockByNumber` describes it. Quantities are hex without leading zeros.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcBlock {
    number: String,
    hash: Hash32,
    parent_hash: Hash32,
    state_root: Hash32,
}

impl Node {
    /// The node at a URL that was checked.
    pub(crate) fn new(url: &str) -> Self {
        let client = HttpClientBuilder::new()
            .request_timeout(ANSWER_TIMEOUT)
            .max_response_size(ANSWER_BYTES_MAX)
            .build(url)
            .expect("a checked configuration has a URL that a client can be made for");
        Self { client }
    }

    /// The newest block.
    pub(crate) async fn latest(&self) -> Result<Block, NodeError> {
        self.block("eth_getBlockByNumber", "latest").await?.ok_or_else(|| NodeError::NoBlock("latest".into()))
    }

    /// The block of a tag; nothing where the node knows no such tag.
    pub(crate) async fn tagged(&self, tag: &str) -> Result<Option<Block>, NodeError> {
        match self.block("eth_getBlockByNumber", tag).await {
            Err(NodeError::Rpc(ClientError::Call(_))) => Ok(None),
            answer => answer,
        }
    }

    /// The block of a number.
    pub(crate) async fn numbered(&self, number: u64) -> Result<Block, NodeError> {
        let which = format!("{number:#x}");
        let block = self.block("eth_getBlockByNumber", &which).await?.ok_or(NodeError::NoBlock(which))?;
        if block.number != number {
            return Err(NodeError::Another { wanted: number, shown: block.number });
        }
        Ok(block)
    }

    /// The parent of a block.
    pub(crate) async fn parent(&self, child: &Block) -> Result<Block, NodeError> {
        let which = child.parent.to_string();
        let block = self.block("eth_getBlockByHash", &which).await?.ok_or(NodeError::NoBlock(which))?;
        if block.number.checked_add(1) != Some(child.number) || block.hash != child.parent {
            return Err(NodeError::Another { wanted: child.number.saturating_sub(1), shown: block.number });
        }
        Ok(block)
    }

    async fn block(&self, method: &str, which: &str) -> Result<Option<Block>, NodeError> {
        let found: Option<RpcBlock> = self.client.request(method, rpc_params![which, false]).await?;
        let Some(RpcBlock { number, hash, parent_hash: parent, state_root }) = found else { return Ok(None) };
        let digits = number.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let number = digits.ok_or(NodeError::Quantity(number))?;
        Ok(Some(Block { number, hash, parent, state_root }))
    }
}
