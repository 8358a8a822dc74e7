//! Which device computes: what the user typed, and what it resolves to on this machine.

use curricle_gpu::{AdapterEntry, GpuContext, GpuError, GpuOptions, adapters};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `--device auto|cpu|gpu|gpu:N|gpu:BACKEND:N|gpu:NAME`, as typed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// A hardware GPU if there is one, else the CPU engine. Never a software adapter.
    #[default]
    Auto,
    /// The CPU engine.
    Cpu,
    /// The first hardware GPU.
    Gpu,
    /// The adapter with this number in `curricle devices`.
    Index(usize),
    /// The adapter with this number among those of one backend.
    BackendIndex(String, usize),
    /// The first adapter whose name, driver or backend contains this, ignoring case.
    Name(String),
}

/// What a [`DeviceChoice`] resolved to.
#[derive(Debug, Clone)]
pub enum ResolvedDevice {
    /// The CPU engine.
    Cpu,
    /// The GPU engine on this adapter.
    Gpu(Box<AdapterEntry>),
}

/// An open device.
#[derive(Debug, Clone)]
pub enum Device {
    /// The CPU engine.
    Cpu,
    /// The GPU engine.
    Gpu(Arc<GpuContext>),
}

impl Device {
    /// For people; `threads` are those of the CPU engine.
    pub fn describe(&self, threads: usize) -> String {
        match self {
            Self::Cpu => format!("cpu ({}, {threads} threads)", curricle_cpu::Isa::detect().name()),
            Self::Gpu(context) => format!("gpu ({})", context.adapter()),
        }
    }
}

/// The text is no device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{0}' is no device: use auto, cpu, gpu, gpu:NUMBER, gpu:BACKEND:NUMBER or gpu:PART-OF-NAME (see `curricle devices`)"
)]
pub struct DeviceParseError(String);

/// Backends a `BACKEND:NUMBER` may name.
const BACKENDS: [&str; 4] = ["vulkan", "metal", "dx12", "gl"];

impl std::str::FromStr for DeviceChoice {
    type Err = DeviceParseError;

    fn from_str(text: &str) -> Result<Self, DeviceParseError> {
        let refused = || DeviceParseError(text.to_owned());
        let lower = text.to_lowercase();
        match lower.as_str() {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "gpu" => return Ok(Self::Gpu),
            _ => {}
        }
        let which = lower.strip_prefix("gpu:").filter(|w| !w.is_empty()).ok_or_else(refused)?;
        if let Ok(index) = which.parse() {
            return Ok(Self::Index(index));
        }
        if let Some((backend, index)) = which.split_once(':')
            && BACKENDS.contains(&backend)
        {
            return Ok(Self::BackendIndex(backend.to_owned(), index.parse().map_err(|_| refused())?));
        }
        Ok(Self::Name(which.to_owned()))
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = DeviceParseError;

    fn try_from(text: String) -> Result<Self, DeviceParseError> {
        text.parse()
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::Gpu => write!(f, "gpu"),
            Self::Index(index) => write!(f, "gpu:{index}"),
            Self::BackendIndex(backend, index) => write!(f, "gpu:{backend}:{index}"),
            Self::Name(name) => write!(f, "gpu:{name}"),
        }
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl DeviceChoice {
    /// Finds the device on this machine and opens it; shader guards as [`GpuOptions::default`] has them.
    ///
    /// # Errors
    /// If no adapter fits, or it cannot be opened.
    pub fn open(&self) -> Result<Device, GpuError> {
        Ok(match self.resolve()? {
            ResolvedDevice::Cpu => Device::Cpu,
            ResolvedDevice::Gpu(entry) => {
                Device::Gpu(Arc::new(GpuContext::open(&entry, GpuOptions::default())?))
            }
        })
    }

    /// Looks the choice up on this machine. `auto` and `cpu` always succeed.
    ///
    /// # Errors
    /// If no adapter fits; the message lists those there are.
    pub fn resolve(&self) -> Result<ResolvedDevice, GpuError> {
        if *self == Self::Cpu {
            return Ok(ResolvedDevice::Cpu);
        }
        self.pick(adapters())
    }

    /// [`Self::resolve`] on a given list.
    ///
    /// # Errors
    /// If no adapter fits.
    pub fn pick(&self, list: Vec<AdapterEntry>) -> Result<ResolvedDevice, GpuError> {
        let names: Vec<String> = list.iter().map(ToString::to_string).collect();
        let found = match self {
            Self::Cpu => return Ok(ResolvedDevice::Cpu),
            Self::Auto | Self::Gpu => list.into_iter().find(AdapterEntry::is_hardware),
            Self::Index(index) => list.into_iter().find(|a| a.index == *index),
            Self::BackendIndex(backend, index) => {
                list.into_iter().find(|a| a.backend() == backend && a.backend_index == *index)
            }
            Self::Name(part) => list.into_iter().find(|a| a.matches(part)),
        };
        match found {
            Some(entry) => Ok(ResolvedDevice::Gpu(Box::new(entry))),
            None if *self == Self::Auto => Ok(ResolvedDevice::Cpu),
            None => Err(GpuError::NoSuchDevice { asked: self.to_string(), present: names }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_parse_and_print() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("gpu", DeviceChoice::Gpu),
            ("gpu:3", DeviceChoice::Index(3)),
            ("gpu:vulkan:1", DeviceChoice::BackendIndex("vulkan".into(), 1)),
            ("gpu:llvmpipe", DeviceChoice::Name("llvmpipe".into())),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().as_ref(), Ok(&choice));
            assert_eq!(choice.to_string(), text);
        }
        for bad in ["", "tpu", "gpu:", "gpu:gl:x", "cuda:0"] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn without_adapters_auto_is_the_cpu_and_gpu_is_refused() {
        assert!(matches!(DeviceChoice::Auto.pick(Vec::new()), Ok(ResolvedDevice::Cpu)));
        let refused = DeviceChoice::Gpu.pick(Vec::new()).unwrap_err().to_string();
        assert!(refused.contains("no GPU adapter"), "{refused}");
    }
}
