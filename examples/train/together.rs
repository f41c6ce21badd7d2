//! One rank of the distributed run.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use sapwood::{Op, Rank, Tree};

use crate::{
    alone,
    data::{Digits, shard},
    mlp::{Mlp, PARAMETERS},
    options::Options,
    show::{Epoch, Show},
    step::{self, LENGTH, SEED},
};

/// What the run must reach on the held-out rows.
const ACCURACY: f64 = 0.95;

/// Trains, and then checks what came of it: every rank has the same bits, one process alone arrives at the same bits,
/// and the held-out rows are named well enough.
///
/// # Errors
/// A check that failed, in a sentence; whatever a collective reported.
pub(crate) fn run(rank: &Rank, options: &Options) -> Result<(), Box<dyn Error>> {
    let digits = Digits::load()?;
    let mut tree = Tree::join(rank)?;
    let show = Show::start(&tree, &digits, options);
    let begin = Instant::now();
    let (model, accuracy) = train(&mut tree, &digits, options, &show)?;
    show.finish();
    show.line(&format!("\ntrained in {:.2} s", begin.elapsed().as_secs_f64()));

    agree(&mut tree, &model)?;
    show.line("every rank holds the same weights");
    if tree.rank() != 0 {
        return Ok(());
    }
    compare(&model, alone::train(&digits, options, tree.size()).weights())?;
    show.line("one process alone arrives at the same: bit for bit equal");
    if accuracy < ACCURACY {
        return Err(format!("held-out accuracy {accuracy:.4} is below {ACCURACY}").into());
    }
    Ok(())
}

/// Fails at the first weight whose bits are not those that one process arrived at.
fn compare(model: &Mlp, alone: &[f32]) -> Result<(), String> {
    match alone::first_difference(model.weights(), alone) {
        None => Ok(()),
        Some((at, ours, theirs)) => {
            Err(format!("weight {at} is {ours:e} here and {theirs:e} in one process alone"))
        }
    }
}

/// All epochs. The model, and its accuracy after the last one.
fn train(
    tree: &mut Tree,
    digits: &Digits,
    options: &Options,
    show: &Show,
) -> Result<(Mlp, f64), Box<dyn Error>> {
    let mut model = Mlp::new(SEED);
    // Lies in memory that all ranks share: the gradient is computed where the others read it.
    let mut part = tree.alloc::<f32>(LENGTH)?;
    let mut accuracy = 0.0;
    for epoch in 0..options.epochs {
        let mut times = Vec::new();
        let mut losses = 0.0;
        let order = digits.order(epoch);
        for batch in order.chunks(options.batch) {
            step::compute(&model, digits, batch, tree.rank(), tree.size(), &mut part);
            let begin = Instant::now();
            tree.all_reduce(&mut part, Op::Avg)?;
            times.push(begin.elapsed());
            model.step(&part[..PARAMETERS]);
            losses += part[PARAMETERS] * batch.len() as f32;
            show.step();
        }
        accuracy = measure(tree, digits, &model)?;
        let loss = losses / digits.training.len() as f32;
        show.epoch(&Epoch { number: epoch + 1, loss, accuracy, median: median(&mut times) });
    }
    Ok((model, accuracy))
}

/// Part of the held-out rows that the model names rightly; each rank looks at its share of them.
fn measure(tree: &mut Tree, digits: &Digits, model: &Mlp) -> Result<f64, Box<dyn Error>> {
    let share = shard(digits.held_out.len(), tree.rank(), tree.size());
    let mut correct = [model.correct(&digits.held_out[share]) as u64];
    tree.all_reduce(&mut correct, Op::Sum)?;
    Ok(correct[0] as f64 / digits.held_out.len() as f64)
}

/// Fails on every rank where one rank's weights differ from rank 0's by a bit.
fn agree(tree: &mut Tree, model: &Mlp) -> Result<(), Box<dyn Error>> {
    let mut first = model.weights().to_vec();
    tree.broadcast(&mut first, 0)?;
    let mut differing = [u32::from(alone::first_difference(model.weights(), &first).is_some())];
    tree.all_reduce(&mut differing, Op::Sum)?;
    match differing[0] {
        0 => Ok(()),
        ranks => Err(format!("weights differ from rank 0's on {ranks} of {} ranks", tree.size()).into()),
    }
}

fn median(times: &mut [Duration]) -> Duration {
    let middle = times.len() / 2;
    *times.select_nth_unstable(middle).1
}
