//! `curricle pcfg`: what probabilistic context-free grammars produce, exactly and in samples.

mod optimum;
mod sentences;
mod statistics;

use super::Usage;
use anyhow::Result;
use curricle_core::task::pcfg::{Grammar, load_grammar};
use curricle_lab::run::task::read_text;

/// Sentences of a probabilistic context-free grammar: samples, trees, exact statistics, parses, and the best that masked
/// prediction can do.
///
/// Built-in grammars: cfg3b, cfg3f, cfg3g, cfg3h, cfg3i (terminals a b c, trees of depth 6). A grammar file has lines such as
/// "S -> N V | V" and "N -> a [0.25] | b N [3/4]", and may name its "start S" and its "terminals a b".
#[derive(Debug, Clone, clap::Args)]
pub struct PcfgArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    Sample(sentences::SampleArgs),
    Tree(sentences::TreeArgs),
    Stats(statistics::StatsArgs),
    Parse(sentences::ParseArgs),
    Bayes(optimum::BayesArgs),
}

/// Which grammar.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct GrammarArgs {
    /// A built-in grammar (cfg3b, cfg3f, cfg3g, cfg3h, cfg3i) or a grammar file
    #[arg(long, value_name = "NAME|FILE", default_value = "cfg3b")]
    pub grammar: String,
    /// Start symbol [default: the grammar's own]; in the built-in ones 22 (long) down to 7 (two or three tokens)
    #[arg(long, value_name = "SYMBOL")]
    pub start: Option<String>,
}

impl GrammarArgs {
    /// Loads and checks the grammar.
    ///
    /// # Errors
    /// [`Usage`] with the file, the line and the reason.
    pub fn load(&self) -> Result<Grammar> {
        let usage = |text: String| anyhow::Error::from(Usage(text));
        let grammar =
            load_grammar(&self.grammar, &read_text).map_err(|e| usage(format!("--grammar: {e}")))?;
        match &self.start {
            None => Ok(grammar),
            Some(name) => grammar.with_start(name).map_err(|e| usage(format!("--start: {e}"))),
        }
    }

    /// The start symbol's name.
    pub fn start_of(grammar: &Grammar) -> &str {
        &grammar.nonterminals()[usize::from(grammar.start())]
    }
}

/// Runs the command.
///
/// # Errors
/// [`Usage`] for arguments and grammars that cannot be used; output that cannot be written.
pub fn run(args: &PcfgArgs) -> Result<()> {
    match &args.command {
        Command::Sample(args) => sentences::sample(args),
        Command::Tree(args) => sentences::tree(args),
        Command::Stats(args) => statistics::stats(args),
        Command::Parse(args) => sentences::parse(args),
        Command::Bayes(args) => optimum::bayes(args),
    }
}
