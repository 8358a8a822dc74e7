//! Bounds for people, spreadsheets and plots.

use super::bounds::{Answer, Printed};
use super::rank_report::figure_files;
use super::session::make_parent;
use super::{count, count_or_dash, usage};
use anyhow::{Context, Result};
use curricle_report::plot::{Axis, Color, Figure, Mark, Panel, Series};
use curricle_theory::bounds::{Bound, Kind, LARGEST_CROSSOVER};
use std::path::Path;

/// The tables as text: in full for one combination, a row per line for several.
pub(super) fn text(answers: &[Answer]) -> String {
    match answers {
        [one] => full(one),
        several => several.iter().map(short).collect::<Vec<_>>().join("\n"),
    }
}

fn sizes(a: &Answer) -> String {
    format!(
        "d = {}, k = {}, student width {}, teacher width {}, delta = {}, epsilon = {}",
        a.d, a.k, a.width, a.teacher_width, a.delta, a.epsilon
    )
}

fn short(a: &Answer) -> String {
    let mut out = sizes(a) + "\n";
    for Printed { bound, .. } in &a.bounds {
        out += &format!("    {:30} {:10} {:>11}\n", bound.name, bound.kind.word(), count(bound.samples));
    }
    for missing in &a.unavailable {
        out += &format!("    {:30} {:10} {:>11}  {}\n", missing.name, "", "-", missing.reason);
    }
    out
}

fn full(answer: &Answer) -> String {
    let mut out = sizes(answer) + "\n\n";
    for Printed { bound, .. } in &answer.bounds {
        out += &format!("{:30} {:10} {:>11}\n", bound.name, bound.kind.word(), count(bound.samples));
        out += &format!("    {}\n    {}\n", bound.statement, ingredients(bound));
    }
    for missing in &answer.unavailable {
        out += &format!("{:30} {:10} {:>11}\n    {}\n", missing.name, "", "-", missing.reason);
    }
    if let Some(teachers) = &answer.teachers {
        let (share, rest) = (100.0 * teachers.works, 100.0 * (1.0 - teachers.works));
        out += &format!(
            "\n{share:.0}% of the phase-one teachers work at some batch{}\n",
            if teachers.enough {
                ", more than 1 - delta".to_owned()
            } else {
                format!(
                    "; {rest:.0}% fail at any, more than delta: from one such teacher no number of samples is enough with probability 1 - delta"
                )
            }
        );
    }
    let from =
        |d: Option<usize>, never: &str| d.map_or_else(|| never.to_owned(), |d| format!("from d = {d} on"));
    out += &format!(
        "\nProgressive is cheaper {} (headline orders, unit constants); its first phase {} (typical teacher against labels, odd d)\n",
        match &answer.crossover.note {
            Some(note) => format!("somewhere: {note}"),
            None => from(answer.crossover.headline, "never"),
        },
        from(answer.crossover.explicit, &format!("not up to d = {LARGEST_CROSSOVER}"))
    );
    for c in &answer.checkpoints {
        let samples = |b: &Option<Bound>| count_or_dash(b.as_ref().map(|b| b.samples));
        out += &format!(
            "\n{} (step {}): enough {}, predicted {}, gap {:+.4} of the output's size{}\n",
            c.path,
            c.step.map_or_else(|| "?".to_owned(), |s| s.to_string()),
            samples(&c.bound),
            samples(&c.prediction),
            c.relative_gap,
            if c.resolved { "" } else { " (below four standard errors: raise --samples)" }
        );
        if let Some(bound) = &c.bound {
            out += &format!("    {}\n", ingredients(bound));
        }
    }
    out
}

/// Every formula, one per line.
pub(super) fn latex_text(answers: &[Answer]) -> String {
    let mut out = String::new();
    for a in answers {
        out += &format!("% {}\n", sizes(a));
        for line in a.bounds.iter().filter_map(|p| p.latex.as_ref()) {
            out += line;
            out.push('\n');
        }
        for missing in &a.unavailable {
            out += &format!("% {}: {}\n", missing.name, missing.reason);
        }
    }
    out
}

