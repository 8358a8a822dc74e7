//! The command line: one file per subcommand, each parse -> resolve -> call the library -> print.
#![deny(missing_docs)]

pub mod bench;
pub mod bench_devices;
pub mod bench_transformer;
pub mod common;
pub mod correlate;
pub mod devices;
pub mod lists;
pub mod pcfg;
pub mod probe;
pub mod progress;
pub mod report;
pub mod run;
pub mod shell;
pub mod theory;
mod timing;
pub mod transfer;

use clap::{CommandFactory, Parser};
use curricle_gpu::GpuError;
use curricle_lab::device::{Device, DeviceChoice};
use std::io::Write;
use std::process::ExitCode;

/// curricle: a laboratory for implicit curricula in knowledge distillation.
///
/// Trains teachers, distils students from their intermediate checkpoints, measures what the checkpoints teach, and holds
/// measured sample counts against theory.
#[derive(Debug, Parser)]
#[command(name = "curricle", version, after_help = EXIT_CODES, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 bad usage or spec, 3 a claim failed.
Every command has --json: one object on stdout; everything else goes to stderr.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(run::RunArgs),
    Correlate(correlate::CorrelateArgs),
    Bench(bench::BenchArgs),
    Devices(devices::DevicesArgs),
    Report(report::ReportArgs),
    Import(transfer::ImportArgs),
    Export(transfer::ExportArgs),
    Theory(theory::TheoryArgs),
    Pcfg(pcfg::PcfgArgs),
    Probe(probe::ProbeArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// A wrong argument or specification: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Everything was done, and a claim failed: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClaimFailed(pub String);

/// Parses the command line, runs the command and turns its end into an exit code.
pub fn main() -> ExitCode {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Looking for GL adapters asks for a Wayland display, whose client library complains on stderr where there is none.
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        // Help and version go to stdout with code 0, mistakes to stderr with code 2; a closed pipe is no mistake.
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match &command {
        Command::Run(args) => run::run(args),
        Command::Correlate(args) => correlate::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Report(args) => report::run(args).and_then(|text| Ok(print(&(text + "\n"))?)),
        Command::Import(args) => transfer::import(args),
        Command::Export(args) => transfer::export(args),
        Command::Theory(args) => theory::run(args),
        Command::Pcfg(args) => pcfg::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Completions(args) => shell::completions(args, Cli::command()),
        Command::Man(args) => shell::man(args, Cli::command()),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    let code = if error.downcast_ref::<Usage>().is_some() {
        2
    } else if error.downcast_ref::<ClaimFailed>().is_some() {
        3
    } else {
        1
    };
    eprintln!("error: {error:#}");
    ExitCode::from(code)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
}

/// The command line as a user would type it again, without the path of the program.
pub(crate) fn command_line() -> Vec<String> {
    std::iter::once("curricle".to_owned()).chain(std::env::args().skip(1)).collect()
}

/// Writes text to stdout. A reader that has gone away is an error the main function takes for success.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes one JSON object to stdout.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))?;
    Ok(())
}

/// The number of threads to use: as asked, or all cores.
///
/// # Errors
/// If none is asked for.
pub(crate) fn threads(asked: Option<usize>) -> Result<usize, Usage> {
    match asked {
        Some(0) => Err(Usage("--threads 0: at least one thread is needed".to_owned())),
        Some(n) if n > 1024 => Err(Usage(format!("--threads {n}: at most 1024 threads are supported"))),
        Some(n) => Ok(n),
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

/// Opens a device.
///
/// # Errors
/// [`Usage`] if this machine has no such device; others if it cannot be opened.
pub(crate) fn open_device(choice: &DeviceChoice) -> anyhow::Result<Device> {
    choice.open().map_err(|error| match error {
        GpuError::NoSuchDevice { .. } => Usage(error.to_string()).into(),
        other => anyhow::Error::new(other),
    })
}

/// Refuses a device for what only the CPU engine computes.
///
/// # Errors
/// For anything but auto and cpu.
pub(crate) fn check_device(device: &str) -> Result<(), Usage> {
    match device {
        "auto" | "cpu" => Ok(()),
        other => Err(Usage(format!("--device {other}: this command computes on the CPU; use auto or cpu"))),
    }
}
