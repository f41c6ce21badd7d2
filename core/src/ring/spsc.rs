//! One producer, one consumer: values in order, no read-modify-write, one cache line from one side to the other.
//!
//! A ring is a row of *lines*. A line begins with its count and holds as many values as fit behind it:
//!
//! ```text
//!  0         8                                             64
//! +---------+-------+-------+-------+-----+---------------+
//! |  count  | value | value | value | ... |               |   a line of the ring: PER_LINE values
//! +---------+-------+-------+-------+-----+---------------+   (a longer value: a line of several 64 bytes, one value)
//!
//!  63                                    3   2       0
//! +---------------------------------------+-----------+
//! |             number of the line        |   values  |      count: how many values of this line are published
//! +---------------------------------------+-----------+
//! ```
//! The count travels on the line of the values that it counts, so a consumer that waits takes one cache miss, not one
//! for an index and one for the value. Lines are numbered without end (modulo 2^61) and lie at their number modulo the
//! number of lines; a consumer that waits for line l takes a count only if it names l. The consumer's *free* word has
//! the same form: all before it has been read.
//!
//! | word             | written by | how     | read by  | how     | meaning                                      |
//! |------------------|------------|---------|----------|---------|----------------------------------------------|
//! | count of a line  | producer   | Release | consumer | Acquire | the values before it are whole               |
//! | free             | consumer   | Release | producer | Acquire | the values before it have been copied out    |
//! | producer's end   | producer   | Release | consumer | Acquire | nothing follows what is published            |
//! | consumer's end   | consumer   | Release | producer | Acquire | nobody will read                             |
//!
//! Each Release pairs with the Acquire in its row: `SpscPublish` with `SpscLook` (a value is read after it was
//! written), `SpscFree` with `SpscLookFree` (a place is written after it was read), `SpscEnd` with `SpscLookEnd` (who
//! learns of the end and looks once more finds everything).
//!
//! | who dies                                    | what is left                            | what a successor does      |
//! |---------------------------------------------|-----------------------------------------|----------------------------|
//! | producer, before or while it writes a value | a torn value behind the count           | overwrites it: never sent  |
//! | producer, after the count                   | a value that is sent                    | goes on behind it          |
//! | producer, within a batch                    | whole lines, a clean prefix             | goes on behind it          |
//! | consumer, before it gives a place back      | a value that it may have acted on       | reads it (again)           |
//! | consumer, after it                          | nothing                                 | goes on behind it          |
//! | either, while it closes                     | closed or not                           |                            |
//!
//! So between a death and its successor every value that was sent is read at least once, and at most once but for the
//! last batch of a dead consumer. A successor finds its place in shared memory alone: the consumer at the free word,
//! the producer at the newest count. Nothing has to be repaired, and nobody else is touched.
//!
//! Bad words: a count counts only for its line and at most to its end; of the free word more room than there is counts
//! as none. So a bad peer can make values wrong or the ring stand still, never an access out of bounds.
//!
//! # Safety
//! Cells are written between the free word and the count and read between the count and the free word, by one thread
//! each: that there is one producer and one consumer is what the caller of `attach` promises.
#![allow(unsafe_code)]

use core::fmt;
use core::marker::PhantomData;

use crossbeam_utils::CachePadded;

use super::{CapacityError, PopError, PushError, check};
use crate::mem::{Atom, Bug, Mem, Ordering, RaceCell, Real, Site};
use crate::shareable::Shareable;

const LINE: usize = 64;
const COUNT: usize = 8;
/// Bits of a count that say how many values.
const VALUES: u32 = 3;

/// How a ring of some type and capacity lies in memory. Both sides compute it for themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Values that fit in the ring.
    pub capacity: usize,
    /// Values of a line.
    pub per_line: usize,
    /// Bytes of a line.
    pub line_bytes: usize,
    /// Lines: a power of two.
    pub lines: usize,
    /// What of a [`Position`] says where it lies.
    mask: usize,
}

