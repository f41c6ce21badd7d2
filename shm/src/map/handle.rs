//! The handle that users hold: hashes, waiting, and who is dead.
//!
//! # Safety
//! Looks into a segment that its caller keeps mapped, while a newcomer recovers its seat.
#![allow(unsafe_code)]

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::map::{self, Peers, Recovered, Shape, ShapeError};
use sapwood_core::mem::Real;
use sapwood_core::owner::Owner;
use sapwood_core::wait::WaitPolicy;

use super::Figures;
use super::table::{THREADS, Table};
use crate::error::Error;
use crate::layout::kind;
use crate::memory::Memory;
use crate::ring::Shareable;
use crate::ring::member::{self, Member, Recover, Watch};
use crate::segment::{Segment, Spec};
use crate::wait::Patience;

/// How long a write waits for others if its handle does not say anything else.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(300);
/// The most participants that a map can have.
const PARTICIPANTS: usize = Owner::SEATS as usize;

/// The segment that a map of `capacity` pairs for `participants` handles needs: for those who make, inherit or receive
/// it by themselves.
///
/// # Errors
/// [`Error::Map`], [`Error::Participants`].
pub fn spec<K: Shareable, V: Shareable>(capacity: usize, participants: usize) -> Result<Spec, Error> {
    if !(1..=PARTICIPANTS).contains(&participants) {
        return Err(Error::Participants { asked: participants, most: PARTICIPANTS });
    }
    let shape = Shape::of::<K, V>(capacity, participants)?;
    let fingerprint = Figures::of::<K, V>(capacity).fingerprint();
    Ok(Spec { kind: kind::MAP, fingerprint, seats: participants, body: Table::bytes(shape), reserve: 0 })
}

/// A map that threads or processes share: of fixed capacity, with keys and values of plain data, which are copied in
/// and out. Each of its users has a handle; [`try_clone`](Self::try_clone) makes another one.
///
/// - **Reads** ([`get`](Self::get), [`snapshot`](Self::snapshot), [`len`](Self::len)) take no lock and wait for nobody,
///   also where a writer is stopped in the middle of something; they never see half a pair.
/// - **Writes** are atomic for their key: [`insert`](Self::insert), [`remove`](Self::remove) and
///   [`update`](Self::update), whose closure runs once, with all other writers of the key outside. They wait for
///   writers of the same key (and of the few keys whose search begins at the same entry), as long as the handle's
///   deadline says; [`try_insert`](Self::try_insert) and its like don't wait, those in `_timeout` wait as long as told.
/// - **`len`** is exact whatever has died, and takes the same time for every map.
/// - Keys are compared by their bytes, and hashed by SipHash-1-3 with a key that differs from map to map.
/// - A call that need not wait makes no system call (unless somebody sleeps, who is woken) and allocates nothing.
///
/// | who dies, at any instruction                 | what is in the map                                      |
/// |----------------------------------------------|---------------------------------------------------------|
/// | a reader                                     | what was                                                |
/// | a writer before its change took effect       | what was before, whole                                  |
/// | a writer after that                          | what it wrote, whole, and counted                       |
/// | whoever takes with [`drain`](Self::drain)    | what it had not taken yet; the pairs it had die with it |
///
/// The next writer of the same keys finds out by proof of the kernel, within 50 ms, and goes on. A process that was
/// stopped (SIGSTOP, a debugger) is not dead: if it was stopped in the middle of a write, other *writers* of those keys
/// are told at their deadline who holds them up ([`MapError::Busy`](super::MapError::Busy)).
///
/// ```
/// use sapwood_shm::map::SharedMap;
///
/// let mut map = SharedMap::<u64, u64>::new(100)?;
/// let threads = (0..4).map(|_| {
///     let mut map = map.try_clone()?;
///     Ok(std::thread::spawn(move || {
///         (0..1000).try_for_each(|_| map.update(&7, |n| Some(n.unwrap_or(0) + 1)).map(drop))
///     }))
/// });
/// for thread in threads.collect::<Result<Vec<_>, sapwood_shm::Error>>()? {
///     thread.join().unwrap()?;
/// }
/// assert_eq!(map.get(&7)?, Some(4000));
/// assert_eq!((map.insert(8, 1)?, map.insert(8, 2)?), (None, Some(1)));
/// assert_eq!((map.remove(&8)?, map.len()), (Some(2), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// Between processes, each of these in a process of its own:
///
/// ```
/// use sapwood_shm::map::SharedMap;
///
/// # let name = &format!("doc-map-{}", std::process::id());
/// let mut a = SharedMap::<[u8; 16], f64>::open(name, 1000, 8)?;
/// let b = SharedMap::<[u8; 16], f64>::open(name, 1000, 8)?;
/// a.insert(*b"learning rate...", 1e-3)?;
/// assert_eq!(b.get(b"learning rate...")?, Some(1e-3));
/// # a.segment().unwrap().unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// What is read is a copy; changing it changes nothing in the map. Values that hold pointers are none:
///
/// ```compile_fail
/// let map = sapwood_shm::map::SharedMap::<u64, String>::new(10);
/// ```
pub struct SharedMap<K: Shareable, V: Shareable> {
    pub(super) map: map::Map<Real, K, V, Table>,
    pub(super) table: Table,
    /// The key of the hash: private, and the same for all participants.
    pub(super) seed: u64,
    pub(super) others: Others,
    pub(super) patience: Patience,
    pub(super) deadline: Duration,
    pub(super) recovered: Recovered,
    /// Under which name it was opened.
    pub(super) name: Option<Box<str>>,
    pub(super) member: Member,
}

