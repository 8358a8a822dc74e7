//! The task of an experiment, as its spec names it.

use curricle_core::keys::{KeyError, Section};
use curricle_core::task::{Task, TaskKind, resolve};
use std::sync::Arc;

/// The task in the section `[task]` of a spec's text, as one of `kinds`; what depends on the seed is tried with `seed`.
///
/// # Errors
/// The key or line and what is wrong.
pub fn of_spec(text: &str, kinds: &[Arc<dyn TaskKind>], seed: u64) -> Result<Arc<dyn Task>, KeyError> {
    let mut document = Section::document(text)?;
    match document.take("task") {
        Some(section) => resolve(section, kinds, &read_text, seed),
        None => Err(document.fail("task", "missing: a section [task] says what is learned")),
    }
}

/// The text of a file that a task names.
///
/// # Errors
/// Why it cannot be read.
pub fn read_text(name: &str) -> Result<String, String> {
    std::fs::read_to_string(name).map_err(|e| format!("cannot read {name}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use curricle_core::task::builtin;

    #[test]
    fn grammars_are_read_from_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "terminals b a\nS -> a S [1/4] | b [0.75]\n").unwrap();
        let of = |name: &str| {
            let text = format!("[task]\nkind = \"pcfg\"\ngrammar = '{name}'\nobjective = \"masked\"");
            of_spec(&text, &builtin(), 1).map_err(|e| e.to_string())
        };
        let table = of(&file.path().display().to_string()).unwrap().resolved(1);
        assert_eq!(table["rules"], vec!["S -> a S", "S -> b"].into());
        let error = of("no/such.grammar").unwrap_err();
        assert!(error.contains("task.grammar") && error.contains("cannot read no/such.grammar"), "{error}");
        assert!(of_spec("a = 1", &builtin(), 1).unwrap_err().to_string().contains("[task]"));
    }
}
