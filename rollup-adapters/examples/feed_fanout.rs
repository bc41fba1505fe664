//! How many bytes does the feed server send for a second of its processor time, next to a server that serialises for each client?
//!
//! Both run in this process, one after the other and again, each on a thread of its own whose processor time is read from the
//! system; clients are on other threads. The naive server does what a first version would: a task per client with a queue of
//! messages, JSON for each client and message, one frame and one write each. The ratio is the result.
//!
//! `cargo run --release -p lockstep-adapters --example feed_fanout [CLIENTS [MESSAGES [CONTENT_BYTES]]]`
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    net::SocketAddr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use futures::SinkExt;
use lockstep_adapters::arbitrum::feed::{
    BacklogLimits, Broadcast, FeedConfig, FeedMessage, FeedServer, KIND_L2_MESSAGE, MessageHeader, SEQUENCER,
};
use tokio::net::TcpListener;
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// Messages that are published together: what one lane block makes, and what many make while a client is not looking.
const BURSTS: [usize; 3] = [1, 16, 64];
/// Pause between bursts, so that clients keep up and no server is measured waiting.
const PAUSE: Duration = Duration::from_millis(2);

fn message(sequence: u64, bytes: usize) -> FeedMessage {
    FeedMessage {
        sequence,
        header: MessageHeader {
            kind: KIND_L2_MESSAGE,
            sender: SEQUENCER,
            l1_number: 20_000_000,
            timestamp: 1_750_000_000 + sequence,
            request: None,
            l1_base_fee: None,
        },
        content: (0..bytes as u64).map(|index| (index * 31 + sequence * 7) as u8).collect(),
        delayed_read: 9,
        block_hash: None,
        metadata: vec![],
        signature: vec![7; 65],
    }
}

/// Processor time of the calling thread.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number"))
}

struct Load {
    clients: usize,
    messages: u64,
    bytes: usize,
    burst: usize,
}

/// Clients that count bytes until the server closes. On one thread, so that they do not crowd out the server.
fn read_all(address: SocketAddr, clients: usize) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..clients {
                tasks.spawn(async move {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
                    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
                    stream.write_all(request.as_bytes()).await.expect("asks");
                    let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        total += read as u64;
                    }
                    total
                });
            }
            let mut total = 0;
            while let Some(read) = tasks.join_next().await {
                total += read.expect("no panic");
            }
            total
        })
    })
}

async fn publish(load: &Load, mut send: impl FnMut(Vec<FeedMessage>)) {
    let mut sequence = 0;
    while sequence < load.messages {
        let end = load.messages.min(sequence + load.burst as u64);
        send((sequence..end).map(|sequence| message(sequence, load.bytes)).collect());
        sequence = end;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Bytes and the server's processor time from when all clients are connected to when all is sent.
fn measure(load: &Load, naive: bool) -> f64 {
    let (told, address) = mpsc::channel();
    let (clients, messages, bytes, burst) = (load.clients, load.messages, load.bytes, load.burst);
    let server = thread::spawn(move || {
        let load = Load { clients, messages, bytes, burst };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { if naive { serve_naively(&load, told).await } else { serve(&load, told).await } })
    });
    let readers = read_all(address.recv().expect("the server listens"), clients);
    let spent = server.join().expect("no panic");
    let read = readers.join().expect("no panic");
    read as f64 / 1e6 / spent.as_secs_f64()
}

async fn serve(load: &Load, told: mpsc::Sender<SocketAddr>) -> Duration {
    let limits = BacklogLimits { messages: 1 << 20, bytes: 1 << 30 };
    let config = FeedConfig { clients_max: 1 << 20, backlog: limits, ..FeedConfig::new(1) };
    let any = "127.0.0.1:0".parse().expect("an address");
    let server = FeedServer::bind(any, config, 0, None).await.expect("binds");
    told.send(server.address()).expect("somebody waits");
    while server.stats().clients < load.clients as u64 {
        tokio::time::sleep(PAUSE).await;
    }
    let begin = processor_time();
    publish(load, |mut messages| server.publish(&mut messages).expect("in order")).await;
    let mut sent = 0;
    loop {
        tokio::time::sleep(PAUSE * 20).await;
        match server.stats().bytes {
            now if now == sent => break,
            now => sent = now,
        }
    }
    let spent = processor_time() - begin;
    server.stop().await;
    spent
}

async fn serve_naively(load: &Load, told: mpsc::Sender<SocketAddr>) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    told.send(listener.local_addr().expect("an address")).expect("somebody waits");
    let mut queues = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..load.clients {
        let (stream, _) = listener.accept().await.expect("accepts");
        stream.set_nodelay(true).expect("a socket");
        let mut socket = accept_async(stream).await.expect("shakes hands");
        let (queue, mut messages) = tokio::sync::mpsc::unbounded_channel::<FeedMessage>();
        queues.push(queue);
        tasks.spawn(async move {
            while let Some(message) = messages.recv().await {
                let text = String::from_utf8(Broadcast::json_of(&message)).expect("JSON is text");
                socket.send(Message::text(text)).await.expect("sends");
            }
        });
    }
    let begin = processor_time();
    publish(load, |messages| {
        for message in messages {
            for queue in &queues {
                queue.send(message.clone()).expect("the client is there");
            }
        }
    })
    .await;
    drop(queues);
    while tasks.join_next().await.is_some() {}
    processor_time() - begin
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let clients: usize = arguments.next().unwrap_or(200);
    let messages = arguments.next().unwrap_or(640) as u64;
    let bytes = arguments.next().unwrap_or(256);
    let begin = Instant::now();
    println!("{clients} clients, {messages} messages of {bytes} bytes; MB for a second of the server's processor time");
    for burst in BURSTS {
        let load = Load { clients, messages, bytes, burst };
        let mut ratios = Vec::new();
        for round in 0..3 {
            let (ours, naive) = (measure(&load, false), measure(&load, true));
            println!(
                "bursts of {burst:>2}, round {round}: ours {ours:>7.0}, naive {naive:>5.0}, ratio {:.1}",
                ours / naive
            );
            ratios.push(ours / naive);
        }
        ratios.sort_by(f64::total_cmp);
        println!("bursts of {burst:>2}: {:.1} times the naive server's bytes", ratios[1]);
    }
    println!("in {:.0} s", begin.elapsed().as_secs_f64());
}
