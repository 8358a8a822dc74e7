//! The bundled font, so that a figure looks the same on every machine and needs no font library.

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};
use std::sync::Once;

static DEJAVU_SANS: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans.ttf");

/// Family name. SVG viewers read it as a CSS list: Verdana has the same widths where DejaVu Sans is not installed.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// plotters asks for a line height, of which DejaVu's em is this part; SVG output divides by 1.24, bitmaps by 1.164.
const LINE_OVER_EM: f64 = 1.2;

/// The font at an em of `size` points. Registers it first: plotters measures text even for SVG.
pub(super) fn font(size: f64) -> FontDesc<'static> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // Fails only for a file that is not a font, which the tests would show.
        let _ = register_font(FAMILY, FontStyle::Normal, DEJAVU_SANS);
    });
    FontDesc::new(FontFamily::Name(FAMILY), size * LINE_OVER_EM, FontStyle::Normal)
}

/// Width of a text in points. Measured at ten times the size, since plotters answers in whole pixels.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    match font(size * 10.0).box_size(text) {
        Ok((width, _)) => f64::from(width) / 10.0,
        Err(_) => text.chars().count() as f64 * size * 0.6,
    }
}

/// Breaks a text into lines no wider than `width` points; a longer word stands alone.
pub(super) fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_font_measures_text() {
        let (narrow, wide) = (text_width("iiii", 12.0), text_width("WWWW", 12.0));
        assert!(narrow > 5.0 && wide > 2.0 * narrow, "{narrow} {wide}");
    }

    #[test]
    fn wrapping_keeps_every_word() {
        let text = "the contrast exists only inside the transition";
        let lines = wrap(text, 12.0, 120.0);
        assert!(lines.len() > 2);
        assert_eq!(lines.join(" "), text);
    }
}
