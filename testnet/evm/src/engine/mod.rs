//! How does an OP Stack driver make a rollup's blocks? By the Engine API, as of op-geth.
//!
//! `forkchoiceUpdated` with attributes builds a block at once, `getPayload` hands it out, `newPayload` executes what it is
//! given and keeps it, `forkchoiceUpdated` makes it the head, forwards, backwards or on another branch. An invalid transaction
//! among those that the attributes force makes the attributes invalid, as in op-geth: leaving out is the driver's business.

mod payload;

use crate::{
    block::Block,
    config::OpFork,
    core::{Core, CoreError},
    execute::{BlockError, Executed, Invalid},
    rollup,
};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes};
use alloy_rpc_types_engine::{
    ExecutionPayloadV3, ForkchoiceState, ForkchoiceUpdated, PayloadId, PayloadStatus, PayloadStatusEnum,
};
use jsonrpsee::{
    RpcModule,
    server::RegisterMethodError,
    types::{ErrorObjectOwned, Params},
};
use op_alloy_rpc_types_engine::{OpExecutionPayloadV4, OpPayloadAttributes};
use payload::Claim;
use serde_json::Value;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use tracing::{info, warn};

/// Built blocks that wait to be asked for, each perhaps some MB; a driver builds one at a time.
pub const PAYLOADS_MAX: usize = 16;
// The specification's errors.
const UNKNOWN_PAYLOAD: i32 = -38001;
const INVALID_FORKCHOICE: i32 = -38002;
const INVALID_ATTRIBUTES: i32 = -38003;
const UNSUPPORTED_FORK: i32 = -38005;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL: i32 = -32603;

/// The Engine API of a rollup.
#[derive(Debug)]
pub(crate) struct Engine {
    core: Arc<Core>,
    fork: OpFork,
    payloads: Mutex<VecDeque<(PayloadId, Arc<Executed>)>>,
}

pub(crate) fn module(core: Arc<Core>, fork: OpFork) -> Result<RpcModule<Engine>, RegisterMethodError> {
    let mut module = RpcModule::new(Engine { core, fork, payloads: Mutex::default() });
    method(&mut module, "engine_exchangeCapabilities", |engine, _| {
        Ok(json(match engine.fork {
            OpFork::Holocene => ["engine_forkchoiceUpdatedV3", "engine_getPayloadV3", "engine_newPayloadV3"],
            OpFork::Isthmus => ["engine_forkchoiceUpdatedV3", "engine_getPayloadV4", "engine_newPayloadV4"],
        }))
    })?;
    method(&mut module, "engine_forkchoiceUpdatedV3", |engine, params| {
        let mut params = params.sequence();
        let state: ForkchoiceState = params.next()?;
        let attributes: Option<OpPayloadAttributes> = params.optional_next()?;
        Ok(json(engine.forkchoice_updated(state, attributes)?))
    })?;
    method(&mut module, "engine_getPayloadV3", |engine, params| {
        engine.expect(OpFork::Holocene)?;
        Ok(json(payload::envelope_v3(&engine.payload(params.one()?)?.block)))
    })?;
    method(&mut module, "engine_getPayloadV4", |engine, params| {
        engine.expect(OpFork::Isthmus)?;
        Ok(json(payload::envelope_v4(&engine.payload(params.one()?)?.block)))
    })?;
    method(&mut module, "engine_newPayloadV3", |engine, params| {
        engine.expect(OpFork::Holocene)?;
        let mut params = params.sequence();
        let payload: ExecutionPayloadV3 = params.next()?;
        let (blobs, beacon_root): (Vec<B256>, B256) = (params.next()?, params.next()?);
        Ok(json(engine.new_payload(payload, None, &blobs, beacon_root)?))
    })?;
    method(&mut module, "engine_newPayloadV4", |engine, params| {
        engine.expect(OpFork::Isthmus)?;
        let mut params = params.sequence();
        let payload: OpExecutionPayloadV4 = params.next()?;
        let (blobs, beacon_root): (Vec<B256>, B256) = (params.next()?, params.next()?);
        let requests: Vec<Bytes> = params.next()?;
        if !requests.is_empty() {
            return Ok(json(invalid("an OP Stack block has no requests".into(), None)));
        }
        let root = Some(payload.withdrawals_root);
        Ok(json(engine.new_payload(payload.payload_inner, root, &blobs, beacon_root)?))
    })?;
    Ok(module)
}

impl Engine {
    fn expect(&self, fork: OpFork) -> Result<(), ErrorObjectOwned> {
        if self.fork == fork {
            return Ok(());
        }
        Err(error(UNSUPPORTED_FORK, format!("Unsupported fork: this chain's is {:?}", self.fork)))
    }

