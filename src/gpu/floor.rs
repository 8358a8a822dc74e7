//! The cost of a dispatch and of a barrier that do nothing (`floor.wgsl`).

use super::GpuError;
use super::context::{Bind, GpuContext, Launch};
use super::shader::assemble;
use std::time::{Duration, Instant};

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
pub fn floor(context: &GpuContext) -> Result<Floor, GpuError> {
    let source = assemble(&[], &[include_str!("floor.wgsl")]);
    let binds = [Bind::Uniform, Bind::Write];
    let word = context.storage("word", 4)?;
    let launch = |entry: &str, rounds: u32| -> Result<Launch, GpuError> {
        let kernel = context.kernel("floor", entry, &source, &binds)?;
        Ok(context.launch(&kernel, &binds, &[&context.uniform(&[rounds, 0, 0, 0])?, &word], [1, 1, 1]))
    };
    let time = |launches: &[Launch]| -> Result<Duration, GpuError> {
        context.wait(context.submit(launches))?;
        let started = Instant::now();
        context.wait(context.submit(launches))?;
        Ok(started.elapsed())
    };
    // Two lengths each: the difference is free of what a submission costs.
    let per_unit = |make: &dyn Fn(u32) -> Result<Vec<Launch>, GpuError>, few: u32, many: u32| {
        let (short, long) = (time(&make(few)?)?, time(&make(many)?)?);
        Ok::<f64, GpuError>(1e6 * (long.as_secs_f64() - short.as_secs_f64()).max(0.0) / f64::from(many - few))
    };
    let dispatches = |n: u32| Ok(vec![launch("dispatch", 0)?; n as usize]);
    let barriers = |n: u32| Ok(vec![launch("barrier", n)?]);
    Ok(Floor {
        dispatch_microseconds: per_unit(&dispatches, 100, 1100)?,
        barrier_microseconds: per_unit(&barriers, 1000, 11_000)?,
    })
}
