//! How much memory a training step takes.

use super::TransformerOptions;
use super::accumulate::{group_size, lanes};
use curricle_core::model::transformer::{Family, TransformerConfig};

/// See [`super::Transformer::activation_bytes`]. Counts the buffers of `workspace` for a full group with as many reads as
/// a group can have, times the threads that can be at work, plus the lanes' gradients and tables.
pub fn activation_bytes(
    config: &TransformerConfig,
    options: TransformerOptions,
    sequences: usize,
    length: usize,
    reads: usize,
) -> u64 {
    if sequences == 0 || length == 0 {
        return 0;
    }
    let size = group_size(sequences, length);
    let groups = sequences.div_ceil(size);
    let lanes = lanes(config.parameters(), groups);
    let rows = (size * length) as u64;
    let read = (reads as u64).min(rows);
    let (hidden, inner, heads) = (config.hidden as u64, config.inner as u64, config.heads as u64);
    let post = u64::from(config.family == Family::Bert);
    // normed (GPT-2), x, kv per row; q, attended, middle, MLP input, BERT's sums, both inner buffers, statistics per query.
    let per_row = hidden * (1 - post) + hidden + 2 * hidden + 2;
    let per_query = hidden * (4 + post) + 2 * inner + 2 * heads + 4;
    let full = rows * (per_row + per_query);
    let last = if options.savings { rows * per_row + read * (per_query + hidden) } else { full };
    let head = read * (5 * hidden + 2 * config.vocab as u64 + 2);
    let embeddings = rows * (hidden + 2);
    // x, out, middle, dropped, MLP input, attended, q, spare, kv (2), and the final output.
    let back = rows * (11 * hidden + inner);
    let attention = {
        let padded = config.head_dim().next_multiple_of(8) as u64;
        let long = length as u64;
        long * (8 * (padded + 16) + 3 * 16 + 8) + long * (long + 16) / 4
    };
    let workspace = full * (config.layers as u64 - 1) + last + head + embeddings + back + attention;
    let at_work = options.threads.clamp(1, lanes) as u64;
    // Distinct rows: at most the table's limit, 4 hidden of tables and 4 hidden of gradients per lane.
    let distinct = ((sequences * length) as u64 * 4 / 5).min(length as u64 * config.vocab as u64);
    let tables = if options.savings { distinct * hidden * (6 + 4 * lanes as u64) } else { 0 };
    4 * (workspace * at_work + config.parameters() as u64 * lanes as u64 + tables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::Transformer;
    use curricle_core::model::transformer::{Dropout, TokenBatch, TransformerParams};
    use curricle_core::optim::AdamSettings;

    /// What is announced covers what the step then holds, and is not far above it.
    #[test]
    fn the_announced_memory_is_what_is_used() {
        let gpt2 = TransformerConfig::gpt2(2, 50, 32, 2, 4);
        let bert = TransformerConfig::bert(8, 200, 32, 3, 4);
        for config in [gpt2, bert] {
            for (sequences, length, every) in [(12, 50, 50), (9, 33, 3), (16, 50, 1), (1, 20, 5)] {
                for (savings, p) in [(true, 0.0), (false, 0.0), (true, 0.1)] {
                    let config = TransformerConfig { dropout: Dropout::all(p), ..config.clone() };
                    let options = TransformerOptions { threads: 1, savings };
                    let params = TransformerParams::new(config.clone(), 1).unwrap();
                    let mut model = Transformer::new(&params, options).unwrap();
                    let tokens: Vec<u32> = (0..sequences * length).map(|i| (i * i / 7 % 2) as u32).collect();
                    let reads: Vec<u32> = (0..tokens.len() as u32).filter(|i| (i + 1) % every == 0).collect();
                    let targets: Vec<f32> = (0..reads.len() * config.vocab)
                        .map(|i| if i % config.vocab == 0 { 1.0 } else { 0.0 })
                        .collect();
                    let micro = (TokenBatch::new(sequences, length, &tokens), &reads[..], &targets[..]);
                    model.train_step(&[micro], 0.01, &AdamSettings::default(), Some(1)).unwrap();
                    let bound = activation_bytes(&config, options, sequences, length, reads.len());
                    let used = model.machinery.lock().unwrap().bytes() as u64;
                    let what = format!("{config}, {sequences} x {length}, {options:?}: {used} of {bound}");
                    assert!(used <= bound && bound < 2 * used, "{what}");
                }
            }
        }
    }
}
