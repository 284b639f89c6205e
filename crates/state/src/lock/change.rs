//! What each command does to locks. Whoever may be let in then is let in by settling; the reply is found after that.

use crate::lock::rows::{Claim, Lock, claim_bytes, lock_bytes};
use crate::lock::{
    Acquire, CLAIMS_PER_SESSION_MAX, Claimant, CountDown, DELAY_MS_MAX, Force, Kind, LOCKS_MAX,
    Leave, LockCommand, LockOperation, LockRejection, LockReply, Locks, Mode, Moment,
    NAME_BYTES_MAX, Outcome, PARTIES_MAX, PERMITS_MAX, REASON_BYTES_MAX, Release, SetLatch,
    SetValue, VALUE_BYTES_MAX, WAITERS_MAX,
};

/// For ever, as a time to wait.
const FOR_EVER: u64 = u64::MAX;

/// How the reply is found once the locks are settled.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// It is this.
    Reply(LockReply),
    /// It is what became of an acquisition, which waits if `wait` says so.
    Await { claimant: Claimant, wait: bool },
}

type Changed = Result<Then, LockRejection>;

fn within(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), LockRejection> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(LockRejection::Limit {
            what: what.into(),
            value,
            min,
            max,
        })
    }
}

fn check_name(name: &[u8]) -> Result<(), LockRejection> {
    within(
        "bytes of the name",
        name.len() as u64,
        1,
        NAME_BYTES_MAX as u64,
    )
}

fn check_value(value: &[u8]) -> Result<(), LockRejection> {
    within(
        "bytes of the value",
        value.len() as u64,
        0,
        VALUE_BYTES_MAX as u64,
    )
}

/// The clock at which a wait that begins now ends; 0 for never.
fn deadline_ms(wait_ms: u64, clock_ms: u64) -> u64 {
    match wait_ms {
        0 | FOR_EVER => 0,
        wait_ms => clock_ms.saturating_add(wait_ms),
    }
}

impl Locks {
    /// Bytes that a command adds at most.
    pub fn growth(&self, command: &LockCommand) -> u64 {
        match &command.operation {
            Some(LockOperation::Acquire(acquire)) if self.claim(acquire.claimant).is_none() => {
                let name = acquire.name.len();
                claim_bytes(name, acquire.value.len()) + lock_bytes(name)
            }
            Some(LockOperation::SetValue(set)) => set.value.len() as u64,
            Some(LockOperation::SetLatch(set)) if self.locks.get(&set.name).is_none() => {
                lock_bytes(set.name.len())
            }
            _ => 0,
        }
    }

    /// Whether an acquisition would, as things stand, queue up behind others. Not of what others wait for: a place in a barrier, a try, a repetition.
    pub fn would_wait(&self, acquire: &Acquire) -> bool {
        let queues_up = matches!(
            Mode::try_from(acquire.mode),
            Ok(Mode::Exclusive | Mode::Shared | Mode::Permits)
        );
        let (session, owner) = (acquire.claimant.session, acquire.owner);
        queues_up
            && acquire.wait_ms > 0
            && self.claim(acquire.claimant).is_none()
            && self.queues.get(&acquire.name[..]).is_some_and(|queue| {
                let occupied = queue.alone || !queue.waiters.is_empty();
                occupied && queue.grant_of(session, owner).is_none()
            })
    }

    /// Begins a command; settling comes next.
    ///
    /// # Errors
    /// It was refused; nothing changed.
    pub fn change(&mut self, command: &LockCommand, moment: &mut Moment<'_>) -> Changed {
        match &command.operation {
            Some(LockOperation::Acquire(acquire)) => self.acquire(acquire, moment),
            Some(LockOperation::Release(release)) => self.release(release, moment),
            Some(LockOperation::SetValue(set)) => self.set_value(set, moment),
            Some(LockOperation::Force(force)) => self.force(force, moment),
            Some(LockOperation::SetLatch(set)) => self.set_latch(set, moment),
            Some(LockOperation::CountDown(count)) => self.count_down(count, moment),
            Some(LockOperation::Leave(leave)) => self.leave(leave, moment),
            None => Err(LockRejection::NotHeld),
        }
    }

