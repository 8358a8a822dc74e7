//! The training loop: models that share a sample stream are trained side by side.
//!
//! Samples are drawn in chunks on a fixed grid of steps. For each chunk the logits of every teacher checkpoint that a
//! member needs are computed once; then the members train on the chunk in parallel. Inside a chunk a member cuts
//! only at its own evaluations, checkpoints and schedule switches, so its trajectory does not depend on which other
//! members there are, and a run resumed at a chunk boundary gives the same bits.

use super::settings::Training;
use crate::checkpoint::CheckpointError;
use crate::distill::schedule::{Position, Schedule};
use crate::distill::target::{self, LabelMix};
use crate::distill::teacher::TeacherPool;
use crate::engine::Steps;
use crate::engine::cpu::Mlp;
use crate::model::MlpParams;
use crate::rng::Stream;
use crate::task::{BooleanTask, Samples};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Steps done.
    pub step: u64,
    /// Training samples seen.
    pub samples: u64,
    /// Held-out accuracy.
    pub accuracy: f64,
    /// Mean training loss since the last evaluation; null at step 0.
    pub loss: Option<f64>,
    /// Learning rate of the last step; null at step 0.
    pub learning_rate: Option<f32>,
    /// Step of the teacher checkpoint followed next; null without a teacher or for a file of unknown step.
    pub teacher_step: Option<u64>,
    /// Seconds of training so far, sessions added up.
    pub wall_seconds: f64,
}

/// What a resumed run needs besides the parameters.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Where the run stands in its teacher schedule.
    pub position: Position,
    /// Training loss summed since the last evaluation.
    pub loss_sum: f64,
    /// Samples in that sum.
    pub loss_samples: u64,
    /// Consecutive evaluations at or above the level of the stop rule.
    pub held: u32,
    /// The run is over.
    pub finished: bool,
    /// Seconds of training so far.
    pub wall_seconds: f64,
}

/// An error of whatever keeps the records.
pub type RecordError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps what a run produces.
pub trait Recorder: Send {
    /// An evaluation.
    ///
    /// # Errors
    /// If it cannot be kept; training stops.
    fn metric(&mut self, metric: &Metric) -> Result<(), RecordError>;
    /// A checkpoint is due.
    ///
    /// # Errors
    /// If it cannot be kept; training stops.
    fn checkpoint(&mut self, step: u64, params: &MlpParams) -> Result<(), RecordError>;
    /// Everything needed to resume from here.
    ///
    /// # Errors
    /// If it cannot be kept; training stops.
    fn save(&mut self, params: &MlpParams, state: &State) -> Result<(), RecordError>;
    /// The run has reached `step`.
    fn progress(&mut self, step: u64);
    /// The run is over, or was interrupted.
    ///
    /// # Errors
    /// If that cannot be kept.
    fn ended(&mut self, outcome: &Outcome, state: &State) -> Result<(), RecordError>;
}

/// What a member learns from.
#[derive(Debug, Clone, PartialEq)]
pub enum Supervision {
    /// Labels.
    Labels,
    /// Teacher checkpoints.
    Teacher {
        /// Which one when.
        schedule: Schedule,
        /// Temperature.
        temperature: f64,
        /// Weight of the labels.
        label_mix: LabelMix,
    },
}

/// How a member's run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did all its steps or its stop rule held.
    Finished,
    /// It was asked to stop; it can be resumed.
    Interrupted,
    /// Its loss became NaN or infinite.
    Diverged {
        /// After this step, ..
        after: u64,
        /// .. and not after this one.
        by: u64,
    },
}

/// One model in training.
pub struct Member<'a> {
    /// Settings; `batch` is that of the group.
    pub training: Training,
    /// What it learns from.
    pub supervision: Supervision,
    /// The model.
    pub model: Mlp,
    /// Where it stands.
    pub state: State,
    /// Keeps its records.
    pub recorder: Box<dyn Recorder + 'a>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// What the members of a group share.
pub struct Shared<'a> {
    /// The task.
    pub task: &'a BooleanTask,
    /// Seed of the samples.
    pub seed: u64,
    /// Stream of the training samples.
    pub stream: Stream,
    /// Held-out samples.
    pub evaluation: &'a Samples,
    /// The teacher, if a member follows one.
    pub teacher: Option<&'a TeacherPool>,
    /// Set to end training at the next chunk.
    pub cancel: &'a AtomicBool,
    /// How often the resume state is written.
    pub save_every: Duration,
}

