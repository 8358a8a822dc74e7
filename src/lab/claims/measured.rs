//! `measured`: a number of any measurement, a user's own included.

use super::words::with;
use super::{Bound, ClaimKind, Evidence, Facts, Finding};
use crate::measure::Subject;
use crate::run::gather::TEACHER;
use curricle_core::math::order::Known;
use serde::{Deserialize, Serialize};

/// Median over seeds of a number of a measurement is at most, or at least, a bound.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredClaim {
    /// Key of the measurement.
    pub of: String,
    /// Which of its numbers.
    pub quantity: String,
    /// Whose number, where final models are measured; default: the teacher's.
    pub arm: Option<String>,
    /// Value of the sweep axis.
    pub at: Option<f64>,
    /// Bound from above, or
    pub at_most: Option<f64>,
    /// from below.
    pub at_least: Option<f64>,
    /// Only seeds in which this holds.
    pub given: Option<String>,
}

impl MeasuredClaim {
    fn arm(&self) -> &str {
        self.arm.as_deref().unwrap_or(TEACHER)
    }

    /// The check lets exactly one through.
    fn bound(&self) -> Bound {
        match (self.at_most, self.at_least) {
            (Some(bound), _) => Bound::AtMost(bound),
            (None, bound) => Bound::AtLeast(bound.unwrap_or(f64::NEG_INFINITY)),
        }
    }
}

impl ClaimKind for MeasuredClaim {
    fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }

    fn at(&self) -> Option<f64> {
        self.at
    }

    fn check(&self, facts: &Facts<'_>) -> Result<(), String> {
        if self.at_most.is_some() == self.at_least.is_some() {
            return Err("give at_most or at_least, one of them".to_owned());
        }
        let Some(measure) = facts.measures.get(&self.of) else {
            let known: Vec<&str> = facts.measures.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            return Err(format!("of = {:?} is not measured: this spec measures {known}", self.of));
        };
        let quantities = measure.quantities();
        let none = format!(
            "{} has no quantity {:?}: it has {}",
            self.of,
            self.quantity,
            if quantities.is_empty() {
                "none that claims can be about".to_owned()
            } else {
                quantities.join(", ")
            }
        );
        facts.require_quantity(&self.of, &self.quantity, none)?;
        facts.require_arm(self.arm(), self.at)?;
        if measure.subject() == Subject::TeacherCheckpoints && self.arm() != TEACHER {
            return Err(format!("{} measures the teacher only: leave arm out", self.of));
        }
        Ok(())
    }

    fn statement(&self) -> String {
        let bound = match self.bound() {
            Bound::AtMost(bound) => format!("at most {bound}"),
            Bound::AtLeast(bound) => format!("at least {bound}"),
        };
        let (arm, with) = (self.arm(), with(self.at));
        format!("median over seeds of {} of {} of {arm}{with} is {bound}", self.quantity, self.of)
    }

    fn finding(&self, evidence: &Evidence<'_>) -> Finding {
        let seeds = evidence.quantity(&self.of, &self.quantity, self.arm(), self.at);
        let seeds = seeds.into_iter().map(|(seed, value)| (seed, Known::exactly(value))).collect();
        Finding::Median { seeds, bound: self.bound() }
    }
}
