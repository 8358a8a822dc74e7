use super::*;
use crate::measure::{Measure, MeasureContext, MeasureError, Measured, Subject};
use crate::run::gather::{RunRecord, Status, TEACHER};
use crate::train::member::Metric;
use curricle_core::verdict::Verdict;
use serde_json::Value;
use std::sync::Arc;

/// A run that reaches 99% at `reached` samples, or never within 1000.
fn run(arm: &str, seed: u64, reached: Option<u64>) -> RunRecord {
    let metric = |samples, accuracy| Metric {
        step: samples,
        samples,
        accuracy,
        evaluation_loss: None,
        loss: None,
        learning_rate: None,
        teacher_step: None,
        wall_seconds: 0.0,
    };
    let mut metrics = vec![metric(0, 0.5)];
    metrics.extend(reached.map(|s| metric(s, 0.995)));
    metrics.push(metric(1000, if reached.is_some() { 1.0 } else { 0.55 }));
    RunRecord {
        name: arm.into(),
        arm: arm.into(),
        at: None,
        learning_rate: 0.1,
        seed,
        status: Status::Finished,
        final_accuracy: metrics.last().map(|m| m.accuracy),
        metrics,
        budget: 1000,
    }
}

/// What the tests record.
#[derive(Default)]
struct Book {
    runs: Vec<RunRecord>,
    measured: IndexMap<String, Vec<Measured>>,
    measures: IndexMap<String, Arc<dyn Measure>>,
    claims: IndexMap<String, ClaimSpec>,
}

impl Book {
    fn of(runs: Vec<RunRecord>) -> Self {
        Self { runs, ..Self::default() }
    }

    /// Judges a claim given as TOML, at a confidence low enough for a few seeds.
    fn judge(&self, toml: &str, seeds: &[u64], confidence: f64) -> Claim {
        let claim: ClaimSpec = toml::from_str(toml).unwrap();
        let evidence = Evidence {
            runs: &self.runs,
            measured: &self.measured,
            measures: &self.measures,
            claims: &self.claims,
            seeds,
            headline: 0.99,
            confidence,
        };
        judge(&IndexMap::from([("c".to_owned(), claim)]), &evidence).remove(0)
    }

    fn check(&self, toml: &str) -> Result<(), String> {
        let claim: ClaimSpec = toml::from_str(toml).map_err(|e| e.to_string())?;
        let arm = |name: &str, _| self.runs.iter().any(|r| r.arm == name);
        let facts = Facts { teacher: true, arm: &arm, measures: &self.measures, claims: &self.claims };
        claim.check("c", &facts)
    }
}

/// Judges a ratio of a to b at three quarters: what three seeds cover.
fn ratio(a: &[Option<u64>], b: &[Option<u64>], at_most: f64) -> Claim {
    let seeds: Vec<u64> = (0..a.len() as u64).collect();
    let mut runs: Vec<RunRecord> = seeds.iter().map(|&s| run("a", s, a[s as usize])).collect();
    runs.extend(seeds.iter().map(|&s| run("b", s, b[s as usize])));
    let claim =
        format!("kind = \"samples-ratio\"\narm = \"a\"\nthan = \"b\"\nlevel = 0.99\nat_most = {at_most:?}");
    Book::of(runs).judge(&claim, &seeds, 0.5)
}

#[test]
fn ratios_of_finished_runs() {
    let claim = ratio(&[Some(100), Some(200), Some(300)], &[Some(500), Some(500), Some(500)], 0.7);
    assert_eq!((claim.verdict, claim.value), (Verdict::Pass, Some(0.4)));
    assert_eq!(claim.interval, [Some(0.2), Some(0.6)]);
    assert_eq!(ratio(&[Some(100), Some(300)], &[Some(200), Some(400)], 0.6).verdict, Verdict::Inconclusive);
    assert_eq!(ratio(&[Some(100), Some(300)], &[Some(200), Some(400)], 0.4).verdict, Verdict::Fail);
}

#[test]
fn censored_runs_are_bounds() {
    // The slower arm never arrives: the ratio is below 0.1 to 0.3, and that is enough.
    let claim = ratio(&[Some(100), Some(200), Some(300)], &[None, None, None], 0.5);
    assert_eq!((claim.verdict, claim.value), (Verdict::Pass, Some(0.2)));
    assert_eq!(claim.interval, [Some(0.0), Some(0.3)]);
    // The faster arm never arrives: above 2, 2, 2.
    let claim = ratio(&[None; 3], &[Some(500); 3], 0.5);
    assert_eq!((claim.verdict, claim.value, claim.interval), (Verdict::Fail, Some(2.0), [Some(2.0), None]));
    // Neither arrives: nothing is known.
    assert_eq!(ratio(&[None; 3], &[None; 3], 0.5).verdict, Verdict::Inconclusive);
}

const REACHES: &str = "kind = \"reaches\"\narm = \"a\"\nlevel = 0.99\nat_least = ";

