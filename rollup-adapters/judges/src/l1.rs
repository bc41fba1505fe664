//! An L1 of real headers and signed batcher transactions, held in memory, that kona derives from.
//!
//! No execution and no consensus: headers link by their hashes, and that is what derivation checks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use alloy_consensus::{Header, Receipt, SignableTransaction, TxEip1559, TxEip4844, TxEip4844Variant, TxEnvelope};
use alloy_eips::eip4844::{Blob, BlobTransactionSidecar, IndexedBlobHash};
use alloy_primitives::{Address, B256, Signature, TxKind, keccak256};
use async_trait::async_trait;
use k256::ecdsa::SigningKey;
use kona_derive::{BlobProvider, BlobProviderError, ChainProvider, L2ChainProvider, PipelineError, PipelineErrorKind};
use kona_genesis::{RollupConfig, SystemConfig};
use kona_protocol::{BatchValidationProvider, BlockInfo, L2BlockInfo};
use lockstep_adapters::Batch;
use op_alloy_consensus::OpBlock;

/// Where batches are sent.
pub const INBOX: Address = Address::repeat_byte(0xff);

/// Who sends batches.
pub struct Batcher(SigningKey);

impl Default for Batcher {
    fn default() -> Self {
        Self(SigningKey::from_slice(&[7; 32]).expect("a valid key"))
    }
}

impl Batcher {
    /// The address that derivation accepts batches from.
    pub fn address(&self) -> Address {
        Address::from_private_key(&self.0)
    }

    fn sign<T: SignableTransaction<Signature>>(&self, transaction: T) -> alloy_consensus::Signed<T> {
        let hash = transaction.signature_hash();
        let (signature, recovery) = self.0.sign_prehash_recoverable(hash.as_slice()).expect("a hash is signed");
        transaction.into_signed((signature, recovery).into())
    }
}

/// L1 and what is known of L2, shared by kona's providers.
#[derive(Clone, Debug, Default)]
pub struct Chains(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    headers: Vec<Header>,
    transactions: HashMap<u64, Vec<TxEnvelope>>,
    receipts: HashMap<B256, Vec<Receipt>>,
    blobs: HashMap<B256, Blob>,
    safe: HashMap<u64, L2BlockInfo>,
    system_config: SystemConfig,
    /// Where it is another from a block of L2 on.
    system_configs: BTreeMap<u64, SystemConfig>,
}

