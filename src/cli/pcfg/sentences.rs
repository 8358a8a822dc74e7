//! `curricle pcfg sample`, `tree` and `parse`.

use super::GrammarArgs;
use crate::common::Json;
use crate::{Usage, print, print_json};
use anyhow::{Context, Result};
use curricle_core::task::pcfg::Role;
use curricle_core::task::pcfg::chart::Plan;
use curricle_core::task::pcfg::{Grammar, Sampler, Tree, parse as parser, sample as text, stats};
use serde_json::{Value, json};
use std::io::{BufRead, Write};

/// Which sentences.
#[derive(Debug, Clone, clap::Args)]
pub struct StreamArgs {
    /// Seed of the sentences
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Number of the first sentence; a sentence depends on the seed and its number only
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub first: u64,
    /// The stream of held-out sentences instead of that of training
    #[arg(long)]
    pub held_out: bool,
}

impl StreamArgs {
    fn role(&self) -> Role {
        if self.held_out { Role::Evaluation } else { Role::Training }
    }
}

/// Sampled sentences, one per line.
///
/// With --json it prints {"grammar","start","seed","first","sentences":[{"text","length"}]}.
#[derive(Debug, Clone, clap::Args)]
pub struct SampleArgs {
    #[command(flatten)]
    grammar: GrammarArgs,
    #[command(flatten)]
    stream: StreamArgs,
    /// Number of sentences
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=100_000_000))]
    pub count: u64,
    /// `--json`.
    #[command(flatten)]
    pub json: Json,
}

/// One sampled sentence with its derivation, drawn as a tree.
///
/// Numbers in brackets are the tokens a non-terminal covers, from 1. With --json it prints
/// {"grammar","start","seed","index","text","height","log_probability","nodes":[{"symbol","level","start","end","parent",
/// "rule"}]}: spans are start..end from 0, the end excluded; levels count from the terminals.
#[derive(Debug, Clone, clap::Args)]
pub struct TreeArgs {
    #[command(flatten)]
    grammar: GrammarArgs,
    #[command(flatten)]
    stream: StreamArgs,
    /// `--json`.
    #[command(flatten)]
    pub json: Json,
}

/// Says whether the grammar derives sentences, and how they are most probably derived.
///
/// With --json it prints {"grammar","start","sentences":[{"text","length","derived","log_probability","best_log_probability",
/// "nodes"}]}: natural logarithms of the probability of the sentence and of its best derivation, null where not derived.
#[derive(Debug, Clone, clap::Args)]
pub struct ParseArgs {
    #[command(flatten)]
    grammar: GrammarArgs,
    /// Sentences, such as "cabcb" (or "cat sees dog" where terminals are words); without any, lines of stdin
    #[arg(value_name = "SENTENCE")]
    pub sentences: Vec<String>,
    /// Say only whether they are derived, not how
    #[arg(long)]
    pub brief: bool,
    /// `--json`.
    #[command(flatten)]
    pub json: Json,
}

