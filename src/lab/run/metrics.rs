//! `metrics.jsonl`: one JSON object per evaluation, each with a "step"; append-only.

use super::error::RunFolderError;
use curricle_files::atomic;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The one field every record must have.
#[derive(serde::Deserialize)]
struct Stepped {
    step: u64,
}

/// The open file of a run in progress.
#[derive(Debug)]
pub(super) struct Metrics {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
}

impl Metrics {
    /// Opens for appending. What a killed process wrote of a last line is cut off.
    pub fn open(path: PathBuf) -> Result<Self, RunFolderError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(RunFolderError::io("open", &path))?;
        let length = whole_lines(&mut file).map_err(RunFolderError::io("read", &path))?;
        file.set_len(length)
            .and_then(|()| file.seek(SeekFrom::Start(length)))
            .map_err(RunFolderError::io("repair", &path))?;
        Ok(Self { path, file, length })
    }

    /// Appends one line with one write. Numbers that are not finite become null, as JSON has no word for them.
    pub fn append(&mut self, record: &impl Serialize) -> Result<(), RunFolderError> {
        let bad = |detail| RunFolderError::Content { path: self.path.clone(), line: None, detail };
        let mut line =
            serde_json::to_string(record).map_err(|e| bad(format!("a record cannot be JSON: {e}")))?;
        if serde_json::from_str::<Stepped>(&line).is_err() || !line.starts_with('{') {
            return Err(bad(format!("a record needs a whole number \"step\": {line}")));
        }
        line.push('\n');
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // Half a line must not stay in the middle of the file. If even this fails, opening will cut it off.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::Start(self.length));
            return Err(RunFolderError::io("append to", &self.path)(error));
        }
        self.length += line.len() as u64;
        Ok(())
    }

    /// Makes what was appended survive a power cut.
    pub fn sync(&self) -> Result<(), RunFolderError> {
        self.file.sync_data().map_err(RunFolderError::io("sync", &self.path))
    }

    /// Drops the records beyond `step`.
    pub fn truncate_after(&mut self, step: u64) -> Result<(), RunFolderError> {
        let text = read_text(&self.path)?.unwrap_or_default();
        let mut kept = String::with_capacity(text.len());
        for (line, record) in parsed::<Stepped>(&self.path, &text) {
            if record?.step <= step {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        if kept.len() < text.len() {
            atomic::write_text(&self.path, &kept).map_err(RunFolderError::io("write", &self.path))?;
            // The old handle belongs to the replaced file.
            *self = Self::open(self.path.clone())?;
        }
        Ok(())
    }
}

/// Length of the file up to its last line end; reads from the end, so a long file costs nothing.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(last) = block.iter().rposition(|b| *b == b'\n') {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The whole lines of the file; an unfinished last one (its writer may be at work or dead) is left out. `None`: no file.
fn read_text(path: &Path) -> Result<Option<String>, RunFolderError> {
    let mut bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(RunFolderError::io("read", path)(e)),
    };
    bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |last| last + 1));
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        RunFolderError::Content {
            path: path.to_path_buf(),
            line: Some(line),
            detail: "not UTF-8 text".into(),
        }
    })?;
    Ok(Some(text))
}

/// Each line with its record.
fn parsed<'t, T: DeserializeOwned>(
    path: &'t Path,
    text: &'t str,
) -> impl Iterator<Item = (&'t str, Result<T, RunFolderError>)> {
    text.lines().enumerate().map(move |(i, line)| {
        let record = serde_json::from_str(line).map_err(|e| RunFolderError::Content {
            path: path.to_path_buf(),
            line: Some(i + 1),
            detail: format!("not a record of this kind: {e}"),
        });
        (line, record)
    })
}

/// All records in the file's order; none if there is no file.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, RunFolderError> {
    let text = read_text(path)?.unwrap_or_default();
    parsed(path, &text).map(|(_, record)| record).collect()
}
