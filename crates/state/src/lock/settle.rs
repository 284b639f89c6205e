//! Handing locks over: after everything that may let a waiter in, in steps, so that no command takes long.

use crate::lease::slack_ms;
use crate::lock::rows::lock_bytes;
use crate::lock::{Claim, Claimant, Kind, Locks, Mode, Moment, Outcome, Timer};

impl Locks {
    /// Somebody may be let in.
    pub(super) fn unsettle(&mut self, name: &[u8]) {
        self.unsettled.insert(name.to_vec());
    }

    /// Nothing is to be handed over.
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Hands over what may be; true when all is done, false when `fuel` was used up before.
    pub fn settle(&mut self, moment: &mut Moment<'_>, fuel: &mut u64) -> bool {
        while let Some(name) = self.unsettled.pop_first() {
            while self.settle_step(&name, moment) {
                *fuel = fuel.saturating_sub(1);
                if *fuel == 0 {
                    self.unsettled.insert(name);
                    return false;
                }
            }
            self.forget_if_idle(&name);
        }
        true
    }

    /// Lets one acquisition in or out; false if none can be.
    fn settle_step(&mut self, name: &[u8], moment: &mut Moment<'_>) -> bool {
        let (Some(lock), Some(queue)) = (self.locks.get(name), self.queues.get(name)) else {
            return false;
        };
        if queue.leaving > 0 && queue.leaving == queue.holders.len() {
            let &(_, claimant) = queue.holders.first().expect("somebody leaves");
            self.take_claim(claimant);
            self.wake(claimant, Outcome::Passed);
            self.touch(name, moment);
            return true;
        }
        if lock.closed_until_ms > moment.clock_ms {
            return false;
        }
        let Some(front) = queue.front() else {
            return false;
        };
        if lock.kind() == Kind::Barrier {
            return self.open_barrier(name, moment);
        }
        let claim = self.claims.get(&front).expect("a waiter is an acquisition");
        let (fits, mode) = (queue.fits(claim, lock.limit), claim.mode());
        if self.drop_if_over(front, moment) {
            return true;
        }
        if !fits {
            return false;
        }
        if mode == Mode::Pass {
            self.take_claim(front);
            self.wake(front, Outcome::Passed);
        } else {
            self.grant(name, front, moment);
        }
        true
    }

    /// Ends a wait whose session or time is over; whether it was.
    fn drop_if_over(&mut self, claimant: Claimant, moment: &Moment<'_>) -> bool {
        let claim = self.claims.get(&claimant).expect("a waiter");
        let outcome = if moment.is_alive(claimant.session) {
            if claim.deadline_ms == 0 || claim.deadline_ms > moment.clock_ms {
                return false;
            }
            Outcome::TimedOut
        } else {
            Outcome::SessionEnded
        };
        self.take_claim(claimant);
        self.wake(claimant, outcome);
        true
    }

    /// Lets as many in as a barrier needs, if nobody is in and so many wait.
    fn open_barrier(&mut self, name: &[u8], moment: &mut Moment<'_>) -> bool {
        let (lock, queue) = (&self.locks.get(name), &self.queues[name]);
        let parties = lock.map_or(0, |lock| lock.limit) as usize;
        if !queue.holders.is_empty() || queue.waiters.len() < parties {
            return false;
        }
        let waiters = queue.waiters.iter().take(parties);
        let entering: Vec<Claimant> = waiters.map(|&(_, _, claimant)| claimant).collect();
        for &claimant in &entering {
            if self.drop_if_over(claimant, moment) {
                return true;
            }
        }
        for claimant in entering {
            self.grant(name, claimant, moment);
        }
        true
    }

