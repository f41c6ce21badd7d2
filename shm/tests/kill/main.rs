//! Killed, and stopped, at every instruction.
//!
//! An actor is a forked, single-threaded process that does one thing. It is stepped to its k-th instruction and then
//! either killed there, after which a survivor must find a state that it can work with, or left standing there while
//! others do something whole, after which it goes on and must come to a right end. For every k, or (without
//! `SAPWOOD_FULL`) for the first 300, both sides of every system call, and 200 random ones.
//!
//! # Adding a scenario
//! A unit struct with [`Death`] or [`Stall`], and a line in `SCENARIOS`:
//!
//! ```text
//! struct Push;
//! impl Death for Push {
//!     const NAME: &str = "push onto a ring";
//!     type World = Segment;                                        // made anew for each k, in this process
//!     type Actor = (Seat, Ring);                                   // made by the actor before it is stepped
//!     fn world() -> Segment { Segment::create(&spec(2)).expect("there is memory") }
//!     fn arrive(world: &Segment) -> (Seat, Ring) { ... }            // takes a seat, attaches a ring
//!     fn act(actor: &mut (Seat, Ring)) -> impl Sized { actor.1.try_push(7) }       // this is stepped
//!     fn survive(world: Segment, completed: bool) -> &'static str {                // the actor is dead and reaped
//!         let seat = world.take_seat(1).expect("it is free");
//!         match Ring::attach(&world).try_pop() {                   // recovers what the dead one has left
//!             Ok(7) => "sent",
//!             Err(Empty) if !completed => "not sent",
//!             other => panic!("{other:?}"),                        // names k, and fails the whole run
//!         }
//!     }
//! }
//! ```
//!
//! The label that `survive` returns is counted: the table shows how many k ended in what. What `act` returns is kept
//! to the end, so that no destructor is stepped that does not belong to the operation; for `completed`, the actor is
//! killed right after the operation. A [`Stall`] has two more: `meanwhile` is what the others do while the actor stands
//! at k, and `report` lets the actor say, in a byte, how its operation ended.
//!
//! `cargo test -p sapwood-shm --test kill -- push` runs the scenarios with `push` in their names.

mod again;
mod bufs;
mod channel;
#[path = "../common/mod.rs"]
mod common;
mod frames;
mod frozen;
mod jobs;
mod links;
mod locks;
mod many;
mod map;
mod named;
mod queue;
mod rings;
mod rivals;
mod seats;
mod sweep;
mod tracer;

use std::panic::catch_unwind;

use sweep::{Death, Run, Stall, die, stall};

