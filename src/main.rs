use clap::Parser;

#[derive(Parser)]
enum Cli {
    Bench(curricle::cli::bench::BenchArgs),
}

fn main() -> anyhow::Result<()> {
    let Cli::Bench(args) = Cli::parse();
    curricle::cli::bench::run(&args)
}
