//! The loss where logits are read (`head.wgsl`).

use super::recorder::{READS, Recorder, read, source, write};
use crate::GpuError;
use crate::context::grid;

/// Buffers of the loss.
#[derive(Clone, Copy)]
pub(super) struct Loss<'b> {
    /// Logits [capacity, vocab], which become their gradient.
    pub logits: &'b wgpu::Buffer,
    /// Targets [capacity, vocab].
    pub targets: &'b wgpu::Buffer,
    /// A loss per read position.
    pub losses: &'b wgpu::Buffer,
    /// Four numbers per training step.
    pub results: &'b wgpu::Buffer,
}

impl Recorder<'_> {
    /// Logits become their gradient; the loss is added to the training step's.
    pub fn cross_entropy(&mut self, vocab: usize, capacity: usize, loss: Loss<'_>) -> Result<(), GpuError> {
        let source =
            source(&[("C", 2), ("WG", 64)], &[include_str!("../reduce.wgsl"), include_str!("head.wgsl")]);
        let Loss { logits, targets, losses, results } = loss;
        let uniform = [vocab as u32, READS, 0, 0];
        let buffers = [write(logits), read(targets), write(losses), write(results)];
        let flops = 20.0 * (capacity * vocab) as f64;
        let groups = grid(capacity as u32);
        self.push("cross-entropy", "cross_entropy", &source, &uniform, &buffers, groups, flops)?;
        self.push("loss", "loss", &source, &uniform, &buffers, [1; 3], capacity as f64)
    }
}
