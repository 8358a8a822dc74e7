//! What an open file says of its tensors, whatever the format.

use std::fs::File;

/// What a file says about a tensor before its values are read.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name in the file.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Its type, as the file format calls it.
    pub(super) dtype: String,
    pub(super) element: Option<Element>,
}

impl Entry {
    pub(super) fn new(name: String, shape: Vec<usize>, dtype: String, element: Option<Element>) -> Self {
        Self { name, shape, dtype, element }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" {:?}", self.name, self.shape)
    }
}

/// Element types that become f32.
#[derive(Debug, Clone, Copy)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    Bf16,
}

impl Element {
    /// Little-endian bytes to f32. An f64 is rounded; one beyond f32's range becomes infinite.
    pub(super) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        fn words<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|word| convert(*word)).collect()
        }
        match self {
            Self::F64 => words(bytes, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => words(bytes, f32::from_le_bytes),
            Self::F16 => words(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => words(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
        }
    }
}

#[derive(Debug)]
pub(super) enum Values {
    /// First byte and length of each entry.
    Safetensors(File, Vec<(u64, usize)>),
    Pytorch {
        /// The reader's handles, one per entry.
        tensors: Vec<pytorch_reader::Tensor>,
        /// Keeps a rewritten file alive that the handles read from.
        _rewritten: Option<tempfile::TempDir>,
    },
}
