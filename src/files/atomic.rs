//! Files that are either the old one or the new one, whatever happens in between.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Ending of unfinished files; a crash can leave one behind, and [`remove_leftovers`] removes it.
const UNFINISHED: &str = ".unfinished";

/// Writes `path` through a temporary file in the same directory, which is synced and renamed over it.
///
/// # Errors
/// Those of the file system or of `fill`. Then `path` is what it was before and no temporary file is left.
pub fn write(path: &Path, fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{}.", name.to_string_lossy());
    builder.prefix(&prefix).suffix(UNFINISHED);
    // A temporary file is private by default; a checkpoint is shared as the user's umask says.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // From here on, every early return drops the temporary file, which removes it.
    let temporary = builder.tempfile_in(directory)?;
    let mut writer = BufWriter::with_capacity(1 << 18, temporary.as_file());
    fill(&mut writer)?;
    writer.flush()?;
    drop(writer);
    // A full disk may show only here.
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    sync_directory(directory)
}

/// Writes a text file as [`write`] does.
///
/// # Errors
/// As [`write`].
pub fn write_text(path: &Path, text: &str) -> io::Result<()> {
    write_bytes(path, text.as_bytes())
}

/// Writes bytes as [`write`] does.
///
/// # Errors
/// As [`write`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, |writer| writer.write_all(bytes))
}

/// Makes a rename or a new name in `directory` survive a power cut.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    // Only Unix lets a directory be opened and synced; elsewhere the rename itself has to do.
    #[cfg(unix)]
    match File::open(directory)?.sync_all() {
        // Some network and user-space file systems know no such thing; the file itself is synced.
        Err(e) if !matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            return Err(e);
        }
        _ => {}
    }
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}

/// Removes what a killed process left unfinished. The caller holds the folder's lock.
pub fn remove_leftovers(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(UNFINISHED) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
