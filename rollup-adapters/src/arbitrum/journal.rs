//! Where are the messages of a chain kept, so that a restart goes on and old ones can be asked for again?
//!
//! In files of some megabytes each, named by their first message. A record is its length, a checksum and JSON: the message, and where
//! the chain stands after it. Everything can be made again from the lane and L1, so nothing is synced to disk: what a
//! crash tears is cut off when the journal is opened, and made again. The oldest files go when there are too many.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use alloy_primitives::B256;
use lockstep_protocol::{header::L1Origin, ids::Height};
use serde::{Deserialize, Serialize};

use super::{
    feed::{FeedMessage, History, MessageJson, message_from, message_json},
    message::MESSAGE_BYTES_MAX,
    next_batch::Placed,
    sequence::{ForcedTail, Numbered, Position},
};
use crate::{ChainTip, LaneCursor};

/// Length and the first eight bytes of the content's BLAKE3 hash.
const RECORD_HEADER_BYTES: usize = 12;
/// A record with the largest message, in base64, and room for the rest.
const RECORD_BYTES_MAX: usize = MESSAGE_BYTES_MAX.div_ceil(3) * 4 + 4_096;
/// Bytes after which a new file is begun: what is read to find a message in the middle of one.
const FILE_BYTES: u64 = 8 << 20;
/// Files kept: a gigabyte. Poster and clients need what L1 does not have yet, which is far less.
const FILES_MAX: usize = 128;

const SUFFIX: &str = "messages";

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk.
    #[error("journal {path}: {source}")]
    Disk {
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it.
    #[error("journal {0} is in use by another process")]
    InUse(PathBuf),
    /// A message that does not follow.
    #[error("message {found} was given to the journal, {expected} is next")]
    OutOfOrder {
        /// The next number.
        expected: u64,
        /// The one found.
        found: u64,
    },
}

fn disk(path: &Path) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Disk { path: path.to_owned(), source }
}

/// The writer of a journal. One at a time.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// Held as long as the journal is.
    _lock: File,
    file: Option<(PathBuf, File, u64)>,
    last: Option<Position>,
    /// The last batch in the chain that was forced in, for readers.
    forced: Arc<Mutex<Option<ForcedTail>>>,
}

impl Journal {
    /// Opens the journal in this folder, or begins one. What a crash tore is cut off.
    pub fn open(folder: &Path) -> Result<Self, JournalError> {
        fs::create_dir_all(folder).map_err(disk(folder))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(disk(&lock_path))?;
        lock.try_lock().map_err(|_| JournalError::InUse(folder.to_owned()))?;
        let (folder, forced) = (folder.to_owned(), Arc::default());
        let mut journal = Self { folder, _lock: lock, file: None, last: None, forced };
        journal.find_last()?;
        Ok(journal)
    }

    /// Finds the last whole record and cuts off what is behind it.
    fn find_last(&mut self) -> Result<(), JournalError> {
        (self.file, self.last) = (None, None);
        while let Some((_, path)) = files(&self.folder).map_err(disk(&self.folder))?.pop() {
            let (length, last) = whole(&path).map_err(disk(&path))?;
            let Some(last) = last else {
                // Torn before its first record was whole: the file before it has the last one.
                fs::remove_file(&path).map_err(disk(&path))?;
                continue;
            };
            let file = OpenOptions::new().append(true).open(&path).map_err(disk(&path))?;
            file.set_len(length).map_err(disk(&path))?;
            self.file = Some((path, file, length));
            self.last = Some(last);
            break;
        }
        self.tell_readers();
        Ok(())
    }

    /// Forgets the messages from number `next` on, which are not in the chain any more.
    pub fn rewind(&mut self, next: u64) -> Result<(), JournalError> {
        self.file = None;
        // The newest go first: whatever stops this in between leaves a journal without a gap.
        for (first, path) in files(&self.folder).map_err(disk(&self.folder))?.iter().rev() {
            if *first >= next {
                fs::remove_file(path).map_err(disk(path))?;
                continue;
            }
            let mut reader = BufReader::new(File::open(path).map_err(disk(path))?);
            let mut length = 0;
            for _ in *first..next {
                let Some(bytes) = pass(&mut reader).map_err(disk(path))? else { break };
                length += bytes;
            }
            let file = OpenOptions::new().write(true).open(path).map_err(disk(path))?;
            file.set_len(length).map_err(disk(path))?;
            break;
        }
        self.find_last()
    }

