//! Tolerances and numbers.

use curricle::gpu::ShaderChecks;
use curricle::gpu::sample::SharedContext;
use curricle::rng::{self, Purpose, Stream};

/// Compiling the kernels is nearly all of the time: the guarded mode gets the first `few` cases.
pub fn cases<'a, T>(device: &SharedContext, all: &'a [T], few: usize) -> &'a [T] {
    if device.options().checks == ShaderChecks::Checked { &all[..few] } else { all }
}

/// How far f32 results may be apart: (normalised mean square error, largest error over the largest value).
#[derive(Clone, Copy)]
pub struct Tolerance(pub f64, pub f64);
/// One kernel, or one pass through a small model.
pub const KERNEL: Tolerance = Tolerance(1e-11, 2e-5);

pub fn close(what: &str, got: &[f32], want: &[f64], tolerance: Tolerance) {
    close_at(what, got, want, tolerance, 1e-15);
}

/// As [`close`], where errors are no smaller than those of numbers of size `scale`: a part that is nearly zero of something large.
pub fn close_at(what: &str, got: &[f32], want: &[f64], Tolerance(nmse, most): Tolerance, scale: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let power = want.iter().map(|w| w.powi(2)).sum::<f64>().max(scale.powi(2));
    let scale = want.iter().fold(scale, |m, w| m.max(w.abs()));
    let (mut error, mut worst) = (0.0, (0.0, 0));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let e = (f64::from(*g) - w).abs();
        assert!(e.is_finite(), "{what}: {g} at {i}, expected {w}");
        error += e * e;
        if e > worst.0 {
            worst = (e, i);
        }
    }
    let i = worst.1;
    assert!(
        error / power <= nmse && worst.0 / scale <= most,
        "{what}: NMSE {:.2e}, worst at {i}: {} instead of {} (largest {scale:.3e})",
        error / power,
        got[i],
        want[i]
    );
}

/// `n` numbers, uniform in +-1.
pub fn numbers(seed: u64, n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let words = rng::bits(seed, Stream::new(Purpose::Probe, 9), i as u64 / 4, 0);
            2.0 * rng::unit_f32(words[i % 4]) - 1.0
        })
        .collect()
}

/// Distributions [rows, vocab].
pub fn distributions(seed: u64, rows: usize, vocab: usize) -> Vec<f32> {
    let z = numbers(seed, rows * vocab);
    z.chunks_exact(vocab)
        .flat_map(|z| {
            let total: f64 = z.iter().map(|z| f64::from(3.0 * z).exp()).sum();
            z.iter().map(move |z| (f64::from(3.0 * z).exp() / total) as f32)
        })
        .collect()
}
