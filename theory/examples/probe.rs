use curricle_theory::{fit, measure::*, two_phase::*};
use std::time::Instant;
fn main() {
    let t0 = Instant::now();
    let ds = [15usize, 21, 29, 41, 57];
    for (name, crit) in
        [("neurons", Criterion::Neurons(0.9)), ("vote", Criterion::Vote), ("pooled", Criterion::Pooled)]
    {
        let mut pts = vec![];
        for d in ds {
            let e = Experiment {
                problem: Problem::first(d, 4).unwrap(),
                source: Source::Labels,
                neurons: 32,
                criterion: crit,
                seed: 1,
            };
            let t = Instant::now();
            let r = recovery_batches(
                &e,
                GrowthSpec { trials: 21, max_batch: 1 << 27, start: 1024, ..Default::default() },
                &mut RecoveryLog::default(),
                &quiet,
            )
            .unwrap();
            println!("labels {name} d {d} median {:?} {:?}", r.median, t.elapsed());
            pts.push((d as f64, r.median.unwrap()));
        }
        println!("{:?}", fit::power_law(&pts, 0.95).unwrap());
    }
    for (name, teacher, crit, count, prune) in [
        ("std", TeacherSpec::default(), Criterion::Neurons(0.9), 1, 0.0),
        ("width 256", TeacherSpec { width: 256, ..Default::default() }, Criterion::Neurons(0.9), 1, 0.0),
        ("vote", TeacherSpec::default(), Criterion::Vote, 1, 0.0),
        ("pool 2", TeacherSpec::default(), Criterion::Neurons(0.9), 2, 0.0),
        ("pool 4", TeacherSpec::default(), Criterion::Neurons(0.9), 4, 0.0),
        ("pool 8", TeacherSpec::default(), Criterion::Neurons(0.9), 8, 0.0),
        ("prune", TeacherSpec::default(), Criterion::Neurons(0.9), 1, 0.5),
        (
            "biased .75",
            TeacherSpec { plus_probability: 0.75, width: 256, ..Default::default() },
            Criterion::Neurons(0.9),
            1,
            0.0,
        ),
        (
            "biased .85",
            TeacherSpec { plus_probability: 0.85, ..Default::default() },
            Criterion::Neurons(0.9),
            1,
            0.0,
        ),
        (
            "allplus",
            TeacherSpec { output: OutputSigns::AllPlus, ..Default::default() },
            Criterion::Neurons(0.9),
            1,
            0.0,
        ),
    ] {
        let mut pts = vec![];
        for d in ds {
            let e = Experiment {
                problem: Problem::first(d, 4).unwrap(),
                source: Source::Pool { teacher: teacher.clone(), count, prune },
                neurons: 32,
                criterion: crit,
                seed: 1,
            };
            let t = Instant::now();
            let r = recovery_batches(
                &e,
                GrowthSpec { trials: 61, ..Default::default() },
                &mut RecoveryLog::default(),
                &quiet,
            )
            .unwrap();
            println!(
                "{name} d {d} ok {} median {:?} of successes {:?} {:?}",
                61 - r.failures,
                r.median,
                r.median_of_successes,
                t.elapsed()
            );
            if let Some(m) = r.median_of_successes {
                pts.push((d as f64, m));
            }
        }
        if pts.len() > 2 {
            println!("{:?}", fit::power_law(&pts, 0.95).unwrap());
        }
    }
    println!("{:?}", t0.elapsed());
}
