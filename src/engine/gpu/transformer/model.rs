//! A GPT-2 or BERT on a GPU.

use super::adam::{Moments, PARTIAL, decay_bits};
use super::buffers::{Kind, Sizes, bytes};
use super::plan::{Plan, Shared};
use super::recorder::{Costed, Recorder, Step, split};
use crate::engine::gpu::context::{Launch, Pacer, Pipeline};
use crate::engine::gpu::sample::SharedContext;
use crate::engine::gpu::{GpuContext, GpuError};
use crate::engine::transformer::{AdamSettings, StepOutcome};
use crate::model::transformer::{
    BatchError, Layout, MicroBatch, TokenBatch, TransformerConfig, TransformerParams, check_micro_batch,
    check_reads,
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a [`GpuTransformer`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuTransformerOptions {
    /// Compute the last block's queries and MLP only where logits are read: the same numbers up to rounding, for less work.
    pub exact_savings: bool,
    /// Bytes activations may take; larger batches are cut into micro-batches. The device's own budget if not given.
    pub memory: Option<u64>,
}

impl Default for GpuTransformerOptions {
    fn default() -> Self {
        Self { exact_savings: true, memory: None }
    }
}

/// One training step of [`GpuTransformer::train_steps`].
#[derive(Debug, Clone, Copy)]
pub struct TrainStep<'a> {
    /// Its micro-batches; the loss is the mean over the reads of all of them.
    pub micro: &'a [MicroBatch<'a>],
    /// Learning rate.
    pub rate: f32,
    /// Key of the dropout masks; nothing is dropped without.
    pub dropout_seed: Option<u64>,
}

/// Training steps whose results wait on the device at once.
const RESULTS: usize = 1024;
/// Batch sizes whose buffers are kept.
const PLANS: usize = 8;

/// A transformer with its gradient and its Adam moments on a device.
pub struct GpuTransformer {
    context: SharedContext,
    options: GpuTransformerOptions,
    config: TransformerConfig,
    layout: Layout,
    params: wgpu::Buffer,
    /// Zero between calls.
    grads: wgpu::Buffer,
    moments: wgpu::Buffer,
    decays: wgpu::Buffer,
    partial: wgpu::Buffer,
    results: wgpu::Buffer,
    step: wgpu::Buffer,
    spare: wgpu::Buffer,
    updates: u64,
    state: Mutex<State>,
}

struct State {
    /// The most recently used last.
    plans: Vec<Plan>,
    adam: Option<(AdamSettings, Vec<Costed>)>,
    pacer: Pacer,
    pipeline: Pipeline,
}

impl std::fmt::Debug for GpuTransformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuTransformer")
            .field("context", &self.context)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

fn refused(error: BatchError) -> GpuError {
    GpuError::Refused(error.to_string())
}

impl GpuTransformer {
    /// Copies the parameters to the device; Adam starts from zero.
    ///
    /// # Errors
    /// If the configuration is impossible, a head is wider than 128, or the model does not fit on the device.
    pub fn new(
        context: &SharedContext,
        params: &TransformerParams,
        options: GpuTransformerOptions,
    ) -> Result<Self, GpuError> {
        let config = params.config.clone();
        config.check().map_err(|e| GpuError::Refused(e.to_string()))?;
        let size = config.parameters();
        if params.values.len() != size {
            return Err(GpuError::Refused(format!(
                "{} values, but the configuration has {size} parameters",
                params.values.len()
            )));
        }
        if config.head_dim() > super::attention::WIDEST {
            return Err(GpuError::Refused(format!(
                "heads of width {}: the GPU engine has kernels up to {}; use more heads or --device cpu",
                config.head_dim(),
                super::attention::WIDEST
            )));
        }
        if size as u64 >= 1 << 31 {
            let (what, adapter) = ("the model".to_owned(), context.name());
            let needed = 4 * size as u64;
            return Err(GpuError::TooLarge { what, adapter, needed, allowed: 8 << 30 });
        }
        let storage = |what: &str, n: usize| context.storage(what, n as u64);
        Ok(Self {
            layout: Layout::new(&config),
            params: context.upload("parameters", &params.values)?,
            grads: storage("gradient", size)?,
            moments: storage("Adam moments", 2 * size)?,
            decays: context.upload("weight decay", &decay_bits(&config))?,
            partial: storage("partial sums", PARTIAL)?,
            results: storage("results", 4 * RESULTS)?,
            step: context.uniform(&Step::default())?,
            spare: storage("nothing", 4)?,
            updates: 0,
            state: Mutex::new(State {
                plans: Vec::new(),
                adam: None,
                // Units are millions of operations: about 0.1 s on a software adapter.
                pacer: Pacer::starting_with(500.0),
                pipeline: Pipeline::default(),
            }),
            context: context.clone(),
            options,
            config,
        })
    }

