//! MLPs on the GPU engine: in each round the next segments of all members are one call, so that seeds, learning rates,
//! schedules and temperatures train in the same dispatches.

use super::group::{Engine, Lane};
use super::member::{Evaluation, Follows, Member, Segment, Supervision, TrainError, View};
use curricle_core::model::{Loss, MlpParams, MlpShape};
use curricle_files as files;
use curricle_gpu::{CheckpointCache, GpuContext, GpuGroup, GpuSamples, GpuTargets, MemberSteps, TargetSpec};
use std::collections::HashMap;
use std::sync::Arc;

/// The models of a group on one GPU.
pub struct GpuMlps {
    context: Arc<GpuContext>,
    lanes: Vec<Lane>,
    /// Held-out samples of each lane, on the device.
    evaluation: Vec<GpuSamples>,
    /// One group per shape.
    groups: Vec<GpuGroup>,
    /// Of each member: its group, its place there, its lane.
    places: Vec<Place>,
    teachers: CheckpointCache,
    /// Number of the first checkpoint of each lane in the cache.
    first_teacher: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    group: usize,
    index: usize,
    lane: usize,
    loss: Loss,
    weight_decay: f32,
}

/// What a model of a group starts from.
pub struct Start<'a> {
    /// Parameters.
    pub params: &'a MlpParams,
    /// Lane.
    pub lane: usize,
    /// What it minimises.
    pub loss: Loss,
    /// Coefficient of the L2 penalty.
    pub weight_decay: f32,
}

/// Samples per chunk, about. Larger than on the CPU: every segment costs a read-back of its loss.
const CHUNK: u64 = 1 << 15;

/// What makes two members' targets the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TargetKey {
    lane: usize,
    follows: Option<Follows>,
    target: Option<[u64; 4]>,
    loss: Loss,
}

/// Targets of one key and the step of their first sample.
type Ready = HashMap<TargetKey, (u64, GpuTargets)>;

impl GpuMlps {
    /// Models are grouped by shape.
    ///
    /// # Errors
    /// If they do not fit on the device.
    pub fn new(
        context: &Arc<GpuContext>,
        lanes: Vec<Lane>,
        models: &[Start<'_>],
    ) -> Result<Self, TrainError> {
        let mut shapes: Vec<(MlpShape, Vec<&MlpParams>)> = Vec::new();
        let mut places = Vec::new();
        for &Start { params, lane, loss, weight_decay } in models {
            let shape = params.shape();
            let group = match shapes.iter().position(|(known, _)| *known == shape) {
                Some(group) => group,
                None => {
                    shapes.push((shape, Vec::new()));
                    shapes.len() - 1
                }
            };
            places.push(Place { group, index: shapes[group].1.len(), lane, loss, weight_decay });
            shapes[group].1.push(params);
        }
        let groups = shapes.iter().map(|(_, all)| GpuGroup::new(context, all)).collect::<Result<_, _>>()?;
        let evaluation = lanes
            .iter()
            .map(|lane| GpuSamples::upload(context, &lane.evaluation))
            .collect::<Result<_, _>>()?;
        let mut first_teacher = vec![0];
        for lane in &lanes {
            first_teacher.push(first_teacher[first_teacher.len() - 1] + lane.teacher.len());
        }
        let teachers = CheckpointCache::new(context, None);
        Ok(Self { context: context.clone(), lanes, evaluation, groups, places, teachers, first_teacher })
    }

    /// Which kernels train model `member`, for people.
    pub fn path(&self, member: usize, batch: usize) -> String {
        self.groups[self.places[member].group].path(batch).to_string()
    }

    fn gpu_view(&self, member: usize) -> GpuView<'_> {
        let Place { group, index, lane, .. } = self.places[member];
        GpuView { group: &self.groups[group], index, evaluation: &self.evaluation[lane], accuracy: None }
    }

    /// Held-out accuracies of these members; neighbours in a group are measured in one call.
    fn accuracies(&self, members: impl Iterator<Item = usize>) -> Result<HashMap<usize, f64>, TrainError> {
        let mut due: Vec<(Place, usize)> = members.map(|i| (self.places[i], i)).collect();
        due.sort_by_key(|(place, _)| (place.group, place.lane, place.index));
        let together = |a: &(Place, usize), b: &(Place, usize)| {
            (a.0.group, a.0.lane, a.0.index + 1) == (b.0.group, b.0.lane, b.0.index)
        };
        let mut all = HashMap::new();
        for run in due.chunk_by(together) {
            let Place { group, index, lane, .. } = run[0].0;
            let found = self.groups[group].accuracies(index..index + run.len(), &self.evaluation[lane])?;
            all.extend(run.iter().map(|(_, i)| *i).zip(found));
        }
        Ok(all)
    }

