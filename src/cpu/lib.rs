//! The CPU engine: the embedded default, and the oracle for every kernel of another engine.
#![deny(missing_docs)]

mod blocked;
mod plain;
mod simd;
mod transformer;

pub use blocked::{BlockedMlp, Floor, Peaks};
pub use plain::PlainMlp;
pub use simd::Isa;
pub use transformer::{Operations, PlainTransformer, SingleThreaded, Transformer, TransformerOptions};

use curricle_core::math::accuracy;
use curricle_core::model::mlp::MlpParams;
use curricle_core::model::{LogitModel, ModelError, SignModel};
use curricle_core::optim::{Steps, StepsResult};
use curricle_core::task::Samples;

/// How the CPU engine may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuOptions {
    /// Most threads one model uses. Narrow models use one whatever is asked; run several of them side by side.
    pub threads: usize,
    /// Instruction set of the fast path; `None` takes the widest there is.
    pub isa: Option<Isa>,
    /// Always take the plain path.
    pub plain: bool,
}

impl Default for CpuOptions {
    /// All cores, the widest instruction set, the fast path where it applies.
    fn default() -> Self {
        Self { threads: std::thread::available_parallelism().map_or(1, usize::from), isa: None, plain: false }
    }
}

/// An MLP on the CPU: the fast path for one hidden layer, else the plain one.
#[derive(Debug, Clone)]
pub struct Mlp {
    path: Path,
    threads: usize,
    d: usize,
    classes: usize,
}

#[derive(Debug, Clone)]
enum Path {
    Blocked(BlockedMlp),
    Plain(PlainMlp),
}

impl Mlp {
    /// Takes over `params`.
    ///
    /// # Panics
    /// If the options name an instruction set this processor lacks.
    pub fn new(params: &MlpParams, options: CpuOptions) -> Self {
        let shape = params.shape();
        let fast = !options.plain && shape.hidden.len() == 1 && shape.classes <= BlockedMlp::MAX_CLASSES;
        let path = if fast {
            Path::Blocked(BlockedMlp::new(params, options.threads, options.isa.unwrap_or_else(Isa::detect)))
        } else {
            Path::Plain(PlainMlp::new(params.clone()))
        };
        Self { path, threads: options.threads.max(1), d: shape.d, classes: shape.classes }
    }

    /// Input dimension.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Number of logits.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Takes all steps. Equal calls on equal parameters give equal bits, whatever the number of threads; cutting the
    /// same steps into other calls may change the rounding. The parameters are the whole state.
    ///
    /// # Panics
    /// If sizes disagree.
    pub fn train(&mut self, steps: &Steps) -> StepsResult {
        match &mut self.path {
            Path::Plain(model) => model.train(steps),
            Path::Blocked(model) if BlockedMlp::supports(steps) => model.train(steps),
            Path::Blocked(model) => {
                // A decay so strong that the block cannot divide it out again: rare, and the plain loop is right.
                let mut plain = PlainMlp::new(model.to_params());
                let result = plain.train(steps);
                *model = BlockedMlp::new(plain.params(), self.threads, model.isa());
                result
            }
        }
    }

    /// Logits of all samples, `[n, C]` row-major.
    ///
    /// # Panics
    /// If sizes disagree.
    pub fn logits(&self, samples: &Samples, out: &mut [f32]) {
        match &self.path {
            Path::Blocked(model) => model.logits(samples, out),
            Path::Plain(model) => model.logits(samples, out),
        }
    }

    /// The parameters. `Mlp::new(&model.to_params(), ..)` continues with the same bits.
    pub fn to_params(&self) -> MlpParams {
        match &self.path {
            Path::Blocked(model) => model.to_params(),
            Path::Plain(model) => model.params().clone(),
        }
    }

    /// Fraction of labelled samples whose largest logit is the label's; of equal logits the lowest class counts, and a NaN
    /// is never right. NaN without samples.
    ///
    /// # Panics
    /// If the samples have no labels.
    pub fn accuracy(&self, samples: &Samples) -> f64 {
        assert_eq!(samples.labels.len(), samples.len(), "labelled samples are needed");
        let mut logits = vec![0.0; samples.len() * self.classes];
        self.logits(samples, &mut logits);
        accuracy(&logits, self.classes, &samples.labels)
    }

    /// Which path computes, for people: "blocked avx512 K=64" or "plain".
    pub fn path(&self) -> String {
        match &self.path {
            Path::Blocked(model) => format!("blocked {} K={}", model.isa().name(), model.block()),
            Path::Plain(_) => "plain".into(),
        }
    }
}

impl LogitModel for Mlp {
    fn d(&self) -> usize {
        Mlp::d(self)
    }

    fn classes(&self) -> usize {
        Mlp::classes(self)
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        Mlp::logits(self, samples, logits);
        Ok(())
    }
}

impl SignModel for Mlp {
    type Params = MlpParams;

    fn train(&mut self, steps: &Steps) -> StepsResult {
        Mlp::train(self, steps)
    }

    fn to_params(&self) -> MlpParams {
        Mlp::to_params(self)
    }

    fn path(&self) -> String {
        Mlp::path(self)
    }
}

/// The sizes of `steps` against a model's.
fn check(steps: &Steps, d: usize, classes: usize) {
    let n = steps.rates.len() * steps.batch;
    assert!(steps.batch > 0, "a step needs at least one sample");
    assert_eq!(steps.samples.d(), d, "samples of another dimension than the model's");
    assert_eq!(steps.samples.len(), n, "samples for {} steps of {}", steps.rates.len(), steps.batch);
    let width = steps.loss.target_width(classes);
    assert_eq!(steps.targets.len(), n * width, "{width} target numbers per sample");
    assert!(width == classes || classes == 2, "losses of the margin need two classes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use curricle_core::model::loss::Loss;
    use curricle_core::model::mlp::{MlpInit, MlpShape};
    use curricle_core::rng::{Purpose, Stream};

    #[test]
    fn the_path_is_named_and_every_path_trains() {
        let samples = Samples::random(12, 5, Stream::new(Purpose::Data, 0), 0, 8);
        for (hidden, classes, plain, weight_decay, expected) in [
            (vec![10], 2, false, 0.0, "blocked"),
            (vec![10], 2, true, 0.0, "plain"),
            (vec![10], 17, false, 0.0, "plain"),
            (vec![10, 6], 2, false, 0.0, "plain"),
            // Decay too strong for the block: handed to the plain loop.
            (vec![10], 2, false, 1.0, "blocked"),
        ] {
            let shape = MlpShape { d: 12, hidden, classes };
            let params = MlpParams::new(&shape, MlpInit::Pytorch, 1);
            let mut model = Mlp::new(&params, CpuOptions { plain, ..CpuOptions::default() });
            assert!(model.path().starts_with(expected), "{}", model.path());
            let targets = vec![1.0 / classes as f32; 8 * classes];
            let steps = Steps {
                samples: &samples,
                batch: 2,
                loss: Loss::CrossEntropy,
                targets: &targets,
                rates: &[0.1; 4],
                weight_decay,
            };
            let result = model.train(&steps);
            let mut reference = PlainMlp::new(params);
            let expected = reference.train(&steps);
            assert!((result.loss_sum - expected.loss_sum).abs() < 1e-4);
        }
    }
}
