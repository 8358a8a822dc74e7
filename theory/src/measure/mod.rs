//! Measured sample complexity of the first phase: run trials, find the smallest batch that is enough.
//!
//! Two questions, two functions. [`smallest_batch`] asks for the smallest B at which a fresh trial succeeds
//! with probability at least `1 - delta` (independent trials at each fixed B, Clopper-Pearson interval).
//! [`recovery_batches`] lets each trial's batch grow until its criterion first holds, giving a *distribution*
//! over trials (or teachers): medians, and the fraction that fails below a maximum. The second is cheaper;
//! being a first hitting time on a grid it is slightly smaller than the fixed-B median.
//!
//! Both take a log of finished trials that can be serialised and passed back in, and a progress callback that
//! may cancel.

mod search;
mod teachers;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

pub use search::{AtBatch, BatchLog, SearchSpec, SmallestBatch, smallest_batch};
pub use teachers::{GrowthSpec, RecoveryBatches, RecoveryLog, recovery_batches};

use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::gradient::fourier_gap;
use crate::net::ReluNet;
use crate::two_phase::{
    FirstLayer, FirstPhase, Problem, SecondPhase, Supervision, TeacherSpec, final_teacher, hinge_loss,
    phase_one_teacher, train_second_layer,
};

/// Where the student's supervision comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Labels (one-shot distillation from a perfect teacher).
    Labels,
    /// A phase-one teacher; trial `t` uses teacher `t`, or always the same one.
    PhaseOne {
        /// How it is built.
        teacher: TeacherSpec,
        /// `Some(i)`: always teacher `i`.
        fixed: Option<u64>,
    },
    /// A teacher after both phases.
    Final {
        /// How its first phase is built.
        teacher: TeacherSpec,
        /// Its second phase.
        second: SecondPhase,
        /// `Some(i)`: always teacher `i`.
        fixed: Option<u64>,
    },
    /// `count` phase-one teachers with different seeds, pooled (see [`Supervision::Pool`]); trial `t` uses
    /// teachers `t count ..`.
    Pool {
        /// How each is built.
        teacher: TeacherSpec,
        /// How many.
        count: usize,
        /// Prune each teacher's hidden weights below this fraction of the neuron's largest (0 keeps all).
        prune: f64,
    },
    /// Any checkpoints (one, or several pooled).
    Checkpoints(Vec<ReluNet>),
}

/// When a trial counts as a success.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Criterion {
    /// At least this fraction of the neurons ranks exactly the support on top.
    Neurons(f64),
    /// The support wins the neurons' votes.
    Vote,
    /// The support has the largest summed squared gradients.
    Pooled,
    /// After a second phase on labels the hinge loss on fresh samples is at most `epsilon`.
    Loss {
        /// Target hinge loss.
        epsilon: f64,
        /// Second phase.
        second: SecondPhase,
        /// First layer handed to it.
        layer: FirstLayer,
    },
}

/// The experiment of one trial.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Sparse parity problem.
    pub problem: Problem,
    /// Supervision of the first phase.
    pub source: Source,
    /// Distinct student neurons simulated.
    pub neurons: usize,
    /// Success.
    pub criterion: Criterion,
    /// Seed of all trials.
    pub seed: u64,
    /// Ends a trial in the middle with [`TheoryError::Cancelled`] soon after it is set; large batches take
    /// minutes.
    pub cancel: Option<Arc<AtomicBool>>,
}

/// What a progress callback sees.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Progress {
    /// Finished trials (at this batch, or in all).
    pub done: u64,
    /// Most trials that may be needed for it.
    pub total: u64,
    /// Batch under test, or the largest needed so far.
    pub batch: u64,
    /// Successes among the finished.
    pub successes: u64,
}

/// Returns `Break` to cancel; called between trials from one thread.
pub type Callback<'a> = &'a dyn Fn(&Progress) -> ControlFlow<()>;

/// A callback that never cancels.
pub fn quiet(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// An experiment with its teachers cached.
struct Bench<'a> {
    experiment: &'a Experiment,
    cache: Mutex<BTreeMap<u64, Arc<Vec<ReluNet>>>>,
}

