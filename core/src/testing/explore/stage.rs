//! A world with its actors.

use core::fmt;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::memory::{Log, World, run};
use super::{ACTORS, Judge, NEWCOMER, Protocol, Verdict};

/// Operations after which a call that has not returned never will.
const MOST: usize = 100_000;

type Call<P> = <<P as Protocol>::Judge as Judge>::Call;
type Event<P> = <<P as Protocol>::Judge as Judge>::Event;

/// A world, and what each actor keeps in private memory. Copies go their own ways.
pub struct Stage<P: Protocol> {
    pub(super) world: World<P::Judge>,
    pub(super) locals: Vec<P::Local>,
}

impl<P: Protocol> Clone for Stage<P> {
    fn clone(&self) -> Self {
        Stage { world: self.world.clone(), locals: self.locals.clone() }
    }
}

impl<P: Protocol> fmt::Debug for Stage<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.world.fmt(f)
    }
}

impl<P: Protocol> Stage<P> {
    /// Makes the protocol's memory, and the world that it lies in.
    pub fn new(build: impl FnOnce() -> (P, P::Judge)) -> (P, Self) {
        let (world, protocol) = World::new(build);
        let locals = (0..ACTORS).map(|_| P::Local::default()).collect();
        (protocol, Stage { world, locals })
    }

    /// The world.
    pub fn world(&self) -> &World<P::Judge> {
        &self.world
    }

    /// Makes one call to its end; what it reported.
    ///
    /// # Errors
    /// What was wrong with it.
    pub fn perform(&mut self, protocol: &P, actor: u8, call: Call<P>) -> Result<Vec<Event<P>>, String> {
        let mut budget = MOST;
        match self.make(protocol, actor, call, &mut budget)? {
            Some(events) => Ok(events),
            None => Err(format!("{call:?} of actor {actor} comes to no end")),
        }
    }

    /// Makes calls, one after the other, and kills the actor before its shared operation `k`. Whether it came to the
    /// end of its calls: then it dies there.
    ///
    /// # Errors
    /// What was wrong before the death.
    pub fn kill(&mut self, protocol: &P, actor: u8, calls: &[Call<P>], k: usize) -> Result<bool, String> {
        let mut left = k;
        let mut all = true;
        for call in calls {
            if self.make(protocol, actor, *call, &mut left)?.is_none() {
                all = false;
                break;
            }
        }
        self.world.kill(actor);
        Ok(all)
    }

    fn make(
        &mut self,
        protocol: &P,
        actor: u8,
        call: Call<P>,
        budget: &mut usize,
    ) -> Result<Option<Vec<Event<P>>>, String> {
        let local = &mut self.locals[usize::from(actor)];
        let body = || protocol.act(actor, local, call);
        let ran = run(self.world.clone(), actor, call, Log::new(), *budget, body);
        self.world = ran.world;
        *budget = ran.left;
        self.world.verdict().map_err(|what| format!("{what} (in {call:?} of actor {actor})"))?;
        if !ran.finished {
            return Ok(None);
        }
        self.world.judge_mut().idle(actor);
        Ok(Some(ran.events))
    }

    /// Lets [`NEWCOMER`] see to it that all is as it must be when everybody is done or dead.
    ///
    /// # Errors
    /// What is not.
    pub fn settle(&mut self, protocol: &P) -> Verdict {
        self.locals[usize::from(NEWCOMER)] = P::Local::default();
        protocol.settle(self)
    }
}
