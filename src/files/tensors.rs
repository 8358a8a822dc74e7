//! Named tensors in files: safetensors in and out, PyTorch in. What the names mean is decided elsewhere.

pub use super::entry::Entry;
use super::entry::{Element, Values};
use super::error::CheckpointError;
use super::{atomic, pytorch};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The longest JSON header the safetensors format allows, bytes.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor to be written.
#[derive(Debug, Clone)]
pub struct TensorRef<'a> {
    /// Its name in the file.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Row-major values; as many as the product of `shape`.
    pub data: &'a [f32],
}

/// A tensor that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub data: Vec<f32>,
}

impl Tensor {
    /// For writing it again.
    pub fn view(&self) -> TensorRef<'_> {
        TensorRef { name: self.name.clone(), shape: self.shape.clone(), data: &self.data }
    }
}

/// The kind of file a checkpoint came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// `torch.save`, any container.
    Pytorch,
}

/// An open checkpoint file: names, shapes and metadata are known, values are read on demand.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    /// Where it came from.
    pub format: Format,
    /// Every tensor, in the file's order (safetensors) or by name (PyTorch, whose reader keeps no order).
    pub entries: Vec<Entry>,
    /// The string map of a safetensors header; for PyTorch, integers beside the weights such as "step".
    pub metadata: BTreeMap<String, String>,
    values: Values,
}

