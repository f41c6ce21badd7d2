//! A model whose layers are split over threads: each has some of the layers, and activations pass from one to the next,
//! so that several inputs are under way at a time. Timed against one thread; the outputs are the same, to the bit.
//!
//! ```text
//! $ cargo run --release --example model_parallelism
//! 16 layers of 256 x 256, 4000 inputs
//! one thread: 6.50 s
//! 2 stages:   3.41 s, 1.91 times as fast; the outputs are the same
//! ```
//! Between stages lie rings of one producer and one consumer: bounded, so that a slow stage holds up those before it.
use std::error::Error;
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

/// What a stage holds: where activations come from, its layers, and where they go. Dropping it closes both ends.
struct Stage(spsc::Consumer<Activation>, Vec<Layer>, spsc::Producer<Activation>);

impl Stage {
    fn run(mut self) -> Result<usize, String> {
        let mut count = 0;
        while let Some(x) = pop(&mut self.0)? {
            push(&mut self.2, through(&self.1, x))?;
            count += 1;
        }
        Ok(count)
    }
}

/// All inputs through `stages` threads; a digest of the outputs, in order.
fn pipelined(stages: usize, inputs: usize) -> Result<u64, Box<dyn Error>> {
    let (mut first, mut rx) = spsc::pair(DEPTH)?;
    let mut held = Vec::new();
    for stage in 0..stages {
        let layers = (stage * LAYERS / stages..(stage + 1) * LAYERS / stages).map(Layer::new).collect();
        let (tx, next) = spsc::pair(DEPTH)?;
        held.push(std::sync::Mutex::new(Some(Stage(rx, layers, tx))));
        rx = next;
    }
    let running = workers(stages, move |rank| {
        let stage = held[rank].lock().map_err(|e| e.to_string())?.take();
        stage.ok_or("each has its own stage")?.run()
    })?;
    // Feeds and collects by turns, so that neither end ever fills up for good.
    let (mut fed, mut sum, mut outputs) = (0, 0, 0);
    while outputs < inputs {
        while fed < inputs && first.try_push(input(fed)).is_ok() {
            fed += 1;
        }
        match rx.try_pop() {
            Ok(y) => (sum, outputs) = (digest(sum, &y), outputs + 1),
            Err(PopError::Empty) => std::thread::yield_now(),
            Err(e) => return Err(e.into()),
        }
    }
    drop(first);
    let counts = running.join()?;
    assert!(counts.iter().all(|count| *count == inputs), "{counts:?}");
    Ok(sum)
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
