//! How does a test steer an L1? By the names that anvil and hardhat have made known.

use super::{Service, failure, methods::json};
use crate::l1::{Miner, Reorg, Settings};
use alloy_primitives::{Bytes, U64, U256};
use jsonrpsee::{
    RpcModule,
    server::RegisterMethodError,
    types::{ErrorObjectOwned, Params},
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Blocks of one `anvil_mine`.
const MINE_MAX: u64 = 1_000;

pub(crate) fn register(module: &mut RpcModule<Service>) -> Result<(), RegisterMethodError> {
    method(module, "evm_mine", |miner, _| {
        miner.mine().map_err(|error| failure::core(&error))?;
        Ok(json("0x0"))
    })?;
    method(module, "anvil_mine", |miner, params| {
        let count = params.sequence().optional_next::<U64>()?.map_or(1, |count| count.to());
        if count > MINE_MAX {
            return Err(failure::limit(format!("at most {MINE_MAX} blocks")));
        }
        for _ in 0..count {
            miner.mine().map_err(|error| failure::core(&error))?;
        }
        Ok(Value::Null)
    })?;
    method(module, "evm_snapshot", |miner, _| Ok(json(U256::from(miner.snapshot()))))?;
    method(module, "evm_revert", |miner, params| {
        let id: U64 = params.one()?;
        Ok(json(miner.revert(id.to()).map_err(|error| failure::core(&error))?))
    })?;
    // Their transactions wait again, as after a reorganisation of a real network.
    method(module, "evm_reorg", |miner, params| {
        let depth: U64 = params.one()?;
        let reorg = Reorg { depth: depth.to(), keep_transactions: true, transactions: Vec::new() };
        Ok(json(miner.reorg(reorg).map_err(|error| failure::reorg(&error))?.hash))
    })?;
    // Their transactions are lost, but for those given with the index of their new block.
    method(module, "anvil_reorg", |miner, params| {
        let mut params = params.sequence();
        let depth: u64 = params.next()?;
        let transactions: Option<Vec<(Bytes, u64)>> = params.optional_next()?;
        let reorg = Reorg { depth, keep_transactions: false, transactions: transactions.unwrap_or_default() };
        miner.reorg(reorg).map_err(|error| failure::reorg(&error))?;
        Ok(Value::Null)
    })?;
    method(module, "evm_setNextBlockTimestamp", |miner, params| {
        let timestamp = quantity(params)?;
        if !miner.set_next_timestamp(timestamp) {
            return Err(failure::invalid_params("the timestamp is not after the head's"));
        }
        Ok(Value::Null)
    })?;
    method(module, "evm_increaseTime", |miner, params| Ok(json(miner.increase_time(quantity(params)?))))?;
    method(module, "evm_setAutomine", |miner, params| {
        let instant: bool = params.one()?;
        miner.settings.send_modify(|settings| settings.instant = instant);
        Ok(Value::Null)
    })?;
    method(module, "evm_setIntervalMining", |miner, params| {
        let seconds = quantity(params)?;
        let interval = (seconds > 0).then(|| Duration::from_secs(seconds));
        miner.settings.send_modify(|settings| *settings = Settings { interval, ..*settings });
        Ok(Value::Null)
    })
}

fn method(
    module: &mut RpcModule<Service>,
    name: &'static str,
    run: impl Fn(&Miner, &Params<'_>) -> Result<Value, ErrorObjectOwned> + Clone + Send + Sync + 'static,
) -> Result<(), RegisterMethodError> {
    module.register_blocking_method(name, move |params, service: Arc<Service>, _| {
        let miner = service.miner.as_ref().ok_or_else(|| failure::refused("blocks come from the driver here"))?;
        run(miner, &params)
    })?;
    Ok(())
}

/// A number as JSON's or as a hexadecimal quantity: tools send either.
fn quantity(params: &Params<'_>) -> Result<u64, ErrorObjectOwned> {
    let value: Value = params.one()?;
    match &value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        },
        _ => None,
    }
    .ok_or_else(|| failure::invalid_params("expected a number"))
}
