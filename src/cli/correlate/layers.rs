//! `--layers`: the same correlations for a readout of each layer.

use super::arguments::LayerList;
use super::sources::Source;
use super::{CorrelateArgs, usage};
use anyhow::Result;
use curricle_core::task::BooleanTask;
use curricle_probe::ParityTransformer;
use curricle_probe::{KnownSupport, LayerError, LayerReadout, ReadoutFit, Statistic};
use std::sync::Arc;

/// Refuses arguments that do not go with `--layers`.
///
/// # Errors
/// [`crate::Usage`].
pub(super) fn check(args: &CorrelateArgs) -> Result<()> {
    if args.layers.is_none() {
        return Ok(());
    }
    if let Some(other) = args.statistic.filter(|&s| s != Statistic::Margin) {
        let name = other.name();
        return Err(usage(format!(
            "--statistic {name}: with --layers the readout itself is correlated, which is its margin; leave --statistic out"
        )));
    }
    if args.readout_samples < 2 {
        let error = LayerError::TooFewSamples(args.readout_samples);
        return Err(usage(format!("--readout-samples: {error}")));
    }
    Ok(())
}

/// The task that readouts are fitted to.
///
/// # Errors
/// [`crate::Usage`] where there is none.
pub(super) fn task(
    args: &CorrelateArgs,
    source: &Source,
    known: Option<&KnownSupport>,
) -> Result<Arc<dyn BooleanTask>> {
    let path = source.path.display();
    let Some(known) = known else {
        return Err(usage(format!(
            "{path}: --layers fits readouts to the label and needs the task: give --support, or a checkpoint of a run"
        )));
    };
    super::task_for(args, source, known, 2).ok_or_else(|| {
        usage(format!(
            "{path}: --layers reads two labels, but the support has {} nodes: it needs a parity, or the checkpoint of a run on \
             a task of two labels",
            known.nodes().len()
        ))
    })
}

/// The layers of `--layers` that this transformer has: all that were asked for.
///
/// # Errors
/// [`crate::Usage`] if it lacks one.
pub(super) fn wanted(list: &LayerList, model: &ParityTransformer, path: &str) -> Result<Vec<usize>> {
    let layers = model.layers();
    match list {
        LayerList::All => Ok((0..=layers).collect()),
        LayerList::Given(asked) => match asked.iter().find(|&&layer| layer > layers) {
            Some(&layer) => {
                Err(usage(format!("--layers, for {path}: {}", LayerError::Layer { layer, layers })))
            }
            None => Ok(asked.clone()),
        },
    }
}

/// Fits the readout of a layer.
///
/// # Errors
/// [`crate::Usage`] for what the request got wrong; others for a checkpoint that does not compute.
pub(super) fn readout<'a>(
    args: &CorrelateArgs,
    model: &'a ParityTransformer,
    layer: usize,
    task: &dyn BooleanTask,
    path: &str,
) -> Result<LayerReadout<'a>> {
    let fit = ReadoutFit { samples: args.readout_samples, seed: args.seed, ..ReadoutFit::default() };
    LayerReadout::fit(model, layer, task, &fit).map_err(|e| match e {
        LayerError::Layer { .. }
        | LayerError::Dimension { .. }
        | LayerError::Classes(_)
        | LayerError::TooFewSamples(_) => usage(format!("{path}: {e}")),
        LayerError::Constant { .. }
        | LayerError::NonFinite { .. }
        | LayerError::Singular { .. }
        | LayerError::Model(_) => anyhow::Error::new(e).context(path.to_string()),
    })
}
