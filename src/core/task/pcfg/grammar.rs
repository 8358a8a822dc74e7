//! A probabilistic context-free grammar and what follows from it in closed form.

use super::error::GrammarError;
use std::ops::Range;

/// A symbol on the right of a rule: an index into [`Grammar::terminals`] or [`Grammar::nonterminals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// A terminal.
    Terminal(u8),
    /// A non-terminal.
    Nonterminal(u16),
}

/// One rule lhs -> rhs.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The non-terminal it rewrites.
    pub lhs: u16,
    /// What it is rewritten to; at least one symbol.
    pub rhs: Vec<Symbol>,
    /// Probability among the rules of `lhs`, in (0, 1].
    pub probability: f64,
    /// Line of the file, from 1.
    pub line: usize,
}

/// Terminals are stored in bytes.
pub const MAX_TERMINALS: usize = 250;
/// Expectations come from a dense system with one row per non-terminal.
pub const MAX_NONTERMINALS: usize = 1_000;
/// Largest expected number of tokens of a sentence.
pub const MAX_MEAN_LENGTH: f64 = 1e6;
/// Rules are numbered in 16 bits.
pub const MAX_RULES: usize = 30_000;

/// A checked grammar: every non-terminal ends in terminals and the expected length of a sentence is finite.
///
/// Rules are grouped by left side; those of non-terminal A are [`rules_of`](Self::rules_of)`(A)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Grammar {
    terminals: Vec<String>,
    nonterminals: Vec<String>,
    rules: Vec<Rule>,
    by_lhs: Vec<Range<usize>>,
    start: u16,
    /// Non-terminals such that for every rule A -> B with one symbol B comes before A.
    unit_order: Vec<u16>,
    recursive: bool,
    /// Levels between the root and the terminals where that is one number for every tree.
    depths: Option<Vec<usize>>,
}

impl Grammar {
    /// Checks rules that are grouped by left side, in the order of `nonterminals`.
    ///
    /// # Errors
    /// [`GrammarError`] with the line of the rule at fault.
    pub(super) fn new(
        terminals: Vec<String>,
        nonterminals: Vec<String>,
        rules: Vec<Rule>,
        start: u16,
    ) -> Result<Self, GrammarError> {
        for (what, found, most) in [
            ("terminals", terminals.len(), MAX_TERMINALS),
            ("non-terminals", nonterminals.len(), MAX_NONTERMINALS),
            ("rules", rules.len(), MAX_RULES),
        ] {
            if found > most {
                return Err(GrammarError::TooLarge { what, found, most });
            }
        }
        let by_lhs: Vec<Range<usize>> = (0..nonterminals.len())
            .map(|a| {
                let from = rules.partition_point(|r| usize::from(r.lhs) < a);
                from..rules.partition_point(|r| usize::from(r.lhs) <= a)
            })
            .collect();
        let mut grammar = Self {
            terminals,
            nonterminals,
            rules,
            by_lhs,
            start,
            unit_order: Vec::new(),
            recursive: false,
            depths: None,
        };
        grammar.check_sums()?;
        grammar.check_productive()?;
        grammar.check_reachable()?;
        grammar.unit_order = grammar.order_units()?;
        grammar.check_finite()?;
        grammar.check_length()?;
        grammar.recursive = grammar.dependencies_cycle();
        grammar.depths = grammar.uniform_depths();
        Ok(grammar)
    }

    /// The same rules with another start symbol: shorter sentences for quick runs.
    ///
    /// # Errors
    /// If `name` has no rules.
    pub fn with_start(&self, name: &str) -> Result<Self, GrammarError> {
        let start = self.nonterminal(name).ok_or_else(|| GrammarError::Start {
            symbol: name.to_owned(),
            nonterminals: self.nonterminals.join(", "),
        })?;
        let mut other = Self { start, ..self.clone() };
        other.recursive = other.dependencies_cycle();
        other.depths = other.uniform_depths();
        Ok(other)
    }

