//! The GPU engine's transformer: each kernel against plain f64 loops, whole models against the CPU engine, on every adapter of
//! this machine and in both shader modes. Which adapters are expected: see tests/gpu.rs.

#[path = "../adapters/mod.rs"]
mod adapters;
mod harness;
mod model;
mod plain;

use adapters::everywhere;
use curricle::gpu::ShaderChecks;
use curricle::gpu::blocking;
use curricle::gpu::floor::Floor;
use curricle::gpu::self_test;
use curricle::gpu::transformer::kernels::{self, AttentionCase, Dropped, ProductEnd};
use curricle::gpu::transformer::speed::SpeedCase;
use curricle::lab::oracle::CpuOracle;
use curricle::model::transformer::{Activation, DropoutSite, Layout, TokenBatch, TransformerConfig};
use curricle::optim::AdamSettings;
use harness::{KERNEL, cases, close, close_at, distributions, numbers};
use std::time::Duration;

/// Sequence numbers that cross 2^32.
const FIRST: u64 = (1 << 32) - 1;

fn dropped(site: DropoutSite) -> Option<Dropped> {
    Some(Dropped { seed: 0x1234_5678_9abc_def0, first: FIRST, site, p: 0.3 })
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

#[test]
fn products_agree() {
    everywhere("products", |device| {
        let sizes =
            [[7, 33, 65], [130, 100, 70], [1, 1, 1], [64, 16, 64], [3, 700, 5], [450, 8, 24], [40, 1000, 2]];
        for (i, &size) in cases(device, &sizes, 2).iter().enumerate() {
            let [rows, inner, cols] = size;
            let (a, b) = (numbers(1, rows * inner), numbers(2, inner * cols));
            let (bias, extra) = (numbers(3, cols), numbers(4, rows * cols));
            let transposed = [i % 2 == 1, i / 2 % 2 == 1];
            let what = format!("{size:?} {transposed:?}");
            let want = plain::product(size, &a, &b, transposed);
            let with_bias: Vec<f64> =
                want.iter().enumerate().map(|(i, v)| v + f64::from(bias[i % cols])).collect();
            // Wider than +-1, to where the derivative of gelu is flat.
            let x: Vec<f32> = extra.iter().map(|x| 8.0 * x).collect();
            let run = |end| kernels::product(device, size, [&a, &b], transposed, end).unwrap();
            close(&what, &run(ProductEnd::Bias(&bias)).0, &with_bias, KERNEL);
            for activation in [Activation::Gelu, Activation::GeluNew] {
                let (before, after) = run(ProductEnd::Gelu(&bias, activation));
                close(&what, &before, &with_bias, KERNEL);
                let gelu: Vec<f64> =
                    before.iter().map(|x| plain::gelu(activation, f64::from(*x)).0).collect();
                close(&format!("{what} {activation:?}"), &after, &gelu, KERNEL);
                let slope = |x: f32| plain::gelu(activation, f64::from(x)).1;
                let back: Vec<f64> = want.iter().zip(&x).map(|(v, x)| v * slope(*x)).collect();
                let got = run(ProductEnd::GeluBack(&x, activation)).0;
                // The approximation's error is absolute: 1e-7 of the other factor.
                let most = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                close_at(&format!("{what} {activation:?}'"), &got, &back, KERNEL, most);
            }
            let length = rows.div_ceil(2);
            for dropped in [None, dropped(DropoutSite::MlpOutput(3))] {
                let kept = |i: usize| {
                    let (r, c) = (i / cols, i % cols);
                    plain::kept(dropped, r / length, r % length * cols + c)
                };
                let sum: Vec<f64> =
                    with_bias.iter().enumerate().map(|(i, v)| f64::from(extra[i]) + kept(i) * v).collect();
                let end = ProductEnd::Residual { bias: &bias, residual: &extra, length, dropped };
                close(&format!("{what} residual"), &run(end).0, &sum, KERNEL);
            }
            let sums = plain::product([1, inner, cols], &vec![1.0; inner], &b, [false, transposed[1]]);
            let (weight, sum) = run(ProductEnd::Gradient(&extra, &bias));
            let want: Vec<f64> = want.iter().zip(&extra).map(|(v, e)| v + f64::from(*e)).collect();
            close(&format!("{what} gradient"), &weight, &want, KERNEL);
            let want: Vec<f64> = sums.iter().zip(&bias).map(|(v, e)| v + f64::from(*e)).collect();
            close(&format!("{what} bias gradient"), &sum, &want, KERNEL);
        }
    });
}

#[test]
fn large_products_agree() {
    everywhere("large products", |device| {
        // Enough tiles of 128 for the larger tile, whole or with its sum split; the last ones hang over the edge.
        for size in [[1160, 9, 1170], [200, 3000, 130], [520, 600, 270]] {
            let [rows, inner, cols] = size;
            for transposed in [[false, false], [true, true]] {
                let (a, b, bias) = (numbers(1, rows * inner), numbers(2, inner * cols), numbers(3, cols));
                let want = plain::product(size, &a, &b, transposed);
                let run = |end| kernels::product(device, size, [&a, &b], transposed, end).unwrap();
                let with_bias: Vec<f64> =
                    want.iter().enumerate().map(|(i, v)| v + f64::from(bias[i % cols])).collect();
                let what = format!("{size:?} {transposed:?}");
                close(&what, &run(ProductEnd::Bias(&bias)).0, &with_bias, KERNEL);
                let zero = vec![0.0; rows * cols];
                let (weight, sum) = run(ProductEnd::Gradient(&zero, &vec![0.0; cols]));
                close(&format!("{what} gradient"), &weight, &want, KERNEL);
                let sums = plain::product([1, inner, cols], &vec![1.0; inner], &b, [false, transposed[1]]);
                close(&format!("{what} bias gradient"), &sum, &sums, KERNEL);
            }
        }
    });
}

#[test]
fn gelu_is_accurate_far_out() {
    everywhere("gelu", |device| {
        let x: Vec<f32> =
            (-400..=400).map(|i| 0.05 * i as f32).chain([1e-6, -1e-6, 60.0, -60.0, 1e4, -1e4]).collect();
        for activation in [Activation::Gelu, Activation::GeluNew] {
            let n = x.len();
            let end = ProductEnd::Gelu(&[0.0], activation);
            let (_, got) = kernels::product(device, [n, 1, 1], [&x, &[1.0]], [false; 2], end).unwrap();
            let end = ProductEnd::GeluBack(&x, activation);
            let (slope, _) =
                kernels::product(device, [n, 1, 1], [&vec![1.0; n], &[1.0]], [false; 2], end).unwrap();
            for ((x, y), s) in x.iter().zip(&got).zip(&slope) {
                let x = f64::from(*x);
                // Derivatives by differences lose digits at 1e4.
                let (want, want_slope) = if x.abs() > 20.0 {
                    (x.max(0.0), f64::from(u8::from(x > 0.0)))
                } else {
                    plain::gelu(activation, x)
                };
                let error = (f64::from(*y) - want).abs();
                assert!(error < 4e-7 * x.abs().max(1.0), "{activation:?}({x}) = {y}, not {want}");
                let error = (f64::from(*s) - want_slope).abs();
                assert!(error < 2e-6, "{activation:?}'({x}) = {s}, not {want_slope}");
            }
        }
    });
}

#[test]
fn attention_agrees() {
    everywhere("attention", |device| {
        // (sequences, length, heads, head_dim, causal, hidden keys, only some queries, dropout)
        let all = [
            (2, 7, 4, 8, true, true, true, true),
            (3, 100, 4, 8, false, true, false, true),
            (2, 1, 32, 8, true, false, false, false),
            (1, 450, 1, 8, true, false, false, true),
            (2, 450, 1, 8, false, true, true, false),
            (2, 100, 2, 16, true, true, true, true),
            (2, 70, 1, 64, false, false, false, true),
            (1, 100, 1, 64, true, true, true, false),
            (2, 9, 3, 5, false, true, true, true),
            (1, 33, 1, 128, true, false, false, false),
            (2, 65, 32, 8, true, false, true, false),
        ];
        for &(sequences, length, heads, head_dim, causal, hide, some, drop) in cases(device, &all, 2) {
            let (n, d) = (sequences * length, heads * head_dim);
            // Every third key is hidden, and in the last sequence all of them (but one where there is room to be partly blind).
            let keys: Vec<u8> = (0..n)
                .map(|p| {
                    if p / length + 1 == sequences {
                        u8::from(causal && p % length == 2)
                    } else {
                        u8::from(p % 3 != 0)
                    }
                })
                .collect();
            let mut reads: Vec<u32> = (0..n as u32).filter(|p| p % 5 == 2 || *p as usize + 1 == n).collect();
            // A sequence without reads.
            reads.retain(|p| sequences < 3 || *p as usize / length != 1);
            let case = AttentionCase {
                sequences,
                length,
                heads,
                head_dim,
                causal,
                keys: hide.then_some(&keys),
                reads: some.then_some(&reads),
                dropped: if drop { dropped(DropoutSite::Attention(1)) } else { None },
            };
            let qkv: Vec<f32> = numbers(5, 3 * n * d).iter().map(|x| 2.0 * x).collect();
            let dout = numbers(6, if some { reads.len() } else { n } * d);
            let (out, grad) = kernels::attention(device, &case, &qkv, &dout).unwrap();
            let (want, want_grad) = plain::attention(&case, &qkv, &dout);
            let what = format!(
                "{sequences} x {length}, {heads} heads of {head_dim}, causal {causal}, {hide} {some} {drop}"
            );
            close(&what, &out, &want, KERNEL);
            for (part, name) in ["query", "key", "value"].iter().enumerate() {
                let pick = |i: &usize| i % (3 * d) / d == part;
                let got: Vec<f32> = (0..grad.len()).filter(pick).map(|i| grad[i]).collect();
                let want: Vec<f64> = (0..grad.len()).filter(pick).map(|i| want_grad[i]).collect();
                // With one key, or none, queries and keys have no gradient at all: what is left is rounding of numbers about this large.
                close_at(&format!("{what}: {name} gradient"), &got, &want, KERNEL, 4.0);
            }
        }
    });
}

#[test]
fn layer_norms_agree() {
    everywhere("layer norm", |device| {
        for &(rows, hidden, eps) in
            cases(device, &[(7, 32, 1e-5), (100, 5, 1e-12), (450, 256, 1e-5), (1, 1, 1e-5)], 2)
        {
            let x: Vec<f32> = numbers(1, rows * hidden).iter().map(|x| 3.0 + x).collect();
            let (weight, bias, dy) = (numbers(2, hidden), numbers(3, hidden), numbers(4, rows * hidden));
            let got = kernels::layer_norm(device, [rows, hidden], eps, &x, [&weight, &bias], &dy).unwrap();
            let want = plain::layer_norm(hidden, eps, &x, &weight, &bias, &dy);
            for ((got, want), part) in got.iter().zip(&want).zip(["y", "dx", "weight", "bias"]) {
                close(&format!("{rows} x {hidden}: {part}"), got, want, KERNEL);
            }
        }
    });
}

#[test]
fn embeddings_agree() {
    everywhere("embeddings", |device| {
        let configs = [
            (TransformerConfig::bert(8, 100, 24, 1, 3), 3, 100),
            (TransformerConfig::gpt2(2, 450, 10, 1, 1), 2, 450),
            (TransformerConfig::gpt2(1000, 7, 64, 1, 1), 5, 7),
            (TransformerConfig::bert(1000, 1, 8, 1, 1), 1, 1),
        ];
        for (config, sequences, length) in cases(device, &configs, 2) {
            let (n, d) = (sequences * length, config.hidden);
            let params = numbers(1, config.parameters());
            let tokens: Vec<u32> = numbers(2, n)
                .iter()
                .map(|x| ((x + 1.0) / 2.0 * config.vocab as f32) as u32 % config.vocab as u32)
                .collect();
            let batch = TokenBatch { first: FIRST, ..TokenBatch::new(*sequences, *length, &tokens) };
            let dx = numbers(3, n * d);
            let dropped = dropped(DropoutSite::Embedding);
            let (out, grad) = kernels::embeddings(device, config, &params, &batch, dropped, &dx).unwrap();
            let layout = Layout::new(config);
            let mut want = vec![0.0; n * d];
            let mut want_grad = vec![0.0; params.len()];
            for (i, want) in want.iter_mut().enumerate() {
                let (p, c) = (i / d, i % d);
                let t = p % length;
                let word = layout.words.start + tokens[p] as usize * d + c;
                let mut places = vec![word, layout.positions.start + t * d + c];
                if !layout.types.is_empty() {
                    places.push(layout.types.start + c);
                }
                for place in places {
                    *want += f64::from(params[place]);
                    if place != word || Some(tokens[p]) != config.pad_token {
                        want_grad[place] += f64::from(dx[i]);
                    }
                }
                *want *= plain::kept(dropped, p / length, t * d + c);
            }
            close(&format!("{config}"), &out, &want, KERNEL);
            close(&format!("{config}: gradient"), &grad, &want_grad, KERNEL);
        }
    });
}

#[test]
fn dropped_elements_agree() {
    everywhere("dropout", |device| {
        for &(length, hidden) in cases(device, &[(7, 5), (450, 8), (1, 64), (100, 6)], 2) {
            let reads: Vec<u32> = (0..3 * length as u32).filter(|p| p % 4 != 1).collect();
            let x = vec![1.0; reads.len() * hidden];
            for site in [DropoutSite::Embedding, DropoutSite::AttentionOutput(11)] {
                let dropped = dropped(site).unwrap();
                let got = kernels::dropout(device, [length, hidden], &reads, &x, dropped).unwrap();
                for (i, got) in got.iter().enumerate() {
                    let p = reads[i / hidden] as usize;
                    let want = plain::kept(Some(dropped), p / length, p % length * hidden + i % hidden);
                    assert!((f64::from(*got) - want).abs() < 1e-6, "{got} instead of {want} at {i}");
                }
                let share = got.iter().filter(|x| **x == 0.0).count() as f64 / got.len() as f64;
                let deviation = (0.3 * 0.7 / got.len() as f64).sqrt();
                assert!((share - 0.3).abs() < 5.0 * deviation, "{share} dropped of {}", got.len());
            }
        }
    });
}

#[test]
fn losses_agree() {
    everywhere("cross-entropy", |device| {
        for &(rows, vocab) in cases(device, &[(100, 8), (7, 1000), (450, 2), (1, 1)], 2) {
            let logits: Vec<f32> = numbers(1, rows * vocab).iter().map(|x| 30.0 * x).collect();
            let mut targets = distributions(2, rows, vocab);
            // A hard label whose logit is far below the others.
            targets[..vocab].fill(0.0);
            targets[vocab - 1] = 1.0;
            let (loss, gradient) = kernels::cross_entropy(device, vocab, &logits, &targets).unwrap();
            let (want, want_gradient) = plain::cross_entropy(vocab, &logits, &targets);
            let apart = (f64::from(loss) - want).abs() / want.max(1.0);
            assert!(apart < 1e-5, "{rows} x {vocab}: {loss} instead of {want}");
            close(&format!("{rows} x {vocab}"), &gradient, &want_gradient, KERNEL);
        }
    });
}

#[test]
fn updates_agree() {
    everywhere("adam", |device| {
        for (size, decoupled, clip, weight_decay) in [
            (70, true, Some(1.0), 0.1),
            (1000, false, None, 0.1),
            (1, true, Some(100.0), 0.0),
            (20_001, false, Some(0.5), 0.0),
        ] {
            let settings = AdamSettings { betas: (0.9, 0.95), eps: 1e-8, weight_decay, decoupled, clip };
            let params = numbers(1, size);
            let decays: Vec<bool> = (0..size).map(|i| i % 3 != 0).collect();
            let gradients: Vec<Vec<f32>> = (2..7).map(|s| numbers(s, size)).collect();
            let (got, norm) = kernels::adam(device, &settings, 0.01, &params, &decays, &gradients).unwrap();
            let (want, want_norm) = plain::adam(&settings, 0.01, &params, &decays, &gradients);
            close(&format!("{size} {settings:?}"), &got, &want, KERNEL);
            // The change is what was computed: the parameters themselves are ten times larger.
            let change: Vec<f32> = got.iter().zip(&params).map(|(a, b)| a - b).collect();
            let want: Vec<f64> = want.iter().zip(wide(&params)).map(|(a, b)| a - b).collect();
            close("the change", &change, &want, harness::Tolerance(1e-9, 1e-4));
            assert!((f64::from(norm) - want_norm).abs() < 1e-5 * want_norm, "{norm} instead of {want_norm}");
        }
    });
}

#[test]
fn every_kernel_of_a_step_has_a_speed() {
    everywhere("speed", |device| {
        let config = TransformerConfig::gpt2(2, 9, 16, 1, 2);
        let case = SpeedCase { config, sequences: 2, length: 9, every: 0, dropout: true };
        let floor = Floor { dispatch_microseconds: 2.0, barrier_microseconds: 0.1 };
        let found = blocking::speed(device, &floor, &case, Duration::from_millis(1)).unwrap();
        assert!(found.gflops > 0.0 && found.step_microseconds > 0.0, "{found:?}");
        assert_eq!(found.kernels.iter().map(|k| k.dispatches).sum::<usize>(), found.dispatches);
        assert_eq!(found.floor_microseconds, 2.0 * found.dispatches as f64);
        assert!(found.kernels.iter().all(|k| k.microseconds > 0.0), "{found:?}");
        let peak = blocking::peak(device, Duration::from_millis(1)).unwrap();
        assert!(peak.gflops > 0.1 && peak.gigabytes > 0.1, "{peak:?}");
        eprintln!("{peak:?}");
        if device.options().checks == ShaderChecks::Checked {
            return;
        }
        for report in blocking::self_test(device, &CpuOracle)
            .iter()
            .filter(|r| r.kernel.contains("GPT-2") || r.kernel.contains("BERT"))
        {
            assert!(report.passed, "{report:?}");
        }
    });
}

#[test]
fn zeros_do_not_pass_the_self_test() {
    for case in self_test::cases() {
        let expected = case.expected(&CpuOracle);
        let numbers = expected.clone().unwrap();
        let judge = |reading: Vec<f32>| case.judge(&expected, &Ok((reading, 1.0))).passed;
        assert!(judge(numbers.clone()), "{}", case.kernel);
        let mut off = numbers.clone();
        off[0] += 0.1 * numbers.iter().fold(0.0f32, |m, v| m.max(v.abs())) + 1.0;
        for wrong in [vec![0.0; numbers.len()], vec![f32::NAN; numbers.len()], Vec::new(), off] {
            assert!(!judge(wrong), "{}", case.kernel);
        }
        // Expected numbers that are nothing but zeros are no test.
        let zeros = vec![0.0; numbers.len()];
        assert!(!case.judge(&Ok(zeros.clone()), &Ok((zeros, 1.0))).passed, "{}", case.kernel);
    }
}
