//! A comparison for people: a table, and the report's data with its figures.

use super::compare::{Added, Answer, Sgd};
use super::{count, count_or_dash};
use curricle_lab::theory::sgd::SgdLine;
use curricle_report::data::{ReportData, Section, Table};
use curricle_report::plot::{
    Axis, Color, Dash, Direction, Figure, Interval, Mark, Panel, Series, Shape, arm_color, arm_shape,
};
use curricle_theory::compare::{Comparison, Line};
use curricle_theory::fit::{Interval as Confidence, PowerLaw};

/// How a line of the comparison looks: name, label, colour, dash; measured lines also get dots.
const LINES: [(&str, &str, Color, Dash); 13] = [
    ("bound_labels", "explicit bound, labels", Color::BLUE, Dash::Dashed),
    ("measured_labels", "measured, labels", Color::BLUE, Dash::Solid),
    ("predicted_labels", "normal prediction, labels", Color::SKY, Dash::Dotted),
    ("headline_progressive", "headline, progressive (unit constants)", Color::GREEN, Dash::Dotted),
    ("headline_one_shot", "headline, one-shot (unit constants)", Color::PURPLE, Dash::Dotted),
    ("bound_phase_one", "explicit bound, phase-one teachers", Color::VERMILION, Dash::Dashed),
    ("measured_phase_one", "measured, phase-one teachers that work", Color::VERMILION, Dash::Solid),
    ("predicted_phase_one", "normal prediction, phase-one teachers", Color::ORANGE, Dash::Dotted),
    ("measured_one_shot", "measured, one-shot from final teachers", Color::PURPLE, Dash::Solid),
    ("one_step_labels", "lower line of the one-step learner, labels", Color::BLUE, Dash::Dotted),
    ("statistical_query", "statistical-query line", Color::INK, Dash::Dashed),
    ("information_labels", "information-theoretic, labels", Color::REFERENCE, Dash::Dashed),
    ("information_teacher", "information-theoretic, teacher", Color::REFERENCE, Dash::Dotted),
];

/// The answer as text.
pub(super) fn text(answer: &Answer) -> String {
    let mut out = String::new();
    let c = &answer.comparison;
    for fitted in &c.fitted {
        let k = fitted.k;
        let ds: Vec<usize> = c
            .lines
            .iter()
            .find(|l| l.k == k)
            .map_or_else(Vec::new, |l| l.points.iter().map(|p| p.d).collect());
        out += &format!("k = {k}\n{:28}", "samples at d =");
        ds.iter().for_each(|d| out += &format!(" {d:>10}"));
        out += "  slope (interval)\n";
        for line in c.lines.iter().filter(|l| l.k == k) {
            out += &format!("{:28}", line.name);
            line.points.iter().for_each(|p| out += &format!(" {:>10}", count_or_dash(p.samples)));
            out += &format!("  {}\n", slope_text(line.fit.as_ref(), line.bootstrap));
        }
        for r in c.recovery.iter().filter(|r| r.k == k) {
            let model = r
                .predicted
                .as_ref()
                .map_or_else(String::new, |p| format!(", the sign-sum model says {:.2}", p.success));
            out +=
                &format!("d = {}: {} of {} phase-one teachers work{model}\n", r.d, r.recovered, r.teachers);
        }
        let from = |d: Option<usize>| d.map_or_else(|| "never".to_owned(), |d| format!("d = {d}"));
        out += &format!(
            "headline crossover: {} with unit constants, {} with fitted first phases\n\n",
            from(fitted.crossover_unit),
            from(fitted.crossover_fitted)
        );
    }
    c.skipped.iter().for_each(|s| out += &format!("skipped: {s}\n"));
    for v in &c.verdicts {
        out += &format!(
            "{} k = {} d = {}: {} <= {} <= {}: {} ({} of {} trials above their own bound)\n",
            v.line,
            v.k,
            v.d,
            count(v.lower),
            count_or_dash(if v.line == "measured_labels" { v.quantile } else { v.measured }),
            count_or_dash(v.upper),
            match v.holds {
                Some(true) => "holds",
                Some(false) => "DOES NOT HOLD",
                None => "too few successes to say",
            },
            v.above_own_bound,
            v.compared
        );
    }
    if let Some(sgd) = &answer.sgd {
        out += "\nordinary SGD, samples to 99% (median over seeds; reached/runs)\n";
        for line in &sgd.lines {
            out += &format!("k = {} {:12}", line.k, line.arm);
            for p in &line.points {
                let reached = p.samples.iter().flatten().count();
                out += &format!("  d={}: {} ({reached}/{})", p.d, count_or_dash(p.median), p.samples.len());
            }
            out += &format!("  slope {}\n", sgd_slope(line));
        }
    }
    out += "\n";
    for claim in &answer.claims {
        out += &format!(
            "{:12} {}: {}\n             {}; {}\n",
            claim.verdict.as_str(),
            claim.name,
            claim.statement,
            claim.value.map_or_else(|| "?".to_owned(), |v| format!("{v:.2}")),
            claim.detail
        );
    }
    out += &format!("\n{:.0} s on {}. Report: {}\n", answer.wall_seconds, answer.device, answer.report);
    out
}

