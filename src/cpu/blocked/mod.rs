//! One hidden layer trained by delayed rank-1 updates.
//!
//! Plain SGD at batch 1 reads and writes the m x d matrix W for every sample. Here a block of K samples is multiplied in one
//! pass, Z0 = W X; inside the block the preactivation of neuron i at step t is
//!
//! > z_i,t = z0_i,t - sum over earlier s of rate_s delta_i,s (x_s . x_t + 1)
//!
//! with the K x K Gram matrix known in advance (the + 1 carries the bias), and the block ends with W -= Delta X^T, fused with the
//! next block's product. The second layer is updated at every step. The trajectory is that of [`super::plain`] up to rounding.
//! The same idea is known from blocked Householder transformations and from delayed updates in determinant quantum Monte
//! Carlo.
//!
//! Inputs are +-1, so the 16 signed sums of 4 columns of W are tabulated once per block and tile (16 neurons, one vector), and a
//! sample's product is d/4 look-ups; the update does the same with the deltas of 4 samples. See `kernels` for the operation
//! counts. Within a block, sub-blocks of J samples keep the per-step working set (J + 1 numbers per neuron) in the second-level
//! cache; the deltas of earlier sub-blocks are applied when a sub-block opens, in a register-tiled product.
//!
//! Two classes need one second-layer vector: the logits enter the loss only through their difference, and the two rows move in
//! opposite directions. (A cross-entropy target that does not sum to 1 takes the general path.)
//!
//! **How fast, and the floor** (d = 100, batch 1; one 3.4 GHz core with AVX-512, processor time on a machine shared with
//! others; `curricle bench mlp` measures and derives all of it). A core does 6.7 G multiply-adds and 3.7 G look-ups of 16
//! numbers a second; a step needs 50 look-ups and about (24 d/4)/K + 6 + K/2 + 5 operations per tile, so at width 1000 no
//! fewer than 1.3 us: 775,000 steps/s; measured 470,000 to 490,000. Width 100: floor 7.1 M, measured 3.3 M (the rest is the serial
//! chain sum - exp - broadcast of each step, and preparing indices). Width 25,000, the share of one of two threads at width
//! 50,000: floor 31,000, measured 12,000 to 13,800: there half of the time goes to fetching W and the slots from beyond the
//! second-level cache, whose bandwidth the cores share. What would beat the floor: AMX (three bf16 parts of W are exact, and
//! inputs +-1 are) would halve the cost of a product; longer blocks do not help, because corrections grow as K/2.
//!
//! **What is exact.** Equal calls on equal parameters give equal bits, whatever the number of threads: sums over neurons
//! are taken in ranges that depend on the width alone. The state between calls is exactly the parameters, so
//! `new(to_params())` continues with the same bits. Cutting the same steps into other `train` calls moves the
//! block boundaries and so changes the rounding. Instruction sets differ in rounding too.

mod block;
mod floor;
mod kernels;
mod layout;
mod threads;
mod train;

pub use floor::{Floor, Peaks};

use super::simd::{Isa, LANES, Lanes};
use block::Block;
use curricle_core::model::loss::Loss;
use curricle_core::model::mlp::MlpParams;
use curricle_core::optim::{Steps, StepsResult};
use curricle_core::task::Samples;
use kernels::{ForwardPass, Kernels, ROWS, table_lanes};
use layout::{Tiled, lanes, range, ranges};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use threads::Exchange;
use train::{Context, Outcome, Plan, Share};

/// Samples a forward pass takes at once.
const FORWARD: usize = 128;

/// An MLP with one hidden layer, trained fast. See the module documentation.
#[derive(Debug, Clone)]
pub struct BlockedMlp {
    tiled: Tiled,
    isa: Isa,
    threads: usize,
    block: usize,
    sub: usize,
    /// Preactivations and deltas of a block; contents mean nothing between calls.
    slots: Vec<Lanes>,
    pace: Pace,
}

/// Whether threads are worth their waiting. Threads that exchange sums at every step crawl when other programs take their cores
/// in turn; one thread does not. Bits do not depend on the choice, so it may depend on the weather.
#[derive(Debug, Clone, Default)]
struct Pace {
    /// Calls to make alone before trying together again.
    alone: u32,
    /// How many that will be next time.
    patience: u32,
}

impl Pace {
    fn threads(&mut self, wanted: usize) -> usize {
        if self.alone == 0 {
            return wanted;
        }
        self.alone -= 1;
        1
    }

