//! What can be wrong with a checkpoint file, in words that say where and what to do.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A checkpoint that could not be read, understood or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused to read.
    #[error("cannot read checkpoint {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The operating system refused to write; whatever was at the path before is untouched.
    #[error("cannot write {}: {source}; what was there before is unchanged", path.display())]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A directory, a pipe, an empty file.
    #[error("{} is {what}, not a checkpoint file; {hint}", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to give instead.
        hint: &'static str,
    },
    /// Neither safetensors nor PyTorch.
    #[error(
        "{} is neither a safetensors nor a PyTorch checkpoint: {detail}; write it with \
         safetensors.torch.save_file(model.state_dict(), ..) or torch.save(model.state_dict(), ..)",
        path.display()
    )]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// What its first bytes say.
        detail: String,
    },
    /// Truncated, overlapping, malformed.
    #[error("checkpoint {} is damaged: {detail}; copy it again or take another checkpoint", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        detail: String,
    },
    /// One tensor is not what the model needs.
    #[error("checkpoint {}, tensor \"{tensor}\": {found}, expected {expected}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor in the file.
        tensor: String,
        /// What the file has.
        found: String,
        /// What is needed, or what to do.
        expected: String,
    },
    /// A value that is NaN or infinite, also after conversion to f32.
    #[error(
        "checkpoint {}, tensor \"{tensor}\": element {index:?} is {value}, expected a finite f32; the run that \
         made it has diverged (take an earlier checkpoint or a smaller learning rate)",
        path.display()
    )]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// Name of the tensor in the file.
        tensor: String,
        /// Its index, one number per axis.
        index: Vec<usize>,
        /// Its value.
        value: f64,
    },
    /// A transformer where an MLP is needed.
    #[error(
        "checkpoint {} holds a transformer (tensor \"{tensor}\"), but an MLP is needed here: pairs of 2-D \
         \"weight\" and 1-D \"bias\" tensors",
        path.display()
    )]
    Transformer {
        /// The file.
        path: PathBuf,
        /// The name that gives it away.
        tensor: String,
    },
    /// A transformer whose configuration is missing or cannot be used.
    #[error("checkpoint {}: {detail}", path.display())]
    Config {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        detail: String,
    },
    /// The tensors do not make one MLP, or make more than one.
    #[error("checkpoint {}: {detail}; the file has {}", path.display(), list(tensors))]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is missing or ambiguous, and what to do.
        detail: String,
        /// Names and shapes found.
        tensors: Vec<String>,
    },
    /// An MLP, but not of the shape the task or the run needs.
    #[error("checkpoint {} has {found}, but {expected}; {hint}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What the file has.
        found: String,
        /// What is needed.
        expected: String,
        /// What to do.
        hint: &'static str,
    },
}

/// At most 12 names, so that a message stays readable.
fn list(tensors: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut text = tensors.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match tensors.len() {
        0 => text.push_str("no tensors"),
        n if n > SHOWN => text.push_str(&format!(", and {} more", n - SHOWN)),
        _ => {}
    }
    text
}
