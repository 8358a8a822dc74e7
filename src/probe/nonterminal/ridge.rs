//! The quick alternative: a linear map from each hidden state to the classes, in closed form.

use super::{Examples, LevelAccuracy, accuracies};
use crate::least_squares::NormalEquations;
use crate::sequence::SequenceProbeError;
use ndarray::{Array2, s};

/// Least squares with an L2 penalty from hidden states (and a constant) to one-hot classes, all levels at once; the
/// prediction at a level is its largest output. `penalty` is per training token and relative to unit variance of a state; the
/// constant is not penalised.
///
/// # Errors
/// Without sentences on either side, or if the system is singular.
pub fn ridge(
    train: &Examples,
    test: &Examples,
    penalty: f64,
) -> Result<Vec<LevelAccuracy>, SequenceProbeError> {
    train.check(test)?;
    let (d, outputs) = (train.width(), train.classes.outputs());
    let blocks = train.classes.blocks();
    let mut equations = NormalEquations::new(d, outputs);
    for example in &train.examples {
        let mut y = Array2::<f64>::zeros((example.hidden.nrows(), outputs));
        for (block, labels) in blocks.iter().zip(&example.labels) {
            labels.iter().enumerate().for_each(|(t, &class)| y[[t, block.start + class]] = 1.0);
        }
        equations.add(example.hidden.mapv(f64::from).view(), y.view());
    }
    let map = equations.solve(penalty).map_err(SequenceProbeError::Singular)?.mapv(|x| x as f32);
    Ok(accuracies(test, |i| test.examples[i].hidden.dot(&map.slice(s![..d, ..])) + map.slice(s![d, ..])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nonterminal::tests::examples;

    #[test]
    fn near_tokens_tell_low_levels_and_not_high_ones() {
        let (train, test) = (examples(0, 300), examples(300, 100));
        let result = ridge(&train, &test, 1e-6).unwrap();
        assert_eq!(result.iter().map(|l| l.level).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(result[0].accuracy > 0.75, "{result:?}");
        assert!(result[0].accuracy > result[1].accuracy + 0.2, "{result:?}");
        assert!(result.iter().all(|l| l.accuracy >= l.majority - 0.05), "{result:?}");
        // A huge penalty leaves the frequencies.
        let flat = ridge(&train, &test, 1e9).unwrap();
        flat.iter().for_each(|l| assert!((l.accuracy - l.majority).abs() < 0.05, "{flat:?}"));
        let none = examples(0, 0);
        assert!(ridge(&train, &none, 1.0).is_err());
    }
}
