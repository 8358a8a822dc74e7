//! Axes: scale, range, ticks and tick labels, and where a value lies.

use crate::format;
use serde::{Deserialize, Serialize};

/// An axis as asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// What is on the axis, with its unit.
    pub label: String,
    /// Linear, logarithmic or named categories.
    pub scale: Scale,
    /// Ends; found from the data where absent.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
    /// How tick values are written.
    #[serde(default)]
    pub format: TickFormat,
}

/// How values are placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Proportional.
    Linear,
    /// By the logarithm; values that are not positive cannot be shown.
    Log,
    /// Position i carries the i-th name, first name on top or on the left.
    Categories(Vec<String>),
}

/// How tick values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TickFormat {
    /// 20k, 1.5M.
    #[default]
    Count,
    /// 0.5 as 50%.
    Percent,
    /// Shortest decimal.
    Plain,
}

impl Axis {
    fn new(label: impl Into<String>, scale: Scale) -> Self {
        Self { label: label.into(), scale, range: None, format: TickFormat::default() }
    }

    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self::new(label, Scale::Linear)
    }

    /// A logarithmic axis.
    pub fn log(label: impl Into<String>) -> Self {
        Self::new(label, Scale::Log)
    }

    /// An axis of names.
    pub fn categories(label: impl Into<String>, names: Vec<String>) -> Self {
        Self::new(label, Scale::Categories(names))
    }

    /// Fixes the ends.
    pub fn range(mut self, low: f64, high: f64) -> Self {
        self.range = Some([low, high]);
        self
    }

    /// Sets how tick values are written.
    pub fn format(mut self, format: TickFormat) -> Self {
        self.format = format;
        self
    }

    /// Whether a value has a place on this axis.
    pub(super) fn shows(&self, value: f64) -> bool {
        value.is_finite() && (self.scale != Scale::Log || value > 0.0)
    }

    /// Fixes ends and ticks, given the data's values and room for about `count` ticks. `flip` turns the axis round
    /// (names read from the top).
    pub(super) fn resolve(&self, values: impl Iterator<Item = f64>, count: usize, flip: bool) -> Ticks {
        if let Scale::Categories(names) = &self.scale {
            let labels = names.iter().enumerate().map(|(i, name)| (i as f64, name.clone())).collect();
            let range = [-0.6, (names.len().max(1) as f64) - 0.4];
            return Ticks { range, log: false, flip, labels, minor: Vec::new() };
        }
        let log = self.scale == Scale::Log;
        let [low, high] = match self.range.filter(|r| self.shows(r[0]) && self.shows(r[1]) && r[0] < r[1]) {
            Some(range) => range,
            None => fitted(values.filter(|&v| self.shows(v)), log),
        };
        let (major, minor) =
            if log { log_ticks(low, high, count) } else { (linear_ticks(low, high, count), vec![]) };
        let step = if major.len() > 1 && !log { (major[1] - major[0]).abs() } else { 0.0 };
        let labels = major.iter().map(|&v| (v, self.text(v, step))).collect();
        Ticks { range: [low, high], log, flip, labels, minor }
    }

    /// A value as its tick is written; `step` is the distance to the next one, or 0.
    pub(super) fn text(&self, value: f64, step: f64) -> String {
        match self.format {
            TickFormat::Count => format::count(value),
            TickFormat::Percent => format::tick_percent(value, step),
            TickFormat::Plain => format::plain(value),
        }
    }
}

/// Ends around the data with a little air.
fn fitted(values: impl Iterator<Item = f64>, log: bool) -> [f64; 2] {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        return if log { [1.0, 10.0] } else { [0.0, 1.0] };
    }
    if log {
        let air = (high / low).max(1.5).powf(0.04);
        return [low / air, high * air];
    }
    let span = if high > low { high - low } else { high.abs().max(1.0) * 0.1 };
    // A quantity that starts at zero should not get a negative end.
    let bottom = if low >= 0.0 && low <= 0.25 * high { 0.0 } else { low - 0.04 * span };
    [bottom, high + 0.04 * span]
}

fn linear_ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let raw = (high - low) / count.max(2) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].iter().map(|m| m * power).find(|s| *s >= raw * 0.999).unwrap_or(power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Labelled ticks at decades, with 2 and 5 where there is room; unlabelled lines at 2..9.
fn log_ticks(low: f64, high: f64, count: usize) -> (Vec<f64>, Vec<f64>) {
    let decades = (high / low).log10();
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let within = |v: &f64| *v >= low * 0.9999 && *v <= high * 1.0001;
    let at = |factors: &[f64], every: i32| -> Vec<f64> {
        (first..=last)
            .filter(|e| e.rem_euclid(every) == 0)
            .flat_map(|e| factors.iter().map(move |f| f * 10f64.powi(e)))
            .filter(within)
            .collect()
    };
    let choices = [
        at(&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], 1),
        at(&[1.0, 2.0, 3.0, 5.0], 1),
        at(&[1.0, 2.0, 5.0], 1),
        at(&[1.0, 3.0], 1),
        at(&[1.0], 1),
        at(&[1.0], 2),
        at(&[1.0], 3),
    ];
    let mut major = choices.into_iter().find(|c| c.len() <= count.max(2)).unwrap_or_default();
    if major.len() < 2 {
        major = linear_ticks(low, high, count).into_iter().filter(|v| *v > 0.0).collect();
    }
    let minor =
        if decades <= 6.0 { at(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 1) } else { at(&[1.0], 1) };
    (major, minor)
}

/// An axis with its ends and ticks fixed; what is drawn.
#[derive(Debug, Clone)]
pub(crate) struct Ticks {
    pub(crate) range: [f64; 2],
    pub(super) log: bool,
    pub(super) flip: bool,
    /// Position and text.
    pub(crate) labels: Vec<(f64, String)>,
    /// Faint lines without text.
    pub(super) minor: Vec<f64>,
}

impl Ticks {
    /// Where a value lies between the positions of the low and the high end; values outside the range lie on its ends.
    pub(super) fn place(&self, value: f64, from: f64, to: f64) -> f64 {
        let [low, high] = self.range;
        let part = if self.log {
            (value.max(f64::MIN_POSITIVE) / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        let part = part.clamp(0.0, 1.0);
        from + (to - from) * if self.flip { 1.0 - part } else { part }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis, values: &[f64]) -> Vec<String> {
        axis.resolve(values.iter().copied(), 6, false).labels.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_labelled() {
        assert_eq!(texts(&Axis::linear("x"), &[0.0, 96e3]), ["0", "20k", "40k", "60k", "80k"]);
        assert_eq!(texts(&Axis::log("x"), &[200.0, 4e6]), ["1k", "10k", "100k", "1M"]);
        let percent = Axis::linear("x").range(0.4, 1.0).format(TickFormat::Percent);
        assert_eq!(texts(&percent, &[]), ["40%", "50%", "60%", "70%", "80%", "90%", "100%"]);
    }

    #[test]
    fn narrow_and_degenerate_ranges_still_have_ticks() {
        for axis in [Axis::linear("x"), Axis::log("x")] {
            for values in [&[][..], &[5.0], &[31_000.0, 34_000.0], &[1e-3, 1e12], &[f64::NAN, -4.0, 0.0]] {
                let ticks = axis.resolve(values.iter().copied(), 6, false);
                assert!(ticks.labels.len() >= 2, "{axis:?} {values:?} {:?}", ticks.labels);
                assert!(ticks.labels.len() <= 8, "{axis:?} {values:?} {:?}", ticks.labels);
                assert!(ticks.range[0] < ticks.range[1]);
            }
        }
    }
}
