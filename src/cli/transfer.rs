//! `curricle import` and `curricle export`: checkpoints and metrics from and to other programs.

use super::common::Json;
use anyhow::{Context, Result, bail};
use curricle_files as files;
use curricle_files::{Checkpoint, Format, transformer};
use curricle_lab::run::folder::{self, RunView};
use curricle_lab::run::tensorboard::EventWriter;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Converts a checkpoint (safetensors, .pt, .pth, a Hugging Face folder) to curricle's safetensors.
///
/// An MLP or a GPT-2 or BERT language model. With --json it prints
/// {"input","output","format","shape":{"d","hidden","classes"},"parameters","step","notes"}; "format" is that of the input,
/// "step" and "notes" are null where the file says nothing. A transformer has "config" (its config.json) instead of "shape".
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The checkpoint to read: a state dict, plain or nested, a list of one dictionary per layer, or a folder of
    /// save_pretrained
    pub file: PathBuf,
    /// The .safetensors file to write
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// `--json`.
    #[command(flatten)]
    pub json: Json,
}

/// What `export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// One checkpoint; safetensors.torch.load_file reads it and nn.Sequential's load_state_dict takes it
    Safetensors,
    /// One transformer checkpoint as a folder for from_pretrained
    HuggingFace,
    /// The run's metrics, one row per evaluation
    Csv,
    /// The run's metrics as an event file in a folder for `tensorboard --logdir`
    Tensorboard,
}

/// Writes a run's metrics as CSV or TensorBoard events, or a checkpoint as safetensors or a Hugging Face folder.
///
/// In Python: state = safetensors.torch.load_file("OUT.safetensors"); model.load_state_dict(state), where model is
/// nn.Sequential(nn.Linear(d, m), nn.ReLU(), nn.Linear(m, classes)). A transformer: --format hugging-face, then
/// GPT2LMHeadModel.from_pretrained("OUT") or BertForMaskedLM.from_pretrained("OUT").
///
/// With --json it prints {"input","output","format"} and, for metrics, {"records"}, for a checkpoint,
/// {"shape":{"d","hidden","classes"},"step"}, for a transformer "config" instead of "shape".
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// A run folder (the one with metrics.jsonl in it) or a checkpoint file
    pub source: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// Where to: a file; for tensorboard and hugging-face a folder
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// The checkpoint of a run folder to export [default: the last]
    #[arg(long)]
    pub step: Option<u64>,
    /// `--json`.
    #[command(flatten)]
    pub json: Json,
}

/// `curricle import`.
///
/// # Errors
/// If the input is not one plain MLP or the output cannot be written.
pub fn import(args: &ImportArgs) -> Result<()> {
    if transformer::is_transformer(&args.file) {
        return import_transformer(args);
    }
    let checkpoint = files::load(&args.file)?;
    let shape = write_checkpoint(&checkpoint, &args.file, &args.output)?;
    let Checkpoint { params, metadata, format } = &checkpoint;
    let notes = metadata.other.get("curricle.notes");
    let name = match format {
        Format::Safetensors => "safetensors",
        Format::Pytorch => "PyTorch",
    };
    let parameters = params.shape().parameters();
    eprintln!(
        "{} ({name}): {} with {parameters} parameters, written to {}",
        args.file.display(),
        params.shape(),
        args.output.display()
    );
    if let Some(notes) = notes {
        eprintln!("note: {notes}");
    }
    let report = json!({
        "input": args.file, "output": args.output, "format": format, "shape": shape, "parameters": parameters,
        "step": metadata.step, "notes": notes,
    });
    print_json(args.json.asked(), &report)
}

