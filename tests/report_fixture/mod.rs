//! Made-up data in the shape of the quick parity experiment: 10 seeds, 7 arms, censored runs, a correlation spike.
//! Nothing here was trained; it exists to test drawing and is never shown as a result.

#![allow(dead_code)]

use curricle::report::data::*;
use curricle::report::plot::{Axis, Color, Figure, Interval, Mark, Panel, Series, Shape};

/// SplitMix64, so that the fixture is the same everywhere.
struct Noise(u64);

impl Noise {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Roughly normal.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

const BATCH: u64 = 32;
const BUDGET: u64 = 30_000;

/// A run that jumps from chance to 100% around `middle` steps and stops a little later, or at the budget.
fn run(seed: u64, middle: f64, width: f64, noise: &mut Noise, follows: Option<u64>) -> RunCurve {
    let mut points = Vec::new();
    let mut samples_to: std::collections::BTreeMap<String, Option<u64>> =
        [("0.6".to_owned(), None), ("0.99".to_owned(), None)].into();
    for i in 0.. {
        let step = 50 * i;
        let rise = 1.0 / (1.0 + (-(step as f64 - middle) / width).exp());
        let accuracy = (0.5 + 0.5 * rise + 0.006 * noise.normal() * (1.0 - rise)).min(1.0);
        let loss = 0.693 * (1.0 - rise) + 0.002 + 0.002 * noise.unit();
        let teacher_step = follows.map(|every| (step / every + 1) * every);
        points.push(CurvePoint { samples: step * BATCH, step, accuracy, loss, teacher_step });
        for (level, reached) in &mut samples_to {
            if reached.is_none() && accuracy >= level.parse::<f64>().unwrap() {
                *reached = Some(step * BATCH);
            }
        }
        if step >= BUDGET || (rise > 0.9999 && step as f64 > middle + 12.0 * width) {
            break;
        }
    }
    let last = *points.last().unwrap();
    RunCurve {
        seed,
        samples_to,
        final_accuracy: last.accuracy,
        steps: last.step,
        samples: last.samples,
        wall_seconds: last.step as f64 / 9000.0,
        points,
    }
}

fn arm(name: &str, label: &str, settings: &str, kind: ArmKind, group: &str, runs: Vec<RunCurve>) -> Arm {
    let (name, label, settings, group) = (name.into(), label.into(), settings.into(), group.into());
    Arm { name, label, kind, group, settings, runs }
}

fn timeline(seed: u64, middle: f64, noise: &mut Noise) -> Timeline {
    let floor = 0.0036;
    let points: Vec<TimelinePoint> = (1..=100)
        .map(|i| {
            let step = 50 * i;
            let accuracy = 0.5 + 0.5 / (1.0 + (-(step as f64 - middle) / 70.0).exp());
            let spike = (-((step as f64 - middle + 60.0) / 170.0).powi(2)).exp();
            let degrees = (1..=2)
                .map(|degree| {
                    let height = if degree == 1 { 0.085 } else { 0.04 };
                    let mean = floor + height * spike * (1.0 + 0.05 * noise.normal());
                    let off = floor * (1.0 + 0.1 * noise.normal()) + 0.004 * spike;
                    DegreeCorrelation {
                        degree,
                        in_support_mean_abs: mean,
                        in_support_max_abs: 1.5 * mean + 0.002 * noise.unit(),
                        off_support_mean_abs: off,
                        off_support_max_abs: 3.2 * off,
                        noise_floor: floor,
                    }
                })
                .collect();
            TimelinePoint { step, samples: step * BATCH, accuracy, degrees }
        })
        .collect();
    let near = |offset: f64| ((middle + offset) / 50.0).round() as u64 * 50 * BATCH;
    let used = [("early", -500.0), ("middle", 100.0), ("late", 900.0)];
    Timeline {
        seed,
        points,
        transition: Some(Transition { start_samples: near(-250.0), end_samples: near(350.0) }),
        recommended: Some(Recommended {
            samples: near(100.0),
            reason: "Largest degree-1 contrast among checkpoints of 75% to 93% accuracy (made-up data)."
                .into(),
        }),
        used: used.map(|(label, at)| UsedCheckpoint { label: label.into(), samples: near(at) }).into(),
    }
}

fn sweep(noise: &mut Noise) -> SweepTable {
    let arms = [("Labels only (CE)", 300e3), ("One-shot", 280e3), ("Progressive", 140e3)];
    let values = ["0", "1e-4", "0.1", "1", "4"]
        .iter()
        .enumerate()
        .map(|(i, value)| {
            let cells = arms
                .iter()
                .map(|&(arm, base)| {
                    let slower = if arm.starts_with("Labels") { 1.0 } else { 1.0 + 0.45 * i as f64 };
                    let seeds: Vec<SeedReach> = (1..=5)
                        .map(|seed| {
                            let samples = (base * slower * (0.35 * noise.normal()).exp()) as u64;
                            let budget = BUDGET * BATCH;
                            SeedReach { seed, samples: (samples < budget).then_some(samples), budget }
                        })
                        .collect();
                    let tried = [0.03, 0.1, 0.3]
                        .map(|rate| TriedRate { rate, runs: 5, reached: 4, median_samples: Some(base * 1.5) })
                        .into();
                    SweepCell { arm: arm.into(), best_rate: 0.1, seeds, tried }
                })
                .collect();
            SweepValue { value: (*value).into(), cells }
        })
        .collect();
    SweepTable { axis: "temperature tau".into(), level: "0.99".into(), values }
}

/// A figure like the theory's: log-log, bound lines, a quantile band, measured points, and one like a benchmark's.
pub fn own_figures() -> Vec<Figure> {
    let ds = [15.0, 21.0, 29.0, 41.0, 57.0];
    let curve = |f: &dyn Fn(f64) -> f64| ds.iter().map(|&d| [d, f(d)]).collect::<Vec<_>>();
    let labels = curve(&|d: f64| 70.0 * d.powi(3));
    let phase = curve(&|d: f64| 1500.0 * d.powf(-0.1));
    let band = ds.iter().map(|&d| [d, 700.0 * d.powf(-0.1), 4200.0 * d.powf(-0.1)]).collect();
    let spans =
        labels.iter().map(|&[at, y]| Interval { at, low: y / 1.8, high: y * 1.6, open: at > 50.0 }).collect();
    let theory = Figure::new("Samples to recover the support, k = 4 (made up)").panel(
        Panel::new(Axis::log("input dimension d (logarithmic)"), Axis::log("training samples"))
            .with(
                Series::new("phase-1 teacher: quartiles", Color::BLUE, Mark::Band { points: band })
                    .opacity(0.2),
            )
            .with(Series::new(
                "our explicit upper bound",
                Color::REFERENCE,
                Mark::dashed(curve(&|d| 4e3 * d.powi(3))),
            ))
            .with(Series::new(
                "information-theoretic lower bound",
                Color::INK,
                Mark::line(curve(&|d| 4.0 * d.ln())),
            ))
            .with(Series::new(
                "labels: interval",
                Color::VERMILION,
                Mark::Intervals { spans, along: curricle::report::plot::Direction::Y, width: 1.6 },
            ))
            .with(Series::new("labels, measured", Color::VERMILION, Mark::dots(labels, Shape::Square, 4.5)))
            .with(Series::new(
                "phase-1 teacher, measured",
                Color::BLUE,
                Mark::dots(phase, Shape::Circle, 4.5),
            )),
    );
    let names = ["width 1,000", "width 10,000", "width 50,000"].map(str::to_owned).to_vec();
    let bars = vec![[0.0, 410e3], [1.0, 52e3], [2.0, 10.4e3]];
    let bench = Figure::new("Steps per second (made up)").panel(
        Panel::new(Axis::linear("optimiser steps per second"), Axis::categories("", names))
            .height(130.0)
            .with(Series::new(
                "curricle, CPU",
                Color::GREEN,
                Mark::Bars { bars, thickness: 0.6, along: curricle::report::plot::Direction::X },
            )),
    );
    vec![theory, bench]
}

/// The whole fixture.
pub fn report() -> ReportData {
    let mut noise = Noise(7);
    let seeds = 1..=10u64;
    let mut data = ReportData::new("parity-mlp", "quick");
    data.description =
        "FIXTURE, NOT A RESULT. A wide MLP learns (52, 4)-sparse parity; narrow students learn from its \
                        labels, its final state, or its intermediate checkpoints."
            .into();
    data.device = "fixture device".into();
    data.version = "0.1.0".into();
    data.command = "curricle run experiments/parity-mlp/quick.toml --set note=\"a < b & c\"".into();
    data.created = "2026-11-21 12:00 UTC".into();
    data.wall_seconds = 43.2;
    data.chance = 0.5;
    data.spec_toml =
        "# fixture\nexperiment = \"parity-mlp\"\nscale = \"quick\"\n\n[task]\nd = 52\nk = 4\n".into();
    let middles: Vec<f64> = seeds.clone().map(|_| 2100.0 + 180.0 * noise.normal()).collect();
    let teachers: Vec<RunCurve> =
        seeds.clone().zip(&middles).map(|(s, &m)| run(s, m, 70.0, &mut noise, None)).collect();
    data.arms.push(arm("teacher", "Teacher", "width 1000, lr 0.5, batch 32", ArmKind::Teacher, "", teachers));
    let students = [
        ("ce", "Labels only (CE)", "labels", 14_000.0, 0.75, None),
        ("one-shot", "One-shot", "tau 0, final teacher", 15_000.0, 0.7, None),
        ("two-early", "(2,T) from early", "tau 0, T = 1200", 12_000.0, 0.6, None),
        ("two-middle", "(2,T) from middle", "tau 0, T = 1200", 1_900.0, 0.12, None),
        ("two-late", "(2,T) from late", "tau 0, T = 1200", 9_000.0, 0.5, None),
        ("progressive", "Progressive", "tau 0, every 100 steps", 4_100.0, 0.15, Some(100)),
    ];
    for (name, label, settings, middle, spread, follows) in students {
        let runs = seeds
            .clone()
            .map(|seed| {
                let middle = middle * (spread * noise.normal()).exp();
                run(seed, middle, 0.04 * middle + 60.0, &mut noise, follows)
            })
            .collect();
        let settings = format!("width 20, lr 0.1, batch 32, {settings}");
        data.arms.push(arm(name, label, &settings, ArmKind::Student, "students of width 20", runs));
    }
    data.timelines = seeds.zip(&middles).map(|(s, &m)| timeline(s, m, &mut noise)).collect();
    let claim = |name: &str, statement: &str, verdict, value, interval, detail: &str| Claim {
        name: name.into(),
        statement: statement.into(),
        verdict,
        value,
        interval,
        detail: detail.into(),
    };
    data.claims = vec![
        claim(
            "middle-beats-one-shot",
            "(2,T) from the middle checkpoint reaches 99% within 0.5x of the samples of one-shot (median over seeds)",
            Verdict::Pass,
            Some(0.14),
            Some([0.09, 0.22]),
            "ratio of medians, 10 seeds; 2 one-shot runs never reached 99% and count as needing more",
        ),
        claim(
            "early-is-useless",
            "(2,T) from the early checkpoint is no faster than one-shot",
            Verdict::Inconclusive,
            Some(0.8),
            Some([0.4, 1.7]),
            "the interval contains 1",
        ),
        claim(
            "ce-never",
            "Labels only stays below 99% in every seed",
            Verdict::Fail,
            Some(7.0),
            None,
            "7 of 10 reached 99%",
        ),
    ];
    data.references = vec![
        Reference {
            what: "Teacher at 99%".into(),
            paper: "10.8M samples (fig)".into(),
            ours: "76.8k samples".into(),
        },
        Reference { what: "Degree-1 peak".into(), paper: "~0.09 (fig)".into(), ours: "0.088".into() },
    ];
    data.sweeps.push(sweep(&mut noise));
    data.sections.push(Section {
        title: "Theory against measurement".into(),
        text: vec!["A section of the experiment's own: figures and tables as plain data.".into()],
        figures: own_figures(),
        tables: vec![Table {
            caption: "Fitted slopes".into(),
            columns: vec!["Line".into(), "Slope".into()],
            rows: vec![vec!["labels".into(), "3.0".into()], vec!["phase-1 <teacher>".into(), "-0.1".into()]],
        }],
        preformatted: vec!["22\n├── 20 ── a b\n└── 21 ── c".into()],
    });
    data.notes = vec!["All of this is generated by a test; nothing was trained.".into()];
    data
}
