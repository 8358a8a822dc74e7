//! The GPU engine: WGSL kernels on wgpu, for Vulkan, Metal, DX12 and GL.
//!
//! Who calls what: [`adapters`] and [`GpuContext`] open a device; [`GpuSamples`] and [`GpuTargets`] are data on it;
//! [`GpuGroup`] holds models of one shape that train side by side, and [`GpuMlp`] is a group of one with the interface of
//! the CPU engine; [`transformer`] is GPT-2 and BERT. What waits for the device is asynchronous and never blocks (`train_async`):
//! a browser could not. [`blocking`] puts the plain names on top (`train`), for everybody else. A kernel `name.wgsl` lies beside the `name.rs` that launches it;
//! `philox.wgsl`, `reduce.wgsl`, `tile.wgsl` (every matrix product), `loss.wgsl` and `delayed.wgsl` are shared by several kernels.
#![deny(missing_docs)]

pub mod adapter;
mod awaited;
#[cfg(not(target_arch = "wasm32"))]
pub mod blocking;
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
mod queue;
pub mod sample;
pub mod self_test;
mod shader;
mod steps;
pub mod target;
pub mod transformer;
mod wide;

pub use adapter::AdapterEntry;
#[cfg(not(target_arch = "wasm32"))]
pub use blocking::{adapters, correlations};
pub use cache::CheckpointCache;
pub use context::{GpuContext, GpuOptions, ShaderChecks};
pub use correlate::{Correlations, Output};
pub use error::GpuError;
pub use group::GpuGroup;
pub use logits::GpuLogits;
pub use mlp::GpuMlp;
pub use queue::Pacer;
pub use sample::GpuSamples;
pub use steps::{GpuPath, MemberSteps};
pub use target::{GpuTargets, TargetSpec};
