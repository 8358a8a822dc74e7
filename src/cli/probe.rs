//! `curricle probe`: what a sequence model's predictions and hidden states depend on.

mod models;
mod ngram;
mod nonterminal;

use super::Usage;
use anyhow::Result;
use curricle_probe::SequenceProbeError;

/// What GPT-2 and BERT checkpoints on grammars predict from, and what can be read off their hidden states.
#[derive(Debug, Clone, clap::Args)]
pub struct ProbeArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    Ngram(ngram::NgramArgs),
    Nonterminal(nonterminal::NonterminalArgs),
}

/// Runs the command.
///
/// # Errors
/// [`Usage`] for arguments that cannot be satisfied; checkpoints that cannot be read or do not compute.
pub fn run(args: &ProbeArgs) -> Result<()> {
    match &args.command {
        Command::Ngram(args) => ngram::run(args),
        Command::Nonterminal(args) => nonterminal::run(args),
    }
}

/// What a probe refuses because of the request is bad usage; what fails in the model is a failure.
fn blame(error: SequenceProbeError, path: &str) -> anyhow::Error {
    match error {
        SequenceProbeError::Model(_) | SequenceProbeError::NonFinite { .. } => {
            anyhow::Error::new(error).context(path.to_owned())
        }
        other => Usage(format!("{path}: {other}")).into(),
    }
}
