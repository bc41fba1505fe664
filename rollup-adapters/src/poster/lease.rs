//! May this poster post now?
//!
//! One poster per rollup posts at a time. Who that is, is an entry of the replicated log: a lease that its holder renews and that
//! others take over when it lapses. Two posters at once are harmless either way: what is already posted has no effect a second time;
//! a lease only saves the fees.

use std::{future::Future, pin::Pin, time::Duration};

use lockstep_protocol::{
    ids::{Account, Height, NetworkId, RollupId},
    limits::MAX_LEASE,
    rpc::Fact,
    settlement::{Lease as LeaseTerms, SignedLease, records::LeaseRecord},
    signature::AccountKey,
};
use lockstep_sdk::Client;

/// What a lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Post.
    Held,
    /// Somebody else posts, as far as is known: wait and ask again.
    Other {
        /// Who.
        holder: String,
    },
}

/// Why it is not known who may post. A poster waits then: whoever holds the lease goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not known who may post: {0}")]
pub struct LeaseError(pub String);

/// The future that a lease answers with.
pub type LeaseFuture<'a> = Pin<Box<dyn Future<Output = Result<Verdict, LeaseError>> + Send + 'a>>;

/// Tells whether this poster may begin a round of posting.
///
/// Asked before each round, and not within one: a round that has begun is finished.
pub trait Lease: Send {
    /// May a round begin now? Renews or takes over the lease where that is possible.
    fn may_post(&mut self) -> LeaseFuture<'_>;
}

/// No lease: for a rollup that runs one poster, or that accepts to pay twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unleased;

impl Lease for Unleased {
    fn may_post(&mut self) -> LeaseFuture<'_> {
        Box::pin(async { Ok(Verdict::Held) })
    }
}

/// What a lease book answers with.
pub type BookFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, LeaseError>> + Send + 'a>>;

/// Where leases are written down: the log over the network, or in a test.
pub trait LeaseBook: Send + Sync {
    /// The lease of the rollup, and the height at which it stands so.
    fn read(&self) -> BookFuture<'_, (Option<LeaseRecord>, Height)>;
    /// Offers a lease to the log, which takes it or not.
    fn offer(&self, signed: SignedLease) -> BookFuture<'_, ()>;
}

/// How often it is looked whether the log has taken a lease.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long that may take: several blocks, also of an idle log.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

/// Heights that the node which takes an offer may be behind the one that was asked before: from where it stands, a longer lease
/// would be too long.
const BEHIND_MAX: u64 = 32;
/// The longest lease that is taken.
pub const HEIGHTS_MAX: u64 = MAX_LEASE - BEHIND_MAX;

/// A lease in the log.
///
/// It is asked for when there is something to post, so a poster that hangs, or that cannot reach L1, lets it lapse. It is renewed
/// once half of it is over. A round that takes longer than what is left is finished without it.
pub struct LogLease<B> {
    book: B,
    key: AccountKey,
    network: NetworkId,
    rollup: RollupId,
    heights: u64,
}

/// What is to be done about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It is ours for long enough.
    Held,
    /// It is ours, and soon over.
    Ending,
    /// It is nobody's.
    Free,
    /// It is somebody else's.
    Other(Account),
}

/// How the lease stands for a block after `tip`.
fn stand(me: Account, record: Option<LeaseRecord>, tip: Height, heights: u64) -> Stand {
    match record {
        Some(lease) if lease.until <= tip => Stand::Free,
        Some(lease) if lease.holder != me => Stand::Other(lease.holder),
        Some(lease) if lease.until.0 - tip.0 <= heights / 2 => Stand::Ending,
        Some(_) => Stand::Held,
        None => Stand::Free,
    }
}

impl<B: LeaseBook> LogLease<B> {
    /// The lease of `rollup` for the account of `key`, which must be one of the rollup's posters. It is taken for `heights` at a
    /// time, [`HEIGHTS_MAX`] at most.
    pub fn new(book: B, key: AccountKey, network: NetworkId, rollup: RollupId, heights: u64) -> Self {
        Self { book, key, network, rollup, heights: heights.clamp(2, HEIGHTS_MAX) }
    }

    async fn offer(&self, tip: Height) -> Result<(), LeaseError> {
        let until = Height(tip.0.saturating_add(self.heights));
        let terms = LeaseTerms { network: self.network, rollup: self.rollup, holder: self.key.account(), until };
        self.book.offer(terms.sign(&self.key)).await
    }

    async fn ask(&self) -> Result<Verdict, LeaseError> {
        let me = self.key.account();
        let deadline = tokio::time::Instant::now() + TAKEN_WITHIN;
        let mut offered = false;
        loop {
            let (record, tip) = self.book.read().await?;
            match stand(me, record, tip, self.heights) {
                Stand::Held => return Ok(Verdict::Held),
                Stand::Ending => {
                    // Ours meanwhile: nobody waits for the renewal.
                    if let Err(error) = self.offer(tip).await {
                        tracing::warn!(%error, "the lease is not renewed");
                    }
                    return Ok(Verdict::Held);
                }
                Stand::Other(holder) => return Ok(Verdict::Other { holder: holder.to_string() }),
                Stand::Free if !offered => {
                    self.offer(tip).await?;
                    offered = true;
                }
                Stand::Free if tokio::time::Instant::now() > deadline => {
                    return Err(LeaseError("the log has not taken this poster's lease yet".into()));
                }
                Stand::Free => {}
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl<B: LeaseBook> Lease for LogLease<B> {
    fn may_post(&mut self) -> LeaseFuture<'_> {
        Box::pin(self.ask())
    }
}

/// The log over the network.
pub struct NetworkBook {
    client: Client,
    rollup: RollupId,
}

impl NetworkBook {
    /// The leases of `rollup` in the log that `client` reaches.
    pub fn new(client: Client, rollup: RollupId) -> Self {
        Self { client, rollup }
    }
}

impl LeaseBook for NetworkBook {
    fn read(&self) -> BookFuture<'_, (Option<LeaseRecord>, Height)> {
        Box::pin(async move {
            let proven = self.client.lease(self.rollup).await.map_err(|error| LeaseError(error.to_string()))?;
            Ok((proven.value, proven.header.height))
        })
    }

    fn offer(&self, signed: SignedLease) -> BookFuture<'_, ()> {
        Box::pin(async move {
            match self.client.send_fact(&Fact::Lease(signed)).await {
                Ok(_) => Ok(()),
                Err(lockstep_sdk::Error::FactRefused { refused, .. }) => match refused.reason.as_str() {
                    // Another was faster, or it was renewed already: the log says who holds it.
                    "lease_held" | "nothing_new" => Ok(()),
                    _ => Err(LeaseError(refused.to_string())),
                },
                Err(error) => Err(LeaseError(error.to_string())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_ours_until_it_is_over_and_renewed_from_its_middle_on() {
        let (me, other) = (AccountKey::ed25519([1; 32]).account(), AccountKey::ed25519([2; 32]).account());
        let lease = |holder, until| Some(LeaseRecord { holder, until: Height(until), term: 1 });
        for (record, expected) in [
            (None, Stand::Free),
            (lease(me, 200), Stand::Held),
            (lease(me, 151), Stand::Held),
            (lease(me, 150), Stand::Ending),
            (lease(me, 101), Stand::Ending),
            (lease(me, 100), Stand::Free),
            (lease(other, 101), Stand::Other(other)),
            // The next block's height is 101: another may take it there.
            (lease(other, 100), Stand::Free),
        ] {
            assert_eq!(stand(me, record, Height(100), 100), expected, "{record:?}");
        }
    }
}
