//! How do the parts' files get onto the disk?
//!
//! Folders, secrets with their mode, TOML and JSON. What is in them is each part's own question.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Serialize;

pub(super) fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    // Children are started elsewhere, and configurations are relative to themselves.
    fs::canonicalize(path).with_context(|| format!("finding {}", path.display()))
}

pub(super) fn json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("writing JSON")?;
    fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

pub(super) fn toml(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = toml::to_string(value).context("writing TOML")?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// A file that its owner alone can read.
pub(super) fn secret(path: &Path, hex: &str) -> Result<()> {
    let written = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    written
        .and_then(|mut file| file.write_all(format!("{hex}\n").as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}