impl Shape {
    /// How many values of type `T` a line takes.
    pub const fn per_line<T>() -> usize {
        let first = Self::first::<T>();
        let fit = if size_of::<T>() == 0 { 7 } else { (LINE - first) / size_of::<T>() };
        match fit {
            0 => 1,
            1..=7 => fit,
            _ => 7,
        }
    }

    const fn first<T>() -> usize {
        if align_of::<T>() > COUNT { align_of::<T>() } else { COUNT }
    }

    const fn line_bytes<T>() -> usize {
        (Self::first::<T>() + Self::per_line::<T>() * size_of::<T>()).next_multiple_of(LINE)
    }

    /// The shape of a ring of `capacity` values of type `T`.
    ///
    /// # Errors
    /// [`CapacityError`], unless the capacity is a power of two that a ring of such values can have.
    pub fn of<T: Shareable>(capacity: usize) -> Result<Shape, CapacityError> {
        const { assert!(align_of::<T>() <= LINE, "values with the alignment of a cache line at most") };
        let (per_line, line_bytes) = (Self::per_line::<T>(), Self::line_bytes::<T>());
        let capacity = check(capacity, line_bytes)?;
        // The oldest value may be the last of its line, and the newest line may not be that one again.
        let lines = (capacity + per_line - 1).div_ceil(per_line).next_power_of_two();
        Ok(Shape { capacity, per_line, line_bytes, lines, mask: (lines << VALUES) - 1 })
    }

    /// A line of seven words and their count is eight words: a position counts words.
    const fn is_words<T>() -> bool {
        Self::per_line::<T>() == 7 && size_of::<T>() == COUNT
    }

    /// Where value `i` of line `line` begins.
    #[inline(always)]
    pub fn value_at<T>(&self, line: u64, i: usize) -> usize {
        if const { Self::is_words::<T>() } {
            // The same, in fewer instructions.
            return (((line as usize) << VALUES | i) & self.mask) * COUNT + COUNT;
        }
        self.count_at::<T>(line) + Self::first::<T>() + i * size_of::<T>()
    }

    /// Where the count of line `line` begins.
    #[inline(always)]
    pub fn count_at<T>(&self, line: u64) -> usize {
        let words = (line as usize) << VALUES & self.mask;
        if const { Self::is_words::<T>() } {
            words * COUNT
        } else {
            (words >> VALUES) * Self::line_bytes::<T>()
        }
    }

    /// Bytes of the lines.
    pub fn bytes(&self) -> usize {
        self.lines * self.line_bytes
    }
}

/// The words beside the lines. Zeroed memory (lines too) is an empty, open ring whose first line is 0.
#[repr(C)]
pub struct Ends<M: Mem> {
    /// All before it has been read. On a line of its own: the consumer writes it at every turn.
    free: CachePadded<M::U64>,
    /// Whether the producer and the consumer have closed. Hardly ever written, so it stays in both sides' caches.
    closed: CachePadded<[M::U32; 2]>,
}

const PRODUCER: usize = 0;
const CONSUMER: usize = 1;

impl<M: Mem> Ends<M> {
    /// The words of an empty ring whose first line is `line`.
    pub fn new(line: u64) -> Self {
        Ends {
            free: CachePadded::new(M::U64::new(Position::new(line, 0).0)),
            closed: CachePadded::new([M::U32::new(0), M::U32::new(0)]),
        }
    }
}

impl<M: Mem> fmt::Debug for Ends<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = [0, 1].map(|end| self.closed[end].load(Ordering::Relaxed) != 0);
        let free = Position(self.free.load(Ordering::Relaxed));
        f.debug_struct("Ends").field("free", &free).field("closed", &closed).finish()
    }
}

/// Lends the memory of a ring.
///
/// # Safety
/// Every clone lends the same words and cells for as long as it lives; different places (`line` modulo the number of
/// lines, `i`) are different cells; any `line` is masked, and `i` is below `shape().per_line`.
pub unsafe trait Region<M: Mem, T: Shareable>: Clone {
    /// The words beside the lines.
    fn ends(&self) -> &Ends<M>;
    /// The count of a line.
    fn count(&self, line: u64) -> &M::U64;
    /// A value's place.
    fn cell(&self, line: u64, i: usize) -> &M::Cell<T>;
    /// The shape, from private memory.
    fn shape(&self) -> &Shape;
}