/// A scenario's name, and what runs it.
type Scenario = (&'static str, fn(&Run));

/// Every scenario.
const SCENARIOS: &[Scenario] = &[
    (seats::Take::NAME, die::<seats::Take>),
    (seats::Leave::NAME, die::<seats::Leave>),
    (seats::TakeAgain::NAME, die::<seats::TakeAgain>),
    (seats::TakeAny::NAME, die::<seats::TakeAny>),
    (seats::StallLooking::NAME, stall::<seats::StallLooking>),
    (seats::StallRival::NAME, stall::<seats::StallRival>),
    (seats::StallPasser::NAME, stall::<seats::StallPasser>),
    (seats::StallJudging::NAME, stall::<seats::StallJudging>),
    (seats::StallBurying::NAME, stall::<seats::StallBurying>),
    (named::Build::NAME, die::<named::Build>),
    (named::Enter::NAME, die::<named::Enter>),
    (named::EnterStale::NAME, die::<named::EnterStale>),
    (named::EnterSecond::NAME, die::<named::EnterSecond>),
    (named::EnterAgain::NAME, die::<named::EnterAgain>),
    (named::Create::NAME, die::<named::Create>),
    (named::Unlink::NAME, die::<named::Unlink>),
    (rings::Push::NAME, die::<rings::Push>),
    (rings::PushSlice::NAME, die::<rings::PushSlice>),
    (rings::Pop::NAME, die::<rings::Pop>),
    (rings::Close::NAME, die::<rings::Close>),
    (rings::Succeed::NAME, die::<rings::Succeed>),
    (rings::Write::NAME, die::<rings::Write>),
    (rings::Read::NAME, die::<rings::Read>),
    (rings::Publish::NAME, die::<rings::Publish>),
    (many::Push::NAME, die::<many::Push>),
    (many::PushThenFull::NAME, die::<many::PushThenFull>),
    (many::Pop::NAME, die::<many::Pop>),
    (many::PopThenFull::NAME, die::<many::PopThenFull>),
    (many::PopThenDrained::NAME, die::<many::PopThenDrained>),
    (many::Succeed::NAME, die::<many::Succeed>),
    (many::StallPush::NAME, stall::<many::StallPush>),
    (many::StallPop::NAME, stall::<many::StallPop>),
    (frames::Send::NAME, die::<frames::Send>),
    (frames::Receive::NAME, die::<frames::Receive>),
    (bufs::Send::NAME, die::<bufs::Send>),
    (bufs::Share::NAME, die::<bufs::Share>),
    (bufs::Adopt::NAME, die::<bufs::Adopt>),
    (bufs::AdoptLate::NAME, die::<bufs::AdoptLate>),
    (bufs::Leave::NAME, die::<bufs::Leave>),
    (bufs::StallAdopt::NAME, stall::<bufs::StallAdopt>),
    (frozen::Publish::NAME, die::<frozen::Publish>),
    (frozen::StallPublish::NAME, stall::<frozen::StallPublish>),
    (jobs::Submit::NAME, die::<jobs::Submit>),
    (jobs::Take::NAME, die::<jobs::Take>),
    (jobs::Finish::NAME, die::<jobs::Finish>),
    (jobs::Collect::NAME, die::<jobs::Collect>),
    (queue::Submit::NAME, die::<queue::Submit>),
    (queue::Close::NAME, die::<queue::Close>),
    (queue::Take::NAME, die::<queue::Take>),
    (queue::Finish::NAME, die::<queue::Finish>),
    (queue::Leave::NAME, die::<queue::Leave>),
    (queue::Receive::NAME, die::<queue::Receive>),
    (links::Send::NAME, die::<links::Send>),
    (links::Receive::NAME, die::<links::Receive>),
    (channel::Send::NAME, die::<channel::Send>),
    (channel::Recv::NAME, die::<channel::Recv>),
    (channel::Select::NAME, die::<channel::Select>),
    (channel::Close::NAME, die::<channel::Close>),
    (channel::StallSend::NAME, stall::<channel::StallSend>),
    (channel::SendFrame::NAME, die::<channel::SendFrame>),
    (channel::RecvFrame::NAME, die::<channel::RecvFrame>),
    (again::Keep::NAME, die::<again::Keep>),
    (again::End::NAME, die::<again::End>),
    (again::Succeed::NAME, die::<again::Succeed>),
    (locks::Take::NAME, die::<locks::Take>),
    (locks::Change::NAME, die::<locks::Change>),
    (locks::GiveBack::NAME, die::<locks::GiveBack>),
    (locks::Inherit::NAME, die::<locks::Inherit>),
    (locks::Recover::NAME, die::<locks::Recover>),
    (locks::ArriveFirst::NAME, die::<locks::ArriveFirst>),
    (locks::ArriveLast::NAME, die::<locks::ArriveLast>),
    (locks::Leave::NAME, die::<locks::Leave>),
    (map::Insert::NAME, die::<map::Insert>),
    (map::Replace::NAME, die::<map::Replace>),
    (map::Update::NAME, die::<map::Update>),
    (map::Remove::NAME, die::<map::Remove>),
    (map::Clear::NAME, die::<map::Clear>),
    (map::Succeed::NAME, die::<map::Succeed>),
    (map::StallInsert::NAME, stall::<map::StallInsert>),
    (map::StallSnapshot::NAME, stall::<map::StallSnapshot>),
    (rivals::Entering::NAME, stall::<rivals::Entering>),
    (rivals::Leaving::NAME, stall::<rivals::Leaving>),
    (rivals::Unlinking::NAME, stall::<rivals::Unlinking>),
    (rivals::Reviving::NAME, stall::<rivals::Reviving>),
    (rivals::Retiring::NAME, stall::<rivals::Retiring>),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let list = std::env::args().any(|a| a == "--list");
    let wanted = SCENARIOS.iter().filter(|(name, _)| words.iter().all(|w| name.contains(w.as_str())));
    if list {
        wanted.for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let run = match Run::new() {
        Ok(run) => run,
        Err(why) => {
            println!("SKIPPED: {why}");
            return;
        }
    };
    let failed: Vec<&str> =
        wanted.filter(|(_, scenario)| catch_unwind(|| scenario(&run)).is_err()).map(|(n, _)| *n).collect();
    if !failed.is_empty() {
        eprintln!("FAILED: {}", failed.join("; "));
        std::process::exit(1);
    }
}
