//! May this poster post now?
//!
//! One poster per rollup posts at a time. Who that is will be an entry of the replicated log: a lease that its holder renews
//! and that others take over when it lapses. This is the seam for it. Two posters at once are harmless either way: what is
//! already posted has no effect a second time; a lease only saves the fees.

use std::{future::Future, pin::Pin};

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
/// Asked before each round, and not within one: a round that has begun is finished, so a lease must outlive a round
/// (`SenderConfig::give_up_after_blocks` L1 blocks at most).
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
