//! Marks in pixels: what is drawn inside a panel and, smaller, in the legend.

use super::axis::Ticks;
use super::font::font;
use super::layout::BODY;
use super::{Color, Dash, Direction, Mark, Panel, Series, Shape, Side};
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::Color as _;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(super) type Drawn = Result<(), String>;
pub(super) type Area<'a, DB> = DrawingArea<DB, Shift>;
type Pixel = (i32, i32);

/// A surface in pixels, with its pixels per point.
pub(super) struct Canvas<'a, DB: DrawingBackend> {
    pub(super) root: &'a Area<'a, DB>,
    pub(super) scale: f64,
    /// How far the backend draws centred text too high, in ems.
    pub(super) sink: f64,
}

/// Maps data to pixels, as plotters' coordinate system does, within a panel.
pub(super) struct Place<'a> {
    pub(super) panel: &'a Panel,
    pub(super) x: &'a Ticks,
    pub(super) y: &'a Ticks,
    /// Left, right and bottom, top pixels of the plotting area.
    pub(super) left: i32,
    pub(super) right: i32,
    pub(super) bottom: i32,
    pub(super) top: i32,
}

impl Place<'_> {
    fn x(&self, value: f64) -> i32 {
        self.x.map(&value, (self.left, self.right))
    }

    fn y(&self, value: f64) -> i32 {
        self.y.map(&value, (self.bottom, self.top))
    }

    fn point(&self, [x, y]: [f64; 2]) -> Option<Pixel> {
        (self.panel.x.shows(x) && self.panel.y.shows(y)).then(|| (self.x(x), self.y(y)))
    }

    fn along(&self, direction: Direction, at: f64, value: f64) -> Option<Pixel> {
        self.point(if direction == Direction::X { [value, at] } else { [at, value] })
    }
}

fn rgba(color: Color, opacity: f64) -> RGBAColor {
    RGBColor(color.0, color.1, color.2).mix(opacity.clamp(0.0, 1.0))
}

