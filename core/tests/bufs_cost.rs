//! What shared blocks cost: shared operations and cache lines, pinned.
#![allow(missing_docs)]

use sapwood_core::bufs::{Adopted, Bufs};
use sapwood_core::owner::Owner;
use sapwood_core::testing::{Count, Counts, Depot};

const NONE: Counts = Counts { loads: 0, stores: 0, rmws: 0, fences: 0, cells: 0, calls: 0, lines: 0 };

/// One read-modify-write for each change of the holders; a ticket's note costs another when it is issued and when it is
/// adopted, and a line, which lies beside the word's.
#[test]
fn a_buffer() {
    let depot = Depot::<Count>::new(8, 4096, 0).expect("a shape");
    // SAFETY: two names, one handle each.
    let handles = [0, 1].map(|seat| unsafe { Bufs::attach(depot.clone(), Owner::new(seat, 1)) });
    let [mut ours, mut theirs] = handles.map(|h| h.expect("a seat"));
    for _ in 0..100 {
        let (mut holding, mut ticket, mut adopted) = (None, None, None);
        let loan = Count::of(|| holding = ours.loan().ok());
        assert_eq!(loan, Counts { loads: 1, rmws: 1, lines: 1, ..NONE });
        let mine = holding.expect("one is free");
        let sole = Count::of(|| assert!(ours.is_sole(&mine)));
        assert_eq!(sole, Counts { loads: 1, lines: 1, ..NONE });
        let share = Count::of(|| ticket = ours.share(&mine).ok());
        assert_eq!(share, Counts { loads: 2, rmws: 2, lines: 2, ..NONE });
        let adopt = Count::of(|| adopted = theirs.adopt(ticket.expect("a place")).ok());
        assert_eq!(adopt, Counts { loads: 2, rmws: 2, lines: 2, ..NONE });
        let free = Count::of(|| ours.give_back(mine).expect("nobody is in the way"));
        assert_eq!(free, Counts { loads: 1, rmws: 1, lines: 1, ..NONE });
        let Some(Adopted::New(theirs_too)) = adopted else { panic!("it was on its way") };
        theirs.give_back(theirs_too).expect("nobody is in the way");
    }
}