/// `curricle pcfg sample`.
///
/// # Errors
/// A grammar that cannot be used; output that cannot be written.
pub fn sample(args: &SampleArgs) -> Result<()> {
    let grammar = args.grammar.load()?;
    let sampler = Sampler::new(&grammar);
    let stream = args.stream.role().sentences();
    let last = args.stream.first.checked_add(args.count);
    let last = last.ok_or_else(|| Usage("--first plus --count exceeds 2^64".to_owned()))?;
    let numbers = args.stream.first..last;
    if args.json.asked() {
        let sentences: Vec<Value> = numbers
            .map(|i| sampler.sentence(args.stream.seed, stream, i))
            .map(|s| json!({"text": text::text(&grammar, &s), "length": s.len()}))
            .collect();
        return print_json(&json!({
            "grammar": args.grammar.grammar, "start": GrammarArgs::start_of(&grammar), "seed": args.stream.seed,
            "first": args.stream.first, "sentences": sentences,
        }));
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for i in numbers {
        writeln!(out, "{}", text::text(&grammar, &sampler.sentence(args.stream.seed, stream, i)))?;
    }
    Ok(out.flush()?)
}

/// `curricle pcfg tree`.
///
/// # Errors
/// As [`sample`].
pub fn tree(args: &TreeArgs) -> Result<()> {
    let grammar = args.grammar.load()?;
    let StreamArgs { seed, first, .. } = args.stream;
    let tree = Sampler::new(&grammar).tree(seed, args.stream.role().sentences(), first);
    let sentence = text::text(&grammar, tree.tokens());
    if args.json.asked() {
        return print_json(&json!({
            "grammar": args.grammar.grammar, "start": GrammarArgs::start_of(&grammar), "seed": seed, "index": first,
            "text": sentence, "height": tree.height(), "log_probability": tree.log_probability(&grammar),
            "nodes": nodes(&grammar, &tree),
        }));
    }
    Ok(print(&format!("{sentence}\n\n{}", tree.draw(&grammar)))?)
}

fn nodes(grammar: &Grammar, tree: &Tree) -> Vec<Value> {
    let node = |n: &curricle_core::task::pcfg::tree::Node| {
        json!({
            "symbol": grammar.nonterminals()[usize::from(n.symbol)], "level": tree.level(n), "start": n.start,
            "end": n.end, "parent": (n.parent != u32::MAX).then_some(n.parent),
            "rule": grammar.rule_text(usize::from(n.rule)),
        })
    };
    tree.nodes().iter().map(node).collect()
}

/// Longest sentence that is parsed.
const MOST_TOKENS: usize = 5000;
/// Largest chart that is filled without asking: more would not fit an ordinary machine.
const MOST_BYTES: usize = 4 << 30;

/// `curricle pcfg parse`.
///
/// # Errors
/// Words that are no terminals, sentences too long for the memory, and as [`sample`].
pub fn parse(args: &ParseArgs) -> Result<()> {
    let grammar = args.grammar.load()?;
    let lines = if args.sentences.is_empty() {
        let lines: std::io::Result<Vec<String>> = std::io::stdin().lock().lines().collect();
        lines
            .context("cannot read sentences from stdin")?
            .into_iter()
            .filter(|l| !l.trim().is_empty())
            .collect()
    } else {
        args.sentences.clone()
    };
    let read = |line: &String| {
        text::tokens(&grammar, line).map_err(|e| anyhow::Error::from(Usage(format!("in \"{line}\": {e}"))))
    };
    let sentences: Vec<Vec<u8>> = lines.iter().map(read).collect::<Result<_>>()?;
    let longest = sentences.iter().map(Vec::len).max().unwrap_or(0);
    // Whatever is longer than the grammar's longest sentence is not derived: nothing to parse.
    let most = stats::longest(&grammar).map_or(longest, |l| l.min(longest));
    if most > MOST_TOKENS {
        return Err(
            Usage(format!("a sentence has {longest} tokens; at most {MOST_TOKENS} are parsed")).into()
        );
    }
    let plan = Plan::new(&grammar, most);
    if plan.chart_bytes() > MOST_BYTES {
        let gib = plan.chart_bytes() >> 30;
        return Err(Usage(format!("a sentence has {longest} tokens; parsing it would take {gib} GiB")).into());
    }
    let mut records = Vec::new();
    let mut shown = String::new();
    for tokens in &sentences {
        let parsed = if tokens.len() <= plan.most() { parser::parse(&plan, tokens) } else { None };
        let sentence = text::text(&grammar, tokens);
        if args.json.asked() {
            let of = parsed.as_ref();
            records.push(json!({
                "text": sentence, "length": tokens.len(), "derived": of.is_some(),
                "log_probability": of.map(|p| p.log_probability),
                "best_log_probability": of.map(|p| p.best_log_probability),
                "nodes": of.filter(|_| !args.brief).map(|p| nodes(&grammar, &p.tree)),
            }));
            continue;
        }
        match parsed {
            None => shown.push_str(&format!("not derived  {sentence}\n")),
            Some(p) if args.brief => {
                shown.push_str(&format!("derived      {sentence}  ln p = {:.4}\n", p.log_probability));
            }
            Some(p) => {
                let share = (p.best_log_probability - p.log_probability).exp();
                shown.push_str(&format!(
                    "derived      {sentence}\nln p = {:.4}; the tree below is {:.4}% of it\n{}\n",
                    p.log_probability,
                    100.0 * share,
                    p.tree.draw(&grammar)
                ));
            }
        }
    }
    if args.json.asked() {
        let start = GrammarArgs::start_of(&grammar);
        return print_json(&json!({"grammar": args.grammar.grammar, "start": start, "sentences": records}));
    }
    Ok(print(&shown)?)
}
