//! `[correlations]`: the teacher's probability of class 1 with monomials, at each of its checkpoints.

use super::{Measure, MeasureContext, MeasureError, Measured, Measurement, Setting, Shown, Subject};
use crate::train::checkpointing::in_transition;
use curricle_core::keys::{KeyError, Section};
use curricle_probe::transition::Timeline;
use curricle_probe::{Evaluation, KnownSupport, Monomials, Request, Sampling, Statistic, timeline_of};
use curricle_report::data::{self, ReportData};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Degrees of monomials that are measured at most.
const MOST_DEGREE: usize = 5;

/// The section's keys.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// Samples per checkpoint.
    samples: usize,
    /// Degrees.
    degrees: Vec<usize>,
    /// Random off-support subsets per degree.
    #[serde(default = "default_random")]
    random: usize,
    /// At most this many checkpoints, thinned outside the transition first.
    #[serde(default = "default_most")]
    most_checkpoints: usize,
}

fn default_random() -> usize {
    100
}
fn default_most() -> usize {
    200
}

/// The file: what was asked and what was found.
#[derive(Serialize, Deserialize)]
struct Kept {
    samples: usize,
    degrees: Vec<usize>,
    random: usize,
    steps: Vec<u64>,
    timeline: Timeline,
}

/// The kind.
#[derive(Debug)]
pub struct CorrelationMeasurement;

impl Measurement for CorrelationMeasurement {
    fn key(&self) -> &'static str {
        "correlations"
    }

    fn resolve(&self, section: Section<'_>, setting: &Setting<'_>) -> Result<Arc<dyn Measure>, KeyError> {
        let keys: Keys = section.read()?;
        let Some(all) = setting.task.boolean(setting.seed).map(|b| b.relevant().len()) else {
            return Err(section.fail_here("monomials exist where sign vectors are labelled"));
        };
        section.require_here(setting.teacher, "there is no [teacher] to measure")?;
        let most = MOST_DEGREE.min(all);
        section.require(
            keys.degrees.iter().all(|d| (1..=most).contains(d)),
            "degrees",
            format!("must be from 1 to {most}"),
        )?;
        section.require(
            (100..=1_000_000_000).contains(&keys.samples),
            "samples",
            "must be from 100 to 1000000000",
        )?;
        Ok(Arc::new(Correlations { keys }))
    }
}

/// The step that the correlations kept in a teacher's folder recommend.
pub fn kept_recommendation(folder: &Path) -> Option<u64> {
    let bytes = std::fs::read(folder.join("correlations.json")).ok()?;
    let kept: Kept = serde_json::from_slice(&bytes).ok()?;
    Some(kept.timeline.recommended?.step)
}

/// The measurement with its settings.
#[derive(Debug)]
struct Correlations {
    keys: Keys,
}

impl Measure for Correlations {
    fn subject(&self) -> Subject {
        Subject::TeacherCheckpoints
    }

    fn keys(&self) -> toml::Table {
        toml::Table::try_from(&self.keys).expect("plain data")
    }

    fn measure(&self, context: &MeasureContext<'_>) -> Result<Option<Value>, MeasureError> {
        let timeline = self.timeline(context)?;
        Ok(timeline.map(|t| serde_json::to_value(t).expect("a timeline is plain data")))
    }

    fn recommended(&self, value: &Value) -> Option<u64> {
        Some(read(value)?.recommended?.step)
    }

    fn quantities(&self) -> Vec<String> {
        let of_degree = |d: &usize| [format!("contrast-{d}"), format!("final-over-peak-{d}")];
        self.keys.degrees.iter().flat_map(of_degree).collect()
    }

    fn evidence(&self, value: &Value, quantity: &str) -> Option<f64> {
        let (name, degree) = quantity.rsplit_once('-')?;
        let (timeline, degree) = (read(value)?, degree.parse().ok()?);
        match name {
            "contrast" => contrast(&timeline, degree),
            "final-over-peak" => final_over_peak(&timeline, degree),
            _ => None,
        }
    }

