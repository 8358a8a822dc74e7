//! What the passes know of a model besides its values.

use super::linear::Map;
use super::norm::{NormGradient, NormWeights};
use crate::Isa;
use curricle_core::model::transformer::{Family, Layout, Norm, TransformerConfig};
use std::ops::Range;

/// One block's linear maps.
#[derive(Debug, Clone)]
pub struct LayerMaps {
    pub q: Map,
    pub kv: Map,
    pub projection: Map,
    pub up: Map,
    pub down: Map,
}

/// Sizes, offsets and maps.
#[derive(Debug, Clone)]
pub struct Net {
    pub config: TransformerConfig,
    pub layout: Layout,
    pub layers: Vec<LayerMaps>,
    /// BERT: the head's dense layer.
    pub transform: Option<Map>,
    pub head: Map,
    pub isa: Isa,
    /// The exact savings: the last layer only where logits are read, the first layer's projections once per distinct
    /// embedding row.
    pub savings: bool,
}

impl Net {
    pub fn new(config: &TransformerConfig, isa: Isa, savings: bool) -> Self {
        let layout = Layout::new(config);
        let (family, hidden) = (config.family, config.hidden);
        let layers = layout.layers.iter().map(|l| {
            let qkv = Map::new(&l.qkv, family);
            LayerMaps {
                q: qkv.part(0..hidden),
                kv: qkv.part(hidden..3 * hidden),
                projection: Map::new(&l.projection, family),
                up: Map::new(&l.up, family),
                down: Map::new(&l.down, family),
            }
        });
        let layers = layers.collect();
        let transform = layout.transform.as_ref().map(|t| Map::new(t, family));
        let head = Map::head(layout.head.clone(), hidden);
        Self { config: config.clone(), layout, layers, transform, head, isa, savings }
    }

    pub fn pre_norm(&self) -> bool {
        self.config.family == Family::Gpt2
    }

    pub fn norm<'a>(&self, values: &'a [f32], norm: &Norm) -> NormWeights<'a> {
        NormWeights {
            weight: &values[norm.weight.clone()],
            bias: &values[norm.bias.clone()],
            eps: self.config.layer_norm_eps as f32,
        }
    }
}

/// The gradients of a layer norm's two tensors.
pub fn norm_gradient<'a>(gradient: &'a mut [f32], norm: &Norm) -> NormGradient<'a> {
    let [weight, bias] = two(gradient, norm.weight.clone(), norm.bias.clone());
    NormGradient { weight, bias }
}

/// Two disjoint parts of a slice, the first before the second.
fn two(all: &mut [f32], first: Range<usize>, second: Range<usize>) -> [&mut [f32]; 2] {
    let (low, high) = all.split_at_mut(second.start);
    [&mut low[first], &mut high[..second.len()]]
}