    /// Ends a command when all is settled: the reply, or what to reply once the locks are settled again.
    pub fn conclude(&mut self, then: Then) -> Result<LockReply, Then> {
        let (claimant, wait) = match then {
            Then::Reply(reply) => return Ok(reply),
            Then::Await { claimant, wait } => (claimant, wait),
        };
        match self.claims.get(&claimant) {
            // It passed, or its wait ended in the same command.
            None => Ok(LockReply::Passed),
            Some(claim) if !claim.waits() => Ok(LockReply::Granted { token: claim.token }),
            Some(claim) if wait => Ok(LockReply::Waiting {
                claimant,
                joined: claim.joined,
            }),
            Some(claim) if claim.leaving => Ok(LockReply::Busy),
            Some(claim) => {
                // If it waited before, it may have held up others.
                let name = claim.name.clone();
                self.take_claim(claimant);
                self.unsettle(&name);
                Err(Then::Reply(LockReply::Busy))
            }
        }
    }

    fn acquire(&mut self, acquire: &Acquire, moment: &mut Moment<'_>) -> Changed {
        let mode = check_acquire(acquire)?;
        let claimant = acquire.claimant;
        if !moment.is_alive(claimant.session) {
            return Err(LockRejection::SessionNotFound);
        }
        let wait = acquire.wait_ms > 0;
        if self.claim(claimant).is_some() {
            return self.rejoin(acquire, mode, moment);
        }
        let claims = self.claims_count(claimant.session) as u64 + 1;
        within(
            "acquisitions of the session",
            claims,
            0,
            CLAIMS_PER_SESSION_MAX as u64,
        )?;
        if mode == Mode::Pass && self.locks.get(&acquire.name).is_none() {
            return Ok(Then::Reply(LockReply::Passed));
        }
        self.use_for(&acquire.name, mode.kind(), acquire.limit)?;
        let queue = self.queues.get(&acquire.name[..]);
        let waiters = queue.map_or(0, |queue| queue.waiters.len()) as u64 + 1;
        within(
            "acquisitions that wait for the lock",
            waiters,
            0,
            WAITERS_MAX as u64,
        )?;
        let reentered = queue.and_then(|queue| queue.grant_of(claimant.session, acquire.owner));
        let alone = queue.is_some_and(|queue| queue.alone);
        if reentered.is_some() && mode == Mode::Exclusive && !alone {
            return Err(LockRejection::Upgrade);
        }
        let place = moment.next_ordinal();
        let mode = if reentered.is_some() && alone {
            Mode::Exclusive
        } else {
            mode
        };
        self.insert_claim(Claim {
            name: acquire.name.to_vec(),
            claimant,
            owner: acquire.owner,
            mode: mode as i32,
            permits: acquire.permits,
            priority: acquire.priority,
            place,
            joined: place,
            deadline_ms: if reentered.is_some() {
                0
            } else {
                deadline_ms(acquire.wait_ms, moment.clock_ms)
            },
            delay_ms: acquire.delay_ms,
            since_wall_ms: moment.wall_ms,
            value: acquire.value.to_vec(),
            token: reentered.unwrap_or(0),
            leaving: false,
        });
        if reentered.is_some() {
            self.touch(&acquire.name, moment);
        } else {
            self.unsettle(&acquire.name);
        }
        Ok(Then::Await { claimant, wait })
    }

