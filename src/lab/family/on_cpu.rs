//! The short way to a family: a model that reads sign vectors and trains by SGD on the CPU.
//!
//! Whoever implements [`SignFamily`] gets, through [`OnCpu`], what the built-in families have: the ordinary training loop for
//! teachers and students, checkpoints, resume, correlations. `examples/custom_family.rs` is one.

use super::architecture::Architecture;
use super::{ArmModel, Family};
use crate::device::Device;
use crate::distill::teacher::SignTeachers;
use crate::model::OpenError;
use crate::run::error::RunFolderError;
use crate::run::failure::RunError;
use crate::run::gather::RunRecord;
use crate::run::group::Group;
use crate::train::member::TrainError;
use crate::train::signs::{Sign, Signs};
use curricle_core::keys::KeyError;
use curricle_core::model::{LogitModel, Loss, SignModel};
use curricle_core::task::Task;
use curricle_files::{CheckpointError, Tensors};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

/// A family of models that read sign vectors and train by SGD on the CPU.
pub trait SignFamily: Debug + Send + Sync + 'static {
    /// The model.
    type Model: SignModel<Params = Tensors> + Send + Sync + 'static;
    /// The keys of `model = { kind = KIND, .. }`; unknown ones are to be refused (`#[serde(deny_unknown_fields)]`).
    type Keys: Serialize + DeserializeOwned + Debug + Clone + PartialEq + Send + Sync;
    /// `kind` in a spec.
    const KIND: &'static str;
    /// Checks the keys for a task of `d` inputs and `classes` labels.
    ///
    /// # Errors
    /// The key and what is wrong.
    fn check(&self, keys: &Self::Keys, d: usize, classes: usize) -> Result<(), (&'static str, String)>;
    /// A model with first weights drawn from `seed`.
    fn first(&self, keys: &Self::Keys, d: usize, classes: usize, seed: u64) -> Self::Model;
    /// The model with these parameters, as [`SignModel::to_params`] gave them.
    ///
    /// # Errors
    /// If they are not those of such a model, in words.
    fn load(
        &self,
        keys: &Self::Keys,
        d: usize,
        classes: usize,
        tensors: &Tensors,
    ) -> Result<Self::Model, String>;
    /// One phrase for tables, such as "8 channels".
    fn label(&self, keys: &Self::Keys) -> String;
}

/// A [`SignFamily`] as a family like any other.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnCpu<F>(pub F);

/// What a model of such a family resolves to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Resolved<K> {
    keys: K,
    d: usize,
    classes: usize,
    loss: Loss,
    weight_decay: f64,
}

/// What a checkpoint says of its model.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct About<K> {
    kind: String,
    keys: K,
    d: usize,
    classes: usize,
}

/// A resolved model of family `F`.
#[derive(Debug)]
struct Checked<F: SignFamily> {
    family: Arc<F>,
    resolved: Resolved<F::Keys>,
}

fn about<F: SignFamily>(path: &Path) -> Option<About<F::Keys>> {
    let text = Tensors::about(path).ok()??;
    serde_json::from_str::<About<F::Keys>>(&text).ok().filter(|a| a.kind == F::KIND)
}

/// The model in a file, with its bytes in memory.
fn load<F: SignFamily>(family: &F, path: &Path) -> Result<(F::Model, Option<u64>, usize), CheckpointError> {
    let damaged = |detail: String| CheckpointError::Damaged { path: path.to_path_buf(), detail };
    let about =
        about::<F>(path).ok_or_else(|| damaged(format!("it is no checkpoint of kind {}", F::KIND)))?;
    let (tensors, step) = Tensors::load(path)?;
    let bytes = tensors.list.iter().map(|t| 4 * t.data.len()).sum();
    let model = family.load(&about.keys, about.d, about.classes, &tensors).map_err(damaged)?;
    Ok((model, step, bytes))
}

fn fits(path: &Path, model: &impl LogitModel, d: usize, classes: usize) -> Result<(), CheckpointError> {
    let shape = |d: usize, classes: usize| format!("{d} inputs and {classes} logits");
    if (model.d(), model.classes()) == (d, classes) {
        return Ok(());
    }
    Err(CheckpointError::Shape {
        path: path.to_path_buf(),
        found: shape(model.d(), model.classes()),
        expected: shape(d, classes),
        hint: "give a checkpoint of this task",
    })
}

