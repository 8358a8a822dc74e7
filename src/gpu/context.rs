//! The device, and the few things every kernel needs of it: pipelines and buffers.

use super::adapter::AdapterEntry;
use super::error::GpuError;
use bytemuck::Pod;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Workgroups along x of a dispatch that is cut into rows because a dimension holds at most 65535.
pub const GRID_ROW: u32 = 32768;

/// Whether wgpu guards array indices and loops in our shaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ShaderChecks {
    /// Guarded: for testing, and for drivers one does not trust.
    Checked,
    /// Unguarded: what training uses. Every kernel is tested in both modes.
    #[default]
    Unchecked,
}

/// How to open a device.
#[derive(Debug, Clone, Copy, Default)]
pub struct GpuOptions {
    /// Guards in shaders.
    pub checks: ShaderChecks,
}

/// What is bound to a kernel, in binding order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// A uniform buffer.
    Uniform,
    /// A uniform buffer with a dynamic offset, of this many bytes.
    Moving(u32),
    /// A read-only storage buffer.
    Read,
    /// A read-write storage buffer.
    Write,
}

/// A compiled kernel.
#[derive(Debug)]
pub struct Kernel {
    pub(super) pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    name: String,
}

/// A kernel with its buffers and its grid, ready to be recorded.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The kernel.
    pub kernel: Arc<Kernel>,
    /// Its buffers.
    pub bind: Arc<wgpu::BindGroup>,
    /// Dynamic offset of its [`Bind::Moving`] buffer.
    pub offset: Option<u32>,
    /// Workgroups.
    pub groups: [u32; 3],
}

/// An opened device and everything cached on it. Cheap to share: all methods take `&self`.
pub struct GpuContext {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    entry: AdapterEntry,
    limits: wgpu::Limits,
    options: GpuOptions,
    kernels: Mutex<HashMap<String, Arc<Kernel>>>,
    fault: Arc<Mutex<Option<GpuError>>>,
    deferred: Mutex<Vec<Deferred>>,
    steps: Mutex<Option<wgpu::Buffer>>,
}

/// What an error scope caught, once the driver has said so.
#[cfg(not(target_arch = "wasm32"))]
type Scope = Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>;
#[cfg(target_arch = "wasm32")]
type Scope = Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>;

/// An error scope whose result has not arrived, and what to make of an error.
type Deferred = (Scope, Box<dyn Fn(&wgpu::Error) -> GpuError + Send>);

fn polled(scope: &mut Scope) -> Poll<Option<wgpu::Error>> {
    scope.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for GpuContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuContext").field("adapter", &self.name()).finish_non_exhaustive()
    }
}

