//! Which Ethereum transactions may stand in a rollup's batch, and what are their parts?
//!
//! One that is not canonical, is for another chain, or has a type that only the rollup itself makes could change on the way or
//! cost the whole batch. It is found here, before it gets near one. Signatures, nonces and balances are execution's to
//! judge.

use alloy_rlp::Error;

use crate::{SkipReason, rlp::Items};

/// Transaction types (EIP-2718). Blob transactions (3) are not accepted by rollups, and types above are the rollup's own.
pub(crate) const EIP2930: u8 = 1;
pub(crate) const EIP1559: u8 = 2;
pub(crate) const EIP7702: u8 = 4;

/// First byte from which on an RLP list starts, that is, a legacy transaction.
const LEGACY_FROM: u8 = 0xc0;

/// Fees per gas are 128-bit in the clients that derive (alloy's types).
const FEE_BYTES_MAX: usize = 16;

/// A transaction in parts: those that a span batch keeps in columns, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Columns<'a> {
    /// `None` for a legacy transaction.
    pub(crate) kind: Option<u8>,
    pub(crate) nonce: u64,
    pub(crate) gas: u64,
    /// `None` creates a contract.
    pub(crate) to: Option<[u8; 20]>,
    pub(crate) y_parity: bool,
    pub(crate) r: [u8; 32],
    pub(crate) s: [u8; 32],
    /// Whether a legacy transaction names its chain (EIP-155). True for all others.
    pub(crate) protected: bool,
    /// RLP items of what stays a row: value, fees, data, and the lists of the type. Each slice holds whole items.
    pub(crate) rest: [&'a [u8]; 3],
}

/// Whether `transaction` may stand in a batch of `chain`.
pub fn check(transaction: &[u8], chain: u64) -> Result<(), SkipReason> {
    columns(transaction, chain).map(|_| ())
}

/// Splits `transaction` into columns, or says why it can be in no batch of `chain`.
pub(crate) fn columns(transaction: &[u8], chain: u64) -> Result<Columns<'_>, SkipReason> {
    let (kind, body) = match transaction {
        [] => return Err(SkipReason::Empty),
        [kind @ (EIP2930 | EIP1559 | EIP7702), body @ ..] => (Some(*kind), body),
        [first, ..] if *first >= LEGACY_FROM => (None, transaction),
        [first, ..] => return Err(SkipReason::Type(*first)),
    };
    let mut outer = Items(body);
    let list = outer.list().map_err(|_| SkipReason::Malformed("not an RLP list"))?;
    outer.end().map_err(|_| SkipReason::Malformed("bytes after the transaction"))?;
    let mut fields = Items(list.payload);
    let split = match kind {
        None => legacy(&mut fields),
        Some(kind) => typed(&mut fields, kind),
    };
    let (columns, signed_for) = split.map_err(|_| SkipReason::Malformed("a field is not canonical"))?;
    fields.end().map_err(|_| SkipReason::Malformed("too many fields"))?;
    match signed_for {
        Some(other) if other != chain => Err(SkipReason::Chain(other)),
        _ => Ok(columns),
    }
}

type Split<'a> = Result<(Columns<'a>, Option<u64>), Error>;

// nonce, gas price, gas, to, value, data, v, r, s
fn legacy<'a>(fields: &mut Items<'a>) -> Split<'a> {
    let nonce = fields.number()?;
    let price = fields.integer(FEE_BYTES_MAX)?;
    let gas = fields.number()?;
    let to = recipient(fields)?;
    let value = fields.integer(32)?;
    let data = fields.string()?;
    let (signed_for, y_parity) = match fields.number()? {
        v @ (27 | 28) => (None, v == 28),
        v @ 35.. => (Some((v - 35) / 2), (v - 35) % 2 == 1),
        _ => return Err(Error::Custom("v")),
    };
    let (r, s) = (fields.word()?, fields.word()?);
    let rest = [value.raw, price.raw, data.raw];
    let protected = signed_for.is_some();
    Ok((Columns { kind: None, nonce, gas, to, y_parity, r, s, protected, rest }, signed_for))
}

// 1: chain, nonce, gas price, gas, to, value, data, access list, y parity, r, s
// 2: chain, nonce, priority fee, maximum fee, gas, to, value, data, access list, y parity, r, s
// 4: as 2, with the authorization list after the access list
fn typed<'a>(fields: &mut Items<'a>, kind: u8) -> Split<'a> {
    let chain = fields.number()?;
    let nonce = fields.number()?;
    let fees = fields.0;
    fields.integer(FEE_BYTES_MAX)?;
    if kind != EIP2930 {
        fields.integer(FEE_BYTES_MAX)?;
    }
    let fees = between(fees, fields);
    let gas = fields.number()?;
    let to = recipient(fields)?;
    if kind == EIP7702 && to.is_none() {
        return Err(Error::Custom("an EIP-7702 transaction cannot create a contract"));
    }
    let value = fields.integer(32)?;
    let tail = fields.0;
    fields.string()?;
    access_list(fields)?;
    if kind == EIP7702 {
        authorization_list(fields)?;
    }
    let tail = between(tail, fields);
    let y_parity = match fields.number()? {
        parity @ (0 | 1) => parity == 1,
        _ => return Err(Error::Custom("y parity")),
    };
    let (r, s) = (fields.word()?, fields.word()?);
    let rest = [value.raw, fees, tail];
    Ok((Columns { kind: Some(kind), nonce, gas, to, y_parity, r, s, protected: true, rest }, Some(chain)))
}

/// What was read since the reader stood at `start`.
fn between<'a>(start: &'a [u8], now: &Items<'a>) -> &'a [u8] {
    start.get(..start.len() - now.0.len()).unwrap_or_default()
}

fn recipient(fields: &mut Items<'_>) -> Result<Option<[u8; 20]>, Error> {
    match fields.string()?.payload {
        [] => Ok(None),
        address => address.try_into().map(Some).map_err(|_| Error::UnexpectedLength),
    }
}

/// `[[address, [key, ...]], ...]` (EIP-2930).
pub(crate) fn access_list(fields: &mut Items<'_>) -> Result<(), Error> {
    let mut entries = Items(fields.list()?.payload);
    while !entries.is_empty() {
        let mut entry = Items(entries.list()?.payload);
        entry.fixed::<20>()?;
        let mut keys = Items(entry.list()?.payload);
        while !keys.is_empty() {
            keys.fixed::<32>()?;
        }
        entry.end()?;
    }
    Ok(())
}

/// `[[chain, address, nonce, y parity, r, s], ...]` (EIP-7702).
pub(crate) fn authorization_list(fields: &mut Items<'_>) -> Result<(), Error> {
    let mut entries = Items(fields.list()?.payload);
    while !entries.is_empty() {
        let mut entry = Items(entries.list()?.payload);
        entry.integer(32)?;
        entry.fixed::<20>()?;
        entry.number()?;
        entry.integer(1)?;
        entry.integer(32)?;
        entry.integer(32)?;
        entry.end()?;
    }
    Ok(())
}
