//! `curricle devices`: the GPUs of this machine.

use super::common::Json;
use curricle_gpu::blocking::{floor, self_test};
use curricle_gpu::floor::Floor;
use curricle_gpu::self_test::KernelReport;
use curricle_gpu::{AdapterEntry, GpuContext, GpuOptions, ShaderChecks, adapters};
use curricle_lab::device::{DeviceChoice, ResolvedDevice};
use curricle_lab::oracle::CpuOracle;
use std::sync::Arc;

/// Lists every graphics adapter of every backend, with its driver and limits.
///
/// The first column is what --device takes: gpu:NUMBER, gpu:BACKEND:NUMBER or gpu:PART-OF-NAME. Software adapters are only used
/// when they are named.
#[derive(Debug, Clone, clap::Args)]
pub struct DevicesArgs {
    /// Run each kernel against the CPU engine and report error and speed
    #[arg(long)]
    pub self_test: bool,
    /// Only this adapter (gpu:NUMBER, gpu:BACKEND:NUMBER, gpu:PART-OF-NAME)
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Test with guards in the shaders: slower, and the right thing when a driver misbehaves
    #[arg(long, requires = "self_test")]
    pub checked: bool,
    /// `--json`.
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, serde::Serialize)]
struct Listing {
    /// What `--device auto` takes.
    auto: String,
    adapters: Vec<Adapter>,
}

#[derive(Debug, serde::Serialize)]
struct Adapter {
    device: String,
    backend_device: String,
    name: String,
    backend: &'static str,
    kind: String,
    hardware: bool,
    driver: String,
    max_buffer_bytes: u64,
    max_storage_binding_bytes: u64,
    workgroup_memory_bytes: u32,
    workgroup_threads: u32,
    storage_buffers: u32,
    /// Optional features the engine uses where present.
    features: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_test: Option<SelfTest>,
}

#[derive(Debug, serde::Serialize)]
struct SelfTest {
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<Floor>,
    kernels: Vec<KernelReport>,
}

/// Runs the command.
///
/// # Errors
/// If the named device does not exist, a kernel fails its test, or stdout cannot be written.
pub fn run(args: &DevicesArgs) -> anyhow::Result<()> {
    let all = adapters();
    let auto = match DeviceChoice::Auto.pick(all.clone())? {
        ResolvedDevice::Cpu => "cpu".to_owned(),
        ResolvedDevice::Gpu(entry) => format!("gpu:{}", entry.index),
    };
    let chosen = match &args.device {
        None => all,
        Some(choice) => match choice.pick(all)? {
            ResolvedDevice::Gpu(entry) => vec![*entry],
            ResolvedDevice::Cpu => Vec::new(),
        },
    };
    let checks = if args.checked { ShaderChecks::Checked } else { ShaderChecks::Unchecked };
    let test = |entry: &AdapterEntry| {
        args.self_test.then(|| {
            eprintln!("testing {entry}");
            tested(entry, checks)
        })
    };
    let adapters: Vec<Adapter> =
        chosen.iter().map(|e| Adapter { self_test: test(e), ..described(e) }).collect();
    let failed: Vec<&str> = adapters
        .iter()
        .filter(|a| a.self_test.as_ref().is_some_and(|t| !t.passed))
        .map(|a| a.device.as_str())
        .collect();
    let failed = failed.join(", ");
    let listing = Listing { auto, adapters };
    if args.json.asked() {
        super::print_json(&listing)?;
    } else {
        super::print(&text(&listing))?;
    }
    anyhow::ensure!(failed.is_empty(), "the self-test failed on {failed}");
    Ok(())
}

fn described(entry: &AdapterEntry) -> Adapter {
    let limits = entry.adapter.limits();
    Adapter {
        device: format!("gpu:{}", entry.index),
        backend_device: format!("gpu:{}:{}", entry.backend(), entry.backend_index),
        name: entry.info.name.clone(),
        backend: entry.backend(),
        kind: format!("{:?}", entry.info.device_type),
        hardware: entry.is_hardware(),
        driver: format!("{} {}", entry.info.driver, entry.info.driver_info).trim().to_owned(),
        max_buffer_bytes: limits.max_buffer_size,
        max_storage_binding_bytes: limits.max_storage_buffer_binding_size,
        workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_threads: limits.max_compute_invocations_per_workgroup,
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        // Every kernel is written for the baseline; none has an optional variant yet.
        features: Vec::new(),
        self_test: None,
    }
}

fn tested(entry: &AdapterEntry, checks: ShaderChecks) -> SelfTest {
    match GpuContext::open(entry, GpuOptions { checks }) {
        Ok(context) => {
            let context = Arc::new(context);
            let kernels = self_test(&context, &CpuOracle);
            let floor = floor(&context);
            let error = floor.as_ref().err().map(ToString::to_string);
            let passed = error.is_none() && kernels.iter().all(|k| k.passed);
            SelfTest { passed, error, floor: floor.ok(), kernels }
        }
        Err(error) => {
            SelfTest { passed: false, error: Some(error.to_string()), floor: None, kernels: Vec::new() }
        }
    }
}

fn text(listing: &Listing) -> String {
    let mut out = String::new();
    if listing.adapters.is_empty() {
        out.push_str(
            "No GPU adapter: neither Vulkan, Metal, DX12 nor GL offers one. The CPU engine does everything the GPU \
             engine does.\nFor a hardware GPU install its vendor's driver; for a software one (slow, for tests) \
             mesa-vulkan-drivers.\n",
        );
    }
    for a in &listing.adapters {
        let mib = |bytes: u64| bytes >> 20;
        out.push_str(&format!(
            "{} ({})  {}\n    {}, {}{}\n    largest buffer {} MiB, largest binding {} MiB, workgroup: {} KiB, {} threads\n",
            a.device,
            a.backend_device,
            a.name,
            a.driver,
            a.kind,
            if a.hardware { "" } else { " (software: used only when named)" },
            mib(a.max_buffer_bytes),
            mib(a.max_storage_binding_bytes),
            a.workgroup_memory_bytes >> 10,
            a.workgroup_threads,
        ));
        let Some(test) = &a.self_test else { continue };
        if let Some(error) = &test.error {
            out.push_str(&format!("    FAILED: {error}\n"));
        }
        for k in &test.kernels {
            let verdict = if k.passed { "ok    " } else { "FAILED" };
            out.push_str(&format!(
                "    {verdict} {:<22} NMSE {:8.1e}  max error {:8.1e}  {:>12.0} {}\n",
                k.kernel, k.nmse, k.max_error, k.speed, k.unit
            ));
            if let Some(error) = &k.error {
                out.push_str(&format!("           {error}\n"));
            }
        }
        if let Some(floor) = &test.floor {
            out.push_str(&format!(
                "    a dispatch costs {:.2} us, a barrier {:.3} us\n",
                floor.dispatch_microseconds, floor.barrier_microseconds
            ));
        }
    }
    out.push_str(&format!("--device auto is {}\n", listing.auto));
    out
}
