//! `curricle theory threshold`: Fourier coefficients of threshold functions.

use super::{Common, blame, usage};
use anyhow::Result;
use curricle_theory::threshold::{ThresholdTable, exact_levels, threshold_levels};
use std::str::FromStr;

/// Fourier coefficients of 1[x_1 + .. + x_d + bias >= 0] and of majority, exact up to one rounding
///
/// JSON: {"d","bias","levels":[{"level","coefficient","majority","exact"?}]}; exact (with --exact) is a
/// fraction in lowest terms such as "-3/2^9". coefficient is that of the indicator at any set of `level`
/// coordinates; majority is zeta_s, that of the majority function, where it is defined (d odd, |bias| < 1),
/// else null. A coefficient too small for a 64-bit float is null, with "scaled": {"sign","ln_abs"} beside it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ThresholdArgs {
    /// Dimension, up to 100001
    #[arg(long)]
    d: usize,
    /// Bias, any finite number
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    bias: f64,
    /// Levels: a range with both ends such as 0..7, or a list such as 1,3,5 [default: 0..7]
    #[arg(long, value_name = "RANGE")]
    levels: Option<Levels>,
    /// Also print every coefficient as an exact fraction
    #[arg(long)]
    exact: bool,
    #[command(flatten)]
    common: Common,
}

/// Levels, ascending, without repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Levels(Vec<usize>);

impl FromStr for Levels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |item: &str| -> Result<usize, String> {
            item.trim().parse().map_err(|_| format!("'{}' is not a level (write 0..7 or 1,3,5)", item.trim()))
        };
        let mut levels = Vec::new();
        for part in text.split(',') {
            let (low, high) = match part.split_once("..") {
                None => (number(part)?, number(part)?),
                Some((low, high)) => (number(low)?, number(high.strip_prefix('=').unwrap_or(high))?),
            };
            if low > high {
                return Err(format!("'{}' counts down", part.trim()));
            }
            if high > 1_000_000 {
                return Err(format!("level {high} is above every possible dimension"));
            }
            levels.extend(low..=high);
        }
        levels.sort_unstable();
        levels.dedup();
        Ok(Self(levels))
    }
}

/// `curricle theory threshold`.
///
/// # Errors
/// Arguments that cannot be satisfied; output that cannot be written.
pub(super) fn run(args: &ThresholdArgs) -> Result<()> {
    super::super::check_device(&args.common.device)?;
    let Levels(wanted) = args.levels.clone().unwrap_or_else(|| Levels((0..=args.d.min(7)).collect()));
    let (first, last) = (wanted[0], wanted[wanted.len() - 1]);
    if args.d > 0 && last > args.d {
        return Err(usage(format!(
            "--levels: level {last} is outside 0..{d}: a set has between 0 and d = {d} coordinates",
            d = args.d
        )));
    }
    let of = if args.exact { exact_levels } else { threshold_levels };
    let mut table = of(args.d, args.bias, first..=last).map_err(blame)?;
    table.levels.retain(|l| wanted.binary_search(&l.level).is_ok());
    args.common.answer(&table, &text(&table))
}

fn text(table: &ThresholdTable) -> String {
    let mut out = format!(
        "d = {}, bias = {}\n{:>6}  {:>24}  {:>24}\n",
        table.d, table.bias, "level", "coefficient", "majority"
    );
    for level in &table.levels {
        let coefficient = match (level.coefficient, level.scaled) {
            (Some(c), _) => format!("{c:.15e}"),
            (None, Some(s)) => format!("{}exp({:.6})", if s.sign < 0 { "-" } else { "" }, s.ln_abs),
            (None, None) => "-".to_owned(),
        };
        let majority = level.majority.map_or_else(|| "-".to_owned(), |m| format!("{m:.15e}"));
        let exact = level.exact.as_deref().map_or_else(String::new, |e| format!("  {e}"));
        out += &format!("{:>6}  {coefficient:>24}  {majority:>24}{exact}\n", level.level);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_both_ends() {
        assert_eq!("0..3".parse(), Ok(Levels(vec![0, 1, 2, 3])));
        assert_eq!("5, 1..=2,2".parse(), Ok(Levels(vec![1, 2, 5])));
        for bad in ["", "3..1", "a", "1..", "-1", "0..99999999999"] {
            assert!(bad.parse::<Levels>().is_err(), "{bad}");
        }
    }
}
