//! `curricle pcfg bayes`.

use super::GrammarArgs;
use crate::common::{Json, Threads};
use crate::{Usage, print, print_json};
use anyhow::Result;
use curricle_core::task::pcfg::Role;
use curricle_core::task::pcfg::bayes::Bayes;
use curricle_core::task::pcfg::masked::{FRACTION, MaskedPrediction};
use curricle_core::task::pcfg::window::{Source, WindowTable};
use serde_json::json;
use std::fmt::Write;

/// The best possible masked prediction: what no model can pass.
///
/// Exact posteriors of the selected tokens given all tokens that are not selected, by the inside-outside algorithm, on
/// held-out sentences; and of predictors that see only the tokens up to w places away.
///
/// With --json it prints {"grammar","start","seed","fraction","optimum":{"sentences","positions","without_own":{"accuracy",
/// "cross_entropy"},"with_own":{..}},"windows":[{"radius","source","accuracy","cross_entropy"}]}. "without_own" does not look
/// at what a selected position itself shows, "with_own" does (a kept or random token is evidence). Losses are in nats.
#[derive(Debug, Clone, clap::Args)]
pub struct BayesArgs {
    #[command(flatten)]
    grammar: GrammarArgs,
    /// Held-out sentences to average over
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(..=100_000_000))]
    pub count: u64,
    /// Seed of the sentences and of the selected positions
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Fraction of positions that are selected
    #[arg(long, value_name = "P", default_value_t = FRACTION)]
    pub fraction: f64,
    /// Predictors that see only this many tokens to each side, from 1 up to this; 0 for none
    #[arg(long, value_name = "W", default_value_t = 4, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(..=64))]
    pub windows: usize,
    /// `--threads`.
    #[command(flatten)]
    pub threads: Threads,
    /// `--json`.
    #[command(flatten)]
    pub json: Json,
}

/// Sentences from which windows are counted where there are too many to list.
const WINDOW_SAMPLES: u64 = 50_000;

/// `curricle pcfg bayes`.
///
/// # Errors
/// A grammar or fraction that cannot be used; no sentences; output that cannot be written.
pub fn bayes(args: &BayesArgs) -> Result<()> {
    args.threads.install(|| bayes_here(args))
}

fn bayes_here(args: &BayesArgs) -> Result<()> {
    let usage = |text: String| anyhow::Error::from(Usage(text));
    if args.count == 0 {
        return Err(usage("--count 0: at least one sentence is needed".to_owned()));
    }
    let grammar = args.grammar.load()?;
    let task = MaskedPrediction::new(&grammar, args.seed, Role::Evaluation)
        .fraction(args.fraction)
        .map_err(|e| usage(format!("--fraction: {e}")))?;
    let predictor = Bayes::complete(&grammar);
    let optimum = curricle_probe::optimum::optimum(&predictor, &task, 0, args.count);
    if optimum.sentences < args.count {
        let left_out = args.count - optimum.sentences;
        eprintln!("note: {left_out} sentences of more than {} tokens were left out", predictor.most());
    }
    if optimum.positions == 0 {
        return Err(usage("no position was selected: take more sentences (--count)".to_owned()));
    }
    let mut windows = Vec::new();
    for radius in 1..=args.windows {
        let table = WindowTable::new(&grammar, radius, WINDOW_SAMPLES, args.seed)
            .map_err(|e| usage(format!("--windows {radius}: {e}")))?;
        windows.push((radius, table.source(), table.quality(&task, 0, args.count)));
    }
    if args.json.asked() {
        let windows: Vec<_> = windows
            .iter()
            .map(|(radius, source, q)| {
                json!({
                    "radius": radius, "source": source, "accuracy": q.accuracy, "cross_entropy": q.cross_entropy,
                })
            })
            .collect();
        return print_json(&json!({
            "grammar": args.grammar.grammar, "start": GrammarArgs::start_of(&grammar), "seed": args.seed,
            "fraction": args.fraction, "optimum": optimum, "windows": windows,
        }));
    }
    let mut text = super::statistics::heading(&args.grammar.grammar, &grammar);
    writeln!(
        text,
        "masked prediction with a fraction of {}: {} sentences, {} selected positions\n",
        args.fraction, optimum.sentences, optimum.positions
    )?;
    writeln!(text, "{:<44} accuracy   loss (nats)", "predictor")?;
    let mut row = |name: &str, q: curricle_core::task::pcfg::bayes::Quality| {
        writeln!(text, "{name:<44} {:>8.4}   {:>11.5}", q.accuracy, q.cross_entropy)
    };
    row("optimum from the other tokens", optimum.without_own)?;
    row("optimum with what the position itself shows", optimum.with_own)?;
    for (radius, source, quality) in windows {
        let how = match source {
            Source::Exact => String::new(),
            Source::Sampled(n) => format!(" (from {n} samples)"),
        };
        row(&format!("sees {radius} to each side{how}"), quality)?;
    }
    Ok(print(&text)?)
}