fn slope_text(fit: Option<&PowerLaw>, bootstrap: Option<Confidence>) -> String {
    let Some(fit) = fit else { return "-".to_owned() };
    let interval =
        |i: Option<Confidence>| i.map_or_else(|| "?".to_owned(), |i| format!("{:.2}, {:.2}", i.low, i.high));
    let own = format!("{:.2} ({})", fit.slope, interval(fit.slope_interval));
    bootstrap.map_or(own.clone(), |b| format!("{own}, bootstrap ({})", interval(Some(b))))
}

fn sgd_slope(line: &SgdLine) -> String {
    let own = slope_text(line.fit.as_ref(), line.bootstrap);
    match (&line.fit_with_budgets, line.censored) {
        (_, 0) => own,
        (Some(f), n) => format!("{own}; {n} runs censored, {:.2} with them at their budget", f.slope),
        (None, n) => format!("{own}; {n} runs censored"),
    }
}

/// The report: one section per k, one for recovery, one per k of SGD.
pub(super) fn data(answer: &Answer) -> ReportData {
    let c = &answer.comparison;
    let mut data = ReportData::new("theory", "compare");
    data.description = "Samples a student needs to find the support of a sparse parity, from labels and from a phase-one teacher: bounds with explicit \
        constants, lower lines, the theorem's orders, and what is measured. Statements and proofs: theory/README.md."
        .to_owned();
    data.device.clone_from(&answer.device);
    data.version = answer.version.to_owned();
    data.command.clone_from(&answer.command);
    data.wall_seconds = answer.wall_seconds;
    data.claims.clone_from(&answer.claims);
    for fitted in &c.fitted {
        data.sections.push(lines_section(c, &answer.added, fitted.k));
    }
    if !c.recovery.is_empty() {
        data.sections.push(recovery_section(c));
    }
    if let Some(sgd) = &answer.sgd {
        for &k in &sgd.grid.ks {
            data.sections.push(sgd_section(sgd, k));
        }
    }
    data.notes.extend(c.skipped.iter().map(|s| format!("Left out: {s}.")));
    data.notes.push(
        "Measured points of phase-one teachers are medians over the teachers that work; how many do is shown beside. The statistical-query line reads a tolerance as B = 1/tau^2, the usual reading and no theorem about samples."
            .to_owned(),
    );
    data
}

fn points(line: &Line) -> Vec<[f64; 2]> {
    line.points.iter().map(|p| [p.d as f64, p.samples.unwrap_or(f64::NAN)]).collect()
}

