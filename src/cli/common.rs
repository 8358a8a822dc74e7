//! Flags that many commands have, each defined once.

use super::{Usage, open_device, threads};
use anyhow::Result;
use curricle_lab::device::{Device, DeviceChoice};

/// `--json`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Json {
    /// One JSON object on stdout; everything else goes to stderr
    #[arg(long)]
    json: bool,
}

/// `--threads`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Threads {
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// What a command takes that computes with models.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// `--json`.
    #[command(flatten)]
    pub json: Json,
    /// `--threads`.
    #[command(flatten)]
    pub threads: Threads,
    /// Who computes: auto (a hardware GPU if there is one), cpu, gpu, gpu:NUMBER, gpu:BACKEND:NUMBER or gpu:PART-OF-NAME
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceChoice,
}

impl Json {
    /// Whether JSON is asked for.
    pub fn asked(self) -> bool {
        self.json
    }
}

impl Threads {
    /// As asked, or all cores.
    ///
    /// # Errors
    /// If none is asked for, or too many.
    pub fn count(self) -> Result<usize, Usage> {
        threads(self.threads)
    }

    /// Runs `work` on so many threads.
    ///
    /// # Errors
    /// Those of [`Self::count`] and of the work; no threads.
    pub fn install<T: Send>(self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        rayon::ThreadPoolBuilder::new().num_threads(self.count()?).build()?.install(work)
    }
}

impl Common {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Usage`] if this machine has no such device; others if it cannot be opened.
    pub fn open(&self) -> Result<Device> {
        open_device(&self.device)
    }
}
