//! Every ordering that is not relaxed, weakened, and every mistake in the logic, made: some model must notice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sapwood_core::mem::{Bug, Site};
use sapwood_core::testing::explore::with_bug;
use sapwood_loom_tests::family::{Mutant, with_mutant};
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
            ClaimHintLoad | ClaimHintStore => (),
            BlockLoanLoad | BlockLoan | BlockTake | BlockFree | BlockRecoverLoad | BlockRecover => (),
            LocalPublish | LocalPopLoad | LocalFree | LocalPushLoad | LocalClose | LocalCloseLoad => (),
        }
        match bug {
            BellWakesOne | BellKeepsEpoch | BellNoSecondLook => (),
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
            ClaimRedoDone => (),
            BlockLoanSameGeneration | BlockKeepsFlight | BlockSameGeneration | BlockFlightLate => (),
            BlockTakeLate | BlockOrphanUnchecked | BlockFlightFallsBehind | BlockFreeInFlight => (),
            BlockIgnoreSuccessor | BlockRingFirst => (),
            LocalPublishFirst | LocalFreeFirst | LocalSameLap | LocalOneTooMany | LocalNoVoid => (),
            LocalDrainedEarly | LocalClaimOverClose | LocalEmptyUncompared | LocalFullUncompared => (),
            LocalPublishForward => (),
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

/// What a panic said, in one line.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The first of `models` that fails under the mutant, and what it said.
fn noticed(mutant: Mutant, models: &[Model]) -> Option<(&str, String)> {
    models.iter().find_map(|m| {
        let bug = if let Mutant::Mistake(bug) = mutant { Some(bug) } else { None };
        let run = || with_bug(bug, || with_mutant(Some(mutant), || (m.run)(Some(m.bound))));
        catch_unwind(AssertUnwindSafe(run)).err().map(|e| (m.name.as_str(), message(&*e)))
    })
}

#[test]
fn every_mutant_is_noticed() {
    // The panics are the point here; what each says is printed in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let results: Vec<_> = mutants()
        .iter()
        .map(|(mutant, models)| (*mutant, noticed(*mutant, models).map(|(by, said)| (by.to_owned(), said))))
        .collect();
    let _ = std::panic::take_hook();
    println!("{:<28} | {:<58} | message", "mutant", "noticed by");
    for (mutant, by) in &results {
        let name = match mutant {
            Mutant::Weak(site) => format!("{site:?} -> relaxed"),
            Mutant::Mistake(bug) => format!("{bug:?}"),
        };
        let (by, said) = by.as_ref().map_or(("NOBODY", ""), |(by, said)| (by, said));
        println!("{name:<28} | {by:<58} | {}", said.chars().take(100).collect::<String>());
    }
    for (mutant, by) in &results {
        let (by, said) = by.as_ref().unwrap_or_else(|| panic!("no model notices {mutant:?}"));
        assert!(
            !said.contains("maximum number of branches"),
            "{by} is too big to say anything of {mutant:?}"
        );
    }
}
