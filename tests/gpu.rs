//! The GPU engine against the CPU engine, on every adapter of this machine and in both shader modes.
//!
//! `CURRICLE_EXPECT_ADAPTERS=vulkan,gl` makes a missing backend a failure; otherwise what is present is tested.
//! Tests take turns on the device, and one that hangs fails after a time limit.
//!
//! Both software adapters come from Mesa; on Debian: `libvulkan1 mesa-vulkan-drivers` for Vulkan, `libegl1 libegl-mesa0
//! libgl1-mesa-dri` for GL, which needs no display (a note about XDG_RUNTIME_DIR is harmless). Nearly all of the time goes into
//! compiling kernels; Mesa keeps them in its shader cache for the next run.

mod adapters;

use adapters::everywhere;
use curricle::cpu::{CpuOptions, Mlp, PlainMlp};
use curricle::gpu::blocking::raw_bits;
use curricle::gpu::sample::SharedContext;
use curricle::gpu::{
    CheckpointCache, GpuError, GpuGroup, GpuMlp, GpuPath, GpuSamples, GpuTargets, MemberSteps, Output,
    ShaderChecks, TargetSpec, correlations,
};
use curricle::model::{Loss, MlpInit, MlpParams, MlpShape};
use curricle::optim::{Steps, StepsResult};
use curricle::rng::{self, Purpose, Stream};
use curricle::target::{LabelMix, LabelRamp, Target};
use curricle::task::{BooleanTask, HierarchicalParity, Samples, Support};

const DATA: Stream = Stream::new(Purpose::Data, 3);

/// How far f32 results may be apart: (normalised mean square error, largest error over the largest value).
#[derive(Clone, Copy)]
struct Tolerance(f64, f64);
/// One forward pass or a few steps.
const KERNEL: Tolerance = Tolerance(1e-11, 2e-5);
/// Thousands of steps of a trajectory that amplifies rounding.
const TRAJECTORY: Tolerance = Tolerance(1e-7, 5e-3);

fn close(what: &str, got: &[f32], want: &[f32], Tolerance(nmse, most): Tolerance) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-30f64, |m, w| m.max(f64::from(w.abs())));
    let power: f64 = want.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().max(1e-30);
    let (mut error, mut worst) = (0.0, (0.0, 0));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let e = (f64::from(*g) - f64::from(*w)).abs();
        assert!(e.is_finite(), "{what}: {g} at {i}, expected {w}");
        error += e * e;
        if e > worst.0 {
            worst = (e, i);
        }
    }
    let i = worst.1;
    assert!(
        error / power <= nmse && worst.0 / scale <= most,
        "{what}: NMSE {:.2e}, worst at {i}: {} instead of {}",
        error / power,
        got[i],
        want[i]
    );
}

fn flat(params: &MlpParams) -> Vec<f32> {
    params.layers.iter().flat_map(|l| l.weight.iter().chain(l.bias.iter()).copied()).collect()
}

fn shape(d: usize, hidden: &[usize], classes: usize) -> MlpShape {
    MlpShape { d, hidden: hidden.to_vec(), classes }
}

fn task(d: usize, classes: usize) -> HierarchicalParity {
    let k = (d / (classes - 1)).clamp(1, 3);
    HierarchicalParity::hierarchy(d, k, classes, &Support::Random { seed: 5 }).unwrap()
}

#[test]
fn the_generator_gives_the_same_bits() {
    everywhere("generator", |device| {
        // An index range that crosses 2^32, and every purpose.
        let first = (1u64 << 32) - 70;
        for purpose in [Purpose::Data, Purpose::Init, Purpose::Mask, Purpose::Dropout] {
            let stream = Stream::new(purpose, 77);
            let seed = 0x0123_4567_89ab_cdef;
            let want: Vec<u32> = (0..130).flat_map(|i| rng::bits(seed, stream, first + i, 0)).collect();
            assert_eq!(raw_bits(device, seed, stream, first, 130).unwrap(), want);
        }
        for (d, classes) in [(1, 2), (7, 8), (31, 2), (32, 2), (33, 8), (100, 8), (129, 2), (300, 2)] {
            let drawn = GpuSamples::draw(device, d, 9, DATA, first, 150).unwrap();
            assert_eq!(drawn.download(device).unwrap(), Samples::random(d, 9, DATA, first, 150), "d = {d}");
            let labelled = task(d, classes).samples(9, DATA, first, 150);
            let uploaded = GpuSamples::upload(device, &labelled).unwrap();
            assert_eq!(uploaded.download(device).unwrap(), labelled, "d = {d}");
        }
        for shape in [shape(7, &[1], 2), shape(100, &[129], 8), shape(33, &[20, 6, 3], 2)] {
            let group = GpuGroup::pytorch(device, &shape, &[4, 5]).unwrap();
            for (member, seed) in [4, 5].into_iter().enumerate() {
                let want = MlpParams::new(&shape, MlpInit::Pytorch, seed);
                assert!(group.to_params(member).unwrap() == want, "{shape}");
            }
        }
    });
}

