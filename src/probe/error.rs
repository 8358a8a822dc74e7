use super::{MAX_DEGREE, MAX_MONOMIALS};
use curricle_core::model::ModelError;

/// Why a probe cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Fewer than two samples.
    #[error("samples = {0}: a standard error needs at least 2 samples")]
    TooFewSamples(u64),
    /// The class has no logit.
    #[error("class {class} does not exist: the model has {classes} logits, counted from 0")]
    Class {
        /// Asked class.
        class: usize,
        /// Logits of the model.
        classes: usize,
    },
    /// A degree outside 1..=5.
    #[error("degree {0} is out of range: degrees go from 1 to {MAX_DEGREE}")]
    Degree(usize),
    /// More coordinates than there are.
    #[error("degree {degree} is impossible: the input has only d = {d} coordinates")]
    DegreeAboveDimension {
        /// Asked degree.
        degree: usize,
        /// Input dimension.
        d: usize,
    },
    /// No degree asked for.
    #[error("no degree was given: name at least one of 1 to {MAX_DEGREE}")]
    NoDegrees,
    /// More monomials than anybody wants to wait for.
    #[error(
        "{count} monomials of degree {degree} are too many (the limit is {MAX_MONOMIALS} in all): {what}; {remedy}"
    )]
    TooManyMonomials {
        /// How many were asked for.
        count: u128,
        /// Their degree.
        degree: usize,
        /// Which ones.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A coordinate is not below d.
    #[error("coordinate {coordinate} is out of range: coordinates count from 0 and d = {d}")]
    Coordinate {
        /// The coordinate.
        coordinate: usize,
        /// Input dimension.
        d: usize,
    },
    /// A coordinate occurs twice.
    #[error("coordinate {0} occurs twice")]
    Repeated(usize),
    /// A support without coordinates.
    #[error("the support of node {0} is empty")]
    EmptyNode(usize),
    /// The model takes another input dimension than the monomials or the task.
    #[error("the model takes d = {model} inputs, but the {what} has d = {expected}")]
    Dimension {
        /// The model's.
        model: usize,
        /// The other's.
        expected: usize,
        /// Who the other is.
        what: &'static str,
    },
    /// The task has another number of labels than the model has logits.
    #[error("the model has {model} logits, but the task has {task} labels")]
    Classes {
        /// The model's.
        model: usize,
        /// The task's.
        task: usize,
    },
    /// Exact correlations above the limit.
    #[error(
        "exact correlations enumerate all 2^d inputs and stop at d = {limit}, but d = {d}: sample instead (leave out --exact, choose --samples)"
    )]
    ExactTooLarge {
        /// Input dimension.
        d: usize,
        /// Largest d.
        limit: usize,
    },
    /// A logit is NaN or infinite.
    #[error(
        "logit {logit} of probe sample {sample} is {value}: the checkpoint does not compute finite outputs"
    )]
    NonFinite {
        /// Index of the sample.
        sample: u64,
        /// Index of the logit.
        logit: usize,
        /// What it is.
        value: f32,
    },
    /// The model failed.
    #[error("the model could not compute its logits")]
    Model(#[source] ModelError),
}