    /// An acquisition that is there already: it keeps its place and its grant.
    fn rejoin(&mut self, acquire: &Acquire, mode: Mode, moment: &mut Moment<'_>) -> Changed {
        let claimant = acquire.claimant;
        let claim = self.claim(claimant).expect("it is there");
        let same = claim.name == acquire.name[..] && claim.mode().kind() == mode.kind();
        if !same || claim.leaving {
            return Err(LockRejection::IdInUse);
        }
        mutated!(
            ReentryLostOnRetry,
            if claim.holds() {
                let claim = claim.clone();
                let of_grant = self.queues[&claim.name].of_grant(claim.token);
                let others: Vec<Claimant> = of_grant.filter(|other| *other != claimant).collect();
                for other in others {
                    self.take_claim(other);
                }
            }
        );
        let claim = self.claim(claimant).expect("it is there");
        if !claim.holds() {
            let joined = moment.next_ordinal();
            self.change_claim(claimant, |claim| {
                claim.joined = joined;
                if !mutated!(RepetitionKeepsDeadline) {
                    claim.deadline_ms = deadline_ms(acquire.wait_ms, moment.clock_ms);
                }
            });
            self.unsettle(&acquire.name);
        }
        Ok(Then::Await {
            claimant,
            wait: acquire.wait_ms > 0,
        })
    }

    /// Takes a name into use, unless it is in another one.
    fn use_for(&mut self, name: &[u8], kind: Kind, limit: u64) -> Result<(), LockRejection> {
        let counted = matches!(kind, Kind::Semaphore | Kind::Barrier);
        match self.locks.get(name) {
            None => {
                within("locks", self.locks.len() as u64 + 1, 0, LOCKS_MAX as u64)?;
                self.insert_lock(Lock {
                    name: name.to_vec(),
                    kind: kind as i32,
                    limit: if counted { limit } else { 0 },
                    ..Lock::default()
                });
                Ok(())
            }
            Some(lock) if lock.kind() != kind => {
                Err(LockRejection::OtherKind { kind: lock.kind() })
            }
            Some(lock) if counted && lock.limit != limit => {
                Err(LockRejection::OtherLimit { limit: lock.limit })
            }
            Some(_) => Ok(()),
        }
    }

    fn release(&mut self, release: &Release, moment: &mut Moment<'_>) -> Changed {
        let &Release { claimant, joined } = release;
        mutated!(
            ReleaseByIdAlone,
            if self.claim(claimant).is_none() {
                let is_same = |it: &&Claim| it.claimant.id == claimant.id && it.holds();
                let same = self.claims.range(std::ops::Bound::Unbounded).find(is_same);
                let same = same.map(|claim| claim.claimant);
                if let Some(claimant) = same {
                    let release = Release { claimant, joined };
                    return self.release(&release, moment);
                }
            }
        );
        let claim = self.claim(claimant).ok_or(LockRejection::NotHeld)?;
        if joined != 0 && claim.joined != joined {
            return Err(LockRejection::Rejoined);
        }
        let claim = self.drop_claim(claimant, moment);
        if claim.waits() {
            self.wake(claimant, Outcome::Cancelled);
        }
        let queue = self.queues.get(&claim.name);
        let held = claim.holds()
            && queue.is_some_and(|queue| queue.of_grant(claim.token).next().is_some());
        Ok(Then::Reply(LockReply::Released {
            token: claim.token,
            held,
        }))
    }

    fn set_value(&mut self, set: &SetValue, moment: &mut Moment<'_>) -> Changed {
        check_value(&set.value)?;
        let claim = self.claim(set.claimant).ok_or(LockRejection::NotHeld)?;
        let (name, holds) = (claim.name.clone(), claim.holds());
        self.change_claim(set.claimant, |claim| claim.value = set.value.to_vec());
        if holds {
            self.touch(&name, moment);
        }
        Ok(Then::Reply(LockReply::ValueSet))
    }

