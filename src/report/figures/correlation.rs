//! What a teacher's checkpoints reveal about the support, along its training.

use crate::data::{DegreeCorrelation, ReportData, Timeline, TimelinePoint};
use crate::format;
use crate::plot::{Axis, Color, Dash, Direction, Figure, Mark, Panel, Series, Shape, Side, TickFormat};
use curricle_core::math::order::lower_median;

/// Panels of equal x axis: the teacher's accuracy, then one per degree with the correlations inside and outside the
/// support. The transition is shaded.
pub fn correlation(data: &ReportData, timeline: &Timeline) -> Figure {
    let degrees = degrees(timeline);
    let title = format!(
        "{} ({}): what the teacher's checkpoints reveal, seed {}",
        data.experiment, data.scale, timeline.seed
    );
    let mut figure = Figure::new(title).panel(accuracy_panel(data, timeline, degrees.is_empty()));
    for (i, &degree) in degrees.iter().enumerate() {
        figure = figure.panel(degree_panel(timeline, degree, i + 1 == degrees.len()));
    }
    if let Some(recommended) = &timeline.recommended {
        figure = figure.note(format!(
            "Recommended checkpoint for (2,T)-distillation: {} samples. {}",
            format::count(recommended.samples as f64),
            recommended.reason
        ));
    }
    figure.note(contrast_sentence(timeline))
}

