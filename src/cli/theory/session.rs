//! Long measurements: progress, Ctrl-C, and a state file that survives both.

use super::usage;
use anyhow::{Context, Result, bail};
use curricle_lab::theory::state::{self, OnExisting, StateError};
use curricle_theory::TheoryError;
use curricle_theory::measure::{Callback, Progress};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time between two plain progress lines.
const QUIET: Duration = Duration::from_secs(5);

/// What shows progress, notices Ctrl-C and says when to save.
pub(super) struct Session {
    cancel: Arc<AtomicBool>,
    state: Option<PathBuf>,
    save_every: Duration,
    saved: Cell<Instant>,
    spoken: Cell<Instant>,
    began: Instant,
    what: RefCell<String>,
    bar: indicatif::ProgressBar,
    terminal: bool,
}

impl Session {
    /// Listens for Ctrl-C; `state` is where finished trials are kept, if anywhere.
    ///
    /// # Errors
    /// If Ctrl-C cannot be listened for.
    pub fn new(state: Option<PathBuf>, save_every: Duration) -> Result<Self> {
        let cancel = Arc::new(AtomicBool::new(false));
        crate::run::handle_interrupts(&cancel)?;
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { indicatif::ProgressBar::new(0) } else { indicatif::ProgressBar::hidden() };
        let style = "{bar:24} {pos}/{len} trials, {elapsed}, {msg}";
        bar.set_style(indicatif::ProgressStyle::with_template(style).expect("the template is fixed"));
        let now = Instant::now();
        Ok(Self {
            cancel,
            state,
            save_every,
            saved: Cell::new(now),
            spoken: Cell::new(now),
            began: now,
            what: RefCell::default(),
            bar,
            terminal,
        })
    }

    /// Names what is measured next.
    pub fn next(&self, what: impl Into<String>) {
        *self.what.borrow_mut() = what.into();
    }

    /// The flag that Ctrl-C sets; what is measured looks at it inside its trials.
    pub fn cancel(&self) -> &Arc<AtomicBool> {
        &self.cancel
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Ends the command if Ctrl-C was pressed.
    ///
    /// # Errors
    /// The interruption.
    pub fn check(&self) -> Result<()> {
        if !self.cancel.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.bar.finish_and_clear();
        match &self.state {
            None => bail!("interrupted; nothing was saved (give --out to make it resumable)"),
            Some(_) => {
                let words = crate::command_line().into_iter().filter(|a| a != "--fresh" && a != "--resume");
                bail!(
                    "interrupted; finished trials are saved. To go on: {} --resume",
                    words.collect::<Vec<_>>().join(" ")
                )
            }
        }
    }

    /// The state file's content; the default without one. An existing one needs --resume or --fresh.
    ///
    /// # Errors
    /// A state that is there without being asked for, or cannot be read.
    pub fn open<L: DeserializeOwned + Default>(&self, resume: bool, fresh: bool) -> Result<L> {
        let Some(path) = &self.state else {
            if resume {
                return Err(usage("--resume needs --out: that is where finished trials are kept"));
            }
            return Ok(L::default());
        };
        let existing = match (resume, fresh) {
            (true, _) => OnExisting::Resume,
            (false, true) => OnExisting::Forget,
            (false, false) => OnExisting::Refuse,
        };
        state::open(path, existing).map_err(|e| match e {
            StateError::Io { .. } => anyhow::Error::new(e),
            refused => usage(refused.to_string()),
        })
    }

    /// Writes the state file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, log: &impl Serialize) -> Result<()> {
        self.saved.set(Instant::now());
        let Some(path) = &self.state else { return Ok(()) };
        Ok(state::save(path, log)?)
    }

    /// Runs a resumable measurement to its end, saving on the way; `part` finds its log inside what is saved.
    ///
    /// # Errors
    /// Those of the measurement; an interruption; a state that cannot be written.
    pub fn run<L: Serialize, P, R>(
        &self,
        log: &mut L,
        part: impl Fn(&mut L) -> &mut P,
        work: impl Fn(&mut P, Callback<'_>) -> curricle_theory::Result<R>,
    ) -> Result<R> {
        loop {
            self.check()?;
            self.saved.set(Instant::now());
            let result = work(part(log), &|progress| self.see(progress));
            self.bar.set_message("");
            match result {
                Ok(result) => {
                    self.save(log)?;
                    return Ok(result);
                }
                // Asked to stop by `see`: to save, or for good.
                Err(TheoryError::Cancelled) => self.save(log)?,
                Err(TheoryError::OutOfRange { what: "log", .. }) => {
                    let path = self.state.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
                    return Err(usage(format!(
                        "{path} holds trials of other settings; repeat those, pass --fresh, or give another --out"
                    )));
                }
                Err(error) => return Err(super::blame(error)),
            }
        }
    }

    fn see(&self, progress: &Progress) -> ControlFlow<()> {
        let what = self.what.borrow();
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.done);
        self.bar.set_message(format!("{what}: batch {}, {} succeed", progress.batch, progress.successes));
        if !self.terminal && self.spoken.get().elapsed() > QUIET {
            self.spoken.set(Instant::now());
            eprintln!(
                "[{:>5.0} s] {what}: batch {}, {}/{} trials, {} succeed",
                self.seconds(),
                progress.batch,
                progress.done,
                progress.total,
                progress.successes
            );
        }
        let due = self.state.is_some() && self.saved.get().elapsed() > self.save_every;
        if due || self.cancel.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Clears the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Creates the folder a file will be in.
pub(super) fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))
        }
        _ => Ok(()),
    }
}
