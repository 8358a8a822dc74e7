//! Gradients of micro-batches: which thread does what, with results that do not depend on the number of threads.
//!
//! The sequences of a micro-batch are cut into groups, and the groups into lanes; the cuts depend on sizes alone. A lane has its
//! own gradient vector and takes its groups through the model one after the other; lanes are summed in their order.

use super::embedding::{Distinct, TableGradients, Tables};
use super::forward::Pass;
use super::group::Group;
use super::linear::SingleThreaded;
use super::net::Net;
use super::norm;
use super::workspace::{Buffer, Workspace, zeroed};
use curricle_core::model::transformer::{MicroBatch, TokenBatch};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Rows of a group: enough for efficient products, few enough for the caches.
const GROUP_ROWS: usize = 400;
/// Most lanes, hence most threads that can work on one micro-batch.
const MAX_LANES: usize = 16;
/// Parameters from which half of the lanes are used, because summing them costs time.
const LARGE: usize = 1 << 19;
/// Distinct rows per piece of work on tables.
const TABLE_ROWS: usize = 64;
/// Parameters per piece of work on flat vectors.
pub const PIECE: usize = 1 << 14;

/// Threads of one engine; none for one.
pub type Pool = Option<rayon::ThreadPool>;

/// f on every item, in parallel if there is a pool.
pub fn for_each<T: Send>(pool: &Pool, items: &mut [T], f: impl Fn(usize, &mut T) + Sync) {
    match pool {
        None => items.iter_mut().enumerate().for_each(|(i, item)| f(i, item)),
        Some(pool) => {
            pool.install(|| {
                items.par_iter_mut().with_max_len(1).enumerate().for_each(|(i, item)| f(i, item))
            });
        }
    }
}

/// A lane's sums.
#[derive(Debug, Default)]
struct Lane {
    gradient: Buffer,
    tables: TableGradients,
    loss: f64,
    part: TableGradients,
}

/// Everything a step works in; kept between steps.
#[derive(Debug, Default)]
pub struct Machinery {
    lanes: Vec<Lane>,
    workspaces: Mutex<Vec<Workspace>>,
    distinct: Distinct,
    tables: Tables,
}

/// Sequences of each group of a batch.
pub fn group_size(sequences: usize, length: usize) -> usize {
    sequences.div_ceil((sequences * length).div_ceil(GROUP_ROWS))
}

/// Number of lanes for so many groups.
pub fn lanes(net_parameters: usize, groups: usize) -> usize {
    groups.min(if net_parameters < LARGE { MAX_LANES } else { MAX_LANES / 2 })
}

/// Sequence ranges of the groups.
fn groups(batch: &TokenBatch<'_>) -> Vec<Range<usize>> {
    let size = group_size(batch.sequences, batch.length);
    (0..batch.sequences).step_by(size).map(|s| s..batch.sequences.min(s + size)).collect()
}

impl Machinery {
    fn workspace(&self) -> Workspace {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, workspace: Workspace) {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
    }

