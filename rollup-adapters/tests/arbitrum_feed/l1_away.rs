//! Does the driver go on serving its feed when L1 hangs, and say so? And if the lane stands still?

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::{Encodable, Header};
use lockstep_adapters::{
    LaneBlock,
    arbitrum::{
        Arbitrum, ArbitrumConfig, BLOCK_GAS,
        delayed_source::DelayedSource,
        drive::{DriveError, Driver, FeedStatus},
        feed::{FeedConfig, FeedEvent, Follower, FollowerConfig},
        forced_source::ForcedSource,
        inbox_reader::InboxReader,
        journal::Journal,
        sequence::Position,
        stream::Stream,
    },
    feed::{Answer, LANE_PATIENCE, LaneSource},
    poster::{L1, Rpc},
    serve::Service,
};
use lockstep_protocol::{
    header::L1Origin,
    ids::{Hash32, Height, RollupId},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    CHAIN, PATIENCE,
    proxy::{Fault, Proxy},
};

/// The L1 block that the whole lane names.
const L1_NUMBER: u64 = 104;
/// Longer than any test: who waits for such an answer hangs.
const NEVER: Duration = Duration::from_secs(3_600);
/// What every contract answers: the inbox, that its Bridge is at this address; the Bridge, that it has so many messages.
const WORD: u64 = 3;

/// A lane that the test writes while it is followed.
struct Told(mpsc::UnboundedReceiver<LaneBlock>);

impl LaneSource for Told {
    fn next(&mut self) -> Answer<'_, LaneBlock> {
        Box::pin(async { Ok(self.0.recv().await.expect("the test outlives the driver")) })
    }
    fn header(&mut self, _: Height) -> Answer<'_, LaneBlock> {
        unreachable!("a Nitro chain closes no blocks by the clock")
    }
    fn tip(&mut self) -> Answer<'_, LaneBlock> {
        unreachable!("a Nitro chain closes no blocks by the clock")
    }
    fn seek(&mut self, _: Height) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// A transaction that is canonical and signed by nobody.
fn transaction(nonce: u64) -> Vec<u8> {
    let mut list = Vec::new();
    for number in [CHAIN, nonce, 1, 2, 21_000] {
        number.encode(&mut list);
    }
    Address::repeat_byte(5).encode(&mut list);
    0u64.encode(&mut list);
    [0u8; 0].as_slice().encode(&mut list);
    list.push(0xc0);
    true.encode(&mut list);
    for salt in [1u64, 2] {
        keccak256((nonce << 8 | salt).to_be_bytes()).0.map(|byte| byte | 1).encode(&mut list);
    }
    let mut out = vec![2];
    Header { list: true, payload_length: list.len() }.encode(&mut out);
    [out, list].concat()
}

/// What an L1 says that is well.
fn well(method: &str) -> Fault {
    Fault::Result(match method {
        "eth_call" => json!(B256::left_padding_from(&WORD.to_be_bytes())),
        "eth_getLogs" => json!([]),
        _ => {
            let hash = B256::repeat_byte(1);
            json!({ "number": format!("{L1_NUMBER:#x}"), "hash": hash, "parentHash": hash, "timestamp": "0x64" })
        }
    })
}

/// A driver with its lane, its L1 and one node that follows its feed.
struct Scene {
    /// What is between the driver and an L1 that is well.
    l1: Proxy,
    _well: Proxy,
    lane: mpsc::UnboundedSender<LaneBlock>,
    told: u64,
    service: Arc<Service<FeedStatus>>,
    follower: Follower,
    stop: watch::Sender<bool>,
    driver: JoinHandle<Result<(), DriveError>>,
    _folder: TempDir,
}

impl Scene {
    /// Begins while L1 is well. It is asked for each lane block if the delayed inbox is followed, else for nothing but what it confirms.
    async fn begin(patience: Duration, poll: Duration, follows_delayed: bool) -> Self {
        Self::begin_with(patience, poll, follows_delayed, LANE_PATIENCE).await
    }

    /// The same, where the driver says after `lane_patience` that the lane brings nothing.
    async fn begin_with(patience: Duration, poll: Duration, follows_delayed: bool, lane_patience: Duration) -> Self {
        let well = Proxy::start("", |_, method| well(method)).await;
        let proxy = Proxy::start(&well.url, |_, _| Fault::None).await;
        let l1 = Arc::new(L1::new(Rpc::new(&proxy.url, patience, None).expect("an address")));
        let inbox = InboxReader::new(l1.clone(), Address::repeat_byte(9)).await.expect("L1 is well");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = Journal::open(folder.path()).expect("opens");
        let delayed_depth = follows_delayed.then_some(0);
        let config = ArbitrumConfig { chain_id: CHAIN, quality: 1, delayed_depth, block_gas: BLOCK_GAS };
        let (lane, told) = mpsc::unbounded_channel();
        let (bridge, contract) = (inbox.bridge(), inbox.inbox());
        let sources = |position: &_| {
            let delayed = DelayedSource::new(l1.clone(), bridge, position);
            (delayed, ForcedSource::new(l1.clone(), contract, L1_NUMBER, position))
        };
        let initial = Position::initial(origin(), B256::ZERO);
        let stream = Stream::new(Arbitrum::new(config), Box::new(Told(told)), sources, journal, initial).await;
        let service = Service::new(FeedStatus::default());
        let (stream, any) = (stream.expect("begins"), "127.0.0.1:0".parse().expect("an address"));
        let driver = Driver::bind(stream, any, FeedConfig::new(CHAIN), inbox, poll, service.clone()).await;
        let driver = driver.expect("a free port").with_lane_patience(lane_patience);
        let follower = Follower::new(FollowerConfig::new(format!("ws://{}", driver.address()), CHAIN), 1);
        let (stop, stopping) = watch::channel(false);
        let driver = tokio::spawn(driver.run(stopping));
        Self { l1: proxy, _well: well, lane, told: 0, service, follower, stop, driver, _folder: folder }
    }

