//! The command line: one file per subcommand, each parse -> resolve -> call the library -> print.

pub mod correlate;

/// A wrong argument or specification; the main function turns it into exit code 2.
// replaced at merge
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);
