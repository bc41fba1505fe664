//! Where does the index get its blocks?
//!
//! The log hands over each final block; whatever is missing between is read from its archive, in height order, from wherever
//! the index stands. After a restart or a rebuild the same loop catches up.

use std::{future::Future, sync::Arc, time::Duration};

use lockstep_consensus::{block::Block, handle::Handle};
use tokio::sync::mpsc;

use super::{Applied, Index, IndexError};

/// How long a height may be in memory only. A crash costs as much catching up.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Follows the log until `stop` is ready, then writes what is not written yet. `each` sees every block, in order, when the
/// index serves it.
pub async fn follow(
    index: Arc<Index>,
    log: Handle,
    mut blocks: mpsc::Receiver<Block>,
    mut each: impl FnMut(Arc<Applied>),
    stop: impl Future<Output = ()>,
) -> Result<(), IndexError> {
    let mut flushes = tokio::time::interval(FLUSH_INTERVAL);
    flushes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut flushing = None;
    let mut target = log.tip().height;
    tokio::pin!(stop);
    loop {
        if index.is_heavy() {
            flush(&mut flushing, &index).await?;
        }
        tokio::select! {
            biased;
            () = &mut stop => break,
            _ = flushes.tick() => flush(&mut flushing, &index).await?,
            step = step(&index, &log), if index.height() < target => each(Arc::new(step?)),
            block = blocks.recv(), if index.height() >= target => match block {
                Some(block) if block.height() == index.height().next() => {
                    each(Arc::new(index.apply(block.header(), block.body())?));
                }
                // Older: it was read from the archive. Newer: what is between is read first.
                Some(block) => target = target.max(block.height()),
                None => {
                    flush(&mut flushing, &index).await?;
                    finish(&mut flushing).await?;
                    return Err(IndexError::LogStopped);
                }
            },
        }
    }
    flush(&mut flushing, &index).await?;
    finish(&mut flushing).await
}

/// Brings the index up to the end of the archive, and writes all of it.
pub async fn catch_up(index: &Arc<Index>, log: &Handle) -> Result<(), IndexError> {
    while let Some(block) = log.block(index.height().next()).await {
        index.apply(block.header(), block.body())?;
        if index.is_heavy() {
            index.flush()?;
        }
    }
    let height = index.height().next();
    if height <= log.tip().height {
        return Err(IndexError::Missing { height });
    }
    index.flush()
}

async fn step(index: &Index, log: &Handle) -> Result<Applied, IndexError> {
    let height = index.height().next();
    if let Some(block) = log.block(height).await {
        return index.apply(block.header(), block.body());
    }
    // A log that runs has its tip.
    let runs = log.block(log.tip().height).await.is_some();
    Err(if runs { IndexError::Missing { height } } else { IndexError::LogStopped })
}

type Flushing = Option<tokio::task::JoinHandle<Result<(), IndexError>>>;

/// Starts to write in the background; first waits for the write before, of which there is one at a time.
async fn flush(flushing: &mut Flushing, index: &Arc<Index>) -> Result<(), IndexError> {
    finish(flushing).await?;
    let index = index.clone();
    *flushing = Some(tokio::task::spawn_blocking(move || index.flush()));
    Ok(())
}

async fn finish(flushing: &mut Flushing) -> Result<(), IndexError> {
    match flushing.take() {
        Some(task) => task.await.expect("writing the index does not panic"),
        None => Ok(()),
    }
}
