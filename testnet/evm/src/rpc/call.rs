//! What would a call return, and how much gas would it need?

use super::{Service, at::At, failure};
use crate::{
    execute::{End, Machine, Outcome, Strictness},
    state::View,
};
use alloy_eips::BlockId;
use alloy_primitives::{Bytes, TxKind, U256};
use alloy_rpc_types_eth::TransactionRequest;
use jsonrpsee::types::ErrorObjectOwned;
use revm::context::{TxEnv, either::Either};

/// Gas of one call at most (geth's default), so that a call ends.
pub const CALL_GAS_MAX: u64 = 50_000_000;
/// What the cheapest transaction needs.
const TRANSFER_GAS: u64 = 21_000;
/// What a call with value hands on above its cost.
const CALL_STIPEND: u64 = 2_300;
/// Attempts of an estimate: a binary search over 64 bits ends before.
const ESTIMATE_ATTEMPTS_MAX: usize = 64;

impl Service {
    pub(crate) fn call(&self, request: TransactionRequest, id: Option<BlockId>) -> Result<Bytes, ErrorObjectOwned> {
        let at = self.at(id)?;
        let gas = request.gas.unwrap_or(CALL_GAS_MAX).min(CALL_GAS_MAX);
        match self.attempt(&at, &request, gas).map_err(failure::refused)?.end {
            End::Success(output) => Ok(output),
            End::Revert(data) => Err(failure::reverted(&data)),
            End::Halt(reason) => Err(failure::halted(&reason)),
        }
    }

    pub(crate) fn estimate(&self, request: TransactionRequest, id: Option<BlockId>) -> Result<u64, ErrorObjectOwned> {
        let at = self.at(id)?;
        let mut most = request.gas.unwrap_or(at.block.header.gas_limit).min(CALL_GAS_MAX);
        let price = request.max_fee_per_gas.or(request.gas_price).unwrap_or_default();
        if price > 0 {
            let balance = at.state.balance(request.from.unwrap_or_default());
            let left = balance
                .checked_sub(request.value.unwrap_or_default())
                .ok_or_else(|| failure::refused("insufficient funds for transfer"))?;
            most = most.min((left / U256::from(price)).saturating_to());
        }
        let first = self.attempt(&at, &request, most).map_err(failure::refused)?;
        match first.end {
            End::Success(_) => {}
            End::Revert(data) => return Err(failure::reverted(&data)),
            End::Halt(_) => return Err(failure::refused(format!("gas required exceeds allowance ({most})"))),
        }
        // `enough` always succeeds, `little` never does.
        let mut enough = most;
        let mut little = first.gas_used.saturating_sub(1).max(TRANSFER_GAS - 1);
        let mut next = (first.gas_used + CALL_STIPEND).saturating_mul(64) / 63;
        for _ in 0..ESTIMATE_ATTEMPTS_MAX {
            if little + 1 >= enough {
                break;
            }
            let gas = next.clamp(little + 1, enough - 1);
            if matches!(self.attempt(&at, &request, gas), Ok(Outcome { end: End::Success(_), .. })) {
                enough = gas;
            } else {
                little = gas;
            }
            next = little + (enough - little) / 2;
        }
        Ok(enough)
    }

    fn attempt(&self, at: &At, request: &TransactionRequest, gas: u64) -> Result<Outcome, String> {
        let ancestors = {
            let chain = self.core.chain();
            let parent = chain.block(&at.block.header.parent_hash).cloned();
            parent.and_then(|parent| chain.view(&parent)).map(|view| view.ancestors).unwrap_or_default()
        };
        let view = View { state: at.state.clone(), ancestors };
        Machine::new(&self.core.rules, &at.block.header, view, Strictness::Call).call(env(
            request,
            gas,
            self.core.rules.chain_id,
        ))
    }
}

fn env(request: &TransactionRequest, gas: u64, chain_id: u64) -> TxEnv {
    let tip = request.max_priority_fee_per_gas;
    let authorizations = request.authorization_list.clone().unwrap_or_default();
    let tx_type = if !authorizations.is_empty() {
        4
    } else if tip.is_some() || request.max_fee_per_gas.is_some() {
        2
    } else {
        u8::from(request.access_list.is_some())
    };
    TxEnv {
        tx_type,
        caller: request.from.unwrap_or_default(),
        gas_limit: gas,
        gas_price: request.max_fee_per_gas.or(request.gas_price).unwrap_or_default(),
        gas_priority_fee: (tx_type == 2 || tx_type == 4).then(|| tip.unwrap_or_default()),
        kind: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or_default(),
        data: request.input.input().cloned().unwrap_or_default(),
        chain_id: Some(request.chain_id.unwrap_or(chain_id)),
        access_list: request.access_list.clone().unwrap_or_default(),
        authorization_list: authorizations.into_iter().map(Either::Left).collect(),
        ..TxEnv::default()
    }
}
