//! The parameters of a transformer.

use super::config::TransformerConfig;
use super::error::ConfigError;
use super::layout::TensorInit;
use crate::rng::{self, Purpose, Stream};
use thiserror::Error;

/// A configuration and values that do not belong together.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// The configuration itself is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// As many values as the configuration has parameters are needed.
    #[error("{found} values, but the configuration has {expected} parameters")]
    Count {
        /// Values given.
        found: usize,
        /// Values needed.
        expected: usize,
    },
}

/// All parameters as one flat vector in the order of [`TransformerConfig::tensors`].
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerParams {
    /// Sizes and choices.
    pub config: TransformerConfig,
    /// Values; as many as [`TransformerConfig::parameters`].
    pub values: Vec<f32>,
}

impl TransformerParams {
    /// Draws the first parameters as Hugging Face does: weights and embeddings normal with standard deviation
    /// `init_std` (GPT-2's `c_proj` divided by sqrt(2 layers)), biases 0, layer norms 1 and 0, BERT's padding row 0.
    ///
    /// Element e of tensor t comes from words of item e/4 of init stream t by Box and Muller's transformation, so any
    /// engine can draw any part.
    ///
    /// # Errors
    /// If no model can have this configuration.
    pub fn new(config: TransformerConfig, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let mut values = vec![0.0; config.parameters()];
        for (t, slot) in config.tensors().into_iter().enumerate() {
            let out = &mut values[slot.range()];
            match slot.init {
                TensorInit::Zeros => {}
                TensorInit::Ones => out.fill(1.0),
                TensorInit::Normal { std, zero_row } => {
                    let stream = Stream::new(Purpose::Init, t as u32);
                    for (item, out) in out.chunks_mut(4).enumerate() {
                        let normals = normals(rng::bits(seed, stream, item as u64, 0));
                        for (value, normal) in out.iter_mut().zip(normals) {
                            *value = (std * normal) as f32;
                        }
                    }
                    if let Some(row) = zero_row {
                        out.chunks_exact_mut(config.hidden)
                            .nth(row as usize)
                            .into_iter()
                            .for_each(|r| r.fill(0.0));
                    }
                }
            }
        }
        Ok(Self { config, values })
    }

    /// Parameters with given values.
    ///
    /// # Errors
    /// If the configuration is impossible or has another number of parameters.
    pub fn from_values(config: TransformerConfig, values: Vec<f32>) -> Result<Self, ParamsError> {
        config.check()?;
        let expected = config.parameters();
        if values.len() != expected {
            return Err(ParamsError::Count { found: values.len(), expected });
        }
        Ok(Self { config, values })
    }

    /// The values of a tensor by its Hugging Face name.
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        let slot = self.config.tensors().into_iter().find(|slot| slot.name == name)?;
        self.values.get(slot.range())
    }

    /// Name and index within the tensor of the first parameter that is not finite.
    pub fn first_non_finite(&self) -> Option<(String, usize)> {
        let at = self.values.iter().position(|v| !v.is_finite())?;
        let slot = self.config.tensors().into_iter().find(|slot| slot.range().contains(&at))?;
        Some((slot.name, at - slot.offset))
    }
}

/// Four standard normal numbers from four random words (Box and Muller 1958).
fn normals(words: [u32; 4]) -> [f64; 4] {
    let pair = |a: u32, b: u32| {
        // In (0, 1], so that the logarithm is finite.
        let u = (f64::from(a) + 1.0) / 4_294_967_296.0;
        let angle = std::f64::consts::TAU * f64::from(b) / 4_294_967_296.0;
        let radius = (-2.0 * u.ln()).sqrt();
        [radius * angle.cos(), radius * angle.sin()]
    };
    let ([a, b], [c, d]) = (pair(words[0], words[1]), pair(words[2], words[3]));
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_weights_have_the_right_moments() {
        let config = TransformerConfig::gpt2(50, 100, 64, 2, 8);
        let params = TransformerParams::new(config, 3).unwrap();
        for (name, std) in [
            ("transformer.wte.weight", 0.02f64),
            ("transformer.h.1.attn.c_attn.weight", 0.02),
            ("transformer.h.0.mlp.c_fc.weight", 0.02),
            // 0.02 / sqrt(2 * 2 layers).
            ("transformer.h.0.mlp.c_proj.weight", 0.01),
            ("transformer.h.1.attn.c_proj.weight", 0.01),
        ] {
            let values: Vec<f64> = params.tensor(name).unwrap().iter().map(|v| f64::from(*v)).collect();
            let n = values.len() as f64;
            let moment = |k: i32| values.iter().map(|v| (v / std).powi(k)).sum::<f64>() / n;
            // Moments of a standard normal, within five standard errors.
            for (k, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0f64)] {
                let error = (moment(k) - expected).abs();
                assert!(error < 5.0 * (variance / n).sqrt(), "{name} moment {k}: {}", moment(k));
            }
        }
        assert!(params.tensor("transformer.h.0.ln_1.weight").unwrap().iter().all(|v| *v == 1.0));
        assert!(params.tensor("transformer.h.0.attn.c_attn.bias").unwrap().iter().all(|v| *v == 0.0));
        assert_eq!(params.tensor("lm_head.weight"), None);
        assert_eq!(params.first_non_finite(), None);
    }

    #[test]
    fn the_padding_row_starts_at_zero() {
        let config = TransformerConfig::bert(8, 10, 16, 1, 2);
        let params = TransformerParams::new(config.clone(), 3).unwrap();
        let words = params.tensor("bert.embeddings.word_embeddings.weight").unwrap();
        assert!(words[..16].iter().all(|v| *v == 0.0));
        assert!(words[16..].iter().all(|v| *v != 0.0));
        assert_ne!(params, TransformerParams::new(config, 4).unwrap());
    }

    #[test]
    fn the_first_bad_value_is_named() {
        let mut params = TransformerParams::new(TransformerConfig::gpt2(2, 3, 4, 1, 1), 0).unwrap();
        let slots = params.config.tensors();
        params.values[slots[3].offset + 2] = f32::NAN;
        assert_eq!(params.first_non_finite(), Some((slots[3].name.clone(), 2)));
    }
}
