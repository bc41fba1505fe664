//! The bytes of a span batch: many L2 blocks, their transactions in columns.
//!
//! `0x01 || prefix || payload` (specs, Delta, "Span batch format"):
//!
//! ```text
//! prefix  = rel_timestamp || l1_origin_num || parent_check[20] || l1_origin_check[20]
//! payload = block_count || origin_bits || block_tx_counts || txs
//! txs     = contract_creation_bits || y_parity_bits || tx_sigs || tx_tos || tx_datas || tx_nonces || tx_gases
//!           || protected_bits
//! ```
//!
//! Numbers are unsigned LEB128. A bit list is a big-endian integer, bit `i` being block or transaction `i`, in as few
//! whole bytes as hold all bits. Reading is strict: shortest numbers, no stray bits, canonical transactions; so whatever
//! is read is written back to the same bytes.

use std::ops::Range;

use alloy_rlp::{Encodable, Header};

use crate::{
    AdapterError, DecodeError,
    rlp::Items,
    transaction::{self, EIP1559, EIP2930, EIP7702},
};

/// First byte of a span batch.
pub(super) const SPAN: u8 = 1;

/// Blocks of a span, transactions of a block, transactions of a span (specs, Fjord: `MAX_SPAN_BATCH_ELEMENT_COUNT`).
pub const SPAN_ELEMENTS_MAX: u64 = 10_000_000;

const SIGNATURE_BYTES: usize = 64;
const ADDRESS_BYTES: usize = 20;

/// Consecutive L2 blocks, as posted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanBatch {
    /// Timestamp of the first block minus that of the L2 genesis, seconds.
    pub relative_timestamp: u64,
    /// Number of the last block's L1 origin.
    pub l1_origin_number: u64,
    /// First 20 bytes of the hash of the first block's parent.
    pub parent_check: [u8; 20],
    /// First 20 bytes of the hash of the last block's L1 origin.
    pub l1_origin_check: [u8; 20],
    /// The blocks, in order.
    pub blocks: Vec<SpanBlock>,
}

/// One block of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanBlock {
    /// Whether its L1 origin is the one after its parent's.
    pub origin_changed: bool,
    /// Its transactions without the derived ones.
    pub transactions: Vec<Vec<u8>>,
}

/// A span batch's bytes.
pub(super) struct EncodedSpan {
    /// With the type byte.
    pub(super) bytes: Vec<u8>,
    /// The parities and signatures: to a compressor, noise.
    pub(super) random: Range<usize>,
}

impl SpanBatch {
    /// The batch with its type byte. Every transaction must have passed [`super::check`] for this chain.
    pub fn encode(&self, chain: u64) -> Result<Vec<u8>, AdapterError> {
        let blocks = self.blocks.iter().map(|block| (block.origin_changed, block.transactions.as_slice()));
        let prefix = SpanPrefix {
            relative_timestamp: self.relative_timestamp,
            l1_origin_number: self.l1_origin_number,
            parent_check: self.parent_check,
            l1_origin_check: self.l1_origin_check,
        };
        encode_blocks(&prefix, blocks, chain).map(|encoded| encoded.bytes)
    }

    /// Reads what follows the type byte. `chain` is the chain id that the transactions get back.
    pub fn decode(bytes: &[u8], chain: u64) -> Result<Self, DecodeError> {
        let mut input = Reader(bytes);
        let relative_timestamp = input.varint()?;
        let l1_origin_number = input.varint()?;
        let parent_check = input.array()?;
        let l1_origin_check = input.array()?;
        // Every block has at least one byte, its count of transactions.
        let block_count = input.count("blocks of a span", 1)?;
        if block_count == 0 {
            return Err(DecodeError::Invalid { what: "span batch", reason: "no blocks" });
        }
        let origins = input.bits(block_count)?;
        let mut counts = Vec::with_capacity(block_count);
        let mut total = 0usize;
        for _ in 0..block_count {
            let count = input.count("transactions of a block", SIGNATURE_BYTES)?;
            total = total.saturating_add(count);
            counts.push(count);
        }
        let mut transactions = read_transactions(&mut input, total, chain)?.into_iter();
        if !input.0.is_empty() {
            return Err(DecodeError::Trailing("span batch"));
        }
        let blocks = counts
            .into_iter()
            .enumerate()
            .map(|(index, count)| SpanBlock {
                origin_changed: origins.get(index),
                transactions: transactions.by_ref().take(count).collect(),
            })
            .collect();
        Ok(Self { relative_timestamp, l1_origin_number, parent_check, l1_origin_check, blocks })
    }
}

/// What a span batch says before its blocks. Fields as in [`SpanBatch`].
pub(super) struct SpanPrefix {
    pub(super) relative_timestamp: u64,
    pub(super) l1_origin_number: u64,
    pub(super) parent_check: [u8; 20],
    pub(super) l1_origin_check: [u8; 20],
}

