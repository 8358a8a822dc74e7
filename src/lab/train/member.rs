//! One model in training: what it learns from, where it stands, and what is due next. Engines ask it for the next
//! segment of steps, compute it, and hand back the loss.

use super::settings::Training;
use curricle_core::model::MlpParams;
use curricle_core::model::TransformerState;
use curricle_core::schedule::{Position, Schedule};
use curricle_core::target::Target;
use curricle_files::Tensors;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Steps done.
    pub step: u64,
    /// Training samples seen.
    pub samples: u64,
    /// Held-out accuracy.
    pub accuracy: f64,
    /// Held-out cross-entropy in nats, where it is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation_loss: Option<f64>,
    /// Mean training loss since the last evaluation; null at step 0.
    pub loss: Option<f64>,
    /// Learning rate of the last step; null at step 0.
    pub learning_rate: Option<f32>,
    /// Step of the teacher checkpoint followed next; null without a teacher or for a file of unknown step.
    pub teacher_step: Option<u64>,
    /// Seconds of training so far, sessions added up.
    pub wall_seconds: f64,
}

/// A model measured on held-out samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Fraction of right answers.
    pub accuracy: f64,
    /// Cross-entropy in nats, where it is measured.
    pub loss: Option<f64>,
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

/// An error of whatever keeps the records, or computes.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps what a run produces; `P` is a model's parameters with whatever else its training needs to go on.
pub trait Recorder<P>: Send {
    /// An evaluation.
    ///
    /// # Errors
    /// If it cannot be kept; training stops.
    fn metric(&mut self, metric: &Metric) -> Result<(), AnyError>;
    /// A checkpoint is due.
    ///
    /// # Errors
    /// If it cannot be kept; training stops.
    fn checkpoint(&mut self, step: u64, params: &P) -> Result<(), AnyError>;
    /// Everything needed to resume from here.
    ///
    /// # Errors
    /// If it cannot be kept; training stops.
    fn save(&mut self, params: &P, state: &State) -> Result<(), AnyError>;
    /// The run has reached `step`.
    fn progress(&mut self, step: u64);
    /// The run is over, or was interrupted.
    ///
    /// # Errors
    /// If that cannot be kept.
    fn ended(&mut self, outcome: &Outcome, state: &State) -> Result<(), AnyError>;
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
        /// What is learned from its logits.
        target: Target,
        /// Step of each checkpoint, where known.
        steps: Vec<Option<u64>>,
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

/// Why a group stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Records cannot be kept.
    #[error("cannot keep the records of the run: {0}")]
    Record(#[source] AnyError),
    /// A teacher checkpoint cannot be used.
    #[error(transparent)]
    Teacher(#[from] curricle_files::CheckpointError),
    /// The GPU failed.
    #[error(transparent)]
    Gpu(#[from] curricle_gpu::GpuError),
    /// A model could not be trained or measured.
    #[error("{0}")]
    Model(#[source] AnyError),
}

/// Steps `step .. next` of a member, between two points at which something is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// First step.
    pub step: u64,
    /// One past the last.
    pub next: u64,
    /// Learning rate of each step.
    pub rates: Vec<f32>,
    /// The teacher checkpoint followed.
    pub follows: Option<Follows>,
}

/// A checkpoint and the steps of the chunk during which it is followed, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Follows {
    /// Index of the checkpoint.
    pub checkpoint: usize,
    /// First step.
    pub from: u64,
    /// One past the last.
    pub until: u64,
}

/// Parameters that may have become NaN or infinite.
pub trait Finite {
    /// Whether all are finite.
    fn is_finite(&self) -> bool;
}

impl Finite for MlpParams {
    fn is_finite(&self) -> bool {
        self.first_non_finite().is_none()
    }
}

impl Finite for Tensors {
    fn is_finite(&self) -> bool {
        Self::is_finite(self)
    }
}

impl Finite for TransformerState {
    fn is_finite(&self) -> bool {
        self.params.first_non_finite().is_none()
    }
}

/// What a member may ask of its model after a segment.
pub trait View<P> {
    /// Held-out accuracy.
    ///
    /// # Errors
    /// If the model cannot be measured.
    fn evaluate(&mut self) -> Result<Evaluation, TrainError>;
    /// The model as it is now.
    ///
    /// # Errors
    /// If it cannot be read back.
    fn params(&mut self) -> Result<P, TrainError>;
}

/// One model in training, but for its parameters: those are the engine's.
pub struct Member<'a, P> {
    /// Settings; `batch` is that of the group.
    pub training: Training,
    /// What it learns from.
    pub supervision: Supervision,
    /// Which lane's samples, labels and teacher are its own.
    pub lane: usize,
    /// Where it stands.
    pub state: State,
    /// Keeps its records.
    pub recorder: Box<dyn Recorder<P> + 'a>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    chunk: Option<Chunk>,
}

/// The chunk a member is in.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    began: Instant,
    wall_before: f64,
    follows: Option<(usize, u64)>,
}

impl<'a, P: Finite> Member<'a, P> {
    /// A member that stands at `state`.
    pub fn new(
        training: Training,
        supervision: Supervision,
        lane: usize,
        state: State,
        recorder: Box<dyn Recorder<P> + 'a>,
    ) -> Self {
        Self { training, supervision, lane, state, recorder, outcome: None, chunk: None }
    }

    /// Still in training.
    pub fn active(&self) -> bool {
        self.outcome.is_none()
    }

    /// Records step 0 of a new run; a finished run ends at once.
    pub(super) fn begin(&mut self, view: &mut dyn View<P>) -> Result<(), TrainError> {
        if self.state.finished {
            self.end(Outcome::Finished)?;
        } else if self.state.step == 0 {
            self.evaluate(None, view)?;
        }
        Ok(())
    }

