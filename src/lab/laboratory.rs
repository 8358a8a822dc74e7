//! The laboratory in a program: a spec in, results, verdicts and the report out, with a user's own kinds of things.
//!
//! ```no_run
//! use curricle_lab::Laboratory;
//!
//! let spec = std::fs::read_to_string("experiments/parity-mlp/quick.toml")?;
//! let finished = Laboratory::new().run(&spec, "runs".as_ref())?;
//! for claim in &finished.claims {
//!     println!("{}: {:?}", claim.name, claim.verdict);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::claims::Claim;
use crate::device::DeviceChoice;
use crate::family::Family;
use crate::measure::Measurement;
use crate::registry::Registry;
use crate::run::experiment::{Results, run};
use crate::run::failure::RunError;
use crate::run::gather::Status;
use crate::run::judge::judge;
use crate::run::options::{Existing, Observer, Options};
use crate::run::plan::Plan;
use crate::run::report_data::{Context, report_data};
use crate::run::spec::{SpecError, SpecFile};
use crate::train::member::Metric;
use curricle_core::task::TaskKind;
use curricle_gpu::GpuError;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum LaboratoryError {
    /// The spec.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The device.
    #[error(transparent)]
    Device(#[from] GpuError),
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The report cannot be written.
    #[error("cannot write the report to {}: {cause}", folder.display())]
    Report {
        /// Where.
        folder: PathBuf,
        /// Why.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What came of an experiment.
#[derive(Debug)]
pub struct Finished {
    /// What the spec resolved to.
    pub plan: Plan,
    /// Every run.
    pub results: Results,
    /// The claims, judged.
    pub claims: Vec<Claim>,
    /// The report's page.
    pub report: PathBuf,
}

/// Runs specs; on all cores of the CPU unless told otherwise.
#[derive(Debug, Clone)]
pub struct Laboratory {
    registry: Registry,
    device: DeviceChoice,
    threads: usize,
}

impl Default for Laboratory {
    fn default() -> Self {
        Self::new()
    }
}

impl Laboratory {
    /// With the kinds of things that curricle brings.
    pub fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { registry: Registry::builtin(), device: DeviceChoice::Cpu, threads }
    }

    /// With one more kind of task.
    #[must_use]
    pub fn task(self, kind: impl TaskKind + 'static) -> Self {
        Self { registry: self.registry.task(kind), ..self }
    }

    /// With one more family of models.
    #[must_use]
    pub fn family(self, family: impl Family + 'static) -> Self {
        Self { registry: self.registry.family(family), ..self }
    }

    /// With one more measurement.
    #[must_use]
    pub fn measurement(self, measurement: impl Measurement + 'static) -> Self {
        Self { registry: self.registry.measurement(measurement), ..self }
    }

    /// On another device.
    #[must_use]
    pub fn device(self, device: DeviceChoice) -> Self {
        Self { device, ..self }
    }

    /// With so many threads.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self }
    }

    /// Checks a spec.
    ///
    /// # Errors
    /// Names the line or the key, what is wrong and what is allowed.
    pub fn plan(&self, spec: &str) -> Result<Plan, SpecError> {
        let path = Path::new("spec");
        Plan::resolve_with(SpecFile::parse(path, spec, &[])?, path, &self.registry)
    }

    /// Runs a spec and writes its report. Run folders lie below `out` as those of `curricle run`; what is already there is gone
    /// on with.
    ///
    /// # Errors
    /// If the spec is refused, the device cannot be opened, a run stops, or something cannot be written.
    pub fn run(&self, spec: &str, out: &Path) -> Result<Finished, LaboratoryError> {
        let plan = self.plan(spec)?;
        let began = Instant::now();
        let device = self.device.open()?;
        let described = device.describe(self.threads);
        let never = AtomicBool::new(false);
        let options = Options {
            out: out.to_owned(),
            existing: Existing::Resume,
            device,
            threads: self.threads,
            cancel: &never,
            observer: &Quiet,
            save_every: Duration::from_secs(30),
        };
        let results = run(&plan, &options)?;
        let claims = judge(&plan, &results);
        let wall_seconds = began.elapsed().as_secs_f64();
        let context = Context { device: &described, command: "a program on the library", wall_seconds };
        let data = report_data(&plan, &results, &claims, context);
        let folder = plan.root(out);
        let report = curricle_report::write(&data, &folder)
            .map_err(|cause| LaboratoryError::Report { folder, cause: cause.into() })?
            .html;
        Ok(Finished { plan, results, claims, report })
    }
}

/// An observer that is told and says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Observer for Quiet {
    fn started(&self, _: &str, _: u64, _: u64, _: u64) {}
    fn progress(&self, _: &str, _: u64, _: u64) {}
    fn evaluated(&self, _: &str, _: u64, _: &Metric) {}
    fn ended(&self, _: &str, _: u64, _: Status, _: Option<&str>) {}
    fn note(&self, _: &str) {}
}
