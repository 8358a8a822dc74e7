//! A teacher, a student from a checkpoint inside its transition, and one from labels: samples to 99%, all in memory.
use curricle::lab::memory::{MlpRun, distil, train};
use curricle::task::{HierarchicalParity, Support};

/// What each arm needed; `main` prints it, the tests check it.
pub fn run() -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let task = HierarchicalParity::parity(52, 4, &Support::Random { seed: 1 })?;
    let teacher = MlpRun { hidden: vec![1000], learning_rate: 0.5, steps: 6000, ..MlpRun::default() };
    let teacher = train(&task, 1, &teacher)?;
    let middle = teacher.closest_to(0.85);

    let student = MlpRun { hidden: vec![20], steps: 30_000, ..MlpRun::default() };
    let curriculum = distil(&task, 1, &student, &teacher, &[(middle, 2000), (teacher.last(), 0)])?;
    let one_shot = distil(&task, 1, &student, &teacher, &[(teacher.last(), 0)])?;

    let samples = |run: curricle::lab::memory::Trained| run.samples_to(0.99).ok_or("never reached 99%");
    Ok((samples(curriculum)?, samples(one_shot)?))
}

#[allow(dead_code)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (middle, one_shot) = run()?;
    println!(
        "samples to 99%: {middle} through one intermediate checkpoint, {one_shot} from the final teacher alone"
    );
    Ok(())
}
