//! Checkpoint files as the theory's networks.

use super::usage;
use crate::correlate::arguments::SupportList;
use crate::correlate::sources::{self, Source};
use anyhow::Result;
use curricle_lab::theory::network::{NetworkError, margin};
use curricle_theory::net::ReluNet;
use curricle_theory::two_phase::{MAX_DIMENSION, Problem};
use std::path::Path;

/// A checkpoint in the theory's form.
pub(super) struct Loaded {
    /// The network.
    pub net: ReluNet,
    /// Its step, where the file says it.
    pub step: Option<u64>,
}

/// Reads a checkpoint. Its margin is logit 0 minus logit 1, so that it grows with the product over the
/// support (label 0 means that the product is +1, the theory's y = +1).
pub(super) fn load(path: &Path) -> Result<Loaded> {
    let (params, step) = sources::load(path)?;
    let net = margin(&params).map_err(|e| match e {
        NetworkError::Weights(e) => super::blame(e),
        shape => usage(format!("{}: {shape}", path.display())),
    })?;
    Ok(Loaded { net, step })
}

/// The parity that checkpoints are about: --support, else the task of their run; `d` is what was asked for.
pub(super) fn problem(found: &[Source], support: Option<&SupportList>, d: Option<usize>) -> Result<Problem> {
    let (first, rest) = found.split_first().ok_or_else(|| usage("no checkpoint was given"))?;
    let (params, _) = sources::load(&first.path)?;
    let dimension = params.shape().d;
    for source in rest {
        let other = sources::load(&source.path)?.0.shape().d;
        if other != dimension {
            return Err(usage(format!(
                "{} takes d = {other} inputs, but {} takes {dimension}: give them in separate commands",
                source.path.display(),
                first.path.display()
            )));
        }
    }
    let shown = first.path.display();
    if let Some(d) = d
        && d != dimension
    {
        return Err(usage(format!(
            "--d {d}, but {shown} takes d = {dimension} inputs: give a checkpoint of this dimension, or leave --d out"
        )));
    }
    let nodes = match (support, &first.task) {
        (Some(SupportList(nodes)), _) => nodes.clone(),
        (None, Some(known)) if known.task.d() == dimension => known.task.nodes(),
        (None, Some(known)) => {
            return Err(usage(format!(
                "{shown} takes d = {dimension} inputs, but task.d = {} in {}",
                known.task.d(),
                known.path.display()
            )));
        }
        (None, None) => {
            return Err(usage(format!(
                "{shown}: the support is not known (it lies in no run folder with a spec.toml); give --support 2,5,7,11"
            )));
        }
    };
    let [support] = nodes.as_slice() else {
        return Err(usage(format!(
            "the support has {} nodes; the theory is about parity, with one (curricle correlate takes a hierarchy)",
            nodes.len()
        )));
    };
    if dimension > MAX_DIMENSION {
        return Err(usage(format!(
            "{shown} has d = {dimension}, above {MAX_DIMENSION}, the limit of the simulation; `theory bounds` without --checkpoint takes any d"
        )));
    }
    Problem::new(dimension, support.clone()).map_err(super::blame)
}
