//! `final-accuracy-gain`: one arm ends above another.

use super::words::with;
use super::{Bound, ClaimKind, Evidence, Facts, Finding};
use curricle_core::math::order::Known;
use serde::{Deserialize, Serialize};

/// Median over seeds of final_accuracy(arm) - final_accuracy(than) is at least `at_least`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FinalAccuracyGain {
    /// Arm.
    pub arm: String,
    /// Compared to.
    pub than: String,
    /// Value of the sweep axis for both.
    pub at: Option<f64>,
    /// Bound.
    pub at_least: f64,
    /// Only seeds in which this holds.
    pub given: Option<String>,
}

impl ClaimKind for FinalAccuracyGain {
    fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }

    fn at(&self) -> Option<f64> {
        self.at
    }

    fn check(&self, facts: &Facts<'_>) -> Result<(), String> {
        facts.require_arm(&self.arm, self.at)?;
        facts.require_arm(&self.than, self.at)
    }

    fn statement(&self) -> String {
        let Self { arm, than, at_least, .. } = self;
        let with = with(self.at);
        format!("median over seeds of final accuracy of {arm} minus {than}{with} is at least {at_least}")
    }

    fn finding(&self, evidence: &Evidence<'_>) -> Finding {
        let seeds = evidence.pairs(&self.arm, &self.than, self.at, |a, b| {
            match (a.final_accuracy, b.final_accuracy) {
                (Some(a), Some(b)) => Known::exactly(a - b),
                _ => Known { low: -1.0, high: 1.0 },
            }
        });
        Finding::Median { seeds, bound: Bound::AtLeast(self.at_least) }
    }
}
