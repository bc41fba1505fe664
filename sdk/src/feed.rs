//! Where a follower's items come from: a subscription where there is one, ranges where there is not or where it left
//! something out.
//!
//! Any node may give any range: items prove themselves. So a gap is filled from whoever has it, and a node that gives
//! something else is noted and passed over.

use std::{sync::Arc, time::Duration};

use jsonrpsee_core::client::Subscription;
use jsonrpsee_ws_client::WsClient;
use lockstep_protocol::{
    ids::{Height, RollupId},
    lane::{LaneFollower, LaneItem},
    rpc::{LanePage, Message, QueryError},
    wire::Wire,
};
use tokio::time::Instant;

use crate::{
    client::Client,
    error::{CheckError, Error, Fault, Faults},
    node::Node,
    nodes::pause,
    rpc,
    track::{FollowError, Missing, Track},
};

/// Items in a page or fewer: more is nothing that an honest node sends.
pub const MAX_PAGE_ITEMS: usize = 4_096;
/// After a failure to subscribe anywhere, ranges are asked for during this long.
const RESUBSCRIBE: Duration = Duration::from_secs(5);
/// Height before the one to join at where an anchor is looked for first; the distance doubles until there is one.
const LOOK_BACK: u64 = 64;

/// Empty pages in a row that a node may give: it may search a long quiet stretch in steps.
const MAX_EMPTY_PAGES: usize = 256;

/// What a fetch reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    /// Something, and there may be more at once.
    More,
    /// The tip of the node that was asked.
    Tip,
}

pub(crate) struct Feed {
    client: Client,
    rollup: RollupId,
    source: Source,
    /// Up to here the subscription has told. What it tells after that may have been fetched as a range meanwhile; what it tells
    /// again is a replay.
    told: Height,
    last_news: Instant,
    /// No range is asked for before this, where a subscription does not set the pace.
    next_poll: Instant,
    pub(crate) faults: Faults,
}

enum Source {
    Subscription { node: usize, items: Subscription<Message<LaneItem>>, _connection: WsClient },
    Ranges { until: Instant },
}

impl Feed {
    pub(crate) fn new(client: Client, rollup: RollupId) -> Self {
        let now = Instant::now();
        Self {
            client,
            rollup,
            source: Source::Ranges { until: now },
            told: Height(0),
            last_news: now,
            next_poll: now,
            faults: Faults::default(),
        }
    }

    /// Moves `track` on. Returns without news if it is only time to look again.
    pub(crate) async fn receive(&mut self, track: &mut Track) -> Result<(), FollowError> {
        if track.missing.is_some() {
            self.fetch(track).await?;
            return Ok(());
        }
        let Source::Ranges { until } = self.source else { return self.listen(track).await };
        tokio::time::sleep_until(self.next_poll).await;
        let (subscribe, poll) = {
            let config = &self.client.inner.config.follow;
            (config.subscribe && until <= Instant::now(), config.poll)
        };
        // First what is there already: a subscription is for what comes.
        if self.fetch(track).await? == News::More {
            return Ok(());
        }
        if subscribe {
            self.subscribe(track).await;
        }
        self.next_poll = Instant::now() + poll;
        Ok(())
    }

    async fn subscribe(&mut self, track: &Track) {
        let client = self.client.clone();
        let nodes = &client.inner.nodes;
        for index in nodes.order(nodes.preferred()) {
            let node = nodes.node(index);
            match connect(node, self.rollup, track.height().next(), client.inner.config.call_timeout).await {
                Ok((connection, items)) => {
                    self.source = Source::Subscription { node: index, items, _connection: connection };
                    self.told = track.height();
                    return;
                }
                Err(fault) => self.note(index, fault),
            }
        }
        self.source = Source::Ranges { until: Instant::now() + RESUBSCRIBE };
    }

    /// Takes one item of the subscription.
    async fn listen(&mut self, track: &mut Track) -> Result<(), FollowError> {
        let Source::Subscription { node, items, .. } = &mut self.source else { return Ok(()) };
        let node = *node;
        let silence = self.client.inner.config.follow.silence;
        let result = match tokio::time::timeout(silence, items.next()).await {
            Err(_) => {
                // Quiet, or withheld? Whoever else has something will tell.
                let height = track.height();
                self.fetch(track).await?;
                if track.has_items() {
                    self.drop_source(node, Fault::Nothing { height });
                }
                return Ok(());
            }
            Ok(None) => Err(Fault::Unreachable { detail: "the subscription ended".into() }),
            Ok(Some(Err(error))) => Err(Fault::Malformed { detail: error.to_string() }),
            Ok(Some(Ok(message))) => open(message).and_then(|item| {
                let height = item.header.height;
                let fetched = height > self.told && height <= track.height();
                self.told = self.told.max(height);
                if fetched { Ok(()) } else { track.accept(item) }
            }),
        };
        match result {
            Ok(()) => self.last_news = Instant::now(),
            // What it left out may be had elsewhere; whether it will leave out more, time will show.
            Err(fault) => self.drop_source(node, fault),
        }
        Ok(())
    }

