//! What the page's script gets: numbers only, in columns, thinned and rounded so that the page stays small.

use crate::curves::{median_curve, thin, thin_indices};
use crate::data::{Arm, ArmKind, DegreeCorrelation, ReportData, SweepTable, Timeline};
use crate::figures::{
    ArmStyle, LineName, arm_styles, cell_reaches, contrast_sentence, identical, level_text, line_names,
    reaches, sweep_arms,
};
use crate::plot::{Axis, Dash, Figure, Mark, Panel, Series, Ticks, axes};
use crate::stats::{Reach, Summary, summarize};
use serde_json::{Value, json};

/// Points of one curve in the page.
pub(super) const MAX_POINTS: usize = 1500;
/// Points of all curves together; the limit per curve shrinks when there are many.
const POINT_BUDGET: usize = 24_000;

/// Points of one line of a figure of the experiment's own.
const FIGURE_POINTS: usize = 500;

/// Points kept per run.
pub(super) fn limit(data: &ReportData) -> usize {
    let runs: usize = data.arms.iter().map(|arm| arm.runs.len() + 1).sum();
    (POINT_BUDGET / runs.max(1)).clamp(150, MAX_POINTS)
}

/// Whether the page leaves out points that `data.json` has.
pub(super) fn is_thinned(data: &ReportData) -> bool {
    let limit = limit(data);
    data.arms.iter().flat_map(|arm| &arm.runs).any(|run| run.points.len() > limit.max(8))
}

pub(super) fn payload(data: &ReportData) -> Value {
    let styles = arm_styles(data);
    let arms: Vec<Value> = data.arms.iter().zip(&styles).map(|(a, s)| arm(data, a, s)).collect();
    let timelines: Vec<Value> = data.timelines.iter().map(|t| timeline(data, t)).collect();
    let sweeps: Vec<Value> = data.sweeps.iter().map(|t| sweep(data, t)).collect();
    let mut arms: Vec<Value> = arms;
    for (arm, same) in arms.iter_mut().zip(identical(data)) {
        arm["same"] = json!(same);
    }
    for LineName { arm, at, text } in line_names(data) {
        arms[arm]["name"] = json!({"at": at, "text": text});
    }
    let figures: Vec<Value> = data.sections.iter().flat_map(|s| &s.figures).map(figure).collect();
    json!({
        "live": data.live,
        "chance": rounded(data.chance),
        "level": level_text(&data.headline_level),
        "figures": figures,
        "arms": arms,
        "timelines": timelines,
        "sweeps": sweeps,
    })
}

fn arm(data: &ReportData, arm: &Arm, style: &ArmStyle) -> Value {
    let limit = limit(data);
    let runs: Vec<Value> = arm
        .runs
        .iter()
        .map(|run| {
            let points = thin(run, data.chance, limit);
            let followed = points.iter().any(|p| p.teacher_step.is_some());
            json!({
                "seed": run.seed,
                "x": points.iter().map(|p| p.samples).collect::<Vec<_>>(),
                "a": points.iter().map(|p| rounded(p.accuracy)).collect::<Vec<_>>(),
                "l": points.iter().map(|p| rounded(p.loss)).collect::<Vec<_>>(),
                "t": followed.then(|| points.iter().map(|p| p.teacher_step).collect::<Vec<_>>()),
                "to": run.samples_to.get(&data.headline_level).map(|s| reach(Reach::new(*s, run.samples))),
            })
        })
        .collect();
    let curve = median_curve(arm);
    let accuracies: Vec<f64> = curve.iter().map(|p| p[1]).collect();
    let kept = thin_indices(&accuracies, data.chance, limit);
    json!({
        "label": arm.label,
        "color": style.color,
        "dark": style.color.on_dark(),
        "dash": style.dash != Dash::Solid,
        "shape": style.shape,
        "teacher": arm.kind == ArmKind::Teacher,
        "runs": runs,
        "median": {
            "x": kept.iter().map(|&i| curve[i][0] as u64).collect::<Vec<_>>(),
            "a": kept.iter().map(|&i| rounded(curve[i][1])).collect::<Vec<_>>(),
        },
        "summary": summarize(&reaches(arm, &data.headline_level)).map(summary),
    })
}

/// A figure with its axes resolved, as the drawing has them.
fn figure(figure: &Figure) -> Value {
    let panel = |(panel, [x, y]): (&Panel, [Ticks; 2])| {
        let axis = |axis: &Axis, ticks: Ticks| {
            json!({
                "label": axis.label,
                "scale": axis.scale,
                "format": axis.format,
                "range": ticks.range,
                "ticks": ticks.labels,
            })
        };
        json!({
            "title": panel.title,
            "height": panel.height,
            "x": axis(&panel.x, x),
            "y": axis(&panel.y, y),
            "series": panel.series.iter().map(series).collect::<Vec<_>>(),
        })
    };
    json!({
        "title": figure.title,
        "subtitle": figure.subtitle,
        "notes": figure.notes,
        "panels": figure.panels.iter().zip(axes(figure)).map(panel).collect::<Vec<_>>(),
    })
}

