//! `[nonterminals]`: what a ridge probe of the last layer finds in every final model, level by level of the grammar.

use super::ngrams::{MOST_SENTENCES, open};
use super::{Measure, MeasureContext, MeasureError, Measured, Measurement, Setting, Shown, Subject};
use crate::run::gather::TEACHER;
use curricle_core::keys::{KeyError, Section};
use curricle_core::task::pcfg::PcfgTask;
use curricle_cpu::SingleThreaded;
use curricle_probe::nonterminal::ridge::ridge;
use curricle_probe::nonterminal::{Examples, LevelAccuracy, SENTENCES};
use curricle_report::data::ReportData;
use curricle_report::pcfg::{LevelCurve, levels, section};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The section's keys.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// Sentences the probe is fitted to.
    train: u64,
    /// Sentences it is tested on.
    test: u64,
    /// Ridge penalty per token.
    #[serde(default = "default_penalty")]
    penalty: f64,
}

fn default_penalty() -> f64 {
    1e-4
}

/// The file, and what is found: accuracy per level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Probed {
    run: String,
    seed: u64,
    /// What was asked.
    spec: Keys,
    levels: Vec<LevelAccuracy>,
}

/// The kind.
#[derive(Debug)]
pub struct NonterminalMeasurement;

impl Measurement for NonterminalMeasurement {
    fn key(&self) -> &'static str {
        "nonterminals"
    }

    fn resolve(&self, section: Section<'_>, setting: &Setting<'_>) -> Result<Arc<dyn Measure>, KeyError> {
        let keys: Keys = section.read()?;
        let Some(task) = PcfgTask::of(setting.task) else {
            return Err(section.fail_here("only a pcfg has non-terminals"));
        };
        for (key, sentences) in [("train", keys.train), ("test", keys.test)] {
            let detail = format!("must be from 1 to {MOST_SENTENCES} sentences");
            section.require((1..=MOST_SENTENCES).contains(&sentences), key, detail)?;
        }
        section.require(
            keys.penalty.is_finite() && keys.penalty >= 0.0,
            "penalty",
            format!("{} is not a number from 0 on", keys.penalty),
        )?;
        Ok(Arc::new(Nonterminals { keys, levels: task.grammar.uniform_depth().unwrap_or(0) }))
    }
}

/// The measurement with its settings.
#[derive(Debug)]
struct Nonterminals {
    keys: Keys,
    levels: usize,
}

impl Measure for Nonterminals {
    fn subject(&self) -> Subject {
        Subject::FinalModels
    }

    fn keys(&self) -> toml::Table {
        toml::Table::try_from(&self.keys).expect("plain data")
    }

    fn measure(&self, context: &MeasureContext<'_>) -> Result<Option<Value>, MeasureError> {
        let probed = self.probe(context)?;
        Ok(Some(serde_json::to_value(probed).expect("accuracies are plain data")))
    }

    fn quantities(&self) -> Vec<String> {
        (1..=self.levels).map(|level| format!("accuracy-{level}")).collect()
    }

    fn evidence(&self, value: &Value, quantity: &str) -> Option<f64> {
        let level: usize = quantity.strip_prefix("accuracy-")?.parse().ok()?;
        Some(Probed::deserialize(value).ok()?.levels.iter().find(|l| l.level == level)?.accuracy)
    }

    fn report(&self, found: &[Measured], shown: &Shown<'_>, report: &mut ReportData) {
        let probed: Vec<Probed> = found.iter().filter_map(|m| Probed::deserialize(&m.value).ok()).collect();
        let Some(first) = probed.first() else { return };
        let majority: Vec<(usize, f64)> = first.levels.iter().map(|l| (l.level, l.majority)).collect();
        let names = std::iter::once((TEACHER, "teacher"))
            .chain(shown.students.iter().map(|(name, label)| (name.as_str(), label.as_str())));
        let mut curves = Vec::new();
        for (name, label) in names {
            let mut by_level: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for level in probed.iter().filter(|p| p.run == name).flat_map(|p| &p.levels) {
                by_level.entry(level.level).or_default().push(level.accuracy);
            }
            if !by_level.is_empty() {
                curves.push(LevelCurve { label: label.to_owned(), levels: by_level.into_iter().collect() });
            }
        }
        let text = "A linear (ridge) probe of each token's last hidden state names its ancestor at each level of the tree.";
        let figure = levels("Non-terminals read off the last layer", &curves, &majority);
        report.sections.push(section("Non-terminals", vec![text.to_owned()], vec![figure]));
    }
}

impl Nonterminals {
    fn probe(&self, context: &MeasureContext<'_>) -> Result<Probed, MeasureError> {
        if let Some(kept) = context.kept().filter(|kept: &Probed| kept.spec == self.keys) {
            return Ok(kept);
        }
        let task = PcfgTask::of(context.task).expect("the section was checked: this is a grammar");
        let (_, path) = context.checkpoints()?.pop().expect("there is one");
        let model = open(&path, context)?;
        let layer = model.config().layers;
        let stream = (context.seed, SENTENCES);
        let collect = |first, count| Examples::collect(&model, &task.grammar, layer, stream, first, count);
        // The same bits whatever the number of threads.
        let _single = SingleThreaded::new();
        let keys = &self.keys;
        let levels = collect(0, keys.train)
            .and_then(|train| ridge(&train, &collect(keys.train, keys.test)?, keys.penalty))
            .map_err(MeasureError::at(&path))?;
        let probed = Probed { run: context.run.to_owned(), seed: context.seed, spec: keys.clone(), levels };
        context.keep(&probed)?;
        Ok(probed)
    }
}
