//! Which monomials are measured: subsets of a known support and random others, or all of a degree.

use super::ProbeError;
use curricle_core::rng::{self, Purpose, Stream};
use curricle_core::task::{BooleanTask, HierarchicalParity, Support};
use std::collections::HashSet;

/// Largest degree.
pub const MAX_DEGREE: usize = 5;

/// Most monomials in one request: about 100 MB of results; 200,000 samples then take some tens of seconds.
pub const MAX_MONOMIALS: u128 = 1_000_000;

/// A monomial chi_T(x) = product of x_j over j in T.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monomial {
    /// T, ascending, counted from 0.
    pub coordinates: Vec<usize>,
    /// Whether T lies inside one group of the support; `None` where the support is not known.
    pub in_support: Option<bool>,
}

/// The coordinates that the label depends on, in groups: one for a parity, one per internal node of a hierarchy (heap order), one
/// per term of a sum of monomials. Groups may overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSupport {
    d: usize,
    nodes: Vec<Vec<usize>>,
}

impl KnownSupport {
    /// The support `nodes` over d coordinates.
    ///
    /// # Errors
    /// If there is no node or an empty one, a coordinate is not below d, or one occurs twice in a node.
    pub fn new(d: usize, nodes: &[Vec<usize>]) -> Result<Self, ProbeError> {
        if nodes.is_empty() {
            return Err(ProbeError::EmptyNode(0));
        }
        let mut sorted = nodes.to_vec();
        for (n, node) in sorted.iter_mut().enumerate() {
            if node.is_empty() {
                return Err(ProbeError::EmptyNode(n));
            }
            node.sort_unstable();
            if let Some(&coordinate) = node.iter().find(|c| **c >= d) {
                return Err(ProbeError::Coordinate { coordinate, d });
            }
            if let Some(pair) = node.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(ProbeError::Repeated(pair[0]));
            }
        }
        Ok(Self { d, nodes: sorted })
    }

    /// The support of a task.
    ///
    /// # Errors
    /// If what the task says of itself is no support.
    pub fn of_task(task: &dyn BooleanTask) -> Result<Self, ProbeError> {
        Self::new(task.d(), &task.nodes())
    }

    /// Input dimension.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Coordinates of each node, ascending.
    pub fn nodes(&self) -> &[Vec<usize>] {
        &self.nodes
    }

    /// Coordinates of the largest node.
    pub fn largest(&self) -> usize {
        self.nodes.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Whether `subset` lies inside the support of one node.
    pub fn contains(&self, subset: &[usize]) -> bool {
        self.nodes.iter().any(|node| subset.iter().all(|j| node.binary_search(j).is_ok()))
    }

    /// The parity or hierarchy with this support and `classes` labels, or `None` where they do not fit each other (classes - 1
    /// disjoint nodes of equal size are needed).
    pub fn task(&self, classes: usize) -> Option<HierarchicalParity> {
        let k = self.nodes[0].len();
        if self.nodes.len() + 1 != classes || self.nodes.iter().any(|node| node.len() != k) {
            return None;
        }
        HierarchicalParity::hierarchy(self.d, k, classes, &Support::Given(self.nodes.concat())).ok()
    }
}

/// Monomials to measure: by degree, then in-support ones first, then by coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monomials {
    d: usize,
    list: Vec<Monomial>,
    /// (degree, coordinates of all its monomials one after the other).
    groups: Vec<(usize, Vec<u32>)>,
}

