//! Arms, or the whole experiment, repeated along the values of any key of the spec.

use super::spec::{SpecFile, SweepSpec, set};

/// What `[sweep]` means for one arm: for each value its number and the spec with that value in the arm's place. `None`
/// where the key means nothing to the arm.
///
/// # Errors
/// The key of the spec and what is wrong there.
pub fn repeats(
    spec: &SpecFile,
    sweep: &SweepSpec,
    arm: &str,
) -> Result<Option<Vec<(f64, SpecFile)>>, Mistake> {
    let in_this = sweep.key.strip_prefix("arms.").map(|rest| rest.split_once('.').unwrap_or((rest, "")));
    let (field, named) = match (sweep.key.strip_prefix("student."), in_this) {
        (Some(field), _) => (field, sweep.arms.as_ref().map(|arms| arms.iter().any(|a| a == arm))),
        (None, Some((name, field))) if spec.arms.contains_key(name) => (field, Some(name == arm)),
        // A key of the whole experiment: see `cells`.
        _ => return Ok(None),
    };
    let mut table: toml::Table = toml::from_str(&spec.text).expect("the spec was read from this text");
    let first = field.split('.').next().unwrap_or(field);
    // Part of a table that the arm shares with the others becomes its own first.
    let shared = table.get("student").and_then(|s| s.get(first)).cloned();
    let own = table.get("arms").and_then(|a| a.get(arm)).and_then(|a| a.get(first)).cloned();
    if first == "distill" && shared.is_none() && own.is_none() {
        return match named {
            Some(true) => {
                Err(("sweep.arms", format!("{arm} learns from labels: it has no {}", sweep.name())))
            }
            _ => Ok(None),
        };
    }
    if named == Some(false) {
        return Ok(None);
    }
    if let (None, Some(shared), true) = (own, shared, field != first) {
        set(&mut table, &format!("arms.{arm}.{first}"), shared).map_err(|e| ("sweep.key", e))?;
    }
    with_values(sweep, &table, &format!("arms.{arm}.{field}")).map(Some)
}

/// A key of the spec and what is wrong there.
type Mistake = (&'static str, String);

/// For each value of the sweep its number, and the spec `table` with the value at `key`.
fn with_values(sweep: &SweepSpec, table: &toml::Table, key: &str) -> Result<Vec<(f64, SpecFile)>, Mistake> {
    if let Some(numbers) = &sweep.numbers
        && (numbers.len() != sweep.values.len() || numbers.iter().any(|n| !n.is_finite()))
    {
        return Err(("sweep.numbers", format!("{} values need as many numbers", sweep.values.len())));
    }
    let with = |(i, value): (usize, &toml::Value)| {
        let given = sweep.numbers.as_ref().map(|numbers| numbers[i]);
        let number = given.or_else(|| number(value)).ok_or_else(|| {
            let detail =
                "is neither a number nor a list of one: say with numbers = [..] which number stands for each";
            ("sweep.values", format!("{value} {detail}"))
        })?;
        let mut table = table.clone();
        set(&mut table, key, value.clone()).map_err(|e| ("sweep.key", e))?;
        let text = toml::to_string(&table).expect("a parsed table can be written");
        let changed = SpecFile::parse(std::path::Path::new("spec"), &text, &[]);
        Ok((number, changed.map_err(|e| ("sweep", format!("{} = {value}: {e}", sweep.key)))?))
    };
    sweep.values.iter().enumerate().map(with).collect()
}

/// What `[sweep]` means where its key is of the whole experiment (`task.d`, `teacher.hidden`): for each value its number and the
/// spec of that cell, which has no sweep. `None` where the key is of students.
///
/// # Errors
/// The key of the spec and what is wrong there.
pub fn cells(spec: &SpecFile, sweep: &SweepSpec) -> Result<Option<Vec<(f64, SpecFile)>>, Mistake> {
    if let Some(detail) = sweep.outdated() {
        return Err(("sweep.axis", detail));
    }
    if let Some(unknown) = sweep.arms.iter().flatten().find(|a| !spec.arms.contains_key(*a)) {
        return Err(("sweep.arms", format!("there is no arm {unknown:?}")));
    }
    if sweep.values.is_empty() {
        return Err(("sweep.values", "give at least one value".to_owned()));
    }
    let first = sweep.key.split('.').next().unwrap_or_default();
    if first == "student" {
        return Ok(None);
    }
    if first == "arms" {
        let known = sweep.key.split('.').nth(1).is_some_and(|name| spec.arms.contains_key(name));
        let detail = || format!("{:?} names no arm of this spec", sweep.key);
        return if known { Ok(None) } else { Err(("sweep.key", detail())) };
    }
    if !["task", "teacher", "evaluation"].contains(&first) {
        let detail = format!(
            "{:?} cannot be swept: begin with student., arms.NAME., teacher., task. or evaluation.",
            sweep.key
        );
        return Err(("sweep.key", detail));
    }
    if sweep.arms.is_some() {
        let detail = format!("{} changes the whole experiment: every arm is repeated", sweep.key);
        return Err(("sweep.arms", detail));
    }
    let mut table: toml::Table = toml::from_str(&spec.text).expect("the spec was read from this text");
    // Claims are about all cells; a cell by itself has none.
    ["sweep", "claims", "references"].iter().for_each(|key| {
        table.remove(*key);
    });
    with_values(sweep, &table, &sweep.key).map(Some)
}

fn number(value: &toml::Value) -> Option<f64> {
    match value {
        toml::Value::Integer(n) => Some(*n as f64),
        toml::Value::Float(x) => Some(*x),
        toml::Value::Array(list) if list.len() == 1 => number(&list[0]),
        _ => None,
    }
}
