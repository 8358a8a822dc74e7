//! Draws a laid-out figure on any plotters backend.

use super::axis::Scale;
use super::font::font;
use super::glyph::{Area, Canvas, Drawn, Place};
use super::layout::{self, BODY, LEGEND_GLYPH, Layout, PanelBox, layout};
use super::{Color, Figure, PlotError};
use image::{
    ColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use plotters::prelude::*;
use plotters::style::Color as _;
use plotters::style::text_anchor::{HPos, VPos};
use std::path::Path;

/// plotters places everything on whole pixels; an SVG drawn at twice its size has half-pixel positions.
const SVG_SCALE: f64 = 2.0;
/// Bitmaps are drawn larger and averaged down: plotters smooths thin lines only.
const OVERSAMPLING: usize = 2;
/// Bitmap text is centred by its line, not by its letters: lower it by this part of an em.
const BITMAP_SINK: f64 = 0.16;

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
        let (w, h) = pixels(&layout, SVG_SCALE);
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (w, h)).into_drawing_area();
            render(&root, &layout, SVG_SCALE, 0.0).map_err(|reason| self.refused(reason))?;
        }
        let title = escaped(&self.title);
        let size = format!("width=\"{}\" height=\"{}\" ", layout.size[0], layout.size[1]);
        let sized = svg.replacen(&format!("width=\"{w}\" height=\"{h}\" "), &size, 1);
        let named = sized.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1);
        Ok(match named.find("<svg ").and_then(|start| named[start..].find('>').map(|end| start + end + 1)) {
            Some(end) => format!("{}\n<title>{title}</title>{}", &named[..end], &named[end..]),
            None => named,
        })
    }

    /// The figure as a PNG file of `scale` pixels per point (2 suits screens and print).
    ///
    /// # Errors
    /// A figure without panels or of an unusable size; a scale that is not between 0.5 and 4.
    pub fn to_png(&self, scale: f64) -> Result<Vec<u8>, PlotError> {
        let layout = layout(self)?;
        if !(0.5..=4.0).contains(&scale) {
            let reason = "the scale of a PNG must be between 0.5 and 4";
            return Err(PlotError::Shape { figure: self.title.clone(), reason });
        }
        let (w, h) = pixels(&layout, scale);
        let (big_w, big_h) = (w * OVERSAMPLING as u32, h * OVERSAMPLING as u32);
        let mut big = vec![255u8; big_w as usize * big_h as usize * 3];
        {
            let root = BitMapBackend::with_buffer(&mut big, (big_w, big_h)).into_drawing_area();
            render(&root, &layout, scale * OVERSAMPLING as f64, BITMAP_SINK)
                .map_err(|reason| self.refused(reason))?;
        }
        let small = averaged(&big, w as usize, h as usize);
        let mut png = Vec::new();
        PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::Adaptive)
            .write_image(&small, w, h, ColorType::Rgb8)
            .map_err(|e| self.refused(e.to_string()))?;
        Ok(png)
    }

    /// Writes [`Figure::to_png`] to a file, complete or not at all.
    ///
    /// # Errors
    /// As [`Figure::to_png`], and when the file cannot be written.
    pub fn write_png(&self, path: &Path, scale: f64) -> Result<(), PlotError> {
        crate::files::write_atomic(path, &self.to_png(scale)?)
            .map_err(|source| PlotError::Write { path: path.to_owned(), source })
    }

    fn refused(&self, reason: String) -> PlotError {
        PlotError::Draw { figure: self.title.clone(), reason }
    }
}

