//! The multi-head position-attention probe as a function: its value, and its gradient written out.
//!
//! Head h has a linear map W_h \[d, C\] and a position matrix P_h \[L, K\]. With S_h = P_h P_h^T and a sentence of n tokens with
//! hidden states X \[n, d\], the scores are
//! sum_h softmax(S_h\[..n, ..n\]) (X W_h) + b: every position mixes the linear maps of all positions, by weights that depend
//! on the two positions only. The loss is the mean over tokens of the sum over levels of the cross-entropy.
//!
//! exp(S_h) is computed once per step for all sentences; sums over the first n positions come from running sums.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis, NdFloat, s};
use std::ops::Range;

/// Parameters, or their gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Heads<A> {
    /// \[H, L, K\].
    pub positions: Array3<A>,
    /// \[d, H * C\].
    pub maps: Array2<A>,
    /// \[C\].
    pub bias: Array1<A>,
}

/// exp(S_h - row maximum) and its running sums along each row.
struct Weights<A> {
    exp: Array2<A>,
    sums: Array2<A>,
}

/// A sentence of a batch: hidden states \[n, d\] and labels \[levels\]\[n\].
pub type Sentence<'a, A> = (ArrayView2<'a, A>, &'a [Vec<usize>]);

impl<A: NdFloat> Heads<A> {
    /// All zeros of the same shape.
    pub fn zeros_like(&self) -> Self {
        Self {
            positions: Array3::zeros(self.positions.raw_dim()),
            maps: Array2::zeros(self.maps.raw_dim()),
            bias: Array1::zeros(self.bias.raw_dim()),
        }
    }

