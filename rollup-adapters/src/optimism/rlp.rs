//! A strict RLP reader that hands out slices: canonical forms only, nothing is copied or allocated.
//!
//! Writing is `alloy_rlp`'s.

use alloy_rlp::{Error, Header};

/// The items of a list, or of a plain concatenation of items, that are still to be read.
#[derive(Clone, Copy)]
pub(super) struct Items<'a>(pub(super) &'a [u8]);

/// One item.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) is_list: bool,
    pub(super) payload: &'a [u8],
    /// Header and payload.
    pub(super) raw: &'a [u8],
}

impl<'a> Items<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn item(&mut self) -> Result<Item<'a>, Error> {
        let start = self.0;
        let mut rest = start;
        let header = Header::decode(&mut rest)?;
        let (payload, rest) = rest.split_at_checked(header.payload_length).ok_or(Error::InputTooShort)?;
        let raw = start.get(..start.len() - rest.len()).ok_or(Error::InputTooShort)?;
        self.0 = rest;
        Ok(Item { is_list: header.list, payload, raw })
    }

    pub(super) fn list(&mut self) -> Result<Item<'a>, Error> {
        let item = self.item()?;
        if item.is_list { Ok(item) } else { Err(Error::UnexpectedString) }
    }

    pub(super) fn string(&mut self) -> Result<Item<'a>, Error> {
        let item = self.item()?;
        if item.is_list { Err(Error::UnexpectedList) } else { Ok(item) }
    }

    /// An unsigned integer of at most `bytes_max` bytes, without leading zeros.
    pub(super) fn integer(&mut self, bytes_max: usize) -> Result<Item<'a>, Error> {
        let item = self.string()?;
        match item.payload {
            [0, ..] => Err(Error::LeadingZero),
            bytes if bytes.len() > bytes_max => Err(Error::Overflow),
            _ => Ok(item),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, Error> {
        let item = self.integer(8)?;
        Ok(item.payload.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// An unsigned 256-bit integer, left-padded.
    pub(super) fn word(&mut self) -> Result<[u8; 32], Error> {
        let item = self.integer(32)?;
        let mut word = [0; 32];
        if let Some(tail) = word.get_mut(32 - item.payload.len()..) {
            tail.copy_from_slice(item.payload);
        }
        Ok(word)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let item = self.string()?;
        item.payload.try_into().map_err(|_| Error::UnexpectedLength)
    }

    pub(super) fn end(&self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::UnexpectedLength) }
    }
}
