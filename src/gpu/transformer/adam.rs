//! Adam, AdamW and gradient clipping on the device (`adam.wgsl`).

use super::recorder::{Recorder, read, source, write};
use crate::GpuError;
use crate::context::grid;
use curricle_core::model::transformer::TransformerConfig;
use curricle_core::optim::{AdamSettings, written};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Uniform {
    size: u32,
    decoupled: u32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    eps: f32,
    decay: f32,
    clip: f32,
}

/// Buffers of the update.
#[derive(Clone, Copy)]
pub(super) struct Moments<'b> {
    pub params: &'b wgpu::Buffer,
    pub gradient: &'b wgpu::Buffer,
    /// Two numbers per parameter.
    pub moments: &'b wgpu::Buffer,
    /// [`decay_bits`].
    pub decays: &'b wgpu::Buffer,
    /// [`PARTIAL`] numbers.
    pub partial: &'b wgpu::Buffer,
    pub results: &'b wgpu::Buffer,
}

/// Partial sums of squares, and the norm.
pub(super) const PARTIAL: usize = 257;

/// A bit per parameter: whether weight decay applies to it.
pub(super) fn decay_bits(config: &TransformerConfig) -> Vec<u32> {
    let mut bits = vec![0u32; config.parameters().div_ceil(32)];
    for slot in config.tensors().iter().filter(|s| s.decay) {
        for i in slot.range() {
            bits[i / 32] |= 1 << (i % 32);
        }
    }
    bits
}

impl Recorder<'_> {
    pub fn adam(
        &mut self,
        size: usize,
        settings: &AdamSettings,
        buffers: Moments<'_>,
    ) -> Result<(), GpuError> {
        let uniform = Uniform {
            size: size as u32,
            decoupled: u32::from(settings.decoupled),
            // 1 - beta is rounded once, from the decimal: 1 - 0.999f32 is off by 1e-5 of it.
            rest1: (1.0 - written(settings.betas.0)) as f32,
            beta2: settings.betas.1,
            rest2: (1.0 - written(settings.betas.1)) as f32,
            eps: settings.eps,
            decay: settings.weight_decay,
            clip: settings.clip.unwrap_or(-1.0),
        };
        let source =
            source(&[("C", 1), ("WG", 256)], &[include_str!("../reduce.wgsl"), include_str!("adam.wgsl")]);
        let Moments { params, gradient, moments, decays, partial, results } = buffers;
        let bound =
            [write(gradient), write(partial), write(params), write(moments), read(decays), write(results)];
        let n = size as f64;
        self.push("gradient norm", "squares", &source, &uniform, &bound, [256, 1, 1], 2.0 * n)?;
        self.push("gradient norm, sum", "norm", &source, &uniform, &bound, [1; 3], 256.0)?;
        let groups = grid(size.div_ceil(64) as u32);
        self.push("adam", "update", &source, &uniform, &bound, groups, 15.0 * n)
    }
}
