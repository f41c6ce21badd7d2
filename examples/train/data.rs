//! The digits: parsing, the fixed split into training and held-out rows, and who works on which rows when.

use core::ops::Range;

use crate::random::Random;

/// Pixels of one image (8×8).
pub(crate) const PIXELS: usize = 64;
/// Digits 0..=9.
pub(crate) const CLASSES: usize = 10;
/// The brightest pixel in the file.
const BRIGHTEST: u8 = 16;
/// Rows kept out of training.
const HELD_OUT: usize = 360;
/// The split is the same in every run.
const SPLIT_SEED: u64 = 1998;

/// The file itself, so that the example runs from any folder.
const FILE: &str = include_str!("../data/digits.csv");

/// One labelled image.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Brightness, `0.0..=1.0`.
    pub(crate) pixels: [f32; PIXELS],
    /// The digit, below [`CLASSES`].
    pub(crate) label: usize,
}

/// Shuffled once with a fixed seed, then cut in two.
#[derive(Debug)]
pub(crate) struct Digits {
    pub(crate) training: Vec<Row>,
    pub(crate) held_out: Vec<Row>,
}

impl Digits {
    /// The digits that came with the repository.
    ///
    /// # Errors
    /// A line that is not 64 pixels and a label in range is named, with what is wrong with it.
    pub(crate) fn load() -> Result<Digits, String> {
        let mut training = parse(FILE)?;
        Random::new(SPLIT_SEED).shuffle(&mut training);
        let held_out = training.split_off(training.len() - HELD_OUT);
        Ok(Digits { training, held_out })
    }

    /// The order in which `epoch` visits the training rows; the same on every rank.
    pub(crate) fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.training.len()).collect();
        Random::new(SPLIT_SEED + 1 + epoch as u64).shuffle(&mut order);
        order
    }
}

/// The part of `0..len` that belongs to `rank` of `size`: contiguous, disjoint, together everything.
pub(crate) fn shard(len: usize, rank: usize, size: usize) -> Range<usize> {
    len * rank / size..len * (rank + 1) / size
}

fn parse(text: &str) -> Result<Vec<Row>, String> {
    text.lines()
        .enumerate()
        .map(|(at, line)| row(line).map_err(|problem| format!("digits.csv line {}: {problem}", at + 1)))
        .collect()
}

fn row(line: &str) -> Result<Row, String> {
    let mut pixels = [0.0; PIXELS];
    let mut fields = line.split(',');
    for (at, pixel) in pixels.iter_mut().enumerate() {
        let value = number(fields.next(), BRIGHTEST).map_err(|problem| format!("pixel {at}: {problem}"))?;
        *pixel = f32::from(value) / f32::from(BRIGHTEST);
    }
    let label = number(fields.next(), CLASSES as u8 - 1).map_err(|problem| format!("label: {problem}"))?;
    match fields.next() {
        Some(extra) => Err(format!("`{extra}` follows the label")),
        None => Ok(Row { pixels, label: usize::from(label) }),
    }
}

fn number(field: Option<&str>, largest: u8) -> Result<u8, String> {
    let field = field.ok_or("missing")?;
    match field.parse() {
        Ok(value) if value <= largest => Ok(value),
        _ => Err(format!("`{field}` is not an integer in 0..={largest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_whole() {
        let rows = parse(FILE).expect("the committed file parses");
        assert_eq!(rows.len(), 1797);
        assert!(rows.iter().flat_map(|row| row.pixels).all(|pixel| (0.0..=1.0).contains(&pixel)));
        assert!(rows.iter().flat_map(|row| row.pixels).any(|pixel| pixel == 1.0));
        // Near-equal classes: a shifted column would not look like this.
        for class in 0..CLASSES {
            let count = rows.iter().filter(|row| row.label == class).count();
            assert!((174..=183).contains(&count), "{count} rows of {class}");
        }
    }

    #[test]
    fn the_split_keeps_every_row_once() {
        let digits = Digits::load().expect("the committed file parses");
        assert_eq!((digits.training.len(), digits.held_out.len()), (1437, 360));
        let mut order = digits.order(3);
        assert_ne!(order, digits.order(4));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1437));
    }

    #[test]
    fn shards_cover_everything_once() {
        for len in [0, 1, 7, 29, 64] {
            for size in 1..=9 {
                let joined: Vec<usize> = (0..size).flat_map(|rank| shard(len, rank, size)).collect();
                assert!(joined.into_iter().eq(0..len), "{len} rows over {size} ranks");
            }
        }
    }

    #[test]
    fn bad_lines_are_named() {
        let good = [["16"; PIXELS].as_slice(), ["9"].as_slice()].concat().join(",");
        assert!(row(&good).is_ok());
        let problem = |line: &str| parse(line).expect_err(line);
        assert_eq!(problem("3,17"), "digits.csv line 1: pixel 1: `17` is not an integer in 0..=16");
        assert_eq!(problem("3,-1"), "digits.csv line 1: pixel 1: `-1` is not an integer in 0..=16");
        assert_eq!(problem("3"), "digits.csv line 1: pixel 1: missing");
        assert_eq!(
            problem(&good.replace(",9", ",10")),
            "digits.csv line 1: label: `10` is not an integer in 0..=9"
        );
        assert_eq!(problem(&format!("{good},1")), "digits.csv line 1: `1` follows the label");
        assert_eq!(
            problem(&format!("{good}\n\n{good}")),
            "digits.csv line 2: pixel 0: `` is not an integer in 0..=16"
        );
    }
}
