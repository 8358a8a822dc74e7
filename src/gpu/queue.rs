//! Work in submissions: handing in, waiting, reading back, and how much at once.

use super::GpuError;
use super::awaited;
use super::context::{GpuContext, Kernel, Launch};
use bytemuck::Pod;
use futures_channel::oneshot;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use web_time::{Duration, Instant};

/// Work handed in to the device.
pub(super) struct Submission {
    index: wgpu::SubmissionIndex,
    done: oneshot::Receiver<()>,
}

impl GpuContext {
    /// Records the launches in one pass and submits them; wgpu orders those that touch the same buffers.
    pub(super) fn submit(&self, launches: &[Launch]) -> Submission {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let mut current: *const Kernel = std::ptr::null();
            for launch in launches {
                if !std::ptr::eq(current, &*launch.kernel) {
                    pass.set_pipeline(&launch.kernel.pipeline);
                    current = &*launch.kernel;
                }
                pass.set_bind_group(0, &*launch.bind, launch.offset.as_slice());
                let [x, y, z] = launch.groups;
                pass.dispatch_workgroups(x, y, z);
            }
        }
        self.hand_in([encoder.finish()])
    }

    fn hand_in(&self, commands: impl IntoIterator<Item = wgpu::CommandBuffer>) -> Submission {
        let index = self.queue.submit(commands);
        let (sender, done) = oneshot::channel();
        // Nobody listens to submissions that are not waited for.
        self.queue.on_submitted_work_done(move || {
            let _ = sender.send(());
        });
        Submission { index, done }
    }

    /// Waits for a submission.
    ///
    /// # Errors
    /// If the driver reported an error, or nothing for longer than any submission should take.
    pub(super) async fn wait(&self, submission: Submission) -> Result<(), GpuError> {
        self.arrival(submission.index, submission.done).await
    }

    /// What a callback sends once the device has come as far as this submission.
    async fn arrival<T>(
        &self,
        index: wgpu::SubmissionIndex,
        mut from: oneshot::Receiver<T>,
    ) -> Result<T, GpuError> {
        poll_fn(|task| {
            self.check()?;
            match Pin::new(&mut from).poll(task) {
                Poll::Ready(Ok(sent)) => Poll::Ready(self.check().map(|()| sent)),
                Poll::Ready(Err(oneshot::Canceled)) => Poll::Ready(Err(GpuError::Device {
                    adapter: self.name(),
                    message: "the device ended before its work was done".into(),
                })),
                Poll::Pending => {
                    awaited::set(&index);
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Copies `len` values from value `first` of `buffer` to the host, after everything submitted before.
    ///
    /// # Errors
    /// If the device fails or does not answer.
    pub(super) async fn read<T: Pod>(
        &self,
        buffer: &wgpu::Buffer,
        first: u64,
        len: usize,
    ) -> Result<Vec<T>, GpuError> {
        if len == 0 {
            return Ok(Vec::new());
        }
        let size = size_of::<T>() as u64;
        let bytes = len as u64 * size;
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, first * size, &staging, 0, bytes);
        let index = self.queue.submit([encoder.finish()]);
        let (sender, mapped) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result);
        });
        let device_error = |message: String| GpuError::Device { adapter: self.name(), message };
        self.arrival(index, mapped).await?.map_err(|e| device_error(e.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|e| device_error(e.to_string()))?;
        let mut out = vec![T::zeroed(); len];
        bytemuck::cast_slice_mut(&mut out).copy_from_slice(&view);
        Ok(out)
    }

    /// Waits until everything submitted is done.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn synchronize_async(&self) -> Result<(), GpuError> {
        let submission = self.hand_in([]);
        self.wait(submission).await
    }
}

/// Cuts work into submissions far below any watchdog: starts small, measures, and aims at [`Pacer::TARGET`].
#[derive(Debug, Clone, Copy)]
pub struct Pacer {
    units: f64,
}

impl Pacer {
    /// A pacer whose first submission has `units` of work.
    pub fn starting_with(units: f64) -> Self {
        Self { units }
    }

    /// Time one submission should take. Windows ends dispatches after 2 s, macOS earlier.
    pub const TARGET: Duration = Duration::from_millis(100);

    /// Units of work for the next submission.
    pub fn next(&self) -> usize {
        self.units as usize
    }

    /// `units` of work took `time`.
    pub fn took(&mut self, units: usize, time: Duration) {
        let ideal = units as f64 * Self::TARGET.as_secs_f64() / time.as_secs_f64().max(1e-6);
        // At most doubled (one slow unit must not follow a fast guess), at least a quarter.
        self.units = ideal.clamp(self.units / 4.0, self.units * 2.0).clamp(1.0, 1e9);
    }
}

/// Times submissions that are queued two deep, so that the device never waits for the host.
#[derive(Default)]
pub(super) struct Pipeline {
    pending: Option<(Submission, usize)>,
    last_done: Option<Instant>,
}

impl Pipeline {
    /// Hands in a submission of `units` and waits for the one before it.
    pub(super) async fn push(
        &mut self,
        context: &GpuContext,
        pacer: &mut Pacer,
        submission: Submission,
        units: usize,
    ) -> Result<(), GpuError> {
        self.last_done.get_or_insert_with(Instant::now);
        let before = self.pending.replace((submission, units));
        self.settle(context, pacer, before).await
    }

    /// Waits for the last submission.
    pub(super) async fn finish(&mut self, context: &GpuContext, pacer: &mut Pacer) -> Result<(), GpuError> {
        let last = self.pending.take();
        self.settle(context, pacer, last).await
    }

    async fn settle(
        &mut self,
        context: &GpuContext,
        pacer: &mut Pacer,
        pending: Option<(Submission, usize)>,
    ) -> Result<(), GpuError> {
        let Some((submission, units)) = pending else { return Ok(()) };
        context.wait(submission).await?;
        let now = Instant::now();
        if let Some(before) = self.last_done.replace(now) {
            pacer.took(units, now - before);
        }
        Ok(())
    }
}
