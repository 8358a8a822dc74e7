//! Shaders from their parts.

use super::context::GRID_ROW;

/// Puts a shader together: constants of this shape, shared parts, the kernel.
pub(crate) fn assemble(constants: &[(&str, usize)], parts: &[&str]) -> String {
    let mut source = format!("const GRID_ROW: u32 = {}u;\n", GRID_ROW);
    for (name, value) in constants {
        source.push_str(&format!("const {name}: u32 = {value}u;\n"));
    }
    for part in parts {
        source.push_str(part);
    }
    source
}
