//! How do a rollup and the log learn what the other has done about settlements?
//!
//! ```text
//!                  what the escrows' storage says                     what the log decided
//!   rollup node ------- observer.rs ------> log        log ------- applier.rs ------> the rollup's hub
//!      eth_getProof       facts                          a transaction in the rollup's own lane
//! ```
//!
//! ```text
//! log.rs        what is asked of Lockstep nodes, and told them
//! chain.rs      what is asked of the rollup's node, in standard `eth_*` calls
//! evidence.rs   which legs the log wants to see, and whether a storage word tells it anything (pure)
//! observer.rs   shows the log what it wants to see, and what was paid in for fee accounts
//! voids.rs      legs that stand prepared although their settlement was never ordered
//! applier.rs    takes the log's decisions to the hub
//! flight.rs     one transaction on its way into the rollup, through the log
//! ```
//!
//! Nothing is stored. What is to be shown follows from the log's open settlements and the rollup's storage, what is to be applied from
//! the hub's own place in the chain of decisions. So a relayer may be killed anywhere, and any number of them may run: what one
//! shows twice the log leaves out, what one applies twice the hub passes over.

pub mod applier;
pub mod chain;
pub mod evidence;
mod flight;
pub mod log;
pub mod observer;
mod voids;

use std::{sync::Arc, time::Duration};

use lockstep_protocol::{ids::RollupId, settlement::Level};
use tokio::sync::watch;

use crate::{
    poster::Signer,
    retry::Backoff,
    serve::{RelayStatus, Service},
};

pub use applier::{Applier, ApplyConfig};
pub use chain::Chain;
pub use log::{Log, LogError, NetworkLog};
pub use observer::{Observer, ObserverConfig, Strays};

/// What a relayer works with.
pub struct Links {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The rollup's node.
    pub chain: Arc<Chain>,
    /// Where to tell how it goes.
    pub service: Arc<Service<RelayStatus>>,
}

/// A relayer of one rollup.
pub struct Relay {
    observer: Observer,
    applier: Option<Applier>,
    service: Arc<Service<RelayStatus>>,
    poll: Duration,
}

impl Relay {
    /// A relayer that looks every `poll`. Without `apply` it observes alone, and needs neither key nor credits.
    pub fn new(
        links: Links,
        rollup: RollupId,
        settled_level: Level,
        observe: ObserverConfig,
        apply: Option<(ApplyConfig, Signer)>,
        poll: Duration,
    ) -> Self {
        let Links { log, chain, service } = links;
        let applier = apply.map(|(config, signer)| {
            Applier::new(config, signer, rollup, Arc::clone(&log), Arc::clone(&chain), Arc::clone(&service))
        });
        let observer = Observer::new(observe, rollup, settled_level, log, chain, Arc::clone(&service));
        Self { observer, applier, service, poll }
    }

    /// Relays until `stop` is true. What does not answer is waited for.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let Self { mut observer, applier, service, poll } = self;
        let observing = async {
            let mut backoff = Backoff::endless();
            loop {
                let result = observer.step().await;
                let trouble = result.as_ref().err().map(ToString::to_string);
                service.update(|status| status.note_observing(trouble));
                pace(result, &mut backoff, poll).await;
            }
        };
        let applying = async {
            let Some(mut applier) = applier else { return std::future::pending().await };
            let mut backoff = Backoff::endless();
            loop {
                let result = applier.step().await;
                let trouble = result.as_ref().err().map(ToString::to_string);
                service.update(|status| status.note_applying(trouble));
                pace(result, &mut backoff, poll).await;
            }
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = observing => {}
            () = applying => {}
        }
    }
}

async fn pace<E: std::fmt::Display>(result: Result<(), E>, backoff: &mut Backoff, poll: Duration) {
    match result {
        Ok(()) => {
            backoff.succeeded();
            tokio::time::sleep(poll).await;
        }
        // An endless one never gives the error back.
        Err(error) => drop(backoff.failed(error).await),
    }
}

/// Why a look ended early. All of these are tried again.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum RelayError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Rpc(#[from] crate::poster::RpcError),
    #[error("the log's decisions do not continue the hub's: it has {have} of them, and another chain over them")]
    Diverged { have: u64 },
    #[error(transparent)]
    Call(#[from] lockstep_contracts::CallError),
    #[error("the hub would refuse decisions {from} to {to}: {detail}")]
    Refused { from: u64, to: u64, detail: String },
    #[error("one decision takes {gas} gas, at most {max} may be used")]
    Gas { gas: u64, max: u64 },
    #[error("the rollup asks for more than the configured cap: base fee {base_fee} wei")]
    TooDear { base_fee: u128 },
    #[error("not signed: {0}")]
    Unsigned(String),
}
