//! `reaches`: at least so many of the seeds reach a level.

use super::evidence::{require_level, require_share};
use super::words::{percent, with};
use super::{ClaimKind, Evidence, Facts, Finding};
use serde::{Deserialize, Serialize};

/// At least this share of seeds reaches the level.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reaches {
    /// Arm.
    pub arm: String,
    /// Value of the sweep axis.
    pub at: Option<f64>,
    /// Accuracy level.
    pub level: f64,
    /// Share of seeds.
    pub at_least: f64,
    /// Only seeds in which this holds.
    pub given: Option<String>,
}

impl ClaimKind for Reaches {
    fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }

    fn at(&self) -> Option<f64> {
        self.at
    }

    fn check(&self, facts: &Facts<'_>) -> Result<(), String> {
        facts.require_arm(&self.arm, self.at)?;
        require_level(self.level)?;
        require_share(self.at_least)
    }

    fn statement(&self) -> String {
        let (level, share) = (percent(self.level), percent(self.at_least));
        format!("{}{} reaches {level} in at least {share} of the seeds", self.arm, with(self.at))
    }

    fn finding(&self, evidence: &Evidence<'_>) -> Finding {
        let runs = evidence.runs_of(&self.arm, self.at);
        let seeds = runs.iter().map(|r| (r.seed, r.first_reaching(self.level).is_some())).collect();
        Finding::Share { seeds, at_least: self.at_least }
    }

    fn counts_seeds(&self) -> bool {
        true
    }
}
