//! What a checkpoint teaches: correlations of its outputs with monomials, and how they change over a run.
//!
//! A probe never looks inside a model. It asks for logits through [`LogitModel`], so an MLP, a transformer, one
//! layer's linear readout or a closure are probed by the same code.

pub mod correlation;
mod error;
pub mod layers;
mod least_squares;
pub mod model;
pub mod monomials;
pub mod ngram;
pub mod noise;
pub mod nonterminal;
pub mod phases;
mod planes;
pub mod sequence;
pub mod statistic;
pub mod transition;

pub use correlation::{Coefficient, Correlations, Request, Sampling, correlations};
pub use error::ProbeError;
pub use layers::{LayerError, LayerReadout, ReadoutFit};
pub use monomials::{KnownSupport, MAX_DEGREE, MAX_MONOMIALS, Monomial, Monomials};
pub use sequence::{SequenceModel, SequenceProbeError};
pub use statistic::Statistic;
pub use transition::{CheckpointCorrelations, Evaluation, Timeline, timeline, timeline_of};

use crate::engine::cpu::Mlp;
use crate::engine::gpu::GpuMlp;
use crate::task::Samples;

/// Why a model could not produce logits (a lost device, say).
pub type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// Anything that maps Boolean inputs to C logits.
///
/// Probes call [`logits`](Self::logits) from one thread with blocks of at most [`correlation::CHUNK`] samples; the model
/// may use all cores inside. It has to be a function of the sample alone, whatever block the sample comes in.
pub trait LogitModel {
    /// Input dimension.
    fn d(&self) -> usize;
    /// Number of logits, at least 2.
    fn classes(&self) -> usize;
    /// Writes the logits of all samples, [n, C] row-major.
    ///
    /// # Errors
    /// Whatever keeps the model from computing.
    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError>;
}

/// A closure as a model.
pub struct FromFn<F> {
    /// Input dimension.
    pub d: usize,
    /// Number of logits.
    pub classes: usize,
    /// Writes the logits, [n, C] row-major.
    pub function: F,
}

impl<F: Fn(&Samples, &mut [f32])> LogitModel for FromFn<F> {
    fn d(&self) -> usize {
        self.d
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        (self.function)(samples, logits);
        Ok(())
    }
}

impl LogitModel for Mlp {
    fn d(&self) -> usize {
        Mlp::d(self)
    }

    fn classes(&self) -> usize {
        Mlp::classes(self)
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        Mlp::logits(self, samples, logits);
        Ok(())
    }
}

impl LogitModel for GpuMlp {
    fn d(&self) -> usize {
        self.group().shape().d
    }

    fn classes(&self) -> usize {
        self.group().shape().classes
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        Ok(GpuMlp::logits(self, samples, logits)?)
    }
}

impl LogitModel for Box<dyn LogitModel> {
    fn d(&self) -> usize {
        self.as_ref().d()
    }

    fn classes(&self) -> usize {
        self.as_ref().classes()
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        self.as_ref().logits(samples, logits)
    }
}
