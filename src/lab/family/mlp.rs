//! Multi-layer perceptrons, trained by SGD on either engine.

use super::{Architecture, ArmModel, Family};
use crate::device::Device;
use crate::distill::teacher::SignTeachers;
use crate::model::{OpenError, on_device};
use crate::run::error::RunFolderError;
use crate::run::failure::RunError;
use crate::run::gather::RunRecord;
use crate::run::group::Group;
use crate::train::mlp_gpu::{GpuMlps, Start};
use crate::train::signs::{Sign, Signs};
use curricle_core::keys::KeyError;
use curricle_core::model::{LogitModel, Loss, MlpInit, MlpParams, MlpShape};
use curricle_core::task::Task;
use curricle_cpu::{CpuOptions, Mlp};
use curricle_files as files;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::path::Path;
use std::sync::Arc;

/// Multi-layer perceptrons: `model = { kind = "mlp", hidden = [100] }`, or `hidden = [100]` for short.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mlps;

/// `kind` in a spec.
const KIND: &str = "mlp";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// Widths of the hidden layers.
    hidden: Vec<usize>,
}

/// An MLP and how it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MlpTraining {
    /// Layer sizes.
    pub shape: MlpShape,
    /// First weights.
    pub init: MlpInit,
    /// Weight decay, as in `torch.optim.SGD`.
    pub weight_decay: f64,
    /// What is minimised.
    pub loss: Loss,
}

impl MlpTraining {
    /// An architecture that is known to be one of this family's.
    ///
    /// # Panics
    /// If it is another family's: groups are of one kind.
    pub fn of(architecture: &dyn Architecture) -> &Self {
        architecture.as_any().downcast_ref().expect("groups are of one family")
    }
}

impl Architecture for MlpTraining {
    fn family(&self) -> &'static str {
        "an MLP"
    }

    fn label(&self) -> String {
        let widths: Vec<String> = self.shape.hidden.iter().map(ToString::to_string).collect();
        format!("width {}", widths.join("-"))
    }

    fn table(&self) -> toml::Table {
        super::architecture::tagged(KIND, self)
    }

    fn follows(&self, teacher: &dyn Architecture) -> Result<(), String> {
        super::architecture::same_family(self, teacher).map(|_: &Self| ())
    }

    fn check_teacher(&self, path: &Path) -> Result<(), RunFolderError> {
        let read = files::load(path)?;
        Ok(files::expect_shape(&read.params, path, self.shape.d, self.shape.classes, None)?)
    }

    fn loss(&self) -> Loss {
        self.loss
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Family for Mlps {
    fn kinds(&self) -> &[&'static str] {
        &[KIND]
    }

    fn resolve(
        &self,
        _: &str,
        arm: &ArmModel<'_>,
        task: &dyn Task,
    ) -> Result<Arc<dyn Architecture>, KeyError> {
        let Keys { hidden } = arm.section.read()?;
        let section = &arm.section;
        section.require(
            !hidden.is_empty() && hidden.iter().all(|w| (1..=10_000_000).contains(w)),
            "hidden",
            "one or more widths from 1 to 10000000 are needed",
        )?;
        let Some(boolean) = task.boolean(0) else {
            return Err(section.fail("hidden", "an MLP does not read sentences: give a model"));
        };
        arm.require(
            arm.optimizer.is_none(),
            "optimizer",
            "MLPs are trained by SGD; only a transformer has an optimizer",
        )?;
        arm.require(
            arm.accumulate.is_none(),
            "accumulate",
            "only a transformer's steps are cut into micro-batches",
        )?;
        let classes = boolean.classes();
        let loss = arm.loss.unwrap_or_default();
        arm.require(
            loss == Loss::CrossEntropy || classes == 2,
            "loss",
            "hinge and correlation losses are of the margin of 2 classes",
        )?;
        let init = arm.init.unwrap_or_default();
        arm.require(
            init == MlpInit::Pytorch || (hidden.len() == 1 && hidden[0] % 2 == 0 && classes == 2),
            "init",
            "the symmetric initialisation needs one hidden layer of even width and 2 classes",
        )?;
        let shape = MlpShape { d: boolean.d(), hidden, classes };
        Ok(Arc::new(MlpTraining { shape, init, weight_decay: arm.weight_decay, loss }))
    }

    fn recognises(&self, _: &Path) -> bool {
        // Whatever is nothing else.
        true
    }

    fn open(
        &self,
        path: &Path,
        _: Option<usize>,
        device: &Device,
        threads: usize,
    ) -> Result<(Box<dyn LogitModel>, Option<u64>), OpenError> {
        let read = files::load(path)?;
        Ok((on_device(&read.params, device, threads)?, read.metadata.step))
    }

    fn train(&self, group: &Group<'_>) -> Result<Vec<RunRecord>, RunError> {
        let opened = group.open(|run, seed| {
            let mlp = MlpTraining::of(&*run.training.model);
            Ok(MlpParams::new(&mlp.shape, mlp.init, seed))
        })?;
        let lanes = group.sign_lanes();
        match &group.options.device {
            Device::Cpu => {
                let each = group.each();
                let options = |threads| CpuOptions { threads, ..CpuOptions::default() };
                let teachers = lanes.iter().map(|lane| {
                    let (d, classes) = (lane.task.d(), lane.task.classes());
                    let options = options(group.threads);
                    SignTeachers::of_files(lane.teacher.clone(), classes, move |path| {
                        let read = files::load(path)?;
                        files::expect_shape(&read.params, path, d, classes, None)?;
                        let bytes = 4 * read.params.shape().parameters();
                        Ok((Box::new(Mlp::new(&read.params, options)), bytes))
                    })
                });
                let teachers = teachers.collect();
                let models = opened.iter().zip(&group.ready).map(|(opened, run)| {
                    let mlp = MlpTraining::of(&*run.training.model);
                    Sign {
                        model: Mlp::new(&opened.model, options(each)),
                        lane: run.lane,
                        loss: mlp.loss,
                        weight_decay: mlp.weight_decay as f32,
                    }
                });
                let mut engine = Signs::new(lanes, teachers, models.collect());
                let devices = (0..group.ready.len()).map(|i| format!("cpu: {}", engine.path(i))).collect();
                group.train(&mut engine, opened, devices, each)
            }
            Device::Gpu(context) => {
                let models = opened.iter().zip(&group.ready).map(|(opened, run)| {
                    let MlpTraining { loss, weight_decay, .. } = *MlpTraining::of(&*run.training.model);
                    let weight_decay = weight_decay as f32;
                    Start { params: &opened.model, lane: run.lane, loss, weight_decay }
                });
                let models: Vec<_> = models.collect();
                let mut engine = GpuMlps::new(context, lanes, &models).map_err(|e| group.failed(e))?;
                let adapter = context.name();
                let device = |(i, run): (usize, &crate::run::group::Ready<'_>)| {
                    format!("gpu {adapter}: {}", engine.path(i, run.training.batch))
                };
                let devices = group.ready.iter().enumerate().map(device).collect();
                group.train(&mut engine, opened, devices, 1)
            }
        }
    }
}