    /// All parameters in one order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut A> {
        self.positions.iter_mut().chain(self.maps.iter_mut()).chain(self.bias.iter_mut())
    }

    /// All parameters in the same order.
    pub fn values(&self) -> impl Iterator<Item = &A> {
        self.positions.iter().chain(self.maps.iter()).chain(self.bias.iter())
    }

    fn heads(&self) -> usize {
        self.positions.len_of(Axis(0))
    }

    fn weights(&self, head: usize, longest: usize) -> Weights<A> {
        let p = self.positions.slice(s![head, ..longest, ..]);
        let mut exp = p.dot(&p.t());
        for mut row in exp.outer_iter_mut() {
            let most = row.iter().copied().fold(A::neg_infinity(), A::max);
            row.mapv_inplace(|x| (x - most).exp());
        }
        let mut sums = exp.clone();
        sums.accumulate_axis_inplace(Axis(1), |&before, now| *now += before);
        Weights { exp, sums }
    }

    /// X W of every sentence, all heads: \[n, H * C\] each.
    fn mapped(&self, batch: &[Sentence<'_, A>]) -> Vec<Array2<A>> {
        batch.iter().map(|(x, _)| x.dot(&self.maps)).collect()
    }

    /// One head's columns of every sentence side by side, \[longest, B * C\], zero below a sentence's end.
    fn side_by_side(&self, all: &[Array2<A>], head: usize, longest: usize) -> Array2<A> {
        let c = self.bias.len();
        let mut joined = Array2::zeros((longest, all.len() * c));
        for (b, own) in all.iter().enumerate() {
            let from = own.slice(s![.., head * c..(head + 1) * c]);
            joined.slice_mut(s![..own.nrows(), b * c..(b + 1) * c]).assign(&from);
        }
        joined
    }

    /// Scores \[n, C\] of every sentence.
    pub fn scores(&self, batch: &[Sentence<'_, A>]) -> Vec<Array2<A>> {
        let longest = batch.iter().map(|(x, _)| x.nrows()).max().unwrap_or(0);
        let mapped = self.mapped(batch);
        let mut scores = self.empty_scores(batch);
        for head in 0..self.heads() {
            let weights = self.weights(head, longest);
            let mixed = weights.exp.dot(&self.side_by_side(&mapped, head, longest));
            self.add_head(&mut scores, &weights, &mixed);
        }
        scores
    }

    fn empty_scores(&self, batch: &[Sentence<'_, A>]) -> Vec<Array2<A>> {
        let one = |(x, _): &Sentence<'_, A>| {
            self.bias.broadcast((x.nrows(), self.bias.len())).expect("a row for every token").to_owned()
        };
        batch.iter().map(one).collect()
    }

    fn add_head(&self, scores: &mut [Array2<A>], weights: &Weights<A>, mixed: &Array2<A>) {
        let c = self.bias.len();
        for (b, own) in scores.iter_mut().enumerate() {
            let n = own.nrows();
            for (i, mut row) in own.outer_iter_mut().enumerate() {
                let sum = weights.sums[[i, n - 1]];
                row.zip_mut_with(&mixed.slice(s![i, b * c..(b + 1) * c]), |o, &m| *o += m / sum);
            }
        }
    }

    /// Loss (mean over tokens, summed over the levels whose outputs are `blocks`) and its gradient.
    pub fn gradient(&self, batch: &[Sentence<'_, A>], blocks: &[Range<usize>]) -> (A, Self) {
        let longest = batch.iter().map(|(x, _)| x.nrows()).max().unwrap_or(0);
        let c = self.bias.len();
        let mapped = self.mapped(batch);
        let mut gradient = self.zeros_like();
        let heads: Vec<(Weights<A>, Array2<A>, Array2<A>)> = (0..self.heads())
            .map(|head| {
                let weights = self.weights(head, longest);
                let values = self.side_by_side(&mapped, head, longest);
                let mixed = weights.exp.dot(&values);
                (weights, values, mixed)
            })
            .collect();
        let mut scores = self.empty_scores(batch);
        heads.iter().for_each(|(weights, _, mixed)| self.add_head(&mut scores, weights, mixed));
        let loss = loss_and_error(&mut scores, batch, blocks);
        let errors = scores;
        errors.iter().for_each(|e| gradient.bias += &e.sum_axis(Axis(0)));
        let mut to_maps: Vec<Array2<A>> = mapped.iter().map(|m| Array2::zeros(m.raw_dim())).collect();
        for (head, (weights, values, mixed)) in heads.into_iter().enumerate() {
            // Error over the sum of weights, side by side; and what the sums themselves pass back, by sentence length.
            let mut scaled = Array2::zeros((longest, batch.len() * c));
            let mut through_sum = Array2::<A>::zeros((longest, longest));
            for (b, error) in errors.iter().enumerate() {
                let n = error.nrows();
                for (i, row) in error.outer_iter().enumerate() {
                    let sum = weights.sums[[i, n - 1]];
                    let mut out = scaled.slice_mut(s![i, b * c..(b + 1) * c]);
                    out.assign(&row);
                    out.mapv_inplace(|x| x / sum);
                    through_sum[[i, n - 1]] += out.dot(&mixed.slice(s![i, b * c..(b + 1) * c])) / sum;
                }
            }
            // A sentence of n tokens has the first n weights in its sum.
            through_sum.invert_axis(Axis(1));
            through_sum.accumulate_axis_inplace(Axis(1), |&before, now| *now += before);
            through_sum.invert_axis(Axis(1));
            let mut to_scores = scaled.dot(&values.t());
            to_scores -= &through_sum;
            to_scores *= &weights.exp;
            let both = &to_scores + &to_scores.t();
            let p = self.positions.slice(s![head, ..longest, ..]);
            let mut to_p = gradient.positions.slice_mut(s![head, ..longest, ..]);
            general_mat_mul(A::one(), &both, &p, A::zero(), &mut to_p);
            let to_values = weights.exp.t().dot(&scaled);
            for (b, out) in to_maps.iter_mut().enumerate() {
                let n = out.nrows();
                out.slice_mut(s![.., head * c..(head + 1) * c])
                    .assign(&to_values.slice(s![..n, b * c..(b + 1) * c]));
            }
        }
        for ((x, _), to_map) in batch.iter().zip(&to_maps) {
            general_mat_mul(A::one(), &x.t(), to_map, A::one(), &mut gradient.maps);
        }
        (loss, gradient)
    }
}

/// Turns scores into the loss's derivatives with respect to them; gives the loss.
fn loss_and_error<A: NdFloat>(
    scores: &mut [Array2<A>],
    batch: &[Sentence<'_, A>],
    blocks: &[Range<usize>],
) -> A {
    let tokens = A::from(batch.iter().map(|(x, _)| x.nrows()).sum::<usize>()).expect("a count fits a float");
    let mut loss = A::zero();
    for (own, (_, labels)) in scores.iter_mut().zip(batch) {
        for (t, mut row) in own.outer_iter_mut().enumerate() {
            for (block, labels) in blocks.iter().zip(*labels) {
                let mut part = row.slice_mut(s![block.clone()]);
                let most = part.iter().copied().fold(A::neg_infinity(), A::max);
                part.mapv_inplace(|x| (x - most).exp());
                let sum = part.sum();
                loss += sum.ln() - part[labels[t]].ln();
                part.mapv_inplace(|x| x / sum / tokens);
                part[labels[t]] -= A::one() / tokens;
            }
        }
    }
    loss / tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use curricle_core::rng::{self, Purpose, Stream};

    fn noise(shape: usize, stream: u32) -> Vec<f64> {
        let word = |i| rng::bits(5, Stream::new(Purpose::Probe, stream), i as u64, 0)[0];
        (0..shape).map(|i| f64::from(rng::unit_f32(word(i))) * 2.0 - 1.0).collect()
    }

    #[test]
    fn gradient_is_that_of_finite_differences() {
        let (h, l, k, d, c) = (2, 6, 3, 4, 5);
        let mut heads = Heads {
            positions: Array3::from_shape_vec((h, l, k), noise(h * l * k, 0)).unwrap(),
            maps: Array2::from_shape_vec((d, h * c), noise(d * h * c, 1)).unwrap(),
            bias: Array1::from_vec(noise(c, 2)),
        };
        let blocks = [0..2, 2..5];
        let lengths = [5, 3, 5, 1];
        let states: Vec<Array2<f64>> = lengths
            .iter()
            .enumerate()
            .map(|(i, &n)| Array2::from_shape_vec((n, d), noise(n * d, 10 + i as u32)).unwrap())
            .collect();
        let labels: Vec<Vec<Vec<usize>>> = lengths
            .iter()
            .map(|&n| vec![(0..n).map(|t| t % 2).collect(), (0..n).map(|t| (t * t + n) % 3).collect()])
            .collect();
        let batch: Vec<Sentence<'_, f64>> =
            states.iter().zip(&labels).map(|(x, y)| (x.view(), &y[..])).collect();
        let (loss, gradient) = heads.gradient(&batch, &blocks);
        assert!(loss > 0.5 && loss < 5.0);
        let exact: Vec<f64> = gradient.values().copied().collect();
        let step = 1e-5;
        for (i, &exact) in exact.iter().enumerate() {
            let mut at = |delta: f64| {
                *heads.values_mut().nth(i).unwrap() += delta;
                let loss = heads.gradient(&batch, &blocks).0;
                *heads.values_mut().nth(i).unwrap() -= delta;
                loss
            };
            let slope = (at(step) - at(-step)) / (2.0 * step);
            assert!((slope - exact).abs() < 1e-8, "{i}: {slope} {exact}");
        }
        // The last position is beyond all sentences.
        assert!(gradient.positions.slice(s![.., 5, ..]).iter().all(|&g| g == 0.0));
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        let (h, l, k, d, c) = (2, 4, 3, 2, 3);
        let heads = Heads {
            positions: Array3::from_shape_vec((h, l, k), noise(h * l * k, 3)).unwrap(),
            maps: Array2::from_shape_vec((d, h * c), noise(d * h * c, 4)).unwrap(),
            bias: Array1::from_vec(noise(c, 5)),
        };
        let x = [Array2::from_shape_vec((3, d), noise(6, 6)).unwrap(), Array2::from_elem((4, d), 0.5)];
        let batch: Vec<Sentence<'_, f64>> = x.iter().map(|x| (x.view(), &[][..])).collect();
        let scores = heads.scores(&batch);
        for i in 0..3 {
            for o in 0..c {
                let mut expected = heads.bias[o];
                for head in 0..h {
                    let p = heads.positions.index_axis(Axis(0), head);
                    let weight: Vec<f64> = (0..3).map(|j| p.row(i).dot(&p.row(j)).exp()).collect();
                    let sum: f64 = weight.iter().sum();
                    for (j, w) in weight.iter().enumerate() {
                        expected += w / sum * x[0].row(j).dot(&heads.maps.column(head * c + o));
                    }
                }
                assert!((scores[0][[i, o]] - expected).abs() < 1e-12);
            }
        }
    }
}
