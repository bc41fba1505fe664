//! What does each method do?
//!
//! One function for each, thin: reads arguments, asks whoever knows, answers. Names and shapes are in `openrpc.json`.

use std::{sync::Arc, time::Duration};

use jsonrpsee::{
    RpcModule,
    server::RegisterMethodError,
    types::{ErrorObjectOwned, Params},
};
use lockstep_protocol::{
    bundle::{SignedBundle, SignedCancel},
    evidence::Reports,
    genesis::Rollup,
    ids::{Account, BundleId, Hash32, Height, RollupId},
    limits::{LIMITS, Limits},
    refusal::Refusal,
    rpc::{
        BundleStatus, CancelSent, Fact, FactSent, HexBytes, LaneFee, Network, QueryError, Sent, StateProof, StateQuery,
    },
};
use serde_json::value::RawValue;

use crate::facts::{FACT_BYTES_MAX, Refused};

use super::{
    Failure, LANE_ITEMS_DEFAULT, LANE_ITEMS_MAX, OPENRPC, REPORTS_MAX, Service, WAIT_MS_MAX,
    levels::with_levels,
    outcomes::Claim,
    params::{Arguments, bounded},
    settlements::{get_corridors, get_decisions, get_rollup_status, get_settlement, get_unsettled, wait_settlement},
    subscribe,
};

/// Bytes of a fact as JSON: twice as many hexadecimal digits as bytes, and what stands around them.
const FACT_TEXT_MAX: usize = 2 * FACT_BYTES_MAX + 64 * 1024;

/// JSON that is there already.
type Json = Box<RawValue>;

/// All methods.
pub(super) fn register(service: Arc<Service>) -> Result<RpcModule<Arc<Service>>, RegisterMethodError> {
    let mut module = RpcModule::new(service);
    macro_rules! method {
        ($name:literal, $function:ident) => {
            module.register_async_method($name, |params, service, _| async move {
                $function(&service, &params).await.map_err(ErrorObjectOwned::from)
            })?;
        };
    }
    method!("lockstep_getNetwork", get_network);
    method!("lockstep_sendBundle", send_bundle);
    method!("lockstep_cancelBundle", cancel_bundle);
    method!("lockstep_sendFact", send_fact);
    method!("lockstep_getBundle", get_bundle);
    method!("lockstep_waitBundle", wait_bundle);
    method!("lockstep_getHeader", get_header);
    method!("lockstep_getLane", get_lane);
    method!("lockstep_getState", get_state);
    method!("lockstep_getReports", get_reports);
    method!("lockstep_getLimits", get_limits);
    method!("lockstep_getFees", get_fees);
    method!("lockstep_getRollups", get_rollups);
    method!("lockstep_getSettlement", get_settlement);
    method!("lockstep_waitSettlement", wait_settlement);
    method!("lockstep_getUnsettled", get_unsettled);
    method!("lockstep_getDecisions", get_decisions);
    method!("lockstep_getRollupStatus", get_rollup_status);
    method!("lockstep_getCorridors", get_corridors);
    method!("rpc.discover", discover);
    subscribe::register(&mut module)?;
    Ok(module)
}

type Answer<T> = Result<T, Failure>;

async fn get_network(service: &Service, params: &Params<'_>) -> Answer<Network> {
    Arguments::read(params, 0)?;
    Ok(service.network.clone())
}

async fn send_bundle(service: &Service, params: &Params<'_>) -> Answer<Sent> {
    let signed: SignedBundle = match Arguments::read(params, 1).and_then(|mut arguments| arguments.message("bundle")) {
        Err(Failure::Refused(refusal)) => {
            service.metrics.refuse(&refusal);
            return Err(refusal.into());
        }
        read => read?,
    };
    let id = signed.bundle.id();
    let claim = Claim::of(&signed.bundle);
    match service.admission.submit(signed).await {
        Ok(sent) => {
            service.outcomes.remember(id, claim);
            Ok(sent)
        }
        // The same bundle again, after it was ordered: the answer that was lost is given again.
        Err(Refusal::NonceUsed { .. } | Refusal::NonceBelowWindow { .. }) if service.outcomes.is_ordered(&id)? => {
            Ok(Sent { bundle_id: id, height: service.index.height() })
        }
        Err(refusal) => Err(refusal.into()),
    }
}

async fn cancel_bundle(service: &Service, params: &Params<'_>) -> Answer<CancelSent> {
    let signed: SignedCancel = Arguments::read(params, 1)?.message("cancel")?;
    Ok(service.pool.cancel(signed)?)
}

async fn send_fact(service: &Service, params: &Params<'_>) -> Answer<FactSent> {
    // Before anything is read of it: proving facts is the dearest thing that a stranger can ask for.
    let admitted = service.facts.admit()?;
    let text = Arguments::read(params, 1)?.text("fact", FACT_TEXT_MAX)?;
    let fact: Fact = serde_json::from_str(text).map_err(|error| Refused::Malformed(error.to_string()))?;
    let sent = service.facts.submit(fact).await;
    drop(admitted);
    Ok(sent?)
}

