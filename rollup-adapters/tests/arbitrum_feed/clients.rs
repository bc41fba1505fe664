//! What do clients of a feed get, and which of them are cut?

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use lockstep_adapters::arbitrum::feed::{
    BacklogLimits, Broadcast, CHAIN_HEADER, CLIENT_VERSION_HEADER, FeedConfig, FeedMessage, FeedServer, History,
    REQUESTED_HEADER, SERVER_VERSION_HEADER,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::Response},
};

use crate::{CHAIN, PATIENCE, message, messages, server, url};

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
    assert_eq!(broadcast.messages, std::slice::from_ref(&other));
    assert_eq!((server.stats().next, server.stats().clients), (6, 1));
    // A Nitro node asks for what comes after the messages that it had (6dce8d139, `broadcastclient.go`, `nextSeqNum`), though by then
    // L1 has taken it back to before them: it is given what is there instead of them. One that had none of them is not.
    for asked in ["6", "10"] {
        let (mut had, _) = client(&server, &[(REQUESTED_HEADER, asked)]).await.expect("connects");
        let told = read(&mut had).await.expect("it is told");
        assert_eq!(told.messages, std::slice::from_ref(&other), "asked for {asked}");
    }
    let (mut ahead, _) = client(&server, &[(REQUESTED_HEADER, "11")]).await.expect("connects");
    let (mut behind, _) = client(&server, &[(REQUESTED_HEADER, "4")]).await.expect("connects");
    assert_eq!(read_sequences(&mut behind, 1).await, [5]);
    server.publish(&mut messages(6..12)).expect("in order");
    assert_eq!(read_sequences(&mut ahead, 1).await, [11]);
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
