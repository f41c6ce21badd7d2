//! One rank's part of one step. Both runs call this one function, so that its bits cannot depend on who computes it.

use crate::{
    data::{Digits, shard},
    mlp::{Mlp, PARAMETERS},
};

/// What ranks reduce per step: the gradient, and behind it the loss, which travels for free.
pub(crate) const LENGTH: usize = PARAMETERS + 1;
/// Of the model's first weights.
pub(crate) const SEED: u64 = 64;

/// Overwrites `part` with the gradient and the loss over the rows of `batch` that belong to `rank` of `size`.
///
/// Scaled so that the average over the ranks is the mean over the batch, though shards may differ by a row.
pub(crate) fn compute(
    model: &Mlp,
    digits: &Digits,
    batch: &[usize],
    rank: usize,
    size: usize,
    part: &mut [f32],
) {
    let rows = batch[shard(batch.len(), rank, size)].iter().map(|at| &digits.training[*at]);
    let (gradient, loss) = part.split_at_mut(PARAMETERS);
    loss[0] = model.gradient(rows, size as f32 / batch.len() as f32, gradient);
}
