//! Every ordering that is not relaxed, weakened, and every mistake in the logic, made: some model must notice.

use sapwood_core::mem::{Bug, Site};
use sapwood_loom_tests::family::Mutant;
use sapwood_loom_tests::judge;
use sapwood_loom_tests::models::{Model, barrier, board, doorbell, latest, member, mpmc, spsc, stream};

/// All mutants, with the models to try in order.
fn mutants() -> Vec<(Mutant, Vec<Model>)> {
    use Bug::*;
    use Mutant::{Mistake, Weak};
    use Site::*;
    // A new site or mistake does not compile here before it has its line below.
    let _ = |site: Site, bug: Bug| {
        match site {
            BellSleeperFence | BellWakerFence | BarrierArrive | BarrierLook | BoardPublish | BoardLook => (),
            BoardStep | BoardLookStep | BoardEnd | BoardLookEnd => (),
            SpscPublish | SpscLook | SpscFree | SpscLookFree | SpscEnd | SpscLookEnd => (),
            StreamPublish | StreamLook | StreamFree | StreamLookFree | StreamEnd | StreamLookEnd => (),
            LatestPublish | LatestLook | LatestWriterFence | LatestReaderFence => (),
            MpmcPublish | MpmcPopLoad | MpmcRelease | MpmcPushLoad | MpmcSkip | MpmcTakeOverFree => (),
            MpmcHintLoad | MpmcHintStore => (),
            ClaimSubmit | ClaimTakeLoad | ClaimFinish | ClaimDecline | ClaimCollect => (),
            ClaimFree | ClaimSubmitLoad | ClaimRedeliver | ClaimUnsubmit | ClaimUncollect => (),
            ClaimHintLoad | ClaimHintStore | ClaimLookDoor => (),
            BlockLoanLoad | BlockLoan | BlockTake | BlockFree | BlockRecoverLoad | BlockRecover => (),
            LocalPublish | LocalPopLoad | LocalFree | LocalPushLoad | LocalClose | LocalCloseLoad => (),
            LockTake | LockFree | LockLook | LockRecover => (),
            MusterDecide | MusterLook | MusterLeave | MusterLookLeft => (),
            BufLoanLoad | BufLoan | BufShare | BufAdoptLoad | BufAdopt | BufDrop | BufSoleLoad => (),
            MapLock | MapUnlock | MapUnlockDead | MapLook | MapCommit | MapClaimLoad | MapGiveBack => (),
            MapBury | MapWriterFence | MapReaderFence | MapInstall | MapHelpLoad | MapFinishLoad => (),
            MapFinish | MapSettle => (),
            BufLeave | BufLeftLoad | BufRecoverLoad | BufRecover => (),
        }
        match bug {
            BellWakesOne | BellKeepsEpoch | BellNoSecondLook | BellGlanceAsleep => (),
            BoardOneLine | BoardNoSecondLook | BoardNoCatchUp => (),
            SpscPublishFirst | SpscFreeFirst | SpscNoSecondLook | SpscOneTooMany => (),
            StreamPublishFirst | StreamNoSecondLook | LatestSameCell | LatestNoSecondLook => (),
            MpmcSameLap | MpmcHintFirst | MpmcAssumeDead | MpmcAssumeAlive | MpmcFreeThenRead => (),
            MpmcNoTakeOver | MpmcPublishFirst | MpmcStepOver | MpmcJumpTooFar | MpmcPopJumpTooFar => (),
            MpmcTakeOverUnderOldName | MpmcNoSeal | MpmcPassSeal | MpmcForgetReaders => (),
            ClaimSubmitFirst | ClaimFinishFirst | ClaimFinishByStore | ClaimFreeFirst | ClaimSameTurn => (),
            ClaimHintFirst | ClaimAssumeDead | ClaimAssumeAlive | ClaimStepOverFilled => (),
            ClaimStepOverFilling | ClaimJumpTooFar | ClaimTakeJumpTooFar | ClaimNoSearch => (),
            ClaimSearchTakesNew | ClaimAlwaysQuiet | ClaimDropJob | ClaimUncounted | ClaimDropAnswer => (),
            ClaimRedoDone | ClaimSilentClose | ClaimDoorLate | ClaimForgetHeld | ClaimSilentBack => (),
            ClaimSilentLast | ClaimGiveUpByStore | ClaimGlanceAtTheDoor | ClaimForgetPassed => (),
            ClaimTrailStays => (),
            BlockLoanSameGeneration | BlockKeepsFlight | BlockSameGeneration | BlockFlightLate => (),
            BlockTakeLate | BlockOrphanUnchecked | BlockFlightFallsBehind | BlockFreeInFlight => (),
            BlockIgnoreSuccessor | BlockRingFirst | BlockKeepsMail | BlockMailEarly | BlockForgetMail => (),
            BlockMailFallsBehind | BlockOrphanMailFallsBehind | BlockMailByStore | BlockResendAsNew => (),
            BellsForgetTheSeal | BellsCloseForReaders | BellsCloseForSenders => (),
            LocalPublishFirst | LocalFreeFirst | LocalSameLap | LocalOneTooMany | LocalNoVoid => (),
            LocalDrainedEarly | LocalClaimOverClose | LocalEmptyUncompared | LocalFullUncompared => (),
            LocalPublishForward => (),
            LockSilentWaiter | LockForgetsWaiters | LockFreeByStore | LockRingFirst => (),
            LockForgetsDeath | LockInheritByStore | LockNoRecovery => (),
            MusterNoSecondLook | MusterBreakByStore | MusterNextIsOurs | MusterRingFirst | MusterEarly => (),
            BufLoanSameGeneration | BufLoanOverTickets | BufShareSameGeneration | BufNoteLate => (),
            BufNoteReused | BufAdoptUnchecked | BufGiveInTwoSteps | BufNoteFreedFirst => (),
            MapAssumeDead | MapAssumeAlive | MapTakeOverUnhelped | MapBuryUnhelped => (),
            MapReadFilling | MapReaderNoSecondLook | MapHelperNoSecondLook | MapOverwritePending => (),
            MapIgnoreCapacity | MapCountTwice | MapNoCount | MapSameHalf | MapCommitFirst => (),
            MapPublishFirst | MapKeepReach | MapShrinkTooFar => (),
            BufIgnoreSuccessor | BufRecoverOnce | BufForgetTickets => (),
        }
    };
    let bell = [Weak(BellSleeperFence), Weak(BellWakerFence)];
    let bell_bugs = [Mistake(BellWakesOne), Mistake(BellKeepsEpoch), Mistake(BellNoSecondLook)];
    let barriers = [Weak(BarrierArrive), Weak(BarrierLook)];
    let boards = [Weak(BoardPublish), Weak(BoardLook), Weak(BoardStep), Weak(BoardLookStep)];
    let ends = [Weak(BoardEnd), Weak(BoardLookEnd)];
    let board_bugs = [Mistake(BoardOneLine), Mistake(BoardNoSecondLook), Mistake(BoardNoCatchUp)];
    let with = |mutants: &[Mutant], models: fn() -> Vec<Model>| {
        mutants
            .iter()
            .map(|m| (*m, models().into_iter().chain(member::all()).collect()))
            .collect::<Vec<(Mutant, Vec<Model>)>>()
    };
    let bells = [&bell[..], &bell_bugs].concat();
    let boards = [&boards[..], &ends, &board_bugs].concat();
    let all = [with(&bells, doorbell::all), with(&barriers, barrier::all), with(&boards, board::all)];
    all.into_iter().flatten().chain(rings()).collect()
}