/// Why a group stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Records cannot be kept.
    #[error("cannot keep the records of the run: {0}")]
    Record(#[source] RecordError),
    /// A teacher checkpoint cannot be used.
    #[error(transparent)]
    Teacher(#[from] CheckpointError),
}

/// Samples per chunk, about.
const CHUNK: u64 = 8192;

/// Logits of one checkpoint: empty until whoever holds the lock has computed them.
type Slot = Arc<Mutex<Option<Arc<Vec<f32>>>>>;

/// Logits of teacher checkpoints on the current chunk, each computed once.
struct ChunkLogits<'a> {
    teacher: Option<&'a TeacherPool>,
    samples: &'a Samples,
    ready: Mutex<HashMap<usize, Slot>>,
}

impl ChunkLogits<'_> {
    fn get(&self, checkpoint: usize) -> Result<Arc<Vec<f32>>, CheckpointError> {
        let slot = self.ready.lock().expect("holders do not panic").entry(checkpoint).or_default().clone();
        let mut slot = slot.lock().expect("holders do not panic");
        if let Some(logits) = &*slot {
            return Ok(logits.clone());
        }
        let teacher = self.teacher.expect("a member that follows a teacher comes with one");
        let logits = Arc::new(teacher.logits(checkpoint, self.samples)?);
        *slot = Some(logits.clone());
        Ok(logits)
    }
}

/// Trains every member to its end, or until `cancel` is set; all have the same batch size.
///
/// # Errors
/// If records cannot be kept or a teacher checkpoint cannot be used. A member whose loss is not finite is no error: it
/// ends with [`Outcome::Diverged`] and the others go on.
///
/// # Panics
/// If the members' batch sizes differ.
pub fn train(members: &mut [Member], shared: &Shared) -> Result<(), TrainError> {
    let Some(first) = members.first() else { return Ok(()) };
    let batch = first.training.batch;
    assert!(members.iter().all(|m| m.training.batch == batch), "members of a group share their batch size");
    let chunk_steps = (CHUNK / batch as u64).max(1);
    let mut saved = Instant::now();
    for member in &mut *members {
        member.begin(shared)?;
    }
    loop {
        let active = || members.iter().filter(|m| m.outcome.is_none());
        let Some(start) = active().map(|m| m.state.step).min() else { return Ok(()) };
        if shared.cancel.load(Ordering::Relaxed) {
            for member in members.iter_mut().filter(|m| m.outcome.is_none()) {
                member.save()?;
                member.end(Outcome::Interrupted)?;
            }
            return Ok(());
        }
        let end = (start / chunk_steps + 1) * chunk_steps;
        let longest = active().map(|m| m.training.steps).max().expect("someone is active").min(end);
        let count = (longest - start) as usize * batch;
        let samples = shared.task.samples(shared.seed, shared.stream, start * batch as u64, count);
        let logits = ChunkLogits { teacher: shared.teacher, samples: &samples, ready: Mutex::default() };
        // The checkpoints known to be needed first, with all threads on each; a schedule that switches at an
        // evaluation inside the chunk asks for its next one when it gets there.
        for member in active().filter(|m| m.state.step == start) {
            if let Supervision::Teacher { schedule, .. } = &member.supervision {
                logits.get(schedule.checkpoint(&member.state.position, start))?;
            }
        }
        members
            .par_iter_mut()
            .filter(|m| m.outcome.is_none() && m.state.step == start)
            .try_for_each(|m| m.chunk(end, &samples, &logits, shared))?;
        if saved.elapsed() >= shared.save_every {
            for member in members.iter_mut().filter(|m| m.outcome.is_none()) {
                member.save()?;
            }
            saved = Instant::now();
        }
    }
}

