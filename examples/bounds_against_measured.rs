//! How many samples the first phase of learning a parity from labels needs: the explicit bound, its prediction, and the
//! smallest batch that was enough when the step was really taken.
use curricle::theory::bounds::{GradientStatistics, labels_first_phase, predicted_batch};
use curricle::theory::measure::{BatchLog, Criterion, Experiment, SearchSpec, Source, quiet, smallest_batch};
use curricle::theory::two_phase::Problem;

/// d, the bound, the prediction, and what was measured.
type Row = (usize, f64, f64, u64);

/// One row for each d.
pub fn run() -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let (k, neurons, delta) = (2, 32, 0.2);
    let at = |d: usize| {
        let bound = labels_first_phase(d, k, 0.5, neurons, delta)?.samples;
        let predicted = predicted_batch(&GradientStatistics::labels(d, k, 0.5)?, 0.5)?.samples;
        let problem = Problem::first(d, k)?;
        let (source, criterion) = (Source::Labels, Criterion::Vote);
        let experiment = Experiment { problem, source, neurons, criterion, seed: 1, cancel: None };
        let spec = SearchSpec { delta, trials: 20, ..SearchSpec::default() };
        let found = smallest_batch(&experiment, spec, &mut BatchLog::default(), &quiet)?;
        Ok((d, bound, predicted, found.batch.ok_or("no batch was enough")?))
    };
    [11, 21, 41].into_iter().map(at).collect()
}

#[allow(dead_code)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:>4} {:>12} {:>12} {:>12}", "d", "bound", "predicted", "measured");
    for (d, bound, predicted, measured) in run()? {
        println!("{d:>4} {bound:>12.0} {predicted:>12.0} {measured:>12}");
    }
    Ok(())
}