/// A place in the endless row of values, and the word of a count: {line: 61, values: 3}.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Position(u64);

impl Position {
    const fn new(line: u64, values: usize) -> Position {
        Position(line << VALUES | values as u64)
    }

    /// A word that another process wrote: more values than a line has count as a line.
    const fn of(word: u64, per_line: usize) -> Position {
        let position = Position(word);
        let values = if position.values() < per_line { position.values() } else { per_line };
        Position::new(position.line(), values)
    }

    #[inline(always)]
    const fn line(self) -> u64 {
        self.0 >> VALUES
    }

    #[inline(always)]
    const fn values(self) -> usize {
        (self.0 & ((1 << VALUES) - 1)) as usize
    }

    /// Values from here to `to`; a large number if `to` is before.
    fn distance(self, to: Position, per_line: usize) -> u64 {
        let lines = to.line().wrapping_sub(self.line()) & LINES;
        let (from, to) = (self.values() as u64, to.values() as u64);
        lines.wrapping_mul(per_line as u64).wrapping_add(to).wrapping_sub(from)
    }

    /// The first place of the next line if this is the end of its line: the two are the same place.
    const fn settled(self, per_line: usize) -> Position {
        if self.values() < per_line { self } else { Position::new((self.line() + 1) & LINES, 0) }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, {} values", self.line(), self.values())
    }
}

const LINES: u64 = u64::MAX >> VALUES;

/// The sending end.
pub struct Producer<M: Mem, T: Shareable, R: Region<M, T>> {
    region: R,
    /// Where the next value goes; perhaps the end of a line.
    tail: Position,
    /// Up to where there is room, for all we know: in the line of `tail`.
    limit: Position,
    /// Places behind the limit that are free for all we know.
    spare: u64,
    _values: PhantomData<fn(T) -> M>,
}

/// The receiving end.
pub struct Consumer<M: Mem, T: Shareable, R: Region<M, T>> {
    region: R,
    /// Where the next value comes from; perhaps the end of a line.
    head: Position,
    /// Up to where there are values, for all we know: in the line of `head`.
    seen: Position,
    _values: PhantomData<fn(M) -> T>,
}

impl<M: Mem, T: Shareable, R: Region<M, T>> fmt::Debug for Producer<M, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("tail", &self.tail).field("ends", self.region.ends()).finish()
    }
}

impl<M: Mem, T: Shareable, R: Region<M, T>> fmt::Debug for Consumer<M, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("head", &self.head).field("ends", self.region.ends()).finish()
    }
}

impl<M: Mem, T: Shareable, R: Region<M, T>> Producer<M, T, R> {
    /// The sending end of a ring that is new, or whose last producer is gone: goes on behind what is published.
    ///
    /// # Safety
    /// Nobody else is this ring's producer, and everything that a former one did happened before.
    pub unsafe fn attach(region: R) -> Self {
        let per_line = Shape::per_line::<T>();
        let word = region.ends().free.load(M::at(Site::SpscLookFree, Ordering::Acquire));
        let free = Position::of(word, per_line).settled(per_line);
        // The newest line that holds values which have not been given back, if there is one.
        let counts = (0..region.shape().lines as u64).filter_map(|i| {
            let line = free.line().wrapping_add(i) & LINES;
            let count = Position(region.count(line).load(M::at(Site::SpscLook, Ordering::Acquire)));
            let newer = count.values() > if i == 0 { free.values() } else { 0 };
            (count.line() == line && newer && count.values() <= per_line).then_some(count)
        });
        let tail = counts.last().unwrap_or(free);
        let mut producer = Producer { region, tail, limit: tail, spare: 0, _values: PhantomData };
        producer.spare = producer.room_from(free);
        producer
    }

