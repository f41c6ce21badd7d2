//! The floor of this machine: a cache line's way, copying, adding, waking.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use super::Effort;
use crate::contender::Contender;
use crate::flow::serve::pin;
use crate::report::Row;

/// Bytes of the copy and add rows: in the second-level cache, and in memory.
const SIZES: [usize; 2] = [256 << 10, 64 << 20];

pub(super) fn run(effort: &Effort, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let mut put = |bench: &str, size: usize, ranks: usize, unit: &'static str, values: &[f64]| {
        rows.push(if values.is_empty() {
            Row::error(bench, "floor", size, ranks, "nothing could be measured".into())
        } else {
            Row::measured(bench, "floor", size, ranks, unit, values, &[])
        });
    };
    let mut pair = Contender::own("floor", "floor", 2)?;
    let times = |pair: &mut Contender, bench: &str| -> Result<Vec<f64>, Box<dyn Error>> {
        let iterations = (effort.turn / 500.0) as u64;
        (0..effort.turns).map(|_| Ok(pair.turn(bench, 0, iterations)?.nanos)).collect()
    };
    let there_and_back = times(&mut pair, "pingpong")?;
    put("floor.pingpong", 64, 2, "ns", &there_and_back.iter().map(|t| t / 2.0).collect::<Vec<_>>());
    drop(pair);
    for cores in [1, 2] {
        for size in SIZES {
            put("floor.copy", size, cores, "B/s", &rates(effort, cores, size, |a, b| a.copy_from_slice(b)));
            let add = |a: &mut [f32], b: &[f32]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            put("floor.add", size, cores, "B/s", &rates(effort, cores, size, add));
        }
    }
    let wakes: Vec<f64> = (0..effort.turns).filter_map(|_| Some(sapwood_shm::wake_price()? as f64)).collect();
    put("floor.wake", 0, 2, "ns", &wakes);
    Ok(())
}

/// Bytes of `a` a second, all cores together, a pinned thread on each.
fn rates(effort: &Effort, cores: usize, size: usize, f: fn(&mut [f32], &[f32])) -> Vec<f64> {
    let one = |core: usize| {
        pin(core).expect("a CPU for each thread");
        let (mut a, b) = (vec![1.0f32; size / 4], vec![1.0f32; size / 4]);
        f(&mut a, &b);
        let (start, mut rounds) = (Instant::now(), 0);
        while (start.elapsed().as_nanos() as f64) < effort.turn {
            f(black_box(&mut a), black_box(&b));
            rounds += 1;
        }
        (size * rounds) as f64 / start.elapsed().as_secs_f64()
    };
    let turn = || {
        std::thread::scope(|s| {
            let threads: Vec<_> = (0..cores).map(|core| s.spawn(move || one(core))).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).sum()
        })
    };
    (0..effort.turns).map(|_| turn()).collect()
}
