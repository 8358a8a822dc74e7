//! Theorem 3.2 end to end: total samples until a student's hinge loss is at most epsilon.
//!
//! * **Teacher.** Checkpoint one is a teacher after its first phase, checkpoint two the same teacher after
//!   its second phase on labels, grown until its *measured* hinge loss is at most a quarter of epsilon (a
//!   constant below 1/2 is needed: `Settings::teacher_epsilon`). Its own samples are counted apart.
//! * **Progressive student.** First phase: correlation loss against checkpoint one. Second phase: hinge loss
//!   against the sign of checkpoint two (its argmax, temperature 0), first layer frozen.
//! * **One-shot student.** Both phases from checkpoint two (the first against its real-valued margin).
//! * **Labels.** Both phases from labels.
//!
//! A student's first phase ends at the first batch of a geometric grid from which a fraction of its neurons
//! ranks the support on top at two looks in a row; its second phase at the first number of samples from which
//! the trained second layer has loss at most epsilon on fresh samples at two looks in a row. These are
//! hitting times, found with an oracle; [`confirm`] runs fresh trials at fixed sizes and counts how many
//! reach epsilon.
//!
//! Hinge loss throughout is `E max(0, 1 - y f)` with the true label y.

mod design;
mod fit;
mod spec;
mod sweep;
mod trial;

pub use design::Design;
pub use fit::{Exponent, Exponents, exponents};
pub use spec::{Arm, Point, Repair, Settings, TUNED_STEP};
pub use sweep::{Confirmation, Missing, PointResult, TotalLog, Totals, confirm, measure_points};
pub use trial::{Outcome, run_trial};