    /// After a call with several threads.
    fn learn(&mut self, threads: usize, elapsed: Duration, lost: Duration) {
        // With a second core that is taken away half of the time, the first thread waits for half of the time, and both
        // together do what one alone would.
        if lost > elapsed.mul_f64(0.45 * (threads - 1) as f64) {
            self.patience = (self.patience * 2).clamp(4, 64);
            self.alone = self.patience;
        } else {
            self.patience = 0;
        }
    }
}

impl BlockedMlp {
    /// Most classes this path handles.
    pub const MAX_CLASSES: usize = ROWS[ROWS.len() - 1];

    /// Takes over `params`; trains with up to `threads` threads.
    ///
    /// # Panics
    /// If the model has not exactly one hidden layer, has more than [`Self::MAX_CLASSES`] classes, or the processor lacks `isa`.
    pub fn new(params: &MlpParams, threads: usize, isa: Isa) -> Self {
        assert!(Isa::available().contains(&isa), "this processor has no {}", isa.name());
        let tiled = Tiled::new(params);
        assert!(tiled.classes <= Self::MAX_CLASSES, "at most {} classes", Self::MAX_CLASSES);
        let sub = Kernels::of(isa).sub_block;
        // Measured: long blocks pay where W has to come from far away.
        let block = if tiled.tiles < 200 { 48 } else { 64 };
        Self { tiled, isa, threads: threads.max(1), block, sub, slots: Vec::new(), pace: Pace::default() }
    }

    /// Overrides the samples per block and sub-block (tests and tuning).
    #[doc(hidden)]
    pub fn with_blocks(mut self, block: usize, sub: usize) -> Self {
        assert!((1..=kernels::INNER + 1).contains(&sub));
        (self.block, self.sub) = (block, sub);
        self
    }

    /// The parameters, exactly as the next call of [`Self::train`] will find them.
    pub fn to_params(&self) -> MlpParams {
        self.tiled.to_params()
    }

    /// Instruction set and block size.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Samples per block aimed at.
    pub fn block(&self) -> usize {
        self.block
    }

    /// True if the decay of a block stays within what single precision can divide out again. Rates x decay above 1% per step
    /// are left to the plain path.
    pub fn supports(steps: &Steps) -> bool {
        steps.weight_decay == 0.0 || steps.rates.iter().all(|r| (r * steps.weight_decay).abs() <= 0.01)
    }

    /// Takes all steps.
    ///
    /// # Panics
    /// If sizes disagree, or [`Self::supports`] says no.
    pub fn train(&mut self, steps: &Steps) -> StepsResult {
        let Tiled { d, classes, tiles, .. } = self.tiled;
        super::check(steps, d, classes);
        assert!(Self::supports(steps), "weight decay x rate is above 1% per step");
        if steps.rates.is_empty() {
            return StepsResult::default();
        }
        let difference = classes == 2 && loss_of_the_margin(steps);
        let rows_kernel = if difference { 0 } else { Kernels::rows(classes).expect("checked by new") };
        let rows_kernel = if !difference { rows_kernel.max(1) } else { rows_kernel };
        let rows = ROWS[rows_kernel];
        let plan = Plan::new(steps.batch, self.block, self.sub);
        let slots = if plan.large { 0 } else { tiles * plan.block };
        if self.slots.len() < slots {
            self.slots = lanes(slots);
        }

        let mut second = self.rows(rows, difference);
        let mut bias = vec![0.0; rows];
        if difference {
            bias[0] = self.tiled.bias[1] - self.tiled.bias[0];
        } else {
            bias[..classes].copy_from_slice(&self.tiled.bias);
        }

        let range_count = ranges(tiles);
        let threads = self.pace.threads(self.threads.min(range_count));
        let ranges_of: Vec<_> = (0..threads).map(|t| range(range_count, threads, t)).collect();
        let exchange = Exchange::new(threads, range_count.div_ceil(threads) * plan.batch * rows);
        let context = Context {
            steps,
            plan,
            kernels: Kernels::of(self.isa),
            d,
            classes,
            rows,
            rows_kernel,
            exchange: &exchange,
            ranges: range_count,
            ranges_of: &ranges_of,
        };
        let began = Instant::now();
        let outcome = {
            let mut shares = Vec::with_capacity(threads);
            let (mut w, mut r, mut s) =
                (&mut self.tiled.first[..], &mut second[..], &mut self.slots[..slots]);
            for (thread, own) in ranges_of.iter().enumerate() {
                let tiles_of = |k: usize| range(tiles, range_count, k);
                let (first, last) = (tiles_of(own.start).start, tiles_of(own.end - 1).end);
                let count = last - first;
                let (weights, rest) = w.split_at_mut(count * (d + 1));
                w = rest;
                let (rows, rest) = r.split_at_mut(count * rows);
                r = rest;
                let (slots, rest) = s.split_at_mut(if plan.large { 0 } else { count * plan.block });
                s = rest;
                let ranges =
                    own.clone().map(|k| tiles_of(k).start - first..tiles_of(k).end - first).collect();
                shares.push(Share { thread, ranges, weights, rows, slots });
            }
            run_threads(&context, shares, &bias)
        };
        if threads > 1 {
            self.pace.learn(threads, began.elapsed(), exchange.lost());
        }
        self.take_back(&second, &outcome.bias, &bias, rows, difference, steps);
        StepsResult { loss_sum: outcome.loss_sum }
    }

