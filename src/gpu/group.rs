//! Models of one shape that train side by side on one device.

use super::GpuError;
use super::context::GpuContext;
use super::layout::Layout;
use super::logits::{self, GpuLogits};
use super::pool::{Pool, decay_is_mild};
use super::queue::Pacer;
use super::sample::{self, GpuSamples, SharedContext, Tensor};
use super::steps::{GpuPath, MemberSteps};
use super::{minibatch, narrow, wide};
use curricle_core::model::{MlpParams, MlpShape};
use curricle_core::optim::StepsResult;
use curricle_core::rng::{Purpose, Stream};

/// Widest model that one workgroup trains when there are few models, and fewest models for which wider ones are, too.
const NARROW: usize = 2048;
const MANY: usize = 64;
/// Largest number of classes the delayed-update kernels hold in registers.
const FEW_CLASSES: usize = 64;

/// Models of one shape that train side by side.
#[derive(Debug)]
pub struct GpuGroup {
    context: SharedContext,
    layout: Layout,
    members: usize,
    params: wgpu::Buffer,
    forced: Option<GpuPath>,
    pacers: [Pacer; 3],
}

impl GpuGroup {
    /// Room for `members` models of `shape`, all parameters zero.
    ///
    /// # Errors
    /// If they do not fit; see [`Self::capacity`].
    pub fn zeros(context: &SharedContext, shape: &MlpShape, members: usize) -> Result<Self, GpuError> {
        if shape.hidden.is_empty() || members == 0 || shape.classes < 2 || shape.parameters() > 1 << 30 {
            return Err(GpuError::Refused(format!("{members} models of shape {shape} cannot be trained")));
        }
        let layout = Layout::new(shape);
        let params = context.storage("parameters", members as u64 * u64::from(layout.stride))?;
        let small = Pacer::starting_with(4.0);
        let pacers = [small, Pacer::starting_with(128.0), small];
        Ok(Self { context: context.clone(), layout, members, params, forced: None, pacers })
    }

    /// Models with these parameters, all of one shape.
    ///
    /// # Errors
    /// If there are none, their shapes differ, or they do not fit.
    pub fn new(context: &SharedContext, params: &[&MlpParams]) -> Result<Self, GpuError> {
        let Some(first) = params.first() else {
            return Err(GpuError::Refused("a group needs at least one model".into()));
        };
        let mut group = Self::zeros(context, &first.shape(), params.len())?;
        for (member, params) in params.iter().enumerate() {
            group.set(member, params)?;
        }
        Ok(group)
    }

