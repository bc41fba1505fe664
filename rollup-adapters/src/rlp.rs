//! A strict RLP reader that hands out slices: canonical forms only, nothing is copied or allocated.
//!
//! Writing is `alloy_rlp`'s.

use alloy_rlp::{Error, Header};

/// The items of a list, or of a plain concatenation of items, that are still to be read.
#[derive(Clone, Copy)]
pub(crate) struct Items<'a>(pub(crate) &'a [u8]);

/// One item.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) is_list: bool,
    pub(crate) payload: &'a [u8],
    /// Header and payload.
    pub(crate) raw: &'a [u8],
}

impl<'a> Items<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn item(&mut self) -> Result<Item<'a>, Error> {
        let start = self.0;
        let mut rest = start;
        let header = Header::decode(&mut rest)?;
        let (payload, rest) = rest.split_at_checked(header.payload_length).ok_or(Error::InputTooShort)?;
        let raw = start.get(..start.len() - rest.len()).ok_or(Error::InputTooShort)?;
        self.0 = rest;
        Ok(Item { is_list: header.list, payload, raw })
    }

    pub(crate) fn list(&mut self) -> Result<Item<'a>, Error> {
        let item = self.item()?;
        if item.is_list { Ok(item) } else { Err(Error::UnexpectedString) }
    }

    pub(crate) fn string(&mut self) -> Result<Item<'a>, Error> {
        let item = self.item()?;
        if item.is_list { Err(Error::UnexpectedList) } else { Ok(item) }
    }

    /// An unsigned integer of at most `bytes_max` bytes, without leading zeros.
    pub(crate) fn integer(&mut self, bytes_max: usize) -> Result<Item<'a>, Error> {
        let item = self.string()?;
        match item.payload {
            [0, ..] => Err(Error::LeadingZero),
            bytes if bytes.len() > bytes_max => Err(Error::Overflow),
            _ => Ok(item),
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, Error> {
        let item = self.integer(8)?;
        Ok(item.payload.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// An unsigned 256-bit integer, left-padded.
    pub(crate) fn word(&mut self) -> Result<[u8; 32], Error> {
        let item = self.integer(32)?;
        let mut word = [0; 32];
        if let Some(tail) = word.get_mut(32 - item.payload.len()..) {
            tail.copy_from_slice(item.payload);
        }
        Ok(word)
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let item = self.string()?;
        item.payload.try_into().map_err(|_| Error::UnexpectedLength)
    }

    pub(crate) fn end(&self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::UnexpectedLength) }
    }
}
