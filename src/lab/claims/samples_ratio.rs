//! `samples-ratio`: one arm needs so many times the samples of another to reach a level.

use super::evidence::require_level;
use super::words::{percent, with};
use super::{Bound, ClaimKind, Evidence, Facts, Finding};
use crate::run::gather::RunRecord;
use curricle_core::math::order::Known;
use serde::{Deserialize, Serialize};

/// Median over seeds of samples_to(level, arm) / samples_to(level, than) is at most `at_most`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SamplesRatio {
    /// Numerator.
    pub arm: String,
    /// Denominator.
    pub than: String,
    /// Value of the sweep axis for both.
    pub at: Option<f64>,
    /// Accuracy level.
    pub level: f64,
    /// Bound.
    pub at_most: f64,
    /// Only seeds in which this holds.
    pub given: Option<String>,
}

impl ClaimKind for SamplesRatio {
    fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }

    fn at(&self) -> Option<f64> {
        self.at
    }

    fn check(&self, facts: &Facts<'_>) -> Result<(), String> {
        facts.require_arm(&self.arm, self.at)?;
        facts.require_arm(&self.than, self.at)?;
        require_level(self.level)
    }

    fn statement(&self) -> String {
        let Self { arm, than, at_most, .. } = self;
        let (level, with) = (percent(self.level), with(self.at));
        format!("median over seeds of samples to {level} of {arm} / {than}{with} is at most {at_most}")
    }

    fn finding(&self, evidence: &Evidence<'_>) -> Finding {
        let ratio = |a: &RunRecord, b: &RunRecord| {
            let (a, b) = (samples_to(a, self.level), samples_to(b, self.level));
            Known { low: a.low / b.high, high: a.high / b.low }
        };
        let seeds = evidence.pairs(&self.arm, &self.than, self.at, ratio);
        Finding::Median { seeds, bound: Bound::AtMost(self.at_most) }
    }
}

/// Samples to a level; a run that did not reach it is known to need more than it was given.
fn samples_to(run: &RunRecord, level: f64) -> Known {
    match run.first_reaching(level) {
        Some(samples) => Known::exactly(samples.max(1) as f64),
        None => Known::beyond(run.samples_seen().max(1) as f64),
    }
}
