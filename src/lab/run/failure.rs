//! Why an experiment stopped.

use super::error::RunFolderError;
use crate::train::member::TrainError;
use std::path::PathBuf;

/// Why an experiment stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A folder already holds results.
    #[error(
        "{} already holds a run{}; pass --resume to go on with it, --fresh to remove it and begin anew, or another --out",
        path.display(),
        others(*more)
    )]
    Exists {
        /// The first such folder.
        path: PathBuf,
        /// How many more.
        more: usize,
    },
    /// A folder holds a run with other settings.
    #[error(
        "{} holds a run with other settings (line {line}: it has {theirs:?}, this run has {ours:?}); pass --fresh to remove it, or another --out",
        path.display()
    )]
    OtherSpec {
        /// Its spec file.
        path: PathBuf,
        /// First line that differs, from 1.
        line: usize,
        /// That line in the file.
        theirs: String,
        /// That line of this run.
        ours: String,
    },
    /// A run folder cannot be used.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// Training stopped.
    #[error("{}: {cause}{}", named(seeds), last_states(last))]
    Train {
        /// Seeds that trained together.
        seeds: Vec<u64>,
        /// Why.
        cause: Box<TrainError>,
        /// Where each run can be taken up.
        last: Vec<String>,
    },
    /// Something could not be measured.
    #[error("seed {seed}: {key}: {cause}")]
    Measure {
        /// Seed.
        seed: u64,
        /// The measurement.
        key: String,
        /// Why.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A saved state cannot be understood.
    #[error("{}: the resume state is damaged ({detail}); pass --fresh to begin this run anew", path.display())]
    State {
        /// The run folder.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The operating system refused a thread.
    #[error("cannot start worker threads: {0}")]
    Threads(String),
}

fn others(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" (and {more} other folders do)") }
}

fn named(seeds: &[u64]) -> String {
    let list: Vec<String> = seeds.iter().map(ToString::to_string).collect();
    format!("{} {}", if list.len() == 1 { "seed" } else { "seeds" }, list.join(", "))
}

fn last_states(last: &[String]) -> String {
    if last.is_empty() { String::new() } else { format!("\nwith --resume: {}", last.join("; ")) }
}
