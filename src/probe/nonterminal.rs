//! Which ancestors of each token can be read off the hidden states.
//!
//! Two probes predict, for every token and every tree level, the non-terminal above it: [`attention`], the multi-head
//! position-attention probe of Allen-Zhu and Li (2023), and [`ridge`], a linear map in closed form.

pub mod attention;
mod heads;
pub mod ridge;

use super::sequence::SequenceProbeError;
use curricle_core::model::SequenceModel;
use curricle_core::model::transformer::{Family, TokenBatch};
use curricle_core::rng::{Purpose, Stream};
use curricle_core::task::pcfg::{Grammar, Sampler, Tokens, Tree};
use ndarray::Array2;

/// Stream of the sentences that probes are fitted to and tested on.
pub const SENTENCES: Stream = Stream::new(Purpose::Probe, 2);

/// What is to be told apart at each level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// Tree level (from the terminals, 1 up) and its non-terminals; levels with fewer than two are left out. In grammars
    /// without uniform depth every level has all non-terminals and "none".
    pub levels: Vec<(usize, Vec<Option<u16>>)>,
}

impl Classes {
    /// The levels and classes of a grammar from its start symbol.
    ///
    /// For grammars without uniform depth levels go up to `most` (the height of the highest tree at hand).
    pub fn of(grammar: &Grammar, most: usize) -> Self {
        let reachable = grammar.reachable();
        let all: Vec<u16> = (0..reachable.len() as u16).filter(|&a| reachable[usize::from(a)]).collect();
        let levels = match grammar.uniform_depth() {
            Some(depth) => (1..=depth)
                .map(|l| {
                    (l, all.iter().filter(|&&a| grammar.level_of(a) == Some(l)).map(|&a| Some(a)).collect())
                })
                .filter(|(_, classes): &(usize, Vec<Option<u16>>)| classes.len() > 1)
                .collect(),
            None => (1..=most)
                .map(|l| (l, std::iter::once(None).chain(all.iter().map(|&a| Some(a))).collect()))
                .collect(),
        };
        Self { levels }
    }

    /// Classes of all levels together: outputs of a probe.
    pub fn outputs(&self) -> usize {
        self.levels.iter().map(|(_, classes)| classes.len()).sum()
    }

    /// Outputs of each level.
    pub fn blocks(&self) -> Vec<std::ops::Range<usize>> {
        let mut at = 0;
        let block = |(_, classes): &(usize, Vec<Option<u16>>)| {
            at += classes.len();
            at - classes.len()..at
        };
        self.levels.iter().map(block).collect()
    }

    /// For each level the class of every token of a tree, \[levels\]\[tokens\].
    fn labels(&self, tree: &Tree) -> Vec<Vec<usize>> {
        self.levels
            .iter()
            .map(|(level, classes)| {
                let class = |a: Option<(u16, usize)>| {
                    let symbol = a.map(|(symbol, _)| symbol);
                    classes.iter().position(|c| *c == symbol).unwrap_or(0)
                };
                tree.ancestors(*level).into_iter().map(class).collect()
            })
            .collect()
    }
}

/// One sentence: hidden states and labels of its tokens (BOS left out).
#[derive(Debug, Clone)]
pub struct Example {
    /// \[tokens, hidden\].
    pub hidden: Array2<f32>,
    /// \[levels\]\[tokens\].
    pub labels: Vec<Vec<usize>>,
}

/// Sentences for a probe.
#[derive(Debug, Clone)]
pub struct Examples {
    /// What is to be told apart.
    pub classes: Classes,
    /// The sentences.
    pub examples: Vec<Example>,
}

/// Positions of one forward pass.
const CHUNK: usize = 8192;

