//! How does a node that was killed come back to its last block?
//!
//! An append-only log of blocks and heads, and now and then a dump of the state some blocks behind the head, so that only what
//! follows has to be executed again. A record that was not written whole ends the log. Decides nothing about the chain.

use crate::{
    block::Block,
    state::{Account, State},
};
use alloy_primitives::{B256, U256, keccak256};
use revm::bytecode::Bytecode;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The largest record read: a block of a gigagas of calldata is smaller, a torn length is not.
const RECORD_BYTES_MAX: u32 = 256 << 20;
/// The largest contract read from a dump; EIP-170's limit is far below.
const CODE_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a record's checksum.
const CHECKSUM_BYTES: usize = 4;

/// The open files of a folder.
#[derive(Debug)]
pub(crate) struct Store {
    log: File,
    folder: PathBuf,
}

/// One record of the log.
#[derive(Debug)]
pub(crate) enum Record {
    /// The chain whose log this is, by its genesis hash.
    Chain(B256),
    /// A block.
    Block(Box<Block>),
    /// The head changed.
    Head(Tags),
}

/// The head with what is safe and final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tags {
    pub(crate) head: B256,
    pub(crate) safe: B256,
    pub(crate) finalized: B256,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another node runs on it.
    #[error("{0} is in use by another node")]
    InUse(PathBuf),
    /// It holds another chain.
    #[error("the folder holds the chain of genesis {held}, not of {wanted}")]
    OtherChain {
        /// The one that it holds.
        held: B256,
        /// The one asked for.
        wanted: B256,
    },
    /// What it holds does not execute to what it says.
    #[error("block {number} does not execute to the stored hash: {reason}")]
    Diverged {
        /// The block.
        number: u64,
        /// What was found instead.
        reason: String,
    },
}

impl Store {
    /// Opens a folder, hands each whole record to `visit` in order, and cuts off a torn end.
    pub(crate) fn open(folder: &Path, mut visit: impl FnMut(Record)) -> Result<Self, StoreError> {
        let path = folder.join("blocks.log");
        let fault = |source| StoreError::Io { path: path.clone(), source };
        std::fs::create_dir_all(folder).map_err(fault)?;
        let log = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(fault)?;
        match log.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        let mut reader = BufReader::new(&log);
        let mut whole = 0;
        while let Some((record, length)) = read_record(&mut reader).map_err(fault)? {
            visit(record);
            whole += length;
        }
        drop(reader);
        let mut log = log;
        log.set_len(whole).map_err(fault)?;
        log.seek(SeekFrom::Start(whole)).map_err(fault)?;
        Ok(Self { log, folder: folder.to_owned() })
    }

    /// Appends a record; it is durable after [`Self::sync`].
    pub(crate) fn append(&mut self, record: &RecordRef<'_>) -> Result<(), StoreError> {
        let payload = record.encode();
        let mut bytes = Vec::with_capacity(payload.len() + 8);
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&keccak256(&payload)[..CHECKSUM_BYTES]);
        bytes.extend_from_slice(&payload);
        self.log.write_all(&bytes).map_err(|source| self.fault(source))
    }

    /// Returns when everything appended survives a loss of power.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        self.log.sync_data().map_err(|source| self.fault(source))
    }

    fn fault(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.folder.join("blocks.log"), source }
    }
}

/// A record to be written.
pub(crate) enum RecordRef<'a> {
    Chain(B256),
    Block(&'a Block),
    Head(Tags),
}

impl RecordRef<'_> {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Chain(genesis) => [&[0], genesis.as_slice()].concat(),
            Self::Block(block) => {
                let mut out = vec![1];
                block.encode(&mut out);
                out
            }
            Self::Head(tags) => [&[2], tags.head.as_slice(), tags.safe.as_slice(), tags.finalized.as_slice()].concat(),
        }
    }
}