/// One row per combination and line; lines that cannot be had have no samples and a reason.
pub(super) fn write_csv(answers: &[Answer], path: &Path) -> Result<()> {
    make_parent(path)?;
    let mut csv = csv::Writer::from_path(path).with_context(|| format!("cannot write {}", path.display()))?;
    csv.write_record([
        "d",
        "k",
        "width",
        "teacher_width",
        "delta",
        "epsilon",
        "name",
        "kind",
        "samples",
        "reason",
    ])?;
    for a in answers {
        let sizes = [a.d, a.k, a.width, a.teacher_width].map(|v| v.to_string());
        let levels = [a.delta, a.epsilon].map(|v| v.to_string());
        let mut row = |name: &str, kind: &str, samples: String, reason: &str| {
            let line = [name, kind, &samples, reason];
            csv.write_record(sizes.iter().chain(&levels).map(String::as_str).chain(line))
        };
        for Printed { bound, .. } in &a.bounds {
            row(&bound.name, bound.kind.word(), format!("{:e}", bound.samples), "")?;
        }
        for missing in &a.unavailable {
            row(&missing.name, "", String::new(), &missing.reason)?;
        }
    }
    csv.flush().with_context(|| format!("cannot write {}", path.display()))
}

/// Lines against d, one panel per combination of the other sizes.
pub(super) fn draw(answers: &[Answer], path: &Path) -> Result<()> {
    let key = |a: &Answer| {
        format!(
            "k = {}, widths {} and {}, delta = {}, epsilon = {}",
            a.k, a.width, a.teacher_width, a.delta, a.epsilon
        )
    };
    let mut keys: Vec<String> = answers.iter().map(key).collect();
    keys.dedup();
    keys.sort();
    keys.dedup();
    if !answers.iter().any(|a| a.d != answers[0].d) {
        return Err(usage("--plot draws against d: give at least two dimensions, such as --ds 15..101:2"));
    }
    if keys.len() > 6 {
        return Err(usage(format!(
            "--plot: {} panels; sweep fewer of the other sizes (at most 6)",
            keys.len()
        )));
    }
    const COLORS: [Color; 8] = [
        Color::BLUE,
        Color::VERMILION,
        Color::GREEN,
        Color::PURPLE,
        Color::ORANGE,
        Color::SKY,
        Color::INK,
        Color::REFERENCE,
    ];
    let mut figure = Figure::new("Bounds against d");
    for wanted in &keys {
        let mut mine: Vec<&Answer> = answers.iter().filter(|a| key(a) == *wanted).collect();
        mine.sort_by_key(|a| a.d);
        let mut names: Vec<(String, Kind)> = Vec::new();
        for p in mine.iter().flat_map(|a| &a.bounds) {
            if !names.iter().any(|n| n.0 == p.bound.name) {
                names.push((p.bound.name.clone(), p.bound.kind));
            }
        }
        let mut panel =
            Panel::new(Axis::log("input dimension d"), Axis::log("samples")).title(wanted.clone());
        for (i, (name, kind)) in names.iter().enumerate() {
            let points: Vec<[f64; 2]> = mine
                .iter()
                .map(|a| {
                    let found = a.bounds.iter().find(|p| p.bound.name == *name);
                    [a.d as f64, found.map_or(f64::NAN, |p| p.bound.samples)]
                })
                .collect();
            let mark = if matches!(kind, Kind::Upper | Kind::OneDraw) {
                Mark::line(points)
            } else {
                Mark::dashed(points)
            };
            let label = format!("{} ({})", name.replace('_', " "), kind.word());
            panel = panel.with(Series::new(label, COLORS[i % COLORS.len()], mark));
        }
        figure = figure.panel(panel);
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_parent(path)?;
    let stem = path.file_stem().map_or_else(|| "bounds".into(), |s| s.to_string_lossy().into_owned());
    figure_files(&figure, folder, &stem)
}

fn ingredients(bound: &Bound) -> String {
    let number = |v: f64| match v {
        v if v == v.trunc() && v.abs() < 1e9 => format!("{v}"),
        v if (1e-3..1e6).contains(&v.abs()) => format!("{v:.4}"),
        v => format!("{v:.4e}"),
    };
    bound.ingredients.iter().map(|(n, v)| format!("{n} = {}", number(*v))).collect::<Vec<_>>().join(", ")
}
