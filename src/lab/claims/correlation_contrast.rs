//! `correlation-contrast`: monomials of the support stand out inside the transition.

use super::words::with;
use super::{Bound, ClaimKind, Evidence, Facts, Finding};
use crate::run::gather::TEACHER;
use curricle_core::math::order::Known;
use serde::{Deserialize, Serialize};

/// Median over seeds of the largest ratio, over checkpoints inside the transition, of mean in-support to mean
/// off-support |correlation| of one degree is at least `at_least`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CorrelationContrast {
    /// Degree.
    pub degree: usize,
    /// Value of the sweep, where it changes the teacher.
    pub at: Option<f64>,
    /// Bound.
    pub at_least: f64,
    /// Only seeds in which this holds.
    pub given: Option<String>,
}

impl CorrelationContrast {
    fn quantity(&self) -> String {
        format!("contrast-{}", self.degree)
    }
}

impl ClaimKind for CorrelationContrast {
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
        let Self { degree, at_least, .. } = self;
        let with = with(self.at);
        format!(
            "median over seeds of the largest in-/off-support ratio of mean |correlation| of degree {degree} inside the transition{with} is at least {at_least}"
        )
    }

    fn finding(&self, evidence: &Evidence<'_>) -> Finding {
        let seeds = evidence.quantity("correlations", &self.quantity(), TEACHER, self.at);
        let seeds = seeds.into_iter().map(|(seed, value)| (seed, Known::exactly(value))).collect();
        Finding::Median { seeds, bound: Bound::AtLeast(self.at_least) }
    }
}
