//! The network of the analysis: one hidden ReLU layer with a scalar output (the logit margin).

use ndarray::{Array1, Array2, ArrayView1};

use crate::error::{Result, TheoryError};
use crate::two_phase::evaluate::Evaluator;
use crate::two_phase::samples::{BLOCK, Block, Stream, generator};

/// Blocks of inputs that a mean output is estimated on.
const CENTRING_BLOCKS: u64 = 8;

/// `f(x) = sum_i a_i relu(<w_i, x> + b_i) + c`.
///
/// A two-logit classifier is brought to this form by taking the difference of its output rows.
#[derive(Debug, Clone, PartialEq)]
pub struct ReluNet {
    w: Array2<f64>,
    b: Array1<f64>,
    a: Array1<f64>,
    c: f64,
}

impl ReluNet {
    /// `w` is `[m, d]`, `b` and `a` have length `m`. Errors: sizes that disagree, an empty layer, anything
    /// not finite or above 1e15.
    ///
    /// ```
    /// use curricle_theory::net::ReluNet;
    /// use ndarray::{array, Array1};
    /// let net = ReluNet::new(array![[1.0, -1.0]], array![0.5], array![2.0], 0.0)?;
    /// assert_eq!(net.evaluate(&[1.0, -1.0])?, 5.0);
    /// assert!(ReluNet::new(array![[1.0, -1.0]], Array1::zeros(3), array![2.0], 0.0).is_err());
    /// # Ok::<(), curricle_theory::TheoryError>(())
    /// ```
    pub fn new(w: Array2<f64>, b: Array1<f64>, a: Array1<f64>, output_bias: f64) -> Result<Self> {
        if w.is_empty() {
            return Err(TheoryError::Shape {
                what: "hidden weights (must not be empty)",
                expected: 1,
                found: 0,
            });
        }
        for (what, found) in [("hidden biases", b.len()), ("output weights", a.len())] {
            if found != w.nrows() {
                return Err(TheoryError::Shape { what, expected: w.nrows(), found });
            }
        }
        // Far beyond any trained weight, and far enough from overflow for every sum and square in this crate.
        let sane = |v: &f64| v.abs() <= 1e15;
        if !w.iter().chain(&b).chain(&a).chain([&output_bias]).all(sane) {
            return Err(TheoryError::NotFinite {
                what: "a network weight (or above 1e15)",
                instead: "use a checkpoint from before the divergence",
            });
        }
        Ok(Self { w, b, a, c: output_bias })
    }

    /// Input dimension d.
    pub fn dimension(&self) -> usize {
        self.w.ncols()
    }

    /// Hidden width m.
    pub fn width(&self) -> usize {
        self.w.nrows()
    }

    /// Hidden weights `[m, d]`.
    pub fn hidden(&self) -> &Array2<f64> {
        &self.w
    }

    /// Hidden biases.
    pub fn biases(&self) -> &Array1<f64> {
        &self.b
    }

    /// Output weights.
    pub fn output(&self) -> &Array1<f64> {
        &self.a
    }

    /// Output bias.
    pub fn output_bias(&self) -> f64 {
        self.c
    }

    /// The logit margin at `x`. Errors when `x` has the wrong length.
    pub fn evaluate(&self, x: &[f64]) -> Result<f64> {
        self.check_dimension(x.len())?;
        let z = self.w.dot(&ArrayView1::from(x)) + &self.b;
        Ok(z.iter().zip(&self.a).map(|(z, a)| a * z.max(0.0)).sum::<f64>() + self.c)
    }

    /// `sum_i |a_i| (|w_i|_1 + |b_i|) + |c|`, an upper bound of `sup |f|` over the cube.
    pub fn sup_bound(&self) -> f64 {
        let norms = self.w.rows().into_iter().map(|r| r.iter().map(|v| v.abs()).sum::<f64>());
        norms.zip(&self.b).zip(&self.a).map(|((w, b), a)| a.abs() * (w + b.abs())).sum::<f64>() + self.c.abs()
    }

