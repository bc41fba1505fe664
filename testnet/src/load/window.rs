//! Which bundles may be sent now without outrunning their account's nonce window?
//!
//! Bundle `i` of a run belongs to account `i % accounts` and has its next nonce. A bundle whose nonce is a window above one that
//! is still open would push that one out of reach for good, so it waits: a bound on what is in flight, and the only way
//! in which this load ever holds back.

use lockstep_protocol::limits::NONCE_WINDOW;

/// How far each account may run ahead. Below the protocol's window, because a nonce may be refused and sent again.
pub(crate) const AHEAD_MAX: usize = NONCE_WINDOW as usize - 24;

/// What is open, by account.
#[derive(Debug)]
pub(crate) struct Windows {
    /// For each account the bundles that are concluded, by their place in the account.
    concluded: Vec<Vec<bool>>,
    /// For each account the first that is not.
    lowest: Vec<usize>,
}

impl Windows {
    /// Windows for a run of `bundles` over `accounts`, which must not be zero.
    pub(crate) fn new(accounts: usize, bundles: usize) -> Self {
        let concluded = (0..accounts).map(|account| vec![false; bundles.saturating_sub(account).div_ceil(accounts)]);
        Self { concluded: concluded.collect(), lowest: vec![0; accounts] }
    }

    /// Whether bundle `index` may be sent.
    pub(crate) fn may_send(&self, index: usize) -> bool {
        let (account, place) = self.place(index);
        place < self.lowest[account] + AHEAD_MAX
    }

    /// Says that bundle `index` will not be heard of any more: it is ordered, or was refused for good.
    pub(crate) fn conclude(&mut self, index: usize) {
        let (account, place) = self.place(index);
        let concluded = &mut self.concluded[account];
        concluded[place] = true;
        let lowest = &mut self.lowest[account];
        while concluded.get(*lowest) == Some(&true) {
            *lowest += 1;
        }
    }

    fn place(&self, index: usize) -> (usize, usize) {
        (index % self.lowest.len(), index / self.lowest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_runs_ahead_up_to_the_bound_and_no_further() {
        let windows = Windows::new(4, 10_000);
        assert!(windows.may_send(4 * AHEAD_MAX - 1));
        assert!(!windows.may_send(4 * AHEAD_MAX));
    }

    #[test]
    fn only_the_lowest_open_bundle_moves_the_window() {
        let mut windows = Windows::new(2, 10_000);
        let next = 2 * AHEAD_MAX;
        for index in (2..next).step_by(2) {
            windows.conclude(index);
        }
        assert!(!windows.may_send(next), "bundle 0 is still open");
        windows.conclude(0);
        assert!(windows.may_send(next));
        assert!(windows.may_send(2 * next - 2));
        assert!(!windows.may_send(2 * next));
        assert!(!windows.may_send(next + 1), "the other account did not move");
    }

    #[test]
    fn every_bundle_of_an_uneven_run_has_a_place() {
        let mut windows = Windows::new(3, 7);
        for index in 0..7 {
            assert!(windows.may_send(index));
            windows.conclude(index);
        }
        assert_eq!(windows.lowest, [3, 2, 2]);
    }
}
