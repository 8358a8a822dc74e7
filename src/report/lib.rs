//! Plots and the HTML page, from plain data.
//!
//! Data first, pictures from data: [`data::ReportData`] holds everything a report shows and is written as `data.json`
//! beside the pictures, so any report can be drawn again without training anything. [`write`] makes the folder:
//!
//! ```text
//! report.html     one self-contained interactive page
//! data.json       the data, complete (the page thins long curves and says so)
//! figures/*.svg   the plots
//! figures/*.png   the same at two pixels per point
//! ```
#![deny(missing_docs)]

pub mod curves;
pub mod data;
mod escape;
pub mod figures;
pub mod format;
pub mod headline;
pub mod html;
pub mod pcfg;
pub mod plot;
pub mod stats;

use curricle_files::atomic;
use data::ReportData;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// What [`write`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportPaths {
    /// The page.
    pub html: PathBuf,
    /// The data.
    pub data: PathBuf,
    /// SVG and PNG figures, in the order of the page.
    pub figures: Vec<PathBuf>,
}

/// Why a report could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a report's data.
    #[error("{path} is not the data of a report: {source}")]
    Parse {
        /// Where.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The file was written by a later version.
    #[error(
        "{path} has format {found}, but this version of curricle reads up to format {}: update curricle",
        data::FORMAT
    )]
    Format {
        /// Where.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The data could not be written as JSON.
    #[error("cannot write the report's data as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A figure could not be drawn.
    #[error(transparent)]
    Plot(#[from] plot::PlotError),
}

/// Pixels per point of PNG figures.
const PNG_SCALE: f64 = 2.0;

/// Writes the page, the figures and the data below `dir`, creating it. Every file is complete or absent; the page comes
/// last, so that whoever sees it finds the rest.
///
/// # Errors
/// A file that cannot be written, or a figure (of the experiment's own) that cannot be drawn.
pub fn write(data: &ReportData, dir: &Path) -> Result<ReportPaths, ReportError> {
    let folder = dir.join("figures");
    std::fs::create_dir_all(&folder).map_err(|source| ReportError::Write { path: folder.clone(), source })?;
    let put = |path: PathBuf, bytes: &[u8]| match atomic::write_bytes(&path, bytes) {
        Ok(()) => Ok(path),
        Err(source) => Err(ReportError::Write { path, source }),
    };
    let json = put(dir.join("data.json"), &serde_json::to_vec(data)?)?;
    let drawn = figures::all(data);
    let files: Result<Vec<[PathBuf; 2]>, ReportError> = drawn
        .par_iter()
        .map(|(name, figure)| {
            let svg = put(folder.join(format!("{name}.svg")), figure.to_svg()?.as_bytes())?;
            Ok([svg, put(folder.join(format!("{name}.png")), &figure.to_png(PNG_SCALE)?)?])
        })
        .collect();
    let paths = files?.concat();
    let page = html::page(data, &drawn)?;
    let html = put(dir.join("report.html"), page.as_bytes())?;
    Ok(ReportPaths { html, data: json, figures: paths })
}

/// Reads a `data.json`.
///
/// # Errors
/// A file that cannot be read, is not a report's data, or was written by a later version.
pub fn read(path: &Path) -> Result<ReportData, ReportError> {
    let text = std::fs::read(path).map_err(|source| ReportError::Read { path: path.to_owned(), source })?;
    let data: ReportData = serde_json::from_slice(&text)
        .map_err(|source| ReportError::Parse { path: path.to_owned(), source })?;
    if data.format > data::FORMAT {
        return Err(ReportError::Format { path: path.to_owned(), found: data.format });
    }
    Ok(data)
}
