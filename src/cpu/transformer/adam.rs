//! Adam and AdamW as PyTorch has them.

use crate::simd::{Simd, dispatch, fma};
use curricle_core::optim::{AdamSettings, written};

/// The numbers of one update, prepared in f64 as PyTorch prepares them.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    /// rate / (1 - beta1^t).
    step: f32,
    /// 1 / sqrt(1 - beta2^t).
    root: f32,
    /// What the gradient is multiplied by: clipping.
    scale: f32,
    /// 1 - rate * weight decay, where it is decoupled.
    keep: f32,
    /// Weight decay that is added to the gradient.
    coupled: f32,
}

/// The factor of `torch.nn.utils.clip_grad_norm_` for a gradient of this norm.
pub fn clip_factor(norm: f64, clip: Option<f32>) -> f32 {
    clip.map_or(1.0, |limit| (written(limit) / (norm + 1e-6)).min(1.0) as f32)
}

impl Update {
    /// Update number `t`, counted from 1, of tensors with or without weight decay.
    pub fn new(settings: &AdamSettings, rate: f32, t: u64, scale: f32, decays: bool) -> Self {
        let (beta1, beta2) = (written(settings.betas.0), written(settings.betas.1));
        let correction = |beta: f64| 1.0 - beta.powf(t as f64);
        let rate = written(rate);
        let decay = if decays { written(settings.weight_decay) } else { 0.0 };
        let (decoupled, coupled) = if settings.decoupled { (decay, 0.0) } else { (0.0, decay) };
        Self {
            beta1: beta1 as f32,
            one_minus_beta1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            eps: settings.eps,
            step: (rate / correction(beta1)) as f32,
            root: (1.0 / correction(beta2).sqrt()) as f32,
            scale,
            keep: (1.0 - rate * decoupled) as f32,
            coupled: coupled as f32,
        }
    }
}

#[inline(always)]
fn apply_body<S: Simd>(u: Update, gradient: &[f32], p: &mut [f32], m: &mut [f32], v: &mut [f32]) {
    for (((g, p), m), v) in gradient.iter().zip(p).zip(m).zip(v) {
        let g = fma::<S>(u.coupled, *p, g * u.scale);
        *m = fma::<S>(u.beta1, *m, u.one_minus_beta1 * g);
        *v = fma::<S>(u.beta2, *v, u.one_minus_beta2 * g * g);
        let denominator = fma::<S>(v.sqrt(), u.root, u.eps);
        *p = fma::<S>(*p, u.keep, -(u.step * *m / denominator));
    }
}

dispatch! {
    /// One update of parameters p with moments m and v.
    pub fn apply = apply_body(update: Update, gradient: &[f32], p: &mut [f32], m: &mut [f32], v: &mut [f32])
}
