//! The training loop: models trained side by side, whatever computes them.
//!
//! Steps are done in chunks on a fixed grid. Inside a chunk a member is cut only at its own evaluations, checkpoints and
//! schedule switches, so its trajectory does not depend on which other members there are, and a run resumed at
//! a chunk boundary gives the same bits.

use super::member::{Finite, Member, Outcome, TrainError, View};
use crate::distill::teacher::TeacherCheckpoint;
use curricle_core::rng::Stream;
use curricle_core::task::{BooleanTask, Samples};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the members of one seed share.
#[derive(Debug, Clone)]
pub struct Lane {
    /// The task.
    pub task: Arc<dyn BooleanTask>,
    /// Seed of the samples.
    pub seed: u64,
    /// Stream of the training samples.
    pub stream: Stream,
    /// Held-out samples.
    pub evaluation: Samples,
    /// Checkpoints that schedules name by their place here.
    pub teacher: Vec<TeacherCheckpoint>,
}

/// The models of a group, on whatever computes them, by place in the group.
pub trait Engine {
    /// A model's parameters with whatever else its training needs to go on.
    type Params: Finite;

    /// Samples per chunk, about.
    fn chunk_samples(&self) -> u64;

    /// Trains every active member that stands at step `start` up to step `end` or its own end.
    ///
    /// # Errors
    /// If records cannot be kept, a teacher cannot be used or the device fails.
    fn advance(
        &mut self,
        members: &mut [Member<Self::Params>],
        start: u64,
        end: u64,
    ) -> Result<(), TrainError>;

    /// One model.
    fn view(&mut self, member: usize) -> Box<dyn View<Self::Params> + '_>;
}

/// How training may be ended and how often it is saved.
#[derive(Debug, Clone, Copy)]
pub struct Control<'a> {
    /// Set to end training at the next chunk.
    pub cancel: &'a AtomicBool,
    /// How often the resume state is written.
    pub save_every: Duration,
}

/// Trains every member to its end, or until asked to stop; all have the same batch size.
///
/// # Errors
/// If records cannot be kept, a teacher checkpoint cannot be used or the device fails. A member whose loss is not finite
/// is no error: it ends with [`Outcome::Diverged`] and the others go on.
///
/// # Panics
/// If the members' batch sizes differ.
pub fn train<E: Engine>(
    engine: &mut E,
    members: &mut [Member<E::Params>],
    control: Control,
) -> Result<(), TrainError> {
    let Some(first) = members.first() else { return Ok(()) };
    let batch = first.training.batch;
    assert!(members.iter().all(|m| m.training.batch == batch), "members of a group share their batch size");
    let chunk_steps = (engine.chunk_samples() / batch as u64).max(1);
    let mut saved = Instant::now();
    for (i, member) in members.iter_mut().enumerate() {
        member.begin(&mut *engine.view(i))?;
    }
    loop {
        let Some(start) = members.iter().filter(|m| m.active()).map(|m| m.state.step).min() else {
            return Ok(());
        };
        let active = |member: &&mut Member<E::Params>| member.active();
        if control.cancel.load(Ordering::Relaxed) {
            for (i, member) in members.iter_mut().enumerate().filter(|(_, m)| active(m)) {
                member.save(&mut *engine.view(i))?;
                if member.active() {
                    member.end(Outcome::Interrupted)?;
                }
            }
            return Ok(());
        }
        let end = (start / chunk_steps + 1) * chunk_steps;
        members.iter_mut().filter(|m| m.state.step == start).for_each(Member::enter);
        engine.advance(members, start, end)?;
        if saved.elapsed() >= control.save_every {
            for (i, member) in members.iter_mut().enumerate().filter(|(_, m)| active(m)) {
                member.save(&mut *engine.view(i))?;
            }
            saved = Instant::now();
        }
    }
}
