//! Making a tree: where its ranks meet, how long they wait for each other, and how.

use std::time::Duration;

use sapwood_core::member::{Fault, Patience};
use sapwood_core::wait::WaitPolicy;
use sapwood_shm::{Group, Rank, Rendezvous, cpu_quota, prices};

use crate::error::Error;
use crate::tree::Tree;

/// How long a call waits for other ranks before it gives up, unless the builder says otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(300);

/// Ranks of one host's tree, at most: rank numbers have 16 bits in a call's fingerprint.
pub const MAX_RANKS: usize = 1 << 12;

/// Settings of a tree that is to be made.
///
/// ```
/// use std::time::Duration;
/// use sapwood_tree::{Tree, WaitPolicy};
///
/// let builder = Tree::builder().deadline(Duration::from_secs(20)).wait(WaitPolicy::Sleep);
/// let tree = builder.local(0, 1, "builder-example")?;
/// assert_eq!(tree.size(), 1);
/// # Ok::<(), sapwood_tree::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Builder {
    deadline: Duration,
    join_deadline: Option<Duration>,
    wait: WaitPolicy,
}

/// Ways to a tree.
impl Tree {
    /// Settings for a tree that is to be made.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Joins the tree of the ranks that [`processes`](sapwood_shm::processes) or a launcher started. Returns when all
    /// have come.
    ///
    /// # Errors
    /// [`Error::MissingRanks`] at the deadline, [`Error::PeerDied`] if a rank dies meanwhile, [`Error::Memory`] if
    /// the shared memory can't be had, is of another layout (other size, other version), or the rank is taken.
    pub fn join(rank: &Rank) -> Result<Tree, Error> {
        Tree::builder().join(rank)
    }

    /// Joins the tree called `name`: for processes of one user on one host that nobody has started together. `rank`
    /// counts from 0; all ranks name the same `size`. The name is free again once all have joined.
    ///
    /// # Errors
    /// As for [`join`](Self::join), and for a name that no file can have.
    pub fn local(rank: usize, size: usize, name: &str) -> Result<Tree, Error> {
        Tree::builder().local(rank, size, name)
    }

    /// The tree that a launcher's variables describe; `None` if there are none.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `SAPWOOD_RANK` | this rank, from 0 |
    /// | `SAPWOOD_SIZE` | number of ranks |
    /// | `SAPWOOD_LOCAL_RANK` | this rank among those of its host |
    /// | `SAPWOOD_RENDEZVOUS` | where they meet: `name:NAME`, as in [`local`](Self::local), or `fd:N`, inherited |
    ///
    /// # Errors
    /// [`Error::Environment`] names the variable that is missing or makes no sense; else as for [`join`](Self::join).
    pub fn from_env() -> Result<Option<Tree>, Error> {
        Rank::from_env()?.map(|rank| Tree::join(&rank)).transpose()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Builder { deadline: DEFAULT_DEADLINE, join_deadline: None, wait: WaitPolicy::Adaptive }
    }
}

impl Builder {
    /// How long each call waits for other ranks (default [`DEFAULT_DEADLINE`], 300 s).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long to wait until all ranks have come (default: as long as a call).
    pub fn join_deadline(mut self, deadline: Duration) -> Self {
        self.join_deadline = Some(deadline);
        self
    }

    /// How to wait (default [`WaitPolicy::Adaptive`]). The variable `SAPWOOD_WAIT` (`adaptive`, `spin` or `sleep`)
    /// overrides it.
    pub fn wait(mut self, policy: WaitPolicy) -> Self {
        self.wait = policy;
        self
    }

    /// Joins the tree of the ranks that [`processes`](sapwood_shm::processes) or a launcher started.
    ///
    /// # Errors
    /// See [`Tree::join`].
    pub fn join(self, rank: &Rank) -> Result<Tree, Error> {
        let rendezvous = rank.rendezvous()?;
        self.meet(rendezvous, rank.rank(), rank.size())
    }

    /// Joins the tree called `name` of this user on this host.
    ///
    /// # Errors
    /// See [`Tree::local`].
    pub fn local(self, rank: usize, size: usize, name: &str) -> Result<Tree, Error> {
        self.meet(Rendezvous::Name(name.to_owned()), rank, size)
    }

    fn meet(self, rendezvous: Rendezvous, rank: usize, size: usize) -> Result<Tree, Error> {
        if !(1..=MAX_RANKS).contains(&size) {
            return Err(Error::BadSize { size });
        }
        if rank >= size {
            return Err(Error::NoSuchRank { rank, size });
        }
        let policy = policy(self.wait)?;
        let join_deadline = self.join_deadline.unwrap_or(self.deadline);
        let group = Group::enter(rendezvous, rank, size, join_deadline)?;
        // Nobody spins while ranks are still being started: they may need this CPU.
        let patience = Patience { policy, prices: prices(), crowded: true, deadline: nanos(join_deadline) };
        let mut member = group.member(patience);
        if let Err(fault) = member.join() {
            let missing: Vec<usize> = member.absent().collect();
            // Whoever comes later must not find half a tree under this name.
            let _ = member.region().forget_name();
            return Err(match fault {
                Fault::TimedOut { nanos, .. } if !missing.is_empty() => {
                    Error::MissingRanks { missing, size, waited: Duration::from_nanos(nanos) }
                }
                fault => Error::of(&member, fault),
            });
        }
        if rank == 0 {
            member.region().forget_name()?;
        }
        let cpus = member.region().cpus();
        let cpus = cpu_quota().map_or(cpus, |quota| cpus.min(quota.floor().max(1.0) as usize));
        member.set_patience(Patience {
            policy,
            prices: prices(),
            crowded: size > cpus,
            deadline: nanos(self.deadline),
        });
        Ok(Tree::new(member))
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// `SAPWOOD_WAIT`, or what the builder says.
fn policy(built: WaitPolicy) -> Result<WaitPolicy, Error> {
    let Some(value) = std::env::var_os("SAPWOOD_WAIT") else {
        return Ok(built);
    };
    match value.to_str() {
        Some("adaptive") => Ok(WaitPolicy::Adaptive),
        Some("spin") => Ok(WaitPolicy::Spin),
        Some("sleep") => Ok(WaitPolicy::Sleep),
        _ => Err(Error::BadWait { value: value.to_string_lossy().into_owned() }),
    }
}