/// A span batch of blocks given by whether they change the origin and by their transactions.
pub(super) fn encode_blocks<'a>(
    prefix: &SpanPrefix,
    blocks: impl Iterator<Item = (bool, &'a [Vec<u8>])>,
    chain: u64,
) -> Result<EncodedSpan, AdapterError> {
    let mut columns = Writer::default();
    let mut counts = Vec::new();
    let mut origins = Bits::default();
    for (origin_changed, transactions) in blocks {
        put_varint(&mut counts, transactions.len() as u64);
        for bytes in transactions {
            columns.put(bytes, chain).map_err(|_| AdapterError::Block {
                number: origins.len as u64,
                rule: "a transaction of this block of the span cannot be in a span batch",
            })?;
        }
        origins.push(origin_changed);
    }
    let elements = origins.len.max(columns.creations.len) as u64;
    if elements > SPAN_ELEMENTS_MAX {
        return Err(AdapterError::Limit { what: "elements of a span", limit: SPAN_ELEMENTS_MAX, found: elements });
    }
    let mut out = Vec::with_capacity(128 + counts.len() + columns.size());
    out.push(SPAN);
    put_varint(&mut out, prefix.relative_timestamp);
    put_varint(&mut out, prefix.l1_origin_number);
    out.extend_from_slice(&prefix.parent_check);
    out.extend_from_slice(&prefix.l1_origin_check);
    put_varint(&mut out, origins.len as u64);
    origins.write(&mut out);
    out.extend_from_slice(&counts);
    let random = columns.write(&mut out);
    Ok(EncodedSpan { bytes: out, random })
}

fn read_transactions(input: &mut Reader<'_>, total: usize, chain: u64) -> Result<Vec<Vec<u8>>, DecodeError> {
    input.room("transactions of a span", total as u64, SIGNATURE_BYTES)?;
    let creations = input.bits(total)?;
    let parities = input.bits(total)?;
    let signatures = input.take(total * SIGNATURE_BYTES)?;
    let tos = input.take((total - creations.ones()) * ADDRESS_BYTES)?;
    let mut datas = Vec::with_capacity(total);
    for _ in 0..total {
        datas.push(input.row()?);
    }
    let nonces = (0..total).map(|_| input.varint()).collect::<Result<Vec<_>, _>>()?;
    let gases = (0..total).map(|_| input.varint()).collect::<Result<Vec<_>, _>>()?;
    let legacies = datas.iter().filter(|row| row.kind.is_none()).count();
    let protections = input.bits(legacies)?;

    let mut tos = tos.chunks_exact(ADDRESS_BYTES);
    let mut legacy = 0;
    let mut transactions = Vec::with_capacity(total);
    let rows = datas.iter().zip(signatures.chunks_exact(SIGNATURE_BYTES)).zip(nonces.iter().zip(&gases));
    for (index, ((row, signature), (nonce, gas))) in rows.enumerate() {
        let to = if creations.get(index) { &[][..] } else { tos.next().unwrap_or_default() };
        let chain_of_legacy = match row.kind {
            Some(_) => None,
            None => {
                legacy += 1;
                protections.get(legacy - 1).then_some(chain)
            }
        };
        let bytes = join(row, *nonce, *gas, to, parities.get(index), signature, chain, chain_of_legacy)
            .map_err(DecodeError::rlp("transaction of a span"))?;
        // The row came from outside: only what could have been split into it may come out of it.
        transaction::check(&bytes, chain)
            .map_err(|_| DecodeError::Invalid { what: "transaction of a span", reason: "not canonical" })?;
        transactions.push(bytes);
    }
    Ok(transactions)
}

/// A transaction's row in `tx_datas`.
struct Row<'a> {
    kind: Option<u8>,
    items: &'a [u8],
}

/// Puts a transaction together again. Field order as in `transaction.rs`.
#[allow(clippy::too_many_arguments, reason = "one argument a column")]
fn join(
    row: &Row<'_>,
    nonce: u64,
    gas: u64,
    to: &[u8],
    y_parity: bool,
    signature: &[u8],
    chain: u64,
    chain_of_legacy: Option<u64>,
) -> Result<Vec<u8>, alloy_rlp::Error> {
    let mut items = Items(row.items);
    let value = items.item()?.raw;
    let (r, s) = signature.split_at(32);
    let mut list = Vec::with_capacity(row.items.len() + 160);
    match row.kind {
        None => {
            let price = items.item()?.raw;
            nonce.encode(&mut list);
            list.extend_from_slice(price);
            gas.encode(&mut list);
            to.encode(&mut list);
            list.extend_from_slice(value);
            list.extend_from_slice(items.0);
            let v = match chain_of_legacy {
                // 128 bits, because a chain id may have all 64; such a transaction is then refused as not canonical.
                Some(chain) => u128::from(chain) * 2 + 35 + u128::from(y_parity),
                None => 27 + u128::from(y_parity),
            };
            v.encode(&mut list);
        }
        Some(kind) => {
            let fees_from = items.0;
            items.item()?;
            if kind != EIP2930 {
                items.item()?;
            }
            let fees = &fees_from[..fees_from.len() - items.0.len()];
            chain.encode(&mut list);
            nonce.encode(&mut list);
            list.extend_from_slice(fees);
            gas.encode(&mut list);
            to.encode(&mut list);
            list.extend_from_slice(value);
            list.extend_from_slice(items.0);
            y_parity.encode(&mut list);
        }
    }
    minimal(r).encode(&mut list);
    minimal(s).encode(&mut list);
    let mut out = Vec::with_capacity(list.len() + 10);
    out.extend(row.kind);
    Header { list: true, payload_length: list.len() }.encode(&mut out);
    out.extend_from_slice(&list);
    Ok(out)
}

