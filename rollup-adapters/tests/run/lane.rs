//! Does a driver that looks at its lane for a moment at a time read on, though nodes hang or take longer than it looks?
//!
//! Nodes serve a log whose certificates are real, over real sockets. The driver's part is the feed, waited for as the driver waits.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jsonrpsee::{
    RpcModule,
    server::{Server, ServerHandle},
    types::ErrorObjectOwned,
};
use lockstep_adapters::{
    LaneBlock,
    feed::{LaneFeed, NetworkLane},
};
use lockstep_protocol::{
    ids::{Height, RollupId},
    lane::LaneItem,
    rpc::{FinalHeader, LanePage, QueryError, codes},
};
use lockstep_sdk::{Client, client::Config, trust::Trust};
use tokio::time::timeout;

use crate::fixture::Network;

const ROLLUP: RollupId = RollupId(901);
const HEIGHTS: u64 = 60;
/// The driver's look. A node has more time to answer, as with the true values.
const LOOK: Duration = Duration::from_millis(50);
const CALL_TIMEOUT: Duration = Duration::from_millis(300);
/// Looks until a test ends that hangs.
const LOOKS_MAX: usize = 1_000;
/// Items of one page.
const PAGE: usize = 4;

/// A log that has something for the rollup at every seventh height.
struct Log {
    network: Network,
    items: Vec<LaneItem>,
}

impl Log {
    fn new() -> Arc<Self> {
        let mut network = Network::new(1, 1_000_000_000, &[10, 901]);
        let mut items = Vec::new();
        for height in 1..=HEIGHTS {
            let bundles = if height % 7 == 3 { vec![network.signed(0, height / 7, &[901])] } else { vec![] };
            let block = network.advance(vec![], bundles);
            assert!(block.left_out.is_empty(), "{:?}", block.left_out);
            items.push(network.item(&block, ROLLUP.0));
        }
        Arc::new(Self { network, items })
    }

    fn item(&self, height: Height) -> Result<&LaneItem, ErrorObjectOwned> {
        let item = height.0.checked_sub(1).and_then(|index| self.items.get(index as usize));
        item.ok_or_else(|| {
            let error = QueryError::AheadOfTip { height, tip: Height(HEIGHTS) };
            ErrorObjectOwned::owned(codes::NOT_FOUND, error.to_string(), Some(error))
        })
    }

    fn header(&self, height: Option<Height>) -> Result<FinalHeader, ErrorObjectOwned> {
        let LaneItem { header, finality, .. } = self.item(height.unwrap_or(Height(HEIGHTS)))?.clone();
        Ok(FinalHeader { digest: header.digest(), header, finality })
    }

    fn page(&self, from: Height) -> Result<LanePage, ErrorObjectOwned> {
        self.item(from)?;
        let later = self.items.iter().filter(|item| item.header.height >= from && !item.entries.is_empty());
        let items: Vec<_> = later.take(PAGE).cloned().collect();
        if let [.., last] = items.as_slice()
            && items.len() == PAGE
        {
            return Ok(LanePage { next_height: last.header.height.next(), tip: None, items });
        }
        let tip = self.item(Height(HEIGHTS))?.clone();
        let tip = LaneItem { entries: vec![], transactions: vec![], ..tip };
        Ok(LanePage { items, tip: Some(tip), next_height: Height(HEIGHTS + 1) })
    }

    /// What a rollup must find, in order.
    fn lane(&self) -> Vec<LaneBlock> {
        self.items.iter().map(LaneBlock::from).collect()
    }
}

/// What befalls a question before it is answered. It is dropped with its connection.
trait Mood: Fn() -> Option<Duration> + Clone + Send + Sync + 'static {}
impl<F: Fn() -> Option<Duration> + Clone + Send + Sync + 'static> Mood for F {}

