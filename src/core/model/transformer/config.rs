//! What a transformer looks like.

use super::error::ConfigError;

/// Which architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Decoder: layer norm before each sub-layer and after the last block, causal attention, language-model head.
    Gpt2,
    /// Encoder: layer norm after each sub-layer and after the embeddings, attention in both directions, masked
    /// language-model head (dense, gelu, layer norm, decoder with bias).
    Bert,
}

impl Family {
    /// The family's name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "GPT-2",
            Self::Bert => "BERT",
        }
    }
}

/// The non-linearity of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    GeluNew,
    /// x/2 (1 + erf(x / sqrt 2)).
    Gelu,
}

/// Probabilities of dropping an activation in training, each in [0, 1).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Of the embeddings (`embd_pdrop`; BERT: `hidden_dropout_prob`).
    pub embedding: f32,
    /// Of attention probabilities (`attn_pdrop`, `attention_probs_dropout_prob`).
    pub attention: f32,
    /// Of both sub-layers' outputs (`resid_pdrop`; BERT: `hidden_dropout_prob`, hence equal to `embedding`).
    pub residual: f32,
}

impl Dropout {
    /// No dropout.
    pub const NONE: Self = Self { embedding: 0.0, attention: 0.0, residual: 0.0 };

    /// The same probability everywhere.
    pub fn all(p: f32) -> Self {
        Self { embedding: p, attention: p, residual: p }
    }
}

/// Sizes and choices of a transformer.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Architecture.
    pub family: Family,
    /// Number of tokens, and of logits.
    pub vocab: usize,
    /// Rows of the position table: the longest sequence.
    pub positions: usize,
    /// Width of the residual stream; heads x head dimension.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the MLP's hidden layer.
    pub inner: usize,
    /// Non-linearity of the MLP (and of BERT's head).
    pub activation: Activation,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f64,
    /// Dropout in training.
    pub dropout: Dropout,
    /// Whether the head's matrix is the word embedding.
    pub tied: bool,
    /// Rows of BERT's token-type table (`type_vocab_size`; every token has type 0); 0 for GPT-2.
    pub types: usize,
    /// BERT's `padding_idx`: this word embedding starts at zero and gets no gradient from its use as an input. (A tied
    /// head's gradient does reach it.)
    pub pad_token: Option<u32>,
    /// Standard deviation of the first weights (`initializer_range`).
    pub init_std: f64,
}

impl TransformerConfig {
    /// GPT-2 with Hugging Face's defaults: MLP 4 x hidden, gelu_new, eps 1e-5, dropout 0.1, std 0.02, tied head.
    pub fn gpt2(vocab: usize, positions: usize, hidden: usize, layers: usize, heads: usize) -> Self {
        Self {
            family: Family::Gpt2,
            vocab,
            positions,
            hidden,
            layers,
            heads,
            inner: hidden.saturating_mul(4),
            activation: Activation::GeluNew,
            layer_norm_eps: 1e-5,
            dropout: Dropout::all(0.1),
            tied: true,
            types: 0,
            pad_token: None,
            init_std: 0.02,
        }
    }

