//! What the members of a group train on, gathered into one buffer of each kind.

use super::GpuError;
use super::context::GpuContext;
use super::layout::Layout;
use super::sample::{Blocks, GpuSamples, block_words};
use super::steps::{GpuPath, MemberSteps};
use super::target::loss_word;
use curricle_core::optim::StepsResult;
use std::collections::HashMap;

/// One member's part of a call.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Index of the model.
    pub model: u32,
    /// Samples to train on.
    pub samples: usize,
    /// Where they come from.
    pub source: GpuSamples,
    /// The first of them.
    pub source_first: u32,
    /// First word of the prepared blocks (delayed-update kernels only).
    pub blocks_at: u32,
    /// First word of the targets.
    pub targets_at: u32,
    /// Entry of the first step's rates.
    pub rates_at: u32,
    /// First word of what comes back: samples done, then losses.
    pub out_at: u32,
    /// Loss and target width.
    pub loss: u32,
}

/// All parts of a call.
pub(super) struct Pool {
    pub blocks: wgpu::Buffer,
    pub targets: wgpu::Buffer,
    pub rates: wgpu::Buffer,
    pub out: wgpu::Buffer,
    pub jobs: Vec<Job>,
    out_words: usize,
}

/// Samples of one block of the delayed-update kernels: whole batches, at most 32.
pub(super) fn per_block(batch: usize) -> usize {
    32 / batch * batch
}

/// Whether the decay within a block is mild enough to divide by (see `delayed.wgsl`).
pub(super) fn decay_is_mild(rates: &[f32], weight_decay: f32, batch: usize) -> bool {
    let most = rates.iter().fold(0.0f64, |m, r| m.max(f64::from(r.abs())));
    let keep = 1.0 - most * f64::from(weight_decay.abs());
    keep.powi((per_block(batch) / batch) as i32) > 0.5
}

/// (lr / B, 1 - lr wd, c_t, lr / (B c_{t+1})) of every step; c starts at 1 with every block of `per_block` steps.
fn rate_entries(rates: &[f32], weight_decay: f32, batch: usize, steps_per_block: usize) -> Vec<[f32; 4]> {
    let mut scale = 1.0f64;
    let entries = rates.iter().enumerate().map(|(t, &rate)| {
        if t % steps_per_block == 0 {
            scale = 1.0;
        }
        let before = scale;
        let keep = 1.0 - f64::from(rate) * f64::from(weight_decay);
        let per_sample = f64::from(rate) / batch as f64;
        scale *= keep;
        [per_sample as f32, keep as f32, before as f32, (per_sample / scale) as f32]
    });
    entries.collect()
}

