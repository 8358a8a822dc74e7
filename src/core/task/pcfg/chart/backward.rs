//! The chart's program run backwards.

use super::{Chart, First, Sum, add_scaled};
use crate::task::pcfg::grammar::Symbol;

impl Chart<'_> {
    /// Derivatives of the total with respect to all emissions, \[n, T\]. Only for charts filled with [`Sum`].
    pub fn derivatives(&self) -> Vec<f64> {
        let t = self.plan.terminals();
        let count = self.plan.by_nonterminal.len();
        let mut back = Backward {
            chart: self,
            rows: self.rows.iter().map(|r| vec![0.0; r.len()]).collect(),
            emissions: vec![0.0; self.n * t],
        };
        if self.total() == 0.0 {
            return back.emissions;
        }
        let start = usize::from(self.plan.grammar.start());
        let at = self.at(start, 0, self.n);
        back.rows[start][at] = 1.0;
        for i in 0..self.n {
            for l in (1..=self.n - i).rev() {
                for &row in self.plan.by_length[l].iter().rev() {
                    let at = self.at(row, i, l);
                    let weight = self.rows[row][at];
                    if weight == 0.0 {
                        continue;
                    }
                    let mut own = 0.0;
                    if row >= count {
                        let state = self.plan.states[row - count];
                        own += back.extend(weight, i, l, state.next, state.target);
                    } else {
                        for first in &self.plan.by_nonterminal[row] {
                            own += back.extend_first(first, weight, i, l);
                        }
                    }
                    back.rows[row][at] += own;
                }
            }
            for terminal in 0..t {
                let weight = self.emissions[i * t + terminal];
                if weight != 0.0 {
                    for first in &self.plan.by_terminal[terminal] {
                        let own = back.extend_first(first, weight, i, 1);
                        back.emissions[i * t + terminal] += own;
                    }
                }
            }
        }
        back.emissions
    }
}

/// Derivatives of the total with respect to every weight of the chart.
struct Backward<'c, 'p> {
    chart: &'c Chart<'p>,
    rows: Vec<Vec<f64>>,
    emissions: Vec<f64>,
}

impl Backward<'_, '_> {
    /// The derivative with respect to `weight`; adds those with respect to what stood right of it.
    fn extend_first(&mut self, first: &First, weight: f64, i: usize, l: usize) -> f64 {
        let plan = self.chart.plan;
        if !plan.sets.left[plan.owner[first.target]][i] {
            return 0.0;
        }
        let p = first.probability;
        match first.second {
            None => p * self.rows[first.target][self.chart.at(first.target, i, l)],
            Some(second) => p * self.extend(p * weight, i, l, second, first.target),
        }
    }

    fn extend(&mut self, weight: f64, i: usize, l: usize, next: Symbol, target: usize) -> f64 {
        let chart = self.chart;
        let j = i + l;
        if j >= chart.n {
            return 0.0;
        }
        match next {
            Symbol::Terminal(t) => {
                let e = j * chart.plan.terminals() + usize::from(t);
                if chart.emissions[e] == 0.0 {
                    return 0.0;
                }
                let out = self.rows[target][chart.at(target, i, l + 1)];
                self.emissions[e] += weight * out;
                chart.emissions[e] * out
            }
            Symbol::Nonterminal(a) => {
                let a = usize::from(a);
                let (low, high) = chart.filled[a][j];
                if low == high {
                    return 0.0;
                }
                let (low, high) = (low as usize, high as usize);
                let (from, to) = (chart.at(a, j, low), chart.at(target, i, l + low));
                let children = &chart.rows[a][from..from + high - low];
                let mut out = std::mem::take(&mut self.rows[target]);
                let own = children.iter().zip(&out[to..]).map(|(c, o)| c * o).sum();
                if a == target {
                    let (head, tail) = out.split_at_mut(from);
                    add_scaled::<Sum>(&mut tail[..high - low], &head[to..to + high - low], weight);
                    self.rows[target] = out;
                } else {
                    let back = &mut self.rows[a][from..from + high - low];
                    add_scaled::<Sum>(back, &out[to..to + high - low], weight);
                    self.rows[target] = out;
                }
                own
            }
        }
    }
}
