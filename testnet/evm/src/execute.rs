//! Which block do these transactions make on this state?
//!
//! Executes an exact order by Prague's or the OP Stack's rules and seals the header. What to do with a transaction that may not
//! be in a block is the caller's choice: skip it and say why, or refuse the block. Chooses no transactions and keeps nothing.

use crate::{
    block::{Block, Receipt},
    config::{OP_BASE_FEE, OpFork},
    state::View,
    transaction::Transaction,
};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, Transaction as _};
use alloy_eips::{
    Encodable2718,
    eip1559::BaseFeeParams,
    eip2935, eip4788,
    eip4895::Withdrawal,
    eip7002, eip7251,
    eip7685::{EMPTY_REQUESTS_HASH, Requests},
};
use alloy_primitives::{Address, B64, B256, Bytes, Log, U256, logs_bloom};
use alloy_trie::{EMPTY_ROOT_HASH, root::ordered_trie_root_with_encoder};
use op_alloy_consensus::{L2_TO_L1_MESSAGE_PASSER_ADDRESS, OpReceiptEnvelope, decode_holocene_extra_data};
use op_revm::{DefaultOp, L1BlockInfo, OpBuilder, OpContext, OpSpecId, OpTransaction, api::builder::DefaultOpEvm};
use revm::{
    Context, DatabaseCommit, ExecuteEvm, MainBuilder, MainContext, MainnetEvm, SystemCallEvm,
    context::{BlockEnv, CfgEnv, TxEnv},
    context_interface::{
        block::BlobExcessGasAndPrice,
        result::{EVMError, ExecutionResult},
    },
    handler::MainnetContext,
    primitives::hardfork::SpecId,
};
use std::{convert::Infallible, fmt::Debug, sync::Arc};

/// Base-fee parameters of Ethereum.
const ETHEREUM_BASE_FEE: BaseFeeParams = BaseFeeParams::ethereum();
/// The version of deposit receipts since Canyon.
const DEPOSIT_RECEIPT_VERSION: u64 = 1;
/// Blobs' update fraction of Prague; the price stays at its minimum, as no blobs are taken.
const BLOB_UPDATE_FRACTION: u64 = revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE;
/// Wei in a gwei, in which EIP-4895 counts.
const GWEI: u64 = 1_000_000_000;

/// The rules of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) chain_id: u64,
    pub(crate) stack: Stack,
}

/// Whose rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// Ethereum's Prague, with a base fee that may be fixed.
    Ethereum { base_fee: Option<u64> },
    /// The OP Stack's.
    Optimism(OpFork),
}

/// A block that is to be: all of its header that execution does not decide, and its transactions.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) timestamp: u64,
    pub(crate) beneficiary: Address,
    pub(crate) prev_randao: B256,
    pub(crate) gas_limit: u64,
    pub(crate) extra_data: Bytes,
    pub(crate) parent_beacon_block_root: B256,
    pub(crate) withdrawals: Vec<Withdrawal>,
    pub(crate) transactions: Vec<Arc<Transaction>>,
}

impl Proposal {
    /// What `block` was made from.
    pub(crate) fn of(block: &Block) -> Self {
        Self {
            timestamp: block.header.timestamp,
            beneficiary: block.header.beneficiary,
            prev_randao: block.header.mix_hash,
            gas_limit: block.header.gas_limit,
            extra_data: block.header.extra_data.clone(),
            parent_beacon_block_root: block.header.parent_beacon_block_root.unwrap_or_default(),
            withdrawals: block.withdrawals.clone(),
            transactions: block.transactions.clone(),
        }
    }
}

/// What happens with a transaction that may not be in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// It is left out.
    Skip,
    /// The block is refused.
    Refuse,
    /// The block is refused for one of the first so many; later ones are left out.
    SkipAfter(usize),
}

impl Invalid {
    fn skips(self, index: usize) -> bool {
        match self {
            Self::Skip => true,
            Self::Refuse => false,
            Self::SkipAfter(forced) => index >= forced,
        }
    }
}

/// A transaction that was left out of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its place among the transactions given.
    pub index: usize,
    /// Its hash; of the bytes, where they are no transaction.
    pub hash: B256,
    /// Why.
    pub reason: String,
}

/// A block with the state after it.
#[derive(Clone, Debug)]
pub(crate) struct Executed {
    pub(crate) block: Block,
    pub(crate) state: crate::State,
    pub(crate) skipped: Vec<Skipped>,
}

