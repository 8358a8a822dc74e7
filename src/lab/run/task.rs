//! The task of an experiment: what its spec resolves to, for models that read vectors of signs and models that read tokens.

use super::spec::{Objective, SupportName, SupportSpec, TaskKind, TaskSpec};
use crate::family::transformer::ModelSpec;
use curricle_core::model::transformer::{Dropout, Family, TransformerConfig};
use curricle_core::rng::{Purpose, Stream};
use curricle_core::task::boolean::Support;
use curricle_core::task::pcfg::stats::longest;
use curricle_core::task::pcfg::{Autoregressive, Examples, Grammar, MaskedPrediction, NAMES, Role, Tokens};
use curricle_core::task::sequence::{ParityTokens, SequenceTask};
use curricle_core::task::{BooleanTask, TaskError};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;

/// A checked task.
#[derive(Debug, Clone)]
pub enum Task {
    /// Sparse or hierarchical parity; its support may depend on the seed.
    Boolean(BooleanSettings),
    /// Sentences of a grammar.
    Pcfg(PcfgSettings),
}

/// Sparse or hierarchical parity.
#[derive(Debug, Clone)]
pub struct BooleanSettings {
    /// parity or hierarchy.
    pub kind: TaskKind,
    /// Input dimension.
    pub d: usize,
    /// Coordinates of each parity.
    pub k: usize,
    /// Labels.
    pub classes: usize,
    /// Where the support comes from.
    pub support: SupportSpec,
}

/// Prediction in sentences of a grammar.
#[derive(Debug, Clone)]
pub struct PcfgSettings {
    /// Name or file of the grammar.
    pub name: String,
    /// The grammar with its start symbol.
    pub grammar: Arc<Grammar>,
    /// What is predicted.
    pub objective: Objective,
    /// Spans at whose ends tokens are predicted; 0: everywhere.
    pub level: usize,
    /// Which sentences.
    pub examples: Examples,
}

/// Positions of a transformer on sentences, unless the longest one needs more.
const USUAL_POSITIONS: usize = 1024;
/// Positions a transformer may have at most.
const MOST_POSITIONS: usize = 1 << 20;

