//! The models, by protocol. Each is a function of the bound on preemptions that returns the executions explored.

pub mod barrier;
pub mod bells;
pub mod blocks;
pub mod board;
pub mod bufs;
pub mod claim;
pub mod doorbell;
pub mod latest;
pub mod local;
pub mod lock;
pub mod map;
pub mod member;
pub mod mpmc;
pub mod muster;
pub mod queue;
pub mod spsc;
pub mod stream;

/// The bound on preemptions: `None` is none.
pub type Bound = Option<usize>;

/// A model and the bounds to run it under.
pub struct Model {
    /// What it shows, for the table.
    pub name: String,
    /// Runs it; returns the number of executions.
    pub run: Box<dyn Fn(Bound) -> u64>,
    /// The bound in the short form.
    pub bound: usize,
    /// The bounds in the long form.
    pub long: Vec<Bound>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("name", &self.name).field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl Model {
    /// A model with its bound in the short form and its bounds in the long one.
    pub fn new(
        name: impl Into<String>,
        bound: usize,
        long: &[Bound],
        run: impl Fn(Bound) -> u64 + 'static,
    ) -> Self {
        Model { name: name.into(), run: Box::new(run), bound, long: long.to_vec() }
    }
}

/// Looks until `ready`, or gives up after `looks` looks and says no.
///
/// Two parties look without end: loom makes the other one move when this one yields. Three that wait for one another
/// in this way can keep the third from moving for ever, so there a party gives up and goes home; the executions in
/// which all find what they look for are among those explored.
pub(crate) fn look(looks: usize, ready: impl Fn() -> bool) -> bool {
    for _ in 1..looks {
        if ready() {
            return true;
        }
        loom::thread::yield_now();
    }
    ready()
}

/// How often a party of a model of `parties` looks.
pub(crate) fn looks(parties: usize) -> usize {
    if parties == 2 { 10_000 } else { 2 }
}

/// Runs all of `models` in the form that the environment asks for and prints what was explored. Panics with the first
/// model that fails, or that explored a single execution only: nothing was concurrent in it.
pub fn run_all(models: &[Model]) {
    let (began, mut total) = (std::time::Instant::now(), 0);
    for m in models {
        let bounds = if crate::full() { m.long.clone() } else { vec![Some(m.bound)] };
        for bound in bounds {
            let start = std::time::Instant::now();
            let executions = (m.run)(bound);
            let shown = bound.map_or_else(|| "none".to_owned(), |b| b.to_string());
            println!(
                "{executions:>9} executions, bound {shown}, {:>6.2} s: {}",
                start.elapsed().as_secs_f64(),
                m.name
            );
            total += executions;
            assert!(executions > 1, "{}: one execution shows nothing", m.name);
        }
    }
    println!("{total:>9} executions of {} models in {:.1} s", models.len(), began.elapsed().as_secs_f64());
}
