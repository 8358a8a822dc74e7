//! The verdicts on an experiment's claims.

use super::experiment::Results;
use super::plan::Plan;
use crate::claims::{self, Claim, Evidence};

/// What the results say of the plan's claims.
pub fn evidence<'a>(plan: &'a Plan, results: &'a Results) -> Evidence<'a> {
    Evidence {
        runs: &results.runs,
        measured: &results.measured,
        measures: &plan.measures,
        claims: &plan.claims,
        seeds: &plan.seeds,
        headline: plan.headline(),
        confidence: plan.confidence,
    }
}

/// Judges every claim of the plan.
pub fn judge(plan: &Plan, results: &Results) -> Vec<Claim> {
    claims::judge(&plan.claims, &evidence(plan, results))
}
