//! One teacher and one student, from nothing to epsilon.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ndarray::Array1;
use serde::{Deserialize, Serialize};

use super::{Arm, Point, Settings};
use crate::error::Result;
use crate::net::ReluNet;
use crate::obstruction::best_hinge;
use crate::two_phase::{
    FirstLayer, FirstPhase, Labeller, Problem, SecondPhase, SecondTrainer, Supervision, Trained,
    phase_one_teacher,
};

/// What one trial needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Student samples of the first phase; `None`: the support was not ranked on top by the largest batch.
    pub first: Option<u64>,
    /// Student samples of the second phase; `None`: epsilon was not reached (or the first phase did not end).
    pub second: Option<u64>,
    /// Lowest hinge loss seen in the student's second phase.
    pub lowest: Option<f64>,
    /// Smallest hinge loss that any width could reach on the direction of a literal progressive first layer
    /// (`obstruction`), up to k = 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_one: Option<f64>,
    /// Samples of the teacher's second phase; `None`: it did not reach epsilon, or the arm has no teacher.
    pub teacher_second: Option<u64>,
    /// Measured hinge loss of checkpoint two.
    pub teacher_loss: Option<f64>,
    /// Its error rate.
    pub teacher_error: Option<f64>,
}

impl Outcome {
    /// Student samples in all.
    pub fn total(&self) -> Option<u64> {
        Some(self.first? + self.second?)
    }
}

/// First looks.
const FIRST: u64 = 32;
const SECOND: u64 = 64;

/// What a trial needs to know besides its number.
pub(super) struct Bench<'a> {
    pub point: &'a Point,
    pub settings: &'a Settings,
    pub problem: Problem,
    pub radius: f64,
    pub feature_norm: f64,
    pub cancel: Option<Arc<AtomicBool>>,
}

impl<'a> Bench<'a> {
    pub fn new(point: &'a Point, settings: &'a Settings, cancel: Option<Arc<AtomicBool>>) -> Result<Self> {
        settings.check()?;
        let problem = point.problem()?;
        let (radius, feature_norm) = super::spec::radius_and_norm(point, settings)?;
        Ok(Self { point, settings, problem, radius, feature_norm, cancel })
    }

    fn second_phase(&self, samples: u64) -> SecondPhase {
        // A step of c A/(R sqrt(T)) is the theorem's with norm R/c.
        SecondPhase { samples, radius: self.radius, feature_norm: self.feature_norm / self.settings.step }
    }

    /// Trains the second layer with more and more samples until the loss is reached at two looks in a row:
    /// samples, what was trained with them, and the lowest loss seen.
    fn until_epsilon(
        &self,
        layer: &ReluNet,
        labels: Labeller<'_>,
        epsilon: f64,
        (seed, trial): (u64, u64),
    ) -> Result<(Option<(u64, Trained)>, f64)> {
        let trainer = SecondTrainer::new(layer, &self.problem, labels)?;
        let mut held = None;
        let mut lowest = f64::INFINITY;
        let mut target = SECOND as f64;
        loop {
            let samples = (target as u64).min(self.settings.max_second);
            let trained = trainer.train(self.second_phase(samples), (seed, trial), self.cancel.as_deref())?;
            lowest = lowest.min(trained.loss);
            if trained.loss > epsilon {
                held = None;
            } else if held.is_some() {
                return Ok((held, lowest));
            } else {
                held = Some((samples, trained));
            }
            if samples >= self.settings.max_second {
                return Ok((held, lowest));
            }
            target *= self.settings.factor;
        }
    }

    /// First phase until the fraction of neurons ranks the support on top at two looks in a row; at the first
    /// of them the layer is taken.
    fn until_ranked(&self, mut phase: FirstPhase<'_>, most: u64) -> Result<Option<(u64, ReluNet)>> {
        let mut held = None;
        let mut target = FIRST as f64;
        loop {
            let batch = (target as u64).min(most);
            phase.extend(batch.saturating_sub(phase.batch()))?;
            if phase.ranking().neurons < self.settings.fraction {
                held = None;
            } else if held.is_some() {
                return Ok(held);
            } else {
                held = Some((phase.batch(), self.layer(&phase)?));
            }
            if batch >= most {
                return Ok(held);
            }
            target *= self.settings.factor;
        }
    }

    fn layer(&self, phase: &FirstPhase<'_>) -> Result<ReluNet> {
        let (w, b) = phase.first_layer(self.settings.layer);
        let zero = Array1::zeros(w.nrows());
        ReluNet::new(w, b, zero, 0.0)
    }

    fn student<'b>(&'b self, supervision: Supervision<'b>, seed: u64, trial: u64) -> Result<FirstPhase<'b>> {
        let phase = FirstPhase::new(&self.problem, supervision, self.point.width / 2, seed, trial)?;
        Ok(phase.cancel_with(self.cancel.clone()))
    }

