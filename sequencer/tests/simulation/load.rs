//! What do clients do meanwhile?
//!
//! Signed bundles, replacements, retries, cancels and forgeries, to whichever validators are up. It remembers what was
//! accepted, and afterwards holds the log to it.

use std::{collections::BTreeMap, time::Duration};

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Signature, TxKind, U256};
use lockstep_consensus::simulate::City;
use lockstep_protocol::{
    bundle::{Bundle, Cancel, Kind, Leg, NonceRange, SignedBundle, Tag, Transaction},
    ids::{Account, BundleId, Height, RollupId},
    limits::{MAX_BUNDLE_BYTES, MAX_TRANSACTION_BYTES},
    refusal::Refusal,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use secp256k1::{Message, SECP256K1, SecretKey};

use crate::{
    ledger::Use,
    network::{ACCOUNTS, ROLLUPS, Shared, account_key},
};

/// Heights for which an ordinary bundle stays valid: longer than any run.
const LONG: u64 = 8_000;
const MAX_FEE: u64 = 30_000;

pub(crate) struct Load {
    rng: StdRng,
    next: [u64; ACCOUNTS as usize],
    accepted: BTreeMap<(Account, u64), Vec<(u8, SignedBundle)>>,
    transactions: Vec<Vec<Transaction>>,
}

impl Load {
    pub(crate) fn new(seed: u64) -> Self {
        let transactions = ROLLUPS.map(|rollup| (0..8).map(|nonce| transaction(rollup.0, nonce)).collect());
        Self {
            rng: StdRng::seed_from_u64(seed),
            next: [0; ACCOUNTS as usize],
            accepted: BTreeMap::new(),
            transactions: transactions.to_vec(),
        }
    }

    /// Lets clients act some times, with pauses, towards those of `validators` that run.
    pub(crate) async fn act(&mut self, city: &mut City<'_>, shared: &Shared, validators: &[usize], times: usize) {
        for _ in 0..times {
            let up: Vec<_> = validators.iter().copied().filter(|validator| city.runs(*validator)).collect();
            let validator = *up.choose(&mut self.rng).expect("somebody runs");
            self.act_once(shared, validator);
            let pause = Duration::from_millis(self.rng.random_range(0..60));
            city.sleep(pause).await;
        }
    }

    fn act_once(&mut self, shared: &Shared, validator: usize) {
        let number = self.rng.random_range(0..ACCOUNTS);
        match self.rng.random_range(0..20) {
            0 => self.replace(shared, validator),
            1 => self.retry(shared, validator),
            2 => self.cancel(shared, validator, number),
            3 => self.forge(shared, validator, number),
            _ => {
                let bundle = self.bundle(shared, number);
                self.next[usize::from(number)] += 1;
                self.submit(shared, validator, number, bundle.sign(&account_key(number)));
            }
        }
    }

    /// A fresh bundle for one validator; its id, if it was accepted.
    pub(crate) fn send_one(&mut self, shared: &Shared, validator: usize) -> Option<BundleId> {
        let number = self.rng.random_range(0..ACCOUNTS);
        let bundle = Bundle { valid_until: Height(shared.height() + LONG), ..self.bundle(shared, number) };
        self.next[usize::from(number)] += 1;
        let signed = bundle.sign(&account_key(number));
        let sent = shared.pool(validator).submit(signed).ok()?;
        Some(sent.bundle_id)
    }

    /// A bundle of nearly the largest size for one validator, from the first account.
    pub(crate) fn send_largest(&mut self, shared: &Shared, validator: usize) -> BundleId {
        let leg = |rollup: RollupId| {
            let transactions = vec![transaction_with(rollup.0, 0, MAX_TRANSACTION_BYTES - 128)];
            Leg { rollup, transactions }
        };
        let legs = ROLLUPS[..2].iter().copied().map(leg).collect();
        let bundle = Bundle { legs, max_fee: 400_000, valid_until: Height(LONG), ..self.bundle(shared, 0) };
        self.next[0] += 1;
        let signed = bundle.sign(&account_key(0));
        let bytes = borsh::object_length(&signed).expect("measuring does not fail");
        assert!(bytes > MAX_BUNDLE_BYTES - 4 * 1024, "{bytes} bytes");
        shared.pool(validator).submit(signed).expect("it is admissible").bundle_id
    }

    fn bundle(&mut self, shared: &Shared, number: u8) -> Bundle {
        let first = self.rng.random_range(0..2);
        let legs = (first..first + 2).map(|index| {
            let count = self.rng.random_range(1..4);
            let transactions = (0..count).map(|_| self.transactions[index].choose(&mut self.rng).unwrap().clone());
            Leg { rollup: ROLLUPS[index], transactions: transactions.collect() }
        });
        let legs = legs.collect();
        let life = if self.rng.random_range(0..10) == 0 { self.rng.random_range(1..6) } else { LONG };
        Bundle {
            network: shared.network(),
            account: account_key(number).account(),
            nonce: self.next[usize::from(number)],
            tag: Tag(self.rng.random()),
            valid_until: Height(shared.height() + life),
            tip: self.rng.random_range(0..1_000),
            max_fee: MAX_FEE,
            legs,
            kind: Kind::Plain,
        }
    }

    fn submit(&mut self, shared: &Shared, validator: usize, number: u8, signed: SignedBundle) {
        match shared.pool(validator).submit(signed.clone()) {
            Ok(sent) => {
                assert_eq!(sent.bundle_id, signed.bundle.id());
                let key = (signed.bundle.account, signed.bundle.nonce);
                self.accepted.entry(key).or_default().push((number, signed));
            }
            Err(
                Refusal::NotReady { .. }
                | Refusal::NonceUsed { .. }
                | Refusal::NonceBelowWindow { .. }
                | Refusal::NonceTooFarAhead { .. }
                | Refusal::Expired { .. }
                | Refusal::ValidityTooFar { .. }
                | Refusal::ReplacementUnderpriced { .. }
                | Refusal::InsufficientBalance { .. },
            ) => {}
            Err(refusal) => panic!("refused for no good reason: {refusal}"),
        }
    }

    /// Another bundle under a nonce that may still be free, with a higher tip.
    fn replace(&mut self, shared: &Shared, validator: usize) {
        let Some((number, signed)) = self.any_accepted() else { return };
        let bundle = Bundle { tip: signed.bundle.tip + 1, tag: Tag(self.rng.random()), ..signed.bundle };
        self.submit(shared, validator, number, bundle.sign(&account_key(number)));
    }

    /// The same bundle again, perhaps through another validator.
    fn retry(&mut self, shared: &Shared, validator: usize) {
        let Some((number, signed)) = self.any_accepted() else { return };
        self.submit(shared, validator, number, signed);
    }

    fn cancel(&mut self, shared: &Shared, validator: usize, number: u8) {
        let last = self.next[usize::from(number)];
        let first = last.saturating_sub(self.rng.random_range(0..3));
        let nonces = NonceRange { first, last };
        let cancel = Cancel { network: shared.network(), account: account_key(number).account(), nonces };
        if shared.pool(validator).cancel(cancel.sign(&account_key(number))).is_ok() {
            self.next[usize::from(number)] = last + 1;
        }
    }

    fn forge(&mut self, shared: &Shared, validator: usize, number: u8) {
        let bundle = self.bundle(shared, number);
        let other = (number + 1) % ACCOUNTS;
        let answer = shared.pool(validator).submit(bundle.sign(&account_key(other)));
        assert!(
            matches!(answer, Err(Refusal::BadSignature | Refusal::NotReady { .. } | Refusal::Expired { .. })),
            "a forgery was not refused for its signature: {answer:?}"
        );
    }

    fn any_accepted(&mut self) -> Option<(u8, SignedBundle)> {
        let all: Vec<_> = self.accepted.values().flatten().collect();
        all.choose(&mut self.rng).map(|(number, signed)| (*number, signed.clone()))
    }

    /// What clients do after a fault: they send again what has no outcome yet.
    pub(crate) fn retry_all(&mut self, shared: &Shared, validators: &[usize]) {
        let open = self.accepted.iter().filter(|((account, nonce), _)| shared.used(*account, *nonce).is_none());
        let open: Vec<_> = open.flat_map(|(_, bundles)| bundles).cloned().collect();
        for (number, signed) in open {
            let validator = *validators.choose(&mut self.rng).expect("somebody runs");
            self.submit(shared, validator, number, signed);
        }
    }

    /// Every accepted bundle has exactly one outcome; that of a long-lived one is not that it expired.
    ///
    /// # Panics
    ///
    /// If one has none, or another than it could have.
    pub(crate) fn check_outcomes(&self, shared: &Shared) {
        let height = shared.height();
        let mut ordered = 0;
        for ((account, nonce), bundles) in &self.accepted {
            let ids: Vec<BundleId> = bundles.iter().map(|(_, signed)| signed.bundle.id()).collect();
            match shared.used(*account, *nonce) {
                Some(Use::Ordered(id)) => {
                    assert!(ids.contains(&id), "nonce {nonce} of {account} was used by a bundle that nobody sent");
                    ordered += 1;
                }
                Some(Use::Cancelled) => {}
                None => assert!(
                    bundles.iter().all(|(_, signed)| signed.bundle.valid_until.0 <= height),
                    "nonce {nonce} of {account} has no outcome at height {height}: {ids:?}"
                ),
            }
        }
        let (all, cancelled) = {
            let ledger = shared.ledger.lock().unwrap();
            (ledger.ordered(), ledger.cancelled())
        };
        assert_eq!(all, ordered, "bundles were ordered that nobody sent");
        eprintln!("  height {height}: {ordered} of {} ordered, {cancelled} nonces cancelled", self.accepted.len());
        assert!(ordered * 2 > self.accepted.len(), "too little was ordered for the run to show anything");
    }
}

fn transaction(chain: u64, nonce: u64) -> Transaction {
    transaction_with(chain, nonce, 0)
}

fn transaction_with(chain: u64, nonce: u64, input_bytes: usize) -> Transaction {
    let unsigned = TxEip1559 {
        chain_id: chain,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(Address::repeat_byte(0x35)),
        input: vec![1; input_bytes].into(),
        ..TxEip1559::default()
    };
    let key = SecretKey::from_byte_array([1; 32]).expect("one is a scalar");
    let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(unsigned.signature_hash().0), &key);
    let (recovery, compact) = signature.serialize_compact();
    let word = |from: usize| U256::from_be_slice(&compact[from..from + 32]);
    let signature = Signature::new(word(0), word(32), i32::from(recovery) == 1);
    Transaction(TxEnvelope::from(unsigned.into_signed(signature)).encoded_2718())
}