    /// The second layer as the kernels want it: the difference of two rows, or C rows padded with zero rows.
    fn rows(&self, rows: usize, difference: bool) -> Vec<Lanes> {
        let classes = self.tiled.classes;
        let mut out = lanes(self.tiled.tiles * rows);
        for (out, own) in out.chunks_exact_mut(rows).zip(self.tiled.second.chunks_exact(classes)) {
            if difference {
                for (out, (a0, a1)) in out[0].0.iter_mut().zip(own[0].0.iter().zip(own[1].0)) {
                    *out = a1 - a0;
                }
            } else {
                out[..classes].copy_from_slice(own);
            }
        }
        out
    }

    /// The trained second layer goes back into the parameters. A difference v moved by 2 D moved its rows by -D and +D
    /// (beyond the decay they share).
    fn take_back(
        &mut self,
        second: &[Lanes],
        bias: &[f32],
        bias_before: &[f32],
        rows: usize,
        difference: bool,
        steps: &Steps,
    ) {
        let classes = self.tiled.classes;
        let keep: f64 = steps.rates.iter().map(|r| 1.0 - f64::from(r * steps.weight_decay)).product();
        let keep = keep as f32;
        let apart = |a: &mut [f32; 2], v: f32| {
            let moved = (v - keep * (a[1] - a[0])) * 0.5;
            *a = [keep * a[0] - moved, keep * a[1] + moved];
        };
        for (own, new) in self.tiled.second.chunks_exact_mut(classes).zip(second.chunks_exact(rows)) {
            if difference {
                for lane in 0..LANES {
                    let mut pair = [own[0].0[lane], own[1].0[lane]];
                    apart(&mut pair, new[0].0[lane]);
                    [own[0].0[lane], own[1].0[lane]] = pair;
                }
            } else {
                own.copy_from_slice(&new[..classes]);
            }
        }
        if difference {
            let mut pair = [self.tiled.bias[0], self.tiled.bias[1]];
            debug_assert_eq!(bias_before[0], pair[1] - pair[0]);
            apart(&mut pair, bias[0]);
            self.tiled.bias.copy_from_slice(&pair);
        } else {
            self.tiled.bias.copy_from_slice(&bias[..classes]);
        }
    }

    /// Logits of all samples, `[n, C]` row-major. A sample's bits depend on nothing but the parameters and the sample.
    ///
    /// # Panics
    /// If `samples` has another dimension or `out` another size.
    pub fn logits(&self, samples: &Samples, out: &mut [f32]) {
        let Tiled { d, classes, tiles, .. } = self.tiled;
        assert_eq!(samples.d(), d, "samples of another dimension");
        assert_eq!(out.len(), samples.len() * classes, "n x C logits");
        let chunks = samples.len().div_ceil(FORWARD);
        let range_count = ranges(tiles);
        // Starting threads costs some 30 microseconds each; below a few times that they do not pay.
        let work = samples.len() * tiles * d.div_ceil(4);
        let threads = if work < 400_000 { 1 } else { self.threads };
        if chunks >= 2 * threads || threads == 1 {
            let next = AtomicUsize::new(0);
            let outs: Vec<_> = out.chunks_mut(FORWARD * classes).map(std::sync::Mutex::new).collect();
            on_threads(threads.min(chunks.max(1)), |_| {
                let mut forward = Forward::new(self);
                let mut sums = vec![0.0; range_count * FORWARD * classes];
                loop {
                    let chunk = next.fetch_add(1, Ordering::Relaxed);
                    if chunk >= chunks {
                        break;
                    }
                    let first = chunk * FORWARD;
                    let count = FORWARD.min(samples.len() - first);
                    forward.prepare(samples, first, count);
                    for r in 0..range_count {
                        forward.sums(r, &mut sums[r * count * classes..(r + 1) * count * classes]);
                    }
                    let mut out = outs[chunk].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    self.add_ranges(&sums[..range_count * count * classes], &mut out);
                }
            });
        } else {
            // Few samples: the threads share the neurons.
            for (chunk, out) in out.chunks_mut(FORWARD * classes).enumerate() {
                let first = chunk * FORWARD;
                let count = FORWARD.min(samples.len() - first);
                let mut sums = vec![0.0; range_count * count * classes];
                let parts: Vec<_> = sums.chunks_mut(count * classes).map(std::sync::Mutex::new).collect();
                let next = AtomicUsize::new(0);
                on_threads(threads.min(range_count), |_| {
                    let mut forward = Forward::new(self);
                    forward.prepare(samples, first, count);
                    loop {
                        let r = next.fetch_add(1, Ordering::Relaxed);
                        if r >= range_count {
                            break;
                        }
                        let mut part = parts[r].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        forward.sums(r, &mut part);
                    }
                });
                drop(parts);
                self.add_ranges(&sums, out);
            }
        }
    }

