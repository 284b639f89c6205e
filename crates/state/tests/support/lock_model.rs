//! Locks as one would write them down without a thought for time: a list of acquisitions, looked through from the front each time.

use std::collections::BTreeMap;
use synod_state::lock::*;

/// An acquisition.
#[derive(Clone, Debug)]
pub struct Held {
    pub name: String,
    pub claimant: Claimant,
    pub owner: u64,
    pub mode: Mode,
    pub permits: u64,
    pub priority: i32,
    pub deadline_ms: Option<u64>,
    pub delay_ms: u64,
    /// Grants are numbered here in their own way; those that re-enter share a number.
    pub grant: Option<u64>,
    pub leaving: bool,
}

/// How a wait ended, as far as the model knows: it does not foretell tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Granted,
    Passed,
    TimedOut,
    Cancelled,
    SessionEnded,
    Forced,
}

/// What a command answers, as far as the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Granted,
    Passed,
    Waiting,
    Busy,
    Released,
    Count(u64),
    Refused,
}

#[derive(Default)]
pub struct Locks {
    pub clock_ms: u64,
    /// Deadlines.
    pub sessions: BTreeMap<i64, u64>,
    /// In the order they came.
    pub claims: Vec<Held>,
    pub closed: BTreeMap<String, u64>,
    pub latches: BTreeMap<String, u64>,
    pub limits: BTreeMap<String, u64>,
    pub ends: Vec<(Claimant, End)>,
    grants: u64,
}

fn kind(mode: Mode) -> u8 {
    match mode {
        Mode::Exclusive | Mode::Shared => 0,
        Mode::Permits => 1,
        Mode::Member => 2,
        Mode::Pass => 3,
        Mode::Enter => 4,
    }
}

impl Locks {
    pub fn is_alive(&self, session: i64) -> bool {
        self.sessions
            .get(&session)
            .is_some_and(|&deadline_ms| deadline_ms > self.clock_ms)
    }

    pub fn find(&self, claimant: Claimant) -> Option<&Held> {
        self.claims.iter().find(|claim| claim.claimant == claimant)
    }

    pub fn holders(&self, name: &str) -> Vec<Held> {
        let held = self.claims.iter();
        held.filter(|claim| claim.name == name && claim.grant.is_some())
            .cloned()
            .collect()
    }

    /// In the order they are served.
    pub fn waiters(&self, name: &str) -> Vec<Held> {
        let all = self.claims.iter();
        let mut waiters: Vec<Held> = all
            .filter(|claim| claim.name == name && claim.grant.is_none())
            .cloned()
            .collect();
        waiters.sort_by_key(|claim| -claim.priority);
        waiters
    }

    /// The kind a name is in use for.
    fn used_for(&self, name: &str) -> Option<u8> {
        if self.latches.get(name).is_some_and(|&count| count > 0) {
            return Some(3);
        }
        let claim = self.claims.iter().find(|claim| claim.name == name);
        let claim = claim.map(|claim| kind(claim.mode));
        claim.or(self.closed.contains_key(name).then_some(0))
    }

    fn remove(&mut self, claimant: Claimant, end: Option<End>) {
        self.claims.retain(|claim| claim.claimant != claimant);
        self.ends.extend(end.map(|end| (claimant, end)));
    }

    fn grant(&mut self, claimant: Claimant) {
        self.grants += 1;
        let grant = self.grants;
        let claim = self
            .claims
            .iter_mut()
            .find(|claim| claim.claimant == claimant);
        let claim = claim.unwrap();
        claim.grant = Some(grant);
        claim.deadline_ms = None;
        self.ends.push((claimant, End::Granted));
    }

    /// Lets in everybody who may be, until nothing changes.
    fn settle(&mut self) {
        let mut names: Vec<String> = self.claims.iter().map(|claim| claim.name.clone()).collect();
        names.sort();
        names.dedup();
        for name in names {
            while self.let_one_in(&name) {}
        }
        let used: Vec<String> = self.claims.iter().map(|claim| claim.name.clone()).collect();
        self.limits.retain(|name, _| used.contains(name));
    }

