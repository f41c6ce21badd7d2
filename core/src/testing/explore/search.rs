//! All schedules.

use core::fmt;
use core::hash::BuildHasherDefault;
use std::collections::HashMap;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::digest::{self, AsItIs};
use super::memory::{Log, World, run};
use super::{Judge, Protocol, Stage};

/// Operations of one call after which it never returns.
const MOST: usize = 10_000;

/// What was explored.
#[derive(Default, Debug, Clone, Copy)]
pub struct Report {
    /// Different states of memory and actors.
    pub states: u64,
    /// Operations made, not counting replays.
    pub steps: u64,
    /// Different ends, in each of which a newcomer cleaned up.
    pub ends: u64,
    /// Ways from the start to an end.
    pub schedules: u128,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { states, steps, ends, schedules } = self;
        write!(
            f,
            "{states:>8} states, {steps:>8} steps, {ends:>6} ends, {:>8.1e} schedules",
            *schedules as f64
        )
    }
}

impl core::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        self.states += other.states;
        self.steps += other.steps;
        self.ends += other.ends;
        self.schedules += other.schedules;
    }
}

#[derive(Clone, Hash)]
struct Actor<L> {
    local: L,
    /// Of the call that is under way.
    log: Log,
    /// Calls that have returned.
    done: u8,
}

#[derive(Clone, Hash)]
struct State<J, L> {
    world: World<J>,
    actors: Vec<Actor<L>>,
}

type Node<P> = State<<P as Protocol>::Judge, <P as Protocol>::Local>;
type Script<P> = [<<P as Protocol>::Judge as Judge>::Call];

struct Search<'a, P: Protocol> {
    protocol: &'a P,
    scripts: &'a [&'a Script<P>],
    deaths: u32,
    mortal: u8,
    /// By fingerprint of a state: the ways from it to an end.
    known: HashMap<u128, u128, BuildHasherDefault<AsItIs>>,
    report: Report,
    /// Who acted, and whether he died instead.
    trail: Vec<(u8, bool)>,
}

impl<P: Protocol> Stage<P> {
    /// Explores all schedules of the scripts, script i being actor i's; at most `deaths` of the actors in the bit set
    /// `mortal` die, anywhere.
    ///
    /// # Errors
    /// The first violation found, and the schedule that led to it.
    pub fn explore(
        &self,
        protocol: &P,
        scripts: &[&Script<P>],
        deaths: u32,
        mortal: u8,
    ) -> Result<Report, String> {
        let actor = |i: usize| Actor { local: self.locals[i].clone(), log: Log::new(), done: 0 };
        let start = State { world: self.world.clone(), actors: (0..scripts.len()).map(actor).collect() };
        let mut search = Search {
            protocol,
            scripts,
            deaths,
            mortal,
            known: HashMap::default(),
            report: Report::default(),
            trail: Vec::new(),
        };
        let schedules = search.visit(start)?;
        Ok(Report { schedules, states: search.known.len() as u64, ..search.report })
    }
}

impl<P: Protocol> Search<'_, P> {
    /// Ways from here to an end.
    fn visit(&mut self, node: Node<P>) -> Result<u128, String> {
        let key = digest::of(&node);
        if let Some(ways) = self.known.get(&key) {
            return Ok(*ways);
        }
        let mut ways = 0u128;
        let mut over = true;
        for a in 0..self.scripts.len() as u8 {
            if !self.can_act(&node, a) {
                continue;
            }
            over = false;
            self.trail.push((a, false));
            let next = self.step(node.clone(), a)?;
            ways += self.visit(next)?;
            self.trail.pop();
            if self.mortal >> a & 1 == 1 && node.world.dead().count_ones() < self.deaths {
                self.trail.push((a, true));
                let mut next = node.clone();
                next.world.kill(a);
                next.actors[usize::from(a)].log.clear();
                next.actors[usize::from(a)].local = P::Local::default();
                ways += self.visit(next)?;
                self.trail.pop();
            }
        }
        if over {
            self.report.ends += 1;
            ways = 1;
            let locals = node.actors.into_iter().map(|a| a.local);
            let locals =
                locals.chain(core::iter::repeat_with(P::Local::default)).take(super::ACTORS).collect();
            let mut end = Stage::<P> { world: node.world, locals };
            end.settle(self.protocol).map_err(|what| self.blame(&what))?;
        }
        self.known.insert(key, ways);
        Ok(ways)
    }

    fn can_act(&self, node: &Node<P>, a: u8) -> bool {
        let (actor, script) = (&node.actors[usize::from(a)], self.scripts[usize::from(a)]);
        let next = script.get(usize::from(actor.done));
        let may = |call| !actor.log.is_empty() || self.protocol.may_begin(call, node.world.dead());
        node.world.dead() >> a & 1 == 0 && next.is_some_and(|call| may(*call))
    }

    fn step(&mut self, mut node: Node<P>, a: u8) -> Result<Node<P>, String> {
        self.report.steps += 1;
        let actor = &mut node.actors[usize::from(a)];
        let call = self.scripts[usize::from(a)][usize::from(actor.done)];
        let mut local = actor.local.clone();
        let body = || self.protocol.act(a, &mut local, call);
        let ran = run(node.world, a, call, core::mem::take(&mut actor.log), 1, body);
        node.world = ran.world;
        actor.log = ran.log;
        if ran.finished {
            actor.local = local;
            actor.log.clear();
            actor.done += 1;
            node.world.judge_mut().idle(a);
        }
        node.world.verdict().map_err(|what| self.blame(&what))?;
        if node.actors[usize::from(a)].log.len() > MOST {
            return Err(self.blame(&format!("{call:?} of actor {a} comes to no end")));
        }
        Ok(node)
    }

    fn blame(&self, what: &str) -> String {
        let mut schedule = String::new();
        for (a, died) in &self.trail {
            schedule += &if *died { format!(" {a} dies") } else { format!(" {a}") };
        }
        format!("{what}\n  scripts {:?}, one operation each of:{schedule}", self.scripts)
    }
}
