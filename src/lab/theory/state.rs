//! Finished trials of a long measurement, in a file that survives interruptions.

use curricle_files::atomic;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// What may be done with a file that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExisting {
    /// Go on with its trials.
    Resume,
    /// Forget them.
    Forget,
    /// Refuse.
    Refuse,
}

/// Why a state could not be opened or saved.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There, and nobody said what to do with it.
    #[error(
        "{0} already holds finished trials; pass --resume to go on with them, --fresh to begin anew, or another --out"
    )]
    Exists(PathBuf),
    /// Something else.
    #[error("{path}: not a state of this command ({reason}); pass --fresh")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// The disk.
    #[error("cannot {doing} {path}: {reason}")]
    Io {
        /// Read or write.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
}

/// The state in `path`; the default when the file is not there, or is to be forgotten.
///
/// # Errors
/// A file that is there without being asked for, is something else, or cannot be read.
pub fn open<L: DeserializeOwned + Default>(path: &Path, existing: OnExisting) -> Result<L, StateError> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(L::default()),
        Err(e) => {
            return Err(StateError::Io { doing: "read", path: path.to_owned(), reason: e.to_string() });
        }
        Ok(text) => text,
    };
    match existing {
        OnExisting::Resume => serde_json::from_str(&text)
            .map_err(|e| StateError::Foreign { path: path.to_owned(), reason: e.to_string() }),
        OnExisting::Forget => Ok(L::default()),
        OnExisting::Refuse => Err(StateError::Exists(path.to_owned())),
    }
}

/// Writes the state whole: temporary name, sync, rename.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn save(path: &Path, state: &impl Serialize) -> Result<(), StateError> {
    let failed = |reason: String| StateError::Io { doing: "write", path: path.to_owned(), reason };
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|e| failed(e.to_string()))?;
    }
    let text = serde_json::to_string(state).map_err(|e| failed(e.to_string()))?;
    atomic::write_text(path, &text).map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_only_when_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/x.state");
        let read = |existing| open::<Vec<u32>>(&path, existing);
        assert_eq!(read(OnExisting::Refuse).unwrap(), Vec::<u32>::new());
        save(&path, &vec![1, 2]).unwrap();
        assert!(matches!(read(OnExisting::Refuse), Err(StateError::Exists(_))));
        assert_eq!(read(OnExisting::Resume).unwrap(), [1, 2]);
        assert!(read(OnExisting::Forget).unwrap().is_empty());
        save(&path, &"words").unwrap();
        assert!(matches!(read(OnExisting::Resume), Err(StateError::Foreign { .. })));
    }
}
