//! How are calls to contracts and their answers written, as far as Nitro's need it (Solidity ABI)?
//!
//! Words of 32 bytes, one string of bytes at most. Nothing nested.

use alloy_primitives::{Address, B256, U256, keccak256};

const WORD: usize = 32;

/// A call in the making.
pub(super) struct Call {
    head: Vec<u8>,
    tail: Option<(usize, Vec<u8>)>,
}

impl Call {
    /// A call of the function with this signature.
    pub(super) fn new(signature: &str) -> Self {
        Self { head: keccak256(signature)[..4].to_vec(), tail: None }
    }

    /// Adds an unsigned integer.
    pub(super) fn number(self, number: u64) -> Self {
        self.word(B256::from(U256::from(number)))
    }

    /// Adds an address.
    pub(super) fn address(self, address: Address) -> Self {
        self.word(address.into_word())
    }

    /// Adds a word.
    pub(super) fn word(mut self, word: B256) -> Self {
        self.head.extend_from_slice(word.as_slice());
        self
    }

    /// Adds a string of bytes; it may be the only one.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.tail = Some((self.head.len(), bytes.to_vec()));
        self.word(B256::ZERO)
    }

    /// The calldata.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if let Some((place, bytes)) = self.tail.take() {
            let offset = U256::from(self.head.len() - 4).to_be_bytes::<WORD>();
            self.head[place..place + WORD].copy_from_slice(&offset);
            self.head.extend_from_slice(&U256::from(bytes.len()).to_be_bytes::<WORD>());
            self.head.extend_from_slice(&bytes);
            self.head.resize(self.head.len() + bytes.len().next_multiple_of(WORD) - bytes.len(), 0);
        }
        self.head
    }
}

/// Words of an answer or an event.
pub(super) struct Words<'a>(pub(super) &'a [u8]);

impl<'a> Words<'a> {
    pub(super) fn word(&self, index: usize) -> Option<B256> {
        let start = index.checked_mul(WORD)?;
        self.0.get(start..start.checked_add(WORD)?).map(B256::from_slice)
    }

    /// A number that fits 64 bits.
    pub(super) fn number(&self, index: usize) -> Option<u64> {
        small(&self.word(index)?)
    }

    pub(super) fn address(&self, index: usize) -> Option<Address> {
        let word = self.word(index)?;
        word[..12].iter().all(|byte| *byte == 0).then(|| Address::from_word(word))
    }

    /// The string of bytes whose place is in word `index`.
    #[cfg(feature = "run")]
    pub(super) fn bytes(&self, index: usize) -> Option<&'a [u8]> {
        let start = usize::try_from(self.number(index)?).ok()?;
        let rest = self.0.get(start..)?;
        let length = usize::try_from(Words(rest).number(0)?).ok()?;
        rest.get(WORD..WORD.checked_add(length)?)
    }
}

/// A word as a number of 64 bits, if it is one.
pub(super) fn small(word: &B256) -> Option<u64> {
    u64::try_from(U256::from_be_bytes(word.0)).ok()
}