/// Degrees that any point of a timeline has, in order.
fn degrees(timeline: &Timeline) -> Vec<u32> {
    let mut all: Vec<u32> = timeline.points.iter().flat_map(|p| p.degrees.iter().map(|d| d.degree)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn x_axis(timeline: &Timeline, label: &str) -> Axis {
    let last = timeline.points.iter().map(|p| p.samples).max().unwrap_or(0);
    // A transition squeezed into the left edge needs the logarithm to be seen.
    let early = timeline.transition.is_some_and(|t| t.end_samples < last / 5);
    if early {
        let suffix = if label.is_empty() { "" } else { " (logarithmic)" };
        Axis::log(format!("{label}{suffix}"))
    } else {
        Axis::linear(label)
    }
}

fn with_region(mut panel: Panel, timeline: &Timeline) -> Panel {
    if let Some(t) = timeline.transition {
        let region = Mark::Region { from: t.start_samples as f64, to: t.end_samples as f64 };
        panel = panel.with(Series::new("phase transition", Color::REGION, region).opacity(0.28));
    }
    if let Some(recommended) = &timeline.recommended {
        let rule = Mark::Rule {
            at: recommended.samples as f64,
            along: Direction::Y,
            width: 1.4,
            dash: Dash::Dashed,
        };
        panel = panel.with(Series::new("recommended checkpoint", Color::GREEN, rule));
    }
    panel
}

fn accuracy_panel(data: &ReportData, timeline: &Timeline, last: bool) -> Panel {
    let x = x_axis(timeline, if last { "training samples of the teacher" } else { "" });
    let low = timeline.points.iter().map(|p| p.accuracy).chain([data.chance]).fold(1.0, f64::min);
    // Room on top for the names of checkpoints that reach 100%.
    let y = Axis::linear("accuracy").range((low - 0.05).max(0.0), 1.12).format(TickFormat::Percent);
    let line = |of: &dyn Fn(&TimelinePoint) -> f64| {
        timeline.points.iter().map(|p| [p.samples as f64, of(p)]).collect()
    };
    let mut panel = with_region(Panel::new(x, y).height(120.0).title("Accuracy of the teacher"), timeline)
        .with(Series::new("teacher's accuracy", Color::INK, Mark::line(line(&|p| p.accuracy))));
    let dots: Vec<[f64; 2]> = timeline
        .used
        .iter()
        .filter_map(|used| Some([used.samples as f64, accuracy_near(timeline, used.samples)?]))
        .collect();
    // Names only where they fit; a progressive schedule uses dozens.
    if dots.len() <= 4 {
        for (used, &at) in timeline.used.iter().zip(&dots) {
            // Beside a steep rise, above a plateau: off the curve either way.
            let side = if at[1] > low + 0.1 && at[1] < 0.98 { Side::Left } else { Side::Above };
            let text = Mark::Text { at, text: used.label.clone(), side };
            panel = panel.with(Series::unnamed(Color::MUTED, text));
        }
    }
    if !dots.is_empty() {
        let dots = Mark::Dots { points: dots, shape: Shape::Diamond, radius: 3.5, filled: false };
        panel = panel.with(Series::new("checkpoint a student learned from", Color::INK, dots));
    }
    panel
}

fn accuracy_near(timeline: &Timeline, samples: u64) -> Option<f64> {
    timeline.points.iter().min_by_key(|p| p.samples.abs_diff(samples)).map(|p| p.accuracy)
}

fn degree_panel(timeline: &Timeline, degree: u32, last: bool) -> Panel {
    let x = x_axis(timeline, if last { "training samples of the teacher" } else { "" });
    let of = |value: fn(&DegreeCorrelation) -> f64| -> Vec<[f64; 2]> {
        let at = |p: &TimelinePoint| {
            let found = p.degrees.iter().find(|d| d.degree == degree)?;
            Some([p.samples as f64, value(found)])
        };
        timeline.points.iter().filter_map(at).collect()
    };
    let floor: Vec<[f64; 3]> = of(|d| d.noise_floor).iter().map(|p| [p[0], 0.0, p[1]]).collect();
    let thin = |points| Mark::Line { points, width: 1.0, dash: Dash::Dotted };
    let title = match degree {
        1 => "Degree 1: single coordinates".to_owned(),
        2 => "Degree 2: pairs of coordinates".to_owned(),
        n => format!("Degree {n}: products of {n} coordinates"),
    };
    let panel =
        Panel::new(x, Axis::linear("|correlation|").format(TickFormat::Plain)).height(170.0).title(title);
    with_region(panel, timeline)
        .with(
            Series::new("noise floor of sampling", Color::REFERENCE, Mark::Band { points: floor })
                .opacity(0.3),
        )
        .with(Series::new(
            "outside the support, largest",
            Color::VERMILION,
            thin(of(|d| d.off_support_max_abs)),
        ))
        .with(Series::new("inside the support, largest", Color::BLUE, thin(of(|d| d.in_support_max_abs))))
        .with(Series::new(
            "outside the support, mean",
            Color::VERMILION,
            Mark::line(of(|d| d.off_support_mean_abs)),
        ))
        .with(Series::new("inside the support, mean", Color::BLUE, Mark::line(of(|d| d.in_support_mean_abs))))
}

/// Says, from the numbers, where degree-1 correlations tell the support from the rest. The contrast of a checkpoint is
/// its mean inside the support over the larger of its mean outside and the noise floor.
pub fn contrast_sentence(timeline: &Timeline) -> String {
    let Some(transition) = timeline.transition else {
        return "No phase transition was detected, so no contrast between inside and outside the support is expected."
            .to_owned();
    };
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for point in &timeline.points {
        let Some(d) = point.degrees.iter().find(|d| d.degree == 1) else { continue };
        let base = d.off_support_mean_abs.max(d.noise_floor);
        let within = (transition.start_samples..=transition.end_samples).contains(&point.samples);
        if base > 0.0 && d.in_support_mean_abs.is_finite() {
            if within { &mut inside } else { &mut outside }.push(d.in_support_mean_abs / base);
        }
    }
    let peak = inside.iter().copied().fold(f64::NAN, f64::max);
    match lower_median(outside) {
        _ if !peak.is_finite() => {
            "No checkpoint lies inside the detected transition: save them more densely to see the correlations there."
                .to_owned()
        }
        Some(elsewhere) => {
            let finding = if peak >= 2.0 && elsewhere <= 1.5 {
                "The contrast between inside and outside the support exists only inside the transition (shaded)"
            } else if peak >= 2.0 * elsewhere {
                "The contrast between inside and outside the support is largest inside the transition (shaded)"
            } else {
                "In this run the contrast is not confined to the transition (shaded)"
            };
            format!(
                "{finding}: up to {}x there, {}x at the median checkpoint elsewhere (degree 1; mean inside over the \
                 larger of mean outside and noise floor).",
                format::significant(peak, 2),
                format::significant(elsewhere, 2)
            )
        }
        None => format!(
            "Contrast inside the transition (shaded): up to {}x (degree 1). No checkpoint outside it to compare with.",
            format::significant(peak, 2)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Transition;

    /// A timeline with these contrasts, the middle one inside the transition.
    fn timeline(contrasts: [f64; 3]) -> Timeline {
        let point = |(i, contrast): (usize, f64)| TimelinePoint {
            step: i as u64,
            samples: i as u64,
            accuracy: 0.5,
            degrees: vec![DegreeCorrelation {
                degree: 1,
                in_support_mean_abs: 0.01 * contrast,
                in_support_max_abs: 0.0,
                off_support_mean_abs: 0.01,
                off_support_max_abs: 0.0,
                noise_floor: 0.005,
            }],
        };
        let transition = Some(Transition { start_samples: 1, end_samples: 1 });
        let points = contrasts.into_iter().enumerate().map(point).collect();
        Timeline { seed: 0, points, transition, recommended: None, used: vec![] }
    }

    #[test]
    fn the_sentence_says_what_the_numbers_say() {
        assert!(
            contrast_sentence(&timeline([1.0, 9.0, 1.1]))
                .contains("only inside the transition (shaded): up to 9x")
        );
        assert!(contrast_sentence(&timeline([3.0, 9.0, 3.0])).contains("largest inside"));
        assert!(contrast_sentence(&timeline([8.0, 9.0, 8.0])).contains("not confined"));
        let mut none = timeline([1.0, 9.0, 1.0]);
        none.transition = None;
        assert!(contrast_sentence(&none).contains("No phase transition"));
    }
}
