//! Who acts at the venues, and how do their transactions get there?
//!
//! A wallet on every rollup and an account in the log. All that it does travels in bundles, one at a time: a wallet's
//! transactions execute in the order of their nonces.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use alloy_consensus::TxEip1559;
use alloy_primitives::{Address, Bytes, TxKind, keccak256};
use lockstep_protocol::{
    bundle::{Bundle, Kind, Leg, SignedBundle, Tag, Transaction},
    ids::{Account, Height, NetworkId, RollupId, SettlementId},
    settlement::{Intent, MarginTransfer},
    signature::AccountKey,
};
use lockstep_sdk::Client;

use crate::{
    network::ROLLUPS,
    traffic::{self, Book},
    transfers::Wallet,
};

/// Heights for which a bundle is valid: long enough to outlive a restart of a validator.
const VALID_FOR: u64 = 256;
/// The most that a bundle may cost, however full the blocks.
const MAX_FEE: u64 = 1_000_000_000_000;
/// What a player has at genesis: a thousand of the dearest bundles.
const CREDITS: u64 = 1_000 * MAX_FEE;
/// What a transaction pays for gas at most. Base fees of the rollups stay far below.
const MAX_FEE_PER_GAS: u128 = 20_000_000_000;
const PRIORITY_FEE_PER_GAS: u128 = 1_000_000;

/// A call of a contract, or the creation of one.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) to: TxKind,
    pub(super) input: Bytes,
    pub(super) gas: u64,
}

/// Transactions that were ordered for a wallet, on each rollup.
pub(crate) type Ordered = Arc<[AtomicU64; ROLLUPS.len()]>;

/// Somebody at the venues.
pub(super) struct Player {
    key: AccountKey,
    wallet: Wallet,
    client: Option<Client>,
    nonce: u64,
    ordered: Ordered,
}

impl Player {
    /// The one that `role` and `number` always give.
    pub(super) fn new(role: &str, number: u64) -> Self {
        Self {
            key: AccountKey::ed25519(keccak256(format!("testnet {role} account {number}")).0),
            wallet: Wallet::of_seed(&format!("testnet {role}"), number),
            client: None,
            nonce: 0,
            ordered: Ordered::default(),
        }
    }

    pub(super) fn account(&self) -> Account {
        self.key.account()
    }

    pub(super) fn address(&self) -> Address {
        self.wallet.address()
    }

    pub(super) fn credits(&self) -> u64 {
        CREDITS
    }

    /// How many of its transactions are ordered, for whoever looks whether rollups execute them.
    pub(super) fn ordered(&self) -> Ordered {
        self.ordered.clone()
    }

    /// Whom it sends through.
    pub(super) fn connect(&mut self, client: Client) {
        self.client = Some(client);
    }

    /// Sends calls on some rollups in one bundle. Says whether it was ordered.
    pub(super) async fn send(&mut self, book: &Book, legs: Vec<(RollupId, Vec<Call>)>) -> bool {
        self.send_as(book, book.height(), legs, Kind::Plain).await
    }

    /// What its next bundle settles, if it is this transfer.
    pub(super) fn intent(&self, transfer: MarginTransfer) -> Intent {
        Intent { account: self.account(), nonce: self.nonce, transfer }
    }

    /// Sends a margin transfer, which must be its next intent: `calls` prepare its legs. Says whether it was ordered.
    pub(super) async fn settle(
        &mut self,
        book: &Book,
        intent: Intent,
        calls: impl FnOnce(&Intent) -> Vec<(RollupId, Vec<Call>)>,
    ) -> bool {
        let legs = calls(&intent);
        self.send_as(book, book.height(), legs, Kind::Settlement(intent.transfer)).await
    }

    /// The settlement of an intent.
    pub(super) fn sid(&self, intent: &Intent) -> SettlementId {
        intent.sid(self.network())
    }

    async fn send_as(&mut self, book: &Book, tip: Height, legs: Vec<(RollupId, Vec<Call>)>, kind: Kind) -> bool {
        let signed = self.sign(tip, &legs, kind);
        let client = self.client.as_ref().expect("a player is connected before it plays");
        let was_ordered = traffic::follow_through(book, client, &signed).await;
        if was_ordered {
            for (rollup, calls) in &legs {
                self.ordered[place(*rollup)].fetch_add(calls.len() as u64, Ordering::Relaxed);
            }
        }
        was_ordered
    }

    fn sign(&mut self, tip: Height, legs: &[(RollupId, Vec<Call>)], kind: Kind) -> SignedBundle {
        let mut legs: Vec<_> = legs
            .iter()
            .map(|(rollup, calls)| {
                let first = self.ordered[place(*rollup)].load(Ordering::Relaxed);
                let transactions = (first..).zip(calls).map(|(nonce, call)| self.transaction(*rollup, nonce, call));
                Leg { rollup: *rollup, transactions: transactions.collect() }
            })
            .collect();
        legs.sort_by_key(|leg| leg.rollup);
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&self.nonce.to_be_bytes());
        let bundle = Bundle {
            network: self.network(),
            account: self.account(),
            nonce: self.nonce,
            tag: Tag(tag),
            valid_until: Height(tip.0 + VALID_FOR),
            tip: 0,
            max_fee: MAX_FEE,
            legs,
            kind,
        };
        self.nonce += 1;
        bundle.sign(&self.key)
    }

    fn transaction(&self, rollup: RollupId, nonce: u64, call: &Call) -> Transaction {
        Transaction(self.wallet.sign_transaction(TxEip1559 {
            chain_id: rollup.0,
            nonce,
            gas_limit: call.gas,
            max_fee_per_gas: MAX_FEE_PER_GAS,
            max_priority_fee_per_gas: PRIORITY_FEE_PER_GAS,
            to: call.to,
            input: call.input.clone(),
            ..TxEip1559::default()
        }))
    }

    fn network(&self) -> NetworkId {
        self.client.as_ref().expect("a player is connected before it plays").trust().network()
    }
}

/// The place of a rollup among the city's.
pub(super) fn place(rollup: RollupId) -> usize {
    ROLLUPS.iter().position(|(id, _)| *id == rollup).expect("players act on the city's rollups")
}
