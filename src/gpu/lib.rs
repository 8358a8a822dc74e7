//! The GPU engine: WGSL kernels on wgpu, for Vulkan, Metal, DX12 and GL.
//!
//! Who calls what: [`adapters`] and [`GpuContext`] open a device; [`GpuSamples`] and [`GpuTargets`] are data on it;
//! [`GpuGroup`] holds models of one shape that train side by side, and [`GpuMlp`] is a group of one with the interface of
//! the CPU engine; [`transformer`] is GPT-2 and BERT. A kernel `name.wgsl` lies beside the `name.rs` that launches it;
//! `philox.wgsl`, `reduce.wgsl`, `tile.wgsl` (every matrix product), `loss.wgsl` and `delayed.wgsl` are shared by several kernels.
#![deny(missing_docs)]

pub mod cache;
pub mod context;
pub mod correlate;
mod error;
pub mod floor;
pub mod group;
mod layout;
mod logits;
mod matmul;
mod minibatch;
pub mod mlp;
mod narrow;
pub mod oracle;
mod pool;
pub mod sample;
pub mod self_test;
mod shader;
mod steps;
pub mod target;
pub mod transformer;
mod wide;

pub use cache::CheckpointCache;
pub use context::{AdapterEntry, GpuContext, GpuOptions, Pacer, ShaderChecks, adapters};
pub use correlate::{Correlations, Output, correlations};
pub use error::GpuError;
pub use group::GpuGroup;
pub use logits::GpuLogits;
pub use mlp::GpuMlp;
pub use sample::GpuSamples;
pub use steps::{GpuPath, MemberSteps};
pub use target::{GpuTargets, TargetSpec};
