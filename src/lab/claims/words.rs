//! How claims speak of levels and arms.

/// A level as a percentage, as exact as it was written.
pub(super) fn percent(level: f64) -> String {
    format!("{}%", (level * 1e6).round() / 1e4)
}

/// The value of a sweep axis after an arm's name.
pub(super) fn with(at: Option<f64>) -> String {
    at.map_or_else(String::new, |v| format!(" at {v}"))
}