/// Those of the rings. Mistakes in the logic of the ring of many to many are the explorer's business; loom's are the
/// orderings.
fn rings() -> Vec<(Mutant, Vec<Model>)> {
    use Bug::*;
    use Mutant::{Mistake, Weak};
    use Site::*;
    let spscs = [
        Weak(SpscPublish),
        Weak(SpscLook),
        Weak(SpscFree),
        Weak(SpscLookFree),
        Weak(SpscEnd),
        Weak(SpscLookEnd),
        Mistake(SpscPublishFirst),
        Mistake(SpscFreeFirst),
        Mistake(SpscNoSecondLook),
        Mistake(SpscOneTooMany),
    ];
    let streams = [
        Weak(StreamPublish),
        Weak(StreamLook),
        Weak(StreamFree),
        Weak(StreamLookFree),
        Weak(StreamEnd),
        Weak(StreamLookEnd),
        Mistake(StreamPublishFirst),
        Mistake(StreamNoSecondLook),
    ];
    let latests = [
        Weak(LatestPublish),
        Weak(LatestLook),
        Weak(LatestWriterFence),
        Weak(LatestReaderFence),
        Mistake(LatestSameCell),
        Mistake(LatestNoSecondLook),
    ];
    let mpmcs = [
        Weak(MpmcPublish),
        Weak(MpmcPopLoad),
        Weak(MpmcRelease),
        Weak(MpmcPushLoad),
        Weak(MpmcSkip),
        Weak(MpmcTakeOverFree),
        Weak(MpmcHintLoad),
        Weak(MpmcHintStore),
    ];
    let mpmc_bugs = [
        MpmcSameLap,
        MpmcHintFirst,
        MpmcAssumeDead,
        MpmcAssumeAlive,
        MpmcFreeThenRead,
        MpmcNoTakeOver,
        MpmcPublishFirst,
        MpmcStepOver,
        MpmcJumpTooFar,
        MpmcPopJumpTooFar,
        MpmcTakeOverUnderOldName,
        MpmcNoSeal,
        MpmcPassSeal,
        MpmcForgetReaders,
    ];
    let with = |mutants: &[Mutant], models: fn() -> Vec<Model>| {
        mutants.iter().map(|m| (*m, models())).collect::<Vec<_>>()
    };
    let mut all = with(&spscs, spsc::all);
    all.extend(with(&streams, stream::all));
    all.extend(with(&latests, latest::all));
    all.extend(with(&mpmcs, mpmc::all));
    all.extend(with(&mpmc_bugs.map(Mistake), mpmc::explored));
    all
}

#[test]
fn every_mutant_is_noticed() {
    let tables: Vec<_> = mutants().into_iter().map(|(mutant, models)| ([mutant], models)).collect();
    judge::every_mutant_is_noticed(&tables);
}