    /// Copy with every hidden weight whose size is at most `relative` times the largest of its neuron set to
    /// zero.
    ///
    /// One repair of the heavy tail (module `recovery`): it removes the out-of-support weights a first
    /// gradient step leaves.
    pub fn pruned(&self, relative: f64) -> Self {
        let mut net = self.clone();
        for mut row in net.w.rows_mut() {
            let largest = row.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            row.iter_mut().filter(|v| v.abs() <= relative * largest).for_each(|v| *v = 0.0);
        }
        net
    }

    /// The odd part `(f(x) - f(-x))/2`, of twice the width: under an odd teacher a student's gradient is the
    /// degree-one correlations (README, section 2), while even levels put `hat f(A) hat g(|A xor j|)` on
    /// coordinates outside the support.
    pub fn odd_part(&self) -> Self {
        let m = self.width();
        let sign = |i: usize| if i < m { 1.0 } else { -1.0 };
        Self {
            w: Array2::from_shape_fn((2 * m, self.dimension()), |(i, j)| sign(i) * self.w[[i % m, j]]),
            b: Array1::from_shape_fn(2 * m, |i| self.b[i % m]),
            a: Array1::from_shape_fn(2 * m, |i| sign(i) * self.a[i % m] / 2.0),
            c: 0.0,
        }
    }

    /// Copy minus its mean output, estimated on 2^15 random inputs and their negations.
    pub fn centred(&self, seed: u64) -> Result<Self> {
        let mut net = self.clone();
        let mut total = 0.0;
        let mut mirrored = self.clone();
        mirrored.w.mapv_inplace(|v| -v);
        let (positive, negative) = (Evaluator::new(self), Evaluator::new(&mirrored));
        for index in 0..CENTRING_BLOCKS {
            let mut block = Block::new(self.dimension());
            block.fill(&mut generator(seed, 1, Stream::Statistics, index), BLOCK);
            for evaluator in [&positive, &negative] {
                total += evaluator.values(&block).iter().map(|v| f64::from(*v)).sum::<f64>();
            }
        }
        net.c -= total / (2 * CENTRING_BLOCKS * BLOCK as u64) as f64;
        if net.c.is_finite() {
            return Ok(net);
        }
        Err(TheoryError::NotFinite {
            what: "the mean output",
            instead: "the outputs overflow f32; rescale the network",
        })
    }

    /// Copy with every hidden weight of size at most `negligible` set to zero.
    pub(crate) fn thresholded(&self, negligible: f64) -> Self {
        let mut net = self.clone();
        net.w.iter_mut().filter(|v| v.abs() <= negligible).for_each(|v| *v = 0.0);
        net
    }

    pub(crate) fn check_dimension(&self, found: usize) -> Result<()> {
        if found != self.dimension() {
            return Err(TheoryError::Shape {
                what: "dimension of the network",
                expected: self.dimension(),
                found,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_part_and_centred_copy() {
        let mut rng = generator(3, 0, Stream::Neurons, 0);
        let mut next = || crate::recovery::normal(&mut rng);
        let w = Array2::from_shape_simple_fn((16, 8), &mut next);
        let (b, a) =
            (Array1::from_shape_simple_fn(16, &mut next), Array1::from_shape_simple_fn(16, &mut next));
        let net = ReluNet::new(w, b, a, 0.7).unwrap();
        let x = [1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0];
        let expected = (net.evaluate(&x).unwrap() - net.evaluate(&x.map(|v| -v)).unwrap()) / 2.0;
        assert!((net.odd_part().evaluate(&x).unwrap() - expected).abs() < 1e-12);
        let mean = crate::fourier::network_spectrum(&net.centred(1).unwrap()).unwrap()[0];
        let size = crate::fourier::network_spectrum(&net).unwrap().iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!(mean.abs() < 0.02 * size, "{mean} against {size}");
    }
}
