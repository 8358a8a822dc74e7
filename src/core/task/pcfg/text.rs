//! The text format of grammar files.
//!
//! ```text
//! # a comment; so is anything after a hash sign
//! start S                  # optional; the left side of the first rule otherwise
//! terminals a b c          # optional: the token ids 0, 1, 2 in this order
//! S -> N V | V             # alternatives are equally likely, unless they have probabilities
//! N -> a [0.3]             # a probability in brackets, for all rules of N or for none
//! N -> b N [1/2] | c [0.2]
//! V -> b c
//! ```
//!
//! Symbols are words without `|`, `[`, `]`, `=`, `#`. A terminal can be declared `1=a`: written 1 in the rules, shown as a.
//! Without a `terminals` line every symbol without rules is a terminal, in the order of first use; with it such a symbol is
//! an error, so spelling mistakes are found.

use super::builtin::{NAMES, TEXTS};
use super::error::GrammarError;
use super::grammar::{Grammar, Rule, Symbol};

impl Grammar {
    /// A built-in grammar by name.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn builtin(name: &str) -> Result<Self, GrammarError> {
        let index = NAMES.iter().position(|n| *n == name);
        let index = index.ok_or_else(|| GrammarError::Name { name: name.to_owned() })?;
        parse(TEXTS[index])
    }

    /// Reads the text format of grammar files ([`super::text`]).
    ///
    /// # Errors
    /// [`GrammarError`] with line and reason.
    pub fn parse(text: &str) -> Result<Self, GrammarError> {
        parse(text)
    }
}

struct Draft<'a> {
    lhs: &'a str,
    rhs: Vec<&'a str>,
    probability: Option<f64>,
    line: usize,
}

fn syntax(line: usize, reason: impl Into<String>) -> GrammarError {
    GrammarError::Syntax { line, reason: reason.into() }
}

/// Reads a grammar.
///
/// # Errors
/// [`GrammarError`] with line and reason.
pub fn parse(text: &str) -> Result<Grammar, GrammarError> {
    let mut start: Option<(&str, usize)> = None;
    let mut declared: Option<Vec<(&str, &str)>> = None;
    let mut drafts: Vec<Draft> = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let content = raw.split('#').next().unwrap_or("").trim();
        if content.is_empty() {
            continue;
        }
        if let Some((lhs, alternatives)) = content.split_once("->") {
            let lhs = single(lhs, line, "the left side of a rule")?;
            for alternative in alternatives.split('|') {
                drafts.push(draft(lhs, alternative, line)?);
            }
            continue;
        }
        let mut words = content.split_whitespace();
        match words.next() {
            Some("start") => {
                let symbol = single(&content["start".len()..], line, "the start symbol")?;
                if start.replace((symbol, line)).is_some() {
                    return Err(syntax(line, "the start symbol is declared twice"));
                }
            }
            Some("terminals") => {
                if declared.is_some() {
                    return Err(syntax(line, "the terminals are declared twice"));
                }
                declared = Some(terminals(words, line)?);
            }
            _ => {
                let reason = format!(
                    "expected 'LEFT -> RIGHT ..', 'start SYMBOL' or 'terminals SYMBOL ..', found '{content}'"
                );
                return Err(syntax(line, reason));
            }
        }
    }
    assemble(start, declared, &drafts)
}

/// The one word of `text`, checked.
fn single<'a>(text: &'a str, line: usize, what: &str) -> Result<&'a str, GrammarError> {
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some(word), None) => symbol(word, line),
        _ => Err(syntax(line, format!("{what} must be one symbol, found '{}'", text.trim()))),
    }
}

fn symbol(word: &str, line: usize) -> Result<&str, GrammarError> {
    if word.contains(['|', '[', ']', '=', '#']) || word.contains("->") {
        return Err(syntax(line, format!("'{word}' is not a symbol: | [ ] = # and -> have other uses")));
    }
    Ok(word)
}

/// Words `a` or `1=a` of a terminals line, as (written, shown).
fn terminals<'a>(
    words: impl Iterator<Item = &'a str>,
    line: usize,
) -> Result<Vec<(&'a str, &'a str)>, GrammarError> {
    let mut list: Vec<(&str, &str)> = Vec::new();
    for word in words {
        let (written, shown) = word.split_once('=').unwrap_or((word, word));
        if written.is_empty() || shown.is_empty() {
            return Err(syntax(line, format!("'{word}': expected SYMBOL or SYMBOL=NAME")));
        }
        let pair = (symbol(written, line)?, symbol(shown, line)?);
        if list.iter().any(|&(w, s)| w == pair.0 || s == pair.1) {
            return Err(syntax(line, format!("the terminal '{word}' is declared twice")));
        }
        list.push(pair);
    }
    if list.is_empty() {
        return Err(syntax(line, "a terminals line names at least one terminal"));
    }
    Ok(list)
}

