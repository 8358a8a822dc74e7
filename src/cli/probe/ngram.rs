//! `curricle probe ngram`.

use super::{blame, models};
use crate::common::Common;
use crate::lists::{Span, sizes};
use crate::pcfg::GrammarArgs;
use crate::{Usage, print, print_json};
use anyhow::Result;
use curricle_core::task::pcfg::bayes::Bayes;
use curricle_core::task::pcfg::{Role, Sampler};
use curricle_lab::device::Device;
use curricle_lab::run::folder;
use curricle_probe::ngram::{self, MaskedModel, MaskedPredictor, NgramSummary, Positions, Spread};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// How much BERT checkpoints predict from the nearest tokens: M_robust and M_close.
///
/// A token is hidden and predicted. M_robust(n) is the change of the prediction (L1 distance, 0 to 2) when the n-gram around
/// it is hidden too, M_close(n) when everything outside the n-gram is. N-grams are clipped at the ends of the sentence. The
/// optimum's own values (exact Bayes) come first.
///
/// With --json it prints {"grammar","start","seed","sentences","positions","reference":{"ngrams":[N,..]},"checkpoints":[{"path",
/// "step","ngrams":[N,..]}]} with N = {"n","robust":{"l1":S,"total_variation":S},"close":{..}} and S = {"count","mean","q10",
/// "q25","median","q75","q90"} over sentences and positions.
#[derive(Debug, Clone, clap::Args)]
pub struct NgramArgs {
    /// Checkpoint files, model folders (config.json and model.safetensors) and run folders
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    grammar: models::ProbedGrammar,
    /// Lengths of the n-grams, from 2, such as 2,3 or 2-5 (both ends)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "2-5")]
    pub sizes: Vec<Span>,
    /// Positions of the tokens, from 1, such as 30,60,90 or 30-90:30 (both ends, every 30th) [default: every 30th; every 3rd in sentences below 60 tokens]
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "every")]
    pub positions: Vec<Span>,
    /// Every K-th position instead
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub every: Option<u32>,
    /// Held-out sentences to average over
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub sentences: u64,
    /// Seed of the sentences
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Leave out the optimum's own values
    #[arg(long)]
    pub no_reference: bool,
    /// Also write every single measurement (path, step, sentence from 0, position, n, M_robust, M_close) to this file
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Output, threads, device.
    #[command(flatten)]
    pub common: Common,
}

/// `curricle probe ngram`.
///
/// # Errors
/// [`Usage`] for arguments that cannot be satisfied; checkpoints that cannot be read or do not compute.
pub fn run(args: &NgramArgs) -> Result<()> {
    let device = args.common.open()?;
    let threads = args.common.threads;
    threads.install(|| run_here(args, &device, threads.count()?))
}

fn run_here(args: &NgramArgs, device: &Device, threads: usize) -> Result<()> {
    if args.paths.is_empty() && args.no_reference {
        return Err(Usage("name at least one checkpoint".to_owned()).into());
    }
    let sources = models::resolve(&args.paths)?;
    let (named, grammar) = args.grammar.of(&sources)?;
    let sampler = Sampler::new(&grammar);
    let stream = Role::Evaluation.sentences();
    let sentences: Vec<Vec<u8>> =
        (0..args.sentences).map(|i| sampler.sentence(args.seed, stream, i)).collect();
    let positions = match (&sizes(&args.positions)[..], args.every) {
        ([], None) => Positions::usual(&sentences),
        ([], Some(k)) => Positions::Every(k as usize),
        (list, _) => Positions::Given(list.to_vec()),
    };
    let lengths = sizes(&args.sizes);
    let measure = |predictor: &dyn MaskedPredictor, name: &str| {
        ngram::measure(predictor, &sentences, &positions, &lengths).map_err(|e| blame(e, name))
    };
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut rows: Vec<(String, Option<u64>, Vec<NgramSummary>)> = Vec::new();
    let reference = match args.no_reference {
        true => None,
        false => Some(ngram::summarize(&measure(&Bayes::complete(&grammar), "the optimum")?)),
    };
    for source in &sources {
        let path = source.path.display().to_string();
        let model = source.load(device, threads)?;
        let predictor = MaskedModel::new(&model, &grammar).map_err(|e| blame(e, &path))?;
        let measured = measure(&predictor, &path)?;
        for m in &measured {
            table.serialize((&path, source.step, m.sentence, m.position, m.n, m.robust, m.close))?;
        }
        eprintln!("{path}: done");
        rows.push((path, source.step, ngram::summarize(&measured)));
    }
    if let Some(file) = &args.csv {
        let body = String::from_utf8(table.into_inner()?)?;
        folder::write_text(file, &format!("path,step,sentence,position,n,m_robust,m_close\n{body}"))?;
    }
    if args.common.json.asked() {
        let checkpoints: Vec<Value> = rows
            .iter()
            .map(|(path, step, s)| json!({"path": path, "step": step, "ngrams": ngrams(s)}))
            .collect();
        let positions = match positions {
            Positions::Every(k) => json!({"every": k}),
            Positions::Given(list) => json!(list),
        };
        return print_json(&json!({
            "grammar": named.grammar, "start": GrammarArgs::start_of(&grammar), "seed": args.seed,
            "sentences": args.sentences, "positions": positions,
            "reference": reference.map(|s| json!({"ngrams": ngrams(&s)})), "checkpoints": checkpoints,
        }));
    }
    let mut text = String::from("L1 distances, medians (means) over sentences and positions\n\n");
    writeln!(text, "{:<44} {:>10}  n  {:>18}  {:>18}", "checkpoint", "step", "M_robust", "M_close")?;
    let optimum = reference.map(|s| ("optimum (exact Bayes)".to_owned(), None, s));
    for (path, step, summary) in optimum.iter().chain(&rows) {
        for s in summary {
            let step = step.map_or("-".to_owned(), |s| s.to_string());
            let show = |s: &Spread| format!("{:.2e} ({:.2e})", s.median, s.mean);
            writeln!(
                text,
                "{path:<44} {step:>10} {:>2}  {:>18}  {:>18}",
                s.n,
                show(&s.robust),
                show(&s.close)
            )?;
        }
    }
    Ok(print(&text)?)
}

fn ngrams(summaries: &[NgramSummary]) -> Vec<Value> {
    let both = |s: &Spread| json!({"l1": s, "total_variation": s.halved()});
    summaries.iter().map(|s| json!({"n": s.n, "robust": both(&s.robust), "close": both(&s.close)})).collect()
}
