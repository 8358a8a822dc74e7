//! What a model can be asked, whoever computes it.

use super::transformer::{TokenBatch, TransformerConfig};
use crate::math::accuracy;
use crate::optim::{Steps, StepsResult};
use crate::task::Samples;

/// Why a model could not produce logits (a lost device, say).
pub type ModelError = Box<dyn std::error::Error + Send + Sync>;

/// Anything that maps Boolean inputs to C logits.
///
/// Probes call [`logits`](Self::logits) from one thread with blocks of samples; the model
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

/// A model that reads sign vectors and trains by consecutive SGD steps.
///
/// Equal calls on equal parameters give equal bits, whatever the number of threads: a resumed run depends on it.
pub trait SignModel: LogitModel {
    /// The parameters with whatever else training needs to go on.
    type Params;

    /// Takes all steps.
    fn train(&mut self, steps: &Steps) -> StepsResult;

    /// The model as it is now.
    fn to_params(&self) -> Self::Params;

    /// Which code computes, for people.
    fn path(&self) -> String {
        "plain".to_owned()
    }

    /// Fraction of labelled samples whose largest logit is the label's; of equal logits the lowest class counts, and a NaN
    /// is never right. NaN without samples.
    ///
    /// # Errors
    /// Whatever keeps the model from computing.
    ///
    /// # Panics
    /// If the samples have no labels.
    fn accuracy(&self, samples: &Samples) -> Result<f64, ModelError> {
        assert_eq!(samples.labels.len(), samples.len(), "labelled samples are needed");
        let mut logits = vec![0.0; samples.len() * self.classes()];
        self.logits(samples, &mut logits)?;
        Ok(accuracy(&logits, self.classes(), &samples.labels))
    }
}

/// A model of token sequences, in evaluation mode: no dropout, a function of the sequence alone.
///
/// Probes call it from one thread; it may use all cores or a device inside.
pub trait SequenceModel {
    /// What it looks like.
    fn config(&self) -> &TransformerConfig;
    /// Logits at the positions `reads` (b * length + t, strictly ascending), \[reads, vocab\].
    ///
    /// # Errors
    /// A batch that does not fit the model, or whatever keeps it from computing.
    fn logits(&self, batch: &TokenBatch<'_>, reads: &[u32]) -> Result<Vec<f32>, ModelError>;
    /// Hidden states \[sequences * length, hidden\]: 0 are the embeddings, l the output of block l.
    ///
    /// # Errors
    /// As [`logits`](Self::logits), or if there is no such layer.
    fn hidden(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f32>, ModelError>;
}
