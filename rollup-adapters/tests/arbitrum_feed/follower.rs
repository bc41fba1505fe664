//! Does a follower miss nothing and believe nothing that is not the feed's?

use alloy_primitives::Address;
use futures::SinkExt;
use lockstep_adapters::arbitrum::feed::{
    FeedConfig, FeedEvent, FeedMessage, FeedServer, FeedSigner, FollowError, Follower, FollowerConfig,
};
use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{CHAIN, PATIENCE, messages, server, url};

async fn follow(follower: &mut Follower, count: u64) -> Vec<u64> {
    let mut found = Vec::new();
    while found.len() < count as usize {
        if let FeedEvent::Message(message) = timeout(PATIENCE, follower.next()).await.expect("comes").expect("follows")
        {
            assert_eq!(FeedMessage { signature: vec![], ..*message.clone() }, crate::message(message.sequence));
            found.push(message.sequence);
        }
    }
    found
}

#[tokio::test]
async fn a_follower_misses_nothing_wherever_the_server_is_killed_and_restarted() {
    let key = FeedSigner::new([3; 32], CHAIN).expect("a key");
    let reserved = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = reserved.local_addr().expect("an address");
    drop(reserved);
    let config = FeedConfig { signer: Some(key.clone()), ..FeedConfig::new(CHAIN) };
    let mut follower = Follower::new(
        FollowerConfig { signers: vec![key.address()], ..FollowerConfig::new(format!("ws://{address}"), CHAIN) },
        1,
    );
    let mut expected = 1u64;
    for kill_after in 1..8 {
        // A server that begins again publishes again what the follower may have had: it knows it by its number.
        let begin = u64::max(1, expected.saturating_sub(kill_after % 3));
        let server = FeedServer::bind(address, config.clone(), begin, None).await.expect("binds again");
        for sequence in begin..expected + kill_after {
            server.publish(&mut messages(sequence..sequence + 1)).expect("in order");
        }
        let found = follow(&mut follower, kill_after).await;
        assert_eq!(found, (expected..expected + kill_after).collect::<Vec<_>>());
        expected += kill_after;
        assert_eq!(follower.position(), expected);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_follower_says_what_it_will_not_believe() {
    let key = FeedSigner::new([3; 32], CHAIN).expect("a key");
    let server = server(FeedConfig { signer: Some(key), ..FeedConfig::new(CHAIN) }, 5, None).await;
    server.publish(&mut messages(5..9)).expect("in order");
    let config = FollowerConfig::new(url(&server), CHAIN);
    let next = |config: FollowerConfig, from| async move {
        let mut follower = Follower::new(config, from);
        (timeout(PATIENCE, follower.next()).await.expect("comes"), follower.position())
    };
    // What it needs is no longer there: said, and not passed over.
    let (gap, position) = next(config.clone(), 2).await;
    assert!(matches!(gap, Err(FollowError::Gap { expected: 2, found: 5 })), "{gap:?}");
    assert_eq!(position, 2);
    let other = Address::repeat_byte(1);
    let (unknown, position) = next(FollowerConfig { signers: vec![other], ..config.clone() }, 5).await;
    assert!(matches!(unknown, Err(FollowError::Signature { sequence: 5, found: Some(_) })), "{unknown:?}");
    assert_eq!(position, 5);
    let (chain, _) = next(FollowerConfig { chain_id: 1, ..config.clone() }, 5).await;
    assert!(matches!(chain, Err(FollowError::Chain { expected: 1, found: CHAIN, .. })), "{chain:?}");
    let (address, _) = next(FollowerConfig { url: "not an address".into(), ..config.clone() }, 5).await;
    assert!(matches!(address, Err(FollowError::Address { .. })), "{address:?}");
    let (good, position) = next(config, 7).await;
    assert!(matches!(good, Ok(FeedEvent::Message(message)) if message.sequence == 7));
    assert_eq!(position, 8, "the next to be given out");
}

#[tokio::test]
async fn a_follower_outlives_servers_that_send_nonsense() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    let nonsense = tokio::spawn(async move {
        for payload in ["", "{}", "[]", r#"{"version":1,"messages":[{}]}"#, "\u{0}"] {
            let (stream, _) = listener.accept().await.expect("accepts");
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { continue };
            drop(socket.send(Message::text(payload)).await);
            drop(socket.close(None).await);
        }
        let (mut stream, _) = listener.accept().await.expect("accepts");
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
        drop(stream);
        listener
    });
    let mut follower = Follower::new(FollowerConfig::new(format!("ws://{address}"), CHAIN), 1);
    for _ in 0..5 {
        let refused = timeout(PATIENCE, follower.next()).await.expect("comes");
        assert!(matches!(refused, Err(FollowError::Broadcast(_))), "{refused:?}");
        assert_eq!(follower.position(), 1);
    }
    // The last one is no feed at all: the follower goes on asking until one is there.
    let waiting = tokio::spawn(async move { (follower.next().await, follower) });
    drop(nonsense.await.expect("ends"));
    let server = FeedServer::bind(address, FeedConfig::new(CHAIN), 1, None).await.expect("binds");
    server.publish(&mut messages(1..2)).expect("in order");
    let (event, _) = timeout(PATIENCE, waiting).await.expect("comes").expect("no panic");
    assert!(matches!(event, Ok(FeedEvent::Message(message)) if message.sequence == 1));
}
