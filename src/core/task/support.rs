//! Where the coordinates lie that a label depends on.

use crate::rng::{self, Purpose, Stream};
use serde::Deserialize;

/// Why a Boolean task cannot be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TaskError {
    /// d is 0 or above the limit.
    #[error("d = {0} is out of range: the input dimension must be between 1 and 65536")]
    Dimension(usize),
    /// k is 0 or does not fit.
    #[error("k = {k} is out of range: with d = {d} and {nodes} parities of k coordinates each, k must be between 1 and {max}", max = d / nodes)]
    Sparsity {
        /// Asked sparsity.
        k: usize,
        /// Input dimension.
        d: usize,
        /// Number of disjoint parities.
        nodes: usize,
    },
    /// A support coordinate is not below d.
    #[error("support coordinate {coordinate} is out of range: coordinates count from 0 and d = {d}")]
    Coordinate {
        /// The offending coordinate.
        coordinate: usize,
        /// Input dimension.
        d: usize,
    },
    /// A coordinate occurs twice.
    #[error("support coordinate {0} occurs twice")]
    Repeated(usize),
    /// Number of classes is not a power of two.
    #[error("classes = {0} is not possible for a hierarchy: use a power of two from 2 to 256")]
    Classes(usize),
    /// The list of coordinates has the wrong length.
    #[error("the support lists {found} coordinates, but {expected} are needed")]
    SupportLength {
        /// Listed.
        found: usize,
        /// Needed: k for a parity, k x (classes - 1) for a hierarchy.
        expected: usize,
    },
}

impl TaskError {
    /// The key of the spec that is to blame.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Dimension(_) => "d",
            Self::Sparsity { .. } => "k",
            Self::Classes(_) => "classes",
            Self::Coordinate { .. } | Self::Repeated(_) | Self::SupportLength { .. } => "support",
        }
    }
}

/// Where the coordinates of the support come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// Coordinates 0, 1, ..
    First,
    /// Drawn without replacement from the seed.
    Random {
        /// Seed of the draw.
        seed: u64,
    },
    /// Given, one after the other.
    Given(Vec<usize>),
}

impl Support {
    /// `count` distinct coordinates below d, in the order in which they were drawn or given.
    ///
    /// # Errors
    /// If d is out of range or what is given does not fit. `count` must not exceed d.
    pub fn coordinates(&self, count: usize, d: usize) -> Result<Vec<usize>, TaskError> {
        check_dimension(d)?;
        let coordinates = match self {
            Self::First => (0..count).collect(),
            Self::Random { seed } => rng::distinct(*seed, Stream::new(Purpose::Support, 0), 0, count, d),
            Self::Given(list) => {
                if list.len() != count {
                    return Err(TaskError::SupportLength { found: list.len(), expected: count });
                }
                list.clone()
            }
        };
        let mut seen = vec![false; d];
        for &coordinate in &coordinates {
            if coordinate >= d {
                return Err(TaskError::Coordinate { coordinate, d });
            }
            if std::mem::replace(&mut seen[coordinate], true) {
                return Err(TaskError::Repeated(coordinate));
            }
        }
        Ok(coordinates)
    }
}

/// Refuses input dimensions of 0 and above 65536.
///
/// # Errors
/// [`TaskError::Dimension`].
pub fn check_dimension(d: usize) -> Result<(), TaskError> {
    if (1..=65_536).contains(&d) { Ok(()) } else { Err(TaskError::Dimension(d)) }
}

/// The key `support` of a task: "first", "random" (the default) or a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected \"first\", \"random\" or a list of coordinates such as [2, 5, 7]")]
pub enum SupportKey {
    /// first or random.
    Named(SupportName),
    /// Given coordinates.
    Given(Vec<usize>),
}

impl Default for SupportKey {
    fn default() -> Self {
        Self::Named(SupportName::Random)
    }
}

impl SupportKey {
    /// The support under one seed.
    pub fn of(&self, seed: u64) -> Support {
        match self {
            Self::Named(SupportName::First) => Support::First,
            Self::Named(SupportName::Random) => Support::Random { seed },
            Self::Given(list) => Support::Given(list.clone()),
        }
    }
}

/// Named supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SupportName {
    /// 0, 1, ..
    First,
    /// Drawn from the seed.
    Random,
}