#[test]
fn logits_and_accuracy_agree() {
    everywhere("logits", |device| {
        for (shape, count) in [
            (shape(7, &[1], 2), 3),
            (shape(33, &[7], 8), 65),
            (shape(100, &[100], 2), 1000),
            (shape(129, &[129], 8), 130),
            (shape(65, &[5000], 2), 70),
            (shape(30, &[20, 70], 2), 1100),
            (shape(12, &[9, 70, 5], 8), 100),
        ] {
            let params = MlpParams::new(&shape, MlpInit::Pytorch, 3);
            let samples = task(shape.d, shape.classes).samples(1, DATA, 0, count);
            let cpu = Mlp::new(&params, CpuOptions { plain: true, ..CpuOptions::default() });
            let gpu = GpuMlp::new(device, &params).unwrap();
            let (mut want, mut got) = (vec![0.0; count * shape.classes], vec![0.0; count * shape.classes]);
            cpu.logits(&samples, &mut want);
            gpu.logits(&samples, &mut got).unwrap();
            close(&format!("logits of {shape}"), &got, &want, KERNEL);
            // Near ties may fall either way.
            let apart = (gpu.accuracy(&samples).unwrap() - cpu.accuracy(&samples)).abs();
            assert!(apart <= 1.0 / count as f64 + 1e-9, "{shape}: accuracy apart by {apart}");
        }
    });
}

#[test]
fn targets_agree() {
    everywhere("targets", |device| {
        for classes in [2, 8] {
            let shape = shape(40, &[30], classes);
            let teacher = MlpParams::new(&shape, MlpInit::Pytorch, 3);
            let samples = task(40, classes).samples(1, DATA, 0, 210);
            let group = GpuGroup::new(device, &[&teacher]).unwrap();
            let on_device = GpuSamples::upload(device, &samples).unwrap();
            let logits = group.logits(0..1, &on_device).unwrap();
            let plain = logits.download(device).unwrap();
            let losses: &[Loss] = if classes == 2 {
                &[Loss::CrossEntropy, Loss::Hinge, Loss::Correlation]
            } else {
                &[Loss::CrossEntropy]
            };
            for &loss in losses {
                for temperature in [0.0, 1e-45, 1e-20, 1e-4, 0.3, 1.0, 50.0] {
                    if loss != Loss::CrossEntropy && temperature == 1e-45 {
                        // Margins divided by it overflow; no experiment does that.
                        continue;
                    }
                    let ramp = LabelRamp { from: 0.9, to: 0.0, steps: 80 };
                    for label_mix in [LabelMix::Constant(0.0), LabelMix::Constant(0.3), LabelMix::Ramp(ramp)]
                    {
                        let target = Target { temperature, label_mix };
                        let spec = TargetSpec { loss, target, batch: 2, first_step: 7 };
                        let targets =
                            GpuTargets::from_teacher(device, &on_device, &logits, 5..205, &spec).unwrap();
                        let labels = &samples.labels[5..205];
                        let z = &plain[5 * classes..205 * classes];
                        let want = target.of_teacher(loss, classes, labels, z, |i| 7 + i as u64 / 2);
                        let what = format!("{loss:?}, {target:?}");
                        // exp(difference / 1e-4) magnifies the rounding of its argument.
                        let tolerance = if temperature == 1e-4 { Tolerance(1e-8, 1e-3) } else { KERNEL };
                        close(&what, &targets.download(device).unwrap(), &want, tolerance);
                    }
                }
            }
        }
    });
}

struct Case {
    shape: MlpShape,
    batch: usize,
    steps: usize,
    loss: Loss,
    rate: f32,
    weight_decay: f32,
}

/// Inputs, targets and rates of a case.
fn material(case: &Case) -> (Samples, Vec<f32>, Vec<f32>) {
    let count = case.batch * case.steps;
    let samples = task(case.shape.d, case.shape.classes).samples(11, DATA, 0, count);
    let teacher = MlpParams::new(&case.shape, MlpInit::Pytorch, 12);
    let mut logits = vec![0.0; count * case.shape.classes];
    PlainMlp::new(teacher).logits(&samples, &mut logits);
    let target = Target { temperature: 0.5, label_mix: LabelMix::Constant(0.25) };
    let targets = target.of_teacher(case.loss, case.shape.classes, &samples.labels, &logits, |_| 0);
    let rates = (0..case.steps).map(|t| case.rate * (1.0 + 0.5 * (t as f32).sin())).collect();
    (samples, targets, rates)
}

