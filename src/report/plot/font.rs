//! The bundled font, so that a figure looks the same on every machine and needs no font library.

use resvg::usvg::fontdb::Database;
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};
use std::sync::{Arc, LazyLock};

static DEJAVU_SANS: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans.ttf");

/// A CSS list: Verdana has the same widths where DejaVu Sans is not installed.
pub(super) const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// The font for bitmaps; no font of the machine is looked at.
pub(super) fn database() -> Arc<Database> {
    static BUNDLED: LazyLock<Arc<Database>> = LazyLock::new(|| {
        let mut fonts = Database::new();
        fonts.load_font_data(DEJAVU_SANS.to_vec());
        Arc::new(fonts)
    });
    BUNDLED.clone()
}

/// Width of a text in points, before kerning.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    static FONT: LazyLock<Option<FontRef>> = LazyLock::new(|| FontRef::new(DEJAVU_SANS).ok());
    // A character that the font lacks is drawn as a box of about this width.
    let unknown = 0.6 * size;
    let Some(font) = FONT.as_ref() else { return unknown * text.chars().count() as f64 };
    let metrics = font.glyph_metrics(Size::new(size as f32), LocationRef::default());
    let advance = |c| metrics.advance_width(font.charmap().map(c)?);
    text.chars().map(|c| advance(c).map_or(unknown, f64::from)).sum()
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
