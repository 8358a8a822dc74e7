//! The page: one file, no network, readable without scripts (tables), interactive with them.

mod markup;
mod payload;
mod tables;

use super::data::{ReportData, Section, SweepTable, Verdict};
use super::figures::{self, level_text};
use super::plot::{Color, Figure, ON_DARK};
use super::{ReportError, format, headline};
use markup::Html;

const UPLOT_JS: &str = include_str!("../../../assets/uplot/uPlot.iife.min.js");
const UPLOT_CSS: &str = include_str!("../../../assets/uplot/uPlot.min.css");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("app.js");

/// Forbids the page any request: nothing in it can load from or send to anywhere.
const POLICY: &str = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
     style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n";

/// The page of a report. `drawn` are the figures written beside it, which the page lists.
///
/// # Errors
/// A figure of the experiment's own that cannot be drawn.
pub fn page(data: &ReportData, drawn: &[(String, Figure)]) -> Result<String, ReportError> {
    let mut h = Html::default();
    h.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n").raw(POLICY);
    h.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    h.raw(
        "<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n<title>",
    );
    h.text(&data.experiment).raw(" (").text(&data.scale).raw("): curricle report</title>\n<style>");
    h.raw(UPLOT_CSS).raw(STYLE);
    dark_figures(&mut h);
    h.raw("</style>\n</head>\n<body>\n");
    header(&mut h, data);
    h.raw("<main>\n");
    body(&mut h, data, &Files::of(data, drawn))?;
    notes(&mut h, data);
    spec(&mut h, data);
    provenance(&mut h, data, drawn);
    h.raw("</main>\n<div id=\"tip\" role=\"status\" hidden></div>\n<script type=\"application/json\" id=\"data\">");
    h.json(&payload::payload(data))?;
    h.raw("</script>\n<script>").raw(UPLOT_JS).raw("</script>\n<script>").raw(SCRIPT);
    h.raw("</script>\n</body>\n</html>\n");
    Ok(h.finish())
}

/// Recolours inlined drawings on a dark page, through the same table the charts use.
fn dark_figures(h: &mut Html) {
    h.raw("\n@media (prefers-color-scheme: dark) {\n");
    for (light, dark) in ON_DARK {
        let rule = |h: &mut Html, attribute: &'static str| {
            h.raw(":root:not(.force-light) .drawing svg [").raw(attribute).raw("=\"");
            // Colours are "#rrggbb" by construction.
            h.text(&light.to_string())
                .raw("\" i]{")
                .raw(attribute)
                .raw(":")
                .text(&dark.to_string())
                .raw("}\n");
        };
        rule(h, "fill");
        rule(h, "stroke");
    }
    h.raw("}\n");
}

fn header(h: &mut Html, data: &ReportData) {
    h.raw("<header>\n<p class=\"kicker\">curricle report</p>\n<h1>").text(&data.experiment);
    h.raw(" <span class=\"scale\">").text(&data.scale).raw("</span></h1>\n");
    let result = headline::result(data);
    if !result.is_empty() {
        h.raw("<p class=\"result\">").text(&result).raw("</p>\n");
    }
    if data.live {
        h.raw("<p class=\"live\" role=\"status\"><b>This run is still going on.</b> Numbers are of the evaluations so far; ");
        h.raw("the page reloads itself every 15 seconds.</p>\n");
    }
    if !data.description.is_empty() {
        h.raw("<p class=\"lead\">").text(&data.description).raw("</p>\n");
    }
    let facts = [
        data.created.clone(),
        data.device.clone(),
        if data.wall_seconds.is_finite() {
            format!("took {}", format::duration(data.wall_seconds))
        } else {
            String::new()
        },
        if data.version.is_empty() { String::new() } else { format!("curricle {}", data.version) },
    ];
    h.raw("<p class=\"facts\">");
    for fact in facts.iter().filter(|f| !f.is_empty()) {
        h.raw("<span>").text(fact).raw("</span> ");
    }
    h.raw("</p>\n<p class=\"tally\">");
    if !data.claims.is_empty() {
        h.raw("<a href=\"#claims\">Verdicts</a> ");
    }
    for verdict in [Verdict::Pass, Verdict::Fail, Verdict::Inconclusive] {
        let n = data.claims.iter().filter(|c| c.verdict == verdict).count();
        if n > 0 {
            tables::badge(h, verdict);
            h.raw(" <b>").text(&n.to_string()).raw("</b>&ensp;");
        }
    }
    h.raw("</p>\n</header>\n<div id=\"broken\" role=\"alert\" hidden>The charts could not be drawn; ");
    h.raw("the tables below are complete. <code></code></div>\n<noscript><p class=\"broken\">The charts need scripts; ");
    h.raw("the tables are complete, and the same plots lie in the folder <code>figures</code> beside this page.");
    h.raw("</p></noscript>\n");
}

