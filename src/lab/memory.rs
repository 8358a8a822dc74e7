//! MLPs trained and distilled in memory: no spec, no folder, the same loop and the same bits as `curricle run`.
//!
//! ```
//! use curricle_core::task::{HierarchicalParity, Support};
//! use curricle_lab::memory::{MlpRun, distil, train};
//!
//! let task = HierarchicalParity::parity(20, 2, &Support::First)?;
//! let teacher = train(&task, 1, &MlpRun { hidden: vec![100], steps: 600, ..MlpRun::default() })?;
//! let middle = teacher.closest_to(0.8);
//! let student = MlpRun { hidden: vec![20], steps: 2000, ..MlpRun::default() };
//! let student = distil(&task, 1, &student, &teacher, &[(middle, 200), (teacher.last(), 0)])?;
//! assert!(student.samples_to(0.9).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::distill::teacher::SignTeachers;
use crate::family::mlp::MlpTraining;
use crate::train::checkpointing::CheckpointPolicy;
use crate::train::group::{Control, Lane, train as train_group};
use crate::train::member::{AnyError, Member, Metric, Outcome, Recorder, State, Supervision, TrainError};
use crate::train::settings::{StopRule, Training};
use crate::train::signs::{Sign, Signs};
use curricle_core::model::{Loss, MlpInit, MlpParams, MlpShape};
use curricle_core::optim::rate::RateSchedule;
use curricle_core::rng::{self, Purpose, Stream};
use curricle_core::schedule::Stages;
use curricle_core::target::Target;
use curricle_core::task::BooleanTask;
use curricle_cpu::{CpuOptions, Mlp};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How one MLP is trained, by SGD on the cross-entropy at a constant rate.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpRun {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Samples per step.
    pub batch: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// Steps at most.
    pub steps: u64,
    /// Steps between evaluations and, of teachers, between checkpoints.
    pub every: u64,
    /// Held-out samples.
    pub evaluation: usize,
    /// Stop once three evaluations in a row have this accuracy.
    pub stop_at: Option<f64>,
    /// Threads.
    pub threads: usize,
}

impl Default for MlpRun {
    /// Batches of 32 at a rate of 0.1, an evaluation of 2000 samples every 100 steps, to 99.5%, on one thread.
    fn default() -> Self {
        Self {
            hidden: vec![100],
            batch: 32,
            learning_rate: 0.1,
            steps: 10_000,
            every: 100,
            evaluation: 2000,
            stop_at: Some(0.995),
            threads: 1,
        }
    }
}

/// What a run in memory left.
#[derive(Debug, Clone, Default)]
pub struct Trained {
    /// Evaluations in order; the first is before training.
    pub metrics: Vec<Metric>,
    /// Steps and parameters of the checkpoints in order; the last is the end.
    pub checkpoints: Vec<(u64, MlpParams)>,
}

impl Trained {
    /// Training samples at the first evaluation with at least this accuracy.
    pub fn samples_to(&self, level: f64) -> Option<u64> {
        self.metrics.iter().find(|m| m.accuracy >= level).map(|m| m.samples)
    }

    /// Number of the checkpoint whose evaluated accuracy is closest to `accuracy`, up to the first at 99%: of equally close ones the
    /// first.
    ///
    /// # Panics
    /// If there are no checkpoints: a run that diverged at once.
    pub fn closest_to(&self, accuracy: f64) -> usize {
        let end = self.metrics.iter().find(|m| m.accuracy >= 0.99).map_or(u64::MAX, |m| m.step);
        let distance = |step: u64| {
            let found = self.metrics.iter().find(|m| m.step == step);
            found.map_or(f64::INFINITY, |m| (m.accuracy - accuracy).abs())
        };
        let known = self.checkpoints.iter().enumerate().filter(|(_, (step, _))| *step <= end);
        let best = known.min_by(|(_, (a, _)), (_, (b, _))| distance(*a).total_cmp(&distance(*b)));
        best.expect("a run keeps checkpoints").0
    }

    /// Number of the last checkpoint.
    ///
    /// # Panics
    /// If there are no checkpoints: a run that diverged at once.
    pub fn last(&self) -> usize {
        self.checkpoints.len().checked_sub(1).expect("a run keeps its last state")
    }
}

