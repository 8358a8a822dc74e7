//! The runs of one or several seeds: teachers, their correlations, then all students, grouped as the device likes it.

use super::experiment::{Existing, Options, RunError, UsedCheckpoints};
use super::folder::{RunFolder, RunView, open_read_only};
use super::gather::{RunRecord, Status, TeacherTimeline};
use super::grammar::{self, NgramTimeline, Optimum, ProbedRun};
use super::plan::{Plan, Student, TEACHER};
use super::recorder::FolderRecorder;
use super::resolve::{Catalogue, TeacherRun};
use super::run_spec::{ResolvedDistill, RunSpec};
use super::spec::Objective;
use super::timeline;
use crate::device::Device;
use crate::distill::teacher::TeacherCheckpoint;
use crate::train::group::{Control, Engine, Lane, train};
use crate::train::member::{Member, Metric, State, Supervision, TrainError};
use crate::train::mlp_cpu::CpuMlps;
use crate::train::mlp_gpu::GpuMlps;
use crate::train::sequences::{SequenceLane, Sequences, Start};
use crate::train::settings::{Model, Training};
use crate::transformer::Transformer;
use curricle_core::distill::schedule::Schedule;
use curricle_core::model::MlpParams;
use curricle_core::model::TransformerState;
use curricle_core::model::transformer::TransformerParams;
use curricle_core::rng::{self, Purpose, Stream};
use curricle_core::task::BooleanTask;
use curricle_core::task::pcfg::{PredictionBatch, Role};
use curricle_files::Kept;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// What came of one seed.
#[derive(Default)]
pub(super) struct SeedResults {
    pub runs: Vec<RunRecord>,
    pub timeline: Option<TeacherTimeline>,
    pub used: Vec<UsedCheckpoints>,
    pub ngrams: Option<NgramTimeline>,
    pub optimum: Option<Optimum>,
    pub probed: Vec<ProbedRun>,
    /// It was ended before all was done.
    pub interrupted: bool,
}

/// Seeds that run together. The CPU takes them one by one, each with its own threads; a GPU trains those of one shape in the
/// same dispatches.
pub(super) struct SeedsRun<'a> {
    pub plan: &'a Plan,
    pub options: &'a Options<'a>,
    pub seeds: &'a [u64],
    pub threads: usize,
}

/// One seed on its way.
struct Seed {
    seed: u64,
    results: SeedResults,
    teacher: Option<TeacherRun>,
    /// Checkpoints its students follow.
    checkpoints: Vec<TeacherCheckpoint>,
    /// Its students are to run.
    goes_on: bool,
}

/// A run that is about to start.
struct Ready<'a> {
    /// Place of its seed.
    lane: usize,
    name: &'a str,
    arm: &'a str,
    at: Option<f64>,
    training: &'a Training,
    supervision: Supervision,
    spec: String,
    role: u32,
}

/// A run whose folder is open.
struct Opened<K> {
    folder: RunFolder,
    model: K,
    state: State,
}

/// Teacher and students draw different samples and different first weights.
const TEACHER_ROLE: u32 = 0;
const STUDENT_ROLE: u32 = 1;

/// Held-out sentences the optimum is computed on.
const OPTIMUM_SENTENCES: usize = 500;

/// Held-out sequences per forward pass.
const EVALUATION_BATCH: usize = 64;

