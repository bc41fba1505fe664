//! Up to which block does L1 hold a rollup's batches?
//!
//! Its posters read that from L1 and tell it on their status pages (`onL1` of `/status`). They name the L1 block up to which they
//! read, and where they know it the rollup's block by hash; both are compared with the operator's own L1 node and own rollup node.
//! What contradicts those is refused, and what was believed counts until L1 takes that block of its own back. Derives nothing:
//! what a batch holds is the poster's word until the rollup's node has derived it, which is `safe`.

use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jsonrpsee_core::{client::ClientT, rpc_params};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_protocol::ids::{Hash32, RollupId};
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};
use tracing::{info, warn};

use super::{
    super::metrics::{LevelsMetrics, LookLabel},
    ask::{ANSWER_BYTES_MAX, AskError, quantity},
};
use crate::config::{L1Config, RollupConfig};

/// How often posters are asked: what is on L1 moves with L1's blocks.
const INTERVAL: Duration = Duration::from_millis(500);
/// Longest wait for all that a look takes. Whoever asks for a leg waits for it.
const LOOK_TIMEOUT: Duration = Duration::from_millis(400);
/// After a look that was cut off, and for a poster that did not answer, so much later: at the worst a twelfth of the time is waited.
const AGAIN: Duration = Duration::from_millis(5_000);
/// Largest page that is read: a status is two kilobytes, with long addresses and troubles.
const PAGE_BYTES_MAX: usize = 64 * 1024;

/// The posters of a rollup.
pub(super) struct Posters {
    rollup: RollupId,
    pages: Vec<Uri>,
    http: Client<HttpConnector, Empty<Bytes>>,
    l1: HttpClient,
    metrics: LevelsMetrics,
    state: Mutex<State>,
}

struct State {
    /// When the next look is due.
    due: Instant,
    /// What is believed.
    held: Option<OnL1>,
    /// In the order of the pages: until when one is left alone, and whether it failed last.
    posters: Vec<(Instant, bool)>,
}

/// What a poster says, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    rollup: u64,
    on_l1: Option<OnL1>,
}

/// Up to which block L1 holds batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OnL1 {
    block: u64,
    block_hash: Option<Hash32>,
    l1: u64,
    l1_hash: Hash32,
}

/// Why what a poster says does not count. Its kinds are told by the metric.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it does not answer: {0}")]
    Away(String),
    #[error("it answers with HTTP status {0}")]
    Status(u16),
    #[error("its page is longer than {PAGE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("its page is not a poster's: {0}")]
    Malformed(String),
    #[error("it posts for rollup {0}")]
    AnotherRollup(u64),
    #[error("it has read another L1 block {0} than the own L1 node has")]
    AnotherL1(u64),
    #[error("it has another block {0} than the own rollup node")]
    AnotherBlock(u64),
}

impl Refused {
    /// The stable word for it.
    fn reason(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Status(_) => "status",
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::AnotherRollup(_) => "another_rollup",
            Self::AnotherL1(_) => "another_l1",
            Self::AnotherBlock(_) => "another_block",
        }
    }
}

impl Posters {
    /// The posters that a checked configuration names; nothing where it names none, or no L1 node to check them with.
    pub(super) fn new(config: &RollupConfig, l1: Option<&L1Config>, metrics: LevelsMetrics) -> Option<Self> {
        let pages: Vec<Uri> =
            config.posters.iter().filter_map(|poster| RollupConfig::status_page(poster).ok()).collect();
        let config_l1 = l1.filter(|_| !pages.is_empty())?;
        let l1 = HttpClientBuilder::new().request_timeout(LOOK_TIMEOUT).max_response_size(ANSWER_BYTES_MAX);
        let l1 = l1.build(&config_l1.url).ok()?;
        let now = Instant::now();
        let state = State { due: now, held: None, posters: vec![(now, false); pages.len()] };
        let http = Client::builder(TokioExecutor::new()).build_http();
        Some(Self { rollup: config.id, pages, http, l1, metrics, state: Mutex::new(state) })
    }

    /// The latest block of the rollup that is in a batch on L1, as far as is known now. `node` is the own rollup node.
    pub(super) async fn posted(&self, node: &HttpClient) -> Option<u64> {
        let mut state = self.state.lock().await;
        if state.due <= Instant::now() {
            state.due = match tokio::time::timeout(LOOK_TIMEOUT, self.look(node, &mut state)).await {
                Ok(()) => Instant::now() + INTERVAL,
                Err(_) => {
                    self.count("away");
                    Instant::now() + AGAIN
                }
            };
        }
        state.held.map(|held| held.block)
    }

