//! One program for every sum (or maximum) over the derivations of a sentence whose tokens may be uncertain.
//!
//! Input are emissions e\[i\]\[t\] >= 0: the weight of terminal t at position i. With 0/1 emissions the chart's total is the
//! probability of the sentence, or that of its best derivation; with all ones at unknown positions these are summed out
//! (inside algorithm). Derivatives of the total with respect to the emissions, by running the program backwards, are what
//! the outside algorithm computes: e times the derivative over the total is the posterior of a terminal.
//!
//! Positions are processed from right to left and spans at one position from short to long, so a finished span extends
//! longer ones by whole rows; recursion of any kind needs no special care as no rule is empty. Three facts of the grammar
//! keep rows short: which lengths a symbol can have, and which numbers of tokens can stand left and right of it.

mod backward;

use super::grammar::{Grammar, Symbol};
use super::stats::{self, LengthSets};

/// What happens where two derivations meet.
pub trait Combine {
    /// Adds one more derivation.
    fn add(total: &mut f64, one: f64);
}

/// The total weight of all derivations.
#[derive(Debug, Clone, Copy)]
pub struct Sum;

/// The weight of the best derivation.
#[derive(Debug, Clone, Copy)]
pub struct Best;

impl Combine for Sum {
    #[inline]
    fn add(total: &mut f64, one: f64) {
        *total += one;
    }
}

impl Combine for Best {
    #[inline]
    fn add(total: &mut f64, one: f64) {
        *total = total.max(one);
    }
}

/// A rule as seen from its first symbol.
#[derive(Debug, Clone, Copy)]
struct First {
    probability: f64,
    /// The second symbol; none if the rule has one symbol.
    second: Option<Symbol>,
    /// The row that rule, or its first two symbols, adds to.
    target: usize,
}

/// The first j >= 2 symbols of a rule that has more.
#[derive(Debug, Clone, Copy)]
struct State {
    next: Symbol,
    target: usize,
}

/// What is known before a sentence is: the grammar in the order of the chart, and the lengths that can occur.
///
/// Rows 0..N are the non-terminals, the others the proper prefixes (of two symbols or more) of right sides.
#[derive(Debug, Clone)]
pub struct Plan {
    grammar: Grammar,
    most: usize,
    scale: f64,
    by_nonterminal: Vec<Vec<First>>,
    by_terminal: Vec<Vec<First>>,
    states: Vec<State>,
    /// First state row of each rule with three symbols or more.
    rule_states: Vec<usize>,
    /// Non-terminal whose rules a row belongs to.
    owner: Vec<usize>,
    /// Shortest and longest length of each row, up to `most`; empty rows have 1..=0.
    lengths: Vec<(usize, usize)>,
    /// Rows that can have each length, in the order of evaluation.
    by_length: Vec<Vec<usize>>,
    sets: LengthSets,
}

/// A filled chart.
#[derive(Debug, Clone)]
pub struct Chart<'a> {
    plan: &'a Plan,
    n: usize,
    emissions: &'a [f64],
    /// Weights of each row, \[n, width\].
    rows: Vec<Vec<f64>>,
    /// Shortest length and number of lengths of each row.
    shape: Vec<(usize, usize)>,
    /// Range of lengths with non-zero weight of every (non-terminal, position): first, one past the last.
    filled: Vec<Vec<(u32, u32)>>,
}

