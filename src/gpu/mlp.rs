//! One model on the GPU, with the interface of the CPU engine's.

use super::GpuError;
use super::group::GpuGroup;
use super::sample::{GpuSamples, SharedContext};
use super::steps::{GpuPath, MemberSteps};
use super::target::GpuTargets;
use curricle_core::model::{MlpParams, MlpShape};
use curricle_core::optim::{Steps, StepsResult};
use curricle_core::task::Samples;

/// One model: a [`GpuGroup`] of one.
#[derive(Debug)]
pub struct GpuMlp {
    group: GpuGroup,
}

impl GpuMlp {
    /// A model with these parameters.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn new(context: &SharedContext, params: &MlpParams) -> Result<Self, GpuError> {
        Ok(Self { group: GpuGroup::new(context, &[params])? })
    }

    /// A model initialised on the device, the same bits as [`MlpParams::new`] with PyTorch's defaults.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn pytorch(context: &SharedContext, shape: &MlpShape, seed: u64) -> Result<Self, GpuError> {
        Ok(Self { group: GpuGroup::pytorch(context, shape, &[seed])? })
    }

    /// The group of one behind it.
    pub fn group(&self) -> &GpuGroup {
        &self.group
    }

    /// The group of one behind it, to train.
    pub fn group_mut(&mut self) -> &mut GpuGroup {
        &mut self.group
    }

    /// The kernels that train it.
    pub fn path(&self, batch: usize) -> GpuPath {
        self.group.path(batch)
    }

    /// Runs the steps.
    ///
    /// # Errors
    /// If the steps do not fit the model, or the device fails; then the parameters are not usable.
    pub async fn train_async(&mut self, steps: &Steps<'_>) -> Result<StepsResult, GpuError> {
        let context = self.group.context().clone();
        let samples = GpuSamples::upload(&context, steps.samples)?;
        let targets = GpuTargets::upload(&context, steps.loss, self.group.shape().classes, steps.targets)?;
        let member = MemberSteps {
            member: 0,
            samples: &samples,
            first: 0,
            targets: &targets,
            targets_first: 0,
            rates: steps.rates,
            weight_decay: steps.weight_decay,
        };
        Ok(self.group.train_async(steps.batch, &[member]).await?[0])
    }

    /// Writes the logits [n, C].
    ///
    /// # Errors
    /// If `out` has another length, the samples another d, or the device fails.
    pub async fn logits_async(&self, samples: &Samples, out: &mut [f32]) -> Result<(), GpuError> {
        let context = self.group.context();
        let samples = GpuSamples::upload(context, samples)?;
        let logits = self.group.logits(0..1, &samples)?.download_async(context).await?;
        if logits.len() != out.len() {
            return Err(GpuError::Refused(format!(
                "{} logits do not fit {} places",
                logits.len(),
                out.len()
            )));
        }
        out.copy_from_slice(&logits);
        Ok(())
    }

    /// Copies the parameters back.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn to_params_async(&self) -> Result<MlpParams, GpuError> {
        self.group.to_params_async(0).await
    }

    /// Fraction of right answers on labelled samples.
    ///
    /// # Errors
    /// If the samples have no labels or another d, or the device fails.
    pub async fn accuracy_async(&self, samples: &Samples) -> Result<f64, GpuError> {
        let samples = GpuSamples::upload(self.group.context(), samples)?;
        Ok(self.group.accuracies_async(0..1, &samples).await?[0])
    }
}