/// What is not on these chains, or not yet.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not on this chain")]
pub struct Missing(&'static str);

impl From<Missing> for PipelineErrorKind {
    fn from(missing: Missing) -> Self {
        PipelineError::Provider(missing.to_string()).temp()
    }
}

impl Chains {
    /// Chains whose batches come from `batcher`.
    pub fn new(batcher: &Batcher) -> Self {
        let system_config = SystemConfig {
            batcher_address: batcher.address(),
            gas_limit: 60_000_000,
            eip1559_denominator: Some(250),
            eip1559_elasticity: Some(6),
            operator_fee_scalar: Some(0),
            operator_fee_constant: Some(0),
            ..Default::default()
        };
        Self(Arc::new(Mutex::new(State { system_config, ..Default::default() })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }

    /// Mines an L1 block with this number and timestamp on top of the last and returns its hash.
    pub fn mine(&self, number: u64, timestamp: u64) -> B256 {
        let mut state = self.state();
        let parent_hash = state.headers.last().map_or(B256::ZERO, Header::hash_slow);
        let header = Header {
            parent_hash,
            number,
            timestamp,
            base_fee_per_gas: Some(7),
            excess_blob_gas: Some(0),
            blob_gas_used: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            ..Default::default()
        };
        let hash = header.hash_slow();
        state.headers.push(header);
        hash
    }

    /// Takes over a block of another L1.
    pub fn take(&self, header: Header, transactions: Vec<TxEnvelope>, receipts: Vec<Receipt>) {
        let mut state = self.state();
        state.transactions.insert(header.number, transactions);
        state.receipts.insert(header.hash_slow(), receipts);
        state.headers.push(header);
    }

    /// From L2 block `number` on, the system configuration is this.
    pub fn configure(&self, number: u64, config: SystemConfig) {
        self.state().system_configs.insert(number, config);
    }

    /// Includes a batch in L1 block `number`.
    pub fn include(&self, number: u64, batcher: &Batcher, batch: &Batch) {
        let mut state = self.state();
        let transaction: TxEnvelope = match batch {
            Batch::Calldata(data) => {
                let transaction = TxEip1559 {
                    chain_id: 1,
                    gas_limit: 5_000_000,
                    to: TxKind::Call(INBOX),
                    input: data.clone().into(),
                    ..Default::default()
                };
                batcher.sign(transaction).into()
            }
            Batch::Blobs(blobs) => {
                let mut blob_versioned_hashes = Vec::new();
                for blob in blobs {
                    // Stands in for the KZG commitment, which the beacon chain checks and derivation does not.
                    let mut hash = keccak256(blob);
                    hash.0[0] = 1;
                    blob_versioned_hashes.push(hash);
                    state.blobs.insert(hash, Blob::try_from(blob.as_slice()).expect("the length of a blob"));
                }
                let transaction = TxEip4844 { chain_id: 1, to: INBOX, blob_versioned_hashes, ..Default::default() };
                batcher.sign(TxEip4844Variant::<BlobTransactionSidecar>::TxEip4844(transaction)).into()
            }
        };
        state.transactions.entry(number).or_default().push(transaction);
    }

    /// Makes an L2 block known as safe.
    pub fn advance(&self, block: L2BlockInfo) {
        self.state().safe.insert(block.block_info.number, block);
    }

    /// L1 block `number`.
    pub fn l1_block(&self, number: u64) -> Option<BlockInfo> {
        self.state().headers.iter().find(|header| header.number == number).map(info)
    }
}

fn info(header: &Header) -> BlockInfo {
    BlockInfo {
        hash: header.hash_slow(),
        number: header.number,
        parent_hash: header.parent_hash,
        timestamp: header.timestamp,
    }
}

#[async_trait]
impl ChainProvider for Chains {
    type Error = Missing;

    async fn header_by_hash(&mut self, hash: B256) -> Result<Header, Missing> {
        let state = self.state();
        state.headers.iter().find(|header| header.hash_slow() == hash).cloned().ok_or(Missing("header"))
    }

    async fn block_info_by_number(&mut self, number: u64) -> Result<BlockInfo, Missing> {
        self.l1_block(number).ok_or(Missing("block"))
    }

    async fn receipts_by_hash(&mut self, hash: B256) -> Result<Vec<Receipt>, Missing> {
        Ok(self.state().receipts.get(&hash).cloned().unwrap_or_default())
    }

    async fn block_info_and_transactions_by_hash(
        &mut self,
        hash: B256,
    ) -> Result<(BlockInfo, Vec<TxEnvelope>), Missing> {
        let header = self.header_by_hash(hash).await?;
        Ok((info(&header), self.state().transactions.get(&header.number).cloned().unwrap_or_default()))
    }
}

#[async_trait]
impl BlobProvider for Chains {
    type Error = BlobProviderError;

    async fn get_blobs(
        &mut self,
        _: &BlockInfo,
        hashes: &[IndexedBlobHash],
    ) -> Result<Vec<Box<Blob>>, BlobProviderError> {
        let state = self.state();
        let blobs = hashes.iter().map(|indexed| state.blobs.get(&indexed.hash).map(|blob| Box::new(*blob)));
        blobs.collect::<Option<_>>().ok_or_else(|| BlobProviderError::Backend("no such blob".into()))
    }
}

#[async_trait]
impl BatchValidationProvider for Chains {
    type Error = Missing;

    async fn l2_block_info_by_number(&mut self, number: u64) -> Result<L2BlockInfo, Missing> {
        self.state().safe.get(&number).copied().ok_or(Missing("L2 block"))
    }

    async fn block_by_number(&mut self, _number: u64) -> Result<OpBlock, Missing> {
        // Asked for only where a span overlaps the safe chain, which ours never do.
        Err(Missing("L2 block body"))
    }
}

#[async_trait]
impl L2ChainProvider for Chains {
    type Error = Missing;

    async fn system_config_by_number(&mut self, number: u64, _: Arc<RollupConfig>) -> Result<SystemConfig, Missing> {
        let state = self.state();
        Ok(state.system_configs.range(..=number).next_back().map_or(state.system_config, |(_, config)| *config))
    }
}
