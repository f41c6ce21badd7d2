//! One participant's handle: reading, and the home that it writes in.

use core::fmt;
use core::marker::PhantomData;

use super::word::{Commit, Count, Home, Kind, Slot, State};
use super::{Busy, HASH, HOME, KEY, Overtaken, Peers, PutError, Region, SLOT, Shape, TURNS, WORD};
use crate::mem::{Atom, Bug, Mem, Ordering, Site};
use crate::owner::Owner;
use crate::shareable::Shareable;

/// A participant. It keeps nothing about the map but its shape and its own name.
///
/// Hashes are the caller's, who must give the same one for the same key, as everybody else does. Of two handles with
/// one name, or one whose seat was not recovered, values and counts may be wrong; nothing else.
pub struct Map<M: Mem, K: Shareable, V: Shareable, R: Region<M>> {
    pub(super) region: R,
    pub(super) me: Owner,
    pub(super) shape: Shape,
    _pairs: PhantomData<fn(K, V) -> M>,
}

impl<M: Mem, K: Shareable, V: Shareable, R: Region<M>> fmt::Debug for Map<M, K, V, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("me", &self.me).field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// A home that is held: nobody else changes a pair of it. Given back when dropped, also in a panic.
pub struct Held<'a, M: Mem, K: Shareable, V: Shareable, R: Region<M>> {
    map: &'a Map<M, K, V, R>,
    home: usize,
    reach: usize,
}

impl<M: Mem, K: Shareable, V: Shareable, R: Region<M>> fmt::Debug for Held<'_, M, K, V, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("home", &self.home).field("reach", &self.reach).finish()
    }
}

/// Where a pair lies, and its slot's word. True as long as the home is held and nothing is done about the pair.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    entry: usize,
    /// Entries from the home on.
    distance: usize,
    word: Slot,
}

impl<M: Mem, K: Shareable, V: Shareable, R: Region<M>> Map<M, K, V, R> {
    /// A participant named `me` of a map of this shape. The name is used by nobody else, and was recovered
    /// ([`recover`](Self::recover)) if somebody used it before.
    pub fn attach(region: R, shape: Shape, me: Owner) -> Self {
        Map { region, me, shape, _pairs: PhantomData }
    }