/// A key of the spec and what is wrong there.
pub type Mistake = (&'static str, String);

impl Task {
    /// Checks a task as written; a support that depends on the seed is tried with `seed`.
    ///
    /// # Errors
    /// The key and what is wrong.
    pub fn resolve(spec: &TaskSpec, seed: u64) -> Result<Self, Mistake> {
        let unused = |keys: &[(&'static str, bool)]| -> Result<(), Mistake> {
            match keys.iter().find(|(_, given)| *given) {
                Some((key, _)) => Err((key, "this kind of task has no such key".to_owned())),
                None => Ok(()),
            }
        };
        if spec.kind == TaskKind::Pcfg {
            unused(&[
                ("task.d", spec.d.is_some()),
                ("task.k", spec.k.is_some()),
                ("task.classes", spec.classes.is_some()),
                ("task.support", spec.support.is_some()),
            ])?;
            return PcfgSettings::resolve(spec).map(Self::Pcfg);
        }
        unused(&[
            ("task.grammar", spec.grammar.is_some()),
            ("task.start", spec.start.is_some()),
            ("task.objective", spec.objective.is_some()),
            ("task.level", spec.level.is_some()),
            ("task.examples", spec.examples.is_some()),
        ])?;
        let classes = match (spec.kind, spec.classes) {
            (TaskKind::Parity, Some(c)) if c != 2 => {
                return Err((
                    "task.classes",
                    "a parity has 2 classes; use kind = \"hierarchy\" for more".to_owned(),
                ));
            }
            (TaskKind::Hierarchy, None) => {
                return Err((
                    "task.classes",
                    "a hierarchy needs a number of classes, such as classes = 4".to_owned(),
                ));
            }
            (_, classes) => classes.unwrap_or(2),
        };
        let needed = |key, value: Option<usize>, example: &str| {
            value.ok_or_else(|| (key, format!("missing, such as {example}")))
        };
        let settings = BooleanSettings {
            kind: spec.kind,
            d: needed("task.d", spec.d, "d = 52")?,
            k: needed("task.k", spec.k, "k = 4")?,
            classes,
            support: spec.support.clone().unwrap_or_default(),
        };
        settings.build(seed).map_err(|e| ("task", e.to_string()))?;
        Ok(Self::Boolean(settings))
    }

    /// The parity, if it is one.
    pub fn boolean(&self) -> Option<&BooleanSettings> {
        match self {
            Self::Boolean(settings) => Some(settings),
            Self::Pcfg(_) => None,
        }
    }

    /// The grammar, if it is one.
    pub fn pcfg(&self) -> Option<&PcfgSettings> {
        match self {
            Self::Boolean(_) => None,
            Self::Pcfg(settings) => Some(settings),
        }
    }

    /// Accuracy of guessing: 1 / labels, or 1 / terminals.
    pub fn chance(&self) -> f64 {
        1.0 / match self {
            Self::Boolean(settings) => settings.classes as f64,
            Self::Pcfg(settings) => settings.grammar.terminals().len() as f64,
        }
    }

    /// Positions that a transformer needs for every sample of this task; none where sentences have no greatest length.
    fn positions(&self) -> Option<usize> {
        match self {
            Self::Boolean(settings) => Some(settings.d),
            Self::Pcfg(settings) => {
                // Masked sentences start with BOS.
                let bos = usize::from(settings.objective == Objective::Masked);
                longest(&settings.grammar).map(|tokens| tokens.saturating_add(bos))
            }
        }
    }

    /// The transformer that a spec describes, with the vocabulary and positions of this task.
    ///
    /// # Errors
    /// If the architecture cannot do this task: it is of the wrong family, too large, or has fewer positions than the longest
    /// sample.
    pub fn transformer(&self, spec: &ModelSpec) -> Result<TransformerConfig, String> {
        let ModelSpec { kind, keys: spec } = spec;
        let needed = self.positions();
        let (vocab, positions, tied) = match self {
            Self::Boolean(settings) if settings.classes > 2 => {
                return Err("transformers learn parities of 2 classes; a hierarchy needs an MLP".to_owned());
            }
            Self::Boolean(settings) => (2, settings.d, *kind == Family::Bert),
            Self::Pcfg(settings) => {
                let fits = match settings.objective {
                    Objective::Masked => Family::Bert,
                    Objective::Autoregressive => Family::Gpt2,
                };
                if *kind != fits {
                    let kind = if fits == Family::Bert { "bert" } else { "gpt2" };
                    return Err(format!("the objective of this task needs kind = \"{kind}\""));
                }
                (Tokens::of(&settings.grammar).vocab, needed.unwrap_or(0).max(USUAL_POSITIONS), true)
            }
        };
        let hidden = spec.heads.checked_mul(spec.head_dim).filter(|h| (1..=1 << 16).contains(h));
        let hidden = hidden.ok_or("heads x head_dim must be from 1 to 65536")?;
        let positions = spec.positions.unwrap_or(positions);
        if let Some(needed) = needed.filter(|n| *n > positions) {
            return Err(match self {
                Self::Boolean(_) => {
                    format!("the transformer has {positions} positions, the parity {needed} inputs")
                }
                Self::Pcfg(settings) => {
                    let bos = if settings.objective == Objective::Masked { " with BOS" } else { "" };
                    format!(
                        "the transformer has {positions} positions, the grammar's longest sentence{bos} {needed}: give it more \
                         positions or take a start symbol with shorter sentences"
                    )
                }
            });
        }
        if positions > MOST_POSITIONS {
            return Err(format!("{positions} positions are needed; at most {MOST_POSITIONS} are supported"));
        }
        if spec.layers > 1000 || spec.inner.is_some_and(|inner| inner > 1 << 20) {
            return Err("at most 1000 layers and an inner width of at most 1048576 are supported".to_owned());
        }
        let base = match kind {
            Family::Gpt2 => TransformerConfig::gpt2(vocab, positions, hidden, spec.layers, spec.heads),
            Family::Bert => TransformerConfig::bert(vocab, positions, hidden, spec.layers, spec.heads),
        };
        Ok(TransformerConfig {
            inner: spec.inner.unwrap_or(4 * hidden),
            dropout: Dropout::all(spec.dropout),
            init_std: spec.init_std,
            tied: spec.tied.unwrap_or(tied),
            ..base
        })
    }

    /// The samples of one role as token sequences.
    ///
    /// # Panics
    /// If the task was not checked.
    pub fn sequences(&self, seed: u64, role: Role) -> Arc<dyn SequenceTask> {
        const CHECKED: &str = "the plan was checked";
        match self {
            Self::Boolean(settings) => {
                let stream = match role {
                    Role::Training => Stream::new(Purpose::Data, 0),
                    Role::Student => Stream::new(Purpose::Data, 1),
                    Role::Evaluation => Stream::new(Purpose::Evaluation, 0),
                };
                Arc::new(ParityTokens { task: settings.build(seed).expect(CHECKED), seed, stream })
            }
            Self::Pcfg(settings) => {
                // Held-out sentences are always fresh.
                let examples = if role == Role::Evaluation { Examples::Stream } else { settings.examples };
                let grammar = &settings.grammar;
                match settings.objective {
                    Objective::Masked => {
                        let task = MaskedPrediction::new(grammar, seed, role).examples(examples);
                        Arc::new(task.expect(CHECKED))
                    }
                    Objective::Autoregressive => {
                        let task = Autoregressive::new(grammar, seed, role, settings.level, examples);
                        Arc::new(task.expect(CHECKED))
                    }
                }
            }
        }
    }

    /// For `spec.toml` of a run with this seed.
    ///
    /// # Panics
    /// If the task was not checked.
    pub fn resolved(&self, seed: u64) -> ResolvedTask {
        match self {
            Self::Boolean(settings) => {
                let task = settings.build(seed).expect("the plan was checked");
                ResolvedTask::Boolean {
                    kind: settings.kind,
                    d: task.d(),
                    k: task.k(),
                    classes: task.classes(),
                    support: task.supports().concat(),
                }
            }
            Self::Pcfg(settings) => {
                let grammar = &settings.grammar;
                let built_in = NAMES.contains(&settings.name.as_str());
                ResolvedTask::Pcfg {
                    kind: TaskKind::Pcfg,
                    grammar: settings.name.clone(),
                    start: grammar.nonterminals()[usize::from(grammar.start())].clone(),
                    objective: settings.objective,
                    level: settings.level,
                    examples: match settings.examples {
                        Examples::Stream => None,
                        Examples::Fixed(count) => Some(count),
                    },
                    rules: (0..grammar.rules().len()).map(|r| grammar.rule_text(r)).collect(),
                    // What the rules' texts leave open. Built-in grammars do not change.
                    terminals: if built_in { Vec::new() } else { grammar.terminals().to_vec() },
                    probabilities: if built_in {
                        Vec::new()
                    } else {
                        grammar.rules().iter().map(|r| r.probability).collect()
                    },
                }
            }
        }
    }
}

impl BooleanSettings {
    /// The task of one seed.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn build(&self, seed: u64) -> Result<BooleanTask, TaskError> {
        let support = match &self.support {
            SupportSpec::Named(SupportName::First) => Support::First,
            SupportSpec::Named(SupportName::Random) => Support::Random { seed },
            SupportSpec::Given(list) => Support::Given(list.clone()),
        };
        BooleanTask::hierarchy(self.d, self.k, self.classes, &support)
    }
}

impl PcfgSettings {
    fn resolve(spec: &TaskSpec) -> Result<Self, Mistake> {
        let name = spec
            .grammar
            .clone()
            .ok_or_else(|| ("task.grammar", format!("missing: one of {} or a file", NAMES.join(", "))))?;
        let mut grammar = load_grammar(&name).map_err(|e| ("task.grammar", e))?;
        if let Some(start) = &spec.start {
            grammar = grammar.with_start(start).map_err(|e| ("task.start", e.to_string()))?;
        }
        let objective = spec
            .objective
            .ok_or_else(|| ("task.objective", "missing: \"masked\" or \"autoregressive\"".to_owned()))?;
        let examples = spec.examples.map_or(Examples::Stream, Examples::Fixed);
        let level = spec.level.unwrap_or(0);
        match objective {
            Objective::Masked if spec.level.is_some() => {
                return Err(("task.level", "only autoregressive prediction has a level".to_owned()));
            }
            Objective::Masked => MaskedPrediction::new(&grammar, 0, Role::Training)
                .examples(examples)
                .map(|_| ())
                .map_err(|e| ("task.examples", e.to_string()))?,
            Objective::Autoregressive => Autoregressive::new(&grammar, 0, Role::Training, level, examples)
                .map(|_| ())
                .map_err(|e| ("task", e.to_string()))?,
        }
        Ok(Self { name, grammar: Arc::new(grammar), objective, level, examples })
    }
}

/// A built-in grammar, or one in a file.
///
/// # Errors
/// In words: no such grammar or file, or what is wrong with it.
pub fn load_grammar(name: &str) -> Result<Grammar, String> {
    let path = Path::new(name);
    if NAMES.contains(&name) || !path.exists() {
        return Grammar::builtin(name).map_err(|e| e.to_string());
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {name}: {e}"))?;
    Grammar::parse(&text).map_err(|e| format!("{name}: {e}"))
}

/// The task of one run, as its `spec.toml` has it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ResolvedTask {
    /// A parity.
    Boolean {
        /// parity or hierarchy.
        kind: TaskKind,
        /// Input dimension.
        d: usize,
        /// Coordinates of each parity.
        k: usize,
        /// Labels.
        classes: usize,
        /// Coordinates from 0, node after node.
        support: Vec<usize>,
    },
    /// A grammar.
    Pcfg {
        /// pcfg.
        kind: TaskKind,
        /// Name or file.
        grammar: String,
        /// Start symbol.
        start: String,
        /// What is predicted.
        objective: Objective,
        /// Spans at whose ends tokens are predicted.
        level: usize,
        /// Sentences, if they are a fixed number.
        #[serde(skip_serializing_if = "Option::is_none")]
        examples: Option<u64>,
        /// The rules, whatever becomes of the file.
        rules: Vec<String>,
        /// Of a grammar file: names of the terminals, in the order of their ids.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        terminals: Vec<String>,
        /// Of a grammar file: the probability of each rule.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        probabilities: Vec<f64>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(text: &str) -> Task {
        Task::resolve(&toml::from_str(text).unwrap(), 1).unwrap()
    }

    fn positions(task: &Task, model: &str) -> Result<usize, String> {
        let mut keys: toml::Table = toml::from_str(model).unwrap();
        let kind = keys.remove("kind").unwrap().try_into().unwrap();
        let spec = ModelSpec { kind, keys: keys.try_into().unwrap() };
        task.transformer(&spec).map(|c| c.positions)
    }

    #[test]
    fn transformers_have_a_position_for_every_token() {
        let parity = task("kind = \"parity\"\nd = 10\nk = 2");
        let gpt2 = |more: &str| format!("kind = \"gpt2\"\nlayers = 1\nheads = 1\n{more}");
        assert_eq!(positions(&parity, &gpt2("")), Ok(10));
        assert_eq!(positions(&parity, &gpt2("positions = 12")), Ok(12));
        let error = positions(&parity, &gpt2("positions = 9")).unwrap_err();
        assert!(error.contains("the transformer has 9 positions, the parity 10 inputs"), "{error}");

        // Sentences of cfg3b from 15 have up to 27 tokens; masked ones start with BOS.
        let sentences = "kind = \"pcfg\"\ngrammar = \"cfg3b\"\nstart = \"15\"";
        let next = task(&format!("{sentences}\nobjective = \"autoregressive\""));
        assert_eq!(positions(&next, &gpt2("")), Ok(1024));
        assert_eq!(positions(&next, &gpt2("positions = 27")), Ok(27));
        assert!(positions(&next, &gpt2("positions = 26")).is_err());
        let masked = task(&format!("{sentences}\nobjective = \"masked\""));
        let bert = |p: usize| format!("kind = \"bert\"\nlayers = 1\nheads = 1\npositions = {p}");
        assert_eq!(positions(&masked, &bert(28)), Ok(28));
        let error = positions(&masked, &bert(27)).unwrap_err();
        assert!(error.contains("longest sentence with BOS 28"), "{error}");
        assert!(positions(&masked, &bert(1 << 30)).is_err());
    }

    #[test]
    fn specs_of_runs_say_what_a_grammar_file_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "terminals b a\nS -> a S [1/4] | b [0.75]\n").unwrap();
        let of = |grammar: &str| {
            let task = task(&format!("kind = \"pcfg\"\ngrammar = '{grammar}'\nobjective = \"masked\""));
            toml::Table::try_from(task.resolved(1)).unwrap()
        };
        let table = of(&file.path().display().to_string());
        assert_eq!(table["rules"], vec!["S -> a S", "S -> b"].into());
        assert_eq!(table["terminals"], vec!["b", "a"].into());
        assert_eq!(table["probabilities"], vec![0.25, 0.75].into());
        assert!(!of("cfg3b").contains_key("probabilities"));
    }
}
