//! Who posts a rollup's batches, and by what lease?
//!
//! Several `lockstep-rollup post` for each rollup: the one that holds the lease in the log posts, and another takes over when it is
//! killed for good. Each has an account of its own in the log. What a poster needs besides is its stack's affair.

use std::path::Path;

use alloy_primitives::{hex, keccak256};
use anyhow::{Context, Result};
use lockstep_adapters::settings::LeaseSettings;
use lockstep_protocol::{ids::Account, signature::AccountKey};
use serde_json::Value;

use super::{files, status};

/// Posters of each rollup: one that posts, one that stands by.
pub(crate) const PER_ROLLUP: usize = 2;
/// Heights of a lease: ten to fifteen seconds of a busy log, so that a person sees a take-over, and longer than anything that is
/// killed stays dead when all kinds of parts are.
const LEASE_HEIGHTS: u64 = 256;

fn seed(place: usize, number: usize) -> [u8; 32] {
    keccak256(format!("testnet poster account {place} {number}")).0
}

/// The accounts that may take the lease of the rollup at `place`, as a genesis wants them.
pub(crate) fn accounts(place: usize) -> Vec<Account> {
    let account = |number| AccountKey::ed25519(seed(place, number)).account();
    let mut accounts: Vec<_> = (0..PER_ROLLUP).map(account).collect();
    accounts.sort();
    accounts
}

/// What a part with this number is called: the first has none.
pub(super) fn numbered(name: &str, number: usize) -> String {
    if number == 0 { name.to_owned() } else { format!("{name}-{}", number + 1) }
}

/// How poster `number` of the rollup at `place` takes the lease. Writes its key into `folder`.
pub(super) fn lease(
    folder: &Path,
    (place, number): (usize, usize),
    genesis: &Path,
    nodes: &[String],
) -> Result<LeaseSettings> {
    let file = format!("{}.key", numbered("poster-account", number));
    files::secret(&folder.join(&file), &format!("ed25519:{}", hex::encode_prefixed(seed(place, number))))?;
    // Each asks another node first.
    let nodes = nodes.iter().cycle().skip(number).take(nodes.len()).cloned().collect();
    let genesis = std::fs::canonicalize(genesis).context("finding the log's genesis")?;
    Ok(LeaseSettings { genesis, nodes, account_key_file: file.into(), heights: LEASE_HEIGHTS })
}

/// Which of the posters says on its page that it holds the lease. One that let it lapse says so until there is something to post
/// again: of two, the first is meant.
pub(super) fn leader(pages: &[Option<Value>]) -> Option<usize> {
    pages.iter().position(|page| page.as_ref().and_then(|page| page["leads"].as_bool()) == Some(true))
}

/// What waits, if one of them does.
pub(super) fn trouble(pages: &[Option<Value>]) -> Option<String> {
    pages.iter().find_map(|page| status::text(page, "/trouble"))
}
