//! The training loop of one thread: blocks, sub-blocks, steps.

use super::block::Block;
use super::kernels::{BlockPass, ForwardPass, Kernels, LargeBatchPass, Slots, StepPass, table_lanes};
use super::layout::lanes;
use super::threads::Exchange;
use crate::simd::Lanes;
use curricle_core::model::loss::Loss;
use curricle_core::optim::Steps;
use std::ops::Range;

/// How a training call is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Samples per step.
    pub batch: usize,
    /// Samples per sub-block: a multiple of `batch`.
    pub sub: usize,
    /// Samples per block: a multiple of `sub`.
    pub block: usize,
    /// The batch exceeds a block: see [`LargeBatchPass`].
    pub large: bool,
}

/// Batches above this do not keep all preactivations.
const LARGEST_BLOCK: usize = 128;

impl Plan {
    /// Blocks of about `block` and sub-blocks of about `sub` samples.
    pub fn new(batch: usize, block: usize, sub: usize) -> Self {
        if batch > LARGEST_BLOCK {
            return Self { batch, sub: block, block, large: true };
        }
        let sub = batch * (sub / batch).max(1);
        Self { batch, sub, block: sub * (block / sub).max(1), large: false }
    }
}

/// What all threads of a call see.
pub struct Context<'a> {
    pub steps: &'a Steps<'a>,
    pub plan: Plan,
    pub kernels: Kernels,
    pub d: usize,
    pub classes: usize,
    /// Second-layer rows as the kernels see them: 1 is the difference of two classes.
    pub rows: usize,
    /// Index of that number in [`super::kernels::ROWS`].
    pub rows_kernel: usize,
    pub exchange: &'a Exchange,
    /// Ranges of all threads together, and those of each thread.
    pub ranges: usize,
    pub ranges_of: &'a [Range<usize>],
}

/// One thread's share.
pub struct Share<'a> {
    pub thread: usize,
    /// Tiles of each of its ranges, counted from its first tile.
    pub ranges: Vec<Range<usize>>,
    pub weights: &'a mut [Lanes],
    pub rows: &'a mut [Lanes],
    pub slots: &'a mut [Lanes],
}

/// What a thread knows at the end; all threads know the same.
pub struct Outcome {
    pub loss_sum: f64,
    /// Second-layer biases, `[rows]`.
    pub bias: Vec<f32>,
}

fn pointer(lanes: &mut [Lanes]) -> *mut f32 {
    lanes.as_mut_ptr().cast()
}

/// Runs all steps of the call on one thread's share.
pub fn run(context: &Context, share: Share, bias: Vec<f32>) -> Outcome {
    let _guard = context.exchange.guard();
    let per_range = context.plan.batch * context.rows;
    let mut worker = Worker {
        context,
        tiles: share.ranges.last().map_or(0, |r| r.end),
        sums: vec![0.0; context.ranges * per_range],
        per_range,
        exchanges: 0,
        head: Head {
            steps: context.steps,
            classes: context.classes,
            rows: context.rows,
            bias,
            delta_factors: vec![0.0; per_range],
            row_factors: vec![0.0; per_range],
            loss_sum: 0.0,
            product: 1.0,
            factors: 0,
        },
        tables: lanes(table_lanes(context.d, context.plan.block)),
        scratch: lanes(if context.plan.large {
            context.plan.block.next_multiple_of(16) * context.rows.max(1)
        } else {
            per_range
        }),
        share,
    };
    if context.plan.large {
        worker.large_batches()
    } else {
        worker.blocks()
    }
    worker.head.flush();
    Outcome { loss_sum: worker.head.loss_sum, bias: worker.head.bias }
}

struct Worker<'a> {
    context: &'a Context<'a>,
    share: Share<'a>,
    tiles: usize,
    /// `[range][sample of the step][row]`, of all threads.
    sums: Vec<f32>,
    per_range: usize,
    exchanges: u32,
    head: Head<'a>,
    tables: Vec<Lanes>,
    scratch: Vec<Lanes>,
}