/// One alternative of a rule: symbols and perhaps a probability in brackets.
fn draft<'a>(lhs: &'a str, text: &'a str, line: usize) -> Result<Draft<'a>, GrammarError> {
    let (symbols, probability) = match text.split_once('[') {
        None => (text, None),
        Some((symbols, rest)) => {
            let inner = rest.trim_end().strip_suffix(']').ok_or_else(|| {
                syntax(line, "a probability in brackets ends the rule, as in 'A -> B C [0.25]'")
            })?;
            (symbols, Some(probability(inner.trim(), line)?))
        }
    };
    let rhs: Vec<&str> =
        symbols.split_whitespace().map(|w| symbol(w, line)).collect::<Result<_, GrammarError>>()?;
    if rhs.is_empty() {
        return Err(syntax(
            line,
            "the right side of a rule has at least one symbol (there are no empty rules)",
        ));
    }
    Ok(Draft { lhs, rhs, probability, line })
}

/// `0.25` or `1/4`.
fn probability(text: &str, line: usize) -> Result<f64, GrammarError> {
    let number = |t: &str| t.trim().parse::<f64>().ok();
    let value = match text.split_once('/') {
        Some((a, b)) => number(a).zip(number(b)).map(|(a, b)| a / b),
        None => number(text),
    };
    value.filter(|p| *p > 0.0 && *p <= 1.0).ok_or_else(|| {
        syntax(line, format!("'{text}' is not a probability above 0 and up to 1, such as 0.25 or 1/4"))
    })
}

fn assemble(
    start: Option<(&str, usize)>,
    declared: Option<Vec<(&str, &str)>>,
    drafts: &[Draft],
) -> Result<Grammar, GrammarError> {
    let first = drafts.first().ok_or(GrammarError::Empty)?;
    let mut nonterminals: Vec<&str> = Vec::new();
    for d in drafts {
        if !nonterminals.contains(&d.lhs) {
            nonterminals.push(d.lhs);
        }
        if let Some((written, _)) = declared.iter().flatten().find(|(w, _)| *w == d.lhs) {
            return Err(syntax(d.line, format!("'{written}' is declared a terminal and cannot have rules")));
        }
    }
    let closed = declared.is_some();
    let mut terminals = declared.unwrap_or_default();
    let mut rules = Vec::with_capacity(drafts.len());
    for d in drafts {
        let mut rhs = Vec::with_capacity(d.rhs.len());
        for &word in &d.rhs {
            rhs.push(if let Some(a) = nonterminals.iter().position(|n| *n == word) {
                Symbol::Nonterminal(a as u16)
            } else if let Some(t) = terminals.iter().position(|(w, _)| *w == word) {
                Symbol::Terminal(t as u8)
            } else if closed {
                let shown: Vec<&str> = terminals.iter().map(|(w, _)| *w).collect();
                return Err(GrammarError::UnknownSymbol {
                    line: d.line,
                    symbol: word.to_owned(),
                    terminals: shown.join(" "),
                });
            } else {
                terminals.push((word, word));
                Symbol::Terminal((terminals.len() - 1) as u8)
            });
        }
        let lhs = nonterminals.iter().position(|n| *n == d.lhs).expect("collected above") as u16;
        rules.push(Rule { lhs, rhs, probability: d.probability.unwrap_or(f64::NAN), line: d.line });
    }
    if closed {
        let used = |t: usize| rules.iter().any(|r| r.rhs.contains(&Symbol::Terminal(t as u8)));
        if let Some(t) = (0..terminals.len()).find(|&t| !used(t)) {
            return Err(syntax(
                first.line,
                format!("no rule uses the declared terminal '{}'", terminals[t].0),
            ));
        }
    }
    rules.sort_by_key(|r| r.lhs);
    fill_probabilities(&mut rules, &nonterminals)?;
    let start = match start {
        None => 0,
        Some((name, _)) => nonterminals.iter().position(|n| *n == name).ok_or_else(|| {
            GrammarError::Start { symbol: name.to_owned(), nonterminals: nonterminals.join(", ") }
        })? as u16,
    };
    let terminals = terminals.into_iter().map(|(_, shown)| shown.to_owned()).collect();
    Grammar::new(terminals, nonterminals.into_iter().map(str::to_owned).collect(), rules, start)
}