/// Why there is no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Time does not go on.
    #[error("timestamp {timestamp} is not after the parent's {parent}")]
    Timestamp {
        /// The block's.
        timestamp: u64,
        /// Its parent's.
        parent: u64,
    },
    /// A transaction may not be in it.
    #[error("transaction {index} ({hash}) may not be in the block: {reason}")]
    Invalid {
        /// Its place.
        index: usize,
        /// Its hash.
        hash: B256,
        /// Why not.
        reason: String,
    },
    /// More than any block has.
    #[error("{0} transactions are more than any block has")]
    TooManyTransactions(usize),
    /// It executes to something else than its header says.
    #[error("{0}")]
    Differs(String),
    /// A contract of the protocol itself failed.
    #[error("the system call to {0} failed")]
    SystemCall(Address),
}

/// What a transaction or a call did.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) gas_used: u64,
    pub(crate) logs: Vec<Log>,
    pub(crate) end: End,
}

/// How it ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Success(Bytes),
    Revert(Bytes),
    Halt(String),
}

impl Rules {
    /// The base fee of the block after `parent`.
    pub(crate) fn next_base_fee(&self, parent: &Header) -> u64 {
        let params = match self.stack {
            Stack::Ethereum { base_fee: Some(fixed) } => return fixed,
            Stack::Ethereum { base_fee: None } => ETHEREUM_BASE_FEE,
            Stack::Optimism(_) => match decode_holocene_extra_data(&parent.extra_data) {
                Ok((elasticity, denominator)) if elasticity > 0 && denominator > 0 => {
                    BaseFeeParams::new(denominator.into(), elasticity.into())
                }
                _ => OP_BASE_FEE,
            },
        };
        parent.next_block_base_fee(params).unwrap_or_default()
    }

    fn is_prague(&self) -> bool {
        self.stack != Stack::Optimism(OpFork::Holocene)
    }

    fn block_env(&self, header: &Header) -> BlockEnv {
        BlockEnv {
            number: U256::from(header.number),
            beneficiary: header.beneficiary,
            timestamp: U256::from(header.timestamp),
            gas_limit: header.gas_limit,
            basefee: header.base_fee_per_gas.unwrap_or_default(),
            difficulty: U256::ZERO,
            prevrandao: Some(header.mix_hash),
            blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new(0, BLOB_UPDATE_FRACTION)),
            ..BlockEnv::default()
        }
    }
}

/// The EVM of one block or one call.
pub(crate) enum Machine {
    Ethereum(Box<MainnetEvm<MainnetContext<View>>>),
    Optimism(Box<DefaultOpEvm<OpContext<View>>>),
}

/// How far a call may leave the rules of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// A transaction of a block.
    Transaction,
    /// `eth_call` and `eth_estimateGas`: no nonce, no fee, no cap by the block's gas.
    Call,
}

impl Machine {
    /// `header` is the block's own as far as it is known before execution.
    pub(crate) fn new(rules: &Rules, header: &Header, view: View, strictness: Strictness) -> Self {
        let block = rules.block_env(header);
        let loose = strictness == Strictness::Call;
        macro_rules! relax {
            ($cfg:expr) => {{
                let mut cfg = $cfg;
                cfg.chain_id = rules.chain_id;
                cfg.disable_nonce_check = loose;
                cfg.disable_block_gas_limit = loose;
                cfg.disable_eip3607 = loose;
                cfg.disable_base_fee = loose;
                cfg
            }};
        }
        match rules.stack {
            Stack::Ethereum { .. } => {
                let cfg = relax!(CfgEnv::new_with_spec(SpecId::PRAGUE));
                let context = Context::mainnet().with_block(block).with_cfg(cfg).with_db(view);
                Self::Ethereum(Box::new(context.build_mainnet()))
            }
            Stack::Optimism(fork) => {
                let spec = match fork {
                    OpFork::Holocene => OpSpecId::HOLOCENE,
                    OpFork::Isthmus => OpSpecId::ISTHMUS,
                };
                let mut cfg = relax!(CfgEnv::new_with_spec(spec));
                // A call pays nothing for its bytes on L1 either.
                cfg.disable_fee_charge = loose;
                let context = OpContext::op().with_block(block).with_cfg(cfg).with_db(view);
                Self::Optimism(Box::new(context.build_op()))
            }
        }
    }

    pub(crate) fn view(&mut self) -> &mut View {
        match self {
            Self::Ethereum(evm) => &mut evm.ctx.journaled_state.database,
            Self::Optimism(evm) => &mut evm.0.ctx.journaled_state.database,
        }
    }

