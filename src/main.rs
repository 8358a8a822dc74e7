//! The `curricle` command.

fn main() -> std::process::ExitCode {
    curricle_cli::main()
}
