//! The engine for callers with threads of their own: everything that waits for a device, under its plain name, blocking.
//!
//! The core is asynchronous and never blocks, as a browser demands (`train_async` and its like). A native future is driven by
//! [`wait_for`]: it polls the driver up to the submission that the future waits for, and then the future again.

use super::awaited;
use super::correlate::{Correlations, Output, correlations_async};
use super::floor::{Floor, floor_async};
use super::oracle::Oracle;
use super::sample::{SharedContext, raw_bits_async};
use super::self_test::{KernelReport, self_test_async};
use super::transformer::GpuTransformer;
use super::transformer::speed::{Peak, SpeedCase, StepSpeed, peak_async, speed_async};
use super::{
    AdapterEntry, GpuContext, GpuError, GpuGroup, GpuLogits, GpuMlp, GpuOptions, GpuSamples, GpuTargets,
    MemberSteps, adapter,
};
use curricle_core::model::transformer::{MicroBatch, TokenBatch, TransformerParams};
use curricle_core::model::{LogitModel, MlpParams, ModelError};
use curricle_core::optim::{AdamSettings, StepOutcome, Steps, StepsResult, TrainStep};
use curricle_core::rng::Stream;
use curricle_core::task::Samples;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// Longest wait for one submission. Submissions are cut to a fraction of a second, so this is a hang.
const PATIENCE: Duration = Duration::from_secs(120);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread until `future`, which waits for work on this device, is done.
pub fn wait_for<T>(context: &GpuContext, future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut task = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut task) {
            return result;
        }
        match awaited::take() {
            Some(index) => {
                let poll = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(PATIENCE) };
                if context.device.poll(poll).is_err() {
                    context.fail(GpuError::Timeout { adapter: context.name(), seconds: PATIENCE.as_secs() });
                }
            }
            // Another thread has the model; it wakes this one when it is done.
            None => thread::park(),
        }
    }
}

/// Every adapter of every backend. Vulkan, Metal and DX12 come before GL, which shows the same hardware again.
pub fn adapters() -> Vec<AdapterEntry> {
    pollster::block_on(adapter::adapters_async())
}

/// See [`floor_async`].
///
/// # Errors
/// If the device fails.
pub fn floor(context: &GpuContext) -> Result<Floor, GpuError> {
    wait_for(context, floor_async(context))
}

/// See [`self_test_async`].
pub fn self_test(context: &SharedContext, oracle: &dyn Oracle) -> Vec<KernelReport> {
    wait_for(context, self_test_async(context, oracle))
}

/// See [`raw_bits_async`].
///
/// # Errors
/// If the device fails.
pub fn raw_bits(
    context: &GpuContext,
    seed: u64,
    stream: Stream,
    first: u64,
    count: usize,
) -> Result<Vec<u32>, GpuError> {
    wait_for(context, raw_bits_async(context, seed, stream, first, count))
}

/// See [`correlations_async`].
///
/// # Errors
/// If an output does not exist or the device fails.
pub fn correlations(
    group: &GpuGroup,
    member: usize,
    seed: u64,
    stream: Stream,
    first: u64,
    count: u64,
    outputs: &[Output],
) -> Result<Vec<Correlations>, GpuError> {
    wait_for(group.context(), correlations_async(group, member, seed, stream, first, count, outputs))
}

/// See [`peak_async`].
///
/// # Errors
/// If the device fails.
pub fn peak(context: &GpuContext, time: Duration) -> Result<Peak, GpuError> {
    wait_for(context, peak_async(context, time))
}

/// See [`speed_async`].
///
/// # Errors
/// If the model does not fit or the device fails.
pub fn speed(
    context: &SharedContext,
    floor: &Floor,
    case: &SpeedCase,
    time: Duration,
) -> Result<StepSpeed, GpuError> {
    wait_for(context, speed_async(context, floor, case, time))
}

impl GpuContext {
    /// See [`Self::open_async`].
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn open(entry: &AdapterEntry, options: GpuOptions) -> Result<Self, GpuError> {
        pollster::block_on(Self::open_async(entry, options))
    }

    /// Waits until everything submitted is done.
    ///
    /// # Errors
    /// If the device fails.
    pub fn synchronize(&self) -> Result<(), GpuError> {
        wait_for(self, self.synchronize_async())
    }
}

impl GpuSamples {
    /// Copies the samples back.
    ///
    /// # Errors
    /// If the device fails.
    pub fn download(&self, context: &GpuContext) -> Result<Samples, GpuError> {
        wait_for(context, self.download_async(context))
    }
}

impl GpuTargets {
    /// Copies the targets back.
    ///
    /// # Errors
    /// If the device fails.
    pub fn download(&self, context: &GpuContext) -> Result<Vec<f32>, GpuError> {
        wait_for(context, self.download_async(context))
    }
}

impl GpuLogits {
    /// Copies them back.
    ///
    /// # Errors
    /// If the device fails.
    pub fn download(&self, context: &GpuContext) -> Result<Vec<f32>, GpuError> {
        wait_for(context, self.download_async(context))
    }
}

