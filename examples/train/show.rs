//! What the user sees. Rank 0 prints; the others hold a `Show` that stays silent.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use sapwood::Tree;

use crate::{data::Digits, mlp::PARAMETERS, options::Options};

/// The figures of one epoch.
#[derive(Debug)]
pub(crate) struct Epoch {
    /// From 1.
    pub(crate) number: usize,
    /// Mean cross-entropy over the training rows, in nats.
    pub(crate) loss: f32,
    /// Part of the held-out rows that were named rightly, `0.0..=1.0`.
    pub(crate) accuracy: f64,
    /// Of the times of one all-reduce on this rank.
    pub(crate) median: Duration,
}

/// Lines on standard output, and below them a bar on standard error where that is a terminal.
#[derive(Debug)]
pub(crate) struct Show(Option<ProgressBar>);

impl Show {
    /// Says who takes part and how they are linked.
    pub(crate) fn start(tree: &Tree, digits: &Digits, options: &Options) -> Show {
        if tree.rank() != 0 {
            return Show(None);
        }
        println!("{} ranks, pids {:?}, linked by {}", tree.size(), tree.pids(), tree.link());
        println!(
            "{} rows to train on, {} held out; {PARAMETERS} parameters, one all-reduce of {} bytes per step\n",
            digits.training.len(),
            digits.held_out.len(),
            (PARAMETERS + 1) * size_of::<f32>(),
        );
        println!("epoch    loss   held-out   all-reduce (median)");
        let steps = options.epochs * digits.training.len().div_ceil(options.batch);
        // Draws nothing where standard error is not a terminal.
        let bar = ProgressBar::new(steps as u64);
        let style = ProgressStyle::with_template("{wide_bar} step {pos} of {len}, {elapsed}");
        bar.set_style(style.expect("the template is well formed"));
        Show(Some(bar))
    }

    /// One more step is done.
    pub(crate) fn step(&self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }

    /// A line for `epoch`.
    pub(crate) fn epoch(&self, epoch: &Epoch) {
        let Epoch { number, loss, accuracy, median } = epoch;
        let micros = median.as_secs_f64() * 1e6;
        self.line(&format!("{number:5}  {loss:6.4}    {:5.1} %   {micros:9.1} µs", accuracy * 100.0));
    }

    /// A line above the bar.
    pub(crate) fn line(&self, line: &str) {
        if let Some(bar) = &self.0 {
            bar.suspend(|| println!("{line}"));
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
