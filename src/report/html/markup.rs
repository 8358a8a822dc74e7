//! Building HTML from which no text can escape.

use crate::escape::escape;
use serde::Serialize;

/// An HTML document in the making. Markup must be known at compile time; everything else goes through an escape.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup of ours.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, escaped for element content and for attributes in double quotes.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.0.push_str(&escape(text));
        self
    }

    /// A value as JSON inside a script element of a type that is not executed.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<&mut Self, serde_json::Error> {
        self.0.push_str(&script_safe(&serde_json::to_string(value)?));
        Ok(self)
    }

    /// An SVG drawing of ours, whose texts are escaped.
    pub(super) fn svg(&mut self, svg: &str) -> &mut Self {
        self.0.push_str(svg);
        self
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// JSON without a character that could end a script element, open a comment or a line, or that a page must not have. All of
/// these occur only inside JSON strings, where the escapes mean the same.
fn script_safe(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{7f}'..'\u{a0}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        let mut html = Html::default();
        html.raw("<p title=\"").text("\"><script>alert('1')&amp;\u{0}").raw("\">");
        let expected = "<p title=\"&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&amp;amp;\u{fffd}\">";
        assert_eq!(html.finish(), expected);
    }

    #[test]
    fn json_cannot_end_its_script_and_stays_the_same_value() {
        let nasty = "</script><!-- & \u{2028}\u{2029} \\u003c \"quoted\"";
        let mut html = Html::default();
        html.json(&nasty).unwrap();
        let text = html.finish();
        assert!(!text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), nasty);
    }
}
