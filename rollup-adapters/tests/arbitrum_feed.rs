//! Does the feed give every client every message, in order, in Nitro's own bytes, and cut those who do not keep up?
#![cfg(feature = "feed")]

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256, b256};
use futures::{SinkExt, StreamExt};
use lockstep_adapters::arbitrum::feed::{
    BacklogLimits, Broadcast, BroadcastError, CHAIN_HEADER, CLIENT_VERSION_HEADER, FeedConfig, FeedEvent, FeedMessage,
    FeedServer, FeedSigner, FollowError, Follower, FollowerConfig, History, KIND_L2_MESSAGE, MessageHeader,
    REQUESTED_HEADER, SEQUENCER, SERVER_VERSION_HEADER, signer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::Response},
};

const CHAIN: u64 = 42_161;
/// Long enough for any machine; nothing waits for it where all is well.
const PATIENCE: Duration = Duration::from_secs(20);

fn message(sequence: u64) -> FeedMessage {
    FeedMessage {
        sequence,
        header: MessageHeader {
            kind: KIND_L2_MESSAGE,
            sender: SEQUENCER,
            l1_number: 20_000_000 + sequence / 12,
            timestamp: 1_750_000_000 + sequence,
            request: None,
            l1_base_fee: None,
        },
        content: [&[4, 2][..], &sequence.to_be_bytes(), &vec![7; (sequence as usize * 37) % 400]].concat(),
        delayed_read: 1 + sequence / 10,
        block_hash: None,
        metadata: vec![],
        signature: vec![],
    }
}

fn messages(range: std::ops::Range<u64>) -> Vec<FeedMessage> {
    range.map(message).collect()
}

async fn server(config: FeedConfig, next: u64, history: Option<Arc<dyn History>>) -> FeedServer {
    FeedServer::bind("127.0.0.1:0".parse().expect("an address"), config, next, history).await.expect("binds")
}

fn url(server: &FeedServer) -> String {
    format!("ws://{}/", server.address())
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn client(
    server: &FeedServer,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, Response<Option<Vec<u8>>>), Error> {
    let mut request = url(server).into_client_request().expect("a request");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a header's value"));
    }
    timeout(PATIENCE, connect_async(request)).await.expect("an answer")
}

async fn read(socket: &mut Socket) -> Option<Broadcast> {
    loop {
        match timeout(PATIENCE, socket.next()).await.expect("something comes") {
            Some(Ok(Message::Text(text))) => return Some(Broadcast::from_json(text.as_bytes()).expect("a broadcast")),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return None,
        }
    }
}

async fn read_sequences(socket: &mut Socket, count: usize) -> Vec<u64> {
    let mut found = Vec::new();
    while found.len() < count {
        let broadcast = read(socket).await.expect("the connection stays");
        found.extend(broadcast.messages.iter().map(|message| message.sequence));
    }
    found
}

/// A history in memory.
struct Kept(BTreeMap<u64, FeedMessage>);

impl History for Kept {
    fn read(&self, from: u64, bytes_max: usize) -> io::Result<Vec<FeedMessage>> {
        let mut bytes = 0;
        let taken = self.0.range(from..).take_while(|(sequence, message)| {
            bytes += message.content.len();
            **sequence == from || bytes <= bytes_max
        });
        Ok(taken.map(|(_, message)| message.clone()).collect())
    }

    fn first(&self) -> Option<u64> {
        self.0.keys().next().copied()
    }
}

/// Nitro's own tests: `message_signature_test.go` and `message_serialization_test.go`.
fn nitros_message() -> FeedMessage {
    FeedMessage {
        sequence: 12_345,
        header: MessageHeader {
            kind: 0,
            sender: Address::ZERO,
            l1_number: 0,
            timestamp: 0,
            request: Some(B256::ZERO),
            l1_base_fee: Some(0),
        },
        content: vec![0xde, 0xad, 0xbe, 0xef],
        delayed_read: 3_333,
        block_hash: None,
        metadata: vec![],
        signature: vec![],
    }
}

#[test]
fn the_hash_that_is_signed_is_the_one_in_nitros_own_test() {
    let message = FeedMessage { metadata: vec![0xde, 0xad, 0xbe, 0xaf], ..nitros_message() };
    let expected = b256!("3d79853de5f9e4354e5d6c6d4cad19dcd969f9646f0cab21e5bdfee4902dfa2e");
    assert_eq!(message.signed_hash(0xa4b1), expected);
    assert_ne!(message.signed_hash(0xa4b2), expected);
}