    pub(crate) fn into_view(self) -> View {
        match self {
            Self::Ethereum(evm) => evm.ctx.journaled_state.database,
            Self::Optimism(evm) => evm.0.ctx.journaled_state.database,
        }
    }

    /// Runs a transaction and keeps what it changed; the reason when it may not run at all, and then nothing has changed.
    pub(crate) fn transact(&mut self, tx: &Transaction) -> Result<Outcome, String> {
        match self {
            Self::Ethereum(_) if tx.is_deposit() => Err("deposits are an OP Stack rollup's".into()),
            Self::Ethereum(evm) => commit(&mut **evm, tx.env(), |evm| &mut evm.ctx.journaled_state.database),
            Self::Optimism(evm) => commit(&mut **evm, tx.op_env(), |evm| &mut evm.0.ctx.journaled_state.database),
        }
    }

    /// Runs a call without an envelope.
    pub(crate) fn call(&mut self, env: TxEnv) -> Result<Outcome, String> {
        match self {
            Self::Ethereum(evm) => commit(&mut **evm, env, |evm| &mut evm.ctx.journaled_state.database),
            Self::Optimism(evm) => {
                let mut tx = OpTransaction::new(env);
                tx.enveloped_tx = Some(Bytes::new());
                commit(&mut **evm, tx, |evm| &mut evm.0.ctx.journaled_state.database)
            }
        }
    }

    /// Calls a contract of the protocol, if there is one: what it returned.
    fn system_call(&mut self, contract: Address, input: Bytes) -> Result<Option<Bytes>, BlockError> {
        if self.view().state.code(contract).is_empty() {
            return Ok(None);
        }
        let done = match self {
            Self::Ethereum(evm) => evm
                .system_call(contract, input)
                .ok()
                .map(|done| (done.result.is_success(), done.result.into_output(), done.state)),
            Self::Optimism(evm) => evm
                .system_call(contract, input)
                .ok()
                .map(|done| (done.result.is_success(), done.result.into_output(), done.state)),
        };
        match done {
            Some((true, output, state)) => {
                self.view().commit(state);
                Ok(Some(output.unwrap_or_default()))
            }
            _ => Err(BlockError::SystemCall(contract)),
        }
    }

    /// What the rollup charged for the transaction's bytes on L1.
    fn l1_fee(&self, tx: &Transaction) -> Option<u128> {
        match self {
            Self::Optimism(evm) if !tx.is_deposit() => {
                let mut info: L1BlockInfo = evm.0.ctx.chain.clone();
                info.clear_tx_l1_cost();
                Some(info.calculate_tx_l1_cost(tx.raw(), evm.0.ctx.cfg.spec).saturating_to())
            }
            _ => None,
        }
    }
}

fn commit<E, H, T>(evm: &mut E, tx: E::Tx, view: impl Fn(&mut E) -> &mut View) -> Result<Outcome, String>
where
    E: ExecuteEvm<ExecutionResult = ExecutionResult<H>, Error = EVMError<Infallible, T>, State = revm::state::EvmState>,
    H: Debug,
    T: std::fmt::Display,
{
    match evm.transact(tx) {
        Ok(done) => {
            view(evm).commit(done.state);
            let gas_used = done.result.tx_gas_used();
            let logs = done.result.logs().to_vec();
            let end = match done.result {
                ExecutionResult::Success { output, .. } => End::Success(output.into_data()),
                ExecutionResult::Revert { output, .. } => End::Revert(output),
                ExecutionResult::Halt { reason, .. } => End::Halt(format!("{reason:?}")),
            };
            Ok(Outcome { gas_used, logs, end })
        }
        Err(error) => {
            // What validation loaded must not be taken for a change.
            evm.finalize();
            Err(match error {
                EVMError::Transaction(invalid) => invalid.to_string(),
                EVMError::Header(invalid) => invalid.to_string(),
                EVMError::Custom(reason) => reason,
                EVMError::CustomAny(reason) => reason.to_string(),
                EVMError::Database(never) => match never {},
            })
        }
    }
}

