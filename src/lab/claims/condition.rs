//! Conditions: `given = "NAME"` counts only the seeds in which NAME holds, and shows the others apart.
//!
//! NAME is a claim of the spec that counts seeds (`reaches`, `three-phases`, ..), or `teacher-reaches-<percent>`, such as
//! `teacher-reaches-99`.

use super::{Evidence, Facts, Finding};
use crate::run::gather::TEACHER;
use std::collections::BTreeMap;

/// The level in `teacher-reaches-99`.
fn teacher_level(condition: &str) -> Option<f64> {
    let percent: f64 = condition.strip_prefix("teacher-reaches-")?.parse().ok()?;
    (percent > 0.0 && percent <= 100.0).then_some(percent / 100.0)
}

/// Checks the condition of the claim `name`.
pub(super) fn check(name: &str, condition: &str, facts: &Facts<'_>) -> Result<(), String> {
    let counts = |(other, claim): (&String, &super::ClaimSpec)| {
        (other != name && claim.kind().counts_seeds()).then(|| other.clone())
    };
    let allowed: Vec<String> = facts.claims.iter().filter_map(counts).collect();
    if allowed.iter().any(|a| a == condition) {
        return Ok(());
    }
    if teacher_level(condition).is_some() {
        let detail = "there is no [teacher] that could reach anything";
        return if facts.teacher { Ok(()) } else { Err(format!("given = {condition:?}: {detail}")) };
    }
    let mut text = format!(
        "given = {condition:?} is no condition: name another claim that counts seeds (reaches, three-phases, \
         ngram-peak-in-drop), or teacher-reaches-99"
    );
    if !allowed.is_empty() {
        text += &format!("; this spec has {}", allowed.join(", "));
    }
    Err(text)
}

/// In which seeds a condition holds; a seed that is not listed has no result. `at` is the value of the sweep, where
/// it changes the teacher.
pub(super) fn holds(condition: &str, at: Option<f64>, evidence: &Evidence<'_>) -> BTreeMap<u64, bool> {
    if let Some(claim) = evidence.claims.get(condition) {
        return match claim.kind().finding(evidence) {
            Finding::Share { seeds, .. } => seeds.into_iter().collect(),
            Finding::Median { .. } => BTreeMap::new(),
        };
    }
    let Some(level) = teacher_level(condition) else { return BTreeMap::new() };
    let reached = |r: &crate::run::gather::RunRecord| (r.seed, r.first_reaching(level).is_some());
    evidence.runs_of(TEACHER, at).into_iter().map(reached).collect()
}