    /// Names of the terminals; their indices are the token ids.
    pub fn terminals(&self) -> &[String] {
        &self.terminals
    }

    /// Names of the non-terminals.
    pub fn nonterminals(&self) -> &[String] {
        &self.nonterminals
    }

    /// All rules, grouped by left side.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Indices of the rules of non-terminal `a`.
    pub fn rules_of(&self, a: u16) -> Range<usize> {
        self.by_lhs[usize::from(a)].clone()
    }

    /// The start symbol.
    pub fn start(&self) -> u16 {
        self.start
    }

    /// A non-terminal by name.
    pub fn nonterminal(&self, name: &str) -> Option<u16> {
        self.nonterminals.iter().position(|n| n == name).map(|i| i as u16)
    }

    /// Non-terminals in an order in which B precedes A for every rule A -> B with a single symbol.
    pub fn unit_order(&self) -> &[u16] {
        &self.unit_order
    }

    /// True if some non-terminal reachable from the start occurs below itself: sentences have no greatest length.
    pub fn is_recursive(&self) -> bool {
        self.recursive
    }

    /// For grammars all of whose trees (from this start symbol) have their terminals at one depth: that depth D. The root
    /// then has level D, terminals have level 0, and the level of a non-terminal is a property of the symbol.
    pub fn uniform_depth(&self) -> Option<usize> {
        self.depths.as_ref().map(|d| d[usize::from(self.start)])
    }

    /// Level of non-terminal `a` in a uniform-depth grammar; `None` elsewhere or if the start symbol does not reach it.
    pub fn level_of(&self, a: u16) -> Option<usize> {
        self.depths.as_ref().map(|d| d[usize::from(a)]).filter(|&d| d > 0)
    }

    /// Non-terminals a derivation from the start symbol can use.
    pub fn reachable(&self) -> Vec<bool> {
        let mut seen = vec![false; self.nonterminals.len()];
        let mut stack = vec![self.start];
        seen[usize::from(self.start)] = true;
        while let Some(a) = stack.pop() {
            for b in self.children(a) {
                if !std::mem::replace(&mut seen[usize::from(b)], true) {
                    stack.push(b);
                }
            }
        }
        seen
    }

    /// A symbol's name.
    pub fn name(&self, symbol: Symbol) -> &str {
        match symbol {
            Symbol::Terminal(t) => &self.terminals[usize::from(t)],
            Symbol::Nonterminal(a) => &self.nonterminals[usize::from(a)],
        }
    }

    /// A rule as text.
    pub fn rule_text(&self, rule: usize) -> String {
        let rule = &self.rules[rule];
        let rhs: Vec<&str> = rule.rhs.iter().map(|&s| self.name(s)).collect();
        format!("{} -> {}", self.nonterminals[usize::from(rule.lhs)], rhs.join(" "))
    }

    /// Solves x = c + M x, where M\[A\]\[B\] is the expected number of B in one rewriting of A: the expectation of a
    /// quantity that every rewriting of A adds c\[A\] to, over whole derivations from each A.
    pub fn expectation(&self, c: &[f64]) -> Vec<f64> {
        let (lu, n) = (self.eliminated(), self.nonterminals.len());
        let mut x = c.to_vec();
        for k in 0..n {
            for i in k + 1..n {
                x[i] -= lu[i * n + k] * x[k];
            }
        }
        for k in (0..n).rev() {
            for j in k + 1..n {
                x[k] -= lu[k * n + j] * x[j];
            }
            x[k] /= lu[k * n + k];
        }
        x
    }

    /// Expected number of times each rule is used in a derivation from the start symbol.
    pub fn expected_rule_use(&self) -> Vec<f64> {
        // Expected uses of A from the start: the start's row of (I - M)^-1, by solving the transposed system.
        let n = self.nonterminals.len();
        let lu = self.eliminated();
        let mut e = vec![0.0; n];
        e[usize::from(self.start)] = 1.0;
        for k in 0..n {
            for j in 0..k {
                e[k] -= lu[j * n + k] * e[j];
            }
            e[k] /= lu[k * n + k];
        }
        for k in (0..n).rev() {
            for i in k + 1..n {
                e[k] -= lu[i * n + k] * e[i];
            }
        }
        self.rules.iter().map(|r| e[usize::from(r.lhs)] * r.probability).collect()
    }

