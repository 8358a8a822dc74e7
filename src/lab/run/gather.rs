//! Recorded runs read back: curves, samples to a level, tuned arms.

use super::plan::TEACHER;
use crate::train::member::{Metric, Outcome};
use curricle_probe::transition::Timeline;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

    /// True for the teacher's runs.
    pub fn is_teacher(&self) -> bool {
        self.arm == TEACHER
    }
}

/// The correlation timeline of one seed's teacher.
#[derive(Debug, Clone)]
pub struct TeacherTimeline {
    /// Seed.
    pub seed: u64,
    /// Timeline.
    pub timeline: Timeline,
}

impl TeacherTimeline {
    /// In- and off-support mean |correlation| of one degree at the checkpoints inside the transition.
    fn inside(&self, degree: usize) -> Option<Vec<(f64, f64)>> {
        let transition = self.timeline.transition.as_ref()?;
        let start = transition.start.map_or(0, |e| e.step);
        let end = transition.end.map_or(u64::MAX, |e| e.step);
        let points = self.timeline.points.iter().filter(|p| (start..=end).contains(&p.step));
        let summaries = points.filter_map(|p| p.degrees.iter().find(|d| d.degree == degree));
        Some(summaries.filter_map(|d| Some((d.in_support_mean_abs?, d.off_support_mean_abs?))).collect())
    }

    /// Largest ratio of in- to off-support mean |correlation| over the checkpoints inside the transition.
    pub fn contrast(&self, degree: usize) -> Option<f64> {
        self.inside(degree)?.into_iter().map(|(inside, outside)| inside / outside).reduce(f64::max)
    }

    /// In-support mean |correlation| of the last checkpoint over its largest value inside the transition. (An
    /// untrained network correlates with everything a little, so the largest value of all may be the first one.)
    pub fn final_over_peak(&self, degree: usize) -> Option<f64> {
        let peak = self.inside(degree)?.into_iter().map(|(inside, _)| inside).reduce(f64::max)?;
        let last = self.timeline.points.last()?.degrees.iter().find(|d| d.degree == degree)?;
        Some(last.in_support_mean_abs? / peak)
    }
}

/// The runs that stand for an arm: at this value of the axis if the arm has one, and with the best rate if rates were
/// tuned.
///
/// The best rate is the one with the smallest median over seeds of samples to `level`, a run that did not reach it counting as
/// infinitely many; equal medians are decided by the larger median of the best accuracy.
pub fn runs_of<'a>(runs: &'a [RunRecord], arm: &str, at: Option<f64>, level: f64) -> Vec<&'a RunRecord> {
    let mine: Vec<&RunRecord> =
        runs.iter().filter(|r| r.arm == arm && (r.at.is_none() || r.at == at)).collect();
    let mut rates: Vec<f64> = mine.iter().map(|r| r.learning_rate).collect();
    rates.sort_unstable_by(f64::total_cmp);
    rates.dedup();
    let key = |rate: f64| {
        let of_rate = || mine.iter().filter(|r| r.learning_rate == rate);
        let samples = median(of_rate().map(|r| r.first_reaching(level).map_or(f64::INFINITY, |s| s as f64)));
        let accuracy = median(of_rate().map(|r| r.best_accuracy().unwrap_or(0.0)));
        (samples, -accuracy)
    };
    let best = rates.into_iter().min_by(|a, b| {
        let (a, b) = (key(*a), key(*b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    mine.into_iter().filter(|r| Some(r.learning_rate) == best).collect()
}

/// Median, the upper one of two middle values when one of them is infinite.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => values[n / 2],
        _ => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
