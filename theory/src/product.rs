//! Single-thread f32 matrix products for use inside rayon tasks.
//!
//! ndarray's `dot` goes to OpenBLAS, whose own threads would compete with rayon's and make the rounding
//! depend on their number.

use ndarray::Array2;

/// `a b`.
pub(crate) fn product(a: &Array2<f32>, b: &Array2<f32>) -> Array2<f32> {
    let (m, k) = a.dim();
    let n = b.ncols();
    assert_eq!(k, b.nrows(), "inner dimensions");
    let mut c = Array2::<f32>::zeros((m, n));
    let (sa, sb) = (a.strides().to_vec(), b.strides().to_vec());
    // SAFETY: pointers and strides come from live arrays of exactly these shapes, and `c` is in standard
    // layout.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.as_ptr(),
            sa[0],
            sa[1],
            b.as_ptr(),
            sb[0],
            sb[1],
            0.0,
            c.as_mut_ptr(),
            n as isize,
            1,
        );
    }
    c
}
