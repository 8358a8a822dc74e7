//! Opens report.html in headless Chromium: it must draw without network and without a word on the console.
//!
//! Chromium is found through CURRICLE_CHROMIUM or on the path. Without one the test fails under CI=true and is
//! passed over, with a message, elsewhere. Screenshots and the page are left in target/tmp/report-browser to look at.

#[path = "../report_fixture/mod.rs"]
mod report_fixture;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CURRICLE_CHROMIUM") {
        return Some(named.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    names.iter().flat_map(|name| folders.iter().map(move |f| f.join(name))).find(|path| path.is_file())
}

/// The browser, or the decision what its absence means.
fn chromium_or_pass_over() -> Option<PathBuf> {
    let found = chromium();
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "chromium is missing: apt-get install chromium");
        eprintln!("passed over: no chromium here (apt-get install chromium)");
    }
    found
}

/// Runs Chromium on a page with an empty profile of its own; returns stdout.
fn browse(chromium: &Path, page: &Path, more: &[&str]) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            // Any name the page asked for would fail, and show on its console.
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=8000",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(more)
        .arg(format!("file://{}", page.display()))
        .stdout(output.reopen().unwrap())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium starts");
    // A hung browser must not hang the test run.
    let limit = Instant::now() + Duration::from_secs(120);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("chromium did not finish within two minutes");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success(), "chromium: {status}");
    std::fs::read_to_string(output.path()).unwrap()
}

/// Runs before the page's scripts: collects everything a console would show.
const LISTEN: &str = include_str!("listen.js");

/// Runs after them: waits until the page is ready, looks at every canvas, uses every control, looks again.
const USE: &str = include_str!("use.js");

/// A page written for the fixture, and its copy that watches itself.
fn pages() -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-browser");
    let paths = curricle::report::write(&report_fixture::report(), &folder).unwrap();
    let html = std::fs::read_to_string(&paths.html).unwrap();
    let head = html.find("<title>").unwrap();
    let end = html.rfind("</body>").unwrap();
    let watched = [
        &html[..head],
        &format!("<script>{LISTEN}</script>"),
        &html[head..end],
        &format!("<script>{USE}</script>"),
        &html[end..],
    ]
    .concat();
    let copy = folder.join("watched.html");
    std::fs::write(&copy, watched).unwrap();
    (paths.html, copy)
}

#[test]
fn the_page_draws_itself_and_every_control_works() {
    let (page, watched) = pages();
    nothing_is_loaded(&std::fs::read_to_string(&page).unwrap());
    let Some(chromium) = chromium_or_pass_over() else { return };
    for (name, more) in [
        ("light", ["--blink-settings=preferredColorScheme=1"]),
        ("dark", ["--blink-settings=preferredColorScheme=0"]),
    ] {
        // The narrow page once: a telephone.
        let sizes = [(1100, 5200), (420, 6400)];
        for (width, height) in sizes.into_iter().take(if name == "dark" { 2 } else { 1 }) {
            let window = format!("--window-size={width},{height}");
            let dom = browse(&chromium, &watched, &[more[0], &window, "--dump-dom"]);
            let observed = dom.split("<pre id=\"observed\">").nth(1).expect("the page was observed");
            let observed = observed.split("</pre>").next().unwrap().replace("&lt;", "<").replace("&gt;", ">");
            let observed: serde_json::Value = serde_json::from_str(&observed.replace("&amp;", "&")).unwrap();
            let place = format!("{name}, {width} pixels wide: {observed}");
            assert_eq!(observed["ready"], "true", "{place}");
            assert_eq!(observed["seen"], serde_json::json!([]), "{place}");
            assert_eq!(observed["requests"], serde_json::json!([]), "{place}");
            // Accuracy, three panels of correlations, samples, one sweep, two figures of the experiment's own.
            for when in ["before", "after"] {
                let canvases = observed[when].as_array().unwrap();
                assert_eq!(canvases.len(), 8, "{place}");
                assert!(canvases.iter().all(|ink| ink.as_u64().unwrap() > 2000), "a chart is blank: {place}");
            }
            assert!(observed["clicks"].as_u64().unwrap() > 15, "{place}");
            assert!(observed["tips"].as_u64().unwrap() > 20, "{place}");
            assert!(observed["readout"].as_u64().unwrap() > 100, "{place}");
            // A file of numbers for each chart, with as many fields in every line.
            let files = observed["files"].as_array().unwrap();
            let names: Vec<&str> = files.iter().map(|f| f["name"].as_str().unwrap()).collect();
            let expected = ["sweep", "accuracy", "figure", "figure", "correlation", "samples"];
            assert_eq!(names, expected.map(|name| format!("{name}.csv")), "{place}");
            for file in files {
                assert!(file["lines"].as_u64().unwrap() > 3 && file["even"] == true, "{place}");
            }
            assert!(observed["wide"].as_i64().unwrap() <= 0, "the page scrolls sideways: {place}");
            let shot = page.with_file_name(format!("{name}-{width}.png"));
            let _ = std::fs::remove_file(&shot);
            browse(
                &chromium,
                &page,
                &[more[0], &window, "--hide-scrollbars", &format!("--screenshot={}", shot.display())],
            );
            assert!(std::fs::metadata(&shot).unwrap().len() > 50_000, "{name} screenshot");
        }
    }
}

/// No element, style or script of the page names anything to load; plain links to the figures beside it are fine.
fn nothing_is_loaded(html: &str) {
    for loading in [
        "src=\"",
        "src='",
        "@import",
        "url(",
        "fetch(",
        "XMLHttpRequest",
        "WebSocket",
        "import(",
        "sendBeacon",
    ] {
        assert!(!html.contains(loading), "the page contains {loading}");
    }
    for link in html.split("href=\"").skip(1) {
        let target = link.split('"').next().unwrap();
        assert!(
            target == "data:," || target.starts_with("figures/") || target == "#claims",
            "the page links to {target}"
        );
    }
    assert!(html.contains("default-src 'none'"));
}
