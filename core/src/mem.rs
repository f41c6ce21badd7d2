//! Memory families: what a protocol may do to shared memory, and nothing else.
//!
//! Every lock-free protocol of this crate is generic over [`Mem`], so that the code that ships (on [`Real`]) is the
//! code that is model-checked (on loom, in `loom-tests`), killed at every step (`Crash`) and counted (`Count`).
//! A protocol never names an atomic type: it asks its family for one.

pub use core::sync::atomic::Ordering;

pub use crate::real::Real;

/// A shared word. A failed [`cas`](Atom::cas) returns the value found, loaded with `Relaxed`: a caller that needs more
/// loads again.
pub trait Atom<V>: Send + Sync {
    /// A word that holds `v`.
    fn new(v: V) -> Self;
    /// Reads the word.
    fn load(&self, o: Ordering) -> V;
    /// Writes the word.
    fn store(&self, v: V, o: Ordering);
    /// Writes `new` where the word holds `old`.
    fn cas(&self, old: V, new: V, o: Ordering) -> Result<V, V>;
    /// Sets the bits of `v`; returns the word as it was.
    fn fetch_or(&self, v: V, o: Ordering) -> V;
}

/// Plain memory guarded by a protocol word. Test families check that nobody races on it.
pub trait RaceCell<T> {
    /// A cell that holds `v`.
    fn new(v: T) -> Self;
    /// Lends the memory for reading.
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R;
    /// Lends the memory for writing.
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R;
}

/// Why a sleep ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woke {
    /// The word differed, somebody woke us, or the kernel did so for no reason: look again.
    Look,
    /// The time was up.
    TimedOut,
}

/// How many words can be waited on at once: the kernel's limit (futex_waitv(2)).
pub const WAIT_MOST: usize = 128;

/// How long a sleep is that stands for waiting on several words.
const SLICE_OF_ANY: u64 = 1_000_000;

/// What stands for waiting on several words: a sleep on the first of them, so short that a change of another one is
/// seen soon.
pub(crate) fn wait_in_slices<M: Mem>(
    mut words: &mut dyn Iterator<Item = (&M::U32, u32)>,
    nanos: u64,
) -> Woke {
    let Some(first) = words.next() else { return Woke::Look };
    if Iterator::any(&mut words, |(word, seen)| word.load(Ordering::Relaxed) != seen) {
        return Woke::Look;
    }
    let woke = M::wait(first.0, first.1, nanos.min(SLICE_OF_ANY));
    if nanos <= SLICE_OF_ANY { woke } else { Woke::Look }
}

/// A memory family.
pub trait Mem: Sized + 'static {
    /// A 32-bit word, which can be slept on.
    type U32: Atom<u32>;
    /// A 64-bit word.
    type U64: Atom<u64>;
    /// Plain memory.
    type Cell<T: Copy>: RaceCell<T>;

    /// A memory fence.
    fn fence(o: Ordering);
    /// One turn of a spin loop.
    fn spin();
    /// That many turns, in which nothing is looked at. Test families may make one of them.
    #[inline(always)]
    fn pause(turns: u32) {
        (0..turns).for_each(|_| Self::spin());
    }
    /// Gives the processor away.
    fn yield_now();
    /// The processor that this thread runs on.
    fn cpu() -> u32;
    /// Monotonic nanoseconds.
    fn now() -> u64;
    /// Sleeps while `word` holds `seen`, for at most `nanos`.
    fn wait(word: &Self::U32, seen: u32, nanos: u64) -> Woke;
    /// Sleeps while each of `words` holds what was seen there, for at most `nanos`: of at most [`WAIT_MOST`] of them.
    /// May return sooner, for no reason, where the system can't wait on several words at once.
    fn wait_any(words: &mut dyn Iterator<Item = (&Self::U32, u32)>, nanos: u64) -> Woke {
        wait_in_slices::<Self>(words, nanos)
    }
    /// Wakes everyone who sleeps on `word`; says how many were woken.
    fn wake(word: &Self::U32) -> u32;
    /// An access to shared memory that is neither an atom's nor a cell's: `bytes` of a resident tensor. Test families
    /// count it as a step.
    #[inline(always)]
    fn touch(_bytes: usize) {}
    /// The ordering used at `site`: the identity, except in a test family that runs a mutant.
    #[inline(always)]
    fn at(_site: Site, o: Ordering) -> Ordering {
        o
    }
    /// Whether a mistake in the logic is switched on: never, except in a test family that runs a mutant.
    #[inline(always)]
    fn broken(_bug: Bug) -> bool {
        false
    }
}

