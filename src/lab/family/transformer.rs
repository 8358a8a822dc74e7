//! GPT-2 and BERT, trained by Adam on either engine.

use super::{Architecture, ArmModel, Family};
use crate::device::Device;
use crate::model::{OpenError, open_transformer};
use crate::run::error::RunFolderError;
use crate::run::failure::RunError;
use crate::run::gather::RunRecord;
use crate::run::group::{Group, Opened};
use crate::train::member::TrainError;
use crate::train::sequences::{SequenceLane, Sequences, Start};
use crate::transformer::Transformer;
use curricle_core::keys::KeyError;
use curricle_core::model::transformer::{Dropout, Family as Kind};
use curricle_core::model::{LogitModel, Loss, TransformerConfig, TransformerParams, TransformerState};
use curricle_core::optim::AdamSettings;
use curricle_core::rng;
use curricle_core::task::pcfg::PredictionBatch;
use curricle_core::task::{Task, TokenNeeds};
use curricle_files as files;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::path::Path;
use std::sync::Arc;

/// GPT-2 and BERT: `model = { kind = "gpt2", layers = 2, heads = 4 }`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Transformers;

/// `kind` in a spec, with the family it names.
const KINDS: [(&str, Kind); 2] = [("gpt2", Kind::Gpt2), ("bert", Kind::Bert)];

/// `kind` of `[training.model]` in a run's `spec.toml`.
const RESOLVED: &str = "transformer";

/// Positions a transformer may have at most.
const MOST_POSITIONS: usize = 1 << 20;

/// A transformer as written.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// gpt2 or bert.
    pub kind: Kind,
    /// The other keys.
    pub keys: TransformerKeys,
}

/// The keys of a transformer.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerKeys {
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a head; the hidden size is heads x this.
    #[serde(default = "default_head_dim")]
    pub head_dim: usize,
    /// Width of the MLPs; default 4 x hidden size.
    pub inner: Option<usize>,
    /// Longest sequence; default: what the longest sample needs, for pcfg not below 1024.
    pub positions: Option<usize>,
    /// Dropout of embeddings, attention and residuals in training.
    #[serde(default = "default_dropout")]
    pub dropout: f32,
    /// Standard deviation of the first weights.
    #[serde(default = "default_init_std")]
    pub init_std: f64,
    /// Whether the head shares the word embeddings; default: as the paper has it, no for gpt2 on parities, else yes.
    pub tied: Option<bool>,
}

fn default_head_dim() -> usize {
    8
}
fn default_dropout() -> f32 {
    0.1
}
fn default_init_std() -> f64 {
    0.02
}

/// A transformer's optimiser as written.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// adam or adamw.
    pub kind: OptimizerKind,
    /// Decay rates of the moments.
    #[serde(default = "default_betas")]
    pub betas: (f32, f32),
    /// Added to the root of the second moment.
    #[serde(default = "default_eps")]
    pub eps: f32,
    /// Largest gradient norm.
    pub clip: Option<f32>,
}

fn default_betas() -> (f32, f32) {
    (0.9, 0.999)
}
fn default_eps() -> f32 {
    1e-8
}

/// Optimisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Weight decay is part of the gradient.
    Adam,
    /// Weight decay is apart from it.
    Adamw,
}

/// A transformer and how it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransformerTraining {
    /// Sizes and choices.
    pub config: TransformerConfig,
    /// The optimiser.
    pub adam: AdamSettings,
    /// Micro-batches whose gradients make one step.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: usize,
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

impl TransformerTraining {
    /// An architecture that is known to be one of this family's.
    ///
    /// # Panics
    /// If it is another family's: groups are of one kind.
    pub fn of(architecture: &dyn Architecture) -> &Self {
        architecture.as_any().downcast_ref().expect("groups are of one family")
    }
}

