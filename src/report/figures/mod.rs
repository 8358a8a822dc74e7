//! The standard figures, from a report's data.

mod accuracy;
mod correlation;
mod samples;
mod sweep;

pub use accuracy::accuracy;
pub use correlation::{contrast_sentence, correlation};
pub(super) use samples::reaches;
pub use samples::samples_to;
pub(super) use sweep::{cell_reaches, sweep_arms, sweep_title};
pub use sweep::{sweep, sweep_caption};

use super::curves::median_curve;
use super::data::{Arm, ArmKind, ReportData, RunCurve};
use super::plot::{Color, Dash, Figure, Shape, arm_color, arm_shape, sequential};

/// How an arm looks in every figure of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArmStyle {
    /// Ink for teachers, else the palette's colour of the student's rank.
    pub color: Color,
    /// Dashed for teachers.
    pub dash: Dash,
    /// Symbol.
    pub shape: Shape,
}

/// More students than this are too many for colours of their own.
const DISTINCT: usize = 8;

/// A student's name without the value of the study it belongs to, and that value.
fn family(arm: &Arm) -> (&str, Option<f64>) {
    let name =
        arm.label.strip_suffix(&arm.group).and_then(|rest| rest.strip_suffix(", ")).unwrap_or(&arm.label);
    let last = if arm.group.is_empty() { &arm.label } else { &arm.group }.rsplit(' ').next();
    (name, last.and_then(|word| word.parse().ok()).filter(|v: &f64| v.is_finite()))
}

/// Where a value lies among the different ones, from 0 to 1; for one value in the middle.
fn part_of(value: f64, values: &[f64]) -> f64 {
    let below = values.iter().filter(|v| **v < value).count();
    if values.len() < 2 { 0.5 } else { below as f64 / (values.len() - 1) as f64 }
}

/// Styles of a report's arms, in order. More than eight students along a numeric axis are coloured by their place on it.
pub fn arm_styles(data: &ReportData) -> Vec<ArmStyle> {
    let students: Vec<&Arm> = data.arms.iter().filter(|arm| arm.kind == ArmKind::Student).collect();
    let mut values: Vec<f64> = students.iter().filter_map(|arm| family(arm).1).collect();
    let along_axis = students.len() > DISTINCT && values.len() == students.len();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let families = families(data);
    let student = |rank: usize, arm: &Arm| {
        let (name, value) = family(arm);
        let part = value.map_or(0.5, |v| part_of(v, &values));
        let own = families.iter().position(|f| *f == name).unwrap_or(0);
        let (color, shape) = match (along_axis, families.len()) {
            (false, _) => (arm_color(rank), arm_shape(rank)),
            (true, 1) => (sequential(part), arm_shape(rank)),
            (true, _) => (arm_color(own).shaded(part), arm_shape(own)),
        };
        ArmStyle { color, dash: Dash::Solid, shape }
    };
    let teacher = |rank: usize| {
        let color = if rank < 2 { Color::INK } else { Color::REFERENCE };
        let dash = if rank == 1 { Dash::Dotted } else { Dash::Dashed };
        ArmStyle { color, dash, shape: Shape::Cross }
    };
    let mut ranks = [0, 0];
    let mut next = |arm: &Arm| {
        let rank = &mut ranks[usize::from(arm.kind == ArmKind::Student)];
        *rank += 1;
        match arm.kind {
            ArmKind::Teacher => teacher(*rank - 1),
            ArmKind::Student => student(*rank - 1, arm),
        }
    };
    data.arms.iter().map(&mut next).collect()
}

