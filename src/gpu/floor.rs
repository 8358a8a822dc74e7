//! The cost of a dispatch and of a barrier that do nothing (`floor.wgsl`).

use super::GpuError;
use super::context::{Bind, GpuContext};
use super::shader::assemble;
use web_time::{Duration, Instant};

/// What an adapter charges for doing nothing.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Floor {
    /// One dispatch that depends on the one before.
    pub dispatch_microseconds: f64,
    /// One barrier of a workgroup of 256.
    pub barrier_microseconds: f64,
}

/// Measures both.
///
/// # Errors
/// If the device fails.
pub async fn floor_async(context: &GpuContext) -> Result<Floor, GpuError> {
    let source = assemble(&[], &[include_str!("floor.wgsl")]);
    let binds = [Bind::Uniform, Bind::Write];
    let word = context.storage("word", 4)?;
    let time = async |entry: &str, rounds: u32, count: usize| -> Result<Duration, GpuError> {
        let kernel = context.kernel("floor", entry, &source, &binds)?;
        let uniform = context.uniform(&[rounds, 0, 0, 0])?;
        let launches = vec![context.launch(&kernel, &binds, &[&uniform, &word], [1, 1, 1]); count];
        context.wait(context.submit(&launches)).await?;
        let started = Instant::now();
        context.wait(context.submit(&launches)).await?;
        Ok(started.elapsed())
    };
    // Two lengths each: the difference is free of what a submission costs.
    let microseconds = |short: Duration, long: Duration, more: f64| {
        1e6 * (long.as_secs_f64() - short.as_secs_f64()).max(0.0) / more
    };
    let (few, many) = (time("dispatch", 0, 100).await?, time("dispatch", 0, 1100).await?);
    let (short, long) = (time("barrier", 1000, 1).await?, time("barrier", 11_000, 1).await?);
    Ok(Floor {
        dispatch_microseconds: microseconds(few, many, 1000.0),
        barrier_microseconds: microseconds(short, long, 10_000.0),
    })
}
