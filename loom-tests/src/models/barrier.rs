//! The barrier: what was written before it is visible behind it, and nobody passes early.

use std::sync::Arc;

use loom::thread;
use sapwood_core::barrier::{Arrivals, Barrier};
use sapwood_core::mem::{Atom, Mem};

use super::{Bound, Model, look, looks};
use crate::explore;
use crate::family::Loom;
use crate::guarded::Guarded;

struct Hall {
    words: Vec<<Loom as Mem>::U64>,
    /// By participant and parity of the generation: a cell is written again two generations later, when the barrier
    /// between has shown that everybody has read it.
    said: Vec<[Guarded<u64>; 2]>,
}

struct Words<'a>(&'a Hall);

impl Arrivals<Loom> for Words<'_> {
    fn arrival(&self, rank: usize) -> &<Loom as Mem>::U64 {
        &self.0.words[rank]
    }
}

fn participate(hall: &Hall, me: usize, start: u64, generations: u64) {
    let mut barrier = Barrier::<Loom>::new(start);
    for i in 1..=generations {
        let (g, others) = (start.wrapping_add(i), (0..hall.words.len()).filter(|q| *q != me));
        let cell = (g & 1) as usize;
        hall.said[me][cell].set(g);
        barrier.arrive(&Words(hall), me);
        for q in others.clone() {
            if !look(looks(hall.words.len()), || barrier.arrived(&Words(hall), q)) {
                return;
            }
        }
        for q in others {
            assert_eq!(hall.said[q][cell].get(), g, "{me} passed before {q} came");
        }
    }
}

/// `ranks` participants pass `generations` times, from generation `start`.
pub fn pass(ranks: usize, start: u64, generations: u64, bound: Bound) -> u64 {
    explore(bound, move || {
        let hall = Arc::new(Hall {
            words: (0..ranks).map(|_| Atom::new(start)).collect(),
            said: (0..ranks).map(|_| [Guarded::new(0), Guarded::new(0)]).collect(),
        });
        let others: Vec<_> = (1..ranks)
            .map(|r| (r, hall.clone()))
            .map(|(r, h)| thread::spawn(move || participate(&h, r, start, generations)))
            .collect();
        participate(&hall, 0, start, generations);
        others.into_iter().for_each(|t| t.join().expect("it passed"));
    })
}

/// All models of the barrier.
pub fn all() -> Vec<Model> {
    vec![
        Model::new("two participants, 2 generations, across the wrap", 3, &[Some(4), None], |b| {
            pass(2, u64::MAX, 2, b)
        }),
        Model::new("two participants, 4 generations, from 0", 3, &[Some(4)], |b| pass(2, 0, 4, b)),
        Model::new("two participants, 4 generations, across the wrap", 3, &[Some(4)], |b| {
            pass(2, u64::MAX - 1, 4, b)
        }),
        Model::new("three participants, 2 generations, across the wrap", 1, &[Some(2)], |b| {
            pass(3, u64::MAX, 2, b)
        }),
    ]
}
