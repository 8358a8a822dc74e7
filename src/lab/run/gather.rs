//! Recorded runs read back: curves, samples to a level, tuned arms.

use crate::train::member::{Metric, Outcome};
use curricle_core::math::order::median;
use curricle_probe::phases::{LossPoint, Phases, phases};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the arm that `[teacher]` becomes.
pub const TEACHER: &str = "teacher";

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// In progress, or killed.
    Running,
    /// Done.
    Finished,
    /// Asked to stop; can be resumed.
    Interrupted,
    /// The loss was not finite.
    Diverged,
    /// It could not be started (its teacher never reached what the schedule asks for).
    Skipped,
}

impl Status {
    /// The status that an outcome leaves behind.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Finished => Self::Finished,
            Outcome::Interrupted => Self::Interrupted,
            Outcome::Diverged { .. } => Self::Diverged,
        }
    }
}

/// One run: an arm (at one value of the axis and one rate) with one seed.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// Name of the run, as in its folder.
    pub name: String,
    /// Arm in the spec.
    pub arm: String,
    /// Value of the sweep axis.
    pub at: Option<f64>,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Seed.
    pub seed: u64,
    /// How it ended.
    pub status: Status,
    /// Evaluations in order.
    pub metrics: Vec<Metric>,
    /// Accuracy at the last evaluation.
    pub final_accuracy: Option<f64>,
    /// Samples the run was planned for.
    pub budget: u64,
}

impl RunRecord {
    /// Training samples at the first evaluation with at least this accuracy.
    pub fn first_reaching(&self, level: f64) -> Option<u64> {
        self.metrics.iter().find(|m| m.accuracy >= level).map(|m| m.samples)
    }

    /// [`Self::first_reaching`] for each level, keyed as the level is written.
    pub fn samples_to(&self, levels: &[f64]) -> BTreeMap<String, Option<u64>> {
        levels.iter().map(|level| (level.to_string(), self.first_reaching(*level))).collect()
    }

    /// Largest accuracy evaluated.
    pub fn best_accuracy(&self) -> Option<f64> {
        self.metrics.iter().map(|m| m.accuracy).reduce(f64::max)
    }

    /// Samples trained on. A diverged run counts as having had its whole budget: more of it would not have helped.
    pub fn samples_seen(&self) -> u64 {
        match self.status {
            Status::Diverged => self.budget,
            _ => self.metrics.last().map_or(0, |m| m.samples),
        }
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.metrics.last().map_or(0, |m| m.step)
    }

    /// Seconds of training.
    pub fn wall_seconds(&self) -> f64 {
        self.metrics.last().map_or(0.0, |m| m.wall_seconds)
    }

    /// The phases of the loss: on held-out samples where that was measured, else in training.
    pub fn loss_phases(&self) -> Option<Phases> {
        let loss = |m: &Metric| m.evaluation_loss.or(m.loss);
        let point = |m: &Metric| Some(LossPoint { step: m.step as f64, loss: loss(m)? });
        phases(&self.metrics.iter().filter_map(point).collect::<Vec<_>>())
    }

    /// True for the teacher's runs.
    pub fn is_teacher(&self) -> bool {
        self.arm == TEACHER
    }
}

/// Teacher checkpoints a student followed.
#[derive(Debug, Clone)]
pub struct UsedCheckpoints {
    /// Name of the student run.
    pub run: String,
    /// Seed.
    pub seed: u64,
    /// Teacher steps in order of use, where known.
    pub steps: Vec<u64>,
}

/// The runs that stand for an arm: at this value of the axis if the arm has one, and with the best rate if rates were
/// tuned.
///
/// The best rate is the one with the smallest median over seeds of samples to `headline`, a run that did not reach it
/// counting as infinitely many; equal medians are decided by the larger median of the best accuracy. `headline` is
/// the spec's largest level for figures, tables and claims of any level: an arm stands for the same runs wherever it
/// is named.
pub fn runs_of<'a>(runs: &'a [RunRecord], arm: &str, at: Option<f64>, headline: f64) -> Vec<&'a RunRecord> {
    let mine: Vec<&RunRecord> =
        runs.iter().filter(|r| r.arm == arm && (r.at.is_none() || r.at == at)).collect();
    let mut rates: Vec<f64> = mine.iter().map(|r| r.learning_rate).collect();
    rates.sort_unstable_by(f64::total_cmp);
    rates.dedup();
    let key = |rate: f64| {
        let of_rate = || mine.iter().filter(|r| r.learning_rate == rate);
        let samples =
            median(of_rate().map(|r| r.first_reaching(headline).map_or(f64::INFINITY, |s| s as f64)));
        let accuracy = median(of_rate().map(|r| r.best_accuracy().unwrap_or(0.0)));
        (samples, -accuracy)
    };
    let best = rates.into_iter().min_by(|a, b| {
        let (a, b) = (key(*a), key(*b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    mine.into_iter().filter(|r| Some(r.learning_rate) == best).collect()
}
