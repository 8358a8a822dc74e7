//! The page's tables: complete without scripts.

use super::markup::Html;
use super::{Files, swatch};
use crate::data::{ReportData, SweepCell, SweepTable, Table, Verdict};
use crate::figures::{arm_styles, cell_reaches, identical, level_text, reaches, with_labels};
use crate::format;
use crate::stats::{Reach, Summary, summarize};
use std::collections::BTreeSet;

pub(super) fn badge(h: &mut Html, verdict: Verdict) {
    let (class, sign) = match verdict {
        Verdict::Pass => ("<span class=\"badge pass\">", "\u{2713} "),
        Verdict::Fail => ("<span class=\"badge fail\">", "\u{2717} "),
        Verdict::Inconclusive => ("<span class=\"badge open\">", "? "),
    };
    h.raw(class).text(sign).raw(verdict.as_str()).raw("</span>");
}

pub(super) fn claims(h: &mut Html, data: &ReportData) {
    h.raw("<section id=\"claims\"><h2>Verdicts</h2>\n");
    if data.claims.is_empty() {
        h.raw("<p>This experiment states no claims.</p></section>\n");
        return;
    }
    h.raw("<p class=\"caption\">Measured values on the right; a row unfolds to the whole claim and how it was judged.</p>\n");
    for claim in &data.claims {
        let statement = with_labels(data, &claim.statement);
        let value = claim.value.map_or("—".to_owned(), number);
        // What every second claim begins with says little in a row.
        let short = statement.strip_prefix("median over seeds of ").unwrap_or(&statement);
        h.raw("<details class=\"claim\"><summary>");
        badge(h, claim.verdict);
        h.raw("<span class=\"short\">").text(short).raw("</span><span class=\"n\">").text(&value);
        h.raw("</span></summary>\n<p>").text(&statement).raw("</p><dl><dt>Measured</dt><dd>").text(&value);
        if let Some([low, high]) = claim.interval {
            h.raw("</dd><dt>Interval</dt><dd>").text(&format!("{} to {}", number(low), number(high)));
        }
        if !claim.detail.is_empty() {
            h.raw("</dd><dt>From</dt><dd>").text(&with_labels(data, &claim.detail));
        }
        h.raw("</dd><dt>In the spec</dt><dd><code>claims.")
            .text(&claim.name)
            .raw("</code></dd></dl></details>\n");
    }
    h.raw("</section>\n");
}

/// A claim's number may be a ratio or a count of samples.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.to_owned();
    }
    if value.abs() >= 1000.0 { format::count(value) } else { format::significant(value, 3) }
}

fn interval(s: &Summary) -> String {
    if s.runs < 2 { "—".to_owned() } else { format!("{} to {}", s.low, s.high) }
}

pub(super) fn samples(h: &mut Html, data: &ReportData, files: &Files) {
    let level = &data.headline_level;
    let styles = arm_styles(data);
    let rows: Vec<_> = data
        .arms
        .iter()
        .zip(&styles)
        .zip(identical(data))
        .filter_map(|((arm, style), same)| Some((arm, style, same, summarize(&reaches(arm, level))?)))
        .collect();
    if rows.is_empty() {
        return;
    }
    h.raw("<section id=\"samples\"><h2>Samples to ").text(&level_text(level)).raw("</h2>\n");
    h.raw("<div class=\"chart\" id=\"samples-chart\" role=\"img\" aria-label=\"Samples to the level for every arm and seed; ");
    h.raw("the table below has the numbers.\"></div>\n");
    files.links(h, "samples-to-");
    h.raw("<p class=\"caption\">Dots: each seed. Arrows: runs that ended there ");
    h.raw("without reaching the level; they count as needing more. Thick stroke: median; whiskers: order-statistic ");
    h.raw("interval for the median.</p>\n");
    glossary(h, data);
    h.raw("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Arm</th>");
    h.raw("<th scope=\"col\" class=\"n\">Reached</th><th scope=\"col\" class=\"n\">Median</th>");
    h.raw(
        "<th scope=\"col\" class=\"n\">Interval (coverage)</th><th scope=\"col\" class=\"n\">Min to max</th>",
    );
    h.raw("<th scope=\"col\" class=\"wide\">Settings</th></tr></thead><tbody>\n");
    let mut group = "";
    for (arm, style, same, s) in rows {
        if arm.group != group {
            group = &arm.group;
            h.raw("<tr class=\"group\"><th colspan=\"6\" scope=\"rowgroup\">")
                .text(group)
                .raw("</th></tr>\n");
        }
        h.raw("<tr><th scope=\"row\">");
        swatch(h, style.color);
        h.text(&arm.label).raw("</th>");
        summary_cells(h, &s);
        h.raw("<td class=\"n\">")
            .text(&format!("{} to {}", s.min, s.max))
            .raw("</td><td class=\"detail wide\">");
        if let Some(same) = same {
            h.raw("<b>identical to ").text(same).raw("</b>; ");
        }
        h.text(&arm.settings).raw("; folder <code>").text(&arm.name).raw("</code></td></tr>\n");
    }
    h.raw("</tbody></table></div></section>\n");
}

