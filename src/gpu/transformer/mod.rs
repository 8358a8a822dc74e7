//! Transformers on a GPU: GPT-2 and BERT, forward and backward, Adam.
//!
//! [`GpuTransformer`] is what the rest of curricle uses. A batch of one size has a `plan`: its buffers (`buffers`) and its
//! launches in order (`forward`, `backward`), put together from the kernels: `linear` (every product), `attention`, `norm`,
//! `embed`, `rows`, `head` (the loss) and `adam`, each `name.wgsl` beside its `name.rs`. What changes from batch to batch is one
//! list of integers (`batch`), the targets and a small uniform (`step.wgsl`), so steps are queued without waiting.

mod adam;
mod attention;
mod backward;
mod batch;
mod buffers;
mod embed;
mod evaluate;
mod forward;
mod head;
#[cfg(not(target_arch = "wasm32"))]
pub mod kernels;
mod linear;
mod model;
mod norm;
mod pieces;
mod plan;
mod recorder;
mod rows;
pub(crate) mod self_test;
pub mod speed;
mod state;
mod train;

pub use model::{GpuTransformer, GpuTransformerOptions, activation_bytes};