    /// Appends a value.
    ///
    /// # Errors
    /// [`PushError::Full`] and [`PushError::Closed`], with the value.
    #[inline]
    pub fn try_push(&mut self, value: T) -> Result<(), PushError<T>> {
        if self.consumer_has_closed() {
            return Err(PushError::Closed(value));
        }
        if self.tail == self.limit && !self.look_for_room() {
            return Err(PushError::Full(value));
        }
        let tail = self.tail;
        if M::broken(Bug::SpscPublishFirst) {
            self.publish(1);
        }
        // SAFETY: the place is free: the consumer's free word has passed it a lap ago, seen with Acquire. Nobody reads
        // it before the count says so, and we are the only producer.
        self.region.cell(tail.line(), tail.values()).with_mut(|p| unsafe { p.write(value) });
        if !M::broken(Bug::SpscPublishFirst) {
            self.publish(1);
        }
        Ok(())
    }

    /// Appends as many of `values` as there is room for, and says how many. They become visible line by line, so a
    /// reader sees a prefix.
    ///
    /// # Errors
    /// [`PushError::Closed`], with nothing pushed.
    #[inline]
    pub fn push_slice(&mut self, values: &[T]) -> Result<usize, PushError<()>> {
        if self.consumer_has_closed() {
            return Err(PushError::Closed(()));
        }
        let mut rest = values;
        while !rest.is_empty() && (self.tail != self.limit || self.look_for_room()) {
            let tail = self.tail;
            let (now, later) = rest.split_at(rest.len().min((self.limit.0 - tail.0) as usize));
            for (k, value) in now.iter().enumerate() {
                // SAFETY: as in `try_push`, for all places up to the limit.
                self.region.cell(tail.line(), tail.values() + k).with_mut(|p| unsafe { p.write(*value) });
            }
            self.publish(now.len() as u64);
            rest = later;
        }
        Ok(values.len() - rest.len())
    }

    /// `n` more values of the line are whole.
    #[inline(always)]
    fn publish(&mut self, n: u64) {
        let line = self.tail.line();
        self.tail.0 += n;
        // Pairs with SpscLook.
        self.region.count(line).store(self.tail.0, M::at(Site::SpscPublish, Ordering::Release));
    }

    #[inline(always)]
    fn consumer_has_closed(&self) -> bool {
        let closed = &self.region.ends().closed[CONSUMER];
        closed.load(M::at(Site::SpscLookEnd, Ordering::Acquire)) != 0
    }

    /// Goes on to the next line at the end of one, and looks at the free word if that is needed for a place. Asked at
    /// the limit only.
    #[inline(always)]
    fn look_for_room(&mut self) -> bool {
        let per_line = Shape::per_line::<T>();
        // What nearly always happens at the end of a line: the next one is free.
        if self.tail.values() == per_line && self.spare >= per_line as u64 {
            self.tail = self.tail.settled(per_line);
            self.limit = Position(self.tail.0 + per_line as u64);
            self.spare -= per_line as u64;
            return true;
        }
        self.look_at_free()
    }

    #[inline(never)]
    fn look_at_free(&mut self) -> bool {
        let per_line = Shape::per_line::<T>();
        self.tail = self.tail.settled(per_line);
        if self.spare == 0 {
            let word = self.region.ends().free.load(M::at(Site::SpscLookFree, Ordering::Acquire));
            self.spare = self.room_from(Position::of(word, per_line));
        }
        let room = self.spare.min((per_line - self.tail.values()) as u64);
        self.limit = Position(self.tail.0 + room);
        self.spare -= room;
        room > 0
    }

    /// Places that are free if all before `free` has been read. A free word that makes no sense gives none.
    fn room_from(&self, free: Position) -> u64 {
        let one_more = u64::from(M::broken(Bug::SpscOneTooMany));
        let used = free.distance(self.tail, Shape::per_line::<T>());
        (self.region.shape().capacity as u64 + one_more).saturating_sub(used)
    }

    /// Whether a value can be pushed.
    pub fn has_room(&mut self) -> bool {
        self.tail != self.limit || self.look_for_room()
    }