/// How many runs reached the level, their median and its interval.
fn summary_cells(h: &mut Html, s: &Summary) {
    h.raw("<td class=\"n\">").text(&format!("{} of {}", s.reached, s.runs));
    h.raw("</td><td class=\"n\"><b>")
        .text(&s.median.to_string())
        .raw("</b></td><td class=\"n\">")
        .text(&interval(s));
    if s.runs > 1 {
        h.raw(" <span class=\"detail\">(").text(&format::percent(s.coverage)).raw(")</span>");
    }
    h.raw("</td>");
}

/// One line for every way of learning that the arms name.
fn glossary(h: &mut Html, data: &ReportData) {
    let named = |words: &[&str]| {
        let has = |text: &str| words.iter().any(|word| text.to_lowercase().contains(word));
        data.arms.iter().any(|arm| has(&arm.label) || has(&arm.settings))
    };
    let entries: [(&[&str], &'static str, &'static str); 5] = [
        (
            &["(2,t)", "(2, t)"],
            "(2,T)",
            "the student learns from one intermediate checkpoint of the teacher for T steps, then from the final one",
        ),
        (&["one-shot"], "one-shot", "from the final checkpoint only"),
        (
            &["progressive"],
            "progressive",
            "from the teacher's checkpoints in their order, the final one last",
        ),
        (
            &["tau 0", "temperature 0"],
            "temperature (tau) 0",
            "the teacher's most likely class is the target, without its probabilities",
        ),
        (&["ce (", "(ce)"], "CE", "cross-entropy against the true labels, without a teacher"),
    ];
    let shown: Vec<_> = entries.into_iter().filter(|(words, ..)| named(words)).collect();
    if shown.is_empty() {
        return;
    }
    h.raw("<p class=\"caption\">");
    for (_, word, meaning) in shown {
        h.raw("<b>").raw(word).raw("</b>: ").raw(meaning).raw(". ");
    }
    h.raw("</p>\n");
}

pub(super) fn seeds(h: &mut Html, data: &ReportData) {
    let runs: usize = data.arms.iter().map(|arm| arm.runs.len()).sum();
    if runs == 0 {
        return;
    }
    let levels: BTreeSet<&String> =
        data.arms.iter().flat_map(|a| &a.runs).flat_map(|r| r.samples_to.keys()).collect();
    h.raw("<section id=\"seeds\"><h2>Every seed</h2>\n<details");
    h.raw(if runs <= 24 { " open" } else { "" })
        .raw("><summary>")
        .text(&runs.to_string())
        .raw(" runs</summary>\n");
    h.raw("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Arm</th><th scope=\"col\" class=\"n\">Seed</th>");
    for level in &levels {
        h.raw("<th scope=\"col\" class=\"n\">Samples to ").text(&level_text(level)).raw("</th>");
    }
    h.raw("<th scope=\"col\" class=\"n\">Final accuracy</th><th scope=\"col\" class=\"n\">Steps</th>");
    h.raw("<th scope=\"col\" class=\"n\">Samples</th><th scope=\"col\" class=\"n\">Time</th></tr></thead><tbody>\n");
    let styles = arm_styles(data);
    for (arm, style) in data.arms.iter().zip(&styles) {
        for run in &arm.runs {
            h.raw("<tr><th scope=\"row\">");
            swatch(h, style.color);
            h.text(&arm.label).raw("</th><td class=\"n\">").text(&run.seed.to_string()).raw("</td>");
            for level in &levels {
                let text = match run.samples_to.get(*level) {
                    Some(Some(samples)) => format::grouped(*samples),
                    Some(None) => format!("> {}", format::grouped(run.samples)),
                    None => "—".to_owned(),
                };
                h.raw("<td class=\"n\">").text(&text).raw("</td>");
            }
            h.raw("<td class=\"n\">").text(&format::percent(run.final_accuracy)).raw("</td><td class=\"n\">");
            h.text(&format::grouped(run.steps))
                .raw("</td><td class=\"n\">")
                .text(&format::grouped(run.samples));
            h.raw("</td><td class=\"n\">").text(&format::duration(run.wall_seconds)).raw("</td></tr>\n");
        }
    }
    h.raw("</tbody></table></div></details></section>\n");
}