impl TensorFile {
    /// Opens a checkpoint; its content, not its extension, says what it is.
    ///
    /// # Errors
    /// If it cannot be read, is neither format, or contradicts itself or its size.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let read = |source| CheckpointError::Read { path: path.to_path_buf(), source };
        let not_a_file = |what, hint| Err(CheckpointError::NotAFile { path: path.to_path_buf(), what, hint });
        // Before opening: opening a pipe would wait for its writer.
        let about = std::fs::metadata(path).map_err(read)?;
        if about.is_dir() {
            return not_a_file("a directory", "name a file in it, such as checkpoints/step-*.safetensors");
        }
        if !about.is_file() {
            return not_a_file("a device or a pipe", "save it to disk first");
        }
        if about.len() == 0 {
            return not_a_file("an empty file", "copy it again or take another checkpoint");
        }
        let file = File::open(path).map_err(read)?;
        let mut start = Vec::new();
        (&file).take(16).read_to_end(&mut start).map_err(read)?;
        // A safetensors file is a length of 8 bytes and then JSON; no PyTorch container has '{' there.
        if start.get(8) == Some(&b'{') {
            return Self::open_safetensors(path, file, about.len());
        }
        if path.extension().is_some_and(|e| e == "safetensors") && !pytorch::plausible(&start) {
            let detail = if start.len() < 9 {
                format!("{} bytes cannot hold a safetensors header", about.len())
            } else {
                "no safetensors header at its start (8 bytes of length, then '{')".into()
            };
            return Err(CheckpointError::Damaged { path: path.to_path_buf(), detail });
        }
        if !pytorch::plausible(&start) {
            let detail = format!("it starts with the bytes {:02x?}", &start[..start.len().min(9)]);
            return Err(CheckpointError::Unrecognised { path: path.to_path_buf(), detail });
        }
        let (entries, metadata, values) = pytorch::open(path, about.len())?;
        Ok(Self { path: path.to_path_buf(), format: Format::Pytorch, entries, metadata, values })
    }

    fn open_safetensors(path: &Path, mut file: File, size: u64) -> Result<Self, CheckpointError> {
        let read = |source| CheckpointError::Read { path: path.to_path_buf(), source };
        let damaged = |detail: String| CheckpointError::Damaged { path: path.to_path_buf(), detail };
        let mut length = [0; 8];
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        file.read_exact(&mut length).map_err(read)?;
        let length = u64::from_le_bytes(length);
        // Checked before anything of that length is allocated.
        if length > size - 8 || length > MAX_HEADER {
            return Err(damaged(format!("its header claims {length} bytes, the file has {size}")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(read)?;
        let parsed: Metadata = serde_json::from_slice(&header).map_err(|e| {
            damaged(match culprit(&header) {
                Some(tensor) => format!("header, tensor \"{tensor}\": {e}"),
                None => format!("header: {e}"),
            })
        })?;
        let (start, data) = (8 + length, parsed.data_len() as u64);
        if start.checked_add(data) != Some(size) {
            return Err(damaged(format!("its tensors need {data} bytes, the file has {}", size - start)));
        }
        let mut entries = Vec::new();
        let mut spans = Vec::new();
        for name in parsed.offset_keys() {
            let info = parsed.info(&name).expect("a key of the header");
            let element = match info.dtype {
                Dtype::F64 => Some(Element::F64),
                Dtype::F32 => Some(Element::F32),
                Dtype::F16 => Some(Element::F16),
                Dtype::BF16 => Some(Element::Bf16),
                _ => None,
            };
            let (from, to) = info.data_offsets;
            spans.push((start + from as u64, to - from));
            entries.push(Entry::new(name, info.shape.clone(), info.dtype.to_string(), element));
        }
        Ok(Self {
            path: path.to_path_buf(),
            format: Format::Safetensors,
            entries,
            metadata: parsed.metadata().clone().unwrap_or_default().into_iter().collect(),
            values: Values::Safetensors(file, spans),
        })
    }

    /// Position of a tensor in `entries`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|e| e.name == name)
    }

    /// Reads tensor `index` as f32, whatever its floating type.
    ///
    /// # Errors
    /// If it is of another type or its bytes cannot be read. Values are not judged: see [`Self::read_finite`].
    pub fn read(&mut self, index: usize) -> Result<Tensor, CheckpointError> {
        let entry = &self.entries[index];
        let Some(element) = entry.element else {
            return Err(CheckpointError::Tensor {
                path: self.path.clone(),
                tensor: entry.name.clone(),
                found: format!("elements of type {}", entry.dtype),
                expected: "F32 (F64, F16 and BF16 are converted)".into(),
            });
        };
        let bytes = match &mut self.values {
            Values::Safetensors(file, spans) => {
                let (start, length) = spans[index];
                let mut bytes = vec![0; length];
                file.seek(SeekFrom::Start(start))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(|source| CheckpointError::Read { path: self.path.clone(), source })?;
                bytes
            }
            Values::Pytorch { tensors, .. } => pytorch::read(&self.path, &tensors[index])?,
        };
        let data = element.decode(&bytes);
        // Both formats check this on opening; a wrong number would be worse than checking again.
        if data.len() != entry.shape.iter().product::<usize>() {
            let detail =
                format!("tensor \"{}\" has {} values, its shape {:?}", entry.name, data.len(), entry.shape);
            return Err(CheckpointError::Damaged { path: self.path.clone(), detail });
        }
        Ok(Tensor { name: entry.name.clone(), shape: entry.shape.clone(), data })
    }

    /// [`Self::read`], and every value must be finite.
    ///
    /// # Errors
    /// As [`Self::read`], or naming the first NaN or infinite element.
    pub fn read_finite(&mut self, index: usize) -> Result<Tensor, CheckpointError> {
        let tensor = self.read(index)?;
        match non_finite(&self.path, &tensor.view()) {
            Some(error) => Err(error),
            None => Ok(tensor),
        }
    }
}

/// The first NaN or infinite value as an error.
fn non_finite(path: &Path, tensor: &TensorRef<'_>) -> Option<CheckpointError> {
    let mut at = tensor.data.iter().position(|v| !v.is_finite())?;
    let value = f64::from(tensor.data[at]);
    let mut index = vec![0; tensor.shape.len()];
    for (i, extent) in index.iter_mut().zip(&tensor.shape).rev() {
        (*i, at) = (at % extent, at / extent);
    }
    Some(CheckpointError::NonFinite { path: path.to_path_buf(), tensor: tensor.name.clone(), index, value })
}

/// The first tensor of a refused header whose entry contradicts itself: the format's reader does not always say.
fn culprit(header: &[u8]) -> Option<String> {
    let entries: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let tensors = entries.into_iter().filter(|(name, _)| name != "__metadata__");
    let wrong = |value: serde_json::Value| -> bool {
        let Ok(info) = serde_json::from_value::<TensorInfo>(value) else { return true };
        let elements = info.shape.iter().try_fold(1usize, |n, e| n.checked_mul(*e));
        let bytes = elements.and_then(|n| n.checked_mul(info.dtype.bitsize())).map(|bits| bits / 8);
        let (from, to) = info.data_offsets;
        bytes.is_none() || to.checked_sub(from) != bytes
    };
    tensors.into_iter().find_map(|(name, value)| wrong(value).then_some(name))
}

/// Writes a safetensors file atomically. The same tensors and metadata give the same bytes.
///
/// With `finite`, a NaN or infinite value is refused: no reader would accept the file.
///
/// # Errors
/// If a value is refused or the file cannot be written; then the old file, if any, is untouched.
pub fn write_safetensors(
    path: &Path,
    tensors: &[TensorRef<'_>],
    metadata: &BTreeMap<String, String>,
    finite: bool,
) -> Result<(), CheckpointError> {
    if finite && let Some(error) = tensors.iter().find_map(|t| non_finite(path, t)) {
        return Err(error);
    }
    let error = |source| CheckpointError::Write { path: path.to_path_buf(), source };
    let header = header(tensors, metadata).map_err(|e| error(std::io::Error::other(e)))?;
    atomic::write(path, |writer| {
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        for value in tensors.iter().flat_map(|t| t.data) {
            writer.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    })
    .map_err(error)
}

/// The JSON header, padded with spaces to a multiple of 8 bytes.
fn header(tensors: &[TensorRef<'_>], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let mut infos = Vec::new();
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += 4 * tensor.data.len();
        let info = TensorInfo { dtype: Dtype::F32, shape: tensor.shape.clone(), data_offsets: (start, end) };
        infos.push((tensor.name.clone(), info));
    }
    let names: HashMap<&str, ()> = tensors.iter().map(|t| (t.name.as_str(), ())).collect();
    if names.len() != tensors.len() {
        return Err("two tensors have the same name".into());
    }
    // The crate checks the shapes, but keeps the metadata in a map of random order: equal runs should give equal files.
    let checked =
        Metadata::new(Some(HashMap::new()), infos).map_err(|e| format!("inconsistent tensors: {e}"))?;
    let mut json = serde_json::to_value(&checked).map_err(|e| e.to_string())?;
    json["__metadata__"] = serde_json::json!(metadata);
    let mut bytes = json.to_string().into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    if bytes.len() as u64 > MAX_HEADER {
        return Err(format!("a header of {} bytes is beyond the format's limit", bytes.len()));
    }
    Ok(bytes)
}
