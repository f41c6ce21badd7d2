//! A multi-layer perceptron: 64 pixels, one hidden layer of rectified linear units, softmax over the ten digits.
//!
//! Plain f32 loops in one fixed order: a shard's gradient has the same bits whichever process computes it, which is
//! what lets the example compare a run of many processes with a run of one bit for bit.
//!
//! All parameters lie in one flat vector, and so do the gradients, so that one all-reduce carries them:
//!
//! ```text
//! w1[pixel][hidden] | b1[hidden] | w2[hidden][class] | b2[class]
//! ```
//!
//! Weights lie input-major: the inner loops then run over independent outputs, which the compiler may vectorise
//! without touching the order of any sum.

use crate::{
    data::{CLASSES, PIXELS, Row},
    random::Random,
};

/// Units of the hidden layer.
const HIDDEN: usize = 64;
const W1: usize = PIXELS * HIDDEN;
const W2: usize = HIDDEN * CLASSES;
/// Parameters of the model.
pub(crate) const PARAMETERS: usize = W1 + HIDDEN + W2 + CLASSES;

const LEARNING_RATE: f32 = 0.15;
const MOMENTUM: f32 = 0.9;

/// The model and the state of its optimiser.
#[derive(Debug)]
pub(crate) struct Mlp {
    weights: Vec<f32>,
    velocity: Vec<f32>,
}

/// What the layers put out for one row.
struct Outputs {
    hidden: [f32; HIDDEN],
    /// Sums before the softmax.
    scores: [f32; CLASSES],
}

impl Mlp {
    /// The same start from the same seed, on every rank. Weights are uniform with the variance that suits rectified
    /// units (2 / inputs), biases zero.
    pub(crate) fn new(seed: u64) -> Mlp {
        let mut random = Random::new(seed);
        let mut weights = vec![0.0; PARAMETERS];
        let (w1, _, w2, _) = split_mut(&mut weights);
        for (layer, inputs) in [(w1, PIXELS), (w2, HIDDEN)] {
            let reach = (6.0 / inputs as f32).sqrt();
            layer.fill_with(|| random.signed_unit() * reach);
        }
        Mlp { weights, velocity: vec![0.0; PARAMETERS] }
    }

    /// All parameters, in the order the module describes.
    pub(crate) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Overwrites `gradient` with `scale` times the gradient of the summed cross-entropy over `rows`, and returns
    /// `scale` times that sum itself. No rows: zeros.
    pub(crate) fn gradient<'a>(
        &self,
        rows: impl Iterator<Item = &'a Row>,
        scale: f32,
        gradient: &mut [f32],
    ) -> f32 {
        gradient.fill(0.0);
        let mut loss = 0.0;
        for row in rows {
            let outputs = self.forward(row);
            let (probabilities, row_loss) = softmax(&outputs.scores, row.label);
            loss += row_loss;
            let mut upstream = probabilities;
            upstream[row.label] -= 1.0;
            upstream.iter_mut().for_each(|x| *x *= scale);
            self.backward(row, &outputs.hidden, &upstream, gradient);
        }
        loss * scale
    }

    /// One step of gradient descent with momentum.
    pub(crate) fn step(&mut self, gradient: &[f32]) {
        for ((weight, velocity), gradient) in self.weights.iter_mut().zip(&mut self.velocity).zip(gradient) {
            *velocity = MOMENTUM * *velocity + gradient;
            *weight -= LEARNING_RATE * *velocity;
        }
    }

    /// How many of `rows` the model names rightly.
    pub(crate) fn correct(&self, rows: &[Row]) -> usize {
        rows.iter().filter(|row| argmax(&self.forward(row).scores) == row.label).count()
    }

    fn forward(&self, row: &Row) -> Outputs {
        let (w1, b1, w2, b2) = split(&self.weights);
        let mut outputs = Outputs { hidden: [0.0; HIDDEN], scores: [0.0; CLASSES] };
        outputs.hidden.copy_from_slice(b1);
        outputs.scores.copy_from_slice(b2);
        for (pixel, into) in row.pixels.iter().zip(w1.chunks_exact(HIDDEN)) {
            add_scaled(&mut outputs.hidden, *pixel, into);
        }
        outputs.hidden.iter_mut().for_each(|x| *x = x.max(0.0));
        for (hidden, into) in outputs.hidden.iter().zip(w2.chunks_exact(CLASSES)) {
            add_scaled(&mut outputs.scores, *hidden, into);
        }
        outputs
    }

    /// Adds one row's part to `gradient`, given the derivative of the loss by each score.
    fn backward(&self, row: &Row, hidden: &[f32; HIDDEN], upstream: &[f32; CLASSES], gradient: &mut [f32]) {
        let (_, _, w2, _) = split(&self.weights);
        let (d_w1, d_b1, d_w2, d_b2) = split_mut(gradient);
        add_scaled(d_b2, 1.0, upstream);
        let mut d_hidden = [0.0; HIDDEN];
        for (at, into) in d_w2.chunks_exact_mut(CLASSES).enumerate() {
            add_scaled(into, hidden[at], upstream);
            // A rectified unit that put out zero passes nothing back.
            if hidden[at] > 0.0 {
                let weights = &w2[at * CLASSES..][..CLASSES];
                d_hidden[at] = weights.iter().zip(upstream).fold(0.0, |sum, (w, u)| sum + w * u);
            }
        }
        add_scaled(d_b1, 1.0, &d_hidden);
        for (pixel, into) in row.pixels.iter().zip(d_w1.chunks_exact_mut(HIDDEN)) {
            add_scaled(into, *pixel, &d_hidden);
        }
    }
}