pub(super) fn timelines(h: &mut Html, data: &ReportData) {
    h.raw("<details><summary>Transitions and recommended checkpoints, every seed</summary><div class=\"scroll\"><table>");
    h.raw("<thead><tr><th scope=\"col\" class=\"n\">Seed</th><th scope=\"col\">Transition, samples</th>");
    h.raw("<th scope=\"col\" class=\"n\">Recommended</th><th scope=\"col\">Reason</th><th scope=\"col\">Used by students</th>");
    h.raw("</tr></thead><tbody>\n");
    for t in &data.timelines {
        let span = t.transition.map(|t| {
            format!("{} to {}", format::count(t.start_samples as f64), format::count(t.end_samples as f64))
        });
        let (at, reason) =
            t.recommended.as_ref().map_or((None, ""), |r| (Some(r.samples), r.reason.as_str()));
        let used = match t.used.len() {
            0..=6 => {
                let name = |u: &crate::data::UsedCheckpoint| {
                    format!("{} {}", u.label, format::count(u.samples as f64)).trim().to_owned()
                };
                t.used.iter().map(name).collect::<Vec<_>>().join(", ")
            }
            n => format!("{n} checkpoints"),
        };
        h.raw("<tr><td class=\"n\">")
            .text(&t.seed.to_string())
            .raw("</td><td>")
            .text(&span.unwrap_or("none found".into()));
        h.raw("</td><td class=\"n\">")
            .text(&at.map_or("—".to_owned(), |s| format::count(s as f64)))
            .raw("</td><td>");
        h.text(reason).raw("</td><td>").text(&used).raw("</td></tr>\n");
    }
    h.raw("</tbody></table></div></details>\n");
}

pub(super) fn references(h: &mut Html, data: &ReportData) {
    if data.references.is_empty() {
        return;
    }
    h.raw("<section id=\"paper\"><h2>The paper's numbers beside ours</h2>\n<div class=\"scroll\"><table><thead><tr>");
    h.raw("<th scope=\"col\">Quantity</th><th scope=\"col\">Paper</th><th scope=\"col\">This run</th></tr></thead><tbody>\n");
    for r in &data.references {
        h.raw("<tr><th scope=\"row\">")
            .text(&r.what)
            .raw("</th><td>")
            .text(&r.paper)
            .raw("</td><td>")
            .text(&r.ours);
        h.raw("</td></tr>\n");
    }
    h.raw("</tbody></table></div></section>\n");
}

pub(super) fn sweep(h: &mut Html, table: &SweepTable) {
    h.raw("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Arm</th><th scope=\"col\" class=\"n\">Best rate</th>");
    h.raw("<th scope=\"col\" class=\"n\">Reached</th><th scope=\"col\" class=\"n\">Median samples</th>");
    h.raw("<th scope=\"col\" class=\"n\">Interval (coverage)</th></tr></thead>");
    by_value(h, table, 5, |h, cell| {
        let Some(s) = summarize(&cell_reaches(cell)) else { return };
        h.raw("<tr><th scope=\"row\">").text(&cell.arm).raw("</th><td class=\"n\">");
        h.text(&format::plain(cell.best_rate)).raw("</td>");
        summary_cells(h, &s);
        h.raw("</tr>\n");
    });
    h.raw("</table></div>\n<details><summary>Every seed, and every rate that was tried</summary>");
    h.raw("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Arm</th>");
    h.raw("<th scope=\"col\">Samples, every seed at the best rate</th>");
    h.raw("<th scope=\"col\">Rates tried: median samples (reached / runs)</th></tr></thead>");
    by_value(h, table, 3, |h, cell| {
        let each = cell.seeds.iter().map(|s| format!("seed {}: {}", s.seed, Reach::new(s.samples, s.budget)));
        let tried = cell.tried.iter().map(|t| {
            let median = t.median_samples.map_or("—".to_owned(), format::count);
            format!("{}: {median} ({}/{})", format::plain(t.rate), t.reached, t.runs)
        });
        h.raw("<tr><th scope=\"row\">").text(&cell.arm).raw("</th><td>");
        h.text(&each.collect::<Vec<_>>().join(", ")).raw("</td><td>");
        h.text(&tried.collect::<Vec<_>>().join("; ")).raw("</td></tr>\n");
    });
    h.raw("</table></div></details>\n");
}

/// The rows of a study under a heading for each value, in a table of so many columns.
fn by_value(h: &mut Html, table: &SweepTable, columns: usize, row: impl Fn(&mut Html, &SweepCell)) {
    for value in &table.values {
        h.raw("<tbody><tr class=\"group\"><th scope=\"rowgroup\" colspan=\"")
            .text(&columns.to_string())
            .raw("\">");
        h.text(&table.axis).raw(" ").text(&value.value).raw("</th></tr>\n");
        value.cells.iter().for_each(|cell| row(h, cell));
        h.raw("</tbody>");
    }
}

pub(super) fn plain(h: &mut Html, table: &Table) {
    h.raw("<div class=\"scroll\"><table>");
    if !table.caption.is_empty() {
        h.raw("<caption>").text(&table.caption).raw("</caption>");
    }
    h.raw("<thead><tr>");
    for column in &table.columns {
        h.raw("<th scope=\"col\">").text(column).raw("</th>");
    }
    h.raw("</tr></thead><tbody>\n");
    for row in &table.rows {
        h.raw("<tr>");
        for cell in row {
            h.raw("<td>").text(cell).raw("</td>");
        }
        h.raw("</tr>\n");
    }
    h.raw("</tbody></table></div>\n");
}
