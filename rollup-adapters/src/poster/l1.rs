//! What is asked of L1?
//!
//! Standard `eth_*` calls alone, so that any L1 node serves. Answers are checked for what we depend on: a block that was asked
//! for by number has that number. Whether the node is on the right chain is not known here: see `l1_chain.rs`.

use alloy_primitives::{Address, B256, Bytes, U64, U128, U256};
use lockstep_protocol::{header::L1Origin, ids::Hash32};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    blob_schedule::BlobSchedule,
    rpc::{Rpc, RpcError},
};

/// An L1 node.
#[derive(Debug)]
pub struct L1 {
    rpc: Rpc,
    /// What blobs cost; found out by the chain's id when it first matters.
    blobs: OnceCell<BlobSchedule>,
}

/// A header of L1, as far as rollups need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "RawHeader")]
pub struct L1Header {
    /// Block number.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// Hash of the block before it.
    pub parent_hash: B256,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Base fee per gas, wei.
    pub base_fee: u128,
    /// Base fee per blob gas by the chain's schedule, wei; 1 where there are no blobs.
    pub blob_base_fee: u128,
    /// Blob gas beyond the target so far.
    pub excess_blob_gas: u128,
    /// Whether it has a hash of requests, as headers have since Prague.
    pub is_prague: bool,
    /// Whether the chain takes blobs.
    pub takes_blobs: bool,
    /// Randomness of the beacon chain.
    pub mix_hash: B256,
    /// The beacon block's root; zero before Cancun.
    pub parent_beacon_block_root: B256,
}

impl L1Header {
    /// The block as the log names it.
    pub fn origin(&self) -> L1Origin {
        L1Origin { number: self.number, hash: Hash32(self.hash.0), timestamp: self.timestamp }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHeader {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U64,
    base_fee_per_gas: Option<U128>,
    excess_blob_gas: Option<U128>,
    mix_hash: Option<B256>,
    parent_beacon_block_root: Option<B256>,
    requests_hash: Option<B256>,
}

impl From<RawHeader> for L1Header {
    fn from(raw: RawHeader) -> Self {
        let excess: Option<u128> = raw.excess_blob_gas.map(|excess| excess.to());
        Self {
            number: raw.number.to(),
            hash: raw.hash,
            parent_hash: raw.parent_hash,
            timestamp: raw.timestamp.to(),
            base_fee: raw.base_fee_per_gas.map_or(0, |fee| fee.to()),
            blob_base_fee: 1,
            excess_blob_gas: excess.unwrap_or_default(),
            is_prague: raw.requests_hash.is_some(),
            takes_blobs: excess.is_some(),
            mix_hash: raw.mix_hash.unwrap_or_default(),
            parent_beacon_block_root: raw.parent_beacon_block_root.unwrap_or_default(),
        }
    }
}

/// A block with its transactions.
#[derive(Clone, Debug, Deserialize)]
pub struct L1Block {
    /// Its header.
    #[serde(flatten)]
    pub header: L1Header,
    /// In order.
    pub transactions: Vec<L1Transaction>,
}

/// A transaction in an L1 block, as far as derivation looks at it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct L1Transaction {
    /// Its hash.
    pub hash: B256,
    /// Who signed it, as the node says.
    pub from: Address,
    /// Where it goes; `None` creates a contract.
    pub to: Option<Address>,
    /// Calldata.
    pub input: Bytes,
    /// Hashes of its blobs, in order.
    #[serde(default)]
    pub blob_versioned_hashes: Vec<B256>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// The contract.
    pub address: Address,
    /// What is indexed; the first is the event's hash.
    pub topics: Vec<B256>,
    /// The rest.
    pub data: Bytes,
    /// Its place in its block.
    pub log_index: U64,
    /// Its block.
    pub block_hash: B256,
    /// Its block's number.
    pub block_number: U64,
    /// Set where a reorganisation took it back.
    #[serde(default)]
    pub removed: bool,
}

/// What became of a transaction that is in a block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Its hash.
    pub transaction_hash: B256,
    /// 1 if it succeeded.
    pub status: Option<U64>,
    /// Its block.
    pub block_hash: B256,
    /// Its block's number.
    pub block_number: U64,
    /// Gas that it took.
    pub gas_used: U64,
    /// Price of a unit of it, wei.
    #[serde(default)]
    pub effective_gas_price: U128,
    /// Its events.
    #[serde(default)]
    pub logs: Vec<Log>,
}

impl Receipt {
    /// Whether it did what it was sent for.
    pub fn succeeded(&self) -> bool {
        self.status.is_none_or(|status| status == U64::from(1))
    }
}

impl L1 {
    /// L1 behind this endpoint. If it is none of the public chains, blobs cost what headers alone tell.
    pub fn new(rpc: Rpc) -> Self {
        Self { rpc, blobs: OnceCell::new() }
    }

    /// The same with a schedule of its own of what blobs cost.
    pub fn with_blobs(self, blobs: BlobSchedule) -> Self {
        Self { blobs: OnceCell::new_with(Some(blobs)), ..self }
    }

    async fn priced(&self, header: L1Header) -> Result<L1Header, RpcError> {
        // The least price, whatever the schedule.
        if header.excess_blob_gas == 0 {
            return Ok(header);
        }
        let blobs = self.blobs.get_or_try_init(async || self.chain_id().await.map(BlobSchedule::of_chain)).await?;
        let blob_base_fee = blobs.base_fee(header.timestamp, header.excess_blob_gas, header.is_prague);
        Ok(L1Header { blob_base_fee, ..header })
    }

