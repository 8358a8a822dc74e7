//! A task from outside the library: the majority of three parities. It trains, distils and correlates like a built-in one.
use curricle::core::keys::{KeyError, Section};
use curricle::lab::Laboratory;
use curricle::task::kind::ReadText;
use curricle::task::{BooleanTask, Task, TaskKind};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;

/// `[task] kind = "majority-of-parities"`, `d`, and three lists of coordinates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Majority {
    d: usize,
    parities: [Vec<usize>; 3],
}

impl BooleanTask for Majority {
    fn d(&self) -> usize {
        self.d
    }

    fn classes(&self) -> usize {
        2
    }

    /// 1 where at least two of the products are -1; a set bit stands for x_j = -1.
    fn label(&self, bits: &[u32]) -> u8 {
        let minus = |set: &Vec<usize>| set.iter().filter(|&&j| bits[j / 32] >> (j % 32) & 1 == 1).count() % 2;
        u8::from(self.parities.iter().map(minus).sum::<usize>() >= 2)
    }

    fn nodes(&self) -> Vec<Vec<usize>> {
        self.parities.to_vec()
    }
}

impl Task for Majority {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn chance(&self) -> f64 {
        0.5
    }

    fn boolean(&self, _: u64) -> Option<Arc<dyn BooleanTask>> {
        Some(Arc::new(self.clone()))
    }

    fn resolved(&self, _: u64) -> toml::Table {
        let mut table = toml::Table::from_iter([("kind".to_owned(), KIND.into())]);
        table.extend(toml::Table::try_from(self).expect("plain data"));
        table
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

const KIND: &str = "majority-of-parities";

/// How a spec names it.
#[derive(Debug)]
pub struct Majorities;

impl TaskKind for Majorities {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn resolve(&self, section: Section<'_>, _: ReadText<'_>, _: u64) -> Result<Arc<dyn Task>, KeyError> {
        let task: Majority = section.read()?;
        let inside = task.parities.iter().all(|set| !set.is_empty() && set.iter().all(|j| *j < task.d));
        section.require(
            inside,
            "parities",
            format!("coordinates from 0 to below d = {} are needed", task.d),
        )?;
        Ok(Arc::new(task))
    }
}

const SPEC: &str = r#"
experiment = "majority"
scale = "example"
seeds = [1]
task = { kind = "majority-of-parities", d = 20, parities = [[0, 1], [2, 3], [4, 5]] }
evaluation = { samples = 2000, every_samples = 3200 }
correlations = { samples = 20000, degrees = [2] }
claims.middle-learns = { kind = "reaches", arm = "middle", level = 0.99, at_least = 0.5 }

[teacher]
hidden = [200]
batch = 32
learning_rate = 0.5
steps = 3000
checkpoints = { every_steps = 100 }

[student]
hidden = [50]
batch = 32
learning_rate = 0.2
steps = 6000
stop = { accuracy = 0.995 }

[arms.ce]

[arms.middle]
distill = { schedule = { kind = "n-t", checkpoints = [{ accuracy = 0.85 }, "final"], duration = { steps = 500 } } }
"#;

/// An arm and its samples to 99%, if it got there.
type Row = (String, Option<u64>);

/// One row for each arm.
pub fn run(out: &std::path::Path) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let finished = Laboratory::new().task(Majorities).run(SPEC, out)?;
    Ok(finished.results.runs.iter().map(|r| (r.name.clone(), r.first_reaching(0.99))).collect())
}

#[allow(dead_code)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (arm, samples) in run(std::path::Path::new("runs"))? {
        println!(
            "{arm}: {}",
            samples.map_or("never at 99%".to_owned(), |n| format!("99% after {n} samples"))
        );
    }
    Ok(())
}
