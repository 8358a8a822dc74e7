//! Each kernel against another engine, in seconds: what `curricle devices --self-test` runs on an adapter. The full
//! comparison is tests/gpu.rs.

use super::group::GpuGroup;
use super::mlp::GpuMlp;
use super::oracle::{Oracle, distance};
use super::sample::{GpuSamples, SharedContext, raw_bits};
use super::steps::GpuPath;
use super::target::{GpuTargets, TargetSpec};
use super::transformer::self_test as transformer;
use super::{GpuError, Output, correlations};
use curricle_core::model::{Loss, MlpInit, MlpParams, MlpShape};
use curricle_core::optim::Steps;
use curricle_core::rng::{self, Purpose, Stream};
use curricle_core::target::{self, LabelMix, Target};
use curricle_core::task::{BooleanTask, HierarchicalParity, Samples, Support};
use std::time::Instant;

/// How one kernel did.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct KernelReport {
    /// The kernel.
    pub kernel: String,
    /// Whether its error is within tolerance.
    pub passed: bool,
    /// Mean square error over mean square value.
    pub nmse: f64,
    /// Largest error.
    pub max_error: f64,
    /// Units of work per second, compilation not counted.
    pub speed: f64,
    /// The unit.
    pub unit: &'static str,
    /// What went wrong, if it could not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// All parameters in one list.
pub fn flat(params: &MlpParams) -> Vec<f32> {
    params.layers.iter().flat_map(|l| l.weight.iter().chain(l.bias.iter()).copied()).collect()
}

const STREAM: Stream = Stream::new(Purpose::Data, 0);

type Outcome = Result<(f64, f64, f64), GpuError>;

type Test = Box<dyn Fn(&SharedContext, &dyn Oracle) -> Outcome>;