impl Plan {
    /// Prepares for sentences of up to `most` tokens.
    pub fn new(grammar: &Grammar, most: usize) -> Self {
        let count = grammar.nonterminals().len();
        let sets = LengthSets::new(grammar, most);
        let mut plan = Self {
            grammar: grammar.clone(),
            most,
            scale: stats::token_scale(grammar),
            by_nonterminal: vec![Vec::new(); count],
            by_terminal: vec![Vec::new(); grammar.terminals().len()],
            states: Vec::new(),
            rule_states: Vec::new(),
            owner: (0..count).collect(),
            lengths: sets.lengths.iter().map(|set| extent(set)).collect(),
            by_length: Vec::new(),
            sets,
        };
        for rule in grammar.rules() {
            let (lhs, k) = (usize::from(rule.lhs), rule.rhs.len());
            let base = count + plan.states.len();
            plan.rule_states.push(base);
            let row = |symbols: usize| if symbols == k { lhs } else { base + symbols - 2 };
            let first = First {
                probability: rule.probability,
                second: rule.rhs.get(1).copied(),
                target: if k == 1 { lhs } else { row(2) },
            };
            match rule.rhs[0] {
                Symbol::Terminal(t) => plan.by_terminal[usize::from(t)].push(first),
                Symbol::Nonterminal(a) => plan.by_nonterminal[usize::from(a)].push(first),
            }
            let mut set = plan.sets.of(rule.rhs[0]);
            for j in 2..k {
                set = stats::sum_set(&set, &plan.sets.of(rule.rhs[j - 1]), most);
                plan.states.push(State { next: rule.rhs[j], target: row(j + 1) });
                plan.lengths.push(extent(&set));
                plan.owner.push(lhs);
            }
        }
        let order: Vec<usize> = grammar
            .unit_order()
            .iter()
            .map(|&a| usize::from(a))
            .chain(count..count + plan.states.len())
            .collect();
        plan.by_length = (0..=most)
            .map(|l| {
                order
                    .iter()
                    .copied()
                    .filter(|&r| (plan.lengths[r].0..=plan.lengths[r].1).contains(&l))
                    .collect()
            })
            .collect();
        plan
    }

    /// The grammar.
    pub fn grammar(&self) -> &Grammar {
        &self.grammar
    }

    /// Longest sentence this plan is for.
    pub fn most(&self) -> usize {
        self.most
    }

    /// What every token's weight is multiplied by, so that totals of typical sentences stay near 1: a total over n tokens
    /// is its true value times `scale`^n.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Emissions of a known sentence: \[n, T\], `scale` at the token and 0 elsewhere.
    pub fn emissions(&self, tokens: &[u8]) -> Vec<f64> {
        let t = self.grammar.terminals().len();
        let mut emissions = vec![0.0; tokens.len() * t];
        tokens.iter().enumerate().for_each(|(i, &token)| emissions[i * t + usize::from(token)] = self.scale);
        emissions
    }

    /// Bytes of a chart of the longest sentence, without its derivatives.
    pub fn chart_bytes(&self) -> usize {
        let entries = self.lengths.iter().map(|&(low, high)| (high + 1).saturating_sub(low)).sum::<usize>();
        entries.saturating_mul(self.most).saturating_mul(size_of::<f64>())
    }

    fn terminals(&self) -> usize {
        self.grammar.terminals().len()
    }
}

/// Smallest and largest member; 1 and 0 for the empty set.
fn extent(set: &[bool]) -> (usize, usize) {
    match (set.iter().position(|&b| b), set.iter().rposition(|&b| b)) {
        (Some(low), Some(high)) => (low, high),
        _ => (1, 0),
    }
}

impl<'a> Chart<'a> {
    /// Fills the chart of a sentence of n tokens from its emissions \[n, T\].
    ///
    /// # Panics
    /// If n exceeds the plan's longest sentence or the emissions are not n rows.
    pub fn fill<C: Combine>(plan: &'a Plan, n: usize, emissions: &'a [f64]) -> Self {
        let t = plan.terminals();
        assert!(n <= plan.most && emissions.len() == n * t);
        let count = plan.by_nonterminal.len();
        let shape: Vec<(usize, usize)> =
            plan.lengths.iter().map(|&(low, high)| (low, (high.min(n) + 1).saturating_sub(low))).collect();
        let rows = shape.iter().map(|(_, width)| vec![0.0; n * width]).collect();
        let mut chart = Self { plan, n, emissions, rows, shape, filled: vec![vec![(1, 1); n]; count] };
        for i in (0..n).rev() {
            for terminal in 0..t {
                let weight = emissions[i * t + terminal];
                if weight != 0.0 {
                    for first in &plan.by_terminal[terminal] {
                        chart.extend_first::<C>(first, weight, i, 1);
                    }
                }
            }
            for l in 1..=n - i {
                for &row in &plan.by_length[l] {
                    let at = chart.at(row, i, l);
                    let weight = chart.rows[row][at];
                    if weight == 0.0 {
                        continue;
                    }
                    if row >= count {
                        let state = plan.states[row - count];
                        chart.extend::<C>(weight, i, l, state.next, state.target);
                        continue;
                    }
                    if !plan.sets.right[row][n - i - l] {
                        chart.rows[row][at] = 0.0;
                        continue;
                    }
                    let filled = &mut chart.filled[row][i];
                    *filled = (if filled.0 == filled.1 { l as u32 } else { filled.0 }, l as u32 + 1);
                    for first in &plan.by_nonterminal[row] {
                        chart.extend_first::<C>(first, weight, i, l);
                    }
                }
            }
        }
        chart
    }

