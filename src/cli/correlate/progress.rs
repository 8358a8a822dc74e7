//! How far the command is, on stderr.

use std::time::{Duration, Instant};

/// Progress on stderr: a bar on a terminal, else a line every few seconds.
pub(super) struct Progress {
    bar: indicatif::ProgressBar,
    terminal: bool,
    total: usize,
    index: usize,
    path: String,
    inputs: u64,
    spoken: Instant,
}

/// Time between two plain progress lines.
const QUIET: Duration = Duration::from_secs(3);

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        use std::io::IsTerminal;
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { indicatif::ProgressBar::new(0) } else { indicatif::ProgressBar::hidden() };
        let style = "{prefix} {wide_bar} {pos}/{len} inputs, {per_sec}, ETA {eta}";
        bar.set_style(indicatif::ProgressStyle::with_template(style).expect("the template is valid"));
        Self { bar, terminal, total, index: 0, path: String::new(), inputs: 0, spoken: Instant::now() }
    }

    /// The models that follow belong to the next checkpoint.
    pub(super) fn next_checkpoint(&mut self) {
        self.index += 1;
    }

    pub(super) fn next(&mut self, path: &str, inputs: u64) {
        self.path = path.to_string();
        self.inputs = inputs;
        self.bar.reset();
        self.bar.set_length(inputs);
        self.bar.set_prefix(format!("[{}/{}]", self.index, self.total));
    }

    pub(super) fn at(&mut self, done: u64) {
        self.bar.set_position(done);
        if !self.terminal && self.spoken.elapsed() > QUIET {
            eprintln!("[{}/{}] {}: {done}/{} inputs", self.index, self.total, self.path, self.inputs);
            self.spoken = Instant::now();
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
