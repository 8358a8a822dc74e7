//! `kind = "junta"`: the sign of a sum of monomials over a few of the d coordinates.
//!
//! With `terms = [[0], [0, 1], [0, 1, 2]]` it is a staircase, which gradient descent climbs step by step; a single term of k
//! variables is the (d, k)-sparse parity, which has no steps. The leap says how far apart the steps are (Abbe, Boix-Adsera and
//! Misiakiewicz, *SGD learning on neural networks: leap complexity and saddle-to-saddle dynamics*, 2023).

use super::boolean::{BooleanTask, mask, parity_of};
use super::kind::{ReadText, Task, TaskKind};
use super::support::{SupportKey, TaskError};
use crate::keys::{KeyError, Section};
use crate::math::fourier::walsh_hadamard;
use serde::Deserialize;
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most variables: chance, spectrum and leap go through all 2^n of their values.
const MOST_VARIABLES: usize = 20;

/// Most products of these values: terms times 2^n.
const MOST_PRODUCTS: usize = 1 << 28;

/// Monomials of the spectrum that are listed for people.
const LISTED: usize = 8;

/// Signs of sums of monomials.
#[derive(Debug)]
pub struct Junta;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    d: usize,
    terms: Vec<Vec<usize>>,
    #[serde(default)]
    support: SupportKey,
}

impl TaskKind for Junta {
    fn kind(&self) -> &'static str {
        "junta"
    }

    fn resolve(&self, section: Section<'_>, _: ReadText<'_>, seed: u64) -> Result<Arc<dyn Task>, KeyError> {
        let Keys { d, terms, support } = section.read()?;
        let terms = Terms::new(terms).map_err(|why| section.fail("terms", why))?;
        let why = format!("{d} coordinates are too few for {} variables", terms.variables);
        section.require(terms.variables <= d, "d", why)?;
        let chance = terms.chance();
        let task = JuntaTask { d, terms, support, chance };
        match task.placed(seed) {
            Ok(_) => Ok(Arc::new(task)),
            Err(e) => Err(section.fail(e.key(), e.to_string())),
        }
    }
}

/// An odd number of distinct monomials over variables 0, 1, .., every one of which occurs.
#[derive(Debug, Clone)]
struct Terms {
    list: Vec<Vec<usize>>,
    variables: usize,
}

impl Terms {
    fn new(mut list: Vec<Vec<usize>>) -> Result<Self, String> {
        let mut seen = BTreeSet::new();
        for term in &mut list {
            term.sort_unstable();
            if term.is_empty() || term.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(format!("{term:?} is no monomial: name one or more different variables"));
            }
            if !seen.insert(term.clone()) {
                return Err(format!("{term:?} occurs twice"));
            }
        }
        if list.len().is_multiple_of(2) {
            let found = list.len();
            return Err(format!("{found} terms may sum to 0, which has no sign: an odd number is needed"));
        }
        let used: BTreeSet<usize> = list.iter().flatten().copied().collect();
        let variables = used.len();
        if let Some(missing) = (0..variables).find(|v| !used.contains(v)) {
            return Err(format!(
                "variable {missing} is in no term: number them from 0 without gaps (support says where they lie)"
            ));
        }
        if variables > MOST_VARIABLES {
            return Err(format!(
                "{variables} variables are too many: at most {MOST_VARIABLES} can be enumerated"
            ));
        }
        if list.len() << variables > MOST_PRODUCTS {
            return Err(format!("{} terms of {variables} variables are too many to enumerate", list.len()));
        }
        Ok(Self { list, variables })
    }

    /// For each assignment, whose bit v is set where variable v is -1: the sign of the sum.
    fn signs(&self) -> Vec<i32> {
        let masks: Vec<u32> = self.list.iter().map(|t| t.iter().fold(0, |m, v| m | 1 << v)).collect();
        let odd = |x: u32| masks.iter().filter(|m| (x & **m).count_ones() % 2 == 1).count();
        (0..1u32 << self.variables).map(|x| if 2 * odd(x) > masks.len() { -1 } else { 1 }).collect()
    }

    /// Frequency of the commoner label.
    fn chance(&self) -> f64 {
        let signs = self.signs();
        let sum: i32 = signs.iter().sum();
        0.5 + 0.5 * f64::from(sum.abs()) / signs.len() as f64
    }

    /// Fourier coefficients by set of variables, as bits.
    fn spectrum(&self) -> Vec<f64> {
        let mut values = self.signs();
        walsh_hadamard(&mut values);
        let n = values.len() as f64;
        values.into_iter().map(|v| f64::from(v) / n).collect()
    }
}

