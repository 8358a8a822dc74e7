//! Each kernel in f64, as plain loops.

use curricle::gpu::transformer::kernels::{AttentionCase, Dropped};
use curricle::model::transformer::Activation;
use curricle::model::transformer::dropout_threshold;
use curricle::optim::AdamSettings;
use curricle::rng;

/// What element e of sequence b is multiplied by.
pub fn kept(dropped: Option<Dropped>, b: usize, e: usize) -> f64 {
    let Some(d) = dropped else { return 1.0 };
    let words = rng::bits(d.seed, d.site.stream(), d.first + b as u64, (e / 4) as u32);
    if words[e % 4] < dropout_threshold(d.p) { 0.0 } else { 1.0 / (1.0 - f64::from(d.p)) }
}

/// a b, with a stored [inner, rows] and b [cols, inner] where transposed.
pub fn product([rows, inner, cols]: [usize; 3], a: &[f32], b: &[f32], transposed: [bool; 2]) -> Vec<f64> {
    let mut out = vec![0.0; rows * cols];
    for r in 0..rows {
        for k in 0..inner {
            let x = f64::from(a[if transposed[0] { k * rows + r } else { r * inner + k }]);
            for c in 0..cols {
                out[r * cols + c] +=
                    x * f64::from(b[if transposed[1] { c * inner + k } else { k * cols + c }]);
            }
        }
    }
    out
}

/// erf by its series, or 1 - erfc by a continued fraction.
pub fn erf(x: f64) -> f64 {
    if x < 0.0 {
        return -erf(-x);
    }
    let bell = (-x * x).exp() / std::f64::consts::PI.sqrt();
    if x < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= 2.0 * x * x / (2.0 * f64::from(n) + 1.0);
            sum += term;
        }
        return 2.0 * bell * sum;
    }
    let fraction = (1..80).rev().fold(x, |f, n| x + 0.5 * f64::from(n) / f);
    1.0 - bell / fraction
}

/// gelu and its derivative.
pub fn gelu(activation: Activation, x: f64) -> (f64, f64) {
    let slope = |f: &dyn Fn(f64) -> f64| (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
    let exact = |x: f64| 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2));
    let tanh =
        |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
    match activation {
        Activation::Gelu => (exact(x), slope(&exact)),
        Activation::GeluNew => (tanh(x), slope(&tanh)),
    }
}

/// Output and gradient of attention; see `kernels::attention`.
pub fn attention(case: &AttentionCase<'_>, qkv: &[f32], dout: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let &AttentionCase { sequences, length, heads, head_dim, causal, keys, reads, dropped } = case;
    let d = heads * head_dim;
    let every: Vec<u32> = (0..(sequences * length) as u32).collect();
    let reads = reads.unwrap_or(&every);
    let (mut out, mut grad) = (vec![0.0; reads.len() * d], vec![0.0; qkv.len()]);
    let at = |p: usize, part: usize, h: usize, c: usize| p * 3 * d + part * d + h * head_dim + c;
    let value = |p, part, h, c| f64::from(qkv[at(p, part, h, c)]);
    let scale = 1.0 / (head_dim as f64).sqrt();
    for (r, p) in reads.iter().map(|p| *p as usize).enumerate() {
        let (b, t) = (p / length, p % length);
        let allowed = if causal { t + 1 } else { length };
        let shown = |k: usize| keys.is_none_or(|keys| keys[b * length + k] != 0);
        let blind = !(0..allowed).any(shown);
        let seen: Vec<usize> = (0..allowed).filter(|k| blind || shown(*k)).collect();
        for h in 0..heads {
            let dot = |k: usize| -> f64 {
                (0..head_dim).map(|c| value(p, 0, h, c) * value(b * length + k, 1, h, c)).sum()
            };
            let scores: Vec<f64> = seen.iter().map(|k| if blind { 0.0 } else { scale * dot(*k) }).collect();
            let top = scores.iter().fold(f64::MIN, |m, s| m.max(*s));
            let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            let probability: Vec<f64> = scores.iter().map(|s| (s - top).exp() / total).collect();
            // As on the CPU engine, nothing is dropped where there is nothing to attend to.
            let dropped = dropped.filter(|_| !blind);
            let mask: Vec<f64> =
                seen.iter().map(|k| kept(dropped, b, (h * length + t) * length + k)).collect();
            let g = |c: usize| f64::from(dout[r * d + h * head_dim + c]);
            let dp: Vec<f64> = (0..seen.len())
                .map(|i| {
                    mask[i] * (0..head_dim).map(|c| g(c) * value(b * length + seen[i], 2, h, c)).sum::<f64>()
                })
                .collect();
            let mean: f64 = dp.iter().zip(&probability).map(|(d, p)| d * p).sum();
            for (i, k) in seen.iter().map(|k| b * length + k).enumerate() {
                let ds = if blind { 0.0 } else { scale * probability[i] * (dp[i] - mean) };
                for c in 0..head_dim {
                    out[r * d + h * head_dim + c] += mask[i] * probability[i] * value(k, 2, h, c);
                    grad[at(k, 2, h, c)] += mask[i] * probability[i] * g(c);
                    grad[at(p, 0, h, c)] += ds * value(k, 1, h, c);
                    grad[at(k, 1, h, c)] += ds * value(p, 0, h, c);
                }
            }
        }
    }
    (out, grad)
}

