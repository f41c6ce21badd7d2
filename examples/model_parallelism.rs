//! A model whose layers are split over threads: each has some of the layers, and activations pass from one to the next,
//! so that several inputs are under way at a time. Timed against one thread; the outputs are the same, to the bit.
//!
//! ```text
//! $ cargo run --release --example model_parallelism
//! 16 layers of 256 x 256, 4000 inputs
//! one thread: 0.96 s
//! 2 stages:   0.88 s, 1.10 times as fast; the outputs are the same
//! ```
//! (Seen beside other work on two CPUs. A second stage helps as far as it has a core of its own.)
//!
//! Between stages lie rings of one producer and one consumer: bounded, so that a slow stage holds up those before it.
use std::error::Error;
use std::sync::Mutex;
use std::time::Instant;

use sapwood::ring::{PopError, PushError, spsc};
use sapwood::workers;

const LAYERS: usize = 16;
const WIDTH: usize = 256;
/// Activations that may wait between two stages.
const DEPTH: usize = 16;

type Activation = [f32; WIDTH];

/// Weights by input, then by output.
struct Layer(Vec<Activation>);

impl Layer {
    fn new(seed: usize) -> Layer {
        // Small numbers that differ, the same in every run.
        let weight = |i: usize| ((i * 2_654_435_761 + seed * 40_503) % 2_003) as f32 / 2_003.0 - 0.5;
        Layer((0..WIDTH).map(|i| std::array::from_fn(|o| weight(i * WIDTH + o) / 8.0)).collect())
    }

    fn forward(&self, x: &Activation) -> Activation {
        let mut y = [0.0; WIDTH];
        for (x, weights) in x.iter().zip(&self.0) {
            for (y, weight) in y.iter_mut().zip(weights) {
                *y += x * weight;
            }
        }
        y.map(|y| y.max(0.0) + 0.01)
    }
}

fn input(i: usize) -> Activation {
    std::array::from_fn(|k| ((i * 31 + k) % 101) as f32 / 101.0)
}

fn through(layers: &[Layer], x: Activation) -> Activation {
    layers.iter().fold(x, |x, layer| layer.forward(&x))
}

/// Sums that differ wherever one bit of an output does, nearly.
fn digest(digest: u64, y: &Activation) -> u64 {
    y.iter().fold(digest, |digest, y| (digest ^ u64::from(y.to_bits())).wrapping_mul(0x100_0000_01b3))
}

fn push(tx: &mut spsc::Producer<Activation>, x: Activation) -> Result<(), String> {
    loop {
        match tx.try_push(x) {
            Ok(()) => return Ok(()),
            Err(PushError::Full(_)) => std::thread::yield_now(),
            Err(e) => return Err(e.map(|_| ()).to_string()),
        }
    }
}

/// `None`: all have come.
fn pop(rx: &mut spsc::Consumer<Activation>) -> Result<Option<Activation>, String> {
    loop {
        match rx.try_pop() {
            Ok(x) => return Ok(Some(x)),
            Err(PopError::Drained) => return Ok(None),
            Err(PopError::Empty) => std::thread::yield_now(),
            Err(e) => return Err(e.to_string()),
        }
    }
}

/// What a stage holds: where activations come from (the first one makes the inputs), its layers, and where they go (the
/// last one makes the digest of the outputs). Dropping it closes both ends.
struct Stage {
    from: Option<spsc::Consumer<Activation>>,
    layers: Vec<Layer>,
    to: Option<spsc::Producer<Activation>>,
}

impl Stage {
    /// How many activations went through, and the digest of those that went no further.
    fn run(mut self, inputs: usize) -> Result<(usize, u64), String> {
        let (mut count, mut sum) = (0, 0);
        loop {
            let x = match &mut self.from {
                Some(rx) => pop(rx)?,
                None => (count < inputs).then(|| input(count)),
            };
            let Some(x) = x else { return Ok((count, sum)) };
            let y = through(&self.layers, x);
            match &mut self.to {
                Some(tx) => push(tx, y)?,
                None => sum = digest(sum, &y),
            }
            count += 1;
        }
    }
}

/// All inputs through `stages` threads; a digest of the outputs, in order.
fn pipelined(stages: usize, inputs: usize) -> Result<u64, Box<dyn Error>> {
    let (mut held, mut from) = (Vec::new(), None);
    for stage in 0..stages {
        let layers = (stage * LAYERS / stages..(stage + 1) * LAYERS / stages).map(Layer::new).collect();
        let (to, next) = if stage + 1 < stages { Some(spsc::pair(DEPTH)?) } else { None }.unzip();
        held.push(Mutex::new(Some(Stage { from, layers, to })));
        from = next;
    }
    let running = workers(stages, move |rank| {
        let stage = held[rank].lock().map_err(|e| e.to_string())?.take();
        stage.ok_or("each has its own stage")?.run(inputs)
    })?;
    let ends = running.join()?;
    assert!(ends.iter().all(|(count, _)| *count == inputs), "{ends:?}");
    Ok(ends[stages - 1].1)
}

fn main() -> Result<(), Box<dyn Error>> {
    let inputs = std::env::args().nth(1).map_or(Ok(4_000), |n| n.parse())?;
    let stages = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, LAYERS);
    println!("{LAYERS} layers of {WIDTH} x {WIDTH}, {inputs} inputs");

    let layers: Vec<Layer> = (0..LAYERS).map(Layer::new).collect();
    let began = Instant::now();
    let alone = (0..inputs).fold(0, |sum, i| digest(sum, &through(&layers, input(i))));
    let one = began.elapsed().as_secs_f64();
    println!("one thread: {one:.2} s");

    let began = Instant::now();
    let together = pipelined(stages, inputs)?;
    let many = began.elapsed().as_secs_f64();
    assert_eq!(alone, together, "the outputs differ");
    println!("{stages} stages:   {many:.2} s, {:.2} times as fast; the outputs are the same", one / many);
    Ok(())
}
