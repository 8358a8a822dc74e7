//! Which sequences, queries and keys a group works on.

use curricle_core::model::transformer::TokenBatch;
use std::ops::Range;

/// A few sequences that one thread takes through the whole model.
#[derive(Debug)]
pub struct Group<'a> {
    pub batch: TokenBatch<'a>,
    /// Sequences of the batch.
    pub sequences: Range<usize>,
    /// Local rows (sequence - first sequence) * length + t whose logits are read.
    pub reads: Vec<u32>,
    /// 0, 1, .. as row numbers and positions.
    pub counting: Vec<u32>,
    /// Positions t of the visible keys, sequence by sequence.
    pub k_positions: Vec<u32>,
    /// The same as local rows.
    pub k_rows: Vec<u32>,
    /// Where each sequence's keys begin in the two lists; one more at the end.
    pub k_starts: Vec<usize>,
    /// For the last layer, if it computes only what is read: positions t of the queries.
    pub read_positions: Vec<u32>,
    /// Where each sequence's reads begin; one more at the end.
    pub read_starts: Vec<usize>,
    /// Row of the first layer's tables for every local row, if there are tables.
    pub table: Option<&'a [u32]>,
    /// The same for the visible keys and for the reads.
    pub k_table: Vec<u32>,
    pub read_table: Vec<u32>,
}

impl<'a> Group<'a> {
    /// `reads` are those of the whole batch; `table` maps all its positions.
    pub fn new(
        batch: TokenBatch<'a>,
        sequences: Range<usize>,
        reads: &[u32],
        table: Option<&'a [u32]>,
    ) -> Self {
        let length = batch.length;
        let flat = sequences.start * length..sequences.end * length;
        let own = reads.partition_point(|r| (*r as usize) < flat.start)
            ..reads.partition_point(|r| (*r as usize) < flat.end);
        let reads: Vec<u32> = reads[own].iter().map(|r| r - flat.start as u32).collect();
        let mut k_positions = Vec::new();
        let mut k_rows = Vec::new();
        let mut k_starts = vec![0];
        let mut read_starts = vec![0];
        for s in 0..sequences.len() {
            for t in 0..length {
                if batch.keys.is_none_or(|keys| keys[flat.start + s * length + t] != 0) {
                    k_positions.push(t as u32);
                    k_rows.push((s * length + t) as u32);
                }
            }
            k_starts.push(k_positions.len());
            read_starts.push(reads.partition_point(|r| (*r as usize) < (s + 1) * length));
        }
        let table = table.map(|t| &t[flat.clone()]);
        let through =
            |rows: &[u32]| table.map_or_else(Vec::new, |t| rows.iter().map(|r| t[*r as usize]).collect());
        Self {
            counting: (0..flat.len() as u32).collect(),
            k_table: through(&k_rows),
            read_table: through(&reads),
            read_positions: reads.iter().map(|r| r % length as u32).collect(),
            batch,
            sequences,
            reads,
            k_positions,
            k_rows,
            k_starts,
            read_starts,
            table,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.sequences.len() * self.batch.length
    }

    /// Running number of the first sequence.
    pub fn first(&self) -> u64 {
        self.batch.first + self.sequences.start as u64
    }

    /// Token and position of every row.
    pub fn tokens(&self) -> impl Iterator<Item = (u32, usize)> + '_ {
        let length = self.batch.length;
        let own = &self.batch.tokens[self.sequences.start * length..self.sequences.end * length];
        own.iter().enumerate().map(move |(i, token)| (*token, i % length))
    }
}