impl Worker<'_> {
    /// Batches that fit a block: delayed rank-1 updates.
    fn blocks(&mut self) {
        let Context { steps, plan, kernels, .. } = *self.context;
        let Plan { batch, sub, block, .. } = plan;
        let total = steps.rates.len() * batch;
        let offsets = Slots::offsets(block, sub, self.tiles);
        let slots = Slots { base: pointer(self.share.slots), sub, offsets: offsets.as_ptr() };
        let mut current = Block::default();
        let mut previous = Block::default();
        let mut scale = 1.0;
        for first in (0..total).step_by(block) {
            let count = block.min(total - first);
            std::mem::swap(&mut current, &mut previous);
            // SAFETY: the kernels are those of an instruction set the processor has (`BlockedMlp::new`).
            unsafe { (kernels.prepare)(&mut current, steps.samples, first, count, count > batch) };
            self.block_pass(slots, (first > 0).then_some(&previous), scale, Some(&current));
            scale = 1.0;
            for at in (0..count).step_by(batch) {
                let start = at / sub * sub;
                let opens = at == start;
                let pass = Interval {
                    previous: at.saturating_sub(batch)..at,
                    targets: at..if opens { (at + sub).min(count) } else { at + batch },
                    history: if opens { 0..at } else { start..at },
                };
                self.step_pass(slots, &current, pass, batch);
                let step = (first + at) / batch;
                self.gather();
                scale = self.head.step(step, scale, &self.sums, self.per_range);
            }
            let last = Interval { previous: count - batch..count, targets: 0..0, history: 0..0 };
            self.step_pass(slots, &current, last, 0);
            if scale != 1.0 {
                self.share.rows.iter_mut().for_each(|row| row.0.iter_mut().for_each(|v| *v *= scale));
            }
        }
        self.block_pass(slots, Some(&current), scale, None);
    }

    fn block_pass(&mut self, slots: Slots, previous: Option<&Block>, scale: f32, next: Option<&Block>) {
        let pass = BlockPass {
            weights: pointer(self.share.weights),
            d: self.context.d,
            slots,
            tiles: 0..self.tiles,
            previous,
            scale,
            next,
            tables: pointer(&mut self.tables),
        };
        // SAFETY: weights, slots and tables were allocated for these tiles, d and block size.
        unsafe { (self.context.kernels.block_pass)(&pass) };
    }

    fn step_pass(&mut self, slots: Slots, block: &Block, interval: Interval, batch: usize) {
        let context = self.context;
        let kernels = &context.kernels;
        let inner = context.rows == 1
            && batch == 1
            && interval.targets.len() == 1
            && !interval.history.is_empty()
            && interval.history.start / slots.sub == interval.targets.start / slots.sub;
        let kernel = if inner { kernels.inner_pass } else { kernels.step_pass[context.rows_kernel] };
        let first_range = context.ranges_of[self.share.thread].start;
        for (r, tiles) in self.share.ranges.iter().enumerate() {
            let at = (first_range + r) * self.per_range;
            let mut pass = StepPass {
                slots,
                rows: pointer(self.share.rows),
                tiles: tiles.clone(),
                previous: interval.previous.clone(),
                delta_factors: &self.head.delta_factors,
                row_factors: &self.head.row_factors,
                targets: interval.targets.clone(),
                history: interval.history.clone(),
                gram: &block.gram,
                stride: block.stride,
                batch,
                sums: &mut self.sums[at..at + self.per_range],
                scratch: pointer(&mut self.scratch),
            };
            // SAFETY: rows, slots and scratch were allocated for these tiles, rows and batch; the factors have batch x rows
            // entries; previous, targets and history are samples of the block.
            unsafe { kernel(&mut pass) };
        }
    }

    /// Makes `sums` complete on every thread.
    fn gather(&mut self) {
        self.exchanges = self.exchanges.wrapping_add(1);
        let context = self.context;
        let per_range = self.per_range;
        context.exchange.all_gather(self.share.thread, self.exchanges, &mut self.sums, |t| {
            context.ranges_of[t].start * per_range..context.ranges_of[t].end * per_range
        });
    }

    /// Batches larger than a block: every step is a pass for the sums and a pass for the update.
    fn large_batches(&mut self) {
        let context = self.context;
        let Context { steps, plan, kernels, d, rows, .. } = *context;
        let Plan { batch, block, .. } = plan;
        let mut blocks = vec![Block::default(); batch.div_ceil(block)];
        let first_range = context.ranges_of[self.share.thread].start;
        for step in 0..steps.rates.len() {
            for (b, prepared) in blocks.iter_mut().enumerate() {
                let count = block.min(batch - b * block);
                // SAFETY: the kernels are those of an instruction set the processor has (`BlockedMlp::new`).
                unsafe { (kernels.prepare)(prepared, steps.samples, step * batch + b * block, count, false) };
                for (r, tiles) in self.share.ranges.iter().enumerate() {
                    let at = (first_range + r) * self.per_range + b * block * rows;
                    let mut pass = ForwardPass {
                        weights: pointer(self.share.weights),
                        d,
                        rows: pointer(self.share.rows),
                        row_count: rows,
                        tiles: tiles.clone(),
                        block: prepared,
                        sums: &mut self.sums[at..at + count * rows],
                        tables: pointer(&mut self.tables),
                        scratch: pointer(&mut self.scratch),
                    };
                    // SAFETY: all storage was allocated for these tiles, d, rows and block size.
                    unsafe { (kernels.forward_pass)(&mut pass) };
                }
            }
            self.gather();
            self.head.step(step, 1.0, &self.sums, self.per_range);
            let scale = 1.0 - steps.rates[step] * steps.weight_decay;
            // The head's factors are those of weights not yet decayed; here the decay comes first.
            let head = &mut self.head;
            if scale != 1.0 {
                head.delta_factors.iter_mut().chain(&mut head.row_factors).for_each(|f| *f *= scale);
            }
            let pass = LargeBatchPass {
                weights: pointer(self.share.weights),
                d,
                rows: pointer(self.share.rows),
                tiles: 0..self.tiles,
                blocks: &blocks,
                block_samples: block,
                delta_factors: &head.delta_factors,
                row_factors: &head.row_factors,
                scale,
                scratch: pointer(&mut self.scratch),
                tables: pointer(&mut self.tables),
            };
            // SAFETY: as above; the factors have batch x rows entries.
            unsafe { (kernels.large_batch_pass[context.rows_kernel])(&pass) };
        }
    }
}