    fn payload(&self, id: PayloadId) -> Result<Arc<Executed>, ErrorObjectOwned> {
        let payloads = self.payloads.lock().unwrap_or_else(PoisonError::into_inner);
        let found = payloads.iter().find(|(held, _)| *held == id).map(|(_, executed)| executed.clone());
        found.ok_or_else(|| error(UNKNOWN_PAYLOAD, "Unknown payload"))
    }

    fn new_payload(
        &self,
        payload: ExecutionPayloadV3,
        withdrawals_root: Option<B256>,
        blobs: &[B256],
        beacon_root: B256,
    ) -> Result<PayloadStatus, ErrorObjectOwned> {
        if !blobs.is_empty() {
            return Ok(invalid("an OP Stack block has no blobs".into(), None));
        }
        let claim = match Claim::new(self.fork, payload, withdrawals_root, beacon_root) {
            Ok(claim) => claim,
            Err(reason) => return Ok(invalid(reason, None)),
        };
        let _turn = self.core.turn();
        if self.core.chain().block(&claim.hash).is_some() {
            return Ok(valid(claim.hash));
        }
        let parent = self.core.chain().block(&claim.header.parent_hash).cloned();
        let Some(parent) = parent else { return Ok(PayloadStatus::from_status(PayloadStatusEnum::Syncing)) };
        let executed = match self.execute(&claim, &parent) {
            Ok(executed) => executed,
            Err(CoreError::UnknownParent(_)) => return Ok(PayloadStatus::from_status(PayloadStatusEnum::Syncing)),
            Err(CoreError::Store(store)) => return Err(error(INTERNAL, store.to_string())),
            Err(CoreError::Block(refused)) => {
                warn!(number = claim.header.number, hash = %claim.hash, %refused, "payload refused");
                return Ok(invalid(refused.to_string(), Some(parent.hash)));
            }
        };
        let block = self.core.keep(executed.block.clone(), executed.state.clone());
        let block = block.map_err(|store| error(INTERNAL, store.to_string()))?;
        info!(number = block.header.number, transactions = block.transactions.len(), hash = %block.hash, "payload executed");
        Ok(valid(block.hash))
    }

    fn execute(&self, claim: &Claim, parent: &Arc<Block>) -> Result<Arc<Executed>, CoreError> {
        let built = {
            let payloads = self.payloads.lock().unwrap_or_else(PoisonError::into_inner);
            payloads
                .iter()
                .find(|(_, executed)| executed.block.hash == claim.hash)
                .map(|(_, executed)| executed.clone())
        };
        if let Some(built) = built {
            return Ok(built);
        }
        let transactions = rollup::decode_all(&claim.transactions).into_iter().enumerate().map(|(index, decoded)| {
            let hash = alloy_primitives::keccak256(&claim.transactions[index]);
            decoded.map_err(|reason| BlockError::Invalid { index, hash, reason })
        });
        let proposal = claim.proposal(transactions.collect::<Result<_, _>>()?);
        let executed = self.core.build(parent, proposal, Invalid::Refuse)?;
        match difference(&claim.header, &executed.block.header) {
            None => Ok(Arc::new(executed)),
            Some(what) => Err(BlockError::Differs(what).into()),
        }
    }

    fn forkchoice_updated(
        &self,
        state: ForkchoiceState,
        attributes: Option<OpPayloadAttributes>,
    ) -> Result<ForkchoiceUpdated, ErrorObjectOwned> {
        let _turn = self.core.turn();
        let target = self.core.chain().block(&state.head_block_hash).cloned();
        let Some(target) = target else {
            return Ok(ForkchoiceUpdated::from_status(PayloadStatusEnum::Syncing));
        };
        let (safe, finalized) = {
            let chain = self.core.chain();
            let tag = |hash: B256, held: Option<&Arc<Block>>| match hash {
                // Nought says nothing: what is known stays, where it is still of the chain.
                B256::ZERO => Ok(held.map(|block| block.hash).unwrap_or(chain.genesis().hash)),
                hash if chain.is_ancestor(&hash, &target) => Ok(hash),
                hash => Err(error(
                    INVALID_FORKCHOICE,
                    format!("Invalid forkchoice state: {hash} is not of the head's chain"),
                )),
            };
            let known =
                |block: Option<&Arc<Block>>| block.filter(|block| chain.is_ancestor(&block.hash, &target)).cloned();
            (
                tag(state.safe_block_hash, known(chain.safe()).as_ref())?,
                tag(state.finalized_block_hash, known(chain.finalized()).as_ref())?,
            )
        };
        let moved = self.core.adopt(&target, Some((safe, finalized)));
        let change = moved.map_err(|failed| error(INTERNAL, failed.to_string()))?;
        if !change.removed.is_empty() {
            info!(removed = change.removed.len(), number = target.header.number, hash = %target.hash, "head taken back");
        }
        let updated = ForkchoiceUpdated::new(valid(target.hash));
        match attributes {
            None => Ok(updated),
            Some(attributes) => Ok(updated.with_payload_id(self.build(&target, &attributes)?)),
        }
    }

