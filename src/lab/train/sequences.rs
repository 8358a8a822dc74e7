//! Transformers on token sequences, on either engine.

use super::group::Engine;
use super::member::{AnyError, Evaluation, Member, Segment, Supervision, TrainError, View};
use super::once::Once;
use crate::device::Device;
use crate::distill::teacher::{TeacherCheckpoint, TransformerPool};
use crate::transformer::Transformer;
use curricle_core::math::argmax;
use curricle_core::model::Loss;
use curricle_core::model::TransformerState;
use curricle_core::model::transformer::MicroBatch;
use curricle_core::optim::AdamSettings;
use curricle_core::optim::StepOutcome;
use curricle_core::optim::TrainStep;
use curricle_core::task::pcfg::PredictionBatch;
use curricle_core::task::sequence::SequenceTask;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// What the members of one seed share.
pub struct SequenceLane {
    /// Training sequences.
    pub task: Arc<dyn SequenceTask>,
    /// Longest sequence every model of the lane can take.
    pub positions: usize,
    /// Number of logits.
    pub vocab: usize,
    /// Held-out sequences.
    pub evaluation: Vec<PredictionBatch>,
    /// Checkpoints that schedules name by their place here.
    pub teacher: Vec<TeacherCheckpoint>,
}

/// Sequences per chunk, about.
const CHUNK: u64 = 2048;

/// A model of a group.
struct Model {
    transformer: Transformer,
    lane: usize,
    /// Keys the dropout masks; none without dropout.
    dropout: Option<u64>,
    adam: AdamSettings,
    accumulate: usize,
}

/// The transformers of a group.
pub struct Sequences {
    lanes: Vec<SequenceLane>,
    teachers: Vec<TransformerPool>,
    models: Vec<Model>,
    /// On a GPU models take turns; on the CPU they train in parallel.
    parallel: bool,
}

/// What a model of a group starts from.
pub struct Start<'a> {
    /// Parameters and optimiser.
    pub state: &'a TransformerState,
    /// Lane.
    pub lane: usize,
    /// Seed of the dropout masks.
    pub seed: u64,
    /// Threads it may use on the CPU.
    pub threads: usize,
    /// Its optimiser.
    pub adam: AdamSettings,
    /// Micro-batches of one step.
    pub accumulate: usize,
}

impl Sequences {
    /// Models on a device; teachers may use `threads` in all.
    ///
    /// # Errors
    /// If a model does not fit.
    pub fn new(
        device: &Device,
        lanes: Vec<SequenceLane>,
        starts: &[Start],
        threads: usize,
    ) -> Result<Self, TrainError> {
        // The models, and a few of their teachers at a time.
        let share = starts.len() + TransformerPool::ON_GPU;
        let mut models = Vec::new();
        for start in starts {
            let transformer = Transformer::sharing(start.state, device, start.threads, share);
            let transformer = transformer.map_err(TrainError::Model)?;
            let rates = start.state.params.config.dropout;
            let drops = [rates.embedding, rates.attention, rates.residual].iter().any(|p| *p > 0.0);
            models.push(Model {
                transformer,
                lane: start.lane,
                dropout: drops.then_some(start.seed),
                adam: start.adam,
                accumulate: start.accumulate,
            });
        }
        let teachers = lanes
            .iter()
            .map(|lane| {
                TransformerPool::new(lane.teacher.clone(), lane.vocab, device.clone(), threads, share)
            })
            .collect();
        let parallel = matches!(device, Device::Cpu);
        Ok(Self { lanes, teachers, models, parallel })
    }

    /// Which code computes model `member`, for people.
    pub fn path(&self, member: usize) -> String {
        self.models[member].transformer.path()
    }
}

impl Engine for Sequences {
    type Params = TransformerState;

    fn chunk_samples(&self) -> u64 {
        CHUNK
    }

    fn advance(
        &mut self,
        members: &mut [Member<TransformerState>],
        start: u64,
        end: u64,
    ) -> Result<(), TrainError> {
        let here = |m: &Member<TransformerState>| m.active() && m.state.step == start;
        let mut chunks: Vec<Option<Chunk>> = Vec::new();
        for (i, (lane, teacher)) in self.lanes.iter().zip(&self.teachers).enumerate() {
            let mine = || members.iter().filter(|m| here(m) && m.lane == i);
            let Some(longest) = mine().map(|m| m.training.steps).max() else {
                chunks.push(None);
                continue;
            };
            let batch = mine().next().map_or(1, |m| m.training.batch);
            let batches = (start..longest.min(end))
                .into_par_iter()
                .map(|step| lane.task.batch(step * batch as u64, batch, lane.positions))
                .collect::<Result<_, _>>()
                .map_err(|e| TrainError::Model(e.into()))?;
            let vocab = lane.vocab;
            chunks.push(Some(Chunk { start, teacher, batches, vocab, logits: Once::default() }));
        }
        // The checkpoints known to be needed first, with all threads on them; a schedule that switches inside the chunk asks for
        // its next one when it gets there.
        for member in members.iter().filter(|m| here(m)) {
            if let (Some(checkpoint), Some(chunk)) = (member.checkpoint(), &chunks[member.lane]) {
                let steps = member.known_until(end) - start;
                chunk.prepare(checkpoint, steps as usize)?;
            }
        }
        let lanes = &self.lanes;
        let work = |(member, model): (&mut Member<TransformerState>, &mut Model)| {
            let chunk = chunks[model.lane].as_ref().expect("a lane with a member has a chunk");
            while let Some(segment) = member.next(end) {
                let loss_sum = chunk.train(member, model, &segment)?;
                let evaluation = &lanes[model.lane].evaluation;
                let mut view = SequenceView { transformer: &mut model.transformer, evaluation };
                member.after(&segment, loss_sum, &mut view)?;
            }
            Ok(())
        };
        if self.parallel {
            members.par_iter_mut().zip(&mut self.models).filter(|(m, _)| here(m)).try_for_each(work)
        } else {
            members.iter_mut().zip(&mut self.models).filter(|(m, _)| here(m)).try_for_each(work)
        }
    }

