//! How do a request, a nonce and a price become a signed transaction?
//!
//! EIP-1559, or EIP-4844 where there are blobs. Whether L1 wants blobs with one proof each or with proofs of their cells
//! (EIP-7594, since Osaka) is configured: no standard call tells.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip4844, TxEip4844WithSidecar};
use alloy_eips::{
    eip2718::Encodable2718,
    eip4844::{Blob, BlobTransactionSidecar, env_settings::EnvKzgSettings},
    eip7594::BlobTransactionSidecarVariant,
};
use alloy_primitives::{Address, B256, TxKind, U256};
use serde::{Deserialize, Serialize};

use super::{
    fees::Price,
    signer::{Signer, SignerError},
};

/// Which proofs go with blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sidecar {
    /// One a blob (EIP-4844), until Osaka.
    Eip4844,
    /// 128 a blob (EIP-7594), since Osaka.
    #[default]
    Eip7594,
}

/// Why no transaction was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvelopeError {
    #[error(transparent)]
    Signer(#[from] SignerError),
    #[error("not a blob: {0}")]
    Blob(String),
}

/// A request with everything that does not change when it is replaced.
pub(crate) struct Draft {
    pub(crate) to: Address,
    pub(crate) data: Vec<u8>,
    pub(crate) gas: u64,
    sidecar: Option<BlobTransactionSidecarVariant>,
}

/// A signed transaction.
pub(crate) struct Signed {
    pub(crate) hash: B256,
    pub(crate) raw: Vec<u8>,
}

impl Draft {
    /// Commitments and proofs are made here, once: replacements share them.
    pub(crate) fn new(
        to: Address,
        data: Vec<u8>,
        blobs: &[Vec<u8>],
        gas: u64,
        kind: Sidecar,
    ) -> Result<Self, EnvelopeError> {
        let sidecar = if blobs.is_empty() { None } else { Some(sidecar(blobs, kind)?) };
        Ok(Self { to, data, gas, sidecar })
    }

    pub(crate) fn has_blobs(&self) -> bool {
        self.sidecar.is_some()
    }

    pub(crate) async fn sign(
        &self,
        signer: &Signer,
        chain_id: u64,
        nonce: u64,
        price: &Price,
    ) -> Result<Signed, EnvelopeError> {
        let Some(sidecar) = &self.sidecar else {
            let transaction = TxEip1559 {
                chain_id,
                nonce,
                gas_limit: self.gas,
                max_fee_per_gas: price.fee,
                max_priority_fee_per_gas: price.tip,
                to: TxKind::Call(self.to),
                value: U256::ZERO,
                access_list: Default::default(),
                input: self.data.clone().into(),
            };
            let unsigned = transaction.encoded_for_signing();
            let signature = signer.sign(chain_id, transaction.signature_hash(), &unsigned).await?;
            let signed = transaction.into_signed(signature);
            return Ok(Signed { hash: *signed.hash(), raw: signed.encoded_2718() });
        };
        let transaction = TxEip4844 {
            chain_id,
            nonce,
            gas_limit: self.gas,
            max_fee_per_gas: price.fee,
            max_priority_fee_per_gas: price.tip,
            to: self.to,
            value: U256::ZERO,
            access_list: Default::default(),
            blob_versioned_hashes: sidecar.versioned_hashes().collect(),
            max_fee_per_blob_gas: price.blob_fee,
            input: self.data.clone().into(),
        };
        let unsigned = transaction.encoded_for_signing();
        let signature = signer.sign(chain_id, transaction.signature_hash(), &unsigned).await?;
        let hash = *transaction.clone().into_signed(signature).hash();
        let with_sidecar = TxEip4844WithSidecar { tx: transaction, sidecar: sidecar.clone() };
        Ok(Signed { hash, raw: with_sidecar.into_signed(signature).encoded_2718() })
    }
}