impl Pool {
    // A buffer's hash and equality are its identity, which nothing inside it changes.
    #[allow(clippy::mutable_key_type)]
    pub fn new(
        context: &GpuContext,
        layout: &Layout,
        path: GpuPath,
        batch: usize,
        steps: &[MemberSteps],
    ) -> Result<Self, GpuError> {
        let delayed = path != GpuPath::Minibatch;
        let d = layout.shape.d;
        let size = if delayed { per_block(batch) } else { batch };
        let words = block_words(d);
        let mut jobs = Vec::with_capacity(steps.len());
        // Members that share a stretch of samples, targets or rates share their preparation.
        let mut stretches: HashMap<(&wgpu::Buffer, usize, usize), u32> = HashMap::new();
        let mut block_total = 0u64;
        let mut prepare = Vec::new();
        let mut target_places: HashMap<&wgpu::Buffer, u32> = HashMap::new();
        let mut target_total = 0u64;
        let mut copies = Vec::new();
        let mut rate_places: HashMap<(*const f32, usize, u32), u32> = HashMap::new();
        let mut rates: Vec<[f32; 4]> = Vec::new();
        let mut out_words = 0usize;
        for member in steps {
            let samples = member.rates.len() * batch;
            let mut blocks_at = 0;
            if delayed {
                blocks_at =
                    *stretches.entry((&member.samples.bits, member.first, samples)).or_insert_with(|| {
                        let at = block_total as u32;
                        prepare.push((member.samples, member.first, samples, at));
                        block_total += samples.div_ceil(size) as u64 * u64::from(words);
                        at
                    });
            }
            let targets_base = *target_places.entry(&member.targets.values).or_insert_with(|| {
                let at = target_total as u32;
                let len = (member.targets.count * member.targets.width) as u64;
                copies.push((&member.targets.values, u64::from(at), len));
                target_total += len;
                at
            });
            let key = (member.rates.as_ptr(), member.rates.len(), member.weight_decay.to_bits());
            let rates_at = *rate_places.entry(key).or_insert_with(|| {
                let at = rates.len() as u32;
                rates.extend(rate_entries(member.rates, member.weight_decay, batch, size / batch));
                at
            });
            jobs.push(Job {
                model: member.member as u32,
                samples,
                source: member.samples.clone(),
                source_first: member.first as u32,
                blocks_at,
                targets_at: targets_base + (member.targets_first * member.targets.width) as u32,
                rates_at,
                out_at: out_words as u32,
                loss: loss_word(member.targets.loss, layout.shape.classes),
            });
            out_words +=
                1 + if matches!(path, GpuPath::Narrow { .. }) { samples.div_ceil(size) } else { samples };
        }
        if target_total > u64::from(u32::MAX) || block_total > u64::from(u32::MAX) {
            return Err(GpuError::Refused("too many samples in one call: train in shorter pieces".into()));
        }
        let blocks = context.storage("sample blocks", block_total)?;
        let preparer = Blocks::new(d);
        let launches = prepare
            .into_iter()
            .map(|(samples, first, count, at)| {
                preparer.blocks(context, samples, first, count, size, at, &blocks)
            })
            .collect::<Result<Vec<_>, _>>()?;
        context.submit(&launches);
        let targets = if let [(only, _, _)] = copies[..] {
            only.clone()
        } else {
            let pool = context.storage("targets", target_total)?;
            context.copy_words(&copies, &pool);
            pool
        };
        let rates = context.upload("rates", &rates)?;
        let out = context.storage("losses", out_words as u64)?;
        Ok(Self { blocks, targets, rates, out, jobs, out_words })
    }

    /// Reads the losses back and checks that every step was done.
    pub async fn collect(&self, context: &GpuContext) -> Result<Vec<StepsResult>, GpuError> {
        let words: Vec<u32> = context.read(&self.out, 0, self.out_words).await?;
        let ends = self.jobs.iter().skip(1).map(|j| j.out_at as usize).chain([self.out_words]);
        self.jobs
            .iter()
            .zip(ends)
            .map(|(job, end)| {
                let start = job.out_at as usize;
                if words[start] as usize != job.samples {
                    return Err(GpuError::StepCounter {
                        adapter: context.name(),
                        expected: job.samples as u64,
                        found: u64::from(words[start]),
                    });
                }
                let loss_sum = words[start + 1..end].iter().map(|&w| f64::from(f32::from_bits(w))).sum();
                Ok(StepsResult { loss_sum })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_restarts_with_every_block() {
        let entries = rate_entries(&[0.1; 5], 0.5, 2, 3);
        let keep = 0.95f64;
        for (t, entry) in entries.iter().enumerate() {
            let before = keep.powi((t % 3) as i32);
            let want = [0.05, keep, before, 0.05 / (before * keep)];
            for (got, want) in entry.iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 1e-7, "{t}: {entry:?}");
            }
        }
        assert!(decay_is_mild(&[0.01], 1e-4, 1) && !decay_is_mild(&[0.5], 1.0, 1));
        assert_eq!([1, 2, 3, 32].map(per_block), [32, 32, 30, 32]);
    }
}
