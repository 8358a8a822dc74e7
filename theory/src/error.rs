//! The one error type of the crate.

use thiserror::Error;

/// What was wrong, which limit it broke and what to do instead.
///
/// No public function of this crate panics on its arguments or lets a NaN or an infinity out: it returns one
/// of these.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum TheoryError {
    /// A count (dimension, level, width, samples ...) outside what the method can do.
    #[error("{what} = {value} is outside {allowed}; {instead}")]
    OutOfRange {
        /// Name of the argument.
        what: &'static str,
        /// Its value, as given.
        value: String,
        /// The allowed interval.
        allowed: String,
        /// The alternative.
        instead: &'static str,
    },
    /// The support does not fit the dimension.
    #[error("the support needs 1 <= k <= d, got k = {k} and d = {d}; choose k distinct coordinates below d")]
    SupportSize {
        /// Support size.
        k: usize,
        /// Dimension.
        d: usize,
    },
    /// A coordinate is repeated or not below the dimension.
    #[error(
        "coordinate {coordinate} of the support is repeated or not below d = {d}; coordinates count from 0"
    )]
    SupportCoordinate {
        /// The offending coordinate.
        coordinate: usize,
        /// Dimension.
        d: usize,
    },
    /// Odd k with odd d: the majority coefficients vanish at even levels.
    #[error(
        "k = {k} with d = {d}: the threshold coefficients at the even levels k-1 and k+1 vanish when d is odd and |bias| < 1, \
         so labels and phase-one teachers give the first gradient step no signal and no batch size suffices; use an even k or an even d \
         (a trained checkpoint may still have a gap: rank or measure it)"
    )]
    NoFirstOrderSignal {
        /// Dimension.
        d: usize,
        /// Support size.
        k: usize,
    },
    /// The gradient does not rank the support on top even with infinitely many samples.
    #[error(
        "the population gradient of {of} does not rank the support on top (gap {gap:e} <= 0), so no batch size suffices; {instead}"
    )]
    NoGap {
        /// Whose gradient.
        of: &'static str,
        /// The (non-positive) gap.
        gap: f64,
        /// What to do instead.
        instead: &'static str,
    },
    /// So many random teachers have no gap that no batch keeps the promise.
    #[error(
        "{share:.3} of the {which} teachers rank some other coordinate above the support at any batch, more than the {allowed:.3} that delta \
         leaves for them: no number of samples is enough with probability 1 - delta over teachers; prune or pool the teachers, raise d, \
         or allow a larger delta"
    )]
    TeachersFail {
        /// Kind of teachers.
        which: &'static str,
        /// Share (or its upper bound) without a gap.
        share: f64,
        /// Share that delta allows.
        allowed: f64,
    },
    /// A coefficient is below the smallest number.
    #[error(
        "the threshold coefficient at level {level} with d = {d} is about exp({ln_abs:.1}), below the smallest 64-bit number, so its bound \
         of order exp({:.1}) samples cannot be written; `theory threshold` prints the logarithm; use a smaller k", -2.0 * ln_abs
    )]
    Underflow {
        /// Dimension.
        d: usize,
        /// Level.
        level: usize,
        /// Natural logarithm of the coefficient's size.
        ln_abs: f64,
    },
    /// Two things that must have equal sizes do not.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// What was compared.
        what: &'static str,
        /// Expected size.
        expected: usize,
        /// Found size.
        found: usize,
    },
    /// An input or a result is NaN or infinite.
    #[error("{what} is not finite; {instead}")]
    NotFinite {
        /// What was not finite.
        what: &'static str,
        /// The alternative.
        instead: &'static str,
    },
    /// LAPACK reported a failure.
    #[error("the linear solve failed ({0}); raise the ridge")]
    Linalg(String),
    /// The second layer cannot fit the parity on these features.
    #[error(
        "no comparator on these features reaches hinge loss {target}: the best found has {found}; more neurons (about 2^k ln(1/delta)), \
         a finer bias grid or a cleaner first phase is needed"
    )]
    NoComparator {
        /// Loss asked for.
        target: f64,
        /// Loss reached.
        found: f64,
    },
    /// The progress callback asked to stop; the resumable state holds what was finished.
    #[error("cancelled; pass the saved state back in to continue")]
    Cancelled,
}

/// Result with [`TheoryError`].
pub type Result<T> = std::result::Result<T, TheoryError>;

pub(crate) fn out_of_range<T>(
    what: &'static str,
    value: impl ToString,
    allowed: impl Into<String>,
    instead: &'static str,
) -> Result<T> {
    Err(TheoryError::OutOfRange { what, value: value.to_string(), allowed: allowed.into(), instead })
}

/// `name` must lie strictly between 0 and 1.
pub(crate) fn check_unit(what: &'static str, value: f64) -> Result<()> {
    if value > 0.0 && value < 1.0 {
        return Ok(());
    }
    out_of_range(
        what,
        value,
        "the open interval (0, 1)",
        "give a probability or loss strictly between 0 and 1",
    )
}

/// The sign-weight formulas with a majority need |b| < 1.
pub(crate) fn check_bias(bias: f64) -> Result<()> {
    if bias > -1.0 && bias < 1.0 {
        return Ok(());
    }
    out_of_range(
        "bias",
        bias,
        "the open interval (-1, 1)",
        "the initialisation of the algorithm draws biases there; `theory threshold` takes any bias",
    )
}

/// Distinct coordinates below `d`, at least one.
pub(crate) fn check_support(support: &[usize], d: usize) -> Result<()> {
    if support.is_empty() || support.len() > d {
        return Err(TheoryError::SupportSize { k: support.len(), d });
    }
    let mut seen = vec![false; d];
    for &j in support {
        if j >= d || std::mem::replace(&mut seen[j], true) {
            return Err(TheoryError::SupportCoordinate { coordinate: j, d });
        }
    }
    Ok(())
}

pub(crate) fn finite(what: &'static str, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(TheoryError::NotFinite {
        what,
        instead: "the arguments are too extreme for f64; bring them closer to the usual range",
    })
}
