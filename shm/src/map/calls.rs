//! What one does with a map.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sapwood_core::doorbell::Doorbell;
use sapwood_core::link::{Deadline, Timer};
use sapwood_core::map::{Busy, Overtaken, PutError, Recovered};
use sapwood_core::mem::{Mem, Real};
use sapwood_core::owner::Owner;
use sapwood_core::wait::WaitStats;
use siphasher::sip::SipHasher13;

use super::MapError;
use super::handle::SharedMap;
use super::table::Table;
use crate::ring::member::Member;
use crate::ring::{Peer, Shareable};
use crate::segment::Segment;
use crate::wait::Stop;

/// How often a reader that was overtaken gives way and tries again.
const TRIES: usize = 256;

/// All pairs; or why not, and those that were taken before.
type Drained<K, V> = Result<Vec<(K, V)>, MapError<Vec<(K, V)>>>;

/// What was there, and what is there now.
struct Change<V> {
    before: Option<V>,
    after: Option<V>,
}

/// A home that is held. Dropped, in a panic too, it is given back, and whoever waits for it is woken; but not by a
/// child that the closure has forked: its parent has the home.
struct Home<'a, H> {
    held: Option<H>,
    bell: &'a Doorbell<Real>,
    member: &'a Member,
}

impl<H> Deref for Home<'_, H> {
    type Target = H;
    fn deref(&self) -> &H {
        let Some(held) = &self.held else { unreachable!("a home is held until it is dropped") };
        held
    }
}

impl<H> DerefMut for Home<'_, H> {
    fn deref_mut(&mut self) -> &mut H {
        let Some(held) = &mut self.held else { unreachable!("a home is held until it is dropped") };
        held
    }
}

impl<H> Drop for Home<'_, H> {
    fn drop(&mut self) {
        let held = self.held.take();
        if self.member.is_mine() {
            drop(held);
            self.bell.ring();
        } else {
            std::mem::forget(held);
        }
    }
}

