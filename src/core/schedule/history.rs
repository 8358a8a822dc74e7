//! What a teacher did, as far as schedules ask.

/// Accuracy at which a teacher counts as trained.
pub const SOLVED: f64 = 0.99;

/// The checkpoints a trained teacher left, and when it got where.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TeacherHistory {
    /// Where it is, for messages.
    pub place: String,
    /// Its checkpoints in order.
    pub checkpoints: Vec<Moment>,
    /// Training samples when it first reached [`SOLVED`].
    pub samples_99: Option<u64>,
    /// Step of the checkpoint that its correlations recommend.
    pub recommended: Option<u64>,
}

/// A checkpoint of a teacher.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moment {
    /// Teacher step, where known.
    pub step: Option<u64>,
    /// Training samples, where known.
    pub samples: Option<u64>,
    /// Accuracy evaluated there.
    pub accuracy: Option<f64>,
}

/// Why a schedule does not fit a teacher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unresolved(pub String);

impl TeacherHistory {
    /// Training samples when the teacher first reached 99%.
    ///
    /// # Errors
    /// If it never did.
    pub fn samples_99(&self) -> Result<u64, Unresolved> {
        self.samples_99.ok_or_else(|| Unresolved(format!("the teacher {} never reached 99%", self.place)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Checkpoints every 100 steps of batch 4; transition at 300 to 600; 99% at step 600.
    pub fn teacher() -> TeacherHistory {
        let accuracies = [0.5, 0.51, 0.6, 0.8, 0.93, 0.99, 1.0, 0.995];
        let moment = |(i, accuracy): (usize, &f64)| {
            let step = 100 * (i as u64 + 1);
            Moment { step: Some(step), samples: Some(4 * step), accuracy: Some(*accuracy) }
        };
        TeacherHistory {
            place: "t".into(),
            checkpoints: accuracies.iter().enumerate().map(moment).collect(),
            samples_99: Some(2400),
            recommended: Some(400),
        }
    }
}
