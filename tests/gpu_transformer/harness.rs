//! Adapters, turns and tolerances, as in tests/gpu.rs.

use curricle::engine::gpu::sample::SharedContext;
use curricle::engine::gpu::{GpuContext, GpuOptions, ShaderChecks, adapters};
use curricle::rng::{self, Purpose, Stream};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Known driver faults: (part of "name (backend)", test, why). A listed test must fail there: when the driver is repaired, the
/// entry has to go.
const EXPECTED_FAILURES: &[(&str, &str, &str)] = &[];

/// Every adapter, opened once per shader mode.
fn devices() -> &'static [SharedContext] {
    static DEVICES: OnceLock<Vec<SharedContext>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let present = adapters();
        let expected = std::env::var("CURRICLE_EXPECT_ADAPTERS").unwrap_or_default();
        for backend in expected.split(',').map(str::trim).filter(|b| !b.is_empty()) {
            assert!(
                present.iter().any(|a| a.backend() == backend),
                "CURRICLE_EXPECT_ADAPTERS names {backend}, but only {:?} are present",
                present.iter().map(ToString::to_string).collect::<Vec<_>>()
            );
        }
        let open = |entry| {
            [ShaderChecks::Unchecked, ShaderChecks::Checked].map(|checks| {
                Arc::new(GpuContext::open(entry, GpuOptions { checks }).expect("a listed adapter opens"))
            })
        };
        present.iter().flat_map(open).collect()
    })
}

/// One test at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `test` on every device; a device that hangs fails it.
pub fn everywhere(name: &str, test: fn(&SharedContext)) {
    let _turn = turn();
    let mut failures = Vec::new();
    for device in devices() {
        let label = format!("{} {:?}", device.name(), device.options().checks);
        let (sender, receiver) = std::sync::mpsc::channel();
        let device = device.clone();
        let started = std::time::Instant::now();
        let worker = std::thread::spawn(move || {
            test(&device);
            let _ = sender.send(());
        });
        let outcome = match receiver.recv_timeout(Duration::from_secs(300)) {
            Ok(()) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Some("hangs".to_owned()),
            Err(_) => Some(match worker.join() {
                Err(panic) => panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                    .unwrap_or_default(),
                Ok(()) => String::new(),
            }),
        };
        eprintln!("{name}: {label}: {:.1} s", started.elapsed().as_secs_f64());
        let known = EXPECTED_FAILURES.iter().find(|(part, test, _)| label.contains(part) && *test == name);
        match (outcome, known) {
            (None, None) => {}
            (Some(message), None) => failures.push(format!("{label}: {message}")),
            (Some(_), Some((.., why))) => eprintln!("{name}: {label}: fails as expected: {why}"),
            (None, Some((.., why))) => {
                failures.push(format!("{label}: passes now: remove the expected failure ({why})"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

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