    /// Bytes of all buffers that grow with the batch, and of the lanes' gradients.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let workspaces = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = |t: &TableGradients| 4 * (t.x.room() + t.q.room() + t.kv.room() + t.spare.room());
        let lane = |l: &Lane| 4 * l.gradient.room() + tables(&l.tables) + tables(&l.part);
        workspaces.iter().map(Workspace::bytes).sum::<usize>() + self.lanes.iter().map(lane).sum::<usize>()
    }

    /// Fills the first layer's tables if they pay.
    fn prepare(
        &mut self,
        net: &Net,
        values: &[f32],
        batch: &TokenBatch<'_>,
        dropped: bool,
        pool: &Pool,
    ) -> bool {
        if !net.savings || dropped || !self.distinct.find(batch, net.config.vocab) {
            return false;
        }
        let rows = &self.distinct.rows;
        let mut parts = self.tables.parts(net, rows.len(), TABLE_ROWS);
        for_each(pool, &mut parts, |i, part| {
            part.fill(net, values, &rows[i * TABLE_ROWS..rows.len().min((i + 1) * TABLE_ROWS)]);
        });
        true
    }

    /// The gradient of the mean cross-entropy over all reads of checked micro-batches, in [`Self::gradient`]; returns the sum of
    /// the cross-entropies.
    pub fn accumulate(
        &mut self,
        net: &Net,
        values: &[f32],
        micro: &[MicroBatch<'_>],
        dropout_seed: Option<u64>,
        pool: &Pool,
    ) -> f64 {
        let _single = SingleThreaded::new();
        let reads: usize = micro.iter().map(|(_, reads, _)| reads.len()).sum();
        let scale = (1.0 / reads as f64) as f32;
        let count = |batch: &TokenBatch<'_>| lanes(net.layout.parameters, groups(batch).len());
        let used = micro.iter().map(|(batch, ..)| count(batch)).max().unwrap_or(1);
        self.lanes.resize_with(used, Lane::default);
        for_each(pool, &mut self.lanes, |_, lane| {
            zeroed(&mut lane.gradient, net.layout.parameters);
        });
        let dropped = dropout_seed.is_some() && net.config.dropout.embedding > 0.0;
        let mut loss = 0.0;
        for (batch, reads, targets) in micro {
            let tabled = self.prepare(net, values, batch, dropped, pool);
            let groups = groups(batch);
            let count = count(batch);
            let mut lanes = std::mem::take(&mut self.lanes);
            for_each(pool, &mut lanes[..count], |j, lane| {
                if tabled {
                    lane.tables.clear(self.distinct.rows.len(), net.config.hidden);
                }
                lane.loss = 0.0;
                let mut workspace = self.workspace();
                for sequences in &groups[j * groups.len() / count..(j + 1) * groups.len() / count] {
                    let table = tabled.then_some(&self.distinct.index[..]);
                    let group = Group::new(*batch, sequences.clone(), reads, table);
                    let pass = Pass {
                        net,
                        values,
                        group: &group,
                        tables: tabled.then_some(&self.tables),
                        dropout_seed,
                    };
                    pass.run(&mut workspace);
                    let from = reads.partition_point(|r| (*r as usize) < sequences.start * batch.length);
                    let own = from * net.config.vocab..(from + group.reads.len()) * net.config.vocab;
                    lane.loss += pass.loss(&targets[own], scale, &mut workspace);
                    pass.backward(&mut workspace, &mut lane.gradient, &mut lane.tables);
                }
                self.give_back(workspace);
            });
            if tabled {
                self.tables_backward(net, values, &mut lanes[..count], pool);
            }
            loss += lanes[..count].iter().map(|lane| lane.loss).sum::<f64>();
            self.lanes = lanes;
        }
        self.reduce(net, pool);
        loss
    }

    /// From the lanes' table gradients to parameter gradients: each lane takes some rows of all lanes' tables.
    fn tables_backward(&self, net: &Net, values: &[f32], lanes: &mut [Lane], pool: &Pool) {
        let (rows, hidden) = (self.distinct.rows.len(), net.config.hidden);
        let tables: Vec<TableGradients> =
            lanes.iter_mut().map(|lane| std::mem::take(&mut lane.tables)).collect();
        let count = lanes.len();
        for_each(pool, lanes, |j, lane| {
            for start in (j * TABLE_ROWS..rows).step_by(count * TABLE_ROWS) {
                let range = start..rows.min(start + TABLE_ROWS);
                lane.part.clear(range.len(), hidden);
                for table in &tables {
                    let part = |width: usize| range.start * width..range.end * width;
                    norm::add(net.isa, &table.x[part(hidden)], &mut lane.part.x);
                    norm::add(net.isa, &table.q[part(hidden)], &mut lane.part.q);
                    norm::add(net.isa, &table.kv[part(2 * hidden)], &mut lane.part.kv);
                }
                let pairs = &self.distinct.rows[range.clone()];
                self.tables.backward(net, values, range, pairs, &mut lane.part, &mut lane.gradient);
            }
        });
        for (lane, table) in lanes.iter_mut().zip(tables) {
            lane.tables = table;
        }
    }

    /// Sums the lanes into the first.
    fn reduce(&mut self, net: &Net, pool: &Pool) {
        let Some((first, rest)) = self.lanes.split_first_mut() else { return };
        let mut pieces: Vec<&mut [f32]> = first.gradient.chunks_mut(PIECE).collect();
        for_each(pool, &mut pieces, |i, piece| {
            for lane in &*rest {
                norm::add(net.isa, &lane.gradient[i * PIECE..][..piece.len()], piece);
            }
        });
    }

    /// The gradient after [`Self::accumulate`].
    pub fn gradient(&self) -> &[f32] {
        self.lanes.first().map_or(&[], |lane| &lane.gradient)
    }

    /// Runs f on every group after `layers` layers without dropout (`None`: all, and the head). Results in the order of the
    /// groups.
    pub fn evaluate<R: Send>(
        &mut self,
        net: &Net,
        values: &[f32],
        (batch, reads): (&TokenBatch<'_>, &[u32]),
        layers: Option<usize>,
        pool: &Pool,
        f: impl Fn(&Workspace) -> R + Sync,
    ) -> Vec<R> {
        let _single = SingleThreaded::new();
        let tabled = self.prepare(net, values, batch, false, pool);
        let mut results: Vec<(Range<usize>, Option<R>)> =
            groups(batch).into_iter().map(|range| (range, None)).collect();
        for_each(pool, &mut results, |_, (sequences, result)| {
            let mut workspace = self.workspace();
            let table = tabled.then_some(&self.distinct.index[..]);
            let group = Group::new(*batch, sequences.clone(), reads, table);
            let tables = tabled.then_some(&self.tables);
            let pass = Pass { net, values, group: &group, tables, dropout_seed: None };
            match layers {
                None => pass.run(&mut workspace),
                Some(layers) => {
                    pass.embeddings(&mut workspace);
                    (0..layers).for_each(|l| pass.layer(l, &mut workspace));
                }
            }
            *result = Some(f(&workspace));
            self.give_back(workspace);
        });
        results.into_iter().filter_map(|(_, result)| result).collect()
    }
}