fn lines_section(c: &Comparison, added: &[Added], k: usize) -> Section {
    let mut panel = Panel::new(
        Axis::log("input dimension d (logarithmic)"),
        Axis::log("samples of the first phase (logarithmic)"),
    )
    .height(420.0);
    for (name, label, color, dash) in LINES {
        let Some(line) = c.lines.iter().find(|l| l.k == k && l.name == name) else { continue };
        let measured = name.starts_with("measured");
        let label = match (&line.fit, measured) {
            (Some(fit), true) => format!("{label} (slope {:.2})", fit.slope),
            _ => label.to_owned(),
        };
        let width = if measured { 2.5 } else { 1.6 };
        panel = panel.with(Series::new(label, color, Mark::Line { points: points(line), width, dash }));
        if measured {
            panel = panel.with(Series::unnamed(color, Mark::dots(points(line), Shape::Circle, 4.0)));
        }
    }
    let mut sources: Vec<&str> = added.iter().filter(|a| a.k == k).map(|a| a.source.as_str()).collect();
    sources.sort_unstable();
    sources.dedup();
    for (i, source) in sources.into_iter().enumerate() {
        let mine = added.iter().filter(|a| a.k == k && a.source == source);
        let dots = mine.map(|a| [a.d as f64, a.samples]).collect();
        panel = panel.with(Series::new(
            format!("added: {source}"),
            arm_color(i + 4),
            Mark::dots(dots, arm_shape(i), 5.0),
        ));
    }
    let figure = Figure::new(format!("Bounds against measurements, k = {k}")).panel(panel).note(format!(
        "Medians of the batch at which {}% of {} neurons rank the support on top; delta = {}, epsilon = {} in the headline, which also pays for the second phase.",
        100.0 * c.spec.fraction,
        c.spec.neurons,
        c.spec.delta,
        c.spec.epsilon
    ));
    let mut columns = vec!["line".to_owned()];
    let of_k = || c.lines.iter().filter(|l| l.k == k);
    columns.extend(
        of_k().next().map_or_else(Vec::new, |l| l.points.iter().map(|p| format!("d = {}", p.d)).collect()),
    );
    columns.push("slope (interval)".to_owned());
    let rows = of_k().map(|line| {
        let mut row = vec![line.name.replace('_', " ")];
        row.extend(line.points.iter().map(|p| count_or_dash(p.samples)));
        row.push(slope_text(line.fit.as_ref(), line.bootstrap));
        row
    });
    let verdicts = c.verdicts.iter().filter(|v| v.k == k).map(|v| {
        vec![
            v.line.replace('_', " "),
            v.d.to_string(),
            count(v.lower),
            count_or_dash(v.measured),
            count_or_dash(v.upper),
            format!("{} of {}", v.above_own_bound, v.compared),
            v.holds.map_or("too few successes", |h| if h { "holds" } else { "does not hold" }).to_owned(),
        ]
    });
    let heads = ["line", "d", "lower", "measured", "upper", "trials above their own bound", "verdict"];
    Section {
        title: format!("Samples against d, k = {k}"),
        text: c
            .fitted
            .iter()
            .filter(|f| f.k == k)
            .map(|f| {
                let from = |d: Option<usize>| d.map_or_else(|| "never".to_owned(), |d| format!("d = {d}"));
                format!(
                    "The headline's orders cross at {} with unit constants and at {} with the fitted constants of the first phases.",
                    from(f.crossover_unit),
                    from(f.crossover_fitted)
                )
            })
            .collect(),
        figures: vec![figure],
        tables: vec![
            Table { caption: "Samples and log-log slopes in d".to_owned(), columns, rows: rows.collect() },
            Table {
                caption: "Is measured between the lower line and the explicit bound?".to_owned(),
                columns: heads.map(str::to_owned).to_vec(),
                rows: verdicts.collect(),
            },
        ],
        preformatted: vec![],
    }
}

