//! Progress of an experiment: bars on a terminal, a line every few seconds otherwise.

use curricle_lab::run::gather::Status;
use curricle_lab::run::options::Observer;
use curricle_lab::train::member::Metric;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Bars shown for runs in progress; more are only counted.
const MOST_BARS: usize = 8;

/// Time between lines when stderr is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Shows what an experiment is doing on stderr.
pub struct Progress {
    total_runs: usize,
    began: Instant,
    terminal: Option<(MultiProgress, ProgressBar)>,
    state: Mutex<State>,
}

struct State {
    active: HashMap<(String, u64), Active>,
    ended: usize,
    printed: Instant,
}

struct Active {
    bar: Option<ProgressBar>,
    step: u64,
    steps: u64,
    /// Step and time when this session took the run up.
    from: (u64, Instant),
    accuracy: Option<f64>,
}

impl Progress {
    /// Progress of `total_runs` runs.
    pub fn new(total_runs: usize) -> Self {
        let terminal = std::io::stderr().is_terminal().then(|| {
            let bars = MultiProgress::new();
            let all = bars.add(ProgressBar::new(total_runs as u64));
            all.set_style(style("{bar:24} {pos}/{len} runs, {elapsed}"));
            (bars, all)
        });
        let state = State { active: HashMap::new(), ended: 0, printed: Instant::now() };
        Self { total_runs, began: Instant::now(), terminal, state: Mutex::new(state) }
    }

    /// Clears the bars.
    pub fn finish(&self) {
        if let Some((bars, _)) = &self.terminal {
            let _ = bars.clear();
        }
    }

    fn say(&self, text: &str) {
        match &self.terminal {
            Some((bars, _)) => {
                let _ = bars.println(text);
            }
            None => eprintln!("{text}"),
        }
    }

    /// A line for each run in progress, at most every few seconds.
    fn lines(&self, state: &mut State) {
        if self.terminal.is_some() || state.printed.elapsed() < EVERY {
            return;
        }
        state.printed = Instant::now();
        let mut active: Vec<_> = state.active.iter().collect();
        active.sort_by(|a, b| a.0.cmp(b.0));
        eprintln!(
            "[{:>6.0} s] {} of {} runs done",
            self.began.elapsed().as_secs_f64(),
            state.ended,
            self.total_runs
        );
        for ((run, seed), at) in active {
            let rate = (at.step - at.from.0) as f64 / at.from.1.elapsed().as_secs_f64().max(1e-9);
            let left = (at.steps - at.step) as f64 / rate.max(1e-9);
            let accuracy = at.accuracy.map_or_else(|| "?".to_owned(), |a| format!("{:.1}%", 100.0 * a));
            eprintln!(
                "           {run} seed {seed}: step {} of {}, accuracy {accuracy}, {rate:.0} steps/s, at most {left:.0} s left",
                at.step, at.steps
            );
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is fixed").progress_chars("=> ")
}

impl Observer for Progress {
    fn started(&self, run: &str, seed: u64, step: u64, steps: u64) {
        let mut state = self.state.lock().expect("progress does not panic");
        let bar = match &self.terminal {
            Some((bars, _)) if state.active.values().filter(|a| a.bar.is_some()).count() < MOST_BARS => {
                let bar = bars.add(ProgressBar::new(steps));
                bar.set_style(style("{bar:24} {prefix} {pos}/{len} {per_sec}, {eta} left {msg}"));
                bar.set_prefix(format!("{run} seed {seed}"));
                bar.set_position(step);
                bar.reset_eta();
                Some(bar)
            }
            _ => None,
        };
        let active = Active { bar, step, steps, from: (step, Instant::now()), accuracy: None };
        state.active.insert((run.to_owned(), seed), active);
    }

    fn progress(&self, run: &str, seed: u64, step: u64) {
        let mut state = self.state.lock().expect("progress does not panic");
        if let Some(active) = state.active.get_mut(&(run.to_owned(), seed)) {
            active.step = step;
            if let Some(bar) = &active.bar {
                bar.set_position(step);
            }
        }
        self.lines(&mut state);
    }

    fn evaluated(&self, run: &str, seed: u64, metric: &Metric) {
        let mut state = self.state.lock().expect("progress does not panic");
        if let Some(active) = state.active.get_mut(&(run.to_owned(), seed)) {
            active.accuracy = Some(metric.accuracy);
            if let Some(bar) = &active.bar {
                bar.set_message(format!("accuracy {:.1}%", 100.0 * metric.accuracy));
            }
        }
    }

    fn ended(&self, run: &str, seed: u64, status: Status, reason: Option<&str>) {
        let mut state = self.state.lock().expect("progress does not panic");
        let active = state.active.remove(&(run.to_owned(), seed));
        if let Some(bar) = active.and_then(|a| a.bar) {
            bar.finish_and_clear();
        }
        state.ended += 1;
        if let Some((_, all)) = &self.terminal {
            all.set_position(state.ended as u64);
        }
        drop(state);
        match (status, reason) {
            (Status::Diverged, Some(reason)) => self.say(&format!("{run} seed {seed} diverged: {reason}")),
            (Status::Skipped, Some(reason)) => self.say(&format!("{run} seed {seed} skipped: {reason}")),
            _ => {}
        }
    }

    fn note(&self, text: &str) {
        self.say(text);
    }
}
