//! The least time a step can take: operation counts of the method over measured peaks of this machine.

use super::BlockedMlp;
use super::kernels::Kernels;
use super::layout::lanes;
use super::train::Plan;
use crate::simd::{Isa, LANES};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Measured peaks of one thread while `threads` of them run.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Peaks {
    /// Multiply-adds of 16 f32 in registers, per second.
    pub multiply_adds: f64,
    /// Load + add of 16 f32 from the first-level cache, per second.
    pub look_ups: f64,
    /// Bytes per second, read and written, when scaling an array as large as the model's share of one thread.
    pub bytes: f64,
}

/// What one step costs per thread, by the operation counts, in seconds.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Floor {
    /// Arithmetic and look-ups.
    pub compute_seconds: f64,
    /// Traffic beyond the second-level cache (or within it, where the model fits).
    pub memory_seconds: f64,
}

impl Floor {
    /// Steps per second if the two overlap perfectly.
    pub fn steps_per_second(&self) -> f64 {
        1.0 / self.compute_seconds.max(self.memory_seconds)
    }
}

impl Peaks {
    /// Measures for about `duration` each, with `threads` threads at once and arrays of `bytes` for each thread.
    pub fn measure(isa: Isa, threads: usize, bytes: usize, duration: Duration) -> Self {
        let kernels = Kernels::of(isa);
        let barrier = Barrier::new(threads);
        let one = || {
            let mut small = lanes(256);
            let small = small.as_mut_ptr().cast::<f32>();
            let mut large = lanes((bytes / 64).max(256));
            let count = large.len();
            let large = large.as_mut_ptr().cast::<f32>();
            // SAFETY: the instruction set is available (`Kernels::of`), and the arrays have the sizes passed.
            unsafe {
                Self {
                    multiply_adds: rate(&barrier, duration, || (kernels.peak_multiply_adds)() as f64),
                    look_ups: rate(&barrier, duration, || (kernels.peak_look_ups)(small) as f64),
                    bytes: rate(&barrier, duration, || {
                        (kernels.peak_stream)(large, count);
                        (count * LANES * 8) as f64
                    }),
                }
            }
        };
        let all: Vec<Self> = std::thread::scope(|scope| {
            let spawned: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            spawned.into_iter().map(|t| t.join().expect("measuring does not panic")).collect()
        });
        let mean = |f: fn(&Self) -> f64| all.iter().map(f).sum::<f64>() / threads as f64;
        Self {
            multiply_adds: mean(|p| p.multiply_adds),
            look_ups: mean(|p| p.look_ups),
            bytes: mean(|p| p.bytes),
        }
    }
}

/// Work per second: the best of many short rounds, because the machine may be shared.
fn rate(barrier: &Barrier, duration: Duration, mut work: impl FnMut() -> f64) -> f64 {
    work();
    barrier.wait();
    let begin = Instant::now();
    let mut best = 0.0f64;
    while begin.elapsed() < duration {
        // Short enough to fall between two interruptions now and then.
        let start = Instant::now();
        let mut done = 0.0;
        while start.elapsed() < Duration::from_micros(300) {
            done += work();
        }
        best = best.max(done / start.elapsed().as_secs_f64());
    }
    best
}

impl BlockedMlp {
    /// Bytes one thread's share of the weights and of a block's preactivations takes.
    pub fn bytes_per_thread(&self, batch: usize, threads: usize) -> usize {
        let plan = Plan::new(batch, self.block, self.sub);
        (self.tiled.first.len() + self.tiled.tiles * plan.block) * 64 / threads
    }

    /// Least time of a step of `batch` samples when `threads` threads share the neurons.
    pub fn train_floor(&self, batch: usize, threads: usize, peaks: &Peaks) -> Floor {
        let plan = Plan::new(batch, self.block, self.sub);
        let d = self.tiled.d as f64;
        let (k, j, b) = (plan.block as f64, plan.sub as f64, batch as f64);
        let tiles = self.tiled.tiles as f64 / threads as f64;
        let rows = if self.tiled.classes == 2 { 1.0 } else { self.tiled.classes as f64 };
        // Per sample and tile. Tables: 24 operations for 4 coordinates (once per block) or 4 samples.
        let groups = (d / 4.0).ceil();
        let products = if plan.large { 2.0 } else { 1.0 };
        let look_ups = products * groups + (d + 1.0) / 4.0;
        let tables = products * 24.0 * groups / k + 6.0;
        let correction = if plan.large { 0.0 } else { (k - b).max(0.0) / 2.0 };
        // Sum, row update and delta for each row; ReLU and mask.
        let second = 3.0 * rows + 2.0;
        let operations = (tables + correction + second) / peaks.multiply_adds + look_ups / peaks.look_ups;
        // Vectors per tile that have to come from, or go, beyond the per-step working set.
        let lines = if plan.large {
            3.0 * (d + 1.0) / b
        } else {
            let history = if k > j { (k / j - 1.0) / 2.0 } else { 0.0 };
            2.0 * (d + 1.0) / k + 4.0 + history
        };
        Floor {
            compute_seconds: b * tiles * operations,
            memory_seconds: b * tiles * lines * 64.0 / peaks.bytes,
        }
    }

    /// Least time of the logits of one sample, of many.
    pub fn forward_floor(&self, threads: usize, peaks: &Peaks) -> Floor {
        let groups = (self.tiled.d as f64 / 4.0).ceil();
        let tiles = self.tiled.tiles as f64 / threads as f64;
        let k = super::FORWARD as f64;
        let operations = (24.0 * groups / k + self.tiled.classes as f64 + 1.0) / peaks.multiply_adds
            + groups / peaks.look_ups;
        // Read once per chunk of samples; the stream counts reads and writes.
        let lines = (self.tiled.d + 1) as f64 / k;
        Floor { compute_seconds: tiles * operations, memory_seconds: tiles * lines * 64.0 / peaks.bytes }
    }
}
