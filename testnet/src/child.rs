//! How is a process of this testnet started, killed and stopped?
//!
//! Every part runs in a process of its own, so that `kill -9` is real. What the parts are is told elsewhere.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child as Process, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to stop when asked to, before it is killed.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a waiting loop looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How much of a log is shown when its process dies.
const LOG_TAIL_BYTES: u64 = 2_048;

/// Runs a program that would go on when whoever started it is gone: its arguments, while its standard input is open. The program takes
/// the shell's place and number, so that what is done to the process is done to it. A number is not given to another as long as its
/// group has somebody in it, and whoever waits for the end of input is in it.
const TETHER: &str = r#"
exec 3<&0
{ cat <&3 >/dev/null; kill -s KILL -- "-$$"; } &
exec "$@" 3<&- </dev/null
"#;

/// A process that can be started again and again on what its folder holds. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    name: String,
    executable: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    process: Option<Process>,
}

impl Child {
    /// What would be started, logging to `log`.
    pub fn new(name: impl Into<String>, executable: &Path, arguments: Vec<OsString>, log: PathBuf) -> Self {
        Self { name: name.into(), executable: executable.to_owned(), arguments, log, process: None }
    }

    /// The same for a program that does not end by itself when we are gone: not one of ours.
    pub fn tethered(name: impl Into<String>, program: &Path, arguments: Vec<OsString>, log: PathBuf) -> Self {
        let shell = ["-c".into(), TETHER.into(), "tether".into(), program.into()];
        Self::new(name, Path::new("/bin/sh"), shell.into_iter().chain(arguments).collect(), log)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it logs.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process, if it was started and not ended by us.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Starts it.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("opening {}", self.log.display()))?;
        let process = Command::new(&self.executable)
            .args(&self.arguments)
            // The other end is ours: it closes when we are gone, however we went, and then the process stops.
            .stdin(Stdio::piped())
            // A Ctrl-C in the terminal is for us alone: the parts are stopped when their work is judged.
            .process_group(0)
            .stdout(log.try_clone().context("a second handle on the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.executable.display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// How it ended by itself; `None` while it runs.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        let process = self.process.as_mut().with_context(|| format!("{} does not run", self.name))?;
        process.try_wait().with_context(|| format!("looking after {}", self.name))
    }

    /// `kill -9`, without waiting until it is gone: see [`Self::reap`].
    pub fn send_kill(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => process.kill().with_context(|| format!("killing {}", self.name)),
            None => Ok(()),
        }
    }

    /// Waits for a process that was killed.
    pub fn reap(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.wait().with_context(|| format!("waiting for {} after it was killed", self.name))?;
        }
        Ok(())
    }

    /// `kill -9`: it gets no chance to write anything more.
    pub fn kill(&mut self) -> Result<()> {
        ensure!(self.process.is_some(), "{} does not run", self.name);
        self.send_kill()?;
        self.reap()
    }

    /// Asks it to stop.
    pub fn terminate(&self) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw).context("a process has a number")?;
        match kill_process(id, Signal::TERM) {
            // It stopped by itself a moment ago.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("asking {} to stop", self.name)),
        }
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("(no log: {error})"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Whoever wants to know how it ended has stopped it before.
        let _ = self.send_kill().and_then(|()| self.reap());
    }
}

/// Asks all of them to stop, and waits. One that does not is killed, and that is an error.
pub async fn stop_all<'a>(children: impl IntoIterator<Item = &'a mut Child>) -> Result<Vec<ExitStatus>> {
    let mut children: Vec<_> = children.into_iter().filter(|child| child.process.is_some()).collect();
    children.iter().try_for_each(|child| child.terminate())?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut statuses = Vec::new();
    let mut stubborn = Vec::new();
    for child in &mut children {
        loop {
            if let Some(status) = child.exited()? {
                child.process = None;
                statuses.push(status);
                break;
            }
            if Instant::now() > deadline {
                child.kill()?;
                stubborn.push(child.name.clone());
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    ensure!(stubborn.is_empty(), "{} did not stop within {STOP_TIMEOUT:?} and were killed", stubborn.join(", "));
    Ok(statuses)
}
