//! `three-phases`: the teacher's loss has a plateau, a drop and slow improvement after it.

use super::evidence::require_share;
use super::words::{percent, with};
use super::{ClaimKind, Evidence, Facts, Finding};
use crate::run::gather::TEACHER;
use serde::{Deserialize, Serialize};

/// At least this share of seeds has a teacher whose loss shows three phases.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ThreePhases {
    /// Value of the sweep, where it changes the teacher.
    pub at: Option<f64>,
    /// Share of seeds.
    pub at_least: f64,
    /// Only seeds in which this holds.
    pub given: Option<String>,
}

impl ClaimKind for ThreePhases {
    fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }

    fn at(&self) -> Option<f64> {
        self.at
    }

    fn check(&self, facts: &Facts<'_>) -> Result<(), String> {
        require_share(self.at_least)?;
        match facts.teacher {
            true => facts.require_arm(TEACHER, self.at),
            false => Err("there is no [teacher]".to_owned()),
        }
    }

    fn statement(&self) -> String {
        let share = percent(self.at_least);
        format!(
            "the teacher's loss{} shows a plateau, a drop and slow improvement in at least {share} of the seeds",
            with(self.at)
        )
    }

    fn finding(&self, evidence: &Evidence<'_>) -> Finding {
        let teachers = evidence.runs_of(TEACHER, self.at);
        let shows = |r: &crate::run::gather::RunRecord| r.loss_phases().is_some_and(|p| p.three_phases);
        let seeds = teachers.into_iter().map(|r| (r.seed, shows(r))).collect();
        Finding::Share { seeds, at_least: self.at_least }
    }

    fn counts_seeds(&self) -> bool {
        true
    }
}