    fn let_one_in(&mut self, name: &str) -> bool {
        let holders = self.holders(name);
        if !holders.is_empty() && holders.iter().all(|holder| holder.leaving) {
            for holder in holders {
                self.remove(holder.claimant, Some(End::Passed));
            }
            return true;
        }
        let waiters = self.waiters(name);
        if waiters.is_empty() || self.closed.contains_key(name) {
            return false;
        }
        let front = &waiters[0];
        let over = |claim: &&Held| {
            !self.is_alive(claim.claimant.session)
                || claim
                    .deadline_ms
                    .is_some_and(|deadline| deadline <= self.clock_ms)
        };
        let end = |claim: &Held| {
            if self.is_alive(claim.claimant.session) {
                End::TimedOut
            } else {
                End::SessionEnded
            }
        };
        if front.mode == Mode::Enter {
            let parties = self.limits[name] as usize;
            if !holders.is_empty() || waiters.len() < parties {
                return false;
            }
            if let Some(claim) = waiters[..parties].iter().find(over) {
                let end = end(claim);
                self.remove(claim.claimant, Some(end));
                return true;
            }
            for claim in &waiters[..parties] {
                self.grant(claim.claimant);
            }
            return true;
        }
        if over(&front) {
            let end = end(front);
            self.remove(front.claimant, Some(end));
            return true;
        }
        let used: u64 = holders.iter().map(|holder| holder.permits).sum();
        let fits = match front.mode {
            Mode::Exclusive => holders.is_empty(),
            Mode::Shared => holders.iter().all(|holder| holder.mode == Mode::Shared),
            Mode::Permits => used + front.permits <= self.limits[name],
            Mode::Member => true,
            Mode::Pass => self.latches.get(name).is_none_or(|&count| count == 0),
            Mode::Enter => unreachable!("handled above"),
        };
        if fits && front.mode == Mode::Pass {
            self.remove(front.claimant, Some(End::Passed));
        } else if fits {
            self.grant(front.claimant);
        }
        fits
    }

    /// What the clock ends.
    pub fn expire(&mut self) -> Vec<i64> {
        let mut over: Vec<(u64, i64)> = self
            .sessions
            .iter()
            .filter(|&(_, &deadline_ms)| deadline_ms <= self.clock_ms)
            .map(|(&id, &deadline_ms)| (deadline_ms, id))
            .collect();
        over.sort();
        for &(_, session) in &over {
            self.end_session(session, true);
        }
        let clock_ms = self.clock_ms;
        self.closed.retain(|_, &mut until_ms| until_ms > clock_ms);
        let late: Vec<Held> = self
            .claims
            .iter()
            .filter(|claim| {
                claim
                    .deadline_ms
                    .is_some_and(|deadline| deadline <= clock_ms)
            })
            .cloned()
            .collect();
        for claim in late {
            if claim.leaving {
                self.ends.push((claim.claimant, End::TimedOut));
                let claim = self
                    .claims
                    .iter_mut()
                    .find(|other| other.claimant == claim.claimant);
                claim.unwrap().deadline_ms = None;
            } else {
                self.remove(claim.claimant, Some(End::TimedOut));
            }
        }
        self.settle();
        over.into_iter().map(|(_, id)| id).collect()
    }

    pub fn end_session(&mut self, session: i64, lost: bool) {
        self.sessions.remove(&session);
        let all = self
            .claims
            .iter()
            .filter(|claim| claim.claimant.session == session);
        for claim in all.cloned().collect::<Vec<_>>() {
            let waits = claim.grant.is_none() || claim.leaving;
            self.remove(claim.claimant, waits.then_some(End::SessionEnded));
            if lost && claim.grant.is_some() && claim.delay_ms > 0 {
                let until_ms = self.clock_ms + claim.delay_ms + claim.delay_ms / 50;
                let closed = self.closed.entry(claim.name).or_default();
                *closed = (*closed).max(until_ms);
            }
        }
        self.settle();
    }

    fn became(&mut self, claimant: Claimant, wait: bool) -> Said {
        match self.find(claimant) {
            None => Said::Passed,
            Some(claim) if claim.grant.is_some() && !claim.leaving => Said::Granted,
            Some(_) if wait => Said::Waiting,
            Some(claim) if claim.leaving => Said::Busy,
            Some(_) => {
                self.remove(claimant, None);
                self.settle();
                Said::Busy
            }
        }
    }

