//! The adapters of this machine, or of this browser.

use std::collections::HashMap;

/// Storage buffers the largest kernel binds. WebGPU's baseline is 8; one is left spare because Metal's backend uses one.
pub const STORAGE_BUFFERS: u32 = 7;

/// One adapter of one backend.
#[derive(Debug, Clone)]
pub struct AdapterEntry {
    /// Number among all adapters, as `curricle devices` lists them.
    pub index: usize,
    /// Number among the adapters of its backend.
    pub backend_index: usize,
    /// Name, driver, type.
    pub info: wgpu::AdapterInfo,
    /// The adapter itself.
    pub adapter: wgpu::Adapter,
}

impl AdapterEntry {
    /// Backend in small letters: vulkan, metal, dx12, gl.
    pub fn backend(&self) -> &'static str {
        self.info.backend.to_str()
    }

    /// False for software adapters. GL reports many drivers' type as unknown, so software ones are told by name too.
    pub fn is_hardware(&self) -> bool {
        let name = self.info.name.to_lowercase();
        let software = ["llvmpipe", "softpipe", "swiftshader", "lavapipe", "basic render"];
        self.info.device_type != wgpu::DeviceType::Cpu && !software.iter().any(|s| name.contains(s))
    }

    /// Whether the (lower-case) text occurs in name, driver or backend.
    pub fn matches(&self, part: &str) -> bool {
        [&self.info.name, &self.info.driver, &self.info.driver_info]
            .iter()
            .any(|s| s.to_lowercase().contains(part))
            || self.backend() == part
    }
}

impl std::fmt::Display for AdapterEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({}:{})", self.index, self.info.name, self.backend(), self.backend_index)
    }
}

/// Every adapter of every backend. Vulkan, Metal and DX12 come before GL, which shows the same hardware again.
pub async fn adapters_async() -> Vec<AdapterEntry> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // No validation layers unless the user sets WGPU_DEBUG or WGPU_VALIDATION; the tests check results instead.
    descriptor.flags = wgpu::InstanceFlags::empty().with_env();
    let instance = wgpu::Instance::new(descriptor);
    let mut found = instance.enumerate_adapters(wgpu::Backends::all()).await;
    found.retain(|a| {
        a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
            && a.limits().max_storage_buffers_per_shader_stage >= STORAGE_BUFFERS
    });
    found.sort_by_key(|a| a.get_info().backend == wgpu::Backend::Gl);
    let mut per_backend: HashMap<&'static str, usize> = HashMap::new();
    found
        .into_iter()
        .enumerate()
        .map(|(index, adapter)| {
            let info = adapter.get_info();
            let count = per_backend.entry(info.backend.to_str()).or_default();
            *count += 1;
            AdapterEntry { index, backend_index: *count - 1, info, adapter }
        })
        .collect()
}
