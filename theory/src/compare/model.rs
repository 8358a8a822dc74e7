//! Settings and results of a comparison: what a plot, a report or a JSON reader sees.

use serde::{Deserialize, Serialize};

use crate::fit::{FittedConstant, Interval, PowerLaw};
use crate::recovery::RecoveryPrediction;
use crate::two_phase::TeacherSpec;

/// What to compare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompareSpec {
    /// Support sizes.
    pub k: Vec<usize>,
    /// Dimensions.
    pub d: Vec<usize>,
    /// Distinct student neurons, in the measurements and as the width in the bounds.
    pub neurons: usize,
    /// Success criterion: this fraction of the neurons ranks the support on top.
    pub fraction: f64,
    /// Failure probability in the bounds.
    pub delta: f64,
    /// Loss in the headline.
    pub epsilon: f64,
    /// Confidence of all intervals.
    pub confidence: f64,
    /// Teacher construction.
    pub teacher: TeacherSpec,
    /// Trials from labels.
    pub label_trials: u64,
    /// Largest batch from labels.
    pub label_max_batch: u64,
    /// Phase-one teachers per point.
    pub teachers: u64,
    /// Largest batch from a teacher.
    pub teacher_max_batch: u64,
    /// Final teachers per point for one-shot (0 leaves it out).
    pub final_teachers: u64,
    /// Largest batch from a final teacher.
    pub final_max_batch: u64,
    /// Samples to measure each teacher's gradient statistics with.
    pub statistics_samples: u64,
    /// Seed.
    pub seed: u64,
}

impl Default for CompareSpec {
    fn default() -> Self {
        Self {
            k: vec![4],
            d: vec![15, 21, 29, 41, 57],
            neurons: 32,
            fraction: 0.9,
            delta: 0.1,
            epsilon: 0.1,
            confidence: 0.95,
            teacher: TeacherSpec::default(),
            label_trials: 21,
            label_max_batch: 1 << 28,
            teachers: 61,
            teacher_max_batch: 100_000,
            final_teachers: 5,
            final_max_batch: 300_000,
            statistics_samples: 1 << 17,
            seed: 1,
        }
    }
}

/// Role of a line in the plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// From trials.
    Measured,
    /// Explicit upper bound.
    Upper,
    /// Lower line.
    Lower,
    /// Order of growth, unit constants.
    Order,
    /// Order of growth, fitted constant.
    Fitted,
    /// Central estimate or typical case, without a probability.
    Heuristic,
}

/// One point; `samples` is `None` where the line does not exist, and `note` says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Dimension.
    pub d: usize,
    /// Samples.
    pub samples: Option<f64>,
    /// Remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One line of the plot at one k.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Name.
    pub name: String,
    /// Support size.
    pub k: usize,
    /// Role.
    pub role: Role,
    /// Points, ascending in d.
    pub points: Vec<Point>,
    /// Log-log fit in d where at least two points exist.
    pub fit: Option<PowerLaw>,
    /// Bootstrap interval of the slope over trials or teachers (measured lines).
    pub bootstrap: Option<Interval>,
}

/// Is a measured point between its lower and upper line?
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Measured line.
    pub line: String,
    /// Support size.
    pub k: usize,
    /// Dimension.
    pub d: usize,
    /// Median (of the successes, for teachers).
    pub measured: Option<f64>,
    /// Batch by which a share `1 - delta` of the trials succeeded (labels): what lines with a delta are
    /// about.
    pub quantile: Option<f64>,
    /// Largest lower line, with success probability `1 - delta`.
    pub lower: f64,
    /// Upper bound (the median over teachers of each one's own).
    pub upper: Option<f64>,
    /// The central estimate of the median.
    pub predicted: Option<f64>,
    /// Median over central estimate.
    pub ratio: Option<f64>,
    /// Trials that succeeded.
    pub survivors: u64,
    /// Trials with a bound of their own that can be judged.
    pub compared: u64,
    /// Of these, how many needed more than their own bound: not recovered counts, if the largest batch was at
    /// least the bound.
    pub above_own_bound: u64,
    /// Not recovered by a largest batch below the own bound: says nothing.
    pub undecided: u64,
    /// The quantile (teachers: the median) lies between the lower and the upper line, the median within a
    /// factor of 2 of its central estimate (labels), and no trial above its own bound; `None` with fewer than
    /// [`FEWEST_SURVIVORS`] successes or without a quantile.
    pub holds: Option<bool>,
}

/// Fewer successes than this leave a point undecided.
pub const FEWEST_SURVIVORS: u64 = 5;

/// A measured slope in d against that of the finite-d prediction on the same dimensions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlopeVerdict {
    /// Measured line.
    pub line: String,
    /// Support size.
    pub k: usize,
    /// Slope of the medians.
    pub slope: Option<f64>,
    /// The wider of the t-interval over dimensions and the bootstrap interval over trials, end by end.
    pub interval: Option<Interval>,
    /// Slope of the prediction at the same dimensions.
    pub expected: Option<f64>,
    /// Slope in the limit of large d: `k-1` or 0.
    pub limit: f64,
    /// Dimensions with at least [`FEWEST_SURVIVORS`] successes; only they enter.
    pub dimensions: usize,
    /// Is the expected slope in the interval? `None` with fewer than four such dimensions, or when the
    /// interval is wider than 2.
    pub holds: Option<bool>,
}

/// Recovery from phase-one teachers at one (k, d).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecoveryPoint {
    /// Support size.
    pub k: usize,
    /// Dimension.
    pub d: usize,
    /// Teachers from which the support was recovered.
    pub recovered: u64,
    /// Teachers.
    pub teachers: u64,
    /// Interval of the failure probability.
    pub failure_interval: Interval,
    /// The sign-sum model's prediction (d odd, mirrored fair teachers).
    pub predicted: Option<RecoveryPrediction>,
}

/// Fitted constants of one k.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fitted {
    /// Support size.
    pub k: usize,
    /// Of `d^(k-1)` in the labels' first phase.
    pub labels: Option<FittedConstant>,
    /// Of `k^3` in the first phase from a phase-one teacher.
    pub phase_one: Option<FittedConstant>,
    /// Headline crossover in d with unit constants.
    pub crossover_unit: Option<usize>,
    /// The same with the fitted first-phase constants (second-phase constants 1).
    pub crossover_fitted: Option<usize>,
}

/// Everything the plot and the report need.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Settings.
    pub spec: CompareSpec,
    /// Lines.
    pub lines: Vec<Line>,
    /// Verdicts per measured point.
    pub verdicts: Vec<Verdict>,
    /// Verdicts on measured slopes.
    pub slopes: Vec<SlopeVerdict>,
    /// Recovery per (k, d).
    pub recovery: Vec<RecoveryPoint>,
    /// Constants per k.
    pub fitted: Vec<Fitted>,
    /// Pairs (k, d) left out, with the reason.
    pub skipped: Vec<String>,
}
