//! Is `posted` told by what posters say, only where the own nodes bear it out, and is nobody held up by a poster?

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::{
    super::tests::{Chain, Shared, block_hash, serve},
    *,
};
use crate::fixture::ROLLUP_A;

/// What a poster's port answers: HTTP status and body; nothing at all, however long one waits, if there is none.
type Said = Arc<Mutex<Option<(u16, String)>>>;

/// A poster's status page.
async fn poster(said: &Said) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let said = said.clone();
    let serving = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            assert!(head.starts_with(b"GET /status HTTP/1.1\r\n"));
            let answer = said.lock().expect("whole").clone();
            match answer {
                Some((status, body)) => {
                    let length = body.len();
                    let text =
                        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                    let _ = stream.write_all(text.as_bytes()).await;
                }
                None => open.push(stream),
            }
        }
    });
    (url, serving)
}

fn page(on_l1: Value) -> Option<(u16, String)> {
    Some((200, json!({ "stack": "x", "rollup": ROLLUP_A.0, "onL1": on_l1, "trouble": null }).to_string()))
}

/// Block 7 is posted, as of L1 block `l1`.
fn posted(l1: u64) -> Option<(u16, String)> {
    page(json!({ "block": 7, "blockHash": block_hash(7), "l1": l1, "l1Hash": block_hash(l1) }))
}

/// Both chains, a poster, and who asks it.
struct World {
    l1: Shared,
    rollup: Shared,
    said: Vec<Said>,
    posters: Posters,
    node: HttpClient,
    _servers: [jsonrpsee::server::ServerHandle; 2],
    pages: Vec<JoinHandle<()>>,
}

impl World {
    async fn new(posters: usize) -> Self {
        let chain = || Shared::new(Mutex::new(Chain { latest: 100, ..Chain::default() }));
        let (l1, rollup) = (chain(), chain());
        let (l1_url, l1_server) = serve(&l1).await;
        let (rpc, rollup_server) = serve(&rollup).await;
        let said: Vec<Said> = (0..posters).map(|_| Said::default()).collect();
        let (mut urls, mut pages) = (Vec::new(), Vec::new());
        for said in &said {
            let (url, serving) = poster(said).await;
            urls.push(url);
            pages.push(serving);
        }
        let config = RollupConfig { id: ROLLUP_A, rpc: rpc.clone(), poll_ms: 50, posters: urls };
        let l1_config = L1Config::new(l1_url);
        let posters = Posters::new(&config, Some(&l1_config), LevelsMetrics::default()).expect("posters are named");
        let node = HttpClientBuilder::new().build(&rpc).expect("a URL");
        Self { l1, rollup, said, posters, node, _servers: [l1_server, rollup_server], pages }
    }

    fn say(&self, poster: usize, what: Option<(u16, String)>) {
        *self.said[poster].lock().expect("whole") = what;
    }

    /// Looks now, whatever is due when.
    async fn look(&self) -> Option<u64> {
        {
            let mut state = self.posters.state.lock().await;
            let now = Instant::now();
            state.due = now;
            state.posters.iter_mut().for_each(|(again, _)| *again = now);
        }
        self.posters.posted(&self.node).await
    }

