//! Puts launches together: what every kernel of the transformer binds, and what a launch costs.

use crate::GpuError;
use crate::adapter::STORAGE_BUFFERS;
use crate::context::{Bind, GpuContext, Launch};
use crate::shader::assemble;

/// Stands for the number of positions read, where a count of rows is asked for; see `step.wgsl`.
pub(super) const READS: u32 = u32::MAX;
/// No such offset.
pub(super) const NONE: u32 = u32::MAX;

/// What changes from one micro-batch to the next; see `step.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Step {
    pub seed: [u32; 2],
    pub first: [u32; 2],
    pub reads: u32,
    pub slot: u32,
    pub scale: f32,
    pub rate: f32,
    pub correction1: f32,
    pub correction2: f32,
    pub pad: [u32; 2],
}

/// A 64-bit number as WGSL has it.
pub(super) fn split(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// One dropout site, or none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Site {
    /// The stream's word of the counter.
    pub stream: u32,
    /// Words below it are dropped; 0: nothing is.
    pub threshold: u32,
    /// What the others are multiplied by.
    pub keep: f32,
}

/// A buffer and how it is bound.
pub(super) type Bound<'b> = (Bind, &'b wgpu::Buffer);

pub(super) fn read(buffer: &wgpu::Buffer) -> Bound<'_> {
    (Bind::Read, buffer)
}

pub(super) fn write(buffer: &wgpu::Buffer) -> Bound<'_> {
    (Bind::Write, buffer)
}

/// A kernel's source: its constants, and its parts after `step.wgsl`.
pub(super) fn source(constants: &[(&str, usize)], parts: &[&str]) -> String {
    let mut all = vec![include_str!("step.wgsl")];
    all.extend(parts);
    assemble(constants, &all)
}

/// A launch and about how many operations it takes.
#[derive(Debug, Clone)]
pub(super) struct Costed {
    pub launch: Launch,
    pub name: &'static str,
    pub flops: f64,
}

/// Launches in the order they will run.
pub(super) struct Recorder<'a> {
    pub context: &'a GpuContext,
    /// Holds a [`Step`].
    pub step: &'a wgpu::Buffer,
    /// Bound where a kernel wants to write something nobody asked for.
    pub spare: &'a wgpu::Buffer,
    pub launches: Vec<Costed>,
}

impl<'a> Recorder<'a> {
    pub fn new(context: &'a GpuContext, step: &'a wgpu::Buffer, spare: &'a wgpu::Buffer) -> Self {
        Self { context, step, spare, launches: Vec::new() }
    }

    /// Records `entry` of `source`. Binding 0 is `uniform`, 1 the step, then `buffers`.
    #[expect(clippy::too_many_arguments, reason = "one call per kernel, each with all of them")]
    pub fn push<T: bytemuck::Pod>(
        &mut self,
        name: &'static str,
        entry: &str,
        source: &str,
        uniform: &T,
        buffers: &[Bound<'_>],
        groups: [u32; 3],
        flops: f64,
    ) -> Result<(), GpuError> {
        let uniform = self.context.uniform(uniform)?;
        let (mut binds, mut bound) = (vec![Bind::Uniform, Bind::Uniform], vec![&uniform, self.step]);
        for (bind, buffer) in buffers {
            binds.push(*bind);
            bound.push(buffer);
        }
        let storage = binds.iter().filter(|b| matches!(b, Bind::Read | Bind::Write)).count();
        if storage > STORAGE_BUFFERS as usize {
            return Err(GpuError::Refused(format!("{name} binds {storage} buffers: not every adapter can")));
        }
        let kernel = self.context.kernel(name, entry, source, &binds)?;
        let most = self.context.limits().max_compute_workgroups_per_dimension;
        if let Some(groups) = groups.iter().find(|g| **g > most) {
            return Err(GpuError::Refused(format!(
                "{name} needs a grid of {groups} workgroups, but {} allows {most}: use a smaller batch",
                self.context.name()
            )));
        }
        self.launches.push(Costed {
            launch: self.context.launch(&kernel, &binds, &bound, groups),
            name,
            flops,
        });
        Ok(())
    }
}