    /// Models initialised on the device as [`MlpParams::new`] does with PyTorch's defaults, bit for bit: one per seed.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn pytorch(context: &SharedContext, shape: &MlpShape, seeds: &[u64]) -> Result<Self, GpuError> {
        let group = Self::zeros(context, shape, seeds.len())?;
        for (member, &seed) in seeds.iter().enumerate() {
            let base = member as u32 * group.layout.stride;
            let mut launches = Vec::new();
            for (l, [fan_in, fan_out]) in shape.linears().into_iter().enumerate() {
                let bound = 1.0 / (fan_in as f32).sqrt();
                let (input, output) = group.layout.steps(l);
                let offset = base + group.layout.offsets[l];
                let stream = |t: usize| Stream::new(Purpose::Init, t as u32);
                let weight =
                    Tensor { rows: fan_out, cols: fan_in, offset, row_step: output, col_step: input };
                let bias =
                    Tensor { rows: fan_out, cols: 1, offset: offset + fan_in as u32 * input, ..weight };
                launches.push(sample::weights(context, seed, stream(2 * l), bound, weight, &group.params)?);
                launches.push(sample::weights(context, seed, stream(2 * l + 1), bound, bias, &group.params)?);
            }
            context.submit(&launches);
        }
        context.check()?;
        Ok(group)
    }

    /// How many models of `shape` one group can hold on this device.
    pub fn capacity(context: &GpuContext, shape: &MlpShape) -> usize {
        let limits = context.limits();
        let bytes =
            limits.max_buffer_size.min(limits.max_storage_buffer_binding_size).min(u64::from(u32::MAX));
        (bytes / (4 * u64::from(Layout::new(shape).stride))) as usize
    }

    /// Uses these kernels instead of the ones [`Self::path`] would choose. For tests and measurements.
    ///
    /// # Errors
    /// If they cannot train this shape.
    pub fn force(&mut self, path: Option<GpuPath>) -> Result<(), GpuError> {
        let shape = &self.layout.shape;
        let deep = shape.hidden.len() > 1 || shape.classes > FEW_CLASSES;
        let refused = match path {
            Some(GpuPath::Narrow { shared: true }) => {
                deep || !narrow::slab_fits(&self.context, shape.hidden[0], shape.classes)
            }
            Some(GpuPath::Narrow { shared: false } | GpuPath::Wide) => deep,
            Some(GpuPath::Minibatch) | None => false,
        };
        if refused {
            return Err(GpuError::Refused(format!("shape {shape} does not fit the kernels asked for")));
        }
        self.forced = path;
        Ok(())
    }

    /// The kernels that train this group with batches of `batch`. Worth showing to the user: it is where a width that does not
    /// fit falls back.
    pub fn path(&self, batch: usize) -> GpuPath {
        let shape = &self.layout.shape;
        if shape.hidden.len() > 1 || batch > 32 || shape.classes > FEW_CLASSES {
            return GpuPath::Minibatch;
        }
        if let Some(path) = self.forced {
            return path;
        }
        let m = shape.hidden[0];
        if m <= NARROW || self.members >= MANY {
            return GpuPath::Narrow { shared: narrow::slab_fits(&self.context, m, shape.classes) };
        }
        GpuPath::Wide
    }

    /// Number of models.
    pub fn members(&self) -> usize {
        self.members
    }

    /// Their shape.
    pub fn shape(&self) -> &MlpShape {
        &self.layout.shape
    }

    /// The device.
    pub fn context(&self) -> &SharedContext {
        &self.context
    }

    /// Sets the parameters of one model.
    ///
    /// # Errors
    /// If the shape is another one or there is no such member.
    pub fn set(&mut self, member: usize, params: &MlpParams) -> Result<(), GpuError> {
        if params.shape() != self.layout.shape || member >= self.members {
            return Err(GpuError::Refused(format!(
                "member {member} has another shape than {}",
                self.layout.shape
            )));
        }
        let offset = member as u64 * u64::from(self.layout.stride) * 4;
        self.context.write(&self.params, offset, &self.layout.pack(params));
        Ok(())
    }

    /// Parameters of one model.
    ///
    /// # Errors
    /// If the device fails or there is no such member.
    pub async fn to_params_async(&self, member: usize) -> Result<MlpParams, GpuError> {
        if member >= self.members {
            return Err(GpuError::Refused(format!("there is no member {member}")));
        }
        let stride = self.layout.stride as usize;
        let words = self.context.read(&self.params, (member * stride) as u64, stride).await?;
        Ok(self.layout.unpack(&words))
    }

    /// Trains the listed members, each at most once, with batches of `batch`; results in the same order.
    ///
    /// # Errors
    /// If something does not fit together, or the device fails; then the parameters are not usable.
    pub async fn train_async(
        &mut self,
        batch: usize,
        steps: &[MemberSteps<'_>],
    ) -> Result<Vec<StepsResult>, GpuError> {
        self.check(batch, steps)?;
        if steps.iter().all(|s| s.rates.is_empty()) {
            return Ok(vec![StepsResult::default(); steps.len()]);
        }
        let mut path = self.path(batch);
        if path != GpuPath::Minibatch && !steps.iter().all(|s| decay_is_mild(s.rates, s.weight_decay, batch))
        {
            path = GpuPath::Minibatch;
        }
        let pool = Pool::new(&self.context, &self.layout, path, batch, steps)?;
        let (context, layout, params) = (&*self.context, &self.layout, &self.params);
        match path {
            GpuPath::Narrow { shared } => {
                narrow::train(context, layout, params, &pool, batch, shared, &mut self.pacers[0]).await?;
            }
            GpuPath::Wide => {
                for job in pool.jobs.iter().filter(|j| j.samples > 0) {
                    wide::train(context, layout, params, &pool, job, batch, &mut self.pacers[1]).await?;
                }
            }
            GpuPath::Minibatch => {
                for job in pool.jobs.iter().filter(|j| j.samples > 0) {
                    minibatch::train(context, layout, params, &pool, job, batch, &mut self.pacers[2]).await?;
                }
            }
        }
        pool.collect(context).await
    }

    fn check(&self, batch: usize, steps: &[MemberSteps]) -> Result<(), GpuError> {
        let refuse = |message: String| Err(GpuError::Refused(message));
        if batch == 0 {
            return refuse("the batch size must be at least 1".into());
        }
        let shape = &self.layout.shape;
        let mut seen = vec![false; self.members];
        for step in steps {
            let samples = step.rates.len() * batch;
            match seen.get_mut(step.member) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => return refuse(format!("member {} is listed twice", step.member)),
                None => return refuse(format!("there is no member {}", step.member)),
            }
            if step.samples.d != shape.d {
                return refuse(format!("samples have d = {}, the model has d = {}", step.samples.d, shape.d));
            }
            if step.first + samples > step.samples.count || step.targets_first + samples > step.targets.count
            {
                return refuse(format!(
                    "member {}: {samples} samples are needed, fewer are given",
                    step.member
                ));
            }
            if step.targets.width != step.targets.loss.target_width(shape.classes) {
                return refuse("targets are for another number of classes".into());
            }
            if step.targets.width == 1 && shape.classes != 2 {
                return refuse("losses of the margin need two classes".into());
            }
        }
        Ok(())
    }

    /// Logits of members `members` on `samples`, left on the device.
    ///
    /// # Errors
    /// If the samples have another d, or memory is out.
    pub fn logits(
        &self,
        members: std::ops::Range<usize>,
        samples: &GpuSamples,
    ) -> Result<GpuLogits, GpuError> {
        if members.end > self.members || members.is_empty() {
            return Err(GpuError::Refused(format!("there are {} members", self.members)));
        }
        logits::logits(&self.context, &self.layout, &self.params, members, samples)
    }

    /// Accuracy of members `members` on labelled samples.
    ///
    /// # Errors
    /// If there are no such members, the samples have no labels or another d, or memory is out.
    pub async fn accuracies_async(
        &self,
        members: std::ops::Range<usize>,
        samples: &GpuSamples,
    ) -> Result<Vec<f64>, GpuError> {
        // All logits of a large group at once would not fit one buffer.
        let row = (samples.count * self.layout.shape.classes).max(1) as u64;
        let room =
            (self.context.limits().max_storage_buffer_binding_size.min(256 << 20) / 4 / row).max(1) as usize;
        let mut all = Vec::with_capacity(members.len());
        for first in members.clone().step_by(room) {
            let last = (first + room).min(members.end);
            let logits = self.logits(first..last, samples)?;
            let right = logits::right_answers(&self.context, samples, &logits).await?;
            all.extend(right.iter().map(|&r| f64::from(r) / samples.count as f64));
        }
        Ok(all)
    }
}
