//! The exact optimum of masked prediction, with all cores.

use curricle_core::task::pcfg::MaskedPrediction;
use curricle_core::task::pcfg::bayes::{Bayes, Optimum, SentenceScore};
use rayon::prelude::*;

/// [`Bayes::optimum`], bit for bit, in parallel over the sentences.
pub fn optimum(bayes: &Bayes, task: &MaskedPrediction, first: u64, count: u64) -> Optimum {
    let sentences = (first..first + count).into_par_iter();
    // Joined in order: the sum must not depend on how the work was divided.
    let each: Vec<Option<SentenceScore>> = sentences.map(|number| bayes.score(task, number)).collect();
    each.into_iter().flatten().collect()
}
