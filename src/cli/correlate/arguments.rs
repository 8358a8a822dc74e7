//! Arguments with a grammar of their own.

use crate::lists;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use curricle_probe::{MAX_DEGREE, Statistic};
use std::str::FromStr;

/// Coordinates of one or more nodes: `2,5,7,11` or `0,1;2,3;4,5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupportList(pub Vec<Vec<usize>>);

impl FromStr for SupportList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let node = |part: &str| {
            let number = |item: &str| {
                item.trim()
                    .parse()
                    .map_err(|_| format!("'{}' is not a coordinate (coordinates count from 0)", item.trim()))
            };
            part.split(',').map(number).collect::<Result<Vec<usize>, String>>()
        };
        text.split(';').map(node).collect::<Result<_, _>>().map(Self)
    }
}

/// The values of `--statistic`.
pub fn statistic() -> impl TypedValueParser<Value = Statistic> {
    let value = |of: Statistic, help: &'static str| PossibleValue::new(of.name()).help(help);
    PossibleValuesParser::new([
        value(
            Statistic::Probability,
            "Softmax probability of class c (the paper's plots use c = 1). In [0, 1]",
        ),
        value(
            Statistic::Margin,
            "Log-odds of class c: z_c - log sum over the other classes of exp(z). With two classes and c = 1 this is the \
             logit margin z_1 - z_0",
        ),
        value(
            Statistic::Argmax,
            "1 where class c has the largest logit, else 0; of equal logits the first wins",
        ),
    ])
    .try_map(|name| name.parse())
}

/// Degrees: `1-3`, `1..3`, `2`, `1,3-5`; ascending, without repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degrees(pub Vec<usize>);

impl FromStr for Degrees {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let check = |degree: u64| {
            let good = (1..=MAX_DEGREE as u64).contains(&degree);
            let detail = || format!("degree {degree} is out of range: degrees go from 1 to {MAX_DEGREE}");
            good.then_some(()).ok_or_else(detail)
        };
        lists::ascending(text, check).map(Self)
    }
}

/// Most blocks a list of layers can name.
const MOST_LAYERS: u64 = 10_000;

/// Layers of a transformer: `all`, or `0-2`, `0..2`, `1`, `0,2-3`; ascending, without repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerList {
    /// The embeddings and every block.
    All,
    /// These.
    Given(Vec<usize>),
}

impl FromStr for LayerList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "all" {
            return Ok(Self::All);
        }
        let wanted = "not a layer (write all, 0-2, 0..2 or 0,2; 0 are the embeddings)";
        let check = |layer: u64| {
            (layer <= MOST_LAYERS).then_some(()).ok_or_else(|| format!("{layer} is above {MOST_LAYERS}"))
        };
        lists::ascending(text, check).map(Self::Given).map_err(|detail| format!("{wanted}: {detail}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed() {
        assert_eq!("2, 5,7".parse(), Ok(SupportList(vec![vec![2, 5, 7]])));
        assert_eq!("0,1;2".parse(), Ok(SupportList(vec![vec![0, 1], vec![2]])));
        for bad in ["", "1,", "a", "-1", "1;;2", "1.5"] {
            assert!(bad.parse::<SupportList>().unwrap_err().contains("coordinate"), "{bad}");
        }
        assert_eq!("1-3".parse(), Ok(Degrees(vec![1, 2, 3])));
        assert_eq!("1..3".parse(), Ok(Degrees(vec![1, 2, 3])));
        assert_eq!("5,1-2,2".parse(), Ok(Degrees(vec![1, 2, 5])));
        for bad in ["", "0", "6", "1-6", "3-1", "x", "1-", "1-2-3"] {
            assert!(bad.parse::<Degrees>().is_err(), "{bad}");
        }
        assert_eq!("all".parse(), Ok(LayerList::All));
        assert_eq!("2, 0-1,1".parse(), Ok(LayerList::Given(vec![0, 1, 2])));
        for bad in ["", "every", "-1", "2-0", "1,", "10001"] {
            assert!(bad.parse::<LayerList>().is_err(), "{bad}");
        }
    }
}
