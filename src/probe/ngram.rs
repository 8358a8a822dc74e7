//! How much a prediction depends on the nearest tokens: M_robust and M_close.
//!
//! Position i is hidden (MASK as input, attention mask 0, as in training) and the model predicts it. M_robust(i, n) is the L1
//! distance between that prediction and the one with the whole n-gram around i hidden: large when the model predicts from the
//! n-gram. M_close(i, n) is the L1 distance to the prediction with everything outside the n-gram hidden too: small when
//! the n-gram is all the model uses. (Panigrahi et al. 2025, section 4.2.) The BOS token is never hidden, and the model
//! always knows the length.
//!
//! The n-gram around i are the tokens i - n/2 .. i + (n-1)/2 (integer division): n = 2 is (i-1, i), 3 is (i-1 .. i+1), 4 is
//! (i-2 .. i+1), 5 is (i-2 .. i+2). Where it passes the ends of the sentence it is clipped to the sentence.

mod predictor;
mod spread;

pub use predictor::{MaskedModel, MaskedPredictor, Query};
pub use spread::Spread;

pub use super::sequence::MOST_TOKENS;
use super::sequence::SequenceProbeError;
use std::ops::Range;

/// Which tokens are probed. Positions count from 1, so position p is that of the model's sequence after BOS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// Every k-th.
    Every(usize),
    /// These.
    Given(Vec<usize>),
}

impl Positions {
    /// Every 30th as in the paper, or every 3rd where some sentence has fewer than 60 tokens.
    pub fn usual(sentences: &[Vec<u8>]) -> Self {
        Self::Every(if sentences.iter().any(|s| s.len() < 60) { 3 } else { 30 })
    }

    /// Token indices (from 0) in a sentence of this length.
    fn tokens(&self, length: usize) -> Vec<usize> {
        match self {
            Self::Every(step) => (1..=length).filter(|p| p % step.max(&1) == 0).map(|p| p - 1).collect(),
            Self::Given(list) => list.iter().filter(|&&p| p >= 1 && p <= length).map(|p| p - 1).collect(),
        }
    }
}

/// The tokens of the n-gram around token i (from 0), clipped to a sentence of `length` tokens.
pub fn window(i: usize, n: usize, length: usize) -> Range<usize> {
    i.saturating_sub(n / 2)..(i + n.div_ceil(2)).min(length)
}

/// One measurement: L1 distances, from 0 to 2.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Measurement {
    /// Index of the sentence.
    pub sentence: usize,
    /// Position, from 1.
    pub position: usize,
    /// Length of the n-gram.
    pub n: usize,
    /// M_robust.
    pub robust: f64,
    /// M_close.
    pub close: f64,
}

/// M_robust and M_close of every (sentence, position, n).
///
/// # Errors
/// Sizes outside 2..=64, positions that no sentence has, or a predictor that fails.
pub fn measure(
    predictor: &dyn MaskedPredictor,
    sentences: &[Vec<u8>],
    positions: &Positions,
    sizes: &[usize],
) -> Result<Vec<Measurement>, SequenceProbeError> {
    if let Some(&n) = sizes.iter().find(|n| !(2..=MOST_TOKENS).contains(*n)) {
        return Err(SequenceProbeError::Size(n));
    }
    let mut queries = Vec::new();
    let mut places = Vec::new();
    for (sentence, tokens) in sentences.iter().enumerate() {
        for position in positions.tokens(tokens.len()) {
            places.push((sentence, position));
            queries.push(Query { sentence, hidden: vec![position], position });
            for &n in sizes {
                let near = window(position, n, tokens.len());
                let far = (0..tokens.len()).filter(|t| *t == position || !near.contains(t)).collect();
                queries.push(Query { sentence, hidden: near.collect(), position });
                queries.push(Query { sentence, hidden: far, position });
            }
        }
    }
    if places.is_empty() {
        let longest = sentences.iter().map(Vec::len).max().unwrap_or(0);
        return Err(SequenceProbeError::NoPositions { longest });
    }
    let answers = predictor.distributions(sentences, &queries)?;
    let mut measurements = Vec::with_capacity(places.len() * sizes.len());
    for (group, &(sentence, position)) in answers.chunks_exact(1 + 2 * sizes.len()).zip(&places) {
        for (pair, &n) in group[1..].chunks_exact(2).zip(sizes) {
            let (robust, close) = (distance(&group[0], &pair[0]), distance(&group[0], &pair[1]));
            measurements.push(Measurement { sentence, position: position + 1, n, robust, close });
        }
    }
    Ok(measurements)
}

