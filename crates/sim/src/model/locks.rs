//! Locks as the decided log says they are: a list of acquisitions, looked through from the front each time. Written for itself, like the rest of
//! the model, but exact: ordinals, and with them tokens, are foretold.

use crate::model::Lease;
use bytes::Bytes;
use state::Guard;
use state::lock::{
    Acquire, Claimant, CountDown, Force, GUARD_MODEL, GuardRejection, Kind, Leave, LockOperation,
    LockRejection, LockReply, Mode, Outcome, Release, SetLatch, SetValue, Woken,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// An acquisition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The lock.
    pub name: Bytes,
    /// Whose.
    pub claimant: Claimant,
    /// Of re-entry; 0 for none.
    pub owner: u64,
    /// How it is wanted.
    pub mode: Mode,
    /// Permits.
    pub permits: u64,
    /// Of a waiter.
    pub priority: i32,
    /// Ordinal of its arrival.
    pub place: u64,
    /// Ordinal of its last repetition.
    pub joined: u64,
    /// When its wait ends, on the replicated clock; 0 for never.
    pub deadline_ms: u64,
    /// How long the lock stays closed if the session is lost.
    pub delay_ms: u64,
    /// Of the grant; 0 before it.
    pub token: u64,
    /// It has left its barrier.
    pub leaving: bool,
}

impl Claim {
    /// It was let in.
    pub fn holds(&self) -> bool {
        self.token != 0
    }

    /// It waits: to be let in, or for others to leave.
    pub fn waits(&self) -> bool {
        !self.holds() || self.leaving
    }
}

/// A name in use.
#[derive(Clone, Debug)]
pub struct Name {
    /// For what.
    pub kind: Kind,
    /// Permits, parties, or what a latch has left.
    pub limit: u64,
    /// The newest token.
    pub newest: u64,
    /// Closed until this clock; 0 if it is not.
    pub closed_until_ms: u64,
}

/// When something happens to locks.
pub struct Moment<'a> {
    /// The leases.
    pub leases: &'a BTreeMap<i64, Lease>,
    /// The replicated clock.
    pub clock_ms: u64,
    /// The cell's counter.
    pub ordinal: &'a mut u64,
    /// The session that is just ending.
    pub ending: Option<i64>,
}

impl Moment<'_> {
    fn is_alive(&self, session: i64) -> bool {
        let lease = self.leases.get(&session);
        self.ending != Some(session) && lease.is_some_and(|lease| lease.deadline_ms > self.clock_ms)
    }

    fn count(&mut self) -> u64 {
        *self.ordinal += 1;
        *self.ordinal
    }

    fn deadline_ms(&self, wait_ms: u64) -> u64 {
        match wait_ms {
            0 | u64::MAX => 0,
            wait_ms => self.clock_ms + wait_ms,
        }
    }
}

/// All locks.
#[derive(Debug, Default)]
pub struct Locks {
    claims: Vec<Claim>,
    names: BTreeMap<Bytes, Name>,
    unsettled: BTreeSet<Bytes>,
    woken: Vec<Woken>,
    /// How every token was granted, also of grants that are gone.
    modes: BTreeMap<u64, Mode>,
}

type Said = Result<LockReply, LockRejection>;

