//! A measurement of another crate, as far as this one can tell, from its section to its claim.

use super::*;
use crate::device::Device;
use crate::family::Families;
use crate::registry::Registry;
use crate::run::experiment::{Results, run};
use crate::run::gather::Status;
use crate::run::judge::judge;
use crate::run::options::{Existing, Observer, Options};
use crate::run::plan::Plan;
use crate::run::report_data::{Context, report_data};
use crate::run::spec::{SpecError, SpecFile};
use crate::train::member::Metric;
use curricle_core::verdict::Verdict;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const SPEC: &str = r#"
experiment = "tiny"
scale = "test"
seeds = [1, 2, 3, 4, 5]
task = { kind = "parity", d = 8, k = 2 }
evaluation = { samples = 100, every_samples = 80 }
correlations = { samples = 200, degrees = [1], random = 3 }
[norms]
scale = 2.0
[teacher]
hidden = [4]
batch = 4
learning_rate = 0.1
steps = 60
checkpoints = { every_steps = 20 }
[arms.ce]
hidden = [3]
batch = 4
learning_rate = 0.1
steps = 40
[claims.grown]
kind = "measured"
of = "norms"
quantity = "final"
at_least = 0.0
[claims.small]
kind = "measured"
of = "norms"
quantity = "final"
at_most = 0.0
"#;

/// Counts how often a checkpoint was measured.
#[derive(Debug, Default, Clone)]
struct NormMeasurement(Arc<AtomicUsize>);

#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct Norms {
    scale: f64,
    #[serde(skip)]
    count: Arc<AtomicUsize>,
}

impl Measurement for NormMeasurement {
    fn key(&self) -> &'static str {
        "norms"
    }

    fn resolve(&self, section: Section<'_>, setting: &Setting<'_>) -> Result<Arc<dyn Measure>, KeyError> {
        let norms = Norms { count: self.0.clone(), ..section.read()? };
        section.require_here(setting.teacher, "there is no [teacher] to measure")?;
        section.require(norms.scale > 0.0, "scale", "must be a positive number")?;
        Ok(Arc::new(norms))
    }
}

fn curve(value: &Value) -> Vec<[f64; 2]> {
    let points = value.as_array().into_iter().flatten();
    points.filter_map(|p| Some([p["step"].as_f64()?, p["value"].as_f64()?])).collect()
}

impl Measure for Norms {
    fn subject(&self) -> Subject {
        Subject::TeacherCheckpoints
    }

    fn keys(&self) -> toml::Table {
        toml::Table::try_from(self).unwrap()
    }

    fn measure(&self, context: &MeasureContext<'_>) -> Result<Option<Value>, MeasureError> {
        let found = context.each_checkpoint(&self.keys(), |_, path| {
            self.count.fetch_add(1, Ordering::Relaxed);
            let first = curricle_files::load(path).map_err(MeasureError::at(path))?.params.layers.remove(0);
            Ok(self.scale * f64::from(first.weight.iter().map(|w| w * w).sum::<f32>().sqrt()))
        })?;
        Ok(found.map(|f| serde_json::to_value(f).unwrap()))
    }

    fn quantities(&self) -> Vec<String> {
        vec!["final".to_owned()]
    }

    fn evidence(&self, value: &Value, _: &str) -> Option<f64> {
        curve(value).last().map(|p| p[1])
    }

    fn report(&self, found: &[Measured], _: &Shown<'_>, report: &mut ReportData) {
        let curve = |m: &Measured| Curve { label: format!("seed {}", m.seed), points: curve(&m.value) };
        let curves: Vec<Curve> = found.iter().map(curve).collect();
        report.sections.push(curve_section("Norm of the first layer", "", "step", "norm", &curves));
    }
}

struct Silent;

impl Observer for Silent {
    fn started(&self, _: &str, _: u64, _: u64, _: u64) {}
    fn progress(&self, _: &str, _: u64, _: u64) {}
    fn evaluated(&self, _: &str, _: u64, _: &Metric) {}
    fn ended(&self, _: &str, _: u64, _: Status, _: Option<&str>) {}
    fn note(&self, _: &str) {}
}

fn plan(text: &str, overrides: &[&str]) -> Result<Plan, SpecError> {
    counting(text, overrides, &NormMeasurement::default())
}

fn counting(text: &str, overrides: &[&str], norms: &NormMeasurement) -> Result<Plan, SpecError> {
    let path = Path::new("a.toml");
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let registry = Registry::builtin().measurement(norms.clone());
    Plan::resolve_with(SpecFile::parse(path, text, &overrides)?, path, &registry)
}

fn go(plan: &Plan, out: &Path, existing: Existing, cancel: bool) -> Results {
    let options = Options {
        out: out.to_owned(),
        existing,
        device: Device::Cpu,
        threads: 1,
        cancel: &AtomicBool::new(cancel),
        observer: &Silent,
        save_every: Duration::from_secs(1000),
    };
    run(plan, &options).unwrap()
}

