//! Marks: what is drawn inside a panel and, smaller, in the legend.

use super::layout::{BODY, PanelBox};
use super::svg::{Anchor, Paint, Point, Svg};
use super::{Color, Direction, Interval, Mark, Series, Shape, Side};

/// Draws a series inside its panel.
pub(super) fn draw(svg: &mut Svg, panel: &PanelBox, series: &Series) {
    let fill = Paint::fill(series.color).opacity(series.opacity);
    match &series.mark {
        Mark::Line { points, width, dash } => {
            for part in points.split(|&p| panel.point(p).is_none()) {
                let places = part.iter().filter_map(|&p| panel.point(p)).collect();
                svg.path(&compact(places), false, stroke(series, *width).dash(*dash));
            }
        }
        Mark::Band { points } => {
            let side = |i: usize| compact(points.iter().filter_map(|p| panel.point([p[0], p[i]])).collect());
            let outline: Vec<Point> = side(2).into_iter().chain(side(1).into_iter().rev()).collect();
            svg.path(&outline, true, fill);
        }
        Mark::Dots { points, shape, radius, filled } => {
            let places = points.iter().filter_map(|&p| panel.point(p));
            places.for_each(|at| symbol(svg, at, *shape, *radius, *filled, series));
        }
        Mark::Intervals { spans, along, width } => {
            for Interval { at, low, high, open } in spans {
                let ends = [*low, *high].map(|value| panel.along(*along, *at, value));
                if let [Some(low), Some(high)] = ends {
                    whisker(svg, low, high, *along, *width, *open, series);
                }
            }
        }
        Mark::Bars { bars, thickness, along } => {
            let axis = if *along == Direction::X { &panel.x } else { &panel.y };
            let base = axis.range[0].max(0.0).min(axis.range[1]);
            for [at, value] in bars {
                let corners = [
                    panel.along(*along, at - thickness / 2.0, base),
                    panel.along(*along, at + thickness / 2.0, *value),
                ];
                if let [Some(a), Some(b)] = corners {
                    svg.rectangle(a, b, fill);
                }
            }
        }
        Mark::Rule { at, along, width, dash } => {
            let paint = stroke(series, *width).dash(*dash);
            match along {
                Direction::X if panel.panel.y.shows(*at) => {
                    let y = panel.place_y(*at);
                    svg.line([panel.left, y], [panel.right, y], paint);
                }
                Direction::Y if panel.panel.x.shows(*at) => {
                    let x = panel.place_x(*at);
                    svg.line([x, panel.bottom], [x, panel.top], paint);
                }
                _ => {}
            }
        }
        Mark::Region { from, to } => {
            let left = if panel.panel.x.shows(*from) { panel.place_x(*from) } else { panel.left };
            let right = if panel.panel.x.shows(*to) { panel.place_x(*to) } else { panel.right };
            // At least a visible sliver, however short the region.
            svg.rectangle([left, panel.top], [right.max(left + 1.5), panel.bottom], fill);
        }
        Mark::Text { at, text, side } => {
            let Some([x, y]) = panel.point(*at) else { return };
            let (at, anchor) = match side {
                Side::Left => ([x - 6.0, y], Anchor::End),
                Side::Right => ([x + 6.0, y], Anchor::Start),
                Side::Above => ([x, y - 11.0], Anchor::Middle),
                Side::Below => ([x, y + 12.0], Anchor::Middle),
            };
            svg.rimmed_text(text, at, BODY - 0.5, anchor, series.color);
        }
    }
}

/// Draws the legend's sample of a series in a box that starts at (x, y) and is centred on y.
pub(super) fn sample(svg: &mut Svg, [x, y]: Point, series: &Series) {
    let end = [x + 22.0, y];
    match &series.mark {
        Mark::Line { width, dash, .. } | Mark::Rule { width, dash, .. } => {
            svg.line([x, y], end, stroke(series, *width).dash(*dash));
        }
        Mark::Band { .. } | Mark::Region { .. } | Mark::Bars { .. } => {
            svg.rectangle([x, y - 5.0], [end[0], y + 5.0], Paint::fill(series.color).opacity(series.opacity));
        }
        Mark::Dots { shape, radius, filled, .. } => {
            symbol(svg, [x + 11.0, y], *shape, *radius, *filled, series);
        }
        Mark::Intervals { width, .. } => whisker(svg, [x, y], end, Direction::X, *width, false, series),
        Mark::Text { .. } => {}
    }
}

fn stroke(series: &Series, width: f64) -> Paint {
    Paint::stroke(series.color, width).opacity(series.opacity)
}

