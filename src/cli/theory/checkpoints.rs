//! Checkpoint files as the theory's networks.

use super::usage;
use crate::correlate::arguments::SupportList;
use crate::correlate::sources::{self, Source};
use anyhow::{Context, Result};
use curricle_core::model::MlpParams;
use curricle_theory::net::ReluNet;
use curricle_theory::two_phase::{MAX_DIMENSION, Problem};
use ndarray::Array1;
use std::path::Path;

/// A checkpoint in the theory's form.
pub(super) struct Loaded {
    /// The network.
    pub net: ReluNet,
    /// Its step, where the file says it.
    pub step: Option<u64>,
}

/// Reads a checkpoint. Its margin is logit 0 minus logit 1, so that it grows with the product over the support (label 0 means that the product
/// is +1, the theory's y = +1).
pub(super) fn load(path: &Path) -> Result<Loaded> {
    let (params, step) = sources::load(path)?;
    let net = margin(&params).with_context(|| path.display().to_string())?;
    Ok(Loaded { net, step })
}

fn margin(params: &MlpParams) -> Result<ReluNet> {
    let shape = params.shape();
    let [hidden, output] = params.layers.as_slice() else {
        return Err(usage(format!(
            "it has {} hidden layers; the theory is about one hidden layer (curricle correlate takes any number)",
            shape.hidden.len()
        )));
    };
    if shape.classes != 2 {
        return Err(usage(format!(
            "it has {} logits; the theory is about parity, with two (curricle correlate takes any number)",
            shape.classes
        )));
    }
    let wide = |v: &f32| f64::from(*v);
    let a: Array1<f64> =
        output.weight.row(0).iter().zip(output.weight.row(1)).map(|(p, q)| wide(p) - wide(q)).collect();
    let c = wide(&output.bias[0]) - wide(&output.bias[1]);
    ReluNet::new(hidden.weight.mapv(f64::from), hidden.bias.mapv(f64::from), a, c).map_err(super::blame)
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

/// The network minus its mean output (estimated on samples): a student's even levels see the mean first.
pub(super) fn centred(net: &ReluNet, seed: u64) -> Result<ReluNet> {
    let mean = mean_output(net, seed);
    ReluNet::new(net.hidden().clone(), net.biases().clone(), net.output().clone(), net.output_bias() - mean)
        .map_err(super::blame)
}

/// The odd part (f(x) - f(-x))/2, a network of twice the width. Under an odd teacher a student's gradient is the degree-one correlations (theory/README.md,
/// section 2); even levels put hat f(A) hat g(|A xor j|) on coordinates outside the support.
pub(super) fn odd(net: &ReluNet) -> Result<ReluNet> {
    use ndarray::{Axis, concatenate};
    let both = |shape| super::usage(format!("the odd part cannot be formed: {shape}"));
    let (w, a) = (net.hidden(), net.output() / 2.0);
    let hidden = concatenate(Axis(0), &[w.view(), (-w).view()]).map_err(both)?;
    let biases = concatenate(Axis(0), &[net.biases().view(), net.biases().view()]).map_err(both)?;
    let output = concatenate(Axis(0), &[a.view(), (-&a).view()]).map_err(both)?;
    ReluNet::new(hidden, biases, output, 0.0).map_err(super::blame)
}

/// E[f] over 2^16 random inputs and their negations.
fn mean_output(net: &ReluNet, seed: u64) -> f64 {
    use curricle_core::rng::{Purpose, Stream};
    use curricle_core::task::Samples;
    const HALF: usize = 1 << 15;
    const CHUNK: usize = 1 << 11;
    let d = net.dimension();
    let (w, b) = (net.hidden().mapv(|v| v as f32), net.biases().mapv(|v| v as f32));
    let mut total = 0.0;
    for first in (0..HALF).step_by(CHUNK) {
        let x = Samples::random(d, seed, Stream::new(Purpose::Evaluation, 1), first as u64, CHUNK).to_signs();
        let x = ndarray::Array2::from_shape_vec([CHUNK, d], x).expect("one row per sample");
        for z in x.dot(&w.t()).rows() {
            for ((z, b), a) in z.iter().zip(&b).zip(net.output()) {
                total += a * f64::from((z + b).max(0.0) + (b - z).max(0.0));
            }
        }
    }
    total / (2 * HALF) as f64 + net.output_bias()
}

#[cfg(test)]
mod tests {
    use super::*;
    use curricle_core::model::{MlpInit, MlpShape};

    #[test]
    fn the_margin_is_logit_0_minus_logit_1() {
        let shape = MlpShape { d: 5, hidden: vec![7], classes: 2 };
        let params = MlpParams::new(&shape, MlpInit::Pytorch, 3);
        let net = margin(&params).unwrap();
        let x = [1.0f32, -1.0, -1.0, 1.0, 1.0];
        let hidden = params.layers[0].weight.dot(&ndarray::arr1(&x)) + &params.layers[0].bias;
        let logits = params.layers[1].weight.dot(&hidden.mapv(|z| z.max(0.0))) + &params.layers[1].bias;
        let found = net.evaluate(&x.map(f64::from)).unwrap();
        assert!((found - f64::from(logits[0] - logits[1])).abs() < 1e-6);
        let deep = MlpParams::new(&MlpShape { hidden: vec![7, 7], ..shape.clone() }, MlpInit::Pytorch, 3);
        assert!(margin(&deep).unwrap_err().to_string().contains("2 hidden layers"));
        let four = MlpParams::new(&MlpShape { classes: 4, ..shape }, MlpInit::Pytorch, 3);
        assert!(margin(&four).unwrap_err().to_string().contains("4 logits"));
    }

    #[test]
    fn centring_removes_the_mean() {
        let shape = MlpShape { d: 8, hidden: vec![16], classes: 2 };
        let net = margin(&MlpParams::new(&shape, MlpInit::Pytorch, 1)).unwrap();
        let centred = centred(&net, 1).unwrap();
        let mean: f64 = (0..256u32)
            .map(|i| (0..8).map(|j| if i >> j & 1 == 1 { -1.0 } else { 1.0 }).collect::<Vec<f64>>())
            .map(|x| centred.evaluate(&x).unwrap())
            .sum::<f64>()
            / 256.0;
        assert!(mean.abs() < 0.01, "{mean}");
        let odd = odd(&net).unwrap();
        let x = [1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0];
        let expected = (net.evaluate(&x).unwrap() - net.evaluate(&x.map(|v| -v)).unwrap()) / 2.0;
        assert!((odd.evaluate(&x).unwrap() - expected).abs() < 1e-9);
    }
}