/// The smallest L such that the monomials with non-zero coefficients can be put into an order in which none brings more than L
/// variables that none before it had.
fn leap(spectrum: &[f64]) -> u32 {
    let mut left: Vec<u32> =
        (1..spectrum.len() as u32).filter(|set| spectrum[*set as usize] != 0.0).collect();
    let (mut known, mut leap) = (0u32, 0);
    // Whatever can be added under a bound never hinders another: the closest first.
    while let Some(new) = left.iter().map(|set| (set & !known).count_ones()).filter(|n| *n > 0).min() {
        leap = leap.max(new);
        left.retain(|set| {
            if (set & !known).count_ones() <= leap {
                known |= set;
                return false;
            }
            true
        });
    }
    leap
}

/// A junta of a spec; where its variables lie may depend on the seed.
#[derive(Debug)]
struct JuntaTask {
    d: usize,
    terms: Terms,
    support: SupportKey,
    chance: f64,
}

impl JuntaTask {
    /// Coordinates of the variables.
    fn placed(&self, seed: u64) -> Result<Vec<usize>, TaskError> {
        self.support.of(seed).coordinates(self.terms.variables, self.d)
    }

    fn support(&self, seed: u64) -> Vec<usize> {
        self.placed(seed).expect("what can be placed for one seed can be placed for all")
    }
}