/// L1 distance; twice the total variation.
fn distance(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(a, b)| (a - b).abs()).sum()
}

/// The measurements of one n, over sentences and positions. L1 distances.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NgramSummary {
    /// Length of the n-gram.
    pub n: usize,
    /// M_robust.
    pub robust: Spread,
    /// M_close.
    pub close: Spread,
}

/// One summary per n, ascending.
pub fn summarize(measurements: &[Measurement]) -> Vec<NgramSummary> {
    let mut sizes: Vec<usize> = measurements.iter().map(|m| m.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
        .into_iter()
        .filter_map(|n| {
            let own = || measurements.iter().filter(move |m| m.n == n);
            let (robust, close) = (Spread::of(own().map(|m| m.robust))?, Spread::of(own().map(|m| m.close))?);
            Some(NgramSummary { n, robust, close })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use curricle_core::model::transformer::{TokenBatch, TransformerConfig};
    use curricle_core::model::{ModelError, SequenceModel};
    use curricle_core::rng::{Purpose, Stream};
    use curricle_core::task::pcfg::bayes::Bayes;
    use curricle_core::task::pcfg::{Grammar, Sampler};

    /// Logits from distances to visible tokens: a function of exactly what a BERT model may use.
    struct Toy(TransformerConfig);

    fn toy_logits(tokens: &[u32], keys: &[u8], at: usize, vocab: usize) -> Vec<f32> {
        let mut logits = vec![0.1 * tokens[at] as f32; vocab];
        for (k, &token) in tokens.iter().enumerate().filter(|&(k, _)| keys[k] == 1) {
            let offset = k as i64 - at as i64;
            logits[(token as usize + offset.unsigned_abs() as usize) % vocab] +=
                if offset < 0 { 1.0 } else { -0.7 } / (1.0 + offset.abs() as f32);
        }
        logits
    }

    impl SequenceModel for Toy {
        fn config(&self) -> &TransformerConfig {
            &self.0
        }

        fn logits(&self, batch: &TokenBatch<'_>, reads: &[u32]) -> Result<Vec<f32>, ModelError> {
            batch.check(&self.0)?;
            curricle_core::model::transformer::check_reads(batch, reads)?;
            let mut all = Vec::new();
            for &read in reads {
                let (b, t) = (read as usize / batch.length, read as usize % batch.length);
                let row = b * batch.length..(b + 1) * batch.length;
                all.extend(toy_logits(
                    &batch.tokens[row.clone()],
                    &batch.keys.unwrap()[row],
                    t,
                    self.0.vocab,
                ));
            }
            Ok(all)
        }

        fn hidden(&self, _: &TokenBatch<'_>, _: usize) -> Result<Vec<f32>, ModelError> {
            Err("the toy has no hidden states".into())
        }
    }

    fn grammar() -> Grammar {
        Grammar::builtin("cfg3b").unwrap().with_start("15").unwrap()
    }

    fn sentences(count: u64) -> Vec<Vec<u8>> {
        let sampler = Sampler::new(&grammar());
        (0..count).map(|i| sampler.sentence(3, Stream::new(Purpose::Probe, 0), i)).collect()
    }

    /// One sentence at a time, straight from the definition, positions of the sequence with BOS at 0.
    fn slow(sentence: &[u8], p: usize, near: &[usize]) -> (f64, f64) {
        let predict = |hidden: &dyn Fn(usize) -> bool| {
            let mut tokens: Vec<u32> =
                std::iter::once(3).chain(sentence.iter().map(|&t| u32::from(t))).collect();
            let mut keys = vec![1; tokens.len()];
            for q in 1..tokens.len() {
                if hidden(q) {
                    (tokens[q], keys[q]) = (6, 0);
                }
            }
            let logits = toy_logits(&tokens, &keys, p, 8);
            let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
            logits.into_iter().map(|l| f64::from(l).exp() / sum).collect::<Vec<f64>>()
        };
        let l1 = |a: Vec<f64>, b: Vec<f64>| (0..8).map(|v| (a[v] - b[v]).abs()).sum();
        let own = || predict(&|q| q == p);
        (l1(own(), predict(&|q| near.contains(&q))), l1(own(), predict(&|q| q == p || !near.contains(&q))))
    }

    #[test]
    fn batched_measurements_equal_slow_ones() {
        let toy = Toy(TransformerConfig::bert(8, 32, 8, 1, 1));
        let sentences = sentences(5);
        let mut model = MaskedModel::new(&toy, &grammar()).unwrap();
        // Small passes, so that several are needed.
        model.chunk = 100;
        let positions = Positions::Given(vec![1, 10, sentences[0].len()]);
        let measured = measure(&model, &sentences, &positions, &[2, 3, 4, 5]).unwrap();
        let expected: usize =
            sentences.iter().map(|s| if s.len() >= sentences[0].len() { 12 } else { 8 }).sum();
        assert_eq!(measured.len(), expected);
        for m in measured {
            let p = m.position;
            let all = match m.n {
                2 => vec![p - 1, p],
                3 => vec![p - 1, p, p + 1],
                4 => vec![p.wrapping_sub(2), p - 1, p, p + 1],
                _ => vec![p.wrapping_sub(2), p - 1, p, p + 1, p + 2],
            };
            // BOS, at 0, is never hidden; and nothing past the end exists.
            let length = sentences[m.sentence].len();
            let near: Vec<usize> = all.into_iter().filter(|&q| q >= 1 && q <= length).collect();
            let (robust, close) = slow(&sentences[m.sentence], p, &near);
            assert!(
                (m.robust - robust).abs() < 1e-6 && (m.close - close).abs() < 1e-6,
                "{m:?} {robust} {close}"
            );
            // An n-gram clipped to the position itself hides nothing more.
            assert!((m.robust > 1e-4 || near.len() == 1) && m.close > 1e-4, "{m:?}");
        }
    }

    #[test]
    fn unsuitable_requests_are_refused() {
        let toy = Toy(TransformerConfig::bert(8, 20, 8, 1, 1));
        let (grammar, sentences) = (grammar(), sentences(2));
        let refusal = |toy: &Toy, positions: Positions, n| {
            let model = MaskedModel::new(toy, &grammar).map_err(|e| e.to_string())?;
            measure(&model, &sentences, &positions, &[n]).map_err(|e| e.to_string())
        };
        let given = || Positions::Given(vec![5]);
        assert!(refusal(&toy, given(), 2).unwrap_err().contains("but the model has 20"));
        assert!(refusal(&toy, given(), 1).unwrap_err().contains("n = 1"));
        assert!(refusal(&toy, Positions::Given(vec![90, 0]), 2).unwrap_err().contains("longest sentence"));
        let small = Toy(TransformerConfig::bert(6, 64, 8, 1, 1));
        assert!(refusal(&small, given(), 2).unwrap_err().contains("needs 7"));
        let gpt = Toy(TransformerConfig::gpt2(8, 64, 8, 1, 1));
        assert!(refusal(&gpt, given(), 2).unwrap_err().contains("GPT-2"));
    }

    #[test]
    fn the_optimum_needs_more_than_near_tokens() {
        let grammar = grammar();
        let bayes = Bayes::complete(&grammar);
        let measured = measure(&bayes, &sentences(60), &Positions::Every(3), &[2, 3, 5]).unwrap();
        let summary = summarize(&measured);
        assert_eq!(summary.iter().map(|s| s.n).collect::<Vec<_>>(), [2, 3, 5]);
        // One hidden token is nearly always certain, also without its neighbour; the neighbour alone says little.
        assert!(summary[0].robust.median < 1e-9, "{summary:?}");
        assert!(summary[0].close.median > 0.2, "{summary:?}");
        assert!(summary[2].close.mean < summary[0].close.mean);
        assert!((summary[0].close.halved().mean - summary[0].close.mean / 2.0).abs() < 1e-15);
    }

    #[test]
    fn windows_are_those_of_the_paper_and_clipped() {
        let list = [(2, 4..6), (3, 4..7), (4, 3..7), (5, 3..8)];
        list.into_iter().for_each(|(n, expected)| assert_eq!(window(5, n, 100), expected));
        assert_eq!(window(0, 5, 100), 0..3);
        assert_eq!(window(9, 5, 10), 7..10);
    }
}