    /// Ends the run.
    pub(super) fn end(&mut self, outcome: Outcome) -> Result<(), TrainError> {
        self.recorder.ended(&outcome, &self.state).map_err(TrainError::Record)?;
        self.outcome = Some(outcome);
        Ok(())
    }

    /// Writes the resume state. A model that is no longer finite ends as diverged instead.
    pub(super) fn save(&mut self, view: &mut dyn View<P>) -> Result<(), TrainError> {
        match self.finite(view)? {
            Some(params) => self.recorder.save(&params, &self.state).map_err(TrainError::Record),
            None => Ok(()),
        }
    }

    /// The parameters; `None`, and the run has ended, if they are not finite though the losses up to here were.
    fn finite(&mut self, view: &mut dyn View<P>) -> Result<Option<P>, TrainError> {
        let params = view.params()?;
        if params.is_finite() {
            return Ok(Some(params));
        }
        let step = self.state.step;
        self.end(Outcome::Diverged { after: step.saturating_sub(1), by: step })?;
        Ok(None)
    }

    /// A chunk begins: the clock runs from here.
    pub(super) fn enter(&mut self) {
        let wall_before = self.state.wall_seconds;
        self.chunk = Some(Chunk { began: Instant::now(), wall_before, follows: None });
    }

    /// The teacher checkpoint followed at the current step.
    pub fn checkpoint(&self) -> Option<usize> {
        match &self.supervision {
            Supervision::Labels => None,
            Supervision::Teacher { schedule, .. } => {
                Some(schedule.checkpoint(&self.state.position, self.state.step))
            }
        }
    }

    /// The step up to which the current checkpoint is known to be followed, at most `end`.
    pub fn known_until(&self, end: u64) -> u64 {
        let end = end.min(self.training.steps);
        match &self.supervision {
            Supervision::Labels => end,
            Supervision::Teacher { schedule, .. } => {
                schedule.next_switch(&self.state.position, self.state.step).unwrap_or(end).min(end)
            }
        }
    }

    /// The next steps up to `end`, cut where an evaluation, a checkpoint or a switch of teacher is due; `None` at `end` or
    /// when the run is over.
    pub fn next(&mut self, end: u64) -> Option<Segment> {
        let total = self.training.steps;
        let end = end.min(total);
        let step = self.state.step;
        if !self.active() || step >= end {
            return None;
        }
        let until = self.known_until(end);
        let next = until.min(self.evaluation_after(step)).min(self.training.checkpoints.next(step, total));
        let follows = self.checkpoint().map(|checkpoint| {
            let from = match self.chunk.and_then(|c| c.follows) {
                Some((known, from)) if known == checkpoint => from,
                _ => step,
            };
            if let Some(chunk) = &mut self.chunk {
                chunk.follows = Some((checkpoint, from));
            }
            Follows { checkpoint, from, until }
        });
        let Training { steps, learning_rate, schedule, .. } = self.training;
        let rates = (step..next).map(|s| schedule.rate(learning_rate, s, steps)).collect();
        Some(Segment { step, next, rates, follows })
    }

    fn evaluation_after(&self, step: u64) -> u64 {
        (step / self.training.evaluate_every + 1) * self.training.evaluate_every
    }

    /// Whether the model is measured at the end of `segment`.
    pub fn measures(&self, segment: &Segment) -> bool {
        let total = self.training.steps;
        let next = segment.next;
        next == self.evaluation_after(segment.step)
            || next == self.training.checkpoints.next(segment.step, total)
            || next == total
    }

    /// A segment is done: `loss_sum` is the sum of the losses of its samples. Evaluates, keeps and ends what is due.
    pub(super) fn after(
        &mut self,
        segment: &Segment,
        loss_sum: f64,
        view: &mut dyn View<P>,
    ) -> Result<(), TrainError> {
        let Segment { step, next, .. } = *segment;
        let total = self.training.steps;
        self.state.loss_sum += loss_sum;
        self.state.loss_samples += (next - step) * self.training.batch as u64;
        self.state.step = next;
        if let Some(chunk) = &self.chunk {
            self.state.wall_seconds = chunk.wall_before + chunk.began.elapsed().as_secs_f64();
        }
        if !self.state.loss_sum.is_finite() {
            return self.end(Outcome::Diverged { after: step, by: next });
        }
        if let Supervision::Teacher { schedule, .. } = &self.supervision {
            schedule.reached(&mut self.state.position, next);
        }
        if self.measures(segment) {
            let accuracy = self.evaluate(segment.rates.last().copied(), view)?;
            if self.stop_holds(accuracy) || next == total {
                self.state.finished = true;
            }
            let chance = self.training.chance;
            if self.state.finished || self.training.checkpoints.due(next, total, accuracy, chance) {
                let Some(params) = self.finite(view)? else { return Ok(()) };
                self.recorder.checkpoint(next, &params).map_err(TrainError::Record)?;
            }
            if self.state.finished {
                self.save(view)?;
                self.end(Outcome::Finished)?;
            }
        }
        self.recorder.progress(next);
        Ok(())
    }

    fn evaluate(&mut self, rate: Option<f32>, view: &mut dyn View<P>) -> Result<f64, TrainError> {
        let step = self.state.step;
        let Evaluation { accuracy, loss: evaluation_loss } = view.evaluate()?;
        let mut teacher_step = None;
        if let Supervision::Teacher { schedule, steps, .. } = &self.supervision {
            schedule.evaluated(&mut self.state.position, step, accuracy);
            teacher_step = steps[schedule.checkpoint(&self.state.position, step)];
        }
        let state = &mut self.state;
        let metric = Metric {
            step,
            samples: step * self.training.batch as u64,
            accuracy,
            evaluation_loss,
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