impl Monomials {
    /// The usual choice. With a known support: for each degree all its subsets of that size (per node), and `random`
    /// others of equal size drawn without repetition from the subsets that lie in no node's support (all of them, if
    /// there are no more than that). Without: all subsets of each degree.
    ///
    /// The draw is a function of (seed, degree, d, support). A degree above the size of every node has no in-support
    /// subset; its random others are still listed.
    ///
    /// # Errors
    /// If a degree is not in 1..=5 or exceeds d, or more than [`MAX_MONOMIALS`] monomials were asked for.
    pub fn select(
        d: usize,
        support: Option<&KnownSupport>,
        degrees: &[usize],
        random: usize,
        seed: u64,
    ) -> Result<Self, ProbeError> {
        let degrees = checked_degrees(d, degrees)?;
        if let Some(known) = support
            && known.d != d
        {
            return Err(ProbeError::Dimension { model: d, expected: known.d, what: "support" });
        }
        let mut total = 0;
        let mut refuse_above = |count: u128, degree, what, remedy| {
            total += count;
            if total > MAX_MONOMIALS {
                return Err(ProbeError::TooManyMonomials { count, degree, what, remedy });
            }
            Ok(())
        };
        let mut list = Vec::new();
        for &degree in &degrees {
            let Some(known) = support else {
                let what = "all subsets, because the support is not known";
                refuse_above(binomial(d, degree), degree, what, "give --support or ask for lower degrees")?;
                subsets(&(0..d).collect::<Vec<_>>(), degree, &mut |coordinates| {
                    list.push(Monomial { coordinates, in_support: None });
                });
                continue;
            };
            let most: u128 = known.nodes.iter().map(|node| binomial(node.len(), degree)).sum();
            refuse_above(most, degree, "all subsets of the support", "ask for lower degrees")?;
            let mut inside = Vec::new();
            known.nodes.iter().for_each(|node| subsets(node, degree, &mut |set| inside.push(set)));
            inside.sort_unstable();
            // Groups that overlap share subsets.
            inside.dedup();
            let available = binomial(d, degree) - inside.len() as u128;
            let outside = available.min(random as u128);
            refuse_above(outside, degree, "random subsets outside the support", "lower --random")?;
            list.extend(
                inside.into_iter().map(|coordinates| Monomial { coordinates, in_support: Some(true) }),
            );
            let others = off_support(known, degree, outside as usize, available, seed);
            list.extend(
                others.into_iter().map(|coordinates| Monomial { coordinates, in_support: Some(false) }),
            );
        }
        Ok(Self::grouped(d, list))
    }

    /// Given monomials in the given order within each degree.
    ///
    /// # Errors
    /// If a degree is not in 1..=5, or a coordinate is not below d or occurs twice in a monomial.
    pub fn given(d: usize, sets: &[Vec<usize>], support: Option<&KnownSupport>) -> Result<Self, ProbeError> {
        let mut list = Vec::with_capacity(sets.len());
        for set in sets {
            checked_degrees(d, &[set.len()])?;
            let coordinates = KnownSupport::new(d, std::slice::from_ref(set))?.nodes.swap_remove(0);
            let in_support = support.map(|known| known.contains(&coordinates));
            list.push(Monomial { coordinates, in_support });
        }
        list.sort_by_key(|m| m.coordinates.len());
        Ok(Self::grouped(d, list))
    }

    /// `list` is ordered by degree.
    fn grouped(d: usize, list: Vec<Monomial>) -> Self {
        let mut groups: Vec<(usize, Vec<u32>)> = Vec::new();
        for monomial in &list {
            let degree = monomial.coordinates.len();
            if groups.last().is_none_or(|(last, _)| *last != degree) {
                groups.push((degree, Vec::new()));
            }
            let (_, flat) = groups.last_mut().expect("a group was just pushed");
            flat.extend(monomial.coordinates.iter().map(|&j| j as u32));
        }
        Self { d, list, groups }
    }

    /// Input dimension.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Number of monomials.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True without monomials.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The monomials.
    pub fn list(&self) -> &[Monomial] {
        &self.list
    }

    /// The monomials by degree: the degree and the coordinates of all of that degree, one after another.
    pub(super) fn groups(&self) -> impl Iterator<Item = (usize, &[u32])> {
        self.groups.iter().map(|(degree, flat)| (*degree, flat.as_slice()))
    }
}