    /// Values that are in the ring, at most: the consumer may have taken some.
    pub fn len(&self) -> usize {
        let (shape, per_line) = (self.region.shape(), Shape::per_line::<T>());
        let free = Position::of(self.region.ends().free.load(Ordering::Relaxed), per_line);
        // A consumer that has looked beyond the end of a line has given it back as the beginning of the next.
        free.distance(self.tail.settled(per_line), per_line).min(shape.capacity as u64) as usize
    }

    /// Whether all that was sent has been taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values fit.
    pub fn capacity(&self) -> usize {
        self.region.shape().capacity
    }

    /// Says that nothing more will be sent. What is in the ring can still be read.
    pub fn close(&mut self) {
        // Pairs with SpscLookEnd of the consumer.
        self.region.ends().closed[PRODUCER].store(1, M::at(Site::SpscEnd, Ordering::Release));
    }

    /// Whether the consumer has closed: nobody will read.
    pub fn is_closed(&self) -> bool {
        self.consumer_has_closed()
    }

    /// Whether this end has closed, or a former producer.
    pub fn has_closed(&self) -> bool {
        self.region.ends().closed[PRODUCER].load(Ordering::Relaxed) != 0
    }
}

impl<M: Mem, T: Shareable, R: Region<M, T>> Consumer<M, T, R> {
    /// The receiving end of a ring that is new, or whose last consumer is gone: goes on behind what it gave back.
    ///
    /// # Safety
    /// Nobody else is this ring's consumer, and everything that a former one did happened before.
    pub unsafe fn attach(region: R) -> Self {
        let head = Position::of(region.ends().free.load(Ordering::Relaxed), Shape::per_line::<T>());
        Consumer { region, head, seen: head, _values: PhantomData }
    }

    /// Takes the oldest value.
    ///
    /// # Errors
    /// [`PopError::Empty`], and [`PopError::Drained`] if the producer has closed.
    #[inline]
    pub fn try_pop(&mut self) -> Result<T, PopError> {
        if self.head == self.seen && !self.look() {
            self.look_again()?;
        }
        let head = self.head;
        self.head.0 += 1;
        if M::broken(Bug::SpscFreeFirst) {
            self.free(self.head);
        }
        // SAFETY: the line's count, seen with Acquire, says that the value is whole; the producer does not write here
        // before the free word has passed it, and we are the only consumer. Any bytes are a T.
        let value = self.region.cell(head.line(), head.values()).with(|p| unsafe { p.read() });
        if !M::broken(Bug::SpscFreeFirst) {
            self.free(self.head);
        }
        Ok(value)
    }

    /// Takes as many values as are there, into the front of `into`, and says how many. Their places are given back at
    /// once, in the end.
    ///
    /// # Errors
    /// As for [`try_pop`](Self::try_pop), if there is none. Nothing is looked for if `into` is empty.
    #[inline]
    pub fn pop_slice(&mut self, into: &mut [T]) -> Result<usize, PopError> {
        let mut got = 0;
        while got < into.len() {
            if self.head == self.seen && !self.look() {
                if got > 0 {
                    break;
                }
                self.look_again()?;
            }
            let (head, there) = (self.head, (self.seen.0 - self.head.0) as usize);
            let now = there.min(into.len() - got);
            for (k, value) in into[got..got + now].iter_mut().enumerate() {
                // SAFETY: as in `try_pop`, for all places up to `seen`.
                *value = self.region.cell(head.line(), head.values() + k).with(|p| unsafe { p.read() });
            }
            self.head.0 += now as u64;
            got += now;
        }
        if got > 0 {
            self.free(self.head);
        }
        Ok(got)
    }

    #[inline(always)]
    fn free(&self, to: Position) {
        // Pairs with SpscLookFree.
        self.region.ends().free.store(to.0, M::at(Site::SpscFree, Ordering::Release));
    }

