//! Provisional entry point of the `correlate` branch. // replaced at merge
use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
enum Cli {
    Correlate(curricle::cli::correlate::CorrelateArgs),
}

fn main() -> ExitCode {
    let Cli::Correlate(args) = Cli::parse();
    match curricle::cli::correlate::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.downcast_ref::<curricle::cli::Usage>().is_some() { 2 } else { 1 })
        }
    }
}
