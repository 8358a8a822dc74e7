//! The `curricle` command.

fn main() -> std::process::ExitCode {
    curricle::cli::main()
}
