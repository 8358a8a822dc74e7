//! Each kernel against another engine, in seconds: what `curricle devices --self-test` runs on an adapter. The full
//! comparison is tests/gpu.rs.
//!
//! A case's expected numbers come from the host alone ([`Case::expected`] sees no device), and so does all it computes with:
//! a driver that loses data, or reads back zeros, cannot agree with itself.

use super::GpuError;
use super::correlate::{Output, correlations_async};
use super::group::GpuGroup;
use super::mlp::GpuMlp;
use super::oracle::{Oracle, distance};
use super::sample::{GpuSamples, SharedContext, raw_bits_async};
use super::steps::GpuPath;
use super::target::{GpuTargets, TargetSpec};
use super::transformer::self_test as transformer;
use curricle_core::model::transformer::TransformerConfig;
use curricle_core::model::{Loss, MlpInit, MlpParams, MlpShape};
use curricle_core::optim::Steps;
use curricle_core::rng::{self, Purpose, Stream};
use curricle_core::target::{self, LabelMix, Target};
use curricle_core::task::{BooleanTask, HierarchicalParity, Samples, Support};
use web_time::Instant;

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

/// What the targets' case learns from a teacher.
const SOFT: Target = Target { temperature: 0.5, label_mix: LabelMix::Constant(0.3) };

/// Numbers computed on a device, and units of work per second.
pub type Reading = Result<(Vec<f32>, f64), GpuError>;

/// One kernel, or one way to train.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is tested.
    pub kernel: &'static str,
    /// Unit of its speed.
    pub unit: &'static str,
    /// Largest NMSE that passes.
    pub tolerance: f64,
    work: Work,
}

#[derive(Debug, Clone)]
enum Work {
    Generator,
    Logits,
    Targets,
    Training { shape: MlpShape, batch: usize, steps: usize, path: GpuPath },
    Correlations,
    TransformerLogits(TransformerConfig),
    TransformerTraining(TransformerConfig),
}

/// Every case.
pub fn cases() -> Vec<Case> {
    let case = |kernel, unit, work| Case { kernel, unit, tolerance: 1e-9, work };
    let training = |kernel, hidden: &[usize], classes, batch, steps, path| {
        let shape = MlpShape { d: 100, hidden: hidden.to_vec(), classes };
        case(kernel, "steps/s", Work::Training { shape, batch, steps, path })
    };
    let [narrow, spilled] = [true, false].map(|shared| GpuPath::Narrow { shared });
    vec![
        Case { tolerance: 0.0, ..case("generator", "words/s", Work::Generator) },
        case("logits", "samples/s", Work::Logits),
        case("targets", "samples/s", Work::Targets),
        training("narrow", &[100], 2, 1, 320, narrow),
        training("narrow, global memory", &[100], 2, 1, 320, spilled),
        training("wide", &[3000], 2, 1, 320, GpuPath::Wide),
        training("minibatch", &[60, 30], 8, 64, 20, GpuPath::Minibatch),
        case("correlations", "samples/s", Work::Correlations),
        case("GPT-2 logits", "tokens/s", Work::TransformerLogits(transformer::gpt2())),
        case("GPT-2 training", "steps/s", Work::TransformerTraining(transformer::gpt2())),
        case("BERT logits", "tokens/s", Work::TransformerLogits(transformer::bert())),
        case("BERT training", "steps/s", Work::TransformerTraining(transformer::bert())),
    ]
}

impl Case {
    /// What the device should find.
    ///
    /// # Errors
    /// If the case does not fit the oracle.
    pub fn expected(&self, oracle: &dyn Oracle) -> Result<Vec<f32>, GpuError> {
        match &self.work {
            Work::Generator => Ok(halves((0..WORDS).flat_map(|i| rng::bits(7, STREAM, FIRST + i, 0)))),
            Work::Logits => {
                let (params, samples) = logits_material()?;
                Ok(oracle.mlp_logits(&params, &samples))
            }
            Work::Targets => {
                let (params, samples) = targets_material()?;
                let z = oracle.mlp_logits(&params, &samples);
                Ok(SOFT.of_teacher(Loss::CrossEntropy, 2, &samples.labels, &z, |_| 0))
            }
            Work::Training { shape, batch, steps, .. } => {
                let material = TrainingMaterial::new(shape, *batch, *steps)?;
                Ok(flat(&oracle.mlp_trained(&material.params, &material.steps(*batch))))
            }
            Work::Correlations => Ok(correlations_expected(oracle)),
            Work::TransformerLogits(config) => transformer::logits_expected(oracle, config),
            Work::TransformerTraining(config) => transformer::training_expected(oracle, config),
        }
    }

