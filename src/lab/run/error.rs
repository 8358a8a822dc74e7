//! What can go wrong with a run folder.

use curricle_files::CheckpointError;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A run folder that could not be opened, read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunFolderError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried, as in "create the run folder".
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Two runs into one folder.
    #[error(
        "run folder {} is in use by {owner}; wait until it ends or choose another folder with --out",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process, as far as the lock file says.
        owner: String,
    },
    /// An experiment or arm whose name is not a file name everywhere.
    #[error(
        "{what} name {name:?} cannot be a folder: use letters, digits, '-', '_', '.', '+', '=' and ',', at most 100 \
         characters, and begin with a letter or digit"
    )]
    Name {
        /// "experiment" or "arm".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A path that is not a run folder.
    #[error("{} is not a run folder: {detail}", path.display())]
    NotARun {
        /// The path.
        path: PathBuf,
        /// What is missing, and what to give instead.
        detail: String,
    },
    /// A run folder without checkpoints where one is needed.
    #[error(
        "{role} folder {} has no checkpoints (none of the form checkpoints/step-<12 digits>.safetensors); let that \
         run save some, or give checkpoint files",
        path.display()
    )]
    NoCheckpoints {
        /// What the folder was to serve as, such as "teacher".
        role: String,
        /// The folder.
        path: PathBuf,
    },
    /// A text file whose content is not what it should be.
    #[error("{}{}: {detail}", path.display(), line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1, where there is one.
        line: Option<usize>,
        /// What was expected and found.
        detail: String,
    },
    /// A checkpoint in the folder.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl RunFolderError {
    /// For `map_err`: what was tried on which path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; make room, then resume: nothing saved so far is lost"
        }
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory => "; choose a writable folder with --out",
        _ => "",
    }
}