    /// The lane goes on by a block.
    fn order(&mut self) {
        self.told += 1;
        let (height, timestamp_ms) = (Height(self.told), 1_000_000 + self.told);
        let transactions = vec![transaction(self.told)];
        let block = LaneBlock { rollup: RollupId(CHAIN), height, timestamp_ms, l1: origin(), transactions };
        self.lane.send(block).expect("the driver follows");
    }

    /// What the feed says next.
    async fn hear(&mut self) -> FeedEvent {
        let event = timeout(PATIENCE, self.follower.next()).await;
        event.unwrap_or_else(|_| panic!("the feed is silent: {:?}", self.service.status())).expect("follows")
    }

    /// The feed has everything that the lane has, and had not before.
    async fn assert_goes_on(&mut self, blocks: u64) {
        for _ in 0..blocks {
            self.order();
            loop {
                match self.hear().await {
                    FeedEvent::Message(message) => break assert_eq!(message.sequence, self.told),
                    FeedEvent::Confirmed(_) => {}
                }
            }
        }
    }

    async fn until(&self, what: &str, holds: impl Fn(&FeedStatus) -> bool) {
        let waiting = async {
            while !holds(&self.service.status()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}: {:?}", self.service.status()));
    }

    async fn end(self) {
        self.stop.send(true).expect("the driver runs");
        timeout(PATIENCE, self.driver).await.expect("it ends when told to").expect("no panic").expect("without error");
    }
}

fn origin() -> L1Origin {
    L1Origin { number: L1_NUMBER, hash: Hash32([1; 32]), timestamp: 100 }
}

#[tokio::test]
async fn an_l1_that_never_answers_delays_no_message() {
    let mut scene = Scene::begin(NEVER, Duration::from_millis(1), false).await;
    scene.assert_goes_on(3).await;
    scene.l1.judge(|_, _| Fault::Late(NEVER));
    // It has been asked, so somebody waits for it from here on.
    scene.until("L1 is asked what it confirms", |_| scene.l1.seen() > 0).await;
    scene.assert_goes_on(20).await;
    let status = scene.service.status();
    assert_eq!((status.trouble, status.failures, status.transactions), (None, 0, 23));
    scene.end().await;
}

#[tokio::test]
async fn that_l1_is_away_is_told_and_so_is_what_it_confirms_once_it_is_back() {
    let mut scene = Scene::begin(Duration::from_millis(50), Duration::from_millis(1), false).await;
    scene.l1.judge(|_, _| Fault::Late(NEVER));
    scene.until("its absence is told", |status| status.l1_trouble.is_some()).await;
    scene.assert_goes_on(5).await;
    let status = scene.service.status();
    assert!(status.l1_trouble.as_ref().is_some_and(|trouble| trouble.contains("eth_call")), "{status:?}");
    // The feed itself has no trouble, and nothing failed that it needs.
    assert_eq!((status.trouble, status.failures), (None, 0));
    scene.l1.judge(|_, _| Fault::None);
    scene.until("its return is told", |status| status.l1_trouble.is_none()).await;
    scene.until("what it confirms is told", |status| status.confirmed == Some(WORD - 1)).await;
    while scene.hear().await != FeedEvent::Confirmed(WORD - 1) {}
    scene.end().await;
}

#[tokio::test]
async fn a_step_that_takes_longer_than_a_look_at_l1_comes_to_its_end() {
    let mut scene = Scene::begin(NEVER, Duration::from_millis(1), true).await;
    // Each answer that the lane's block needs takes many looks at what L1 confirms.
    let late = Fault::Late(Duration::from_millis(50));
    scene.l1.judge(move |_, method| if method == "eth_call" { Fault::None } else { late.clone() });
    scene.assert_goes_on(3).await;
    assert!(scene.l1.seen() > 20, "there were few looks");
    scene.end().await;
}

#[tokio::test]
async fn a_lane_that_stands_still_is_told_until_it_goes_on() {
    let (poll, lane_patience) = (Duration::from_millis(1), Duration::from_secs(1));
    let mut scene = Scene::begin_with(NEVER, poll, false, lane_patience).await;
    for _ in 0..2 {
        scene.until("that nothing comes is told", |status| status.trouble.is_some()).await;
        let status = scene.service.status();
        assert!(status.trouble.as_ref().is_some_and(|trouble| trouble.contains("the log stands still")), "{status:?}");
        assert_eq!(status.failures, 0, "nothing failed");
        scene.order();
        scene.until("that it goes on is told", |status| status.trouble.is_none()).await;
    }
    scene.end().await;
}
