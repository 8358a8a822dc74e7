//! From paths on the command line to transformers.

use crate::Usage;
use crate::pcfg::GrammarArgs;
use anyhow::Result;
use curricle_core::model::TransformerState;
use curricle_core::task::pcfg::Grammar;
use curricle_files::transformer;
use curricle_lab::device::Device;
use curricle_lab::run::folder;
use curricle_lab::run::run_spec::RunSpec;
use curricle_lab::transformer::Transformer;
use std::path::{Path, PathBuf};

/// Which grammar's sentences a model is asked about.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ProbedGrammar {
    /// A built-in grammar (cfg3b, cfg3f, cfg3g, cfg3h, cfg3i) or a grammar file [default: that of the run, else cfg3b]
    #[arg(long, value_name = "NAME|FILE")]
    grammar: Option<String>,
    /// Start symbol [default: that of the run, if its grammar is probed; else the grammar's own]
    #[arg(long, value_name = "SYMBOL")]
    start: Option<String>,
}

impl ProbedGrammar {
    /// The grammar as asked for, or that of the runs the checkpoints belong to; with what it is called.
    ///
    /// # Errors
    /// If the runs have several grammars and none is asked for, if a grammar cannot be used, or if a run's grammar file no
    /// longer says what the run's spec has recorded.
    pub fn of(&self, sources: &[Source]) -> Result<(GrammarArgs, Grammar)> {
        let asked = |task: &GrammarTask| self.grammar.as_ref().is_none_or(|g| *g == task.grammar);
        let mut runs =
            sources.iter().filter_map(|s| Some((s.task.as_ref()?, &s.path))).filter(|(task, _)| asked(task));
        let Some((task, path)) = runs.next() else {
            let grammar = self.grammar.clone().unwrap_or_else(|| "cfg3b".to_owned());
            let named = GrammarArgs { grammar, start: self.start.clone() };
            let grammar = named.load()?;
            return Ok((named, grammar));
        };
        // With a start symbol asked for, those of the runs do not matter.
        let same = |other: &GrammarTask| {
            let start = if self.start.is_some() { task.start.clone() } else { other.start.clone() };
            GrammarTask { start, ..other.clone() } == *task
        };
        if let Some((_, other)) = runs.find(|(other, _)| !same(other)) {
            let (a, b) = (path.display(), other.display());
            return Err(
                Usage(format!("{a} and {b} have other grammars: probe them in separate commands")).into()
            );
        }
        let start = self.start.clone().or_else(|| task.start.clone());
        let named = GrammarArgs { grammar: task.grammar.clone(), start };
        let grammar = named.load()?;
        if let Some(what) = task.differs(&grammar) {
            return Err(Usage(format!(
                "{}: the {what} of {} are not those that its run recorded in spec.toml: restore the file, or put the \
                 grammar to probe with into another one and name it with --grammar",
                path.display(),
                task.grammar
            ))
            .into());
        }
        Ok((named, grammar))
    }
}

/// The part of a run's spec that says what its grammar is.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
struct GrammarTask {
    /// Name or file.
    grammar: String,
    start: Option<String>,
    /// Texts of the rules. They name shown terminals and leave out probabilities, so they are compared, not parsed.
    rules: Option<Vec<String>>,
    /// Names of the terminals by id; recorded of files.
    terminals: Option<Vec<String>>,
    /// Probabilities of the rules; recorded of files.
    probabilities: Option<Vec<f64>>,
}

impl GrammarTask {
    /// What of a grammar is not as recorded, if something is.
    fn differs(&self, grammar: &Grammar) -> Option<&'static str> {
        let rules = || (0..grammar.rules().len()).map(|r| grammar.rule_text(r));
        let probabilities = || grammar.rules().iter().map(|r| r.probability);
        if self.rules.as_ref().is_some_and(|kept| !rules().eq(kept.iter().cloned())) {
            Some("rules")
        } else if self.terminals.as_ref().is_some_and(|kept| kept != grammar.terminals()) {
            Some("terminals")
        } else if self.probabilities.as_ref().is_some_and(|kept| !probabilities().eq(kept.iter().copied())) {
            Some("probabilities")
        } else {
            None
        }
    }
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
    if folder::open_read_only(run).is_err() {
        return Ok(None);
    }
    // A parity has no grammar.
    Ok(RunSpec::read(run)?.and_then(|spec| spec.task.try_into().ok()))
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

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "terminals a b\nS -> A a [1/3] | b [2/3]\nA -> b b\n";

    fn source(grammar: &str, start: &str) -> Source {
        let task = GrammarTask {
            grammar: grammar.to_owned(),
            start: Some(start.to_owned()),
            rules: Some(vec!["S -> A a".to_owned(), "S -> b".to_owned(), "A -> b b".to_owned()]),
            terminals: Some(vec!["a".to_owned(), "b".to_owned()]),
            probabilities: Some(vec![1.0 / 3.0, 2.0 / 3.0, 1.0]),
        };
        Source { path: "run".into(), step: None, task: Some(task) }
    }

    #[test]
    fn a_grammar_file_that_has_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("g.grammar");
        let name = file.display().to_string();
        let asked = ProbedGrammar { grammar: None, start: None };
        let sources = [source(&name, "A")];
        for (from, to, what) in [
            ("", "", None),
            ("b b", "b a", Some("rules")),
            ("terminals a b", "terminals b a", Some("terminals")),
            ("[1/3] | b [2/3]", "[2/3] | b [1/3]", Some("probabilities")),
        ] {
            std::fs::write(&file, TEXT.replace(from, to)).unwrap();
            match (asked.of(&sources), what) {
                (Ok((_, grammar)), None) => assert_eq!(GrammarArgs::start_of(&grammar), "A"),
                (Err(error), Some(what)) => assert!(error.to_string().contains(what), "{error}"),
                (other, _) => panic!("{from} -> {to}: {:?}", other.map(|_| ())),
            }
        }
    }

    #[test]
    fn the_start_symbol_of_the_run_goes_with_its_grammar() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("g.grammar");
        std::fs::write(&file, TEXT).unwrap();
        let name = file.display().to_string();
        let start = |grammar: Option<&str>, start: Option<&str>, sources: &[Source]| {
            let asked =
                ProbedGrammar { grammar: grammar.map(str::to_owned), start: start.map(str::to_owned) };
            asked.of(sources).map(|(_, grammar)| GrammarArgs::start_of(&grammar).to_owned())
        };
        let one = [source(&name, "A")];
        assert_eq!(start(Some(&name), None, &one).unwrap(), "A");
        assert_eq!(start(Some(&name), Some("S"), &one).unwrap(), "S");
        assert_eq!(start(Some("cfg3b"), None, &one).unwrap(), "22");
        let two = [source(&name, "A"), source(&name, "S")];
        assert!(start(None, None, &two).unwrap_err().to_string().contains("separate commands"));
        assert_eq!(start(None, Some("A"), &two).unwrap(), "A");
    }
}
