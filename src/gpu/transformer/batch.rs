//! What the host tells the device about a micro-batch: one list of integers, at offsets that depend on capacities only.

use curricle_core::model::transformer::TokenBatch;

/// Rows of the gradient one workgroup adds up before the sums are added; see `embed.wgsl`.
const SEGMENT: usize = 64;

/// Where everything is in the list; see `attention.wgsl`, `embed.wgsl` and `rows.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ints {
    pub tokens_at: u32,
    pub keys_at: u32,
    pub seen_at: u32,
    pub rows_at: u32,
    pub starts_at: u32,
    pub order_at: u32,
    pub segments_at: u32,
    pub tokens_used_at: u32,
    /// Length of the list.
    pub len: usize,
    /// Most segments and most distinct tokens.
    pub segments: usize,
    pub distinct: usize,
}

impl Ints {
    /// For batches of these sizes with at most `reads` read positions.
    pub fn new(sequences: usize, length: usize, reads: usize, vocab: usize) -> Self {
        let positions = sequences * length;
        let distinct = positions.min(vocab);
        let segments = positions / SEGMENT + distinct;
        let mut end = 0;
        let mut take = |n: usize| {
            let at = end;
            end += n;
            at as u32
        };
        Self {
            tokens_at: take(positions),
            keys_at: take(positions),
            seen_at: take(sequences),
            rows_at: take(reads),
            starts_at: take(sequences + 1),
            order_at: take(positions),
            segments_at: take(segments + 2),
            tokens_used_at: take(2 * distinct + 3),
            len: end,
            segments,
            distinct,
        }
    }

    /// The list for `batch`, read at `reads`. Rows of `skip` (BERT's padding token) get no gradient.
    pub fn fill(&self, batch: &TokenBatch<'_>, reads: &[u32], vocab: usize, skip: Option<u32>) -> Vec<u32> {
        let TokenBatch { sequences, length, tokens, keys, .. } = *batch;
        let positions = sequences * length;
        let mut out = vec![0u32; self.len];
        let mut put = |at: u32, values: &[u32]| {
            out[at as usize..at as usize + values.len()].copy_from_slice(values);
        };
        put(self.tokens_at, tokens);
        let shown: Vec<u32> = match keys {
            Some(keys) => keys.iter().map(|k| u32::from(*k != 0)).collect(),
            None => vec![1; positions],
        };
        put(self.keys_at, &shown);
        let seen = |row: &[u32]| row.iter().position(|k| *k != 0).unwrap_or(length) as u32;
        put(self.seen_at, &shown.chunks_exact(length).map(seen).collect::<Vec<_>>());
        put(self.rows_at, reads);
        let starts: Vec<u32> =
            (0..=sequences).map(|b| reads.partition_point(|r| (*r as usize) < b * length) as u32).collect();
        put(self.starts_at, &starts);
        // Rows sorted by token (counting sort), cut into segments of one token each.
        let mut first = vec![0u32; vocab + 1];
        let counted = tokens.iter().filter(|t| Some(**t) != skip);
        counted.clone().for_each(|t| first[*t as usize + 1] += 1);
        for v in 0..vocab {
            first[v + 1] += first[v];
        }
        let (mut segments, mut used) = (Vec::new(), Vec::new());
        for (token, range) in first.windows(2).enumerate().filter(|(_, w)| w[0] < w[1]) {
            used.extend([token as u32, segments.len() as u32]);
            segments.extend((range[0]..range[1]).step_by(SEGMENT));
        }
        used.extend([0, segments.len() as u32]);
        let distinct = used.len() as u32 / 2 - 1;
        let count = segments.len() as u32;
        segments.push(first[vocab]);
        put(self.segments_at, &[count]);
        put(self.segments_at + 1, &segments);
        put(self.tokens_used_at, &[distinct]);
        put(self.tokens_used_at + 1, &used);
        let mut order = vec![0u32; positions];
        for (row, token) in tokens.iter().enumerate().filter(|(_, t)| Some(**t) != skip) {
            let place = &mut first[*token as usize];
            order[*place as usize] = row as u32;
            *place += 1;
        }
        put(self.order_at, &order);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_every_row_once() {
        let tokens: Vec<u32> = (0..300).map(|i| [5, 0, 2, 2, 2][i % 5]).collect();
        let batch = TokenBatch::new(3, 100, &tokens);
        for skip in [None, Some(0)] {
            let ints = Ints::new(3, 100, 4, 9);
            let list = ints.fill(&batch, &[0, 99, 200, 299], 9, skip);
            assert_eq!(list[ints.starts_at as usize..][..4], [0, 2, 2, 4]);
            let used = &list[ints.tokens_used_at as usize..];
            let segments = &list[ints.segments_at as usize..];
            let order = &list[ints.order_at as usize..];
            assert_eq!(used[0], if skip.is_some() { 2 } else { 3 });
            assert!(segments[0] as usize <= ints.segments && used[0] as usize <= ints.distinct);
            let mut rows = Vec::new();
            for d in 0..used[0] as usize {
                for s in used[2 + 2 * d]..used[4 + 2 * d] {
                    let range = segments[1 + s as usize] as usize..segments[2 + s as usize] as usize;
                    assert!(!range.is_empty() && range.len() <= SEGMENT);
                    for row in &order[range] {
                        assert_eq!(tokens[*row as usize], used[1 + 2 * d]);
                        rows.push(*row);
                    }
                }
            }
            rows.sort_unstable();
            let want: Vec<u32> = (0..300).filter(|r| Some(tokens[*r as usize]) != skip).collect();
            assert_eq!(rows, want);
        }
    }

    #[test]
    fn the_first_visible_key_is_found() {
        let keys = [0, 0, 1, 1, 1, 0, 0, 0, 0];
        let batch = TokenBatch { keys: Some(&keys), ..TokenBatch::new(3, 3, &[0; 9]) };
        let ints = Ints::new(3, 3, 1, 2);
        let list = ints.fill(&batch, &[4], 2, None);
        assert_eq!(list[ints.seen_at as usize..][..3], [2, 0, 3]);
        assert_eq!(list[ints.starts_at as usize..][..4], [0, 0, 1, 1]);
    }
}