    fn view(&mut self, member: usize) -> Box<dyn View<TransformerState> + '_> {
        let Model { transformer, lane, .. } = &mut self.models[member];
        Box::new(SequenceView { transformer, evaluation: &self.lanes[*lane].evaluation })
    }
}

struct SequenceView<'a> {
    transformer: &'a mut Transformer,
    evaluation: &'a [PredictionBatch],
}

impl View<TransformerState> for SequenceView<'_> {
    fn evaluate(&mut self) -> Result<Evaluation, TrainError> {
        evaluate(self.transformer, self.evaluation).map_err(TrainError::Model)
    }

    fn params(&mut self) -> Result<TransformerState, TrainError> {
        self.transformer.state().map_err(TrainError::Model)
    }
}

/// Accuracy and mean cross-entropy (nats) over all reads. Of equal logits the lowest token counts, and a row with a NaN is never
/// right.
///
/// # Errors
/// If a batch does not fit the model, or the device fails.
pub fn evaluate(model: &Transformer, batches: &[PredictionBatch]) -> Result<Evaluation, AnyError> {
    let vocab = model.config().vocab;
    let (mut right, mut reads, mut loss) = (0usize, 0usize, 0.0f64);
    for batch in batches.iter().filter(|b| !b.reads.is_empty()) {
        let logits = model.logits(&batch.token_batch(), &batch.reads)?;
        for (row, &label) in logits.chunks_exact(vocab).zip(&batch.labels) {
            let best = argmax(row);
            right += usize::from(best == Some(label as usize));
            let peak = best.map_or(f64::NAN, |best| f64::from(row[best]));
            let total: f64 = row.iter().map(|z| (f64::from(*z) - peak).exp()).sum();
            loss += total.ln() + peak - f64::from(row[label as usize]);
        }
        reads += batch.labels.len();
    }
    Ok(Evaluation { accuracy: right as f64 / reads as f64, loss: Some(loss / reads as f64) })
}

/// One lane's batches, and the logits of teacher checkpoints on them, each computed once.
struct Chunk<'a> {
    start: u64,
    teacher: &'a TransformerPool,
    batches: Vec<PredictionBatch>,
    vocab: usize,
    /// By checkpoint and batch.
    logits: Once<(usize, usize), Vec<f32>>,
}

impl Chunk<'_> {
    /// Logits of a checkpoint on the first `steps` batches.
    fn prepare(&self, checkpoint: usize, steps: usize) -> Result<(), TrainError> {
        let steps = steps.min(self.batches.len());
        (0..steps).into_par_iter().try_for_each(|at| self.logits(checkpoint, at).map(|_| ()))
    }

    fn logits(&self, checkpoint: usize, at: usize) -> Result<Arc<Vec<f32>>, TrainError> {
        let batch = &self.batches[at];
        let compute = || self.teacher.logits(checkpoint, &batch.token_batch(), &batch.reads);
        self.logits.get((checkpoint, at), compute).map_err(TrainError::Model)
    }

    /// Trains a model on a segment; returns the sum over steps of batch x mean loss at the reads.
    fn train(
        &self,
        member: &Member<TransformerState>,
        model: &mut Model,
        segment: &Segment,
    ) -> Result<f64, TrainError> {
        let accumulate = model.accumulate;
        let mut data = Vec::new();
        for (i, step) in (segment.step..segment.next).enumerate() {
            let at = (step - self.start) as usize;
            let batch = &self.batches[at];
            if batch.reads.is_empty() {
                // Chance selected nothing: there is no loss and no step.
                continue;
            }
            let targets = match (&member.supervision, &segment.follows) {
                (Supervision::Teacher { target, .. }, Some(follows)) => {
                    let logits = self.logits(follows.checkpoint, at)?;
                    target.of_teacher(Loss::CrossEntropy, self.vocab, &batch.labels, &logits, |_| step)
                }
                _ => batch.one_hot(self.vocab),
            };
            data.push((batch, targets, segment.rates[i]));
        }
        let parts: Vec<_> = data.iter().map(|(batch, ..)| batch.parts(accumulate)).collect();
        let micro: Vec<Vec<MicroBatch>> = parts
            .iter()
            .zip(&data)
            .map(|(parts, (_, targets, _))| {
                let filled = parts.iter().filter(|(_, range, _)| !range.is_empty());
                let targets =
                    |range: &Range<usize>| &targets[range.start * self.vocab..range.end * self.vocab];
                filled.map(|(batch, range, reads)| (*batch, &reads[..], targets(range))).collect()
            })
            .collect();
        let steps: Vec<TrainStep> = micro
            .iter()
            .zip(&data)
            .map(|(micro, (.., rate))| TrainStep { micro, rate: *rate, dropout_seed: model.dropout })
            .collect();
        let outcomes = model.transformer.train_steps(&steps, &model.adam).map_err(TrainError::Model)?;
        let mean = |(outcome, (batch, ..)): (&StepOutcome, &(&PredictionBatch, _, _))| {
            outcome.loss_sum / outcome.reads as f64 * batch.sequences as f64
        };
        let loss_sum = outcomes.iter().zip(&data).map(mean).sum();
        Ok(loss_sum)
    }
}
