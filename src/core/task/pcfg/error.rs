//! Why a grammar is refused.

use super::builtin::NAMES;

/// Why a grammar is refused. Every variant names the line where there is one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GrammarError {
    /// A line that is neither a rule nor a declaration.
    #[error("line {line}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// A symbol that has no rules and is not a declared terminal.
    #[error(
        "line {line}: unknown symbol '{symbol}': it has no rules and is not among the terminals ({terminals})"
    )]
    UnknownSymbol {
        /// Line, from 1.
        line: usize,
        /// The symbol.
        symbol: String,
        /// Declared terminals.
        terminals: String,
    },
    /// The probabilities of a non-terminal's rules do not sum to 1.
    #[error("line {line}: the probabilities of the rules of '{symbol}' sum to {sum}, not to 1")]
    Sum {
        /// Line of its first rule.
        line: usize,
        /// The non-terminal.
        symbol: String,
        /// Their sum.
        sum: f64,
    },
    /// A non-terminal that no derivation from the start symbol uses.
    #[error(
        "line {line}: '{symbol}' is never reached from the start symbol '{start}': remove its rules or use it"
    )]
    Unreachable {
        /// Line of its first rule.
        line: usize,
        /// The non-terminal.
        symbol: String,
        /// The start symbol.
        start: String,
    },
    /// A non-terminal that derives no string of terminals.
    #[error("line {line}: no derivation from '{symbol}' ever ends in terminals")]
    Unproductive {
        /// Line of its first rule.
        line: usize,
        /// The non-terminal.
        symbol: String,
    },
    /// A cycle of rules with one symbol each: infinitely many derivations of one string.
    #[error("line {line}: '{symbol}' can be rewritten to itself by rules with a single symbol")]
    UnitCycle {
        /// Line of a rule on the cycle.
        line: usize,
        /// A non-terminal on it.
        symbol: String,
    },
    /// A recursive grammar whose sentences have no finite expected length.
    #[error(
        "the expected length of a sentence is not finite: '{symbol}' (line {line}) rewrites itself at least once on \
         average; lower the probabilities of the rules that repeat it"
    )]
    Explosive {
        /// Line of its first rule.
        line: usize,
        /// A non-terminal of the recursion.
        symbol: String,
    },
    /// Sentences that are far too long to be of use.
    #[error("a sentence has {mean:.3e} tokens on average; at most {most:.0e} are supported")]
    TooLong {
        /// Expected number of tokens.
        mean: f64,
        /// Largest supported one.
        most: f64,
    },
    /// The start symbol has no rules.
    #[error("the start symbol '{symbol}' has no rules; the non-terminals are {nonterminals}")]
    Start {
        /// What was asked for.
        symbol: String,
        /// What there is.
        nonterminals: String,
    },
    /// There are no rules at all.
    #[error("the grammar has no rules")]
    Empty,
    /// More symbols or rules than the compact encodings hold.
    #[error("the grammar has {found} {what}; at most {most} are supported")]
    TooLarge {
        /// Terminals, non-terminals or rules.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// No built-in grammar has this name.
    #[error("there is no built-in grammar '{name}'; there are {}; a file is named by a path that exists", NAMES.join(", "))]
    Name {
        /// What was asked for.
        name: String,
    },
}
