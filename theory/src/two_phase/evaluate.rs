//! Values of a network on a block of samples, by one matrix product over its non-zero columns.

use ndarray::{Array1, Array2};

use super::samples::Block;
use crate::net::ReluNet;
use crate::product::product;

/// A network laid out for blocks, in f32.
pub(crate) struct Evaluator {
    coordinates: Vec<usize>,
    /// `[non-zero columns, m]`.
    transposed: Array2<f32>,
    b: Array1<f32>,
    a: Array1<f32>,
    c: f32,
}

impl Evaluator {
    pub fn new(net: &ReluNet) -> Self {
        let coordinates: Vec<usize> =
            (0..net.dimension()).filter(|&j| net.hidden().column(j).iter().any(|&v| v != 0.0)).collect();
        let mut transposed = Array2::zeros((coordinates.len(), net.width()));
        for (c, &j) in coordinates.iter().enumerate() {
            transposed.row_mut(c).assign(&net.hidden().column(j).mapv(|v| v as f32));
        }
        let single = |v: &Array1<f64>| v.mapv(|v| v as f32);
        Self {
            coordinates,
            transposed,
            b: single(net.biases()),
            a: single(net.output()),
            c: net.output_bias() as f32,
        }
    }

    /// `relu(Wx + b)`, `[samples, m]`.
    pub fn features(&self, block: &Block) -> Array2<f32> {
        let mut z = product(&block.unpack(&self.coordinates), &self.transposed);
        for mut row in z.rows_mut() {
            row.zip_mut_with(&self.b, |z, b| *z = (*z + b).max(0.0));
        }
        z
    }

    /// Logit margins.
    pub fn values(&self, block: &Block) -> Vec<f32> {
        let features = self.features(block);
        features
            .rows()
            .into_iter()
            .map(|phi| phi.iter().zip(&self.a).map(|(p, a)| p * a).sum::<f32>() + self.c)
            .collect()
    }
}
