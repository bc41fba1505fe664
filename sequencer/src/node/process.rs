//! What does a node take from its process: threads, signals, a log?

use std::{future::Future, io::IsTerminal, time::Duration};

use super::error::NodeError;
use crate::config::{Log, LogFormat};

/// More threads than this have nothing to do.
const THREADS_MAX: usize = 8;
/// Open files below which a node warns: enough for thirty million blocks.
const FILES_WANTED: u64 = 16 * 1024;
/// How long work that was begun may go on when a runtime ends.
const LAST_WORK: Duration = Duration::from_secs(1);

/// As many threads as were asked for; one for each core if nobody asked.
pub(super) fn threads(wanted: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if wanted == 0 { cores.min(THREADS_MAX) } else { wanted }
}

/// Ready when the process is told to stop: Ctrl-C, or SIGTERM where there is such a thing.
pub async fn terminated() {
    #[cfg(unix)]
    {
        let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        if let Ok(mut terminate) = terminate {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// Runs a node's future on a runtime of its own.
pub fn block_on<T>(wanted: usize, future: impl Future<Output = T>) -> Result<T, NodeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads(wanted))
        .thread_name("node")
        .enable_all()
        .build()?;
    let result = runtime.block_on(future);
    // What is durable is durable; a question that still runs has nobody to answer to.
    runtime.shutdown_timeout(LAST_WORK);
    Ok(result)
}

/// Has the system allow as many open files as it ever will: the log keeps its files open, four for each 8,192 blocks, and a
/// usual limit of 1,024 is used up within days.
pub fn raise_file_limit() {
    match fdlimit::raise_fd_limit() {
        Ok(fdlimit::Outcome::LimitRaised { to, .. }) if to < FILES_WANTED => {
            tracing::warn!(
                allowed = to,
                wanted = FILES_WANTED,
                "few open files are allowed, raise the limit (LimitNOFILE, ulimit -Hn)"
            );
        }
        Ok(fdlimit::Outcome::LimitRaised { from, to }) => tracing::debug!(from, to, "more open files are allowed"),
        Ok(fdlimit::Outcome::Unsupported) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

/// Starts to log as the configuration says. A program that logs already keeps its own way.
pub fn init_log(config: &Log) {
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(&config.filter);
    let color = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color);
    let _ = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
