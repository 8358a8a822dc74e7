//! PyTorch's `.pt` and `.pth`, through the `pytorch-reader` crate.

use super::entry::{Element, Entry, Values};
use super::error::CheckpointError;
use super::pickle;
use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Whether the first bytes can be those of a `torch.save` file: zip, or a pickle of any protocol, or an old tar.
pub(super) fn plausible(start: &[u8]) -> bool {
    // An old tar starts with the name of its first member.
    start.starts_with(b"PK") || matches!(start.first(), Some(0x80 | b'(' | b'}' | b']' | b'c' | b'L' | b's'))
}

type Opened = (Vec<Entry>, BTreeMap<String, String>, Values);

/// Names and shapes of every tensor; nested dictionaries and lists become dotted names.
pub(super) fn open(path: &Path, size: u64) -> Result<Opened, CheckpointError> {
    guarded(path, || {
        let (reader, rewritten) = match PytorchReader::new(path) {
            Ok(reader) => (reader, None),
            Err(error) => read_list(path, error)?,
        };
        let file = rewritten.as_ref().map_or(path.to_path_buf(), |(_, file)| file.clone());
        let mut tensors: Vec<_> = reader.into_tensors().into_values().collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let entries = tensors.iter().map(|tensor| {
            // A view can repeat one stored element for ever; weights are stored in full.
            if tensor.byte_len() as u64 > size.saturating_mul(16) {
                return Err(CheckpointError::Tensor {
                    path: path.to_path_buf(),
                    tensor: tensor.name.clone(),
                    found: format!("shape {:?} in a file of {size} bytes", tensor.shape()),
                    expected: "a tensor that the file holds (call .contiguous() before torch.save)".into(),
                });
            }
            let element = match tensor.dtype() {
                DType::F64 => Some(Element::F64),
                DType::F32 => Some(Element::F32),
                DType::F16 => Some(Element::F16),
                DType::BF16 => Some(Element::Bf16),
                _ => None,
            };
            let dtype = format!("{:?}", tensor.dtype()).to_uppercase();
            Ok(Entry::new(tensor.name.clone(), tensor.shape().to_vec(), dtype, element))
        });
        let entries = entries.collect::<Result<_, _>>()?;
        let metadata = step(&file).map(|step| ("curricle.step".to_string(), step.to_string()));
        let values = Values::Pytorch { tensors, _rewritten: rewritten.map(|(directory, _)| directory) };
        Ok((entries, metadata.into_iter().collect(), values))
    })
}

/// The little-endian bytes of one tensor.
pub(super) fn read(path: &Path, tensor: &pytorch_reader::Tensor) -> Result<Vec<u8>, CheckpointError> {
    guarded(path, || {
        let mut bytes = tensor.read().map_err(|e| damaged(path, &e.to_string()))?;
        // The reader answers in the machine's order.
        if cfg!(target_endian = "big") {
            bytes.chunks_mut(tensor.dtype().size()).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    })
}

type Rewritten = Option<(tempfile::TempDir, std::path::PathBuf)>;

/// A second try for a file whose root is a list (of one dictionary per layer, say), which the reader refuses.
fn read_list(path: &Path, error: PytorchError) -> Result<(PytorchReader, Rewritten), CheckpointError> {
    let refused = |e: PytorchError| match e {
        PytorchError::Io(source) if source.raw_os_error().is_some() => {
            CheckpointError::Read { path: path.to_path_buf(), source }
        }
        e => damaged(path, &e.to_string()),
    };
    if !matches!(PytorchReader::read_pickle_data(path, None), Ok(PickleValue::List(_))) {
        return Err(refused(error));
    }
    let directory = tempfile::tempdir()
        .map_err(|source| CheckpointError::Write { path: std::env::temp_dir(), source })?;
    let file = directory.path().join("wrapped.pt");
    pickle::wrap_root(path, &file).map_err(|e| damaged(path, &e.to_string()))?;
    let reader = PytorchReader::new(&file).map_err(refused)?;
    Ok((reader, Some((directory, file))))
}

/// A step counter saved beside the weights, by its two usual names.
fn step(path: &Path) -> Option<u64> {
    let Ok(PickleValue::Dict(root)) = PytorchReader::read_pickle_data(path, None) else { return None };
    ["step", "global_step"].into_iter().find_map(|key| match root.get(key) {
        Some(PickleValue::Int(step)) => u64::try_from(*step).ok(),
        _ => None,
    })
}

fn damaged(path: &Path, detail: &str) -> CheckpointError {
    CheckpointError::Damaged {
        path: path.to_path_buf(),
        detail: format!("not readable as PyTorch: {detail}"),
    }
}

/// The reader is careful, but it is somebody else's parser of hostile input: a panic in it must not end the program.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, CheckpointError>) -> Result<T, CheckpointError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(damaged(path, "the reader failed on this file's structure")))
}
