//! The checkpoints of one teacher, loaded when a student needs them.

use crate::device::Device;
use crate::train::member::TrainError;
use crate::transformer::{EngineError, Transformer};
use curricle_core::model::transformer::TokenBatch;
use curricle_core::model::{LogitModel, TransformerState};
use curricle_core::task::Samples;
use curricle_files as files;
use curricle_files::CheckpointError;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// One checkpoint of a teacher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeacherCheckpoint {
    /// Teacher step, where known.
    pub step: Option<u64>,
    /// The file.
    pub path: PathBuf,
}

/// Bytes of teacher parameters kept loaded at once (at least one checkpoint always is).
const BUDGET: usize = 1 << 30;

/// Models by the number of their checkpoint, the least recently used dropped beyond [`BUDGET`] or a number of models.
struct Loaded<M> {
    /// Number, model and bytes, the most recently used last.
    models: Mutex<VecDeque<(usize, Arc<M>, usize)>>,
    most: usize,
}

impl<M> Loaded<M> {
    fn new(most: usize) -> Self {
        Self { models: Mutex::default(), most }
    }

    /// Model `index`; `load` gives it and its bytes if it is not there.
    fn get<E>(&self, index: usize, load: impl FnOnce() -> Result<(M, usize), E>) -> Result<Arc<M>, E> {
        let mut models = self.models.lock().expect("no thread panics while it holds the models");
        if let Some(at) = models.iter().position(|(i, ..)| *i == index) {
            let entry = models.remove(at).expect("position is in range");
            let model = entry.1.clone();
            models.push_back(entry);
            return Ok(model);
        }
        let (model, bytes) = load()?;
        let model = Arc::new(model);
        models.push_back((index, model.clone(), bytes));
        let beyond = |models: &VecDeque<(usize, Arc<M>, usize)>| {
            models.len() > self.most || models.iter().map(|(_, _, b)| b).sum::<usize>() > BUDGET
        };
        while models.len() > 1 && beyond(&models) {
            models.pop_front();
        }
        Ok(model)
    }
}

/// A model that reads sign vectors, for several threads.
pub type SharedModel = Box<dyn LogitModel + Send + Sync>;

/// Gives a checkpoint's model and its bytes in memory.
type Load = Box<dyn Fn(usize) -> Result<(SharedModel, usize), CheckpointError> + Send + Sync>;

/// Checkpoints of one teacher that reads sign vectors, at most a memory budget's worth of them loaded.
pub struct SignTeachers {
    classes: usize,
    load: Load,
    loaded: Loaded<SharedModel>,
}

impl SignTeachers {
    /// Teachers that `load` gives by their number, with the bytes they take; for students with `classes` logits.
    pub fn new(
        classes: usize,
        load: impl Fn(usize) -> Result<(SharedModel, usize), CheckpointError> + Send + Sync + 'static,
    ) -> Self {
        Self { classes, load: Box::new(load), loaded: Loaded::new(usize::MAX) }
    }

    /// Checkpoint files, opened by `open`.
    pub fn of_files(
        checkpoints: Vec<TeacherCheckpoint>,
        classes: usize,
        open: impl Fn(&Path) -> Result<(SharedModel, usize), CheckpointError> + Send + Sync + 'static,
    ) -> Self {
        Self::new(classes, move |index| open(&checkpoints[index].path))
    }

    /// Logits [n, C] of checkpoint `index`.
    ///
    /// # Errors
    /// If the checkpoint cannot be read, has another shape, or does not compute.
    pub fn logits(&self, index: usize, samples: &Samples) -> Result<Vec<f32>, TrainError> {
        let model = self.loaded.get(index, || (self.load)(index))?;
        let mut logits = vec![0.0; samples.len() * self.classes];
        model.logits(samples, &mut logits).map_err(TrainError::Model)?;
        Ok(logits)
    }
}

/// A model, once for each thread that may use it.
type Copies = Vec<Mutex<Transformer>>;

/// Checkpoints of one transformer in order, at most a memory budget's worth of them loaded.
pub struct TransformerPool {
    checkpoints: Vec<TeacherCheckpoint>,
    vocab: usize,
    device: Device,
    /// Copies of each model on the CPU: one per thread, so that batches are computed side by side.
    copies: usize,
    models: usize,
    loaded: Loaded<Copies>,
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
        let (copies, most) = match device {
            Device::Cpu => (threads.max(1), usize::MAX),
            Device::Gpu(_) => (1, Self::ON_GPU),
        };
        Self { checkpoints, vocab, device, copies, models, loaded: Loaded::new(most) }
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

    fn copies(&self, index: usize) -> Result<Arc<Copies>, EngineError> {
        self.loaded.get(index, || {
            let path = &self.checkpoints[index].path;
            let state = TransformerState::new(files::transformer::load(path)?.params);
            let found = state.params.config.vocab;
            if found != self.vocab {
                let text =
                    format!("{}: the teacher has {found} tokens, the student {}", path.display(), self.vocab);
                return Err(text.into());
            }
            let copies = (0..self.copies)
                .map(|_| Transformer::sharing(&state, &self.device, 1, self.models).map(Mutex::new))
                .collect::<Result<Copies, _>>()?;
            Ok((copies, 16 * self.copies * state.params.values.len()))
        })
    }
}
