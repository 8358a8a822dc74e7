//! Runs of one role, family and batch size that train side by side, and what a family needs to train them.

use super::failure::RunError;
use super::folder::{RunFolder, RunView, open_read_only};
use super::gather::{RunRecord, Status};
use super::options::{Existing, Options};
use super::recorder::FolderRecorder;
use crate::distill::teacher::TeacherCheckpoint;
use crate::train::group::{Control, Engine, Lane, train};
use crate::train::member::{Member, Metric, State, Supervision, TrainError};
use crate::train::sequences::SequenceLane;
use crate::train::settings::Training;
use curricle_core::rng::{self, Purpose, Stream};
use curricle_core::task::Task;
use curricle_core::task::pcfg::Role;
use curricle_files::Kept;
use std::path::{Path, PathBuf};

/// Held-out sequences per forward pass.
const EVALUATION_BATCH: usize = 64;

/// Whose samples and first weights: teacher and students draw different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The teacher.
    Teacher,
    /// A student.
    Student,
}

impl Part {
    /// Number of the stream of samples, and of the seed of the first weights.
    pub fn number(self) -> u32 {
        match self {
            Self::Teacher => 0,
            Self::Student => 1,
        }
    }
}

/// A run that is about to start.
#[derive(Debug)]
pub struct Ready<'a> {
    /// Place of its seed in [`Group::lanes`].
    pub lane: usize,
    /// Name of the run.
    pub name: &'a str,
    /// Arm in the spec.
    pub arm: &'a str,
    /// Value of the sweep.
    pub at: Option<f64>,
    /// Settings.
    pub training: &'a Training,
    /// What it learns from.
    pub supervision: Supervision,
    /// Text of its `spec.toml`.
    pub spec: String,
}

/// What the runs of one seed share.
#[derive(Debug, Clone)]
pub struct SeedLane {
    /// The seed.
    pub seed: u64,
    /// Checkpoints that schedules name by their place here.
    pub teacher: Vec<TeacherCheckpoint>,
}

/// A run whose folder is open.
pub struct Opened<K> {
    folder: RunFolder,
    /// What the model starts from.
    pub model: K,
    state: State,
}

/// Runs that train side by side; all of one family, part and batch size.
pub struct Group<'a> {
    /// Name of the experiment.
    pub experiment: &'a str,
    /// Device, folders, observer, cancellation.
    pub options: &'a Options<'a>,
    /// The task.
    pub task: &'a dyn Task,
    /// Held-out samples.
    pub evaluation_samples: usize,
    /// Threads in all.
    pub threads: usize,
    /// Teacher or students.
    pub part: Part,
    /// Seeds.
    pub lanes: Vec<SeedLane>,
    /// The runs.
    pub ready: Vec<Ready<'a>>,
}

