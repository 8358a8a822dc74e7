//! Names for a teacher's checkpoints and for the time spent on them.

use super::history::{Moment, TeacherHistory, Unresolved};
use crate::keys::{KeyError, require};
use serde::{Deserialize, Serialize};

/// Steps and durations are below this, so that sums of them fit 64 bits.
pub const STEPS: u64 = 1 << 50;

/// Samples of one run are below this: they are counted in 64 bits.
pub const SAMPLES: u64 = 1 << 63;

/// A selected checkpoint may be this far from the accuracy asked for.
const ACCURACY_TOLERANCE: f64 = 0.15;

/// Names one checkpoint of a teacher.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "expected \"final\", \"recommended\", { step = 1000 }, { accuracy = 0.85 } or { teacher_99 = 0.5 }"
)]
pub enum Selector {
    /// final or recommended.
    Named(SelectorName),
    /// The one at or right after this step.
    Step(StepSelector),
    /// The one before the teacher's 99% whose evaluated accuracy is closest.
    Accuracy(AccuracySelector),
    /// The one closest to this multiple of the step at which the teacher reached 99%.
    Teacher99(Teacher99),
}

/// Named checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelectorName {
    /// The last one.
    Final,
    /// The one `curricle correlate` recommends.
    Recommended,
}

/// By step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StepSelector {
    /// Teacher step.
    pub step: u64,
}

/// By accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracySelector {
    /// Teacher accuracy.
    pub accuracy: f64,
}

/// Relative to the teacher's transition.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher99 {
    /// Multiple of the samples at which the teacher first reached 99%.
    pub teacher_99: f64,
}

/// How long a student follows a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected { steps = 1000 }, { samples = 32000 } or { teacher_99 = 0.5 }")]
pub enum Duration {
    /// Student steps.
    Steps(DurationSteps),
    /// Student samples.
    Samples(DurationSamples),
    /// A multiple of the samples at which the teacher first reached 99%.
    Teacher99(Teacher99),
}

/// In steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DurationSteps {
    /// Steps.
    pub steps: u64,
}

/// In samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DurationSamples {
    /// Samples.
    pub samples: u64,
}

impl Selector {
    /// The place of the checkpoint it means in a teacher's history.
    ///
    /// # Errors
    /// Why there is none.
    pub fn select(&self, teacher: &TeacherHistory) -> Result<usize, Unresolved> {
        let all = &teacher.checkpoints;
        let closest = |distance: &dyn Fn(&Moment) -> Option<f64>| {
            let known = all.iter().enumerate().filter_map(|(i, c)| Some((i, distance(c)?)));
            known.min_by(|a, b| a.1.total_cmp(&b.1))
        };
        let place = &teacher.place;
        let found = match self {
            Self::Named(SelectorName::Final) => {
                all.len().checked_sub(1).ok_or_else(|| format!("{place} has no checkpoints"))
            }
            Self::Named(SelectorName::Recommended) => match teacher.recommended {
                Some(step) => all
                    .iter()
                    .position(|c| c.step == Some(step))
                    .ok_or_else(|| format!("{place}: the recommended checkpoint of step {step} is gone")),
                None => Err(format!(
                    "no checkpoint of {place} is recommended: the spec needs [correlations], and the teacher a transition"
                )),
            },
            Self::Step(wanted) => all
                .iter()
                .position(|c| c.step.is_some_and(|s| s >= wanted.step))
                .ok_or_else(|| format!("{place} has no checkpoint at or after step {}", wanted.step)),
            Self::Accuracy(wanted) => {
                // After the transition accuracies near 1 come again and again; before it is what is meant.
                let end = teacher.samples_99.unwrap_or(u64::MAX);
                let found = closest(&|c| {
                    c.samples.filter(|s| *s <= end)?;
                    Some((c.accuracy? - wanted.accuracy).abs())
                });
                match found {
                    Some((index, off)) if off <= ACCURACY_TOLERANCE => Ok(index),
                    Some((index, _)) => Err(format!(
                        "no checkpoint of {place} has an accuracy within {ACCURACY_TOLERANCE} of {}: the closest has {:.3}; \
                         keep more of them (checkpoints.transition_every_steps)",
                        wanted.accuracy,
                        all[index].accuracy.unwrap_or(f64::NAN)
                    )),
                    None => Err(format!("the accuracies of the checkpoints of {place} are not known")),
                }
            }
            Self::Teacher99(wanted) => {
                let target = wanted.teacher_99 * teacher.samples_99()? as f64;
                let found = closest(&|c| Some((c.samples? as f64 - target).abs()));
                found
                    .map(|(i, _)| i)
                    .ok_or_else(|| format!("the steps of the checkpoints of {place} are not known"))
            }
        };
        found.map_err(Unresolved)
    }