impl<K: Shareable, V: Shareable> SharedMap<K, V> {
    /// The value of `key`: a copy.
    ///
    /// # Errors
    /// [`MapError::Overtaken`], [`MapError::Forked`].
    #[inline]
    pub fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        if !self.member.is_mine() {
            return Err(MapError::Forked { back: () });
        }
        let hash = self.hash(key);
        self.map.get(hash, key).or_else(|_| again(|| self.map.get(hash, key)))
    }

    /// Whether there is a pair with this key.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn contains_key(&self, key: &K) -> Result<bool, MapError> {
        self.get(key).map(|value| value.is_some())
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pairs fit.
    pub fn capacity(&self) -> usize {
        self.map.shape().capacity()
    }

    /// Bytes that the pairs take which are in the map now.
    pub fn bytes_used(&self) -> u64 {
        self.len() as u64 * self.map.shape().pair_bytes() as u64
    }

    /// Bytes that the map takes, full or empty.
    pub fn bytes_reserved(&self) -> u64 {
        Table::bytes(*self.map.shape())
    }

    /// All pairs, in no order: copies. Others may write meanwhile: each pair that is in the map from beginning to end
    /// is there once (with a value that it had meanwhile), none is there twice, and those that come or go meanwhile may
    /// be there or not.
    ///
    /// ```
    /// use sapwood_shm::map::SharedMap;
    ///
    /// let map = SharedMap::from_pairs((0..10_u32).map(|i| (i, i * i)), 0)?;
    /// let mut pairs = map.snapshot()?;
    /// pairs.sort_unstable();
    /// assert_eq!((pairs.len(), pairs[9]), (10, (9, 81)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    pub fn snapshot(&self) -> Result<Vec<(K, V)>, MapError> {
        if !self.member.is_mine() {
            return Err(MapError::Forked { back: () });
        }
        // What the dead have begun is there.
        self.map.help();
        let before = self.map.changes();
        // Grows as pairs are found: how many there are only says the map's memory.
        let mut pairs = Vec::new();
        for i in 0..self.map.shape().entries() {
            pairs.extend(self.map.pair(i).or_else(|_| again(|| self.map.pair(i)))?);
        }
        // A pair that was seen, removed, and inserted again in an entry farther on was seen twice.
        if self.map.changes() != before {
            pairs.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            pairs.dedup_by(|a, b| a.0.as_bytes() == b.0.as_bytes());
        }
        Ok(pairs)
    }

    /// Gives `key` a value, and returns the one that it had. Waits for others as long as the handle's deadline says.
    ///
    /// # Errors
    /// [`MapError`], with the pair.
    #[inline]
    pub fn insert(&mut self, key: K, value: V) -> Result<Option<V>, MapError<(K, V)>> {
        self.insert_timeout(key, value, self.deadline)
    }

    /// The same without waiting. Whether who is in the way lives is asked now and then only (it takes system calls), so
    /// one that has just died may be reported as [`Busy`](MapError::Busy) by some tries.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    #[inline]
    pub fn try_insert(&mut self, key: K, value: V) -> Result<Option<V>, MapError<(K, V)>> {
        self.insert_timeout(key, value, Duration::ZERO)
    }

    /// The same, waiting at most so long.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert).
    #[inline]
    pub fn insert_timeout(
        &mut self,
        key: K,
        value: V,
        limit: Duration,
    ) -> Result<Option<V>, MapError<(K, V)>> {
        let change = self.change(&key, limit, |_| Some(value));
        change.map(|c| c.before).map_err(|e| e.map(|_| (key, value)))
    }

    /// Takes `key` out of the map, and returns the value that it had.
    ///
    /// # Errors
    /// [`MapError`] without [`Full`](MapError::Full).
    #[inline]
    pub fn remove(&mut self, key: &K) -> Result<Option<V>, MapError> {
        self.remove_timeout(key, self.deadline)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As for [`remove`](Self::remove).
    #[inline]
    pub fn try_remove(&mut self, key: &K) -> Result<Option<V>, MapError> {
        self.remove_timeout(key, Duration::ZERO)
    }

    /// The same, waiting at most so long.
    ///
    /// # Errors
    /// As for [`remove`](Self::remove).
    #[inline]
    pub fn remove_timeout(&mut self, key: &K, limit: Duration) -> Result<Option<V>, MapError> {
        let change = self.change(key, limit, |_| None);
        change.map(|c| c.before).map_err(|e| e.map(|_| ()))
    }

    /// Changes the value of `key` to what `f` makes of it, or takes the pair out if that is `None`; returns what is
    /// there now. No other writer of the key comes in between. `f` is called once at most, and not at all where the
    /// key's home was not had. If it panics the map is as before. It holds up other writers of the key, so it should be
    /// short; a call of another handle for the same key in it waits until its deadline. A child that `f` forks changes
    /// nothing: there it ends with [`MapError::Forked`].
    ///
    /// ```
    /// use sapwood_shm::map::SharedMap;
    ///
    /// let mut map = SharedMap::<u8, u64>::new(4)?;
    /// for _ in 0..3 {
    ///     map.update(&1, |n| Some(n.unwrap_or(0) + 1))?;
    /// }
    /// assert_eq!(map.get(&1)?, Some(3));
    /// assert_eq!(map.update(&1, |n| n.filter(|n| *n > 3))?, None);
    /// assert!(map.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`MapError`], with what `f` had returned, if it was called.
    pub fn update(
        &mut self,
        key: &K,
        f: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, MapError<Option<V>>> {
        self.update_timeout(key, self.deadline, f)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As for [`update`](Self::update).
    pub fn try_update(
        &mut self,
        key: &K,
        f: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, MapError<Option<V>>> {
        self.update_timeout(key, Duration::ZERO, f)
    }

    /// The same, waiting at most so long.
    ///
    /// # Errors
    /// As for [`update`](Self::update).
    pub fn update_timeout(
        &mut self,
        key: &K,
        limit: Duration,
        f: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, MapError<Option<V>>> {
        self.change(key, limit, f).map(|c| c.after)
    }

    /// Inserts pairs, one after the other.
    ///
    /// # Errors
    /// [`MapError`], with the pair that was not inserted; those before it are in the map.
    pub fn extend(&mut self, pairs: impl IntoIterator<Item = (K, V)>) -> Result<(), MapError<(K, V)>> {
        pairs.into_iter().try_for_each(|(key, value)| self.insert(key, value).map(drop))
    }

    /// Moves all pairs of `source` into the map; it is empty afterwards.
    ///
    /// # Errors
    /// [`MapError`]; pairs that were not inserted are still in `source`.
    pub fn move_in<S: BuildHasher>(&mut self, source: &mut HashMap<K, V, S>) -> Result<(), MapError>
    where
        K: Eq + Hash,
    {
        let mut said = Ok(());
        source.retain(|key, value| {
            if said.is_ok() {
                said = self.insert(*key, *value).map(drop).map_err(|e| e.map(|_| ()));
            }
            said.is_err()
        });
        said
    }

    /// Takes all pairs out, each of which exactly one participant gets. Pairs that others insert meanwhile may stay.
    ///
    /// # Errors
    /// [`MapError`] without [`Full`](MapError::Full), with the pairs that were taken.
    pub fn drain(&mut self) -> Drained<K, V> {
        let mut pairs = Vec::new();
        match self.take_all(|pair| pairs.push(pair)) {
            Ok(()) => Ok(pairs),
            Err(e) => Err(e.map(|()| pairs)),
        }
    }

    /// Removes all pairs; says how many. Those that others insert meanwhile may stay.
    ///
    /// # Errors
    /// [`MapError`] without [`Full`](MapError::Full).
    pub fn clear(&mut self) -> Result<usize, MapError> {
        let mut removed = 0;
        self.take_all(|_| removed += 1)?;
        Ok(removed)
    }

    fn take_all(&mut self, mut with: impl FnMut((K, V))) -> Result<(), MapError> {
        if !self.member.is_mine() {
            return Err(MapError::Forked { back: () });
        }
        let mut timer = None;
        // What the dead have begun is taken too.
        self.map.help();
        for i in 0..self.map.shape().entries() {
            // Ends with the pair, or at the deadline.
            let taken = loop {
                let taken = self.map.take(i, &mut self.others);
                // Whatever came of it, it may have held a home for which somebody waits; but not if that is another's.
                // There a ring would only wake others like us, who would ring in turn.
                if !matches!(taken, Err(busy) if busy.owner != Owner::NOBODY) {
                    self.table.bell().ring();
                }
                match taken {
                    Ok(taken) => break taken,
                    Err(busy) => self.wait(busy, self.deadline, &mut timer)?,
                }
            };
            if let Some(pair) = taken {
                with(pair);
            }
        }
        Ok(())
    }

    /// Every write: takes the home of the key, and gives the key what `f` says.
    fn change(
        &mut self,
        key: &K,
        limit: Duration,
        f: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Change<V>, MapError<Option<V>>> {
        if !self.member.is_mine() {
            return Err(MapError::Forked { back: None });
        }
        let (hash, mut timer) = (self.hash(key), None);
        // Ends with the home, or at the deadline.
        let held = loop {
            let busy = match self.map.hold(hash, &mut self.others) {
                Ok(held) => break held,
                Err(busy) => busy,
            };
            self.wait(busy, limit, &mut timer).map_err(|e| e.map(|()| None))?;
        };
        let mut home = Home { held: Some(held), bell: self.table.bell(), member: &self.member };
        let found = home.find(hash, key);
        let before = found.map(|found| home.value(found));
        let after = f(before);
        if !self.member.is_mine() {
            return Err(MapError::Forked { back: after });
        }
        let said = loop {
            let said = match (found, &after) {
                (Some(found), Some(value)) => {
                    home.replace(found, value);
                    Ok(())
                }
                (None, Some(value)) => home.add(hash, key, value),
                (Some(found), None) => home.take_out(found),
                (None, None) => Ok(()),
            };
            // Others changed the number of pairs first: they got on. Ends with success, or at the deadline.
            if said != Err(PutError::Crowded) || started(&mut timer, limit).has_passed() {
                break said;
            }
            Real::yield_now();
        };
        drop(home);
        match said {
            Ok(()) => Ok(Change { before, after }),
            Err(PutError::Full) => Err(MapError::Full { capacity: self.capacity(), back: after }),
            Err(_) => {
                let waited = started(&mut timer, limit).waited();
                Err(MapError::Busy { holder: None, waited, back: after })
            }
        }
    }

    /// Waits until a home is another's or nobody's, or its holder is dead.
    #[cold]
    fn wait(&mut self, busy: Busy, limit: Duration, timer: &mut Option<Timer>) -> Result<(), MapError> {
        let Busy { home, owner } = busy;
        let timer = started(timer, limit);
        let (map, segment) = (&self.map, self.others.segment.as_ref());
        let ready = || map.holder(home) != owner || owner == Owner::NOBODY;
        let dead = |s: &Arc<Segment>| !s.owner_alive(owner.seat() as usize, owner.epoch());
        let look = || if segment.is_some_and(dead) { Err(()) } else { Ok(()) };
        let stop = if timer.has_passed() {
            Err(Stop::TimedOut { waited: Duration::ZERO })
        } else {
            self.patience.wait(self.table.bell(), Deadline::at(timer.until()), ready, look)
        };
        match stop {
            // Of the dead all know now.
            Ok(()) | Err(Stop::Told(())) => Ok(()),
            Err(Stop::TimedOut { .. }) => {
                Err(MapError::Busy { holder: self.peer(owner), waited: timer.waited(), back: () })
            }
        }
    }

    fn peer(&self, owner: Owner) -> Option<Peer> {
        let seats = self.segment().map_or(super::THREADS, |segment| segment.spec().seats);
        let seat = owner.seat() as usize;
        (seat < seats).then(|| self.member.peer(seat))
    }

    #[inline]
    fn hash(&self, key: &K) -> u64 {
        // Any constant will do: it only keeps the two keys apart.
        SipHasher13::new_with_keys(self.seed, 0x7361_7077_6f6f_6421).hash(key.as_bytes())
    }

    /// In which seat this participant sits; its number, between threads.
    pub fn seat(&self) -> usize {
        self.map.me().seat() as usize
    }

    /// What the dead holders of this participant's seat had left, and which was put in order when it came.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// How often this handle has waited, and how.
    pub fn waits(&self) -> WaitStats {
        self.patience.stats()
    }

    /// The segment that the map is in; `None` between threads.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        self.member.segment()
    }

    /// The name that it was opened under.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// The deadline runs from the first time that one has to wait.
fn started(timer: &mut Option<Timer>, limit: Duration) -> Timer {
    *timer.get_or_insert_with(|| Deadline::after(limit).start())
}

/// Writers that overtook a reader got on, and may have got away by now.
#[cold]
fn again<T>(mut read: impl FnMut() -> Result<T, Overtaken>) -> Result<T, MapError> {
    let mut turns = 0;
    for _ in 0..TRIES {
        Real::yield_now();
        match read() {
            Ok(value) => return Ok(value),
            Err(e) => turns += e.turns,
        }
    }
    Err(MapError::Overtaken { turns })
}