    async fn priced_if(&self, header: Option<L1Header>) -> Result<Option<L1Header>, RpcError> {
        match header {
            Some(header) => self.priced(header).await.map(Some),
            None => Ok(None),
        }
    }

    /// The endpoint itself, for what is not standard.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// The chain's id.
    pub async fn chain_id(&self) -> Result<u64, RpcError> {
        self.rpc.call::<U64>("eth_chainId", &[]).await.map(|id| id.to())
    }

    /// The latest header.
    pub async fn latest(&self) -> Result<L1Header, RpcError> {
        let header =
            self.rpc.call::<Option<L1Header>>("eth_getBlockByNumber", &[json!("latest"), json!(false)]).await?;
        let header = header.ok_or_else(|| self.malformed("eth_getBlockByNumber", "there is no latest block"))?;
        self.priced(header).await
    }

    /// The header that L1 will not take back; none on a chain that has none yet or does not know the tag.
    pub async fn finalized(&self) -> Result<Option<L1Header>, RpcError> {
        match self.rpc.call("eth_getBlockByNumber", &[json!("finalized"), json!(false)]).await {
            // Some nodes answer with an error as long as there is none.
            Err(RpcError::Call { .. }) => Ok(None),
            result => self.priced_if(result?).await,
        }
    }

    /// The header with this number, if there is one.
    pub async fn header(&self, number: u64) -> Result<Option<L1Header>, RpcError> {
        let asked = [json!(U64::from(number)), json!(false)];
        let header: Option<L1Header> = self.rpc.call("eth_getBlockByNumber", &asked).await?;
        match header {
            Some(header) if header.number != number => {
                Err(self.malformed("eth_getBlockByNumber", "another number than asked for"))
            }
            header => self.priced_if(header).await,
        }
    }

    /// The block with this hash and its transactions, if the node has it.
    pub async fn block(&self, hash: B256) -> Result<Option<L1Block>, RpcError> {
        let block: Option<L1Block> = self.rpc.call("eth_getBlockByHash", &[json!(hash), json!(true)]).await?;
        match block {
            Some(block) if block.header.hash != hash => {
                Err(self.malformed("eth_getBlockByHash", "another hash than asked for"))
            }
            Some(block) => Ok(Some(L1Block { header: self.priced(block.header).await?, ..block })),
            None => Ok(None),
        }
    }

    /// Events of `addresses` in the block with this hash, in order.
    pub async fn logs(&self, block: B256, addresses: &[Address]) -> Result<Vec<Log>, RpcError> {
        let filter = json!({ "blockHash": block, "address": addresses });
        let mut logs: Vec<Log> = self.rpc.call("eth_getLogs", &[filter]).await?;
        logs.retain(|log| !log.removed);
        if logs.iter().any(|log| log.block_hash != block || !addresses.contains(&log.address)) {
            return Err(self.malformed("eth_getLogs", "an event that was not asked for"));
        }
        logs.sort_by_key(|log| log.log_index);
        Ok(logs)
    }

    /// How many transactions of `address` are in blocks.
    pub async fn nonce(&self, address: Address) -> Result<u64, RpcError> {
        self.nonce_at(address, "latest").await
    }

    /// How many are in blocks or wait for one.
    pub async fn pending_nonce(&self, address: Address) -> Result<u64, RpcError> {
        self.nonce_at(address, "pending").await
    }

    async fn nonce_at(&self, address: Address, tag: &str) -> Result<u64, RpcError> {
        self.rpc.call::<U64>("eth_getTransactionCount", &[json!(address), json!(tag)]).await.map(|nonce| nonce.to())
    }

    /// What `address` has, wei.
    pub async fn balance(&self, address: Address) -> Result<U256, RpcError> {
        self.rpc.call("eth_getBalance", &[json!(address), json!("latest")]).await
    }

    /// The tip that the node thinks is enough, wei per gas.
    pub async fn priority_fee(&self) -> Result<u128, RpcError> {
        self.rpc.call::<U128>("eth_maxPriorityFeePerGas", &[]).await.map(|fee| fee.to())
    }

    /// Gas that a call from `from` takes.
    pub async fn estimate_gas(&self, from: Address, to: Address, data: &[u8]) -> Result<u64, RpcError> {
        let call = json!({ "from": from, "to": to, "input": Bytes::copy_from_slice(data) });
        self.rpc.call::<U64>("eth_estimateGas", &[call]).await.map(|gas| gas.to())
    }

    /// What a contract answers, at the latest block.
    pub async fn call(&self, to: Address, data: &[u8]) -> Result<Bytes, RpcError> {
        self.call_at(to, data, "latest").await
    }

    /// What a contract answers at the block with this tag.
    pub async fn call_at(&self, to: Address, data: &[u8], tag: &str) -> Result<Bytes, RpcError> {
        let call = json!({ "to": to, "input": Bytes::copy_from_slice(data) });
        self.rpc.call("eth_call", &[call, json!(tag)]).await
    }

    /// Hands a signed transaction to the node.
    pub async fn send(&self, raw: &[u8]) -> Result<B256, RpcError> {
        self.rpc.call("eth_sendRawTransaction", &[json!(Bytes::copy_from_slice(raw))]).await
    }

    /// The receipt of a transaction that is in a block.
    pub async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError> {
        self.rpc.call("eth_getTransactionReceipt", &[json!(hash)]).await
    }

    fn malformed(&self, method: &str, detail: &str) -> RpcError {
        RpcError::Malformed {
            endpoint: self.rpc.endpoint().to_owned(),
            method: method.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// A quantity as JSON-RPC writes it.
pub fn quantity(number: u64) -> Value {
    json!(U64::from(number))
}
