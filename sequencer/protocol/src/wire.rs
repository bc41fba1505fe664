//! Versioned envelopes: how a message becomes bytes, and which bytes are refused.
//!
//! An envelope is one version byte and the borsh form of the message. Lengths are checked before anything is allocated:
//! the whole against `Wire::MAX_BYTES`, every list against its own bound while it is read.

use borsh::{
    BorshDeserialize, BorshSerialize,
    io::{Error, ErrorKind, Read, Result as IoResult},
};

/// Version of every envelope. A change of any golden vector changes it.
pub const WIRE_VERSION: u8 = 1;

/// Why bytes are not the message that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No bytes at all.
    #[error("empty message")]
    Empty,
    /// More bytes than the message may have.
    #[error("message of {found} bytes, at most {max} are allowed")]
    TooLong {
        /// The bound.
        max: usize,
        /// Bytes received.
        found: usize,
    },
    /// A version that this software does not speak.
    #[error("wire version {0}, this software speaks {WIRE_VERSION}")]
    Version(u8),
    /// The bytes are not the borsh form of the message.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// A message with an envelope and a size limit.
pub trait Wire: BorshSerialize + BorshDeserialize {
    /// Longest envelope.
    const MAX_BYTES: usize;

    /// The envelope of the message.
    fn to_wire(&self) -> Vec<u8> {
        let mut bytes = vec![WIRE_VERSION];
        self.serialize(&mut bytes).expect("writing to memory does not fail");
        bytes
    }

    /// The message in an envelope.
    fn from_wire(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(WireError::TooLong { max: Self::MAX_BYTES, found: bytes.len() });
        }
        let (version, message) = bytes.split_first().ok_or(WireError::Empty)?;
        if *version != WIRE_VERSION {
            return Err(WireError::Version(*version));
        }
        Self::try_from_slice(message).map_err(|error| WireError::Malformed(error.to_string()))
    }
}

/// Reads a list of at most `MAX` items; the bound is checked before the first is read.
pub(crate) fn list<T: BorshDeserialize, R: Read, const MAX: usize>(reader: &mut R) -> IoResult<Vec<T>> {
    let length = length::<R, MAX>(reader)?;
    // An item has at least one byte, but its memory may be larger: grow as items arrive.
    let mut items = Vec::new();
    for _ in 0..length {
        items.push(T::deserialize_reader(reader)?);
    }
    Ok(items)
}

/// Reads at most `MAX` bytes; the bound is checked before they are allocated.
pub(crate) fn bytes<R: Read, const MAX: usize>(reader: &mut R) -> IoResult<Vec<u8>> {
    let length = length::<R, MAX>(reader)?;
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn length<R: Read, const MAX: usize>(reader: &mut R) -> IoResult<usize> {
    let length = u32::deserialize_reader(reader)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX {
        return Err(Error::new(ErrorKind::InvalidData, format!("length {length}, at most {MAX} is allowed")));
    }
    Ok(length)
}
