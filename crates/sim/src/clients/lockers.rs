//! Clients that use locks of every kind: they ask again under the same name when they hear nothing, write under guards, and sometimes go on with
//! a lock that they no longer have.

use super::*;
use state::Guard;
use state::lock::{
    Acquire, Claimant, CountDown, Force, GUARD_MODEL, Leave, LockAnswer, LockCommand,
    LockOperation, LockQuery, LockReply, Mode, Release, SetLatch, SetValue,
};

/// Permits of the semaphore, and parties of the barrier.
const PERMITS: u64 = 3;
const PARTIES: u64 = 2;

/// A client that uses locks.
#[derive(Clone, Debug, Default)]
pub(super) struct Locker {
    pub program: usize,
    pub waiting: Option<u64>,
    /// What it wants, until it knows whether it has it.
    wish: Option<Acquire>,
    /// What it has, as far as it knows: of a lock that it re-entered more than one.
    held: Vec<Acquire>,
    token: u64,
    /// Things it does before it releases.
    steps: u64,
    /// The last acquisition has been asked to be given up.
    releasing: bool,
    /// A lock it had, with the token, to see that it is refused.
    stale: Option<(Bytes, u64)>,
}

impl Locker {
    /// One that wants nothing yet.
    pub fn of(program: usize) -> Locker {
        Locker {
            program,
            ..Locker::default()
        }
    }
}

impl Clients {
    /// The next step of a locker.
    pub(super) fn lock(&mut self, client: usize) {
        let think = self.load.think.max(100_000);
        let Kind::Locker(locker) = &mut self.clients[client].kind else {
            unreachable!("only lockers lock")
        };
        let program = &self.programs[locker.program];
        if program.stopped {
            return self.wake_after(client, 100_000);
        }
        if let Some((name, token)) = locker.stale.take() {
            return self.write_guarded(client, name, token);
        }
        if let Some(wish) = locker.wish.clone() {
            let gives_up = self.closing || self.rng.chance(150);
            let Kind::Locker(locker) = &mut self.clients[client].kind else {
                unreachable!("it was one")
            };
            if gives_up {
                locker.wish = None;
                locker.held.push(wish);
                return self.release(client);
            }
            return self.ask_lock(client, LockOperation::Acquire(wish));
        }
        if !locker.held.is_empty() {
            if locker.steps > 0 && !self.closing {
                locker.steps -= 1;
                return self.use_lock(client);
            }
            return self.release(client);
        }
        if self.closing {
            return;
        }
        if !program.alive {
            return self.wake_after(client, think);
        }
        if self.rng.chance(100) {
            return self.disturb(client);
        }
        let wish = self.wish(client, None);
        self.want(client, wish);
    }

    fn want(&mut self, client: usize, wish: Acquire) {
        if let Kind::Locker(locker) = &mut self.clients[client].kind {
            locker.wish = Some(wish.clone());
        }
        self.ask_lock(client, LockOperation::Acquire(wish));
    }

    fn ask_lock(&mut self, client: usize, operation: LockOperation) {
        let request = self.number();
        let command = LockCommand {
            operation: Some(operation),
        };
        self.propose(client, request, Operation::Lock(command));
    }

    /// Something to acquire: anything, or the lock that it has once more.
    fn wish(&mut self, client: usize, again: Option<Acquire>) -> Acquire {
        let Kind::Locker(locker) = &self.clients[client].kind else {
            unreachable!("only lockers wish")
        };
        let program = &mut self.programs[locker.program];
        program.last_id += 1;
        let claimant = Claimant {
            session: program.session,
            id: program.last_id,
        };
        let wait_ms = match self.rng.below(6) {
            0 => 0,
            1..3 => self.rng.between(1, 1_500),
            _ => u64::MAX,
        };
        if let Some(again) = again {
            return Acquire {
                claimant,
                wait_ms,
                ..again
            };
        }
        let (name, mode) = *self.rng.pick(&[
            ("x0", Mode::Exclusive),
            ("x0", Mode::Exclusive),
            ("x0", Mode::Exclusive),
            ("x1", Mode::Exclusive),
            ("x1", Mode::Shared),
            ("x1", Mode::Shared),
            ("s", Mode::Permits),
            ("s", Mode::Permits),
            ("g", Mode::Member),
            ("t", Mode::Pass),
            ("b", Mode::Enter),
        ]);
        let (permits, limit) = match mode {
            Mode::Permits => (self.rng.between(1, PERMITS), PERMITS),
            Mode::Enter => (0, PARTIES),
            _ => (0, 0),
        };
        let locks = matches!(mode, Mode::Exclusive | Mode::Shared);
        Acquire {
            name: Bytes::from_static(name.as_bytes()),
            claimant,
            owner: if locks { client as u64 } else { 0 },
            mode: mode as i32,
            permits,
            limit,
            priority: i32::from(self.rng.chance(100)),
            wait_ms,
            delay_ms: if locks && self.rng.chance(400) {
                self.rng.between(200, 2_000)
            } else {
                0
            },
            value: Bytes::new(),
        }
    }

