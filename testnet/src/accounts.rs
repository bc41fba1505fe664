//! Who sends and pays on the testnet?
//!
//! Accounts with a wallet each, made from seeds that anybody may know: their credits are worth nothing. Each counts its own
//! nonces, because it has many bundles on the way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloy_primitives::{Address, keccak256};
use lockstep_protocol::{
    bundle::SignedBundle,
    genesis::Balance,
    ids::{Account, Height, NetworkId},
    signature::AccountKey,
};
use lockstep_sdk::BundleBuilder;

use crate::{network::ROLLUPS, transfers::Wallet};

/// What each account has at genesis. All of them together stay far below what 64 bits hold.
const CREDITS: u64 = 1_000_000_000_000_000;

/// The most that a bundle of the testnet may cost, however full the blocks: an account can have a whole nonce window of them
/// open at once and still cover them.
const MAX_FEE: u64 = 100_000_000_000;

/// An account and its wallet.
pub struct Sender {
    key: AccountKey,
    account: Account,
    wallet: Wallet,
    next: AtomicU64,
    /// Bundles of it that were ordered: so many transfers has the wallet made on every rollup.
    ordered: AtomicU64,
    busy: AtomicBool,
}

/// Every second account is a secp256k1 one, the others are ed25519.
pub fn mixed(count: usize) -> Vec<Sender> {
    (0..count as u64)
        .map(|number| {
            let seed = keccak256(format!("testnet account {number}")).0;
            let secp256k1 = if number % 2 == 1 { AccountKey::secp256k1(seed) } else { None };
            Sender::new(secp256k1.unwrap_or_else(|| AccountKey::ed25519(seed)), number)
        })
        .collect()
}

/// ed25519 accounts only, as who sends much would use.
pub fn fast(count: usize) -> Vec<Sender> {
    let key = |number| AccountKey::ed25519(keccak256(format!("load account {number}")).0);
    (0..count as u64).map(|number| Sender::new(key(number), number)).collect()
}

/// What a genesis gives to `senders`.
pub fn balances(senders: &[Sender]) -> Vec<Balance> {
    senders.iter().map(|sender| Balance { account: sender.account, credits: CREDITS }).collect()
}

impl Sender {
    fn new(key: AccountKey, number: u64) -> Self {
        let account = key.account();
        Self {
            key,
            account,
            wallet: Wallet::of_seed("testnet wallet", number),
            next: AtomicU64::new(0),
            ordered: AtomicU64::new(0),
            busy: AtomicBool::new(false),
        }
    }

    /// The account.
    pub fn account(&self) -> Account {
        self.account
    }

    /// The wallet's address on every rollup.
    pub fn wallet(&self) -> Address {
        self.wallet.address()
    }

    /// Takes the sender for one bundle; `false` if it has one on the way. A wallet's transactions must execute in the order of
    /// their nonces, and bundles of one block are not ordered by when they came.
    pub fn take(&self) -> bool {
        self.busy.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Gives it back, once it is known whether its bundle was ordered.
    pub fn give_back(&self, ordered: bool) {
        self.ordered.fetch_add(u64::from(ordered), Ordering::Relaxed);
        self.busy.store(false, Ordering::Release);
    }

    /// Transfers that were ordered on every rollup.
    pub fn transfers(&self) -> u64 {
        self.ordered.load(Ordering::Relaxed)
    }

    /// Goes on with `nonce`.
    pub fn resume(&self, nonce: u64) {
        self.next.store(nonce, Ordering::Relaxed);
    }

    /// A bundle with a transfer on every rollup, under the account's next nonce.
    pub fn next_bundle(&self, network: NetworkId, tip: Height, valid_for: u64) -> SignedBundle {
        let nonce = self.next.fetch_add(1, Ordering::Relaxed);
        let mut tag = [0; 16];
        tag[..8].copy_from_slice(&nonce.to_be_bytes());
        let mut builder = BundleBuilder::new().nonce(nonce).tag(tag).valid_for(valid_for).max_fee(MAX_FEE);
        for (rollup, _) in ROLLUPS {
            let transfer = self.wallet.transfer(rollup, self.transfers(), Address::repeat_byte(0x77), 1 + nonce);
            builder = builder.leg(rollup, [transfer.0]);
        }
        builder.sign(network, &self.key, tip).expect("a bundle of two small legs is well-formed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_of_both_kinds_of_account_are_signed_and_count_up() {
        let network = NetworkId::from_name("test");
        let senders = mixed(2);
        assert!(matches!(senders[0].account(), Account::Ed25519(_)));
        assert!(matches!(senders[1].account(), Account::Secp256k1(_)));
        for sender in &senders {
            for nonce in 0..2 {
                let signed = sender.next_bundle(network, Height(10), 64);
                assert_eq!((signed.bundle.nonce, signed.bundle.valid_until), (nonce, Height(74)));
                assert_eq!(signed.bundle.legs.len(), ROLLUPS.len());
                assert!(signed.check_signature().is_ok());
                assert!(signed.bundle.check_shape(network).is_ok());
            }
        }
    }

    #[test]
    fn a_whole_window_of_open_bundles_is_covered_and_all_credits_fit() {
        const { assert!(MAX_FEE * lockstep_protocol::limits::NONCE_WINDOW <= CREDITS) };
        let all = balances(&fast(4_096));
        assert!(all.iter().try_fold(0_u64, |sum, balance| sum.checked_add(balance.credits)).is_some());
        let mut accounts: Vec<_> = all.iter().map(|balance| balance.account).collect();
        accounts.sort_unstable();
        accounts.dedup();
        assert_eq!(accounts.len(), 4_096);
    }
}
