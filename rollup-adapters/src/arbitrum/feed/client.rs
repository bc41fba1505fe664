//! What is one client sent, and when is it cut?
//!
//! Its place is the next message that it needs. Everything from there to the newest message is written at once, from the frames
//! that all clients share. A client that never was up to date catches up from the history on disk, as fast as it reads; one that
//! was and fell behind the backlog is cut and told so. It has no queue: what it costs is one write's worth of references.

use std::{
    fmt, io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::watch,
    task,
    time::{self, Instant},
};

use super::{
    Broadcast,
    backlog::{Ready, text_frame},
    handshake::Asked,
    incoming::{self, Nonsense, Said},
    shared::Shared,
};

/// Bytes of one write: large enough that system calls do not show, small enough that a client holds little.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Frames of one system call.
const WRITE_FRAMES_MAX: usize = 64;
/// Bytes of frames from a client that are not whole yet; control frames have 131 at most.
const READ_BYTES: usize = 8 * 1024;
/// How long a client that is cut is given to read why.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(200);

const PING_FRAME: [u8; 2] = [0x89, 0];
const PONG: u8 = 0x8a;
const CLOSE: u8 = 0x88;

/// Why a client is no longer connected.
#[derive(Debug)]
pub enum Departure {
    /// The connection ended or broke.
    Gone,
    /// It said good-bye.
    Closed,
    /// It did not read for too long.
    Stalled,
    /// It had been up to date, and what it needs next is no longer held.
    TooSlow {
        /// What it needs next.
        place: u64,
        /// The first message held.
        first: u64,
    },
    /// It answered no ping.
    Silent,
    /// It sent something that no client sends.
    Nonsense(Nonsense),
    /// The history could not be read.
    History(io::Error),
}

impl Departure {
    /// Whether it did not keep up.
    pub fn is_too_slow(&self) -> bool {
        matches!(self, Self::Stalled | Self::TooSlow { .. })
    }

    /// The status code of the close frame (RFC 6455, section 7.4.1).
    fn code(&self) -> u16 {
        match self {
            Self::Gone | Self::Closed => 1000,
            Self::Stalled | Self::TooSlow { .. } | Self::Silent => 1008,
            Self::Nonsense(Nonsense::Large(_)) => 1009,
            Self::Nonsense(Nonsense::Frame) => 1002,
            Self::History(_) => 1011,
        }
    }
}

impl fmt::Display for Departure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => write!(out, "the connection ended"),
            Self::Closed => write!(out, "it said good-bye"),
            Self::Stalled => write!(out, "too slow: it did not read for too long"),
            Self::TooSlow { place, first } => {
                write!(out, "too slow: message {place} is no longer held, {first} is the first")
            }
            Self::Silent => write!(out, "it answered no ping"),
            Self::Nonsense(nonsense) => nonsense.fmt(out),
            Self::History(error) => write!(out, "old messages cannot be read: {error}"),
        }
    }
}

pub(super) struct Client<'a> {
    shared: &'a Arc<Shared>,
    stream: TcpStream,
    place: u64,
    /// Whether it ever had everything. From then on it must keep up.
    current: bool,
    confirmed: Option<u64>,
    heard: Instant,
    received: Vec<u8>,
    out: Vec<Bytes>,
}

