//! How fast a training step could be: its multiply-adds over what the processor's matrix products reach.

use super::TransformerOptions;
use super::embedding::Distinct;
use super::linear::SingleThreaded;
use curricle_core::model::transformer::{BatchError, Family, TokenBatch, TransformerConfig, check_reads};
use ndarray::Array2;
use ndarray::linalg::general_mat_mul;
use std::time::{Duration, Instant};

/// Multiply-adds of one forward and backward pass, as the exact savings leave them.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Operations {
    /// In products with weights: three of the forward pass's size.
    pub products: f64,
    /// In attention: seven per query, visible key and head dimension (two forward, five backward).
    pub attention: f64,
}

impl Operations {
    /// Of one micro-batch.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    pub fn count(
        config: &TransformerConfig,
        options: TransformerOptions,
        batch: &TokenBatch<'_>,
        reads: &[u32],
    ) -> Result<Self, BatchError> {
        batch.check(config)?;
        check_reads(batch, reads)?;
        let (hidden, inner) = (config.hidden as f64, config.inner as f64);
        let rows = batch.positions();
        let mut distinct = Distinct::default();
        let tabled = options.savings && distinct.find(batch, config.vocab);
        let (mut products, mut attention) = (0.0, 0.0);
        for layer in 0..config.layers {
            let only = options.savings && layer + 1 == config.layers;
            let queries = if only { reads.len() } else { rows } as f64;
            let table = distinct.rows.len() as f64;
            let (q, kv) = if tabled && layer == 0 { (table, table) } else { (queries, rows as f64) };
            products += hidden * hidden * (q + 2.0 * kv + queries) + 2.0 * queries * hidden * inner;
            for b in 0..batch.sequences {
                let visible = |t: usize| batch.keys.is_none_or(|keys| keys[b * batch.length + t] != 0);
                let mut seen = 0;
                let all = (0..batch.length).filter(|t| visible(*t)).count();
                for t in 0..batch.length {
                    seen += usize::from(visible(t));
                    let pairs = if config.family == Family::Gpt2 { seen } else { all };
                    if !only || reads.binary_search(&((b * batch.length + t) as u32)).is_ok() {
                        attention += 7.0 * pairs as f64 * hidden;
                    }
                }
            }
        }
        let head = config.vocab as f64 + if config.family == Family::Bert { hidden } else { 0.0 };
        products += reads.len() as f64 * hidden * head;
        Ok(Self { products: 3.0 * products, attention })
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        self.products + self.attention
    }

    /// Multiply-adds per second of a product of typical shape (400 x 256 x 1024) on every one of `threads` threads, the best of
    /// many within `duration`.
    pub fn peak(threads: usize, duration: Duration) -> f64 {
        const SHAPE: [usize; 3] = [400, 256, 1024];
        let _single = SingleThreaded::new();
        let work = || {
            let [m, k, n] = SHAPE;
            let (a, b) = (Array2::<f32>::ones([m, k]), Array2::<f32>::ones([k, n]));
            let mut c = Array2::<f32>::zeros([m, n]);
            let (start, mut best) = (Instant::now(), f64::INFINITY);
            while start.elapsed() < duration {
                let one = Instant::now();
                general_mat_mul(1.0, &a, &b, 0.0, &mut c);
                best = best.min(one.elapsed().as_secs_f64());
            }
            std::hint::black_box(&c);
            (m * k * n) as f64 / best
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            threads.into_iter().filter_map(|t| t.join().ok()).sum()
        })
    }
}
