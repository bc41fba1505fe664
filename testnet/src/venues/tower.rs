//! Who looks at the venues, and when do their books get judged?
//!
//! Listens to the contracts of both rollups through their own nodes, reads the books at the last block that it listened to, and
//! has them judged, every second. Reads the log's decisions as well. Nodes may be killed meanwhile: what does not answer is asked
//! again, and nothing is skipped.

use std::time::{Duration, Instant};

use jsonrpsee_http_client::HttpClient;
use lockstep_protocol::{
    ids::{RollupId, SettlementId},
    settlement::Decision,
};
use lockstep_sdk::Client;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{
    Books, Contracts, events,
    reading::{self, Reading},
};
use crate::network::ROLLUPS;

/// How often the contracts are listened to: the resolution of what is measured at rollups.
const LISTEN_INTERVAL: Duration = Duration::from_millis(50);
/// How often the books are read and judged.
const JUDGE_INTERVAL: Duration = Duration::from_secs(1);
/// How often the log is asked for decisions: the resolution of what is measured of them.
const DECISIONS_INTERVAL: Duration = Duration::from_millis(50);
/// A decision that every leg moves.
const COMMIT: u8 = 1;
/// Decisions that are asked for at once.
const DECISIONS_MAX: u64 = 128;

/// What the venues' books say, each at a block of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) readings: [Reading; ROLLUPS.len()],
}

impl Picture {
    pub(super) fn prices(&self) -> Vec<u128> {
        self.readings.iter().map(|reading| reading.price).collect()
    }
}

/// Listens and judges, for ever.
pub(super) async fn listen(
    nodes: [HttpClient; ROLLUPS.len()],
    contracts: Contracts,
    books: Books,
    tell: watch::Sender<Option<Picture>>,
) {
    let mut next = [0; ROLLUPS.len()];
    let mut judged = Instant::now();
    let mut tick = tokio::time::interval(LISTEN_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !tell.is_closed() {
        tick.tick().await;
        let [one, other] = &nodes;
        let (one, other) =
            tokio::join!(events::listen(one, &contracts, next[0]), events::listen(other, &contracts, next[1]));
        for (place, heard) in [one, other].into_iter().enumerate() {
            match heard {
                Ok(Some(heard)) => {
                    next[place] = heard.block + 1;
                    note(&books, place, &heard);
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(rollup = %ROLLUPS[place].0, %error, "a rollup's node does not answer"),
            }
        }
        if judged.elapsed() < JUDGE_INTERVAL || next.contains(&0) {
            continue;
        }
        judged = Instant::now();
        let accounts = [0, 1].map(|place| books.keep().auditor.accounts(place).clone());
        let read = |place: usize| reading::read(&nodes[place], &contracts, &accounts[place], next[place] - 1);
        match tokio::try_join!(read(0), read(1)) {
            Ok((one, other)) => {
                books.keep().auditor.judge([&one, &other]);
                tell.send_replace(Some(Picture { readings: [one, other] }));
            }
            Err(error) => tracing::debug!(%error, "the books cannot be read just now"),
        }
    }
}

fn note(books: &Books, place: usize, heard: &events::Heard) {
    let now = Instant::now();
    let mut kept = books.keep();
    for said in &heard.said {
        kept.auditor.note(place, &said.event);
        kept.settlements.note(place, &said.event, now);
    }
    kept.settlements.spend(heard);
}

/// Reads the proven decisions of a lane, for ever.
pub(super) async fn decisions(client: Client, rollup: RollupId, books: Books) {
    let mut next = 1;
    let mut tick = tokio::time::interval(DECISIONS_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let page = match client.decisions(rollup, next, DECISIONS_MAX).await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(%rollup, %error, "no node tells of decisions just now");
                continue;
            }
        };
        let now = Instant::now();
        next += page.range.decisions.len() as u64;
        for decided in page.range.decisions {
            let sid = decided.settlement;
            let reason = if decided.outcome == COMMIT { None } else { Some(reason(&client, sid).await) };
            let mut kept = books.keep();
            if kept.auditor.decide(rollup, sid, decided.outcome) {
                kept.settlements.decide(sid, reason.as_deref().map_or(Ok(()), Err), now);
            }
        }
    }
}

/// Why a settlement was aborted, as a node tells.
async fn reason(client: &Client, settlement: SettlementId) -> String {
    let status = client.settlement(settlement).await.ok();
    match status.and_then(|status| status.record.decided).map(|decided| decided.decision) {
        Some(Decision::Abort(reason)) => reason.name().to_owned(),
        _ => "for a reason that no node tells".to_owned(),
    }
}