fn pixels(layout: &Layout, scale: f64) -> (u32, u32) {
    ((layout.size[0] * scale).round() as u32, (layout.size[1] * scale).round() as u32)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Mean over squares of OVERSAMPLING pixels.
fn averaged(big: &[u8], w: usize, h: usize) -> Vec<u8> {
    let n = OVERSAMPLING;
    let mut small = Vec::with_capacity(w * h * 3);
    for y in 0..h {
        for x in 0..w {
            for c in 0..3 {
                let mut sum = 0;
                for dy in 0..n {
                    for dx in 0..n {
                        sum += usize::from(big[((y * n + dy) * w * n + x * n + dx) * 3 + c]);
                    }
                }
                small.push(((sum + n * n / 2) / (n * n)) as u8);
            }
        }
    }
    small
}

fn render<DB: DrawingBackend>(root: &Area<DB>, layout: &Layout, scale: f64, sink: f64) -> Drawn {
    root.fill(&WHITE).map_err(|e| e.to_string())?;
    let canvas = Canvas { root, scale, sink };
    for line in &layout.lines {
        let color = if line.muted { Color::MUTED } else { Color::INK };
        let at = (canvas.px(line.x), canvas.px(line.y));
        canvas.text(&line.text, line.size, color, at, HPos::Left, VPos::Center)?;
    }
    for panel in &layout.panels {
        draw_panel(&canvas, panel)?;
    }
    for entry in &layout.legend {
        let (x, y) = (canvas.px(entry.x), canvas.px(entry.y));
        canvas.sample(x, y, entry.series)?;
        let at = (x + canvas.px(LEGEND_GLYPH), y);
        canvas.text(&entry.series.label, layout::BODY, Color::INK, at, HPos::Left, VPos::Center)?;
    }
    root.present().map_err(|e| e.to_string())
}

fn draw_panel<DB: DrawingBackend>(canvas: &Canvas<DB>, boxed: &PanelBox) -> Drawn {
    let text = |e: DrawingAreaErrorKind<DB::ErrorType>| e.to_string();
    let rgb = |c: Color| RGBColor(c.0, c.1, c.2);
    let px = |points: f64| canvas.px(points).max(1) as u32;
    let [left, top, width, height] = boxed.area.map(|v| canvas.px(v));
    let area = canvas.root.clone().shrink((left, top), (width, height));
    let mut chart = ChartBuilder::on(&area)
        .x_label_area_size(px(boxed.x_label_height))
        .y_label_area_size(px(boxed.y_label_width))
        .build_cartesian_2d(boxed.x.clone(), boxed.y.clone())
        .map_err(text)?;
    let (xs, ys) = chart.plotting_area().get_pixel_range();
    let place = Place {
        panel: boxed.panel,
        x: &boxed.x,
        y: &boxed.y,
        left: xs.start,
        right: xs.end - 1,
        top: ys.start,
        bottom: ys.end - 1,
    };
    // Regions lie under the grid, everything else over it.
    let (regions, marks): (Vec<_>, Vec<_>) =
        boxed.panel.series.iter().partition(|s| matches!(s.mark, super::Mark::Region { .. }));
    regions.into_iter().try_for_each(|series| canvas.series(&place, series))?;

    let labels = font(BODY * canvas.scale).color(&rgb(Color::INK));
    let x_text = |v: &f64| boxed.x.text_of(*v);
    let y_text = |v: &f64| boxed.y.text_of(*v);
    let mut mesh = chart.configure_mesh();
    if matches!(boxed.panel.x.scale, Scale::Categories(_)) {
        mesh.disable_x_mesh();
    }
    mesh.bold_line_style(rgb(Color::GRID).stroke_width(px(0.8)))
        .light_line_style(rgb(Color::GRID).mix(0.45).stroke_width(px(0.6)))
        .axis_style(rgb(Color::REFERENCE).stroke_width(px(1.0)))
        .label_style(labels.clone())
        .axis_desc_style(labels)
        .y_label_offset(canvas.px(canvas.sink * BODY))
        .set_all_tick_mark_size(px(3.0))
        .x_label_formatter(&x_text)
        .y_label_formatter(&y_text)
        .x_desc(&boxed.panel.x.label)
        .y_desc(&boxed.panel.y.label)
        .draw()
        .map_err(text)?;
    marks.into_iter().try_for_each(|series| canvas.series(&place, series))
}
