//! Does a validator offer only L1 blocks that everybody had time to see, and vouch only for those that it saw itself?

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use jsonrpsee::{
    RpcModule,
    server::{Server, ServerHandle},
};
use serde_json::{Value, json};

use super::*;

/// Block `number` of a chain; `fork` tells chains apart.
fn origin(number: u64, fork: u8) -> L1Origin {
    let mut hash = [fork; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    L1Origin { number, hash: Hash32(hash), timestamp: 1_000 + number }
}

fn chain(numbers: std::ops::RangeInclusive<u64>, fork: u8) -> impl DoubleEndedIterator<Item = L1Origin> {
    numbers.rev().map(move |number| origin(number, fork))
}

impl L1View {
    /// As if everything had been seen long ago.
    fn age(&self) {
        let long_ago = Instant::now().checked_sub(2 * SEEN_BY_ALL).expect("the clock has run for seconds");
        self.seen().blocks.values_mut().for_each(|(_, at)| *at = long_ago);
    }
}

#[test]
fn a_blind_validator_offers_nothing_and_vouches_for_what_was_agreed_only() {
    let view = L1View::default();
    assert_eq!(view.offer(), L1Origin::default());
    assert!(view.has_seen(&L1Origin::default()), "the origin of a network without an L1");
    assert!(!view.has_seen(&origin(9, 0)));
    view.agree(origin(9, 0));
    assert!(view.has_seen(&origin(9, 0)));
    view.agree(origin(8, 0));
    assert!(view.has_seen(&origin(9, 0)), "an old block that is told again takes nothing back");
}

#[test]
fn what_was_just_seen_is_vouched_for_and_not_yet_offered() {
    let view = L1View::default();
    view.learn(chain(10..=12, 0));
    assert_eq!(view.offer(), L1Origin::default());
    assert!(view.has_seen(&origin(12, 0)));
    assert!(!view.has_seen(&origin(12, 1)) && !view.has_seen(&origin(13, 0)));
    view.age();
    assert_eq!(view.offer(), origin(12, 0));
    view.seen().depth = 2;
    assert_eq!(view.offer(), origin(10, 0));
    view.seen().depth = 20;
    assert_eq!(view.offer(), L1Origin::default(), "no block is that deep");
}

#[test]
fn a_block_seen_again_keeps_its_age_and_a_replaced_one_loses_it() {
    let view = L1View::default();
    view.learn(chain(10..=12, 0));
    view.age();
    view.learn(chain(11..=13, 0));
    assert_eq!(view.offer(), origin(12, 0), "13 is new");
    assert_eq!(view.metrics.reorganised.get(), 0);
    view.learn(chain(12..=14, 1));
    assert_eq!(view.offer(), origin(11, 0), "everything above was replaced");
    assert!(!view.has_seen(&origin(12, 0)) && view.has_seen(&origin(14, 1)));
    assert_eq!(view.metrics.reorganised.get(), 1);
    assert_eq!(view.metrics.height.get(), 14);
}

#[test]
fn after_a_gap_the_past_is_forgotten_and_memory_is_bounded() {
    let view = L1View::default();
    view.learn(chain(1..=5, 0));
    view.learn(chain(50..=60, 0));
    assert!(!view.has_seen(&origin(5, 0)) && view.has_seen(&origin(50, 0)));
    for number in 61..1_000 {
        view.learn(chain(number..=number, 0));
    }
    assert_eq!(view.seen().blocks.len(), BLOCKS_MAX);
}

/// An L1 node that says what the test wants.
async fn serve(blocks: Arc<Mutex<Vec<(L1Origin, Hash32)>>>) -> (SocketAddr, ServerHandle) {
    let server = Server::builder().build((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = server.local_addr().expect("bound");
    let mut module = RpcModule::new(blocks);
    let answer = |block: Option<&(L1Origin, Hash32)>| match block {
        Some((origin, parent)) => json!({
            "number": format!("{:#x}", origin.number), "timestamp": format!("{:#x}", origin.timestamp),
            "hash": origin.hash, "parentHash": parent, "transactions": [],
        }),
        None => Value::Null,
    };
    module
        .register_method("eth_getBlockByNumber", move |_, blocks, _| answer(blocks.lock().expect("kept").last()))
        .expect("a new name");
    module
        .register_method("eth_getBlockByHash", move |params, blocks, _| {
            let (hash, _): (Hash32, bool) = params.parse().expect("a hash and a flag");
            answer(blocks.lock().expect("kept").iter().find(|(origin, _)| origin.hash == hash))
        })
        .expect("a new name");
    (address, server.start(module))
}

fn linked(numbers: std::ops::RangeInclusive<u64>, fork: u8, root: Hash32) -> Vec<(L1Origin, Hash32)> {
    let mut parent = root;
    let link = |number| {
        let block = origin(number, fork);
        (block, std::mem::replace(&mut parent, block.hash))
    };
    numbers.map(link).collect()
}

#[tokio::test]
async fn a_node_is_followed_over_http_through_a_reorganisation() {
    let blocks = Arc::new(Mutex::new(linked(1..=20, 0, Hash32::default())));
    let (address, server) = serve(blocks.clone()).await;
    let client = HttpClientBuilder::new().build(format!("http://{address}")).expect("a URL");
    let view = L1View::default();
    view.seen().depth = 3;
    view.look(&client).await.expect("the first look");
    assert!(view.has_seen(&origin(17, 0)) && !view.has_seen(&origin(16, 0)), "as deep as it offers");
    view.age();
    assert_eq!(view.offer(), origin(17, 0));

    let fork = linked(19..=24, 1, origin(18, 0).hash);
    {
        let mut blocks = blocks.lock().expect("kept");
        blocks.truncate(18);
        blocks.extend(fork);
    }
    view.look(&client).await.expect("the second look");
    assert!(view.has_seen(&origin(18, 0)) && view.has_seen(&origin(24, 1)) && !view.has_seen(&origin(20, 0)));
    assert_eq!(view.metrics.reorganised.get(), 1);

    // A parent that nobody has, and one that is no parent.
    blocks.lock().expect("kept").push((origin(30, 2), Hash32([9; 32])));
    assert!(matches!(view.look(&client).await, Err(LookError::NoBlock(_))));
    blocks.lock().expect("kept").push((origin(40, 2), origin(24, 1).hash));
    assert!(matches!(view.look(&client).await, Err(LookError::Broken { child: 40 })));
    assert!(view.has_seen(&origin(24, 1)), "what was seen before stays");
    server.stop().expect("it ran");
    server.stopped().await;
    assert!(matches!(view.look(&client).await, Err(LookError::Rpc(_))));
}

#[test]
fn quantities_are_hexadecimal() {
    assert_eq!(quantity("0x10").expect("a quantity"), 16);
    for bad in ["", "16", "0x", "0xg", "0x10000000000000000"] {
        assert!(quantity(bad).is_err(), "{bad}");
    }
}
