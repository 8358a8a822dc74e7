//! How numbers are written for people.

/// A count with an SI suffix and at most three significant digits beyond what is needed: 950, 2.4k, 20M.
pub fn count(value: f64) -> String {
    if !value.is_finite() {
        return "—".to_owned();
    }
    let size = value.abs();
    for (unit, suffix) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        // 999.6k would round to 1000k: move up half a unit in the last place earlier.
        if size >= unit * 0.9995 {
            return format!("{}{suffix}", significant(value / unit, 3));
        }
    }
    if size >= 1.0 || size == 0.0 { significant(value, 3) } else { plain(value) }
}

/// `digits` significant digits without trailing zeros.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { "—".to_owned() };
    }
    let decimals = (digits as i32 - 1 - value.abs().log10().floor() as i32).clamp(0, 17) as usize;
    trimmed(format!("{value:.decimals$}"))
}

/// Four significant digits; powers of ten where a decimal would be unreadable.
pub fn plain(value: f64) -> String {
    let size = value.abs();
    if value != 0.0 && value.is_finite() && !(1e-3..1e6).contains(&size) {
        let text = format!("{value:.3e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", trimmed(mantissa.to_owned()));
    }
    significant(value, 4)
}

/// A share as a percentage with one decimal: 0.9931 is 99.3%.
pub fn percent(value: f64) -> String {
    if value.is_finite() { format!("{:.1}%", value * 100.0) } else { "—".to_owned() }
}

/// A tick's percentage, with the decimals its step needs.
pub(super) fn tick_percent(value: f64, step: f64) -> String {
    let decimals = if step > 0.0 && step < 0.0099 { 1 } else { 0 };
    format!("{:.decimals$}%", value * 100.0)
}

/// Seconds as 8.3 s, 4 min 10 s, 2 h 05 min.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "—".to_owned();
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3600 {
        return format!("{} min {:02} s", whole / 60, whole % 60);
    }
    format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
}

/// A whole number with thin spaces between groups of three.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn trimmed(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let cases = [
            (0.0, "0"),
            (950.0, "950"),
            (2400.0, "2.4k"),
            (999_700.0, "1M"),
            (76_800.0, "76.8k"),
            (20e6, "20M"),
            (0.1, "0.1"),
            (f64::NAN, "—"),
        ];
        for (value, text) in cases {
            assert_eq!(count(value), text);
        }
        assert_eq!(count(1234567.0), "1.23M");
    }

    #[test]
    fn others() {
        assert_eq!(plain(1e-4), "1e-4");
        assert_eq!(plain(0.005), "0.005");
        assert_eq!(percent(0.99312), "99.3%");
        assert_eq!(duration(250.0), "4 min 10 s");
        assert_eq!(duration(59.99), "1 min 00 s");
        assert_eq!(duration(7500.0), "2 h 05 min");
        assert_eq!(grouped(1234567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(12), "12");
    }
}
