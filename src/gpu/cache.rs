//! Teacher checkpoints kept on the device, within a memory budget.

use super::GpuError;
use super::mlp::GpuMlp;
use super::sample::SharedContext;
use curricle_core::model::MlpParams;
use std::collections::VecDeque;

/// Models by number, the least recently used dropped when the budget is exceeded (one always stays).
#[derive(Debug)]
pub struct CheckpointCache {
    context: SharedContext,
    budget: u64,
    /// (number, model, bytes), the most recently used last.
    loaded: VecDeque<(usize, GpuMlp, u64)>,
}

impl CheckpointCache {
    /// An empty cache with the device's budget ([`super::GpuContext::memory_budget`]), or an own one.
    pub fn new(context: &SharedContext, budget: Option<u64>) -> Self {
        let budget = budget.unwrap_or_else(|| context.memory_budget());
        Self { context: context.clone(), budget, loaded: VecDeque::new() }
    }

    /// Model `number`, loaded with `load` if it is not resident.
    ///
    /// # Errors
    /// Those of `load`, and if the model does not fit on the device.
    pub fn get<E: From<GpuError>>(
        &mut self,
        number: usize,
        load: impl FnOnce() -> Result<MlpParams, E>,
    ) -> Result<&GpuMlp, E> {
        if let Some(at) = self.loaded.iter().position(|(n, ..)| *n == number)
            && let Some(entry) = self.loaded.remove(at)
        {
            self.loaded.push_back(entry);
        } else {
            let params = load()?;
            let bytes = 4 * params.shape().parameters() as u64;
            while !self.loaded.is_empty() && self.bytes() + bytes > self.budget {
                self.loaded.pop_front();
            }
            let model = GpuMlp::new(&self.context, &params)?;
            self.loaded.push_back((number, model, bytes));
        }
        let place = self.loaded.len() - 1;
        Ok(&self.loaded[place].1)
    }

    /// Bytes of the resident models.
    pub fn bytes(&self) -> u64 {
        self.loaded.iter().map(|(.., b)| b).sum()
    }

    /// Number of resident models.
    pub fn len(&self) -> usize {
        self.loaded.len()
    }

    /// True when nothing is resident.
    pub fn is_empty(&self) -> bool {
        self.loaded.is_empty()
    }
}
