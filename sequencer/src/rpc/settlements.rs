//! What does each method about settlements do?

use std::time::Duration;

use jsonrpsee::types::Params;
use lockstep_protocol::{
    ids::{Height, RollupId, SettlementId},
    limits::MAX_DECISIONS_PER_RANGE,
    rpc::{CorridorStatus, DecisionPage, QueryError, RollupStatus, SettlementStatus, UnsettledPage},
    settlement::DecisionRange,
};
use tokio::time::Instant;

use super::{
    Failure, Service, UNSETTLED_MAX, WAIT_MS_MAX,
    params::{Arguments, bounded},
};

type Answer<T> = Result<T, Failure>;

pub(super) async fn get_settlement(service: &Service, params: &Params<'_>) -> Answer<SettlementStatus> {
    let settlement: SettlementId = Arguments::read(params, 1)?.next("settlement")?;
    find(service, settlement)
}

/// Answers when a block above `afterHeight` has changed the settlement, or when the time is over.
pub(super) async fn wait_settlement(service: &Service, params: &Params<'_>) -> Answer<SettlementStatus> {
    let mut arguments = Arguments::read(params, 3)?;
    let settlement: SettlementId = arguments.next("settlement")?;
    let (after, timeout_ms): (Height, u64) = (arguments.next("afterHeight")?, arguments.next("timeoutMs")?);
    let deadline = Instant::now() + Duration::from_millis(timeout_ms.min(WAIT_MS_MAX));
    let mut heights = service.index.watch();
    loop {
        heights.mark_unchanged();
        let status = find(service, settlement);
        let unchanged = match &status {
            Ok(status) => status.changed <= after,
            // Its bundle may be on the way.
            Err(Failure::Query(QueryError::UnknownSettlement { .. })) => true,
            Err(_) => false,
        };
        if !unchanged {
            return status;
        }
        tokio::select! {
            changed = heights.changed() => if changed.is_err() { return status },
            () = tokio::time::sleep_until(deadline) => return status,
        }
    }
}

pub(super) async fn get_unsettled(service: &Service, params: &Params<'_>) -> Answer<UnsettledPage> {
    let mut arguments = Arguments::read(params, 3)?;
    let rollup: RollupId = arguments.next("rollup")?;
    let after: Option<SettlementId> = arguments.optional("after")?;
    let max = bounded(arguments.optional("maxSettlements")?.unwrap_or(UNSETTLED_MAX), UNSETTLED_MAX)?;
    check(service, rollup)?;
    Ok(service.index.unsettled(rollup, after, max)?)
}

pub(super) async fn get_decisions(service: &Service, params: &Params<'_>) -> Answer<DecisionPage> {
    let mut arguments = Arguments::read(params, 3)?;
    let rollup: RollupId = arguments.next("rollup")?;
    let from: u64 = arguments.next("fromSequence")?;
    let most = MAX_DECISIONS_PER_RANGE as u64;
    let max = bounded(arguments.optional("maxDecisions")?.unwrap_or(most), most)?;
    check(service, rollup)?;
    let from = from.max(1);
    let rows = service.index.decisions(rollup, from, max)?;
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        let leaf = service.index.lane(rollup).ok_or(QueryError::UnknownRollup { rollup })?.leaf;
        let (sequence, chain) = (leaf.decision_sequence, leaf.decisions);
        let range = DecisionRange { rollup, sequence, chain, decisions: Vec::new() };
        return Ok(DecisionPage { range, intents: Vec::new(), item: None });
    };
    let (chain, height) = (first.before, last.height);
    let item = service.feed.bare_item(rollup, height).await?.value().clone();
    let (decisions, intents) = rows.into_iter().map(|row| (row.decision, row.intent)).unzip();
    let range = DecisionRange { rollup, sequence: from - 1, chain, decisions };
    Ok(DecisionPage { range, intents, item: Some(item) })
}

pub(super) async fn get_rollup_status(service: &Service, params: &Params<'_>) -> Answer<RollupStatus> {
    let rollup: RollupId = Arguments::read(params, 1)?.next("rollup")?;
    service.index.rollup_status(rollup)?.ok_or_else(|| QueryError::UnknownRollup { rollup }.into())
}

pub(super) async fn get_corridors(service: &Service, params: &Params<'_>) -> Answer<Vec<CorridorStatus>> {
    Arguments::read(params, 0)?;
    Ok(service.index.corridors()?)
}

fn find(service: &Service, settlement: SettlementId) -> Answer<SettlementStatus> {
    service.index.settlement(&settlement)?.ok_or_else(|| QueryError::UnknownSettlement { settlement }.into())
}

fn check(service: &Service, rollup: RollupId) -> Answer<()> {
    match service.index.rules().rollups.contains_key(&rollup) {
        true => Ok(()),
        false => Err(QueryError::UnknownRollup { rollup }.into()),
    }
}
