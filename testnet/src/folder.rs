//! Where do a run's files go, and when are they removed?
//!
//! A fresh folder for every run, gone with the run unless somebody has a use for it. Writes no file itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Fresh folders go under this one, in the current directory.
const RUNS: &str = ".run";

/// A run's folder. Dropping it removes it, unless it is kept.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keep: bool,
    /// The parent that was made for it, removed when no other run is in it.
    runs: Option<PathBuf>,
}

/// No folder for the run.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The folder that was asked for has something in it.
    #[error("{0} is not empty: every run needs a fresh folder, choose another --dir")]
    NotEmpty(PathBuf),
    /// The folder cannot be made or read.
    #[error("cannot make {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Folder {
    /// The folder that was asked for, which is kept, or a fresh one under `.run`, which is not.
    pub fn new(asked: Option<&Path>) -> Result<Self, FolderError> {
        match asked {
            Some(path) => Self::asked(path),
            None => Self::fresh(Path::new(RUNS)),
        }
    }

    /// A fresh folder under `runs`.
    pub fn fresh(runs: &Path) -> Result<Self, FolderError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = runs.join(format!("{}-{}", now.as_millis(), std::process::id()));
        make(&path)?;
        Ok(Self { path, keep: false, runs: Some(runs.to_owned()) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps it, so that somebody can look into it.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    fn asked(path: &Path) -> Result<Self, FolderError> {
        let io = |source| FolderError::Io { path: path.to_owned(), source };
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(FolderError::NotEmpty(path.to_owned()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            Err(error) => return Err(io(error)),
        }
        Ok(Self { path: path.to_owned(), keep: true, runs: None })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the run's folder stays");
        }
        if let Some(runs) = &self.runs {
            // Fails, as it should, while another run is in it.
            let _ = fs::remove_dir(runs);
        }
    }
}

fn make(path: &Path) -> Result<(), FolderError> {
    fs::create_dir_all(path).map_err(|source| FolderError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_folder_leaves_nothing_behind() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let runs = parent.path().join("runs");
        let folder = Folder::fresh(&runs).expect("made");
        fs::write(folder.path().join("file"), "x").expect("written");
        drop(folder);
        assert!(!runs.exists());
    }

    #[test]
    fn a_kept_folder_stays() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let mut folder = Folder::fresh(parent.path()).expect("made");
        let path = folder.path().to_owned();
        folder.keep();
        drop(folder);
        assert!(path.exists());
    }

    #[test]
    fn a_folder_that_was_asked_for_stays_and_must_be_empty() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let path = parent.path().join("mine");
        let folder = Folder::new(Some(&path)).expect("made");
        fs::write(folder.path().join("file"), "x").expect("written");
        drop(folder);
        assert!(path.join("file").exists());
        assert!(matches!(Folder::new(Some(&path)), Err(FolderError::NotEmpty(_))));
        assert!(path.join("file").exists());
    }
}