    /// How it lies in its memory.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Under which name.
    pub fn me(&self) -> Owner {
        self.me
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`Overtaken`].
    #[inline]
    pub fn get(&self, hash: u64, key: &K) -> Result<Option<V>, Overtaken> {
        let home = self.home(hash);
        for distance in 0..self.reach(home) {
            if let Some((_, value)) = self.read(self.at(home, distance), Some((hash, key)))? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The pair in entry `i`, modulo the number of entries.
    ///
    /// # Errors
    /// [`Overtaken`].
    pub fn pair(&self, i: usize) -> Result<Option<(K, V)>, Overtaken> {
        self.read(i & self.shape.mask(), None)
    }

    /// How many pairs there are: exact, but for changes that are being made.
    pub fn len(&self) -> usize {
        // The dead may have left a pair that is not counted yet.
        self.help();
        Count(self.region.count().load(Ordering::Relaxed)).pairs().min(self.shape.capacity)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of changes of the number of pairs, modulo 2^34: if it is the same before and after, no pair came or
    /// went.
    pub fn changes(&self) -> u64 {
        // Pairs with MapSettle and MapInstall.
        Commit(self.region.commit().load(M::at(Site::MapHelpLoad, Ordering::Acquire))).sequence()
    }

    /// Who holds a home.
    pub fn holder(&self, home: usize) -> Owner {
        Home(self.region.word(home & self.shape.mask(), HOME).load(Ordering::Relaxed)).owner()
    }

    /// Takes the home of keys with this hash, from the dead too.
    ///
    /// # Errors
    /// [`Busy`].
    #[inline]
    pub fn hold(&self, hash: u64, peers: &mut impl Peers) -> Result<Held<'_, M, K, V, R>, Busy> {
        let home = self.home(hash);
        let word = self.region.word(home, HOME);
        let mut owner = Owner::NOBODY;
        for _ in 0..TURNS {
            let w = Home(word.load(Ordering::Relaxed));
            owner = w.owner();
            if owner != Owner::NOBODY {
                if M::broken(Bug::MapAssumeDead) || !M::broken(Bug::MapAssumeAlive) && !peers.alive(owner) {
                    if !M::broken(Bug::MapTakeOverUnhelped) {
                        self.help();
                    }
                } else {
                    return Err(Busy { home, owner });
                }
            }
            // Pairs with MapUnlock and MapUnlockDead.
            if word.cas(w.0, w.held(self.me).0, M::at(Site::MapLock, Ordering::Acquire)).is_ok() {
                return Ok(Held { map: self, home, reach: w.reach(self.shape.entries) });
            }
            M::spin();
        }
        Err(Busy { home, owner })
    }

    /// Takes the pair out of entry `i`, modulo the number of entries, if there is one. Whoever goes through all of them
    /// calls [`help`](Self::help) before.
    ///
    /// # Errors
    /// [`Busy`]; also where others change the number of pairs first, again and again.
    pub fn take(&self, i: usize, peers: &mut impl Peers) -> Result<Option<(K, V)>, Busy> {
        let entry = i & self.shape.mask();
        if self.slot(entry, Site::MapLook).state() != State::Full {
            return Ok(None);
        }
        let hash = self.region.word(entry, HASH).load(Ordering::Relaxed);
        let mut held = self.hold(hash, peers)?;
        // Now ours, if it is still a pair of that home.
        let word = self.slot(entry, Site::MapLook);
        let now = self.region.word(entry, HASH).load(Ordering::Relaxed);
        if word.state() != State::Full || self.home(now) != held.home {
            return Ok(None);
        }
        let (key, value) = (self.load_key(entry), self.load_value(entry, word.half()));
        let distance = entry.wrapping_sub(held.home) & self.shape.mask();
        match held.take_out(Found { entry, distance, word }) {
            Ok(()) => Ok(Some((key, value))),
            Err(_) => Err(Busy { home: held.home, owner: Owner::NOBODY }),
        }
    }

    fn home(&self, hash: u64) -> usize {
        hash as usize & self.shape.mask()
    }

    fn at(&self, home: usize, distance: usize) -> usize {
        home.wrapping_add(distance) & self.shape.mask()
    }

    fn reach(&self, home: usize) -> usize {
        Home(self.region.word(home, HOME).load(Ordering::Relaxed)).reach(self.shape.entries)
    }

    pub(super) fn slot(&self, entry: usize, site: Site) -> Slot {
        Slot(self.region.word(entry, SLOT).load(M::at(site, Ordering::Acquire)))
    }

    /// A copy of the pair in an entry; `None` if there is none, or it is not `wanted`.
    #[inline]
    fn read(&self, entry: usize, wanted: Option<(u64, &K)>) -> Result<Option<(K, V)>, Overtaken> {
        for _ in 0..TURNS {
            // Pairs with MapCommit and MapFinish.
            let word = self.slot(entry, Site::MapLook);
            if word.state() != State::Full && !M::broken(Bug::MapReadFilling) {
                return Ok(None);
            }
            // A copy of something else says that what was there is not what is wanted, or is no longer.
            if wanted.is_some_and(|(hash, _)| self.region.word(entry, HASH).load(Ordering::Relaxed) != hash) {
                return Ok(None);
            }
            let key = self.load_key(entry);
            if wanted.is_some_and(|(_, wanted)| !same(&key, wanted)) {
                return Ok(None);
            }
            let value = self.load_value(entry, word.half());
            // Pairs with MapWriterFence.
            M::fence(M::at(Site::MapReaderFence, Ordering::Acquire));
            let now = Slot(self.region.word(entry, SLOT).load(Ordering::Relaxed));
            if now == word || M::broken(Bug::MapReaderNoSecondLook) {
                return Ok(Some((key, value)));
            }
            M::spin();
        }
        Err(Overtaken { turns: TURNS })
    }

    fn load_key(&self, entry: usize) -> K {
        let mut key = K::new_zeroed();
        self.load(entry, KEY, key.as_mut_bytes());
        key
    }

    fn load_value(&self, entry: usize, half: usize) -> V {
        let mut value = V::new_zeroed();
        self.load(entry, self.half(half), value.as_mut_bytes());
        value
    }

    /// The first word of a half.
    fn half(&self, half: usize) -> usize {
        KEY + self.shape.key + (half & 1) * self.shape.value
    }

    #[inline(always)]
    fn load(&self, entry: usize, first: usize, into: &mut [u8]) {
        for (i, chunk) in into.chunks_mut(WORD).enumerate() {
            let word = self.region.word(entry, first + i).load(Ordering::Relaxed).to_ne_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    #[inline(always)]
    fn store(&self, entry: usize, first: usize, bytes: &[u8]) {
        for (i, chunk) in bytes.chunks(WORD).enumerate() {
            let mut word = [0; WORD];
            word[..chunk.len()].copy_from_slice(chunk);
            self.region.word(entry, first + i).store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    /// Whether as many pairs as fit were there after change g, which is done. A count of another change comes with
    /// another `commit`: then nothing is said.
    fn is_full(&self, g: Commit) -> bool {
        let count = Count(self.region.count().load(Ordering::Relaxed));
        count.pairs() >= self.shape.capacity && count.sequence() == g.sequence()
    }

    /// A look beforehand spares the work of a pair for which there is no room.
    fn has_room(&self) -> Result<(), PutError> {
        // Pairs with MapSettle.
        let g = Commit(self.region.commit().load(M::at(Site::MapHelpLoad, Ordering::Acquire)));
        let full = g.kind() == Kind::Idle && self.is_full(g) && !M::broken(Bug::MapIgnoreCapacity);
        if full { Err(PutError::Full) } else { Ok(()) }
    }

    /// Announces a change and finishes it.
    fn install(&self, entry: usize, kind: Kind) -> Result<(), PutError> {
        let commit = self.region.commit();
        for _ in 0..TURNS {
            // Pairs with MapInstall, to finish what is pending, and with MapSettle, to find it counted.
            let g = Commit(commit.load(M::at(Site::MapHelpLoad, Ordering::Acquire)));
            if g.kind() != Kind::Idle && !M::broken(Bug::MapOverwritePending) {
                self.finish(g);
                continue;
            }
            if kind == Kind::Insert && self.is_full(g) && !M::broken(Bug::MapIgnoreCapacity) {
                return Err(PutError::Full);
            }
            let next = g.next(entry, kind);
            // Pairs with MapHelpLoad: whoever helps finds the pair.
            if commit.cas(g.0, next.0, M::at(Site::MapInstall, Ordering::Release)).is_ok() {
                self.finish(next);
                return Ok(());
            }
            M::spin();
        }
        Err(PutError::Crowded)
    }

    /// Finishes whatever is announced. What the dead have announced is done afterwards; without it a pair of theirs
    /// could come into the map after a call that went through all entries.
    pub fn help(&self) {
        // Pairs with MapInstall.
        let g = Commit(self.region.commit().load(M::at(Site::MapHelpLoad, Ordering::Acquire)));
        if g.kind() != Kind::Idle {
            self.finish(g);
        }
    }

    /// The three steps of an announced change, each by whoever comes first.
    fn finish(&self, g: Commit) {
        let (commit, entry) = (self.region.commit(), g.entry() & self.shape.mask());
        let word = self.slot(entry, Site::MapFinishLoad);
        // The second look: what was loaded is not of a later life than g.
        if commit.load(Ordering::Relaxed) != g.0 && !M::broken(Bug::MapHelperNoSecondLook) {
            return;
        }
        let to = match (g.kind(), word.state()) {
            (Kind::Insert, State::Filling) => Some(word.full(0)),
            (Kind::Remove, State::Full) => Some(word.freed()),
            _ => None,
        };
        if let Some(to) = to {
            // Pairs with MapLook, and of a removal with MapClaimLoad. Whoever fails was overtaken by another helper.
            let slot = self.region.word(entry, SLOT);
            _ = slot.cas(word.0, to.0, M::at(Site::MapFinish, Ordering::Release));
        }
        if !M::broken(Bug::MapNoCount) {
            self.tally(g);
        }
        // Pairs with MapHelpLoad.
        _ = commit.cas(g.0, g.settled().0, M::at(Site::MapSettle, Ordering::Release));
    }

    fn tally(&self, g: Commit) {
        let count = self.region.count();
        let now = Count(count.load(Ordering::Relaxed));
        let next = if M::broken(Bug::MapCountTwice) {
            Count::new(g.sequence().wrapping_sub(1), now.pairs()).after(g)
        } else {
            now.after(g)
        };
        if let Some(next) = next {
            _ = count.cas(now.0, next.0, Ordering::Relaxed);
        }
    }
}

impl<M: Mem, K: Shareable, V: Shareable, R: Region<M>> Held<'_, M, K, V, R> {
    /// Where the pair of `key` is, whose home this is.
    pub fn find(&self, hash: u64, key: &K) -> Option<Found> {
        let map = self.map;
        (0..self.reach).find_map(|distance| {
            let entry = map.at(self.home, distance);
            // Pairs of this home are as they are until we give it back; others have other hashes, whatever they become.
            let word = map.slot(entry, Site::MapLook);
            let full = word.state() == State::Full;
            let ours = full && map.region.word(entry, HASH).load(Ordering::Relaxed) == hash;
            (ours && same(&map.load_key(entry), key)).then_some(Found { entry, distance, word })
        })
    }

    /// The value of a pair that was found.
    pub fn value(&self, found: Found) -> V {
        self.map.load_value(found.entry, found.word.half())
    }

    /// Gives a pair that was found another value: writes the spare half, and makes it the one in use.
    pub fn replace(&mut self, found: Found, value: &V) {
        let (map, Found { entry, word, .. }) = (self.map, found);
        let spare = if M::broken(Bug::MapSameHalf) { word.half() } else { 1 - word.half() };
        if M::broken(Bug::MapCommitFirst) {
            map.region.word(entry, SLOT).store(word.full(spare).0, Ordering::Release);
        }
        // Pairs with MapReaderFence.
        M::fence(M::at(Site::MapWriterFence, Ordering::Release));
        map.store(entry, map.half(spare), value.as_bytes());
        // Pairs with MapLook.
        let slot = map.region.word(entry, SLOT);
        slot.store(word.full(spare).0, M::at(Site::MapCommit, Ordering::Release));
    }

    /// Inserts a pair for `key`, whose home this is, and for which none was found.
    ///
    /// # Errors
    /// [`PutError`]; then the map is as before.
    pub fn add(&mut self, hash: u64, key: &K, value: &V) -> Result<(), PutError> {
        let map = self.map;
        map.has_room()?;
        let Found { entry, distance, word } = self.claim()?;
        if M::broken(Bug::MapPublishFirst) {
            map.install(entry, Kind::Insert)?;
        }
        // Pairs with MapReaderFence.
        M::fence(M::at(Site::MapWriterFence, Ordering::Release));
        map.region.word(entry, HASH).store(hash, Ordering::Relaxed);
        map.store(entry, KEY, key.as_bytes());
        map.store(entry, map.half(0), value.as_bytes());
        if distance >= self.reach && !M::broken(Bug::MapKeepReach) {
            self.reach = distance + 1;
            // Before the announcement: whoever finds the pair counted finds it.
            map.region.word(self.home, HOME).store(Home::new(map.me, self.reach).0, Ordering::Relaxed);
        }
        if M::broken(Bug::MapPublishFirst) {
            return Ok(());
        }
        map.install(entry, Kind::Insert).inspect_err(|_| {
            // Pairs with MapClaimLoad.
            let slot = map.region.word(entry, SLOT);
            slot.store(word.freed().0, M::at(Site::MapGiveBack, Ordering::Release));
        })
    }

    /// An entry for a new pair. Each of the others holds one at most that is not counted, so one is free; where all
    /// looks fail, others were faster each time.
    fn claim(&self) -> Result<Found, PutError> {
        let map = self.map;
        for _ in 0..2 {
            for distance in 0..map.shape.entries {
                let entry = map.at(self.home, distance);
                // Pairs with MapFinish, MapGiveBack and MapBury.
                let word = map.slot(entry, Site::MapClaimLoad);
                let next = word.filling(map.me);
                let free = word.state() == State::Free;
                if free && map.region.word(entry, SLOT).cas(word.0, next.0, Ordering::Relaxed).is_ok() {
                    return Ok(Found { entry, distance, word: next });
                }
            }
        }
        Err(PutError::Crowded)
    }

    /// Takes a pair that was found out of the map.
    ///
    /// # Errors
    /// [`PutError::Crowded`]; then the map is as before.
    pub fn take_out(&mut self, found: Found) -> Result<(), PutError> {
        self.map.install(found.entry, Kind::Remove)?;
        if found.distance + 1 >= self.reach {
            self.shrink();
        }
        Ok(())
    }

    /// The farthest pair is gone: the next one is.
    fn shrink(&mut self) {
        let (map, home) = (self.map, self.home);
        let ours = |distance: &usize| {
            let entry = map.at(home, *distance);
            let full = map.slot(entry, Site::MapLook).state() == State::Full;
            full && map.home(map.region.word(entry, HASH).load(Ordering::Relaxed)) == home
        };
        let farthest = (0..self.reach).rev().find(ours);
        self.reach = farthest.map_or(0, |distance| distance + 1);
        if M::broken(Bug::MapShrinkTooFar) {
            self.reach = self.reach.saturating_sub(1);
        }
    }
}

impl<M: Mem, K: Shareable, V: Shareable, R: Region<M>> Drop for Held<'_, M, K, V, R> {
    fn drop(&mut self) {
        let word = self.map.region.word(self.home, HOME);
        // Pairs with MapLock.
        word.store(Home::new(Owner::NOBODY, self.reach).0, M::at(Site::MapUnlock, Ordering::Release));
    }
}

fn same<K: Shareable>(a: &K, b: &K) -> bool {
    a.as_bytes() == b.as_bytes()
}