    fn tell_readers(&self) {
        let forced = self.last.as_ref().and_then(|last| last.forced);
        *self.forced.lock().unwrap_or_else(PoisonError::into_inner) = forced;
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the chain stands after the last message; `None` if there is none yet.
    pub fn last(&self) -> Option<&Position> {
        self.last.as_ref()
    }

    /// Adds messages. A reader sees them at once.
    pub fn append(&mut self, messages: &[Numbered]) -> Result<(), JournalError> {
        for message in messages {
            let found = message.message.sequence;
            let expected = self.last.as_ref().map_or(found, Position::next);
            if found != expected {
                return Err(JournalError::OutOfOrder { expected, found });
            }
            if self.file.as_ref().is_none_or(|(.., length)| *length >= FILE_BYTES) {
                self.begin_file(found)?;
            }
            let (path, file, length) = self.file.as_mut().expect("a file was just begun");
            let record = record(message);
            file.write_all(&record).map_err(disk(path))?;
            *length += record.len() as u64;
            self.last = Some(message.after.clone());
        }
        self.tell_readers();
        Ok(())
    }

    /// Reads from this journal, also while it is written.
    pub fn reader(&self) -> JournalReader {
        JournalReader { folder: self.folder.clone(), forced: self.forced.clone() }
    }

    fn begin_file(&mut self, first: u64) -> Result<(), JournalError> {
        let path = self.folder.join(format!("{first:020}.{SUFFIX}"));
        let file = OpenOptions::new().append(true).create_new(true).open(&path).map_err(disk(&path))?;
        self.file = Some((path, file, 0));
        let files = files(&self.folder).map_err(disk(&self.folder))?;
        for (_, path) in files.iter().take(files.len().saturating_sub(FILES_MAX)) {
            fs::remove_file(path).map_err(disk(path))?;
        }
        Ok(())
    }
}

/// Reads a journal that somebody may be writing.
#[derive(Clone, Debug)]
pub struct JournalReader {
    folder: PathBuf,
    forced: Arc<Mutex<Option<ForcedTail>>>,
}

impl JournalReader {
    /// The last batch in the chain that somebody forced in.
    pub fn forced(&self) -> Option<ForcedTail> {
        *self.forced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages from `from` on, up to about `bytes_max` bytes of content but at least one; none if `from` is not there.
    pub fn placed(&self, from: u64, bytes_max: usize) -> io::Result<Vec<Placed>> {
        let read = self.read_records(from, bytes_max)?;
        Ok(read.iter().map(Placed::from).collect())
    }

    /// The message with this number and where the chain stands after it.
    pub fn get(&self, sequence: u64) -> io::Result<Option<Numbered>> {
        Ok(self.read_records(sequence, 0)?.into_iter().next())
    }

    fn read_records(&self, from: u64, bytes_max: usize) -> io::Result<Vec<Numbered>> {
        let files = files(&self.folder)?;
        let start = files.partition_point(|(first, _)| *first <= from).saturating_sub(1);
        let (mut out, mut bytes, mut next) = (Vec::new(), 0usize, from);
        for (first, path) in files.iter().skip(start) {
            if *first > next {
                break;
            }
            let mut reader = match File::open(path) {
                Ok(file) => BufReader::new(file),
                // It was the oldest, and just went.
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let mut sequence = *first;
            loop {
                if !out.is_empty() && bytes >= bytes_max {
                    return Ok(out);
                }
                // Records before the one asked for are passed over unread.
                if sequence < next {
                    if pass(&mut reader)?.is_none() {
                        break;
                    }
                } else {
                    let Some(numbered) = read_record(&mut reader)? else { break };
                    if numbered.message.sequence != next {
                        return Err(io::Error::other(format!("message {next} is not where it should be")));
                    }
                    bytes += numbered.message.content.len();
                    out.push(numbered);
                    next += 1;
                }
                sequence += 1;
            }
        }
        Ok(out)
    }
}

impl History for JournalReader {
    fn read(&self, from: u64, bytes_max: usize) -> io::Result<Vec<FeedMessage>> {
        Ok(self.read_records(from, bytes_max)?.into_iter().map(|numbered| numbered.message).collect())
    }

    fn first(&self) -> Option<u64> {
        files(&self.folder).ok()?.first().map(|(first, _)| *first)
    }
}

/// The files and the number of each one's first message, in order.
fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let named = path.extension().is_some_and(|suffix| suffix == SUFFIX);
        let first = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(first) = first.filter(|_| named) {
            files.push((first, path));
        }
    }
    files.sort();
    Ok(files)
}

/// How much of a file is whole records, and where the chain stands after the last of them.
fn whole(path: &Path) -> io::Result<(u64, Option<Position>)> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut length, mut last) = (0, None);
    while let Some((numbered, bytes)) = read_sized(&mut reader)? {
        length += bytes as u64;
        last = Some(numbered.after);
    }
    Ok((length, last))
}

