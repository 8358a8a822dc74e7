//! Colours that stay apart for colour-blind readers (after Okabe and Ito, 2008, and Paul Tol's notes), darkened
//! where needed for thin lines on white.

use super::Shape;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// An sRGB colour, written as `#rrggbb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

#[allow(missing_docs)]
impl Color {
    pub const BLUE: Color = Color(0x00, 0x72, 0xb2);
    pub const VERMILION: Color = Color(0xd5, 0x5e, 0x00);
    pub const GREEN: Color = Color(0x00, 0x9e, 0x73);
    pub const PURPLE: Color = Color(0xaa, 0x44, 0x99);
    pub const ORANGE: Color = Color(0xc9, 0x8a, 0x00);
    pub const SKY: Color = Color(0x45, 0xa5, 0xdd);
    pub const BROWN: Color = Color(0x7f, 0x4f, 0x24);
    pub const OLIVE: Color = Color(0x8a, 0x96, 0x0a);
    /// Text, axes, and the teacher, which is a reference and not a competitor.
    pub const INK: Color = Color(0x22, 0x26, 0x2b);
    /// Secondary text.
    pub const MUTED: Color = Color(0x5c, 0x63, 0x6b);
    /// The page.
    pub const PAPER: Color = Color(0xff, 0xff, 0xff);
    /// Grid lines.
    pub const GRID: Color = Color(0xe4, 0xe6, 0xe9);
    /// Reference lines such as chance or a noise floor.
    pub const REFERENCE: Color = Color(0x8a, 0x90, 0x97);
    /// Shading of a region such as the phase transition.
    pub const REGION: Color = Color(0xf0, 0xc9, 0x4c);
}

/// Every named colour with its counterpart on a dark page: lighter, of the same hue.
pub(crate) const ON_DARK: [(Color, Color); 14] = [
    (Color::BLUE, Color(0x4a, 0xa8, 0xe8)),
    (Color::VERMILION, Color(0xff, 0x8a, 0x3d)),
    (Color::GREEN, Color(0x2f, 0xc7, 0x9b)),
    (Color::PURPLE, Color(0xd9, 0x86, 0xcb)),
    (Color::ORANGE, Color(0xec, 0xb8, 0x3f)),
    (Color::SKY, Color(0x93, 0xd2, 0xf6)),
    (Color::BROWN, Color(0xc7, 0x92, 0x64)),
    (Color::OLIVE, Color(0xbc, 0xc8, 0x4a)),
    (Color::INK, Color(0xe6, 0xe8, 0xeb)),
    (Color::MUTED, Color(0xa4, 0xab, 0xb3)),
    (Color::GRID, Color(0x30, 0x34, 0x3a)),
    (Color::REFERENCE, Color(0x8f, 0x96, 0x9e)),
    (Color::REGION, Color(0xb8, 0x92, 0x2a)),
    (Color::PAPER, Color(0x17, 0x19, 0x1d)),
];

/// Student colours, in order of use.
const ARMS: [Color; 8] = [
    Color::BLUE,
    Color::VERMILION,
    Color::GREEN,
    Color::PURPLE,
    Color::ORANGE,
    Color::SKY,
    Color::BROWN,
    Color::OLIVE,
];

const SHAPES: [Shape; 5] =
    [Shape::Circle, Shape::Square, Shape::TriangleUp, Shape::Diamond, Shape::TriangleDown];

/// Colour of the student arm with this rank among the students; repeats after eight.
pub fn arm_color(rank: usize) -> Color {
    ARMS[rank % ARMS.len()]
}

/// Symbol of the student arm with this rank. Its period differs from the colours', so that 40 arms have distinct
/// pairs and no arm is known by its colour alone.
pub fn arm_shape(rank: usize) -> Shape {
    SHAPES[rank % SHAPES.len()]
}

/// Ends and middles of the sequential palette: dark blue over green to orange, darker than usual since it lies on white.
const SEQUENCE: [Color; 5] = [
    Color(0x2b, 0x1d, 0x6e),
    Color(0x1f, 0x5f, 0xa8),
    Color(0x12, 0x92, 0x8a),
    Color(0x7d, 0xa0, 0x1e),
    Color(0xe0, 0x8a, 0x00),
];

/// A colour along a numeric axis, from its low end (0) to its high end (1).
pub(crate) fn sequential(part: f64) -> Color {
    let place = part.clamp(0.0, 1.0) * (SEQUENCE.len() - 1) as f64;
    let low = (place.floor() as usize).min(SEQUENCE.len() - 2);
    SEQUENCE[low].mixed(SEQUENCE[low + 1], place - low as f64)
}

impl Color {
    /// The colour to use on a dark page: the counterpart of a named one, else the colour lightened.
    pub(crate) fn on_dark(self) -> Color {
        let named = ON_DARK.iter().find(|(light, _)| *light == self);
        named.map_or_else(|| self.mixed(Color::PAPER, 0.35), |(_, dark)| *dark)
    }

    /// This colour for a part of 0, the other for 1.
    fn mixed(self, other: Color, part: f64) -> Color {
        let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
        Color(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    /// Lighter (0) to darker (1), the hue kept: one arm along a numeric axis.
    pub(crate) fn shaded(self, part: f64) -> Color {
        let part = part.clamp(0.0, 1.0);
        if part < 0.5 {
            self.mixed(Color::PAPER, 0.5 - part)
        } else {
            self.mixed(Color(0, 0, 0), 0.9 * (part - 0.5))
        }
    }
}

impl std::fmt::Display for Color {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

impl std::str::FromStr for Color {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits =
            text.strip_prefix('#').filter(|d| d.len() == 6 && d.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = digits.and_then(|d| u32::from_str_radix(d, 16).ok());
        let value = value.ok_or_else(|| format!("\"{text}\" is not a colour: write it as \"#rrggbb\""))?;
        let [_, r, g, b] = value.to_be_bytes();
        Ok(Color(r, g, b))
    }
}

impl Serialize for Color {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Color {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_round_trip_and_reject_nonsense() {
        assert_eq!("#d55e00".parse(), Ok(Color::VERMILION));
        assert_eq!(Color::VERMILION.to_string(), "#d55e00");
        for bad in ["", "red", "#12345", "#12345g", "#+12345", "#é1234"] {
            assert!(bad.parse::<Color>().is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs_of_colour_and_shape_are_distinct() {
        let along: Vec<_> = (0..20).map(|i| sequential(f64::from(i) / 19.0)).collect();
        assert!(along.iter().enumerate().all(|(i, a)| !along[..i].contains(a)));
        assert_eq!((along[0], along[19]), (SEQUENCE[0], SEQUENCE[4]));
        let pairs: Vec<_> = (0..40).map(|i| (arm_color(i), arm_shape(i))).collect();
        for (i, a) in pairs.iter().enumerate() {
            assert!(!pairs[..i].contains(a), "{i}");
        }
    }
}
