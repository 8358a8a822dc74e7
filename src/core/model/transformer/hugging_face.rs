//! `config.json` of Hugging Face `transformers`, to and from.

use super::config::{Activation, Dropout, Family, TransformerConfig};
use super::error::ConfigError;
use serde_json::{Map, Value, json};

/// Activations by the names in `ACT2FN`; several names are one function.
const ACTIVATIONS: [(&str, Activation); 3] = [
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluNew),
    ("gelu_pytorch_tanh", Activation::GeluNew),
];

/// An f32 as the JSON number a person would write: 0.1, not 0.10000000149011612.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

impl TransformerConfig {
    /// The `config.json` with which `GPT2LMHeadModel.from_pretrained` or `BertForMaskedLM.from_pretrained` builds the
    /// same model. Special tokens that the model does not know are null, so that none lies outside the vocabulary.
    pub fn to_hugging_face(&self) -> Value {
        let activation =
            ACTIVATIONS.iter().find(|(_, a)| *a == self.activation).map_or("", |(name, _)| *name);
        let Dropout { embedding, attention, residual } = self.dropout;
        match self.family {
            Family::Gpt2 => json!({
                "architectures": ["GPT2LMHeadModel"],
                "model_type": "gpt2",
                "vocab_size": self.vocab,
                "n_positions": self.positions,
                "n_embd": self.hidden,
                "n_layer": self.layers,
                "n_head": self.heads,
                "n_inner": self.inner,
                "activation_function": activation,
                "embd_pdrop": short(embedding),
                "attn_pdrop": short(attention),
                "resid_pdrop": short(residual),
                "layer_norm_epsilon": self.layer_norm_eps,
                "initializer_range": self.init_std,
                "scale_attn_weights": true,
                "scale_attn_by_inverse_layer_idx": false,
                "reorder_and_upcast_attn": false,
                "add_cross_attention": false,
                "tie_word_embeddings": self.tied,
                "bos_token_id": null,
                "eos_token_id": null,
                "pad_token_id": null,
                "use_cache": true,
                "dtype": "float32",
            }),
            Family::Bert => json!({
                "architectures": ["BertForMaskedLM"],
                "model_type": "bert",
                "vocab_size": self.vocab,
                "max_position_embeddings": self.positions,
                "hidden_size": self.hidden,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "intermediate_size": self.inner,
                "hidden_act": activation,
                "hidden_dropout_prob": short(embedding),
                "attention_probs_dropout_prob": short(attention),
                "layer_norm_eps": self.layer_norm_eps,
                "initializer_range": self.init_std,
                "type_vocab_size": self.types,
                "position_embedding_type": "absolute",
                "is_decoder": false,
                "add_cross_attention": false,
                "tie_word_embeddings": self.tied,
                "bos_token_id": null,
                "eos_token_id": null,
                "pad_token_id": self.pad_token,
                "use_cache": true,
                "dtype": "float32",
            }),
        }
    }

    /// Reads a `config.json`. Keys that are absent have the defaults of `transformers`, except sizes, which are needed.
    ///
    /// # Errors
    /// If it is of another model type, asks for something the core does not compute (cross-attention, scaled or
    /// relative attention, other activations), or describes an impossible model.
    pub fn from_hugging_face(json: &Value) -> Result<Self, ConfigError> {
        let reader = Reader(json.as_object().ok_or_else(|| wrong("", json, "an object"))?);
        let family = match reader.0.get("model_type").and_then(Value::as_str) {
            Some("gpt2") => Family::Gpt2,
            Some("bert") => Family::Bert,
            _ => return Err(reader.wrong("model_type", "\"gpt2\" or \"bert\"")),
        };
        let config = match family {
            Family::Gpt2 => {
                reader.only("scale_attn_weights", &json!(true))?;
                reader.only("scale_attn_by_inverse_layer_idx", &json!(false))?;
                reader.only("add_cross_attention", &json!(false))?;
                let hidden = reader.size("n_embd")?;
                let defaults = Self::gpt2(
                    reader.size("vocab_size")?,
                    reader.size("n_positions")?,
                    hidden,
                    reader.size("n_layer")?,
                    reader.size("n_head")?,
                );
                Self {
                    inner: reader.optional("n_inner", "a size or null", as_size)?.unwrap_or(defaults.inner),
                    activation: reader.activation("activation_function", defaults.activation)?,
                    layer_norm_eps: reader.number("layer_norm_epsilon", defaults.layer_norm_eps)?,
                    dropout: Dropout {
                        embedding: reader.number("embd_pdrop", 0.1)? as f32,
                        attention: reader.number("attn_pdrop", 0.1)? as f32,
                        residual: reader.number("resid_pdrop", 0.1)? as f32,
                    },
                    ..defaults
                }
            }
            Family::Bert => {
                reader.only("is_decoder", &json!(false))?;
                reader.only("add_cross_attention", &json!(false))?;
                reader.only("position_embedding_type", &json!("absolute"))?;
                let defaults = Self::bert(
                    reader.size("vocab_size")?,
                    reader.size("max_position_embeddings")?,
                    reader.size("hidden_size")?,
                    reader.size("num_hidden_layers")?,
                    reader.size("num_attention_heads")?,
                );
                let hidden_dropout = reader.number("hidden_dropout_prob", 0.1)? as f32;
                let token = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
                Self {
                    inner: reader.size("intermediate_size")?,
                    activation: reader.activation("hidden_act", defaults.activation)?,
                    layer_norm_eps: reader.number("layer_norm_eps", defaults.layer_norm_eps)?,
                    dropout: Dropout {
                        embedding: hidden_dropout,
                        attention: reader.number("attention_probs_dropout_prob", 0.1)? as f32,
                        residual: hidden_dropout,
                    },
                    types: reader.optional("type_vocab_size", "a size", as_size)?.unwrap_or(2),
                    // Absent means the default, null means none.
                    pad_token: match reader.0.get("pad_token_id") {
                        None => Some(0),
                        Some(_) => reader.optional("pad_token_id", "a token id or null", token)?,
                    },
                    ..defaults
                }
            }
        };
        let config = Self {
            tied: reader.optional("tie_word_embeddings", "true or false", Value::as_bool)?.unwrap_or(true),
            init_std: reader.number("initializer_range", 0.02)?,
            ..config
        };
        config.check()?;
        Ok(config)
    }
}

