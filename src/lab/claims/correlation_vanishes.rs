//! `correlation-vanishes`: what stood out inside the transition is gone at the end.

use super::words::with;
use super::{Bound, ClaimKind, Evidence, Facts, Finding};
use crate::run::gather::TEACHER;
use curricle_core::math::order::Known;
use serde::{Deserialize, Serialize};

/// Median over seeds of (in-support mean |correlation| at the final checkpoint) / (its peak inside the transition) is
/// at most
/// `at_most`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CorrelationVanishes {
    /// Degree.
    pub degree: usize,
    /// Value of the sweep, where it changes the teacher.
    pub at: Option<f64>,
    /// Bound.
    pub at_most: f64,
    /// Only seeds in which this holds.
    pub given: Option<String>,
}

impl CorrelationVanishes {
    fn quantity(&self) -> String {
        format!("final-over-peak-{}", self.degree)
    }
}

impl ClaimKind for CorrelationVanishes {
    fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }

    fn at(&self) -> Option<f64> {
        self.at
    }

    fn check(&self, facts: &Facts<'_>) -> Result<(), String> {
        let missing = format!("[correlations] does not measure degree {}", self.degree);
        facts.require_quantity("correlations", &self.quantity(), missing)?;
        facts.require_arm(TEACHER, self.at)
    }

    fn statement(&self) -> String {
        let Self { degree, at_most, .. } = self;
        let with = with(self.at);
        format!(
            "median over seeds of the final in-support mean |correlation| of degree {degree} over its peak inside the transition{with} is at most {at_most}"
        )
    }

    fn finding(&self, evidence: &Evidence<'_>) -> Finding {
        let seeds = evidence.quantity("correlations", &self.quantity(), TEACHER, self.at);
        let seeds = seeds.into_iter().map(|(seed, value)| (seed, Known::exactly(value))).collect();
        Finding::Median { seeds, bound: Bound::AtMost(self.at_most) }
    }
}
