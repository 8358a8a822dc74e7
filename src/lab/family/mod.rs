//! Families of models: how a spec names them, how they train, how their checkpoints are opened.
//!
//! A family is one file here and one line in [`Families::builtin`]. [`on_cpu::SignFamily`] is the short way for a model that reads
//! sign vectors and trains on the CPU: it gives the model, and gets the loop, checkpoints, resume and probes.

pub mod architecture;
pub mod mlp;
pub mod on_cpu;
pub mod transformer;

pub use architecture::Architecture;
pub use on_cpu::{OnCpu, SignFamily};

use crate::device::Device;
use crate::model::OpenError;
use crate::run::failure::RunError;
use crate::run::gather::RunRecord;
use crate::run::group::Group;
use curricle_core::keys::{KeyError, Section};
use curricle_core::model::{LogitModel, Loss, MlpInit};
use curricle_core::task::Task;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

/// A family of models.
pub trait Family: Debug + Send + Sync {
    /// What `kind` may be in `model = { kind = ".." }`.
    fn kinds(&self) -> &[&'static str];

    /// The model and optimiser that an arm describes, checked for a task.
    ///
    /// # Errors
    /// The key, what is wrong there and what is allowed.
    fn resolve(
        &self,
        kind: &str,
        arm: &ArmModel<'_>,
        task: &dyn Task,
    ) -> Result<Arc<dyn Architecture>, KeyError>;

    /// Whether the checkpoint at `path` is one of this family.
    fn recognises(&self, path: &Path) -> bool;

    /// A checkpoint as a model that reads sign vectors, on whatever computes, and the training step it says it is from. `d` is the
    /// number of inputs where the file leaves that open.
    ///
    /// # Errors
    /// If the file cannot be read, or the model does not fit on the device.
    fn open(
        &self,
        path: &Path,
        d: Option<usize>,
        device: &Device,
        threads: usize,
    ) -> Result<(Box<dyn LogitModel>, Option<u64>), OpenError>;

    /// Trains runs side by side and gives back what they recorded: opens their folders ([`Group::open`]), makes an engine
    /// of the models, hands it to [`Group::train`].
    ///
    /// # Errors
    /// If a folder cannot be used, or training stops.
    fn train(&self, group: &Group<'_>) -> Result<Vec<RunRecord>, RunError>;
}

/// What an arm says of its model: the section `model` (or `hidden`, as one with that key alone), and the arm's keys that
/// are a family's business, its own before those of `[student]`.
#[derive(Debug, Clone)]
pub struct ArmModel<'a> {
    /// The arm, such as `arms.ce`.
    pub key: &'a str,
    /// The model's keys but `kind`.
    pub section: Section<'a>,
    /// First weights.
    pub init: Option<MlpInit>,
    /// What is minimised.
    pub loss: Option<Loss>,
    /// The optimiser.
    pub optimizer: Option<transformer::OptimizerSpec>,
    /// Micro-batches of one step.
    pub accumulate: Option<usize>,
    /// Weight decay, checked.
    pub weight_decay: f64,
}

impl ArmModel<'_> {
    /// An error about one key of the arm.
    pub fn fail(&self, field: &str, detail: impl Into<String>) -> KeyError {
        KeyError::Value { key: format!("{}.{field}", self.key), detail: detail.into() }
    }

    /// An error about one key of the arm unless something holds.
    ///
    /// # Errors
    /// If it does not.
    pub fn require(&self, holds: bool, field: &str, detail: impl Into<String>) -> Result<(), KeyError> {
        if holds { Ok(()) } else { Err(self.fail(field, detail)) }
    }
}

/// The families there are.
#[derive(Debug, Clone)]
pub struct Families(Vec<Arc<dyn Family>>);

impl Default for Families {
    fn default() -> Self {
        Self::builtin()
    }
}

impl Families {
    /// Those that curricle brings.
    pub fn builtin() -> Self {
        Self(vec![Arc::new(mlp::Mlps), Arc::new(transformer::Transformers)])
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, family: impl Family + 'static) -> Self {
        self.0.push(Arc::new(family));
        self
    }

    /// Every `kind` there is.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.0.iter().flat_map(|f| f.kinds().to_vec()).collect()
    }

    /// The place and the family of a kind.
    pub fn of_kind(&self, kind: &str) -> Option<(usize, &Arc<dyn Family>)> {
        self.0.iter().enumerate().find(|(_, f)| f.kinds().contains(&kind))
    }

    /// The family at a place.
    ///
    /// # Panics
    /// If there is none.
    pub fn at(&self, place: usize) -> &dyn Family {
        &*self.0[place]
    }

    /// [`Family::open`] of whichever family the file is of; a plain state dict is an MLP.
    ///
    /// # Errors
    /// As [`Family::open`].
    pub fn open(
        &self,
        path: &Path,
        d: Option<usize>,
        device: &Device,
        threads: usize,
    ) -> Result<(Box<dyn LogitModel>, Option<u64>), OpenError> {
        // Those added last are asked first: what they write carries their name.
        let found = self.0.iter().rev().find(|f| f.recognises(path));
        found.map_or(&mlp::Mlps as &dyn Family, |f| &**f).open(path, d, device, threads)
    }
}
