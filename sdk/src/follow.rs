//! Follows a lane: every item verified, in order, none missing.
//!
//! Where items come from is in `feed.rs`, what is verified in `track.rs`.

use lockstep_protocol::ids::{Height, RollupId};

use crate::{
    client::Client,
    error::Faults,
    feed::{Feed, anchor},
    track::Track,
};
pub use crate::{
    config::FollowConfig,
    feed::MAX_PAGE_ITEMS,
    track::{Cursor, FollowError, Update},
};

/// Where to begin.
#[derive(Clone, Debug)]
pub enum Start {
    /// Before the lane's first item.
    Genesis,
    /// At a height: items of this height and later are given out. What came before is taken as the log has committed to it.
    Height(Height),
    /// Where another follower stood.
    Cursor(Cursor),
}

/// A follower of one lane. Take updates with [`Self::next`]; keep [`Self::cursor`] with what was done with them.
pub struct LaneFollower {
    track: Track,
    feed: Feed,
}

impl Client {
    /// Follows a rollup's lane.
    pub async fn follow(&self, rollup: RollupId, start: Start) -> Result<LaneFollower, FollowError> {
        let network = self.trust().network();
        let cursor = match start {
            Start::Genesis => Cursor { network, rollup, item: None, from: Height(0) },
            Start::Height(from) => {
                let item = anchor(self, rollup, from).await?.map(Box::new);
                Cursor { network, rollup, item, from }
            }
            Start::Cursor(cursor) => cursor,
        };
        let track = Track::new(self.trust(), rollup, cursor)?;
        Ok(LaneFollower { track, feed: Feed::new(self.clone(), rollup) })
    }
}

impl LaneFollower {
    /// The next verified update. Waits until there is one. Safe to drop and call again: nothing is lost or repeated.
    pub async fn next(&mut self) -> Result<Update, FollowError> {
        loop {
            while let Some(update) = self.track.give() {
                if let Some(update) = update {
                    return Ok(update);
                }
            }
            self.feed.receive(&mut self.track).await?;
        }
    }

    /// The place after the last update that was given out.
    pub fn cursor(&self) -> Cursor {
        self.track.cursor()
    }

    /// The height up to which updates were given out.
    pub fn height(&self) -> Height {
        self.cursor().height()
    }

    /// What went wrong on the way, at which node.
    pub fn faults(&self) -> &Faults {
        &self.feed.faults
    }
}