/// From a Hugging Face folder, or any transformer's file, to a single file.
fn import_transformer(args: &ImportArgs) -> Result<()> {
    let mut read = transformer::load(&args.file)?;
    expect_safetensors(&args.output)?;
    if let (Format::Pytorch, Some(name)) = (read.format, args.file.file_name()) {
        read.metadata.other.insert("curricle.imported_from".into(), name.to_string_lossy().into_owned());
    }
    transformer::save(&args.output, &read.params, &read.metadata)?;
    let config = &read.params.config;
    let parameters = config.parameters();
    eprintln!(
        "{}: {config}, with {parameters} parameters, written to {}",
        args.file.display(),
        args.output.display()
    );
    let report = json!({
        "input": args.file, "output": args.output, "format": read.format, "config": config.to_hugging_face(),
        "parameters": parameters, "step": read.metadata.step, "notes": null,
    });
    print_json(args.json.asked(), &report)
}

/// `curricle export`.
///
/// # Errors
/// If the source does not hold what the format needs, or the output cannot be written.
pub fn export(args: &ExportArgs) -> Result<()> {
    let mut report = json!({"input": args.source, "output": args.output, "format": args.format});
    if args.format == ExportFormat::HuggingFace {
        let file = transformer_source(args)?;
        let read = transformer::load(&file)?;
        transformer::save_folder(&args.output, &read.params, &read.metadata)?;
        report["config"] = read.params.config.to_hugging_face();
        report["step"] = json!(read.metadata.step);
        eprintln!("{}: {} written to {}", file.display(), read.params.config, args.output.display());
    } else if args.format == ExportFormat::Safetensors {
        let file = checkpoint_file(args)?;
        if transformer::is_transformer(&file) {
            expect_safetensors(&args.output)?;
            let read = transformer::load(&file)?;
            transformer::save(&args.output, &read.params, &read.metadata)?;
            report["config"] = read.params.config.to_hugging_face();
            report["step"] = json!(read.metadata.step);
            eprintln!("{}: {} written to {}", file.display(), read.params.config, args.output.display());
            return print_json(args.json.asked(), &report);
        }
        let checkpoint = files::load(&file)?;
        report["shape"] = write_checkpoint(&checkpoint, &file, &args.output)?;
        report["step"] = json!(checkpoint.metadata.step);
        eprintln!("{}: {} written to {}", file.display(), checkpoint.params.shape(), args.output.display());
    } else {
        if args.step.is_some() {
            bail!("--step picks a checkpoint: it goes with --format safetensors or hugging-face");
        }
        let run = folder::open_read_only(&args.source).context("metrics are exported from a run folder")?;
        let records: Vec<Map<String, Value>> = run.read_metrics()?;
        if records.is_empty() {
            bail!("{} has no metrics yet", args.source.display());
        }
        let written = match args.format {
            ExportFormat::Csv => write_csv(&records, &args.output)?,
            _ => write_events(&run, &records, &args.output)?,
        };
        report["output"] = json!(written);
        report["records"] = json!(records.len());
        eprintln!("{}: {} records written to {}", args.source.display(), records.len(), written.display());
    }
    print_json(args.json.asked(), &report)
}

/// The transformer to export: a Hugging Face folder, a file, or a checkpoint of a run folder.
fn transformer_source(args: &ExportArgs) -> Result<PathBuf> {
    if args.source.is_dir() && transformer::is_transformer(&args.source) && args.step.is_none() {
        return Ok(args.source.clone());
    }
    let file = checkpoint_file(args)?;
    if !transformer::is_transformer(&file) {
        bail!("{} is not a transformer's: export it with --format safetensors", file.display());
    }
    Ok(file)
}

/// The file to export: the source itself, or one of its checkpoints.
fn checkpoint_file(args: &ExportArgs) -> Result<PathBuf> {
    if !args.source.is_dir() {
        if args.step.is_some() {
            bail!("--step picks a checkpoint of a run folder, but {} is a file", args.source.display());
        }
        return Ok(args.source.clone());
    }
    let found = folder::open_read_only(&args.source)?.require_checkpoints("run")?;
    let (last, file) = found[found.len() - 1].clone();
    let Some(step) = args.step else { return Ok(file) };
    let wanted = found.into_iter().find(|(at, _)| *at == step);
    let (_, file) = wanted.with_context(|| {
        format!("{} has no checkpoint of step {step}; the last is {last}", args.source.display())
    })?;
    Ok(file)
}

