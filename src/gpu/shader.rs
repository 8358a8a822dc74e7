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

/// Rules that no compiler of this machine enforces; see "Rules for kernels" in docs/gpu.md.
#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    fn shaders(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                shaders(&path, found);
            } else if path.extension().is_some_and(|e| e == "wgsl") {
                found.push(path);
            }
        }
    }

    /// (head, body) of every function, comments left out.
    fn functions(source: &str) -> Vec<(String, String)> {
        let code: Vec<&str> = source.lines().map(|l| l.split("//").next().unwrap_or("")).collect();
        let code = code.join("\n");
        code.match_indices("fn ")
            .filter(|(at, _)| *at == 0 || code[..*at].ends_with([' ', '\n']))
            .map(|(at, _)| {
                let open = at + code[at..].find('{').unwrap();
                let mut depth = 0;
                let end = code[open..].find(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    depth == 0
                });
                (code[at..open].to_owned(), code[open..open + end.unwrap()].to_owned())
            })
            .collect()
    }

    fn is_name(c: char) -> bool {
        c.is_alphanumeric() || c == '_'
    }

    /// What stands in brackets before an assignment, with the name in front of them.
    fn indexed_stores(body: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (at, _) in body.match_indices('=') {
            let (before, after) = (&body[..at], &body[at + 1..]);
            let target = before.trim_end_matches(['+', '-', '*', '/', '|', '&', '^']).trim_end();
            if after.starts_with('=') || before.ends_with(['=', '!', '<', '>']) || !target.ends_with(']') {
                continue;
            }
            let mut depth = 0;
            let open = target.rfind(|c| {
                depth += i32::from(c == ']') - i32::from(c == '[');
                depth == 0
            });
            let (name, index) = target.split_at(open.unwrap());
            // A second index, a[i][j], or the vector behind a pointer, (*v)[i].
            let name = name.trim_end_matches(')');
            let start = name.rfind(|c| !is_name(c)).map_or(0, |i| i + 1);
            let name = if name.ends_with(']') { "]" } else { &name[start..] };
            found.push((name.to_owned(), index[1..index.len() - 1].to_owned()));
        }
        found
    }

    /// Vectors among the variables and pointers of a function.
    fn is_vector(head: &str, body: &str, name: &str) -> bool {
        let declared = |text: &str, before: &str, after: &[&str]| {
            text.match_indices(&format!("{before}{name}")).any(|(at, found)| {
                let rest = &text[at + found.len()..];
                !rest.starts_with(is_name) && after.iter().any(|a| rest.trim_start().starts_with(a))
            })
        };
        declared(body, "var ", &[": vec", "= vec"])
            || declared(head, "", &[": ptr<function, vec", ": ptr<private, vec"])
    }

    /// What is wrong with a shader.
    fn faults(source: &str) -> Vec<String> {
        let mut faults = Vec::new();
        for (head, body) in functions(source) {
            for (name, index) in indexed_stores(&body) {
                let constant = !index.is_empty() && index.trim_end_matches('u').parse::<u32>().is_ok();
                if !constant && (name == "]" || is_vector(&head, &body, &name)) {
                    faults.push(format!("{head}: a store to a vector at the dynamic index [{index}]"));
                }
            }
            let steers = head
                .split("->")
                .nth(1)
                .is_some_and(|t| ["u32", "i32", "bool"].iter().any(|kind| t.contains(kind)));
            let returns = body.matches("return").count();
            let last = body.trim_end().lines().last().unwrap_or("").trim_start().starts_with("return");
            if steers && (returns != 1 || !last) {
                faults.push(format!("{head}: returns an integer early"));
            }
            if ["u32", "i32"].iter().any(|kind| {
                body.match_indices("select(vec").any(|(at, _)| {
                    body[at + 10..].trim_start_matches(char::is_numeric).starts_with(&format!("<{kind}>"))
                })
            }) {
                faults.push(format!("{head}: selects between vectors of integers"));
            }
        }
        faults
    }

    #[test]
    fn kernels_keep_the_rules_of_other_compilers() {
        let mut found = Vec::new();
        shaders(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
        assert!(found.len() > 25, "{found:?}");
        for path in found {
            let source = std::fs::read_to_string(&path).unwrap();
            assert_eq!(faults(&source), Vec::<String>::new(), "{}", path.display());
        }
    }

    #[test]
    fn broken_rules_are_noticed() {
        let store =
            "fn f(c: u32) -> vec4<f32> {\n  var v = vec4<f32>(0.0);\n  v[c + 1u] += 1.0;\n  return v;\n}";
        let nested = "fn f(c: u32) {\n  var a: array<vec4<f32>, 2>;\n  a[0][c] = 1.0;\n}";
        let pointer = "fn f(v: ptr<function, vec4<f32>>, c: u32) {\n  (*v)[c] = 1.0;\n}";
        let early = "fn f(c: u32) -> u32 {\n  if (c == 0u) {\n    return 1u;\n  }\n  return c;\n}";
        let select = "fn f(b: vec4<bool>) {\n  let d = select(vec4<u32>(0u), vec4<u32>(1u), b);\n}";
        for broken in [store, nested, pointer, early, select] {
            assert_eq!(faults(broken).len(), 1, "{broken}");
        }
        let fine = "fn f(c: u32) -> u32 {\n  var a: array<vec4<f32>, 2>;\n  a[c] = vec4<f32>(0.0); // v[c] = 1\n  \
                    var v = vec2<f32>(0.0);\n  v[1] = 2.0;\n  if (a[c] == v[c] && c <= 2u) {\n    v.x = 1.0;\n  }\n  return c;\n}";
        assert_eq!(faults(fine), Vec::<String>::new());
    }
}
