//! How does a driver read its lane: verified, in order, and from the place where its chain stands?
//!
//! The SDK's follower proves what is in the lane. It names the heights that have something, and that others have nothing; a
//! driver also needs the one height that closes a block, empty or not, because its header decides the L1 origin. That one is
//! found by bisection between two known heights and proven final like any other header.
//!
//! Not here: what a rollup makes of it.

use std::{collections::VecDeque, future::Future, pin::Pin, time::Duration};

use lockstep_protocol::ids::{Height, RollupId};
use lockstep_sdk::{
    Client, LaneFollower,
    client::Config,
    error::ConfigError,
    follow::{FollowConfig, FollowError, Start, Update},
    trust::Trust,
};

use crate::LaneBlock;

mod quiet;

pub use quiet::LANE_PATIENCE;
pub(crate) use quiet::Quiet;

/// Pause between two questions for what is new. A subscription tells of a quiet lane only now and then, and a block closes by
/// the clock.
const POLL: Duration = Duration::from_millis(100);
/// Lane blocks held at most: what a rollup that is too slow for its lane may owe. Twenty minutes of a busy log.
const BLOCKS_MAX: usize = 65_536;

/// Why the lane cannot be read further. The same call may be made again.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// No node gives what the follower can believe.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// No node gives a header.
    #[error(transparent)]
    Ask(Box<lockstep_sdk::Error>),
    /// The client cannot be made.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// More of the lane is needed at once than is held.
    #[error("a block would need more than {BLOCKS_MAX} lane blocks")]
    TooMuch,
}

impl From<lockstep_sdk::Error> for FeedError {
    fn from(error: lockstep_sdk::Error) -> Self {
        Self::Ask(Box::new(error))
    }
}

/// What a source answers with.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, FeedError>> + Send + 'a>>;

/// Where a lane comes from: the network, or a test.
///
/// Who waits for [`Self::next`] or [`Self::header`] may stop and come back: what was begun goes on at the next such call, so that
/// patience that is shorter than an answer takes still comes to its end. Only [`Self::seek`] forgets it.
pub trait LaneSource: Send {
    /// The next height that is known: one that has something, or one up to which all heights have nothing. Cancel-safe.
    fn next(&mut self) -> Answer<'_, LaneBlock>;
    /// The header at a height that exists, as an empty lane block. Cancel-safe, as long as the same height is asked for.
    fn header(&mut self, height: Height) -> Answer<'_, LaneBlock>;
    /// The latest header.
    fn tip(&mut self) -> Answer<'_, LaneBlock>;
    /// Begins again after this height.
    fn seek(&mut self, after: Height) -> Answer<'_, ()>;
}

/// A question on its way. It owns what it needs, and stands still while nobody waits for it.
type Flight<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// What is known next, and the follower that told it, if one was begun.
type Told = (Option<LaneFollower>, Result<LaneBlock, FeedError>);

/// A lane from the network.
///
/// A client passes over a node that does not answer, but needs its own time to find that out. So a question is never given up by
/// whoever waits for it: it would be put to the same node again, for ever.
pub struct NetworkLane {
    client: Client,
    rollup: RollupId,
    after: Height,
    /// Between two updates; while one is waited for, `reading` has it.
    follower: Option<LaneFollower>,
    reading: Option<Flight<Told>>,
    /// The header that is asked for, and its height.
    asking: Option<(Height, Flight<Result<LaneBlock, FeedError>>)>,
}

impl NetworkLane {
    /// The lane of `rollup`, from `nodes`, believed by `trust`.
    pub fn new(trust: Trust, nodes: Vec<String>, rollup: RollupId) -> Result<Self, FeedError> {
        let follow = FollowConfig { subscribe: false, poll: POLL, ..FollowConfig::default() };
        Ok(Self::over(Client::new(trust, Config { nodes, follow, ..Config::default() })?, rollup))
    }

