//! Where everything goes, in points.

use super::axis::{Scale, Ticks};
use super::font::{text_width, wrap};
use super::{Direction, Figure, Interval, Mark, Panel, PlotError, Series};

pub(super) const TITLE: f64 = 15.0;
pub(super) const BODY: f64 = 11.0;
pub(super) const TITLE_LINE: f64 = 21.0;
pub(super) const BODY_LINE: f64 = 15.5;
pub(super) const LEGEND_LINE: f64 = 18.0;
/// Room for the sample of line or symbol before a legend text.
pub(super) const LEGEND_GLYPH: f64 = 30.0;
const MARGIN: f64 = 14.0;
/// The last tick's text is centred on the right end of the axis and needs half its width beyond it.
const RIGHT_MARGIN: f64 = 28.0;
const GAP: f64 = 12.0;

/// A text line and where its left end and middle are.
pub(super) struct TextLine {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) size: f64,
    pub(super) muted: bool,
    pub(super) text: String,
}

pub(super) struct LegendEntry<'a> {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) series: &'a Series,
}

/// A panel with its ends fixed and the edges of its plotting area.
pub(super) struct PanelBox<'a> {
    pub(super) panel: &'a Panel,
    pub(super) x: Ticks,
    pub(super) y: Ticks,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    /// Middle of the vertical axis' title.
    pub(super) y_title: f64,
}

impl PanelBox<'_> {
    pub(super) fn place_x(&self, value: f64) -> f64 {
        self.x.place(value, self.left, self.right)
    }

    pub(super) fn place_y(&self, value: f64) -> f64 {
        self.y.place(value, self.bottom, self.top)
    }

    /// Where a point of the data is, if both axes can show it.
    pub(super) fn point(&self, [x, y]: [f64; 2]) -> Option<[f64; 2]> {
        (self.panel.x.shows(x) && self.panel.y.shows(y)).then(|| [self.place_x(x), self.place_y(y)])
    }

    pub(super) fn along(&self, direction: Direction, at: f64, value: f64) -> Option<[f64; 2]> {
        self.point(if direction == Direction::X { [value, at] } else { [at, value] })
    }
}

pub(super) struct Layout<'a> {
    pub(super) size: [f64; 2],
    pub(super) lines: Vec<TextLine>,
    pub(super) panels: Vec<PanelBox<'a>>,
    pub(super) legend: Vec<LegendEntry<'a>>,
}

/// Computes the layout, or says what is wrong with the figure.
pub(super) fn layout(figure: &Figure) -> Result<Layout<'_>, PlotError> {
    let refuse = |reason| PlotError::Shape { figure: figure.title.clone(), reason };
    if figure.panels.is_empty() {
        return Err(refuse("it has no panel"));
    }
    if !(320.0..=4000.0).contains(&figure.width) {
        return Err(refuse("its width must be between 320 and 4000 points"));
    }
    if figure.panels.iter().any(|p| !(40.0..=4000.0).contains(&p.height)) {
        return Err(refuse("the height of a panel must be between 40 and 4000 points"));
    }
    let mut lines = Vec::new();
    let mut top = MARGIN;
    let text_room = figure.width - 2.0 * MARGIN;
    let mut block = |top: &mut f64, text: &str, size: f64, line: f64, muted: bool| {
        for text in wrap(text, size, text_room) {
            lines.push(TextLine { x: MARGIN, y: *top + line / 2.0, size, muted, text });
            *top += line;
        }
    };
    block(&mut top, &figure.title, TITLE, TITLE_LINE, false);
    block(&mut top, &figure.subtitle, BODY, BODY_LINE, true);
    top += 6.0;

    let mut panels: Vec<PanelBox> = figure
        .panels
        .iter()
        .map(|panel| PanelBox {
            panel,
            x: x_ticks(panel, figure.width),
            y: y_ticks(panel),
            left: MARGIN,
            right: figure.width - RIGHT_MARGIN,
            top: 0.0,
            bottom: 0.0,
            y_title: MARGIN + 6.0,
        })
        .collect();
    // One width for all panels, so that their x axes line up.
    let label_width = panels.iter().map(y_label_width).fold(0.0, f64::max).min(figure.width * 0.4);
    for boxed in &mut panels {
        if !boxed.panel.title.is_empty() {
            block(&mut top, &boxed.panel.title, BODY, BODY_LINE, false);
            top += 3.0;
        }
        boxed.left += label_width;
        boxed.top = top;
        boxed.bottom = top + boxed.panel.height;
        if let Scale::Categories(names) = &boxed.panel.x.scale {
            let slot = (boxed.right - boxed.left) / names.len().max(1) as f64 - 6.0;
            boxed.x.labels.iter_mut().for_each(|(_, text)| *text = shortened(text, slot));
        }
        if matches!(boxed.panel.y.scale, Scale::Categories(_)) {
            let room = label_width - title_width(boxed.panel) - 9.0;
            boxed.y.labels.iter_mut().for_each(|(_, text)| *text = shortened(text, room));
        }
        top = boxed.bottom + if boxed.panel.x.label.is_empty() { 22.0 } else { 37.0 } + GAP;
    }

    let (legend, after) = legend(figure, MARGIN + label_width.min(60.0), top);
    top = after;
    for note in &figure.notes {
        block(&mut top, note, BODY, BODY_LINE, true);
    }
    Ok(Layout { size: [figure.width, (top + MARGIN - 4.0).ceil()], lines, panels, legend })
}

