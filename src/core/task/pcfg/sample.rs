//! Sentences and derivations. A sentence is a pure function of (seed, stream, index).
//!
//! The i-th choice between rules of a derivation, in leftmost order, is decided by word i of the generator: words
//! 0..3 are block 0 of item `index`, and so on. A non-terminal with a single rule uses no word. Terminals alone and the whole
//! derivation come from the same words, so they always agree.

use super::grammar::{Grammar, Symbol};
use super::tree::{Node, Tree};
use crate::rng::{self, Stream};

/// Code of a symbol: terminals as they are, non-terminal A as `NONTERMINAL + A`.
const NONTERMINAL: u32 = 1 << 16;

/// The rules of one non-terminal.
#[derive(Debug, Clone)]
struct Choice {
    /// First of its rules.
    first: u32,
    /// A word w takes the first rule whose bound exceeds it; the last rule has none. A bound is the cumulative probability in
    /// units of 2^-32, so probabilities hold to 2^-33.
    bounds: Vec<u32>,
}

/// A grammar compiled for sampling.
#[derive(Debug, Clone)]
pub struct Sampler {
    start: u32,
    choices: Vec<Choice>,
    /// Right sides from right to left, as they are pushed.
    reversed: Vec<u32>,
    /// Where the right side of each rule ends in `reversed`; one more entry in front.
    ends: Vec<u32>,
}

/// Words of one item of a stream, in order.
struct Words {
    seed: u64,
    stream: Stream,
    index: u64,
    block: u32,
    at: usize,
    words: [u32; 4],
}

impl Words {
    fn new(seed: u64, stream: Stream, index: u64) -> Self {
        Self { seed, stream, index, block: 0, at: 4, words: [0; 4] }
    }

    #[inline]
    fn next(&mut self) -> u32 {
        if self.at == 4 {
            self.words = rng::bits(self.seed, self.stream, self.index, self.block);
            self.block = self.block.wrapping_add(1);
            self.at = 0;
        }
        let word = self.words[self.at];
        self.at += 1;
        word
    }
}

impl Sampler {
    /// Compiles a grammar.
    pub fn new(grammar: &Grammar) -> Self {
        let mut reversed = Vec::new();
        let mut ends = vec![0];
        for rule in grammar.rules() {
            reversed.extend(rule.rhs.iter().rev().map(|s| match s {
                Symbol::Terminal(t) => u32::from(*t),
                Symbol::Nonterminal(a) => NONTERMINAL + u32::from(*a),
            }));
            ends.push(reversed.len() as u32);
        }
        let choices = (0..grammar.nonterminals().len() as u16)
            .map(|a| {
                let range = grammar.rules_of(a);
                let mut sum = 0.0;
                let bounds = grammar.rules()[range.start..range.end - 1].iter().map(|r| {
                    sum += r.probability;
                    // Saturates where the rest of the rules is less likely than 2^-33.
                    (sum * 4_294_967_296.0).round() as u32
                });
                Choice { bounds: bounds.collect(), first: range.start as u32 }
            })
            .collect();
        Self { start: NONTERMINAL + u32::from(grammar.start()), choices, reversed, ends }
    }

    #[inline]
    fn pick(&self, a: u32, words: &mut Words) -> u32 {
        let choice = &self.choices[a as usize];
        if choice.bounds.is_empty() {
            return choice.first;
        }
        let word = words.next();
        let skipped = match choice.bounds.len() {
            1 => usize::from(word >= choice.bounds[0]),
            2..=8 => choice.bounds.iter().map(|&b| usize::from(word >= b)).sum(),
            _ => choice.bounds.partition_point(|&b| word >= b),
        };
        choice.first + skipped as u32
    }

    #[inline]
    fn right_side(&self, rule: u32) -> &[u32] {
        &self.reversed[self.ends[rule as usize] as usize..self.ends[rule as usize + 1] as usize]
    }

    /// Appends sentence `index` of `stream` to `tokens`: terminal indices.
    pub fn append(&self, seed: u64, stream: Stream, index: u64, tokens: &mut Vec<u8>) {
        let mut words = Words::new(seed, stream, index);
        let mut stack: Vec<u32> = Vec::with_capacity(64);
        stack.push(self.start);
        while let Some(symbol) = stack.pop() {
            if symbol < NONTERMINAL {
                tokens.push(symbol as u8);
                continue;
            }
            let rule = self.pick(symbol - NONTERMINAL, &mut words);
            let right = self.right_side(rule);
            // A rule of terminals only, the most frequent kind, does not go through the stack.
            if right.iter().all(|&s| s < NONTERMINAL) {
                tokens.extend(right.iter().rev().map(|&s| s as u8));
            } else {
                stack.extend_from_slice(right);
            }
        }
    }

    /// Sentence `index` of `stream`: terminal indices.
    pub fn sentence(&self, seed: u64, stream: Stream, index: u64) -> Vec<u8> {
        let mut tokens = Vec::new();
        self.append(seed, stream, index, &mut tokens);
        tokens
    }

    /// Sentence `index` of `stream` with its derivation.
    pub fn tree(&self, seed: u64, stream: Stream, index: u64) -> Tree {
        const ROOT: u32 = u32::MAX;
        let mut words = Words::new(seed, stream, index);
        let mut tree = Tree::empty();
        let mut stack: Vec<(u32, u32)> = vec![(self.start, ROOT)];
        while let Some((symbol, parent)) = stack.pop() {
            if symbol < NONTERMINAL {
                tree.tokens.push(symbol as u8);
                tree.parents.push(parent);
                continue;
            }
            let rule = self.pick(symbol - NONTERMINAL, &mut words);
            let depth = if parent == ROOT { 0 } else { tree.nodes[parent as usize].depth + 1 };
            let node = tree.nodes.len() as u32;
            let start = tree.tokens.len() as u32;
            let symbol = (symbol - NONTERMINAL) as u16;
            tree.nodes.push(Node { symbol, rule: rule as u16, parent, depth, start, end: start });
            stack.extend(self.right_side(rule).iter().map(|&s| (s, node)));
        }
        tree.finish();
        tree
    }