fn checked_degrees(d: usize, degrees: &[usize]) -> Result<Vec<usize>, ProbeError> {
    let mut sorted = degrees.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    match (sorted.first(), sorted.last()) {
        (None, _) | (_, None) => Err(ProbeError::NoDegrees),
        (Some(0), _) => Err(ProbeError::Degree(0)),
        (_, Some(&last)) if last > MAX_DEGREE => Err(ProbeError::Degree(last)),
        (_, Some(&last)) if last > d => Err(ProbeError::DegreeAboveDimension { degree: last, d }),
        _ => Ok(sorted),
    }
}

/// `count` distinct subsets of `degree` coordinates that lie in no node's support, in lexicographic order, out of the
/// `available` ones.
fn off_support(
    known: &KnownSupport,
    degree: usize,
    count: usize,
    available: u128,
    seed: u64,
) -> Vec<Vec<usize>> {
    let stream = Stream::new(Purpose::Probe, degree as u32);
    let mut chosen: Vec<Vec<usize>> = Vec::with_capacity(count);
    // Drawing until enough differ takes long only where nearly all exist; there, list them and draw indices.
    if available <= 2 * count as u128 {
        let mut all = Vec::new();
        subsets(&(0..known.d).collect::<Vec<_>>(), degree, &mut |set| {
            if !known.contains(&set) {
                all.push(set);
            }
        });
        let mut drawn = rng::distinct(seed, stream, 0, count, all.len());
        drawn.sort_unstable();
        chosen.extend(drawn.into_iter().map(|i| all[i].clone()));
        return chosen;
    }
    let mut seen = HashSet::new();
    let mut item = 0;
    while chosen.len() < count {
        // Floyd's algorithm: a uniform subset from `degree` draws.
        let mut set: Vec<usize> = Vec::with_capacity(degree);
        for top in known.d - degree..known.d {
            let drawn = rng::below(seed, stream, item, top as u32 + 1) as usize;
            item += 1;
            set.push(if set.contains(&drawn) { top } else { drawn });
        }
        set.sort_unstable();
        if !known.contains(&set) && seen.insert(set.clone()) {
            chosen.push(set);
        }
    }
    chosen.sort_unstable();
    chosen
}

/// Calls `visit` with every subset of `size` items in lexicographic order.
fn subsets(items: &[usize], size: usize, visit: &mut dyn FnMut(Vec<usize>)) {
    if size > items.len() {
        return;
    }
    let mut at: Vec<usize> = (0..size).collect();
    loop {
        visit(at.iter().map(|&i| items[i]).collect());
        let Some(i) = (0..size).rev().find(|&i| at[i] < items.len() - size + i) else { return };
        at[i] += 1;
        for j in i + 1..size {
            at[j] = at[j - 1] + 1;
        }
    }
}

