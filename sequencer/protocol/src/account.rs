//! An account's record: its balance, which nonces are used, and the head of its report chain.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    digest::digest,
    ids::{Account, Hash32, NetworkId},
    limits::NONCE_WINDOW,
    refusal::Refusal,
};

const WORDS: usize = 16;
const _: () = assert!(WORDS as u64 * 64 == NONCE_WINDOW);

/// What the authenticated state holds for an account.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountRecord {
    /// Whose record it is.
    pub account: Account,
    /// Credits that are not spent.
    pub balance: u64,
    /// Which nonces are used.
    pub nonces: NonceWindow,
    /// Number of the latest report; the first is 1.
    pub report_sequence: u64,
    /// The report chain up to it: see `report::chain`.
    pub reports: Hash32,
}

/// Which nonces an account has used: an anti-replay window as in RFC 6479. Nonces need no order within it.
///
/// ```
/// use lockstep_protocol::account::NonceWindow;
///
/// let mut window = NonceWindow::default();
/// window.consume(1_000)?;
/// window.consume(3)?;
/// assert!(window.consume(3).is_err());
/// window.consume(2_000)?;
/// assert_eq!(window.is_used(1_000), Some(true));
/// assert_eq!(window.is_used(999), Some(false));
/// assert_eq!(window.is_used(3), None); // below the window
/// # Ok::<(), lockstep_protocol::refusal::Refusal>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NonceWindow {
    /// One above the highest nonce used.
    next: u64,
    /// For each nonce of `next - NONCE_WINDOW..next`, at its value modulo the window: used?
    used: [u64; WORDS],
}

impl AccountRecord {
    /// An account without a report. Only a funded account has a record, so the first report follows at once.
    pub fn new(network: NetworkId, account: Account) -> Self {
        Self {
            account,
            balance: 0,
            nonces: NonceWindow::default(),
            report_sequence: 0,
            reports: digest("lockstep/reports/v1", &(network, account)),
        }
    }
}

impl NonceWindow {
    /// One above the highest nonce used: always free.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The lowest nonce that the window still tells apart.
    pub fn lowest(&self) -> u64 {
        self.next.saturating_sub(NONCE_WINDOW)
    }

    /// The highest nonce that may be used next.
    pub fn highest(&self) -> u64 {
        self.next.saturating_add(NONCE_WINDOW - 1)
    }

    /// Whether `nonce` is used; `None` below the window, where only the report chain can tell.
    pub fn is_used(&self, nonce: u64) -> Option<bool> {
        if nonce < self.lowest() {
            return None;
        }
        let (word, bit) = place(nonce);
        Some(nonce < self.next && self.used[word] & bit != 0)
    }

    /// Whether `nonce` may be used now.
    pub fn check(&self, nonce: u64) -> Result<(), Refusal> {
        match self.is_used(nonce) {
            None => Err(Refusal::NonceBelowWindow { nonce, lowest: self.lowest() }),
            Some(true) => Err(Refusal::NonceUsed { nonce }),
            // The last number is never used, so that `next` can stand above every nonce.
            Some(false) if nonce > self.highest() || nonce == u64::MAX => {
                Err(Refusal::NonceTooFarAhead { nonce, highest: self.highest().min(u64::MAX - 1) })
            }
            Some(false) => Ok(()),
        }
    }

    /// Uses `nonce`, once.
    pub fn consume(&mut self, nonce: u64) -> Result<(), Refusal> {
        self.check(nonce)?;
        for skipped in self.next..=nonce {
            let (word, bit) = place(skipped);
            self.used[word] &= !bit;
        }
        self.next = self.next.max(nonce + 1);
        let (word, bit) = place(nonce);
        self.used[word] |= bit;
        Ok(())
    }
}

fn place(nonce: u64) -> (usize, u64) {
    let slot = nonce % NONCE_WINDOW;
    (usize::try_from(slot / 64).expect("a window has few words"), 1 << (slot % 64))
}