impl Member<'_> {
    /// Records step 0 of a new run; a finished run ends at once.
    fn begin(&mut self, shared: &Shared) -> Result<(), TrainError> {
        if self.state.finished {
            self.end(Outcome::Finished)?;
        } else if self.state.step == 0 {
            self.evaluate(None, shared)?;
        }
        Ok(())
    }

    fn end(&mut self, outcome: Outcome) -> Result<(), TrainError> {
        self.recorder.ended(&outcome, &self.state).map_err(TrainError::Record)?;
        self.outcome = Some(outcome);
        Ok(())
    }

    fn save(&mut self) -> Result<(), TrainError> {
        self.recorder.save(&self.model.to_params(), &self.state).map_err(TrainError::Record)
    }

    /// Trains up to step `end`; `samples` start at the member's current step.
    fn chunk(
        &mut self,
        end: u64,
        samples: &Samples,
        logits: &ChunkLogits,
        shared: &Shared,
    ) -> Result<(), TrainError> {
        let began = Instant::now();
        let wall_before = self.state.wall_seconds;
        let start = self.state.step;
        let total = self.training.steps;
        let end = end.min(total);
        let chance = 1.0 / self.training.shape.classes as f64;
        while self.state.step < end && self.outcome.is_none() {
            let step = self.state.step;
            let evaluation = (step / self.training.evaluate_every + 1) * self.training.evaluate_every;
            let checkpoint = self.training.checkpoints.next(step, total);
            let switch = match &self.supervision {
                Supervision::Labels => None,
                Supervision::Teacher { schedule, .. } => schedule.next_switch(&self.state.position, step),
            };
            let next = end.min(evaluation).min(checkpoint).min(switch.unwrap_or(end));
            let from = (step - start) as usize * self.training.batch;
            let to = (next - start) as usize * self.training.batch;
            let rate = self.segment(step, next, from..to, samples, logits)?;
            self.state.step = next;
            self.state.wall_seconds = wall_before + began.elapsed().as_secs_f64();
            if !self.state.loss_sum.is_finite() {
                return self.end(Outcome::Diverged { after: step, by: next });
            }
            if let Supervision::Teacher { schedule, .. } = &self.supervision {
                schedule.reached(&mut self.state.position, next);
            }
            if next == evaluation || next == checkpoint || next == total {
                let accuracy = self.evaluate(Some(rate), shared)?;
                if self.stop_holds(accuracy) || next == total {
                    self.state.finished = true;
                }
                if self.state.finished || self.training.checkpoints.due(next, total, accuracy, chance) {
                    self.recorder.checkpoint(next, &self.model.to_params()).map_err(TrainError::Record)?;
                }
                if self.state.finished {
                    self.save()?;
                    self.end(Outcome::Finished)?;
                }
            }
            self.recorder.progress(next);
        }
        Ok(())
    }

    /// Steps `step..next` on samples `range` of the chunk; returns the last learning rate.
    fn segment(
        &mut self,
        step: u64,
        next: u64,
        range: std::ops::Range<usize>,
        samples: &Samples,
        logits: &ChunkLogits,
    ) -> Result<f32, TrainError> {
        let Training { loss, batch, steps, learning_rate, schedule, .. } = self.training;
        let classes = self.training.shape.classes;
        let part = samples.slice(range.clone());
        let targets = match &self.supervision {
            Supervision::Labels => target::from_labels(loss, classes, &part.labels),
            Supervision::Teacher { schedule, temperature, label_mix } => {
                let all = logits.get(schedule.checkpoint(&self.state.position, step))?;
                let teacher = &all[range.start * classes..range.end * classes];
                target::from_teacher(loss, classes, &part.labels, teacher, *temperature, |i| {
                    label_mix.at(step + (i / batch) as u64)
                })
            }
        };
        let rates: Vec<f32> = (step..next).map(|s| schedule.rate(learning_rate, s, steps)).collect();
        let result = self.model.train(&Steps {
            samples: &part,
            batch,
            loss,
            targets: &targets,
            rates: &rates,
            weight_decay: self.training.weight_decay as f32,
        });
        self.state.loss_sum += result.loss_sum;
        self.state.loss_samples += part.len() as u64;
        Ok(rates[rates.len() - 1])
    }

    fn evaluate(&mut self, rate: Option<f32>, shared: &Shared) -> Result<f64, TrainError> {
        let step = self.state.step;
        let accuracy = self.model.accuracy(shared.evaluation);
        let mut teacher_step = None;
        if let Supervision::Teacher { schedule, .. } = &self.supervision {
            schedule.evaluated(&mut self.state.position, step, accuracy);
            let followed = schedule.checkpoint(&self.state.position, step);
            teacher_step = shared.teacher.and_then(|t| t.checkpoints()[followed].step);
        }
        let state = &mut self.state;
        let metric = Metric {
            step,
            samples: step * self.training.batch as u64,
            accuracy,
            loss: (state.loss_samples > 0).then(|| state.loss_sum / state.loss_samples as f64),
            learning_rate: rate,
            teacher_step,
            wall_seconds: state.wall_seconds,
        };
        (state.loss_sum, state.loss_samples) = (0.0, 0);
        self.recorder.metric(&metric).map_err(TrainError::Record)?;
        Ok(accuracy)
    }

    fn stop_holds(&mut self, accuracy: f64) -> bool {
        let Some(stop) = self.training.stop else { return false };
        self.state.held = if accuracy >= stop.accuracy { self.state.held + 1 } else { 0 };
        self.state.held >= stop.evaluations
    }
}
