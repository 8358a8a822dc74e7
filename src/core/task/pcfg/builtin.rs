//! The built-in grammars.

/// Names of the built-in grammars (Allen-Zhu and Li, *Physics of Language Models, Part 1*, 2023).
pub const NAMES: [&str; 5] = ["cfg3b", "cfg3f", "cfg3g", "cfg3h", "cfg3i"];

pub(super) const TEXTS: [&str; 5] = [
    include_str!("data/cfg3b.grammar"),
    include_str!("data/cfg3f.grammar"),
    include_str!("data/cfg3g.grammar"),
    include_str!("data/cfg3h.grammar"),
    include_str!("data/cfg3i.grammar"),
];
