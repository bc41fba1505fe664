//! What does a rollup's own software say of it?
//!
//! Standard JSON-RPC of the chains, and the status pages of drivers and posters. Asks; judges nothing.

use std::net::SocketAddr;

use alloy_primitives::{Address, B256};
use jsonrpsee_core::{client::ClientT, rpc_params};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use serde_json::Value;

use crate::probe;

/// A rollup at a glance. `None` where its software does not answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RollupView {
    /// The rollup's id.
    pub rollup: u64,
    /// Its stack.
    pub stack: &'static str,
    /// The newest executed block.
    pub executed: Option<u64>,
    /// Its state root.
    pub state_root: Option<B256>,
    /// Batches that this run's posters have posted.
    pub batches: Option<u64>,
    /// Which of the posters holds the lease, by its own word.
    pub leader: Option<usize>,
    /// Bytes on L1 of everything that was derived again.
    pub bytes: Option<u64>,
    /// Bytes on L1 for each transaction in them.
    pub bytes_per_transaction: Option<f64>,
    /// The newest block that L1 leads to, by the adapter's own derivation.
    pub derived: Option<u64>,
    /// Whether everything derived from L1 is what was executed.
    pub agreed: bool,
    /// What stock software makes of L1 alone, where there is any.
    pub stock: Option<StockView>,
    /// Lane transactions that the rollup could not execute.
    pub skipped: u64,
    /// What a driver or poster waits for.
    pub trouble: Option<String>,
}

/// A rollup as stock software derives it from L1 alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StockView {
    /// Its newest block from L1, once that was compared with the executed one.
    pub safe: Option<u64>,
    /// Whether it is the executed one, and so all blocks before it are.
    pub agreed: bool,
}

impl RollupView {
    /// How many of those that derive it from L1 find other blocks there than were executed.
    pub fn disagreements(&self) -> u64 {
        u64::from(!self.agreed) + u64::from(self.stock.is_some_and(|stock| !stock.agreed))
    }
}

/// The status page of a driver or poster.
pub(super) async fn page(address: SocketAddr) -> Option<Value> {
    let answer = probe::get(address, "/status").await?;
    serde_json::from_str(&answer.body).ok()
}

/// The status pages of several, in their order.
pub(super) async fn pages<const N: usize>(addresses: &[SocketAddr; N]) -> Vec<Option<Value>> {
    let mut pages = Vec::with_capacity(N);
    for address in addresses {
        pages.push(page(*address).await);
    }
    pages
}

/// A number somewhere in a page.
pub(super) fn number(page: &Option<Value>, pointer: &str) -> Option<u64> {
    page.as_ref()?.pointer(pointer)?.as_u64()
}

/// A text somewhere in a page.
pub(super) fn text(page: &Option<Value>, pointer: &str) -> Option<String> {
    page.as_ref()?.pointer(pointer)?.as_str().map(str::to_owned)
}

/// The newest block's number.
pub(super) async fn height(url: &str) -> Option<u64> {
    let number: String = client(url)?.request("eth_blockNumber", rpc_params![]).await.ok()?;
    u64::from_str_radix(number.strip_prefix("0x")?, 16).ok()
}

/// The newest block that executed anything: what comes after it need not be on L1 yet. The inbox's reports of batches make blocks
/// of a Nitro rollup, and are posted with what comes next.
pub(super) async fn last_filled(url: &str) -> Option<u64> {
    let client = client(url)?;
    let mut number = height(url).await?;
    loop {
        let tag = format!("{number:#x}");
        let block: Value = client.request("eth_getBlockByNumber", rpc_params![tag, false]).await.ok()?;
        if number == 0 || !block.get("transactions")?.as_array()?.is_empty() {
            return Some(number);
        }
        number -= 1;
    }
}

/// Transactions of an account that are executed.
pub(super) async fn nonce(url: &str, account: Address) -> Option<u64> {
    let number: String = client(url)?.request("eth_getTransactionCount", rpc_params![account, "latest"]).await.ok()?;
    u64::from_str_radix(number.strip_prefix("0x")?, 16).ok()
}

/// What op-node, at `node`, has from L1, compared with what the rollup's client, at `url`, has executed.
pub(super) async fn stock(node: &str, url: &str) -> StockView {
    let Some((number, hash)) = safe_head(node).await else { return StockView { safe: None, agreed: true } };
    match block_hash(url, number).await {
        Some(executed) => StockView { safe: Some(number), agreed: executed == hash },
        // A client that was just killed, or is behind: there is nothing to compare with.
        None => StockView { safe: None, agreed: true },
    }
}

/// Number and hash of the newest block that L1 has led op-node to.
async fn safe_head(node: &str) -> Option<(u64, B256)> {
    let status: Value = client(node)?.request("optimism_syncStatus", rpc_params![]).await.ok()?;
    let head = status.get("safe_l2")?;
    Some((head.get("number")?.as_u64()?, head.get("hash")?.as_str()?.parse().ok()?))
}

/// Has anvil give its blocks times that are so many seconds apart, however late it makes one.
pub(super) async fn space_blocks(url: &str, seconds: u64) -> Option<()> {
    let _: Value = client(url)?.request("anvil_setBlockTimestampInterval", rpc_params![seconds]).await.ok()?;
    Some(())
}

/// The hash of a block.
pub(super) async fn block_hash(url: &str, number: u64) -> Option<B256> {
    field(url, &format!("{number:#x}"), "hash").await
}

/// The state root of the newest block.
pub(super) async fn state_root(url: &str) -> Option<B256> {
    field(url, "latest", "stateRoot").await
}

async fn field(url: &str, block: &str, name: &str) -> Option<B256> {
    let block: Value = client(url)?.request("eth_getBlockByNumber", rpc_params![block, false]).await.ok()?;
    block.get(name)?.as_str()?.parse().ok()
}

fn client(url: &str) -> Option<HttpClient> {
    HttpClientBuilder::new().request_timeout(std::time::Duration::from_secs(2)).build(url).ok()
}

#[cfg(test)]
mod tests {
    use alloy_primitives::U256;
    use lockstep_evm::{Config, Node, Role, Rollup, genesis};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Says that this is op-node's safe block, to whoever asks anything.
    async fn op_node(number: u64, hash: B256) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let (mut asker, _) = listener.accept().await.expect("somebody asks");
            let mut question = [0; 4_096];
            let _ = asker.read(&mut question).await.expect("a question");
            let answer = serde_json::json!({
                "jsonrpc": "2.0", "id": 0, "result": { "safe_l2": { "number": number, "hash": hash } },
            });
            let answer = answer.to_string();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let text = format!("{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            asker.write_all(text.as_bytes()).await.expect("answered");
        });
        url
    }

    #[tokio::test]
    async fn another_block_of_op_nodes_is_a_disagreement_and_one_that_is_not_executed_yet_is_none() {
        let config = Config::new(genesis(901, 0, &[], U256::ZERO), Role::Rollup(Rollup::default()));
        let client = Node::start(config).await.expect("a client");
        let (url, hash) = (client.rpc_url(), client.genesis().hash);
        assert_eq!(stock(&op_node(0, hash).await, &url).await, StockView { safe: Some(0), agreed: true });
        let other = B256::repeat_byte(9);
        assert_eq!(stock(&op_node(0, other).await, &url).await, StockView { safe: Some(0), agreed: false });
        assert_eq!(stock(&op_node(1, other).await, &url).await, StockView { safe: None, agreed: true });
        assert_eq!(stock("http://127.0.0.1:1", &url).await, StockView { safe: None, agreed: true });
    }
}
