//! What a group of models is asked to train, and which kernels do it.

use super::sample::GpuSamples;
use super::target::GpuTargets;

/// Which kernels train a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GpuPath {
    /// One workgroup per model, whole blocks of steps per dispatch.
    Narrow {
        /// The block's preactivations are in workgroup memory; else, because they do not fit, in global memory.
        shared: bool,
    },
    /// One dispatch per sample, neurons spread over workgroups.
    Wide,
    /// Matrix products, several dispatches per step.
    Minibatch,
}

impl std::fmt::Display for GpuPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Narrow { shared: true } => "narrow (one workgroup per model, in workgroup memory)",
            Self::Narrow { shared: false } => "narrow (one workgroup per model, in global memory)",
            Self::Wide => "wide (delayed rank-1 updates, one dispatch per sample)",
            Self::Minibatch => "minibatch (matrix products)",
        })
    }
}

/// Consecutive SGD steps of one member: step t trains on samples `first + t * batch ..`, with targets `targets_first + ..`.
#[derive(Debug, Clone, Copy)]
pub struct MemberSteps<'a> {
    /// The member.
    pub member: usize,
    /// Samples, shared by any number of members.
    pub samples: &'a GpuSamples,
    /// First sample.
    pub first: usize,
    /// Targets, shared by members that learn the same.
    pub targets: &'a GpuTargets,
    /// First target.
    pub targets_first: usize,
    /// Learning rate of each step; members that share the slice share its upload.
    pub rates: &'a [f32],
    /// As in [`curricle_core::optim::Steps`].
    pub weight_decay: f32,
}
