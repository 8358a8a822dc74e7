//! What a model of an arm resolves to, whatever its family.

use crate::run::error::RunFolderError;
use curricle_core::model::Loss;
use std::any::Any;
use std::fmt::Debug;
use std::path::Path;

/// A checked model with its optimiser: what an arm's model keys resolve to.
pub trait Architecture: Debug + Send + Sync {
    /// The family, for people: "an MLP", "a transformer".
    fn family(&self) -> &'static str;
    /// One phrase for tables: "width 100".
    fn label(&self) -> String;
    /// `[training.model]` of a run's `spec.toml`; `kind` comes first.
    fn table(&self) -> toml::Table;
    /// Whether a student of this architecture can learn from logits of `teacher`.
    ///
    /// # Errors
    /// Why not, in words.
    fn follows(&self, teacher: &dyn Architecture) -> Result<(), String>;
    /// Whether a student of this architecture can learn from the checkpoint at `path`.
    ///
    /// # Errors
    /// If it cannot be read or its logits mean something else.
    fn check_teacher(&self, path: &Path) -> Result<(), RunFolderError>;
    /// What is minimised.
    fn loss(&self) -> Loss {
        Loss::CrossEntropy
    }
    /// For the family itself.
    fn as_any(&self) -> &dyn Any;
}

/// The table of a model's settings, its kind first.
pub(super) fn tagged(kind: &str, settings: &impl serde::Serialize) -> toml::Table {
    let mut table = toml::Table::new();
    table.insert("kind".to_owned(), kind.into());
    // Through text, so that an f32 of 0.9 is written as 0.9 and not as the f64 next to it.
    let text = toml::to_string(settings).expect("settings of a model are plain data");
    table.extend(toml::from_str::<toml::Table>(&text).expect("it was written just now"));
    table
}

/// `teacher` as an architecture of the student's own family.
///
/// # Errors
/// In words, if it is of another one.
pub(super) fn same_family<'a, A: Architecture + 'static>(
    student: &A,
    teacher: &'a dyn Architecture,
) -> Result<&'a A, String> {
    teacher.as_any().downcast_ref().ok_or_else(|| {
        format!(
            "the teacher is {}, the student {}: a student learns from a teacher of its own kind",
            teacher.family(),
            student.family()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_precision_is_written_in_its_shortest_form() {
        let table = tagged("k", &curricle_core::optim::AdamSettings::default());
        let text = toml::to_string(&table).unwrap();
        assert!(text.starts_with("kind = \"k\"\nbetas = [0.9, 0.999]\neps = 0.00000001\n"), "{text}");
    }
}