impl<F: SignFamily> Architecture for Checked<F> {
    fn family(&self) -> &'static str {
        F::KIND
    }

    fn label(&self) -> String {
        self.family.label(&self.resolved.keys)
    }

    fn table(&self) -> toml::Table {
        super::architecture::tagged(F::KIND, &self.resolved)
    }

    fn follows(&self, teacher: &dyn Architecture) -> Result<(), String> {
        super::architecture::same_family(self, teacher).map(|_: &Self| ())
    }

    fn check_teacher(&self, path: &Path) -> Result<(), RunFolderError> {
        let (model, ..) = load(&*self.family, path)?;
        Ok(fits(path, &model, self.resolved.d, self.resolved.classes)?)
    }

    fn loss(&self) -> Loss {
        self.resolved.loss
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl<F: SignFamily + Clone> Family for OnCpu<F> {
    fn kinds(&self) -> &[&'static str] {
        &[F::KIND]
    }

    fn resolve(
        &self,
        _: &str,
        arm: &ArmModel<'_>,
        task: &dyn Task,
    ) -> Result<Arc<dyn Architecture>, KeyError> {
        let keys: F::Keys = arm.section.read()?;
        let Some(boolean) = task.boolean(0) else {
            return Err(arm.fail("model", format!("a model of kind {} reads sign vectors", F::KIND)));
        };
        let (d, classes) = (boolean.d(), boolean.classes());
        self.0.check(&keys, d, classes).map_err(|(field, detail)| arm.section.fail(field, detail))?;
        for (given, field) in [
            (arm.init.is_some(), "init"),
            (arm.optimizer.is_some(), "optimizer"),
            (arm.accumulate.is_some(), "accumulate"),
        ] {
            arm.require(!given, field, format!("a model of kind {} has no such key", F::KIND))?;
        }
        let loss = arm.loss.unwrap_or_default();
        arm.require(
            loss == Loss::CrossEntropy || classes == 2,
            "loss",
            "hinge and correlation losses are of the margin of 2 classes",
        )?;
        let resolved = Resolved { keys, d, classes, loss, weight_decay: arm.weight_decay };
        Ok(Arc::new(Checked { family: Arc::new(self.0.clone()), resolved }))
    }

    fn recognises(&self, path: &Path) -> bool {
        about::<F>(path).is_some()
    }

    fn open(
        &self,
        path: &Path,
        _: Option<usize>,
        _: &Device,
        _: usize,
    ) -> Result<(Box<dyn LogitModel>, Option<u64>), OpenError> {
        let (model, step, _) = load(&self.0, path)?;
        Ok((Box::new(model), step))
    }

    fn train(&self, group: &Group<'_>) -> Result<Vec<RunRecord>, RunError> {
        let of = |run: &crate::run::group::Ready<'_>| -> Resolved<F::Keys> {
            let checked: &Checked<F> =
                run.training.model.as_any().downcast_ref().expect("groups are of one family");
            checked.resolved.clone()
        };
        let settings: Vec<_> = group.ready.iter().map(of).collect();
        if matches!(group.options.device, Device::Gpu(_)) {
            group.options.observer.note(&format!("models of kind {} train on the CPU", F::KIND));
        }
        let opened = group.open(|run, seed| {
            let Resolved { keys, d, classes, .. } = of(run);
            Ok(self.0.first(&keys, d, classes, seed).to_params())
        })?;
        let lanes = group.sign_lanes();
        let teachers = lanes.iter().map(|lane| {
            let (d, classes, family) = (lane.task.d(), lane.task.classes(), self.0.clone());
            SignTeachers::of_files(lane.teacher.clone(), classes, move |path| {
                let (model, _, bytes) = load(&family, path)?;
                fits(path, &model, d, classes)?;
                Ok((Box::new(model), bytes))
            })
        });
        let teachers = teachers.collect();
        let mut models = Vec::new();
        for ((opened, run), Resolved { keys, d, classes, loss, weight_decay }) in
            opened.iter().zip(&group.ready).zip(&settings)
        {
            let model = self.0.load(keys, *d, *classes, &opened.model);
            let model = model.map_err(|e| group.failed(TrainError::Model(e.into())))?;
            models.push(Sign { model, lane: run.lane, loss: *loss, weight_decay: *weight_decay as f32 });
        }
        let mut engine = Signs::new(lanes, teachers, models);
        let devices = (0..group.ready.len()).map(|i| format!("cpu: {}", engine.path(i))).collect();
        group.train(&mut engine, opened, devices, group.each())
    }
}

/// The line about a model that [`Tensors::about`] keeps: for [`SignModel::to_params`] of a family's model.
pub fn describe<F: SignFamily>(keys: &F::Keys, d: usize, classes: usize) -> String {
    let about = About { kind: F::KIND.to_owned(), keys: keys.clone(), d, classes };
    serde_json::to_string(&about).expect("keys are plain data")
}
