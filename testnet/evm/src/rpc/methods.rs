//! What does each standard method answer?

use super::{Service, failure, shapes, subscribe::Wanted};
use crate::{pool::PoolError, transaction::Transaction};
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, U64, U256, keccak256};
use alloy_rpc_types_eth::{EIP1186AccountProofResponse, EIP1186StorageProof, Filter, TransactionRequest};
use jsonrpsee::{
    RpcModule,
    server::RegisterMethodError,
    types::{ErrorObjectOwned, Params, ParamsSequence},
};
use serde_json::Value;
use std::sync::Arc;

/// Slots of one `eth_getProof`.
pub const PROOF_SLOTS_MAX: usize = 1_024;

type Answer = Result<Value, ErrorObjectOwned>;

pub(crate) fn register(module: &mut RpcModule<Service>) -> Result<(), RegisterMethodError> {
    method(module, "web3_clientVersion", |_, _| Ok(json(concat!("lockstep-evm/", env!("CARGO_PKG_VERSION")))))?;
    method(module, "web3_sha3", |_, params| Ok(json(keccak256(params.one::<Bytes>()?))))?;
    method(module, "net_version", |service, _| Ok(json(service.core.rules.chain_id.to_string())))?;
    method(module, "net_listening", |_, _| Ok(json(true)))?;
    method(module, "eth_chainId", |service, _| Ok(json(U64::from(service.core.rules.chain_id))))?;
    method(module, "eth_syncing", |_, _| Ok(json(false)))?;
    method(module, "eth_accounts", |_, _| Ok(json(Vec::<Address>::new())))?;
    method(module, "eth_blockNumber", |service, _| Ok(json(U64::from(service.core.head().header.number))))?;
    method(module, "eth_gasPrice", |service, _| Ok(json(U256::from(service.gas_price()))))?;
    method(module, "eth_maxPriorityFeePerGas", |service, _| Ok(json(U256::from(service.suggested_tip()))))?;
    method(module, "eth_blobBaseFee", |_, _| Ok(json(U64::from(1))))?;
    method(module, "eth_feeHistory", |service, params| {
        let mut params = params.sequence();
        let count: Value = params.next()?;
        let newest = params.next()?;
        if number(&count)? == 0 {
            // What geth answers, without a look at the rest.
            return Ok(serde_json::json!({ "oldestBlock": "0x0", "gasUsedRatio": null }));
        }
        Ok(json(service.fee_history(number(&count)?, newest, params.optional_next()?)?))
    })?;
    blocks(module)?;
    accounts(module)?;
    transactions(module)
}

fn blocks(module: &mut RpcModule<Service>) -> Result<(), RegisterMethodError> {
    method(module, "eth_getBlockByNumber", |service, params| {
        let mut params = params.sequence();
        let at: BlockNumberOrTag = params.next()?;
        let full = params.optional_next()?.unwrap_or(false);
        if at.is_pending()
            && let Some(pending) = service.pending()
        {
            let mut value = shapes::block(&pending.block, full);
            // It has no hash before it is made.
            value["hash"] = Value::Null;
            value["nonce"] = Value::Null;
            return Ok(value);
        }
        Ok(service.block_by_number(at).map_or(Value::Null, |block| shapes::block(&block, full)))
    })?;
    method(module, "eth_getBlockByHash", |service, params| {
        let mut params = params.sequence();
        let block = service.block(BlockId::hash(params.next()?));
        let full = params.optional_next()?.unwrap_or(false);
        Ok(block.map_or(Value::Null, |block| shapes::block(&block, full)))
    })?;
    method(module, "eth_getHeaderByNumber", |service, params| {
        Ok(service.block_by_number(params.one()?).map_or(Value::Null, |block| json(shapes::header(&block))))
    })?;
    method(module, "eth_getHeaderByHash", |service, params| {
        Ok(service.block(BlockId::hash(params.one()?)).map_or(Value::Null, |block| json(shapes::header(&block))))
    })?;
    method(module, "eth_getBlockReceipts", |service, params| {
        let block = service.block(params.one()?);
        Ok(block.map_or(Value::Null, |block| json(shapes::receipts(&service.core.rules, &block))))
    })?;
    method(module, "eth_getBlockTransactionCountByNumber", |service, params| {
        let block = service.block_by_number(params.one()?);
        Ok(block.map_or(Value::Null, |block| json(U64::from(block.transactions.len()))))
    })?;
    method(module, "eth_getBlockTransactionCountByHash", |service, params| {
        let block = service.block(BlockId::hash(params.one()?));
        Ok(block.map_or(Value::Null, |block| json(U64::from(block.transactions.len()))))
    })?;
    method(module, "eth_getLogs", |service, params| Ok(json(service.logs(&params.one::<Filter>()?)?)))?;
    method(module, "eth_newFilter", |service, params| service.new_filter(Wanted::Logs(Box::new(params.one()?))))?;
    method(module, "eth_newBlockFilter", |service, _| service.new_filter(Wanted::Heads))?;
    method(module, "eth_getFilterChanges", |service, params| service.filter_changes(params.one()?))?;
    method(module, "eth_getFilterLogs", |service, params| service.filter_logs(params.one()?))?;
    method(module, "eth_uninstallFilter", |service, params| Ok(json(service.uninstall_filter(params.one()?))))
}

