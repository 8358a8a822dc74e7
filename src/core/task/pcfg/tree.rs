//! A derivation tree.
//!
//! Levels count from the terminals: the level of a node is the depth of the tree's deepest terminal minus the depth of
//! the node. In a grammar whose trees have all terminals at one depth (the built-in ones) every terminal has level 0 and the
//! level of a non-terminal is a property of the symbol. In other grammars a terminal may lie above level 0; a token
//! then has no ancestor at the levels below its own.

use super::grammar::{Grammar, Symbol};

/// One use of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// The non-terminal.
    pub symbol: u16,
    /// The rule that rewrote it.
    pub rule: u16,
    /// Index of the node above; `u32::MAX` for the root.
    pub parent: u32,
    /// Steps from the root.
    pub depth: u32,
    /// First token of its span.
    pub start: u32,
    /// One past the last token of its span.
    pub end: u32,
}

/// A sentence and how it was derived. Nodes are in leftmost order (a node before everything below it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub(super) tokens: Vec<u8>,
    /// Node above each token.
    pub(super) parents: Vec<u32>,
    pub(super) nodes: Vec<Node>,
    height: usize,
}

impl Tree {
    pub(super) fn empty() -> Self {
        Self { tokens: Vec::new(), parents: Vec::new(), nodes: Vec::new(), height: 0 }
    }

    /// Fills in the ends of the spans and the height once all tokens and nodes are there.
    pub(super) fn finish(&mut self) {
        for (i, &parent) in self.parents.iter().enumerate() {
            let node = &mut self.nodes[parent as usize];
            node.end = i as u32 + 1;
            self.height = self.height.max(node.depth as usize + 1);
        }
        // A node comes before its children, so its end is known once all later nodes are done.
        for i in (1..self.nodes.len()).rev() {
            let (end, parent) = (self.nodes[i].end, self.nodes[i].parent as usize);
            self.nodes[parent].end = self.nodes[parent].end.max(end);
        }
    }

    /// The sentence: terminal indices.
    pub fn tokens(&self) -> &[u8] {
        &self.tokens
    }

    /// All nodes in leftmost order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Index of the node above each token.
    pub fn parents(&self) -> &[u32] {
        &self.parents
    }

    /// Depth of the deepest terminal; the level of the root.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Level of a node.
    pub fn level(&self, node: &Node) -> usize {
        self.height - node.depth as usize
    }