/// Ends and ticks of every panel's axes, x and y, as the drawing has them.
pub(crate) fn axes(figure: &Figure) -> Vec<[Ticks; 2]> {
    figure.panels.iter().map(|panel| [x_ticks(panel, figure.width), y_ticks(panel)]).collect()
}

fn legend<'a>(figure: &'a Figure, left: f64, top: f64) -> (Vec<LegendEntry<'a>>, f64) {
    let mut entries: Vec<&Series> = Vec::new();
    for series in figure.panels.iter().flat_map(|panel| &panel.series) {
        if !series.label.is_empty() && !entries.iter().any(|e| e.label == series.label) {
            entries.push(series);
        }
    }
    if entries.is_empty() {
        return (Vec::new(), top);
    }
    // Columns of equal width read better than ragged rows.
    let widest = entries.iter().map(|s| text_width(&s.label, BODY)).fold(0.0, f64::max);
    let column = widest + LEGEND_GLYPH + 18.0;
    let columns = (((figure.width - MARGIN - left + 18.0) / column).floor() as usize).clamp(1, entries.len());
    let rows = entries.len().div_ceil(columns);
    let placed = entries
        .iter()
        .enumerate()
        .map(|(i, series)| LegendEntry {
            x: left + (i / rows) as f64 * column,
            y: top + ((i % rows) as f64 + 0.5) * LEGEND_LINE,
            series,
        })
        .collect();
    (placed, top + rows as f64 * LEGEND_LINE + 6.0)
}

fn y_label_width(boxed: &PanelBox) -> f64 {
    let ticks = boxed.y.labels.iter().map(|(_, text)| text_width(text, BODY)).fold(0.0, f64::max);
    ticks + 12.0 + title_width(boxed.panel)
}

fn title_width(panel: &Panel) -> f64 {
    if panel.y.label.is_empty() { 0.0 } else { 20.0 }
}

fn shortened(text: &str, room: f64) -> String {
    if text_width(text, BODY) <= room {
        return text.to_owned();
    }
    let mut kept: Vec<char> = text.chars().collect();
    while !kept.is_empty() && text_width(&(kept.iter().collect::<String>() + "…"), BODY) > room {
        kept.pop();
    }
    kept.into_iter().collect::<String>() + "…"
}

fn x_ticks(panel: &Panel, width: f64) -> Ticks {
    let values = panel.series.iter().flat_map(|s| extent(&s.mark).0);
    let mut ticks = panel.x.resolve(values, ((width - 100.0) / 75.0) as usize, false);
    if let Some(labels) = measured(panel, &ticks, width - 100.0) {
        ticks.labels = labels;
        ticks.minor.clear();
    }
    ticks
}