impl SeedsRun<'_> {
    /// Results in the order of the seeds.
    pub fn run(&self) -> Result<Vec<SeedResults>, RunError> {
        let mut seeds: Vec<Seed> = self.seeds.iter().map(|&seed| self.seed(seed)).collect();
        if let Some(training) = &self.plan.teacher {
            self.teachers(training, &mut seeds)?;
        }
        if seeds.iter().any(|s| s.goes_on) {
            match self.cancelled() {
                true => seeds.iter_mut().for_each(|s| s.results.interrupted = true),
                false => self.students(&mut seeds)?,
            }
        }
        // In the order of the plan, whichever group they were in.
        let order = |r: &RunRecord| self.plan.students.iter().position(|s| s.name == r.name);
        Ok(seeds
            .into_iter()
            .map(|mut seed| {
                seed.results.runs.sort_by_key(order);
                seed.results
            })
            .collect())
    }

    fn cancelled(&self) -> bool {
        self.options.cancel.load(Ordering::Relaxed)
    }

    fn seed(&self, seed: u64) -> Seed {
        let results = SeedResults::default();
        Seed { seed, results, teacher: None, checkpoints: vec![], goes_on: true }
    }

    fn folder_path(&self, name: &str, seed: u64) -> PathBuf {
        self.plan.root(&self.options.out).join(name).join(format!("seed-{seed}"))
    }

    /// Trains the teachers, measures them, and decides whose students can run.
    fn teachers(&self, training: &Training, seeds: &mut [Seed]) -> Result<(), RunError> {
        let ready = seeds
            .iter()
            .enumerate()
            .map(|(lane, seed)| Ready {
                lane,
                name: TEACHER,
                arm: TEACHER,
                at: None,
                training,
                supervision: Supervision::Labels,
                spec: RunSpec::new(self.plan, TEACHER, TEACHER, seed.seed, training).to_toml(),
                role: TEACHER_ROLE,
            })
            .collect();
        let records = self.group(ready, seeds)?;
        for (seed, record) in seeds.iter_mut().zip(records) {
            let status = record.status;
            seed.results.runs.push(record);
            if status == Status::Finished {
                let folder = self.folder_path(TEACHER, seed.seed);
                if let Some(spec) = &self.plan.correlations {
                    let device = &self.options.device;
                    let task = self.boolean(seed.seed);
                    let timeline =
                        timeline::measure(&folder, spec, &task, seed.seed, device, self.threads).map_err(
                            |cause| RunError::Correlations { seed: seed.seed, cause: Box::new(cause) },
                        )?;
                    seed.results.timeline = Some(TeacherTimeline { seed: seed.seed, timeline });
                }
                self.measure_grammar(&folder, &mut seed.results, seed.seed)?;
                let recommended =
                    seed.results.timeline.as_ref().and_then(|t| t.timeline.recommended.as_ref());
                let recommended = recommended.map(|r| r.step);
                seed.teacher = Some(TeacherRun::of_folder(&folder, training.batch, recommended)?);
                continue;
            }
            seed.goes_on = false;
            if self.cancelled() {
                continue;
            }
            let reason = match status {
                Status::Diverged => "its teacher diverged",
                _ => "its teacher was interrupted",
            };
            for student in &self.plan.students {
                let skipped = self.skip(student, seed.seed, reason);
                seed.results.runs.push(skipped);
            }
        }
        Ok(())
    }

    fn students(&self, seeds: &mut [Seed]) -> Result<(), RunError> {
        let root = self.plan.root(&self.options.out);
        // MLPs before transformers, then by batch size.
        let mut groups: BTreeMap<(bool, usize), Vec<Ready>> = BTreeMap::new();
        for (lane, seed) in seeds.iter_mut().enumerate().filter(|(_, s)| s.goes_on) {
            let mut catalogue = Catalogue::default();
            let mut resolved: Vec<(&Student, Option<Schedule>)> = Vec::new();
            for student in &self.plan.students {
                let training = &student.training;
                let Some(distill) = &student.distill else {
                    resolved.push((student, None));
                    continue;
                };
                let found = catalogue.resolve(
                    distill,
                    seed.teacher.as_ref(),
                    seed.seed,
                    training.batch,
                    &training.model,
                )?;
                match found {
                    Ok(schedule) => resolved.push((student, Some(schedule))),
                    Err(reason) => {
                        let skipped = self.skip(student, seed.seed, &reason);
                        seed.results.runs.push(skipped);
                    }
                }
            }
            seed.checkpoints = catalogue.checkpoints().to_vec();
            for (student, schedule) in resolved {
                let training = &student.training;
                let mut run = RunSpec::new(self.plan, &student.name, &student.arm, seed.seed, training);
                let mut supervision = Supervision::Labels;
                if let (Some(schedule), Some(distill)) = (schedule, &student.distill) {
                    run.distill = Some(ResolvedDistill::new(distill, &schedule, &seed.checkpoints, &root));
                    let steps: Vec<Option<u64>> = seed.checkpoints.iter().map(|c| c.step).collect();
                    let used = schedule.checkpoints().iter().filter_map(|&c| steps[c]).collect();
                    let run = student.name.clone();
                    seed.results.used.push(UsedCheckpoints { run, seed: seed.seed, steps: used });
                    let (temperature, label_mix) = (distill.temperature, distill.label_mix);
                    supervision = Supervision::Teacher { schedule, temperature, label_mix, steps };
                }
                let kind = matches!(training.model, Model::Transformer(_));
                groups.entry((kind, training.batch)).or_default().push(Ready {
                    lane,
                    name: &student.name,
                    arm: &student.arm,
                    at: student.at,
                    training,
                    supervision,
                    spec: run.to_toml(),
                    role: STUDENT_ROLE,
                });
            }
        }
        for (_, group) in groups {
            let lanes: Vec<usize> = group.iter().map(|r| r.lane).collect();
            let records = self.group(group, seeds)?;
            for (lane, record) in lanes.into_iter().zip(records) {
                seeds[lane].results.runs.push(record);
            }
        }
        self.probe(seeds)
    }

    /// n-gram robustness of a teacher's checkpoints, and the most any model can reach.
    fn measure_grammar(&self, folder: &Path, results: &mut SeedResults, seed: u64) -> Result<(), RunError> {
        let Some(task) = self.plan.task.pcfg() else { return Ok(()) };
        let failed = |cause| RunError::Grammar { seed, cause: Box::new(cause) };
        if task.objective == Objective::Masked {
            let sentences = self.plan.evaluation.samples.min(OPTIMUM_SENTENCES);
            results.optimum = Some(grammar::optimum(folder, task, seed, sentences).map_err(failed)?);
        }
        if let Some(spec) = &self.plan.ngrams {
            self.options
                .observer
                .note(&format!("seed {seed}: n-gram robustness of the teacher's checkpoints"));
            let machine = (&self.options.device, self.threads);
            let measured = grammar::ngrams(folder, spec, task, seed, machine, self.options.cancel);
            results.ngrams = measured.map_err(failed)?;
        }
        Ok(())
    }

    /// Probes of every finished run for non-terminals.
    fn probe(&self, seeds: &mut [Seed]) -> Result<(), RunError> {
        let (Some(spec), Some(task)) = (&self.plan.nonterminals, self.plan.task.pcfg()) else {
            return Ok(());
        };
        for seed in seeds.iter_mut().filter(|s| s.goes_on) {
            let finished = |r: &&RunRecord| r.status == Status::Finished;
            let names: Vec<String> =
                seed.results.runs.iter().filter(finished).map(|r| r.name.clone()).collect();
            for name in names {
                if self.cancelled() {
                    seed.results.interrupted = true;
                    return Ok(());
                }
                let folder = self.folder_path(&name, seed.seed);
                let device = &self.options.device;
                let found =
                    grammar::nonterminals(&folder, (&name, seed.seed), spec, task, device, self.threads);
                seed.results.probed.push(
                    found.map_err(|cause| RunError::Grammar { seed: seed.seed, cause: Box::new(cause) })?,
                );
            }
        }
        Ok(())
    }

    /// The parity of one seed.
    fn boolean(&self, seed: u64) -> BooleanTask {
        let settings = self.plan.task.boolean().expect("the plan was checked: this is a parity");
        settings.build(seed).expect("the plan was checked")
    }

    /// Trains runs of one role, kind of model and batch size side by side and reads back what they recorded.
    fn group(&self, ready: Vec<Ready>, seeds: &[Seed]) -> Result<Vec<RunRecord>, RunError> {
        match ready.first().map(|r| &r.training.model) {
            None => Ok(vec![]),
            Some(Model::Mlp(_)) => self.mlps(ready, seeds),
            Some(Model::Transformer(_)) => self.transformers(ready, seeds),
        }
    }

    /// Threads of each model on the CPU: a single one gets all; several share them, one each.
    fn each(&self, ready: &[Ready]) -> usize {
        if ready.len() == 1 { self.threads } else { 1 }
    }

    fn failed(&self, cause: TrainError) -> RunError {
        RunError::Train { seeds: self.seeds.to_vec(), cause: Box::new(cause), last: vec![] }
    }

    fn mlps(&self, ready: Vec<Ready>, seeds: &[Seed]) -> Result<Vec<RunRecord>, RunError> {
        let mut opened = Vec::new();
        for run in &ready {
            let mlp = run.training.mlp();
            let first = |seed| MlpParams::new(&mlp.shape, mlp.init, seed);
            opened.push(self.open(run, seeds[run.lane].seed, first)?);
        }
        let role = ready[0].role;
        let lanes = seeds
            .iter()
            .map(|seed| {
                let task = self.boolean(seed.seed);
                let held_out = Stream::new(Purpose::Evaluation, 0);
                let evaluation = task.samples(seed.seed, held_out, 0, self.plan.evaluation.samples);
                let stream = Stream::new(Purpose::Data, role);
                Lane { task, seed: seed.seed, stream, evaluation, teacher: seed.checkpoints.clone() }
            })
            .collect();
        let models = || opened.iter().zip(&ready).map(|(o, r)| (&o.model, r.lane));
        match &self.options.device {
            Device::Cpu => {
                let each = self.each(&ready);
                let models: Vec<_> = models().map(|(params, lane)| (params, lane, each)).collect();
                let mut engine = CpuMlps::new(lanes, &models, self.threads);
                let devices = (0..ready.len()).map(|i| format!("cpu: {}", engine.path(i))).collect();
                self.train(&mut engine, ready, opened, devices, each, seeds)
            }
            Device::Gpu(context) => {
                let models: Vec<_> = models().collect();
                let mut engine = GpuMlps::new(context, lanes, &models).map_err(|e| self.failed(e))?;
                let adapter = context.name();
                let devices = ready
                    .iter()
                    .enumerate()
                    .map(|(i, run)| format!("gpu {adapter}: {}", engine.path(i, run.training.batch)));
                let devices = devices.collect();
                self.train(&mut engine, ready, opened, devices, 1, seeds)
            }
        }
    }

    fn transformers(&self, ready: Vec<Ready>, seeds: &[Seed]) -> Result<Vec<RunRecord>, RunError> {
        let role = if ready[0].role == TEACHER_ROLE { Role::Training } else { Role::Student };
        let configs = || ready.iter().map(|r| &r.training.transformer().config);
        let positions = configs().map(|c| c.positions).min().unwrap_or(0);
        let vocab = configs().map(|c| c.vocab).next().unwrap_or(0);
        let mut lanes = Vec::new();
        for seed in seeds {
            let held_out = self.plan.task.sequences(seed.seed, Role::Evaluation);
            let count = self.plan.evaluation.samples;
            let evaluation = (0..count)
                .step_by(EVALUATION_BATCH)
                .map(|first| held_out.batch(first as u64, EVALUATION_BATCH.min(count - first), positions))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| self.failed(TrainError::Model(e.into())))?;
            if evaluation.iter().all(|batch| batch.reads.is_empty()) {
                let text = "no position of the held-out sentences is selected for prediction: raise evaluation.samples";
                return Err(self.failed(TrainError::Model(text.into())));
            }
            lanes.push(SequenceLane {
                task: self.plan.task.sequences(seed.seed, role),
                positions,
                vocab,
                evaluation,
                teacher: seed.checkpoints.clone(),
            });
        }
        let mut opened = Vec::new();
        for run in &ready {
            let config = &run.training.transformer().config;
            let first = |seed| {
                let params = TransformerParams::new(config.clone(), seed).expect("the plan was checked");
                TransformerState::new(params)
            };
            opened.push(self.open(run, seeds[run.lane].seed, first)?);
        }
        self.tell_memory(&ready, &lanes)?;
        let each = self.each(&ready);
        let starts: Vec<Start> = opened
            .iter()
            .zip(&ready)
            .map(|(opened, run)| Start {
                state: &opened.model,
                lane: run.lane,
                seed: rng::role_seed(seeds[run.lane].seed, run.role),
                threads: each,
            })
            .collect();
        let device = &self.options.device;
        let mut engine = Sequences::new(device, lanes, &starts, self.threads).map_err(|e| self.failed(e))?;
        drop(starts);
        let name = match device {
            Device::Cpu => "cpu".to_owned(),
            Device::Gpu(context) => format!("gpu {}", context.name()),
        };
        let devices = (0..ready.len()).map(|i| format!("{name}: {}", engine.path(i))).collect();
        self.train(&mut engine, ready, opened, devices, each, seeds)
    }

    /// What the models of a group hold in memory while they train, told once for each size.
    fn tell_memory(&self, ready: &[Ready], lanes: &[SequenceLane]) -> Result<(), RunError> {
        let mut told = Vec::new();
        for run in ready {
            let training = run.training;
            let config = &training.transformer().config;
            if told.contains(&config) {
                continue;
            }
            told.push(config);
            let evaluation = &lanes[run.lane].evaluation;
            let length = evaluation.iter().map(|b| b.length).max().unwrap_or(1);
            let reads = |b: &PredictionBatch| b.reads.len().div_ceil(b.sequences);
            let reads = evaluation.iter().map(reads).max().unwrap_or(1) * training.batch;
            let batch = training.batch;
            let bytes = Transformer::activation_bytes(
                config,
                &self.options.device,
                self.each(ready),
                [batch, length, reads],
            )
            .map_err(|e| self.failed(TrainError::Model(e)))?;
            let mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
            self.options.observer.note(&format!(
                "{}: {} parameters ({} with gradient and moments), about {} of activations for {batch} sequences of {length}",
                run.name,
                config.parameters(),
                mib(16.0 * config.parameters() as f64),
                mib(bytes as f64),
            ));
        }
        Ok(())
    }

    fn train<E: Engine<Params: Kept>>(
        &self,
        engine: &mut E,
        ready: Vec<Ready>,
        opened: Vec<Opened<E::Params>>,
        devices: Vec<String>,
        threads: usize,
        seeds: &[Seed],
    ) -> Result<Vec<RunRecord>, RunError> {
        let mut members = Vec::new();
        for ((run, opened), device) in ready.iter().zip(opened).zip(devices) {
            let Opened { folder, state, .. } = opened;
            let (seed, observer) = (seeds[run.lane].seed, self.options.observer);
            observer.started(run.name, seed, state.step, run.training.steps);
            let recorder = FolderRecorder::new(folder, run.name, seed, device, threads, &state, observer)?;
            let (training, supervision) = (run.training.clone(), run.supervision.clone());
            members.push(Member::new(training, supervision, run.lane, state, Box::new(recorder)));
        }
        let control = Control { cancel: self.options.cancel, save_every: self.options.save_every };
        train(engine, &mut members, control).map_err(|cause| RunError::Train {
            seeds: self.seeds.to_vec(),
            cause: Box::new(cause),
            last: ready
                .iter()
                .zip(&members)
                .filter(|(_, m)| m.active())
                .map(|(run, _)| self.last_good(run.name, seeds[run.lane].seed))
                .collect(),
        })?;
        let mut records = Vec::new();
        for (run, member) in ready.iter().zip(members) {
            let seed = seeds[run.lane].seed;
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

    fn skip(&self, student: &Student, seed: u64, reason: &str) -> RunRecord {
        self.options.observer.ended(&student.name, seed, Status::Skipped, Some(reason));
        RunRecord {
            name: student.name.clone(),
            arm: student.arm.clone(),
            at: student.at,
            learning_rate: student.training.learning_rate,
            seed,
            status: Status::Skipped,
            metrics: vec![],
            final_accuracy: None,
            budget: student.training.steps * student.training.batch as u64,
        }
    }

    /// Opens a run's folder: what the model starts from, and where it left off. `first` makes a new model from a seed.
    fn open<K: Kept>(
        &self,
        run: &Ready,
        seed: u64,
        first: impl FnOnce(u64) -> K,
    ) -> Result<Opened<K>, RunError> {
        let mut folder = RunFolder::create_or_open(&self.options.out, &self.plan.experiment, run.name, seed)?;
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
                (first(rng::role_seed(seed, run.role)), State::default())
            }
        };
        folder.write_spec(&run.spec)?;
        Ok(Opened { folder, model, state })
    }
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
