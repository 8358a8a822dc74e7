//! `stays-below`: an arm never gets far.

use super::evidence::require_level;
use super::words::{percent, with};
use super::{Bound, ClaimKind, Evidence, Facts, Finding};
use curricle_core::math::order::Known;
use serde::{Deserialize, Serialize};

/// The median over seeds of the best accuracy ever evaluated is below the level.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StaysBelow {
    /// Arm.
    pub arm: String,
    /// Value of the sweep axis.
    pub at: Option<f64>,
    /// Accuracy level.
    pub level: f64,
    /// Only seeds in which this holds.
    pub given: Option<String>,
}

impl ClaimKind for StaysBelow {
    fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }

    fn at(&self) -> Option<f64> {
        self.at
    }

    fn check(&self, facts: &Facts<'_>) -> Result<(), String> {
        facts.require_arm(&self.arm, self.at)?;
        require_level(self.level)
    }

    fn statement(&self) -> String {
        let (level, with) = (percent(self.level), with(self.at));
        format!("median over seeds of the best accuracy of {}{with} is below {level}", self.arm)
    }

    fn finding(&self, evidence: &Evidence<'_>) -> Finding {
        let unknown = Known { low: 0.0, high: 1.0 };
        let best =
            |r: &&crate::run::gather::RunRecord| (r.seed, r.best_accuracy().map_or(unknown, Known::exactly));
        let seeds = evidence.runs_of(&self.arm, self.at).iter().map(best).collect();
        Finding::Median { seeds, bound: Bound::AtMost(self.level) }
    }
}