fn against_cpu(device: &SharedContext, case: &Case, paths: &[GpuPath], tolerance: Tolerance) {
    let (samples, targets, rates) = material(case);
    let steps = Steps {
        samples: &samples,
        batch: case.batch,
        loss: case.loss,
        targets: &targets,
        rates: &rates,
        weight_decay: case.weight_decay,
    };
    let params = MlpParams::new(&case.shape, MlpInit::Pytorch, 13);
    let mut cpu = Mlp::new(&params, CpuOptions { plain: case.batch > 32, ..CpuOptions::default() });
    let want = cpu.train(&steps);
    for &path in paths {
        let mut gpu = GpuMlp::new(device, &params).unwrap();
        if gpu.group_mut().force(Some(path)).is_err() {
            assert_eq!(path, GpuPath::Narrow { shared: true }, "only workgroup memory may be too small");
            continue;
        }
        // Cut in two: a call must leave everything where the next one finds it.
        let cut = case.steps / 3;
        let part = |from: usize, to: usize, gpu: &mut GpuMlp| {
            let width = case.loss.target_width(case.shape.classes);
            let range = from * case.batch..to * case.batch;
            let steps = Steps {
                samples: &samples.slice(range.clone()),
                targets: &targets[range.start * width..range.end * width],
                rates: &rates[from..to],
                ..steps
            };
            gpu.train(&steps).unwrap().loss_sum
        };
        let loss_sum = part(0, cut, &mut gpu) + part(cut, case.steps, &mut gpu);
        let what = format!(
            "{path}: {} {:?} batch {} decay {}",
            case.shape, case.loss, case.batch, case.weight_decay
        );
        close(&what, &flat(&gpu.to_params().unwrap()), &flat(&cpu.to_params()), tolerance);
        let apart = (loss_sum - want.loss_sum).abs() / want.loss_sum.abs().max(1.0);
        assert!(apart < 1e-3, "{what}: loss {loss_sum} instead of {}", want.loss_sum);
    }
}

const DELAYED: [GpuPath; 4] =
    [GpuPath::Narrow { shared: true }, GpuPath::Narrow { shared: false }, GpuPath::Wide, GpuPath::Minibatch];

#[test]
fn every_kernel_trains_ragged_shapes() {
    everywhere("ragged shapes", |device| {
        let case = |d, m, classes, batch, steps, loss, weight_decay| Case {
            shape: shape(d, &[m], classes),
            batch,
            steps,
            loss,
            rate: 0.1,
            weight_decay,
        };
        let ce = Loss::CrossEntropy;
        let cases = [
            case(33, 7, 8, 1, 70, ce, 0.0),
            case(32, 100, 2, 3, 40, ce, 0.01),
            case(7, 1, 2, 1, 70, ce, 0.0),
            case(100, 129, 2, 1, 97, Loss::Hinge, 0.0),
            case(31, 31, 2, 1, 64, Loss::Correlation, 0.02),
            case(50, 40, 8, 32, 5, ce, 0.0),
        ];
        // Compiling the kernels is nearly all of the time: the guarded mode gets the two most ragged cases.
        let count = if device.options().checks == ShaderChecks::Checked { 2 } else { cases.len() };
        for case in &cases[..count] {
            against_cpu(device, case, &DELAYED, KERNEL);
        }
    });
}

#[test]
fn deep_models_and_large_batches_train() {
    everywhere("deep models", |device| {
        for (shape, batch, weight_decay) in [
            (shape(33, &[20, 7], 2), 5, 0.01),
            (shape(12, &[70, 9, 66], 8), 64, 0.0),
            (shape(100, &[129], 2), 100, 0.0),
        ] {
            let case = Case { shape, batch, steps: 12, loss: Loss::CrossEntropy, rate: 0.1, weight_decay };
            against_cpu(device, &case, &[GpuPath::Minibatch], KERNEL);
        }
    });
}

#[test]
fn two_thousand_steps_of_a_student() {
    everywhere("student", |device| {
        let case = Case {
            shape: shape(100, &[100], 2),
            batch: 1,
            steps: 2000,
            loss: Loss::CrossEntropy,
            rate: 0.01,
            weight_decay: 0.0,
        };
        against_cpu(device, &case, &DELAYED[..2], TRAJECTORY);
    });
}