#[test]
fn counts_and_levels() {
    let book = Book::of((0..4).map(|s| run("a", s, (s > 0).then_some(100))).collect());
    let reaches = |at_least: f64, seeds: &[u64]| book.judge(&format!("{REACHES}{at_least:?}"), seeds, 0.5);
    let seeds = [0, 1, 2, 3];
    // 3 of 4 at 50%: from 0.457 to 0.931.
    assert_eq!((reaches(0.4, &seeds).verdict, reaches(0.4, &seeds).value), (Verdict::Pass, Some(0.75)));
    assert_eq!(reaches(0.75, &seeds).verdict, Verdict::Inconclusive);
    assert_eq!(reaches(0.95, &seeds).verdict, Verdict::Fail);
    // A seed that is missing decides nothing.
    let missing = reaches(0.2, &[0, 1, 2, 3, 4]);
    assert_eq!(missing.verdict, Verdict::Inconclusive);
    assert!(missing.detail.contains("1 seed has no result"), "{}", missing.detail);
    let below = "kind = \"stays-below\"\narm = \"a\"\nlevel = 0.6";
    // One seed covers nothing, whatever its value.
    let one = book.judge(below, &[0], 0.9);
    assert_eq!((one.verdict, one.value, one.coverage), (Verdict::Inconclusive, Some(0.55), Some(0.0)));
    assert_eq!((one.seeds_needed, one.p_value), (Some(5), 1.0));
    assert_eq!(book.judge(below, &[1, 2, 3], 0.5).verdict, Verdict::Fail);
}

#[test]
fn a_tuned_arm_stands_for_its_best_rate_at_the_headline_level_whatever_the_claims_level() {
    // Rate 0.1 gets to 55% first and never to 99%; rate 0.3 the other way round.
    let mut runs = vec![run("a", 0, None), run("a", 1, None)];
    for r in &mut runs {
        r.metrics[0].accuracy = 0.55;
    }
    for (seed, samples) in [(0, 500), (1, 400)] {
        runs.push(RunRecord { learning_rate: 0.3, ..run("a", seed, Some(samples)) });
    }
    let best = crate::run::gather::runs_of(&runs, "a", None, 0.99);
    assert!(best.iter().all(|r| r.learning_rate == 0.3) && best.len() == 2);
    runs.extend((0..2).map(|s| run("b", s, Some(1000))));
    let book = Book::of(runs);
    let at = |level: f64| {
        let claim =
            format!("kind = \"samples-ratio\"\narm = \"a\"\nthan = \"b\"\nlevel = {level:?}\nat_most = 1.0");
        book.judge(&claim, &[0, 1], 0.5).value.unwrap()
    };
    // The runs of the figure, rate 0.3: at 55% they are first seen at 500 and 400 samples, not at 0.
    assert!((at(0.99) - 0.45).abs() < 1e-12);
    assert!((at(0.55) - 0.45).abs() < 1e-12);
}

#[test]
fn seeds_without_the_condition_are_counted_apart() {
    let mut runs: Vec<RunRecord> = (0..6).map(|s| run("a", s, (s != 5).then_some(100))).collect();
    runs.extend((0..6).map(|s| run("b", s, Some(200))));
    runs.extend((0..6).map(|s| run(TEACHER, s, (s != 5).then_some(300))));
    let mut book = Book::of(runs);
    let claim = "kind = \"samples-ratio\"\narm = \"a\"\nthan = \"b\"\nlevel = 0.99\nat_most = 0.7\n";
    let seeds = [0, 1, 2, 3, 4, 5];
    assert_eq!(book.judge(claim, &seeds, 0.9).verdict, Verdict::Inconclusive);
    let learned = book.judge(&format!("{claim}given = \"teacher-reaches-99\""), &seeds, 0.9);
    assert_eq!((learned.verdict, learned.seeds, learned.value), (Verdict::Pass, 5, Some(0.5)));
    assert_eq!(learned.given.unwrap().apart, [5]);
    let said = "counted apart, since teacher-reaches-99 does not hold there: seed 5: >5.000";
    assert!(learned.detail.contains(said), "{}", learned.detail);
    assert!(learned.statement.ends_with(", given teacher-reaches-99"));
    // The same by a claim's name, and for a claim that counts seeds.
    let teacher = REACHES.replace("\"a\"", "\"teacher\"") + "0.5";
    book.claims.insert("learned".into(), toml::from_str(&teacher).unwrap());
    let given = format!("{claim}given = \"learned\"");
    assert_eq!(book.judge(&given, &seeds, 0.9).verdict, Verdict::Pass);
    let count = format!("{REACHES}0.5\ngiven = \"learned\"");
    assert_eq!(book.judge(&count, &seeds, 0.9).value, Some(1.0));
    // A teacher that has no result leaves the condition, and with it the verdict, open.
    book.runs.retain(|r| !(r.is_teacher() && r.seed == 2));
    assert_eq!(book.judge(&given, &seeds, 0.5).verdict, Verdict::Inconclusive);
    book.check(&given).unwrap();
    for bad in ["c", "teacher-reaches-0", "teacher-reaches-101", "nothing"] {
        let error = book.check(&format!("{claim}given = {bad:?}")).unwrap_err();
        assert!(error.contains(bad) && error.contains("this spec has learned"), "{error}");
    }
}

