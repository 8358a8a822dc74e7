//! What the benchmarks share: time on a processor, and PyTorch's side in processes of its own.

use anyhow::Context;
use std::path::Path;
use std::time::Instant;

/// Refuses times that are no durations.
pub(super) fn check_seconds(seconds: f64) -> Result<(), super::Usage> {
    match (0.0..=3600.0).contains(&seconds) {
        true => Ok(()),
        false => Err(super::Usage(format!("--seconds {seconds}: from 0 to 3600 are possible"))),
    }
}

/// Seconds this thread has spent on a processor; elapsed time where the system does not tell.
pub(super) fn processor_seconds(since: Instant) -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|line| line.split(' ').next()?.parse::<f64>().ok())
        .map_or_else(|| since.elapsed().as_secs_f64(), |ns| ns * 1e-9)
}

/// Runs `processes` copies of PyTorch's side at once; the sum of their steps per second, and PyTorch's version.
///
/// # Errors
/// If Python does not start or PyTorch's side fails.
pub(super) fn run_pytorch(
    python: &Path,
    processes: usize,
    arguments: &[String],
) -> anyhow::Result<(f64, String)> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("pytorch_mlp.py");
    std::fs::write(&script, include_str!("../../benches/pytorch_mlp.py"))?;
    let start = |_| {
        let mut command = std::process::Command::new(python);
        command.arg(&script).args(arguments).stdout(std::process::Stdio::piped()).spawn()
    };
    let children: Vec<_> = (0..processes)
        .map(start)
        .collect::<Result<_, _>>()
        .with_context(|| format!("cannot start {}", python.display()))?;
    let mut total = 0.0;
    let mut version = String::new();
    for child in children {
        let output = child.wait_with_output()?;
        anyhow::ensure!(output.status.success(), "PyTorch's side failed: see its messages above");
        let answer: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("PyTorch's side printed no JSON")?;
        total += answer["steps_per_second"].as_f64().context("PyTorch's side gave no rate")?;
        version = answer["torch"].as_str().unwrap_or_default().into();
    }
    Ok((total, version))
}
