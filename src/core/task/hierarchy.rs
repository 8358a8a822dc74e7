//! `kind = "hierarchy"`: parities on a binary tree; a tree of one node is the sparse parity.

use super::boolean::{BooleanTask, mask, parity_of};
use super::kind::{ReadText, Task, TaskKind};
use super::support::{Support, SupportKey, TaskError, check_dimension};
use crate::keys::{KeyError, Section};
use serde::Deserialize;
use std::any::Any;
use std::sync::Arc;

/// Parities over disjoint supports on the internal nodes of a binary tree of depth L; 2^L labels.
///
/// Node n (heap order, root 0) has the support `supports[n]`. A leaf scores the sum over its path of +(node parity)
/// where the path goes left and -(node parity) where it goes right; the label is the leaf with the largest score,
/// which is the leaf reached by going left exactly where the node's product is +1. With L = 1 this is sparse parity with
/// label 0 when the product is +1 (PAPER: hierarchical parity, appendix).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HierarchicalParity {
    d: usize,
    supports: Vec<Vec<usize>>,
    /// `masks[n]` has the bits of `supports[n]` set, `words()` words each.
    masks: Vec<Vec<u32>>,
}

impl HierarchicalParity {
    /// The (d, k)-sparse parity (PAPER 3.1).
    ///
    /// # Errors
    /// If d or k is out of range or the given support does not fit.
    pub fn parity(d: usize, k: usize, support: &Support) -> Result<Self, TaskError> {
        Self::hierarchy(d, k, 2, support)
    }

    /// The hierarchical parity with `classes` = 2^L labels, one k-sparse parity per internal node.
    ///
    /// # Errors
    /// If d, k or `classes` is out of range or the given support does not fit.
    pub fn hierarchy(d: usize, k: usize, classes: usize, support: &Support) -> Result<Self, TaskError> {
        check_dimension(d)?;
        if !(2..=256).contains(&classes) || !classes.is_power_of_two() {
            return Err(TaskError::Classes(classes));
        }
        let nodes = classes - 1;
        if k == 0 || k.checked_mul(nodes).is_none_or(|need| need > d) {
            return Err(TaskError::Sparsity { k, d, nodes });
        }
        let mut coordinates = support.coordinates(k * nodes, d)?;
        if matches!(support, Support::Random { .. }) {
            coordinates.chunks_mut(k).for_each(<[usize]>::sort_unstable);
        }
        let supports: Vec<Vec<usize>> = coordinates.chunks(k).map(<[usize]>::to_vec).collect();
        let masks = supports.iter().map(|s| mask(s, d)).collect();
        Ok(Self { d, supports, masks })
    }

    /// Coordinates per parity.
    #[inline]
    pub fn k(&self) -> usize {
        self.supports[0].len()
    }

    /// Supports of the internal nodes in heap order; one entry for a parity.
    #[inline]
    pub fn supports(&self) -> &[Vec<usize>] {
        &self.supports
    }
}

impl BooleanTask for HierarchicalParity {
    #[inline]
    fn d(&self) -> usize {
        self.d
    }

    #[inline]
    fn classes(&self) -> usize {
        self.supports.len() + 1
    }

    #[inline]
    fn label(&self, bits: &[u32]) -> u8 {
        let nodes = self.masks.len();
        let mut node = 0;
        while node < nodes {
            let odd = parity_of(bits, &self.masks[node]);
            node = 2 * node + 1 + usize::from(odd);
        }
        (node - nodes) as u8
    }

    fn nodes(&self) -> Vec<Vec<usize>> {
        self.supports.clone()
    }
}

/// Hierarchical parities.
#[derive(Debug)]
pub struct Hierarchy;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    d: usize,
    k: usize,
    classes: Option<usize>,
    #[serde(default)]
    support: SupportKey,
}

impl TaskKind for Hierarchy {
    fn kind(&self) -> &'static str {
        "hierarchy"
    }

    fn resolve(&self, section: Section<'_>, _: ReadText<'_>, seed: u64) -> Result<Arc<dyn Task>, KeyError> {
        let Keys { d, k, classes, support } = section.read()?;
        let why = "missing; a hierarchy needs a number of classes, such as classes = 4";
        let classes = classes.ok_or_else(|| section.fail("classes", why))?;
        TreeTask { kind: self.kind(), d, k, classes, support }.checked(&section, seed)
    }
}