    /// The lane of `rollup`, asked for by `client`.
    pub fn over(client: Client, rollup: RollupId) -> Self {
        Self { client, rollup, after: Height(0), follower: None, reading: None, asking: None }
    }
}

/// Reads on after a height. A follower is begun if there is none.
async fn read(client: Client, rollup: RollupId, after: Height, follower: Option<LaneFollower>) -> Told {
    let begun = match follower {
        Some(follower) => Ok(follower),
        None => client.follow(rollup, Start::Height(after.next())).await,
    };
    match begun {
        Err(error) => (None, Err(error.into())),
        Ok(mut follower) => {
            let read = read_after(&mut follower, rollup, after).await;
            (Some(follower), read)
        }
    }
}

async fn read_after(follower: &mut LaneFollower, rollup: RollupId, after: Height) -> Result<LaneBlock, FeedError> {
    loop {
        match follower.next().await? {
            Update::Item(item) if item.header.height > after => return Ok(LaneBlock::from(item.as_ref())),
            Update::Item(_) => {}
            Update::Nothing { up_to } => {
                // The place carries the header that proved it.
                let header = follower.cursor().item.map(|item| item.header);
                if let Some(header) = header.filter(|header| header.height == up_to && up_to > after) {
                    return Ok(LaneBlock::empty(rollup, &header));
                }
            }
        }
    }
}

impl LaneSource for NetworkLane {
    fn next(&mut self) -> Answer<'_, LaneBlock> {
        Box::pin(async move {
            let reading = match &mut self.reading {
                Some(reading) => reading,
                none => {
                    let (client, follower) = (self.client.clone(), self.follower.take());
                    none.insert(Box::pin(read(client, self.rollup, self.after, follower)))
                }
            };
            let (follower, read) = reading.await;
            // Nothing is awaited in between: who was done is never waited for again.
            self.reading = None;
            self.follower = follower;
            read
        })
    }

    fn header(&mut self, height: Height) -> Answer<'_, LaneBlock> {
        Box::pin(async move {
            let asking = match &mut self.asking {
                Some((asked, asking)) if *asked == height => asking,
                other => {
                    let (client, rollup) = (self.client.clone(), self.rollup);
                    let ask = async move { Ok(LaneBlock::empty(rollup, &client.header(height).await?.header)) };
                    &mut other.insert((height, Box::pin(ask))).1
                }
            };
            let header = asking.await;
            self.asking = None;
            header
        })
    }

    fn tip(&mut self) -> Answer<'_, LaneBlock> {
        Box::pin(async move {
            let (client, rollup) = (self.client.clone(), self.rollup);
            Ok(LaneBlock::empty(rollup, &client.tip().await?.header))
        })
    }

    fn seek(&mut self, after: Height) -> Answer<'_, ()> {
        (self.follower, self.reading, self.asking) = (None, None, None);
        self.after = after;
        Box::pin(async { Ok(()) })
    }
}

/// The part of a lane that a driver works on: every height that has something, and every closing height that was asked for.
pub struct LaneFeed {
    source: Box<dyn LaneSource>,
    rollup: RollupId,
    blocks: VecDeque<LaneBlock>,
}

impl LaneFeed {
    /// A feed of `rollup`'s lane; [`Self::seek`] before anything else.
    pub fn new(source: Box<dyn LaneSource>, rollup: RollupId) -> Self {
        Self { source, rollup, blocks: VecDeque::new() }
    }

    /// Begins anew so that everything after log time `ms` will be read.
    pub async fn seek(&mut self, ms: u64) -> Result<(), FeedError> {
        let base = self.last_at_or_before(ms).await?;
        self.source.seek(base.height).await?;
        self.blocks.clear();
        self.blocks.push_back(base);
        Ok(())
    }