    /// Sums over the ranges in order, plus the biases.
    fn add_ranges(&self, sums: &[f32], out: &mut [f32]) {
        let classes = self.tiled.classes;
        out.fill(0.0);
        for part in sums.chunks_exact(out.len()) {
            out.iter_mut().zip(part).for_each(|(o, p)| *o += p);
        }
        for row in out.chunks_exact_mut(classes) {
            row.iter_mut().zip(&self.tiled.bias).for_each(|(o, b)| *o += b);
        }
    }
}

/// True if the loss depends on the two logits through their difference alone. For cross-entropy the target has to sum to 1
/// (up to rounding; NaN does not).
fn loss_of_the_margin(steps: &Steps) -> bool {
    match steps.loss {
        Loss::CrossEntropy => steps.targets.chunks_exact(2).all(|q| (q[0] + q[1] - 1.0).abs() <= 1e-6),
        Loss::Hinge | Loss::Correlation => true,
    }
}

/// Forward passes of one thread over chunks of samples.
struct Forward<'a> {
    model: &'a BlockedMlp,
    kernels: Kernels,
    block: Block,
    tables: Vec<Lanes>,
    scratch: Vec<Lanes>,
}

impl<'a> Forward<'a> {
    fn new(model: &'a BlockedMlp) -> Self {
        Self {
            model,
            kernels: Kernels::of(model.isa),
            block: Block::default(),
            tables: lanes(table_lanes(model.tiled.d, 0)),
            scratch: lanes(FORWARD * model.tiled.classes),
        }
    }

    fn prepare(&mut self, samples: &Samples, first: usize, count: usize) {
        // SAFETY: `BlockedMlp::new` checked that the processor has the instruction set.
        unsafe { (self.kernels.prepare)(&mut self.block, samples, first, count, false) };
    }

    /// Second-layer sums of range r.
    fn sums(&mut self, r: usize, sums: &mut [f32]) {
        let Tiled { d, classes, tiles, ref first, ref second, .. } = self.model.tiled;
        let mut pass = ForwardPass {
            weights: first.as_ptr().cast(),
            d,
            rows: second.as_ptr().cast(),
            row_count: classes,
            tiles: range(tiles, ranges(tiles), r),
            block: &self.block,
            sums,
            tables: self.tables.as_mut_ptr().cast(),
            scratch: self.scratch.as_mut_ptr().cast(),
        };
        // SAFETY: tables and scratch were allocated for d, C and blocks of up to FORWARD samples.
        unsafe { (self.kernels.forward_pass)(&mut pass) };
    }
}

/// Runs `work(0..threads)`, the last on the calling thread.
fn on_threads(threads: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        let work = &work;
        for t in 1..threads {
            scope.spawn(move || work(t));
        }
        work(0);
    });
}

/// Trains all shares, the first on the calling thread.
fn run_threads(context: &Context, mut shares: Vec<Share>, bias: &[f32]) -> Outcome {
    std::thread::scope(|scope| {
        let own = shares.remove(0);
        for share in shares {
            let bias = bias.to_vec();
            scope.spawn(move || train::run(context, share, bias));
        }
        train::run(context, own, bias.to_vec())
    })
}

#[cfg(test)]
mod tests;