    /// Counts how often each of `rules` rules is used in sentences `first .. first + count`, and their lengths.
    pub fn count(
        &self,
        seed: u64,
        stream: Stream,
        first: u64,
        count: u64,
        rules: usize,
    ) -> (Vec<u64>, Vec<u64>) {
        let mut uses = vec![0u64; rules];
        let mut lengths = Vec::with_capacity(count.min(1 << 20) as usize);
        let mut stack: Vec<u32> = Vec::new();
        for index in first..first + count {
            let mut words = Words::new(seed, stream, index);
            let mut length = 0;
            stack.push(self.start);
            while let Some(symbol) = stack.pop() {
                if symbol < NONTERMINAL {
                    length += 1;
                    continue;
                }
                let rule = self.pick(symbol - NONTERMINAL, &mut words);
                uses[rule as usize] += 1;
                stack.extend_from_slice(self.right_side(rule));
            }
            lengths.push(length);
        }
        (uses, lengths)
    }
}

/// Sentences as text in the names of the terminals: joined when every name is one letter, else separated by spaces.
pub fn text(grammar: &Grammar, tokens: &[u8]) -> String {
    let names = grammar.terminals();
    let separator = if names.iter().all(|n| n.chars().count() == 1) { "" } else { " " };
    let words: Vec<&str> = tokens.iter().map(|&t| names[usize::from(t)].as_str()).collect();
    words.join(separator)
}

/// Reads a sentence as [`text`] writes it; spaces between one-letter names are allowed.
///
/// # Errors
/// The first word that is no terminal.
pub fn tokens(grammar: &Grammar, text: &str) -> Result<Vec<u8>, String> {
    let names = grammar.terminals();
    let find = |word: &str| {
        let index = names.iter().position(|n| n == word);
        index
            .map(|i| i as u8)
            .ok_or_else(|| format!("'{word}' is not a terminal; they are {}", names.join(" ")))
    };
    if names.iter().all(|n| n.chars().count() == 1) {
        return text
            .chars()
            .filter(|c| !c.is_whitespace())
            .map(|c| find(c.encode_utf8(&mut [0; 4])))
            .collect();
    }
    text.split_whitespace().map(find).collect()
}

/// Tokens per second of the plain path on one core, over `sentences` sentences: what `curricle bench` shows.
pub fn throughput(grammar: &Grammar, sentences: u64) -> f64 {
    let sampler = Sampler::new(grammar);
    let mut tokens = Vec::new();
    let mut total = 0usize;
    let begin = std::time::Instant::now();
    for index in 0..sentences {
        tokens.clear();
        sampler.append(0, Stream::new(rng::Purpose::Probe, 0), index, &mut tokens);
        total += std::hint::black_box(&tokens).len();
    }
    total as f64 / begin.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;
    use crate::task::pcfg::NAMES;

    const DATA: Stream = Stream::new(Purpose::Data, 0);

    #[test]
    fn tree_and_plain_path_make_the_same_choices() {
        let skewed = "S -> A S [0.2] | A [0.5] | b S A [0.1] | b b [0.2]\nA -> a [0.01] | b a [0.99]";
        let mut grammars: Vec<Grammar> = NAMES.iter().map(|n| Grammar::builtin(n).unwrap()).collect();
        grammars.push(Grammar::parse(skewed).unwrap());
        for grammar in grammars {
            let sampler = Sampler::new(&grammar);
            for index in 0..20 {
                let tree = sampler.tree(7, DATA, index);
                assert_eq!(tree.tokens(), sampler.sentence(7, DATA, index));
                let (uses, lengths) = sampler.count(7, DATA, index, 1, grammar.rules().len());
                assert_eq!(lengths, [tree.tokens().len() as u64]);
                let mut own = vec![0u64; uses.len()];
                tree.nodes().iter().for_each(|n| own[usize::from(n.rule)] += 1);
                assert_eq!(own, uses);
            }
        }
    }

    #[test]
    fn sentences_are_fixed_for_ever() {
        // A change of these bits changes every experiment: do it knowingly.
        let grammar = Grammar::builtin("cfg3b").unwrap().with_start("15").unwrap();
        let sampler = Sampler::new(&grammar);
        let sentences: Vec<String> = (0..2).map(|i| text(&grammar, &sampler.sentence(8, DATA, i))).collect();
        assert_eq!(sentences, GOLDEN);
        assert_ne!(sampler.sentence(8, DATA, 0), sampler.sentence(9, DATA, 0));
        assert_ne!(sampler.sentence(8, DATA, 0), sampler.sentence(8, Stream::new(Purpose::Evaluation, 0), 0));
    }

    const GOLDEN: [&str; 2] = ["cabcbacaabccbcbacbacababc", "cbcacbacbacacbcacbacb"];

    #[test]
    fn text_and_tokens_are_inverse() {
        let grammar = Grammar::parse("S -> ab c | c ab ab").unwrap();
        assert_eq!(text(&grammar, &[0, 1, 0]), "ab c ab");
        assert_eq!(tokens(&grammar, "ab  c ab"), Ok(vec![0, 1, 0]));
        assert!(tokens(&grammar, "ab d").unwrap_err().contains("'d' is not a terminal; they are ab c"));
        let grammar = Grammar::builtin("cfg3b").unwrap();
        assert_eq!(tokens(&grammar, "ab c"), Ok(vec![0, 1, 2]));
    }
}
