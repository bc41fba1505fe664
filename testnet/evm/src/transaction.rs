//! What is a transaction here: its bytes, its sender, and what the EVM needs of it?
//!
//! Legacy, EIP-2930, EIP-1559, EIP-7702 and OP Stack deposits. Blob transactions are not taken: their blobs would have to be
//! kept and served too. Admission by nonce and balance is `pool.rs`, validity in a block is `execute.rs`.

use alloy_consensus::{Transaction as _, transaction::SignerRecoverable};
use alloy_eips::{Decodable2718, Encodable2718, Typed2718};
use alloy_primitives::{Address, B256, Bytes, TxKind};
use op_alloy_consensus::OpTxEnvelope;
use op_revm::{OpTransaction, transaction::deposit::DepositTransactionParts};
use revm::context::{TxEnv, either::Either};

/// A transaction with its sender.
#[derive(Clone, Debug)]
pub struct Transaction {
    envelope: OpTxEnvelope,
    hash: B256,
    sender: Address,
    raw: Bytes,
}

/// Why bytes are not a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Not an EIP-2718 transaction of a type that is taken here.
    #[error("not a transaction that is taken here: {0}")]
    Malformed(String),
    /// The bytes go on after the transaction.
    #[error("{0} bytes follow the transaction")]
    Trailing(usize),
    /// No account signed it.
    #[error("invalid signature")]
    Signature,
}

impl Transaction {
    /// Decodes EIP-2718 bytes and recovers the sender.
    pub fn decode(raw: &Bytes) -> Result<Self, TransactionError> {
        let envelope = decode_envelope(raw)?;
        let sender = match &envelope {
            OpTxEnvelope::Legacy(tx) => tx.recover_signer(),
            OpTxEnvelope::Eip2930(tx) => tx.recover_signer(),
            OpTxEnvelope::Eip1559(tx) => tx.recover_signer(),
            OpTxEnvelope::Eip7702(tx) => tx.recover_signer(),
            OpTxEnvelope::Deposit(tx) => Ok(tx.from),
            OpTxEnvelope::PostExec(_) => return Err(TransactionError::Signature),
        };
        let sender = sender.map_err(|_| TransactionError::Signature)?;
        Ok(Self { hash: envelope.tx_hash(), envelope, sender, raw: raw.clone() })
    }

    /// Decodes bytes whose sender was recovered before, when they were stored.
    pub(crate) fn decode_known(raw: &Bytes, sender: Address) -> Result<Self, TransactionError> {
        let envelope = decode_envelope(raw)?;
        Ok(Self { hash: envelope.tx_hash(), envelope, sender, raw: raw.clone() })
    }

    /// The decoded transaction.
    pub fn envelope(&self) -> &OpTxEnvelope {
        &self.envelope
    }

    /// Its hash.
    pub fn hash(&self) -> B256 {
        self.hash
    }

    /// Who sent it.
    pub fn sender(&self) -> Address {
        self.sender
    }

    /// Its EIP-2718 bytes.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Whether it is an OP Stack deposit.
    pub fn is_deposit(&self) -> bool {
        matches!(self.envelope, OpTxEnvelope::Deposit(_))
    }

    /// What one unit of gas pays in a block of this base fee, in wei.
    pub(crate) fn effective_gas_price(&self, base_fee: u64) -> u128 {
        if self.is_deposit() { 0 } else { self.envelope.effective_gas_price(Some(base_fee)) }
    }

    pub(crate) fn env(&self) -> TxEnv {
        let tx = &self.envelope;
        // The EVM takes the fields of a type at their word, so each type gives exactly its own.
        TxEnv {
            tx_type: tx.ty(),
            caller: self.sender,
            gas_limit: tx.gas_limit(),
            gas_price: tx.max_fee_per_gas(),
            kind: tx.kind(),
            value: tx.value(),
            data: tx.input().clone(),
            nonce: tx.nonce(),
            chain_id: tx.chain_id(),
            access_list: tx.access_list().cloned().unwrap_or_default(),
            gas_priority_fee: tx.max_priority_fee_per_gas(),
            authorization_list: tx
                .authorization_list()
                .unwrap_or_default()
                .iter()
                .map(|signed| Either::Left(signed.clone()))
                .collect(),
            ..TxEnv::default()
        }
    }

    pub(crate) fn op_env(&self) -> OpTransaction<TxEnv> {
        let Some(deposit) = self.envelope.as_deposit() else {
            return OpTransaction {
                base: self.env(),
                enveloped_tx: Some(self.raw.clone()),
                deposit: DepositTransactionParts::default(),
            };
        };
        OpTransaction {
            base: TxEnv {
                tx_type: self.envelope.ty(),
                caller: deposit.from,
                gas_limit: deposit.gas_limit,
                kind: deposit.to,
                value: deposit.value,
                data: deposit.input.clone(),
                gas_price: 0,
                chain_id: None,
                ..TxEnv::default()
            },
            enveloped_tx: Some(self.raw.clone()),
            deposit: DepositTransactionParts {
                source_hash: deposit.source_hash,
                mint: (deposit.mint > 0).then_some(deposit.mint),
                is_system_transaction: deposit.is_system_transaction,
            },
        }
    }

    /// The address of the contract that it creates when `nonce` is its sender's.
    pub(crate) fn creates(&self, nonce: u64) -> Option<Address> {
        matches!(self.envelope.kind(), TxKind::Create).then(|| self.sender.create(nonce))
    }
}

fn decode_envelope(raw: &Bytes) -> Result<OpTxEnvelope, TransactionError> {
    let mut rest = &raw[..];
    let envelope =
        OpTxEnvelope::decode_2718(&mut rest).map_err(|error| TransactionError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(TransactionError::Trailing(rest.len()));
    }
    if matches!(envelope, OpTxEnvelope::PostExec(_)) {
        return Err(TransactionError::Malformed("type 0x7d is made by nodes only".into()));
    }
    debug_assert_eq!(envelope.encoded_2718().as_slice(), raw.as_ref(), "a decoded transaction encodes to its bytes");
    Ok(envelope)
}
