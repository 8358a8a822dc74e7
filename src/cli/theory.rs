//! `curricle theory`: the sample-complexity side, bounds and measurements.

mod bounds;
mod bounds_report;
mod checkpoints;
mod compare;
mod compare_report;
mod lists;
mod measure;
mod rank;
mod rank_report;
mod session;
mod threshold;
mod total;
mod total_report;

use super::Usage;
use anyhow::Result;
use curricle_theory::TheoryError;

/// Sample complexity of learning a sparse parity: exact coefficients, bounds with explicit constants, and
/// measurements.
///
/// Statements and proofs are in theory/README.md.
#[derive(Debug, Clone, clap::Args)]
pub struct TheoryArgs {
    #[command(subcommand)]
    command: TheoryCommand,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum TheoryCommand {
    Threshold(threshold::ThresholdArgs),
    Bounds(bounds::BoundsArgs),
    Measure(measure::MeasureArgs),
    Rank(rank::RankArgs),
    Compare(compare::CompareArgs),
    Total(total::TotalArgs),
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// One JSON object on stdout; everything else goes to stderr
    #[arg(long)]
    json: bool,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Who computes: auto or cpu
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
}

impl Common {
    /// Runs `work` on the asked number of threads.
    fn on_threads<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        super::check_device(&self.device)?;
        let threads = super::threads(self.threads)?;
        rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(work)
    }

    /// JSON to stdout and the text to stderr, or the text to stdout.
    fn answer(&self, value: &impl serde::Serialize, text: &str) -> Result<()> {
        if self.json {
            eprint!("{text}");
            super::print_json(value)
        } else {
            Ok(super::print(text)?)
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`Usage`] for arguments that cannot be satisfied; other errors for what fails on the way.
pub fn run(args: &TheoryArgs) -> Result<()> {
    match &args.command {
        TheoryCommand::Threshold(args) => threshold::run(args),
        TheoryCommand::Bounds(args) => args.common.on_threads(|| bounds::run(args)),
        TheoryCommand::Measure(args) => args.common.on_threads(|| measure::run(args)),
        TheoryCommand::Rank(args) => args.common.on_threads(|| rank::run(args)),
        TheoryCommand::Compare(args) => args.common.on_threads(|| compare::run(args)),
        TheoryCommand::Total(args) => args.common.on_threads(|| total::run(args)),
    }
}

/// What the library refuses because of its arguments is bad usage; what the arguments lead to is a failure.
fn blame(error: TheoryError) -> anyhow::Error {
    match error {
        TheoryError::Linalg(_)
        | TheoryError::NoGap { .. }
        | TheoryError::TeachersFail { .. }
        | TheoryError::Underflow { .. }
        | TheoryError::NoComparator { .. }
        | TheoryError::Cancelled => anyhow::Error::new(error),
        refused => usage(refused.to_string()),
    }
}

fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// A number strictly between 0 and 1; `name` is the option.
fn unit(name: &str, value: f64) -> Result<()> {
    if value > 0.0 && value < 1.0 {
        return Ok(());
    }
    Err(usage(format!("--{name} {value} is outside the open interval (0, 1); 0.1 is usual")))
}

/// A fraction of neurons.
fn fraction(value: f64) -> Result<()> {
    if value > 0.0 && value <= 1.0 {
        return Ok(());
    }
    Err(usage(format!("--fraction {value} is outside (0, 1]; 0.9 is usual, 1 asks for every neuron")))
}

/// A count of samples for people.
fn count(samples: f64) -> String {
    match samples {
        s if s < 1e5 => format!("{s:.0}"),
        s => format!("{s:.3e}"),
    }
}

/// The same, or a dash.
fn count_or_dash(samples: Option<f64>) -> String {
    samples.map_or_else(|| "-".to_owned(), count)
}

/// Device in words, as other commands write it.
fn device() -> String {
    let threads = rayon::current_num_threads();
    let isa = curricle_cpu::Isa::detect().name();
    format!("cpu ({isa}, {threads} thread{})", if threads == 1 { "" } else { "s" })
}