    /// Asks for the range after what is verified, node after node.
    async fn fetch(&mut self, track: &mut Track) -> Result<News, FollowError> {
        let client = self.client.clone();
        let (nodes, config) = (&client.inner.nodes, &client.inner.config);
        let deadline = client.deadline();
        let mut faults = Faults::default();
        for round in 0..config.rounds.max(1) {
            let mut quiet = false;
            for index in nodes.order(nodes.preferred()) {
                let timeout = nodes.call_timeout(deadline);
                if timeout.is_zero() {
                    break;
                }
                let before = track.height();
                let result = self.fetch_from(nodes.node(index), track, timeout).await;
                // What was verified before a fault was found stays verified.
                let news = track.height() > before;
                if news {
                    self.last_news = Instant::now();
                }
                match result {
                    Ok(reached) if news => {
                        nodes.note(index, &Ok(()));
                        return Ok(reached);
                    }
                    Ok(_) if track.missing.is_some() => {
                        faults.push(nodes.node(index).name(), Fault::Nothing { height: before });
                    }
                    Ok(_) => {
                        quiet = true;
                        if self.last_news.elapsed() < config.follow.silence {
                            return Ok(News::Tip);
                        }
                    }
                    Err(fault) => {
                        faults.push(nodes.node(index).name(), fault.clone());
                        self.note(index, fault);
                        if news {
                            return Ok(News::More);
                        }
                    }
                }
            }
            if quiet && track.missing.is_none() {
                // All were asked, and all that answered have nothing: the network rests.
                self.last_news = Instant::now();
                return Ok(News::Tip);
            }
            pause(round, deadline).await;
        }
        let rollup = self.rollup;
        Err(match track.missing {
            Some(Missing { from, to, height }) => FollowError::Gap { rollup, from, to, height, faults },
            None => FollowError::NoAnswer { rollup, height: track.height(), faults },
        })
    }

    /// Moves over the pages of one node until something is ready or it has no more.
    async fn fetch_from(&self, node: &Node, track: &mut Track, timeout: Duration) -> Result<News, Fault> {
        let mut from = track.height().next();
        for _ in 0..MAX_EMPTY_PAGES {
            let page = match rpc::get_lane(node, self.rollup, from, timeout).await {
                // Whoever led past a stretch of the lane owes the proof that nothing was in it.
                Err(Fault::Query(QueryError::AheadOfTip { tip, .. })) if from > track.height().next() => {
                    return Err(Fault::Malformed { detail: format!("led past its tip {tip} without proving it") });
                }
                Err(Fault::Query(QueryError::AheadOfTip { .. })) => return Ok(News::Tip),
                page => page?,
            };
            check_page(&page, from)?;
            for item in page.items {
                track.accept(item)?;
                // A page may take a while to verify, and others share the thread.
                tokio::task::yield_now().await;
            }
            if let Some(tip) = page.tip {
                // The last item of the page may be the tip's own.
                if tip.header.height > track.height() {
                    track.accept(tip)?;
                }
                return Ok(News::Tip);
            }
            if track.has_ready() {
                return Ok(News::More);
            }
            from = page.next_height;
        }
        Err(Fault::Malformed { detail: format!("{MAX_EMPTY_PAGES} pages without an item or the tip") })
    }

    fn drop_source(&mut self, node: usize, fault: Fault) {
        self.note(node, fault);
        // Due at once: what was missed is fetched first, then the next node is subscribed to.
        self.source = Source::Ranges { until: Instant::now() };
    }

    fn note(&mut self, index: usize, fault: Fault) {
        let node = self.client.inner.nodes.node(index);
        node.failed(&fault);
        self.faults.push(node.name(), fault);
    }
}

/// An item of the lane from before `height`, to begin after; `None` for the genesis.
///
/// What is verified from there on is what the log committed to: an anchor proves the lane's whole past by its hash.
pub(crate) async fn anchor(client: &Client, rollup: RollupId, height: Height) -> Result<Option<LaneItem>, FollowError> {
    let mut distance = LOOK_BACK;
    loop {
        let from = Height(height.0.saturating_sub(distance).max(1));
        if from >= height {
            return Ok(None);
        }
        let ask = |node: Arc<Node>, timeout| async move {
            let page = rpc::get_lane(&node, rollup, from, timeout).await?;
            check_page(&page, from)?;
            let item = page.items.into_iter().chain(page.tip).rfind(|item| item.header.height < height);
            let Some(mut item) = item else { return Ok(None) };
            if item.leaf.rollup != rollup {
                return Err(CheckError::Rollup { asked: rollup, found: item.leaf.rollup }.into());
            }
            LaneFollower::from_item(client.trust().verifier().clone(), &item).map_err(CheckError::Lane)?;
            item.entries.clear();
            item.transactions.clear();
            Ok(Some(item))
        };
        match client.inner.nodes.ask(client.deadline(), ask).await {
            Ok(Some(item)) => return Ok(Some(item)),
            Ok(None) if from == Height(1) => return Ok(None),
            Ok(None) => distance = distance.saturating_mul(2),
            Err(Error::Query { query: QueryError::Pruned { .. }, faults }) => {
                return Err(FollowError::NoAnchor { rollup, height, faults });
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn connect(
    node: &Node,
    rollup: RollupId,
    from: Height,
    timeout: Duration,
) -> Result<(WsClient, Subscription<Message<LaneItem>>), Fault> {
    let connection = node.connect(timeout).await?;
    let items = rpc::subscribe_lane(&connection, rollup, from, timeout).await?;
    Ok((connection, items))
}

fn open(message: Message<LaneItem>) -> Result<LaneItem, Fault> {
    match message {
        Message::Object(item) => Ok(item),
        Message::Wire(bytes) => {
            LaneItem::from_wire(&bytes.0).map_err(|error| Fault::Malformed { detail: error.to_string() })
        }
    }
}

fn check_page(page: &LanePage, from: Height) -> Result<(), Fault> {
    if page.items.len() > MAX_PAGE_ITEMS {
        return Err(Fault::Malformed {
            detail: format!("{} items in a page, at most {MAX_PAGE_ITEMS}", page.items.len()),
        });
    }
    if page.tip.is_none() && page.next_height <= from {
        return Err(Fault::Malformed { detail: format!("a page from height {from} leads to {}", page.next_height) });
    }
    Ok(())
}
