//! From paths on the command line to transformers.

use crate::checkpoint::{TransformerState, transformer};
use crate::cli::Usage;
use crate::cli::pcfg::GrammarArgs;
use crate::engine::device::Device;
use crate::engine::transformer::Transformer;
use crate::run::folder;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Which grammar's sentences a model is asked about.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ProbedGrammar {
    /// A built-in grammar (cfg3b, cfg3f, cfg3g, cfg3h, cfg3i) or a grammar file [default: that of the run, else cfg3b]
    #[arg(long, value_name = "NAME|FILE")]
    grammar: Option<String>,
    /// Start symbol [default: that of the run, else the grammar's own]
    #[arg(long, value_name = "SYMBOL")]
    start: Option<String>,
}

impl ProbedGrammar {
    /// The grammar as asked for, or that of the runs the checkpoints belong to.
    ///
    /// # Errors
    /// If the runs have several grammars and none is asked for.
    pub fn of(&self, sources: &[Source]) -> Result<GrammarArgs> {
        if let Some(grammar) = &self.grammar {
            return Ok(GrammarArgs { grammar: grammar.clone(), start: self.start.clone() });
        }
        let mut runs = sources.iter().filter_map(|s| Some((s.task.as_ref()?, &s.path)));
        let Some((task, path)) = runs.next() else {
            return Ok(GrammarArgs { grammar: "cfg3b".to_owned(), start: self.start.clone() });
        };
        if let Some((_, other)) = runs.find(|(t, _)| *t != task) {
            let (a, b) = (path.display(), other.display());
            return Err(
                Usage(format!("{a} and {b} have other grammars: probe them in separate commands")).into()
            );
        }
        Ok(GrammarArgs { grammar: task.grammar.clone(), start: self.start.clone().or(task.start.clone()) })
    }
}

/// The part of a run's spec that names its grammar.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
struct GrammarTask {
    grammar: String,
    start: Option<String>,
}

/// One checkpoint to probe.
pub(super) struct Source {
    /// A checkpoint file, or a folder as `save_pretrained` writes it.
    pub path: PathBuf,
    /// Training step, where the run or the file's name says it.
    pub step: Option<u64>,
    /// The grammar of the run it belongs to.
    task: Option<GrammarTask>,
}

/// The checkpoints that `paths` name: run folders with all their checkpoints by step, Hugging Face folders, and files.
pub(super) fn resolve(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if !path.exists() {
            return Err(Usage(format!("{}: no such file or folder", path.display())).into());
        }
        if path.is_file() || transformer::is_transformer(path) {
            let run = path.parent().filter(|p| p.file_name().is_some_and(|n| n == "checkpoints"));
            let task = run.and_then(Path::parent).map_or(Ok(None), task_of)?;
            sources.push(Source { path: path.clone(), step: step_in_name(path), task });
            continue;
        }
        let found = folder::open_read_only(path).and_then(|run| run.require_checkpoints("run"));
        let found =
            found.map_err(|e| Usage(format!("{e} (nor a folder with config.json and model.safetensors)")))?;
        let task = task_of(path)?;
        sources.extend(found.into_iter().map(|(step, path)| Source {
            path,
            step: Some(step),
            task: task.clone(),
        }));
    }
    Ok(sources)
}

/// The grammar in a run folder's spec, if it has one.
fn task_of(run: &Path) -> Result<Option<GrammarTask>> {
    #[derive(serde::Deserialize)]
    struct Spec {
        task: toml::Value,
    }
    let Ok(Some(text)) = folder::open_read_only(run).and_then(|run| run.read_spec()) else { return Ok(None) };
    let spec: Spec = toml::from_str(&text).with_context(|| format!("the spec of {}", run.display()))?;
    // A parity has no grammar.
    Ok(spec.task.try_into().ok())
}

/// The step of `step-000000001000.safetensors`.
fn step_in_name(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

impl Source {
    /// Loads the model onto a device; on the CPU with so many threads.
    ///
    /// # Errors
    /// Files that cannot be read or do not hold a whole transformer; a device that cannot take it.
    pub fn load(&self, device: &Device, threads: usize) -> Result<Transformer> {
        let state = TransformerState::new(transformer::load(&self.path)?.params);
        let failed = |e| anyhow::anyhow!("{}: {e}", self.path.display());
        Transformer::new(&state, device, threads).map_err(failed)
    }
}