/// A node that answers after what `mood` says, or never.
async fn node(log: &Arc<Log>, mood: impl Mood) -> (String, ServerHandle) {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let server = Server::builder().build(any).await.expect("a free port");
    let url = format!("http://{}", server.local_addr().expect("bound"));
    let mut module = RpcModule::new((log.clone(), mood));
    module
        .register_async_method("lockstep_getHeader", |params, context, _| async move {
            wait(&context.1).await;
            context.0.header(params.one()?)
        })
        .expect("a fresh name");
    module
        .register_async_method("lockstep_getLane", |params, context, _| async move {
            wait(&context.1).await;
            let (_, from): (RollupId, Height) = params.parse()?;
            context.0.page(from)
        })
        .expect("a fresh name");
    (url, server.start(module))
}

async fn wait(mood: &impl Mood) {
    match mood() {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

fn feed(log: &Log, nodes: Vec<String>, call_timeout: Duration) -> LaneFeed {
    let trust = Trust::from_genesis(&log.network.genesis).expect("the group has a key");
    let mut config = Config { nodes, call_timeout, ..Config::default() };
    (config.follow.subscribe, config.follow.poll) = (false, Duration::from_millis(10));
    let lane = NetworkLane::over(Client::new(trust, config).expect("a client"), ROLLUP);
    LaneFeed::new(Box::new(lane), ROLLUP)
}

/// Closes block after block as a driver does: a look at a time. Returns how many looks ended before an answer came.
async fn assert_closes(log: &Log, feed: &mut LaneFeed) -> usize {
    let lane = log.lane();
    let first = lane[0].timestamp_ms;
    let (mut looks, mut in_vain) = (0, 0);
    feed.seek(first).await.expect("a node answers");
    // Every third one falls on an item, the others between them.
    for ms in (1..7).map(|block| first + block * 2_000) {
        loop {
            looks += 1;
            assert!(looks < LOOKS_MAX, "the lane stands still before {} ms", ms - first);
            match timeout(LOOK, feed.close(ms)).await {
                Err(_) => in_vain += 1,
                Ok(closed) => break closed.expect("a node answers in time"),
            }
        }
        let closing = lane.iter().find(|block| block.timestamp_ms >= ms).expect("not the end");
        let at = feed.blocks().partition_point(|block| block.timestamp_ms < ms);
        assert_eq!(feed.blocks()[at], *closing, "{} ms", ms - first);
        let busy = |blocks: &[LaneBlock]| -> Vec<LaneBlock> {
            let fresh = |block: &&LaneBlock| block.timestamp_ms > ms - 2_000 && block.timestamp_ms <= ms;
            blocks.iter().filter(fresh).filter(|block| !block.transactions.is_empty()).cloned().collect()
        };
        assert_eq!(busy(feed.blocks()), busy(&lane), "{} ms", ms - first);
        feed.forget_before(ms);
    }
    in_vain
}

#[tokio::test]
async fn whichever_node_hangs_the_other_is_asked() {
    let log = Log::new();
    // Who has answered hangs, until the other has: every question comes to the node that hangs first.
    let answers = Arc::new(AtomicUsize::new(0));
    let mood = |number: usize| {
        let answers = answers.clone();
        move || {
            let turn = answers.compare_exchange(number, 1 - number, Ordering::SeqCst, Ordering::SeqCst);
            turn.is_ok().then_some(Duration::ZERO)
        }
    };
    let (first, _first) = node(&log, mood(0)).await;
    let (second, _second) = node(&log, mood(1)).await;
    let mut feed = feed(&log, vec![first, second], CALL_TIMEOUT);
    let in_vain = assert_closes(&log, &mut feed).await;
    assert!(in_vain > 10, "a hanging node was waited for in {in_vain} looks alone");
}

#[tokio::test]
async fn one_node_that_takes_longer_than_a_look_is_enough() {
    let log = Log::new();
    let (slow, _slow) = node(&log, || Some(LOOK * 4)).await;
    let mut feed = feed(&log, vec![slow], Duration::from_secs(20));
    let in_vain = assert_closes(&log, &mut feed).await;
    assert!(in_vain > 10, "an answer was waited for in {in_vain} looks alone");
}