fn sidecar(blobs: &[Vec<u8>], kind: Sidecar) -> Result<BlobTransactionSidecarVariant, EnvelopeError> {
    let fail = |error: &dyn std::fmt::Debug| EnvelopeError::Blob(format!("{error:?}"));
    let blobs = blobs.iter().map(|blob| Blob::try_from(blob.as_slice()).map_err(|error| fail(&error)));
    let blobs = blobs.collect::<Result<Vec<_>, _>>()?;
    let sidecar = BlobTransactionSidecar::try_from_blobs_with_settings(blobs, EnvKzgSettings::Default.get())
        .map_err(|error| fail(&error))?;
    let sidecar = BlobTransactionSidecarVariant::Eip4844(sidecar);
    match kind {
        Sidecar::Eip4844 => Ok(sidecar),
        Sidecar::Eip7594 => sidecar.try_convert_into_eip7594().map_err(|error| fail(&error)),
    }
}

/// The versioned hash of a blob: what L1's execution layer keeps of it.
pub(crate) fn versioned_hash(blob: &[u8]) -> Option<B256> {
    let blob = Blob::try_from(blob).ok()?;
    let sidecar =
        BlobTransactionSidecar::try_from_blobs_with_settings(vec![blob], EnvKzgSettings::Default.get()).ok()?;
    sidecar.versioned_hashes().next()
}

#[cfg(test)]
mod tests {
    use alloy_consensus::{Transaction, TxEnvelope};
    use alloy_eips::eip2718::Decodable2718;

    use super::*;
    use crate::poster::signer::recover;

    type WithSidecar = alloy_consensus::EthereumTxEnvelope<TxEip4844WithSidecar<BlobTransactionSidecarVariant>>;

    const PRICE: Price = Price { fee: 100, tip: 3, blob_fee: 9 };

    #[tokio::test]
    async fn calldata_goes_out_as_eip_1559() {
        let signer = Signer::from_secret([7; 32]).expect("a key");
        let draft = Draft::new(Address::repeat_byte(9), vec![1, 2], &[], 30_000, Sidecar::Eip7594).expect("a draft");
        let signed = draft.sign(&signer, 5, 42, &PRICE).await.expect("signs");
        let decoded = TxEnvelope::decode_2718_exact(&signed.raw).expect("decodes");
        assert_eq!(*decoded.tx_hash(), signed.hash);
        assert_eq!((decoded.nonce(), decoded.chain_id(), decoded.max_fee_per_gas()), (42, Some(5), 100));
        assert_eq!(recover(decoded.signature_hash(), decoded.signature()), Some(signer.address()));
    }

    #[tokio::test]
    async fn blobs_go_out_with_the_proofs_that_l1_wants() {
        let signer = Signer::from_secret([7; 32]).expect("a key");
        let blob = crate::optimism::encode_blob(b"frames").expect("short");
        for (kind, proofs) in [(Sidecar::Eip4844, 1), (Sidecar::Eip7594, 128)] {
            let draft = Draft::new(Address::repeat_byte(9), vec![], std::slice::from_ref(&blob), 21_000, kind);
            let signed = draft.expect("a draft").sign(&signer, 5, 1, &PRICE).await.expect("signs");
            let decoded = WithSidecar::decode_2718_exact(&signed.raw).expect("decodes");
            assert_eq!(*decoded.tx_hash(), signed.hash);
            assert_eq!(decoded.blob_versioned_hashes().map(<[B256]>::to_vec), versioned_hash(&blob).map(|h| vec![h]));
            let WithSidecar::Eip4844(inner) = &decoded else { panic!("blobs") };
            let count = match &inner.tx().sidecar {
                BlobTransactionSidecarVariant::Eip4844(sidecar) => sidecar.proofs.len(),
                BlobTransactionSidecarVariant::Eip7594(sidecar) => sidecar.cell_proofs.len(),
            };
            assert_eq!(count, proofs);
        }
        assert!(Draft::new(Address::ZERO, vec![], &[vec![0; 5]], 21_000, Sidecar::Eip4844).is_err());
    }
}
