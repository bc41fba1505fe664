//! How many bytes does the feed server send for a second of its processor time, next to a server that serialises for each client,
//! and next to one that does nothing but write?
//!
//! All run in this process, one after the other and again, each on a thread of its own whose processor time is read from the
//! system; clients are on another thread, and the next burst waits until they have the last one. The naive server does what a first
//! version would: a task per client with a queue of messages, JSON for each client and message, one frame and one write each. The
//! bare one has the frames of a burst made once, and a loop that writes them to every socket: no server with a write for each
//! client can spend less. It is none: it waits for the slowest client, and listens to nobody. The ratios are the result.
//!
//! `cargo run --release -p lockstep-adapters --example feed_fanout [CLIENTS]`
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use futures::SinkExt;
use lockstep_adapters::arbitrum::feed::{
    BacklogLimits, Broadcast, FeedConfig, FeedMessage, FeedServer, KIND_L2_MESSAGE, MessageHeader, SEQUENCER,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// Bytes of a message, and messages that are published together: one to a thousand transactions of a lane block, one block or what
/// many make while a client is not looking.
const LOADS: [(usize, usize); 9] = [
    (256, 1),
    (256, 16),
    (256, 64),
    (1 << 10, 1),
    (1 << 10, 16),
    (16 << 10, 1),
    (16 << 10, 16),
    (100 << 10, 1),
    (100 << 10, 4),
];
/// Messages of one run, if they are small.
const MESSAGES_MAX: usize = 640;
/// Bytes that all clients are sent in one run, about.
const BYTES: usize = 100 << 20;
/// Runs of each server and load. An odd number: the median is told.
const ROUNDS: usize = 3;
/// Nobody is cut here.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy)]
enum Server {
    Ours,
    Naive,
    Bare,
}

/// What is sent, and how far the clients have read.
struct Load {
    clients: usize,
    bursts: Vec<Vec<FeedMessage>>,
    read: AtomicU64,
    sent: AtomicU64,
    caught_up: Notify,
}

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

/// The frame of a text (RFC 6455, section 5.2).
fn frame(message: &FeedMessage) -> Vec<u8> {
    let text = Broadcast::json_of(message);
    let length = text.len() as u64;
    let head = match length {
        0..=125 => vec![0x81, length as u8],
        126..=0xffff => [&[0x81, 126][..], &length.to_be_bytes()[6..]].concat(),
        _ => [&[0x81, 127][..], &length.to_be_bytes()].concat(),
    };
    [head, text].concat()
}

impl Load {
    fn new(clients: usize, bytes: usize, burst: usize) -> Self {
        let messages = (BYTES / clients / (bytes * 4 / 3 + 400)).clamp(2 * burst, MESSAGES_MAX);
        let bursts = (0..messages / burst)
            .map(|number| (0..burst).map(|index| message((number * burst + index) as u64, bytes)).collect());
        let (read, sent) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { clients, bursts: bursts.collect(), read, sent, caught_up: Notify::new() }
    }

    /// Hands over the bursts, each once all clients have read the last one.
    async fn publish(&self, mut send: impl AsyncFnMut(Vec<FeedMessage>)) -> Duration {
        let bursts = self.bursts.iter().map(|burst| {
            let bytes: usize = burst.iter().map(|message| frame(message).len()).sum();
            ((bytes * self.clients) as u64, burst.clone())
        });
        // Nothing of this is a server's work.
        let bursts: Vec<_> = bursts.collect();
        let begin = processor_time();
        for (bytes, burst) in bursts {
            self.sent.fetch_add(bytes, Ordering::SeqCst);
            send(burst).await;
            while self.read.load(Ordering::SeqCst) < self.sent.load(Ordering::SeqCst) {
                self.caught_up.notified().await;
            }
        }
        processor_time() - begin
    }

    async fn client(&self, address: SocketAddr) {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await.expect("asks");
        let mut buffer = vec![0; 256 << 10];
        let mut head = Vec::new();
        let rest = loop {
            stream.read_buf(&mut head).await.expect("is answered");
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break head.len() - end - 4;
            }
        };
        self.has_read(rest);
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            self.has_read(count);
        }
    }

    fn has_read(&self, count: usize) {
        let read = self.read.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
        if read == self.sent.load(Ordering::SeqCst) {
            self.caught_up.notify_one();
        }
    }
}

/// Processor time of the calling thread.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number"))
}

fn on_a_thread<F: Future<Output: Send + 'static>>(
    begin: impl FnOnce() -> F + Send + 'static,
) -> thread::JoinHandle<F::Output> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(begin())
    })
}

/// What a run cost.
struct Cost {
    /// Megabytes to clients for a second of the server's processor time.
    speed: f64,
    /// Microseconds of it for a message and client.
    message: f64,
}