/// A safetensors file should be called one.
fn expect_safetensors(to: &Path) -> Result<()> {
    if to.extension().is_none_or(|e| e != "safetensors") {
        bail!("{}: the output is a safetensors file, so its name must end in .safetensors", to.display());
    }
    Ok(())
}

/// Writes our safetensors and gives the shape for the report.
fn write_checkpoint(checkpoint: &Checkpoint, from: &Path, to: &Path) -> Result<Value> {
    expect_safetensors(to)?;
    let mut metadata = checkpoint.metadata.clone();
    if checkpoint.format == Format::Pytorch
        && let Some(name) = from.file_name()
    {
        metadata.other.insert("curricle.imported_from".into(), name.to_string_lossy().into_owned());
    }
    files::save(to, &checkpoint.params, &metadata)?;
    Ok(json!(checkpoint.params.shape()))
}

/// Every value of a record by its path: nested objects and lists become `outer<separator>inner`.
fn flatten(record: &Map<String, Value>, separator: &str) -> Vec<(String, Value)> {
    fn walk(path: String, value: &Value, separator: &str, out: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(k, v)| walk(format!("{path}{separator}{k}"), v, separator, out));
            }
            Value::Array(list) => {
                list.iter()
                    .enumerate()
                    .for_each(|(i, v)| walk(format!("{path}{separator}{i}"), v, separator, out));
            }
            leaf => out.push((path, leaf.clone())),
        }
    }
    let mut out = Vec::new();
    record.iter().for_each(|(k, v)| walk(k.clone(), v, separator, &mut out));
    out
}

/// One row per record; columns in the order of their first appearance; nothing where a record lacks one.
fn write_csv(records: &[Map<String, Value>], output: &Path) -> Result<PathBuf> {
    let rows: Vec<Map<String, Value>> =
        records.iter().map(|r| flatten(r, ".").into_iter().collect()).collect();
    let mut columns = Map::new();
    for key in rows.iter().flat_map(Map::keys) {
        columns.entry(key.clone()).or_insert(Value::Null);
    }
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(columns.keys())?;
    for row in &rows {
        table.write_record(columns.keys().map(|key| match row.get(key) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }))?;
    }
    folder::write_text(output, &String::from_utf8(table.into_inner()?)?)?;
    Ok(output.to_path_buf())
}

/// One event file in the folder `output`, replaced on the next export so that curves do not double. Wall times are those of
/// the run where its records carry "wall_seconds", counted back from the metrics' last change.
fn write_events(run: &RunView, records: &[Map<String, Value>], output: &Path) -> Result<PathBuf> {
    fs::create_dir_all(output).with_context(|| format!("cannot create the folder {}", output.display()))?;
    let seconds =
        |record: &Map<String, Value>| record.get("wall_seconds").and_then(Value::as_f64).unwrap_or(0.0);
    let end = fs::metadata(run.path().join("metrics.jsonl"))?.modified()?;
    let end = end.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let start = end - records.iter().map(seconds).fold(0.0, f64::max);
    let mut events = EventWriter::new(Vec::new(), start)?;
    for (i, record) in records.iter().enumerate() {
        let step = record.get("step").and_then(Value::as_u64);
        let step = step.with_context(|| format!("record {} of the metrics has no \"step\"", i + 1))?;
        for (tag, value) in flatten(record, "/") {
            if let Some(value) = value.as_f64().filter(|_| tag != "step") {
                events.scalar(start + seconds(record), step, &tag, value as f32)?;
            }
        }
    }
    let path = output.join("events.out.tfevents.0000000000.curricle");
    let bytes = events.into_inner();
    files::atomic::write(&path, |writer| writer.write_all(&bytes))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The one object of `--json`. A reader that has gone away is not an error.
fn print_json(wanted: bool, report: &Value) -> Result<()> {
    if !wanted {
        return Ok(());
    }
    match writeln!(io::stdout(), "{report}") {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}