impl<'a> Bench<'a> {
    fn new(experiment: &'a Experiment) -> Result<Self> {
        match experiment.criterion {
            Criterion::Neurons(fraction) if !(fraction > 0.0 && fraction <= 1.0) => {
                return out_of_range("fraction of neurons", fraction, "(0, 1]", "0.9 is usual");
            }
            Criterion::Loss { epsilon, .. } => check_unit("epsilon", epsilon)?,
            _ => {}
        }
        if !matches!(experiment.source, Source::Checkpoints(_)) {
            // Odd k with odd d: a fact about labels and phase-one teachers, not about trained checkpoints.
            fourier_gap(experiment.problem.dimension(), experiment.problem.k(), 0.0)?;
        }
        match &experiment.source {
            Source::Pool { count, .. } if *count == 0 || *count > 10_000 => {
                return out_of_range("pool", *count, "1..=10000", "pool a few teachers");
            }
            Source::Checkpoints(nets) if nets.is_empty() => {
                return Err(TheoryError::Shape { what: "checkpoints", expected: 1, found: 0 });
            }
            _ => {}
        }
        Ok(Self { experiment, cache: Mutex::default() })
    }

    /// The supervising networks of trial `trial`; empty for labels.
    fn networks(&self, trial: u64) -> Result<Arc<Vec<ReluNet>>> {
        let e = self.experiment;
        let key = match &e.source {
            Source::Labels | Source::Checkpoints(_) => 0,
            Source::PhaseOne { fixed, .. } | Source::Final { fixed, .. } => fixed.unwrap_or(trial),
            Source::Pool { .. } => trial,
        };
        if let Some(found) = self.cache.lock().ok().and_then(|c| c.get(&key).cloned()) {
            return Ok(found);
        }
        let nets = match &e.source {
            Source::Labels => vec![],
            Source::Checkpoints(nets) => nets.clone(),
            Source::PhaseOne { teacher, .. } => {
                vec![phase_one_teacher(&e.problem, teacher, e.seed, key)?]
            }
            Source::Final { teacher, second, .. } => {
                vec![final_teacher(&e.problem, teacher, *second, e.seed, key)?]
            }
            Source::Pool { teacher, count, prune } => (0..*count as u64)
                .map(|i| {
                    Ok(phase_one_teacher(&e.problem, teacher, e.seed, key * *count as u64 + i)?
                        .pruned(*prune))
                })
                .collect::<Result<_>>()?,
        };
        let nets = Arc::new(nets);
        if let Ok(mut cache) = self.cache.lock() {
            cache.insert(key, nets.clone());
        }
        Ok(nets)
    }

    fn phase<'b>(&'b self, nets: &'b [ReluNet], trial: u64) -> Result<FirstPhase<'b>> {
        let e = self.experiment;
        let supervision = match nets {
            [] => Supervision::Labels,
            [net] => Supervision::Net(net),
            nets => Supervision::Pool(nets),
        };
        Ok(FirstPhase::new(&e.problem, supervision, e.neurons, e.seed, trial)?.cancel_with(e.cancel.clone()))
    }

    fn success(&self, phase: &FirstPhase<'_>, trial: u64) -> Result<bool> {
        let e = self.experiment;
        let ranking = || phase.ranking();
        Ok(match e.criterion {
            Criterion::Neurons(fraction) => ranking().neurons >= fraction,
            Criterion::Vote => ranking().vote,
            Criterion::Pooled => ranking().pooled,
            Criterion::Loss { epsilon, second, layer } => {
                let (w, b) = phase.first_layer(layer);
                let zero = ndarray::Array1::zeros(w.nrows());
                let net =
                    train_second_layer(&ReluNet::new(w, b, zero, 0.0)?, &e.problem, second, e.seed, trial)?;
                hinge_loss(&net, &e.problem, 8192, e.seed, trial)?.0 <= epsilon
            }
        })
    }
}

impl Experiment {
    /// Identifies the experiment in a log, so that a log is never continued with other settings.
    fn fingerprint(&self) -> String {
        let source = match &self.source {
            Source::Checkpoints(nets) => {
                let sum: f64 = nets.iter().flat_map(|n| n.hidden().iter().chain(n.output())).sum();
                format!("{} checkpoints, weight sum {sum:e}", nets.len())
            }
            other => format!("{other:?}"),
        };
        format!(
            "{:?} | {source} | {} neurons | {:?} | seed {}",
            self.problem, self.neurons, self.criterion, self.seed
        )
    }
}

fn claim(fingerprint: &mut String, experiment: &Experiment) -> Result<()> {
    let wanted = experiment.fingerprint();
    if fingerprint.is_empty() {
        *fingerprint = wanted;
    } else if *fingerprint != wanted {
        return out_of_range(
            "log",
            fingerprint,
            format!("a log of: {wanted}"),
            "start a new log, or repeat the settings of the old one",
        );
    }
    Ok(())
}
