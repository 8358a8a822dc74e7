//! The report as a whole: files, figures, and text that tries to be markup.

mod report_fixture;

use curricle::report::data::{ReportData, Section, Verdict};
use curricle::report::{figures, html, plot, read, write};
use std::path::Path;

/// Width and height from a PNG's header.
fn png_size(bytes: &[u8]) -> (u32, u32) {
    assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

fn page(data: &ReportData) -> String {
    html::page(data, &figures::all(data)).unwrap()
}

#[test]
fn writes_every_file_and_reads_the_data_back() {
    let data = report_fixture::report();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/report");
    let paths = write(&data, &folder).unwrap();
    assert!(paths.html.is_file() && paths.figures.iter().all(|p| p.is_file()));
    assert_eq!(paths.figures.len(), 2 * (2 + 10 + 1 + 1 + 2));
    for name in ["accuracy", "accuracy-log", "correlation-seed-1", "samples-to-99", "sweep-temperature-tau"] {
        for ending in ["svg", "png"] {
            assert!(folder.join(format!("figures/{name}.{ending}")).is_file(), "{name}.{ending}");
        }
    }
    assert!(read(&paths.data).unwrap() == data, "every number survives");
    let leftovers: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".tmp"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
    let size = std::fs::metadata(&paths.html).unwrap().len();
    assert!(size < 1_000_000, "the page has {size} bytes");
    // Again into the same folder: replaced, not refused.
    write(&data, &folder).unwrap();
}

#[test]
fn figures_have_labels_and_the_right_size() {
    let data = report_fixture::report();
    let expected: [(&str, &[&str]); 4] = [
        ("accuracy", &["training samples", "accuracy", "Progressive", "chance (50.0%)", "60%"]),
        (
            "correlation-seed-3",
            &["|correlation|", "phase transition", "exists only inside the transition", "middle"],
        ),
        ("samples-to-99", &["99% accuracy", "(2,T) from middle (10/10)", "coverage 97.9% with 10 seeds"]),
        ("sweep-temperature-tau", &["temperature tau", "1e-4", "One-shot", "tuned for every arm and value"]),
    ];
    let all = figures::all(&data);
    for (name, texts) in expected {
        let (_, figure) = all.iter().find(|(n, _)| n == name).expect(name);
        let svg = figure.to_svg().unwrap();
        // Long notes are wrapped over several text elements.
        let mut plain = String::new();
        for part in svg.split('<') {
            plain.push_str(part.split_once('>').map_or("", |(_, text)| text));
        }
        let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in texts {
            assert!(plain.contains(text), "{name} lacks \"{text}\": {plain}");
        }
        assert!(svg.contains("DejaVu Sans"), "{name}");
        assert!(svg.len() < 600_000, "{name} has {} bytes", svg.len());
        let (w, h) = figure.size().unwrap();
        let png = figure.to_png(1.0).unwrap();
        assert_eq!(png_size(&png), (w as u32, h as u32), "{name}");
        assert!(png.len() > 5_000, "{name} looks blank");
    }
}

#[test]
fn a_figure_that_cannot_be_drawn_is_an_error() {
    use plot::{Axis, Figure, Panel};
    let panel = || Panel::new(Axis::linear("x"), Axis::log("y"));
    let mut narrow = Figure::new("narrow").panel(panel());
    narrow.width = 10.0;
    let bad = [Figure::new("empty"), narrow, Figure::new("flat").panel(panel().height(f64::NAN))];
    for figure in bad {
        let error = figure.to_svg().unwrap_err().to_string();
        assert!(error.contains(&figure.title), "{error}");
    }
    let good = Figure::new("nothing to show").panel(panel());
    assert!(good.to_svg().is_ok(), "axes without data are fine");
    assert!(good.to_png(0.0).is_err());
    assert!(good.to_png(f64::NAN).is_err());
}

#[test]
fn an_empty_report_is_a_page() {
    let html = page(&ReportData::new("nothing", "quick"));
    assert!(html.contains("states no claims"));
    assert!(!html.contains("id=\"accuracy-chart\""));
}

#[test]
fn the_result_comes_first_and_says_which_arms() {
    let mut data = report_fixture::report();
    data.sweeps.clear();
    data.claims[0].statement = "samples of two-middle / ce is at most 0.5".into();
    let mut same = data.arms[1].clone();
    (same.name, same.label) = ("again".into(), "Again".into());
    data.arms.push(same);
    let html = page(&data);
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(at("(2,T) from middle needs") < at("id=\"samples\""));
    assert!(at("id=\"samples\"") < at("id=\"accuracy\"") && at("id=\"accuracy\"") < at("id=\"claims\""));
    at("samples of “(2,T) from middle” / “Labels only (CE)” is at most 0.5");
    at("<b>identical to Labels only (CE)</b>");
    at("the teacher's most likely class is the target");
    let svg = figures::all(&data)[0].1.to_svg().unwrap();
    assert!(svg.contains("Again (identical to Labels only (CE))"));
    assert!(!html.contains("reloads itself every"));
    data.live = true;
    assert!(page(&data).contains("reloads itself every"));
}

#[test]
fn text_that_tries_to_be_markup_stays_text() {
    let nasty = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u{7}\u{0}\u{1b}\u{ffff} 漢 \u{202e}";
    let mut data = report_fixture::report();
    let clean = page(&data).matches("<script").count();
    data.experiment = nasty.into();
    data.description = nasty.into();
    data.spec_toml = nasty.into();
    data.command = nasty.into();
    data.notes = vec![nasty.into()];
    for arm in &mut data.arms {
        arm.label = nasty.into();
        arm.settings = nasty.into();
    }
    data.claims[0].statement = nasty.into();
    data.claims[0].verdict = Verdict::Fail;
    data.timelines[0].used[0].label = nasty.into();
    data.sweeps[0].values[0].value = nasty.into();
    let own = report_fixture::own_figures().into_iter().map(|mut f| {
        f.title = nasty.into();
        f.panels[0].x.label = nasty.into();
        f
    });
    data.sections = vec![Section {
        title: nasty.into(),
        text: vec![nasty.into()],
        figures: own.collect(),
        tables: vec![],
        preformatted: vec![nasty.into()],
    }];
    let html = page(&data);
    assert_eq!(html.matches("<script").count(), clean);
    assert_eq!(html.matches("</script").count(), clean);
    assert!(!html.contains("<img"));
    let forbidden = |c: char| c.is_control() && !"\t\n\r".contains(c) || c == '\u{ffff}';
    assert!(!html.contains(forbidden));
    for (name, figure) in figures::all(&data) {
        let svg = figure.to_svg().unwrap();
        assert!(!svg.contains(forbidden), "{name}");
        // Rasterising parses the SVG as XML.
        assert!(figure.to_png(1.0).is_ok(), "{name}");
    }
}

#[test]
fn numbers_that_are_not_finite_do_no_harm() {
    let mut data = report_fixture::report();
    data.chance = f64::NAN;
    for run in data.arms.iter_mut().flat_map(|arm| &mut arm.runs) {
        run.points[3].loss = f64::INFINITY;
        run.points[4].accuracy = f64::NAN;
        run.final_accuracy = f64::NAN;
    }
    data.timelines[0].points[5].degrees[0].in_support_mean_abs = f64::NAN;
    data.timelines[1].points.clear();
    data.timelines[2].transition = None;
    let dir = tempfile::tempdir().unwrap();
    let paths = write(&data, dir.path()).unwrap();
    let back = read(&paths.data).unwrap();
    assert!(back.arms[0].runs[0].points[3].loss.is_nan());
    assert!(!std::fs::read_to_string(&paths.html).unwrap().contains("NaN samples"));
}

#[test]
fn data_that_is_no_report_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data.json");
    let message = |text: &str| {
        std::fs::write(&file, text).unwrap();
        read(&file).unwrap_err().to_string()
    };
    assert!(message("{\"format\":1,\n  \"experiment\": 3}").contains("line 2"));
    assert!(message("").contains("data.json"));
    assert!(message("{\"format\":99,\"experiment\":\"x\",\"scale\":\"y\"}").contains("update curricle"));
    assert!(read(Path::new("no/such/data.json")).unwrap_err().to_string().contains("no/such/data.json"));
}

#[test]
fn the_command_redraws_a_run_folder() {
    use curricle::cli::report::{ReportArgs, run};
    let dir = tempfile::tempdir().unwrap();
    let mut data = ReportData::new("small", "quick");
    data.sections.push(Section {
        title: "One".into(),
        text: vec![],
        figures: report_fixture::own_figures(),
        tables: vec![],
        preformatted: vec![],
    });
    write(&data, dir.path()).unwrap();
    let output = dir.path().join("again");
    let args = ReportArgs { source: dir.path().to_owned(), output: Some(output.clone()), json: true };
    let said: serde_json::Value = serde_json::from_str(&run(&args).unwrap()).unwrap();
    assert_eq!(said["figures"].as_array().unwrap().len(), 4);
    assert!(output.join("report.html").is_file());
    let empty = tempfile::tempdir().unwrap();
    let missing = ReportArgs { source: empty.path().to_owned(), output: None, json: false };
    assert!(run(&missing).unwrap_err().to_string().contains("no data.json"));
}