    pub fn apply(&mut self, operation: &LockOperation) -> Said {
        match operation {
            LockOperation::Acquire(acquire) => self.acquire(acquire),
            LockOperation::Release(release) => {
                let Some(claim) = self.find(release.claimant).cloned() else {
                    return Said::Refused;
                };
                let waits = claim.grant.is_none() || claim.leaving;
                self.remove(claim.claimant, waits.then_some(End::Cancelled));
                self.settle();
                Said::Released
            }
            LockOperation::SetLatch(set) => {
                let name = text(&set.name);
                if self.used_for(&name).is_some_and(|kind| kind != 3) {
                    return Said::Refused;
                }
                self.latches.insert(name, set.count);
                self.settle();
                Said::Count(set.count)
            }
            LockOperation::CountDown(count) => {
                let name = text(&count.name);
                match self.used_for(&name) {
                    None => return Said::Count(0),
                    Some(3) => {}
                    Some(_) => return Said::Refused,
                }
                let left = self.latches[&name].saturating_sub(count.by);
                self.latches.insert(name, left);
                self.settle();
                Said::Count(left)
            }
            LockOperation::Leave(leave) => {
                let deadline_ms = deadline_ms(leave.wait_ms, self.clock_ms);
                let all = &mut self.claims;
                let claim = all
                    .iter_mut()
                    .find(|claim| claim.claimant == leave.claimant);
                match claim {
                    None => return Said::Passed,
                    Some(claim) if claim.mode != Mode::Enter || claim.grant.is_none() => {
                        return Said::Refused;
                    }
                    Some(claim) => {
                        claim.leaving = true;
                        claim.deadline_ms = deadline_ms;
                    }
                }
                self.settle();
                self.became(leave.claimant, leave.wait_ms > 0)
            }
            LockOperation::SetValue(_) | LockOperation::Force(_) => {
                unreachable!("the generator makes none")
            }
        }
    }

    /// Takes a grant away.
    pub fn force(&mut self, name: &str, claimant: Claimant) -> Said {
        let grant = self.find(claimant).and_then(|claim| claim.grant);
        let of_grant = self
            .holders(name)
            .into_iter()
            .filter(|claim| claim.grant == grant);
        let all: Vec<Held> = of_grant.filter(|_| grant.is_some()).collect();
        for claim in &all {
            self.remove(claim.claimant, Some(End::Forced));
        }
        self.settle();
        if all.is_empty() {
            Said::Refused
        } else {
            Said::Released
        }
    }

    fn acquire(&mut self, acquire: &Acquire) -> Said {
        let (name, claimant) = (text(&acquire.name), acquire.claimant);
        let mode = Mode::try_from(acquire.mode).unwrap();
        let wait = acquire.wait_ms > 0;
        if !self.is_alive(claimant.session) {
            return Said::Refused;
        }
        let deadline_ms = deadline_ms(acquire.wait_ms, self.clock_ms);
        if let Some(claim) = self
            .claims
            .iter_mut()
            .find(|claim| claim.claimant == claimant)
        {
            if claim.name != name || kind(claim.mode) != kind(mode) || claim.leaving {
                return Said::Refused;
            }
            if claim.grant.is_none() {
                claim.deadline_ms = deadline_ms;
            }
            self.settle();
            return self.became(claimant, wait);
        }
        if mode == Mode::Pass && self.used_for(&name).is_none() {
            return Said::Passed;
        }
        if self.used_for(&name).is_some_and(|used| used != kind(mode)) {
            return Said::Refused;
        }
        if matches!(mode, Mode::Permits | Mode::Enter) {
            let limit = *self.limits.entry(name.clone()).or_insert(acquire.limit);
            if limit != acquire.limit {
                return Said::Refused;
            }
        }
        let holders = self.holders(&name);
        let own = holders.iter().filter(|holder| {
            acquire.owner != 0
                && holder.owner == acquire.owner
                && holder.claimant.session == claimant.session
        });
        let own = own.min_by_key(|holder| holder.grant);
        let (mut mode, grant) = (mode, own.and_then(|own| own.grant));
        if let Some(own) = own {
            if own.mode == Mode::Shared && mode == Mode::Exclusive {
                return Said::Refused;
            }
            mode = own.mode;
        }
        self.claims.push(Held {
            name,
            claimant,
            owner: acquire.owner,
            mode,
            permits: acquire.permits,
            priority: acquire.priority,
            deadline_ms: deadline_ms.filter(|_| grant.is_none()),
            delay_ms: acquire.delay_ms,
            grant,
            leaving: false,
        });
        self.settle();
        self.became(claimant, wait)
    }
}

fn deadline_ms(wait_ms: u64, clock_ms: u64) -> Option<u64> {
    (wait_ms > 0 && wait_ms < u64::MAX).then(|| clock_ms + wait_ms)
}

fn text(name: &[u8]) -> String {
    String::from_utf8(name.to_vec()).unwrap()
}