/// Everything between header and notes: the chart that shows the result comes first, then what was claimed, then the rest.
fn body(h: &mut Html, data: &ReportData, files: &Files) -> Result<(), ReportError> {
    let studied = data.sweeps.iter().any(|table| table.values.len() > 1);
    let sweeps = |h: &mut Html| data.sweeps.iter().enumerate().for_each(|(i, t)| sweep(h, i, t, files));
    let curves = data.arms.iter().any(|arm| arm.runs.iter().any(|run| !run.points.is_empty()));
    let reached = |arm| figures::reaches(arm, &data.headline_level).iter().any(|r| !r.is_open());
    let samples_first = !studied && data.arms.iter().any(reached);
    if studied {
        sweeps(h);
    } else if samples_first {
        tables::samples(h, data, files);
    }
    if curves {
        accuracy(h, data, files);
    } else {
        sections(h, data, files)?;
    }
    tables::claims(h, data);
    if curves {
        sections(h, data, files)?;
    }
    correlation(h, data, files);
    if !samples_first {
        tables::samples(h, data, files);
    }
    if !studied {
        sweeps(h);
    }
    tables::references(h, data);
    tables::seeds(h, data);
    Ok(())
}

/// File names of the drawings, by what they show.
struct Files<'a> {
    data: &'a ReportData,
    drawn: &'a [(String, Figure)],
    /// Of the experiment's own, which come last.
    own: usize,
}

impl<'a> Files<'a> {
    fn of(data: &'a ReportData, drawn: &'a [(String, Figure)]) -> Self {
        let own = data.sections.iter().map(|section| section.figures.len()).sum();
        Self { data, drawn, own: drawn.len().saturating_sub(own) }
    }

    /// Links to the first drawing whose file name begins so, and a place for the button that saves the numbers.
    fn links(&self, h: &mut Html, name: &str) {
        self.link(h, self.drawn[..self.own].iter().find(|(stem, _)| stem.starts_with(name)));
    }

    /// The same for a study.
    fn sweep_links(&self, h: &mut Html, table: &SweepTable) {
        let title = figures::sweep_title(self.data, table);
        self.link(h, self.drawn[..self.own].iter().find(|(_, figure)| figure.title == title));
    }

    /// The same for the experiment's own figure of this number.
    fn own_links(&self, h: &mut Html, number: usize) {
        self.link(h, self.drawn.get(self.own + number));
    }

    fn link(&self, h: &mut Html, drawn: Option<&(String, Figure)>) {
        h.raw("<p class=\"files\">");
        for (ending, name) in [(".svg", "SVG"), (".png", "PNG")] {
            let Some((stem, _)) = drawn else { continue };
            h.raw("<a download href=\"figures/").text(stem).raw(ending).raw("\">").raw(name).raw("</a>");
        }
        h.raw("</p>\n");
    }
}

fn accuracy(h: &mut Html, data: &ReportData, files: &Files) {
    h.raw("<section id=\"accuracy\"><h2>Accuracy during training</h2>\n<div class=\"controls arms\" id=\"accuracy-arms\" ");
    h.raw("role=\"group\" aria-label=\"Arms shown\"></div>\n<div class=\"controls\" id=\"accuracy-controls\"></div>\n");
    h.raw("<div class=\"chart\" id=\"accuracy-chart\" role=\"img\" aria-label=\"Accuracy against training samples, ");
    h.raw("one line per arm. Numbers are in the tables of arms and seeds below.\"></div>\n");
    files.links(h, "accuracy");
    h.raw("<div class=\"scroll\"><table class=\"readout\" id=\"accuracy-readout\"></table></div>\n<p class=\"caption\">");
    h.raw("Thick: median over seeds; thin: each seed; dashed: teacher. A run that stopped early keeps its last value ");
    h.raw("in the median; of an even number of seeds the lower middle one is drawn. Drag to zoom, double-click to reset.");
    if payload::is_thinned(data) {
        h.raw(" Long curves are thinned in this page to about ").text(&payload::limit(data).to_string());
        h.raw(" points per run, most of them kept for the transition; <code>data.json</code> has every evaluation.");
    }
    h.raw("</p></section>\n");
}

fn correlation(h: &mut Html, data: &ReportData, files: &Files) {
    let Some(first) = data.timelines.iter().find(|t| !t.points.is_empty()) else { return };
    h.raw("<section id=\"correlation\"><h2>What the teacher's checkpoints reveal</h2>\n");
    h.raw("<div class=\"controls\" id=\"correlation-controls\"></div>\n<div class=\"chart\" id=\"correlation-charts\" ");
    h.raw("role=\"img\" aria-label=\"The teacher's accuracy, and below it the correlation of its checkpoints with ");
    h.raw("monomials inside and outside the support.\"></div>\n");
    files.links(h, &format!("correlation-seed-{}", first.seed));
    h.raw("<p class=\"caption\" id=\"correlation-text\">")
        .text(&figures::contrast_sentence(first))
        .raw("</p>\n");
    tables::timelines(h, data);
    h.raw("</section>\n");
}

