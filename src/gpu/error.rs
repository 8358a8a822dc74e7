//! What can go wrong on a GPU, in words that say what to do.

/// Why the GPU engine could not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GpuError {
    /// No adapter fits what was asked for.
    #[error("device '{asked}' was not found: {}", listed(present))]
    NoSuchDevice {
        /// What was asked for.
        asked: String,
        /// Adapters there are.
        present: Vec<String>,
    },
    /// The driver refused to open the adapter.
    #[error("cannot open {adapter}: {message}")]
    Open {
        /// The adapter.
        adapter: String,
        /// The driver's words.
        message: String,
    },
    /// A kernel did not compile: the shader is part of the message.
    #[error("kernel '{kernel}' does not compile on {adapter}: {message}\n{source_listing}")]
    Shader {
        /// Name of the kernel.
        kernel: String,
        /// The adapter.
        adapter: String,
        /// What the compiler said.
        message: String,
        /// Numbered lines of the assembled shader.
        source_listing: String,
    },
    /// The device is out of memory.
    #[error(
        "{adapter} is out of memory while {doing}: use fewer students per group, smaller chunks or a narrower model; \
         training can be resumed from the last checkpoint"
    )]
    OutOfMemory {
        /// The adapter.
        adapter: String,
        /// What was being done.
        doing: String,
    },
    /// The device was lost (driver reset, watchdog, unplugged).
    #[error("{adapter} was lost: {message}; training can be resumed from the last checkpoint")]
    Lost {
        /// The adapter.
        adapter: String,
        /// The driver's words.
        message: String,
    },
    /// An error the driver or wgpu reported outside an error scope.
    #[error("{adapter} reported an error: {message}")]
    Device {
        /// The adapter.
        adapter: String,
        /// The words.
        message: String,
    },
    /// The steps counted by the kernel are not those asked for: a watchdog cut a dispatch short.
    #[error(
        "{adapter} did {found} of {expected} steps: a watchdog probably ended a dispatch early; the parameters are not \
         usable, resume from the last checkpoint"
    )]
    StepCounter {
        /// The adapter.
        adapter: String,
        /// Steps asked for.
        expected: u64,
        /// Steps the kernel counted.
        found: u64,
    },
    /// It did not answer in time.
    #[error("{adapter} did not finish within {seconds} s")]
    Timeout {
        /// The adapter.
        adapter: String,
        /// Time waited.
        seconds: u64,
    },
    /// More than the adapter's limits allow.
    #[error(
        "{what}: {needed} bytes in one buffer are needed, but {adapter} allows {allowed}; a hardware GPU or --device cpu may do"
    )]
    TooLarge {
        /// What is too large.
        what: String,
        /// The adapter.
        adapter: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// The request does not fit the model or the kernel.
    #[error("{0}")]
    Refused(String),
}

fn listed(present: &[String]) -> String {
    if present.is_empty() {
        return "this machine offers no GPU adapter through Vulkan, Metal, DX12 or GL; install the vendor's driver (or \
                mesa-vulkan-drivers for a software one), or use --device cpu"
            .into();
    }
    format!(
        "present are {} (software adapters are only used when named: gpu:NUMBER or gpu:PART-OF-NAME)",
        present.join("; ")
    )
}