/// The header of the block after `parent` as far as it is known before execution.
pub(crate) fn open(rules: &Rules, parent: &Header, parent_hash: B256, proposal: &Proposal) -> Header {
    Header {
        parent_hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: proposal.beneficiary,
        difficulty: U256::ZERO,
        number: parent.number + 1,
        gas_limit: proposal.gas_limit,
        timestamp: proposal.timestamp,
        extra_data: proposal.extra_data.clone(),
        mix_hash: proposal.prev_randao,
        nonce: B64::ZERO,
        base_fee_per_gas: Some(rules.next_base_fee(parent)),
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(proposal.parent_beacon_block_root),
        requests_hash: rules.is_prague().then_some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

/// Executes the block after `parent`, whose state and ancestors `view` has.
pub(crate) fn execute(
    rules: &Rules,
    parent: &Header,
    parent_hash: B256,
    view: View,
    proposal: Proposal,
    invalid: Invalid,
) -> Result<Executed, BlockError> {
    // Arbitrum's blocks may share a second; everywhere else time goes on.
    let may_stand = matches!(rules.stack, Stack::Ethereum { .. });
    if proposal.timestamp < parent.timestamp || (!may_stand && proposal.timestamp == parent.timestamp) {
        return Err(BlockError::Timestamp { timestamp: proposal.timestamp, parent: parent.timestamp });
    }
    let mut header = open(rules, parent, parent_hash, &proposal);
    let mut machine = Machine::new(rules, &header, view, Strictness::Transaction);
    machine.system_call(eip4788::BEACON_ROOTS_ADDRESS, proposal.parent_beacon_block_root.0.into())?;
    if rules.is_prague() {
        machine.system_call(eip2935::HISTORY_STORAGE_ADDRESS, parent_hash.0.into())?;
    }

    let mut transactions = Vec::with_capacity(proposal.transactions.len());
    let mut receipts: Vec<Receipt> = Vec::with_capacity(proposal.transactions.len());
    let mut skipped = Vec::new();
    for (index, tx) in proposal.transactions.into_iter().enumerate() {
        let nonce = machine.view().state.nonce(tx.sender());
        let left = header.gas_limit - header.gas_used;
        let done = if tx.envelope().gas_limit() > left {
            Err(format!("its gas limit of {} is more than the {left} left in the block", tx.envelope().gas_limit()))
        } else {
            machine.transact(&tx)
        };
        match done {
            Ok(done) => {
                header.gas_used += done.gas_used;
                let deposit = tx.is_deposit();
                let envelope = OpReceiptEnvelope::from_parts(
                    matches!(done.end, End::Success(_)),
                    header.gas_used,
                    &done.logs,
                    tx.envelope().tx_type(),
                    deposit.then_some(nonce),
                    deposit.then_some(DEPOSIT_RECEIPT_VERSION),
                );
                receipts.push(Receipt::new(envelope, done.gas_used, machine.l1_fee(&tx), &tx));
                transactions.push(tx);
            }
            Err(reason) if invalid.skips(index) => skipped.push(Skipped { index, hash: tx.hash(), reason }),
            Err(reason) => return Err(BlockError::Invalid { index, hash: tx.hash(), reason }),
        }
    }

    if matches!(rules.stack, Stack::Ethereum { .. }) {
        let mut requests = Requests::default();
        for (kind, contract) in [
            (eip7002::WITHDRAWAL_REQUEST_TYPE, eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS),
            (eip7251::CONSOLIDATION_REQUEST_TYPE, eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS),
        ] {
            if let Some(output) = machine.system_call(contract, Bytes::new())?
                && !output.is_empty()
            {
                requests.push_request_with_type(kind, output);
            }
        }
        header.requests_hash = Some(requests.requests_hash());
        header.withdrawals_root = Some(ordered_trie_root_with_encoder(&proposal.withdrawals, |item, out| {
            alloy_rlp::Encodable::encode(item, out)
        }));
    }
    let mut state = machine.into_view().state;
    for withdrawal in &proposal.withdrawals {
        state.credit(withdrawal.address, U256::from(withdrawal.amount) * U256::from(GWEI));
    }
    if rules.stack == Stack::Optimism(OpFork::Isthmus) {
        header.withdrawals_root = Some(state.storage_root(L2_TO_L1_MESSAGE_PASSER_ADDRESS));
    }
    header.state_root = state.root();
    header.transactions_root = ordered_trie_root_with_encoder(&transactions, |tx, out| out.extend_from_slice(tx.raw()));
    header.receipts_root = ordered_trie_root_with_encoder(&receipts, |receipt, out| receipt.envelope.encode_2718(out));
    header.logs_bloom = logs_bloom(receipts.iter().flat_map(|receipt| receipt.envelope.logs()));
    let block = Block { hash: header.hash_slow(), header, transactions, receipts, withdrawals: proposal.withdrawals };
    Ok(Executed { block, state, skipped })
}