/// The next whole record and its length in the file; none where the log ends or is torn.
fn read_record(from: &mut impl Read) -> io::Result<Option<(Record, u64)>> {
    let mut lead = [0; 4 + CHECKSUM_BYTES];
    if !fill(from, &mut lead)? {
        return Ok(None);
    }
    let (length, checksum) = lead.split_at(4);
    let length = u32::from_le_bytes(length.try_into().expect("the lead starts with four bytes of length"));
    if length > RECORD_BYTES_MAX {
        return Ok(None);
    }
    let mut payload = Vec::new();
    from.take(length.into()).read_to_end(&mut payload)?;
    if payload.len() as u64 != u64::from(length) || keccak256(&payload)[..CHECKSUM_BYTES] != *checksum {
        return Ok(None);
    }
    let record = match payload.split_first() {
        Some((0, rest)) if rest.len() == 32 => Record::Chain(B256::from_slice(rest)),
        Some((1, rest)) => match Block::decode(rest) {
            Ok(block) => Record::Block(Box::new(block)),
            Err(_) => return Ok(None),
        },
        Some((2, rest)) if rest.len() == 96 => Record::Head(Tags {
            head: B256::from_slice(&rest[..32]),
            safe: B256::from_slice(&rest[32..64]),
            finalized: B256::from_slice(&rest[64..]),
        }),
        _ => return Ok(None),
    };
    Ok(Some((record, u64::from(length) + lead.len() as u64)))
}

/// Whether the buffer could be filled; false at the end of the file.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes the state after a block, under another name first so that a half-written one is never read.
pub(crate) fn write_state(folder: &Path, block: B256, state: &State) -> io::Result<()> {
    let (partial, whole) = (folder.join("state.partial"), folder.join("state"));
    let mut file = BufWriter::new(File::create(&partial)?);
    file.write_all(block.as_slice())?;
    let mut failed = Ok(());
    state.for_each(&mut |key, account| {
        if failed.is_ok() {
            failed = write_account(&mut file, key, account);
        }
    });
    failed?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(partial, whole)?;
    File::open(folder)?.sync_all()
}

fn write_account(to: &mut impl Write, key: B256, account: &Account) -> io::Result<()> {
    to.write_all(key.as_slice())?;
    to.write_all(&account.nonce.to_le_bytes())?;
    to.write_all(&account.balance.to_be_bytes::<32>())?;
    let code = account.code.original_bytes();
    to.write_all(&(code.len() as u64).to_le_bytes())?;
    to.write_all(&code)?;
    let mut slots = Vec::new();
    account.storage.for_each(&mut |slot, value| slots.push((slot, *value)));
    to.write_all(&(slots.len() as u64).to_le_bytes())?;
    for (slot, value) in slots {
        to.write_all(slot.as_slice())?;
        to.write_all(&value.to_be_bytes::<32>())?;
    }
    Ok(())
}

/// The last dump of the state and the block that it belongs to. Its root says whether it is whole, which the caller checks.
pub(crate) fn read_state(folder: &Path) -> io::Result<(B256, State)> {
    let mut file = BufReader::new(File::open(folder.join("state"))?);
    let file = &mut file;
    let block = B256::from(read_array(file)?);
    let mut state = State::default();
    let mut key = [0; 32];
    while fill(file, &mut key)? {
        let mut account = Account {
            nonce: u64::from_le_bytes(read_array(file)?),
            balance: U256::from_be_bytes(read_array::<32>(file)?),
            ..Account::default()
        };
        let length = u64::from_le_bytes(read_array(file)?);
        if length > CODE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut code = Vec::new();
        file.take(length).read_to_end(&mut code)?;
        if !code.is_empty() {
            account.code_hash = keccak256(&code);
            account.code =
                Bytecode::new_raw_checked(code.into()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        }
        for _ in 0..u64::from_le_bytes(read_array(file)?) {
            let slot = B256::from(read_array(file)?);
            account.storage.insert(&slot, U256::from_be_bytes(read_array::<32>(file)?));
        }
        state.put(key.into(), account);
    }
    Ok((block, state))
}

fn read_array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
