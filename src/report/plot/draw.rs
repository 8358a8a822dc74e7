//! Draws a laid-out figure as SVG; a bitmap is that SVG, rasterised.

use super::layout::{BODY, LEGEND_GLYPH, PanelBox, layout};
use super::svg::{Anchor, Paint, Svg};
use super::{Color, Figure, Mark, PlotError, Scale, font, marks};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use std::path::Path;

impl Figure {
    /// Width and height in points; the height follows from the content.
    ///
    /// # Errors
    /// A figure without panels, or of an unusable size.
    pub fn size(&self) -> Result<(f64, f64), PlotError> {
        layout(self).map(|l| (l.size[0], l.size[1]))
    }

    /// The figure as an SVG document with the title as its accessible name.
    ///
    /// # Errors
    /// A figure without panels, or of an unusable size.
    pub fn to_svg(&self) -> Result<String, PlotError> {
        let layout = layout(self)?;
        let mut svg = Svg::new(layout.size, &self.title);
        for line in &layout.lines {
            let color = if line.muted { Color::MUTED } else { Color::INK };
            svg.text(&line.text, [line.x, line.y], line.size, Anchor::Start, color, false);
        }
        for panel in &layout.panels {
            draw_panel(&mut svg, panel);
        }
        for entry in &layout.legend {
            marks::sample(&mut svg, [entry.x, entry.y], entry.series);
            let at = [entry.x + LEGEND_GLYPH, entry.y];
            svg.text(&entry.series.label, at, BODY, Anchor::Start, Color::INK, false);
        }
        Ok(svg.finish())
    }

    /// The figure as a PNG file of `scale` pixels per point (2 suits screens and print).
    ///
    /// # Errors
    /// A figure without panels or of an unusable size; a scale that is not between 0.5 and 4.
    pub fn to_png(&self, scale: f64) -> Result<Vec<u8>, PlotError> {
        let svg = self.to_svg()?;
        if !(0.5..=4.0).contains(&scale) {
            let reason = "the scale of a PNG must be between 0.5 and 4";
            return Err(PlotError::Shape { figure: self.title.clone(), reason });
        }
        let refused = |reason: String| PlotError::Draw { figure: self.title.clone(), reason };
        let options = Options { fontdb: font::database(), ..Options::default() };
        let tree = Tree::from_str(&svg, &options).map_err(|e| refused(e.to_string()))?;
        let [w, h] = [tree.size().width(), tree.size().height()]
            .map(|points| (f64::from(points) * scale).round() as u32);
        let mut pixels = Pixmap::new(w, h).ok_or_else(|| refused(format!("no room for {w} x {h} pixels")))?;
        resvg::render(&tree, Transform::from_scale(scale as f32, scale as f32), &mut pixels.as_mut());
        pixels.encode_png().map_err(|e| refused(e.to_string()))
    }

    /// Writes [`Figure::to_png`] to a file, complete or not at all.
    ///
    /// # Errors
    /// As [`Figure::to_png`], and when the file cannot be written.
    pub fn write_png(&self, path: &Path, scale: f64) -> Result<(), PlotError> {
        curricle_files::atomic::write_bytes(path, &self.to_png(scale)?)
            .map_err(|source| PlotError::Write { path: path.to_owned(), source })
    }
}

fn draw_panel(svg: &mut Svg, boxed: &PanelBox) {
    let PanelBox { panel, left, right, top, bottom, .. } = *boxed;
    // Regions lie under the grid, everything else over it.
    let (regions, rest): (Vec<_>, Vec<_>) =
        panel.series.iter().partition(|s| matches!(s.mark, Mark::Region { .. }));
    regions.into_iter().for_each(|series| marks::draw(svg, boxed, series));

    let faint = Paint::stroke(Color::GRID, 0.6).opacity(0.5);
    let grid = Paint::stroke(Color::GRID, 0.9);
    let frame = Paint::stroke(Color::REFERENCE, 1.0);
    let named = |scale: &Scale| matches!(scale, Scale::Categories(_));
    // Thin straight lines look best on the middle of a pixel.
    let crisp = |v: f64| v.floor() + 0.5;
    if !named(&panel.x.scale) {
        let lines = boxed.x.minor.iter().map(|v| (v, faint));
        for (&value, paint) in lines.chain(boxed.x.labels.iter().map(|(v, _)| (v, grid))) {
            let x = crisp(boxed.place_x(value));
            svg.line([x, top], [x, bottom], paint);
        }
    }
    let lines = boxed.y.minor.iter().map(|v| (v, faint));
    for (&value, paint) in lines.chain(boxed.y.labels.iter().map(|(v, _)| (v, grid))) {
        let y = crisp(boxed.place_y(value));
        svg.line([left, y], [right, y], paint);
    }
    let (x, y) = (crisp(left), crisp(bottom));
    svg.path(&[[x, top], [x, y], [right, y]], false, frame);
    for (value, text) in &boxed.x.labels {
        let at = boxed.place_x(*value);
        svg.line([crisp(at), y], [crisp(at), y + 4.0], frame);
        svg.text(text, [at, bottom + 12.0], BODY, Anchor::Middle, Color::INK, false);
    }
    for (value, text) in &boxed.y.labels {
        let at = boxed.place_y(*value);
        svg.line([x - 4.0, crisp(at)], [x, crisp(at)], frame);
        svg.text(text, [left - 8.0, at], BODY, Anchor::End, Color::INK, false);
    }
    let middle = (left + right) / 2.0;
    if !panel.x.label.is_empty() {
        svg.text(&panel.x.label, [middle, bottom + 30.0], BODY, Anchor::Middle, Color::INK, false);
    }
    if !panel.y.label.is_empty() {
        let at = [boxed.y_title, (top + bottom) / 2.0];
        svg.text(&panel.y.label, at, BODY, Anchor::Middle, Color::INK, true);
    }
    rest.into_iter().for_each(|series| marks::draw(svg, boxed, series));
}
