//! The three phases of a loss curve: plateau, drop, and what comes after.

/// One evaluation of a loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossPoint {
    /// Training step (or samples: any ascending measure of time).
    pub step: f64,
    /// Loss.
    pub loss: f64,
}

/// Where the phases meet.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Phases {
    /// Loss of the plateau before the drop.
    pub plateau_loss: f64,
    /// Loss at the end.
    pub final_loss: f64,
    /// Where the drop begins, ..
    pub drop_start: f64,
    /// .. has done half its fall, ..
    pub drop_middle: f64,
    /// .. and ends.
    pub drop_end: f64,
    /// Whether the curve has the shape of three phases: on the plateau the loss falls at most half as fast as at its steepest in
    /// the drop, and after the drop a quarter as fast, or less, for at least as long as the drop
    /// lasted.
    pub three_phases: bool,
}

/// Evaluations whose running median is taken against the noise of batches.
const SMOOTHING: usize = 3;
/// The drop is where the loss falls at least this share as fast as at its steepest.
const STEEP: f64 = 0.25;
/// On a plateau it falls at most this share as fast.
const FLAT: f64 = 0.5;

/// The phases of a loss curve, or `None` if it has fewer than six finite points or does not fall.
///
/// Before a plateau there is a short initial descent (from ln of the vocabulary to the loss of token frequencies), often the
/// steepest of all. The plateau is therefore where, in the upper half of the loss, the curve is flattest compared with what
/// comes later; the drop is the stretch around the steepest descent after it in which the loss falls at least
/// a quarter as fast as there.
pub fn phases(points: &[LossPoint]) -> Option<Phases> {
    let points: Vec<LossPoint> =
        points.iter().copied().filter(|p| p.loss.is_finite() && p.step.is_finite()).collect();
    if points.len() < 6 {
        return None;
    }
    let smooth = running_median(&points);
    let last = smooth[smooth.len() - 3..].iter().copied().fold(f64::INFINITY, f64::min);
    let first = smooth[0];
    if first - last < 1e-9_f64.max(0.01 * first.abs()) {
        return None;
    }
    let half = last + 0.5 * (plateau(&points, &smooth, last) - last);
    // Speed of the fall between neighbours, over the three intervals around them against the noise.
    let speed: Vec<f64> = (1..points.len())
        .map(|i| {
            let (a, b) = (i.saturating_sub(2), (i + 1).min(points.len() - 1));
            (smooth[a] - smooth[b]) / (points[b].step - points[a].step).max(f64::MIN_POSITIVE)
        })
        .collect();
    let steepest_after = |i: usize| (i + 1..speed.len()).max_by(|&a, &b| speed[a].total_cmp(&speed[b]));
    let flatness = |i: usize| steepest_after(i).map(|s| speed[i].max(0.0) / speed[s]);
    let flattest = (0..speed.len())
        .filter(|&i| smooth[i] >= half)
        .filter_map(|i| Some((i, flatness(i).filter(|f| f.is_finite() && *f >= 0.0)?)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let (flat, flatness) = flattest?;
    let steepest = steepest_after(flat)?;
    let steep = |i: &usize| speed[*i] >= STEEP * speed[steepest];
    let from = (flat + 1..=steepest).rev().take_while(steep).last()?;
    let to = (steepest..speed.len()).take_while(steep).last()? + 1;
    let (drop_start, drop_end) = (points[from].step, points[to].step);
    let drop_middle = crossing(&points, &smooth, 0.5 * (smooth[from] + smooth[to])).unwrap_or(drop_start);
    let after = points[points.len() - 1].step - drop_end;
    let slow = after >= drop_end - drop_start && (smooth[to] - last) / after <= STEEP * speed[steepest];
    Some(Phases {
        plateau_loss: 0.5 * (smooth[flat] + smooth[flat + 1]),
        final_loss: last,
        drop_start,
        drop_middle: drop_middle.clamp(drop_start, drop_end),
        drop_end,
        three_phases: flatness <= FLAT && slow,
    })
}

impl Phases {
    /// Whether a step lies inside the drop.
    pub fn in_drop(&self, step: f64) -> bool {
        (self.drop_start..=self.drop_end).contains(&step)
    }
}

fn running_median(points: &[LossPoint]) -> Vec<f64> {
    let half = SMOOTHING / 2;
    (0..points.len())
        .map(|i| {
            let mut near: Vec<f64> = points[i.saturating_sub(half)..(i + half + 1).min(points.len())]
                .iter()
                .map(|p| p.loss)
                .collect();
            near.sort_by(f64::total_cmp);
            near[near.len() / 2]
        })
        .collect()
}

/// The loss around which the curve stays longest, among losses above the last fifth of the whole descent: the median of
/// the longest stretch that keeps within 4% of the descent of one of its values.
fn plateau(points: &[LossPoint], smooth: &[f64], last: f64) -> f64 {
    let range = smooth[0] - last;
    let stretch = |i: usize| {
        let near = |j: &usize| (smooth[*j] - smooth[i]).abs() <= 0.04 * range;
        let from = (0..=i).rev().take_while(near).last().unwrap_or(i);
        let to = (i..smooth.len()).take_while(near).last().unwrap_or(i);
        from..=to
    };
    let lasting = |r: &std::ops::RangeInclusive<usize>| points[*r.end()].step - points[*r.start()].step;
    let longest = (0..smooth.len())
        .filter(|&i| smooth[i] > last + 0.2 * range)
        .map(stretch)
        .max_by(|a, b| lasting(a).total_cmp(&lasting(b)));
    let mut values = longest.map_or(vec![smooth[0]], |r| smooth[r].to_vec());
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Where the smoothed curve last comes down through a level, interpolated.
fn crossing(points: &[LossPoint], smooth: &[f64], level: f64) -> Option<f64> {
    let after = smooth.iter().rposition(|&s| s > level)? + 1;
    let (a, b) = (after - 1, after.min(points.len() - 1));
    if a == b {
        return Some(points[a].step);
    }
    let share = (smooth[a] - level) / (smooth[a] - smooth[b]);
    Some(points[a].step + share * (points[b].step - points[a].step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(loss: impl Fn(f64) -> f64) -> Vec<LossPoint> {
        (0..=80).map(|i| f64::from(i) * 20.0).map(|step| LossPoint { step, loss: loss(step) }).collect()
    }

    /// Initial descent from ln 8, plateau at 1.08, drop around 250, slow improvement after.
    fn teacher(step: f64) -> f64 {
        let noise = 0.01 * (step * 0.37).sin();
        let sigmoid = 1.0 / (1.0 + ((step - 500.0) / 30.0).exp());
        0.1 + 0.1 * (-step / 900.0).exp() + 0.9 * sigmoid + 1.0 * (-step / 25.0).exp() + noise
    }

    #[test]
    fn the_drop_of_a_teacher_is_found() {
        let found = phases(&curve(teacher)).unwrap();
        assert!(found.three_phases, "{found:?}");
        assert!((found.plateau_loss - 1.06).abs() < 0.05, "{found:?}");
        assert!((400.0..480.0).contains(&found.drop_start), "{found:?}");
        assert!((490.0..530.0).contains(&found.drop_middle), "{found:?}");
        assert!((530.0..720.0).contains(&found.drop_end), "{found:?}");
        assert!(found.in_drop(500.0) && !found.in_drop(300.0) && !found.in_drop(1000.0));
    }

    #[test]
    fn curves_without_three_phases_are_told_apart() {
        // No plateau.
        let smooth = phases(&curve(|step| 0.2 + (-step / 700.0).exp())).unwrap();
        assert!(!smooth.three_phases, "{smooth:?}");
        // No end: the drop begins with the last steps.
        let late = phases(&curve(|step| 1.0 - 0.5 / (1.0 + ((1560.0 - step) / 20.0).exp())));
        assert!(late.is_none_or(|p| !p.three_phases), "{late:?}");
        assert_eq!(phases(&curve(|_| 1.0)), None);
        assert_eq!(phases(&curve(|step| step)), None);
        assert_eq!(phases(&curve(teacher)[..5]), None);
        let mut holes = curve(teacher);
        holes[10].loss = f64::NAN;
        assert!(phases(&holes).unwrap().three_phases);
    }
}
