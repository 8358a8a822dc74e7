//! Which checkpoint of a teacher a student follows when.
//!
//! A schedule is written in a spec ([`ScheduleSpec`]), resolved against what one teacher did ([`TeacherHistory`]), and then
//! followed step by step ([`Schedule`], [`Position`]). One file per kind holds its keys, its check, its resolution and its
//! label; a new kind is one such file and a line in each of the two lists here: the variant of [`ScheduleSpec`] and its arm in
//! [`ScheduleSpec::kind`]. Most kinds resolve to [`Stages`]; one that listens to the student adds a [`Follow`] of its own.
//!
//! ```
//! use curricle_core::schedule::{Moment, Position, ScheduleSpec, TeacherHistory};
//!
//! let spec: ScheduleSpec = toml::from_str(
//!     "kind = \"n-t\"\ncheckpoints = [{ accuracy = 0.8 }, \"final\"]\nduration = { teacher_99 = 0.5 }",
//! )?;
//! let moment = |step, accuracy| Moment { step: Some(step), samples: Some(32 * step), accuracy: Some(accuracy) };
//! let teacher = TeacherHistory {
//!     place: "a teacher".into(),
//!     checkpoints: vec![moment(100, 0.5), moment(200, 0.81), moment(300, 0.99)],
//!     samples_99: Some(9600),
//!     recommended: None,
//! };
//! let schedule = spec.resolve(&teacher, 32)?;
//! let followed = |step| schedule.checkpoint(&Position::default(), step);
//! assert_eq!([followed(0), followed(149), followed(150)], [1, 1, 2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod history;
mod n_t;
mod one_shot;
mod progressive;
mod runtime;
mod selector;
mod sequence;
mod till_saturation;

pub use history::{Moment, SOLVED, TeacherHistory, Unresolved};
pub use n_t::NT;
pub use one_shot::OneShot;
pub use progressive::Progressive;
pub use runtime::{Follow, Position, Schedule, Stage, Stages};
pub use selector::{
    AccuracySelector, Duration, DurationSamples, DurationSteps, SAMPLES, STEPS, Selector, SelectorName,
    StepSelector, Teacher99,
};
pub use sequence::Sequence;
pub use till_saturation::{Saturating, Saturation, TillSaturation};

use crate::keys::KeyError;
use serde::{Deserialize, Serialize};

/// A schedule as written: what each kind can be told lives in its own file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ScheduleSpec {
    /// The final checkpoint only.
    OneShot(OneShot),
    /// (C_T, D): each checkpoint for its own duration.
    Sequence(Sequence),
    /// (N, T): all but the last checkpoint for T each.
    NT(NT),
    /// A checkpoint every interval, in the teacher's own time.
    Progressive(Progressive),
    /// Advance when the student stops improving.
    TillSaturation(TillSaturation),
}

/// A kind of schedule: what the rest of the laboratory may ask of it.
pub trait TeacherSchedule {
    /// Checks the values; `key` is where the schedule is written, such as `arms.two.distill.schedule`.
    ///
    /// # Errors
    /// The key, what is wrong and what is allowed.
    fn check(&self, key: &str) -> Result<(), KeyError>;

    /// The schedule over one teacher's checkpoints, by their place in its history, for a student with so many samples per step.
    ///
    /// # Errors
    /// Why there is none: the teacher never got where it points.
    fn resolve(&self, teacher: &TeacherHistory, batch: usize) -> Result<Schedule, Unresolved>;

    /// In a few words, for reports.
    fn label(&self) -> String;
}

impl ScheduleSpec {
    /// The kind with its values.
    fn kind(&self) -> &dyn TeacherSchedule {
        match self {
            Self::OneShot(schedule) => schedule,
            Self::Sequence(schedule) => schedule,
            Self::NT(schedule) => schedule,
            Self::Progressive(schedule) => schedule,
            Self::TillSaturation(schedule) => schedule,
        }
    }

    /// [`TeacherSchedule::check`].
    ///
    /// # Errors
    /// The key, what is wrong and what is allowed.
    pub fn check(&self, key: &str) -> Result<(), KeyError> {
        self.kind().check(key)
    }

    /// [`TeacherSchedule::resolve`].
    ///
    /// # Errors
    /// A teacher without checkpoints, or one that never got where the schedule points.
    pub fn resolve(&self, teacher: &TeacherHistory, batch: usize) -> Result<Schedule, Unresolved> {
        if teacher.checkpoints.is_empty() {
            return Err(Unresolved(format!("{} has no checkpoints", teacher.place)));
        }
        self.kind().resolve(teacher, batch)
    }

    /// [`TeacherSchedule::label`].
    pub fn label(&self) -> String {
        self.kind().label()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ScheduleSpec, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn every_kind_reads_its_keys_and_no_others() {
        for (text, label) in [
            ("kind = \"one-shot\"", "one-shot"),
            (
                "kind = \"sequence\"\ncheckpoints = [\"final\"]\ndurations = [{ steps = 5 }]",
                "1 checkpoints in sequence",
            ),
            ("kind = \"n-t\"\ncheckpoints = [{ step = 1 }, \"final\"]\nduration = { samples = 5 }", "(2, T)"),
            ("kind = \"progressive\"\ninterval = { steps = 5 }", "progressive"),
            ("kind = \"till-saturation\"", "till saturation"),
        ] {
            let spec = read(text).unwrap();
            assert_eq!(spec.label(), label);
            assert_eq!(spec.check("schedule"), Ok(()));
            let written = toml::to_string(&spec).unwrap();
            assert_eq!(read(&written), Ok(spec), "{written}");
            let error = read(&format!("{text}\nspeeed = 2.0")).unwrap_err();
            assert!(error.contains("unknown field `speeed`"), "{error}");
        }
        let error = read("kind = \"two-shot\"").unwrap_err();
        assert!(error.contains("one-shot") && error.contains("till-saturation"), "{error}");
    }

    #[test]
    fn impossible_values_are_refused_by_key() {
        for (text, key) in [
            ("kind = \"sequence\"\ncheckpoints = []\ndurations = []", "s"),
            ("kind = \"sequence\"\ncheckpoints = [\"final\"]\ndurations = []", "s.durations"),
            (
                "kind = \"sequence\"\ncheckpoints = [\"final\"]\ndurations = [{ teacher_99 = nan }]",
                "s.durations",
            ),
            ("kind = \"n-t\"\ncheckpoints = []\nduration = { steps = 5 }", "s"),
            (
                "kind = \"n-t\"\ncheckpoints = [\"final\"]\nduration = { samples = 9223372036854775808 }",
                "s.duration",
            ),
            ("kind = \"progressive\"\ninterval = { steps = 1125899906842624 }", "s.interval"),
            ("kind = \"progressive\"\ninterval = { steps = 5 }\nspeed = 0.0", "s.speed"),
            ("kind = \"progressive\"\ninterval = { steps = 5 }\nspeed = inf", "s.speed"),
            ("kind = \"till-saturation\"\ncheckpoints = []", "s"),
            ("kind = \"till-saturation\"\nwindow = 0", "s"),
            ("kind = \"till-saturation\"\nmax_steps = 0", "s"),
            ("kind = \"till-saturation\"\nmin_gain = nan", "s"),
        ] {
            // TOML's whole numbers end at 2^63 - 1.
            let Ok(spec) = read(text) else { continue };
            match spec.check("s") {
                Err(KeyError::Value { key: found, .. }) => assert_eq!(found, key, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
