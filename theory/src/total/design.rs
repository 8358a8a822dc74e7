//! Which points a sweep visits.

use serde::{Deserialize, Serialize};

use super::{Arm, Point};

/// Lists of sizes. The first of each list is the base; the others vary one at a time around it (a star), or
/// all combinations are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Design {
    /// Dimensions. An odd k takes the next even d: with odd d labels carry no first-order signal.
    pub d: Vec<usize>,
    /// Support sizes.
    pub k: Vec<usize>,
    /// Widths as multiples of `2^k`.
    pub width_factors: Vec<usize>,
    /// Hinge losses.
    pub epsilon: Vec<f64>,
    /// Supervision.
    pub arms: Vec<Arm>,
    /// All combinations?
    pub grid: bool,
}

impl Design {
    /// The points, arm by arm, without repetition.
    ///
    /// ```
    /// use curricle_theory::total::{Arm, Design};
    /// let design = Design {
    ///     d: vec![41, 15, 21], k: vec![4, 3], width_factors: vec![16], epsilon: vec![0.2], arms: vec![Arm::Labels], grid: false,
    /// };
    /// let points = design.points();
    /// assert_eq!(points.iter().map(|p| (p.d, p.k)).collect::<Vec<_>>(), [(41, 4), (42, 3), (15, 4), (21, 4)]);
    /// ```
    pub fn points(&self) -> Vec<Point> {
        let mut out: Vec<Point> = Vec::new();
        for &arm in &self.arms {
            for (a, &d) in self.d.iter().enumerate() {
                for (b, &k) in self.k.iter().enumerate() {
                    for (c, &factor) in self.width_factors.iter().enumerate() {
                        for (e, &epsilon) in self.epsilon.iter().enumerate() {
                            let varied = [a, b, c, e].iter().filter(|i| **i > 0).count();
                            if varied > 1 && !self.grid {
                                continue;
                            }
                            let d = if k % 2 == 1 && d % 2 == 1 { d + 1 } else { d };
                            let width = factor.saturating_mul(1 << k.min(20));
                            let point = Point { d, k, width, epsilon, arm };
                            if !out.contains(&point) {
                                out.push(point);
                            }
                        }
                    }
                }
            }
        }
        out
    }
}