#[test]
fn two_thousand_steps_of_a_wide_teacher() {
    everywhere("teacher", |device| {
        let steps = if device.options().checks == ShaderChecks::Checked { 300 } else { 2000 };
        let case = Case {
            shape: shape(100, &[5000], 2),
            batch: 1,
            steps,
            loss: Loss::CrossEntropy,
            rate: 0.005,
            weight_decay: 0.0,
        };
        against_cpu(device, &case, &[GpuPath::Wide], TRAJECTORY);
    });
}

#[test]
fn members_of_a_group_train_as_if_alone() {
    everywhere("group", |device| {
        let shape = shape(40, &[37], 2);
        let task = task(40, 2);
        let streams: Vec<GpuSamples> =
            (0..2).map(|s| GpuSamples::upload(device, &task.samples(s, DATA, 0, 300)).unwrap()).collect();
        let teacher = GpuGroup::pytorch(device, &shape, &[99]).unwrap();
        let targets: Vec<GpuTargets> = streams
            .iter()
            .flat_map(|s| {
                let logits = teacher.logits(0..1, s).unwrap();
                [0.0, 1.0].map(|temperature| {
                    let target = Target { temperature, ..Target::default() };
                    let spec = TargetSpec { loss: Loss::CrossEntropy, target, batch: 1, first_step: 0 };
                    GpuTargets::from_teacher(device, s, &logits, 0..300, &spec).unwrap()
                })
            })
            .collect();
        let rates = [vec![0.05f32; 250], vec![0.1; 123]];
        let seeds: Vec<u64> = (0..8).collect();
        let steps = |member: usize| MemberSteps {
            member,
            samples: &streams[member % 2],
            first: 10 * (member / 4),
            targets: &targets[2 * (member % 2) + member / 2 % 2],
            targets_first: 10 * (member / 4),
            rates: &rates[member / 4],
            weight_decay: 0.0,
        };
        let all: Vec<MemberSteps> = (0..8).map(steps).collect();
        for path in [None, Some(GpuPath::Narrow { shared: false }), Some(GpuPath::Wide)] {
            let mut together = GpuGroup::pytorch(device, &shape, &seeds).unwrap();
            together.force(path).unwrap();
            let results = together.train(1, &all).unwrap();
            for member in 0..8 {
                let mut alone = GpuGroup::pytorch(device, &shape, &seeds).unwrap();
                alone.force(path).unwrap();
                assert_eq!(alone.train(1, &all[member..=member]).unwrap()[0], results[member]);
                assert!(alone.to_params(member).unwrap() == together.to_params(member).unwrap(), "{member}");
                let other = (member + 1) % 8;
                let untouched = MlpParams::new(&shape, MlpInit::Pytorch, seeds[other]);
                assert!(alone.to_params(other).unwrap() == untouched, "{member} touched {other}");
            }
            let labelled = &streams[0];
            let accuracies = together.accuracies(0..8, labelled).unwrap();
            assert_eq!(accuracies.len(), 8);
            for (member, accuracy) in accuracies.iter().enumerate() {
                let cpu = Mlp::new(&together.to_params(member).unwrap(), CpuOptions::default());
                let want = cpu.accuracy(&labelled.download(device).unwrap());
                assert!((accuracy - want).abs() < 0.01, "{member}: {accuracy} instead of {want}");
            }
        }
    });
}

#[test]
fn correlations_agree() {
    everywhere("correlations", |device| {
        for (d, classes, count) in [(33, 2, 1000), (64, 8, 70_000)] {
            let shape = shape(d, &[30], classes);
            let group = GpuGroup::pytorch(device, &shape, &[4]).unwrap();
            let outputs: &[Output] = if classes == 2 {
                &[Output::Margin, Output::Probability(1)]
            } else {
                &[Output::Probability(5), Output::Logit(3)]
            };
            let stream = Stream::new(Purpose::Probe, 1);
            let found = correlations(&group, 0, 6, stream, 50, count as u64, outputs).unwrap();
            let samples = Samples::random(d, 6, stream, 50, count);
            let (x, mut z) = (samples.to_signs(), vec![0.0; count * classes]);
            PlainMlp::new(group.to_params(0).unwrap()).logits(&samples, &mut z);
            let value = |output: &Output, z: &[f32]| -> f64 {
                let total: f64 = z.iter().map(|z| f64::from(*z).exp()).sum();
                match output {
                    Output::Margin => f64::from(z[1]) - f64::from(z[0]),
                    Output::Logit(c) => f64::from(z[*c]),
                    Output::Probability(c) => f64::from(z[*c]).exp() / total,
                }
            };
            for (output, found) in outputs.iter().zip(&found) {
                let f: Vec<f64> = z.chunks_exact(classes).map(|z| value(output, z)).collect();
                let mean = |g: &dyn Fn(&[f32]) -> f32| -> f64 {
                    let terms = f.iter().zip(x.chunks_exact(d)).map(|(f, x)| f * f64::from(g(x)));
                    terms.sum::<f64>() / count as f64
                };
                let check = |what: &str, got: f64, want: f64| {
                    assert!((got - want).abs() < 1e-6, "{output:?} {what}: {got} instead of {want}");
                };
                check("mean", found.mean(), mean(&|_| 1.0));
                for j in [0, 7, 31, 32, d - 1] {
                    check("degree 1", found.degree_1(j), mean(&|x| x[j]));
                    let k = (j + 5) % d;
                    check("degree 2", found.degree_2(j, k), mean(&|x| x[j] * x[k]));
                }
            }
        }
    });
}

