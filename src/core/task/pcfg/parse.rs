//! Membership and the most probable derivation.

use super::chart::{Best, Chart, Plan, Sum};
use super::grammar::Symbol;
use super::tree::{Node, Tree};

/// A parsed sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Parse {
    /// The most probable derivation; of several equally probable ones, one by fixed rules.
    pub tree: Tree,
    /// Natural logarithm of its probability.
    pub best_log_probability: f64,
    /// Natural logarithm of the probability of the sentence, all derivations together.
    pub log_probability: f64,
}

/// True if the grammar derives the sentence. Sentences longer than the plan's are refused as not derived only if the
/// plan covers the longest sentence; see [`Plan::new`].
///
/// # Panics
/// If the sentence is longer than the plan allows or has a token that is no terminal.
pub fn derives(plan: &Plan, tokens: &[u8]) -> bool {
    Chart::fill::<Sum>(plan, tokens.len(), &plan.emissions(tokens)).total() > 0.0
}

/// The most probable derivation, or `None` if the grammar does not derive the sentence.
///
/// # Panics
/// As [`derives`].
pub fn parse(plan: &Plan, tokens: &[u8]) -> Option<Parse> {
    let emissions = plan.emissions(tokens);
    let n = tokens.len();
    let all = Chart::fill::<Sum>(plan, n, &emissions).total();
    if all <= 0.0 {
        return None;
    }
    let chart = Chart::fill::<Best>(plan, n, &emissions);
    let tree = trace(plan, &chart, tokens);
    let unscaled = |total: f64| total.ln() - n as f64 * plan.scale().ln();
    Some(Parse { best_log_probability: unscaled(chart.total()), log_probability: unscaled(all), tree })
}

/// Follows the best weights down: a weight of the chart equals one of the products it is the maximum of, to the last bit.
fn trace(plan: &Plan, chart: &Chart, tokens: &[u8]) -> Tree {
    let grammar = plan.grammar();
    let mut tree = Tree::empty();
    tree.tokens = tokens.to_vec();
    tree.parents = vec![u32::MAX; tokens.len()];
    let mut stack = vec![(Symbol::Nonterminal(grammar.start()), 0usize, tokens.len(), u32::MAX)];
    while let Some((symbol, i, l, parent)) = stack.pop() {
        let Symbol::Nonterminal(a) = symbol else {
            tree.parents[i] = parent;
            continue;
        };
        let (rule, lengths) = best_rule(plan, chart, a, i, l);
        let depth = if parent == u32::MAX { 0 } else { tree.nodes[parent as usize].depth + 1 };
        let node = tree.nodes.len() as u32;
        tree.nodes.push(Node {
            symbol: a,
            rule: rule as u16,
            parent,
            depth,
            start: i as u32,
            end: (i + l) as u32,
        });
        let mut end = i + l;
        // Pushed from right to left, so that nodes come out in leftmost order.
        for (&child, &length) in grammar.rules()[rule].rhs.iter().zip(&lengths).rev() {
            end -= length;
            stack.push((child, end, length, node));
        }
    }
    tree.finish();
    tree
}

/// The rule and the lengths of its symbols that give non-terminal `a` its weight on the `l` tokens from i.
fn best_rule(plan: &Plan, chart: &Chart, a: u16, i: usize, l: usize) -> (usize, Vec<usize>) {
    let grammar = plan.grammar();
    let weight = chart.symbol_weight(Symbol::Nonterminal(a), i, l);
    for rule in grammar.rules_of(a) {
        let rhs = &grammar.rules()[rule].rhs;
        let mut lengths = vec![0; rhs.len()];
        let (mut left, mut wanted) = (l, weight);
        let found = (1..rhs.len()).rev().all(|last| {
            let split = (1..left).find(|&own| {
                let rest = chart.prefix_weight(rule, last, i, left - own);
                rest > 0.0 && rest * chart.symbol_weight(rhs[last], i + left - own, own) == wanted
            });
            let Some(own) = split else { return false };
            lengths[last] = own;
            left -= own;
            wanted = chart.prefix_weight(rule, last, i, left);
            true
        });
        if found && chart.prefix_weight(rule, 1, i, left) == wanted {
            lengths[0] = left;
            return (rule, lengths);
        }
    }
    unreachable!("a weight of the chart is the product of one of its rules")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};
    use crate::task::pcfg::{Grammar, NAMES, Sampler, stats};

    #[test]
    fn sampled_sentences_parse_and_changed_ones_do_not() {
        for name in NAMES {
            let grammar = Grammar::builtin(name).unwrap();
            let plan = Plan::new(&grammar, stats::longest(&grammar).unwrap());
            let sampler = Sampler::new(&grammar);
            let mut refused = 0;
            for index in 0..2 {
                let tree = sampler.tree(5, Stream::new(Purpose::Data, 0), index);
                let tokens = tree.tokens();
                let parsed = parse(&plan, tokens).unwrap();
                assert!(parsed.tree.follows(&grammar));
                assert_eq!(parsed.tree.tokens(), tokens);
                let own = tree.log_probability(&grammar);
                assert!(parsed.best_log_probability >= own - 1e-9, "{name}");
                assert!((parsed.tree.log_probability(&grammar) - parsed.best_log_probability).abs() < 1e-8);
                assert!(parsed.log_probability >= parsed.best_log_probability - 1e-9);
                let mut other = tokens.to_vec();
                let middle = other.len() / 2;
                other[middle] = (other[middle] + 1) % 3;
                refused += usize::from(!derives(&plan, &other));
                refused += usize::from(!derives(&plan, &tokens[..tokens.len() - 1]));
            }
            // A change may happen to give another sentence of the language, but hardly every time.
            assert!(refused >= 2, "{name}: {refused}");
        }
    }

    #[test]
    fn ambiguity_is_summed_and_the_best_derivation_found() {
        // a a a has two trees of S -> S S, each with probability .3^2 .7^3.
        let grammar = Grammar::parse("S -> S S [0.3] | a [0.7]").unwrap();
        let plan = Plan::new(&grammar, 10);
        let parsed = parse(&plan, &[0, 0, 0]).unwrap();
        let one = 0.3f64.powi(2) * 0.7f64.powi(3);
        assert!((parsed.log_probability - (2.0 * one).ln()).abs() < 1e-12);
        assert!((parsed.best_log_probability - one.ln()).abs() < 1e-12);
        assert!(parsed.tree.follows(&grammar));
    }

    #[test]
    fn unit_rules_left_and_right_recursion_are_parsed() {
        let grammar =
            Grammar::parse("S -> E\nE -> E p T [0.3] | T [0.7]\nT -> x T [0.2] | x [0.3] | ( E ) [0.5]")
                .unwrap();
        let plan = Plan::new(&grammar, 12);
        let read = |text: &str| crate::task::pcfg::sample::tokens(&grammar, text).unwrap();
        for (text, member) in [
            ("x", true),
            ("x p x x", true),
            ("( x p x ) p x", true),
            ("( ( x ) )", true),
            ("p x", false),
            ("( x", false),
            ("x p", false),
            ("", false),
        ] {
            assert_eq!(parse(&plan, &read(text)).is_some(), member, "{text}");
        }
        let parsed = parse(&plan, &read("x p x x")).unwrap();
        let exact: f64 = 0.3 * 0.7 * 0.3 * 0.2 * 0.3;
        assert!((parsed.log_probability - exact.ln()).abs() < 1e-12);
        // S, E, E, T, x.
        assert_eq!(parsed.tree.height(), 4);
    }
}
