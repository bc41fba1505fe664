//! Which transactions does L1 force into a block?
//!
//! A `TransactionDeposited` event of the portal becomes a deposit transaction at the beginning of the first block that adopts
//! the event's L1 block (specs, Deposits). Derived by everybody alike, so never in a batch.
//!
//! `0x7e || rlp([source, from, to, mint, value, gas, is_system, data])`

use alloy_primitives::{Address, B256, U256, b256, keccak256};
use alloy_rlp::{Encodable, Header};

use crate::{DecodeError, poster::Log};

/// Type of a deposit transaction.
pub const DEPOSIT: u8 = 0x7e;

/// `TransactionDeposited(address,address,uint256,bytes)`.
pub(super) const TRANSACTION_DEPOSITED: B256 =
    b256!("b3813568d9991fc951961fcb4c784893574240a28925604d09fc577c55bb7c32");

/// A transaction without a signature, which L1 vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// What makes it unique.
    pub source: B256,
    /// Who it is from.
    pub from: Address,
    /// Where it goes; `None` creates a contract.
    pub to: Option<Address>,
    /// ETH that it brings along.
    pub mint: U256,
    /// ETH that it sends.
    pub value: U256,
    /// Gas that was paid for on L1.
    pub gas: u64,
    /// Calldata.
    pub data: Vec<u8>,
}

impl Deposit {
    /// The transaction's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut list = Vec::with_capacity(self.data.len() + 180);
        self.source.encode(&mut list);
        self.from.encode(&mut list);
        self.to.as_ref().map_or(&[][..], |to| to.as_slice()).encode(&mut list);
        self.mint.encode(&mut list);
        self.value.encode(&mut list);
        self.gas.encode(&mut list);
        // A system transaction that takes no gas: none since Regolith.
        false.encode(&mut list);
        self.data.as_slice().encode(&mut list);
        let mut out = vec![DEPOSIT];
        Header { list: true, payload_length: list.len() }.encode(&mut out);
        out.extend_from_slice(&list);
        out
    }

    /// The deposit that an event of the portal asks for. The portal writes no malformed ones: if there is one, its address is
    /// configured wrong, and going on would fork the chain.
    pub fn from_log(log: &Log) -> Result<Self, DecodeError> {
        let invalid = |reason| DecodeError::Invalid { what: "TransactionDeposited", reason };
        let [event, from, to, version] = log.topics.as_slice() else {
            return Err(invalid("not three indexed arguments"));
        };
        if *event != TRANSACTION_DEPOSITED || !version.is_zero() {
            return Err(invalid("another event, or another version than 0"));
        }
        let opaque = abi_bytes(&log.data).ok_or_else(|| invalid("not one argument of type bytes"))?;
        // mint 32, value 32, gas 8, is_creation 1, data.
        let (fixed, data) = opaque.split_at_checked(73).ok_or(DecodeError::Truncated("TransactionDeposited"))?;
        Ok(Self {
            source: source_of_user(log.block_hash, log.log_index.to()),
            from: Address::from_word(*from),
            to: (fixed[72] == 0).then(|| Address::from_word(*to)),
            mint: U256::from_be_slice(&fixed[..32]),
            value: U256::from_be_slice(&fixed[32..64]),
            gas: u64::from_be_bytes(fixed[64..72].try_into().expect("eight bytes")),
            data: data.to_vec(),
        })
    }
}

/// Source of a user's deposit: domain 0, its L1 block and its place there.
fn source_of_user(block: B256, log_index: u64) -> B256 {
    source(0, block, log_index)
}

/// Source of the L1-info transaction: domain 1, the L1 block and the sequence number.
pub(super) fn source_of_l1_info(block: B256, sequence_number: u64) -> B256 {
    source(1, block, sequence_number)
}

fn source(domain: u64, block: B256, index: u64) -> B256 {
    let word = |number: u64| B256::left_padding_from(&number.to_be_bytes());
    let deposit = keccak256([block, word(index)].concat());
    keccak256([word(domain), deposit].concat())
}

/// The content of the only argument, of type `bytes`.
fn abi_bytes(data: &[u8]) -> Option<&[u8]> {
    let number = |word: &[u8]| {
        let (zeros, number) = word.split_at_checked(24)?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        zeros.iter().all(|byte| *byte == 0).then_some(number)
    };
    if number(data.get(..32)?)? != 32 {
        return None;
    }
    let length = usize::try_from(number(data.get(32..64)?)?).ok()?;
    data.get(64..)?.get(..length)
}
