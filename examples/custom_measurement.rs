//! A measurement of your own: the norm of a teacher's first layer along its training, with its key in the spec, its
//! curve in the report, and a claim on it.
//!
//! `cargo run --release --example custom_measurement`

use curricle::core::keys::{KeyError, Section};
use curricle::lab::laboratory::{Finished, Laboratory, LaboratoryError};
use curricle::lab::measure::{
    Curve, Measure, MeasureContext, MeasureError, Measured, Measurement, Setting, Shown, Subject,
    curve_section,
};
use curricle::report::data::ReportData;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

const SPEC: &str = r#"
experiment = "norms"
scale = "example"
seeds = [1, 2, 3, 4, 5]
task = { kind = "parity", d = 10, k = 2 }
evaluation = { samples = 500, every_samples = 800 }

[first-layer-norm]              # what this program adds: no keys of its own

[teacher]
hidden = [32]
batch = 16
learning_rate = 0.3
steps = 1000
checkpoints = { every_steps = 100 }

[claims.it-grows]
kind = "measured"
of = "first-layer-norm"
quantity = "growth"
at_least = 1.0
"#;

/// Reads the section and, having no keys, is its own measure.
#[derive(Debug, Clone, Copy)]
struct FirstLayerNorm;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

impl Measurement for FirstLayerNorm {
    fn key(&self) -> &'static str {
        "first-layer-norm"
    }

    fn resolve(&self, section: Section<'_>, setting: &Setting<'_>) -> Result<Arc<dyn Measure>, KeyError> {
        let NoKeys {} = section.read()?;
        section.require_here(setting.teacher, "there is no [teacher] to measure")?;
        Ok(Arc::new(*self))
    }
}

impl Measure for FirstLayerNorm {
    fn subject(&self) -> Subject {
        Subject::TeacherCheckpoints
    }

    fn keys(&self) -> toml::Table {
        toml::Table::new()
    }

    /// Kept in `first-layer-norm.json` of the teacher's folder, checkpoint by checkpoint.
    fn measure(&self, context: &MeasureContext<'_>) -> Result<Option<Value>, MeasureError> {
        let found = context.each_checkpoint(&self.keys(), |_step, path| {
            let model = curricle::files::load(path).map_err(MeasureError::at(path))?.params;
            Ok(f64::from(model.layers[0].weight.iter().map(|w| w * w).sum::<f32>().sqrt()))
        })?;
        Ok(found.map(|f| serde_json::to_value(f).expect("plain numbers")))
    }

    fn quantities(&self) -> Vec<String> {
        vec!["growth".to_owned()]
    }

    fn evidence(&self, value: &Value, _growth: &str) -> Option<f64> {
        let curve = points(value);
        Some(curve.last()?[1] / curve.first()?[1])
    }

    fn report(&self, found: &[Measured], _shown: &Shown<'_>, report: &mut ReportData) {
        let curve = |m: &Measured| Curve { label: format!("seed {}", m.seed), points: points(&m.value) };
        let curves: Vec<Curve> = found.iter().map(curve).collect();
        report.sections.push(curve_section("Norm of the first layer", "", "step", "norm", &curves));
    }
}

/// (step, norm) of what `each_checkpoint` gave.
fn points(value: &Value) -> Vec<[f64; 2]> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|p| Some([p["step"].as_f64()?, p["value"].as_f64()?])).collect()
}

/// Trains five teachers below `out`, measures them, judges the claim, writes the report.
pub fn run(out: &Path) -> Result<Finished, LaboratoryError> {
    Laboratory::new().measurement(FirstLayerNorm).run(SPEC, out)
}

#[allow(dead_code)]
fn main() -> Result<(), LaboratoryError> {
    let finished = run(Path::new("runs"))?;
    for claim in &finished.claims {
        println!("{}: {}\n  {}", claim.verdict.as_str(), claim.statement, claim.detail);
    }
    println!("{}", finished.report.display());
    Ok(())
}