impl Architecture for TransformerTraining {
    fn family(&self) -> &'static str {
        "a transformer"
    }

    fn label(&self) -> String {
        let c = &self.config;
        format!("{}, {} layers, {} heads of {}", c.family.name(), c.layers, c.heads, c.head_dim())
    }

    fn table(&self) -> toml::Table {
        super::architecture::tagged(RESOLVED, self)
    }

    fn follows(&self, teacher: &dyn Architecture) -> Result<(), String> {
        let (found, own) = (super::architecture::same_family(self, teacher)?.config.vocab, self.config.vocab);
        match found == own {
            true => Ok(()),
            false => Err(format!("the teacher has a vocabulary of {found}, the student of {own}")),
        }
    }

    fn check_teacher(&self, path: &Path) -> Result<(), RunFolderError> {
        let (found, own) = (files::transformer::load(path)?.params.config.vocab, self.config.vocab);
        match found == own {
            true => Ok(()),
            false => Err(RunFolderError::Content {
                path: path.to_path_buf(),
                line: None,
                detail: format!("this teacher has a vocabulary of {found}, the student of {own}"),
            }),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The transformer that a spec describes, with the vocabulary and positions that a task needs.
///
/// # Errors
/// If the architecture cannot do this task: it is of the wrong family, too large, or has fewer positions than the longest
/// sample.
fn config(needs: &TokenNeeds, spec: &ModelSpec) -> Result<TransformerConfig, String> {
    let ModelSpec { kind, keys } = spec;
    if let Some(fits) = needs.family.filter(|fits| fits != kind) {
        let kind = if fits == Kind::Bert { "bert" } else { "gpt2" };
        return Err(format!("the objective of this task needs kind = \"{kind}\""));
    }
    let hidden = keys.heads.checked_mul(keys.head_dim).filter(|h| (1..=1 << 16).contains(h));
    let hidden = hidden.ok_or("heads x head_dim must be from 1 to 65536")?;
    let positions = keys.positions.unwrap_or(needs.positions);
    if needs.longest.is_some_and(|longest| longest > positions) {
        return Err(format!("the transformer has {positions} positions, {}", needs.reason));
    }
    if positions > MOST_POSITIONS {
        return Err(format!("{positions} positions are needed; at most {MOST_POSITIONS} are supported"));
    }
    if keys.layers > 1000 || keys.inner.is_some_and(|inner| inner > 1 << 20) {
        return Err("at most 1000 layers and an inner width of at most 1048576 are supported".to_owned());
    }
    let of = match kind {
        Kind::Gpt2 => TransformerConfig::gpt2,
        Kind::Bert => TransformerConfig::bert,
    };
    let base = of(needs.vocab, positions, hidden, keys.layers, keys.heads);
    Ok(TransformerConfig {
        inner: keys.inner.unwrap_or(4 * hidden),
        dropout: Dropout::all(keys.dropout),
        init_std: keys.init_std,
        tied: keys.tied.unwrap_or(*kind == Kind::Bert || needs.tied_gpt2),
        ..base
    })
}

impl Family for Transformers {
    fn kinds(&self) -> &[&'static str] {
        const NAMES: [&str; 2] = [KINDS[0].0, KINDS[1].0];
        &NAMES
    }

    fn resolve(
        &self,
        kind: &str,
        arm: &ArmModel<'_>,
        task: &dyn Task,
    ) -> Result<Arc<dyn Architecture>, KeyError> {
        let keys = arm.section.read()?;
        let kind = KINDS.iter().find(|(name, _)| *name == kind).map_or(Kind::Gpt2, |(_, kind)| *kind);
        arm.require(arm.init.is_none(), "init", "a transformer's first weights are set by model.init_std")?;
        arm.require(
            arm.loss.is_none_or(|l| l == Loss::CrossEntropy),
            "loss",
            "a transformer minimises the cross-entropy",
        )?;
        let config = task
            .tokens()
            .and_then(|needs| config(&needs, &ModelSpec { kind, keys }))
            .and_then(|config| config.check().map(|()| config).map_err(|e| e.to_string()))
            .map_err(|detail| arm.fail("model", detail))?;
        let weight_decay = arm.weight_decay as f32;
        let mut adam = AdamSettings { weight_decay, ..AdamSettings::default() };
        if let Some(o) = arm.optimizer {
            let positive = |x: f32| x.is_finite() && x > 0.0;
            arm.require(
                [o.betas.0, o.betas.1].iter().all(|b| (0.0..1.0).contains(b))
                    && positive(o.eps)
                    && o.clip.is_none_or(positive),
                "optimizer",
                "betas from 0 to below 1 and a positive eps and clip are needed",
            )?;
            let decoupled = o.kind == OptimizerKind::Adamw;
            adam = AdamSettings { betas: o.betas, eps: o.eps, clip: o.clip, decoupled, ..adam };
        }
        let accumulate = arm.accumulate.unwrap_or(1);
        arm.require(accumulate > 0, "accumulate", "must be at least 1")?;
        Ok(Arc::new(TransformerTraining { config, adam, accumulate }))
    }

    fn recognises(&self, path: &Path) -> bool {
        files::transformer::is_transformer(path)
    }

    fn open(
        &self,
        path: &Path,
        d: Option<usize>,
        device: &Device,
        threads: usize,
    ) -> Result<(Box<dyn LogitModel>, Option<u64>), OpenError> {
        let (model, step) = open_transformer(path, d, device, threads)?;
        Ok((Box::new(model), step))
    }

    fn train(&self, group: &Group<'_>) -> Result<Vec<RunRecord>, RunError> {
        let config = |i: usize| &TransformerTraining::of(&*group.ready[i].training.model).config;
        let configs = || (0..group.ready.len()).map(config);
        let positions = configs().map(|c| c.positions).min().unwrap_or(0);
        let vocab = configs().map(|c| c.vocab).next().unwrap_or(0);
        let lanes = group.sequence_lanes(positions, vocab)?;
        let opened: Vec<Opened<TransformerState>> = group.open(|run, seed| {
            let config = TransformerTraining::of(&*run.training.model).config.clone();
            let params = TransformerParams::new(config, seed).expect("the plan was checked");
            Ok(TransformerState::new(params))
        })?;
        tell_memory(group, &lanes)?;
        let each = group.each();
        let starts: Vec<Start> = opened
            .iter()
            .zip(&group.ready)
            .map(|(opened, run)| {
                let training = TransformerTraining::of(&*run.training.model);
                Start {
                    state: &opened.model,
                    lane: run.lane,
                    seed: rng::role_seed(group.seed(run), group.part.number()),
                    threads: each,
                    adam: training.adam,
                    accumulate: training.accumulate,
                }
            })
            .collect();
        let device = &group.options.device;
        let mut engine =
            Sequences::new(device, lanes, &starts, group.threads).map_err(|e| group.failed(e))?;
        drop(starts);
        let name = match device {
            Device::Cpu => "cpu".to_owned(),
            Device::Gpu(context) => format!("gpu {}", context.name()),
        };
        let devices = (0..group.ready.len()).map(|i| format!("{name}: {}", engine.path(i))).collect();
        group.train(&mut engine, opened, devices, each)
    }
}

/// What the models of a group hold in memory while they train, told once for each size.
fn tell_memory(group: &Group<'_>, lanes: &[SequenceLane]) -> Result<(), RunError> {
    let mut told = Vec::new();
    for run in &group.ready {
        let training = run.training;
        let config = &TransformerTraining::of(&*training.model).config;
        if told.contains(&config) {
            continue;
        }
        told.push(config);
        let evaluation = &lanes[run.lane].evaluation;
        let length = evaluation.iter().map(|b| b.length).max().unwrap_or(1);
        let reads = |b: &PredictionBatch| b.reads.len().div_ceil(b.sequences);
        let reads = evaluation.iter().map(reads).max().unwrap_or(1) * training.batch;
        let batch = training.batch;
        let sizes = [batch, length, reads];
        let bytes = Transformer::activation_bytes(config, &group.options.device, group.each(), sizes)
            .map_err(|e| group.failed(TrainError::Model(e)))?;
        let mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
        group.options.observer.note(&format!(
            "{}: {} parameters ({} with gradient and moments), about {} of activations for {batch} sequences of {length}",
            run.name,
            config.parameters(),
            mib(16.0 * config.parameters() as f64),
            mib(bytes as f64),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::task::of_spec;
    use curricle_core::task::builtin;

    fn task(text: &str) -> Arc<dyn Task> {
        of_spec(&format!("[task]\n{text}"), &builtin(), 1).unwrap()
    }

    fn positions(task: &Arc<dyn Task>, model: &str) -> Result<usize, String> {
        let mut keys: toml::Table = toml::from_str(model).unwrap();
        let kind = keys.remove("kind").unwrap().try_into().unwrap();
        let spec = ModelSpec { kind, keys: keys.try_into().unwrap() };
        config(&task.tokens()?, &spec).map(|c| c.positions)
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
}
