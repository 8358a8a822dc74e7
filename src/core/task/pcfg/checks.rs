//! What makes a grammar usable: its rules end in terminals, and after finitely many tokens on average.

use super::error::GrammarError;
use super::grammar::{Grammar, MAX_MEAN_LENGTH, Symbol};

impl Grammar {
    pub(super) fn check_sums(&self) -> Result<(), GrammarError> {
        for (a, range) in (0..self.nonterminals().len() as u16).map(|a| (usize::from(a), self.rules_of(a))) {
            let sum: f64 = self.rules()[range].iter().map(|r| r.probability).sum();
            if (sum - 1.0).abs() > 1e-9 {
                let symbol = self.nonterminals()[a].clone();
                return Err(GrammarError::Sum { line: self.line_of(a), symbol, sum });
            }
        }
        Ok(())
    }

    pub(super) fn check_productive(&self) -> Result<(), GrammarError> {
        let mut productive = vec![false; self.nonterminals().len()];
        loop {
            let before = productive.iter().filter(|&&p| p).count();
            for rule in self.rules() {
                let ends = rule.rhs.iter().all(|s| match s {
                    Symbol::Terminal(_) => true,
                    Symbol::Nonterminal(b) => productive[usize::from(*b)],
                });
                productive[usize::from(rule.lhs)] |= ends;
            }
            if productive.iter().filter(|&&p| p).count() == before {
                break;
            }
        }
        match productive.iter().position(|p| !p) {
            None => Ok(()),
            Some(a) => Err(GrammarError::Unproductive {
                line: self.line_of(a),
                symbol: self.nonterminals()[a].clone(),
            }),
        }
    }

    pub(super) fn check_reachable(&self) -> Result<(), GrammarError> {
        match self.reachable().iter().position(|r| !r) {
            None => Ok(()),
            Some(a) => Err(GrammarError::Unreachable {
                line: self.line_of(a),
                symbol: self.nonterminals()[a].clone(),
                start: self.nonterminals()[usize::from(self.start())].clone(),
            }),
        }
    }

    pub(super) fn order_units(&self) -> Result<Vec<u16>, GrammarError> {
        let n = self.nonterminals().len();
        let mut waits = vec![0usize; n];
        let mut above: Vec<Vec<u16>> = vec![Vec::new(); n];
        for rule in self.rules() {
            if let [Symbol::Nonterminal(b)] = rule.rhs[..] {
                waits[usize::from(rule.lhs)] += 1;
                above[usize::from(b)].push(rule.lhs);
            }
        }
        let mut order: Vec<u16> = (0..n as u16).filter(|&a| waits[usize::from(a)] == 0).collect();
        let mut next = 0;
        while let Some(&b) = order.get(next) {
            next += 1;
            for &a in &above[usize::from(b)] {
                waits[usize::from(a)] -= 1;
                if waits[usize::from(a)] == 0 {
                    order.push(a);
                }
            }
        }
        if order.len() == n {
            return Ok(order);
        }
        // What waits may only lie above a cycle: follow unit rules down until a symbol repeats.
        let mut at = (0..n).find(|&a| waits[a] > 0).expect("some symbol waits");
        let mut seen = vec![false; n];
        loop {
            let unit = self.rules()[self.rules_of(at as u16)].iter().find_map(|r| match r.rhs[..] {
                [Symbol::Nonterminal(b)] if waits[usize::from(b)] > 0 => Some((usize::from(b), r.line)),
                _ => None,
            });
            let (down, line) = unit.expect("a waiting symbol has a waiting one below");
            if std::mem::replace(&mut seen[at], true) {
                return Err(GrammarError::UnitCycle { line, symbol: self.nonterminals()[at].clone() });
            }
            at = down;
        }
    }

    /// The spectral radius of M is below 1 exactly if I - M is a non-singular M-matrix, that is if elimination without
    /// pivoting meets only positive pivots (Berman and Plemmons, *Nonnegative matrices*, theorem 6.2.3).
    pub(super) fn check_finite(&self) -> Result<(), GrammarError> {
        let (lu, n) = (self.eliminated(), self.nonterminals().len());
        match (0..n).find(|&k| lu[k * n + k].partial_cmp(&1e-12) != Some(std::cmp::Ordering::Greater)) {
            None => Ok(()),
            Some(a) => {
                Err(GrammarError::Explosive { line: self.line_of(a), symbol: self.nonterminals()[a].clone() })
            }
        }
    }

    pub(super) fn check_length(&self) -> Result<(), GrammarError> {
        let mean = self.mean_lengths()[usize::from(self.start())];
        // Written so that NaN is refused.
        if mean <= MAX_MEAN_LENGTH {
            Ok(())
        } else {
            Err(GrammarError::TooLong { mean, most: MAX_MEAN_LENGTH })
        }
    }

    /// LU factors of I - M, without pivoting, row-major.
    pub(super) fn eliminated(&self) -> Vec<f64> {
        let n = self.nonterminals().len();
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            a[i * n + i] = 1.0;
        }
        for rule in self.rules() {
            for symbol in &rule.rhs {
                if let Symbol::Nonterminal(b) = symbol {
                    a[usize::from(rule.lhs) * n + usize::from(*b)] -= rule.probability;
                }
            }
        }
        for k in 0..n {
            for i in k + 1..n {
                let factor = a[i * n + k] / a[k * n + k];
                a[i * n + k] = factor;
                if factor != 0.0 {
                    for j in k + 1..n {
                        a[i * n + j] -= factor * a[k * n + j];
                    }
                }
            }
        }
        a
    }

    pub(super) fn dependencies_cycle(&self) -> bool {
        // Remove symbols all of whose children are removed; what remains lies on or above a cycle.
        let reachable = self.reachable();
        let mut done = vec![false; self.nonterminals().len()];
        loop {
            let ready: Vec<usize> = (0..done.len())
                .filter(|&a| {
                    reachable[a] && !done[a] && self.children(a as u16).all(|b| done[usize::from(b)])
                })
                .collect();
            if ready.is_empty() {
                return (0..done.len()).any(|a| reachable[a] && !done[a]);
            }
            ready.into_iter().for_each(|a| done[a] = true);
        }
    }

    pub(super) fn uniform_depths(&self) -> Option<Vec<usize>> {
        if self.is_recursive() {
            return None;
        }
        let reachable = self.reachable();
        let mut depth: Vec<usize> = vec![0; self.nonterminals().len()];
        let mut left: Vec<u16> = (0..depth.len() as u16).filter(|&a| reachable[usize::from(a)]).collect();
        while !left.is_empty() {
            let (ready, waiting): (Vec<u16>, Vec<u16>) =
                left.into_iter().partition(|&a| self.children(a).all(|b| depth[usize::from(b)] > 0));
            for a in ready {
                let mut below = self.rules()[self.rules_of(a)].iter().flat_map(|r| &r.rhs).map(|s| match s {
                    Symbol::Terminal(_) => 0,
                    Symbol::Nonterminal(b) => depth[usize::from(*b)],
                });
                let first = below.next()?;
                if below.any(|d| d != first) {
                    return None;
                }
                depth[usize::from(a)] = first + 1;
            }
            left = waiting;
        }
        Some(depth)
    }
}
