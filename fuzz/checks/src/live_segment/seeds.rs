//! Seeds: for each object a life in which its handles do what they can, with a few words overwritten.

use super::OBJECTS;
use crate::input::Random;
use crate::seeds::Named;

/// Steps of a seed.
const STEPS: usize = 24;

pub(crate) fn seeds() -> Vec<Named> {
    let mut all = Vec::new();
    for (i, (name, _)) in OBJECTS.iter().enumerate() {
        for (kind, rarely) in [("calm", 12), ("wild", 3)] {
            all.push((format!("{name}_{kind}"), life(i as u8, rarely)));
        }
    }
    all
}

/// Calls, and after every `rarely` of them a word that is put back as it was before, or gets one more or less.
fn life(object: u8, rarely: usize) -> Vec<u8> {
    let mut random = Random::new(u64::from(object));
    let mut data = vec![object];
    for i in 1..=STEPS {
        let handle = (i % 3) as u8 * 16;
        data.extend([handle | 3, random.u64() as u8, 0, random.below(100) as u8]);
        if i % rarely == 0 {
            // One that somebody has written to, of the seats or of the body.
            data.extend([0, 4 | random.below(2) as u8, random.u64() as u8, 1 + random.below(9) as u8, 0]);
        }
        if i % 8 == 0 {
            data.extend([handle | 2, 0]);
        }
    }
    data
}
