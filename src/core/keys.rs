//! A section of a spec as a door reads it: its keys, its place in the file, and errors that name both.
//!
//! What a kind of task, model or measurement can be told lives with that kind. It gets its [`Section`], takes the keys out
//! of it with [`Section::read`] into a struct of its own that refuses unknown ones, and says what is wrong by key.

use serde::Deserializer;
use serde::de::{DeserializeOwned, Visitor};
use std::convert::Infallible;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Why a section was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An unknown key or a value of the wrong type; names line, key and what is allowed.
    #[error("{0}")]
    Parse(String),
    /// A value that is out of range or contradicts another.
    #[error("{key}: {detail}")]
    Value {
        /// The key with its section, such as `task.k`.
        key: String,
        /// What is wrong and what is allowed.
        detail: String,
    },
}

/// One section of a spec.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    key: String,
    text: &'a str,
    value: Spanned<DeValue<'a>>,
}

impl<'a> Section<'a> {
    /// A whole document as a section without a name.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn document(text: &'a str) -> Result<Self, KeyError> {
        let table = DeTable::parse(text).map_err(|e| parse_error(e, text))?;
        let span = table.span();
        Ok(Self { key: String::new(), text, value: Spanned::new(span, DeValue::Table(table.into_inner())) })
    }

    /// A document as the section of this name.
    ///
    /// # Errors
    /// If it is not TOML.
    pub fn named(key: &str, text: &'a str) -> Result<Self, KeyError> {
        Ok(Self { key: key.to_owned(), ..Self::document(text)? })
    }

    /// Where it is, such as `teacher.model`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The key of a field of this section, such as `teacher.model.heads`.
    pub fn at(&self, field: &str) -> String {
        if self.key.is_empty() { field.to_owned() } else { format!("{}.{field}", self.key) }
    }

    /// Takes a part out of the section: what is left has no such key.
    pub fn take(&mut self, field: &str) -> Option<Self> {
        let DeValue::Table(table) = self.value.get_mut() else { return None };
        let value = table.remove(field)?;
        Some(Self { key: self.at(field), text: self.text, value })
    }

    /// The names of the keys that are left.
    pub fn names(&self) -> Vec<String> {
        match self.value.get_ref() {
            DeValue::Table(table) => table.keys().map(|k| k.get_ref().to_string()).collect(),
            _ => Vec::new(),
        }
    }

    /// Takes the text of the key `kind` out.
    ///
    /// # Errors
    /// If it is missing or no text; `known` are the kinds there are.
    pub fn take_kind(&mut self, known: &[&str]) -> Result<String, KeyError> {
        let all = || known.iter().map(|k| format!("\"{k}\"")).collect::<Vec<_>>().join(", ");
        let Some(kind) = self.take("kind") else {
            return Err(self.fail("kind", format!("missing: one of {}", all())));
        };
        kind.read::<String>()
    }

    /// All keys as a `T`, which refuses those it does not know.
    ///
    /// # Errors
    /// [`KeyError::Parse`] with the line, the key and what is allowed.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, KeyError> {
        T::deserialize(ValueDeserializer::from(self.value.clone())).map_err(|e| parse_error(e, self.text))
    }

    /// An error about one field.
    pub fn fail(&self, field: &str, detail: impl Into<String>) -> KeyError {
        KeyError::Value { key: self.at(field), detail: detail.into() }
    }

    /// An error about the section itself.
    pub fn fail_here(&self, detail: impl Into<String>) -> KeyError {
        KeyError::Value { key: self.key.clone(), detail: detail.into() }
    }

    /// An error about the section itself unless something holds.
    ///
    /// # Errors
    /// If it does not.
    pub fn require_here(&self, holds: bool, detail: impl Into<String>) -> Result<(), KeyError> {
        if holds { Ok(()) } else { Err(self.fail_here(detail)) }
    }

    /// An error that shows the line of the section.
    pub fn refuse(&self, detail: impl Into<String>) -> KeyError {
        let value = ValueDeserializer::from(self.value.clone());
        match value.deserialize_option(Refused(detail.into())) {
            Err(e) => parse_error(e, self.text),
            Ok(never) => match never {},
        }
    }

    /// An error about one field unless something holds.
    ///
    /// # Errors
    /// If it does not.
    pub fn require(&self, holds: bool, field: &str, detail: impl Into<String>) -> Result<(), KeyError> {
        if holds { Ok(()) } else { Err(self.fail(field, detail)) }
    }
}

/// [`Section::require`] where a value is checked after its section was read: `key` is the whole key.
///
/// # Errors
/// If it does not hold.
pub fn require(holds: bool, key: &str, detail: impl Into<String>) -> Result<(), KeyError> {
    if holds { Ok(()) } else { Err(KeyError::Value { key: key.to_owned(), detail: detail.into() }) }
}

/// Takes no value: the reader adds to the error where the value is.
struct Refused(String);

impl<'de> Visitor<'de> for Refused {
    type Value = Infallible;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }

    fn visit_some<D: Deserializer<'de>>(self, _: D) -> Result<Infallible, D::Error> {
        Err(serde::de::Error::custom(self.0))
    }
}

fn parse_error(mut error: toml::de::Error, text: &str) -> KeyError {
    error.set_input(Some(text));
    KeyError::Parse(error.to_string().trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Keys {
        d: usize,
    }

    fn task(text: &str) -> Section<'_> {
        Section::document(text).unwrap().take("task").unwrap()
    }

    #[test]
    fn keys_are_read_and_what_is_left_is_known() {
        let mut section = task("seeds = [1]\n[task]\nkind = \"parity\"\nd = 10\n");
        assert_eq!(section.take_kind(&["parity"]), Ok("parity".to_owned()));
        assert_eq!((section.names(), section.read::<Keys>().unwrap().d), (vec!["d".to_owned()], 10));
        assert_eq!(section.at("d"), "task.d");
    }

    #[test]
    fn mistakes_name_the_line_the_key_and_what_is_allowed() {
        let refused = |text: &str| task(text).read::<Keys>().unwrap_err().to_string();
        let unknown = refused("a = 1\n[task]\nd = 10\nk = 2\n");
        assert!(
            unknown.contains("line 4") && unknown.contains("`k`") && unknown.contains("`d`"),
            "{unknown}"
        );
        let typed = refused("a = 1\n[task]\nd = \"ten\"\n");
        assert!(typed.contains("line 3") && typed.contains("usize"), "{typed}");
        let kind = task("[task]\nd = 1\n").take_kind(&["parity", "pcfg"]).unwrap_err().to_string();
        assert!(kind.contains("task.kind") && kind.contains("\"pcfg\""), "{kind}");
        assert!(Section::document("a = \n").unwrap_err().to_string().contains("line 1"));
    }
}