    /// BERT with Hugging Face's defaults: as [`Self::gpt2`] but gelu (erf), eps 1e-12, two token types, pad token 0.
    pub fn bert(vocab: usize, positions: usize, hidden: usize, layers: usize, heads: usize) -> Self {
        Self {
            family: Family::Bert,
            activation: Activation::Gelu,
            layer_norm_eps: 1e-12,
            types: 2,
            pad_token: Some(0),
            ..Self::gpt2(vocab, positions, hidden, layers, heads)
        }
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Whether a model can have this configuration.
    ///
    /// # Errors
    /// If a size is zero, the vocabulary has one token, heads do not divide the hidden size, a number is out of its
    /// range, or a field does not belong to the family.
    pub fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("positions", self.positions, 1),
            ("hidden", self.hidden, 1),
            ("layers", self.layers, 1),
            ("heads", self.heads, 1),
            ("inner", self.inner, 1),
            ("vocab", self.vocab, 1),
        ];
        if let Some((field, _, least)) = sizes.into_iter().find(|(_, size, least)| size < least) {
            return Err(ConfigError::TooSmall { field, least });
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return Err(ConfigError::Heads { heads: self.heads, hidden: self.hidden });
        }
        let probability = "a probability in [0, 1)";
        let Dropout { embedding, attention, residual } = self.dropout;
        for (field, value) in [
            ("dropout.embedding", embedding),
            ("dropout.attention", attention),
            ("dropout.residual", residual),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err(ConfigError::Number { field, value: f64::from(value), expected: probability });
            }
        }
        for (field, value) in [("layer_norm_eps", self.layer_norm_eps), ("init_std", self.init_std)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(ConfigError::Number { field, value, expected: "a finite number of at least 0" });
            }
        }
        let family =
            |field, expected| Err(ConfigError::Family { field, family: self.family.name(), expected });
        match self.family {
            Family::Gpt2 if self.types != 0 => return family("types > 0", "0 token types"),
            Family::Gpt2 if self.pad_token.is_some() => return family("pad_token", "none"),
            Family::Bert if self.types == 0 => return family("types = 0", "at least 1 token type"),
            Family::Bert if embedding != residual => {
                return family(
                    "dropout.embedding different from dropout.residual",
                    "one probability for both",
                );
            }
            _ => {}
        }
        if let Some(token) = self.pad_token.filter(|t| *t as usize >= self.vocab) {
            return Err(ConfigError::PadToken { token, vocab: self.vocab });
        }
        self.count().map(|_| ())
    }

    /// Number of parameters if it can be addressed: at most 2^48, so that no size computed from it overflows.
    fn count(&self) -> Result<usize, ConfigError> {
        let large = [self.vocab, self.positions, self.hidden, self.inner, self.types];
        // With every factor below 2^24 and fewer than 2^16 layers no product overflows u128.
        if large.iter().any(|n| *n >= 1 << 24) || self.layers >= 1 << 16 {
            return Err(ConfigError::TooLarge);
        }
        let [vocab, positions, hidden, inner, types] = large.map(|n| n as u128);
        let total = (2 * vocab + positions + types) * hidden
            + self.layers as u128 * (4 * hidden + 2 * inner) * (hidden + 4);
        if total >= 1 << 48 { Err(ConfigError::TooLarge) } else { Ok(total as usize) }
    }
}

impl std::fmt::Display for TransformerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { family, layers, hidden, heads, vocab, positions, .. } = self;
        let name = family.name();
        write!(
            f,
            "{name}: {layers} layers, hidden {hidden}, {heads} heads, vocab {vocab}, {positions} positions"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_configurations_are_refused() {
        let good = TransformerConfig::gpt2(2, 100, 32, 2, 4);
        assert_eq!(good.check(), Ok(()));
        assert_eq!(TransformerConfig::bert(8, 1024, 64, 4, 8).check(), Ok(()));
        let bad = |change: &dyn Fn(&mut TransformerConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(bad(&|c| c.heads = 5).contains("5 heads do not divide hidden size 32"));
        assert!(bad(&|c| c.layers = 0).contains("layers is 0"));
        assert!(bad(&|c| c.heads = 0).contains("heads is 0"));
        assert!(bad(&|c| c.dropout.attention = 1.0).contains("probability"));
        assert!(bad(&|c| c.dropout.residual = f32::NAN).contains("dropout.residual"));
        assert!(bad(&|c| c.init_std = -1.0).contains("init_std"));
        assert!(bad(&|c| c.types = 2).contains("token types"));
        assert!(bad(&|c| c.pad_token = Some(0)).contains("pad_token"));
        assert!(bad(&|c| c.vocab = usize::MAX).contains("too many"));
        assert!(bad(&|c| (c.layers, c.hidden, c.heads) = (60_000, 1 << 20, 1)).contains("too many"));
        let bert = TransformerConfig { pad_token: Some(8), ..TransformerConfig::bert(8, 4, 8, 1, 1) };
        assert!(bert.check().unwrap_err().to_string().contains("pad token 8"));
    }

    #[test]
    fn parameters_are_those_of_the_published_models() {
        // `sum(p.numel() for p in model.parameters())` in transformers for the default configurations.
        assert_eq!(TransformerConfig::gpt2(50_257, 1024, 768, 12, 12).parameters(), 124_439_808);
        assert_eq!(TransformerConfig::bert(30_522, 512, 768, 12, 12).parameters(), 109_514_298);
    }
}