fn as_size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

fn wrong(key: &str, found: &Value, expected: impl Into<String>) -> ConfigError {
    ConfigError::Json { key: key.into(), found: found.to_string(), expected: expected.into() }
}

/// Typed access to the entries of a `config.json`.
struct Reader<'a>(&'a Map<String, Value>);

impl Reader<'_> {
    fn wrong(&self, key: &str, expected: &str) -> ConfigError {
        match self.0.get(key) {
            Some(found) => wrong(key, found, expected),
            None => ConfigError::Json { key: key.into(), found: "missing".into(), expected: expected.into() },
        }
    }

    /// A size that must be there.
    fn size(&self, key: &str) -> Result<usize, ConfigError> {
        self.0.get(key).and_then(as_size).ok_or_else(|| self.wrong(key, "a size"))
    }

    /// An entry that may be absent or null.
    fn optional<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(key, expected)),
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        Ok(self.optional(key, "a number", Value::as_f64)?.unwrap_or(default))
    }

    fn activation(&self, key: &str, default: Activation) -> Result<Activation, ConfigError> {
        let read = |v: &Value| {
            let name = v.as_str()?;
            ACTIVATIONS.iter().find(|(known, _)| *known == name).map(|(_, activation)| *activation)
        };
        let names: Vec<&str> = ACTIVATIONS.iter().map(|(name, _)| *name).collect();
        Ok(self.optional(key, &names.join(", "), read)?.unwrap_or(default))
    }

    /// An entry that, where present, has to have the one value the core computes with.
    fn only(&self, key: &str, value: &Value) -> Result<(), ConfigError> {
        match self.0.get(key) {
            Some(found) if found != value => {
                Err(wrong(key, found, format!("{value}: nothing else is implemented")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_survive_the_round_trip() {
        let gpt2 = TransformerConfig { tied: false, inner: 40, ..TransformerConfig::gpt2(2, 100, 32, 2, 4) };
        let bert = TransformerConfig {
            pad_token: None,
            dropout: Dropout { embedding: 0.3, attention: 0.0, residual: 0.3 },
            ..TransformerConfig::bert(8, 1024, 64, 4, 8)
        };
        for config in [gpt2, bert, TransformerConfig::bert(8, 10, 16, 1, 1)] {
            let text = config.to_hugging_face().to_string();
            let back = TransformerConfig::from_hugging_face(&serde_json::from_str(&text).unwrap());
            assert_eq!(back, Ok(config), "{text}");
        }
        let json = TransformerConfig::gpt2(2, 100, 32, 2, 4).to_hugging_face();
        assert_eq!(json["attn_pdrop"].to_string(), "0.1");
    }

    #[test]
    fn what_the_core_does_not_compute_is_refused() {
        let bad = |bert: bool, key: &str, value: Value| {
            let config = if bert {
                TransformerConfig::bert(8, 10, 16, 1, 2)
            } else {
                TransformerConfig::gpt2(8, 10, 16, 1, 2)
            };
            let mut json = config.to_hugging_face();
            json[key] = value;
            TransformerConfig::from_hugging_face(&json).unwrap_err().to_string()
        };
        assert!(bad(true, "model_type", json!("llama")).contains("\"gpt2\" or \"bert\""));
        assert!(bad(true, "is_decoder", json!(true)).contains("is_decoder"));
        assert!(bad(true, "position_embedding_type", json!("relative_key")).contains("absolute"));
        assert!(bad(false, "scale_attn_by_inverse_layer_idx", json!(true)).contains("nothing else"));
        assert!(bad(false, "activation_function", json!("relu")).contains("gelu_new"));
        assert!(bad(false, "n_embd", json!(-1)).contains("a size"));
        assert!(bad(false, "n_head", json!(3)).contains("do not divide"));
        assert!(bad(false, "attn_pdrop", json!("x")).contains("a number"));
        assert!(TransformerConfig::from_hugging_face(&json!([])).is_err());
        assert!(TransformerConfig::from_hugging_face(&json!({"model_type": "gpt2"})).is_err());
    }

    #[test]
    fn absent_keys_have_the_defaults_of_transformers() {
        let json = json!({"model_type": "bert", "vocab_size": 8, "max_position_embeddings": 10, "hidden_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64});
        assert_eq!(TransformerConfig::from_hugging_face(&json), Ok(TransformerConfig::bert(8, 10, 16, 1, 2)));
    }
}