/// Runs every kernel against the oracle; the tolerance is 1e-9 in NMSE.
pub fn self_test(context: &SharedContext, oracle: &dyn Oracle) -> Vec<KernelReport> {
    let shape = MlpShape { d: 100, hidden: vec![100], classes: 2 };
    let wide = MlpShape { d: 100, hidden: vec![3000], classes: 2 };
    let deep = MlpShape { d: 100, hidden: vec![60, 30], classes: 8 };
    let training = |shape: &MlpShape, batch: usize, steps: usize, path: GpuPath| {
        let shape = shape.clone();
        Box::new(move |context: &SharedContext, oracle: &dyn Oracle| {
            train(context, oracle, &shape, batch, steps, path)
        }) as Test
    };
    let [gpt2, bert] = [transformer::gpt2(), transformer::bert()];
    let (gpt2_steps, bert_steps) = (gpt2.clone(), bert.clone());
    let tests: [(&str, &'static str, Test); 12] = [
        ("generator", "words/s", Box::new(|context, _| generator(context))),
        ("logits", "samples/s", Box::new(forward)),
        ("targets", "samples/s", Box::new(|context, _| targets(context))),
        ("narrow", "steps/s", training(&shape, 1, 320, GpuPath::Narrow { shared: true })),
        ("narrow, global memory", "steps/s", training(&shape, 1, 320, GpuPath::Narrow { shared: false })),
        ("wide", "steps/s", training(&wide, 1, 320, GpuPath::Wide)),
        ("minibatch", "steps/s", training(&deep, 64, 20, GpuPath::Minibatch)),
        ("correlations", "samples/s", Box::new(correlate)),
        (
            "GPT-2 logits",
            "tokens/s",
            Box::new(move |context, oracle| transformer::logits(context, oracle, &gpt2)),
        ),
        (
            "GPT-2 training",
            "steps/s",
            Box::new(move |context, oracle| transformer::training(context, oracle, &gpt2_steps)),
        ),
        (
            "BERT logits",
            "tokens/s",
            Box::new(move |context, oracle| transformer::logits(context, oracle, &bert)),
        ),
        (
            "BERT training",
            "steps/s",
            Box::new(move |context, oracle| transformer::training(context, oracle, &bert_steps)),
        ),
    ];
    let report = |(kernel, unit, test): &(&str, &'static str, Test)| {
        let report = |nmse: f64, max_error: f64, speed: f64, error: Option<String>| KernelReport {
            kernel: (*kernel).to_owned(),
            passed: error.is_none() && nmse < 1e-9,
            nmse,
            max_error,
            speed,
            unit,
            error,
        };
        match test(context, oracle) {
            Ok((nmse, max_error, speed)) => report(nmse, max_error, speed, None),
            Err(error) => report(f64::INFINITY, f64::INFINITY, 0.0, Some(error.to_string())),
        }
    };
    tests.iter().map(report).collect()
}

fn task(shape: &MlpShape) -> Result<HierarchicalParity, GpuError> {
    HierarchicalParity::hierarchy(shape.d, 5, shape.classes, &Support::First)
        .map_err(|e| GpuError::Refused(e.to_string()))
}

/// Runs twice and times the second run: the first one compiles.
fn timed<T>(mut work: impl FnMut() -> Result<T, GpuError>) -> Result<(T, f64), GpuError> {
    work()?;
    let started = Instant::now();
    let result = work()?;
    Ok((result, started.elapsed().as_secs_f64().max(1e-9)))
}

fn generator(context: &SharedContext) -> Outcome {
    let (words, seconds) = timed(|| raw_bits(context, 7, STREAM, (1 << 32) - 3, 10_000))?;
    let want = (0..10_000).flat_map(|i| rng::bits(7, STREAM, (1 << 32) - 3 + i, 0));
    let wrong = words.iter().zip(want).filter(|(g, w)| **g != *w).count() as f64;
    Ok((wrong, wrong, 40_000.0 / seconds))
}

fn forward(context: &SharedContext, oracle: &dyn Oracle) -> Outcome {
    let shape = MlpShape { d: 100, hidden: vec![1000], classes: 8 };
    let params = MlpParams::new(&shape, MlpInit::Pytorch, 1);
    let samples = task(&shape)?.samples(1, STREAM, 0, 2000);
    let gpu = GpuMlp::new(context, &params)?;
    let mut got = vec![0.0; 16_000];
    let ((), seconds) = timed(|| gpu.logits(&samples, &mut got))?;
    let want = oracle.mlp_logits(&params, &samples);
    let (nmse, most) = distance(&got, &want);
    Ok((nmse, most, 2000.0 / seconds))
}

fn targets(context: &SharedContext) -> Outcome {
    let shape = MlpShape { d: 100, hidden: vec![50], classes: 2 };
    let samples = task(&shape)?.samples(1, STREAM, 0, 4000);
    let group = GpuGroup::pytorch(context, &shape, &[1])?;
    let on_device = GpuSamples::upload(context, &samples)?;
    let logits = group.logits(0..1, &on_device)?;
    let z = logits.download(context)?;
    let target = Target { temperature: 0.5, label_mix: LabelMix::Constant(0.3) };
    let spec = TargetSpec { loss: Loss::CrossEntropy, target, batch: 1, first_step: 0 };
    let (got, seconds) =
        timed(|| GpuTargets::from_teacher(context, &on_device, &logits, 0..4000, &spec)?.download(context))?;
    let want = target.of_teacher(spec.loss, 2, &samples.labels, &z, |_| 0);
    let (nmse, most) = distance(&got, &want);
    Ok((nmse, most, 4000.0 / seconds))
}

fn train(
    context: &SharedContext,
    oracle: &dyn Oracle,
    shape: &MlpShape,
    batch: usize,
    steps: usize,
    path: GpuPath,
) -> Outcome {
    let params = MlpParams::new(shape, MlpInit::Pytorch, 1);
    let samples = task(shape)?.samples(1, STREAM, 0, batch * steps);
    let labels = target::from_labels(Loss::CrossEntropy, shape.classes, &samples.labels);
    let rates = vec![0.01; steps];
    let steps_of = Steps {
        samples: &samples,
        batch,
        loss: Loss::CrossEntropy,
        targets: &labels,
        rates: &rates,
        weight_decay: 0.0,
    };
    let (got, seconds) = {
        let mut gpu = GpuMlp::new(context, &params)?;
        // Where workgroup memory is too small for the width, the fallback is what is tested.
        let _ = gpu.group_mut().force(Some(path));
        let mut seconds = 0.0;
        for _ in 0..2 {
            gpu.group_mut().set(0, &params)?;
            let started = Instant::now();
            gpu.train(&steps_of)?;
            seconds = started.elapsed().as_secs_f64().max(1e-9);
        }
        (gpu.to_params()?, seconds)
    };
    let (nmse, most) = distance(&flat(&got), &flat(&oracle.mlp_trained(&params, &steps_of)));
    Ok((nmse, most, steps as f64 / seconds))
}

fn correlate(context: &SharedContext, oracle: &dyn Oracle) -> Outcome {
    const COUNT: usize = 20_000;
    let shape = MlpShape { d: 100, hidden: vec![50], classes: 2 };
    let group = GpuGroup::pytorch(context, &shape, &[1])?;
    let (found, seconds) = timed(|| correlations(&group, 0, 3, STREAM, 0, COUNT as u64, &[Output::Margin]))?;
    let samples = Samples::random(100, 3, STREAM, 0, COUNT);
    let (x, z) = (samples.to_signs(), oracle.mlp_logits(&group.to_params(0)?, &samples));
    let mean = |j: usize, k: Option<usize>| {
        let terms = z
            .chunks_exact(2)
            .zip(x.chunks_exact(100))
            .map(|(z, x)| f64::from(z[1] - z[0]) * f64::from(x[j]) * k.map_or(1.0, |k| f64::from(x[k])));
        (terms.sum::<f64>() / COUNT as f64) as f32
    };
    let want: Vec<f32> = (0..100).flat_map(|j| [mean(j, None), mean(j, Some((j + 7) % 100))]).collect();
    let got: Vec<f32> = (0..100)
        .flat_map(|j| [found[0].degree_1(j) as f32, found[0].degree_2(j, (j + 7) % 100) as f32])
        .collect();
    let (nmse, most) = distance(&got, &want);
    Ok((nmse, most, COUNT as f64 / seconds))
}