/// Every place whose ordering is not `Relaxed`. A mutant weakens one of them, and some model must notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Site {
    /// `doorbell`: the sleeper's fence between its announcement and its second look.
    BellSleeperFence,
    /// `doorbell`: the waker's fence between publishing and looking for sleepers.
    BellWakerFence,
    /// `barrier`: a participant's arrival.
    BarrierArrive,
    /// `barrier`: the look at another's arrival.
    BarrierLook,
    /// `board`: the sequence of a line is published.
    BoardPublish,
    /// `board`: the sequence of another's line is read.
    BoardLook,
    /// `board`: a step within an operation is published.
    BoardStep,
    /// `board`: another's step is read.
    BoardLookStep,
    /// `board`: a rank says that it has left or failed.
    BoardEnd,
    /// `board`: the look at that word.
    BoardLookEnd,
    /// `ring::spsc`: the producer publishes a line's count.
    SpscPublish,
    /// `ring::spsc`: the consumer looks at it.
    SpscLook,
    /// `ring::spsc`: the consumer gives places back.
    SpscFree,
    /// `ring::spsc`: the producer looks for them.
    SpscLookFree,
    /// `ring::spsc`: one end says that it has closed.
    SpscEnd,
    /// `ring::spsc`: the other end looks at that.
    SpscLookEnd,
    /// `ring::stream`: the writer publishes bytes.
    StreamPublish,
    /// `ring::stream`: the reader looks for them.
    StreamLook,
    /// `ring::stream`: the reader gives room back.
    StreamFree,
    /// `ring::stream`: the writer looks for it.
    StreamLookFree,
    /// `ring::stream`: one end says that it has closed.
    StreamEnd,
    /// `ring::stream`: the other end looks at that.
    StreamLookEnd,
    /// `ring::latest`: the writer publishes a value.
    LatestPublish,
    /// `ring::latest`: a reader looks for the newest one.
    LatestLook,
    /// `ring::latest`: the writer's fence between publishing one value and overwriting an old one.
    LatestWriterFence,
    /// `ring::latest`: the reader's fence between copying a value and looking whether it was still.
    LatestReaderFence,
    /// `ring::mpmc`: a message is published.
    MpmcPublish,
    /// `ring::mpmc`: a consumer looks at a slot.
    MpmcPopLoad,
    /// `ring::mpmc`: a slot is given back.
    MpmcRelease,
    /// `ring::mpmc`: a producer looks at a slot.
    MpmcPushLoad,
    /// `ring::mpmc`: a dead producer's slot is given back.
    MpmcSkip,
    /// `ring::mpmc`: a dead consumer's slot is given back.
    MpmcTakeOverFree,
    /// `ring::mpmc`: a hint is read.
    MpmcHintLoad,
    /// `ring::mpmc`: a hint is written.
    MpmcHintStore,
    /// `claim`: a job is submitted.
    ClaimSubmit,
    /// `claim`: a worker looks at a slot.
    ClaimTakeLoad,
    /// `claim`: a job is answered.
    ClaimFinish,
    /// `claim`: a job is declined.
    ClaimDecline,
    /// `claim`: an owner claims an answer.
    ClaimCollect,
    /// `claim`: a slot is given back.
    ClaimFree,
    /// `claim`: a submitter looks at a slot.
    ClaimSubmitLoad,
    /// `claim`: a dead worker's job is given up or delivered again.
    ClaimRedeliver,
    /// `claim`: a dead submitter's slot is given back.
    ClaimUnsubmit,
    /// `claim`: an answer that a dead owner was collecting is handed on.
    ClaimUncollect,
    /// `claim`: a hint is read.
    ClaimHintLoad,
    /// `claim`: a hint is written.
    ClaimHintStore,
    /// `blocks`: who wants a block looks at it.
    BlockLoanLoad,
    /// `blocks`: a block is lent.
    BlockLoan,
    /// `blocks`: a block is received.
    BlockTake,
    /// `blocks`: a block is given back.
    BlockFree,
    /// `blocks`: who recovers looks at a block.
    BlockRecoverLoad,
    /// `blocks`: a dead holder's block is freed.
    BlockRecover,
    /// `ring::local`: a value is published, or its place made void.
    LocalPublish,
    /// `ring::local`: a consumer looks at a slot.
    LocalPopLoad,
    /// `ring::local`: a place is given back.
    LocalFree,
    /// `ring::local`: a producer looks at a slot.
    LocalPushLoad,
    /// `ring::local`: the ring is closed.
    LocalClose,
    /// `ring::local`: somebody finds it closed.
    LocalCloseLoad,
    /// `lock`: the lock is taken, from nobody or from the dead.
    LockTake,
    /// `lock`: the lock is given back.
    LockFree,
    /// `lock`: somebody looks who has it.
    LockLook,
    /// `lock`: a newcomer gives back what its predecessor had.
    LockRecover,
    /// `muster`: the verdict of a generation is written.
    MusterDecide,
    /// `muster`: it is read.
    MusterLook,
    /// `muster`: a participant says that it has left.
    MusterLeave,
    /// `muster`: another looks at that.
    MusterLookLeft,
    /// `bufs`: who wants a block looks at it.
    BufLoanLoad,
    /// `bufs`: a block is lent.
    BufLoan,
    /// `bufs`: a ticket is issued.
    BufShare,
    /// `bufs`: who adopts looks at the block.
    BufAdoptLoad,
    /// `bufs`: a ticket becomes a holder.
    BufAdopt,
    /// `bufs`: a holder lets go.
    BufDrop,
    /// `bufs`: a holder looks whether it is the only one.
    BufSoleLoad,
    /// `bufs`: who leaves lets its tickets stand without it.
    BufLeave,
    /// `bufs`: a ticket is looked at whose issuer may have left.
    BufLeftLoad,
    /// `bufs`: who recovers looks at a block.
    BufRecoverLoad,
    /// `bufs`: a dead holder, or a ticket of one, is taken out.
    BufRecover,
    /// `map`: a writer takes the home of a key.
    MapLock,
    /// `map`: a home is given back.
    MapUnlock,
    /// `map`: a dead owner's home is given back.
    MapUnlockDead,
    /// `map`: who reads or finds a pair looks at its slot.
    MapLook,
    /// `map`: a value is changed in place.
    MapCommit,
    /// `map`: who wants an entry looks at its slot.
    MapClaimLoad,
    /// `map`: an entry whose pair was not inserted is given back.
    MapGiveBack,
    /// `map`: a dead filler's entry is given back.
    MapBury,
    /// `map`: the writer's fence before it writes words that a reader of another version may see.
    MapWriterFence,
    /// `map`: the reader's fence between copying a pair and looking whether it was still.
    MapReaderFence,
    /// `map`: a change of the number of pairs is announced.
    MapInstall,
    /// `map`: the look for what is announced.
    MapHelpLoad,
    /// `map`: a helper looks at the slot of an announced change.
    MapFinishLoad,
    /// `map`: a pair comes or goes.
    MapFinish,
    /// `map`: an announced change is done.
    MapSettle,
    /// `claim`: a worker looks at the door.
    ClaimLookDoor,
}