impl<DB: DrawingBackend> Canvas<'_, DB> {
    pub(super) fn px(&self, points: f64) -> i32 {
        (points * self.scale).round() as i32
    }

    fn draw<'b, E, B>(&self, element: &'b E) -> Drawn
    where
        B: plotters::element::CoordMapper,
        &'b E: plotters::element::PointCollection<'b, Pixel, B>,
        E: plotters::element::Drawable<DB, B>,
    {
        self.root.draw(element).map_err(|e| e.to_string())
    }

    pub(super) fn text(&self, text: &str, size: f64, color: Color, at: Pixel, h: HPos, v: VPos) -> Drawn {
        let style = font(size * self.scale).color(&rgba(color, 1.0)).pos(Pos::new(h, v));
        let at = if matches!(v, VPos::Center) { (at.0, at.1 + self.px(self.sink * size)) } else { at };
        self.root.draw_text(text, &style, at).map_err(|e| e.to_string())
    }

    fn stroke(&self, series: &Series, width: f64) -> ShapeStyle {
        rgba(series.color, series.opacity).stroke_width(self.px(width).max(1) as u32)
    }

    fn path(&self, points: Vec<Pixel>, dash: Dash, style: ShapeStyle) -> Drawn {
        match dash {
            _ if points.len() < 2 => Ok(()),
            Dash::Solid => self.draw(&PathElement::new(points, style)),
            Dash::Dashed => self.draw(&DashedPathElement::new(points, self.px(7.0), self.px(4.0), style)),
            Dash::Dotted => self.draw(&DashedPathElement::new(points, self.px(2.0), self.px(3.0), style)),
        }
    }

    /// Draws a series inside its panel.
    pub(super) fn series(&self, place: &Place, series: &Series) -> Drawn {
        match &series.mark {
            Mark::Line { points, width, dash } => {
                let style = self.stroke(series, *width);
                for part in points.split(|&p| place.point(p).is_none()) {
                    let pixels = part.iter().filter_map(|&p| place.point(p)).collect();
                    self.path(compact(pixels), *dash, style)?;
                }
                Ok(())
            }
            Mark::Band { points } => {
                let high = points.iter().filter_map(|p| place.point([p[0], p[2]]));
                let low = points.iter().rev().filter_map(|p| place.point([p[0], p[1]]));
                let outline: Vec<Pixel> =
                    compact(high.collect()).into_iter().chain(compact(low.collect())).collect();
                if outline.len() < 3 {
                    return Ok(());
                }
                self.draw(&Polygon::new(outline, rgba(series.color, series.opacity).filled()))
            }
            Mark::Dots { points, shape, radius, filled } => points
                .iter()
                .filter_map(|&p| place.point(p))
                .try_for_each(|at| self.symbol(at, *shape, *radius, *filled, series)),
            Mark::Intervals { spans, along, width } => spans.iter().try_for_each(|span| {
                match (place.along(*along, span.at, span.low), place.along(*along, span.at, span.high)) {
                    (Some(low), Some(high)) => self.whisker(low, high, *along, *width, span.open, series),
                    _ => Ok(()),
                }
            }),
            Mark::Bars { bars, thickness, along } => bars.iter().try_for_each(|[at, value]| {
                let axis = if *along == Direction::X { place.x } else { place.y };
                let base = axis.range[0].max(0.0).min(axis.range[1]);
                let half = thickness / 2.0;
                match (place.along(*along, at - half, base), place.along(*along, at + half, *value)) {
                    (Some(a), Some(b)) => {
                        self.draw(&Rectangle::new([a, b], rgba(series.color, series.opacity).filled()))
                    }
                    _ => Ok(()),
                }
            }),
            Mark::Rule { at, along, width, dash } => {
                let ends = match along {
                    Direction::X if place.panel.y.shows(*at) => {
                        let y = place.y(*at);
                        vec![(place.left, y), (place.right, y)]
                    }
                    Direction::Y if place.panel.x.shows(*at) => {
                        let x = place.x(*at);
                        vec![(x, place.bottom), (x, place.top)]
                    }
                    _ => return Ok(()),
                };
                self.path(ends, *dash, self.stroke(series, *width))
            }
            Mark::Region { from, to } => {
                let left = if place.panel.x.shows(*from) { place.x(*from) } else { place.left };
                let right = if place.panel.x.shows(*to) { place.x(*to) } else { place.right };
                // At least a visible sliver, however short the region.
                let right = right.max(left + self.px(1.5));
                let fill = rgba(series.color, series.opacity).filled();
                self.draw(&Rectangle::new([(left, place.top), (right, place.bottom)], fill))
            }
            Mark::Text { at, text, side } => match place.point(*at) {
                Some((x, y)) => {
                    let gap = self.px(6.0);
                    let (at, h, v) = match side {
                        Side::Left => ((x - gap, y), HPos::Right, VPos::Center),
                        Side::Right => ((x + gap, y), HPos::Left, VPos::Center),
                        Side::Above => ((x, y - gap), HPos::Center, VPos::Bottom),
                        Side::Below => ((x, y + gap), HPos::Center, VPos::Top),
                    };
                    self.text(text, BODY - 0.5, series.color, at, h, v)
                }
                None => Ok(()),
            },
        }
    }

    /// Draws the legend's sample of a series in a box that starts at (x, y) and is centred on y.
    pub(super) fn sample(&self, x: i32, y: i32, series: &Series) -> Drawn {
        let (w, h) = (self.px(22.0), self.px(5.0));
        let middle = (x + w / 2, y);
        match &series.mark {
            Mark::Line { width, dash, .. } | Mark::Rule { width, dash, .. } => {
                self.path(vec![(x, y), (x + w, y)], *dash, self.stroke(series, *width))
            }
            Mark::Band { .. } | Mark::Region { .. } | Mark::Bars { .. } => {
                let fill = rgba(series.color, series.opacity).filled();
                self.draw(&Rectangle::new([(x, y - h), (x + w, y + h)], fill))
            }
            Mark::Dots { shape, radius, filled, .. } => self.symbol(middle, *shape, *radius, *filled, series),
            Mark::Intervals { width, .. } => {
                self.whisker((x, y), (x + w, y), Direction::X, *width, false, series)
            }
            Mark::Text { .. } => Ok(()),
        }
    }

    fn whisker(
        &self,
        low: Pixel,
        high: Pixel,
        along: Direction,
        width: f64,
        open: bool,
        series: &Series,
    ) -> Drawn {
        let style = self.stroke(series, width);
        let cap = self.px(4.5);
        let end = |(x, y): Pixel| match along {
            Direction::X => vec![(x, y - cap), (x, y + cap)],
            Direction::Y => vec![(x - cap, y), (x + cap, y)],
        };
        self.path(end(low), Dash::Solid, style)?;
        if !open {
            self.path(vec![low, high], Dash::Solid, style)?;
            return self.path(end(high), Dash::Solid, style);
        }
        // The tip may touch the frame; the shaft stays visible even for an interval of no known width.
        let reach = self.px(12.0);
        let (tip, shape) = match along {
            Direction::X => ((high.0 + reach, high.1), Shape::ArrowRight),
            Direction::Y => ((high.0, high.1 - reach), Shape::ArrowUp),
        };
        self.path(vec![low, tip], Dash::Solid, style)?;
        self.symbol(tip, shape, 4.5, true, series)
    }

    fn symbol(&self, (x, y): Pixel, shape: Shape, radius: f64, filled: bool, series: &Series) -> Drawn {
        let r = self.px(radius).max(1);
        let color = rgba(series.color, series.opacity);
        let thin = color.stroke_width(self.px(1.4).max(1) as u32);
        let polygon = |corners: Vec<Pixel>| {
            if filled {
                return self.draw(&Polygon::new(corners, color.filled()));
            }
            let closed: Vec<Pixel> = corners.iter().copied().chain(corners.first().copied()).collect();
            self.draw(&Polygon::new(corners, rgba(Color(255, 255, 255), 1.0).filled()))?;
            self.path(closed, Dash::Solid, thin)
        };
        let line = |a: Pixel, b: Pixel, width: f64| {
            self.path(vec![a, b], Dash::Solid, color.stroke_width(self.px(width).max(1) as u32))
        };
        match shape {
            Shape::Circle if filled => self.draw(&Circle::new((x, y), r, color.filled())),
            Shape::Circle => {
                self.draw(&Circle::new((x, y), r, rgba(Color(255, 255, 255), 1.0).filled()))?;
                self.draw(&Circle::new((x, y), r, thin))
            }
            Shape::Square => {
                let r = r * 9 / 10;
                polygon(vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)])
            }
            Shape::Diamond => {
                let r = r * 5 / 4;
                polygon(vec![(x - r, y), (x, y - r), (x + r, y), (x, y + r)])
            }
            Shape::TriangleUp => polygon(vec![(x - r, y + r), (x + r, y + r), (x, y - r * 5 / 4)]),
            Shape::TriangleDown => polygon(vec![(x - r, y - r), (x + r, y - r), (x, y + r * 5 / 4)]),
            Shape::Cross => {
                line((x - r, y - r), (x + r, y + r), 1.6)?;
                line((x - r, y + r), (x + r, y - r), 1.6)
            }
            Shape::ArrowRight => polygon(vec![(x - r / 2, y - r), (x + r * 3 / 2, y), (x - r / 2, y + r)]),
            Shape::ArrowUp => polygon(vec![(x - r, y + r / 2), (x, y - r * 3 / 2), (x + r, y + r / 2)]),
            Shape::BarVertical => line((x, y - r), (x, y + r), 3.0),
            Shape::BarHorizontal => line((x - r, y), (x + r, y), 3.0),
        }
    }
}