    /// What the device finds.
    ///
    /// # Errors
    /// If it fails.
    pub async fn measure(&self, context: &SharedContext) -> Reading {
        match &self.work {
            Work::Generator => {
                let (words, seconds) =
                    timed(async || raw_bits_async(context, 7, STREAM, FIRST, WORDS as usize).await).await?;
                Ok((halves(words), 4.0 * WORDS as f64 / seconds))
            }
            Work::Logits => logits(context).await,
            Work::Targets => targets(context).await,
            Work::Training { shape, batch, steps, path } => {
                train(context, shape, *batch, *steps, *path).await
            }
            Work::Correlations => correlate(context).await,
            Work::TransformerLogits(config) => transformer::logits(context, config).await,
            Work::TransformerTraining(config) => transformer::training(context, config).await,
        }
    }

    /// Compares the two.
    pub fn judge(&self, expected: &Result<Vec<f32>, GpuError>, reading: &Reading) -> KernelReport {
        let (kernel, unit) = (self.kernel.to_owned(), self.unit);
        match (expected, reading) {
            (Ok(want), Ok((got, speed))) => {
                let (nmse, max_error) = distance(got, want);
                let passed = nmse <= self.tolerance;
                KernelReport { kernel, passed, nmse, max_error, speed: *speed, unit, error: None }
            }
            (Err(error), _) | (_, Err(error)) => KernelReport {
                kernel,
                passed: false,
                nmse: f64::INFINITY,
                max_error: f64::INFINITY,
                speed: 0.0,
                unit,
                error: Some(error.to_string()),
            },
        }
    }
}

/// Runs every case against the oracle.
pub async fn self_test_async(context: &SharedContext, oracle: &dyn Oracle) -> Vec<KernelReport> {
    let mut reports = Vec::new();
    for case in cases() {
        reports.push(case.judge(&case.expected(oracle), &case.measure(context).await));
    }
    reports
}

/// Runs twice and times the second run: the first one compiles.
async fn timed<T>(mut work: impl AsyncFnMut() -> Result<T, GpuError>) -> Result<(T, f64), GpuError> {
    work().await?;
    let started = Instant::now();
    let result = work().await?;
    Ok((result, started.elapsed().as_secs_f64().max(1e-9)))
}

/// Items of the generator's stream, four words each; the indices cross 2^32.
const WORDS: u64 = 10_000;
const FIRST: u64 = (1 << 32) - 3;

/// Words as numbers that f32 holds exactly.
fn halves(words: impl IntoIterator<Item = u32>) -> Vec<f32> {
    words.into_iter().flat_map(|w| [(w >> 16) as f32, (w & 0xffff) as f32]).collect()
}

fn labelled(shape: &MlpShape, count: usize) -> Result<Samples, GpuError> {
    let task = HierarchicalParity::hierarchy(shape.d, 5, shape.classes, &Support::First)
        .map_err(|e| GpuError::Refused(e.to_string()))?;
    Ok(task.samples(1, STREAM, 0, count))
}

fn logits_material() -> Result<(MlpParams, Samples), GpuError> {
    let shape = MlpShape { d: 100, hidden: vec![1000], classes: 8 };
    Ok((MlpParams::new(&shape, MlpInit::Pytorch, 1), labelled(&shape, 2000)?))
}

async fn logits(context: &SharedContext) -> Reading {
    let (params, samples) = logits_material()?;
    let gpu = GpuMlp::new(context, &params)?;
    let mut got = vec![0.0; samples.len() * 8];
    let ((), seconds) = timed(async || gpu.logits_async(&samples, &mut got).await).await?;
    Ok((got, samples.len() as f64 / seconds))
}