/// Mistakes in the logic that the models must notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A waker wakes one sleeper and clears the announcement of all.
    BellWakesOne,
    /// A waker clears the announcement but leaves the epoch as it was.
    BellKeepsEpoch,
    /// A sleeper does not look again after it has announced itself.
    BellNoSecondLook,
    /// A sleeper goes on taking glances where it should look thoroughly.
    BellGlanceAsleep,
    /// The board has one line for each rank instead of two.
    BoardOneLine,
    /// A rank that learns of a death does not look once more.
    BoardNoSecondLook,
    /// A rank publishes without having seen that all readers of the line are done.
    BoardNoCatchUp,
    /// The producer publishes before it has written.
    SpscPublishFirst,
    /// The consumer gives a place back before it has read it.
    SpscFreeFirst,
    /// A consumer that finds nothing and then learns that the producer has closed does not look again.
    SpscNoSecondLook,
    /// The producer takes one place more than there are.
    SpscOneTooMany,
    /// The writer publishes before it has written.
    StreamPublishFirst,
    /// A reader that finds nothing and then learns that the writer has closed does not look again.
    StreamNoSecondLook,
    /// The writer overwrites the newest value instead of the oldest.
    LatestSameCell,
    /// A reader does not look whether its copy was still.
    LatestNoSecondLook,
    /// A freed slot keeps its lap.
    MpmcSameLap,
    /// The hint is published before the claim, so it may run ahead of the truth.
    MpmcHintFirst,
    /// The liveness oracle is not asked: everyone in the way is taken for dead.
    MpmcAssumeDead,
    /// Liveness is never asked: nobody is taken for dead.
    MpmcAssumeAlive,
    /// A dead reader's slot is freed before its payload is copied out.
    MpmcFreeThenRead,
    /// An orphan's slot is read without taking it over first.
    MpmcNoTakeOver,
    /// Publishing comes before writing.
    MpmcPublishFirst,
    /// A consumer steps over a position whose writer is alive.
    MpmcStepOver,
    /// The producer jumps one lap too far when its position is stale.
    MpmcJumpTooFar,
    /// A consumer jumps as far as a producer may.
    MpmcPopJumpTooFar,
    /// A recoverer keeps the dead owner's name in the slot while it reads.
    MpmcTakeOverUnderOldName,
    /// A consumer says "drained" of a closed ring that looks empty without sealing the position.
    MpmcNoSeal,
    /// A producer steps over the seal.
    MpmcPassSeal,
    /// A consumer says "drained" without looking for what dead readers hold.
    MpmcForgetReaders,
    /// A job is published before it is written.
    ClaimSubmitFirst,
    /// An answer is committed before it is written.
    ClaimFinishFirst,
    /// An answer is committed by a store, over the mark of a submitter that steps over the job.
    ClaimFinishByStore,
    /// A slot is given back before the answer is read.
    ClaimFreeFirst,
    /// A claim leaves the turn as it was.
    ClaimSameTurn,
    /// The hint is published before the claim, so it may run ahead of the truth.
    ClaimHintFirst,
    /// The liveness oracle is not asked: everyone in the way is taken for dead.
    ClaimAssumeDead,
    /// Liveness is never asked: nobody is taken for dead.
    ClaimAssumeAlive,
    /// A submitter steps over a job that waits for its first taking.
    ClaimStepOverFilled,
    /// A submitter steps over another that is filling.
    ClaimStepOverFilling,
    /// A submitter jumps one lap too far when its position is stale.
    ClaimJumpTooFar,
    /// A worker jumps as far as a submitter may.
    ClaimTakeJumpTooFar,
    /// A worker that finds nothing new does not look for a job that has come back.
    ClaimNoSearch,
    /// That look takes new jobs too.
    ClaimSearchTakesNew,
    /// A worker that found nothing once does not look again, whatever is in flight.
    ClaimAlwaysQuiet,
    /// A dead worker's job is taken out of the table.
    ClaimDropJob,
    /// A death is not counted as an attempt.
    ClaimUncounted,
    /// An answer that a dead owner was collecting is taken out of the table.
    ClaimDropAnswer,
    /// An answer whose worker has died since is asked for again.
    ClaimRedoDone,
    /// A loan leaves the generation as it was.
    BlockLoanSameGeneration,
    /// A loan leaves what the last life of the block has left of a flight.
    BlockKeepsFlight,
    /// Receiving leaves the generation as it was.
    BlockSameGeneration,
    /// The position is noted after the message was published.
    BlockFlightLate,
    /// A receiver takes the block after it has given the slot back.
    BlockTakeLate,
    /// An orphan's taker does not look whether the block is still the message's.
    BlockOrphanUnchecked,
    /// An orphan's taker leaves the flight one generation behind.
    BlockFlightFallsBehind,
    /// Recovery frees what is in flight.
    BlockFreeInFlight,
    /// Recovery does not ask whether a newcomer has the seat.
    BlockIgnoreSuccessor,
    /// Recovery begins with the ring: a newcomer's orphans seem its predecessor's.
    BlockRingFirst,
    /// A value is published before it is written.
    LocalPublishFirst,
    /// A place is given back before it is read.
    LocalFreeFirst,
    /// A freed place keeps its lap.
    LocalSameLap,
    /// A batch claims one place more than it has seen free.
    LocalOneTooMany,
    /// Places of a batch for which no value came are published as if there were one.
    LocalNoVoid,
    /// A consumer says "drained" of a closed ring whose next place is not full, without comparing the positions.
    LocalDrainedEarly,
    /// `ring::bells`: who gives a place of a closed queue back rings for senders only.
    BellsForgetTheSeal,
    /// `ring::bells`: a close rings for readers only.
    BellsCloseForReaders,
    /// `ring::bells`: a close rings for senders only.
    BellsCloseForSenders,
    /// Who waits does not say so in the lock's word.
    LockSilentWaiter,
    /// Who takes a free lock forgets that somebody waits.
    LockForgetsWaiters,
    /// A lock is given back by a store over whatever the word says.
    LockFreeByStore,
    /// Sleepers are woken before the lock is given back.
    LockRingFirst,
    /// Who takes a lock from the dead does not say so to those that come after.
    LockForgetsDeath,
    /// Who takes a lock from the dead does not look whether they have it still.
    LockInheritByStore,
    /// A newcomer leaves what its predecessor had.
    LockNoRecovery,
    /// The verdict that somebody is missing comes without a second look.
    MusterNoSecondLook,
    /// That verdict is written over whatever is there.
    MusterBreakByStore,
    /// A verdict on the next generation is taken for one on ours.
    MusterNextIsOurs,
    /// Sleepers are woken before the verdict is written.
    MusterRingFirst,
    /// The verdict is written once the next participant has come, not once all have.
    MusterEarly,
    /// A push whose claim is refused by the closed bit claims all the same.
    LocalClaimOverClose,
    /// A consumer says "empty" of an open ring whose next place is not full, without comparing the positions.
    LocalEmptyUncompared,
    /// A producer says "full" where the next place is not free, without comparing the positions.
    LocalFullUncompared,
    /// A batch is published from its first value to its last.
    LocalPublishForward,
    /// A loan leaves the generation as it was.
    BufLoanSameGeneration,
    /// A loan takes no notice of tickets.
    BufLoanOverTickets,
    /// Issuing a ticket leaves the generation as it was.
    BufShareSameGeneration,
    /// Whose ticket it is gets noted after it was issued.
    BufNoteLate,
    /// An issuer takes a note of its own for a leftover without a look at the ticket.
    BufNoteReused,
    /// Who adopts does not look which ticket it is.
    BufAdoptUnchecked,
    /// Who hands a block over lets go before the ticket is issued.
    BufGiveInTwoSteps,
    /// The note is freed before the ticket is taken out.
    BufNoteFreedFirst,
    /// Recovery does not ask whether a newcomer has the seat.
    BufIgnoreSuccessor,
    /// Recovery gives up where another was faster.
    BufRecoverOnce,
    /// Recovery leaves the tickets of the dead.
    BufForgetTickets,
    /// A writer does not ask who lives: every owner of a home is taken for dead.
    MapAssumeDead,
    /// No owner of a home is ever taken for dead.
    MapAssumeAlive,
    /// A dead owner's home is taken over before what he has announced is done.
    MapTakeOverUnhelped,
    /// A dead filler's entry is given back before what he has announced is done.
    MapBuryUnhelped,
    /// A reader takes what is being filled for a pair.
    MapReadFilling,
    /// A reader does not look whether its copy was still.
    MapReaderNoSecondLook,
    /// A helper does not look whether the change is still pending.
    MapHelperNoSecondLook,
    /// A change is announced over one that is pending.
    MapOverwritePending,
    /// An insertion does not look how many pairs there are.
    MapIgnoreCapacity,
    /// A helper counts a change that has been counted.
    MapCountTwice,
    /// A helper leaves the count to others.
    MapNoCount,
    /// A value is written over the one in use.
    MapSameHalf,
    /// A value is published before it is written.
    MapCommitFirst,
    /// An insertion is announced before the pair is written.
    MapPublishFirst,
    /// A pair lies farther off than its home says.
    MapKeepReach,
    /// A removal leaves the farthest pair out of reach.
    MapShrinkTooFar,
    /// A collector does not come back to a job that was not over when it came by.
    ClaimForgetPassed,
    /// A collector looks for a job where it came by, though it was stepped over since.
    ClaimTrailStays,
    /// The owner closes the door and wakes nobody.
    ClaimSilentClose,
    /// Behind a door that is closed a worker takes a glance for a look.
    ClaimGlanceAtTheDoor,
    /// A worker looks at the door after it has looked at the table.
    ClaimDoorLate,
    /// A worker says "over" while others hold jobs.
    ClaimForgetHeld,
    /// A job that was given back wakes nobody.
    ClaimSilentBack,
    /// The last job that ends behind a closed door wakes nobody.
    ClaimSilentLast,
    /// A job is given up by a store, over the mark of a submitter that steps over it.
    ClaimGiveUpByStore,
    /// A loan leaves what the last life of the block has left of a mail.
    BlockKeepsMail,
    /// What is sent for the first time is noted as if it had been received.
    BlockMailEarly,
    /// Recovery frees what the dead one had received, though it is to be delivered again.
    BlockForgetMail,
    /// Who takes a received block from the dead leaves the mail one generation behind.
    BlockMailFallsBehind,
    /// The same of an orphan's taker.
    BlockOrphanMailFallsBehind,
    /// Who takes a received block from the dead raises the mail by a store, over whatever it says.
    BlockMailByStore,
    /// What is sent again is noted as if nobody had received it yet.
    BlockResendAsNew,
}
