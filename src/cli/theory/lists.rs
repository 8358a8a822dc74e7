//! Lists of sizes on the command line.

use std::str::FromStr;

/// Sizes, ascending, without repetition: `15,21,29`, `15..101`, `15..101:2` (both ends, with a step), or
/// several of these with commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sizes(pub Vec<usize>);

/// More sizes than this are a mistake.
const MOST: usize = 100_000;

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |item: &str| -> Result<usize, String> {
            item.trim().parse().map_err(|_| {
                format!("'{}' is not a size (write 15,21,29 or 15..101 or 15..101:2)", item.trim())
            })
        };
        let mut sizes = Vec::new();
        for part in text.split(',') {
            let Some((low, rest)) = part.split_once("..") else {
                sizes.push(number(part)?);
                continue;
            };
            let (high, step) = rest.split_once(':').unwrap_or((rest, "1"));
            let (low, high, step) =
                (number(low)?, number(high.strip_prefix('=').unwrap_or(high))?, number(step)?);
            if low > high || step == 0 {
                return Err(format!("'{}' counts down or has step 0", part.trim()));
            }
            if (high - low) / step > MOST {
                return Err(format!("'{}' has more than {MOST} sizes; give a larger step", part.trim()));
            }
            sizes.extend((low..=high).step_by(step));
        }
        sizes.sort_unstable();
        sizes.dedup();
        Ok(Self(sizes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_with_both_ends() {
        assert_eq!("15..21:2,9".parse(), Ok(Sizes(vec![9, 15, 17, 19, 21])));
        assert_eq!("3..=5".parse(), Ok(Sizes(vec![3, 4, 5])));
        for bad in ["", "5..3", "a", "1..", "1..9:0", "0..999999999"] {
            assert!(bad.parse::<Sizes>().is_err(), "{bad}");
        }
    }
}
