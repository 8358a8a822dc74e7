//! `kind = "pcfg"`: prediction in sentences of a grammar.

use super::bayes::{Bayes, Tally};
use super::stats::longest;
use super::{Autoregressive, Examples, Grammar, MaskedPrediction, NAMES, Role, Tokens};
use crate::keys::{KeyError, Section};
use crate::model::transformer::Family;
use crate::task::kind::{Limit, ReadText, Task, TaskKind, TokenNeeds};
use crate::task::sequence::SequenceTask;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;

/// Positions of a transformer on sentences, unless the longest one needs more.
const USUAL_POSITIONS: usize = 1024;

/// Sentences of probabilistic context-free grammars.
#[derive(Debug)]
pub struct Pcfg;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    grammar: String,
    start: Option<String>,
    objective: Objective,
    level: Option<usize>,
    examples: Option<u64>,
    // What a run has recorded of its grammar, whatever becomes of the file.
    rules: Option<Vec<String>>,
    terminals: Option<Vec<String>>,
    probabilities: Option<Vec<f64>>,
}

/// What is predicted in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Hidden tokens (BERT).
    Masked,
    /// The next token (GPT-2).
    Autoregressive,
}

impl Objective {
    fn name(self) -> &'static str {
        match self {
            Self::Masked => "masked",
            Self::Autoregressive => "autoregressive",
        }
    }
}

/// Prediction in sentences of a grammar.
#[derive(Debug, Clone)]
pub struct PcfgTask {
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

/// A built-in grammar, or one in a file.
///
/// # Errors
/// In words: no such grammar or file, or what is wrong with it.
pub fn load_grammar(name: &str, read: ReadText<'_>) -> Result<Grammar, String> {
    match (Grammar::builtin(name), NAMES.contains(&name)) {
        (grammar, true) => grammar.map_err(|e| e.to_string()),
        (unknown, false) => match (read(name), unknown) {
            (Ok(text), _) => Grammar::parse(&text).map_err(|e| format!("{name}: {e}")),
            (Err(why), Err(unknown)) => Err(format!("{unknown} ({why})")),
            (Err(why), Ok(_)) => Err(why),
        },
    }
}

impl TaskKind for Pcfg {
    fn kind(&self) -> &'static str {
        "pcfg"
    }

    fn resolve(&self, section: Section<'_>, read: ReadText<'_>, _: u64) -> Result<Arc<dyn Task>, KeyError> {
        let keys: Keys = section.read()?;
        let mut grammar = load_grammar(&keys.grammar, read).map_err(|e| section.fail("grammar", e))?;
        if let Some(start) = &keys.start {
            grammar = grammar.with_start(start).map_err(|e| section.fail("start", e.to_string()))?;
        }
        let (objective, level) = (keys.objective, keys.level.unwrap_or(0));
        let examples = keys.examples.map_or(Examples::Stream, Examples::Fixed);
        match objective {
            Objective::Masked => {
                section.require(level == 0, "level", "only autoregressive prediction has a level")?;
                MaskedPrediction::new(&grammar, 0, Role::Training).examples(examples).map(|_| ())
            }
            Objective::Autoregressive => {
                Autoregressive::new(&grammar, 0, Role::Training, level, examples).map(|_| ())
            }
        }
        .map_err(|e| section.fail(e.key(), e.to_string()))?;
        let task = PcfgTask { name: keys.grammar, grammar: Arc::new(grammar), objective, level, examples };
        for (key, same) in [
            ("rules", keys.rules.is_none_or(|rules| rules == task.rules())),
            ("terminals", keys.terminals.is_none_or(|names| names == task.grammar.terminals())),
            ("probabilities", keys.probabilities.is_none_or(|kept| kept == task.probabilities())),
        ] {
            let why = format!("{} has others than were recorded here: restore that file", task.name);
            section.require(same, key, why)?;
        }
        Ok(Arc::new(task))
    }
}

impl PcfgTask {
    /// A task as this one.
    pub fn of(task: &dyn Task) -> Option<&Self> {
        task.as_any().downcast_ref()
    }

    fn rules(&self) -> Vec<String> {
        (0..self.grammar.rules().len()).map(|r| self.grammar.rule_text(r)).collect()
    }

    fn probabilities(&self) -> Vec<f64> {
        self.grammar.rules().iter().map(|r| r.probability).collect()
    }
}

