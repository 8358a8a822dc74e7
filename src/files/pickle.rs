//! Gives a PyTorch file whose root is a list a dictionary as root, which is what `pytorch-reader` needs:
//! `torch.save([{"weight": .., "bias": ..}, ..])` is read as `torch.save({"layers": [..]})`.
//!
//! Two opcodes before the value and one after it do this; values, memo and storages stay as they are.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// EMPTY_DICT, and the key "layers" as BINUNICODE.
const OPEN: &[u8] = b"}X\x06\x00\x00\x00layers";
/// SETITEM, STOP.
const CLOSE: &[u8] = b"s.";

/// Copies the file at `from` to `to` with its root wrapped.
///
/// # Errors
/// If it cannot be read or written, or is neither a zip nor a legacy file.
pub(super) fn wrap_root(from: &Path, to: &Path) -> io::Result<()> {
    let mut start = [0; 2];
    File::open(from)?.read_exact(&mut start)?;
    if &start == b"PK" { wrap_zip(from, to) } else { wrap_legacy(from, to) }
}

fn wrap_zip(from: &Path, to: &Path) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(io::BufReader::new(File::open(from)?))?;
    let mut copy = zip::ZipWriter::new(io::BufWriter::new(File::create(to)?));
    for index in 0..archive.len() {
        let name = archive.by_index_raw(index)?.name()?.into_owned();
        if name == "data.pkl" || name.ends_with("/data.pkl") {
            let mut pickle = Vec::new();
            archive.by_index(index)?.take(pytorch_reader::MAX_PICKLE_SIZE).read_to_end(&mut pickle)?;
            let end = length(&pickle)?;
            let options =
                zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            copy.start_file(name, options)?;
            copy.write_all(&wrapped(&pickle[..end]))?;
        } else {
            copy.raw_copy_file(archive.by_index_raw(index)?)?;
        }
    }
    copy.finish()?.flush()
}

/// A legacy file is a row of pickles: magic number, protocol, system, root, storage keys; then the storages.
fn wrap_legacy(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = std::fs::read(from)?;
    let mut start = 0;
    for _ in 0..3 {
        start += length(&bytes[start..])?;
    }
    let end = start + length(&bytes[start..])?;
    let mut copy = File::create(to)?;
    copy.write_all(&bytes[..start])?;
    copy.write_all(&wrapped(&bytes[start..end]))?;
    copy.write_all(&bytes[end..])
}

/// The wrapped form of one whole pickle, STOP included.
fn wrapped(pickle: &[u8]) -> Vec<u8> {
    // PROTO comes first where there is one.
    let body = if pickle[0] == 0x80 { 2 } else { 0 };
    [&pickle[..body], OPEN, &pickle[body..pickle.len() - 1], CLOSE].concat()
}

/// Bytes of the pickle at the start of `bytes`, up to and with its STOP.
fn length(bytes: &[u8]) -> io::Result<usize> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "a pickle without an end");
    let number = |at: usize, width: usize| -> io::Result<usize> {
        let mut word = [0; 8];
        word[..width].copy_from_slice(bytes.get(at..at + width).ok_or_else(short)?);
        usize::try_from(u64::from_le_bytes(word)).map_err(|_| short())
    };
    let line = |at: usize| -> io::Result<usize> {
        let rest = bytes.get(at..).ok_or_else(short)?;
        Ok(rest.iter().position(|b| *b == b'\n').ok_or_else(short)? + 1)
    };
    let mut at = 0;
    loop {
        let opcode = *bytes.get(at).ok_or_else(short)?;
        at += 1;
        // Widths of the arguments: https://github.com/python/cpython/blob/main/Lib/pickletools.py
        let argument = match opcode {
            b'.' => return Ok(at),
            b'I' | b'L' | b'F' | b'S' | b'V' | b'g' | b'p' | b'P' => line(at)?,
            b'c' | b'i' => {
                let first = line(at)?;
                first + line(at + first)?
            }
            b'K' | b'h' | b'q' | 0x80 | 0x82 => 1,
            b'M' | 0x83 => 2,
            b'J' | b'j' | b'r' | 0x84 => 4,
            b'G' | 0x95 => 8,
            b'U' | b'C' | 0x8a | 0x8c => number(at, 1)?.saturating_add(1),
            b'T' | b'X' | b'B' | 0x8b => number(at, 4)?.saturating_add(4),
            0x8d | 0x8e | 0x96 => number(at, 8)?.saturating_add(8),
            _ => 0,
        };
        at = at.checked_add(argument).ok_or_else(short)?;
    }
}
