//! What the data say of a claim.

use serde::{Deserialize, Serialize};

/// What came of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// It holds: the whole interval supports it.
    Pass,
    /// It does not: the whole interval contradicts it.
    Fail,
    /// The data do not decide.
    Inconclusive,
}

impl Verdict {
    /// As shown to people and written to JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "PASS",
            Verdict::Fail => "FAIL",
            Verdict::Inconclusive => "INCONCLUSIVE",
        }
    }
}
