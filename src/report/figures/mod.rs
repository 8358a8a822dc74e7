//! The standard figures, from a report's data.

mod accuracy;
mod correlation;
mod samples;
mod sweep;

pub use accuracy::accuracy;
pub use correlation::{contrast_sentence, correlation};
pub(super) use samples::reaches;
pub use samples::samples_to;
pub(super) use sweep::{cell_reaches, sweep_arms};
pub use sweep::{sweep, sweep_caption};

use super::data::{ArmKind, ReportData};
use super::plot::{Color, Dash, Figure, Shape, arm_color, arm_shape};

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

/// Styles of a report's arms, in order.
pub fn arm_styles(data: &ReportData) -> Vec<ArmStyle> {
    let (mut teachers, mut students) = (0, 0);
    let mut next = |kind| match kind {
        ArmKind::Teacher => {
            teachers += 1;
            let (color, dash) = match teachers {
                1 => (Color::INK, Dash::Dashed),
                2 => (Color::INK, Dash::Dotted),
                _ => (Color::REFERENCE, Dash::Dashed),
            };
            ArmStyle { color, dash, shape: Shape::Cross }
        }
        ArmKind::Student => {
            students += 1;
            ArmStyle { color: arm_color(students - 1), dash: Dash::Solid, shape: arm_shape(students - 1) }
        }
    };
    data.arms.iter().map(|arm| next(arm.kind)).collect()
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