impl<K: Shareable, V: Shareable> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMap")
            .field("map", &self.map)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

/// What this participant knows of the others.
#[derive(Debug)]
pub(super) struct Others {
    pub(super) segment: Option<Arc<Segment>>,
    watch: Watch,
}

impl Peers for Others {
    fn alive(&mut self, owner: Owner) -> bool {
        // Between threads nobody dies alone.
        let Some(segment) = &self.segment else { return true };
        let (seat, epoch) = (owner.seat() as usize, owner.epoch());
        if segment.owner_known_dead(seat, epoch) {
            return false;
        }
        !self.watch.is_due() || segment.owner_alive(seat, epoch)
    }
}

/// A map's names of the dead are recovered before they are used again; among threads a name is given back when its
/// handle is dropped, and nothing is held between two calls.
impl<K: Shareable, V: Shareable> Drop for SharedMap<K, V> {
    fn drop(&mut self) {
        if self.member.segment().is_none() && self.member.is_mine() {
            self.table.give_thread(self.map.me().seat());
        }
    }
}

impl<K: Shareable, V: Shareable> SharedMap<K, V> {
    /// A map of `capacity` pairs for the threads of this process: up to [`THREADS`] handles.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::NoSpace`].
    pub fn new(capacity: usize) -> Result<Self, Error> {
        let shape = Shape::of::<K, V>(capacity, THREADS)?;
        let table = Table::new(Memory::block("a map", Table::bytes(shape))?, shape);
        let seed = std::hash::RandomState::new().hash_one(capacity);
        Self::among_threads(table, shape, seed)
    }

    /// The map called `name`, of `capacity` pairs for up to `participants` handles, which is made if there is none.
    ///
    /// # Errors
    /// [`Error::NoSeat`] if it has as many as it was made for; [`Error::OtherMap`] if it is one of other keys or values
    /// or of another capacity, [`Error::OtherSize`] if of another number of participants; [`Error::Map`],
    /// [`Error::Participants`], [`Error::NoSpace`], and what [`Segment::enter_named`] says.
    pub fn open(name: &str, capacity: usize, participants: usize) -> Result<Self, Error> {
        let spec = spec::<K, V>(capacity, participants)?;
        let mut map =
            Self::enter(capacity, participants, |recover| Member::open(name, &spec, None, recover))?;
        map.name = Some(name.into());
        Ok(map)
    }

    /// The map called `name` that has this number; [`Error::Retired`] if another one has the name, or none.
    pub(super) fn open_meant(
        name: &str,
        nonce: u64,
        capacity: usize,
        participants: usize,
    ) -> Result<Self, Error> {
        let spec = spec::<K, V>(capacity, participants)?;
        let sit = |recover: Recover<'_>| Member::open_meant(name, nonce, &spec, recover);
        let mut map = Self::enter(capacity, participants, sit)?;
        map.name = Some(name.into());
        Ok(map)
    }

    /// A new map without a name, in a [`segment`](Self::segment) to be handed on.
    ///
    /// # Errors
    /// As for [`spec`], and [`Error::NoSpace`].
    pub fn create(capacity: usize, participants: usize) -> Result<Self, Error> {
        Self::attach(&member::create(&spec::<K, V>(capacity, participants)?)?, capacity)
    }

