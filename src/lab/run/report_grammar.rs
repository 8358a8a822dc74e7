//! Sections of the report about sentences of a grammar.

use super::experiment::Results;
use super::gather::{RunRecord, median};
use super::grammar::loss_phases;
use super::plan::{Plan, TEACHER};
use super::spec::ScheduleSpec;
use curricle_core::rng::{Purpose, Stream};
use curricle_core::task::pcfg::{PcfgTask, Sampler};
use curricle_probe::phases::Phases;
use curricle_report::data::Section;
use curricle_report::pcfg::{
    CheckpointMark, Choice, FirstCheckpoints, LevelCurve, LossCurve, LossData, NgramPoint, NgramTimeline,
    ReferenceArm, first_checkpoint, levels, loss, ngrams, section, tree_section,
};
use std::collections::BTreeMap;

/// Loss with its phases, n-gram robustness, final accuracy by first checkpoint, probes by level, a sentence with its tree. The
/// curves of one seed are those of the first.
pub fn sections(plan: &Plan, results: &Results) -> Vec<Section> {
    let Some(task) = PcfgTask::of(&*plan.task) else { return vec![] };
    let mut out = Vec::new();
    let Some(&seed) = plan.seeds.first() else { return out };
    let teacher = results.runs.iter().find(|r| r.is_teacher() && r.seed == seed);
    let phases = teacher.and_then(|t| loss_phases(&t.metrics));
    let optimum = results.optima.iter().find(|o| o.seed == seed);
    let marks = marks(plan, results, seed);
    if let Some(teacher) = teacher {
        let mut curves = vec![curve("teacher", teacher)];
        for student in &plan.students {
            if let Some(run) = results.runs.iter().find(|r| r.name == student.name && r.seed == seed) {
                curves.push(curve(&student.training.label, run));
            }
        }
        let figure = loss(&LossData {
            title: format!("Held-out loss, seed {seed}"),
            curves,
            phases,
            checkpoints: marks.clone(),
            optimum: optimum.map(|o| o.loss),
        });
        out.push(section("Loss and its phases", vec![], vec![figure]));
    }
    let figures: Vec<_> = results
        .ngrams
        .iter()
        .map(|timeline| {
            let teacher = results.runs.iter().find(|r| r.is_teacher() && r.seed == timeline.seed);
            ngrams(&NgramTimeline {
                title: format!("n-gram robustness of the teacher's checkpoints, seed {}", timeline.seed),
                points: timeline
                    .checkpoints
                    .iter()
                    .map(|c| NgramPoint { step: c.step as f64, summaries: c.ngrams.clone() })
                    .collect(),
                reference: timeline.reference.clone(),
                phases: teacher.and_then(|t| loss_phases(&t.metrics)),
                checkpoints: if timeline.seed == seed { marks.clone() } else { vec![] },
            })
        })
        .collect();
    if !figures.is_empty() {
        out.push(section("n-gram robustness", vec![], figures));
    }
    out.extend(choices(plan, results, phases.as_ref()));
    out.extend(probes(plan, results));
    let tree = Sampler::new(&task.grammar).tree(seed, Stream::new(Purpose::Probe, 0), 0);
    out.push(tree_section(&task.grammar, &tree));
    out
}

fn curve(label: &str, run: &RunRecord) -> LossCurve {
    let points = run.metrics.iter().filter_map(|m| Some([m.step as f64, m.evaluation_loss.or(m.loss)?]));
    LossCurve { label: label.to_owned(), points: points.collect() }
}

/// The first checkpoints of (2, T) students.
fn firsts(plan: &Plan, results: &Results, seed: u64) -> Vec<(String, u64)> {
    let two = plan.students.iter().filter(|s| {
        let schedule = s.distill.as_ref().map(|d| &d.schedule);
        matches!(schedule, Some(ScheduleSpec::NT { checkpoints, .. }) if checkpoints.len() == 2)
    });
    two.filter_map(|s| {
        let used = results.used.iter().find(|u| u.run == s.name && u.seed == seed)?;
        Some((s.arm.clone(), *used.steps.first()?))
    })
    .collect()
}

fn marks(plan: &Plan, results: &Results, seed: u64) -> Vec<CheckpointMark> {
    let mark = |(_, step): (String, u64)| CheckpointMark { step: step as f64, label: format!("{step}") };
    firsts(plan, results, seed).into_iter().map(mark).collect()
}

fn finals(results: &Results, arm: &str) -> Vec<f64> {
    results.runs.iter().filter(|r| r.arm == arm).filter_map(|r| r.final_accuracy).collect()
}

/// Final accuracy against the choice of the first checkpoint; none without at least two choices.
fn choices(plan: &Plan, results: &Results, phases: Option<&Phases>) -> Option<Section> {
    let firsts = firsts(plan, results, *plan.seeds.first()?);
    if firsts.len() < 2 || plan.axis.is_some() || plan.tuned {
        return None;
    }
    let choices = firsts
        .iter()
        .map(|(arm, step)| Choice {
            label: format!("{step}"),
            accuracies: finals(results, arm),
            in_drop: phases.is_some_and(|p| p.in_drop(*step as f64)),
        })
        .collect();
    let others = plan.students.iter().filter(|s| !firsts.iter().any(|(arm, _)| *arm == s.arm));
    let arms = others
        .map(|s| ReferenceArm { label: s.training.label.clone(), accuracies: finals(results, &s.arm) })
        .collect();
    let figure = first_checkpoint(&FirstCheckpoints {
        title: "Final accuracy by first checkpoint of (2, T)".into(),
        choices,
        arms,
        optimum: optimum_accuracy(results),
    });
    Some(section("Which first checkpoint", vec![], vec![figure]))
}

fn optimum_accuracy(results: &Results) -> Option<f64> {
    let all = results.optima.iter().map(|o| o.accuracy);
    (!results.optima.is_empty()).then(|| median(all))
}

fn probes(plan: &Plan, results: &Results) -> Option<Section> {
    let first = results.probed.first()?;
    let majority: Vec<(usize, f64)> = first.levels.iter().map(|l| (l.level, l.majority)).collect();
    let names = std::iter::once((TEACHER, "teacher"))
        .chain(plan.students.iter().map(|s| (s.name.as_str(), s.training.label.as_str())));
    let mut curves = Vec::new();
    for (name, label) in names {
        let mut by_level: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for probed in results.probed.iter().filter(|p| p.run == name) {
            for level in &probed.levels {
                by_level.entry(level.level).or_default().push(level.accuracy);
            }
        }
        if !by_level.is_empty() {
            curves.push(LevelCurve { label: label.to_owned(), levels: by_level.into_iter().collect() });
        }
    }
    let text = "A linear (ridge) probe of each token's last hidden state names its ancestor at each level of the tree.";
    let figure = levels("Non-terminals read off the last layer", &curves, &majority);
    Some(section("Non-terminals", vec![text.to_owned()], vec![figure]))
}
