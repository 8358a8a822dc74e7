//! Claims of a spec, judged on what an experiment recorded.
//!
//! A claim is about the seeds: about the median over them of some number, or about the share of them in which
//! something is found. Each kind has its keys, its check and what it reads off the [`Evidence`] ([`Finding`]); the
//! verdict is the same for all ([`verdict`]): PASS or FAIL only where the interval at the spec's `confidence` lies on
//! one side of the bound.
//!
//! To add a kind: a file here with its keys and a [`ClaimKind`], and a variant of [`ClaimSpec`] with its line in `kind`.

mod condition;
mod correlation_contrast;
mod correlation_vanishes;
mod evidence;
mod final_accuracy_gain;
mod finding;
mod measured;
mod ngram_peak_in_drop;
mod reaches;
mod samples_ratio;
mod stays_below;
mod three_phases;
pub mod verdict;
mod words;

pub use evidence::{Evidence, Facts};
pub use finding::{Bound, Finding};
pub use verdict::{Claim, Given};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// One claim. Arms are named as in the spec; under a sweep `at` picks the value of the axis; under tuning an arm
/// stands for its best rate.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ClaimSpec {
    /// One arm needs so many times the samples of another.
    SamplesRatio(samples_ratio::SamplesRatio),
    /// A share of seeds reaches a level.
    Reaches(reaches::Reaches),
    /// An arm never reaches a level.
    StaysBelow(stays_below::StaysBelow),
    /// One arm ends above another.
    FinalAccuracyGain(final_accuracy_gain::FinalAccuracyGain),
    /// The support stands out inside the transition.
    CorrelationContrast(correlation_contrast::CorrelationContrast),
    /// What stood out is gone at the end.
    CorrelationVanishes(correlation_vanishes::CorrelationVanishes),
    /// The loss has a plateau, a drop and slow improvement.
    ThreePhases(three_phases::ThreePhases),
    /// n-gram robustness peaks in the drop of the loss.
    NgramPeakInDrop(ngram_peak_in_drop::NgramPeakInDrop),
    /// A number of any measurement.
    Measured(measured::MeasuredClaim),
}

/// A kind of claim.
pub trait ClaimKind {
    /// The condition under which a seed counts, if the claim has one.
    fn given(&self) -> Option<&str>;

    /// The value of the sweep that it is about.
    fn at(&self) -> Option<f64>;

    /// Checks the keys against the rest of the spec.
    ///
    /// # Errors
    /// What is wrong and what is allowed.
    fn check(&self, facts: &Facts<'_>) -> Result<(), String>;

    /// The claim in words, its bound included.
    fn statement(&self) -> String;

    /// What the evidence says of each seed.
    fn finding(&self, evidence: &Evidence<'_>) -> Finding;

    /// Whether it counts seeds, so that other claims can be made on condition that it holds in a seed.
    fn counts_seeds(&self) -> bool {
        false
    }
}

impl ClaimSpec {
    /// Its kind.
    pub fn kind(&self) -> &dyn ClaimKind {
        match self {
            Self::SamplesRatio(claim) => claim,
            Self::Reaches(claim) => claim,
            Self::StaysBelow(claim) => claim,
            Self::FinalAccuracyGain(claim) => claim,
            Self::CorrelationContrast(claim) => claim,
            Self::CorrelationVanishes(claim) => claim,
            Self::ThreePhases(claim) => claim,
            Self::NgramPeakInDrop(claim) => claim,
            Self::Measured(claim) => claim,
        }
    }

    /// Checks the claim against the rest of the spec.
    ///
    /// # Errors
    /// What is wrong and what is allowed.
    pub fn check(&self, name: &str, facts: &Facts<'_>) -> Result<(), String> {
        self.kind().check(facts)?;
        self.kind().given().map_or(Ok(()), |condition| condition::check(name, condition, facts))
    }
}

/// Judges every claim of a spec, each by itself and all together.
pub fn judge(claims: &IndexMap<String, ClaimSpec>, evidence: &Evidence<'_>) -> Vec<Claim> {
    let mut judged: Vec<Claim> =
        claims.iter().map(|(name, claim)| verdict::judge(name, claim.kind(), evidence)).collect();
    verdict::adjust(&mut judged);
    judged
}

#[cfg(test)]
mod tests;
