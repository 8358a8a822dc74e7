//! MLPs on the CPU engine: members train on a chunk in parallel.

use super::group::{Engine, Lane};
use super::member::{Evaluation, Member, Segment, Supervision, TrainError, View};
use super::once::Once;
use crate::distill::teacher::TeacherPool;
use curricle_core::distill::target;
use curricle_core::model::MlpParams;
use curricle_core::optim::Steps;
use curricle_core::task::Samples;
use curricle_cpu::{CpuOptions, Mlp};
use curricle_files::CheckpointError;
use rayon::prelude::*;
use std::sync::Arc;

/// The models of a group on the CPU.
pub struct CpuMlps {
    lanes: Vec<Lane>,
    teachers: Vec<TeacherPool>,
    models: Vec<(Mlp, usize)>,
}

/// Samples per chunk, about.
const CHUNK: u64 = 8192;

impl CpuMlps {
    /// `models` come with their lane and the threads each may use; teachers may use `threads`.
    pub fn new(lanes: Vec<Lane>, models: &[(&MlpParams, usize, usize)], threads: usize) -> Self {
        let options = |threads| CpuOptions { threads, ..CpuOptions::default() };
        let pool = |lane: &Lane| {
            TeacherPool::new(lane.teacher.clone(), lane.task.d(), lane.task.classes(), options(threads))
        };
        let teachers = lanes.iter().map(pool).collect();
        let models = models
            .iter()
            .map(|(params, lane, threads)| (Mlp::new(params, options(*threads)), *lane))
            .collect();
        Self { lanes, teachers, models }
    }

    /// Which path computes model `member`, for people.
    pub fn path(&self, member: usize) -> String {
        self.models[member].0.path()
    }
}

impl Engine for CpuMlps {
    type Params = MlpParams;

    fn chunk_samples(&self) -> u64 {
        CHUNK
    }

    fn advance(&mut self, members: &mut [Member<MlpParams>], start: u64, end: u64) -> Result<(), TrainError> {
        let here = |m: &Member<MlpParams>| m.active() && m.state.step == start;
        let chunks: Vec<Option<Chunk>> = (self.lanes.iter().zip(&self.teachers).enumerate())
            .map(|(i, (lane, teacher))| {
                let mine = || members.iter().filter(|m| here(m) && m.lane == i);
                let longest = mine().map(|m| m.training.steps).max()?.min(end);
                let batch = mine().next()?.training.batch;
                let count = (longest - start) as usize * batch;
                let samples = lane.task.samples(lane.seed, lane.stream, start * batch as u64, count);
                Some(Chunk { start, teacher, samples, logits: Once::default() })
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
            |(member, (model, lane))| {
                let chunk = chunks[*lane].as_ref().expect("a lane with a member has a chunk");
                while let Some(segment) = member.next(end) {
                    let loss_sum = chunk.train(member, model, &segment)?;
                    let mut view = CpuView { model, evaluation: &lanes[*lane].evaluation };
                    member.after(&segment, loss_sum, &mut view)?;
                }
                Ok(())
            },
        )
    }

    fn view(&mut self, member: usize) -> Box<dyn View<MlpParams> + '_> {
        let (model, lane) = &self.models[member];
        Box::new(CpuView { model, evaluation: &self.lanes[*lane].evaluation })
    }
}

struct CpuView<'a> {
    model: &'a Mlp,
    evaluation: &'a Samples,
}

impl View<MlpParams> for CpuView<'_> {
    fn evaluate(&mut self) -> Result<Evaluation, TrainError> {
        Ok(Evaluation { accuracy: self.model.accuracy(self.evaluation), loss: None })
    }

    fn params(&mut self) -> Result<MlpParams, TrainError> {
        Ok(self.model.to_params())
    }
}

/// One lane's samples, and the logits of teacher checkpoints on them, each computed once.
struct Chunk<'a> {
    start: u64,
    teacher: &'a TeacherPool,
    samples: Samples,
    /// By checkpoint.
    logits: Once<usize, Vec<f32>>,
}

impl Chunk<'_> {
    fn logits(&self, checkpoint: usize) -> Result<Arc<Vec<f32>>, CheckpointError> {
        self.logits.get(checkpoint, || self.teacher.logits(checkpoint, &self.samples))
    }

    /// Trains `model` on a segment; returns the sum of the losses.
    fn train(
        &self,
        member: &Member<MlpParams>,
        model: &mut Mlp,
        segment: &Segment,
    ) -> Result<f64, TrainError> {
        let (batch, mlp) = (member.training.batch, member.training.mlp());
        let (loss, classes) = (mlp.loss, mlp.shape.classes);
        let at = |step: u64| (step - self.start) as usize * batch;
        let range = at(segment.step)..at(segment.next);
        let part = self.samples.slice(range.clone());
        let targets = match (&member.supervision, &segment.follows) {
            (Supervision::Teacher { temperature, label_mix, .. }, Some(follows)) => {
                let all = self.logits(follows.checkpoint)?;
                let teacher = &all[range.start * classes..range.end * classes];
                target::from_teacher(loss, classes, &part.labels, teacher, *temperature, |i| {
                    label_mix.at(segment.step + (i / batch) as u64)
                })
            }
            _ => target::from_labels(loss, classes, &part.labels),
        };
        let weight_decay = mlp.weight_decay as f32;
        let steps =
            Steps { samples: &part, batch, loss, targets: &targets, rates: &segment.rates, weight_decay };
        Ok(model.train(&steps).loss_sum)
    }
}