impl Recorder<MlpParams> for &mut Trained {
    fn metric(&mut self, metric: &Metric) -> Result<(), AnyError> {
        self.metrics.push(metric.clone());
        Ok(())
    }

    fn checkpoint(&mut self, step: u64, params: &MlpParams) -> Result<(), AnyError> {
        self.checkpoints.push((step, params.clone()));
        Ok(())
    }

    fn save(&mut self, _: &MlpParams, _: &State) -> Result<(), AnyError> {
        Ok(())
    }

    fn progress(&mut self, _: u64) {}

    fn ended(&mut self, _: &Outcome, _: &State) -> Result<(), AnyError> {
        Ok(())
    }
}

/// Trains a teacher on labels; samples and first weights are functions of `seed`.
///
/// # Errors
/// If training stops.
pub fn train(
    task: &(impl BooleanTask + Clone + 'static),
    seed: u64,
    run: &MlpRun,
) -> Result<Trained, TrainError> {
    let teachers = SignTeachers::new(task.classes(), |_| unreachable!("labels are followed"));
    one(task, seed, 0, run, Supervision::Labels, teachers)
}

/// Trains a student on checkpoints of a teacher, each by its number for so many steps, the last until the end; the
/// teacher's argmax is the target.
///
/// # Errors
/// If training stops.
///
/// # Panics
/// If `stages` is empty or names a checkpoint that the teacher has not.
pub fn distil(
    task: &(impl BooleanTask + Clone + 'static),
    seed: u64,
    run: &MlpRun,
    teacher: &Trained,
    stages: &[(usize, u64)],
) -> Result<Trained, TrainError> {
    assert!(!stages.is_empty() && stages.iter().all(|(c, _)| *c < teacher.checkpoints.len()));
    let schedule = Stages::of(stages.iter().copied());
    let steps = teacher.checkpoints.iter().map(|(step, _)| Some(*step)).collect();
    let supervision = Supervision::Teacher { schedule, target: Target::default(), steps };
    let options = CpuOptions { threads: run.threads, ..CpuOptions::default() };
    let models: Vec<Mlp> = teacher.checkpoints.iter().map(|(_, p)| Mlp::new(p, options)).collect();
    let teachers = SignTeachers::new(task.classes(), move |i| Ok((Box::new(models[i].clone()), 0)));
    one(task, seed, 1, run, supervision, teachers)
}

/// One run as a group of one; `role` 0 draws a teacher's samples, 1 a student's.
fn one(
    task: &(impl BooleanTask + Clone + 'static),
    seed: u64,
    role: u32,
    run: &MlpRun,
    supervision: Supervision,
    teachers: SignTeachers,
) -> Result<Trained, TrainError> {
    let shape = MlpShape { d: task.d(), hidden: run.hidden.clone(), classes: task.classes() };
    let params = MlpParams::new(&shape, MlpInit::Pytorch, rng::role_seed(seed, role));
    let options = CpuOptions { threads: run.threads, ..CpuOptions::default() };
    let model = Mlp::new(&params, options);
    let loss = Loss::CrossEntropy;
    let lane = Lane {
        task: Arc::new(task.clone()),
        seed,
        stream: Stream::new(Purpose::Data, role),
        evaluation: task.samples(seed, Stream::new(Purpose::Evaluation, 0), 0, run.evaluation),
        teacher: vec![],
    };
    let mut engine =
        Signs::new(vec![lane], vec![teachers], vec![Sign { model, lane: 0, loss, weight_decay: 0.0 }]);
    let training = Training {
        label: String::new(),
        model: Arc::new(MlpTraining { shape, init: MlpInit::Pytorch, weight_decay: 0.0, loss }),
        family: 0,
        chance: task.chance(),
        batch: run.batch,
        steps: run.steps,
        learning_rate: run.learning_rate,
        schedule: RateSchedule::Constant,
        evaluate_every: run.every,
        checkpoints: CheckpointPolicy { every_steps: Some(run.every), ..CheckpointPolicy::default() },
        stop: run.stop_at.map(|accuracy| StopRule { accuracy, evaluations: 3 }),
    };
    let mut trained = Trained::default();
    let member = Member::new(training, supervision, 0, State::default(), Box::new(&mut trained));
    let never = AtomicBool::new(false);
    let control = Control { cancel: &never, save_every: Duration::MAX };
    train_group(&mut engine, &mut [member], control)?;
    Ok(trained)
}