    /// Gives a lock to a waiter.
    fn grant(&mut self, name: &[u8], claimant: Claimant, moment: &mut Moment<'_>) {
        let ordinal = moment.next_ordinal();
        let token = mutated!(TokenReused, self.newest(name) + 1, ordinal);
        self.change_claim(claimant, |claim| {
            claim.token = token;
            claim.since_wall_ms = moment.wall_ms;
            claim.deadline_ms = 0;
        });
        self.change_lock(name, |lock| {
            assert!(
                lock.newest < token,
                "token {} → {token} of one lock",
                lock.newest
            );
            lock.newest = token;
            lock.version = token;
        });
        self.changed.insert(name.to_vec());
        self.wake(claimant, Outcome::Granted { token });
    }

    /// Forgets a lock that nobody needs.
    pub(super) fn forget_if_idle(&mut self, name: &[u8]) {
        let Some(lock) = self.locks.get(name) else {
            return;
        };
        let counting = lock.kind() == Kind::Latch && lock.limit > 0;
        if counting || lock.closed_until_ms != 0 || self.queues.contains_key(name) {
            return;
        }
        let lock = self.locks.remove(name).expect("it was found");
        self.bytes -= lock_bytes(lock.name.len());
    }

    /// Takes an acquisition away that is there, whatever becomes of its lock.
    pub(super) fn drop_claim(&mut self, claimant: Claimant, moment: &mut Moment<'_>) -> Claim {
        let claim = self.take_claim(claimant).expect("it is there");
        if claim.holds() {
            self.touch(&claim.name, moment);
        }
        self.unsettle(&claim.name);
        claim
    }

    /// Ends acquisitions of a session, at most `left` of them; true when none are left. `lost` if it was not ended in an orderly way.
    pub fn end_session(
        &mut self,
        session: i64,
        lost: bool,
        moment: &mut Moment<'_>,
        left: &mut u64,
        fuel: &mut u64,
    ) -> bool {
        moment.ending = Some(session);
        loop {
            let Some(claimant) = self.claims_of(session).next().map(|claim| claim.claimant) else {
                return self.settle(moment, fuel);
            };
            if *left == 0 {
                self.settle(moment, fuel);
                return false;
            }
            *left -= 1;
            *fuel = fuel.saturating_sub(1);
            let claim = self.drop_claim(claimant, moment);
            if claim.waits() {
                self.wake(claimant, Outcome::SessionEnded);
            }
            if lost && !mutated!(LockDelaySkipped) {
                self.close(&claim, moment.clock_ms);
            }
            if *fuel == 0 {
                return false;
            }
        }
    }

    /// Closes the lock of a lost session for a while, if it was held and is to be (PROPERTIES F7).
    pub(super) fn close(&mut self, claim: &Claim, clock_ms: u64) {
        if !claim.holds() || claim.delay_ms == 0 {
            return;
        }
        let delay_ms = claim.delay_ms + slack_ms(claim.delay_ms);
        let until_ms = clock_ms.saturating_add(delay_ms);
        self.change_lock(&claim.name, |lock| {
            let before_ms = mutated!(LastDelayCounts, 0, lock.closed_until_ms);
            lock.closed_until_ms = before_ms.max(until_ms);
        });
    }

    /// Does what is due at the clock, one thing; false if nothing is.
    pub fn fire_timer(&mut self, moment: &mut Moment<'_>) -> bool {
        match self.timers.first().cloned() {
            Some((due_ms, timer)) if due_ms <= moment.clock_ms => match timer {
                Timer::Wait(claimant) => self.end_wait(claimant),
                Timer::Open(name) => {
                    self.change_lock(&name, |lock| lock.closed_until_ms = 0);
                    self.unsettle(&name);
                }
            },
            _ => return false,
        }
        true
    }

    /// The time of a wait is over. Who left a barrier has left it all the same.
    fn end_wait(&mut self, claimant: Claimant) {
        let claim = self.claim(claimant).expect("a timer is of a wait");
        let (name, leaving) = (claim.name.clone(), claim.leaving);
        self.unsettle(&name);
        self.wake(claimant, Outcome::TimedOut);
        if leaving {
            self.change_claim(claimant, |claim| claim.deadline_ms = 0);
        } else {
            self.take_claim(claimant);
        }
    }
}