fn whisker(
    svg: &mut Svg,
    low: Point,
    high: Point,
    along: Direction,
    width: f64,
    open: bool,
    series: &Series,
) {
    let paint = stroke(series, width);
    let cap = |svg: &mut Svg, [x, y]: Point| match along {
        Direction::X => svg.line([x, y - 4.5], [x, y + 4.5], paint),
        Direction::Y => svg.line([x - 4.5, y], [x + 4.5, y], paint),
    };
    cap(svg, low);
    if !open {
        svg.line(low, high, paint);
        return cap(svg, high);
    }
    // The tip may touch the frame; the shaft stays visible even for an interval of no known width.
    let (tip, shape) = match along {
        Direction::X => ([high[0] + 12.0, high[1]], Shape::ArrowRight),
        Direction::Y => ([high[0], high[1] - 12.0], Shape::ArrowUp),
    };
    svg.line(low, tip, paint);
    symbol(svg, tip, shape, 4.5, true, series);
}

fn symbol(svg: &mut Svg, at: Point, shape: Shape, radius: f64, filled: bool, series: &Series) {
    let paint = if filled {
        Paint::fill(series.color)
    } else {
        Paint { fill: Some(Color::PAPER), ..Paint::stroke(series.color, 1.4) }
    };
    let paint = paint.opacity(series.opacity);
    let point = |[dx, dy]: [f64; 2]| [at[0] + radius * dx, at[1] + radius * dy];
    let mut polygon = |corners: &[[f64; 2]]| {
        svg.path(&corners.iter().map(|&c| point(c)).collect::<Vec<_>>(), true, paint);
    };
    match shape {
        Shape::Circle => svg.circle(at, radius, paint),
        Shape::Square => polygon(&[[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]),
        Shape::Diamond => polygon(&[[-1.25, 0.0], [0.0, -1.25], [1.25, 0.0], [0.0, 1.25]]),
        Shape::TriangleUp => polygon(&[[-1.0, 1.0], [1.0, 1.0], [0.0, -1.25]]),
        Shape::TriangleDown => polygon(&[[-1.0, -1.0], [1.0, -1.0], [0.0, 1.25]]),
        Shape::ArrowRight => polygon(&[[-0.5, -1.0], [1.5, 0.0], [-0.5, 1.0]]),
        Shape::ArrowUp => polygon(&[[-1.0, 0.5], [0.0, -1.5], [1.0, 0.5]]),
        Shape::Cross => {
            svg.line(point([-1.0, -1.0]), point([1.0, 1.0]), stroke(series, 1.6));
            svg.line(point([-1.0, 1.0]), point([1.0, -1.0]), stroke(series, 1.6));
        }
        Shape::BarVertical => svg.line(point([0.0, -1.0]), point([0.0, 1.0]), stroke(series, 3.0)),
        Shape::BarHorizontal => svg.line(point([-1.0, 0.0]), point([1.0, 0.0]), stroke(series, 3.0)),
    }
}

/// Drops what cannot be seen: of the points in one column half a point wide only the first, lowest, highest and last
/// remain, and of a level stretch only its ends. Keeps files small for curves of many thousand evaluations.
fn compact(points: Vec<Point>) -> Vec<Point> {
    let column = |p: &Point| (2.0 * p[0]).round();
    let mut out: Vec<Point> = Vec::new();
    for points in points.chunk_by(|a, b| column(a) == column(b)) {
        let (mut low, mut high) = (0, 0);
        for (i, point) in points.iter().enumerate() {
            low = if point[1] < points[low][1] { i } else { low };
            high = if point[1] > points[high][1] { i } else { high };
        }
        let mut keep = [0, low, high, points.len() - 1];
        keep.sort_unstable();
        for next in keep.map(|i| points[i]) {
            if out.last() == Some(&next) {
                continue;
            }
            if let [.., a, b] = out[..]
                && (a[1] - b[1]).abs().max((b[1] - next[1]).abs()) < 0.05
                && a[0] <= b[0]
                && b[0] <= next[0]
            {
                out.pop();
            }
            out.push(next);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacting_keeps_extremes_and_ends() {
        let points = |points: &[(i32, i32)]| -> Vec<Point> {
            points.iter().map(|&(x, y)| [f64::from(x), f64::from(y)]).collect()
        };
        let flat: Vec<(i32, i32)> = (0..100).map(|x| (x, 5)).collect();
        assert_eq!(compact(points(&flat)), points(&[(0, 5), (99, 5)]));
        let spike = points(&[(0, 5), (1, 5), (1, 90), (1, 4), (1, 5), (2, 5), (3, 5)]);
        assert_eq!(compact(spike), points(&[(0, 5), (1, 5), (1, 90), (1, 4), (1, 5), (3, 5)]));
        assert_eq!(compact(vec![]), points(&[]));
    }
}
