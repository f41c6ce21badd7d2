//! Contenders: groups of processes that sleep until they get an order.
//!
//! In a directory of the run each rank has two pipes by name: `order.RANK`, from which it reads lines
//! `BENCH BYTES ITERATIONS`, and `answer.RANK`, to which it answers `NANOSECONDS CHECKSUM`. The first answer, before
//! any order, says that it is ready. At the end of its orders a rank ends.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::work::{Tensors, measure};

/// A turn that takes longer is given up: peers can hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A group of processes that can be measured.
pub(crate) struct Contender {
    /// Its name in the report.
    pub(crate) name: String,
    /// Whether it is this program, not a peer.
    pub(crate) own: bool,
    orders: Vec<File>,
    answers: Vec<BufReader<File>>,
    children: Vec<Child>,
    directory: PathBuf,
}

/// One turn.
pub(crate) struct Turn {
    /// Nanoseconds an operation, of the slowest rank.
    pub(crate) nanos: f64,
    /// Of each rank's result.
    pub(crate) checksums: Vec<u64>,
}

impl Contender {
    /// `ranks` processes of this program.
    pub(crate) fn own(name: &str, kind: &str, ranks: usize) -> Result<Contender, Box<dyn Error>> {
        let mut all = Self::prepare(name, true, ranks)?;
        let meeting = all.directory.file_name().ok_or("no name")?.to_string_lossy().into_owned();
        for rank in 0..ranks {
            let mut command = Command::new("/proc/self/exe");
            command.args(["--contender", kind, &rank.to_string(), &ranks.to_string()]).arg(&all.directory);
            command.env("SAPWOOD_RANK", rank.to_string()).env("SAPWOOD_SIZE", ranks.to_string());
            command.env("SAPWOOD_LOCAL_RANK", rank.to_string());
            command.env("SAPWOOD_RENDEZVOUS", format!("name:{meeting}"));
            all.children.push(command.stdin(Stdio::null()).spawn()?);
        }
        all.connect(ranks)
    }

    /// The ranks of a launcher, which is given the directory as its last argument.
    pub(crate) fn launched(
        name: &str,
        launcher: &mut Command,
        ranks: usize,
    ) -> Result<Contender, Box<dyn Error>> {
        let mut all = Self::prepare(name, false, ranks)?;
        launcher.arg(&all.directory).stdin(Stdio::null()).stdout(Stdio::null());
        all.children.push(launcher.spawn()?);
        all.connect(ranks)
    }

    fn prepare(name: &str, own: bool, ranks: usize) -> Result<Contender, Box<dyn Error>> {
        let directory =
            std::env::temp_dir().join(format!("sapwood-bench-{}-{name}-{ranks}", std::process::id()));
        std::fs::create_dir(&directory)?;
        let all = Contender {
            name: name.to_owned(),
            own,
            orders: Vec::new(),
            answers: Vec::new(),
            children: Vec::new(),
            directory,
        };
        for rank in 0..ranks {
            for what in ["order", "answer"] {
                mkfifo(&all.directory.join(format!("{what}.{rank}")), Mode::S_IRUSR | Mode::S_IWUSR)?;
            }
        }
        Ok(all)
    }

    fn connect(mut self, ranks: usize) -> Result<Contender, Box<dyn Error>> {
        for rank in 0..ranks {
            // Open for reading and writing, so that nothing blocks if the rank never comes.
            let open = |what: &str| {
                let path = self.directory.join(format!("{what}.{rank}"));
                OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_CLOEXEC.bits()).open(path)
            };
            let (order, answer) = (open("order")?, open("answer")?);
            self.orders.push(order);
            self.answers.push(BufReader::new(answer));
        }
        self.hear()?;
        Ok(self)
    }

    /// Gives an order and hears the answers.
    pub(crate) fn turn(
        &mut self,
        bench: &str,
        bytes: usize,
        iterations: u64,
    ) -> Result<Turn, Box<dyn Error>> {
        for order in &mut self.orders {
            writeln!(order, "{bench} {bytes} {iterations}")?;
        }
        self.hear()
    }

    fn hear(&mut self) -> Result<Turn, Box<dyn Error>> {
        let began = Instant::now();
        let mut turn = Turn { nanos: 0.0, checksums: Vec::new() };
        for answer in &mut self.answers {
            let mut fds = [nix::poll::PollFd::new(
                std::os::fd::AsFd::as_fd(answer.get_ref()),
                nix::poll::PollFlags::POLLIN,
            )];
            let mut heard = !answer.buffer().is_empty();
            while !heard && began.elapsed() < PATIENCE {
                heard = nix::poll::poll(&mut fds, 200u16)? > 0;
                let gone = self.children.iter_mut().any(|c| matches!(c.try_wait(), Ok(Some(_))));
                if !heard && gone {
                    return Err(format!("{} has ended", self.name).into());
                }
            }
            if !heard {
                return Err(format!("{} did not answer within {PATIENCE:?}", self.name).into());
            }
            let mut line = String::new();
            answer.read_line(&mut line)?;
            let (nanos, checksum) = line.trim().split_once(' ').ok_or("half an answer")?;
            turn.nanos = turn.nanos.max(nanos.parse()?);
            turn.checksums.push(checksum.parse()?);
        }
        Ok(turn)
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        self.orders.clear(); // the end of a rank's orders
        self.answers.clear();
        for child in &mut self.children {
            let began = Instant::now();
            while matches!(child.try_wait(), Ok(None)) && began.elapsed() < Duration::from_secs(5) {
                std::thread::yield_now();
            }
            // Fails only for a child that has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Ties this thread to the CPU of a rank.
pub(crate) fn pin(rank: usize) -> Result<(), nix::Error> {
    let mut set = CpuSet::new();
    set.set(rank % std::thread::available_parallelism().map_or(1, usize::from))?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// One rank of a contender of this program: takes orders until there are no more.
pub(crate) fn serve(kind: &str, rank: usize, ranks: usize, directory: &Path) -> Result<(), Box<dyn Error>> {
    pin(rank)?;
    let orders = BufReader::new(File::open(directory.join(format!("order.{rank}")))?);
    let mut answers = OpenOptions::new().write(true).open(directory.join(format!("answer.{rank}")))?;
    let mut tensors = Tensors::join(kind, rank, ranks)?;
    writeln!(answers, "0 0")?;
    for order in orders.lines() {
        let order = order?;
        let mut fields = order.split(' ');
        let mut field = || fields.next().ok_or("half an order");
        let (bench, bytes, iterations) = (field()?, field()?.parse()?, field()?.parse()?);
        let (nanos, checksum) = measure(&mut tensors, bench, bytes, iterations)?;
        writeln!(answers, "{nanos:.1} {checksum}")?;
    }
    Ok(())
}