#[derive(Serialize, Deserialize)]
struct RecordJson {
    message: MessageJson,
    number: u64,
    timestamp: u64,
    l1: L1Origin,
    lane_ms: u64,
    lane_taken: usize,
    delayed: u64,
    height: Height,
    delayed_accumulator: B256,
    delayed_l1: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forced: Option<ForcedTail>,
    #[serde(default)]
    inbox_l1: u64,
}

fn record(numbered: &Numbered) -> Vec<u8> {
    let Position { tip, height, delayed_accumulator, delayed_l1, forced, inbox_l1 } = &numbered.after;
    let json = serde_json::to_vec(&RecordJson {
        message: message_json(&numbered.message),
        number: tip.number,
        timestamp: tip.timestamp,
        l1: tip.l1,
        lane_ms: tip.lane.ms,
        lane_taken: tip.lane.taken,
        delayed: tip.delayed,
        height: *height,
        delayed_accumulator: *delayed_accumulator,
        delayed_l1: *delayed_l1,
        forced: *forced,
        inbox_l1: *inbox_l1,
    })
    .expect("numbers and strings are written to memory");
    let mut record = Vec::with_capacity(RECORD_HEADER_BYTES + json.len());
    record.extend_from_slice(&(json.len() as u32).to_be_bytes());
    record.extend_from_slice(&blake3::hash(&json).as_bytes()[..8]);
    record.extend_from_slice(&json);
    record
}

fn read_record(reader: &mut impl Read) -> io::Result<Option<Numbered>> {
    Ok(read_sized(reader)?.map(|(numbered, _)| numbered))
}

/// The next record and its size; `None` at the end, which a writer may just be moving.
fn read_sized(reader: &mut impl Read) -> io::Result<Option<(Numbered, usize)>> {
    let Some((length, checksum)) = read_header(reader)? else { return Ok(None) };
    let mut json = vec![0; length];
    if !fill(reader, &mut json)? || blake3::hash(&json).as_bytes()[..8] != checksum {
        return Ok(None);
    }
    let Ok(found) = serde_json::from_slice::<RecordJson>(&json) else { return Ok(None) };
    let Ok(message) = message_from(found.message) else { return Ok(None) };
    let lane = LaneCursor { ms: found.lane_ms, taken: found.lane_taken };
    let tip = ChainTip {
        number: found.number,
        timestamp: found.timestamp,
        l1: found.l1,
        lane,
        delayed: found.delayed,
        ..Default::default()
    };
    let after = Position {
        tip,
        height: found.height,
        delayed_accumulator: found.delayed_accumulator,
        delayed_l1: found.delayed_l1,
        forced: found.forced,
        inbox_l1: found.inbox_l1,
    };
    Ok(Some((Numbered { message, after }, RECORD_HEADER_BYTES + length)))
}

/// Passes over a record: its size; `None` at the end.
fn pass(reader: &mut BufReader<File>) -> io::Result<Option<u64>> {
    let Some((length, _)) = read_header(reader)? else { return Ok(None) };
    reader.seek_relative(length as i64)?;
    Ok(Some((RECORD_HEADER_BYTES + length) as u64))
}

fn read_header(reader: &mut impl Read) -> io::Result<Option<(usize, [u8; 8])>> {
    let mut header = [0; RECORD_HEADER_BYTES];
    if !fill(reader, &mut header)? {
        return Ok(None);
    }
    let (length, checksum) = header.split_at(4);
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let checksum = checksum.try_into().expect("eight bytes follow the length");
    Ok((length <= RECORD_BYTES_MAX).then_some((length, checksum)))
}

/// Fills `bytes`; false if the file ends before.
fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