/// Equal probabilities where none are given; refuses mixtures and repeated rules.
fn fill_probabilities(rules: &mut [Rule], names: &[&str]) -> Result<(), GrammarError> {
    for group in rules.chunk_by_mut(|a, b| a.lhs == b.lhs) {
        let given = group.iter().filter(|r| !r.probability.is_nan()).count();
        if given != 0 && given != group.len() {
            let without = group.iter().find(|r| r.probability.is_nan()).expect("some have none");
            let name = names[usize::from(without.lhs)];
            let reason = format!("give a probability to all rules of '{name}' or to none");
            return Err(syntax(without.line, reason));
        }
        for i in 1..group.len() {
            if let Some(same) = group[..i].iter().find(|r| r.rhs == group[i].rhs) {
                return Err(syntax(group[i].line, format!("the same rule as on line {}", same.line)));
            }
        }
        if given == 0 {
            let equal = 1.0 / group.len() as f64;
            group.iter_mut().for_each(|r| r.probability = equal);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn declarations_probabilities_and_comments_are_read() {
        let text = "# c\nstart S # s\nterminals 1=x 2=y\n\nS -> A 1 [1/4] | 2 [0.75]\nA -> 2 2\n";
        let grammar = parse(text).unwrap();
        assert_eq!(grammar.terminals(), ["x", "y"]);
        assert_eq!(grammar.nonterminals(), ["S", "A"]);
        assert_eq!(grammar.rules().iter().map(|r| r.probability).collect::<Vec<_>>(), [0.25, 0.75, 1.0]);
        assert_eq!(grammar.rules()[2].line, 6);
        assert_eq!(grammar.rule_text(0), "S -> A x");
        let inferred = parse("S -> b a | a").unwrap();
        assert_eq!(inferred.terminals(), ["b", "a"]);
    }

    #[test]
    fn mistakes_are_named_with_line_and_reason() {
        for (text, expected) in [
            ("", "no rules"),
            ("S -> a\nS a", "line 2: expected 'LEFT -> RIGHT"),
            ("S T -> a", "line 1: the left side"),
            ("S -> a | ", "line 1: the right side"),
            ("S -> a [0.5]\nS -> b", "line 2: give a probability to all rules of 'S'"),
            ("S -> a [1.5]", "line 1: '1.5' is not a probability"),
            ("S -> a [NaN]", "line 1: 'NaN' is not a probability"),
            ("S -> a [0.5] b", "line 1: a probability in brackets ends the rule"),
            ("S -> a [0.5] | b [0.4]", "line 1: the probabilities of the rules of 'S' sum to 0.9"),
            ("S -> a\nS -> a", "line 2: the same rule as on line 1"),
            ("terminals a\nS -> a T", "line 2: unknown symbol 'T'"),
            ("terminals a b\nS -> a", "no rule uses the declared terminal 'b'"),
            ("terminals a\na -> a", "line 2: 'a' is declared a terminal"),
            ("S -> a\nT -> a", "line 2: 'T' is never reached from the start symbol 'S'"),
            ("S -> a T\nT -> T b", "line 1: no derivation from 'S'"),
            ("S -> a | T\nT -> T b", "line 2: no derivation from 'T'"),
            ("start X\nS -> a", "the start symbol 'X' has no rules; the non-terminals are S"),
            ("start S\nstart S\nS -> a", "line 2: the start symbol is declared twice"),
            ("S -> T | a\nT -> S | b", "can be rewritten to itself"),
            ("S -> S S [0.5] | a [0.5]", "expected length of a sentence is not finite: 'S' (line 1)"),
            ("S -> a T | b\nT -> S T | T T a | c", "not finite"),
            ("S -> S a [0.9999999] | a [0.0000001]", "tokens on average"),
            ("S -> a|=b", "line 1: '=b' is not a symbol"),
        ] {
            assert!(refusal(text).contains(expected), "{text:?}: {}", refusal(text));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([ST a|#\\[\\]=>.0-9/\n-]|->|S -> |start |terminals ){0,40}") {
            if let Ok(grammar) = parse(&text) {
                let sums: f64 = grammar.rules().iter().map(|r| r.probability).sum();
                proptest::prop_assert!((sums - grammar.nonterminals().len() as f64).abs() < 1e-6);
                proptest::prop_assert!(grammar.mean_lengths().iter().all(|l| *l >= 1.0 - 1e-9));
            }
        }
    }
}
