//! One process per run folder.

use super::error::RunFolderError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Name of the lock file. It stays behind when the run ends: removing it would race with the next process.
const FILE: &str = "lock";

/// Held until dropped. The operating system's lock ends with the process, however that ends, so a killed run leaves
/// nothing to clean up; the text in the file only says who holds it.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
}

impl FolderLock {
    /// Locks `folder`, which must exist, for this process.
    ///
    /// # Errors
    /// If another process or another handle of this one holds it, or the file system knows no locks.
    pub fn acquire(folder: &Path) -> Result<Self, RunFolderError> {
        let path = folder.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(RunFolderError::io("create the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let read = file.take(200).read_to_string(&mut owner);
                let known = read.is_ok() && !owner.trim().is_empty();
                let owner = if known { owner.trim() } else { "another process" };
                return Err(RunFolderError::InUse { path: folder.to_path_buf(), owner: owner.into() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(RunFolderError::Io { action: "lock the run folder with", path, source });
            }
        }
        // For people only: a full disk must not turn a lock that is held into an error.
        let owner = format!("process {} on {}\n", std::process::id(), host());
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(owner.as_bytes()));
        Ok(Self { file })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing is not enough: a child process that another thread is just starting shares the open file, and with it
        // the lock, until it runs its own program.
        let _ = self.file.unlock();
    }
}

/// The machine's name, for shared file systems.
fn host() -> String {
    let named =
        ["/proc/sys/kernel/hostname", "/etc/hostname"].iter().find_map(|p| std::fs::read_to_string(p).ok());
    let named = named.or_else(|| std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok());
    named.map_or_else(|| "this host".into(), |name| name.trim().to_string())
}