impl Locks {
    /// An acquisition.
    pub fn claim(&self, claimant: Claimant) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.claimant == claimant)
    }

    /// All acquisitions.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// How a token was granted, long ago perhaps.
    pub fn mode(&self, token: u64) -> Option<Mode> {
        self.modes.get(&token).copied()
    }

    /// Names in use.
    pub fn names(&self) -> &BTreeMap<Bytes, Name> {
        &self.names
    }

    /// How acquisitions ended, or began to hold, since this was asked last.
    pub fn take_woken(&mut self) -> Vec<Woken> {
        std::mem::take(&mut self.woken)
    }

    /// Those who hold a lock.
    pub fn holders<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a Claim> {
        let of_name = self.claims.iter().filter(move |claim| claim.name == name);
        of_name.filter(|claim| claim.holds())
    }

    /// Those who wait to be let in, in the order they will be.
    pub fn waiters(&self, name: &[u8]) -> Vec<Claim> {
        let of_name = self.claims.iter().filter(|claim| claim.name == name);
        let mut waiters: Vec<Claim> = of_name.filter(|claim| !claim.holds()).cloned().collect();
        waiters.sort_by_key(|claim| (Reverse(claim.priority), claim.place));
        waiters
    }

    /// F3: whether every guard names a grant that holds its lock.
    pub fn check_guards(
        &self,
        guards: &[Guard],
        moment: &Moment<'_>,
    ) -> Result<(), GuardRejection> {
        for Guard { model, name, token } in guards {
            assert_eq!(*model, GUARD_MODEL, "the workload guards by locks");
            let mut holders = self.holders(name);
            let held = holders
                .any(|claim| claim.token == *token && moment.is_alive(claim.claimant.session));
            if !held {
                return Err(GuardRejection::NotHeld {
                    name: name.clone(),
                    token: *token,
                    newest: self.names.get(name).map_or(0, |name| name.newest),
                });
            }
        }
        Ok(())
    }

    /// Carries out a command.
    pub fn run(&mut self, operation: &LockOperation, moment: &mut Moment<'_>) -> Said {
        match operation {
            LockOperation::Acquire(acquire) => self.acquire(acquire, moment),
            LockOperation::Release(release) => self.release(release, moment),
            LockOperation::SetValue(set) => self.set_value(set, moment),
            LockOperation::Force(force) => self.force(force, moment),
            LockOperation::SetLatch(set) => self.set_latch(set, moment),
            LockOperation::CountDown(count) => self.count_down(count, moment),
            LockOperation::Leave(leave) => self.leave(leave, moment),
        }
    }

    fn acquire(&mut self, acquire: &Acquire, moment: &mut Moment<'_>) -> Said {
        let mode = Mode::try_from(acquire.mode).expect("the workload knows the modes");
        let claimant = acquire.claimant;
        if !moment.is_alive(claimant.session) {
            return Err(LockRejection::SessionNotFound);
        }
        if let Some(place) = self.place(claimant) {
            let claim = &mut self.claims[place];
            if claim.name != acquire.name || claim.mode.kind() != mode.kind() || claim.leaving {
                return Err(LockRejection::IdInUse);
            }
            if !claim.holds() {
                claim.joined = moment.count();
                claim.deadline_ms = moment.deadline_ms(acquire.wait_ms);
                self.unsettled.insert(acquire.name.clone());
            }
            return Ok(self.became(claimant, acquire.wait_ms > 0, moment));
        }
        if mode == Mode::Pass && !self.names.contains_key(&acquire.name) {
            return Ok(LockReply::Passed);
        }
        self.use_for(&acquire.name, mode.kind(), acquire.limit)?;
        let own = self.holders(&acquire.name).filter(|holder| {
            acquire.owner != 0
                && holder.owner == acquire.owner
                && holder.claimant.session == claimant.session
        });
        let own = own.min_by_key(|holder| holder.token);
        let own = own.map(|own| (own.mode, own.token));
        if mode == Mode::Exclusive && matches!(own, Some((Mode::Shared, _))) {
            return Err(LockRejection::Upgrade);
        }
        let place = moment.count();
        self.claims.push(Claim {
            name: acquire.name.clone(),
            claimant,
            owner: acquire.owner,
            mode: own.map_or(mode, |(mode, _)| mode),
            permits: acquire.permits,
            priority: acquire.priority,
            place,
            joined: place,
            deadline_ms: match own {
                Some(_) => 0,
                None => moment.deadline_ms(acquire.wait_ms),
            },
            delay_ms: acquire.delay_ms,
            token: own.map_or(0, |(_, token)| token),
            leaving: false,
        });
        if own.is_some() {
            moment.count();
        }
        self.unsettled.insert(acquire.name.clone());
        Ok(self.became(claimant, acquire.wait_ms > 0, moment))
    }

    /// Lets in who may be, and finds what became of an acquisition. One that does not want to wait is gone then.
    fn became(&mut self, claimant: Claimant, wait: bool, moment: &mut Moment<'_>) -> LockReply {
        self.settle(moment);
        let Some(place) = self.place(claimant) else {
            return LockReply::Passed;
        };
        let claim = &self.claims[place];
        if !claim.waits() {
            return LockReply::Granted { token: claim.token };
        }
        if wait {
            let joined = claim.joined;
            return LockReply::Waiting { claimant, joined };
        }
        if !claim.leaving {
            let gone = self.claims.remove(place);
            self.unsettled.insert(gone.name);
            self.settle(moment);
        }
        LockReply::Busy
    }

    fn use_for(&mut self, name: &Bytes, kind: Kind, limit: u64) -> Result<(), LockRejection> {
        let counted = matches!(kind, Kind::Semaphore | Kind::Barrier);
        let used = self.names.entry(name.clone()).or_insert(Name {
            kind,
            limit: if counted { limit } else { 0 },
            newest: 0,
            closed_until_ms: 0,
        });
        if used.kind != kind {
            return Err(LockRejection::OtherKind { kind: used.kind });
        }
        if counted && used.limit != limit {
            return Err(LockRejection::OtherLimit { limit: used.limit });
        }
        Ok(())
    }

    fn release(&mut self, release: &Release, moment: &mut Moment<'_>) -> Said {
        let place = self.place(release.claimant).ok_or(LockRejection::NotHeld)?;
        let claim = self.claims[place].clone();
        if release.joined != 0 && claim.joined != release.joined {
            return Err(LockRejection::Rejoined);
        }
        self.drop_claim(place, moment);
        if claim.waits() {
            self.wake(claim.claimant, Outcome::Cancelled);
        }
        let held = claim.holds()
            && self
                .holders(&claim.name)
                .any(|other| other.token == claim.token);
        self.settle(moment);
        let token = claim.token;
        Ok(LockReply::Released { token, held })
    }

    fn set_value(&mut self, set: &SetValue, moment: &mut Moment<'_>) -> Said {
        let claim = self.claim(set.claimant).ok_or(LockRejection::NotHeld)?;
        if claim.holds() {
            moment.count();
        }
        Ok(LockReply::ValueSet)
    }

    fn force(&mut self, force: &Force, moment: &mut Moment<'_>) -> Said {
        let of_grant = self
            .holders(&force.name)
            .filter(|claim| claim.token == force.token);
        let mut claimants: Vec<Claimant> = of_grant.map(|claim| claim.claimant).collect();
        claimants.sort();
        if claimants.is_empty() {
            return Err(LockRejection::NotHeld);
        }
        for claimant in claimants {
            let place = self.place(claimant).expect("it holds");
            self.drop_claim(place, moment);
            let reason = force.reason.clone();
            self.wake(claimant, Outcome::Forced { reason });
        }
        self.settle(moment);
        let (token, held) = (force.token, false);
        Ok(LockReply::Released { token, held })
    }

    fn set_latch(&mut self, set: &SetLatch, moment: &mut Moment<'_>) -> Said {
        self.use_for(&set.name, Kind::Latch, 0)?;
        self.count_latch(&set.name, set.count, moment);
        Ok(LockReply::Latch { count: set.count })
    }

    fn count_down(&mut self, down: &CountDown, moment: &mut Moment<'_>) -> Said {
        match self.names.get(&down.name) {
            None => Ok(LockReply::Latch { count: 0 }),
            Some(name) if name.kind != Kind::Latch => {
                Err(LockRejection::OtherKind { kind: name.kind })
            }
            Some(name) => {
                let count = name.limit.saturating_sub(down.by);
                self.count_latch(&down.name, count, moment);
                Ok(LockReply::Latch { count })
            }
        }
    }

    fn count_latch(&mut self, name: &Bytes, count: u64, moment: &mut Moment<'_>) {
        let latch = self.names.get_mut(name).expect("the latch is there");
        latch.limit = count;
        moment.count();
        self.unsettled.insert(name.clone());
        self.settle(moment);
    }

    fn leave(&mut self, leave: &Leave, moment: &mut Moment<'_>) -> Said {
        let Some(place) = self.place(leave.claimant) else {
            return Ok(LockReply::Passed);
        };
        let claim = &mut self.claims[place];
        if claim.mode != Mode::Enter || !claim.holds() {
            return Err(LockRejection::NotHeld);
        }
        claim.leaving = true;
        claim.joined = moment.count();
        claim.deadline_ms = moment.deadline_ms(leave.wait_ms);
        self.unsettled.insert(claim.name.clone());
        Ok(self.became(leave.claimant, leave.wait_ms > 0, moment))
    }

    /// Ends all acquisitions of a session; `lost` if its time was over.
    pub fn end_session(&mut self, session: i64, lost: bool, moment: &mut Moment<'_>) {
        moment.ending = Some(session);
        let of_session = self.claims.iter();
        let of_session = of_session.filter(|claim| claim.claimant.session == session);
        let mut claimants: Vec<Claimant> = of_session.map(|claim| claim.claimant).collect();
        claimants.sort();
        for claimant in claimants {
            let place = self.place(claimant).expect("it is of the session");
            let claim = self.claims[place].clone();
            if claim.waits() {
                self.wake(claimant, Outcome::SessionEnded);
            }
            self.drop_claim(place, moment);
            if lost && claim.holds() && claim.delay_ms > 0 {
                let until_ms = moment.clock_ms + claim.delay_ms + claim.delay_ms / 50;
                let name = self.names.get_mut(&claim.name).expect("it is in use");
                name.closed_until_ms = name.closed_until_ms.max(until_ms);
            }
        }
        self.settle(moment);
    }

    /// Does what the clock says, the earliest first: ends waits, then opens locks.
    pub fn pass_time(&mut self, moment: &mut Moment<'_>) {
        loop {
            let waits = self.claims.iter().filter(|claim| claim.waits());
            let wait = waits
                .map(|claim| (claim.deadline_ms, claim.claimant))
                .filter(|(deadline_ms, _)| (1..=moment.clock_ms).contains(deadline_ms))
                .min();
            let closed = self.names.iter();
            let open = closed
                .map(|(name, it)| (it.closed_until_ms, name.clone()))
                .filter(|(until_ms, _)| (1..=moment.clock_ms).contains(until_ms))
                .min();
            match (wait, open) {
                (None, None) => return,
                (Some((deadline_ms, claimant)), open)
                    if open.as_ref().is_none_or(|open| deadline_ms <= open.0) =>
                {
                    self.end_wait(claimant);
                }
                (_, Some((_, name))) => {
                    let known = self.names.get_mut(&name).expect("it was just seen");
                    known.closed_until_ms = 0;
                    self.unsettled.insert(name);
                }
                (Some(_), None) => unreachable!("the first arm takes it"),
            }
            self.settle(moment);
        }
    }

    /// The time of a wait is over. Who left a barrier has left it all the same.
    fn end_wait(&mut self, claimant: Claimant) {
        let place = self.place(claimant).expect("it was just seen");
        self.unsettled.insert(self.claims[place].name.clone());
        if self.claims[place].leaving {
            self.claims[place].deadline_ms = 0;
        } else {
            self.claims.remove(place);
        }
        self.wake(claimant, Outcome::TimedOut);
    }

    fn settle(&mut self, moment: &mut Moment<'_>) {
        while let Some(name) = self.unsettled.pop_first() {
            while self.let_in(&name, moment) {}
            let in_use = self.claims.iter().any(|claim| claim.name == name);
            let needed = self.names.get(&name).is_some_and(|it| {
                in_use || it.closed_until_ms != 0 || it.kind == Kind::Latch && it.limit > 0
            });
            if !needed {
                self.names.remove(&name);
            }
        }
    }

    /// Lets one in, or out, or as many as a barrier needs; says no if nobody may be.
    fn let_in(&mut self, name: &Bytes, moment: &mut Moment<'_>) -> bool {
        let Some(known) = self.names.get(name).cloned() else {
            return false;
        };
        let mut holders: Vec<Claim> = self.holders(name).cloned().collect();
        holders.sort_by_key(|claim| (claim.token, claim.claimant));
        if !holders.is_empty() && holders.iter().all(|holder| holder.leaving) {
            let place = self.place(holders[0].claimant).expect("it holds");
            self.claims.remove(place);
            self.wake(holders[0].claimant, Outcome::Passed);
            moment.count();
            return true;
        }
        if known.closed_until_ms > moment.clock_ms {
            return false;
        }
        let waiters = self.waiters(name);
        let parties = if known.kind == Kind::Barrier {
            known.limit as usize
        } else {
            1
        };
        if waiters.len() < parties || known.kind == Kind::Barrier && !holders.is_empty() {
            return false;
        }
        let next = &waiters[..parties];
        if next.is_empty() {
            return false;
        }
        for claim in next {
            let outcome = if !moment.is_alive(claim.claimant.session) {
                Outcome::SessionEnded
            } else if (1..=moment.clock_ms).contains(&claim.deadline_ms) {
                Outcome::TimedOut
            } else {
                continue;
            };
            let place = self.place(claim.claimant).expect("it waits");
            self.claims.remove(place);
            self.wake(claim.claimant, outcome);
            return true;
        }
        if !fits(&next[0], &holders, known.limit) {
            return false;
        }
        for claim in next {
            self.admit(claim, moment);
        }
        true
    }

    fn admit(&mut self, claim: &Claim, moment: &mut Moment<'_>) {
        let place = self.place(claim.claimant).expect("it waits");
        if claim.mode == Mode::Pass {
            self.claims.remove(place);
            return self.wake(claim.claimant, Outcome::Passed);
        }
        let token = moment.count();
        self.claims[place].token = token;
        self.claims[place].deadline_ms = 0;
        let name = self.names.get_mut(&claim.name).expect("it is in use");
        name.newest = token;
        self.modes.insert(token, claim.mode);
        self.wake(claim.claimant, Outcome::Granted { token });
    }

    fn place(&self, claimant: Claimant) -> Option<usize> {
        let mut claims = self.claims.iter();
        claims.position(|claim| claim.claimant == claimant)
    }

    fn drop_claim(&mut self, place: usize, moment: &mut Moment<'_>) {
        let claim = self.claims.remove(place);
        if claim.holds() {
            moment.count();
        }
        self.unsettled.insert(claim.name);
    }

    fn wake(&mut self, claimant: Claimant, outcome: Outcome) {
        self.woken.push(Woken { claimant, outcome });
    }
}

/// Nothing that is held stands against a waiter in front.
fn fits(claim: &Claim, holders: &[Claim], limit: u64) -> bool {
    match claim.mode {
        Mode::Exclusive | Mode::Enter => holders.is_empty(),
        Mode::Shared => holders.iter().all(|holder| holder.mode == Mode::Shared),
        Mode::Permits => {
            let used: u64 = holders.iter().map(|holder| holder.permits).sum();
            used + claim.permits <= limit
        }
        Mode::Member => true,
        Mode::Pass => limit == 0,
    }
}
