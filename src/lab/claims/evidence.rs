//! What claims are checked against and judged on.

use super::ClaimSpec;
use crate::measure::{Measure, Measured};
use crate::run::gather::{RunRecord, runs_of};
use curricle_core::math::order::Known;
use indexmap::IndexMap;
use std::sync::Arc;

/// What a claim's keys are checked against.
pub struct Facts<'a> {
    /// Whether the spec trains a teacher.
    pub teacher: bool,
    /// Whether an arm exists at this value of the sweep axis (an arm outside the sweep has none and stands for itself).
    pub arm: &'a dyn Fn(&str, Option<f64>) -> bool,
    /// The measurements of the spec by key.
    pub measures: &'a IndexMap<String, Arc<dyn Measure>>,
    /// All claims of the spec.
    pub claims: &'a IndexMap<String, ClaimSpec>,
}

impl Facts<'_> {
    /// Requires an arm.
    ///
    /// # Errors
    /// If there is none of this name and value.
    pub fn require_arm(&self, arm: &str, at: Option<f64>) -> Result<(), String> {
        match (self.arm)(arm, at) {
            true => Ok(()),
            false => Err(format!("there is no arm {arm:?}{}", super::words::with(at))),
        }
    }

    /// Requires that a measurement gives a number of this name.
    ///
    /// # Errors
    /// `or` if there is no such measurement or number.
    pub fn require_quantity(&self, of: &str, quantity: &str, or: impl Into<String>) -> Result<(), String> {
        let measured = self.measures.get(of).is_some_and(|m| m.quantities().iter().any(|q| q == quantity));
        if measured { Ok(()) } else { Err(or.into()) }
    }
}

/// Requires that a level is an accuracy.
pub(super) fn require_level(level: f64) -> Result<(), String> {
    match level > 0.0 && level <= 1.0 {
        true => Ok(()),
        false => Err("the level must be an accuracy above 0 and up to 1".to_owned()),
    }
}

/// Requires that a share of seeds is one.
pub(super) fn require_share(at_least: f64) -> Result<(), String> {
    match (0.0..=1.0).contains(&at_least) {
        true => Ok(()),
        false => Err("at_least is a share of the seeds, from 0 to 1".to_owned()),
    }
}

/// Everything an experiment recorded, as claims read it.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// Every run.
    pub runs: &'a [RunRecord],
    /// What was measured, by key.
    pub measured: &'a IndexMap<String, Vec<Measured>>,
    /// The measurements themselves, by key.
    pub measures: &'a IndexMap<String, Arc<dyn Measure>>,
    /// All claims of the spec, for those that others are conditional on.
    pub claims: &'a IndexMap<String, ClaimSpec>,
    /// Seeds the claims are about.
    pub seeds: &'a [u64],
    /// The level by which an arm's best rate is chosen: the largest of the spec.
    pub headline: f64,
    /// The coverage an interval needs for a verdict.
    pub confidence: f64,
}

impl Evidence<'_> {
    /// The runs that stand for an arm, those the figures show.
    pub fn runs_of(&self, arm: &str, at: Option<f64>) -> Vec<&RunRecord> {
        let mut runs = runs_of(self.runs, arm, at, self.headline);
        runs.retain(|r| self.seeds.contains(&r.seed));
        runs
    }

    /// A number from the two runs of each seed that has both.
    pub fn pairs(
        &self,
        arm: &str,
        than: &str,
        at: Option<f64>,
        known: impl Fn(&RunRecord, &RunRecord) -> Known,
    ) -> Vec<(u64, Known)> {
        let (a, b) = (self.runs_of(arm, at), self.runs_of(than, at));
        let pair = |seed: &u64| {
            let of_seed = |list: &[&RunRecord]| list.iter().position(|r| r.seed == *seed);
            Some((*seed, known(a[of_seed(&a)?], b[of_seed(&b)?])))
        };
        self.seeds.iter().filter_map(pair).collect()
    }

    /// A number of a measurement for every seed that has it: of the teacher, or of an arm whose runs were measured.
    pub fn quantity(&self, of: &str, quantity: &str, arm: &str, at: Option<f64>) -> Vec<(u64, f64)> {
        let (Some(measure), Some(found)) = (self.measures.get(of), self.measured.get(of)) else {
            return vec![];
        };
        let runs = self.runs_of(arm, at);
        let of_arm = |m: &&Measured| runs.iter().any(|r| r.seed == m.seed && r.name == m.run);
        let number = |m: &Measured| Some((m.seed, measure.evidence(&m.value, quantity)?));
        found.iter().filter(of_arm).filter_map(number).filter(|(_, v)| !v.is_nan()).collect()
    }
}