/// (y, dx, gradient of weight, gradient of bias).
pub fn layer_norm(
    hidden: usize,
    eps: f64,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    dy: &[f32],
) -> [Vec<f64>; 4] {
    let (mut y, mut dx) = (Vec::new(), Vec::new());
    let (mut dweight, mut dbias) = (vec![0.0; hidden], vec![0.0; hidden]);
    let n = hidden as f64;
    for (x, dy) in x.chunks_exact(hidden).zip(dy.chunks_exact(hidden)) {
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let variance = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (variance + eps).sqrt();
        let hat: Vec<f64> = x.iter().map(|x| (f64::from(*x) - mean) * scale).collect();
        let g: Vec<f64> = dy.iter().zip(weight).map(|(d, w)| f64::from(*d) * f64::from(*w)).collect();
        let (g1, g2) = (g.iter().sum::<f64>() / n, g.iter().zip(&hat).map(|(g, h)| g * h).sum::<f64>() / n);
        for c in 0..hidden {
            y.push(hat[c] * f64::from(weight[c]) + f64::from(bias[c]));
            dx.push(scale * (g[c] - g1 - hat[c] * g2));
            dweight[c] += f64::from(dy[c]) * hat[c];
            dbias[c] += f64::from(dy[c]);
        }
    }
    [y, dx, dweight, dbias]
}

/// Sum of the losses, gradient of their mean.
pub fn cross_entropy(vocab: usize, logits: &[f32], targets: &[f32]) -> (f64, Vec<f64>) {
    let (mut loss, mut gradient) = (0.0, Vec::new());
    let rows = (logits.len() / vocab) as f64;
    for (z, t) in logits.chunks_exact(vocab).zip(targets.chunks_exact(vocab)) {
        let top = z.iter().fold(f64::MIN, |m, z| m.max(f64::from(*z)));
        let total: f64 = z.iter().map(|z| (f64::from(*z) - top).exp()).sum();
        for (z, t) in z.iter().zip(t).map(|(z, t)| (f64::from(*z) - top, f64::from(*t))) {
            loss += t * (total.ln() - z);
            gradient.push((z.exp() / total - t) / rows);
        }
    }
    (loss, gradient)
}

/// Parameters after updates with the gradients, and the last gradient's norm.
pub fn adam(
    settings: &AdamSettings,
    rate: f64,
    params: &[f32],
    decays: &[bool],
    gradients: &[Vec<f32>],
) -> (Vec<f64>, f64) {
    let mut params: Vec<f64> = params.iter().map(|p| f64::from(*p)).collect();
    let (mut m, mut v) = (vec![0.0; params.len()], vec![0.0; params.len()]);
    let [b1, b2] = [settings.betas.0, settings.betas.1].map(f64::from);
    let (eps, decay) = (f64::from(settings.eps), f64::from(settings.weight_decay));
    let mut norm = 0.0;
    for (t, gradient) in gradients.iter().enumerate() {
        norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let factor = settings.clip.map_or(1.0, |c| (f64::from(c) / (norm + 1e-6)).min(1.0));
        let corrected = [b1, b2].map(|b| 1.0 - b.powi(t as i32 + 1));
        for i in 0..params.len() {
            let mut g = f64::from(gradient[i]) * factor;
            if decays[i] {
                if settings.decoupled {
                    params[i] -= rate * decay * params[i]
                } else {
                    g += decay * params[i]
                }
            }
            m[i] = b1 * m[i] + (1.0 - b1) * g;
            v[i] = b2 * v[i] + (1.0 - b2) * g * g;
            params[i] -= rate * (m[i] / corrected[0]) / ((v[i] / corrected[1]).sqrt() + eps);
        }
    }
    (params, norm)
}