fn recovery_section(c: &Comparison) -> Section {
    let mut panel = Panel::new(
        Axis::log("input dimension d (logarithmic)"),
        Axis::linear("share of teachers").range(0.0, 1.0),
    );
    for (i, fitted) in c.fitted.iter().enumerate() {
        let mine = || c.recovery.iter().filter(|r| r.k == fitted.k);
        let color = arm_color(i);
        let share = mine().map(|r| [r.d as f64, r.recovered as f64 / r.teachers.max(1) as f64]).collect();
        let spans = mine().map(|r| Interval {
            at: r.d as f64,
            low: 1.0 - r.failure_interval.high,
            high: 1.0 - r.failure_interval.low,
            open: false,
        });
        let model = mine().filter_map(|r| Some([r.d as f64, r.predicted.as_ref()?.success])).collect();
        panel = panel
            .with(Series::new(
                format!("measured, k = {}", fitted.k),
                color,
                Mark::dots(share, arm_shape(i), 4.0),
            ))
            .with(Series::unnamed(
                color,
                Mark::Intervals { spans: spans.collect(), along: Direction::Y, width: 1.5 },
            ))
            .with(Series::new(format!("sign-sum model, k = {}", fitted.k), color, Mark::dashed(model)));
    }
    Section {
        title: "Phase-one teachers that work".to_owned(),
        text: vec![format!(
            "In-support correlations of a phase-one teacher are sums of random signs; when the smallest falls below the largest outside, no batch helps. Share of {} teachers from which the support is recovered by {} samples.",
            c.spec.teachers,
            count(c.spec.teacher_max_batch as f64)
        )],
        figures: vec![Figure::new("Teachers from which the support is recovered").panel(panel)],
        tables: vec![],
        preformatted: vec![],
    }
}

fn sgd_section(sgd: &Sgd, k: usize) -> Section {
    let mut panel = Panel::new(
        Axis::log("input dimension d (logarithmic)"),
        Axis::log("training samples to 99% (logarithmic)"),
    )
    .height(380.0);
    let mine = || sgd.lines.iter().filter(|l| l.k == k);
    let mut student = 0;
    for line in mine() {
        let (color, shape) = match line.arm.as_str() {
            curricle_lab::run::plan::TEACHER => (Color::INK, Shape::Cross),
            _ => {
                student += 1;
                (arm_color(student - 1), arm_shape(student - 1))
            }
        };
        let medians = line.points.iter().map(|p| [p.d as f64, p.median.unwrap_or(f64::NAN)]).collect();
        let each =
            line.points.iter().flat_map(|p| p.samples.iter().flatten().map(move |s| [p.d as f64, *s as f64]));
        let open = line.points.iter().flat_map(|p| {
            p.samples.iter().filter(|s| s.is_none()).map(move |_| [p.d as f64, p.budget as f64])
        });
        let label = match &line.fit {
            Some(fit) => format!(
                "{} (slope {:.2}{})",
                line.label,
                fit.slope,
                if line.censored > 0 { ", censored" } else { "" }
            ),
            None => line.label.clone(),
        };
        panel = panel
            .with(Series::new(label, color, Mark::line(medians)))
            .with(Series::unnamed(color, Mark::dots(each.collect(), shape, 3.0)).opacity(0.75))
            .with(Series::unnamed(color, Mark::dots(open.collect(), Shape::ArrowUp, 4.5)));
    }
    let columns = ["arm", "d", "median samples to 99%", "reached / runs", "could not start", "budget"]
        .map(str::to_owned)
        .to_vec();
    let rows = mine().flat_map(|l| {
        l.points.iter().map(move |p| {
            vec![
                l.label.clone(),
                p.d.to_string(),
                count_or_dash(p.median),
                format!("{} / {}", p.samples.iter().flatten().count(), p.samples.len()),
                p.skipped.to_string(),
                count(p.budget as f64),
            ]
        })
    });
    Section {
        title: format!("Ordinary SGD, k = {k}"),
        text: mine().map(|l| format!("{}: slope in d {}.", l.label, sgd_slope(l))).collect(),
        figures: vec![
            Figure::new(format!("Ordinary SGD: samples to 99% against d, k = {k}"))
                .panel(panel)
                .note("Lines: medians over seeds. Dots: each seed. Arrows: runs that ended there without reaching 99%. Students' samples do not include the teacher's."),
        ],
        tables: vec![Table { caption: "Samples to 99%".to_owned(), columns, rows: rows.collect() }],
        preformatted: vec![],
    }
}