    /// The places of several checkpoints.
    pub(super) fn select_all(list: &[Self], teacher: &TeacherHistory) -> Result<Vec<usize>, Unresolved> {
        list.iter().map(|s| s.select(teacher)).collect()
    }

    /// Refuses a list that names no checkpoint; `key` is that of the schedule.
    pub(super) fn check_all(list: &[Self], key: &str) -> Result<(), KeyError> {
        require(!list.is_empty(), key, "names no checkpoint")
    }
}

impl Duration {
    /// Student steps it stands for, at least 1, with `batch` samples each.
    ///
    /// # Errors
    /// If it is a multiple of the teacher's 99% and the teacher never got there.
    pub fn steps(&self, teacher: &TeacherHistory, batch: usize) -> Result<u64, Unresolved> {
        let samples = match self {
            Self::Steps(d) => d.steps.saturating_mul(batch as u64),
            Self::Samples(d) => d.samples,
            Self::Teacher99(d) => (d.teacher_99 * teacher.samples_99()? as f64).round() as u64,
        };
        Ok((samples as f64 / batch as f64).round().max(1.0) as u64)
    }

    /// Refuses durations that cannot be counted.
    ///
    /// # Errors
    /// With `key`, where it is written.
    pub fn check(&self, key: &str) -> Result<(), KeyError> {
        let good = match self {
            Self::Steps(d) => d.steps < STEPS,
            Self::Samples(d) => d.samples < SAMPLES,
            Self::Teacher99(d) => (0.0..=1e6).contains(&d.teacher_99),
        };
        require(good, key, "must be below 2^50 steps or 2^63 samples, or teacher_99 from 0 to 1000000")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::history::tests::teacher;

    #[test]
    fn selectors_choose_what_they_say() {
        let teacher = teacher();
        let select = |s: Selector| s.select(&teacher);
        assert_eq!(select(Selector::Named(SelectorName::Final)), Ok(7));
        assert_eq!(select(Selector::Named(SelectorName::Recommended)), Ok(3));
        assert_eq!(select(Selector::Step(StepSelector { step: 250 })), Ok(2));
        assert!(select(Selector::Step(StepSelector { step: 801 })).is_err());
        assert_eq!(select(Selector::Accuracy(AccuracySelector { accuracy: 0.85 })), Ok(3));
        // 0.995 after the transition is not meant.
        assert_eq!(select(Selector::Accuracy(AccuracySelector { accuracy: 0.996 })), Ok(5));
        assert_eq!(select(Selector::Teacher99(Teacher99 { teacher_99: 0.5 })), Ok(2));
    }

    #[test]
    fn a_teacher_without_checkpoints_has_none_to_select() {
        let teacher = TeacherHistory { place: "t".into(), ..TeacherHistory::default() };
        for selector in [
            Selector::Named(SelectorName::Final),
            Selector::Named(SelectorName::Recommended),
            Selector::Step(StepSelector { step: 0 }),
            Selector::Accuracy(AccuracySelector { accuracy: 0.5 }),
            Selector::Teacher99(Teacher99 { teacher_99: 0.5 }),
        ] {
            assert!(selector.select(&teacher).is_err(), "{selector:?}");
        }
    }
}
