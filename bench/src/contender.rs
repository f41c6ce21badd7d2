//! Contenders: groups of processes that sleep until they get an order.
//!
//! In a directory of the run each process has two pipes by name: `order.RANK`, from which it reads lines
//! `BENCH BYTES ITERATIONS`, and `answer.RANK`, to which it answers `NANOSECONDS CHECKSUM`, perhaps with the times at
//! which it began and ended, or `error WHY` before it ends. The first answer, before any order, says that it is ready.
//! At the end of its orders a process ends. Where the ranks are threads there is one process, which is rank 0 and
//! answers for all of them. `flow/serve.rs` has the other side, which the Rust peers share; `peers/mpi_driver.c` has
//! its own.

use std::convert::Infallible;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::flow::serve::{pin, serve};
use crate::work::{Tensors, measure};
use crate::{channel, ring};

/// A turn that takes longer is given up: peers can hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a contender's ranks are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ranks {
    Threads,
    Processes,
}

/// A group of processes that can be measured.
pub(crate) struct Contender {
    /// Its name in the report.
    pub(crate) name: String,
    /// Whether it is this program, not a peer.
    pub(crate) own: bool,
    /// The orders that it knows; all of them where this is not said.
    pub(crate) knows: Option<Vec<String>>,
    orders: Vec<File>,
    answers: Vec<BufReader<File>>,
    children: Vec<Child>,
    directory: PathBuf,
}

/// One turn.
pub(crate) struct Turn {
    /// Nanoseconds an operation, of the slowest rank.
    pub(crate) nanos: f64,
    /// Of each process's result.
    pub(crate) checksums: Vec<u64>,
    /// Nanoseconds from the first one's beginning to the last one's end, if they say when that was.
    pub(crate) span: f64,
}

impl Contender {
    /// `ranks` processes of this program.
    pub(crate) fn own(name: &str, kind: &str, ranks: usize) -> Result<Contender, Box<dyn Error>> {
        Self::own_ranks(name, kind, ranks, Ranks::Processes)
    }

    /// This program: `ranks` processes, or one with as many threads.
    pub(crate) fn own_ranks(
        name: &str,
        kind: &str,
        ranks: usize,
        what: Ranks,
    ) -> Result<Contender, Box<dyn Error>> {
        Self::started(name, true, ranks, what, |rank, meeting| {
            let mut command = Command::new("/proc/self/exe");
            command.args(["--contender", kind, &rank.to_string(), &ranks.to_string()]);
            command.env("SAPWOOD_RANK", rank.to_string()).env("SAPWOOD_SIZE", ranks.to_string());
            command.env("SAPWOOD_LOCAL_RANK", rank.to_string());
            command.env("SAPWOOD_RENDEZVOUS", format!("name:{meeting}"));
            command
        })
    }

    /// The processes of a contender, each by its rank and the last part of the directory's name, which is unique to the
    /// contender; each is given the directory as its last argument.
    pub(crate) fn started(
        name: &str,
        own: bool,
        ranks: usize,
        what: Ranks,
        command: impl Fn(usize, &str) -> Command,
    ) -> Result<Contender, Box<dyn Error>> {
        let processes = if what == Ranks::Threads { 1 } else { ranks };
        let mut all = Self::prepare(name, own, ranks, processes)?;
        let meeting = all.directory.file_name().ok_or("no name")?.to_string_lossy().into_owned();
        for rank in 0..processes {
            let mut command = command(rank, &meeting);
            all.children.push(command.arg(&all.directory).stdin(Stdio::null()).spawn()?);
        }
        all.connect()
    }

    /// The ranks of a launcher, which is given the directory as its last argument.
    pub(crate) fn launched(
        name: &str,
        launcher: &mut Command,
        ranks: usize,
    ) -> Result<Contender, Box<dyn Error>> {
        let mut all = Self::prepare(name, false, ranks, ranks)?;
        launcher.arg(&all.directory).stdin(Stdio::null()).stdout(Stdio::null());
        all.children.push(launcher.spawn()?);
        all.connect()
    }

    /// Names the orders that it knows.
    pub(crate) fn knowing(mut self, orders: &[impl AsRef<str>]) -> Contender {
        self.knows = Some(orders.iter().map(|order| order.as_ref().to_owned()).collect());
        self
    }

    /// Whether it can be given this order.
    pub(crate) fn knows(&self, order: &str) -> bool {
        self.knows.as_ref().is_none_or(|orders| orders.iter().any(|known| known == order))
    }