/// A parity or hierarchy of a spec; its support may depend on the seed.
#[derive(Debug)]
pub(super) struct TreeTask {
    pub kind: &'static str,
    pub d: usize,
    pub k: usize,
    pub classes: usize,
    pub support: SupportKey,
}

impl TreeTask {
    /// The task, if it can be built.
    pub fn checked(self, section: &Section<'_>, seed: u64) -> Result<Arc<dyn Task>, KeyError> {
        match self.build(seed) {
            Ok(_) => Ok(Arc::new(self)),
            Err(e) => Err(section.fail(e.key(), e.to_string())),
        }
    }

    fn build(&self, seed: u64) -> Result<HierarchicalParity, TaskError> {
        HierarchicalParity::hierarchy(self.d, self.k, self.classes, &self.support.of(seed))
    }

    fn of_seed(&self, seed: u64) -> HierarchicalParity {
        self.build(seed).expect("what can be built for one seed can be built for all")
    }
}

impl Task for TreeTask {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn chance(&self) -> f64 {
        1.0 / self.classes as f64
    }

    fn boolean(&self, seed: u64) -> Option<Arc<dyn BooleanTask>> {
        Some(Arc::new(self.of_seed(seed)))
    }

    fn resolved(&self, seed: u64) -> toml::Table {
        let support = self.of_seed(seed).supports().concat();
        let number = |n: usize| toml::Value::from(n as i64);
        let keys = [
            ("kind", self.kind.into()),
            ("d", number(self.d)),
            ("k", number(self.k)),
            ("classes", number(self.classes)),
            ("support", support.into_iter().map(number).collect::<Vec<_>>().into()),
        ];
        keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn notes(&self, seed: u64) -> Vec<String> {
        vec![format!("support {:?}", self.of_seed(seed).supports())]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};
    use crate::task::{builtin, resolve};

    /// The definition: argmax over leaves of the sum of signed node parities along the path.
    fn label_by_scores(task: &HierarchicalParity, x: &[f32]) -> u8 {
        let classes = task.classes();
        let depth = classes.trailing_zeros();
        let product = |node: usize| task.supports()[node].iter().map(|&j| x[j]).product::<f32>();
        let scores: Vec<f32> = (0..classes)
            .map(|leaf| {
                let mut node = 0;
                let mut score = 0.0;
                for level in (0..depth).rev() {
                    let right = leaf >> level & 1;
                    score += if right == 0 { product(node) } else { -product(node) };
                    node = 2 * node + 1 + right;
                }
                score
            })
            .collect();
        let best = scores.iter().copied().fold(f32::MIN, f32::max);
        scores.iter().position(|&s| s == best).unwrap() as u8
    }

    #[test]
    fn labels_follow_the_definition() {
        for (d, k, classes) in [(7, 3, 2), (33, 5, 2), (40, 3, 8), (100, 5, 8), (130, 2, 16)] {
            let task = HierarchicalParity::hierarchy(d, k, classes, &Support::Random { seed: 9 }).unwrap();
            let samples = task.samples(3, Stream::new(Purpose::Data, 0), 1000, 200);
            let signs = samples.to_signs();
            for i in 0..200 {
                let expected = label_by_scores(&task, &signs[i * d..(i + 1) * d]);
                assert_eq!(samples.labels[i], expected, "d {d} k {k} classes {classes} sample {i}");
            }
        }
    }

    #[test]
    fn parity_label_is_zero_when_the_product_is_plus_one() {
        let task = HierarchicalParity::parity(5, 2, &Support::Given(vec![1, 4])).unwrap();
        assert_eq!(task.label(&[0b00000]), 0);
        assert_eq!(task.label(&[0b10010]), 0);
        assert_eq!(task.label(&[0b00010]), 1);
        assert_eq!(task.label(&[0b01101]), 0);
    }

    #[test]
    fn samples_do_not_depend_on_how_they_are_cut() {
        let task = HierarchicalParity::parity(100, 6, &Support::First).unwrap();
        let stream = Stream::new(Purpose::Data, 4);
        let whole = task.samples(7, stream, (1 << 32) - 20, 50);
        let part = task.samples(7, stream, (1 << 32) - 20 + 13, 30);
        assert_eq!(whole.slice(13..43), part);
        assert!(whole.bits().iter().skip(3).step_by(4).all(|w| *w < 16));
    }

    #[test]
    fn impossible_tasks_are_refused() {
        let first = Support::First;
        assert_eq!(HierarchicalParity::parity(0, 1, &first), Err(TaskError::Dimension(0)));
        assert!(matches!(HierarchicalParity::parity(5, 6, &first), Err(TaskError::Sparsity { .. })));
        assert!(matches!(HierarchicalParity::hierarchy(20, 3, 8, &first), Err(TaskError::Sparsity { .. })));
        assert_eq!(HierarchicalParity::hierarchy(20, 3, 6, &first), Err(TaskError::Classes(6)));
        let given = |list: &[usize]| HierarchicalParity::parity(5, 2, &Support::Given(list.to_vec()));
        assert_eq!(given(&[1, 5]), Err(TaskError::Coordinate { coordinate: 5, d: 5 }));
        assert_eq!(given(&[1, 1]), Err(TaskError::Repeated(1)));
        assert_eq!(given(&[1]), Err(TaskError::SupportLength { found: 1, expected: 2 }));
    }

    fn of(text: &str, seed: u64) -> Result<Arc<dyn Task>, String> {
        let text = format!("[task]\n{text}");
        let section = Section::document(&text).unwrap().take("task").unwrap();
        resolve(section, &builtin(), &|_| unreachable!(), seed).map_err(|e| e.to_string())
    }

    #[test]
    fn runs_record_the_support_in_the_order_of_0_1() {
        let task = of("kind = 'parity'\nk = 2\nd = 10", 1).unwrap();
        let text = toml::to_string(&task.resolved(3)).unwrap();
        let support =
            HierarchicalParity::parity(10, 2, &Support::Random { seed: 3 }).unwrap().nodes().concat();
        assert_eq!(text, format!("kind = \"parity\"\nd = 10\nk = 2\nclasses = 2\nsupport = {support:?}\n"));
        assert_eq!(of(&text, 1).unwrap().resolved(7), task.resolved(3));
        let tree = of("kind = 'hierarchy'\nk = 2\nd = 10\nclasses = 4\nsupport = 'first'", 1).unwrap();
        let text = "kind = \"hierarchy\"\nd = 10\nk = 2\nclasses = 4\nsupport = [0, 1, 2, 3, 4, 5]\n";
        assert_eq!(toml::to_string(&tree.resolved(3)).unwrap(), text);
        assert_eq!((tree.chance(), tree.boolean(1).unwrap().classes()), (0.25, 4));
        assert!(tree.tokens().unwrap_err().contains("hierarchy of 4 classes"));
        assert!(tree.sequences(1, crate::task::pcfg::Role::Training).is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused_by_key() {
        for (text, expected) in [
            ("kind = 'parity'\nd = 10\nk = 11", "task.k: "),
            ("kind = 'parity'\nd = 0\nk = 1", "task.d: "),
            ("kind = 'parity'\nd = 10", "missing field `k`"),
            ("kind = 'parity'\nd = 10\nk = 2\nclasses = 4", "task.classes: "),
            ("kind = 'parity'\nd = 10\nk = 2\nsupport = [1, 10]", "task.support: "),
            ("kind = 'parity'\nd = 10\nk = 2\nsupport = 'last'", "\"random\" or a list"),
            ("kind = 'parity'\nd = 10\nk = 2\ngrammar = 'cfg3b'", "line 5"),
            ("kind = 'hierarchy'\nd = 10\nk = 2", "task.classes: "),
            ("kind = 'hierarchy'\nd = 10\nk = 2\nclasses = 6", "task.classes: "),
            ("kind = 'tree'\nd = 10", "task.kind: "),
            ("d = 10", "\"hierarchy\""),
        ] {
            let error = of(text, 1).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