fn measure(load: Load, server: Server) -> Cost {
    let load = Arc::new(load);
    let (told, address) = mpsc::channel();
    let serving = on_a_thread({
        let load = load.clone();
        async move || match server {
            Server::Ours => serve(&load, told).await,
            Server::Naive => serve_naively(&load, told).await,
            Server::Bare => serve_barely(&load, told).await,
        }
    });
    let address = address.recv().expect("the server listens");
    // On one thread, so that they do not crowd out the server.
    let reading = on_a_thread({
        let load = load.clone();
        async move || {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..load.clients {
                let load = load.clone();
                tasks.spawn(async move { load.client(address).await });
            }
            tasks.join_all().await;
        }
    });
    let spent = serving.join().expect("no panic").as_secs_f64();
    reading.join().expect("no panic");
    let messages = load.bursts.iter().map(Vec::len).sum::<usize>() * load.clients;
    Cost { speed: load.read.load(Ordering::SeqCst) as f64 / 1e6 / spent, message: spent * 1e6 / messages as f64 }
}

async fn serve(load: &Load, told: mpsc::Sender<SocketAddr>) -> Duration {
    let limits = BacklogLimits { messages: 1 << 20, bytes: 1 << 30 };
    let config = FeedConfig { clients_max: 1 << 20, backlog: limits, ..FeedConfig::new(1) };
    let config = FeedConfig { write_timeout: PATIENCE, silence: PATIENCE, ping: PATIENCE, ..config };
    let any = "127.0.0.1:0".parse().expect("an address");
    let server = FeedServer::bind(any, config, 0, None).await.expect("binds");
    told.send(server.address()).expect("somebody waits");
    while server.stats().clients < load.clients as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let spent = load.publish(async |mut burst| server.publish(&mut burst).expect("in order")).await;
    server.stop().await;
    spent
}

/// Clients that have shaken hands.
async fn accept_all(load: &Load, told: mpsc::Sender<SocketAddr>) -> Vec<tokio_tungstenite::WebSocketStream<TcpStream>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    told.send(listener.local_addr().expect("an address")).expect("somebody waits");
    let mut sockets = Vec::new();
    for _ in 0..load.clients {
        let (stream, _) = listener.accept().await.expect("accepts");
        stream.set_nodelay(true).expect("a socket");
        sockets.push(accept_async(stream).await.expect("shakes hands"));
    }
    sockets
}

async fn serve_naively(load: &Load, told: mpsc::Sender<SocketAddr>) -> Duration {
    let mut queues = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for mut socket in accept_all(load, told).await {
        // The message is shared: what is compared is how it is serialised and sent.
        let (queue, mut messages) = tokio::sync::mpsc::unbounded_channel::<Arc<FeedMessage>>();
        queues.push(queue);
        tasks.spawn(async move {
            while let Some(message) = messages.recv().await {
                let text = String::from_utf8(Broadcast::json_of(&message)).expect("JSON is text");
                socket.send(Message::text(text)).await.expect("sends");
            }
        });
    }
    let send = async |burst: Vec<FeedMessage>| {
        for message in burst.into_iter().map(Arc::new) {
            for queue in &queues {
                queue.send(message.clone()).expect("the client is there");
            }
        }
    };
    let spent = load.publish(send).await;
    drop(queues);
    tasks.join_all().await;
    spent
}

async fn serve_barely(load: &Load, told: mpsc::Sender<SocketAddr>) -> Duration {
    let sockets: Vec<_> = accept_all(load, told).await.into_iter().map(|socket| socket.into_inner()).collect();
    let send = async |burst: Vec<FeedMessage>| {
        let frames = burst.iter().map(frame).collect::<Vec<_>>().concat();
        for socket in &sockets {
            let mut left = frames.as_slice();
            while !left.is_empty() {
                match socket.try_write(left) {
                    Ok(count) => left = &left[count..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await.expect("open"),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    load.publish(send).await
}

/// Of what is taken from each round.
fn median(rounds: &[[Cost; 3]], take: impl Fn(&[Cost; 3]) -> f64) -> f64 {
    let mut values: Vec<_> = rounds.iter().map(take).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let clients: usize = std::env::args().nth(1).map_or(200, |argument| argument.parse().expect("a number"));
    let begin = Instant::now();
    println!("{clients} clients; MB for a second of the server's processor time; us of it for a message and client");
    println!("bytes  at once |   ours MB/s     us |  naive MB/s     us |   bare MB/s     us | ours/naive  bare/naive");
    for (bytes, burst) in LOADS {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let of = |server| measure(Load::new(clients, bytes, burst), server);
            rounds.push([of(Server::Ours), of(Server::Naive), of(Server::Bare)]);
        }
        print!("{bytes:>6} {burst:>7} |");
        for server in 0..3 {
            let speed = median(&rounds, |round| round[server].speed);
            print!(" {speed:>11.0} {:>6.1} |", median(&rounds, |round| round[server].message));
        }
        let ratio = |server: usize| median(&rounds, |round| round[server].speed / round[1].speed);
        println!(" {:>10.1} {:>11.1}", ratio(0), ratio(2));
    }
    println!("in {:.0} s", begin.elapsed().as_secs_f64());
}