    fn prepare(name: &str, own: bool, ranks: usize, processes: usize) -> Result<Contender, Box<dyn Error>> {
        let directory =
            std::env::temp_dir().join(format!("sapwood-bench-{}-{name}-{ranks}", std::process::id()));
        std::fs::create_dir(&directory)?;
        let mut all = Contender {
            name: name.to_owned(),
            own,
            knows: None,
            orders: Vec::new(),
            answers: Vec::new(),
            children: Vec::new(),
            directory,
        };
        for rank in 0..processes {
            let open = |what: &str| -> Result<File, Box<dyn Error>> {
                let path = all.directory.join(format!("{what}.{rank}"));
                mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
                // For reading and writing, so that nothing blocks if the rank never comes.
                let mut options = OpenOptions::new();
                Ok(options.read(true).write(true).custom_flags(OFlag::O_CLOEXEC.bits()).open(path)?)
            };
            let (order, answer) = (open("order")?, open("answer")?);
            all.orders.push(order);
            all.answers.push(BufReader::new(answer));
        }
        Ok(all)
    }

    fn connect(mut self) -> Result<Contender, Box<dyn Error>> {
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

    /// Hears every process, in whatever order they answer: where one has failed, the others may wait for it for ever.
    fn hear(&mut self) -> Result<Turn, Box<dyn Error>> {
        let (began, count) = (Instant::now(), self.answers.len());
        let mut said: Vec<Option<Answer>> = vec![None; count];
        while said.contains(&None) {
            // Looked for before the answers are: whoever ends has said why.
            let gone = self.children.iter_mut().any(|c| matches!(c.try_wait(), Ok(Some(_))));
            let waiting: Vec<usize> = (0..count).filter(|&i| said[i].is_none()).collect();
            let mut fds: Vec<PollFd<'_>> = waiting
                .iter()
                .map(|&i| PollFd::new(self.answers[i].get_ref().as_fd(), PollFlags::POLLIN))
                .collect();
            poll(&mut fds, 200u16)?;
            let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
            let heard: Vec<usize> =
                waiting.iter().zip(&fds).filter(|(_, fd)| ready(fd)).map(|(&i, _)| i).collect();
            for &i in &heard {
                let mut line = String::new();
                self.answers[i].read_line(&mut line)?;
                said[i] = Some(Answer::parse(line.trim())?);
            }
            if heard.is_empty() && gone {
                return Err(format!("{} has ended", self.name).into());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{} did not answer within {PATIENCE:?}", self.name).into());
            }
        }
        let said: Vec<Answer> = said.into_iter().flatten().collect();
        let from = said.iter().map(|a| a.from).min().unwrap_or_default();
        let until = said.iter().map(|a| a.until).max().unwrap_or_default();
        Ok(Turn {
            nanos: said.iter().fold(0.0, |most, a| a.nanos.max(most)),
            checksums: said.iter().map(|a| a.checksum).collect(),
            span: until.saturating_sub(from) as f64,
        })
    }
}

/// What a process says of a turn.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Answer {
    nanos: f64,
    checksum: u64,
    from: u64,
    until: u64,
}

impl Answer {
    fn parse(line: &str) -> Result<Answer, Box<dyn Error>> {
        if let Some(why) = line.strip_prefix("error ") {
            return Err(why.into());
        }
        let mut fields = line.split(' ');
        let mut field = || fields.next().ok_or("half an answer");
        let (nanos, checksum) = (field()?.parse()?, field()?.parse()?);
        let (from, until) = (field().unwrap_or("0").parse()?, field().unwrap_or("0").parse()?);
        Ok(Answer { nanos, checksum, from, until })
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

/// One rank of a contender of this program: takes orders until there are no more.
pub(crate) fn serve_own(
    kind: &str,
    rank: usize,
    ranks: usize,
    directory: &Path,
) -> Result<(), Box<dyn Error>> {
    match kind {
        "rings" | "rings-local" | "rings-floor" => serve(
            directory,
            rank,
            || ring::Threads::new(kind),
            |threads, bench, bytes, n| threads.obey(bench, bytes, n),
        ),
        "lanes" | "lanes-floor" => {
            pin(rank)?;
            serve(
                directory,
                rank,
                || ring::Process::join(kind, rank, ranks),
                |process, bench, bytes, n| process.obey(bench, bytes, n),
            )
        }
        "channels" => serve(
            directory,
            rank,
            || Ok::<_, Infallible>(channel::Threads(ranks)),
            |threads, bench, _, n| threads.obey(bench, n),
        ),
        "channels-processes" => {
            pin(rank)?;
            serve(
                directory,
                rank,
                || channel::Process::join(rank, ranks),
                |process, bench, _, n| process.obey(bench, n),
            )
        }
        _ => {
            pin(rank)?;
            serve(directory, rank, || Tensors::join(kind, rank, ranks), measure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_two_or_four_figures_or_a_reason() {
        let short = Answer { nanos: 12.5, checksum: 7, from: 0, until: 0 };
        assert_eq!(Answer::parse("12.5 7").expect("an answer"), short);
        assert_eq!(Answer::parse("12.5 7 3 9").expect("one"), Answer { from: 3, until: 9, ..short });
        assert_eq!(Answer::parse("error it is broken").expect_err("a reason").to_string(), "it is broken");
        assert!(Answer::parse("12.5").is_err() && Answer::parse("x 7").is_err());
    }
}
