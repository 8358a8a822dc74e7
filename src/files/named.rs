//! A model as named tensors and a line about it: how a family of somebody else's is kept.

use super::tensors::{Tensor, TensorFile, TensorRef, write_safetensors};
use super::{CheckpointError, Kept, Metadata, PREFIX};
use serde_json::Value;
use std::path::Path;

/// Parameters by name, and what else the family needs to make the model of them again.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensors {
    /// Kind and keys of the model, in whatever form its family reads; `curricle.model` in the file.
    pub about: String,
    /// The parameters.
    pub list: Vec<Tensor>,
}

impl Tensors {
    /// The tensor of this name and shape.
    ///
    /// # Errors
    /// In words, if there is none or it has another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&[f32], String> {
        let tensor = self.list.iter().find(|t| t.name == name);
        let tensor = tensor.ok_or_else(|| format!("there is no tensor \"{name}\""))?;
        if tensor.shape != shape {
            return Err(format!("tensor \"{name}\" has shape {:?}, expected {shape:?}", tensor.shape));
        }
        Ok(&tensor.data)
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.list.iter().flat_map(|t| &t.data).all(|x| x.is_finite())
    }

    /// What a file says its model is: `None` if it is no such file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn about(path: &Path) -> Result<Option<String>, CheckpointError> {
        Ok(TensorFile::open(path)?.metadata.remove(&format!("{PREFIX}model")))
    }

    /// Reads a checkpoint, and its step where known.
    ///
    /// # Errors
    /// If the file cannot be read, is not one of named tensors, or a number is not finite.
    pub fn load(path: &Path) -> Result<(Self, Option<u64>), CheckpointError> {
        let mut file = TensorFile::open(path)?;
        let step = file.metadata.get(&format!("{PREFIX}step")).and_then(|s| s.parse().ok());
        let Some(about) = file.metadata.remove(&format!("{PREFIX}model")) else {
            let detail = format!("its metadata has no {PREFIX}model");
            return Err(CheckpointError::Damaged { path: path.to_path_buf(), detail });
        };
        let list = (0..file.entries.len()).map(|i| file.read_finite(i)).collect::<Result<_, _>>()?;
        Ok((Self { about, list }, step))
    }

    fn views(&self) -> Vec<TensorRef<'_>> {
        self.list.iter().map(Tensor::view).collect()
    }
}

impl Kept for Tensors {
    fn save(&self, path: &Path, metadata: &Metadata) -> Result<(), CheckpointError> {
        let mut map = metadata.provenance();
        map.insert(format!("{PREFIX}model"), self.about.clone());
        write_safetensors(path, &self.views(), &map, true)
    }

    fn save_resume(&self, path: &Path, state: &Value) -> Result<(), CheckpointError> {
        let mut map = Metadata::default().provenance();
        map.insert(format!("{PREFIX}model"), self.about.clone());
        map.insert(format!("{PREFIX}state"), state.to_string());
        write_safetensors(path, &self.views(), &map, true)
    }

    fn load_resume(path: &Path) -> Result<(Self, Value), CheckpointError> {
        let text = TensorFile::open(path)?.metadata.remove(&format!("{PREFIX}state"));
        let state = text.and_then(|s| serde_json::from_str(&s).ok());
        let damaged = || CheckpointError::Damaged {
            path: path.to_path_buf(),
            detail: "it holds no resumable state".into(),
        };
        Ok((Self::load(path)?.0, state.ok_or_else(damaged)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_tensors_come_back_with_their_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let filter = Tensor { name: "filter".into(), shape: vec![2, 3], data: vec![0.5; 6] };
        let model = Tensors { about: "conv".into(), list: vec![filter] };
        model.save(&path, &Metadata { step: Some(7), ..Metadata::default() }).unwrap();
        assert_eq!(Tensors::about(&path).unwrap().as_deref(), Some("conv"));
        assert_eq!(Tensors::load(&path).unwrap(), (model.clone(), Some(7)));
        assert!(model.get("filter", &[3, 2]).unwrap_err().contains("[2, 3]"));
        let state = serde_json::json!({ "step": 9 });
        model.save_resume(&path, &state).unwrap();
        assert_eq!(Tensors::load_resume(&path).unwrap(), (model, state));
    }
}