    /// Goes on to the next line at the end of one, and looks at its count.
    #[inline(always)]
    fn look(&mut self) -> bool {
        let per_line = Shape::per_line::<T>();
        self.head = self.head.settled(per_line);
        let head = self.head;
        let count = Position(self.region.count(head.line()).load(M::at(Site::SpscLook, Ordering::Acquire)));
        // Of another line: the producer has not come here. Beyond the line's end: a bad word.
        let values = if count.line() == head.line() { count.values().min(per_line) } else { 0 };
        self.seen = Position::new(head.line(), values.max(head.values()));
        self.seen != head
    }

    /// Nothing was there: is that for good?
    #[cold]
    fn look_again(&mut self) -> Result<(), PopError> {
        let closed = &self.region.ends().closed[PRODUCER];
        if closed.load(M::at(Site::SpscLookEnd, Ordering::Acquire)) == 0 {
            return Err(PopError::Empty);
        }
        // Whatever was sent before the end is visible now.
        if !M::broken(Bug::SpscNoSecondLook) && self.look() { Ok(()) } else { Err(PopError::Drained) }
    }

    /// Whether a value is there.
    pub fn has_next(&mut self) -> bool {
        self.head != self.seen || self.look()
    }

    /// Whether the producer has closed. Values may still be there.
    pub fn is_closed(&self) -> bool {
        self.region.ends().closed[PRODUCER].load(M::at(Site::SpscLookEnd, Ordering::Acquire)) != 0
    }

    /// Whether this end has closed, or a former consumer.
    pub fn has_closed(&self) -> bool {
        self.region.ends().closed[CONSUMER].load(Ordering::Relaxed) != 0
    }

    /// Says that nobody will read any more: the producer's next push fails.
    pub fn close(&mut self) {
        // Pairs with SpscLookEnd of the producer.
        self.region.ends().closed[CONSUMER].store(1, M::at(Site::SpscEnd, Ordering::Release));
    }

    /// How many values fit.
    pub fn capacity(&self) -> usize {
        self.region.shape().capacity
    }
}

static_assertions::const_assert_eq!(size_of::<Ends<Real>>(), 256);
static_assertions::const_assert_eq!(core::mem::offset_of!(Ends<Real>, closed), 128);
static_assertions::const_assert!(COUNT == size_of::<<Real as Mem>::U64>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let of = |s: Result<Shape, CapacityError>| s.map(|s| (s.per_line, s.line_bytes, s.lines));
        assert_eq!(of(Shape::of::<u64>(1024)), Ok((7, 64, 256)));
        assert_eq!(of(Shape::of::<u64>(1)), Ok((7, 64, 1)));
        assert_eq!(of(Shape::of::<u8>(8)), Ok((7, 64, 2)));
        assert_eq!(of(Shape::of::<()>(8)), Ok((7, 64, 2)));
        assert_eq!(of(Shape::of::<u128>(8)), Ok((3, 64, 4)));
        assert_eq!(of(Shape::of::<[u64; 7]>(8)), Ok((1, 64, 8)));
        // Six values of the first line are read, and eight are there: fourteen places.
        assert_eq!((of(Shape::of::<u64>(8)), of(Shape::of::<u64>(4))), (Ok((7, 64, 2)), Ok((7, 64, 2))));
        assert_eq!(of(Shape::of::<[u8; 64]>(8)), Ok((1, 128, 8)));
        assert_eq!(Shape::of::<u64>(0), Err(CapacityError::Zero));
        assert!(Shape::of::<[u64; 1 << 20]>(1 << 30).is_err());
    }

    #[test]
    fn distances_wrap() {
        let last = Position::new(LINES, 6);
        let next = Position(last.0 + 1).settled(7);
        assert_eq!(next, Position::new(0, 0));
        assert_eq!((last.distance(next, 7), last.distance(last, 7)), (1, 0));
        assert!(next.distance(last, 7) > 1 << 32);
        assert_eq!((last.line(), last.values()), (LINES, 6));
        assert_eq!(Position::new(5, 3).settled(3), Position::new(6, 0));
        assert_eq!(Position::new(5, 3).distance(Position::new(6, 0), 3), 0);
        assert_eq!(Position::new(5, 2).settled(3), Position::new(5, 2));
        assert_eq!(Position::of(u64::MAX, 3), Position::new(LINES, 3));
    }
}
