//! What the tensors hold under `--verify`, and what their sum must then be.
//!
//! An element depends on the rank, on the round, and on its index, so a contribution left out or counted twice, one of
//! an earlier round, and one read from a wrong place all show. All values and sums are small integers, exact in f32.

/// Values of [`hash`] are below this.
const HASHES: usize = 256;

/// # Errors
/// With so many ranks sums of integers would no longer be exact in f32.
pub(crate) fn check_size(size: usize) -> Result<(), String> {
    if largest_sum(size) < 1 << f32::MANTISSA_DIGITS {
        return Ok(());
    }
    Err(format!("--verify needs sums exact in f32, which {size} ranks could exceed"))
}

/// Writes what `rank` contributes to `round`.
pub(crate) fn fill(tensor: &mut [f32], rank: usize, round: u32) {
    let factor = (rank + 1) as f32;
    for (index, element) in tensor.iter_mut().enumerate() {
        *element = factor * hash(index, round);
    }
}

/// # Errors
/// Names the first element that is not the sum of what `size` ranks contributed to `round`.
pub(crate) fn check(tensor: &[f32], size: usize, round: u32) -> Result<(), String> {
    let factor = factors(size) as f32;
    // Counting does not stop early, so it runs as vector code; a wrong element is looked for only once there is one.
    let wrong = tensor.iter().enumerate().filter(|(index, x)| **x != factor * hash(*index, round)).count();
    if wrong == 0 {
        return Ok(());
    }
    let index =
        (0..tensor.len()).find(|at| tensor[*at] != factor * hash(*at, round)).expect("one was counted");
    Err(format!(
        "{wrong} of {} elements are wrong in round {round}, the first at {index}: {} instead of {}",
        tensor.len(),
        tensor[index],
        factor * hash(index, round),
    ))
}

/// Mixes an index and a round into `0..HASHES`.
fn hash(index: usize, round: u32) -> f32 {
    let mixed = (index as u32).wrapping_mul(0x9e37_79b1) ^ round.wrapping_mul(0x85eb_ca6b);
    (mixed.wrapping_mul(0xc2b2_ae35) >> 24) as f32
}

/// The sum of all ranks' factors.
fn factors(size: usize) -> usize {
    size * (size + 1) / 2
}

fn largest_sum(size: usize) -> usize {
    factors(size).saturating_mul(HASHES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(parts: &[(usize, u32)], round: u32, size: usize) -> Result<(), String> {
        let mut total = vec![0.0; 1000];
        let mut part = vec![0.0; 1000];
        for (rank, round) in parts {
            fill(&mut part, *rank, *round);
            total.iter_mut().zip(&part).for_each(|(sum, x)| *sum += x);
        }
        check(&total, size, round)
    }

    #[test]
    fn only_the_right_sum_passes() {
        assert_eq!(sum(&[(0, 5), (1, 5), (2, 5)], 5, 3), Ok(()));
        assert!(sum(&[(0, 5), (2, 5)], 5, 3).is_err(), "a rank left out");
        assert!(sum(&[(0, 5), (1, 5), (1, 5)], 5, 3).is_err(), "a rank twice, another left out");
        assert!(sum(&[(0, 5), (1, 4), (2, 5)], 5, 3).is_err(), "a stale contribution");
    }

    #[test]
    fn a_wrong_element_is_named() {
        let mut tensor = vec![0.0; 100];
        fill(&mut tensor, 0, 9);
        assert_eq!(check(&tensor, 1, 9), Ok(()));
        let right = tensor[70];
        tensor[70] += 1.0;
        tensor[90] += 1.0;
        let expected = format!(
            "2 of 100 elements are wrong in round 9, the first at 70: {} instead of {right}",
            right + 1.0
        );
        assert_eq!(check(&tensor, 1, 9), Err(expected));
        tensor.rotate_left(1);
        assert!(check(&tensor, 1, 9).is_err(), "a shifted tensor");
    }

    #[test]
    fn sums_stay_exact() {
        assert!(check_size(8).is_ok());
        assert!(check_size(100_000).is_err());
        let most = (1..1000).take_while(|size| check_size(*size).is_ok()).last().expect("one rank at least");
        let exact = largest_sum(most) as f32;
        assert_eq!(exact as usize, largest_sum(most));
    }
}
