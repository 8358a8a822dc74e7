//! From a schedule as written to the checkpoints of an actual teacher.

use super::folder::{RunFolderError, open_read_only};
use super::run_spec::RunSpec;
use super::spec::{DistillSpec, TeacherSpec};
use crate::distill::teacher::TeacherCheckpoint;
use crate::family::Architecture;
use crate::measure::correlations::kept_recommendation;
use crate::train::member::Metric;
use curricle_core::schedule::{Moment, SOLVED, Schedule, TeacherHistory, Unresolved};
use curricle_files as files;
use std::path::{Path, PathBuf};

/// A teacher that has been trained.
#[derive(Debug, Clone)]
pub struct TeacherRun {
    /// What it did.
    history: TeacherHistory,
    /// The file of each of its checkpoints.
    paths: Vec<PathBuf>,
}

impl TeacherRun {
    /// Reads a teacher's run folder; `batch` turns its steps into samples.
    ///
    /// # Errors
    /// If it is no run folder, has no checkpoints or cannot be read.
    pub fn of_folder(path: &Path, batch: usize, recommended: Option<u64>) -> Result<Self, RunFolderError> {
        let view = open_read_only(path)?;
        let metrics: Vec<Metric> = view.read_metrics()?;
        let checkpoints = view.require_checkpoints("teacher")?;
        let moment = |step: u64| Moment {
            step: Some(step),
            samples: Some(step.saturating_mul(batch as u64)),
            accuracy: metrics.iter().find(|m| m.step == step).map(|m| m.accuracy),
        };
        let history = TeacherHistory {
            place: path.display().to_string(),
            checkpoints: checkpoints.iter().map(|(step, _)| moment(*step)).collect(),
            samples_99: metrics.iter().find(|m| m.accuracy >= SOLVED).map(|m| m.samples),
            recommended,
        };
        Ok(Self { history, paths: checkpoints.into_iter().map(|(_, path)| path).collect() })
    }

    /// A teacher named by the spec; of a folder with `seed-<n>` folders the one of `seed`.
    fn external(spec: &TeacherSpec, seed: u64) -> Result<Self, RunFolderError> {
        match spec {
            TeacherSpec::Folder(path) => {
                let of_seed = path.join(format!("seed-{seed}"));
                let folder = if of_seed.is_dir() { of_seed } else { path.clone() };
                let batch = batch_of(&folder)?;
                Self::of_folder(&folder, batch, kept_recommendation(&folder))
            }
            TeacherSpec::Files(files) => {
                let mut checkpoints = Vec::new();
                for path in files {
                    checkpoints.push(Moment { step: files::step_of(path)?, ..Moment::default() });
                }
                let place = "the list of checkpoint files".to_owned();
                let history = TeacherHistory { place, checkpoints, ..TeacherHistory::default() };
                Ok(Self { history, paths: files.clone() })
            }
        }
    }
}

/// Batch size in the spec of a run folder.
fn batch_of(folder: &Path) -> Result<usize, RunFolderError> {
    let training = RunSpec::read(folder)?.and_then(|spec| spec.training);
    training.map(|t| t.batch).ok_or_else(|| RunFolderError::Content {
        path: folder.join("spec.toml"),
        line: None,
        detail: "a teacher's spec with training.batch is needed".to_owned(),
    })
}

/// All teacher checkpoints that the students of one seed use, each once.
#[derive(Debug, Default)]
pub struct Catalogue {
    checkpoints: Vec<TeacherCheckpoint>,
}

impl Catalogue {
    /// The checkpoints; schedules name them by their place.
    pub fn checkpoints(&self) -> &[TeacherCheckpoint] {
        &self.checkpoints
    }

    /// Resolves a schedule. The inner error says why this student cannot run (its teacher never got where the schedule
    /// points); the outer one stops the experiment.
    ///
    /// # Errors
    /// If the teacher's folder or files cannot be read or have another shape.
    pub fn resolve(
        &mut self,
        distill: &DistillSpec,
        own: Option<&TeacherRun>,
        seed: u64,
        batch: usize,
        model: &dyn Architecture,
    ) -> Result<Result<Schedule, Unresolved>, RunFolderError> {
        let external;
        let teacher = match (&distill.teacher, own) {
            (Some(spec), _) => {
                external = TeacherRun::external(spec, seed)?;
                &external
            }
            (None, Some(own)) => own,
            (None, None) => unreachable!("the plan was checked: there is a teacher"),
        };
        let schedule = match distill.schedule.resolve(&teacher.history, batch) {
            Ok(schedule) => schedule,
            Err(reason) => return Ok(Err(reason)),
        };
        let used = schedule.checkpoints();
        // One look at a foreign teacher before hours of training; the pool checks the others as it loads them.
        if distill.teacher.is_some() {
            model.check_teacher(&teacher.paths[used[0]])?;
        }
        let mut places = vec![0; teacher.paths.len()];
        for index in used {
            let (path, step) = (&teacher.paths[index], teacher.history.checkpoints[index].step);
            places[index] = match self.checkpoints.iter().position(|c| c.path == *path) {
                Some(place) => place,
                None => {
                    self.checkpoints.push(TeacherCheckpoint { step, path: path.clone() });
                    self.checkpoints.len() - 1
                }
            };
        }
        Ok(Ok(schedule.renamed(|c| places[c])))
    }
}