impl GpuContext {
    /// Opens `entry` with everything its adapter allows of the limits we use.
    ///
    /// # Errors
    /// If the driver refuses.
    pub async fn open_async(entry: &AdapterEntry, options: GpuOptions) -> Result<Self, GpuError> {
        let offered = entry.adapter.limits();
        let mut limits = wgpu::Limits::downlevel_defaults().using_resolution(offered.clone());
        limits.max_storage_buffer_binding_size = offered.max_storage_buffer_binding_size;
        limits.max_buffer_size = offered.max_buffer_size;
        limits.max_storage_buffers_per_shader_stage = offered.max_storage_buffers_per_shader_stage;
        limits.max_compute_workgroup_storage_size = offered.max_compute_workgroup_storage_size;
        limits.max_compute_invocations_per_workgroup = offered.max_compute_invocations_per_workgroup;
        limits.max_compute_workgroup_size_x = offered.max_compute_workgroup_size_x;
        limits.max_compute_workgroup_size_y = offered.max_compute_workgroup_size_y;
        limits.max_compute_workgroup_size_z = offered.max_compute_workgroup_size_z;
        limits.max_compute_workgroups_per_dimension = offered.max_compute_workgroups_per_dimension;
        limits.min_uniform_buffer_offset_alignment = offered.min_uniform_buffer_offset_alignment;
        limits.min_storage_buffer_offset_alignment = offered.min_storage_buffer_offset_alignment;
        // Graphics limits a compute-only GL adapter may not reach are of no interest here.
        let limits = limits.or_worse_values_from(&offered);
        let name = format!("{} ({})", entry.info.name, entry.backend());
        let request = entry.adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("curricle"),
            required_features: wgpu::Features::empty(),
            required_limits: limits.clone(),
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        });
        let (device, queue) =
            request.await.map_err(|e| GpuError::Open { adapter: name.clone(), message: e.to_string() })?;
        let fault: Arc<Mutex<Option<GpuError>>> = Arc::default();
        // Uncaptured errors would panic. The first one is kept and returned by the next check.
        let (slot, adapter) = (fault.clone(), name.clone());
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            keep(&slot, described(&adapter, "training", &error));
        }));
        let slot = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                keep(&slot, GpuError::Lost { adapter: name.clone(), message });
            }
        });
        Ok(Self {
            device,
            queue,
            entry: entry.clone(),
            limits,
            options,
            kernels: Mutex::default(),
            fault,
            deferred: Mutex::default(),
            steps: Mutex::default(),
        })
    }

    /// "name (backend)".
    pub fn name(&self) -> String {
        format!("{} ({})", self.entry.info.name, self.entry.backend())
    }

    /// The adapter.
    pub fn adapter(&self) -> &AdapterEntry {
        &self.entry
    }

    /// The limits the device was opened with.
    pub fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    /// How it was opened.
    pub fn options(&self) -> GpuOptions {
        self.options
    }

    /// Bytes one may keep in resident checkpoints. wgpu does not tell the memory of a device; the largest buffer it
    /// allows is the only hint every backend gives, and half of it, between 256 MiB and 8 GiB, has proved to be safe.
    pub fn memory_budget(&self) -> u64 {
        (self.limits.max_buffer_size / 2).clamp(256 << 20, 8 << 30)
    }

    /// The first error the driver has reported. Of errors it reports late, as browsers do, those that have arrived.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> Result<(), GpuError> {
        locked(&self.deferred).retain_mut(|(scope, describe)| match polled(scope) {
            Poll::Pending => true,
            Poll::Ready(error) => {
                if let Some(error) = error {
                    keep(&self.fault, describe(&error));
                }
                false
            }
        });
        locked(&self.fault).clone().map_or(Ok(()), Err)
    }

    /// Notes an error that every further check returns.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn fail(&self, error: GpuError) {
        keep(&self.fault, error);
    }

    /// What an error scope caught, if that is known already, as it is of native drivers; else [`Self::check`] will tell.
    fn caught(
        &self,
        scope: wgpu::ErrorScopeGuard,
        describe: impl Fn(&wgpu::Error) -> GpuError + Send + 'static,
    ) -> Result<(), GpuError> {
        let mut scope: Scope = Box::pin(scope.pop());
        match polled(&mut scope) {
            Poll::Ready(error) => error.map_or(Ok(()), |error| Err(describe(&error))),
            Poll::Pending => {
                locked(&self.deferred).push((scope, Box::new(describe)));
                Ok(())
            }
        }
    }

    /// Compiles (or finds) the kernel `entry` of `source`, which was assembled for this `key`.
    pub(super) fn kernel(
        &self,
        name: &str,
        entry: &str,
        source: &str,
        binds: &[Bind],
    ) -> Result<Arc<Kernel>, GpuError> {
        let key = format!("{name}/{entry}\n{source}");
        let mut kernels = locked(&self.kernels);
        if let Some(kernel) = kernels.get(&key) {
            return Ok(kernel.clone());
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let inner = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        };
        let module = match self.options.checks {
            ShaderChecks::Checked => self.device.create_shader_module(descriptor),
            // SAFETY: every index of our kernels is in range and every loop ends for the sizes the host code passes;
            // the tests run each kernel in the checked mode as well and compare the results.
            ShaderChecks::Unchecked => unsafe {
                self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            },
        };
        let entries: Vec<wgpu::BindGroupLayoutEntry> = binds
            .iter()
            .enumerate()
            .map(|(binding, bind)| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match bind {
                        Bind::Uniform | Bind::Moving(_) => wgpu::BufferBindingType::Uniform,
                        Bind::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Bind::Write => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: matches!(bind, Bind::Moving(_)),
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(name),
            entries: &entries,
        });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        for scope in [inner, scope] {
            let (kernel, adapter, source) = (name.to_owned(), self.name(), source.to_owned());
            self.caught(scope, move |error| {
                let lines = source.lines().enumerate().map(|(i, line)| format!("{:4} {line}\n", i + 1));
                GpuError::Shader {
                    kernel: kernel.clone(),
                    adapter: adapter.clone(),
                    message: error.to_string(),
                    source_listing: lines.collect(),
                }
            })?;
        }
        let kernel = Arc::new(Kernel { pipeline, layout, name: name.to_owned() });
        kernels.insert(key, kernel.clone());
        Ok(kernel)
    }

    /// Binds `buffers` to `kernel` in binding order.
    pub(super) fn bind(
        &self,
        kernel: &Kernel,
        binds: &[Bind],
        buffers: &[&wgpu::Buffer],
    ) -> Arc<wgpu::BindGroup> {
        let entries: Vec<wgpu::BindGroupEntry> = buffers
            .iter()
            .zip(binds)
            .enumerate()
            .map(|(binding, (buffer, bind))| wgpu::BindGroupEntry {
                binding: binding as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: match bind {
                        Bind::Moving(size) => std::num::NonZeroU64::new(u64::from(*size)),
                        _ => None,
                    },
                }),
            })
            .collect();
        Arc::new(self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&kernel.name),
            layout: &kernel.layout,
            entries: &entries,
        }))
    }

    /// A kernel with its buffers and grid.
    pub(super) fn launch(
        &self,
        kernel: &Arc<Kernel>,
        binds: &[Bind],
        buffers: &[&wgpu::Buffer],
        groups: [u32; 3],
    ) -> Launch {
        Launch { kernel: kernel.clone(), bind: self.bind(kernel, binds, buffers), offset: None, groups }
    }

    /// A storage buffer of `len` 32-bit words, zeroed.
    ///
    /// # Errors
    /// If it is larger than the adapter allows or does not fit into memory.
    pub(super) fn storage(&self, what: &str, len: u64) -> Result<wgpu::Buffer, GpuError> {
        self.buffer(what, len.max(4) * 4, wgpu::BufferUsages::STORAGE)
    }

    fn buffer(&self, what: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, GpuError> {
        let allowed = if usage.contains(wgpu::BufferUsages::STORAGE) {
            self.limits.max_buffer_size.min(self.limits.max_storage_buffer_binding_size)
        } else {
            self.limits.max_buffer_size
        };
        if size > allowed {
            let what = what.to_owned();
            return Err(GpuError::TooLarge { what, adapter: self.name(), needed: size, allowed });
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size,
            usage: usage | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let (adapter, doing) = (self.name(), format!("making room for {what}"));
        self.caught(scope, move |error| described(&adapter, &doing, error))?;
        Ok(buffer)
    }

    /// A storage buffer with these contents.
    ///
    /// # Errors
    /// As [`Self::storage`].
    pub(super) fn upload<T: Pod>(&self, what: &str, data: &[T]) -> Result<wgpu::Buffer, GpuError> {
        let buffer = self.storage(what, (size_of_val(data) as u64).div_ceil(4))?;
        self.write(&buffer, 0, data);
        Ok(buffer)
    }

    /// Writes `data` at byte `offset`.
    pub(super) fn write<T: Pod>(&self, buffer: &wgpu::Buffer, offset: u64, data: &[T]) {
        if !data.is_empty() {
            self.queue.write_buffer(buffer, offset, bytemuck::cast_slice(data));
        }
    }

    /// A uniform buffer with these contents.
    ///
    /// # Errors
    /// If memory is out.
    pub(super) fn uniform<T: Pod>(&self, data: &T) -> Result<wgpu::Buffer, GpuError> {
        let bytes = bytemuck::bytes_of(data);
        let buffer =
            self.buffer("uniforms", bytes.len().next_multiple_of(16) as u64, wgpu::BufferUsages::UNIFORM)?;
        self.queue.write_buffer(&buffer, 0, bytes);
        Ok(buffer)
    }

    /// The table of moving uniforms: entry i holds (i, 0, 0, 0), [`Self::step_stride`] bytes apart. A dynamic
    /// offset into it tells a dispatch which one it is, without a write between dispatches.
    pub(super) fn step_table(&self) -> Result<wgpu::Buffer, GpuError> {
        let mut slot = locked(&self.steps);
        if let Some(buffer) = &*slot {
            return Ok(buffer.clone());
        }
        let stride = self.step_stride() as usize / 4;
        let mut words = vec![0u32; stride * STEP_ENTRIES as usize];
        for (i, entry) in words.chunks_exact_mut(stride).enumerate() {
            entry[0] = i as u32;
        }
        let buffer = self.buffer("step table", words.len() as u64 * 4, wgpu::BufferUsages::UNIFORM)?;
        self.write(&buffer, 0, &words);
        Ok(slot.insert(buffer).clone())
    }

    /// Bytes between entries of [`Self::step_table`].
    pub(super) fn step_stride(&self) -> u32 {
        self.limits.min_uniform_buffer_offset_alignment.max(16)
    }

    /// Copies (buffer, to word, words) one after the other into `pool`.
    pub(super) fn copy_words(&self, copies: &[(&wgpu::Buffer, u64, u64)], pool: &wgpu::Buffer) {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (buffer, to, words) in copies {
            encoder.copy_buffer_to_buffer(buffer, 0, pool, to * 4, words * 4);
        }
        self.queue.submit([encoder.finish()]);
    }
}

/// Entries of the step table.
pub const STEP_ENTRIES: u32 = 2048;

fn keep(slot: &Mutex<Option<GpuError>>, error: GpuError) {
    locked(slot).get_or_insert(error);
}

fn described(adapter: &str, doing: &str, error: &wgpu::Error) -> GpuError {
    let adapter = adapter.to_owned();
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { adapter, doing: doing.to_owned() },
        other => GpuError::Device { adapter, message: other.to_string() },
    }
}

/// A grid of `groups` workgroups in rows of [`GRID_ROW`]; kernels number themselves x + y * GRID_ROW.
pub fn grid(groups: u32) -> [u32; 3] {
    if groups <= GRID_ROW { [groups.max(1), 1, 1] } else { [GRID_ROW, groups.div_ceil(GRID_ROW), 1] }
}
