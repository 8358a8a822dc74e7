//! What a model keeps while it computes, and its launches in portions a watchdog lets pass.

use super::buffers::{Kind, Sizes};
use super::plan::Plan;
use super::recorder::Costed;
use crate::context::Launch;
use crate::queue::{Pacer, Pipeline};
use crate::{GpuContext, GpuError};
use curricle_core::optim::AdamSettings;

/// Training steps whose results wait on the device at once.
pub(super) const RESULTS: usize = 1024;

/// What changes while a model computes.
pub(super) struct State {
    /// The most recently used last.
    pub(super) plans: Vec<Plan>,
    pub(super) adam: Option<(AdamSettings, Vec<Costed>)>,
    pub(super) pacer: Pacer,
    pub(super) pipeline: Pipeline,
}

impl State {
    pub(super) async fn finish(&mut self, context: &GpuContext) -> Result<(), GpuError> {
        let result = self.pipeline.finish(context, &mut self.pacer).await;
        // The next call starts its clock anew.
        self.pipeline = Pipeline::default();
        result
    }
}

/// Submits the launches in portions of about [`Pacer::TARGET`].
pub(super) async fn submit(
    context: &GpuContext,
    pacer: &mut Pacer,
    pipeline: &mut Pipeline,
    launches: &[Costed],
) -> Result<(), GpuError> {
    // A dispatch that does nothing costs about as much as a million operations.
    let cost = |l: &Costed| 1.0 + l.flops / 1e6;
    let mut portion: Vec<Launch> = Vec::new();
    let mut units = 0.0;
    for (i, launch) in launches.iter().enumerate() {
        portion.push(launch.launch.clone());
        units += cost(launch);
        let last = i + 1 == launches.len();
        if last || units + cost(&launches[i + 1]) > pacer.next() as f64 {
            pipeline.push(context, pacer, context.submit(&portion), units as usize).await?;
            portion.clear();
            units = 0.0;
        }
    }
    Ok(())
}

/// A batch's sizes: a function of the batch alone, so that the same batches give the same bits whatever came before.
pub(super) fn sizes(exact_savings: bool, sequences: usize, length: usize, reads: usize, kind: Kind) -> Sizes {
    let positions = sequences * length;
    // In steps of at least an eighth of a power of two, so that masks of varying size share buffers.
    let step = (reads.next_power_of_two() / 8).max(32);
    let capacity = reads.next_multiple_of(step).min(positions).max(1);
    let whole = matches!(kind, Kind::Hidden(_));
    let compact = exact_savings && !whole && 4 * capacity <= 3 * positions;
    Sizes { sequences, length, capacity, kind, compact }
}
