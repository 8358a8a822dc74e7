//! Training targets on the device: uploaded, from labels, or from teacher logits (the definitions of `core::target`).

use super::GpuError;
use super::context::{Bind, GpuContext, grid};
use super::logits::GpuLogits;
use super::sample::{GpuSamples, labels_of};
use super::shader::assemble;
use curricle_core::model::Loss;
use curricle_core::target::{LabelMix, Target};

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
pub struct TargetSpec {
    /// The loss they are for.
    pub loss: Loss,
    /// What is learned from the logits.
    pub target: Target,
    /// Samples per step.
    pub batch: usize,
    /// Step of the first sample.
    pub first_step: u64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Wanted {
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
        let target = Target { temperature: 0.0, label_mix: LabelMix::Constant(1.0) };
        let spec = TargetSpec { loss, target, batch, first_step: 0 };
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
        if spec.batch == 0 {
            return Err(GpuError::Refused("a step needs at least one sample".into()));
        }
        let width = spec.loss.target_width(logits.classes);
        let values = context.storage("targets", (count * width) as u64)?;
        let Target { temperature, label_mix } = spec.target;
        let steps = spec.first_step..spec.first_step + count.div_ceil(spec.batch).max(1) as u64;
        let weights: Vec<f32> = steps.map(|step| label_mix.at(step)).collect();
        let mixed = weights.iter().any(|&m| m > 0.0);
        let mix = context.upload("label mix", if mixed { &weights } else { &[0.0] })?;
        let uniform = context.uniform(&Wanted {
            samples: count as u32,
            classes: logits.classes as u32,
            kind: kind(spec.loss),
            hard: u32::from(temperature == 0.0),
            // Temperatures beyond f32 act as its ends: 0 makes the kernel compare instead of divide.
            temperature: (temperature as f32).min(f32::MAX),
            batch: spec.batch as u32,
            first: range.start as u32,
            mixed: u32::from(mixed),
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
    pub async fn download_async(&self, context: &GpuContext) -> Result<Vec<f32>, GpuError> {
        context.read(&self.values, 0, self.count * self.width).await
    }
}
