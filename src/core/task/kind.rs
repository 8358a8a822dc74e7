//! What a task is: how a spec names it, and what trains, measures and reports ask it.

use super::boolean::BooleanTask;
use super::pcfg::Role;
use super::pcfg::bayes::Tally;
use super::sequence::{SequenceTask, SignTokens};
use crate::keys::{KeyError, Section};
use crate::model::transformer::Family;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// Gives the text of a file that a spec names, or says why it cannot be read.
pub type ReadText<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// How `[task]` with one `kind` is read.
pub trait TaskKind: Debug + Send + Sync {
    /// `kind` in a spec.
    fn kind(&self) -> &'static str;

    /// Checks the section, whose `kind` was taken out. What depends on the seed is tried with `seed`.
    ///
    /// # Errors
    /// The key and what is wrong.
    fn resolve(&self, section: Section<'_>, read: ReadText<'_>, seed: u64)
    -> Result<Arc<dyn Task>, KeyError>;
}

/// A checked task, for any seed.
///
/// A task of labelled sign vectors gives [`boolean`](Self::boolean), [`resolved`](Self::resolved) and its chance; MLPs,
/// transformers, devices and measurements work on what that returns.
pub trait Task: Debug + Send + Sync {
    /// `kind` in a spec.
    fn kind(&self) -> &'static str;

    /// Accuracy of guessing.
    fn chance(&self) -> f64;

    /// Its labelled sign vectors under one seed, if it is about such; d and the number of labels are those of every seed.
    fn boolean(&self, _seed: u64) -> Option<Arc<dyn BooleanTask>> {
        None
    }

    /// What a transformer needs to know.
    ///
    /// # Errors
    /// Why no transformer learns it.
    fn tokens(&self) -> Result<TokenNeeds, String> {
        match self.boolean(0) {
            Some(task) => TokenNeeds::of_signs(self.kind(), &*task),
            None => Err(format!("a {} has no tokens that a transformer could read", self.kind())),
        }
    }

    /// The samples of one role under one seed as token sequences; `None` where [`tokens`](Self::tokens) refuses.
    fn sequences(&self, seed: u64, role: Role) -> Option<Arc<dyn SequenceTask>> {
        let task = self.boolean(seed).filter(|task| task.classes() == 2)?;
        Some(Arc::new(SignTokens { task, seed, stream: role.sentences() }))
    }

    /// `[task]` in the `spec.toml` of a run with this seed: nothing in it depends on the seed any more. Its kind reads it back.
    fn resolved(&self, seed: u64) -> toml::Table;

    /// What is worth knowing before a run with this seed, for people.
    fn notes(&self, _seed: u64) -> Vec<String> {
        Vec::new()
    }

    /// The most a predictor can reach on the held-out samples of this seed, where it is known and below 1.
    fn limit(&self, _seed: u64) -> Option<Box<dyn Limit>> {
        None
    }

    /// For measurements made for one task.
    fn as_any(&self) -> &dyn Any;
}

/// The best predictor, sample by sample, so that whoever wants its quality may share the samples among threads. Tallies are
/// joined in the order of the samples.
pub trait Limit: Send + Sync {
    /// How it predicts held-out sample `number`; `None` for samples that are left out.
    fn score(&self, number: u64) -> Option<Tally>;
}

/// What a transformer needs to know about a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenNeeds {
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Positions of the longest sample; `None` where samples have no greatest length.
    pub longest: Option<usize>,
    /// Positions of a model unless its spec says otherwise.
    pub positions: usize,
    /// What needs positions, for the message "the transformer has 9 positions, ..".
    pub reason: String,
    /// The only family that fits, if not every one does.
    pub family: Option<Family>,
    /// Whether the head of a GPT-2 shares the word embeddings unless the spec says otherwise; that of a BERT does.
    pub tied_gpt2: bool,
}

impl TokenNeeds {
    /// One token per sign, and the label as one of the same two tokens.
    ///
    /// # Errors
    /// If there are more than two labels.
    pub fn of_signs(kind: &str, task: &dyn BooleanTask) -> Result<Self, String> {
        let (d, classes) = (task.d(), task.classes());
        if classes != 2 {
            return Err(format!("transformers learn two labels; a {kind} of {classes} classes needs an MLP"));
        }
        let reason = format!("the {kind} {d} inputs");
        // As the paper has it.
        Ok(Self { vocab: 2, longest: Some(d), positions: d, reason, family: None, tied_gpt2: false })
    }
}

/// The task that a `[task]` section describes, as one of `kinds`.
///
/// # Errors
/// The key or line, what is wrong and what is allowed.
pub fn resolve(
    mut section: Section<'_>,
    kinds: &[Arc<dyn TaskKind>],
    read: ReadText<'_>,
    seed: u64,
) -> Result<Arc<dyn Task>, KeyError> {
    let known: Vec<&str> = kinds.iter().map(|k| k.kind()).collect();
    let kind = section.take_kind(&known)?;
    match kinds.iter().find(|k| k.kind() == kind) {
        Some(found) => found.resolve(section, read, seed),
        None => {
            Err(section.fail("kind", format!("there is no task {kind:?}: use one of {}", known.join(", "))))
        }
    }
}
