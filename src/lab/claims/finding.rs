//! What a claim finds in each seed.

use curricle_core::math::order::Known;

/// The side on which a number supports a claim.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

impl Bound {
    /// Whether a number lies on the supporting side for certain.
    pub fn supports(self, known: Known) -> bool {
        match self {
            Self::AtMost(bound) => known.high <= bound,
            Self::AtLeast(bound) => known.low >= bound,
        }
    }

    /// Whether a number lies on the other side for certain.
    pub fn contradicts(self, known: Known) -> bool {
        match self {
            Self::AtMost(bound) => known.low > bound,
            Self::AtLeast(bound) => known.high < bound,
        }
    }
}

/// What a claim finds; a seed that is not listed has no result.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// A number per seed; the claim is about their median.
    Median {
        /// Seeds with their numbers.
        seeds: Vec<(u64, Known)>,
        /// What the median has to be.
        bound: Bound,
    },
    /// Whether something is so in a seed; the claim is about the share of seeds in which it is.
    Share {
        /// Seeds that could be judged.
        seeds: Vec<(u64, bool)>,
        /// The share that is claimed.
        at_least: f64,
    },
}