impl Task for JuntaTask {
    fn kind(&self) -> &'static str {
        "junta"
    }

    fn chance(&self) -> f64 {
        self.chance
    }

    fn boolean(&self, seed: u64) -> Option<Arc<dyn BooleanTask>> {
        let support = self.support(seed);
        let place = |term: &Vec<usize>| term.iter().map(|&v| support[v]).collect();
        let nodes: Vec<Vec<usize>> = self.terms.list.iter().map(place).collect();
        let masks = nodes.iter().map(|node| mask(node, self.d)).collect();
        Some(Arc::new(PlacedJunta { d: self.d, nodes, masks, chance: self.chance }))
    }

    fn resolved(&self, seed: u64) -> toml::Table {
        let number = |n: usize| toml::Value::from(n as i64);
        let list = |of: &[usize]| toml::Value::from(of.iter().map(|&n| number(n)).collect::<Vec<_>>());
        let keys = [
            ("kind", self.kind().into()),
            ("d", number(self.d)),
            ("terms", self.terms.list.iter().map(|t| list(t)).collect::<Vec<_>>().into()),
            ("support", list(&self.support(seed))),
        ];
        keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn notes(&self, seed: u64) -> Vec<String> {
        let spectrum = self.terms.spectrum();
        let mut sets: Vec<usize> = (0..spectrum.len()).filter(|&set| spectrum[set] != 0.0).collect();
        sets.sort_by(|&a, &b| {
            let by_size = spectrum[b].abs().total_cmp(&spectrum[a].abs());
            by_size.then(a.count_ones().cmp(&b.count_ones())).then(a.cmp(&b))
        });
        let listed = sets.iter().take(LISTED).map(|&set| {
            let variables = (0..self.terms.variables).filter(|v| set >> v & 1 == 1);
            format!("{:+} {:?}", spectrum[set], variables.collect::<Vec<_>>())
        });
        let listed = listed.collect::<Vec<_>>().join(", ");
        let more = if sets.len() > LISTED { ", .." } else { "" };
        vec![
            format!("leap {}", leap(&spectrum)),
            format!("chance {}", self.chance),
            format!("spectrum, {} monomials: {listed}{more}", sets.len()),
            format!("support {:?}", self.support(seed)),
        ]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A junta under one seed: label 1 where the sum of the monomials is negative.
#[derive(Debug)]
struct PlacedJunta {
    d: usize,
    nodes: Vec<Vec<usize>>,
    masks: Vec<Vec<u32>>,
    chance: f64,
}

impl BooleanTask for PlacedJunta {
    fn d(&self) -> usize {
        self.d
    }

    fn classes(&self) -> usize {
        2
    }

    fn label(&self, bits: &[u32]) -> u8 {
        let negative = self.masks.iter().filter(|mask| parity_of(bits, mask)).count();
        u8::from(2 * negative > self.masks.len())
    }

    fn nodes(&self) -> Vec<Vec<usize>> {
        self.nodes.clone()
    }

    fn chance(&self) -> f64 {
        self.chance
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};
    use crate::task::pcfg::Role;
    use crate::task::{HierarchicalParity, Samples, Support, builtin, resolve};

    fn terms(list: &[&[usize]]) -> Terms {
        Terms::new(list.iter().map(|t| t.to_vec()).collect()).unwrap()
    }

    fn of(text: &str) -> Result<Arc<dyn Task>, String> {
        let text = format!("[task]\nkind = 'junta'\n{text}");
        let section = Section::document(&text).unwrap().take("task").unwrap();
        resolve(section, &builtin(), &|_| unreachable!(), 1).map_err(|e| e.to_string())
    }

    fn product(term: &[usize], x: &[f32]) -> f32 {
        term.iter().map(|&j| x[j]).product()
    }

    #[test]
    fn labels_are_signs_of_sums() {
        let list: [&[usize]; 3] = [&[0], &[0, 1], &[0, 1, 2]];
        let text = "d = 40\nterms = [[0], [1, 0], [0, 1, 2]]\nsupport = [35, 2, 31]";
        let task = of(text).unwrap().boolean(9).unwrap();
        let samples = task.samples(3, Stream::new(Purpose::Data, 0), 100, 300);
        for (x, label) in samples.to_signs().chunks(40).zip(&samples.labels) {
            let placed = [x[35], x[2], x[31]];
            let sum: f32 = list.iter().map(|term| product(term, &placed)).sum();
            assert_eq!(*label, u8::from(sum < 0.0));
        }
        assert_eq!(task.nodes(), [vec![35], vec![35, 2], vec![35, 2, 31]]);
        assert_eq!((task.relevant(), task.classes(), task.d()), (vec![2, 31, 35], 2, 40));
    }

    #[test]
    fn one_term_is_the_parity() {
        let stream = Stream::new(Purpose::Data, 1);
        for seed in 1..5 {
            let junta = of("d = 50\nterms = [[0, 1, 2, 3]]").unwrap();
            let parity = HierarchicalParity::parity(50, 4, &Support::Random { seed }).unwrap();
            let own = junta.boolean(seed).unwrap();
            assert_eq!(own.samples(seed, stream, 7, 400), parity.samples(seed, stream, 7, 400));
            assert_eq!(own.relevant(), parity.relevant());
            let batch = |role| junta.sequences(seed, role).unwrap().batch(5, 20, 50).unwrap().labels;
            let student: Vec<u32> =
                parity.samples(seed, stream, 5, 20).labels.into_iter().map(u32::from).collect();
            assert_eq!(batch(Role::Student), student);
            assert_ne!(batch(Role::Training), student);
        }
        assert_eq!(of("d = 50\nterms = [[0, 1, 2, 3]]").unwrap().tokens().unwrap().positions, 50);
    }

    #[test]
    fn the_spectrum_is_that_of_all_inputs() {
        let lists: [&[&[usize]]; 3] = [
            &[&[0], &[0, 1], &[0, 1, 2]],
            &[&[0, 1], &[2, 3], &[0, 4]],
            &[&[0], &[1], &[0, 1], &[2], &[0, 2]],
        ];
        for list in lists {
            let terms = terms(list);
            let n = terms.variables;
            let inputs = Samples::from_bits(n, (0..1 << n).collect()).to_signs();
            let value = |x: &[f32]| list.iter().map(|t| product(t, x)).sum::<f32>().signum();
            let spectrum = terms.spectrum();
            for (set, found) in spectrum.iter().enumerate() {
                let chosen: Vec<usize> = (0..n).filter(|v| set >> v & 1 == 1).collect();
                let direct: f32 = inputs.chunks(n).map(|x| value(x) * product(&chosen, x)).sum();
                assert_eq!(*found, f64::from(direct) / f64::from(1 << n), "{list:?} {chosen:?}");
            }
            let negative = inputs.chunks(n).filter(|x| value(x) < 0.0).count() as f64 / f64::from(1 << n);
            assert_eq!(terms.chance(), negative.max(1.0 - negative));
            // Parseval.
            assert!((spectrum.iter().map(|c| c * c).sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn chance_is_the_frequency_of_the_commoner_label() {
        assert_eq!(terms(&[&[0], &[0, 1], &[0, 1, 2]]).chance(), 0.5);
        // +1 only where x0 = x1 = 1.
        assert_eq!(terms(&[&[0], &[1], &[0, 1]]).chance(), 0.75);
        let task = of("d = 9\nterms = [[0], [1], [0, 1]]").unwrap();
        assert_eq!((task.chance(), task.boolean(1).unwrap().chance()), (0.75, 0.75));
    }

    #[test]
    fn the_leap_is_the_smallest_largest_step() {
        let of = |list: &[&[usize]]| leap(&terms(list).spectrum());
        assert_eq!(of(&[&[0], &[0, 1], &[0, 1, 2]]), 1);
        for k in 1..7 {
            assert_eq!(of(&[&(0..k).collect::<Vec<_>>()]), k as u32);
        }
        // The majority of three disjoint pairs has monomials of two, then of all six variables.
        assert_eq!(of(&[&[0, 1], &[2, 3], &[4, 5]]), 2);
        // Coefficients by hand: sets {0}, {1, 2, 3}, {0, 1}.
        let spectrum = |sets: &[usize]| {
            let mut all = vec![0.0; 16];
            sets.iter().for_each(|&set| all[set] = 0.5);
            leap(&all)
        };
        assert_eq!(spectrum(&[0b0001, 0b1110, 0b0011]), 2);
        assert_eq!(spectrum(&[0b0001, 0b1110]), 3);
        assert_eq!(spectrum(&[0b0011, 0b0111, 0b1111]), 2);
        assert_eq!(spectrum(&[0b0000]), 0);
    }

    #[test]
    fn runs_record_the_support_and_notes_tell_the_leap() {
        let task = of("d = 30\nterms = [[0], [0, 1], [0, 1, 2]]").unwrap();
        let text = toml::to_string(&task.resolved(4)).unwrap();
        let again = of(text.strip_prefix("kind = \"junta\"\n").unwrap()).unwrap();
        assert_eq!(again.resolved(8), task.resolved(4));
        assert_eq!(again.boolean(8).unwrap().nodes(), task.boolean(4).unwrap().nodes());
        let notes = task.notes(4);
        assert_eq!(notes[..2], ["leap 1", "chance 0.5"]);
        assert_eq!(notes[2], "spectrum, 4 monomials: +0.5 [0], +0.5 [0, 1], -0.5 [0, 2], +0.5 [0, 1, 2]");
        assert!(notes[3].starts_with("support ["));
    }

    #[test]
    fn what_has_no_sign_or_is_too_large_is_refused_by_key() {
        let many = format!("d = 30\nterms = [{:?}]", (0..21).collect::<Vec<_>>());
        for (text, expected) in [
            ("d = 9\nterms = [[0], [1]]", "task.terms: 2 terms"),
            ("d = 9\nterms = []", "task.terms: 0 terms"),
            ("d = 9\nterms = [[0], [1], []]", "task.terms: [] is no monomial"),
            ("d = 9\nterms = [[0], [1], [1, 1]]", "task.terms: [1, 1] is no"),
            ("d = 9\nterms = [[0, 1], [1], [1, 0]]", "task.terms: [0, 1] occurs twice"),
            ("d = 9\nterms = [[0], [1], [3]]", "task.terms: variable 2"),
            (many.as_str(), "task.terms: 21 variables"),
            ("d = 2\nterms = [[0, 1, 2]]", "task.d: 2 coordinates"),
            ("d = 0\nterms = [[0]]", "task.d: "),
            ("d = 99999\nterms = [[0]]", "task.d: "),
            ("d = 9\nterms = [[0]]\nsupport = [9]", "task.support: "),
            ("d = 9\nterms = [[0]]\nsupport = [1, 2]", "task.support: "),
            ("d = 9\nterms = [[0]]\nk = 1", "line 5"),
            ("d = 9", "missing field `terms`"),
        ] {
            let error = of(text).map(|_| ()).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