    /// The last height not after log time `ms`, or a stand-in for what is before the log's first block.
    async fn last_at_or_before(&mut self, ms: u64) -> Result<LaneBlock, FeedError> {
        let stand_in = LaneBlock { rollup: self.rollup, timestamp_ms: ms, ..LaneBlock::default() };
        let tip = self.source.tip().await?;
        if tip.timestamp_ms <= ms {
            return Ok(tip);
        }
        let (mut below, mut above) = (stand_in, tip);
        while below.height.next() < above.height {
            let middle = below.height.0.midpoint(above.height.0);
            let middle = self.source.header(Height(middle)).await?;
            if middle.timestamp_ms <= ms {
                below = middle;
            } else {
                above = middle;
            }
        }
        Ok(below)
    }

    /// Reads everything up to log time `ms`. Cancel-safe.
    pub async fn read(&mut self, ms: u64) -> Result<(), FeedError> {
        while self.blocks.back().is_none_or(|last| last.timestamp_ms < ms) {
            self.read_one().await?;
        }
        Ok(())
    }

    async fn read_one(&mut self) -> Result<(), FeedError> {
        if self.blocks.len() >= BLOCKS_MAX {
            return Err(FeedError::TooMuch);
        }
        let block = self.source.next().await?;
        if self.blocks.back().is_none_or(|last| last.height < block.height) {
            self.blocks.push_back(block);
        }
        Ok(())
    }

    /// The log time of the first transactions after log time `after_ms`; `None` if there are none up to `until_ms`. Forgets what is
    /// before them. Cancel-safe.
    pub async fn next_transactions(&mut self, after_ms: u64, until_ms: u64) -> Result<Option<u64>, FeedError> {
        loop {
            let later = |block: &&LaneBlock| block.timestamp_ms > after_ms && !block.transactions.is_empty();
            if let Some(found) = self.blocks.iter().find(later) {
                return Ok(Some(found.timestamp_ms).filter(|ms| *ms <= until_ms));
            }
            let read = self.blocks.back().map_or(0, |last| last.timestamp_ms);
            if read >= until_ms {
                return Ok(None);
            }
            self.forget_before(read);
            self.read_one().await?;
        }
    }

    /// Reads until the first height at or after log time `ms` is known, and everything before it. Cancel-safe.
    pub async fn close(&mut self, ms: u64) -> Result<(), FeedError> {
        self.read(ms).await?;
        loop {
            let index = self.blocks.partition_point(|block| block.timestamp_ms < ms);
            let (Some(below), Some(above)) =
                (index.checked_sub(1).and_then(|i| self.blocks.get(i)), self.blocks.get(index))
            else {
                return Ok(());
            };
            if below.height.next() >= above.height {
                return Ok(());
            }
            let middle = Height(guess(below, above, ms));
            let header = self.source.header(middle).await?;
            self.blocks.insert(index, header);
        }
    }

    /// What is held, in order.
    pub fn blocks(&mut self) -> &[LaneBlock] {
        self.blocks.make_contiguous()
    }

    /// The latest height that is held.
    pub fn height(&self) -> Height {
        self.blocks.back().map_or(Height(0), |block| block.height)
    }

    /// Forgets what is in the chain: everything before the last height at or before log time `ms`.
    pub fn forget_before(&mut self, ms: u64) {
        while self.blocks.get(1).is_some_and(|second| second.timestamp_ms <= ms) {
            self.blocks.pop_front();
        }
    }
}

/// A height strictly between two: where `ms` would be if blocks came evenly, which an idle log's do; at worst the search
/// halves, because every third guess is the middle.
fn guess(below: &LaneBlock, above: &LaneBlock, ms: u64) -> u64 {
    let (low, high) = (below.height.0 + 1, above.height.0 - 1);
    let heights = u128::from(above.height.0 - below.height.0);
    let time = u128::from(above.timestamp_ms.saturating_sub(below.timestamp_ms)).max(1);
    let elapsed = u128::from(ms.saturating_sub(below.timestamp_ms));
    if heights.is_multiple_of(3) {
        return low.midpoint(high);
    }
    let even = u64::try_from(heights * elapsed / time).unwrap_or(u64::MAX);
    below.height.0.saturating_add(even).clamp(low, high)
}

#[cfg(test)]
mod tests;
