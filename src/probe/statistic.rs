//! Numbers computed from the logits of one sample.

/// Which number of a sample's logits z is correlated with the monomials; c is the chosen class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// Softmax probability of class c (the paper's plots use c = 1). In [0, 1].
    #[default]
    Probability,
    /// Log-odds of class c: z_c - log sum over the other classes of exp(z). With two classes and c = 1 this is the
    /// logit margin z_1 - z_0.
    Margin,
    /// 1 where class c has the largest logit, else 0; of equal logits the first wins.
    Argmax,
}

impl Statistic {
    /// The statistic of one sample, in f64 whatever the logits are.
    #[inline]
    pub fn of(self, logits: &[f32], class: usize) -> f64 {
        match self {
            Self::Probability => {
                // 1 / sum exp(z_j - z_c): no overflow that matters, since exp -> inf gives probability 0.
                let own = f64::from(logits[class]);
                1.0 / logits.iter().map(|&z| (f64::from(z) - own).exp()).sum::<f64>()
            }
            Self::Margin => {
                let others =
                    || logits.iter().enumerate().filter(|(j, _)| *j != class).map(|(_, &z)| f64::from(z));
                let peak = others().fold(f64::NEG_INFINITY, f64::max);
                let rest = if logits.len() == 2 {
                    peak // exact: the sum has one term
                } else {
                    peak + others().map(|z| (z - peak).exp()).sum::<f64>().ln()
                };
                f64::from(logits[class]) - rest
            }
            Self::Argmax => f64::from(u8::from(argmax(logits) == class)),
        }
    }

    /// The name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Probability => "probability",
            Self::Margin => "margin",
            Self::Argmax => "argmax",
        }
    }
}

impl std::str::FromStr for Statistic {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Probability, Self::Margin, Self::Argmax];
        let found = all.into_iter().find(|s| s.name() == name);
        found.ok_or_else(|| format!("'{name}' is not a statistic: probability, margin or argmax"))
    }
}

/// Index of the largest logit; of equal ones the first.
#[inline]
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (j, z) in logits.iter().enumerate() {
        if *z > logits[best] {
            best = j;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_follow_their_formulas() {
        let z = [0.5f32, -1.0, 2.0];
        let total: f64 = z.iter().map(|&v| f64::from(v).exp()).sum();
        for class in 0..3 {
            let p = f64::from(z[class]).exp() / total;
            assert!((Statistic::Probability.of(&z, class) - p).abs() < 1e-15);
            assert!((Statistic::Margin.of(&z, class) - (p / (1.0 - p)).ln()).abs() < 1e-14);
            assert_eq!(Statistic::Argmax.of(&z, class), f64::from(u8::from(class == 2)));
        }
        assert_eq!(Statistic::Margin.of(&[0.25, 1.0], 1), 0.75);
        assert_eq!(Statistic::Margin.of(&[0.25, 1.0], 0), -0.75);
        assert_eq!(argmax(&[1.0, 1.0]), 0);
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        assert_eq!(Statistic::Probability.of(&[3e38, -3e38], 1), 0.0);
        assert_eq!(Statistic::Probability.of(&[3e38, -3e38], 0), 1.0);
        assert!(Statistic::Margin.of(&[3e38, -3e38, 3e38], 1).is_finite());
    }
}
