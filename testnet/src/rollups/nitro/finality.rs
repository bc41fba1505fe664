//! Which blocks of the Nitro-style rollup are safe, and which are final?
//!
//! Asked of the inbox on L1, as a Nitro node does, and told to the execution client: `safe` are the messages that L1's safe block
//! has, `finalized` those that its finalized block has. That the batches hold what the client executed is `derive.rs`'s to find out.

use std::{sync::Arc, time::Duration};

use alloy_primitives::Address;
use anyhow::Result;
use lockstep_adapters::{
    arbitrum::inbox_reader::InboxReader,
    poster::{L1, Rpc},
};
use lockstep_evm::Node;
use tracing::warn;

/// How often L1 is asked.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Patience with L1.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Tells `node` what L1 has, for ever. Waits for an L1 that does not answer.
pub(crate) async fn run(node: &Node, l1: &str, inbox: Address) -> Result<()> {
    let l1 = Arc::new(L1::new(Rpc::new(l1, ANSWER_TIMEOUT, None)?));
    let mut reader = None;
    let mut answers = true;
    loop {
        match look(&l1, inbox, &mut reader).await {
            Ok((safe, finalized)) => {
                answers = true;
                // Message `n` is block `n`, and counts begin with one.
                node.mark(safe.saturating_sub(1), finalized.saturating_sub(1)).await?;
            }
            Err(error) if answers => {
                answers = false;
                warn!(%error, "what L1 has is not known");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn look(l1: &Arc<L1>, inbox: Address, reader: &mut Option<InboxReader>) -> Result<(u64, u64)> {
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(InboxReader::new(l1.clone(), inbox).await?),
    };
    Ok((reader.messages_at("safe").await?, reader.messages_at("finalized").await?))
}