impl Group<'_> {
    /// Threads of each model on the CPU: a single one gets all; several share them, one each.
    pub fn each(&self) -> usize {
        if self.ready.len() == 1 { self.threads } else { 1 }
    }

    /// Seed of one run.
    pub fn seed(&self, run: &Ready) -> u64 {
        self.lanes[run.lane].seed
    }

    /// An error of training, with the seeds of the group.
    pub fn failed(&self, cause: TrainError) -> RunError {
        let seeds = self.lanes.iter().map(|l| l.seed).collect();
        RunError::Train { seeds, cause: Box::new(cause), last: vec![] }
    }

    fn folder_path(&self, name: &str, seed: u64) -> PathBuf {
        folder_path(&self.options.out, self.experiment, name, seed)
    }

    /// Opens every run's folder: what its model starts from, and where it left off. `first` makes a new model from a
    /// seed of its own.
    ///
    /// # Errors
    /// If a folder cannot be used or holds a run with other settings.
    pub fn open<K: Kept>(
        &self,
        first: impl Fn(&Ready, u64) -> Result<K, TrainError>,
    ) -> Result<Vec<Opened<K>>, RunError> {
        self.ready
            .iter()
            .map(|run| {
                let seed = rng::role_seed(self.seed(run), self.part.number());
                self.open_one(run, || first(run, seed).map_err(|e| self.failed(e)))
            })
            .collect()
    }

    fn open_one<K: Kept>(
        &self,
        run: &Ready,
        first: impl FnOnce() -> Result<K, RunError>,
    ) -> Result<Opened<K>, RunError> {
        let mut folder =
            RunFolder::create_or_open(&self.options.out, self.experiment, run.name, self.seed(run))?;
        if self.options.existing == Existing::Fresh {
            folder.clear()?;
        }
        if let Some(theirs) = folder.read_spec()?
            && theirs != run.spec
        {
            let (line, theirs, ours) = first_difference(&theirs, &run.spec);
            return Err(RunError::OtherSpec { path: folder.path().join("spec.toml"), line, theirs, ours });
        }
        let saved = match folder.load_resume::<K>()? {
            Some(resume) => {
                let state: State = serde_json::from_value(resume.state)
                    .map_err(|e| RunError::State { path: folder.path().to_owned(), detail: e.to_string() })?;
                Some((resume.model, state))
            }
            None => None,
        };
        let (model, state) = match saved.filter(|(_, state)| state.step > 0) {
            Some((model, state)) => {
                folder.rewind_to(state.step)?;
                (model, state)
            }
            // Nothing was done yet: anew, so that step 0 is not evaluated twice.
            None => {
                folder.clear()?;
                (first()?, State::default())
            }
        };
        folder.write_spec(&run.spec)?;
        Ok(Opened { folder, model, state })
    }

    /// Trains the runs to their ends and reads back what they recorded; `devices` say what computes each, for people.
    ///
    /// # Errors
    /// If records cannot be kept, a teacher cannot be used or the device fails.
    pub fn train<E: Engine<Params: Kept>>(
        &self,
        engine: &mut E,
        opened: Vec<Opened<E::Params>>,
        devices: Vec<String>,
        threads: usize,
    ) -> Result<Vec<RunRecord>, RunError> {
        let observer = self.options.observer;
        let mut members = Vec::new();
        for ((run, opened), device) in self.ready.iter().zip(opened).zip(devices) {
            let Opened { folder, state, .. } = opened;
            let seed = self.seed(run);
            observer.started(run.name, seed, state.step, run.training.steps);
            let recorder = FolderRecorder::new(folder, run.name, seed, device, threads, &state, observer)?;
            let (training, supervision) = (run.training.clone(), run.supervision.clone());
            members.push(Member::new(training, supervision, run.lane, state, Box::new(recorder)));
        }
        let control = Control { cancel: self.options.cancel, save_every: self.options.save_every };
        train(engine, &mut members, control).map_err(|cause| RunError::Train {
            seeds: self.lanes.iter().map(|l| l.seed).collect(),
            cause: Box::new(cause),
            last: self
                .ready
                .iter()
                .zip(&members)
                .filter(|(_, m)| m.active())
                .map(|(run, _)| self.last_good(run.name, self.seed(run)))
                .collect(),
        })?;
        let mut records = Vec::new();
        for (run, member) in self.ready.iter().zip(members) {
            let seed = self.seed(run);
            let metrics: Vec<Metric> = open_read_only(&self.folder_path(run.name, seed))?.read_metrics()?;
            records.push(RunRecord {
                name: run.name.to_owned(),
                arm: run.arm.to_owned(),
                at: run.at,
                learning_rate: run.training.learning_rate,
                seed,
                status: member.outcome.as_ref().map_or(Status::Running, Status::of),
                final_accuracy: metrics.last().map(|m| m.accuracy),
                metrics,
                budget: run.training.steps * run.training.batch as u64,
            });
        }
        Ok(records)
    }

    /// What the runs of each seed share, for models that read sign vectors.
    ///
    /// # Panics
    /// If the task has no such samples: the family's `resolve` refuses it.
    pub fn sign_lanes(&self) -> Vec<Lane> {
        let lane = |lane: &SeedLane| {
            let task = self.task.boolean(lane.seed).expect("the plan was checked: sign vectors are labelled");
            let held_out = Stream::new(Purpose::Evaluation, 0);
            let evaluation = task.samples(lane.seed, held_out, 0, self.evaluation_samples);
            let stream = Stream::new(Purpose::Data, self.part.number());
            Lane { task, seed: lane.seed, stream, evaluation, teacher: lane.teacher.clone() }
        };
        self.lanes.iter().map(lane).collect()
    }

    /// What the runs of each seed share, for models of token sequences with so many positions and logits.
    ///
    /// # Errors
    /// If a sequence does not fit, or nothing is predicted in the held-out ones.
    pub fn sequence_lanes(&self, positions: usize, vocab: usize) -> Result<Vec<SequenceLane>, RunError> {
        let role = match self.part {
            Part::Teacher => Role::Training,
            Part::Student => Role::Student,
        };
        let mut lanes = Vec::new();
        for SeedLane { seed, teacher } in &self.lanes {
            let sequences = |role| {
                let task = self.task.sequences(*seed, role);
                task.expect("the plan was checked: transformers learn this task")
            };
            let held_out = sequences(Role::Evaluation);
            let count = self.evaluation_samples;
            let evaluation = (0..count)
                .step_by(EVALUATION_BATCH)
                .map(|first| held_out.batch(first as u64, EVALUATION_BATCH.min(count - first), positions))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| self.failed(TrainError::Model(e.into())))?;
            if evaluation.iter().all(|batch| batch.reads.is_empty()) {
                let text = "no position of the held-out sentences is selected for prediction: raise evaluation.samples";
                return Err(self.failed(TrainError::Model(text.into())));
            }
            let (task, teacher) = (sequences(role), teacher.clone());
            lanes.push(SequenceLane { task, positions, vocab, evaluation, teacher });
        }
        Ok(lanes)
    }

    /// Where a run that broke off can be taken up, for people.
    fn last_good(&self, name: &str, seed: u64) -> String {
        let folder = self.folder_path(name, seed);
        let view = open_read_only(&folder);
        let step = view.as_ref().ok().and_then(RunView::resume_step);
        let kept = view.ok().and_then(|v| v.checkpoints().ok()).and_then(|mut all| all.pop());
        match (step, kept) {
            (Some(step), Some((_, path))) => {
                format!(
                    "{name} seed {seed} resumes at step {step}, its last checkpoint is {}",
                    path.display()
                )
            }
            (Some(step), None) => format!("{name} seed {seed} resumes at step {step}"),
            (None, Some((_, path))) => format!(
                "{name} seed {seed} begins anew (no resume state yet), its last checkpoint is {}",
                path.display()
            ),
            (None, None) => format!("{name} seed {seed} begins anew (nothing was saved yet)"),
        }
    }
}

/// The folder of one run.
pub fn folder_path(out: &Path, experiment: &str, name: &str, seed: u64) -> PathBuf {
    out.join(experiment).join(name).join(format!("seed-{seed}"))
}

fn first_difference(theirs: &str, ours: &str) -> (usize, String, String) {
    let (mut a, mut b) = (theirs.lines(), ours.lines());
    for line in 1.. {
        match (a.next(), b.next()) {
            (None, None) => break,
            (x, y) if x != y => {
                return (line, x.unwrap_or("").to_owned(), y.unwrap_or("").to_owned());
            }
            _ => {}
        }
    }
    (0, String::new(), String::new())
}