    /// Sizes and choices.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The device.
    pub fn context(&self) -> &SharedContext {
        &self.context
    }

    /// One training step; see [`Self::train_steps`].
    ///
    /// # Errors
    /// As [`Self::train_steps`].
    pub fn train_step(
        &mut self,
        micro: &[MicroBatch<'_>],
        rate: f32,
        adam: &AdamSettings,
        dropout_seed: Option<u64>,
    ) -> Result<StepOutcome, GpuError> {
        let outcomes = self.train_steps(&[TrainStep { micro, rate, dropout_seed }], adam)?;
        outcomes.first().copied().ok_or_else(|| GpuError::Refused("no outcome".into()))
    }

    /// Consecutive training steps. Nothing is read back before the last one, so several steps per call keep the device busy.
    /// Batches whose activations do not fit are cut into smaller ones, which changes results only by rounding.
    ///
    /// # Errors
    /// If a batch does not fit the model (nothing is trained then) or a single sequence does not fit on the device; if the
    /// device fails, and then the parameters are not usable.
    pub fn train_steps(
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
            self.some_steps(steps, adam, &mut outcomes)?;
        }
        Ok(outcomes)
    }

    fn some_steps(
        &mut self,
        steps: &[TrainStep<'_>],
        adam: &AdamSettings,
        outcomes: &mut Vec<StepOutcome>,
    ) -> Result<(), GpuError> {
        let mut state = self.lock();
        self.context.write(&self.results, 0, &vec![0.0f32; 4 * steps.len()]);
        let mut updates = self.updates;
        for (slot, step) in steps.iter().enumerate() {
            updates += 1;
            let power = |beta: f32| 1.0 - f64::from(beta).powf(updates as f64);
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
                self.accumulate(&mut state, micro, step.dropout_seed, moment)?;
            }
            let State { adam: launches, pacer, pipeline, .. } = &mut *state;
            if launches.as_ref().is_none_or(|(settings, _)| settings != adam) {
                *launches = Some((*adam, self.adam(adam)?));
            }
            let launches = launches.as_ref().map_or(&[][..], |(_, l)| l);
            submit(&self.context, pacer, pipeline, launches)?;
        }
        state.finish(&self.context)?;
        let results: Vec<f32> = self.context.read(&self.results, 0, 4 * steps.len())?;
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
    fn accumulate(
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
        self.pieces(batch, reads, kind, |piece, reads, from| {
            let step = Step { seed: split(dropout_seed.unwrap_or(0)), ..moment };
            let plan = self.prepare(state, &piece, &reads, kind, step)?;
            self.context.write(&plan.targets, 0, &targets[from * vocab..(from + reads.len()) * vocab]);
            let State { plans, pacer, pipeline, .. } = state;
            plans.last().map_or(Ok(()), |p| submit(&self.context, pacer, pipeline, &p.launches))
        })
    }

    /// Sum of the losses at `reads`, and the gradient of their mean, as a flat vector.
    ///
    /// # Errors
    /// If the batch does not fit the model, or the device fails.
    pub fn gradient(
        &self,
        batch: &TokenBatch<'_>,
        reads: &[u32],
        targets: &[f32],
        dropout_seed: Option<u64>,
    ) -> Result<(f64, Vec<f32>), GpuError> {
        let micro = (*batch, reads, targets);
        check_micro_batch(&micro, &self.config).map_err(refused)?;
        let mut state = self.lock();
        self.context.write(&self.results, 0, &[0.0f32; 4]);
        let moment = Step { scale: (1.0 / reads.len() as f64) as f32, ..Step::default() };
        self.accumulate(&mut state, &micro, dropout_seed, moment)?;
        state.finish(&self.context)?;
        let loss: Vec<f32> = self.context.read(&self.results, 0, 1)?;
        let gradient: Vec<f32> = self.context.read(&self.grads, 0, self.layout.parameters)?;
        self.context.write(&self.grads, 0, &vec![0.0f32; self.layout.parameters]);
        Ok((f64::from(loss[0]), gradient))
    }

    /// Logits at `reads`, [reads, vocab], in evaluation mode.
    ///
    /// # Errors
    /// If the batch does not fit the model, or the device fails.
    pub fn logits(&self, batch: &TokenBatch<'_>, reads: &[u32]) -> Result<Vec<f32>, GpuError> {
        batch.check(&self.config).and_then(|()| check_reads(batch, reads)).map_err(refused)?;
        let mut out = Vec::with_capacity(reads.len() * self.config.vocab);
        self.evaluate(batch, reads, Kind::Logits, |_, reads| reads.len() * self.config.vocab, &mut out)?;
        Ok(out)
    }

    /// The residual stream in evaluation mode, [sequences * length, hidden]: layer 0 is the embeddings (BERT: after their norm),
    /// l the output of block l. GPT-2's last norm is not applied.
    ///
    /// # Errors
    /// If the batch does not fit the model, there is no such layer, or the device fails.
    pub fn hidden(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f32>, GpuError> {
        batch.check(&self.config).map_err(refused)?;
        if layer > self.config.layers {
            return Err(refused(BatchError::Layer { layer, layers: self.config.layers }));
        }
        // A read position per sequence, so that no piece is left out.
        let reads: Vec<u32> = (0..batch.sequences).map(|b| (b * batch.length) as u32).collect();
        let mut out = Vec::with_capacity(batch.positions() * self.config.hidden);
        let numbers = |piece: &TokenBatch<'_>, _: &[u32]| piece.positions() * self.config.hidden;
        self.evaluate(batch, &reads, Kind::Hidden(layer), numbers, &mut out)?;
        Ok(out)
    }

    fn evaluate(
        &self,
        batch: &TokenBatch<'_>,
        reads: &[u32],
        kind: Kind,
        numbers: impl Fn(&TokenBatch<'_>, &[u32]) -> usize,
        out: &mut Vec<f32>,
    ) -> Result<(), GpuError> {
        let mut state = self.lock();
        self.pieces(batch, reads, kind, |piece, reads, _| {
            let output = self.prepare(&mut state, &piece, &reads, kind, Step::default())?.output.clone();
            let State { plans, pacer, pipeline, .. } = &mut *state;
            if let Some(plan) = plans.last() {
                submit(&self.context, pacer, pipeline, &plan.launches)?;
            }
            state.finish(&self.context)?;
            out.extend(self.context.read::<f32>(&output, 0, numbers(&piece, &reads))?);
            Ok(())
        })
    }

    /// Calls `work(piece, its reads, number of the first of them)` for parts of the batch that fit on the device; parts without
    /// reads are left out.
    fn pieces(
        &self,
        batch: &TokenBatch<'_>,
        reads: &[u32],
        kind: Kind,
        mut work: impl FnMut(TokenBatch<'_>, Vec<u32>, usize) -> Result<(), GpuError>,
    ) -> Result<(), GpuError> {
        let TokenBatch { sequences, length, .. } = *batch;
        let most = self.budget();
        let limits = self.context.limits();
        // Indices are 32-bit.
        let allowed = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min((16 << 30) - 4);
        let mut together = sequences.min(limits.max_compute_workgroups_per_dimension as usize);
        loop {
            // As if all reads were in one part: which sequences have how many must not matter for the cut.
            let sizes = self.sizes(together, length, reads.len().min(together * length), kind);
            let (total, largest) = bytes(&self.config, &sizes);
            if total <= most && largest <= allowed {
                break;
            }
            if together == 1 {
                let (needed, allowed) = if largest > allowed { (largest, allowed) } else { (total, most) };
                return Err(GpuError::TooLarge {
                    what: format!("one sequence of {length} tokens"),
                    adapter: self.context.name(),
                    needed,
                    allowed,
                });
            }
            together = together.div_ceil(2);
        }
        for first in (0..sequences).step_by(together) {
            let count = together.min(sequences - first);
            let range = first * length..(first + count) * length;
            let at = |position: usize| reads.partition_point(|r| (*r as usize) < position);
            let (from, to) = (at(range.start), at(range.end));
            if from == to {
                continue;
            }
            let piece = TokenBatch {
                sequences: count,
                length,
                tokens: &batch.tokens[range.clone()],
                keys: batch.keys.map(|k| &k[range.clone()]),
                first: batch.first.wrapping_add(first as u64),
            };
            work(piece, reads[from..to].iter().map(|r| r - range.start as u32).collect(), from)?;
        }
        Ok(())
    }

    fn budget(&self) -> u64 {
        self.options.memory.unwrap_or_else(|| self.context.memory_budget())
    }

    fn sizes(&self, sequences: usize, length: usize, reads: usize, kind: Kind) -> Sizes {
        sizes(self.options.exact_savings, sequences, length, reads, kind)
    }

    /// Writes what a piece needs; its plan is the last of the state's afterwards.
    fn prepare<'s>(
        &self,
        state: &'s mut State,
        batch: &TokenBatch<'_>,
        reads: &[u32],
        kind: Kind,
        step: Step,
    ) -> Result<&'s Plan, GpuError> {
        let sizes = self.sizes(batch.sequences, batch.length, reads.len(), kind);
        if let Some(at) = state.plans.iter().position(|p| p.sizes == sizes) {
            let plan = state.plans.remove(at);
            state.plans.push(plan);
        } else {
            let (needed, _) = bytes(&self.config, &sizes);
            let kept = |plans: &[Plan]| plans.iter().map(|p| p.bytes).sum::<u64>();
            while !state.plans.is_empty()
                && (state.plans.len() >= PLANS || kept(&state.plans) + needed > self.budget())
            {
                state.plans.remove(0);
            }
            let shared = Shared {
                context: &self.context,
                config: &self.config,
                layout: &self.layout,
                params: &self.params,
                grads: &self.grads,
                step: &self.step,
                spare: &self.spare,
                results: &self.results,
            };
            state.plans.push(Plan::new(&shared, sizes)?);
        }
        let plan = &state.plans[state.plans.len() - 1];
        let list = plan.ints.fill(batch, reads, self.config.vocab, self.config.pad_token);
        self.context.write(&plan.list, 0, &list);
        let step = Step { first: split(batch.first), reads: reads.len() as u32, ..step };
        self.context.write(&self.step, 0, &[step]);
        Ok(plan)
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

    /// The parameters.
    ///
    /// # Errors
    /// If the device fails.
    pub fn to_params(&self) -> Result<TransformerParams, GpuError> {
        let values = self.context.read(&self.params, 0, self.layout.parameters)?;
        Ok(TransformerParams { config: self.config.clone(), values })
    }

    /// Adam's first and second moments, and its number of updates.
    ///
    /// # Errors
    /// If the device fails.
    pub fn optimizer(&self) -> Result<(Vec<f32>, Vec<f32>, u64), GpuError> {
        let both: Vec<[f32; 2]> = self.context.read(&self.moments, 0, self.layout.parameters)?;
        let (first, second) = both.iter().map(|[m, v]| (*m, *v)).unzip();
        Ok((first, second, self.updates))
    }

    /// Sets what [`Self::optimizer`] gave.
    ///
    /// # Errors
    /// If there are not as many moments as parameters.
    pub fn set_optimizer(&mut self, first: &[f32], second: &[f32], updates: u64) -> Result<(), GpuError> {
        let size = self.layout.parameters;
        if first.len() != size || second.len() != size {
            return Err(GpuError::Refused(format!(
                "{} and {} Adam moments for {size} parameters",
                first.len(),
                second.len()
            )));
        }
        let both: Vec<[f32; 2]> = first.iter().zip(second).map(|(m, v)| [*m, *v]).collect();
        self.context.write(&self.moments, 0, &both);
        self.updates = updates;
        Ok(())
    }

    /// Bytes of activations a training step with such micro-batches takes on this device, after cutting them if need be.
    pub fn activation_bytes(&self, sequences: usize, length: usize, reads: usize) -> u64 {
        let all = activation_bytes(&self.config, self.options, sequences, length, reads);
        all.min(self.budget())
    }

    /// The launches of one training step on this batch, for [`super::speed`].
    pub(super) fn recorded(
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
        let mut state = self.lock();
        let plan = self.prepare(&mut state, batch, reads, kind, step)?;
        self.context.write(&plan.targets, 0, targets);
        let mut launches = plan.launches.clone();
        launches.extend(self.adam(adam)?);
        Ok(launches)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn finish(&mut self, context: &GpuContext) -> Result<(), GpuError> {
        let result = self.pipeline.finish(context, &mut self.pacer);
        // The next call starts its clock anew.
        self.pipeline = Pipeline::default();
        result
    }
}

/// Submits the launches in portions of about [`Pacer::TARGET`].
fn submit(
    context: &GpuContext,
    pacer: &mut Pacer,
    pipeline: &mut Pipeline,
    launches: &[Costed],
) -> Result<(), GpuError> {
    // A dispatch that does nothing costs about as much as a million operations.
    let cost = |l: &Costed| 1.0 + l.flops / 1e6;
    let mut portion: Vec<Launch> = Vec::new();
    let mut units = 0.0;
    for (i, launch) in launches.iter().enumerate() {
        portion.push(launch.launch.clone());
        units += cost(launch);
        let last = i + 1 == launches.len();
        if last || units + cost(&launches[i + 1]) > pacer.next() as f64 {
            pipeline.push(context, pacer, context.submit(&portion), units as usize)?;
            portion.clear();
            units = 0.0;
        }
    }
    Ok(())
}

/// A batch's sizes: a function of the batch alone, so that the same batches give the same bits whatever came before.
fn sizes(exact_savings: bool, sequences: usize, length: usize, reads: usize, kind: Kind) -> Sizes {
    let positions = sequences * length;
    // In steps of at least an eighth of a power of two, so that masks of varying size share buffers.
    let step = (reads.next_power_of_two() / 8).max(32);
    let capacity = reads.next_multiple_of(step).min(positions).max(1);
    let whole = matches!(kind, Kind::Hidden(_));
    let compact = exact_savings && !whole && 4 * capacity <= 3 * positions;
    Sizes { sequences, length, capacity, kind, compact }
}

/// Bytes of activations one micro-batch takes in training with dropout, uncut.
pub fn activation_bytes(
    config: &TransformerConfig,
    options: GpuTransformerOptions,
    sequences: usize,
    length: usize,
    reads: usize,
) -> u64 {
    let kind = Kind::Train { dropout: true };
    bytes(config, &sizes(options.exact_savings, sequences, length, reads, kind)).0
}
