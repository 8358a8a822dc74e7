//! Tables for people, CSV, JSON.

use super::{CorrelateArgs, Probed, RunTimeline};
use anyhow::{Context, Result};
use curricle_probe::transition::{DegreeSummary, summarise};
use curricle_probe::{CheckpointCorrelations, Coefficient, Evaluation, Timeline};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

/// Largest correlations listed per degree for a single checkpoint.
const LISTED: usize = 10;

#[derive(Serialize)]
struct JsonOutput<'a> {
    checkpoints: Vec<JsonCheckpoint<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    timelines: Vec<JsonTimeline<'a>>,
}

#[derive(Serialize)]
struct JsonCheckpoint<'a> {
    path: &'a str,
    step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readout_samples: Option<usize>,
    accuracy: Option<f64>,
    samples: u64,
    monomials: Vec<JsonMonomial<'a>>,
    statistic: &'static str,
    class: usize,
    exact: bool,
    mean: f64,
    deviation: f64,
    noise_floor: f64,
    degrees: Vec<DegreeSummary>,
}

#[derive(Serialize)]
struct JsonMonomial<'a> {
    coordinates: &'a [usize],
    degree: usize,
    in_support: Option<bool>,
    value: f64,
    standard_error: f64,
}

#[derive(Serialize)]
struct JsonTimeline<'a> {
    run: &'a str,
    #[serde(flatten)]
    timeline: &'a Timeline,
}

/// Writes the JSON object to stdout.
pub(super) fn json(args: &CorrelateArgs, probed: &[Probed], timelines: &[RunTimeline]) -> Result<()> {
    let checkpoints = probed.iter().map(|Probed { layer, of: c, .. }| JsonCheckpoint {
        path: &c.path,
        step: c.step,
        layer: *layer,
        readout_samples: layer.map(|_| args.readout_samples),
        accuracy: c.correlations.accuracy,
        samples: c.correlations.samples,
        monomials: c.correlations.coefficients.iter().map(JsonMonomial::of).collect(),
        statistic: args.statistic().name(),
        class: args.class,
        exact: args.exact,
        mean: c.correlations.mean,
        deviation: c.correlations.deviation,
        noise_floor: c.correlations.noise_floor,
        degrees: summarise(&c.correlations),
    });
    let timelines = timelines.iter().map(|t| JsonTimeline { run: &t.run, timeline: &t.timeline });
    let output = JsonOutput { checkpoints: checkpoints.collect(), timelines: timelines.collect() };
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let written = serde_json::to_writer(&mut stdout, &output)
        .map_err(io::Error::from)
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush());
    unless_closed(written)
}

impl<'a> JsonMonomial<'a> {
    fn of(c: &'a Coefficient) -> Self {
        Self {
            coordinates: &c.monomial.coordinates,
            degree: c.monomial.coordinates.len(),
            in_support: c.monomial.in_support,
            value: c.value,
            standard_error: c.standard_error,
        }
    }
}