impl GpuGroup {
    /// See [`Self::to_params_async`].
    ///
    /// # Errors
    /// If the device fails or there is no such member.
    pub fn to_params(&self, member: usize) -> Result<MlpParams, GpuError> {
        wait_for(self.context(), self.to_params_async(member))
    }

    /// See [`Self::train_async`].
    ///
    /// # Errors
    /// If something does not fit together, or the device fails; then the parameters are not usable.
    pub fn train(&mut self, batch: usize, steps: &[MemberSteps]) -> Result<Vec<StepsResult>, GpuError> {
        wait_for(&self.context().clone(), self.train_async(batch, steps))
    }

    /// See [`Self::accuracies_async`].
    ///
    /// # Errors
    /// If there are no such members, the samples have no labels or another d, or memory is out.
    pub fn accuracies(&self, members: Range<usize>, samples: &GpuSamples) -> Result<Vec<f64>, GpuError> {
        wait_for(self.context(), self.accuracies_async(members, samples))
    }
}

impl GpuMlp {
    /// See [`Self::train_async`].
    ///
    /// # Errors
    /// If the steps do not fit the model, or the device fails; then the parameters are not usable.
    pub fn train(&mut self, steps: &Steps) -> Result<StepsResult, GpuError> {
        wait_for(&self.group().context().clone(), self.train_async(steps))
    }

    /// Writes the logits [n, C].
    ///
    /// # Errors
    /// If `out` has another length, the samples another d, or the device fails.
    pub fn logits(&self, samples: &Samples, out: &mut [f32]) -> Result<(), GpuError> {
        wait_for(self.group().context(), self.logits_async(samples, out))
    }

    /// Copies the parameters back.
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_params(&self) -> Result<MlpParams, GpuError> {
        self.group().to_params(0)
    }

    /// Fraction of right answers on labelled samples.
    ///
    /// # Errors
    /// If the samples have no labels or another d, or the device fails.
    pub fn accuracy(&self, samples: &Samples) -> Result<f64, GpuError> {
        wait_for(self.group().context(), self.accuracy_async(samples))
    }
}

impl LogitModel for GpuMlp {
    fn d(&self) -> usize {
        self.group().shape().d
    }

    fn classes(&self) -> usize {
        self.group().shape().classes
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        Ok(GpuMlp::logits(self, samples, logits)?)
    }
}

impl GpuTransformer {
    /// See [`Self::to_params_async`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_params(&self) -> Result<TransformerParams, GpuError> {
        wait_for(self.context(), self.to_params_async())
    }

    /// See [`Self::optimizer_async`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn optimizer(&self) -> Result<(Vec<f32>, Vec<f32>, u64), GpuError> {
        wait_for(self.context(), self.optimizer_async())
    }

    /// One training step; see [`Self::train_steps_async`].
    ///
    /// # Errors
    /// As [`Self::train_steps`].
    pub fn train_step(
        &mut self,
        micro: &[MicroBatch<'_>],
        rate: f32,
        adam: &AdamSettings,
        dropout_seed: Option<u64>,
    ) -> Result<StepOutcome, GpuError> {
        let outcomes = self.train_steps(&[TrainStep { micro, rate, dropout_seed }], adam)?;
        outcomes.first().copied().ok_or_else(|| GpuError::Refused("no outcome".into()))
    }

    /// See [`Self::train_steps_async`].
    ///
    /// # Errors
    /// If a batch does not fit the model (nothing is trained then) or a single sequence does not fit on the device; if the
    /// device fails, and then the parameters are not usable.
    pub fn train_steps(
        &mut self,
        steps: &[TrainStep<'_>],
        adam: &AdamSettings,
    ) -> Result<Vec<StepOutcome>, GpuError> {
        wait_for(&self.context().clone(), self.train_steps_async(steps, adam))
    }

    /// See [`Self::gradient_async`].
    ///
    /// # Errors
    /// If the batch does not fit the model, or the device fails.
    pub fn gradient(
        &self,
        batch: &TokenBatch<'_>,
        reads: &[u32],
        targets: &[f32],
        dropout_seed: Option<u64>,
    ) -> Result<(f64, Vec<f32>), GpuError> {
        wait_for(self.context(), self.gradient_async(batch, reads, targets, dropout_seed))
    }

    /// See [`Self::logits_async`].
    ///
    /// # Errors
    /// If the batch does not fit the model, or the device fails.
    pub fn logits(&self, batch: &TokenBatch<'_>, reads: &[u32]) -> Result<Vec<f32>, GpuError> {
        wait_for(self.context(), self.logits_async(batch, reads))
    }

    /// See [`Self::hidden_async`].
    ///
    /// # Errors
    /// If the batch does not fit the model, there is no such layer, or the device fails.
    pub fn hidden(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f32>, GpuError> {
        wait_for(self.context(), self.hidden_async(batch, layer))
    }
}
