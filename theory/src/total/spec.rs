//! What is measured.

use serde::{Deserialize, Serialize};

use crate::bounds::{pruned_layer, second_phase_draws};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::gradient::fourier_gap;
use crate::two_phase::{FirstLayer, MAX_DIMENSION, Problem, TeacherSpec};

/// Where a student learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// Checkpoint one, then checkpoint two.
    Progressive,
    /// Checkpoint two alone.
    OneShot,
    /// Labels.
    Labels,
}

impl Arm {
    /// All, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Progressive, Self::OneShot, Self::Labels];

    /// As options and JSON write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Progressive => "progressive",
            Self::OneShot => "one-shot",
            Self::Labels => "labels",
        }
    }
}

/// What is done about teachers whose checkpoint one does not work (module `recovery`). The default changes
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Repair {
    /// Zero the hidden weights below this fraction of the neuron's largest; 0 keeps all.
    pub prune: f64,
    /// Subtract from the teacher's gradient its mean over the neurons.
    pub centred: bool,
    /// Probability of a +1 weight at the teacher's initialisation.
    pub plus_probability: f64,
    /// Phase-one teachers with different seeds whose squared gradients the student pools.
    pub pool: usize,
}

impl Default for Repair {
    fn default() -> Self {
        Self { prune: 0.0, centred: false, plus_probability: 0.5, pool: 1 }
    }
}

/// One cell of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Dimension.
    pub d: usize,
    /// Support size.
    pub k: usize,
    /// Width of the student and of the teacher (even).
    pub width: usize,
    /// Hinge loss to reach.
    pub epsilon: f64,
    /// Supervision.
    pub arm: Arm,
}

impl Point {
    /// As logs and messages name it.
    pub fn name(&self) -> String {
        format!("{} d={} k={} m={} eps={}", self.arm.name(), self.d, self.k, self.width, self.epsilon)
    }

    /// The problem, if this point can be measured.
    pub fn problem(&self) -> Result<Problem> {
        check_unit("epsilon", self.epsilon)?;
        if self.width < 2 || self.width % 2 == 1 || self.width > 1 << 16 {
            return out_of_range(
                "width",
                self.width,
                "the even numbers from 2 to 65536",
                "mirrored neurons come in pairs",
            );
        }
        if self.d > MAX_DIMENSION {
            return out_of_range("d", self.d, format!("1..={MAX_DIMENSION}"), "use `theory bounds` there");
        }
        let gap = fourier_gap(self.d, self.k, 0.5)?;
        if self.k == self.d || gap.gap <= 0.0 {
            return Err(TheoryError::NoGap {
                of: "labels",
                gap: gap.gap,
                instead: "levels k-1 and k+1 are equally large at these sizes; raise d",
            });
        }
        Problem::first(self.d, self.k)
    }
}

/// How every point is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Trials per point; trial t has its own teacher.
    pub trials: u64,
    /// Failure probability over teachers and trials.
    pub delta: f64,
    /// Fraction of neurons that ends the first phase.
    pub fraction: f64,
    /// What becomes of the first layer.
    pub layer: FirstLayer,
    /// First-phase batch of the teacher; `None`: the population gradient.
    pub teacher_batch: Option<u64>,
    /// Checkpoint two is trained until its loss is at most this multiple of epsilon. A student of its sign
    /// inherits its error rate e, at most its loss, and pays 2e of hinge loss for it, so "teacher loss
    /// O(epsilon)" needs a constant below 1/2.
    pub teacher_epsilon: f64,
    /// Repairs of checkpoint one.
    pub repair: Repair,
    /// Largest first-phase batch from a teacher.
    pub max_teacher_batch: u64,
    /// Largest first-phase batch from labels.
    pub max_label_batch: u64,
    /// Largest second phase.
    pub max_second: u64,
    /// Step of the second phase, as a multiple of the theorem's `A/(R sqrt(T))`.
    pub step: f64,
    /// Scale the step by the norm bound `R = (1 + m d^2)^(1/2)` of features with `|w|_inf <= 1` instead of
    /// the actual `|w|_1`; this is where the theorem's d^2 is.
    pub worst_case_norm: bool,
    /// Factor between looks.
    pub factor: f64,
    /// Confidence of intervals.
    pub confidence: f64,
    /// Seed.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trials: 20,
            delta: 0.1,
            fraction: 0.9,
            layer: FirstLayer::PrunedInit,
            teacher_batch: None,
            teacher_epsilon: 0.25,
            repair: Repair::default(),
            max_teacher_batch: 1 << 20,
            max_label_batch: 1 << 26,
            max_second: 1 << 21,
            step: TUNED_STEP,
            worst_case_norm: false,
            factor: 1.4,
            confidence: 0.95,
            seed: 1,
        }
    }
}

impl Settings {
    /// Every number in its range?
    pub fn check(&self) -> Result<()> {
        check_unit("delta", self.delta)?;
        check_unit("confidence", self.confidence)?;
        let ranges = [
            ("fraction", self.fraction, 1.0),
            ("prune", self.repair.prune + f64::MIN_POSITIVE, 1.0),
            ("step", self.step, 1e6),
            ("teacher_epsilon", self.teacher_epsilon, 1.0),
        ];
        for (what, value, most) in ranges {
            if !(value > 0.0 && value <= most) {
                return out_of_range(what, value, format!("(0, {most}]"), "see the defaults");
            }
        }
        if !(self.factor > 1.0 && self.factor <= 16.0) {
            return out_of_range("factor", self.factor, "(1, 16]", "1.4 is usual");
        }
        for (what, value, most) in [
            ("trials", self.trials, 100_000),
            ("pool", self.repair.pool as u64, 1000),
            ("max_teacher_batch", self.max_teacher_batch, 1 << 40),
            ("max_label_batch", self.max_label_batch, 1 << 40),
            ("max_second", self.max_second, 1 << 36),
        ] {
            if value == 0 || value > most {
                return out_of_range(what, value, format!("1..={most}"), "see the defaults");
            }
        }
        Ok(())
    }

    pub(super) fn teacher(&self, width: usize) -> TeacherSpec {
        TeacherSpec {
            width,
            batch: self.teacher_batch,
            plus_probability: self.repair.plus_probability,
            centred: self.repair.centred,
            ..TeacherSpec::default()
        }
    }
}

/// The tuned step of the second phase, as a multiple of the theorem's `A/(R sqrt(T))`
/// (`examples/second_phase.rs`).
pub const TUNED_STEP: f64 = 4.0;

/// Radius A and norm R of the second phase at (k, m, epsilon): A is 1.5 times what nine of ten pruned first
/// layers need, R theirs in the median. They depend on the sizes alone, so that every arm runs the same
/// second phase.
pub(super) fn radius_and_norm(point: &Point, settings: &Settings) -> Result<(f64, f64)> {
    let problem = Problem::first(point.k, point.k)?;
    let layer = |draw| pruned_layer(point.k, point.width, settings.seed, draw);
    let bound = second_phase_draws(&problem, point.epsilon, 21, settings.seed, layer)?;
    // T_2 = (2AR/eps)^2, solved for A.
    let radius =
        1.5 * bound.ingredients["quantile_90"].sqrt() * point.epsilon / (2.0 * bound.ingredients["R"]);
    let norm = match settings.worst_case_norm {
        true => (1.0 + point.width as f64 * (point.d as f64).powi(2)).sqrt(),
        false => bound.ingredients["R"],
    };
    Ok((radius, norm))
}