/// Writes text to stdout.
pub(super) fn text(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    unless_closed(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// A reader that has seen enough (`| head`) is not an error.
fn unless_closed(written: io::Result<()>) -> Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}

/// Writes one row per checkpoint (and layer, with --layers) and monomial to `path`, which appears only when complete.
pub(super) fn csv(path: &Path, args: &CorrelateArgs, probed: &[Probed]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        let mut rows = csv::Writer::from_writer(io::BufWriter::new(&mut file));
        let layered = args.layers.is_some();
        let mut header = vec!["path", "step"];
        header.extend(layered.then_some("layer"));
        header.extend([
            "accuracy",
            "samples",
            "statistic",
            "class",
            "coordinates",
            "degree",
            "in_support",
            "value",
            "standard_error",
            "noise_floor",
        ]);
        rows.write_record(header)?;
        for Probed { layer, of: c, .. } in probed {
            let optional = |value: Option<String>| value.unwrap_or_default();
            for m in &c.correlations.coefficients {
                let mut row = vec![c.path.clone(), optional(c.step.map(|s| s.to_string()))];
                row.extend(layer.map(|l| l.to_string()));
                row.extend([
                    optional(c.correlations.accuracy.map(|a| a.to_string())),
                    c.correlations.samples.to_string(),
                    args.statistic().name().to_string(),
                    args.class.to_string(),
                    joined(&m.monomial.coordinates, " "),
                    m.monomial.coordinates.len().to_string(),
                    optional(m.monomial.in_support.map(|s| s.to_string())),
                    m.value.to_string(),
                    m.standard_error.to_string(),
                    c.correlations.noise_floor.to_string(),
                ]);
                rows.write_record(row)?;
            }
        }
        rows.flush()?;
        drop(rows);
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn joined(coordinates: &[usize], separator: &str) -> String {
    let items: Vec<String> = coordinates.iter().map(ToString::to_string).collect();
    items.join(separator)
}

/// The table for people: a row per checkpoint and degree; for a single checkpoint also its largest correlations; for run
/// folders the transition and the recommendation.
pub(super) fn table(args: &CorrelateArgs, probed: &[Probed], timelines: &[RunTimeline]) -> String {
    let mut out = String::new();
    let what = match (args.statistic().name(), args.class) {
        ("margin", class) => format!("log-odds of class {class}"),
        ("argmax", class) => format!("[prediction = class {class}]"),
        (_, class) => format!("probability of class {class}"),
    };
    let what = match args.layers {
        Some(_) => format!("{what} in a readout of each layer"),
        None => what,
    };
    let inputs = if args.exact { "all 2^d inputs".into() } else { format!("{} random inputs", args.samples) };
    let _ = writeln!(out, "|correlation| of the {what} with monomials, over {inputs}");
    // A folder that all checkpoints share is said once.
    let folder = shared_folder(probed);
    if let Some(folder) = folder {
        let _ = writeln!(out, "checkpoints in {}", folder.display());
    }
    out.push('\n');
    let name = |c: &CheckpointCorrelations| match Path::new(&c.path).file_name() {
        Some(name) if folder.is_some() => name.to_string_lossy().into_owned(),
        _ => c.path.clone(),
    };
    let known =
        probed.iter().any(|p| p.of.correlations.coefficients.iter().any(|m| m.monomial.in_support.is_some()));
    let mut rows: Vec<Vec<String>> = Vec::new();
    let layered = args.layers.is_some();
    let mut header = vec!["checkpoint", "step"];
    header.extend(layered.then_some("layer"));
    header.extend(["accuracy", "degree"]);
    header.extend(if known {
        &["in: mean", "max", "off: mean", "max", "noise", "max noise"][..]
    } else {
        &["mean", "max", "noise", "max noise"][..]
    });
    rows.push(header.into_iter().map(String::from).collect());
    for Probed { layer, of: c, .. } in probed {
        for (i, s) in summarise(&c.correlations).iter().enumerate() {
            let mut row = vec![name(c), optional(c.step)];
            row.extend(layer.map(|l| l.to_string()));
            row.push(accuracy(c.correlations.accuracy));
            if i > 0 {
                row.fill(String::new());
            }
            row.push(s.degree.to_string());
            if known {
                row.extend([s.in_support_mean_abs, s.in_support_max_abs].map(number));
                row.extend([s.off_support_mean_abs, s.off_support_max_abs].map(number));
            } else {
                row.extend(all(c, s.degree).map(number));
            }
            row.extend([s.noise_floor, s.expected_max_noise].map(|v| number(Some(v))));
            rows.push(row);
        }
    }
    align(&mut out, &rows);
    if let [single] = probed {
        largest(&mut out, &single.of);
    }
    for t in timelines {
        describe(&mut out, t);
    }
    out
}

/// The folder of all checkpoints, if they have one in common.
fn shared_folder(probed: &[Probed]) -> Option<&Path> {
    let first = Path::new(&probed.first()?.of.path).parent().filter(|p| !p.as_os_str().is_empty())?;
    (probed.len() > 1 && probed.iter().all(|p| Path::new(&p.of.path).parent() == Some(first)))
        .then_some(first)
}

/// Mean and maximum of |value| over all monomials of a degree.
fn all(c: &CheckpointCorrelations, degree: usize) -> [Option<f64>; 2] {
    let values = || {
        let of_degree = move |m: &&Coefficient| m.monomial.coordinates.len() == degree;
        c.correlations.coefficients.iter().filter(of_degree).map(|m| m.value.abs())
    };
    let count = values().count();
    [(count > 0).then(|| values().sum::<f64>() / count as f64), values().reduce(f64::max)]
}

fn largest(out: &mut String, c: &CheckpointCorrelations) {
    for s in summarise(&c.correlations) {
        let mut own: Vec<&Coefficient> =
            c.correlations.coefficients.iter().filter(|m| m.monomial.coordinates.len() == s.degree).collect();
        own.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
        let _ = writeln!(
            out,
            "\ndegree {}: {} of {} monomials, largest first",
            s.degree,
            own.len().min(LISTED),
            own.len()
        );
        let mut rows =
            vec![vec!["coordinates".into(), "support".into(), "value".into(), "standard error".into()]];
        for m in own.into_iter().take(LISTED) {
            let side = match m.monomial.in_support {
                Some(true) => "in",
                Some(false) => "off",
                None => "-",
            };
            let error = format!("{:.6}", m.standard_error);
            rows.push(vec![
                joined(&m.monomial.coordinates, ","),
                side.into(),
                format!("{:+.6}", m.value),
                error,
            ]);
        }
        align(out, &rows);
    }
}

fn describe(out: &mut String, t: &RunTimeline) {
    let _ = writeln!(out, "\n{}", t.run);
    let at = |e: Option<Evaluation>| {
        e.map_or("not seen".into(), |e| format!("step {} ({:.1}%)", e.step, 100.0 * e.accuracy))
    };
    match &t.timeline.transition {
        Some(transition) => {
            let _ = writeln!(
                out,
                "  phase transition: last at chance: {}; halfway: {}; 99%: {}",
                at(transition.start),
                at(transition.middle),
                at(transition.end)
            );
        }
        None => out.push_str("  phase transition: not seen\n"),
    }
    let _ = match (&t.timeline.recommended, &t.timeline.no_recommendation) {
        (Some(r), _) => writeln!(out, "  for (2,T)-distillation: step {} ({}): {}", r.step, r.path, r.reason),
        (None, why) => {
            writeln!(
                out,
                "  for (2,T)-distillation: none: {}",
                why.as_deref().unwrap_or("no checkpoint fits")
            )
        }
    };
}

/// Columns padded to equal width: the first to the left, the others to the right.
fn align(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    for row in rows {
        let mut line = String::new();
        for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if c == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".into(), |v| if v == 0.0 || v >= 1e-4 { format!("{v:.5}") } else { format!("{v:.1e}") })
}

fn accuracy(value: Option<f64>) -> String {
    value.map_or("-".into(), |a| format!("{:.2}%", 100.0 * a))
}

fn optional(value: Option<u64>) -> String {
    value.map_or("-".into(), |v| v.to_string())
}