    fn report(&self, found: &[Measured], shown: &Shown<'_>, report: &mut ReportData) {
        let timelines = found.iter().filter_map(|m| Some(shown_timeline(m.seed, &read(&m.value)?, shown)));
        report.timelines.extend(timelines);
    }
}

fn read(value: &Value) -> Option<Timeline> {
    Timeline::deserialize(value).ok()
}

impl Correlations {
    fn timeline(&self, context: &MeasureContext<'_>) -> Result<Option<Timeline>, MeasureError> {
        let other = |e: curricle_probe::ProbeError| MeasureError::Other(e.into());
        let keys = &self.keys;
        let metrics = context.metrics()?;
        let accuracy = |step: u64| metrics.iter().find(|m| m.step == step).map(|m| m.accuracy);
        let chance = context.task.chance();
        let inside = |step: u64| accuracy(step).is_some_and(|a| in_transition(a, chance));
        let checkpoints = thin(context.checkpoints()?, keys.most_checkpoints, inside);
        let steps: Vec<u64> = checkpoints.iter().map(|(step, _)| *step).collect();
        let asked = |k: &Kept| {
            (k.samples, &k.degrees, k.random, &k.steps) == (keys.samples, &keys.degrees, keys.random, &steps)
        };
        if let Some(kept) = context.kept().filter(asked) {
            return Ok(Some(kept.timeline));
        }
        let task = context.task.boolean(context.seed);
        let task = task.expect("the section was checked: sign vectors are labelled");
        let support = KnownSupport::of_task(&*task).map_err(other)?;
        let monomials = Monomials::select(task.d(), Some(&support), &keys.degrees, keys.random, context.seed)
            .map_err(other)?;
        let request = Request {
            statistic: Statistic::Probability,
            class: 1,
            sampling: Sampling::Random { samples: keys.samples as u64, seed: context.seed },
        };
        let evaluations: Vec<Evaluation> = metrics
            .iter()
            .map(|m| Evaluation { step: m.step, samples: Some(m.samples), accuracy: m.accuracy })
            .collect();
        let mut failed = None;
        let mut ended = false;
        let loaded = checkpoints.into_iter().map_while(|(step, path)| {
            ended = context.cancelled();
            if ended {
                return None;
            }
            let model = context.open(&path, task.d()).map_err(|e| failed = Some(e)).ok()?;
            Some((step, path.display().to_string(), model))
        });
        let timeline =
            timeline_of(loaded, &monomials, Some(&*task), &request, &evaluations).map_err(other)?;
        if let Some(error) = failed {
            return Err(error);
        }
        if ended {
            return Ok(None);
        }
        let kept = Kept {
            samples: keys.samples,
            degrees: keys.degrees.clone(),
            random: keys.random,
            steps,
            timeline: timeline.clone(),
        };
        context.keep(&kept)?;
        Ok(Some(timeline))
    }
}

/// At most `most` checkpoints: all inside the transition first, the others evenly thinned.
fn thin(all: Vec<(u64, PathBuf)>, most: usize, inside: impl Fn(u64) -> bool) -> Vec<(u64, PathBuf)> {
    if all.len() <= most {
        return all;
    }
    let (inner, outer): (Vec<_>, Vec<_>) = all.into_iter().partition(|(step, _)| inside(*step));
    let evenly = |list: Vec<(u64, PathBuf)>, most: usize| -> Vec<(u64, PathBuf)> {
        let n = list.len();
        let keep: BTreeSet<usize> = (0..most.min(n))
            .map(|i| if most == 1 { n - 1 } else { i * (n - 1) / (most.min(n) - 1).max(1) })
            .collect();
        list.into_iter().enumerate().filter(|(i, _)| keep.contains(i)).map(|(_, c)| c).collect()
    };
    let inner = evenly(inner, most.saturating_sub(2).max(1));
    let outer = evenly(outer, most.saturating_sub(inner.len()));
    let mut chosen = [inner, outer].concat();
    chosen.sort();
    chosen
}