fn sweep(h: &mut Html, index: usize, table: &SweepTable, files: &Files) {
    h.raw("<section><h2>Samples to ")
        .text(&level_text(&table.level))
        .raw(" by ")
        .text(&table.axis)
        .raw("</h2>\n");
    h.raw("<div class=\"chart\" role=\"img\" data-sweep=\"").text(&index.to_string());
    h.raw("\" aria-label=\"Samples against the setting, one line per arm; the table below has the numbers.\"></div>\n");
    files.sweep_links(h, table);
    h.raw("<p class=\"caption\">").text(&figures::sweep_caption(table)).raw("</p>\n");
    tables::sweep(h, table);
    h.raw("</section>\n");
}

fn sections(h: &mut Html, data: &ReportData, files: &Files) -> Result<(), ReportError> {
    let mut number = 0;
    data.sections.iter().try_for_each(|own| section(h, own, &mut number, files))
}

/// `number` counts the figures of all sections.
fn section(h: &mut Html, own: &Section, number: &mut usize, files: &Files) -> Result<(), ReportError> {
    h.raw("<section><h2>").text(&own.title).raw("</h2>\n");
    for paragraph in &own.text {
        h.raw("<p>").text(paragraph).raw("</p>\n");
    }
    for figure in &own.figures {
        // The drawing stays where scripts do not run; else a chart takes its place.
        h.raw("<div class=\"drawing\" data-figure=\"").text(&number.to_string()).raw("\">");
        h.svg(&figure.to_svg()?).raw("</div>\n");
        files.own_links(h, *number);
        *number += 1;
    }
    for table in &own.tables {
        tables::plain(h, table);
    }
    for text in &own.preformatted {
        h.raw("<pre tabindex=\"0\">").text(text).raw("</pre>\n");
    }
    h.raw("</section>\n");
    Ok(())
}

fn notes(h: &mut Html, data: &ReportData) {
    if data.notes.is_empty() {
        return;
    }
    h.raw("<section><h2>Notes</h2>\n<ul>\n");
    for note in &data.notes {
        h.raw("<li>").text(note).raw("</li>\n");
    }
    h.raw("</ul></section>\n");
}

fn spec(h: &mut Html, data: &ReportData) {
    if data.spec_toml.is_empty() {
        return;
    }
    h.raw(
        "<section><h2>Resolved spec</h2>\n<details><summary>Every setting of this run, as TOML</summary>\n",
    );
    h.raw("<button type=\"button\" class=\"copy\" data-copy=\"spec\">Copy</button>\n<pre id=\"spec\" tabindex=\"0\">");
    h.text(&data.spec_toml).raw("</pre></details></section>\n");
}

fn provenance(h: &mut Html, data: &ReportData, drawn: &[(String, Figure)]) {
    h.raw("<section><h2>How this was made</h2>\n<dl>\n");
    let seconds =
        if data.wall_seconds.is_finite() { format::duration(data.wall_seconds) } else { String::new() };
    let rows: [(&'static str, &str); 5] = [
        ("Command", &data.command),
        ("Device", &data.device),
        ("Version", &data.version),
        ("Made", &data.created),
        ("Duration", &seconds),
    ];
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        h.raw("<dt>").raw(name).raw("</dt><dd><code>").text(value).raw("</code></dd>\n");
    }
    h.raw("</dl>\n<details><summary>How medians and intervals are computed</summary>\n<p>A run that never reached the ");
    h.raw("level counts as needing more samples than it had; it is ranked after the runs that did and never dropped, and ");
    h.raw("a median that falls on such a run is given as a bound (&gt;). The interval for the median of n runs goes from ");
    h.raw("the r-th smallest to the r-th largest, with the largest r for which its coverage, ");
    h.raw("1 &minus; 2&thinsp;P(Binomial(n, &frac12;) &le; r &minus; 1), is at least 95%; below six runs it is the ");
    h.raw(
        "range, with the smaller coverage shown. Nothing is assumed about the distribution.</p></details>\n",
    );
    if !drawn.is_empty() {
        h.raw("<details><summary>The same plots as files</summary>\n<ul>\n");
        for (name, figure) in drawn {
            h.raw("<li>").text(&figure.title).raw(": <a href=\"figures/").text(name).raw(".svg\">SVG</a>, ");
            h.raw("<a href=\"figures/").text(name).raw(".png\">PNG</a></li>\n");
        }
        h.raw("</ul></details>\n");
    }
    h.raw("</section>\n");
}

/// A colour as two CSS custom properties, for a swatch that follows the page's theme.
fn swatch(h: &mut Html, color: Color) {
    h.raw("<i class=\"swatch\" style=\"--l:")
        .text(&color.to_string())
        .raw(";--d:")
        .text(&color.on_dark().to_string());
    h.raw("\"></i>");
}
