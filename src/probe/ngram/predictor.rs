//! Who predicts hidden tokens: a model, or the exact posterior.

use crate::sequence::SequenceProbeError;
use curricle_core::model::SequenceModel;
use curricle_core::model::transformer::{Family, TokenBatch};
use curricle_core::task::pcfg::bayes::Bayes;
use curricle_core::task::pcfg::{Grammar, Tokens};
use rayon::prelude::*;

/// Prediction of one token of a sentence while some tokens are hidden. All indices are of tokens, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    /// Index of the sentence.
    pub sentence: usize,
    /// Hidden tokens, ascending; `position` is among them.
    pub hidden: Vec<usize>,
    /// The token to predict.
    pub position: usize,
}

/// Whatever predicts hidden tokens.
pub trait MaskedPredictor {
    /// One distribution per query, all over the same set.
    ///
    /// # Errors
    /// Whatever keeps the predictor from answering.
    fn distributions(
        &self,
        sentences: &[Vec<u8>],
        queries: &[Query],
    ) -> Result<Vec<Vec<f64>>, SequenceProbeError>;
}

/// A BERT model as a predictor of hidden terminals: softmax over its whole vocabulary.
pub struct MaskedModel<'a> {
    model: &'a dyn SequenceModel,
    ids: Tokens,
    /// Positions computed in one forward pass, all sequences together.
    pub(super) chunk: usize,
}

/// Positions of one forward pass.
const CHUNK: usize = 16_384;

impl<'a> MaskedModel<'a> {
    /// A model with the token ids of a grammar.
    ///
    /// # Errors
    /// If the model is not BERT or its vocabulary is smaller than the grammar's ids.
    pub fn new(model: &'a dyn SequenceModel, grammar: &Grammar) -> Result<Self, SequenceProbeError> {
        let (config, ids) = (model.config(), Tokens::of(grammar));
        if config.family != Family::Bert {
            return Err(SequenceProbeError::Family(config.family));
        }
        let needed = ids.mask as usize + 1;
        if config.vocab < needed {
            return Err(SequenceProbeError::Vocabulary { found: config.vocab, needed });
        }
        Ok(Self { model, ids, chunk: CHUNK })
    }

    /// One forward pass.
    fn pass(&self, sentences: &[Vec<u8>], queries: &[&Query]) -> Result<Vec<Vec<f64>>, SequenceProbeError> {
        let length = 1 + queries.iter().map(|q| sentences[q.sentence].len()).max().unwrap_or(0);
        let mut tokens = vec![self.ids.pad; queries.len() * length];
        let mut keys = vec![0u8; tokens.len()];
        let mut reads = Vec::with_capacity(queries.len());
        for (b, query) in queries.iter().enumerate() {
            let (row, sentence) = (b * length, &sentences[query.sentence]);
            tokens[row] = self.ids.bos;
            let end = row + 1 + sentence.len();
            tokens[row + 1..end].iter_mut().zip(sentence).for_each(|(x, &t)| *x = u32::from(t));
            keys[row..end].fill(1);
            for &t in &query.hidden {
                tokens[row + 1 + t] = self.ids.mask;
                keys[row + 1 + t] = 0;
            }
            reads.push((row + 1 + query.position) as u32);
        }
        let batch =
            TokenBatch { sequences: queries.len(), length, tokens: &tokens, keys: Some(&keys), first: 0 };
        let logits = self.model.logits(&batch, &reads).map_err(SequenceProbeError::Model)?;
        let rows = logits.chunks_exact(self.model.config().vocab).zip(queries);
        rows.map(|(row, query)| {
            softmax(row).ok_or(SequenceProbeError::NonFinite { sentence: query.sentence })
        })
        .collect()
    }
}

/// Softmax in double precision; `None` if a logit is not finite.
fn softmax(logits: &[f32]) -> Option<Vec<f64>> {
    if logits.iter().any(|l| !l.is_finite()) {
        return None;
    }
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&l| f64::from(l - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    Some(weights.into_iter().map(|w| w / sum).collect())
}

impl MaskedPredictor for MaskedModel<'_> {
    fn distributions(
        &self,
        sentences: &[Vec<u8>],
        queries: &[Query],
    ) -> Result<Vec<Vec<f64>>, SequenceProbeError> {
        let positions = self.model.config().positions;
        for query in queries {
            let (sentence, length) = (query.sentence, sentences[query.sentence].len() + 1);
            if length > positions {
                return Err(SequenceProbeError::TooLong { sentence, length, positions });
            }
        }
        // Similar lengths together: less padding.
        let mut order: Vec<usize> = (0..queries.len()).collect();
        order.sort_by_key(|&q| sentences[queries[q].sentence].len());
        let mut answers = vec![Vec::new(); queries.len()];
        let mut rest = &order[..];
        while let Some(&first) = rest.first() {
            // The last of a chunk is its longest.
            let shortest = sentences[queries[first].sentence].len() + 1;
            let most = (self.chunk / shortest).clamp(1, rest.len());
            let fits = |n: &usize| n * (sentences[queries[rest[n - 1]].sentence].len() + 1) <= self.chunk;
            let count = (1..=most).rev().find(fits).unwrap_or(1);
            let (now, later) = rest.split_at(count);
            let chunk: Vec<&Query> = now.iter().map(|&q| &queries[q]).collect();
            for (&q, answer) in now.iter().zip(self.pass(sentences, &chunk)?) {
                answers[q] = answer;
            }
            rest = later;
        }
        Ok(answers)
    }
}

impl MaskedPredictor for Bayes {
    fn distributions(
        &self,
        sentences: &[Vec<u8>],
        queries: &[Query],
    ) -> Result<Vec<Vec<f64>>, SequenceProbeError> {
        let answer = |query: &Query| {
            let tokens = &sentences[query.sentence];
            if tokens.len() > self.most() {
                let (length, positions) = (tokens.len() + 1, self.most() + 1);
                return Err(SequenceProbeError::TooLong { sentence: query.sentence, length, positions });
            }
            let posterior = self.posterior(tokens, &query.hidden).ok_or_else(|| {
                SequenceProbeError::Data(format!("sentence {} is not of the grammar", query.sentence))
            })?;
            let count = posterior.len() / query.hidden.len();
            let at = query.hidden.binary_search(&query.position).map_err(|_| {
                SequenceProbeError::Data("a query's position is not among its hidden tokens".to_owned())
            })?;
            Ok(posterior[at * count..(at + 1) * count].to_vec())
        };
        queries.par_iter().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_is_a_distribution_of_finite_logits_only() {
        let p = softmax(&[1000.0, 1000.0, -1000.0]).unwrap();
        assert_eq!(p, [0.5, 0.5, 0.0]);
        assert!(softmax(&[1.0, f32::NAN]).is_none() && softmax(&[f32::INFINITY]).is_none());
    }
}