    async fn look(&self, node: &HttpClient, state: &mut State) {
        let now = Instant::now();
        let due = (0..self.pages.len()).filter(|place| state.posters[*place].0 <= now);
        let answers = due.map(async |place| {
            // Half of the look, so that a poster that hangs leaves time to check what another says.
            let asked = tokio::time::timeout(LOOK_TIMEOUT / 2, self.ask(&self.pages[place])).await;
            (place, asked.unwrap_or_else(|_| Err(Refused::Away("too slow".into()))))
        });
        let mut claims = Vec::new();
        for (place, answer) in futures::future::join_all(answers).await {
            match answer {
                Ok(claim) => claims.push((place, claim)),
                Err(refused) => self.refuse(place, &refused, state),
            }
        }
        // Who has read further on L1 knows more; nobody's word outweighs what was read further on.
        claims.sort_by_key(|(_, claim)| claim.map(|claim| std::cmp::Reverse(claim.l1)));
        let mut renewed = false;
        for (place, claim) in claims {
            let Some(claim) = claim.filter(|claim| !renewed && state.held.is_none_or(|held| held.l1 <= claim.l1))
            else {
                self.answered(place, state);
                continue;
            };
            match self.check(&claim, node).await {
                Ok(true) => {
                    renewed = true;
                    state.held = Some(claim);
                    self.answered(place, state);
                }
                Ok(false) => self.count("ahead"),
                Err(refused) => self.refuse(place, &refused, state),
            }
        }
        if let Some(held) = state.held.filter(|_| !renewed)
            && self.is_on_l1(&held).await == Some(false)
        {
            info!(rollup = %self.rollup, l1 = held.l1, "L1 took back the block up to which posters had read it");
            state.held = None;
        }
    }

    /// What a poster says now; nothing if it has not read L1 to its end yet.
    async fn ask(&self, page: &Uri) -> Result<Option<OnL1>, Refused> {
        let away = |error: &dyn std::error::Error| Refused::Away(error.to_string());
        let answer = self.http.get(page.clone()).await.map_err(|error| away(&error))?;
        if !answer.status().is_success() {
            return Err(Refused::Status(answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => Refused::TooLarge,
            Err(error) => Refused::Away(error.to_string()),
        })?;
        let page: Page =
            serde_json::from_slice(&body.to_bytes()).map_err(|error| Refused::Malformed(error.to_string()))?;
        if page.rollup != self.rollup.0 {
            return Err(Refused::AnotherRollup(page.rollup));
        }
        Ok(page.on_l1)
    }

    /// Whether the own nodes have the blocks that are named; `false` if they do not have them yet, or do not answer.
    async fn check(&self, claim: &OnL1, node: &HttpClient) -> Result<bool, Refused> {
        let own = async {
            match claim.block_hash {
                Some(hash) => has(node, claim.block, hash).await,
                None => Some(true),
            }
        };
        match tokio::join!(self.is_on_l1(claim), own) {
            (Some(false), _) => Err(Refused::AnotherL1(claim.l1)),
            (_, Some(false)) => Err(Refused::AnotherBlock(claim.block)),
            (on_l1, own) => Ok(on_l1.is_some() && own.is_some()),
        }
    }

    async fn is_on_l1(&self, claim: &OnL1) -> Option<bool> {
        has(&self.l1, claim.l1, claim.l1_hash).await
    }

    fn answered(&self, place: usize, state: &mut State) {
        self.count("told");
        if std::mem::take(&mut state.posters[place].1) {
            info!(rollup = %self.rollup, poster = %self.pages[place], "the poster tells again what is on L1");
        }
    }

    fn refuse(&self, place: usize, refused: &Refused, state: &mut State) {
        self.count(refused.reason());
        let (again, failing) = &mut state.posters[place];
        *again = Instant::now() + AGAIN;
        if !std::mem::replace(failing, true) {
            let reason = refused.reason();
            warn!(rollup = %self.rollup, poster = %self.pages[place], reason, %refused, "nothing is learned of what is posted");
        }
    }

    fn count(&self, answer: &'static str) {
        self.metrics.posters.get_or_create(&LookLabel { rollup: self.rollup.0, answer }).inc();
    }
}

/// Whether the chain behind `node` has this block; nothing if it has none of the number, or does not answer.
async fn has(node: &HttpClient, number: u64, hash: Hash32) -> Option<bool> {
    #[derive(Deserialize)]
    struct Block {
        number: String,
        hash: Hash32,
    }
    let asked = rpc_params![format!("{number:#x}"), false];
    let block: Option<Block> = node.request("eth_getBlockByNumber", asked).await.ok()?;
    let block = block?;
    let shown: Result<u64, AskError> = quantity(&block.number);
    (shown.ok()? == number).then_some(block.hash == hash)
}

#[cfg(test)]
mod tests;