fn add_scaled(into: &mut [f32], scale: f32, from: &[f32]) {
    for (into, from) in into.iter_mut().zip(from) {
        *into += scale * from;
    }
}

/// Probabilities, and the cross-entropy of `label` under them.
fn softmax(scores: &[f32; CLASSES], label: usize) -> ([f32; CLASSES], f32) {
    let highest = scores.iter().copied().fold(f32::MIN, f32::max);
    let powers = scores.map(|score| (score - highest).exp());
    let total: f32 = powers.iter().sum();
    (powers.map(|power| power / total), total.ln() - (scores[label] - highest))
}

/// The first of the largest.
fn argmax(scores: &[f32; CLASSES]) -> usize {
    (1..CLASSES).fold(0, |best, at| if scores[at] > scores[best] { at } else { best })
}

fn split(flat: &[f32]) -> (&[f32], &[f32], &[f32], &[f32]) {
    let (w1, rest) = flat.split_at(W1);
    let (b1, rest) = rest.split_at(HIDDEN);
    let (w2, b2) = rest.split_at(W2);
    (w1, b1, w2, b2)
}

fn split_mut(flat: &mut [f32]) -> (&mut [f32], &mut [f32], &mut [f32], &mut [f32]) {
    let (w1, rest) = flat.split_at_mut(W1);
    let (b1, rest) = rest.split_at_mut(HIDDEN);
    let (w2, b2) = rest.split_at_mut(W2);
    (w1, b1, w2, b2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Digits;

    /// The derivative by hand against the slope between two nearby losses.
    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let rows = &Digits::load().expect("the committed file parses").training[..5];
        let mut model = Mlp::new(3);
        let mut gradient = vec![0.0; PARAMETERS];
        model.gradient(rows.iter(), 0.2, &mut gradient);
        let mut unused = vec![0.0; PARAMETERS];
        let step = 1e-2;
        let mut steep = 0;
        for at in (0..PARAMETERS).step_by(37) {
            let kept = model.weights[at];
            model.weights[at] = kept + step;
            let above = model.gradient(rows.iter(), 0.2, &mut unused);
            model.weights[at] = kept - step;
            let below = model.gradient(rows.iter(), 0.2, &mut unused);
            model.weights[at] = kept;
            let slope = (above - below) / (2.0 * step);
            assert!((slope - gradient[at]).abs() < 5e-3, "parameter {at}: {slope} and {}", gradient[at]);
            steep += usize::from(slope.abs() > 2e-2);
        }
        assert!(steep > 20, "only {steep} slopes are large enough to tell right from wrong");
    }

    #[test]
    fn no_rows_give_no_gradient() {
        let mut gradient = vec![1.0; PARAMETERS];
        assert_eq!(Mlp::new(3).gradient([].iter(), 1.0, &mut gradient), 0.0);
        assert!(gradient.iter().all(|x| *x == 0.0));
    }
}
