//! Models that read sign vectors on the CPU: members train on a chunk in parallel.

use super::group::{Engine, Lane};
use super::member::{Evaluation, Finite, Member, Segment, Supervision, TrainError, View};
use super::once::Once;
use crate::distill::teacher::SignTeachers;
use curricle_core::model::{Loss, SignModel};
use curricle_core::optim::Steps;
use curricle_core::target;
use curricle_core::task::Samples;
use rayon::prelude::*;
use std::sync::Arc;

/// A model of a group with its lane and what its updates are.
pub struct Sign<M> {
    /// The model.
    pub model: M,
    /// Its lane.
    pub lane: usize,
    /// What it minimises.
    pub loss: Loss,
    /// Coefficient of the L2 penalty.
    pub weight_decay: f32,
}

/// The models of a group.
pub struct Signs<M> {
    lanes: Vec<Lane>,
    teachers: Vec<SignTeachers>,
    models: Vec<Sign<M>>,
}

/// Samples per chunk, about.
const CHUNK: u64 = 8192;

impl<M: SignModel> Signs<M> {
    /// Models, and the teachers of each lane.
    pub fn new(lanes: Vec<Lane>, teachers: Vec<SignTeachers>, models: Vec<Sign<M>>) -> Self {
        Self { lanes, teachers, models }
    }

    /// Which path computes model `member`, for people.
    pub fn path(&self, member: usize) -> String {
        self.models[member].model.path()
    }
}

impl<M: SignModel<Params: Finite + Send> + Send> Engine for Signs<M> {
    type Params = M::Params;

    fn chunk_samples(&self) -> u64 {
        CHUNK
    }

    fn advance(&mut self, members: &mut [Member<M::Params>], start: u64, end: u64) -> Result<(), TrainError> {
        let here = |m: &Member<M::Params>| m.active() && m.state.step == start;
        let chunks: Vec<Option<Chunk>> = (self.lanes.iter().zip(&self.teachers).enumerate())
            .map(|(i, (lane, teacher))| {
                let mine = || members.iter().filter(|m| here(m) && m.lane == i);
                let longest = mine().map(|m| m.training.steps).max()?.min(end);
                let batch = mine().next()?.training.batch;
                let count = (longest - start) as usize * batch;
                let samples = lane.task.samples(lane.seed, lane.stream, start * batch as u64, count);
                let classes = lane.task.classes();
                Some(Chunk { start, teacher, samples, classes, logits: Once::default() })
            })
            .collect();
        // The checkpoints known to be needed first, with all threads on each; a schedule that switches inside the chunk asks
        // for its next one when it gets there.
        for member in members.iter().filter(|m| here(m)) {
            if let (Some(checkpoint), Some(chunk)) = (member.checkpoint(), &chunks[member.lane]) {
                chunk.logits(checkpoint)?;
            }
        }
        let lanes = &self.lanes;
        members.par_iter_mut().zip(&mut self.models).filter(|(m, _)| here(m)).try_for_each(
            |(member, sign)| {
                let chunk = chunks[sign.lane].as_ref().expect("a lane with a member has a chunk");
                while let Some(segment) = member.next(end) {
                    let loss_sum = chunk.train(member, sign, &segment)?;
                    let mut view = SignView { model: &sign.model, evaluation: &lanes[sign.lane].evaluation };
                    member.after(&segment, loss_sum, &mut view)?;
                }
                Ok(())
            },
        )
    }

    fn view(&mut self, member: usize) -> Box<dyn View<M::Params> + '_> {
        let Sign { model, lane, .. } = &self.models[member];
        Box::new(SignView { model, evaluation: &self.lanes[*lane].evaluation })
    }
}

struct SignView<'a, M> {
    model: &'a M,
    evaluation: &'a Samples,
}

impl<M: SignModel> View<M::Params> for SignView<'_, M> {
    fn evaluate(&mut self) -> Result<Evaluation, TrainError> {
        let accuracy = self.model.accuracy(self.evaluation).map_err(TrainError::Model)?;
        Ok(Evaluation { accuracy, loss: None })
    }

    fn params(&mut self) -> Result<M::Params, TrainError> {
        Ok(self.model.to_params())
    }
}

/// One lane's samples, and the logits of teacher checkpoints on them, each computed once.
struct Chunk<'a> {
    start: u64,
    teacher: &'a SignTeachers,
    samples: Samples,
    classes: usize,
    /// By checkpoint.
    logits: Once<usize, Vec<f32>>,
}

impl Chunk<'_> {
    fn logits(&self, checkpoint: usize) -> Result<Arc<Vec<f32>>, TrainError> {
        self.logits.get(checkpoint, || self.teacher.logits(checkpoint, &self.samples))
    }

    /// Trains a model on a segment; returns the sum of the losses.
    fn train<M: SignModel>(
        &self,
        member: &Member<M::Params>,
        sign: &mut Sign<M>,
        segment: &Segment,
    ) -> Result<f64, TrainError> {
        let (batch, classes, loss) = (member.training.batch, self.classes, sign.loss);
        let at = |step: u64| (step - self.start) as usize * batch;
        let range = at(segment.step)..at(segment.next);
        let part = self.samples.slice(range.clone());
        let targets = match (&member.supervision, &segment.follows) {
            (Supervision::Teacher { target, .. }, Some(follows)) => {
                let all = self.logits(follows.checkpoint)?;
                let teacher = &all[range.start * classes..range.end * classes];
                let step = |sample: usize| segment.step + (sample / batch) as u64;
                target.of_teacher(loss, classes, &part.labels, teacher, step)
            }
            _ => target::from_labels(loss, classes, &part.labels),
        };
        let weight_decay = sign.weight_decay;
        let steps =
            Steps { samples: &part, batch, loss, targets: &targets, rates: &segment.rates, weight_decay };
        Ok(sign.model.train(&steps).loss_sum)
    }
}
