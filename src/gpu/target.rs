//! Training targets on the device: uploaded, from labels, or from teacher logits (the definitions of `distill::target`).

use super::GpuError;
use super::context::{Bind, GpuContext, grid};
use super::logits::GpuLogits;
use super::sample::{GpuSamples, labels_of};
use super::shader::assemble;
use curricle_core::model::Loss;

/// Targets of a run of samples, on the device. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GpuTargets {
    pub(super) loss: Loss,
    pub(super) width: usize,
    pub(super) count: usize,
    pub(super) values: wgpu::Buffer,
}

/// How targets are made from teacher logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetSpec<'a> {
    /// The loss they are for.
    pub loss: Loss,
    /// Temperature; 0 is the argmax.
    pub temperature: f64,
    /// Weight of the labels in each step; empty for none.
    pub label_mix: &'a [f32],
    /// Samples per step.
    pub batch: usize,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Target {
    samples: u32,
    classes: u32,
    kind: u32,
    hard: u32,
    temperature: f32,
    batch: u32,
    first: u32,
    mixed: u32,
}

/// Number of a loss in the kernels.
pub(super) fn kind(loss: Loss) -> u32 {
    match loss {
        Loss::CrossEntropy => 0,
        Loss::Hinge => 1,
        Loss::Correlation => 2,
    }
}

/// Kind and target width in one word.
pub(super) fn loss_word(loss: Loss, classes: usize) -> u32 {
    kind(loss) | (loss.target_width(classes) as u32) << 8
}

impl GpuTargets {
    /// Copies targets to the device: [`Loss::target_width`] numbers per sample.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn upload(
        context: &GpuContext,
        loss: Loss,
        classes: usize,
        targets: &[f32],
    ) -> Result<Self, GpuError> {
        let width = loss.target_width(classes);
        let values = context.upload("targets", targets)?;
        Ok(Self { loss, width, count: targets.len() / width, values })
    }

    /// Targets of samples `range` from their labels.
    ///
    /// # Errors
    /// If the samples have no labels or memory is out.
    pub fn from_labels(
        context: &GpuContext,
        samples: &GpuSamples,
        range: std::ops::Range<usize>,
        loss: Loss,
        classes: usize,
    ) -> Result<Self, GpuError> {
        // All weight on the labels: what the logits are does not matter.
        let values = context.storage("no logits", (samples.count * classes) as u64)?;
        let logits = GpuLogits { models: 1, samples: samples.count, classes, values };
        let batch = range.len().max(1);
        let spec = TargetSpec { loss, temperature: 0.0, label_mix: &[1.0], batch };
        Self::from_teacher(context, samples, &logits, range, &spec)
    }

    /// Targets of samples `range` from a teacher's logits on all of `samples`.
    ///
    /// # Errors
    /// If the samples have no labels, the logits are of other samples, or memory is out.
    pub fn from_teacher(
        context: &GpuContext,
        samples: &GpuSamples,
        logits: &GpuLogits,
        range: std::ops::Range<usize>,
        spec: &TargetSpec,
    ) -> Result<Self, GpuError> {
        let count = range.len();
        if range.end > samples.count || logits.samples != samples.count || logits.models != 1 {
            return Err(GpuError::Refused("teacher logits and samples do not belong together".into()));
        }
        if spec.batch == 0 || (!spec.label_mix.is_empty() && spec.label_mix.len() * spec.batch < count) {
            return Err(GpuError::Refused("the label mix has too few steps".into()));
        }
        let width = spec.loss.target_width(logits.classes);
        let values = context.storage("targets", (count * width) as u64)?;
        let mix = context
            .upload("label mix", if spec.label_mix.is_empty() { &[0.0f32] } else { spec.label_mix })?;
        let uniform = context.uniform(&Target {
            samples: count as u32,
            classes: logits.classes as u32,
            kind: kind(spec.loss),
            hard: u32::from(spec.temperature == 0.0),
            // Temperatures beyond f32 act as its ends: 0 makes the kernel compare instead of divide.
            temperature: (spec.temperature as f32).min(f32::MAX),
            batch: spec.batch as u32,
            first: range.start as u32,
            mixed: u32::from(spec.label_mix.iter().any(|&m| m > 0.0)),
        })?;
        let binds = [Bind::Uniform, Bind::Read, Bind::Read, Bind::Read, Bind::Write];
        let kernel =
            context.kernel("target", "make", &assemble(&[], &[include_str!("target.wgsl")]), &binds)?;
        let buffers = [&uniform, &logits.values, labels_of(samples)?, &mix, &values];
        context.submit(&[context.launch(&kernel, &binds, &buffers, grid(count.div_ceil(64) as u32))]);
        Ok(Self { loss: spec.loss, width, count, values })
    }

    /// Copies the targets back.
    ///
    /// # Errors
    /// If the device fails.
    pub fn download(&self, context: &GpuContext) -> Result<Vec<f32>, GpuError> {
        context.read(&self.values, 0, self.count * self.width)
    }
}
