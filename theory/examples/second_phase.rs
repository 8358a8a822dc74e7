//! Samples of the second phase against its step: `cargo run --release -p curricle-theory --example second_phase`.

use curricle_theory::Result;
use curricle_theory::measure::quiet;
use curricle_theory::total::{Arm, Point, Repair, Settings, TotalLog, measure_points};

fn main() -> Result<()> {
    for (k, width) in [(2, 64), (4, 128), (4, 256), (4, 512), (6, 1024)] {
        for epsilon in [0.2] {
            for step in [1.0, 3.0, 10.0, 30.0] {
                let point = Point { d: 41, k, width, epsilon, arm: Arm::Progressive };
                let settings = Settings {
                    trials: 6,
                    step,
                    max_second: 1 << 20,
                    repair: Repair { prune: 0.5, ..Repair::default() },
                    ..Settings::default()
                };
                let began = std::time::Instant::now();
                let (found, missing) =
                    measure_points(&[point.clone()], &settings, &mut TotalLog::default(), &quiet, None)?;
                for r in found {
                    println!(
                        "{} step {step}: first {:?} second {:?} teacher {:?} reached {} of {} lowest {:?} A {:.1} R {:.2} [{:.1?}]",
                        point.name(), r.student.first, r.student.second, r.teacher_second, r.reached, r.trials,
                        r.lowest_loss, r.radius, r.feature_norm, began.elapsed()
                    );
                }
                for (p, why) in missing {
                    println!("{}: {why}", p.name());
                }
            }
        }
    }
    Ok(())
}