    fn counted(&self, answer: &'static str) -> u64 {
        self.posters.metrics.posters.get_or_create(&LookLabel { rollup: ROLLUP_A.0, answer }).get()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.pages.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test]
async fn what_a_poster_says_counts_until_l1_takes_it_back() {
    let world = World::new(1).await;
    world.say(0, page(Value::Null));
    assert_eq!(world.look().await, None, "it has not read L1 yet");
    world.say(0, posted(10));
    assert_eq!(world.look().await, Some(7));
    // Started again, it begins further back: true as well, and less.
    world.say(0, page(json!({ "block": 3, "blockHash": block_hash(3), "l1": 4, "l1Hash": block_hash(4) })));
    assert_eq!(world.look().await, Some(7));
    // Gone, its word stays true.
    world.say(0, None);
    assert_eq!((world.look().await, world.counted("away")), (Some(7), 1));
    world.l1.lock().unwrap().replaced_from = Some(11);
    assert_eq!(world.look().await, Some(7), "L1 was reorganised above it");
    world.l1.lock().unwrap().replaced_from = Some(10);
    assert_eq!(world.look().await, None, "L1 was reorganised under it");
    world.say(0, posted(9));
    assert_eq!((world.look().await, world.counted("told")), (Some(7), 4));
}

#[tokio::test]
async fn what_the_own_nodes_contradict_is_refused_with_a_reason_and_what_they_lack_is_waited_for() {
    let world = World::new(1).await;
    let other = block_hash(999);
    for (said, reason) in [
        (page(json!({ "block": 7, "blockHash": block_hash(7), "l1": 10, "l1Hash": other })), "another_l1"),
        (page(json!({ "block": 7, "blockHash": other, "l1": 10, "l1Hash": block_hash(10) })), "another_block"),
        (page(json!({ "block": 101, "blockHash": block_hash(101), "l1": 10, "l1Hash": block_hash(10) })), "ahead"),
        (page(json!({ "block": 7, "l1": 101, "l1Hash": block_hash(101) })), "ahead"),
        (page(json!({ "block": "0x7", "l1": 10, "l1Hash": block_hash(10) })), "malformed"),
        (page(json!({ "block": -7, "l1": 10, "l1Hash": block_hash(10) })), "malformed"),
        (Some((200, "<html>".into())), "malformed"),
        (Some((200, format!("{{\"rollup\":{},\"onL1\":null}}", ROLLUP_A.0 + 1))), "another_rollup"),
        (Some((200, format!("\"{}\"", "x".repeat(PAGE_BYTES_MAX)))), "too_large"),
        (Some((503, posted(10).expect("a page").1)), "status"),
        (Some((302, String::new())), "status"),
    ] {
        let before = world.counted(reason);
        world.say(0, said);
        assert_eq!(world.look().await, None, "{reason}");
        assert_eq!(world.counted(reason), before + 1, "{reason}");
    }
    assert_eq!(world.counted("told"), 0);
    // Nitro's posters know no hashes of blocks: L1's alone is checked.
    world.say(0, page(json!({ "block": 7, "l1": 10, "l1Hash": block_hash(10) })));
    assert_eq!(world.look().await, Some(7));
    world.rollup.lock().unwrap().replaced_from = Some(1);
    world.say(0, posted(11));
    assert_eq!((world.look().await, world.counted("another_block")), (Some(7), 2), "a lie changes nothing");
}

#[tokio::test]
async fn of_several_posters_the_one_that_has_read_furthest_counts() {
    let world = World::new(3).await;
    world.say(0, posted(10));
    world.say(1, page(json!({ "block": 9, "l1": 12, "l1Hash": block_hash(12) })));
    world.say(2, page(json!({ "block": 50, "l1": 13, "l1Hash": block_hash(999) })));
    assert_eq!(world.look().await, Some(9), "the third lies");
    world.say(1, None);
    world.say(0, page(json!({ "block": 8, "l1": 14, "l1Hash": block_hash(14) })));
    assert_eq!(world.look().await, Some(8), "L1 took back block 9 and what held it");
    assert_eq!((world.counted("another_l1"), world.counted("away")), (1, 1), "what is older needs no check");
}

#[tokio::test]
async fn a_poster_that_hangs_holds_nobody_up_for_long_and_is_left_alone_for_a_while() {
    let world = World::new(2).await;
    world.say(1, posted(10));
    let begun = Instant::now();
    assert_eq!(world.posters.posted(&world.node).await, Some(7), "the other is heard");
    assert!(begun.elapsed() < 4 * LOOK_TIMEOUT, "{:?}", begun.elapsed());
    world.posters.state.lock().await.due = Instant::now();
    assert_eq!(world.posters.posted(&world.node).await, Some(7));
    assert_eq!((world.counted("away"), world.counted("told")), (1, 2), "it was asked once");
    // An own L1 that hangs checks nothing: nothing new is believed, and nothing is forgotten.
    world.l1.lock().unwrap().stuck = Duration::from_secs(600);
    world.say(1, page(json!({ "block": 9, "l1": 12, "l1Hash": block_hash(12) })));
    assert_eq!(world.look().await, Some(7));
    let due = world.posters.state.lock().await.due;
    assert!(due > Instant::now() + INTERVAL || world.counted("ahead") == 1, "asked again later");
}

#[tokio::test]
async fn nobody_is_asked_where_nobody_is_named_or_nothing_can_be_checked() {
    let config = |posters| RollupConfig { id: ROLLUP_A, rpc: "http://127.0.0.1:1".into(), poll_ms: 50, posters };
    let l1 = L1Config::new("http://127.0.0.1:1".into());
    let named = config(vec!["http://127.0.0.1:1/".into()]);
    let posters = Posters::new(&named, Some(&l1), LevelsMetrics::default()).expect("named");
    assert_eq!(posters.pages[0].path(), "/status");
    assert!(Posters::new(&named, None, LevelsMetrics::default()).is_none());
    assert!(Posters::new(&config(vec![]), Some(&l1), LevelsMetrics::default()).is_none());
}
