//! The formula of a line with its constants, for a paper.

use super::Bound;

/// `name`, its formula and its number in LaTeX (one display equation); ingredients appear with their values.
///
/// ```
/// use curricle_theory::bounds::{information_labels, latex};
/// let text = latex(&information_labels(100, 6, 0.1)?);
/// assert!(text.contains(r"\log_2\binom{d}{k}") && text.contains("30.1"));
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn latex(bound: &Bound) -> String {
    let i = |name: &str| bound.ingredients.get(name).copied().map_or_else(|| "?".to_owned(), number);
    let (relation, formula) = match bound.name.as_str() {
        "labels_first_phase" => (
            r"\ge",
            format!(
                r"\frac{{2\,(p + \Delta/6)\,\log(2dm/\delta)}}{{(\Delta/2)^2}},\quad p = {},\ \Delta = |\hat g(k-1)| - |\hat g(k+1)| = {},\ \log(2dm/\delta) = {}",
                i("p"),
                i("Delta"),
                i("log_term")
            ),
        ),
        "checkpoint_first_phase"
        | "phase_one_typical"
        | "phase_one_teachers"
        | "phase_one_teachers_pruned" => (
            r"\ge",
            format!(
                r"\frac{{2\,(\sigma^2 + M\gamma/6)\,\log(2dm/\delta)}}{{(\gamma/2)^2}},\quad \sigma^2 = {},\ M = {},\ \gamma = {},\ \log(2dm/\delta) = {}",
                i("sigma_squared"),
                i("sup"),
                i("gamma"),
                i("log_term")
            ),
        ),
        "predicted_first_phase" | "predicted_labels_first_phase" => (
            r"\approx",
            format!(
                r"\min\{{B : \mathbb{{P}}(\min_{{j\in S}} |N(\mu_j, (\sigma^2-\mu_j^2)/B)| > \max_{{j\notin S}} |N(\mu_j, (\sigma^2-\mu_j^2)/B)|) \ge {}\}}",
                i("fraction")
            ),
        ),
        "one_step_labels" => (
            ">",
            format!(
                r"\max\{{B : \Phi(-\Delta\sqrt B/\sigma) - 0.4748\,\rho\,\sigma^{{-3}} B^{{-1/2}} > 1 - f(1-\delta)\}},\quad \Delta = {},\ \sigma = {},\ f = {},\ \delta = {}",
                i("Delta"),
                i("sigma"),
                i("fraction"),
                i("delta")
            ),
        ),
        "second_phase" | "second_phase_pruned" => (
            "=",
            format!(
                r"(2AR/\varepsilon)^2,\quad A = {},\ R = {},\ \varepsilon = {}",
                i("A"),
                i("R"),
                i("epsilon")
            ),
        ),
        "headline_progressive" => (
            r"=\tilde\Theta",
            format!(r"(2^k d^2 \varepsilon^{{-2}} + k^3),\quad \varepsilon = {}", i("epsilon")),
        ),
        "headline_one_shot" => (
            r"\ge\Omega",
            format!(r"(\max(d^{{k-1}}, \varepsilon^{{-2}})),\quad \varepsilon = {}", i("epsilon")),
        ),
        "information_labels" => (
            r"\ge",
            format!(
                r"(1-\delta)\log_2\binom{{d}}{{k}} - 1,\quad \log_2\binom{{d}}{{k}} = {},\ \delta = {}",
                i("log2_binomial"),
                i("delta")
            ),
        ),
        "information_teacher" => {
            (r"\ge", format!(r"\log_2\frac{{1}}{{1-(1-2\delta)^{{1/(d-k)}}}},\quad \delta = {}", i("delta")))
        }
        "statistical_query" => (
            r"\ge",
            format!(
                r"(1-\delta)\binom{{d}}{{k}} / (dm),\quad dm = {},\ \delta = {}",
                i("queries"),
                i("delta")
            ),
        ),
        _ => ("=", bound.statement.replace('_', r"\_")),
    };
    format!(
        "\\[ B_{{\\text{{{}}}}} {relation} {formula}\\quad[{}] \\approx {} \\]",
        bound.name.replace('_', r"\_"),
        bound.kind.word(),
        number(bound.samples)
    )
}

/// Four digits; powers of ten as LaTeX writes them.
fn number(v: f64) -> String {
    if v == 0.0 || (1e-3..1e5).contains(&v.abs()) {
        let digits = if v == v.trunc() { 0 } else { 4 };
        return format!("{v:.digits$}");
    }
    let text = format!("{v:.3e}");
    match text.split_once('e') {
        Some((mantissa, power)) => format!(r"{mantissa}\cdot 10^{{{power}}}"),
        None => text,
    }
}