    /// Expected number of terminals in what each non-terminal derives.
    pub fn mean_lengths(&self) -> Vec<f64> {
        let mut terminals = vec![0.0; self.nonterminals.len()];
        for rule in &self.rules {
            let own = rule.rhs.iter().filter(|s| matches!(s, Symbol::Terminal(_))).count();
            terminals[usize::from(rule.lhs)] += rule.probability * own as f64;
        }
        self.expectation(&terminals)
    }

    pub(super) fn children(&self, a: u16) -> impl Iterator<Item = u16> + '_ {
        self.rules[self.rules_of(a)].iter().flat_map(|r| &r.rhs).filter_map(|s| match s {
            Symbol::Nonterminal(b) => Some(*b),
            Symbol::Terminal(_) => None,
        })
    }

    pub(super) fn line_of(&self, a: usize) -> usize {
        self.rules[self.by_lhs[a].start].line
    }
}

#[cfg(test)]
mod tests {
    use super::super::NAMES;
    use super::*;

    #[test]
    fn built_in_grammars_have_depth_six_and_their_levels() {
        for name in NAMES {
            let grammar = Grammar::builtin(name).unwrap();
            assert_eq!(grammar.terminals(), ["a", "b", "c"], "{name}");
            assert_eq!(grammar.nonterminals().len(), 16, "{name}");
            assert_eq!(grammar.uniform_depth(), Some(6), "{name}");
            let of = |symbol: &str| grammar.level_of(grammar.nonterminal(symbol).unwrap());
            for (level, symbols) in [["7", "9"], ["10", "12"], ["13", "15"], ["16", "18"], ["19", "21"]]
                .iter()
                .enumerate()
                .map(|(i, s)| (i + 1, s))
            {
                symbols.iter().for_each(|s| assert_eq!(of(s), Some(level), "{name} {s}"));
            }
            let short = grammar.with_start("15").unwrap();
            assert_eq!(short.uniform_depth(), Some(3));
            assert_eq!(short.level_of(short.nonterminal("22").unwrap()), None);
        }
        assert!(Grammar::builtin("cfg3z").unwrap_err().to_string().contains("cfg3b, cfg3f"));
        let error = Grammar::builtin("cfg3b").unwrap().with_start("a").unwrap_err().to_string();
        assert!(error.contains("'a' has no rules") && error.contains("21"), "{error}");
    }

    #[test]
    fn expectations_of_a_recursive_grammar_are_those_of_the_geometric_law() {
        // S -> S b with probability 1/4: the number of uses of each rule is geometric.
        let grammar = Grammar::parse("S -> S b [1/4] | a [3/4]").unwrap();
        assert!(grammar.is_recursive());
        assert_eq!(grammar.uniform_depth(), None);
        let uses = grammar.expected_rule_use();
        assert!((uses[0] - 1.0 / 3.0).abs() < 1e-12 && (uses[1] - 1.0).abs() < 1e-12, "{uses:?}");
        // One terminal per rewriting.
        assert!((grammar.expectation(&[1.0])[0] - 4.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn expected_uses_agree_with_expectations_from_every_symbol() {
        let grammar =
            Grammar::parse("S -> A S b [0.3] | A A [0.7]\nA -> S a [0.2] | b [0.5] | A c [0.3]").unwrap();
        let uses = grammar.expected_rule_use();
        for rule in 0..grammar.rules().len() {
            let mut c = vec![0.0; 2];
            c[usize::from(grammar.rules()[rule].lhs)] = grammar.rules()[rule].probability;
            let from = grammar.expectation(&c)[usize::from(grammar.start())];
            assert!((uses[rule] - from).abs() < 1e-9, "{} {} {from}", grammar.rule_text(rule), uses[rule]);
        }
    }
}