async fn get_bundle(service: &Service, params: &Params<'_>) -> Answer<BundleStatus> {
    let id: BundleId = Arguments::read(params, 1)?.next("bundleId")?;
    Ok(with_levels(service, service.outcomes.status(id)?).await)
}

async fn wait_bundle(service: &Service, params: &Params<'_>) -> Answer<BundleStatus> {
    let mut arguments = Arguments::read(params, 2)?;
    let (id, timeout_ms): (BundleId, u64) = (arguments.next("bundleId")?, arguments.next("timeoutMs")?);
    // Longer waits are cut to the longest, not refused: the answer says that the bundle is pending, and one asks again.
    let status = service.outcomes.wait(id, Duration::from_millis(timeout_ms.min(WAIT_MS_MAX))).await?;
    Ok(with_levels(service, status).await)
}

async fn get_header(service: &Service, params: &Params<'_>) -> Answer<Json> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Which {
        Height(Height),
        Tag(String),
    }
    let height = match Arguments::read(params, 1)?.optional("height")? {
        Some(Which::Height(height)) => height,
        Some(Which::Tag(tag)) if tag != "latest" => {
            return Err(Failure::bad_request("parameter 1 (height): expected a height or \"latest\""));
        }
        Some(Which::Tag(_)) | None => latest(service)?,
    };
    Ok(service.feed.header(height).await?.json().to_owned())
}

async fn get_lane(service: &Service, params: &Params<'_>) -> Answer<Json> {
    let mut arguments = Arguments::read(params, 3)?;
    let rollup: RollupId = arguments.next("rollup")?;
    let from: Height = arguments.next("fromHeight")?;
    let max = arguments.optional("maxItems")?.unwrap_or(LANE_ITEMS_DEFAULT);
    let max = bounded(max, LANE_ITEMS_MAX)?;
    Ok(service.feed.page(rollup, from, max).await?.to_json())
}

async fn get_state(service: &Service, params: &Params<'_>) -> Answer<StateProof> {
    let query: StateQuery = Arguments::read(params, 1)?.next("query")?;
    let key = match query {
        StateQuery::Lane(rollup) | StateQuery::Rollup(rollup) | StateQuery::Lease(rollup)
            if !service.index.rules().rollups.contains_key(&rollup) =>
        {
            return Err(QueryError::UnknownRollup { rollup }.into());
        }
        query => query.key(),
    };
    latest(service)?;
    let stopping = |_| QueryError::NotReady { detail: "the node is stopping".into() };
    let proven = service.log.prove(key).await.map_err(stopping)?;
    let finality = service.feed.finality(proven.header.height).await?;
    Ok(StateProof {
        header: proven.header,
        finality,
        key: Hash32(key),
        record: proven.record.map(|record| HexBytes(record.to_vec())),
        proof: HexBytes(proven.proof.to_vec()),
    })
}

async fn get_reports(service: &Service, params: &Params<'_>) -> Answer<Reports> {
    let mut arguments = Arguments::read(params, 3)?;
    let account: Account = arguments.next("account")?;
    let from: u64 = arguments.next("fromSequence")?;
    let max = arguments.optional("maxReports")?.unwrap_or(REPORTS_MAX);
    Ok(service.index.reports(&account, from, bounded(max, REPORTS_MAX)?)?)
}

async fn get_limits(_: &Service, params: &Params<'_>) -> Answer<Limits> {
    Arguments::read(params, 0)?;
    Ok(LIMITS)
}

async fn get_fees(service: &Service, params: &Params<'_>) -> Answer<Vec<LaneFee>> {
    Arguments::read(params, 0)?;
    let rollups = service.index.rules().rollups.values();
    let fee = |rollup: &Rollup| LaneFee {
        rollup: rollup.id,
        base_fee: service.index.lane(rollup.id).map_or(rollup.min_base_fee, |lane| lane.base_fee),
        min_base_fee: rollup.min_base_fee,
    };
    Ok(rollups.map(fee).collect())
}

async fn get_rollups(service: &Service, params: &Params<'_>) -> Answer<Vec<Rollup>> {
    Arguments::read(params, 0)?;
    Ok(service.network.rollups.clone())
}

async fn discover(_: &Service, _: &Params<'_>) -> Answer<Json> {
    Ok(RawValue::from_string(OPENRPC.to_owned()).expect("the description is JSON: a test reads it"))
}

/// The latest height, if there is a block.
fn latest(service: &Service) -> Result<Height, Failure> {
    match service.index.height() {
        Height(0) => Err(QueryError::NotReady { detail: "no block is final yet".into() }.into()),
        height => Ok(height),
    }
}
