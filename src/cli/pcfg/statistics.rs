//! `curricle pcfg stats`.

use super::GrammarArgs;
use crate::common::Json;
use crate::{Usage, print, print_json};
use anyhow::Result;
use curricle_core::task::pcfg::Role;
use curricle_core::task::pcfg::{Grammar, Sampler, stats};
use serde_json::{Value, json};
use std::fmt::Write;

/// Exact length distribution, rule use and entropy of a grammar, and samples held against them.
///
/// With --json it prints {"grammar","start","terminals","nonterminals","depth","recursive","entropy_bits","length":{"mean",
/// "standard_deviation","shortest","longest","quantiles":{"0.05",..},"probabilities","beyond"},"rules":[{"rule",
/// "probability","expected","observed"}],"samples":{"count","seed","mean_length","length_z","chi_square","degrees","p_value"}}.
/// "expected" is per sentence, "observed" the mean over the samples; "beyond" the probability of lengths beyond the table.
#[derive(Debug, Clone, clap::Args)]
pub struct StatsArgs {
    #[command(flatten)]
    grammar: GrammarArgs,
    /// Sampled sentences to hold against the exact values
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(..=100_000_000))]
    pub count: u64,
    /// Seed of the samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// `--json`.
    #[command(flatten)]
    pub json: Json,
}

const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// `curricle pcfg stats`.
///
/// # Errors
/// A grammar that cannot be used; no samples; output that cannot be written.
pub fn stats(args: &StatsArgs) -> Result<()> {
    if args.count == 0 {
        return Err(Usage("--count 0: at least one sample is needed".to_owned()).into());
    }
    let grammar = args.grammar.load()?;
    let lengths = stats::length_distribution(&grammar, stats::covered(&grammar));
    let moments = stats::moments(&grammar);
    let rules = grammar.rules().len();
    let (uses, sampled) =
        Sampler::new(&grammar).count(args.seed, Role::Training.sentences(), 0, args.count, rules);
    let test = stats::test_rules(&grammar, &uses);
    let z = stats::length_z(&moments, &sampled);
    let mean = sampled.iter().sum::<u64>() as f64 / args.count as f64;
    let deviation = moments.length_variance.max(0.0).sqrt();
    if args.json.asked() {
        let quantiles: serde_json::Map<String, Value> =
            QUANTILES.iter().map(|q| (q.to_string(), json!(lengths.quantile(*q)))).collect();
        let rules: Vec<Value> = (0..rules)
            .map(|r| {
                json!({
                    "rule": grammar.rule_text(r), "probability": grammar.rules()[r].probability,
                    "expected": moments.rule_use[r], "observed": uses[r] as f64 / args.count as f64,
                })
            })
            .collect();
        return print_json(&json!({
            "grammar": args.grammar.grammar, "start": GrammarArgs::start_of(&grammar),
            "terminals": grammar.terminals(), "nonterminals": grammar.nonterminals(),
            "depth": grammar.uniform_depth(), "recursive": grammar.is_recursive(), "entropy_bits": moments.entropy_bits,
            "length": {
                "mean": moments.mean_length, "standard_deviation": deviation, "shortest": lengths.shortest(),
                "longest": stats::longest(&grammar), "quantiles": quantiles, "probabilities": lengths.probabilities,
                "beyond": lengths.beyond,
            },
            "rules": rules,
            "samples": {
                "count": args.count, "seed": args.seed, "mean_length": mean, "length_z": z,
                "chi_square": test.chi_square, "degrees": test.degrees, "p_value": test.p_value,
            },
        }));
    }
    let mut text = heading(&args.grammar.grammar, &grammar);
    let longest = stats::longest(&grammar).map_or("no limit".to_owned(), |l| l.to_string());
    let quantiles: Vec<String> = QUANTILES
        .iter()
        .map(|&q| format!("{}% {}", 100.0 * q, lengths.quantile(q).map_or("-".into(), |n| n.to_string())))
        .collect();
    writeln!(
        text,
        "length: mean {:.3}, standard deviation {deviation:.3}, from {} to {longest}; quantiles {}",
        moments.mean_length,
        lengths.shortest(),
        quantiles.join(", ")
    )?;
    writeln!(text, "entropy of a derivation: {:.2} bits\n", moments.entropy_bits)?;
    let width = (0..rules).map(|r| grammar.rule_text(r).chars().count()).max().unwrap_or(0);
    writeln!(text, "{:<width$}  probability  per sentence, exact    sampled", "rule")?;
    for (r, (expected, &used)) in moments.rule_use.iter().zip(&uses).enumerate() {
        writeln!(
            text,
            "{:<width$}  {:>11.4}  {expected:>19.4} {:>10.4}",
            grammar.rule_text(r),
            grammar.rules()[r].probability,
            used as f64 / args.count as f64
        )?;
    }
    writeln!(
        text,
        "\n{} samples (seed {}): mean length {mean:.3}, {z:+.2} standard errors from the exact mean;\nrule use: \
         chi-square {:.1} with {} degrees of freedom, p = {:.3}",
        args.count, args.seed, test.chi_square, test.degrees, test.p_value
    )?;
    Ok(print(&text)?)
}

/// One line about a grammar.
pub(super) fn heading(name: &str, grammar: &Grammar) -> String {
    let shape = match grammar.uniform_depth() {
        Some(depth) => format!("trees of depth {depth}"),
        None if grammar.is_recursive() => "recursive".to_owned(),
        None => "trees of several depths".to_owned(),
    };
    format!(
        "{name} from {}: {} non-terminals, {} rules, terminals {}; {shape}\n",
        GrammarArgs::start_of(grammar),
        grammar.nonterminals().len(),
        grammar.rules().len(),
        grammar.terminals().join(" ")
    )
}