/// Which samples of the block a step pass works on.
struct Interval {
    previous: Range<usize>,
    targets: Range<usize>,
    history: Range<usize>,
}

/// A factor below 1e-25 counts as zero. A sample that is fitted perfectly has a gradient like exp(-100); its deltas would be
/// denormal numbers, with which processors compute a hundred times slower, and which no weight would feel. NaN stays.
#[inline]
fn flush_tiny(factor: f32) -> f32 {
    if factor.abs() < 1e-25 { 0.0 } else { factor }
}

/// Logits, loss and their gradients: everything of a step that is not per neuron. All threads compute it alike.
struct Head<'a> {
    steps: &'a Steps<'a>,
    classes: usize,
    rows: usize,
    bias: Vec<f32>,
    /// See [`StepPass`].
    delta_factors: Vec<f32>,
    row_factors: Vec<f32>,
    loss_sum: f64,
    /// Product of pending 1 + exp(-|margin|), whose logarithm is taken once in many steps, and the number of its factors.
    product: f64,
    factors: u32,
}

impl Head<'_> {
    /// Takes step `step` given the second-layer sums of all ranges. Weights of the block are `scale` x the stored ones, and
    /// so are the rows; returns the scale after the step.
    ///
    /// With weight decay l, W becomes (1 - r l) W - r delta x^T. Writing W = scale x U, U loses (r / new scale) delta x^T; delta
    /// is g x row = g x scale x stored row. So the stored quantities follow the undecayed recurrence with the rate
    /// r x scale / new scale = r / (1 - r l), which is how the kernels never hear of weight decay.
    #[inline]
    fn step(&mut self, step: usize, scale: f32, sums: &[f32], per_range: usize) -> f32 {
        let Steps { batch, rates, loss, targets, weight_decay, .. } = *self.steps;
        let rate = rates[step];
        let keep = 1.0 - rate * weight_decay;
        let factor = rate / (batch as f32 * keep);
        let square = scale * scale;
        let width = loss.target_width(self.classes);
        let targets = &targets[step * batch * width..(step + 1) * batch * width];
        let mut bias_gradient = [0.0f32; 16];
        for b in 0..batch {
            let total = |r: usize| {
                let mut total = 0.0;
                for range in sums.chunks_exact(per_range) {
                    total += range[b * self.rows + r];
                }
                total * square + self.bias[r]
            };
            let target = &targets[b * width..(b + 1) * width];
            if self.rows == 1 {
                let g = self.margin_gradient(loss, total(0), target);
                self.delta_factors[b] = flush_tiny(factor * g);
                // A difference of two rows moves twice as far as each.
                self.row_factors[b] = 2.0 * self.delta_factors[b];
                bias_gradient[0] += 2.0 * g;
            } else {
                let mut logits = [0.0; 16];
                let mut gradient = [0.0; 16];
                let classes = self.classes;
                for (r, logit) in logits[..classes].iter_mut().enumerate() {
                    *logit = total(r);
                }
                let value = loss.gradient(&logits[..classes], target, &mut gradient[..classes]);
                self.loss_sum += f64::from(value);
                for r in 0..self.rows {
                    self.delta_factors[b * self.rows + r] = flush_tiny(factor * gradient[r]);
                    self.row_factors[b * self.rows + r] = self.delta_factors[b * self.rows + r];
                    bias_gradient[r] += gradient[r];
                }
            }
        }
        let per_sample = rate / batch as f32;
        for (bias, gradient) in self.bias.iter_mut().zip(bias_gradient) {
            *bias = *bias * keep - per_sample * gradient;
        }
        scale * keep
    }

    /// dL/df for the margin f = z_1 - z_0, adding the loss. NaN goes through.
    #[inline]
    fn margin_gradient(&mut self, loss: Loss, f: f32, target: &[f32]) -> f32 {
        match loss {
            Loss::CrossEntropy => {
                let (q0, q1) = (target[0], target[1]);
                let small = (-f.abs()).exp();
                let large_p = 1.0 / (1.0 + small);
                let small_p = small * large_p;
                let (p0, p1, linear) =
                    if f >= 0.0 { (small_p, large_p, q0 * f) } else { (large_p, small_p, -q1 * f) };
                self.loss_sum += f64::from(linear);
                self.product *= 1.0 + f64::from(small);
                self.factors += 1;
                if self.factors == 512 {
                    self.flush();
                }
                // p1 - q1, as q0 + q1 = 1.
                q0 * p1 - q1 * p0
            }
            Loss::Hinge | Loss::Correlation => {
                let mut gradient = [0.0; 2];
                self.loss_sum += f64::from(loss.gradient(&[0.0, f], target, &mut gradient));
                gradient[1]
            }
        }
    }

    fn flush(&mut self) {
        self.loss_sum += self.product.ln();
        self.product = 1.0;
        self.factors = 0;
    }
}
