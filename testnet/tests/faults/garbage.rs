//! What does garbage on every port cost? Nothing but the connection that it came through.

use std::{net::SocketAddr, time::Duration};

use lockstep_testnet::{city::City, probe};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{assert_kept, plan, turn};

/// A validator that has read what it will read answers or hangs up within this; one that waits for more may do so.
const PATIENCE: Duration = Duration::from_millis(300);
/// More than all garbage together could be worth keeping.
const MEMORY_MAX: u64 = 1 << 30;

/// Pseudo-random bytes that `seed` always gives (xorshift64*).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn post(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Everything that is no message, and everything that begins like one.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    vec![
        ("nothing", Vec::new()),
        ("one byte", vec![0]),
        ("short noise", noise(1, 64)),
        ("a megabyte of noise", noise(2, 1 << 20)),
        ("a megabyte of zeros", vec![0; 1 << 20]),
        ("the largest length prefix", [[0xff; 8].as_slice(), &noise(3, 1_000)].concat()),
        ("an endless header", [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 1 << 20]].concat()),
        ("a length that never comes", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{".to_vec()),
        ("a negative length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_vec()),
        ("no JSON", post(b"\x00\xff\xfe not json")),
        ("half of a call", post(br#"{"jsonrpc":"2.0","id":1,"method":"lockstep_send"#)),
        ("deep nesting", post(&deep)),
        ("an empty batch", post(b"[]")),
        ("an unknown method", post(br#"{"jsonrpc":"2.0","id":1,"method":"lockstep_no","params":[]}"#)),
        (
            "a bundle of noise",
            post(br#"{"jsonrpc":"2.0","id":1,"method":"lockstep_sendBundle","params":["0x01ffff"]}"#),
        ),
        ("noise over WebSocket", [upgrade.as_slice(), &noise(4, 4_096)].concat()),
        (
            "a frame of 2^63 bytes",
            [upgrade.as_slice(), &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]].concat(),
        ),
    ]
}

/// Sends bytes, takes what comes for a while, and hangs up.
async fn throw(address: SocketAddr, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    // A validator may hang up in the middle, as it should.
    let _ = timeout(PATIENCE, stream.write_all(bytes)).await;
    let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_every_port_stops_nobody() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut city = City::start(plan(folder.path()), &[0, 2], |_| {}).await.expect("the network starts");
    city.begin_traffic(20.0);
    let places: Vec<_> = city.network.validators().iter().map(|validator| validator.place).collect();
    for (what, bytes) in garbage() {
        let throws = places.iter().flat_map(|place| [place.p2p, place.rpc]).map(|address| {
            let bytes = bytes.clone();
            tokio::spawn(async move { throw(address, &bytes).await })
        });
        for thrown in throws.collect::<Vec<_>>() {
            thrown.await.expect("throwing does not fail");
        }
        assert_eq!(city.network.running(), 4, "after {what}");
        for place in &places {
            let answer = probe::get(place.rpc, "/healthz").await;
            assert!(answer.is_some_and(|answer| answer.status == 200), "{} does not answer after {what}", place.rpc);
        }
    }
    let ending = city.finish().await;
    assert_kept(&ending, 20);
    for usage in city.network.usage().into_iter().flatten() {
        assert!(usage.memory_peak < MEMORY_MAX, "{usage:?}");
    }
    city.network.stop_all().await.expect("all validators stop when asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_say_anything_keep_nobody_out() {
    const SILENT: usize = 200;
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut city = City::start(plan(folder.path()), &[0, 2], |_| {}).await.expect("the network starts");
    let mut silent = Vec::new();
    for place in city.network.validators().iter().map(|validator| validator.place) {
        for _ in 0..SILENT {
            silent.push(TcpStream::connect(place.rpc).await.expect("the RPC listens"));
        }
        for _ in 0..SILENT / 4 {
            // A validator bounds handshakes: some are refused, which is what keeps room for the others.
            silent.extend(TcpStream::connect(place.p2p).await);
        }
    }
    city.begin_traffic(20.0);
    sleep(Duration::from_secs(4)).await;
    let ending = city.finish().await;
    assert_kept(&ending, 20);
    drop(silent);
    city.network.stop_all().await.expect("all validators stop when asked");
}
