//! The same training in one process: what the ranks together must reproduce bit for bit.

use crate::{
    data::Digits,
    mlp::{Mlp, PARAMETERS},
    options::Options,
    step::{self, LENGTH, SEED},
};

/// Trains as `size` ranks would: each shard's gradient by itself, folded in rank order, then divided by their number.
/// Returns the model.
pub(crate) fn train(digits: &Digits, options: &Options, size: usize) -> Mlp {
    let mut model = Mlp::new(SEED);
    let mut average = vec![0.0; LENGTH];
    let mut next = vec![0.0; LENGTH];
    for epoch in 0..options.epochs {
        for batch in digits.order(epoch).chunks(options.batch) {
            // Rank 0's part starts the fold as it is: adding it to zeros would turn -0.0 into 0.0.
            step::compute(&model, digits, batch, 0, size, &mut average);
            for rank in 1..size {
                step::compute(&model, digits, batch, rank, size, &mut next);
                average.iter_mut().zip(&next).for_each(|(sum, part)| *sum += part);
            }
            average.iter_mut().for_each(|sum| *sum /= size as f32);
            model.step(&average[..PARAMETERS]);
        }
    }
    model
}

/// The first weight whose bits differ, with both values.
pub(crate) fn first_difference(one: &[f32], other: &[f32]) -> Option<(usize, f32, f32)> {
    assert_eq!(one.len(), other.len(), "two models of one shape");
    let at = one.iter().zip(other).position(|(a, b)| a.to_bits() != b.to_bits())?;
    Some((at, one[at], other[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_repeats_itself_and_depends_on_the_number_of_shards_in_its_last_bits_only() {
        let digits = Digits::load().expect("the committed file parses");
        let options = Options { ranks: 1, epochs: 8, batch: 64 };
        let one = train(&digits, &options, 1);
        assert_eq!(first_difference(one.weights(), train(&digits, &options, 1).weights()), None);
        let four = train(&digits, &options, 4);
        assert!(first_difference(one.weights(), four.weights()).is_some(), "shards are folded one by one");
        for model in [one, four] {
            let correct = model.correct(&digits.held_out);
            assert!(correct * 100 >= digits.held_out.len() * 93, "{correct} of {}", digits.held_out.len());
        }
    }

    #[test]
    fn differences_are_of_bits() {
        assert_eq!(first_difference(&[1.0, 0.0], &[1.0, 0.0]), None);
        assert_eq!(first_difference(&[1.0, 0.0], &[1.0, -0.0]), Some((1, 0.0, -0.0)));
        assert_eq!(first_difference(&[f32::NAN], &[f32::NAN]), None);
    }
}