fn minimal(word: &[u8]) -> &[u8] {
    let zeros = word.iter().take_while(|byte| **byte == 0).count();
    &word[zeros..]
}

/// The columns of all transactions, growing.
#[derive(Default)]
struct Writer {
    creations: Bits,
    parities: Bits,
    signatures: Vec<u8>,
    tos: Vec<u8>,
    datas: Vec<u8>,
    nonces: Vec<u8>,
    gases: Vec<u8>,
    protections: Bits,
}

impl Writer {
    fn put(&mut self, bytes: &[u8], chain: u64) -> Result<(), crate::SkipReason> {
        let columns = transaction::columns(bytes, chain)?;
        self.creations.push(columns.to.is_none());
        self.parities.push(columns.y_parity);
        self.signatures.extend_from_slice(&columns.r);
        self.signatures.extend_from_slice(&columns.s);
        self.tos.extend_from_slice(columns.to.as_ref().map_or(&[], |to| to.as_slice()));
        self.datas.extend(columns.kind);
        let payload_length = columns.rest.iter().map(|items| items.len()).sum();
        Header { list: true, payload_length }.encode(&mut self.datas);
        columns.rest.iter().for_each(|items| self.datas.extend_from_slice(items));
        put_varint(&mut self.nonces, columns.nonce);
        put_varint(&mut self.gases, columns.gas);
        if columns.kind.is_none() {
            self.protections.push(columns.protected);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        let bits = self.creations.len / 8 * 3 + 3;
        bits + self.signatures.len() + self.tos.len() + self.datas.len() + self.nonces.len() + self.gases.len()
    }

    /// Writes the columns and says where the random ones are.
    fn write(&self, out: &mut Vec<u8>) -> Range<usize> {
        self.creations.write(out);
        let start = out.len();
        self.parities.write(out);
        out.extend_from_slice(&self.signatures);
        let end = out.len();
        for column in [&self.tos, &self.datas, &self.nonces, &self.gases] {
            out.extend_from_slice(column);
        }
        self.protections.write(out);
        start..end
    }
}

/// A bit list, kept with its least significant byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.len % 8);
        }
        self.len += 1;
    }

    fn get(&self, index: usize) -> bool {
        self.bytes.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    fn ones(&self) -> usize {
        self.bytes.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.bytes.iter().rev());
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated("span batch"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Truncated("span batch"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            match byte {
                0 if shift > 0 => break,
                0..0x80 => return Ok(value),
                _ => {}
            }
        }
        Err(DecodeError::Invalid { what: "number of a span batch", reason: "not the shortest form of 64 bits" })
    }

    /// A number of elements, each of which takes at least `element_bytes` of what is still to be read.
    fn count(&mut self, what: &'static str, element_bytes: usize) -> Result<usize, DecodeError> {
        let count = self.varint()?;
        self.room(what, count, element_bytes)
    }

    fn room(&self, what: &'static str, count: u64, element_bytes: usize) -> Result<usize, DecodeError> {
        if count > SPAN_ELEMENTS_MAX {
            return Err(DecodeError::Limit { what, limit: SPAN_ELEMENTS_MAX, found: count });
        }
        let room = self.0.len() / element_bytes;
        usize::try_from(count).ok().filter(|count| *count <= room).ok_or(DecodeError::Truncated(what))
    }

    fn bits(&mut self, len: usize) -> Result<Bits, DecodeError> {
        let bytes: Vec<u8> = self.take(len.div_ceil(8))?.iter().rev().copied().collect();
        let stray = bytes.last().is_some_and(|last| !len.is_multiple_of(8) && last >> (len % 8) != 0);
        if stray {
            return Err(DecodeError::Invalid { what: "bit list of a span batch", reason: "bits beyond its length" });
        }
        Ok(Bits { bytes, len })
    }

    fn row(&mut self) -> Result<Row<'a>, DecodeError> {
        let kind = match self.0.first() {
            None => return Err(DecodeError::Truncated("span batch")),
            Some(kind @ (&EIP2930 | &EIP1559 | &EIP7702)) => Some(*kind),
            Some(list) if *list >= 0xc0 => None,
            Some(other) => return Err(DecodeError::Version { what: "transaction of a span", found: *other }),
        };
        self.take(usize::from(kind.is_some()))?;
        let mut items = Items(self.0);
        let list = items.list().map_err(DecodeError::rlp("transaction of a span"))?;
        self.0 = items.0;
        Ok(Row { kind, items: list.payload })
    }
}
