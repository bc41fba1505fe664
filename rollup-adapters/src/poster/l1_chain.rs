//! Which recent blocks of L1 form one chain, and how far did a reorganisation take it back?
//!
//! Headers are taken over only where they link by their parents' hashes, so what is held is a chain even while the node
//! switches between two. Content of blocks is fetched elsewhere, by hash.

use std::collections::VecDeque;

use lockstep_protocol::header::L1Origin;

use super::{
    l1::{L1, L1Header},
    rpc::RpcError,
};
use crate::{AdapterError, L1View};

/// Headers kept at most: more than a sequencer drift of 1,800 s and the deepest reorganisation that is followed.
const HEADERS_MAX: usize = 1_024;
/// Headers fetched by one refresh, so that a caller far behind still gets to do something else.
pub(crate) const FETCH_MAX: usize = 256;

/// What a refresh found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Headers added.
    pub added: usize,
    /// Headers that turned out to be no longer on the chain.
    pub removed: usize,
}

/// A contiguous, linked piece of L1, from a first block to the latest known one.
#[derive(Debug)]
pub struct L1Chain {
    first: u64,
    headers: VecDeque<L1Header>,
}

impl L1Chain {
    /// A chain that begins with block `first`; empty until it is refreshed.
    pub fn new(first: u64) -> Self {
        Self { first, headers: VecDeque::new() }
    }

    /// The number of the first block.
    pub fn first(&self) -> u64 {
        self.headers.front().map_or(self.first, |header| header.number)
    }

    /// The latest known header.
    pub fn last(&self) -> Option<&L1Header> {
        self.headers.back()
    }

    /// The header with this number.
    pub fn get(&self, number: u64) -> Option<&L1Header> {
        let index = usize::try_from(number.checked_sub(self.headers.front()?.number)?).ok()?;
        self.headers.get(index)
    }

    /// Whether this block is on the chain; `None` where the chain does not reach.
    pub fn holds(&self, origin: &L1Origin) -> Option<bool> {
        self.get(origin.number).map(|header| header.hash.0 == origin.hash.0)
    }

    /// Forgets what is before `number`. Needs more than the deepest reorganisation to stay.
    pub fn forget_before(&mut self, number: u64) {
        while self.headers.front().is_some_and(|header| header.number < number) && self.headers.len() > 1 {
            self.headers.pop_front();
        }
    }

    /// The chain as adapters take it.
    pub fn view(&self) -> Result<L1View, AdapterError> {
        L1View::new(self.headers.iter().map(L1Header::origin).collect())
    }

    /// Follows the node: drops what it no longer has, and adds what is new, up to [`FETCH_MAX`] blocks and to number `until`.
    ///
    /// The oldest headers give way to new ones, so `until` should be near to what is needed next.
    pub async fn refresh(&mut self, l1: &L1, until: u64) -> Result<Refreshed, RpcError> {
        let mut refreshed = Refreshed::default();
        let latest = l1.latest().await?;
        // A shorter chain may be another one, so the end is checked first.
        while let Some(last) = self.headers.back() {
            if last.hash == latest.hash {
                return Ok(refreshed);
            }
            let kept = last.number <= latest.number
                && l1.header(last.number).await?.is_some_and(|header| header.hash == last.hash);
            if kept {
                break;
            }
            self.headers.pop_back();
            refreshed.removed += 1;
        }
        while refreshed.added < FETCH_MAX {
            let number = self.headers.back().map_or(self.first, |last| last.number.saturating_add(1));
            if number > latest.number.min(until) {
                break;
            }
            let header = if number == latest.number { Some(latest.clone()) } else { l1.header(number).await? };
            let Some(header) = header else { break };
            if !self.push(header) {
                // The node switched chains in between: the next refresh finds out how far back.
                break;
            }
            refreshed.added += 1;
        }
        Ok(refreshed)
    }

    /// Takes a header over if it follows the last.
    fn push(&mut self, header: L1Header) -> bool {
        let follows = self
            .headers
            .back()
            .is_none_or(|last| last.hash == header.parent_hash && last.number.checked_add(1) == Some(header.number));
        if follows {
            self.headers.push_back(header);
            if self.headers.len() > HEADERS_MAX {
                self.headers.pop_front();
            }
        }
        follows
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn header(number: u64, fork: u8) -> L1Header {
        let hash = |number: u64, fork| B256::left_padding_from(&[&[fork], &number.to_be_bytes()[..]].concat());
        L1Header {
            number,
            hash: hash(number, fork),
            parent_hash: hash(number.wrapping_sub(1), fork),
            timestamp: number * 12,
            ..Default::default()
        }
    }

    #[test]
    fn only_linked_headers_are_taken_over() {
        let mut chain = L1Chain::new(5);
        assert!(chain.push(header(5, 0)) && chain.push(header(6, 0)));
        assert!(!chain.push(header(7, 1)), "of another chain");
        assert!(!chain.push(header(8, 0)), "one is missing");
        assert!(chain.push(header(7, 0)));
        assert_eq!((chain.first(), chain.last().map(|last| last.number)), (5, Some(7)));
        assert_eq!(chain.holds(&header(6, 0).origin()), Some(true));
        assert_eq!(chain.holds(&header(6, 1).origin()), Some(false));
        assert_eq!(chain.holds(&header(9, 0).origin()), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut chain = L1Chain::new(0);
        for number in 0..3_000 {
            assert!(chain.push(header(number, 0)));
        }
        assert_eq!(chain.headers.len(), HEADERS_MAX);
        chain.forget_before(u64::MAX);
        assert_eq!(chain.last().map(|last| last.number), Some(2_999), "the last one stays");
    }
}
