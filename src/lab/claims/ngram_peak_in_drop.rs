//! `ngram-peak-in-drop`: n-gram robustness peaks while the teacher's loss drops.

use super::evidence::require_share;
use super::words::{percent, with};
use super::{ClaimKind, Evidence, Facts, Finding};
use crate::run::gather::TEACHER;
use serde::{Deserialize, Serialize};

/// At least this share of seeds has the peak of the median M_robust(n) over the teacher's checkpoints inside the drop
/// of its loss.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NgramPeakInDrop {
    /// Length of the n-gram.
    pub n: usize,
    /// Value of the sweep, where it changes the teacher.
    pub at: Option<f64>,
    /// Share of seeds.
    pub at_least: f64,
    /// Only seeds in which this holds.
    pub given: Option<String>,
}

impl NgramPeakInDrop {
    fn quantity(&self) -> String {
        format!("peak-step-{}", self.n)
    }
}

impl ClaimKind for NgramPeakInDrop {
    fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }

    fn at(&self) -> Option<f64> {
        self.at
    }

    fn check(&self, facts: &Facts<'_>) -> Result<(), String> {
        require_share(self.at_least)?;
        let missing = format!("[ngrams] does not measure n = {}", self.n);
        facts.require_quantity("ngrams", &self.quantity(), missing)?;
        facts.require_arm(TEACHER, self.at)
    }

    fn statement(&self) -> String {
        let share = percent(self.at_least);
        format!(
            "the median M_robust of {}-grams peaks inside the drop of the teacher's loss{} in at least {share} of the seeds",
            self.n,
            with(self.at)
        )
    }

    fn finding(&self, evidence: &Evidence<'_>) -> Finding {
        let teachers = evidence.runs_of(TEACHER, self.at);
        let inside = |(seed, step): (u64, f64)| {
            let teacher = teachers.iter().find(|r| r.seed == seed);
            let phases = teacher.and_then(|t| t.loss_phases());
            (seed, phases.is_some_and(|p| p.in_drop(step)))
        };
        let peaks = evidence.quantity("ngrams", &self.quantity(), TEACHER, self.at);
        Finding::Share { seeds: peaks.into_iter().map(inside).collect(), at_least: self.at_least }
    }

    fn counts_seeds(&self) -> bool {
        true
    }
}