/// The different names of students without the values of a study, in order.
fn families(data: &ReportData) -> Vec<&str> {
    let mut names = Vec::new();
    for arm in data.arms.iter().filter(|arm| arm.kind == ArmKind::Student) {
        let (name, _) = family(arm);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A text of the experiment's with arms by their labels in place of their names in files.
pub(super) fn with_labels(data: &ReportData, text: &str) -> String {
    let word = |word: &str| -> String {
        let name = word.trim_matches(|c: char| ",;:.()".contains(c));
        let named = data.arms.iter().find(|arm| !name.is_empty() && arm.name.split('+').next() == Some(name));
        named.map_or_else(
            || word.to_owned(),
            |arm| word.replace(name, &format!("\u{201c}{}\u{201d}", family(arm).0)),
        )
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// For every arm the label of the first one before it that has the same accuracy at every evaluation of every seed: one
/// curve would hide the other.
pub(super) fn identical(data: &ReportData) -> Vec<Option<&str>> {
    let curve = |run: &RunCurve| -> Vec<(u64, u64)> {
        run.points.iter().map(|p| (p.samples, p.accuracy.to_bits())).collect()
    };
    let curves: Vec<Vec<_>> =
        data.arms.iter().map(|arm| arm.runs.iter().map(|run| (run.seed, curve(run))).collect()).collect();
    let drawn = |i: usize| curves[i].iter().any(|(_, points)| !points.is_empty());
    let first = |i: usize| (0..i).find(|&j| drawn(j) && curves[i] == curves[j]);
    (0..curves.len()).map(|i| first(i).map(|j| data.arms[j].label.as_str())).collect()
}

/// Where a curve carries its own name: more lines than a legend can tell apart are named one by one, at heights that
/// rise from line to line so that the names do not overlap.
pub(super) struct LineName {
    pub(super) arm: usize,
    pub(super) at: [f64; 2],
    pub(super) text: String,
}

/// Names at the median curves of more than eight students; none for fewer.
pub(super) fn line_names(data: &ReportData) -> Vec<LineName> {
    let students = || data.arms.iter().enumerate().filter(|(_, arm)| arm.kind == ArmKind::Student);
    let n = students().count();
    if n <= DISTINCT {
        return Vec::new();
    }
    let chance = if data.chance.is_finite() { data.chance } else { 0.0 };
    let name = |(rank, (arm, own)): (usize, (usize, &Arm))| {
        let curve = median_curve(own);
        let height = chance + (1.0 - chance) * (0.12 + 0.8 * rank as f64 / n as f64);
        let at = *curve.iter().find(|p| p[1] >= height).or(curve.last())?;
        let text = family(own).1.map_or_else(|| own.label.clone(), super::format::plain);
        Some(LineName { arm, at, text })
    };
    students().enumerate().filter_map(name).collect()
}

/// More than this many correlation figures are not written; the page still shows every seed.
const MAX_TIMELINES: usize = 12;

/// Every figure a report has data for, with the stem of its file name.
pub fn all(data: &ReportData) -> Vec<(String, Figure)> {
    let mut figures = Vec::new();
    if data.arms.iter().any(|arm| arm.runs.iter().any(|run| !run.points.is_empty())) {
        figures.push(("accuracy".to_owned(), accuracy(data, false)));
        figures.push(("accuracy-log".to_owned(), accuracy(data, true)));
    }
    for timeline in data.timelines.iter().filter(|t| !t.points.is_empty()).take(MAX_TIMELINES) {
        figures.push((format!("correlation-seed-{}", timeline.seed), correlation(data, timeline)));
    }
    if data
        .arms
        .iter()
        .any(|arm| arm.runs.iter().any(|run| run.samples_to.contains_key(&data.headline_level)))
    {
        figures.push((format!("samples-to-{}", level_stem(&data.headline_level)), samples_to(data)));
    }
    for table in data.sweeps.iter().filter(|t| !t.values.is_empty()) {
        figures.push((format!("sweep-{}", stem(&table.axis)), sweep(data, table)));
    }
    for section in &data.sections {
        for (i, figure) in section.figures.iter().enumerate() {
            let number = if section.figures.len() > 1 { format!("-{}", i + 1) } else { String::new() };
            figures.push((format!("{}{number}", stem(&section.title)), figure.clone()));
        }
    }
    make_unique(&mut figures);
    figures
}

/// "0.99" as "99", for a file name.
fn level_stem(level: &str) -> String {
    match level.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => super::format::significant(share * 100.0, 5),
        _ => stem(level),
    }
}

/// "0.99" as "99%", for people.
pub(super) fn level_text(level: &str) -> String {
    match level.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => {
            format!("{}%", super::format::significant(share * 100.0, 5))
        }
        _ => level.to_owned(),
    }
}

/// A file name without anything a file system or a shell could trip over.
fn stem(text: &str) -> String {
    let dashed: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let words: Vec<&str> = dashed.split('-').filter(|w| !w.is_empty()).collect();
    let name: String = words.join("-").chars().take(60).collect();
    if name.is_empty() { "figure".to_owned() } else { name }
}

fn make_unique(figures: &mut [(String, Figure)]) {
    for i in 1..figures.len() {
        let (before, rest) = figures.split_at_mut(i);
        let name = &mut rest[0].0;
        let plain = name.clone();
        let mut number = 2;
        while before.iter().any(|(n, _)| n == name) {
            *name = format!("{plain}-{number}");
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn student(label: &str, group: &str, accuracies: &[f64]) -> Arm {
        let point = |(i, &accuracy): (usize, &f64)| crate::data::CurvePoint {
            samples: 10 * i as u64,
            step: i as u64,
            accuracy,
            loss: 0.1,
            teacher_step: None,
        };
        let points = accuracies.iter().enumerate().map(point).collect();
        let samples_to = Default::default();
        let run = RunCurve {
            seed: 1,
            points,
            samples_to,
            final_accuracy: 1.0,
            steps: 1,
            samples: 1,
            wall_seconds: 1.0,
        };
        let (kind, settings) = (ArmKind::Student, String::new());
        Arm { name: label.into(), label: label.into(), kind, group: group.into(), settings, runs: vec![run] }
    }

    #[test]
    fn many_students_along_an_axis_are_coloured_and_named_by_their_value() {
        let mut data = ReportData::new("x", "quick");
        let rising = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
        for value in [1, 2, 4, 8, 16] {
            for name in ["labels", "middle"] {
                let group = format!("width {value}");
                data.arms.push(student(&format!("{name}, {group}"), &group, &rising));
            }
        }
        let styles = arm_styles(&data);
        assert_eq!(families(&data), ["labels", "middle"]);
        assert_eq!(styles[4].color, arm_color(0), "the middle value has the arm's own colour");
        assert!(styles.iter().enumerate().all(|(i, s)| styles[..i].iter().all(|t| t.color != s.color)));
        assert_eq!(line_names(&data)[3].text, "2");
        data.arms.retain(|arm| arm.label.starts_with("labels"));
        assert!(line_names(&data).is_empty());
        assert_eq!(arm_styles(&data)[1].color, arm_color(1), "five have colours of their own");
        let more = (10..15).map(|v| student(&format!("labels, width {v}"), &format!("width {v}"), &rising));
        data.arms.extend(more);
        assert_eq!(arm_styles(&data)[9].color, sequential(8.0 / 9.0), "14 is the second largest");
        assert_eq!(line_names(&data)[0].text, "1");
    }

    #[test]
    fn texts_name_arms_as_the_charts_do() {
        let mut data = ReportData::new("x", "quick");
        data.arms = vec![student("CE (labels), width 5", "width 5", &[0.5])];
        data.arms[0].name = "ce+width-5".into();
        assert_eq!(
            with_labels(&data, "samples of two / ce, at 5 (ce)"),
            "samples of two / “CE (labels)”, at 5 (“CE (labels)”)"
        );
    }

    #[test]
    fn curves_that_coincide_are_found() {
        let mut data = ReportData::new("x", "quick");
        data.arms =
            vec![student("a", "", &[0.5, 1.0]), student("b", "", &[0.5, 0.9]), student("c", "", &[0.5, 1.0])];
        assert_eq!(identical(&data), [None, None, Some("a")]);
        data.arms.iter_mut().for_each(|arm| arm.runs[0].points.clear());
        assert_eq!(identical(&data), [None; 3]);
    }

    #[test]
    fn file_names_are_harmless_and_unique() {
        assert_eq!(stem("../../etc/Passwd  tau=1e-4"), "etc-passwd-tau-1e-4");
        assert_eq!(stem("τ"), "figure");
        assert_eq!(level_stem("0.99"), "99");
        assert_eq!(level_stem("0.995"), "99.5");
        let figure = || Figure::new("x");
        let mut all =
            vec![("a".to_owned(), figure()), ("a".to_owned(), figure()), ("a".to_owned(), figure())];
        make_unique(&mut all);
        assert_eq!(all.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["a", "a-2", "a-3"]);
    }
}