/// In- and off-support mean |correlation| of one degree at the checkpoints inside the transition.
fn inside(timeline: &Timeline, degree: usize) -> Option<Vec<(f64, f64)>> {
    let transition = timeline.transition.as_ref()?;
    let start = transition.start.map_or(0, |e| e.step);
    let end = transition.end.map_or(u64::MAX, |e| e.step);
    let points = timeline.points.iter().filter(|p| (start..=end).contains(&p.step));
    let summaries = points.filter_map(|p| p.degrees.iter().find(|d| d.degree == degree));
    Some(summaries.filter_map(|d| Some((d.in_support_mean_abs?, d.off_support_mean_abs?))).collect())
}

/// Largest ratio of in- to off-support mean |correlation| over the checkpoints inside the transition.
fn contrast(timeline: &Timeline, degree: usize) -> Option<f64> {
    inside(timeline, degree)?.into_iter().map(|(inside, outside)| inside / outside).reduce(f64::max)
}

/// In-support mean |correlation| of the last checkpoint over its largest value inside the transition. (An
/// untrained network correlates with everything a little, so the largest value of all may be the first one.)
fn final_over_peak(timeline: &Timeline, degree: usize) -> Option<f64> {
    let peak = inside(timeline, degree)?.into_iter().map(|(inside, _)| inside).reduce(f64::max)?;
    let last = timeline.points.last()?.degrees.iter().find(|d| d.degree == degree)?;
    Some(last.in_support_mean_abs? / peak)
}

/// The timeline as the report draws it.
fn shown_timeline(seed: u64, timeline: &Timeline, shown: &Shown<'_>) -> data::Timeline {
    let batch = shown.teacher_batch;
    let none = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let points = timeline.points.iter().map(|p| data::TimelinePoint {
        step: p.step,
        samples: p.step * batch,
        accuracy: none(p.accuracy),
        degrees: p
            .degrees
            .iter()
            .map(|d| data::DegreeCorrelation {
                degree: d.degree as u32,
                in_support_mean_abs: none(d.in_support_mean_abs),
                in_support_max_abs: none(d.in_support_max_abs),
                off_support_mean_abs: none(d.off_support_mean_abs),
                off_support_max_abs: none(d.off_support_max_abs),
                noise_floor: d.noise_floor,
            })
            .collect(),
    });
    let last = timeline.points.last().map_or(0, |p| p.step);
    // Students that follow one or two intermediate checkpoints name them; a long progression is not a list of marks.
    let mut used: Vec<data::UsedCheckpoint> = Vec::new();
    for student in shown.used.iter().filter(|u| u.seed == seed && u.steps.len() <= 3) {
        let named = shown.students.iter().find(|(name, _)| *name == student.run);
        let label = named.map_or(&student.run, |(_, label)| label);
        for step in student.steps.iter().filter(|s| **s != last) {
            let mark = data::UsedCheckpoint { label: label.clone(), samples: step * batch };
            if !used.contains(&mark) {
                used.push(mark);
            }
        }
    }
    data::Timeline {
        seed,
        points: points.collect(),
        transition: timeline.transition.as_ref().map(|t| data::Transition {
            start_samples: t.start.map_or(0, |e| e.step) * batch,
            end_samples: t.end.map_or(last, |e| e.step) * batch,
        }),
        recommended: timeline
            .recommended
            .as_ref()
            .map(|r| data::Recommended { samples: r.step * batch, reason: r.reason.clone() }),
        used,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_transition_of_any_number_of_classes() {
        let all: Vec<_> = (0..100).map(|step| (step, PathBuf::from(step.to_string()))).collect();
        // Eight classes: an accuracy of 0.2 is inside their transition, and was taken for chance.
        let accuracy = |step: u64| if (40..60).contains(&step) { 0.2 } else { 0.13 };
        let chosen = thin(all, 30, |step| in_transition(accuracy(step), 0.125));
        let steps: Vec<u64> = chosen.iter().map(|(step, _)| *step).collect();
        assert!((40..60).all(|step| steps.contains(&step)), "{steps:?}");
        assert_eq!((steps.len(), steps[0], steps[29]), (30, 0, 99));
    }
}