#[test]
fn checkpoints_stay_within_their_budget() {
    everywhere("cache", |device| {
        let shape = shape(10, &[100], 2);
        let bytes = 4 * shape.parameters() as u64;
        let mut cache = CheckpointCache::new(device, Some(2 * bytes + 10));
        let mut loads = 0;
        for number in [0, 1, 0, 2, 0, 1] {
            let model = cache.get(number, || {
                loads += 1;
                Ok::<_, GpuError>(MlpParams::new(&shape, MlpInit::Pytorch, number as u64))
            });
            assert!(
                model.unwrap().to_params().unwrap()
                    == MlpParams::new(&shape, MlpInit::Pytorch, number as u64)
            );
        }
        // 0 and 1 are loaded; 2 drops 1; 1 drops 2.
        assert_eq!((loads, cache.len()), (4, 2));
        assert!(cache.bytes() <= 2 * bytes);
    });
}

#[test]
fn wrong_requests_are_refused() {
    everywhere("refusals", |device| {
        let shape = shape(10, &[4], 2);
        let mut group = GpuGroup::pytorch(device, &shape, &[1, 2]).unwrap();
        let samples = GpuSamples::draw(device, 10, 1, DATA, 0, 8).unwrap();
        let targets = GpuTargets::upload(device, Loss::Hinge, 2, &[1.0; 8]).unwrap();
        let good = MemberSteps {
            member: 0,
            samples: &samples,
            first: 0,
            targets: &targets,
            targets_first: 0,
            rates: &[0.1; 8],
            weight_decay: 0.0,
        };
        assert!(group.train(1, &[good]).is_ok());
        assert_eq!(group.train(1, &[MemberSteps { rates: &[], ..good }]).unwrap(), [StepsResult::default()]);
        for bad in [
            MemberSteps { member: 2, ..good },
            MemberSteps { first: 1, ..good },
            MemberSteps { targets_first: 1, ..good },
        ] {
            assert!(matches!(group.train(1, &[bad]), Err(GpuError::Refused(_))));
        }
        assert!(matches!(group.train(1, &[good, good]), Err(GpuError::Refused(_))));
        assert!(
            matches!(group.accuracies(0..1, &samples), Err(GpuError::Refused(_))),
            "samples without labels"
        );
        assert!(GpuGroup::zeros(device, &self::shape(10, &[], 2), 1).is_err());
        let capacity = GpuGroup::capacity(device, &shape);
        let too_many = GpuGroup::zeros(device, &shape, capacity + 1);
        assert!(matches!(too_many, Err(GpuError::TooLarge { .. } | GpuError::Refused(_))), "{capacity}");
    });
}

#[test]
fn calls_may_grow() {
    // The cut of dispatches is learned from call to call: a later call makes longer ones.
    everywhere("calls_may_grow", |device| {
        for width in [100, 1000] {
            let shape = shape(100, &[width], 2);
            let mut group = GpuGroup::pytorch(device, &shape, &[1]).unwrap();
            let task = HierarchicalParity::parity(100, 3, &Support::First).unwrap();
            for steps in [64, 128, 256, 512, 1024, 2048, 2048] {
                let samples = GpuSamples::upload(device, &task.samples(1, DATA, 0, steps)).unwrap();
                let targets =
                    GpuTargets::from_labels(device, &samples, 0..steps, Loss::CrossEntropy, 2).unwrap();
                let rates = vec![0.01; steps];
                let member = MemberSteps {
                    member: 0,
                    samples: &samples,
                    first: 0,
                    targets: &targets,
                    targets_first: 0,
                    rates: &rates,
                    weight_decay: 0.0,
                };
                let result = group.train(1, &[member]).unwrap();
                assert!(result[0].loss_sum.is_finite(), "{width}: {steps}");
            }
        }
    });
}