/// Drops what cannot be seen: of the points in one pixel column only the first, lowest, highest and last remain, and
/// of a level stretch only its ends. Keeps files small for curves of many thousand evaluations.
fn compact(points: Vec<Pixel>) -> Vec<Pixel> {
    let mut out: Vec<Pixel> = Vec::new();
    for column in points.chunk_by(|a, b| a.0 == b.0) {
        let (mut low, mut high) = (0, 0);
        for (i, point) in column.iter().enumerate() {
            low = if point.1 < column[low].1 { i } else { low };
            high = if point.1 > column[high].1 { i } else { high };
        }
        let mut keep = [0, low, high, column.len() - 1];
        keep.sort_unstable();
        for i in keep {
            if out.last() == Some(&column[i]) {
                continue;
            }
            if let [.., a, b] = out[..]
                && a.1 == b.1
                && b.1 == column[i].1
                && a.0 <= b.0
                && b.0 <= column[i].0
            {
                out.pop();
            }
            out.push(column[i]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacting_keeps_extremes_and_ends() {
        let flat: Vec<Pixel> = (0..100).map(|x| (x, 5)).collect();
        assert_eq!(compact(flat), [(0, 5), (99, 5)]);
        let spike = vec![(0, 5), (1, 5), (1, 90), (1, 4), (1, 5), (2, 5), (3, 5)];
        assert_eq!(compact(spike), [(0, 5), (1, 5), (1, 90), (1, 4), (1, 5), (3, 5)]);
        assert_eq!(compact(vec![]), []);
    }
}