    /// The targets of a segment, made if they are not ready.
    fn targets(
        &mut self,
        place: Place,
        member: &Member<MlpParams>,
        segment: &Segment,
        chunk: &GpuChunk,
        ready: &mut Ready,
    ) -> Result<TargetKey, TrainError> {
        let (loss, batch, lane) = (place.loss, member.training.batch, member.lane);
        let taught = match (&member.supervision, segment.follows) {
            (Supervision::Teacher { target, .. }, Some(follows)) => Some((*target, follows)),
            _ => None,
        };
        let (from, until) = segment.follows.map_or((chunk.start, chunk.end), |f| (f.from, f.until));
        let until = until.min(chunk.end);
        let target = taught.map(|(target, _)| target.bits());
        let key = TargetKey { lane, follows: segment.follows, target, loss };
        if ready.contains_key(&key) {
            return Ok(key);
        }
        let classes = self.lanes[lane].task.classes();
        let count = (until - from) as usize * batch;
        let targets = match taught {
            None => GpuTargets::from_labels(&self.context, &chunk.samples, 0..count, loss, classes)?,
            Some((target, follows)) => {
                // Only the part of the chunk that follows this checkpoint is put through it.
                let lane_data = &self.lanes[lane];
                let drawn;
                let samples = if (from, until) == (chunk.start, chunk.end) {
                    &chunk.samples
                } else {
                    drawn = draw(&self.context, lane_data, from * batch as u64, count)?;
                    &drawn
                };
                let path = &lane_data.teacher[follows.checkpoint].path;
                let (d, labels) = (lane_data.task.d(), lane_data.task.classes());
                let number = self.first_teacher[lane] + follows.checkpoint;
                let teacher = self.teachers.get(number, || -> Result<_, TrainError> {
                    let read = files::load(path)?;
                    files::expect_shape(&read.params, path, d, labels, None)?;
                    Ok(read.params)
                })?;
                let logits = teacher.group().logits(0..1, samples)?;
                let spec = TargetSpec { loss, target, batch, first_step: from };
                GpuTargets::from_teacher(&self.context, samples, &logits, 0..count, &spec)?
            }
        };
        ready.insert(key, (from, targets));
        Ok(key)
    }
}

/// The samples of one lane in a chunk.
struct GpuChunk {
    start: u64,
    end: u64,
    samples: GpuSamples,
}

/// Drawn here and not on the device, which knows no task's label rule.
fn draw(context: &GpuContext, lane: &Lane, first: u64, count: usize) -> Result<GpuSamples, TrainError> {
    let samples = lane.task.samples(lane.seed, lane.stream, first, count);
    Ok(GpuSamples::upload(context, &samples)?)
}

impl Engine for GpuMlps {
    type Params = MlpParams;

    fn chunk_samples(&self) -> u64 {
        CHUNK
    }

    fn advance(&mut self, members: &mut [Member<MlpParams>], start: u64, end: u64) -> Result<(), TrainError> {
        let here: Vec<bool> = members.iter().map(|m| m.active() && m.state.step == start).collect();
        let mut chunks: Vec<Option<GpuChunk>> = Vec::new();
        for (i, lane) in self.lanes.iter().enumerate() {
            let mine = || members.iter().zip(&here).filter(|(m, here)| **here && m.lane == i).map(|(m, _)| m);
            let Some(longest) = mine().map(|m| m.training.steps).max() else {
                chunks.push(None);
                continue;
            };
            let end = longest.min(end);
            let batch = mine().next().map_or(1, |m| m.training.batch);
            let count = (end - start) as usize * batch;
            let samples = draw(&self.context, lane, start * batch as u64, count)?;
            chunks.push(Some(GpuChunk { start, end, samples }));
        }
        let mut ready = Ready::new();
        loop {
            // The next segment of everyone, its targets, then one call per shape.
            let mut round: Vec<(usize, Segment, TargetKey)> = Vec::new();
            for (i, member) in members.iter_mut().enumerate().filter(|(i, _)| here[*i]) {
                if let Some(segment) = member.next(end) {
                    let chunk = chunks[member.lane].as_ref().expect("a lane with a member has a chunk");
                    let key = self.targets(self.places[i], member, &segment, chunk, &mut ready)?;
                    round.push((i, segment, key));
                }
            }
            if round.is_empty() {
                return Ok(());
            }
            let mut losses = vec![0.0; members.len()];
            for group in 0..self.groups.len() {
                let mine = || round.iter().filter(|(i, ..)| self.places[*i].group == group);
                let steps: Vec<MemberSteps> = mine()
                    .map(|(i, segment, key)| {
                        let training = &members[*i].training;
                        let chunk = chunks[key.lane].as_ref().expect("a lane with a member has a chunk");
                        let (from, targets) = &ready[key];
                        MemberSteps {
                            member: self.places[*i].index,
                            samples: &chunk.samples,
                            first: (segment.step - start) as usize * training.batch,
                            targets,
                            targets_first: (segment.step - from) as usize * training.batch,
                            rates: &segment.rates,
                            weight_decay: self.places[*i].weight_decay,
                        }
                    })
                    .collect();
                let Some((first, ..)) = mine().next() else { continue };
                let batch = members[*first].training.batch;
                let results = self.groups[group].train(batch, &steps)?;
                for ((i, ..), result) in mine().zip(results) {
                    losses[*i] = result.loss_sum;
                }
            }
            let due = round.iter().filter(|(i, segment, _)| members[*i].measures(segment)).map(|(i, ..)| *i);
            let accuracies = self.accuracies(due)?;
            for (i, segment, _) in &round {
                let mut view = self.gpu_view(*i);
                view.accuracy = accuracies.get(i).copied();
                members[*i].after(segment, losses[*i], &mut view)?;
            }
        }
    }

    fn view(&mut self, member: usize) -> Box<dyn View<MlpParams> + '_> {
        Box::new(self.gpu_view(member))
    }
}

struct GpuView<'a> {
    group: &'a GpuGroup,
    index: usize,
    evaluation: &'a GpuSamples,
    /// Where it was measured already.
    accuracy: Option<f64>,
}

impl View<MlpParams> for GpuView<'_> {
    fn evaluate(&mut self) -> Result<Evaluation, TrainError> {
        let accuracy = match self.accuracy {
            Some(accuracy) => accuracy,
            None => self.group.accuracies(self.index..self.index + 1, self.evaluation)?[0],
        };
        Ok(Evaluation { accuracy, loss: None })
    }

    fn params(&mut self) -> Result<MlpParams, TrainError> {
        Ok(self.group.to_params(self.index)?)
    }
}
