//! Programs that use locks: each has a session, a client that keeps it alive, and others that use it. A program may stop for longer than its
//! session lives and go on as if nothing had happened, which is what locks have to be safe against.

use super::*;

/// A program of a user.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    /// Its session; kept as it is when that has ended and the program does not know.
    pub session: i64,
    pub ttl_ms: u64,
    /// As far as the program knows.
    pub alive: bool,
    /// It gets no time.
    pub stopped: bool,
    /// The last id given to an acquisition.
    pub last_id: u64,
}

/// The client that keeps a program's session alive.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pub program: usize,
    pub waiting: Option<u64>,
}

impl Clients {
    /// The next step of a keeper: open a session, keep it alive for a while, then stop, fall silent, or end it.
    pub(super) fn keep(&mut self, client: usize, place: usize) {
        let request = self.number();
        if std::mem::take(&mut self.programs[place].stopped) {
            return self.wake_after(client, 1_000);
        }
        if !self.programs[place].alive {
            if self.closing {
                return;
            }
            let (id, ttl_ms) = (
                1 + self.rng.below(1 << 40) as i64,
                self.rng.between(1_000, 5_000),
            );
            self.programs[place] = Program {
                session: id,
                ttl_ms,
                ..Program::default()
            };
            let grant = Operation::LeaseGrant(LeaseGrant { id, ttl_ms });
            return self.propose(client, request, grant);
        }
        let Program {
            session: id,
            ttl_ms,
            ..
        } = self.programs[place];
        match self.rng.below(100) {
            _ if self.closing => {
                self.programs[place].alive = false;
                let revoke = Operation::LeaseRevoke(LeaseRevoke { id });
                self.propose(client, request, revoke);
            }
            0..6 => {
                self.programs[place].stopped = true;
                let pause = self.rng.between(ttl_ms / 4, 3 * ttl_ms) * 1000;
                self.wake_at(client, pause);
            }
            6..8 => {
                self.programs[place].alive = false;
                let revoke = Operation::LeaseRevoke(LeaseRevoke { id });
                self.propose(client, request, revoke);
            }
            _ => self.ask(client, request, Request::KeepAlive(id)),
        }
    }

    /// A keeper's request has ended.
    pub(super) fn on_kept(&mut self, client: usize, place: usize, outcome: &Outcome) {
        let program = &mut self.programs[place];
        let mut failed = false;
        match outcome {
            Outcome::Ended(Ok(response)) => match &response.body {
                Body::Reply(Reply::LeaseGrant { .. }) => program.alive = true,
                Body::KeepAlive(Some(_)) => {}
                _ => program.alive = false,
            },
            _ => failed = true,
        }
        let pause = if program.alive && !self.closing {
            program.ttl_ms * 1000 / 4
        } else {
            self.load.think
        };
        if failed {
            self.go_elsewhere(client);
        }
        self.wake_after(client, pause);
    }
}