#[test]
fn a_sweep_that_changes_the_teacher_keeps_conditions_and_measurements_apart() {
    let at = |at: f64, run: RunRecord| RunRecord { name: format!("{}+d-{at}", run.arm), at: Some(at), ..run };
    let mut book = Book::default();
    for seed in 0..5 {
        for (d, teacher) in [(10.0, Some(300)), (12.0, None)] {
            let more = [run("a", seed, Some(100)), run("b", seed, Some(200)), run(TEACHER, seed, teacher)];
            book.runs.extend(more.map(|run| at(d, run)));
            let measured = Measured { seed, run: format!("{TEACHER}+d-{d}"), value: d.into() };
            book.measured.entry("norm".into()).or_default().push(measured);
        }
    }
    book.measures.insert("norm".into(), Arc::new(Value1(Subject::TeacherCheckpoints)));
    let ratio = |at: &str| {
        let claim = "kind = \"samples-ratio\"\narm = \"a\"\nthan = \"b\"\nlevel = 0.99\nat_most = 0.7";
        book.judge(&format!("{claim}\ngiven = \"teacher-reaches-99\"\nat = {at}"), &[0, 1, 2, 3, 4], 0.9)
    };
    assert_eq!((ratio("10").verdict, ratio("10").seeds), (Verdict::Pass, 5));
    assert_eq!((ratio("12").verdict, ratio("12").seeds), (Verdict::Inconclusive, 0));
    let norm = |at: &str| {
        let claim = "kind = \"measured\"\nof = \"norm\"\nquantity = \"size\"\nat_least = 11.0";
        book.judge(&format!("{claim}\nat = {at}"), &[0, 1, 2, 3, 4], 0.9)
    };
    assert_eq!((norm("10").verdict, norm("10").value), (Verdict::Fail, Some(10.0)));
    assert_eq!((norm("12").verdict, norm("12").value), (Verdict::Pass, Some(12.0)));
}

/// A measurement of the tests: the value itself.
#[derive(Debug)]
struct Value1(Subject);

impl Measure for Value1 {
    fn subject(&self) -> Subject {
        self.0
    }
    fn keys(&self) -> toml::Table {
        toml::Table::new()
    }
    fn measure(&self, _: &MeasureContext<'_>) -> Result<Option<Value>, MeasureError> {
        Ok(None)
    }
    fn quantities(&self) -> Vec<String> {
        vec!["size".into()]
    }
    fn evidence(&self, value: &Value, _: &str) -> Option<f64> {
        value.as_f64()
    }
}

#[test]
fn claims_can_be_about_any_measurement() {
    let mut book = Book::of((0..5).flat_map(|s| [run("a", s, Some(9)), run(TEACHER, s, Some(9))]).collect());
    for (key, subject, run) in
        [("ends", Subject::FinalModels, "a"), ("norm", Subject::TeacherCheckpoints, TEACHER)]
    {
        book.measures.insert(key.into(), Arc::new(Value1(subject)));
        let value = |seed: u64| Measured { seed, run: run.into(), value: (1.0 + seed as f64).into() };
        book.measured.insert(key.into(), (0..5).map(value).collect());
    }
    let claim = |text: &str| format!("kind = \"measured\"\n{text}");
    let norm = claim("of = \"norm\"\nquantity = \"size\"\nat_least = 0.5");
    book.check(&norm).unwrap();
    let judged = book.judge(&norm, &[0, 1, 2, 3, 4], 0.9);
    assert_eq!((judged.verdict, judged.value), (Verdict::Pass, Some(3.0)));
    assert_eq!(judged.statement, "median over seeds of size of norm of teacher is at least 0.5");
    let ends = claim("of = \"ends\"\nquantity = \"size\"\narm = \"a\"\nat_most = 0.5");
    book.check(&ends).unwrap();
    assert_eq!(book.judge(&ends, &[0, 1, 2, 3, 4], 0.9).verdict, Verdict::Fail);
    for (bad, said) in [
        ("of = \"norm\"\nquantity = \"size\"", "at_most or at_least"),
        ("of = \"norm\"\nquantity = \"weight\"\nat_most = 1.0", "it has size"),
        ("of = \"more\"\nquantity = \"size\"\nat_most = 1.0", "ends, norm"),
        ("of = \"norm\"\nquantity = \"size\"\narm = \"a\"\nat_most = 1.0", "teacher only"),
        ("of = \"ends\"\nquantity = \"size\"\narm = \"x\"\nat_most = 1.0", "no arm \"x\""),
        ("of = \"ends\"\nquantity = \"size\"\nat_most = 1.0\nmore = 1", "unknown field `more`"),
    ] {
        let error = book.check(&claim(bad)).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}