    /// Nodes of one level, from left to right.
    pub fn spans(&self, level: usize) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |n| self.level(n) == level)
    }

    /// Positions of the tokens that end a span of this level, ascending; level 0: all tokens.
    pub fn ends(&self, level: usize) -> Vec<usize> {
        if level == 0 {
            return (0..self.tokens.len()).collect();
        }
        self.spans(level).map(|n| n.end as usize - 1).collect()
    }

    /// True for every token that ends a span of this level.
    pub fn boundaries(&self, level: usize) -> Vec<bool> {
        let mut ends = vec![false; self.tokens.len()];
        self.ends(level).into_iter().for_each(|t| ends[t] = true);
        ends
    }

    /// For every token its ancestor at this level (from 1): the non-terminal and the number of the span within the
    /// level, from the left. `None` where a token has none.
    pub fn ancestors(&self, level: usize) -> Vec<Option<(u16, usize)>> {
        let mut found = vec![None; self.tokens.len()];
        for (i, node) in self.spans(level).enumerate() {
            found[node.start as usize..node.end as usize].fill(Some((node.symbol, i)));
        }
        found
    }

    /// Natural logarithm of the derivation's probability.
    pub fn log_probability(&self, grammar: &Grammar) -> f64 {
        self.nodes.iter().map(|n| grammar.rules()[usize::from(n.rule)].probability.ln()).sum()
    }

    /// True if every node follows a rule of the grammar from its start symbol: for tests and for data read from files.
    pub fn follows(&self, grammar: &Grammar) -> bool {
        let mut below: Vec<Vec<(u32, Symbol)>> = vec![Vec::new(); self.nodes.len()];
        for node in self.nodes.iter().skip(1) {
            below[node.parent as usize].push((node.start, Symbol::Nonterminal(node.symbol)));
        }
        for (i, (&parent, &token)) in self.parents.iter().zip(&self.tokens).enumerate() {
            below[parent as usize].push((i as u32, Symbol::Terminal(token)));
        }
        self.nodes.first().is_some_and(|root| root.symbol == grammar.start())
            && self.nodes.iter().zip(&mut below).all(|(node, below)| {
                below.sort_by_key(|(at, _)| *at);
                let rule = &grammar.rules()[usize::from(node.rule)];
                rule.lhs == node.symbol && rule.rhs.iter().eq(below.iter().map(|(_, s)| s))
            })
    }

    /// The tree as indented text, one line per node with its span; nodes that only have terminals show them.
    pub fn draw(&self, grammar: &Grammar) -> String {
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate().skip(1) {
            children[node.parent as usize].push(i);
        }
        let mut text = String::new();
        // (node, what stands before its name, what stands before its children)
        let mut stack = vec![(0usize, String::new(), String::new())];
        while let Some((at, branch, indent)) = stack.pop() {
            let node = &self.nodes[at];
            let name = &grammar.nonterminals()[usize::from(node.symbol)];
            text.push_str(&branch);
            text.push_str(name);
            let rule = &grammar.rules()[usize::from(node.rule)];
            if children[at].is_empty() {
                let words: Vec<&str> = rule.rhs.iter().map(|&s| grammar.name(s)).collect();
                text.push_str(&format!("  {}", words.join(" ")));
            } else {
                if rule.rhs.iter().any(|s| matches!(s, Symbol::Terminal(_))) {
                    let words: Vec<&str> = rule.rhs.iter().map(|&s| grammar.name(s)).collect();
                    text.push_str(&format!("  ({})", words.join(" ")));
                }
                text.push_str(&format!("  [{}..{}]", node.start + 1, node.end));
            }
            text.push('\n');
            for (i, &child) in children[at].iter().enumerate().rev() {
                let last = i + 1 == children[at].len();
                let (corner, line) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                stack.push((child, format!("{indent}{corner}"), format!("{indent}{line}")));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use crate::rng::{Purpose, Stream};
    use crate::task::pcfg::{Grammar, Sampler};

    #[test]
    fn spans_of_a_level_tile_the_sentence() {
        let grammar = Grammar::builtin("cfg3f").unwrap();
        let sampler = Sampler::new(&grammar);
        for index in 0..10 {
            let tree = sampler.tree(1, Stream::new(Purpose::Data, 3), index);
            assert!(tree.follows(&grammar));
            assert_eq!(tree.height(), 6);
            let n = tree.tokens().len();
            for level in 1..=6 {
                let mut at = 0;
                let ancestors = tree.ancestors(level);
                for (i, span) in tree.spans(level).enumerate() {
                    assert_eq!(span.start as usize, at);
                    at = span.end as usize;
                    assert!(span.start < span.end);
                    assert_eq!(grammar.level_of(span.symbol), Some(level));
                    assert!((span.start..span.end).all(|t| ancestors[t as usize] == Some((span.symbol, i))));
                }
                assert_eq!(at, n);
                let ends = tree.ends(level);
                assert_eq!(ends.last(), Some(&(n - 1)));
                assert_eq!(tree.boundaries(level).iter().filter(|&&b| b).count(), ends.len());
            }
            assert_eq!(tree.ends(0).len(), n);
            assert!(tree.spans(7).next().is_none() && tree.ends(7).is_empty());
        }
    }

    #[test]
    fn uneven_trees_have_levels_from_their_deepest_terminal() {
        let grammar = Grammar::parse("S -> a B c\nB -> b C\nC -> d").unwrap();
        let tree = Sampler::new(&grammar).tree(0, Stream::new(Purpose::Data, 0), 0);
        assert_eq!(tree.tokens(), [0, 2, 3, 1].map(|t: u8| t));
        assert_eq!(tree.height(), 3);
        assert_eq!(tree.ancestors(3), [Some((0, 0)); 4]);
        assert_eq!(tree.ancestors(2), [None, Some((1, 0)), Some((1, 0)), None]);
        assert_eq!(tree.ends(1), [2]);
        assert_eq!(tree.draw(&grammar), "S  (a B c)  [1..4]\n└─ B  (b C)  [2..3]\n   └─ C  d\n");
    }
}
