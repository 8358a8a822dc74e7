//! Theorem 3.2 end to end without the command line:
//! `cargo run --release -p curricle-theory --example totals -- SWEEP` with SWEEP one of d, k, epsilon, width,
//! norm (the step scaled by the worst-case norm), literal (first layer of rank one), raw (no repair), step
//! (what the tuned step was chosen from). `curricle theory total` measures the same points with the same
//! seeds.

use std::time::Instant;

use curricle_theory::Result;
use curricle_theory::measure::quiet;
use curricle_theory::total::{Arm, Design, Repair, Settings, TotalLog, confirm, exponents, measure_points};
use curricle_theory::two_phase::FirstLayer;

fn main() -> Result<()> {
    let sweep = std::env::args().nth(1).unwrap_or_else(|| "d".into());
    let prune = Repair { prune: 0.5, ..Repair::default() };
    let mut settings = Settings { trials: 15, repair: prune, max_second: 1 << 22, ..Settings::default() };
    let mut design = Design {
        d: vec![41],
        k: vec![4],
        width_factors: vec![16],
        epsilon: vec![0.2],
        arms: vec![Arm::Progressive, Arm::Labels],
        grid: false,
    };
    let mut steps = vec![settings.step];
    match sweep.as_str() {
        "d" => design.d = vec![41, 15, 21, 29, 61, 101],
        "k" => {
            (design.d, design.k) = (vec![101], vec![4, 2, 3, 5, 6, 8]);
            design.arms = vec![Arm::Progressive];
        }
        "epsilon" => design.epsilon = vec![0.2, 0.4, 0.1, 0.05],
        "width" => design.width_factors = vec![16, 8, 32, 64],
        "one-shot" => {
            (design.d, design.arms) = (vec![21, 15, 29], vec![Arm::OneShot]);
            settings.max_teacher_batch = 1 << 18;
        }
        "norm" => {
            (design.d, design.arms) = (vec![21, 11, 15, 29], vec![Arm::Progressive]);
            (design.k, design.epsilon) = (vec![2], vec![0.3]);
            settings.worst_case_norm = true;
            settings.max_second = 1 << 26;
        }
        "literal" => {
            (design.k, design.arms) = (vec![4, 2, 6], vec![Arm::Progressive]);
            settings.layer = FirstLayer::Gradient;
            settings.max_second = 1 << 16;
        }
        "raw" => {
            (design.d, design.arms) = (vec![41, 21, 101], vec![Arm::Progressive]);
            settings.repair = Repair::default();
            settings.max_second = 1 << 19;
        }
        _ => {
            steps = vec![1.0, 2.0, 4.0, 8.0, 16.0];
            design.arms = vec![Arm::Labels];
            (design.d, settings.trials) = (vec![15], 8);
            (design.width_factors, design.k) = (vec![16, 32], vec![4, 2]);
        }
    }
    for step in steps {
        settings.step = step;
        let (mut found, began) = (Vec::new(), Instant::now());
        for point in design.points() {
            let (results, missing) =
                measure_points(&[point], &settings, &mut TotalLog::default(), &quiet, None)?;
            for r in &results {
                println!(
                    "{} step {step}: first {:?} second {:?} total {:?} 1-delta {:?} reached {}/{} teacher {:?} loss {:?} lowest {:?} best at any width {:?} [{:.0?}]",
                    r.point.name(),
                    r.student.first,
                    r.student.second,
                    r.student.median,
                    r.student.quantile,
                    r.reached,
                    r.trials,
                    r.teacher_second,
                    r.teacher_loss,
                    r.lowest_loss,
                    r.rank_one,
                    began.elapsed()
                );
                if let Some(c) = confirm(r, &settings, 20, settings.seed + 1000, None)? {
                    println!(
                        "    fresh seed {}: {} of {} with {} + {}",
                        c.seed, c.reached, c.trials, c.first, c.second
                    );
                }
            }
            missing.iter().for_each(|(p, why)| println!("{}: {why}", p.name()));
            found.extend(results);
        }
        for e in exponents(&found, settings.confidence)? {
            println!(
                "    {} {} in {}: {:.2} t {:?} bootstrap {:?} theorem {:?} agrees {:?} ({})",
                e.arm.name(),
                e.term,
                e.variable,
                e.fit.slope,
                e.fit.slope_interval.map(|i| (i.low, i.high)),
                e.bootstrap.map(|i| (i.low, i.high)),
                e.theorem,
                e.agrees,
                e.fixed
            );
        }
    }
    Ok(())
}
