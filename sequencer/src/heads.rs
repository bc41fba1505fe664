//! What does this validator say about rollups' blocks?
//!
//! One watcher for each rollup of the configuration: it asks the validator's own node for its newest blocks, signs what the rules
//! allow, and gives the attestations to `facts`, which passes them on.
//!
//! * `sight`: what may be signed (pure), `chain`: which chain the node shows (pure), `signed`: what was signed, on disk,
//! * `node`: how the node is asked.

mod chain;
mod metrics;
mod node;
mod sight;
mod signed;

pub use metrics::HeadsMetrics;
pub use signed::SignedError;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use lockstep_protocol::{
    genesis::Rules,
    ids::{Account, RollupId},
    settlement::{Head, HeadAttestation, head::Ed25519Bytes},
    signature::{AccountKey, Signature},
};
use tracing::{info, warn};

use crate::{
    config::RollupConfig,
    facts::{Facts, RollupView},
};
use chain::Chain;
use metrics::label;
use node::{Node, NodeError};
use sight::{Cursor, Sight, Tags, sight};
use signed::Signed;

/// Blocks that are fetched to find where the newest joins those that are known.
const FETCHED_MAX: usize = 64;
/// Blocks that are fetched at the first look.
const FIRST_FETCHED_MAX: usize = 16;
/// Older blocks that are fetched at one look: those of all heads that the log keeps come in a few.
const OLDER_FETCHED_MAX: usize = 256;
/// How often the levels above `latest` are asked for: they move with L1.
const TAGS_INTERVAL: Duration = Duration::from_millis(500);
/// How long another chain than the log's must stay before it is signed: a node that changes its mind would bind this validator to
/// a block that nobody else signs.
const REORGANIZED_FOR: Duration = Duration::from_millis(500);
/// How often the newest attestations are passed on again, as long as the log has not taken them.
const REMINDER_INTERVAL: Duration = Duration::from_millis(1_000);
/// Attestations that are passed on again.
const REMINDED_MAX: usize = 12;
/// Pause between looks while nothing waits for a head of the rollup: one a second keeps a rollup fresh many times over. Whatever
/// begins to wait ends the pause.
const IDLE_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause before a rollup node that does not answer is asked again.
const BACKOFF_MAX: Duration = Duration::from_millis(5_000);

/// Signs heads for one validator. Shared by its watchers.
pub struct Signer {
    rules: Arc<Rules>,
    key: AccountKey,
    place: u8,
    signed: Signed,
    metrics: Arc<HeadsMetrics>,
}

impl Signer {
    /// The signer of the validator with this key, with its record in the file `record`. Nothing if the key is no validator's.
    pub fn open(
        rules: Arc<Rules>,
        key: AccountKey,
        record: &Path,
        metrics: Arc<HeadsMetrics>,
    ) -> Result<Option<Arc<Self>>, SignedError> {
        let Account::Ed25519(name) = key.account() else { return Ok(None) };
        let place = rules.validators.iter().position(|validator| *validator == name);
        let Some(place) = place.and_then(|place| u8::try_from(place).ok()) else { return Ok(None) };
        let signed = Signed::open(record)?;
        Ok(Some(Arc::new(Self { rules, key, place, signed, metrics })))
    }

    /// Signs those heads that may be signed, after they are on disk. Blocks until they are.
    pub fn sign(&self, heads: &[Head]) -> Result<Vec<HeadAttestation>, SignedError> {
        let admitted = self.signed.admit(heads)?;
        Ok(admitted.into_iter().map(|head| self.attestation(head)).collect())
    }

    fn attestation(&self, head: Head) -> HeadAttestation {
        let name = self.rules.validators[usize::from(self.place)];
        let Signature::Ed25519(signature) = self.key.sign(&head.digest(self.rules.network, &name).0) else {
            unreachable!("the key was found to be an ed25519 key")
        };
        HeadAttestation { head, validator: self.place, signature: Ed25519Bytes(signature) }
    }
}

/// Watches one rollup.
pub struct Watcher {
    rollup: RollupId,
    config: RollupConfig,
    facts: Arc<Facts>,
    signer: Arc<Signer>,
    node: Node,
    chain: Chain,
    tags: Tags,
    asked_tags: Option<Instant>,
    cursor: Cursor,
    /// The head that shows a reorganization, and since when it is seen.
    reorganized: Option<(Head, Instant)>,
    latest: Vec<HeadAttestation>,
    reminded: Instant,
}

/// Why a look led to nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Signed(#[from] SignedError),
}

impl Watcher {
    /// A watcher of the rollup that `config` names.
    pub fn new(config: RollupConfig, facts: Arc<Facts>, signer: Arc<Signer>) -> Self {
        Self {
            rollup: config.id,
            node: Node::new(&config.rpc),
            config,
            facts,
            signer,
            chain: Chain::default(),
            tags: Tags::default(),
            asked_tags: None,
            cursor: Cursor::default(),
            reorganized: None,
            latest: Vec::new(),
            reminded: Instant::now(),
        }
    }