/// n choose r for r up to 5: no overflow for any n.
pub fn binomial(n: usize, r: usize) -> u128 {
    if r > n {
        return 0;
    }
    (0..r as u128).fold(1, |product, i| product * (n as u128 - i) / (i + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_subsets_of_the_support_and_others_outside() {
        let known = KnownSupport::new(30, &[vec![7, 2, 11], vec![20, 3, 5]]).unwrap();
        for seed in 0..20 {
            let monomials = Monomials::select(30, Some(&known), &[3, 1, 2], 100, seed).unwrap();
            let count = |degree: usize, inside: bool| {
                let of = |m: &&Monomial| m.coordinates.len() == degree && m.in_support == Some(inside);
                monomials.list().iter().filter(of).count()
            };
            assert_eq!((count(1, true), count(2, true), count(3, true)), (6, 6, 2));
            assert_eq!((count(1, false), count(2, false), count(3, false)), (24, 100, 100));
            let mut distinct = HashSet::new();
            for m in monomials.list() {
                assert!(m.coordinates.is_sorted_by(|a, b| a < b));
                assert_eq!(m.in_support, Some(known.contains(&m.coordinates)));
                assert!(distinct.insert(m.coordinates.clone()));
            }
            assert_eq!(monomials, Monomials::select(30, Some(&known), &[1, 2, 3], 100, seed).unwrap());
        }
        // A subset that spans two nodes is not inside one.
        assert!(!known.contains(&[2, 3]));
    }

    #[test]
    fn overlapping_groups_share_their_subsets() {
        let known = KnownSupport::new(6, &[vec![4], vec![4, 1], vec![2, 1, 4], vec![1, 3]]).unwrap();
        let monomials = Monomials::select(6, Some(&known), &[1, 2], 100, 0).unwrap();
        let sets = |inside: bool| {
            let of = monomials.list().iter().filter(move |m| m.in_support == Some(inside));
            of.map(|m| m.coordinates.clone()).collect::<Vec<_>>()
        };
        let pairs = [vec![1, 2], vec![1, 3], vec![1, 4], vec![2, 4]];
        assert_eq!(sets(true), [&[vec![1], vec![2], vec![3], vec![4]][..], &pairs].concat());
        assert_eq!(sets(false).len(), 2 + 15 - 4);
        assert!(known.task(2).is_none() && known.task(5).is_none());
    }

    #[test]
    fn random_subsets_are_uniform() {
        let known = KnownSupport::new(12, &[vec![0, 1]]).unwrap();
        let mut counts = [0u32; 12];
        for seed in 0..3000 {
            for set in off_support(&known, 2, 4, 65, seed) {
                set.iter().for_each(|&j| counts[j] += 1);
            }
        }
        // 65 pairs of which 4 are drawn: coordinates 0 and 1 are in 10 of them, the others in 11. Five deviations
        // of the larger expectation, 2031, are 225.
        for (j, count) in counts.iter().enumerate() {
            let expected = 3000.0 * 4.0 * if j < 2 { 10.0 } else { 11.0 } / 65.0;
            assert!((f64::from(*count) - expected).abs() < 225.0, "{j}: {count} against {expected}");
        }
    }

    #[test]
    fn without_a_support_all_subsets_are_listed() {
        let monomials = Monomials::select(10, None, &[1, 2], 100, 0).unwrap();
        assert_eq!(monomials.len(), 10 + 45);
        assert!(monomials.list().iter().all(|m| m.in_support.is_none()));
        assert_eq!(monomials.list()[54].coordinates, [8, 9]);
    }

    #[test]
    fn unreasonable_requests_are_refused() {
        let select = |d, degrees: &[usize]| Monomials::select(d, None, degrees, 100, 0).map(|m| m.len());
        assert!(matches!(select(10, &[]), Err(ProbeError::NoDegrees)));
        assert!(matches!(select(10, &[0]), Err(ProbeError::Degree(0))));
        assert!(matches!(select(10, &[1, 6]), Err(ProbeError::Degree(6))));
        assert!(matches!(select(3, &[4]), Err(ProbeError::DegreeAboveDimension { degree: 4, d: 3 })));
        let error = select(65_536, &[2]).unwrap_err().to_string();
        assert!(error.contains("2147450880") && error.contains("--support"), "{error}");
        assert_eq!(select(100, &[3]).unwrap(), 161_700);
        let new = |nodes: &[Vec<usize>]| KnownSupport::new(5, nodes);
        assert!(matches!(new(&[vec![5]]), Err(ProbeError::Coordinate { coordinate: 5, d: 5 })));
        assert!(matches!(new(&[vec![1, 0, 1]]), Err(ProbeError::Repeated(1))));
        assert!(matches!(new(&[vec![1], vec![]]), Err(ProbeError::EmptyNode(1))));
    }

    #[test]
    fn a_support_fits_a_task_or_does_not() {
        let known = KnownSupport::new(9, &[vec![0, 1], vec![2, 3], vec![4, 5]]).unwrap();
        assert_eq!(known.task(4).unwrap().supports(), known.nodes());
        assert!(known.task(2).is_none());
    }
}