    /// The trial's teacher; `None` when its checkpoint two does not reach epsilon.
    fn teacher(&self, seed: u64, trial: u64) -> Result<Option<Teacher>> {
        let spec = self.settings.teacher(self.point.width);
        let pool = self.settings.repair.pool as u64;
        let early = (0..pool)
            .map(|i| {
                let net = phase_one_teacher(&self.problem, &spec, seed, trial * pool + i)?;
                Ok(net.pruned(self.settings.repair.prune))
            })
            .collect::<Result<Vec<_>>>()?;
        // Its second phase has its own samples, not the student's.
        let own = trial | 1 << 62;
        let epsilon = self.settings.teacher_epsilon * self.point.epsilon;
        let found = self.until_epsilon(&early[0], Labeller::Truth, epsilon, (seed, own))?.0;
        Ok(found.map(|(second, last)| Teacher { early, last, second }))
    }

    fn supervision<'b>(&self, teacher: Option<&'b Teacher>) -> Supervision<'b> {
        match (self.point.arm, teacher) {
            (Arm::Progressive, Some(t)) if t.early.len() > 1 => Supervision::Pool(&t.early),
            (Arm::Progressive, Some(t)) => Supervision::Net(&t.early[0]),
            (Arm::OneShot, Some(t)) => Supervision::Net(&t.last.net),
            _ => Supervision::Labels,
        }
    }

    pub fn run(&self, seed: u64, trial: u64) -> Result<Outcome> {
        let mut out = Outcome::default();
        let teacher = match self.point.arm {
            Arm::Labels => None,
            _ => match self.teacher(seed, trial)? {
                None => return Ok(out),
                found => found,
            },
        };
        if let Some(t) = &teacher {
            (out.teacher_second, out.teacher_loss, out.teacher_error) =
                (Some(t.second), Some(t.last.loss), Some(t.last.error));
        }
        let most = match self.point.arm {
            Arm::Labels => self.settings.max_label_batch,
            _ => self.settings.max_teacher_batch,
        };
        let student = self.student(self.supervision(teacher.as_ref()), seed, trial)?;
        let Some((batch, layer)) = self.until_ranked(student, most)? else {
            return Ok(out);
        };
        out.first = Some(batch);
        let k = self.problem.k();
        if self.settings.layer == FirstLayer::Gradient && self.point.arm == Arm::Progressive && k <= 8 {
            let direction: Vec<f64> =
                self.problem.support().iter().map(|&j| layer.hidden()[[0, j]]).collect();
            out.rank_one = Some(best_hinge(&direction)?);
        }
        let labels = teacher.as_ref().map_or(Labeller::Truth, |t| Labeller::Sign(&t.last.net));
        let (found, lowest) = self.until_epsilon(&layer, labels, self.point.epsilon, (seed, trial))?;
        out.second = found.map(|f| f.0);
        out.lowest = Some(lowest);
        Ok(out)
    }

    /// Does a fresh trial with these sizes reach epsilon?
    pub fn reaches(&self, first: u64, second: u64, seed: u64, trial: u64) -> Result<bool> {
        let teacher = match self.point.arm {
            Arm::Labels => None,
            _ => match self.teacher(seed, trial)? {
                None => return Ok(false),
                found => found,
            },
        };
        let mut phase = self.student(self.supervision(teacher.as_ref()), seed, trial)?;
        phase.extend(first)?;
        let labels = teacher.as_ref().map_or(Labeller::Truth, |t| Labeller::Sign(&t.last.net));
        let layer = self.layer(&phase)?;
        let trainer = SecondTrainer::new(&layer, &self.problem, labels)?;
        let trained = trainer.train(self.second_phase(second), (seed, trial), self.cancel.as_deref())?;
        Ok(trained.loss <= self.point.epsilon)
    }
}

struct Teacher {
    /// Checkpoint one; several networks with a pool.
    early: Vec<ReluNet>,
    /// Checkpoint two.
    last: Trained,
    second: u64,
}

/// Trial `trial` of a point: a pure function of the settings, their seed and the number.
///
/// ```
/// use curricle_theory::total::{Arm, Point, Settings, run_trial};
/// let point = Point { d: 15, k: 2, width: 32, epsilon: 0.3, arm: Arm::Labels };
/// let outcome = run_trial(&point, &Settings::default(), 0)?;
/// assert!(outcome.total().is_some_and(|t| t > 100));
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn run_trial(point: &Point, settings: &Settings, trial: u64) -> Result<Outcome> {
    Bench::new(point, settings, None)?.run(settings.seed, trial)
}