fn targets_material() -> Result<(MlpParams, Samples), GpuError> {
    let shape = MlpShape { d: 100, hidden: vec![50], classes: 2 };
    Ok((MlpParams::new(&shape, MlpInit::Pytorch, 1), labelled(&shape, 4000)?))
}

async fn targets(context: &SharedContext) -> Reading {
    let (params, samples) = targets_material()?;
    let count = samples.len();
    let group = GpuGroup::new(context, &[&params])?;
    let samples = GpuSamples::upload(context, &samples)?;
    let logits = group.logits(0..1, &samples)?;
    let spec = TargetSpec { loss: Loss::CrossEntropy, target: SOFT, batch: 1, first_step: 0 };
    let (got, seconds) = timed(async || {
        let targets = GpuTargets::from_teacher(context, &samples, &logits, 0..count, &spec)?;
        targets.download_async(context).await
    })
    .await?;
    Ok((got, count as f64 / seconds))
}

struct TrainingMaterial {
    params: MlpParams,
    samples: Samples,
    labels: Vec<f32>,
    rates: Vec<f32>,
}

impl TrainingMaterial {
    fn new(shape: &MlpShape, batch: usize, steps: usize) -> Result<Self, GpuError> {
        let samples = labelled(shape, batch * steps)?;
        let labels = target::from_labels(Loss::CrossEntropy, shape.classes, &samples.labels);
        let params = MlpParams::new(shape, MlpInit::Pytorch, 1);
        Ok(Self { params, samples, labels, rates: vec![0.01; steps] })
    }

    fn steps(&self, batch: usize) -> Steps<'_> {
        Steps {
            samples: &self.samples,
            batch,
            loss: Loss::CrossEntropy,
            targets: &self.labels,
            rates: &self.rates,
            weight_decay: 0.0,
        }
    }
}

async fn train(
    context: &SharedContext,
    shape: &MlpShape,
    batch: usize,
    steps: usize,
    path: GpuPath,
) -> Reading {
    let material = TrainingMaterial::new(shape, batch, steps)?;
    let mut gpu = GpuMlp::new(context, &material.params)?;
    // Where workgroup memory is too small for the width, the fallback is what is tested.
    let _ = gpu.group_mut().force(Some(path));
    let mut seconds = 0.0;
    for _ in 0..2 {
        gpu.group_mut().set(0, &material.params)?;
        let started = Instant::now();
        gpu.train_async(&material.steps(batch)).await?;
        seconds = started.elapsed().as_secs_f64().max(1e-9);
    }
    Ok((flat(&gpu.to_params_async().await?), steps as f64 / seconds))
}

/// Samples of the correlations, drawn with this seed.
const CORRELATED: usize = 20_000;
const CORRELATED_SEED: u64 = 3;

fn correlated_model() -> MlpParams {
    MlpParams::new(&MlpShape { d: 100, hidden: vec![50], classes: 2 }, MlpInit::Pytorch, 1)
}

fn correlations_expected(oracle: &dyn Oracle) -> Vec<f32> {
    let samples = Samples::random(100, CORRELATED_SEED, STREAM, 0, CORRELATED);
    let (x, z) = (samples.to_signs(), oracle.mlp_logits(&correlated_model(), &samples));
    let mean = |j: usize, k: Option<usize>| {
        let terms = z
            .chunks_exact(2)
            .zip(x.chunks_exact(100))
            .map(|(z, x)| f64::from(z[1] - z[0]) * f64::from(x[j]) * k.map_or(1.0, |k| f64::from(x[k])));
        (terms.sum::<f64>() / CORRELATED as f64) as f32
    };
    (0..100).flat_map(|j| [mean(j, None), mean(j, Some((j + 7) % 100))]).collect()
}

async fn correlate(context: &SharedContext) -> Reading {
    let group = GpuGroup::new(context, &[&correlated_model()])?;
    let count = CORRELATED as u64;
    let (found, seconds) = timed(async || {
        correlations_async(&group, 0, CORRELATED_SEED, STREAM, 0, count, &[Output::Margin]).await
    })
    .await?;
    let got = (0..100)
        .flat_map(|j| [found[0].degree_1(j) as f32, found[0].degree_2(j, (j + 7) % 100) as f32])
        .collect();
    Ok((got, CORRELATED as f64 / seconds))
}
