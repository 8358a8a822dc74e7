//! `curricle report`: draws the report of a finished run again from its data.

use anyhow::{Context, bail};
use clap::Args;
use curricle_report as report;
use curricle_report::ReportPaths;
use std::path::{Path, PathBuf};

/// Draw the report again from the data of a run.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// A data.json, or a run folder that holds one.
    #[arg(value_name = "DATA_JSON_OR_RUN_DIR")]
    pub source: PathBuf,
    /// Where report.html, data.json and figures/ go [default: beside the data].
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Print one JSON object: {"report","data","figures":[...]}.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command: reads, draws, and returns what stdout should show.
///
/// # Errors
/// Data that cannot be found or read, or a report that cannot be written.
pub fn run(args: &ReportArgs) -> anyhow::Result<String> {
    let source = data_file(&args.source)?;
    let data = report::read(&source)?;
    let beside = source.parent().map(Path::to_owned).unwrap_or_default();
    let folder = args.output.clone().unwrap_or(beside);
    let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
    let paths = report::write(&data, &folder).with_context(|| {
        format!("cannot draw the report of {} into {}", source.display(), folder.display())
    })?;
    if args.json { as_json(&paths) } else { Ok(paths.html.display().to_string()) }
}

fn data_file(source: &Path) -> anyhow::Result<PathBuf> {
    if !source.is_dir() {
        return Ok(source.to_owned());
    }
    let file = source.join("data.json");
    if !file.is_file() {
        bail!(
            "{} has no data.json: name a data.json, or the folder of a run that has finished",
            source.display()
        );
    }
    Ok(file)
}

fn as_json(paths: &ReportPaths) -> anyhow::Result<String> {
    let object = serde_json::json!({ "report": paths.html, "data": paths.data, "figures": paths.figures });
    Ok(serde_json::to_string(&object)?)
}
