//! Sections of the report about sentences of a grammar.

use super::experiment::Results;
use super::gather::RunRecord;
use super::plan::Plan;
use crate::measure::Shown;
use curricle_core::math::order::median;
use curricle_core::rng::{Purpose, Stream};
use curricle_core::schedule::{NT, ScheduleSpec};
use curricle_core::task::pcfg::{PcfgTask, Sampler};
use curricle_report::data::Section;
use curricle_report::pcfg::{
    CheckpointMark, Choice, FirstCheckpoints, LossCurve, LossData, ReferenceArm, first_checkpoint, loss,
    section, tree_section,
};

/// Loss of the first seed with its phases.
pub fn loss_section(plan: &Plan, results: &Results, shown: &Shown<'_>) -> Option<Section> {
    PcfgTask::of(&*plan.task)?;
    let seed = shown.seed?;
    let teacher = shown.teacher(seed)?;
    let mut curves = vec![curve("teacher", teacher)];
    for student in &plan.students {
        if let Some(run) = results.runs.iter().find(|r| r.name == student.name && r.seed == seed) {
            curves.push(curve(&student.training.label, run));
        }
    }
    let mark = |step: &u64| CheckpointMark { step: *step as f64, label: format!("{step}") };
    let figure = loss(&LossData {
        title: format!("Held-out loss, seed {seed}"),
        curves,
        phases: teacher.loss_phases(),
        checkpoints: shown.first_checkpoints.iter().map(mark).collect(),
        optimum: results.optima.iter().find(|o| o.seed == seed).map(|o| o.loss),
    });
    Some(section("Loss and its phases", vec![], vec![figure]))
}

/// A sentence of the first seed with its tree.
pub fn sentence(plan: &Plan) -> Option<Section> {
    let task = PcfgTask::of(&*plan.task)?;
    let tree = Sampler::new(&task.grammar).tree(*plan.seeds.first()?, Stream::new(Purpose::Probe, 0), 0);
    Some(tree_section(&task.grammar, &tree))
}

fn curve(label: &str, run: &RunRecord) -> LossCurve {
    let points = run.metrics.iter().filter_map(|m| Some([m.step as f64, m.evaluation_loss.or(m.loss)?]));
    LossCurve { label: label.to_owned(), points: points.collect() }
}

/// The first checkpoints of (2, T) students.
pub fn firsts(plan: &Plan, results: &Results, seed: u64) -> Vec<(String, u64)> {
    let two = plan.students.iter().filter(|s| {
        let schedule = s.distill.as_ref().map(|d| &d.schedule);
        matches!(schedule, Some(ScheduleSpec::NT(NT { checkpoints, .. })) if checkpoints.len() == 2)
    });
    two.filter_map(|s| {
        let used = results.used.iter().find(|u| u.run == s.name && u.seed == seed)?;
        Some((s.arm.clone(), *used.steps.first()?))
    })
    .collect()
}

fn finals(results: &Results, arm: &str) -> Vec<f64> {
    results.runs.iter().filter(|r| r.arm == arm).filter_map(|r| r.final_accuracy).collect()
}

/// Final accuracy against the choice of the first checkpoint; none without at least two choices.
pub fn choices(plan: &Plan, results: &Results) -> Option<Section> {
    PcfgTask::of(&*plan.task)?;
    let seed = *plan.seeds.first()?;
    let teacher = results.runs.iter().find(|r| r.is_teacher() && r.seed == seed);
    let phases = teacher.and_then(RunRecord::loss_phases);
    let firsts = firsts(plan, results, seed);
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