fn accounts(module: &mut RpcModule<Service>) -> Result<(), RegisterMethodError> {
    method(module, "eth_getBalance", |service, params| {
        let mut params = params.sequence();
        let address: Address = params.next()?;
        Ok(json(service.at(params.optional_next()?)?.state.balance(address)))
    })?;
    method(module, "eth_getTransactionCount", |service, params| {
        let mut params = params.sequence();
        let address: Address = params.next()?;
        let at: BlockId = params.optional_next()?.unwrap_or_default();
        if at.is_pending() {
            let (_, state) = service.core.head_state();
            return Ok(json(U64::from(service.core.pool().next_nonce(address, &state))));
        }
        Ok(json(U64::from(service.at(Some(at))?.state.nonce(address))))
    })?;
    method(module, "eth_getCode", |service, params| {
        let mut params = params.sequence();
        let address: Address = params.next()?;
        Ok(json(service.at(params.optional_next()?)?.state.code(address)))
    })?;
    method(module, "eth_getStorageAt", |service, params| {
        let mut params = params.sequence();
        let address: Address = params.next()?;
        let slot: U256 = params.next()?;
        let value = service.at(params.optional_next()?)?.state.storage(address, slot);
        Ok(json(B256::from(value)))
    })?;
    method(module, "eth_getProof", |service, params| {
        let mut params = params.sequence();
        let address: Address = params.next()?;
        let keys: Vec<U256> = params.next()?;
        if keys.len() > PROOF_SLOTS_MAX {
            return Err(failure::limit(format!("at most {PROOF_SLOTS_MAX} slots")));
        }
        let at = service.at(params.optional_next()?)?;
        let keys: Vec<B256> = keys.into_iter().map(B256::from).collect();
        let proof = at.state.prove(address, &keys);
        let slot =
            |(key, value, proof): (B256, U256, Vec<Bytes>)| EIP1186StorageProof { key: key.into(), value, proof };
        Ok(json(EIP1186AccountProofResponse {
            address,
            balance: proof.account.balance,
            code_hash: proof.account.code_hash,
            nonce: proof.account.nonce,
            storage_hash: proof.account.storage_root,
            account_proof: proof.nodes,
            storage_proof: proof.slots.into_iter().map(slot).collect(),
        }))
    })?;
    method(module, "eth_call", |service, params| {
        let mut params = params.sequence();
        let request: TransactionRequest = params.next()?;
        let at = params.optional_next()?;
        no_overrides(&mut params)?;
        Ok(json(service.call(request, at)?))
    })?;
    method(module, "eth_estimateGas", |service, params| {
        let mut params = params.sequence();
        let request: TransactionRequest = params.next()?;
        let at = params.optional_next()?;
        no_overrides(&mut params)?;
        Ok(json(U64::from(service.estimate(request, at)?)))
    })
}

