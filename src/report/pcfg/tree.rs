//! A sentence with its derivation tree.

use super::section;
use crate::data::Section;
use crate::plot::{Axis, Color, Figure, Mark, Panel, Series, Side, TickFormat};
use curricle_core::task::pcfg::{Grammar, Tree, sample};

/// Longest sentence that is drawn; longer ones are shown as text only.
const MOST_TOKENS: usize = 60;

/// The tree as a drawing: tokens below, non-terminals above the middle of their spans at their level. `None` for sentences
/// of more than 60 tokens, which would not be readable.
pub fn tree_figure(grammar: &Grammar, tree: &Tree, title: &str) -> Option<Figure> {
    let n = tree.tokens().len();
    if n > MOST_TOKENS || n == 0 {
        return None;
    }
    let place = |start: u32, end: u32| f64::from(start + 1 + end) / 2.0;
    let height = tree.height() as f64;
    let x = Axis::linear("token").range(0.3, n as f64 + 0.7);
    let y = Axis::linear("level").range(-0.6, height + 0.5).format(TickFormat::Plain);
    let mut panel = Panel::new(x, y).height((50.0 * (height + 1.0)).clamp(160.0, 420.0));
    let edge = |from: [f64; 2], to: [f64; 2]| {
        let line = Mark::Line { points: vec![from, to], width: 1.0, dash: Default::default() };
        Series::unnamed(Color::REFERENCE, line)
    };
    // Names stand above their nodes; edges from above end over the name.
    let over = |at: [f64; 2]| [at[0], at[1] + 0.36];
    let at = |i: u32| {
        let node = &tree.nodes()[i as usize];
        [place(node.start, node.end), tree.level(node) as f64]
    };
    for (i, node) in tree.nodes().iter().enumerate().skip(1) {
        panel = panel.with(edge(at(node.parent), over(at(i as u32))));
    }
    for (t, &above) in tree.parents().iter().enumerate() {
        panel = panel.with(edge(at(above), [t as f64 + 1.0, 0.0]));
    }
    for (i, node) in tree.nodes().iter().enumerate() {
        let name = grammar.nonterminals()[usize::from(node.symbol)].clone();
        let text = Mark::Text { at: at(i as u32), text: name, side: Side::Above };
        panel = panel.with(Series::unnamed(Color::INK, text));
    }
    for (t, &token) in tree.tokens().iter().enumerate() {
        let name = grammar.terminals()[usize::from(token)].clone();
        let text = Mark::Text { at: [t as f64 + 1.0, 0.0], text: name, side: Side::Below };
        panel = panel.with(Series::unnamed(Color::BLUE, text));
    }
    Some(Figure::new(title).panel(panel))
}

/// A section with the sentence, its tree drawn where it is short enough, and the tree as text.
pub fn tree_section(grammar: &Grammar, tree: &Tree) -> Section {
    let start = &grammar.nonterminals()[usize::from(grammar.start())];
    let text = format!(
        "A sentence of {} tokens from the start symbol {start}. The probability of this derivation is 2^-{:.1}.",
        tree.tokens().len(),
        -tree.log_probability(grammar) / std::f64::consts::LN_2
    );
    let figures = tree_figure(grammar, tree, "A sentence and its derivation").into_iter().collect();
    let mut own = section("A sample sentence", vec![text], figures);
    own.preformatted = vec![sample::text(grammar, tree.tokens()), tree.draw(grammar)];
    own
}