    /// The map in a segment that was inherited or received.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn attach(segment: &Arc<Segment>, capacity: usize) -> Result<Self, Error> {
        let seats = segment.spec().seats;
        let spec = spec::<K, V>(capacity, seats)?;
        Self::enter(capacity, seats, |recover| Member::sit(segment, &spec, None, recover))
    }

    /// A map for the threads of this process that holds these pairs, with room for `spare` more. Of two pairs with the
    /// same key the later one stays.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use sapwood_shm::map::SharedMap;
    ///
    /// let table = HashMap::from([(1_u32, 10.0), (2, 20.0)]);
    /// let map = SharedMap::from_pairs(table.iter().map(|(k, v)| (*k, *v)), 8)?;
    /// assert_eq!((map.len(), map.get(&2)?, map.capacity()), (2, Some(20.0), 10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`new`](Self::new); an iterator that has more pairs than it says is told as too many.
    pub fn from_pairs<I>(pairs: I, spare: usize) -> Result<Self, Error>
    where
        I: IntoIterator<Item = (K, V), IntoIter: ExactSizeIterator>,
    {
        let pairs = pairs.into_iter();
        let capacity = pairs.len().saturating_add(spare);
        let mut map = Self::new(capacity)?;
        // Nobody else has it: it can only be full.
        let more = |_| Error::Map(ShapeError::TooMany { asked: capacity + 1, most: capacity });
        map.extend(pairs).map_err(more)?;
        Ok(map)
    }

    /// Another handle of the same map, for another thread of this process; of a map between processes it takes a seat.
    ///
    /// # Errors
    /// [`Error::NoSeat`] if all are taken, and as for [`attach`](Self::attach).
    pub fn try_clone(&self) -> Result<Self, Error> {
        let mut other = match self.segment() {
            Some(segment) => Self::attach(segment, self.capacity())?,
            None => Self::among_threads(self.table.clone(), *self.map.shape(), self.seed)?,
        };
        (other.deadline, other.name) = (self.deadline, self.name.clone());
        Ok(other)
    }

    /// Writes of this handle wait for others as long as this at most.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Writes of this handle wait in this way.
    pub fn with_waiting(mut self, policy: WaitPolicy) -> Self {
        self.patience = Patience::new(policy);
        self
    }

    /// Takes a seat, and clears what its dead holders have left in the map.
    fn enter(
        capacity: usize,
        seats: usize,
        sit: impl FnOnce(Recover<'_>) -> Result<Member, Error>,
    ) -> Result<Self, Error> {
        let (shape, mut recovered) = (Shape::of::<K, V>(capacity, seats)?, Recovered::default());
        let member = sit(&mut |segment, me, dead| {
            // SAFETY: the segment stays mapped to the end of this call, and so long the table lives.
            let table = Table::new(unsafe { Memory::lent(segment) }, shape);
            let map = map::Map::<Real, K, V, _>::attach(table.clone(), shape, member::name(me));
            let found = map.recover(Owner::new(me.number() as u32, dead));
            recovered.homes += found.homes;
            recovered.entries += found.entries;
            // Who waits for a home that was given back, and whom the dead may have owed a ring.
            table.bell().ring_anyway();
            Ok(())
        });
        let member = member.map_err(explain)?;
        let table = Table::new(member.memory(), shape);
        let seed = member.segment().map_or(0, |segment| segment.nonce());
        let mut map = Self::on(table, shape, member.owner(), seed, member);
        map.recovered = recovered;
        Ok(map)
    }

    fn among_threads(table: Table, shape: Shape, seed: u64) -> Result<Self, Error> {
        let me = Owner::new(table.take_thread()?, 1);
        Ok(Self::on(table, shape, me, seed, Member::thread()))
    }

    fn on(table: Table, shape: Shape, me: Owner, seed: u64, member: Member) -> Self {
        let others = Others { segment: member.segment().cloned(), watch: Watch::default() };
        SharedMap {
            map: map::Map::attach(table.clone(), shape, me),
            table,
            seed,
            others,
            patience: Patience::default(),
            deadline: DEFAULT_DEADLINE,
            recovered: Recovered::default(),
            name: None,
            member,
        }
    }
}

/// A map's fingerprint says what it holds.
fn explain(error: Error) -> Error {
    match error {
        Error::OtherRing { found, expected } => Error::OtherMap {
            found: Box::new(Figures::from_fingerprint(found.fingerprint())),
            expected: Box::new(Figures::from_fingerprint(expected.fingerprint())),
        },
        other => other,
    }
}