fn series(series: &Series) -> Value {
    let mut shown = series.clone();
    if let Mark::Line { points, .. } = &mut shown.mark {
        let heights: Vec<f64> = points.iter().map(|p| p[1]).collect();
        *points = thin_indices(&heights, f64::NAN, FIGURE_POINTS).into_iter().map(|i| points[i]).collect();
    }
    let mut value = json!(shown);
    value["dark"] = json!(series.color.on_dark());
    shorten(&mut value);
    value
}

/// Rounds every number of a value.
fn shorten(value: &mut Value) {
    match value {
        Value::Number(n) => *value = n.as_f64().map_or(Value::Null, rounded),
        Value::Array(all) => all.iter_mut().for_each(shorten),
        Value::Object(all) => all.values_mut().for_each(shorten),
        _ => {}
    }
}

fn timeline(data: &ReportData, timeline: &Timeline) -> Value {
    let accuracies: Vec<f64> = timeline.points.iter().map(|p| p.accuracy).collect();
    let kept = thin_indices(&accuracies, data.chance, MAX_POINTS);
    let points: Vec<_> = kept.iter().map(|&i| &timeline.points[i]).collect();
    let mut degrees: Vec<u32> = points.iter().flat_map(|p| p.degrees.iter().map(|d| d.degree)).collect();
    degrees.sort_unstable();
    degrees.dedup();
    let column = |degree: u32, value: fn(&DegreeCorrelation) -> f64| -> Vec<Value> {
        let of = |p: &&crate::data::TimelinePoint| {
            p.degrees.iter().find(|d| d.degree == degree).map_or(Value::Null, |d| rounded(value(d)))
        };
        points.iter().map(of).collect()
    };
    let degrees: Vec<Value> = degrees
        .into_iter()
        .map(|degree| {
            json!({
                "degree": degree,
                "inMean": column(degree, |d| d.in_support_mean_abs),
                "inMax": column(degree, |d| d.in_support_max_abs),
                "offMean": column(degree, |d| d.off_support_mean_abs),
                "offMax": column(degree, |d| d.off_support_max_abs),
                "floor": column(degree, |d| d.noise_floor),
            })
        })
        .collect();
    json!({
        "seed": timeline.seed,
        "x": points.iter().map(|p| p.samples).collect::<Vec<_>>(),
        "a": points.iter().map(|p| rounded(p.accuracy)).collect::<Vec<_>>(),
        "degrees": degrees,
        "transition": timeline.transition.map(|t| [t.start_samples, t.end_samples]),
        "recommended": timeline.recommended.as_ref().map(|r| json!({"x": r.samples, "reason": r.reason})),
        "used": timeline.used.iter().map(|u| json!({"x": u.samples, "label": u.label})).collect::<Vec<_>>(),
        "sentence": contrast_sentence(timeline),
    })
}

fn sweep(data: &ReportData, table: &SweepTable) -> Value {
    let arms: Vec<Value> = sweep_arms(data, table)
        .into_iter()
        .map(|(name, style)| {
            let cells: Vec<Value> = table
                .values
                .iter()
                .map(|value| {
                    value.cells.iter().find(|c| c.arm == name).map_or(Value::Null, |cell| {
                        let runs: Vec<Value> = cell
                            .seeds
                            .iter()
                            .map(|s| json!({"seed": s.seed, "to": reach(Reach::new(s.samples, s.budget))}))
                            .collect();
                        json!({
                            "rate": rounded(cell.best_rate),
                            "runs": runs,
                            "summary": summarize(&cell_reaches(cell)).map(summary),
                        })
                    })
                })
                .collect();
            json!({
                "label": name,
                "color": style.color,
                "dark": style.color.on_dark(),
                "shape": style.shape,
                "cells": cells,
            })
        })
        .collect();
    json!({
        "axis": table.axis,
        "level": level_text(&table.level),
        "values": table.values.iter().map(|v| v.value.clone()).collect::<Vec<_>>(),
        "arms": arms,
    })
}

fn reach(reach: Reach) -> Value {
    json!({"n": reach.at_least(), "open": reach.is_open()})
}

fn summary(s: Summary) -> Value {
    json!({
        "runs": s.runs,
        "reached": s.reached,
        "median": reach(s.median),
        "low": reach(s.low),
        "high": reach(s.high),
        "coverage": rounded(s.coverage),
    })
}

/// Five significant digits: more than a screen shows, half the characters.
fn rounded(value: f64) -> Value {
    if !value.is_finite() {
        return Value::Null;
    }
    format!("{value:.4e}").parse::<f64>().map_or(Value::Null, Value::from)
}
