//! Measures the slopes and the heavy tail of the first phase, and what repairs it. Run with
//! `cargo run --release -p curricle-theory --example heavy_tail`; a few minutes on two cores (`-- repairs`
//! leaves the comparison out). Columns of the second table: teachers recovered of 61 (predicted; median batch
//! of those).

use std::time::Instant;

use curricle_theory::Result;
use curricle_theory::compare::{CompareLog, CompareSpec, compare};
use curricle_theory::measure::{
    Criterion, Experiment, GrowthSpec, RecoveryLog, Source, quiet, recovery_batches,
};
use curricle_theory::recovery::SignSumModel;
use curricle_theory::two_phase::{OutputSigns, Problem, TeacherSpec};

const DIMENSIONS: [usize; 5] = [15, 21, 29, 41, 57];

fn main() -> Result<()> {
    let start = Instant::now();
    if std::env::args().nth(1).as_deref() != Some("repairs") {
        comparison()?;
    }
    repairs(start)
}

fn comparison() -> Result<()> {
    let start = Instant::now();
    let comparison = compare(&CompareSpec::default(), &mut CompareLog::default(), &quiet, None)?;
    for line in &comparison.lines {
        let points: Vec<String> =
            line.points.iter().map(|p| p.samples.map_or("-".into(), |s| format!("{s:.3e}"))).collect();
        println!(
            "{:28} {:24?} {}",
            line.name,
            line.fit.as_ref().map(|f| (f.slope, f.slope_interval.map(|i| (i.low, i.high)))),
            points.join(" ")
        );
    }
    for v in &comparison.verdicts {
        println!(
            "{} d {} holds {:?}, above own bound {} of {}",
            v.line, v.d, v.holds, v.above_own_bound, v.compared
        );
    }
    for r in &comparison.recovery {
        let p = r.predicted.as_ref().map(|p| (p.success * r.teachers as f64, p.limit, p.normal_limit));
        println!("d {}: {} of {} recovered; predicted {p:.2?}", r.d, r.recovered, r.teachers);
    }
    println!("{:?}\ncompare: {:?}", comparison.fitted, start.elapsed());

    Ok(())
}

fn repairs(start: Instant) -> Result<()> {
    let spec = TeacherSpec::default;
    let neurons = Criterion::Neurons(0.9);
    let cube = |factor: u64| {
        move |d: usize| TeacherSpec { batch: Some(factor * (d as u64).pow(3)), ..TeacherSpec::default() }
    };
    type Build = Box<dyn Fn(usize) -> TeacherSpec>;
    let arms: Vec<(&str, Build, Criterion, usize, f64)> = vec![
        ("as in the algorithm", Box::new(move |_| spec()), neurons, 1, 0.0),
        ("width 256", Box::new(move |_| TeacherSpec { width: 256, ..spec() }), neurons, 1, 0.0),
        ("vote", Box::new(move |_| spec()), Criterion::Vote, 1, 0.0),
        ("pooled energy", Box::new(move |_| spec()), Criterion::Pooled, 1, 0.0),
        ("teacher batch 100 d^3", Box::new(cube(100)), neurons, 1, 0.0),
        ("100 d^3, width 8", Box::new(move |d| TeacherSpec { width: 8, ..cube(100)(d) }), neurons, 1, 0.0),
        (
            "100 d^3, centred",
            Box::new(move |d| TeacherSpec { centred: true, ..cube(100)(d) }),
            neurons,
            1,
            0.0,
        ),
        ("pool of 2 seeds", Box::new(move |_| spec()), neurons, 2, 0.0),
        ("pool of 4 seeds", Box::new(move |_| spec()), neurons, 4, 0.0),
        ("pool of 8 seeds", Box::new(move |_| spec()), neurons, 8, 0.0),
        ("pruned", Box::new(move |_| spec()), neurons, 1, 0.5),
        ("pool of 4, pruned", Box::new(move |_| spec()), neurons, 4, 0.5),
        (
            "P(+1) = 0.85",
            Box::new(move |_| TeacherSpec { plus_probability: 0.85, ..spec() }),
            neurons,
            1,
            0.0,
        ),
        (
            "P(+1) = 0.85, width 1024",
            Box::new(move |_| TeacherSpec { plus_probability: 0.85, width: 1024, ..spec() }),
            neurons,
            1,
            0.0,
        ),
        (
            "all plus",
            Box::new(move |_| TeacherSpec { output: OutputSigns::AllPlus, ..spec() }),
            neurons,
            1,
            0.0,
        ),
    ];
    for (name, build, criterion, count, prune) in arms {
        let mut cells = Vec::new();
        for d in DIMENSIONS {
            let teacher = build(d);
            // The model knows neither pools nor pruning nor biased signs: the number in brackets is for the
            // plain teacher.
            let predicted =
                SignSumModel::new(d, 4, teacher.width)?.predict(100_000, 0.9, teacher.batch, 500, 1)?.success
                    * 61.0;
            let source = Source::Pool { teacher, count, prune };
            let experiment = Experiment {
                problem: Problem::first(d, 4)?,
                source,
                neurons: 32,
                criterion,
                seed: 1,
                cancel: None,
            };
            let r = recovery_batches(
                &experiment,
                GrowthSpec { factor: 1.3, ..GrowthSpec::default() },
                &mut RecoveryLog::default(),
                &quiet,
            )?;
            cells.push(format!(
                "{} ({predicted:.0}; {:.0})",
                61 - r.failures,
                r.median_of_successes.unwrap_or(0.0)
            ));
        }
        println!("{name:26} {}  [{:.0?}]", cells.join("  "), start.elapsed());
    }
    Ok(())
}
