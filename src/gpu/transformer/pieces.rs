//! Batches in parts that fit on the device, and their plans.

use super::buffers::{Kind, Sizes, bytes};
use super::model::GpuTransformer;
use super::plan::{Plan, Shared};
use super::recorder::{Step, split};
use super::state::{State, sizes, submit};
use crate::GpuError;
use curricle_core::model::transformer::{BatchError, TokenBatch};

/// Batch sizes whose buffers are kept.
const PLANS: usize = 8;

/// Part of a batch.
pub(super) struct Piece<'b> {
    pub(super) batch: TokenBatch<'b>,
    /// Its reads.
    pub(super) reads: Vec<u32>,
    /// Number of the first of them among all reads.
    pub(super) from: usize,
}

pub(super) fn refused(error: BatchError) -> GpuError {
    GpuError::Refused(error.to_string())
}

impl GpuTransformer {
    /// Parts of the batch that fit on the device; parts without reads are left out.
    pub(super) fn pieces<'b>(
        &self,
        batch: &TokenBatch<'b>,
        reads: &[u32],
        kind: Kind,
    ) -> Result<Vec<Piece<'b>>, GpuError> {
        let TokenBatch { sequences, length, .. } = *batch;
        let most = self.budget();
        let limits = self.context.limits();
        // Indices are 32-bit.
        let allowed = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min((16 << 30) - 4);
        let mut together = sequences.min(limits.max_compute_workgroups_per_dimension as usize);
        loop {
            // As if all reads were in one part: which sequences have how many must not matter for the cut.
            let sizes = self.sizes(together, length, reads.len().min(together * length), kind);
            let (total, largest) = bytes(&self.config, &sizes);
            if total <= most && largest <= allowed {
                break;
            }
            if together == 1 {
                let (needed, allowed) = if largest > allowed { (largest, allowed) } else { (total, most) };
                return Err(GpuError::TooLarge {
                    what: format!("one sequence of {length} tokens"),
                    adapter: self.context.name(),
                    needed,
                    allowed,
                });
            }
            together = together.div_ceil(2);
        }
        let mut pieces = Vec::with_capacity(sequences.div_ceil(together));
        for first in (0..sequences).step_by(together) {
            let count = together.min(sequences - first);
            let range = first * length..(first + count) * length;
            let at = |position: usize| reads.partition_point(|r| (*r as usize) < position);
            let (from, to) = (at(range.start), at(range.end));
            if from == to {
                continue;
            }
            let reads = reads[from..to].iter().map(|r| r - range.start as u32).collect();
            let batch = TokenBatch {
                sequences: count,
                length,
                tokens: &batch.tokens[range.clone()],
                keys: batch.keys.map(|k| &k[range.clone()]),
                first: batch.first.wrapping_add(first as u64),
            };
            pieces.push(Piece { batch, reads, from });
        }
        Ok(pieces)
    }

    pub(super) fn budget(&self) -> u64 {
        self.options.memory.unwrap_or_else(|| self.context.memory_budget())
    }

    pub(super) fn sizes(&self, sequences: usize, length: usize, reads: usize, kind: Kind) -> Sizes {
        sizes(self.options.exact_savings, sequences, length, reads, kind)
    }

    /// Writes what a piece needs; its plan is the last of the state's afterwards.
    pub(super) fn prepare<'s>(
        &self,
        state: &'s mut State,
        batch: &TokenBatch<'_>,
        reads: &[u32],
        kind: Kind,
        step: Step,
    ) -> Result<&'s Plan, GpuError> {
        let sizes = self.sizes(batch.sequences, batch.length, reads.len(), kind);
        if let Some(at) = state.plans.iter().position(|p| p.sizes == sizes) {
            let plan = state.plans.remove(at);
            state.plans.push(plan);
        } else {
            let (needed, _) = bytes(&self.config, &sizes);
            let kept = |plans: &[Plan]| plans.iter().map(|p| p.bytes).sum::<u64>();
            while !state.plans.is_empty()
                && (state.plans.len() >= PLANS || kept(&state.plans) + needed > self.budget())
            {
                state.plans.remove(0);
            }
            let shared = Shared {
                context: &self.context,
                config: &self.config,
                layout: &self.layout,
                params: &self.params,
                grads: &self.grads,
                step: &self.step,
                spare: &self.spare,
                results: &self.results,
            };
            state.plans.push(Plan::new(&shared, sizes)?);
        }
        let plan = &state.plans[state.plans.len() - 1];
        let list = plan.ints.fill(batch, reads, self.config.vocab, self.config.pad_token);
        self.context.write(&plan.list, 0, &list);
        let step = Step { first: split(batch.first), reads: reads.len() as u32, ..step };
        self.context.write(&self.step, 0, &[step]);
        Ok(plan)
    }

    /// Hands in the launches of the plan that was prepared last.
    pub(super) async fn submit_last(&self, state: &mut State) -> Result<(), GpuError> {
        let State { plans, pacer, pipeline, .. } = state;
        match plans.last() {
            Some(plan) => submit(&self.context, pacer, pipeline, &plan.launches).await,
            None => Ok(()),
        }
    }
}
