//! The GPU engine: WGSL kernels on wgpu, for Vulkan, Metal, DX12 and GL.
//!
//! Who calls what: [`adapters`] and [`GpuContext`] open a device; [`GpuSamples`] and [`GpuTargets`] are data on it;
//! [`GpuGroup`] holds models of one shape that train side by side, and [`GpuMlp`] is a group of one with the interface of
//! the CPU engine; [`transformer`] is GPT-2 and BERT. A kernel `name.wgsl` lies beside the `name.rs` that launches it;
//! `philox.wgsl`, `reduce.wgsl`, `tile.wgsl` (every matrix product), `loss.wgsl` and `delayed.wgsl` are shared by several kernels.

pub mod cache;
pub mod context;
pub mod correlate;
mod error;
pub mod floor;
pub mod group;
mod layout;
mod logits;
mod minibatch;
pub mod mlp;
mod narrow;
mod pool;
pub mod sample;
pub mod self_test;
pub mod target;
pub mod transformer;
mod wide;

pub use cache::CheckpointCache;
pub use context::{AdapterEntry, GpuContext, GpuOptions, Pacer, ShaderChecks, adapters};
pub use correlate::{Correlations, Output, correlations};
pub use error::GpuError;
pub use group::{GpuGroup, GpuPath, MemberSteps};
pub use logits::GpuLogits;
pub use mlp::GpuMlp;
pub use sample::GpuSamples;
pub use target::{GpuTargets, TargetSpec};

/// Puts a shader together: constants of this shape, shared parts, the kernel.
fn assemble(constants: &[(&str, usize)], parts: &[&str]) -> String {
    let mut source = format!("const GRID_ROW: u32 = {}u;\n", context::GRID_ROW);
    for (name, value) in constants {
        source.push_str(&format!("const {name}: u32 = {value}u;\n"));
    }
    for part in parts {
        source.push_str(part);
    }
    source
}