    #[inline]
    fn at(&self, row: usize, i: usize, l: usize) -> usize {
        let (low, width) = self.shape[row];
        i * width + l - low
    }

    /// Weight of a row's symbols on the `l` tokens from i; 0 outside the range of its lengths.
    fn weight(&self, row: usize, i: usize, l: usize) -> f64 {
        let (low, width) = self.shape[row];
        if l < low || l >= low + width || i + l > self.n { 0.0 } else { self.rows[row][self.at(row, i, l)] }
    }

    /// Weight of a symbol on the `l` tokens from i.
    pub fn symbol_weight(&self, symbol: Symbol, i: usize, l: usize) -> f64 {
        match symbol {
            Symbol::Terminal(t) if l == 1 && i < self.n => {
                self.emissions[i * self.plan.terminals() + usize::from(t)]
            }
            Symbol::Terminal(_) => 0.0,
            Symbol::Nonterminal(a) => self.weight(usize::from(a), i, l),
        }
    }

    /// Weight of the first `symbols` symbols of a rule on the `l` tokens from i, the rule's probability included.
    pub fn prefix_weight(&self, rule: usize, symbols: usize, i: usize, l: usize) -> f64 {
        let r = &self.plan.grammar.rules()[rule];
        if symbols == 1 {
            return r.probability * self.symbol_weight(r.rhs[0], i, l);
        }
        self.weight(self.plan.rule_states[rule] + symbols - 2, i, l)
    }

    /// The weight of the whole sentence.
    pub fn total(&self) -> f64 {
        if self.n == 0 { 0.0 } else { self.weight(usize::from(self.plan.grammar.start()), 0, self.n) }
    }

    fn extend_first<C: Combine>(&mut self, first: &First, weight: f64, i: usize, l: usize) {
        if !self.plan.sets.left[self.plan.owner[first.target]][i] {
            return;
        }
        match first.second {
            None => {
                let at = self.at(first.target, i, l);
                C::add(&mut self.rows[first.target][at], first.probability * weight);
            }
            Some(second) => self.extend::<C>(first.probability * weight, i, l, second, first.target),
        }
    }

    /// Extends a span of weight `weight` on the `l` tokens from i by every span of `next` right of it.
    #[inline]
    fn extend<C: Combine>(&mut self, weight: f64, i: usize, l: usize, next: Symbol, target: usize) {
        let j = i + l;
        if j >= self.n {
            return;
        }
        match next {
            Symbol::Terminal(t) => {
                let e = self.emissions[j * self.plan.terminals() + usize::from(t)];
                if e != 0.0 {
                    let at = self.at(target, i, l + 1);
                    C::add(&mut self.rows[target][at], weight * e);
                }
            }
            Symbol::Nonterminal(a) => {
                let a = usize::from(a);
                let (low, high) = self.filled[a][j];
                if low == high {
                    return;
                }
                let (low, high) = (low as usize, high as usize);
                let (from, to) = (self.at(a, j, low), self.at(target, i, l + low));
                // Children are found right of i, parents at i: two rows even if they belong to one symbol.
                if a == target {
                    let (head, tail) = self.rows[a].split_at_mut(from);
                    add_scaled::<C>(&mut head[to..to + high - low], &tail[..high - low], weight);
                } else {
                    let mut out = std::mem::take(&mut self.rows[target]);
                    add_scaled::<C>(
                        &mut out[to..to + high - low],
                        &self.rows[a][from..from + high - low],
                        weight,
                    );
                    self.rows[target] = out;
                }
            }
        }
    }
}

fn add_scaled<C: Combine>(out: &mut [f64], values: &[f64], factor: f64) {
    out.iter_mut().zip(values).for_each(|(o, v)| C::add(o, factor * v));
}