impl Task for PcfgTask {
    fn kind(&self) -> &'static str {
        "pcfg"
    }

    fn chance(&self) -> f64 {
        1.0 / self.grammar.terminals().len() as f64
    }

    fn tokens(&self) -> Result<TokenNeeds, String> {
        // Masked sentences start with BOS.
        let (bos, with_bos, family) = match self.objective {
            Objective::Masked => (1, " with BOS", Family::Bert),
            Objective::Autoregressive => (0, "", Family::Gpt2),
        };
        let longest = longest(&self.grammar).map(|tokens| tokens.saturating_add(bos));
        let needed = longest.unwrap_or(0);
        Ok(TokenNeeds {
            vocab: Tokens::of(&self.grammar).vocab,
            longest,
            positions: needed.max(USUAL_POSITIONS),
            reason: format!(
                "the grammar's longest sentence{with_bos} {needed}: give it more positions or take a start symbol with \
                 shorter sentences"
            ),
            family: Some(family),
            tied_gpt2: true,
        })
    }

    fn sequences(&self, seed: u64, role: Role) -> Option<Arc<dyn SequenceTask>> {
        const CHECKED: &str = "what was checked for one seed is right for all";
        // Held-out sentences are always fresh.
        let examples = if role == Role::Evaluation { Examples::Stream } else { self.examples };
        let grammar = &self.grammar;
        Some(match self.objective {
            Objective::Masked => {
                Arc::new(MaskedPrediction::new(grammar, seed, role).examples(examples).expect(CHECKED))
            }
            Objective::Autoregressive => {
                Arc::new(Autoregressive::new(grammar, seed, role, self.level, examples).expect(CHECKED))
            }
        })
    }

    fn resolved(&self, _: u64) -> toml::Table {
        let grammar = &self.grammar;
        let start = grammar.nonterminals()[usize::from(grammar.start())].as_str();
        let mut table = toml::Table::new();
        let mut set = |key: &str, value: toml::Value| table.insert(key.to_owned(), value);
        set("kind", self.kind().into());
        set("grammar", self.name.as_str().into());
        set("start", start.into());
        set("objective", self.objective.name().into());
        set("level", (self.level as i64).into());
        if let Examples::Fixed(count) = self.examples {
            set("examples", (count as i64).into());
        }
        set("rules", self.rules().into());
        // What the rules' texts leave open. Built-in grammars do not change.
        if !NAMES.contains(&self.name.as_str()) {
            set("terminals", grammar.terminals().to_vec().into());
            set("probabilities", self.probabilities().into());
        }
        table
    }

    fn limit(&self, seed: u64) -> Option<Box<dyn Limit>> {
        (self.objective == Objective::Masked).then(|| -> Box<dyn Limit> {
            let held_out = MaskedPrediction::new(&self.grammar, seed, Role::Evaluation);
            Box::new(Optimum { bayes: Bayes::complete(&self.grammar), held_out })
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Exact Bayes on held-out sentences, which sees what a position itself shows.
struct Optimum {
    bayes: Bayes,
    held_out: MaskedPrediction,
}

impl Limit for Optimum {
    fn score(&self, number: u64) -> Option<Tally> {
        self.bayes.score(&self.held_out, number).map(|score| score.with_own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{builtin, resolve};

    const FILE: &str = "terminals b a\nS -> a S [1/4] | b [0.75]\n";

    fn read(name: &str) -> Result<String, String> {
        if name == "g.grammar" { Ok(FILE.to_owned()) } else { Err(format!("cannot read {name}")) }
    }

    fn of(text: &str) -> Result<Arc<dyn Task>, String> {
        let section = Section::document(text).unwrap().take("task").unwrap();
        resolve(section, &builtin(), &read, 1).map_err(|e| e.to_string())
    }

    #[test]
    fn runs_record_what_a_grammar_file_said() {
        let task = of("[task]\nkind = 'pcfg'\ngrammar = 'g.grammar'\nobjective = 'masked'").unwrap();
        let table = task.resolved(1);
        assert_eq!(table["rules"], vec!["S -> a S", "S -> b"].into());
        assert_eq!(table["terminals"], vec!["b", "a"].into());
        assert_eq!(table["probabilities"], vec![0.25, 0.75].into());
        let text = |table: toml::Table| {
            toml::to_string(&toml::Table::from_iter([("task".to_owned(), table.into())])).unwrap()
        };
        let again = of(&text(table.clone())).unwrap();
        assert_eq!(again.resolved(2), table);
        let other = toml::Table::from_iter([("probabilities".to_owned(), vec![0.5, 0.5].into())]);
        let error = of(&text(table.into_iter().chain(other).collect())).unwrap_err();
        assert!(error.contains("task.probabilities") && error.contains("g.grammar"), "{error}");
        let built_in = of(
            "[task]\nkind = 'pcfg'\ngrammar = 'cfg3b'\nobjective = 'autoregressive'\nlevel = 2\nexamples = 9",
        );
        let table = built_in.unwrap().resolved(1);
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        assert_eq!(keys, ["kind", "grammar", "start", "objective", "level", "examples", "rules"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_key() {
        for (text, expected) in [
            ("grammar = 'cfg3z'\nobjective = 'masked'", "task.grammar: "),
            ("grammar = 'cfg3z'\nobjective = 'masked'", "cannot read cfg3z"),
            ("grammar = 'cfg3b'\nobjective = 'masked'\nstart = '99'", "task.start: "),
            ("grammar = 'cfg3b'\nobjective = 'masked'\nlevel = 2", "task.level: "),
            ("grammar = 'cfg3b'\nobjective = 'autoregressive'\nlevel = 99", "task.level: "),
            ("grammar = 'cfg3b'\nobjective = 'masked'\nexamples = 0", "task.examples: "),
            ("grammar = 'cfg3b'\nobjective = 'masked'\nk = 2", "line 5"),
            ("grammar = 'cfg3b'", "objective"),
        ] {
            let error = of(&format!("[task]\nkind = 'pcfg'\n{text}")).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