#[test]
fn json_is_the_one_in_nitros_own_test() {
    // Nitro writes a missing signature as null where nobody signs at all, and as an empty string in a feed without a key.
    let nitro = r#"{"version":1,"messages":[{"sequenceNumber":12345,"message":{"message":{"header":{"kind":0,"sender":"0x0000000000000000000000000000000000000000","blockNumber":0,"timestamp":0,"requestId":"0x0000000000000000000000000000000000000000000000000000000000000000","baseFeeL1":0},"l2Msg":"3q2+7w=="},"delayedMessagesRead":3333},"blockHash":"0xff00000000000000000000000000000000000000000000000000000000000000","signatureV2":null,"blockMetadata":"AAI="}]}"#;
    let mut hash = B256::ZERO;
    hash[0] = 0xff;
    let message = FeedMessage { block_hash: Some(hash), metadata: vec![0, 2], ..nitros_message() };
    let ours = String::from_utf8(Broadcast::json_of(&message)).expect("text");
    assert_eq!(ours.replace(r#""signatureV2":"""#, r#""signatureV2":null"#), nitro);
    let both = Broadcast::from_json(nitro.as_bytes()).expect("Nitro's JSON");
    assert_eq!(both.messages, [message]);
    let confirmed = r#"{"version":1,"confirmedSequenceNumberMessage":{"sequenceNumber":1234}}"#;
    assert_eq!(Broadcast::json_of_confirmed(1234), confirmed.as_bytes());
    assert_eq!(Broadcast::from_json(confirmed.as_bytes()).expect("Nitro's JSON").confirmed, Some(1234));
    assert_eq!(Broadcast::from_json(br#"{"version":1}"#).expect("Nitro's JSON"), Broadcast::default());
    assert_eq!(Broadcast::default().to_json(), br#"{"version":1}"#);
    // Fields that a later Nitro adds are passed over.
    let later =
        nitro.replace(r#""version":1,"#, r#""version":1,"later":{},"#).replace("l2Msg", r#"batchGasCost":5,"l2Msg"#);
    assert_eq!(Broadcast::from_json(later.as_bytes()).expect("a later Nitro's JSON").messages, both.messages);
}

#[test]
fn what_is_no_broadcast_is_refused() {
    let good = String::from_utf8(Broadcast { messages: messages(5..7), confirmed: Some(1) }.to_json()).expect("text");
    assert!(Broadcast::from_json(good.as_bytes()).is_ok());
    for cut in 0..good.len() {
        assert!(Broadcast::from_json(&good.as_bytes()[..cut]).is_err(), "cut at {cut}");
    }
    for (from, to) in [
        (r#""version":1"#, r#""version":2"#),
        (r#""sequenceNumber":6"#, r#""sequenceNumber":7"#),
        (r#""sequenceNumber":6"#, r#""sequenceNumber":5"#),
        (r#""sequenceNumber":6"#, r#""sequenceNumber":-6"#),
        (r#""kind":3"#, r#""kind":300"#),
        (r#""l2Msg":""#, r#""l2Msg":"*"#),
        (r#""sender":"0x"#, r#""sender":"0x00"#),
        (r#""messages":["#, r#""messages":[null,"#),
        (r#""header":{"#, r#""header":null,"other":{"#),
    ] {
        assert_ne!(good.replace(from, to), good, "{from}");
        assert!(Broadcast::from_json(good.replace(from, to).as_bytes()).is_err(), "{from} -> {to}");
    }
    let gap = Broadcast { messages: vec![message(1), message(3)], confirmed: None }.to_json();
    assert!(matches!(Broadcast::from_json(&gap), Err(BroadcastError::Gap { after: 1, found: 3 })));
}

#[test]
fn a_signature_is_of_one_message_one_chain_and_one_key() {
    let key = FeedSigner::new([9; 32], CHAIN).expect("a key");
    assert!(FeedSigner::new([0; 32], CHAIN).is_none() && FeedSigner::new([0xff; 32], CHAIN).is_none());
    let mut signed = message(4);
    assert_eq!(signer(&signed, CHAIN), None, "nobody signed");
    key.sign(&mut signed);
    assert_eq!(signer(&signed, CHAIN), Some(key.address()));
    assert_ne!(signer(&signed, CHAIN + 1), Some(key.address()));
    let mut again = message(4);
    key.sign(&mut again);
    assert_eq!(again, signed, "a restart repeats the same bytes");
    type Change = fn(&mut FeedMessage);
    let changes: [Change; 8] = [
        |message| message.sequence += 1,
        |message| message.delayed_read += 1,
        |message| message.header.timestamp += 1,
        |message| message.header.l1_number += 1,
        |message| message.header.kind += 1,
        |message| message.content[3] ^= 1,
        |message| message.block_hash = Some(B256::ZERO),
        |message| message.signature[5] ^= 1,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = signed.clone();
        change(&mut changed);
        assert_ne!(signer(&changed, CHAIN), Some(key.address()), "change {index}");
    }
    assert!(!format!("{key:?}").contains("0909"), "a key is not printed");
}

#[tokio::test]
async fn every_client_is_given_everything_from_where_it_asks() {
    let history = Kept(messages(3..40).into_iter().map(|message| (message.sequence, message)).collect());
    let limits = BacklogLimits { messages: 10, bytes: 1 << 20 };
    let config = FeedConfig { backlog: limits, ..FeedConfig::new(CHAIN) };
    let server = server(config, 20, Some(Arc::new(history))).await;
    server.publish(&mut messages(20..40)).expect("in order");
    // Memory holds 30..40, the history 3..40.
    for (asked, first) in
        [(Some("31"), 31), (Some("30"), 30), (Some("5"), 5), (Some("0x8"), 8), (None, 30), (Some("0"), 3)]
    {
        let headers: Vec<_> = asked.map(|asked| (REQUESTED_HEADER, asked)).into_iter().collect();
        let (mut socket, response) = client(&server, &headers).await.expect("connects");
        assert_eq!(response.headers()[CHAIN_HEADER], "42161");
        assert_eq!(response.headers()[SERVER_VERSION_HEADER], "2");
        let found = read_sequences(&mut socket, (40 - first) as usize).await;
        assert_eq!(found, (first..40).collect::<Vec<_>>(), "asked for {asked:?}");
    }
    // Whoever asks for the future waits for it and is given nothing before.
    let (mut future, _) = client(&server, &[(REQUESTED_HEADER, "43")]).await.expect("connects");
    let (mut next, _) = client(&server, &[(REQUESTED_HEADER, "40")]).await.expect("connects");
    server.publish(&mut messages(40..42)).expect("in order");
    server.publish(&mut messages(42..45)).expect("in order");
    assert_eq!(read_sequences(&mut next, 5).await, [40, 41, 42, 43, 44]);
    assert_eq!(read_sequences(&mut future, 2).await, [43, 44]);
    assert_eq!(server.stats().next, 45);
    server.stop().await;
}

#[tokio::test]
async fn what_is_published_out_of_order_is_sent_to_nobody() {
    let server = server(FeedConfig::new(CHAIN), 7, None).await;
    let (mut socket, _) = client(&server, &[]).await.expect("connects");
    for mut wrong in [messages(6..8), messages(8..9), vec![message(7), message(9)], vec![message(7), message(7)]] {
        assert!(server.publish(&mut wrong).is_err());
    }
    server.publish(&mut messages(7..8)).expect("in order");
    assert_eq!(read_sequences(&mut socket, 1).await, [7]);
    assert_eq!(server.stats().next, 8);
}

#[tokio::test]
async fn a_feed_that_begins_again_cuts_its_clients_and_serves_other_messages_from_there() {
    let mut server = server(FeedConfig::new(CHAIN), 1, None).await;
    let (mut old, _) = client(&server, &[(REQUESTED_HEADER, "1")]).await.expect("connects");
    server.publish(&mut messages(1..10)).expect("in order");
    assert_eq!(read_sequences(&mut old, 9).await, (1..10).collect::<Vec<_>>());
    server.restart(5).await.expect("at the same address");
    assert!(read(&mut old).await.is_none(), "it is cut");
    let other = FeedMessage { content: vec![4, 1, 2, 3], ..message(5) };
    server.publish(std::slice::from_mut(&mut other.clone())).expect("in order");
    let (mut new, _) = client(&server, &[(REQUESTED_HEADER, "5")]).await.expect("connects");
    let broadcast = read(&mut new).await.expect("it is told");
    assert_eq!(broadcast.messages, [other]);
    assert_eq!((server.stats().next, server.stats().clients), (6, 1));
    server.stop().await;
}

#[tokio::test]
async fn confirmations_come_after_what_they_confirm_and_once() {
    let server = server(FeedConfig::new(CHAIN), 1, None).await;
    let (mut socket, _) = client(&server, &[(REQUESTED_HEADER, "1")]).await.expect("connects");
    server.confirm(3);
    server.publish(&mut messages(1..6)).expect("in order");
    server.confirm(2);
    let mut seen = Vec::new();
    let mut confirmed = Vec::new();
    while seen.len() < 5 || confirmed.is_empty() {
        let broadcast = read(&mut socket).await.expect("the connection stays");
        seen.extend(broadcast.messages.iter().map(|message| message.sequence));
        if let Some(sequence) = broadcast.confirmed {
            assert!(seen.contains(&sequence), "confirmed before it was sent");
            confirmed.push(sequence);
        }
    }
    server.confirm(5);
    server.confirm(4);
    server.publish(&mut messages(6..7)).expect("in order");
    while seen.len() < 6 {
        let broadcast = read(&mut socket).await.expect("the connection stays");
        seen.extend(broadcast.messages.iter().map(|message| message.sequence));
        confirmed.extend(broadcast.confirmed);
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    assert!(confirmed == [3, 5] || confirmed == [3], "{confirmed:?}: never back, never twice");
}

#[tokio::test]
async fn a_slow_client_is_cut_and_told_and_the_others_lose_nothing() {
    let limits = BacklogLimits { messages: 50, bytes: 1 << 30 };
    let config = FeedConfig { backlog: limits, write_timeout: PATIENCE, ..FeedConfig::new(CHAIN) };
    let server = server(config, 0, None).await;
    let (mut slow, _) = client(&server, &[(REQUESTED_HEADER, "0")]).await.expect("connects");
    let (mut quick, _) = client(&server, &[(REQUESTED_HEADER, "0")]).await.expect("connects");
    let large = |sequence| FeedMessage { content: vec![4; 200_000], ..message(sequence) };
    // More than the backlog and all buffers of the system hold, until the slow one is out of reach.
    let mut sequence = 0;
    while server.stats().too_slow == 0 {
        server.publish(&mut [large(sequence)]).expect("in order");
        assert_eq!(read_sequences(&mut quick, 1).await, [sequence]);
        sequence += 1;
        if sequence > 150 {
            break;
        }
    }
    // It reads at last: what was on the way, and then why there is no more.
    let mut last = 0;
    let farewell = loop {
        match timeout(PATIENCE, slow.next()).await.expect("something comes") {
            Some(Ok(Message::Text(text))) => {
                last = Broadcast::from_json(text.as_bytes()).expect("whole").messages[0].sequence
            }
            Some(Ok(Message::Close(frame))) => break frame.expect("with a reason"),
            Some(Ok(_)) => {}
            other => panic!("{other:?} after message {last}"),
        }
    };
    assert!(last + 50 < sequence);
    assert_eq!(u16::from(farewell.code), 1008);
    assert!(
        farewell.reason.starts_with(&format!("too slow: message {} is no longer held", last + 1)),
        "{}",
        farewell.reason
    );
    let counted = async {
        while server.stats().too_slow == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.expect("it is counted");
    server.publish(&mut [large(sequence)]).expect("in order");
    assert_eq!(read_sequences(&mut quick, 1).await, [sequence]);
}

#[tokio::test]
async fn a_client_that_stops_reading_or_answering_is_cut() {
    let fast = Duration::from_millis(50);
    let config = FeedConfig { write_timeout: fast, ping: fast, silence: fast * 20, ..FeedConfig::new(CHAIN) };
    let server = server(config, 0, None).await;
    // One that answers pings stays, the other does not.
    let (mut answering, _) = client(&server, &[]).await.expect("connects");
    let answers = tokio::spawn(async move { while let Some(Ok(_)) = answering.next().await {} });
    let (_silent, _) = client(&server, &[]).await.expect("connects");
    let cut = async {
        while server.stats().clients > 1 {
            tokio::time::sleep(fast).await;
        }
    };
    timeout(PATIENCE, cut).await.expect("the silent one is cut");
    tokio::time::sleep(fast * 40).await;
    assert_eq!(server.stats().clients, 1, "who answers stays");
    assert_eq!(server.stats().too_slow, 0);
    answers.abort();
    // One that does not read at all stalls the write.
    let (_stalled, _) = client(&server, &[]).await.expect("connects");
    let stall = async {
        let mut sequence = 0;
        while server.stats().too_slow == 0 {
            server.publish(&mut [FeedMessage { content: vec![4; 200_000], ..message(sequence) }]).expect("in order");
            sequence += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, stall).await.expect("the stalled one is cut");
}

#[tokio::test]
async fn handshakes_that_make_no_sense_are_refused_with_a_reason() {
    let config = FeedConfig { clients_max: 2, handshake_timeout: Duration::from_millis(500), ..FeedConfig::new(CHAIN) };
    let server = server(config, 0, None).await;
    for (name, value, status) in [
        (CLIENT_VERSION_HEADER, "1", 400),
        (CLIENT_VERSION_HEADER, "two", 400),
        (REQUESTED_HEADER, "-1", 400),
        (REQUESTED_HEADER, "18446744073709551616", 400),
        (REQUESTED_HEADER, "0xg", 400),
        (CHAIN_HEADER, "1", 400),
    ] {
        let Err(Error::Http(response)) = client(&server, &[(name, value)]).await else { panic!("{name}: {value}") };
        assert_eq!(response.status(), status, "{name}: {value}");
    }
    let good = [(CLIENT_VERSION_HEADER, "2"), (REQUESTED_HEADER, "0"), (CHAIN_HEADER, "42161")];
    let (first, second) =
        (client(&server, &good).await.expect("connects"), client(&server, &good).await.expect("connects"));
    let Err(Error::Http(response)) = client(&server, &good).await else { panic!("one too many") };
    assert_eq!(response.status(), 503);
    drop((first, second));
    // Neither a half request nor noise keeps a place.
    for sent in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address()).await.expect("connects");
        stream.write_all(sent).await.expect("sends");
        let mut answered = Vec::new();
        drop(timeout(PATIENCE, stream.read_to_end(&mut answered)).await.expect("the server ends it"));
        assert!(!answered.starts_with(b"HTTP/1.1 101"));
    }
    let (mut socket, _) = client(&server, &good).await.expect("there is room again");
    server.publish(&mut messages(0..1)).expect("in order");
    assert_eq!(read_sequences(&mut socket, 1).await, [0]);
    assert_eq!(server.stats().connected, 3);
}

#[tokio::test]
async fn what_clients_say_is_answered_passed_over_or_ends_it() {
    let server = server(FeedConfig::new(CHAIN), 0, None).await;
    let (mut socket, _) = client(&server, &[]).await.expect("connects");
    socket.send(Message::text("hello")).await.expect("sends");
    socket.send(Message::Ping(vec![1, 2, 3].into())).await.expect("sends");
    let Some(Ok(Message::Pong(payload))) = timeout(PATIENCE, socket.next()).await.expect("an answer") else { panic!() };
    assert_eq!(payload.as_ref(), [1, 2, 3]);
    socket.send(Message::binary(vec![0; 5_000])).await.expect("sends");
    let Some(Ok(Message::Close(Some(frame)))) = timeout(PATIENCE, socket.next()).await.expect("an end") else {
        panic!()
    };
    assert_eq!(u16::from(frame.code), 1009);
    let (mut leaving, _) = client(&server, &[]).await.expect("connects");
    leaving.close(None).await.expect("closes");
    let gone = async {
        while server.stats().clients > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("both are gone");
}

async fn follow(follower: &mut Follower, count: u64) -> Vec<u64> {
    let mut found = Vec::new();
    while found.len() < count as usize {
        if let FeedEvent::Message(message) = timeout(PATIENCE, follower.next()).await.expect("comes").expect("follows")
        {
            assert_eq!(FeedMessage { signature: vec![], ..*message.clone() }, self::message(message.sequence));
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