    /// Does something while it has a lock, as far as it knows.
    fn use_lock(&mut self, client: usize) {
        let draw = self.rng.below(10);
        let Kind::Locker(locker) = &self.clients[client].kind else {
            unreachable!("only lockers have locks")
        };
        let last = locker.held.last().expect("it has one").clone();
        let token = locker.token;
        match draw {
            0..2 if last.owner != 0 => {
                let wish = self.wish(client, Some(last));
                self.want(client, wish);
            }
            2 => {
                let value = Bytes::from(draw.to_string());
                let claimant = last.claimant;
                self.ask_lock(
                    client,
                    LockOperation::SetValue(SetValue { claimant, value }),
                );
            }
            // Asks for what it has: the answer is the same.
            4 => self.ask_lock(client, LockOperation::Acquire(last)),
            3 => {
                let request = self.number();
                let name = last.name;
                let query = Query::Lock(LockQuery::Check { name, token });
                let consistency = match self.clients[client].stamp {
                    Some(stamp) if self.rng.chance(500) => Consistency::AtLeast(stamp),
                    _ => Consistency::Linearizable,
                };
                self.ask(client, request, Request::Read(consistency, query));
            }
            _ => self.write_guarded(client, last.name, token),
        }
    }

    fn write_guarded(&mut self, client: usize, name: Bytes, token: u64) {
        let request = self.number();
        let put = Put {
            key: Bytes::from([b"f", &name[..]].concat()),
            value: value_of(request),
            ..Put::default()
        };
        let command = Command {
            trace: trace_id(request),
            guards: vec![Guard {
                model: GUARD_MODEL,
                name,
                token,
            }],
            operation: Some(Operation::Put(put)),
            ..Command::default()
        };
        self.ask(client, request, Request::Propose(command));
    }

    /// Gives up the last acquisition, or leaves its barrier.
    fn release(&mut self, client: usize) {
        let leaves_alone = self.rng.chance(20) && !self.closing;
        let wait_ms = self.rng.between(0, 1_000);
        let Kind::Locker(locker) = &mut self.clients[client].kind else {
            unreachable!("only lockers have locks")
        };
        let last = locker.held.last().expect("it has one");
        let claimant = last.claimant;
        let entered = last.mode == Mode::Enter as i32 && locker.token != 0;
        if leaves_alone {
            // It forgets what it has; only the end of its session frees that.
            (locker.held, locker.token) = (Vec::new(), 0);
            return self.wake_after(client, self.load.think);
        }
        locker.releasing = true;
        self.ask_lock(
            client,
            if entered && !self.closing {
                LockOperation::Leave(Leave { claimant, wait_ms })
            } else {
                let joined = 0;
                LockOperation::Release(Release { claimant, joined })
            },
        );
    }

    /// An operator takes a lock away, or a latch is set or counted down.
    fn disturb(&mut self, client: usize) {
        let held = self.clients.iter().filter_map(|other| match &other.kind {
            Kind::Locker(locker) if locker.token != 0 => {
                let last = locker.held.last()?;
                Some((last.name.clone(), locker.token))
            }
            _ => None,
        });
        let held: Vec<(Bytes, u64)> = held.collect();
        let name = Bytes::from_static(b"t");
        let operation = match self.rng.below(4) {
            0 if !held.is_empty() => {
                let (name, token) = self.rng.pick(&held).clone();
                let reason = "it takes too long".into();
                LockOperation::Force(Force {
                    name,
                    token,
                    reason,
                })
            }
            1 => LockOperation::SetLatch(SetLatch {
                name,
                count: self.rng.below(4),
            }),
            _ => LockOperation::CountDown(CountDown {
                name,
                by: self.rng.between(1, 2),
            }),
        };
        self.ask_lock(client, operation);
    }

    /// A locker's request has ended.
    pub(super) fn on_locked(&mut self, client: usize, outcome: &Outcome) {
        let (steps, stale) = (self.rng.below(4), self.rng.chance(300));
        let Kind::Locker(locker) = &mut self.clients[client].kind else {
            unreachable!("only lockers lock")
        };
        let Outcome::Ended(Ok(response)) = outcome else {
            self.go_elsewhere(client);
            return self.wake_after(client, self.load.think / 2);
        };
        match &response.body {
            Body::Reply(Reply::Lock(LockReply::Granted { token })) => {
                if let Some(wish) = locker.wish.take() {
                    locker.held.push(wish);
                    (locker.token, locker.steps) = (*token, steps);
                }
            }
            // Guards refuse what is no longer its own.
            Body::Reply(Reply::Rejected(Rejection::Guard(_))) => locker.held.clear(),
            // It is no longer its own, or so it hears.
            Body::Answer(Answer::Lock(LockAnswer::Check { held: false, .. })) => {
                locker.held.clear()
            }
            Body::Reply(Reply::Put { .. }) | Body::Answer(_) => {}
            _ if locker.releasing => {
                locker.releasing = false;
                let gone = locker.held.pop();
                if locker.held.is_empty() {
                    let token = std::mem::take(&mut locker.token);
                    let gone = gone.filter(|_| stale && token != 0);
                    locker.stale = gone.map(|gone| (gone.name, token));
                }
            }
            _ => locker.wish = None,
        }
        if locker.held.is_empty() {
            locker.token = 0;
        }
        let pause = if locker.held.is_empty() {
            self.load.think
        } else {
            100_000
        };
        self.wake_after(client, pause);
    }
}
