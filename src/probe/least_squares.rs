//! Ridge regression in closed form, for the probes that read something linearly off hidden states.

use ndarray::{Array2, ArrayView2, Axis, s};
use ndarray_linalg::error::LinalgError;
use ndarray_linalg::{FactorizeH, SolveH};

/// The normal equations of a linear map from \[inputs\] and a constant to \[outputs\], summed row by row.
pub(super) struct NormalEquations {
    gram: Array2<f64>,
    cross: Array2<f64>,
    rows: usize,
}

impl NormalEquations {
    /// Without rows.
    pub(super) fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            gram: Array2::zeros((inputs + 1, inputs + 1)),
            cross: Array2::zeros((inputs + 1, outputs)),
            rows: 0,
        }
    }

    /// Adds the rows `inputs` \[n, inputs\] with their targets \[n, outputs\].
    pub(super) fn add(&mut self, inputs: ArrayView2<'_, f64>, targets: ArrayView2<'_, f64>) {
        let (n, d) = inputs.dim();
        self.rows += n;
        let mut x = Array2::<f64>::ones((n, d + 1));
        x.slice_mut(s![.., ..d]).assign(&inputs);
        self.gram += &x.t().dot(&x);
        self.cross += &x.t().dot(&targets);
    }

    /// The map \[inputs + 1, outputs\] with the least mean squared error plus `penalty` times its squares; the last row belongs to
    /// the constant and is not penalised.
    ///
    /// # Errors
    /// If the system is singular.
    pub(super) fn solve(mut self, penalty: f64) -> Result<Array2<f64>, String> {
        let added = penalty * self.rows as f64;
        (0..self.gram.nrows() - 1).for_each(|i| self.gram[[i, i]] += added);
        let singular = |e: LinalgError| e.to_string();
        let factors = self.gram.factorizeh().map_err(singular)?;
        let mut map = Array2::zeros(self.cross.dim());
        for (mut column, right) in map.axis_iter_mut(Axis(1)).zip(self.cross.axis_iter(Axis(1))) {
            let solution = factors.solveh(&right.to_owned()).map_err(singular)?;
            if solution.iter().any(|x: &f64| !x.is_finite()) {
                return Err("the solution is not finite".to_owned());
            }
            column.assign(&solution);
        }
        Ok(map)
    }
}