    fn force(&mut self, force: &Force, moment: &mut Moment<'_>) -> Changed {
        let reason = &force.reason;
        within(
            "bytes of the reason",
            reason.len() as u64,
            1,
            REASON_BYTES_MAX as u64,
        )?;
        let queue = self.queues.get(&force.name[..]);
        let of_grant = queue
            .into_iter()
            .flat_map(|queue| queue.of_grant(force.token));
        let claimants: Vec<Claimant> = of_grant.collect();
        mutated!(
            ForceIgnoresToken,
            if claimants.is_empty() && queue.is_some_and(|queue| queue.alone) {
                let &(token, _) = queue.expect("it was found").holders.first().expect("held");
                let force = Force {
                    token,
                    ..force.clone()
                };
                return self.force(&force, moment);
            }
        );
        if claimants.is_empty() {
            return Err(LockRejection::NotHeld);
        }
        for claimant in claimants {
            self.drop_claim(claimant, moment);
            self.wake(
                claimant,
                Outcome::Forced {
                    reason: reason.clone(),
                },
            );
        }
        Ok(Then::Reply(LockReply::Released {
            token: force.token,
            held: false,
        }))
    }

    fn set_latch(&mut self, set: &SetLatch, moment: &mut Moment<'_>) -> Changed {
        check_name(&set.name)?;
        within("count of the latch", set.count, 0, PERMITS_MAX)?;
        self.use_for(&set.name, Kind::Latch, 0)?;
        self.count_latch(&set.name, set.count, moment);
        Ok(Then::Reply(LockReply::Latch { count: set.count }))
    }

    fn count_down(&mut self, count: &CountDown, moment: &mut Moment<'_>) -> Changed {
        within("steps of the latch", count.by, 1, PERMITS_MAX)?;
        let Some(lock) = self.locks.get(&count.name) else {
            return Ok(Then::Reply(LockReply::Latch { count: 0 }));
        };
        if lock.kind() != Kind::Latch {
            return Err(LockRejection::OtherKind { kind: lock.kind() });
        }
        let left = lock.limit.saturating_sub(count.by);
        self.count_latch(&count.name, left, moment);
        Ok(Then::Reply(LockReply::Latch { count: left }))
    }

    fn count_latch(&mut self, name: &[u8], count: u64, moment: &mut Moment<'_>) {
        self.change_lock(name, |lock| lock.limit = count);
        self.touch(name, moment);
        self.unsettle(name);
    }

    fn leave(&mut self, leave: &Leave, moment: &mut Moment<'_>) -> Changed {
        let claimant = leave.claimant;
        // Whoever left before and repeats it finds nothing.
        let Some(claim) = self.claim(claimant) else {
            return Ok(Then::Reply(LockReply::Passed));
        };
        if claim.mode() != Mode::Enter || !claim.holds() {
            return Err(LockRejection::NotHeld);
        }
        let name = claim.name.clone();
        let joined = moment.next_ordinal();
        self.change_claim(claimant, |claim| {
            claim.leaving = true;
            claim.joined = joined;
            claim.deadline_ms = deadline_ms(leave.wait_ms, moment.clock_ms);
        });
        self.unsettle(&name);
        Ok(Then::Await {
            claimant,
            wait: leave.wait_ms > 0,
        })
    }
}

/// Checks numbers and lengths.
fn check_acquire(acquire: &Acquire) -> Result<Mode, LockRejection> {
    check_name(&acquire.name)?;
    check_value(&acquire.value)?;
    let mode = Mode::try_from(acquire.mode);
    let mode = mode.map_err(|_| LockRejection::Limit {
        what: "mode".into(),
        value: u64::from(acquire.mode.unsigned_abs()),
        min: 0,
        max: Mode::Enter as u64,
    })?;
    let (permits_max, limit_max) = match mode {
        Mode::Permits => (acquire.limit.min(PERMITS_MAX), PERMITS_MAX),
        Mode::Enter => (0, PARTIES_MAX),
        _ => (0, 0),
    };
    let counted = limit_max.min(1);
    within("limit", acquire.limit, counted, limit_max)?;
    within("permits", acquire.permits, permits_max.min(1), permits_max)?;
    let locks = mode.kind() == Kind::Lock;
    within(
        "owner of what cannot be re-entered",
        acquire.owner,
        0,
        if locks { u64::MAX } else { 0 },
    )?;
    within(
        "lock-delay in ms",
        acquire.delay_ms,
        0,
        if locks { DELAY_MS_MAX } else { 0 },
    )?;
    Ok(mode)
}