fn transactions(module: &mut RpcModule<Service>) -> Result<(), RegisterMethodError> {
    method(module, "eth_getTransactionByHash", |service, params| {
        let hash: B256 = params.one()?;
        let found = service.core.chain().transaction(&hash).map(|(block, index)| (block.clone(), index));
        if let Some((block, index)) = found {
            return Ok(shapes::transaction(&block.transactions[index], Some((&block, index))));
        }
        let waiting = service.core.pool().get(&hash).cloned();
        Ok(waiting.map_or(Value::Null, |tx| shapes::transaction(&tx, None)))
    })?;
    method(module, "eth_getTransactionByBlockHashAndIndex", |service, params| {
        let mut params = params.sequence();
        let block = service.block(BlockId::hash(params.next()?));
        Ok(nth(block, params.next::<U64>()?))
    })?;
    method(module, "eth_getTransactionByBlockNumberAndIndex", |service, params| {
        let mut params = params.sequence();
        let block = service.block_by_number(params.next()?);
        Ok(nth(block, params.next::<U64>()?))
    })?;
    method(module, "eth_getTransactionReceipt", |service, params| {
        let hash: B256 = params.one()?;
        let found = service.core.chain().transaction(&hash).map(|(block, index)| (block.clone(), index));
        Ok(found.map_or(Value::Null, |(block, index)| {
            let first = block.first_logs().nth(index).unwrap_or_default();
            shapes::receipt(&service.core.rules, &block, index, first)
        }))
    })?;
    method(module, "eth_sendRawTransaction", |service, params| Ok(json(service.send(&params.one()?)?)))?;
    method(module, "txpool_status", |service, _| {
        let waiting = U64::from(service.core.pool().len());
        Ok(serde_json::json!({ "pending": waiting, "queued": "0x0" }))
    })
}

impl Service {
    fn send(&self, raw: &Bytes) -> Result<B256, ErrorObjectOwned> {
        let tx = Transaction::decode(raw).map_err(|error| failure::refused(error.to_string()))?;
        let hash = tx.hash();
        if let Some(forward) = &self.core.forward {
            if tx.is_deposit() {
                return Err(failure::pool(&PoolError::Type));
            }
            forward.try_send(raw.clone()).map_err(|_| failure::pool(&PoolError::Full))?;
            return Ok(hash);
        }
        if !self.takes_transactions {
            return Err(failure::refused("transactions of this rollup enter through its sequencer"));
        }
        let (head, state) = self.core.head_state();
        let chain_id = self.core.rules.chain_id;
        let taken = self.core.pool().add(Arc::new(tx), &state, chain_id, head.header.gas_limit);
        taken.map_err(|error| failure::pool(&error))?;
        if let Some(miner) = &self.miner {
            miner.arrived.notify_one();
        }
        Ok(hash)
    }
}

fn nth(block: Option<Arc<crate::block::Block>>, index: U64) -> Value {
    let index = usize::try_from(index.to::<u64>()).unwrap_or(usize::MAX);
    let found = block.and_then(|block| {
        let tx = block.transactions.get(index)?.clone();
        Some(shapes::transaction(&tx, Some((&block, index))))
    });
    found.unwrap_or(Value::Null)
}

/// Refuses overrides of the state and of the block, geth's third and fourth parameter: an answer without them would be wrong.
fn no_overrides(params: &mut ParamsSequence<'_>) -> Result<(), ErrorObjectOwned> {
    for what in ["state", "block"] {
        let overrides: Option<Value> = params.optional_next()?;
        if overrides.is_some_and(|value| value.as_object().is_none_or(|fields| !fields.is_empty())) {
            return Err(failure::invalid_params(format!("{what} overrides are not supported by this node")));
        }
    }
    Ok(())
}

/// A count as JSON's or as a hexadecimal quantity: tools send either.
fn number(value: &Value) -> Result<u64, ErrorObjectOwned> {
    let quantity = || U64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok().map(|number| number.to());
    value.as_u64().or_else(quantity).ok_or_else(|| failure::invalid_params("expected a number"))
}

/// The JSON of a shape of ours.
pub(crate) fn json(shape: impl serde::Serialize) -> Value {
    shapes::to_value(&shape)
}

fn method(
    module: &mut RpcModule<Service>,
    name: &'static str,
    run: impl Fn(&Service, &Params<'_>) -> Answer + Clone + Send + Sync + 'static,
) -> Result<(), RegisterMethodError> {
    // Off the reactor's threads: an answer may execute code or wait for a lock.
    module.register_blocking_method(name, move |params, service: Arc<Service>, _| run(&service, &params))?;
    Ok(())
}
