//! The CPU engine as what the GPU's self-test compares with.

use curricle_core::model::transformer::{TokenBatch, TransformerParams};
use curricle_core::model::{MlpParams, ModelError};
use curricle_core::optim::{AdamSettings, Steps, TrainStep};
use curricle_core::task::Samples;
use curricle_cpu::{CpuOptions, Mlp, Transformer, TransformerOptions};
use curricle_gpu::oracle::Oracle;

/// The CPU engine, all cores.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuOracle;

impl Oracle for CpuOracle {
    fn mlp_logits(&self, params: &MlpParams, samples: &Samples) -> Vec<f32> {
        let model = Mlp::new(params, CpuOptions::default());
        let mut logits = vec![0.0; samples.len() * model.classes()];
        model.logits(samples, &mut logits);
        logits
    }

    fn mlp_trained(&self, params: &MlpParams, steps: &Steps<'_>) -> MlpParams {
        let mut model = Mlp::new(params, CpuOptions::default());
        model.train(steps);
        model.to_params()
    }

    fn transformer_logits(
        &self,
        params: &TransformerParams,
        batch: &TokenBatch<'_>,
        reads: &[u32],
    ) -> Result<Vec<f32>, ModelError> {
        Ok(Transformer::new(params, TransformerOptions::default())?.logits(batch, reads)?)
    }

    fn transformer_trained(
        &self,
        params: &TransformerParams,
        steps: &[TrainStep<'_>],
        adam: &AdamSettings,
    ) -> Result<TransformerParams, ModelError> {
        let mut model = Transformer::new(params, TransformerOptions::default())?;
        for step in steps {
            model.train_step(step.micro, step.rate, adam, step.dropout_seed)?;
        }
        Ok(model.to_params())
    }
}