#[test]
fn a_measurement_of_another_crate_is_kept_shown_and_judged_like_ours() {
    let folder = tempfile::tempdir().unwrap();
    let norms = NormMeasurement::default();
    let plan_of = |overrides: &[&str]| counting(SPEC, overrides, &norms).unwrap();
    let measured = || norms.0.swap(0, Ordering::Relaxed);
    let whole = plan_of(&[]);
    assert!(whole.spec_toml.contains("[correlations]") && whole.spec_toml.contains("[norms]\nscale = 2.0"));
    let results = go(&whole, folder.path(), Existing::Fresh, false);
    assert_eq!((results.interrupted, measured()), (false, 15));
    let found = &results.measured["norms"];
    assert_eq!(found.iter().map(|m| m.seed).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(curve(&found[0].value).iter().map(|p| p[0]).collect::<Vec<_>>(), [20.0, 40.0, 60.0]);
    // Judged.
    let claims = judge(&whole, &results);
    assert_eq!(claims.iter().map(|c| c.verdict).collect::<Vec<_>>(), [Verdict::Pass, Verdict::Fail]);
    assert_eq!(claims[0].statement, "median over seeds of final of norms of teacher is at least 0");
    // Shown, beside ours.
    let context = Context { device: "cpu", command: "", wall_seconds: 0.0 };
    let report = report_data(&whole, &results, &claims, context);
    assert_eq!((report.timelines.len(), report.sections.len()), (5, 1));
    assert_eq!(report.sections[0].figures[0].panels[0].series[0].label, "seed 1");
    // Kept, and measured again only where the settings differ.
    let again = go(&whole, folder.path(), Existing::Resume, false);
    assert_eq!((&again.measured["norms"], measured()), (found, 0));
    let other = go(&plan_of(&["norms.scale=4.0"]), folder.path(), Existing::Resume, false);
    assert_eq!(measured(), 15);
    assert_eq!(curve(&other.measured["norms"][0].value)[2][1], 2.0 * curve(&found[0].value)[2][1]);
    // A fresh run leaves nothing of it.
    let file = |seed: u64| folder.path().join(format!("tiny/teacher/seed-{seed}/norms.json"));
    assert!(file(1).exists());
    let without = SPEC.split("[claims").next().unwrap().replace("[norms]\nscale = 2.0\n", "");
    go(&plan(&without, &[]).unwrap(), folder.path(), Existing::Fresh, false);
    assert!((1..=5).all(|seed| !file(seed).exists()));
}

#[test]
fn files_of_0_1_are_read_and_not_measured_again() {
    let folder = tempfile::tempdir().unwrap();
    let spec = SPEC.split("[claims").next().unwrap().replace("[1, 2, 3, 4, 5]", "[1]");
    let plan = plan(&spec, &[]).unwrap();
    go(&plan, folder.path(), Existing::Fresh, false);
    let file = folder.path().join("tiny/teacher/seed-1/correlations.json");
    // The layout of 0.1: what was asked, and the timeline. A mark in it shows that it is this one that is taken.
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        kept.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["samples", "degrees", "random", "steps", "timeline"]
    );
    kept["timeline"]["no_recommendation"] = "kept".into();
    std::fs::write(&file, kept.to_string()).unwrap();
    let found = go(&plan, folder.path(), Existing::Resume, false);
    assert_eq!(found.measured["correlations"][0].value["no_recommendation"], "kept");
}

#[test]
fn a_run_that_is_asked_to_end_measures_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&SPEC.replace("[1, 2, 3, 4, 5]", "[1]"), &[]).unwrap();
    go(&plan, folder.path(), Existing::Fresh, false);
    let teacher = folder.path().join("tiny/teacher/seed-1");
    for file in ["norms.json", "correlations.json"] {
        std::fs::remove_file(teacher.join(file)).unwrap();
    }
    let (cancel, families) = (AtomicBool::new(true), Families::builtin());
    let context = |key| MeasureContext {
        key,
        folder: &teacher,
        run: "teacher",
        seed: 1,
        task: &*plan.task,
        families: &families,
        device: &Device::Cpu,
        threads: 1,
        cancel: &cancel,
        note: &|_| {},
    };
    for (key, measure) in &plan.measures {
        assert_eq!(measure.measure(&context(key)).unwrap(), None, "{key}");
        assert!(!teacher.join(format!("{key}.json")).exists(), "{key}");
    }
}

#[test]
fn sections_that_nothing_claims_are_refused_with_their_line() {
    let error = |text: &str, set: &[&str]| plan(text, set).unwrap_err().to_string();
    let unknown = error(&SPEC.replace("[norms]", "[norm]"), &[]);
    for part in ["line 8", "`norm`", "`correlations`", "`norms`", "`teacher`"] {
        assert!(unknown.contains(part), "{part}: {unknown}");
    }
    let key = error(&SPEC.replace("scale = 2.0", "sale = 2.0"), &[]);
    assert!(key.contains("line 9") && key.contains("`scale`"), "{key}");
    assert!(error(SPEC, &["norms.scale=-1"]).contains("norms.scale: must be a positive number"));
    let overridden = error(SPEC, &["norms.sale=1"]);
    assert!(overridden.contains("--set norms.sale=1") && overridden.contains("`scale`"), "{overridden}");
    assert!(error(SPEC, &["norm.scale=1"]).contains("--set norm.scale=1"));
    // Without the registration it is a key like any other unknown one.
    let path = Path::new("a.toml");
    let ours = Plan::resolve(SpecFile::parse(path, SPEC, &[]).unwrap(), path).unwrap_err().to_string();
    assert!(ours.contains("line 8") && ours.contains("`norms`"), "{ours}");
}
