//! Every adapter of this machine, in both shader modes, one test at a time.

use curricle::gpu::sample::SharedContext;
use curricle::gpu::{GpuContext, GpuOptions, ShaderChecks, adapters};
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
