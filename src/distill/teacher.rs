//! The checkpoints of one teacher, loaded when a student needs them.

use crate::checkpoint::{self, CheckpointError, TransformerState};
use crate::engine::cpu::{CpuOptions, Mlp};
use crate::engine::device::Device;
use crate::engine::transformer::{EngineError, Transformer};
use crate::model::transformer::TokenBatch;
use crate::task::Samples;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// One checkpoint of a teacher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeacherCheckpoint {
    /// Teacher step, where known.
    pub step: Option<u64>,
    /// The file.
    pub path: PathBuf,
}

/// Checkpoints of one teacher in order, at most a memory budget's worth of them loaded.
pub struct TeacherPool {
    checkpoints: Vec<TeacherCheckpoint>,
    d: usize,
    classes: usize,
    options: CpuOptions,
    /// Loaded models, the most recently used last.
    loaded: Mutex<VecDeque<(usize, Arc<Mlp>, usize)>>,
}

/// Bytes of teacher parameters kept loaded at once (at least one checkpoint always is).
const BUDGET: usize = 1 << 30;

impl TeacherPool {
    /// A pool of `checkpoints` for students with `d` inputs and `classes` logits.
    pub fn new(checkpoints: Vec<TeacherCheckpoint>, d: usize, classes: usize, options: CpuOptions) -> Self {
        Self { checkpoints, d, classes, options, loaded: Mutex::default() }
    }

    /// The checkpoints.
    pub fn checkpoints(&self) -> &[TeacherCheckpoint] {
        &self.checkpoints
    }

    /// Logits [n, C] of checkpoint `index`.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or has another shape.
    pub fn logits(&self, index: usize, samples: &Samples) -> Result<Vec<f32>, CheckpointError> {
        let model = self.model(index)?;
        let mut logits = vec![0.0; samples.len() * self.classes];
        model.logits(samples, &mut logits);
        Ok(logits)
    }

    fn model(&self, index: usize) -> Result<Arc<Mlp>, CheckpointError> {
        let mut loaded = self.loaded.lock().expect("no thread panics while it holds the pool");
        if let Some(at) = loaded.iter().position(|(i, ..)| *i == index) {
            let entry = loaded.remove(at).expect("position is in range");
            let model = entry.1.clone();
            loaded.push_back(entry);
            return Ok(model);
        }
        let path = &self.checkpoints[index].path;
        let read = checkpoint::load(path)?;
        checkpoint::expect_shape(&read.params, path, self.d, self.classes, None)?;
        let bytes = 4 * read.params.shape().parameters();
        let model = Arc::new(Mlp::new(&read.params, self.options));
        loaded.push_back((index, model.clone(), bytes));
        while loaded.len() > 1 && loaded.iter().map(|(_, _, b)| b).sum::<usize>() > BUDGET {
            loaded.pop_front();
        }
        Ok(model)
    }
}

/// A model, once for each thread that may use it.
type Copies = Arc<Vec<Mutex<Transformer>>>;

/// Checkpoints of one transformer in order, at most a memory budget's worth of them loaded.
pub struct TransformerPool {
    checkpoints: Vec<TeacherCheckpoint>,
    vocab: usize,
    device: Device,
    /// Copies of each model on the CPU: one per thread, so that batches are computed side by side.
    copies: usize,
    models: usize,
    loaded: Mutex<VecDeque<(usize, Copies, usize)>>,
}

impl TransformerPool {
    /// Checkpoints kept on a GPU at once.
    pub const ON_GPU: usize = 4;

    /// A pool of `checkpoints` for students with `vocab` logits; `models` models share a GPU's memory.
    pub fn new(
        checkpoints: Vec<TeacherCheckpoint>,
        vocab: usize,
        device: Device,
        threads: usize,
        models: usize,
    ) -> Self {
        let copies = if matches!(device, Device::Cpu) { threads.max(1) } else { 1 };
        Self { checkpoints, vocab, device, copies, models, loaded: Mutex::default() }
    }

    /// Logits [reads, vocab] of checkpoint `index`. May be called from several threads at once.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, has another vocabulary, the batch does not fit it or the device fails.
    pub fn logits(
        &self,
        index: usize,
        batch: &TokenBatch<'_>,
        reads: &[u32],
    ) -> Result<Vec<f32>, EngineError> {
        if reads.is_empty() {
            return Ok(vec![]);
        }
        let copies = self.copies(index)?;
        // A free copy, or else wait for one's own.
        let free = copies.iter().find_map(|copy| copy.try_lock().ok());
        let own = rayon::current_thread_index().unwrap_or(0) % copies.len();
        let model = free.unwrap_or_else(|| copies[own].lock().expect("holders do not panic"));
        model.logits(batch, reads)
    }

    fn copies(&self, index: usize) -> Result<Copies, EngineError> {
        let mut loaded = self.loaded.lock().expect("no thread panics while it holds the pool");
        if let Some(at) = loaded.iter().position(|(i, ..)| *i == index) {
            let entry = loaded.remove(at).expect("position is in range");
            let copies = entry.1.clone();
            loaded.push_back(entry);
            return Ok(copies);
        }
        let path = &self.checkpoints[index].path;
        let state = TransformerState::new(checkpoint::transformer::load(path)?.params);
        let found = state.params.config.vocab;
        if found != self.vocab {
            let text =
                format!("{}: the teacher has {found} tokens, the student {}", path.display(), self.vocab);
            return Err(text.into());
        }
        let copies = (0..self.copies)
            .map(|_| Transformer::sharing(&state, &self.device, 1, self.models).map(Mutex::new))
            .collect::<Result<Vec<_>, _>>()?;
        let copies = Arc::new(copies);
        loaded.push_back((index, copies.clone(), 16 * self.copies * state.params.values.len()));
        let most = if matches!(self.device, Device::Cpu) { usize::MAX } else { Self::ON_GPU };
        while loaded.len() > most
            || (loaded.len() > 1 && loaded.iter().map(|(_, _, b)| b).sum::<usize>() > BUDGET)
        {
            loaded.pop_front();
        }
        Ok(copies)
    }
}