/// On a logarithmic axis with measurements at few places only, such as a handful of dimensions: ticks there, if they fit.
fn measured(panel: &Panel, ticks: &Ticks, room: f64) -> Option<Vec<(f64, String)>> {
    let measurement =
        |mark: &Mark| matches!(mark, Mark::Line { .. } | Mark::Dots { .. } | Mark::Intervals { .. });
    let marks = panel.series.iter().map(|s| &s.mark).filter(|mark| measurement(mark));
    let mut places: Vec<f64> = marks.flat_map(|mark| extent(mark).0).filter(|&x| panel.x.shows(x)).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    if panel.x.scale != Scale::Log || !(2..=12).contains(&places.len()) {
        return None;
    }
    let labels: Vec<(f64, String)> = places.into_iter().map(|v| (v, panel.x.text(v, 0.0))).collect();
    let fits = labels.windows(2).all(|pair| {
        let [a, b] = [&pair[0], &pair[1]];
        let apart = ticks.place(b.0, 0.0, room) - ticks.place(a.0, 0.0, room);
        apart > (text_width(&a.1, BODY) + text_width(&b.1, BODY)) / 2.0 + 6.0
    });
    fits.then_some(labels)
}

fn y_ticks(panel: &Panel) -> Ticks {
    let flip = matches!(panel.y.scale, Scale::Categories(_));
    let values = panel.series.iter().flat_map(|s| extent(&s.mark).1);
    panel.y.resolve(values, (panel.height / 42.0).clamp(2.0, 10.0) as usize, flip)
}

/// All x and all y values a mark needs room for.
fn extent(mark: &Mark) -> (Vec<f64>, Vec<f64>) {
    use Direction::{X, Y};
    let pairs = |points: &[[f64; 2]]| points.iter().map(|p| (p[0], p[1])).unzip();
    match mark {
        Mark::Line { points, .. } | Mark::Dots { points, .. } => pairs(points),
        Mark::Band { points } => {
            (points.iter().map(|p| p[0]).collect(), points.iter().flat_map(|p| [p[1], p[2]]).collect())
        }
        Mark::Intervals { spans, along, .. } => {
            // Room for the arrow of an open end.
            let far = |s: &Interval| if s.open { s.high * 1.18 } else { s.high };
            let ends: Vec<f64> = spans.iter().flat_map(|s| [s.low, far(s)]).collect();
            let at: Vec<f64> = spans.iter().map(|s| s.at).collect();
            if *along == X { (ends, at) } else { (at, ends) }
        }
        Mark::Bars { bars, thickness, along } => {
            let at = bars.iter().flat_map(|b| [b[0] - thickness / 2.0, b[0] + thickness / 2.0]).collect();
            let value = bars.iter().flat_map(|b| [0.0, b[1]]).collect();
            if *along == X { (value, at) } else { (at, value) }
        }
        Mark::Rule { at, along: X, .. } => (vec![], vec![*at]),
        Mark::Rule { at, along: Y, .. } => (vec![*at], vec![]),
        Mark::Region { from, to } => (vec![*from, *to], vec![]),
        Mark::Text { at, .. } => (vec![at[0]], vec![at[1]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Axis, Color};

    #[test]
    fn few_measured_places_carry_the_ticks() {
        let panel = |ds: &[f64]| {
            let line = Mark::line(ds.iter().map(|&d| [d, d]).collect());
            Panel::new(Axis::log("d"), Axis::log("n")).with(Series::unnamed(Color::BLUE, line))
        };
        let texts = |ds: &[f64]| -> Vec<String> {
            x_ticks(&panel(ds), 800.0).labels.into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(texts(&[15.0, 21.0, 29.0, 41.0, 57.0]), ["15", "21", "29", "41", "57"]);
        assert_eq!(
            texts(&[100.0, 100.1, 100_000.0]),
            ["100", "300", "1k", "3k", "10k", "30k", "100k"],
            "they would overlap"
        );
    }
}
