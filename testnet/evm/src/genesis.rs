//! Which block and state does a genesis make?

use crate::{
    block::Block,
    config::{GAS_LIMIT, INITIAL_BASE_FEE, OpFork},
    execute::{Rules, Stack},
    state::{Account, State},
};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, Header};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_genesis::Genesis;
use alloy_primitives::{B256, U256, keccak256};
use alloy_trie::KECCAK_EMPTY;
use op_alloy_consensus::L2_TO_L1_MESSAGE_PASSER_ADDRESS;
use revm::bytecode::Bytecode;

/// The genesis block, by Prague's or the OP Stack's rules.
pub(crate) fn build(genesis: &Genesis, rules: &Rules) -> (Block, State) {
    let mut state = State::default();
    for (address, held) in &genesis.alloc {
        let mut account =
            Account { nonce: held.nonce.unwrap_or_default(), balance: held.balance, ..Account::default() };
        if let Some(code) = held.code.as_ref().filter(|code| !code.is_empty()) {
            account.code_hash = keccak256(code);
            account.code = Bytecode::new_raw(code.clone());
        }
        debug_assert_eq!(account.code_hash == KECCAK_EMPTY, account.code.is_empty());
        for (slot, value) in held.storage.iter().flatten() {
            if *value != B256::ZERO {
                account.storage.insert(&keccak256(slot), U256::from_be_bytes(value.0));
            }
        }
        state.put(keccak256(address), account);
    }
    let prague = rules.stack != Stack::Optimism(OpFork::Holocene);
    let header = Header {
        parent_hash: genesis.parent_hash.unwrap_or_default(),
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: genesis.coinbase,
        state_root: state.root(),
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        difficulty: genesis.difficulty,
        number: genesis.number.unwrap_or_default(),
        gas_limit: if genesis.gas_limit == 0 { GAS_LIMIT } else { genesis.gas_limit },
        timestamp: genesis.timestamp,
        extra_data: genesis.extra_data.clone(),
        mix_hash: genesis.mix_hash,
        nonce: genesis.nonce.into(),
        base_fee_per_gas: Some(
            genesis.base_fee_per_gas.map_or(INITIAL_BASE_FEE, |fee| u64::try_from(fee).unwrap_or(u64::MAX)),
        ),
        withdrawals_root: Some(match rules.stack {
            Stack::Optimism(OpFork::Isthmus) => state.storage_root(L2_TO_L1_MESSAGE_PASSER_ADDRESS),
            _ => EMPTY_ROOT_HASH,
        }),
        blob_gas_used: Some(genesis.blob_gas_used.unwrap_or_default()),
        excess_blob_gas: Some(genesis.excess_blob_gas.unwrap_or_default()),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: prague.then_some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    };
    let block = Block {
        hash: header.hash_slow(),
        header,
        transactions: Vec::new(),
        receipts: Vec::new(),
        withdrawals: Vec::new(),
    };
    (block, state)
}