impl<'a> Client<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, stream: TcpStream, asked: Asked) -> Self {
        let (first, asked_from) = {
            let backlog = shared.backlog();
            (backlog.first(), asked.from.map(|from| backlog.begin(from)))
        };
        // Who does not say is given what is in memory. Who asks for what is nowhere held is given all that is: Nitro's nodes
        // take what comes before from L1, and ours say what is missing.
        let place = match asked_from {
            None => first,
            Some(from) if from >= first => from,
            Some(from) => {
                let oldest = shared.history.as_ref().and_then(|history| history.first()).unwrap_or(first);
                let place = from.max(oldest.min(first));
                if place > from {
                    tracing::info!(
                        requested = from,
                        first = place,
                        "a feed client asks for messages that are no longer held"
                    );
                }
                place
            }
        };
        let received = Vec::with_capacity(READ_BYTES);
        Self {
            shared,
            stream,
            place,
            current: false,
            confirmed: None,
            heard: Instant::now(),
            received,
            out: Vec::new(),
        }
    }

    pub(super) fn place(&self) -> u64 {
        self.place
    }

    /// Puts into `out` what there is to send, and notes it as sent.
    async fn fill(&mut self) -> Result<(), Departure> {
        let ready = {
            let backlog = self.shared.backlog();
            let ready = backlog.take(self.place, WRITE_BYTES_MAX, &mut self.out);
            if let Ready::Messages(count) = ready {
                self.place += count;
                self.current |= self.place >= backlog.next();
                if let Some((sequence, frame)) = backlog.confirmation(self.confirmed, self.place) {
                    self.confirmed = Some(sequence);
                    self.out.push(frame);
                }
            }
            ready
        };
        match (ready, &self.shared.history) {
            (Ready::Messages(_), _) => Ok(()),
            (Ready::Before { first }, Some(history)) if !self.current => {
                let (history, from) = (history.clone(), self.place);
                let messages = task::spawn_blocking(move || history.read(from, WRITE_BYTES_MAX))
                    .await
                    .map_err(|error| Departure::History(io::Error::other(error)))?
                    .map_err(Departure::History)?;
                if messages.is_empty() {
                    return Err(Departure::TooSlow { place: from, first });
                }
                for mut message in messages {
                    if let Some(signer) = &self.shared.config.signer {
                        signer.sign(&mut message);
                    }
                    self.place = message.sequence + 1;
                    self.out.push(text_frame(&Broadcast::json_of(&message)));
                }
                Ok(())
            }
            (Ready::Before { first }, _) => Err(Departure::TooSlow { place: self.place, first }),
        }
    }

    /// Writes all of `out`, as few system calls as it takes. There is a timer only for a client that does not take all at once.
    async fn write(&mut self) -> Result<(), Departure> {
        let mut out = self.out.as_mut_slice();
        while !out.is_empty() {
            let mut written = match try_write(&self.stream, out) {
                Ok(0) => return Err(Departure::Gone),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match time::timeout(self.shared.config.write_timeout, self.stream.writable()).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(_)) => return Err(Departure::Gone),
                        Err(_) => return Err(Departure::Stalled),
                    }
                }
                Err(_) => return Err(Departure::Gone),
            };
            self.shared.bytes.fetch_add(written as u64, Ordering::Relaxed);
            while let Some(frame) = out.first_mut() {
                if written < frame.len() {
                    *frame = frame.slice(written..);
                    break;
                }
                written -= frame.len();
                out = &mut out[1..];
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Reads what the client said. Its pings are answered with the next write.
    fn read(&mut self) -> Result<(), Departure> {
        loop {
            match self.stream.try_read_buf(&mut self.received) {
                Ok(0) => return Err(Departure::Gone),
                Ok(_) => self.heard = Instant::now(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Departure::Gone),
            }
            let mut pong = None;
            while let Some(said) = incoming::next(&mut self.received).map_err(Departure::Nonsense)? {
                match said {
                    // Of several pings the last may be answered alone (RFC 6455, section 5.5.3).
                    Said::Ping(payload) => pong = Some(control_frame(PONG, &payload)),
                    Said::Close => return Err(Departure::Closed),
                    Said::Nothing => {}
                }
            }
            self.out.extend(pong);
            if !self.out.is_empty() {
                return Ok(());
            }
        }
    }

    async fn farewell(&mut self, departure: &Departure) {
        if matches!(departure, Departure::Gone) {
            return;
        }
        let mut payload = departure.code().to_be_bytes().to_vec();
        payload.extend(departure.to_string().into_bytes());
        payload.truncate(125);
        // Where a frame was cut in the middle this one is noise, but then nobody reads it either.
        let frame = control_frame(CLOSE, &payload);
        let farewell = async {
            self.stream.write_all(&frame).await?;
            self.stream.shutdown().await
        };
        drop(time::timeout(FAREWELL_TIMEOUT, farewell).await);
    }
}

pub(super) async fn serve(client: &mut Client<'_>, news: watch::Receiver<u64>) -> Departure {
    let departure = match listen(client, news).await {
        Ok(never) => match never {},
        Err(departure) => departure,
    };
    client.farewell(&departure).await;
    departure
}

async fn listen(
    client: &mut Client<'_>,
    mut news: watch::Receiver<u64>,
) -> Result<std::convert::Infallible, Departure> {
    let mut ping = time::interval(client.shared.config.ping);
    ping.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    ping.reset();
    loop {
        news.mark_unchanged();
        client.fill().await?;
        if !client.out.is_empty() {
            client.write().await?;
            // Who takes everything at once must not keep others from their turn.
            task::coop::consume_budget().await;
            // Who catches up for long must still be heard, and pinged.
            client.read()?;
            if client.heard.elapsed() > client.shared.config.silence {
                return Err(Departure::Silent);
            }
            continue;
        }
        tokio::select! {
            changed = news.changed() => changed.map_err(|_| Departure::Gone)?,
            readable = client.stream.readable() => {
                readable.map_err(|_| Departure::Gone)?;
                client.read()?;
            }
            _ = ping.tick() => {
                if client.heard.elapsed() > client.shared.config.silence {
                    return Err(Departure::Silent);
                }
                client.out.push(Bytes::from_static(&PING_FRAME));
            }
        }
    }
}

/// As many of these frames as the socket takes now.
fn try_write(stream: &TcpStream, frames: &[Bytes]) -> io::Result<usize> {
    if let [frame] = frames {
        return stream.try_write(frame);
    }
    let mut slices = [io::IoSlice::new(&[]); WRITE_FRAMES_MAX];
    for (slice, frame) in slices.iter_mut().zip(frames) {
        *slice = io::IoSlice::new(frame);
    }
    stream.try_write_vectored(&slices[..frames.len().min(WRITE_FRAMES_MAX)])
}

fn control_frame(first: u8, payload: &[u8]) -> Bytes {
    let mut frame = vec![first, payload.len() as u8];
    frame.extend_from_slice(payload);
    frame.into()
}
