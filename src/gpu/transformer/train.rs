//! Training steps and gradients of a [`GpuTransformer`].

use super::adam::Moments;
use super::buffers::Kind;
use super::model::GpuTransformer;
use super::pieces::{Piece, refused};
use super::recorder::{Costed, Recorder, Step, split};
use super::state::{RESULTS, State, submit};
use crate::GpuError;
use curricle_core::model::transformer::{MicroBatch, TokenBatch, check_micro_batch};
use curricle_core::optim::{AdamSettings, StepOutcome, TrainStep, written};

impl GpuTransformer {
    /// Consecutive training steps. Nothing is read back before the last one, so several steps per call keep the device busy.
    /// Batches whose activations do not fit are cut into smaller ones, which changes results only by rounding.
    ///
    /// # Errors
    /// If a batch does not fit the model (nothing is trained then) or a single sequence does not fit on the device; if the
    /// device fails, and then the parameters are not usable.
    pub async fn train_steps_async(
        &mut self,
        steps: &[TrainStep<'_>],
        adam: &AdamSettings,
    ) -> Result<Vec<StepOutcome>, GpuError> {
        for step in steps {
            if step.micro.is_empty() {
                return Err(GpuError::Refused("a training step without a batch".into()));
            }
            step.micro.iter().try_for_each(|m| check_micro_batch(m, &self.config)).map_err(refused)?;
        }
        let mut outcomes = Vec::with_capacity(steps.len());
        for steps in steps.chunks(RESULTS) {
            self.some_steps(steps, adam, &mut outcomes).await?;
        }
        Ok(outcomes)
    }

    async fn some_steps(
        &mut self,
        steps: &[TrainStep<'_>],
        adam: &AdamSettings,
        outcomes: &mut Vec<StepOutcome>,
    ) -> Result<(), GpuError> {
        let mut state = self.state.lock().await;
        self.context.write(&self.results, 0, &vec![0.0f32; 4 * steps.len()]);
        let mut updates = self.updates;
        for (slot, step) in steps.iter().enumerate() {
            updates += 1;
            let power = |beta: f32| 1.0 - written(beta).powf(updates as f64);
            let reads: usize = step.micro.iter().map(|(_, reads, _)| reads.len()).sum();
            let moment = Step {
                slot: slot as u32,
                scale: (1.0 / reads as f64) as f32,
                rate: step.rate,
                correction1: power(adam.betas.0) as f32,
                correction2: power(adam.betas.1).sqrt() as f32,
                ..Step::default()
            };
            for micro in step.micro {
                self.accumulate(&mut state, micro, step.dropout_seed, moment).await?;
            }
            let State { adam: launches, pacer, pipeline, .. } = &mut *state;
            if launches.as_ref().is_none_or(|(settings, _)| settings != adam) {
                *launches = Some((*adam, self.adam(adam)?));
            }
            let launches = launches.as_ref().map_or(&[][..], |(_, l)| l);
            submit(&self.context, pacer, pipeline, launches).await?;
        }
        state.finish(&self.context).await?;
        let results: Vec<f32> = self.context.read(&self.results, 0, 4 * steps.len()).await?;
        for (slot, (result, step)) in results.chunks_exact(4).zip(steps).enumerate() {
            if result[2] as usize != slot + 1 {
                return Err(GpuError::StepCounter {
                    adapter: self.context.name(),
                    expected: steps.len() as u64,
                    found: slot as u64,
                });
            }
            outcomes.push(StepOutcome {
                loss_sum: f64::from(result[0]),
                reads: step.micro.iter().map(|(_, reads, _)| reads.len()).sum(),
                gradient_norm: f64::from(result[1]),
            });
        }
        drop(state);
        self.updates = updates;
        Ok(())
    }

    /// Adds the gradient of one micro-batch.
    async fn accumulate(
        &self,
        state: &mut State,
        (batch, reads, targets): &MicroBatch<'_>,
        dropout_seed: Option<u64>,
        moment: Step,
    ) -> Result<(), GpuError> {
        let dropout = self.config.dropout;
        let some = dropout.embedding > 0.0 || dropout.attention > 0.0 || dropout.residual > 0.0;
        let kind = Kind::Train { dropout: dropout_seed.is_some() && some };
        let vocab = self.config.vocab;
        for Piece { batch, reads, from } in self.pieces(batch, reads, kind)? {
            let step = Step { seed: split(dropout_seed.unwrap_or(0)), ..moment };
            let plan = self.prepare(state, &batch, &reads, kind, step)?;
            self.context.write(&plan.targets, 0, &targets[from * vocab..(from + reads.len()) * vocab]);
            self.submit_last(state).await?;
        }
        Ok(())
    }

    /// Sum of the losses at `reads`, and the gradient of their mean, as a flat vector.
    ///
    /// # Errors
    /// If the batch does not fit the model, or the device fails.
    pub async fn gradient_async(
        &self,
        batch: &TokenBatch<'_>,
        reads: &[u32],
        targets: &[f32],
        dropout_seed: Option<u64>,
    ) -> Result<(f64, Vec<f32>), GpuError> {
        let micro = (*batch, reads, targets);
        check_micro_batch(&micro, &self.config).map_err(refused)?;
        let mut state = self.state.lock().await;
        self.context.write(&self.results, 0, &[0.0f32; 4]);
        let moment = Step { scale: (1.0 / reads.len() as f64) as f32, ..Step::default() };
        self.accumulate(&mut state, &micro, dropout_seed, moment).await?;
        state.finish(&self.context).await?;
        let loss: Vec<f32> = self.context.read(&self.results, 0, 1).await?;
        let gradient: Vec<f32> = self.context.read(&self.grads, 0, self.layout.parameters).await?;
        self.context.write(&self.grads, 0, &vec![0.0f32; self.layout.parameters]);
        Ok((f64::from(loss[0]), gradient))
    }

    fn adam(&self, settings: &AdamSettings) -> Result<Vec<Costed>, GpuError> {
        let mut recorder = Recorder::new(&self.context, &self.step, &self.spare);
        let buffers = Moments {
            params: &self.params,
            gradient: &self.grads,
            moments: &self.moments,
            decays: &self.decays,
            partial: &self.partial,
            results: &self.results,
        };
        recorder.adam(self.layout.parameters, settings, buffers)?;
        Ok(recorder.launches)
    }

    /// The launches of one training step on this batch, for [`super::speed`].
    pub(super) async fn recorded(
        &self,
        micro: &MicroBatch<'_>,
        seed: Option<u64>,
        adam: &AdamSettings,
    ) -> Result<Vec<Costed>, GpuError> {
        check_micro_batch(micro, &self.config).map_err(refused)?;
        let (batch, reads, targets) = micro;
        let kind = Kind::Train { dropout: seed.is_some() };
        let scale = 1.0 / reads.len() as f32;
        let seed = split(seed.unwrap_or(0));
        let step = Step { seed, scale, correction1: 1.0, correction2: 1.0, ..Step::default() };
        let mut state = self.state.lock().await;
        let plan = self.prepare(&mut state, batch, reads, kind, step)?;
        self.context.write(&plan.targets, 0, targets);
        let mut launches = plan.launches.clone();
        launches.extend(self.adam(adam)?);
        Ok(launches)
    }
}
