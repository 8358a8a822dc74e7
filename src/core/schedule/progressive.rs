//! A checkpoint every interval, in the teacher's own time.

use super::{Duration, Schedule, Stage, Stages, TeacherHistory, TeacherSchedule, Unresolved};
use crate::keys::{KeyError, require};
use serde::{Deserialize, Serialize};

/// There may be so many intervals.
const MOST_INTERVALS: f64 = 1e6;

/// Every-interval progressive: during the i-th interval of the student follow the checkpoint the teacher had after
/// (i+1) x interval x speed, until the final one.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Progressive {
    /// Length of the interval.
    pub interval: Duration,
    /// Teacher samples per student sample.
    #[serde(default = "one")]
    pub speed: f64,
}

fn one() -> f64 {
    1.0
}

impl TeacherSchedule for Progressive {
    fn check(&self, key: &str) -> Result<(), KeyError> {
        self.interval.check(&format!("{key}.interval"))?;
        let good = self.speed.is_finite() && self.speed > 0.0;
        require(good, &format!("{key}.speed"), "must be a positive number")
    }

    fn resolve(&self, teacher: &TeacherHistory, batch: usize) -> Result<Schedule, Unresolved> {
        let steps = self.interval.steps(teacher, batch)?;
        let stages = stages(teacher, steps, steps as f64 * batch as f64 * self.speed)?;
        Ok(Schedule::Stages(Stages { stages }))
    }

    fn label(&self) -> String {
        "progressive".to_owned()
    }
}

/// Stage i follows the checkpoint closest to (i+1) x `stride` teacher samples, up to the final one.
fn stages(teacher: &TeacherHistory, steps: u64, stride: f64) -> Result<Vec<Stage>, Unresolved> {
    let place = &teacher.place;
    let known = teacher.checkpoints.iter().map(|c| c.samples).collect::<Option<Vec<u64>>>();
    let Some((samples, &last)) = known.as_ref().and_then(|all| Some((all, all.last()?))) else {
        return Err(Unresolved(format!("{place}: progressive distillation needs a teacher's run folder")));
    };
    let last = last as f64;
    let intervals = last / stride;
    if intervals > MOST_INTERVALS {
        return Err(Unresolved(format!(
            "{place} would be followed for {intervals:.3e} intervals of {steps} steps; at most {MOST_INTERVALS:.0e} are \
             supported: take a longer interval or a higher speed"
        )));
    }
    let mut stages: Vec<Stage> = Vec::new();
    for i in 1.. {
        let target = stride * i as f64;
        let off = |i: usize| (samples[i] as f64 - target).abs();
        let closest = (1..samples.len()).fold(0, |best, i| if off(i) < off(best) { i } else { best });
        match stages.last_mut() {
            Some(stage) if stage.checkpoint == closest => stage.steps = stage.steps.saturating_add(steps),
            _ => stages.push(Stage { checkpoint: closest, steps }),
        }
        if target >= last {
            break;
        }
    }
    Ok(stages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::DurationSteps;
    use crate::schedule::history::tests::teacher;

    fn resolved(steps: u64, speed: f64, batch: usize) -> Result<Vec<(usize, u64)>, Unresolved> {
        let schedule = Progressive { interval: Duration::Steps(DurationSteps { steps }), speed };
        match schedule.resolve(&teacher(), batch)? {
            Schedule::Stages(Stages { stages }) => {
                Ok(stages.iter().map(|s| (s.checkpoint, s.steps)).collect())
            }
            other => panic!("stages are expected, not {other:?}"),
        }
    }

    #[test]
    fn it_follows_the_teacher_in_time() {
        let stages = |steps, speed, batch| resolved(steps, speed, batch).unwrap();
        let each: Vec<_> = (0..8).map(|i| (i, 100)).collect();
        assert_eq!(stages(100, 1.0, 4), each);
        assert_eq!(stages(200, 1.0, 4), [(1, 200), (3, 200), (5, 200), (7, 200)]);
        assert_eq!(stages(100, 4.0, 4), [(3, 100), (7, 100)]);
        // Half the batch: twice the steps for the same samples.
        assert_eq!(stages(200, 1.0, 2), (0..8).map(|i| (i, 200)).collect::<Vec<_>>());
        // Intervals shorter than the checkpoints are apart: the closest, the earlier one of two.
        assert_eq!(stages(50, 1.0, 4)[..2], [(0, 150), (1, 100)]);
    }

    #[test]
    fn intervals_without_end_and_durations_beyond_numbers_are_harmless() {
        // 3200 samples of the teacher in strides of 4e-4 and of 4e-3.
        let error = resolved(1, 1e-4, 4).unwrap_err().to_string();
        assert!(error.contains("8.000e6 intervals"), "{error}");
        assert!(resolved(1, 1e-3, 4).is_ok());
        assert!(resolved(1, 1e-320, 4).is_err());
        assert!(resolved(u64::MAX, 1.0, 4).is_ok());
    }
}