    fn build(&self, parent: &Arc<Block>, attributes: &OpPayloadAttributes) -> Result<PayloadId, ErrorObjectOwned> {
        let refuse = |reason: String| error(INVALID_ATTRIBUTES, format!("Invalid payload attributes: {reason}"));
        let version = if self.fork == OpFork::Isthmus { 4 } else { 3 };
        let id = attributes.payload_id(&parent.hash, version);
        if self.payload(id).is_ok() {
            return Ok(id);
        }
        let raw = attributes.transactions.as_deref().unwrap_or_default();
        let mut transactions = Vec::with_capacity(raw.len());
        for (index, decoded) in rollup::decode_all(raw).into_iter().enumerate() {
            transactions.push(decoded.map_err(|reason| refuse(format!("transaction {index} is not valid: {reason}")))?);
        }
        let forced = transactions.len();
        if attributes.no_tx_pool != Some(true) {
            let chain = self.core.chain();
            if let Some(state) = chain.state(&parent.hash) {
                let base_fee = self.core.rules.next_base_fee(&parent.header);
                let limit = attributes.gas_limit.unwrap_or(parent.header.gas_limit);
                transactions.extend(self.core.pool().best(state, base_fee, limit));
            }
        }
        let proposal = payload::proposal(attributes, transactions).map_err(refuse)?;
        let built = match self.core.build(parent, proposal, Invalid::SkipAfter(forced)) {
            Ok(built) => built,
            Err(CoreError::Block(refused)) => {
                warn!(parent = parent.header.number, %refused, "attributes refused");
                return Err(refuse(refused.to_string()));
            }
            Err(failed) => return Err(error(INTERNAL, failed.to_string())),
        };
        for skipped in &built.skipped {
            self.core.pool().remove(&skipped.hash);
        }
        let mut payloads = self.payloads.lock().unwrap_or_else(PoisonError::into_inner);
        if payloads.len() >= PAYLOADS_MAX {
            payloads.pop_front();
        }
        payloads.push_back((id, Arc::new(built)));
        Ok(id)
    }
}

/// The first field in which a payload's header is not the executed one.
fn difference(claimed: &Header, executed: &Header) -> Option<String> {
    let fields = |header: &Header| {
        [
            ("number", header.number.to_string()),
            ("base fee", format!("{:?}", header.base_fee_per_gas)),
            ("gas used", header.gas_used.to_string()),
            ("receipts root", header.receipts_root.to_string()),
            ("logs bloom", header.logs_bloom.to_string()),
            ("withdrawals root", format!("{:?}", header.withdrawals_root)),
            ("state root", header.state_root.to_string()),
            ("header", header.hash_slow().to_string()),
        ]
    };
    let mut pairs = fields(claimed).into_iter().zip(fields(executed));
    pairs.find(|((_, claimed), (_, executed))| claimed != executed).map(|((name, claimed), (_, executed))| {
        format!("invalid {name}: the payload says {claimed}, execution {executed}")
    })
}

fn valid(hash: B256) -> PayloadStatus {
    PayloadStatus::new(PayloadStatusEnum::Valid, Some(hash))
}

fn invalid(validation_error: String, latest_valid: Option<B256>) -> PayloadStatus {
    PayloadStatus::new(PayloadStatusEnum::Invalid { validation_error }, latest_valid)
}

fn error(code: i32, text: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, text, None::<()>)
}

fn json(shape: impl serde::Serialize) -> Value {
    serde_json::to_value(shape).expect("maps of these shapes have strings for keys")
}

fn method(
    module: &mut RpcModule<Engine>,
    name: &'static str,
    run: impl Fn(&Engine, &Params<'_>) -> Result<Value, ErrorObjectOwned> + Clone + Send + Sync + 'static,
) -> Result<(), RegisterMethodError> {
    module.register_blocking_method(name, move |params, engine: Arc<Engine>, _| {
        // A driver that speaks another version of the types has to hear which.
        run(&engine, &params).map_err(|refused| match refused.code() {
            INVALID_PARAMS => error(INVALID_PARAMS, format!("{}: {}", refused.message(), detail(&refused))),
            _ => refused,
        })
    })?;
    Ok(())
}

fn detail(refused: &ErrorObjectOwned) -> String {
    refused.data().map(|data| data.get().to_owned()).unwrap_or_default()
}