    /// Watches for as long as it is polled. A node that does not answer is asked again, more and more seldom.
    pub async fn watch(mut self) {
        let poll = Duration::from_millis(self.config.poll_ms);
        let facts = self.facts.clone();
        let mut pause = poll;
        let mut failing = false;
        loop {
            let stirred = facts.stirred();
            match self.look().await {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        info!(rollup = %self.rollup, rpc = self.config.rpc, "the rollup node answers again");
                    }
                    let idle = self.reorganized.is_none() && !facts.is_awaited(self.rollup);
                    pause = if idle { poll.max(IDLE_PAUSE) } else { poll };
                }
                Err(error) => {
                    self.signer.metrics.failures.get_or_create(&label(self.rollup)).inc();
                    if !std::mem::replace(&mut failing, true) {
                        warn!(rollup = %self.rollup, rpc = self.config.rpc, %error, "cannot look at the rollup: this validator signs none of its heads until it can");
                    }
                    pause = (2 * pause).min(BACKOFF_MAX.max(poll));
                }
            }
            if pause > poll && !failing {
                // Ended or stirred, it is time to look.
                let _ = tokio::time::timeout(pause, stirred).await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn look(&mut self) -> Result<(), LookError> {
        self.follow().await?;
        let Some(view) = self.facts.view(self.rollup) else { return Ok(()) };
        self.remind(&view);
        let mut seen = self.sight(&view);
        if let Sight::Needs(numbers) = &seen {
            if !self.fetch(numbers.iter().copied()).await? {
                return Ok(());
            }
            seen = self.sight(&view);
        }
        match seen {
            // The rest is fetched at the next look.
            Sight::Needs(_) | Sight::Behind => Ok(()),
            Sight::Sign(heads) => {
                self.reorganized = None;
                self.sign(heads).await
            }
            Sight::Reorganized(head) => self.leave(head).await,
        }
    }

    fn sight(&self, view: &RollupView) -> Sight {
        sight(self.rollup, view, &self.chain, &self.tags, &self.cursor)
    }

    /// Learns the newest blocks of the node.
    async fn follow(&mut self) -> Result<(), LookError> {
        let latest = self.node.latest().await?;
        let height = i64::try_from(latest.number).unwrap_or(i64::MAX);
        self.signer.metrics.height.get_or_create(&label(self.rollup)).set(height);
        if self.chain.tip() != Some(&latest) {
            let most = if self.chain.tip().is_none() { FIRST_FETCHED_MAX } else { FETCHED_MAX };
            let mut fresh = vec![latest];
            while let Some(child) = fresh.last().copied().filter(|child| child.number > 0)
                && fresh.len() < most
                && !self.chain.joins(&child)
            {
                fresh.push(self.node.parent(&child).await?);
            }
            if self.chain.extend(&fresh) {
                self.signer.metrics.reorganised.get_or_create(&label(self.rollup)).inc();
                info!(rollup = %self.rollup, number = latest.number, "the rollup node shows other blocks than before");
            }
        }
        if self.asked_tags.is_none_or(|at| at.elapsed() >= TAGS_INTERVAL) {
            self.tags = Tags { safe: self.node.tagged("safe").await?, finalized: self.node.tagged("finalized").await? };
            self.asked_tags = Some(Instant::now());
        }
        Ok(())
    }

    /// Fetches blocks below the linked ones. Whether they are of the chain whose tip is known.
    async fn fetch(&mut self, numbers: impl Iterator<Item = u64>) -> Result<bool, LookError> {
        let Some(tip) = self.chain.tip().copied() else { return Ok(false) };
        let mut blocks = Vec::new();
        for number in numbers.take(OLDER_FETCHED_MAX) {
            blocks.push(self.node.numbered(number).await?);
        }
        // Asked by number, a node answers from the chain of the moment: it must not have changed meanwhile.
        if self.node.numbered(tip.number).await? != tip {
            return Ok(false);
        }
        blocks.into_iter().for_each(|block| self.chain.note(block));
        Ok(true)
    }

    async fn sign(&mut self, heads: Vec<Head>) -> Result<(), LookError> {
        if heads.is_empty() {
            return Ok(());
        }
        let (signer, wanted) = (self.signer.clone(), heads.clone());
        let signed = tokio::task::spawn_blocking(move || signer.sign(&wanted)).await;
        let attestations = signed.expect("signing does not panic")?;
        for head in &heads {
            if head.incarnation != self.cursor.incarnation {
                self.cursor = Cursor { incarnation: head.incarnation, signed: [None; 3] };
            }
            let signed = &mut self.cursor.signed[head.level as usize];
            *signed = (*signed).max(Some(head.number));
        }
        let label = label(self.rollup);
        self.signer.metrics.signed.get_or_create(&label).inc_by(attestations.len() as u64);
        let withheld = heads.len() - attestations.len();
        self.signer.metrics.withheld.get_or_create(&label).inc_by(withheld as u64);
        self.latest.extend(attestations.iter().copied());
        let surplus = self.latest.len().saturating_sub(REMINDED_MAX);
        self.latest.drain(..surplus);
        self.facts.attest(attestations);
        Ok(())
    }

    /// The own chain has left the log's: says so, once it stays so.
    async fn leave(&mut self, head: Head) -> Result<(), LookError> {
        match self.reorganized {
            Some((seen, since)) if seen == head => {
                if since.elapsed() >= REORGANIZED_FOR && !self.latest.iter().any(|latest| latest.head == head) {
                    return self.sign(vec![head]).await;
                }
                Ok(())
            }
            _ => {
                let Head { number, incarnation, .. } = head;
                warn!(
                    rollup = %self.rollup, number, incarnation, block = %head.block_hash,
                    "the rollup was reorganized: the log keeps another block of this number"
                );
                self.reorganized = Some((head, Instant::now()));
                Ok(())
            }
        }
    }

    fn remind(&mut self, view: &RollupView) {
        if self.reminded.elapsed() < REMINDER_INTERVAL {
            return;
        }
        self.reminded = Instant::now();
        self.latest.retain(|attestation| view.wants(&attestation.head));
        if !self.latest.is_empty() {
            self.facts.remind(self.latest.clone());
        }
    }
}
