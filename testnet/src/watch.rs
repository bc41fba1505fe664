//! Who watches the lanes?
//!
//! Followers of the SDK, each beginning at a node of its own and verifying every item from genesis on. What they see goes into
//! the book; what they think of it is the ledger's to judge.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lockstep_protocol::{
    ids::{Height, RollupId},
    lane::{LaneEntry, LaneItem, LaneLeaf},
};
use lockstep_sdk::{
    Client,
    follow::{FollowError, LaneFollower, Start, Update},
};
use tokio::{task::JoinSet, time::Instant};

use crate::{network::ROLLUPS, promises::LaneEnd, traffic::Book};

/// Pause before a follower that got no answer asks again.
const PAUSE: Duration = Duration::from_millis(250);
/// How often it is looked whether all followers have come far enough.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// All followers of all lanes. Dropping it ends them.
pub struct Watch {
    places: Vec<Arc<Place>>,
    _tasks: JoinSet<()>,
}

/// Where one follower stands in one lane.
struct Place {
    follower: usize,
    state: Mutex<State>,
}

struct State {
    leaf: LaneLeaf,
    height: Height,
    entries: u64,
    error: Option<String>,
}

/// How one lane stands with all of its followers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneView {
    /// Blocks that had something for it, as the foremost follower verified.
    pub sequence: u64,
    /// What they had for it.
    pub entries: u64,
    /// The height up to which the hindmost follower verified it.
    pub verified: Height,
    /// Followers without an error.
    pub good: usize,
    /// All of its followers.
    pub followers: usize,
}

impl Watch {
    /// Starts a follower of every lane for each client.
    pub async fn start(book: &Book, clients: &[Client]) -> Result<Self, FollowError> {
        let mut tasks = JoinSet::new();
        let mut places = Vec::new();
        for (follower, client) in clients.iter().enumerate() {
            for (rollup, _) in ROLLUPS {
                let leaf = LaneLeaf::genesis(client.trust().network(), rollup);
                let state = State { leaf, height: Height(0), entries: 0, error: None };
                let place = Arc::new(Place { follower, state: Mutex::new(state) });
                places.push(place.clone());
                let follower = client.follow(rollup, Start::Genesis).await?;
                tasks.spawn(follow(book.clone(), follower, place));
            }
        }
        Ok(Self { places, _tasks: tasks })
    }

    /// How the lane of `rollup` stands.
    pub fn lane(&self, rollup: RollupId) -> LaneView {
        let mut view = LaneView { verified: Height(u64::MAX), ..LaneView::default() };
        for place in &self.places {
            let state = place.state();
            if state.leaf.rollup != rollup {
                continue;
            }
            view.sequence = view.sequence.max(state.leaf.sequence);
            view.entries = view.entries.max(state.entries);
            view.verified = view.verified.min(state.height);
            view.good += usize::from(state.error.is_none());
            view.followers += 1;
        }
        view
    }

    /// Waits at most for `within` until every follower has verified its lane up to `height`. Says whether all have.
    pub async fn reach(&self, height: Height, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.places.iter().any(|place| place.state().height < height) {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        true
    }

    /// Where the followers stand. They agree on a lane that has been quiet since the last height that all have reached.
    pub fn ends(&self) -> Vec<LaneEnd> {
        let end = |place: &Arc<Place>| {
            let state = place.state();
            let error = state.error.clone();
            LaneEnd { follower: place.follower, leaf: state.leaf, height: state.height, error }
        };
        self.places.iter().map(end).collect()
    }
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: &FollowError) {
        tracing::debug!(follower = self.follower, %error, "a follower waits");
        self.state().error = Some(error.to_string());
    }
}

async fn follow(book: Book, mut follower: LaneFollower, place: Arc<Place>) {
    loop {
        match follower.next().await {
            Ok(update) => note(&book, &place, &follower, update),
            // Nodes may be down, or take a moment to find what the lane proves to exist. What does not pass by itself keeps the
            // follower from reaching the end, and its last error is told there.
            Err(error) => {
                place.fail(&error);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn note(book: &Book, place: &Place, follower: &LaneFollower, update: Update) {
    book.note_height(follower.height());
    let mut state = place.state();
    state.height = follower.height();
    state.error = None;
    if let Update::Item(item) = update {
        let LaneItem { header, leaf, entries, .. } = *item;
        state.leaf = leaf;
        state.entries += entries.len() as u64;
        drop(state);
        let mut ledger = book.ledger();
        for LaneEntry::Leg { bundle, .. } in entries {
            ledger.see(place.follower, leaf.rollup, header.height, bundle);
        }
    }
}
