//! Matrix products through OpenBLAS, and weights in either family's orientation.

use curricle_core::model::transformer::{Family, Linear};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};
// Links OpenBLAS, through which ndarray multiplies.
use ndarray_linalg as _;
use std::ops::Range;
use std::sync::Mutex;

unsafe extern "C" {
    fn openblas_get_num_threads() -> std::ffi::c_int;
    fn openblas_set_num_threads(threads: std::ffi::c_int);
}

/// Keeps OpenBLAS on the calling thread while it lives: the engine has its own threads, each of which multiplies small
/// matrices, and OpenBLAS' threads on top would fight with them. It also keeps results independent of their number.
/// The setting is the process's, so it is shared by all guards and restored by the last.
#[derive(Debug)]
pub struct SingleThreaded(());

static GUARDS: Mutex<(usize, std::ffi::c_int)> = Mutex::new((0, 0));

impl SingleThreaded {
    /// From now on, until it is dropped.
    pub fn new() -> Self {
        let mut guards = GUARDS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if guards.0 == 0 {
            // SAFETY: these functions of OpenBLAS have no preconditions; the lock keeps the pair together.
            unsafe {
                guards.1 = openblas_get_num_threads();
                openblas_set_num_threads(1);
            }
        }
        guards.0 += 1;
        Self(())
    }
}

impl Default for SingleThreaded {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SingleThreaded {
    fn drop(&mut self) {
        let mut guards = GUARDS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        guards.0 -= 1;
        if guards.0 == 0 {
            // SAFETY: as above.
            unsafe { openblas_set_num_threads(guards.1) };
        }
    }
}

/// A row-major matrix of `width` columns.
fn matrix(data: &[f32], width: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape([data.len() / width, width], data).expect("whole rows")
}

fn matrix_mut(data: &mut [f32], width: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape([data.len() / width, width], data).expect("whole rows")
}

/// Some outputs of a linear map: all of them, or the queries, or keys and values, of a joint one.
#[derive(Debug, Clone)]
pub struct Map {
    weight: Range<usize>,
    inputs: usize,
    /// Outputs of the whole map.
    total: usize,
    /// Those meant.
    outputs: Range<usize>,
    family: Family,
}

impl Map {
    pub fn new(linear: &Linear, family: Family) -> Self {
        let Linear { weight, inputs, outputs, .. } = linear.clone();
        Self { weight, inputs, total: outputs, outputs: 0..outputs, family }
    }

    /// The same map with some of its outputs.
    pub fn part(&self, outputs: Range<usize>) -> Self {
        Self { outputs, ..self.clone() }
    }

    /// The head: logits from the matrix `[vocab, hidden]` of either family.
    pub fn head(weight: Range<usize>, hidden: usize) -> Self {
        let vocab = weight.len() / hidden;
        Self { weight, inputs: hidden, total: vocab, outputs: 0..vocab, family: Family::Bert }
    }

    fn width(&self) -> usize {
        self.outputs.len()
    }

    /// The weight as `[inputs, outputs]`.
    fn weight<'a>(&self, values: &'a [f32]) -> ArrayView2<'a, f32> {
        let data = &values[self.weight.clone()];
        match self.family {
            Family::Gpt2 => matrix(data, self.total).slice_move(s![.., self.outputs.clone()]),
            Family::Bert => {
                matrix(data, self.inputs).slice_move(s![self.outputs.clone(), ..]).reversed_axes()
            }
        }
    }

    /// y = x W, or y += x W.
    pub fn forward(&self, values: &[f32], x: &[f32], y: &mut [f32], add: bool) {
        if x.is_empty() {
            return;
        }
        let beta = f32::from(u8::from(add));
        general_mat_mul(
            1.0,
            &matrix(x, self.inputs),
            &self.weight(values),
            beta,
            &mut matrix_mut(y, self.width()),
        );
    }

    /// dx = dy W', or dx += dy W'.
    pub fn input_gradient(&self, values: &[f32], dy: &[f32], dx: &mut [f32], add: bool) {
        if dy.is_empty() {
            return;
        }
        let beta = f32::from(u8::from(add));
        let weight = self.weight(values);
        general_mat_mul(1.0, &matrix(dy, self.width()), &weight.t(), beta, &mut matrix_mut(dx, self.inputs));
    }

    /// dW += x' dy.
    pub fn weight_gradient(&self, x: &[f32], dy: &[f32], gradient: &mut [f32]) {
        if x.is_empty() {
            return;
        }
        let (x, dy) = (matrix(x, self.inputs), matrix(dy, self.width()));
        let data = &mut gradient[self.weight.clone()];
        match self.family {
            Family::Gpt2 => {
                let mut all = matrix_mut(data, self.total);
                general_mat_mul(1.0, &x.t(), &dy, 1.0, &mut all.slice_mut(s![.., self.outputs.clone()]));
            }
            Family::Bert => {
                let mut all = matrix_mut(data, self.inputs);
                general_mat_mul(1.0, &dy.t(), &x, 1.0, &mut all.slice_mut(s![self.outputs.clone(), ..]));
            }
        }
    }
}
