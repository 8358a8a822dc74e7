//! Lists of whole numbers on the command line: the one grammar for seeds, steps, degrees, layers, sizes, levels ...
//!
//! Items are separated by commas; an item is a number, a range with both ends (`1-3` or `1..3`), or every so-many-th number of a
//! range (`15..101:2`).

use std::str::FromStr;

/// One item names at most so many numbers; more are a mistake.
const MOST: u64 = 1_000_000;

/// One item of a list. As an argument: `Vec<Span>` with `value_delimiter = ','`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    first: u64,
    last: u64,
    step: u64,
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            part.trim().parse::<u64>().map_err(|_| {
                format!(
                    "'{}' is not a whole number (write 4, or a range with both ends: 1-3, 1..3)",
                    text.trim()
                )
            })
        };
        let (range, step) = match text.split_once(':') {
            Some((range, step)) => (range, number(step)?),
            None => (text, 1),
        };
        let (first, last) = match range.split_once("..").or_else(|| range.split_once('-')) {
            Some((first, last)) => (first, last.strip_prefix('=').unwrap_or(last)),
            None => (range, range),
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("'{}' counts down", text.trim()));
        }
        if step == 0 {
            return Err(format!("'{}' has step 0", text.trim()));
        }
        if (last - first) / step >= MOST {
            return Err(format!("'{}' names more than {MOST} numbers", text.trim()));
        }
        Ok(Self { first, last, step })
    }
}

/// The numbers of a list, in the order in which they are written.
pub fn numbers(list: &[Span]) -> Vec<u64> {
    list.iter().flat_map(|s| (s.first..=s.last).step_by(s.step as usize)).collect()
}

/// The same as sizes or indices.
pub fn sizes(list: &[Span]) -> Vec<usize> {
    numbers(list).into_iter().map(|n| n as usize).collect()
}

/// A whole list in one text, ascending and without repetition.
///
/// # Errors
/// An item that is none, or a number that `check` refuses.
pub fn ascending(text: &str, check: impl Fn(u64) -> Result<(), String>) -> Result<Vec<usize>, String> {
    let spans = text.split(',').map(Span::from_str).collect::<Result<Vec<_>, _>>()?;
    // The ends first: a refused range may be long.
    spans.iter().try_for_each(|s| check(s.first).and_then(|()| check(s.last)))?;
    let mut all = sizes(&spans);
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Vec<u64>, String> {
        Ok(numbers(&text.split(',').map(Span::from_str).collect::<Result<Vec<_>, _>>()?))
    }

    #[test]
    fn ranges_have_both_ends_and_lists_keep_their_order() {
        for (text, expected) in [
            ("4", &[4][..]),
            ("1-3", &[1, 2, 3]),
            ("1..3", &[1, 2, 3]),
            ("1..=3", &[1, 2, 3]),
            ("1,2,3", &[1, 2, 3]),
            (" 5 , 1 - 2, 2", &[5, 1, 2, 2]),
            ("15..21:2,9", &[15, 17, 19, 21, 9]),
            ("3-8:4", &[3, 7]),
            ("18446744073709551614-18446744073709551615", &[u64::MAX - 1, u64::MAX]),
        ] {
            assert_eq!(list(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(ascending("5,1-2,2", |_| Ok(())), Ok(vec![1, 2, 5]));
    }

    #[test]
    fn everything_else_is_refused_in_words() {
        for (text, expected) in [
            ("", "whole number"),
            ("1,", "whole number"),
            ("a", "'a'"),
            ("-1", "'-1'"),
            ("1-", "both ends"),
            ("1..", "both ends"),
            ("1-2-3", "'1-2-3'"),
            ("1.5", "'1.5'"),
            ("1..2..3", "'1..2..3'"),
            ("3-1", "counts down"),
            ("1..9:0", "step 0"),
            ("1..9:", "whole number"),
            ("0..99999999999", "names more than 1000000"),
            ("18446744073709551616", "whole number"),
        ] {
            let error = list(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let small = |n| if n <= 5 { Ok(()) } else { Err(format!("{n} is too large")) };
        assert_eq!(ascending("1-6", small), Err("6 is too large".to_owned()));
    }
}