impl Examples {
    /// Hidden states of `layer` for sentences `first .. first + count` of a stream, nothing hidden.
    ///
    /// # Errors
    /// A layer that does not exist, a vocabulary that is too small, sentences too long for the model, or a failing model.
    pub fn collect(
        model: &dyn SequenceModel,
        grammar: &Grammar,
        layer: usize,
        (seed, stream): (u64, Stream),
        first: u64,
        count: u64,
    ) -> Result<Self, SequenceProbeError> {
        let (config, ids) = (model.config(), Tokens::of(grammar));
        if layer > config.layers {
            return Err(SequenceProbeError::Layer { layer, layers: config.layers });
        }
        let needed = ids.pad as usize + 1;
        if config.vocab < needed {
            return Err(SequenceProbeError::Vocabulary { found: config.vocab, needed });
        }
        let sampler = Sampler::new(grammar);
        let trees: Vec<Tree> = (first..first + count).map(|i| sampler.tree(seed, stream, i)).collect();
        let highest = trees.iter().map(Tree::height).max().unwrap_or(0);
        let classes = Classes::of(grammar, highest);
        if classes.levels.is_empty() {
            let text = "no tree level below this start symbol has two non-terminals to tell apart";
            return Err(SequenceProbeError::Data(text.to_owned()));
        }
        let mut examples = Vec::with_capacity(trees.len());
        let mut at = 0;
        while at < trees.len() {
            let fits = |n: &usize| {
                let longest = trees[at..at + n].iter().map(|t| t.tokens().len() + 1).max().unwrap_or(0);
                *n == 1 || n * longest <= CHUNK
            };
            let count = (1..=trees.len() - at).take_while(fits).last().unwrap_or(1);
            let chunk = &trees[at..at + count];
            examples.extend(
                hidden_states(model, ids, layer, at, chunk)?
                    .into_iter()
                    .zip(chunk)
                    .map(|(hidden, tree)| Example { hidden, labels: classes.labels(tree) }),
            );
            at += count;
        }
        Ok(Self { classes, examples })
    }

    /// Tokens of the longest sentence.
    pub fn longest(&self) -> usize {
        self.examples.iter().map(|e| e.hidden.nrows()).max().unwrap_or(0)
    }

    /// Width of the hidden states; 0 without examples.
    pub fn width(&self) -> usize {
        self.examples.first().map_or(0, |e| e.hidden.ncols())
    }

    /// Accuracy per level of always naming the level's most frequent class here.
    pub fn majority(&self) -> Vec<f64> {
        let of = |level: usize| {
            let mut counts = vec![0u64; self.classes.levels[level].1.len()];
            self.examples.iter().flat_map(|e| &e.labels[level]).for_each(|&c| counts[c] += 1);
            counts.iter().copied().max().unwrap_or(0) as f64 / counts.iter().sum::<u64>() as f64
        };
        (0..self.classes.levels.len()).map(of).collect()
    }

    /// Refuses examples that cannot train and test a probe.
    fn check(&self, test: &Self) -> Result<(), SequenceProbeError> {
        let complain = |text: &str| Err(SequenceProbeError::Data(text.to_owned()));
        if self.examples.is_empty() || test.examples.is_empty() {
            return complain("a probe needs sentences to train on and others to test on");
        }
        if self.classes != test.classes || self.width() != test.width() {
            return complain(
                "training and test sentences of a probe must come from the same model and grammar",
            );
        }
        Ok(())
    }
}

/// Hidden states of the tokens of some sentences, whose first is number `first`, in one forward pass.
fn hidden_states(
    model: &dyn SequenceModel,
    ids: Tokens,
    layer: usize,
    first: usize,
    trees: &[Tree],
) -> Result<Vec<Array2<f32>>, SequenceProbeError> {
    let config = model.config();
    let length = 1 + trees.iter().map(|t| t.tokens().len()).max().unwrap_or(0);
    let positions = config.positions;
    if let Some(b) = trees.iter().position(|t| t.tokens().len() + 1 > positions) {
        return Err(SequenceProbeError::TooLong { sentence: first + b, length, positions });
    }
    let mut tokens = vec![ids.pad; trees.len() * length];
    let mut keys = vec![0u8; tokens.len()];
    for (b, tree) in trees.iter().enumerate() {
        let row = b * length;
        let end = row + 1 + tree.tokens().len();
        tokens[row] = ids.bos;
        tokens[row + 1..end].iter_mut().zip(tree.tokens()).for_each(|(x, &t)| *x = u32::from(t));
        keys[row..end].fill(1);
    }
    // A causal model never sees the padding right of it.
    let keys = (config.family == Family::Bert).then_some(&keys[..]);
    let batch = TokenBatch { sequences: trees.len(), length, tokens: &tokens, keys, first: 0 };
    let states = model.hidden(&batch, layer).map_err(SequenceProbeError::Model)?;
    let width = config.hidden;
    trees
        .iter()
        .enumerate()
        .map(|(b, tree)| {
            let from = (b * length + 1) * width;
            let own = states[from..from + tree.tokens().len() * width].to_vec();
            if own.iter().any(|x| !x.is_finite()) {
                return Err(SequenceProbeError::NonFinite { sentence: first + b });
            }
            Ok(Array2::from_shape_vec((tree.tokens().len(), width), own).expect("one row per token"))
        })
        .collect()
}

/// Accuracy of a probe at one tree level.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LevelAccuracy {
    /// Level, from the terminals.
    pub level: usize,
    /// Classes.
    pub classes: usize,
    /// Fraction of test tokens whose ancestor is named rightly.
    pub accuracy: f64,
    /// The same for always naming the most frequent one.
    pub majority: f64,
}

