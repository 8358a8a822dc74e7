//! Trained models as the theory's networks.

use curricle_core::model::MlpParams;
use curricle_theory::TheoryError;
use curricle_theory::net::ReluNet;

/// Why a model is none of the theory's.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Not one hidden layer.
    #[error(
        "it has {0} hidden layers; the theory is about one hidden layer (curricle correlate takes any number)"
    )]
    Depth(usize),
    /// Not two logits.
    #[error("it has {0} logits; the theory is about parity, with two (curricle correlate takes any number)")]
    Classes(usize),
    /// Weights that the analysis refuses.
    #[error(transparent)]
    Weights(#[from] TheoryError),
}

/// The margin logit 0 minus logit 1, which grows with the product over the support (label 0 means that the
/// product is +1, the theory's y = +1).
///
/// # Errors
/// Any depth but one hidden layer, any number of logits but two, weights that are not finite.
pub fn margin(params: &MlpParams) -> Result<ReluNet, NetworkError> {
    let shape = params.shape();
    let [hidden, output] = params.layers.as_slice() else {
        return Err(NetworkError::Depth(shape.hidden.len()));
    };
    if shape.classes != 2 {
        return Err(NetworkError::Classes(shape.classes));
    }
    let wide = |v: &f32| f64::from(*v);
    let a = output.weight.row(0).iter().zip(output.weight.row(1)).map(|(p, q)| wide(p) - wide(q)).collect();
    let c = wide(&output.bias[0]) - wide(&output.bias[1]);
    Ok(ReluNet::new(hidden.weight.mapv(f64::from), hidden.bias.mapv(f64::from), a, c)?)
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
        let dot = |row: usize, layer: usize, input: &[f32]| -> f32 {
            let l = &params.layers[layer];
            l.weight.row(row).iter().zip(input).map(|(w, x)| w * x).sum::<f32>() + l.bias[row]
        };
        let hidden: Vec<f32> = (0..7).map(|i| dot(i, 0, &x).max(0.0)).collect();
        let found = net.evaluate(&x.map(f64::from)).unwrap();
        assert!((found - f64::from(dot(0, 1, &hidden) - dot(1, 1, &hidden))).abs() < 1e-6);
        let deep = MlpParams::new(&MlpShape { hidden: vec![7, 7], ..shape.clone() }, MlpInit::Pytorch, 3);
        assert!(margin(&deep).unwrap_err().to_string().contains("2 hidden layers"));
        let four = MlpParams::new(&MlpShape { classes: 4, ..shape }, MlpInit::Pytorch, 3);
        assert!(margin(&four).unwrap_err().to_string().contains("4 logits"));
    }
}