/// Accuracies from the scores of every test sentence, \[tokens, outputs\] each.
fn accuracies(test: &Examples, scores: impl Fn(usize) -> Array2<f32>) -> Vec<LevelAccuracy> {
    let blocks = test.classes.blocks();
    let mut right = vec![0u64; blocks.len()];
    let mut tokens = 0u64;
    for (i, example) in test.examples.iter().enumerate() {
        let scores = scores(i);
        tokens += example.hidden.nrows() as u64;
        for (t, row) in scores.outer_iter().enumerate() {
            for (level, block) in blocks.iter().enumerate() {
                let at = |c: usize| row[block.start + c];
                let best = (1..block.len()).fold(0, |best, c| if at(c) > at(best) { c } else { best });
                right[level] += u64::from(best == example.labels[level][t]);
            }
        }
    }
    let levels = test.classes.levels.iter().zip(right).zip(test.majority());
    levels
        .map(|(((level, classes), right), majority)| LevelAccuracy {
            level: *level,
            classes: classes.len(),
            accuracy: right as f64 / tokens as f64,
            majority,
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use curricle_core::model::ModelError;
    use curricle_core::model::transformer::TransformerConfig;
    use curricle_core::rng::Purpose;

    /// Hidden state: a one-hot code of the token and of its two neighbours on each side.
    struct Near(TransformerConfig);

    impl SequenceModel for Near {
        fn config(&self) -> &TransformerConfig {
            &self.0
        }

        fn logits(&self, _: &TokenBatch<'_>, _: &[u32]) -> Result<Vec<f32>, ModelError> {
            Err("no logits".into())
        }

        fn hidden(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f32>, ModelError> {
            batch.check(&self.0)?;
            assert_eq!(layer, 1);
            let mut states = vec![0.0; batch.positions() * 40];
            for (at, state) in states.chunks_exact_mut(40).enumerate() {
                let (row, t) = (at / batch.length * batch.length, at % batch.length);
                for offset in 0..5 {
                    let near = (t + offset).checked_sub(2).filter(|&n| n < batch.length);
                    near.into_iter().for_each(|n| state[8 * offset + batch.tokens[row + n] as usize] = 1.0);
                }
            }
            Ok(states)
        }
    }

    pub(in crate::nonterminal) fn examples(first: u64, count: u64) -> Examples {
        let grammar = Grammar::builtin("cfg3b").unwrap().with_start("16").unwrap();
        let model = Near(TransformerConfig::bert(8, 100, 40, 1, 1));
        let stream = (1, Stream::new(Purpose::Probe, 0));
        Examples::collect(&model, &grammar, 1, stream, first, count).unwrap()
    }

    #[test]
    fn labels_are_the_ancestors_and_states_those_of_the_tokens() {
        let data = examples(0, 300);
        let levels: Vec<_> = data.classes.levels.iter().map(|(l, c)| (*l, c.len())).collect();
        assert_eq!(levels, [(1, 3), (2, 3), (3, 3)]);
        assert_eq!(data.classes.outputs(), 9);
        let grammar = Grammar::builtin("cfg3b").unwrap().with_start("16").unwrap();
        let sampler = Sampler::new(&grammar);
        for (i, example) in data.examples.iter().enumerate() {
            let tree = sampler.tree(1, Stream::new(Purpose::Probe, 0), i as u64);
            assert_eq!(example.hidden.nrows(), tree.tokens().len());
            for (t, &token) in tree.tokens().iter().enumerate() {
                // The middle code is the token's own.
                assert_eq!(example.hidden[[t, 16 + usize::from(token)]], 1.0);
                for (level, labels) in example.labels.iter().enumerate() {
                    let symbol = tree.ancestors(level + 1)[t].unwrap().0;
                    assert_eq!(data.classes.levels[level].1[labels[t]], Some(symbol));
                }
            }
        }
    }

    #[test]
    fn unsuitable_requests_are_refused() {
        let model = Near(TransformerConfig::bert(8, 40, 40, 1, 1));
        let stream = (1, Stream::new(Purpose::Probe, 0));
        let refusal = |start: &str, layer| {
            let grammar = Grammar::builtin("cfg3b").unwrap().with_start(start).unwrap();
            Examples::collect(&model, &grammar, layer, stream, 0, 2).unwrap_err().to_string()
        };
        assert!(refusal("16", 2).contains("layer 2 does not exist"));
        assert!(refusal("16", 1).contains("but the model has 40"));
        assert!(refusal("9", 1).contains("no tree level"));
    }
}
