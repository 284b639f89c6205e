//! Clients whose requests are numbered: several are under way at once, each is sent again until its reply is heard, wherever and in whatever order,
//! and sometimes afterwards, too.

use super::*;
use state::auth::AuthRejection;
use state::client::{ClientCommand, ClientOperation, ClientReply, Register};
use state::id::{Add, IdCommand, IdOperation, TakeSegment, TakeWorker};

/// Requests under way.
const UNDER_WAY: usize = 6;
/// Worker ids of the pool.
const WORKERS: u32 = 3;

/// A client whose requests are numbered.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    pub program: usize,
    /// The session of its record.
    session: i64,
    /// 0 until it is registered.
    id: u64,
    last: u64,
    /// Requests of which it has no reply.
    unanswered: BTreeMap<u64, Operation>,
    /// Some of which it has.
    answered: BTreeMap<u64, Operation>,
    /// Sequences of what was sent; 0 for the registration.
    sent: BTreeMap<u64, u64>,
}

impl Caller {
    /// One that is not registered.
    pub fn of(program: usize) -> Caller {
        Caller {
            program,
            ..Caller::default()
        }
    }
}

impl Clients {
    /// A caller sends something.
    pub(super) fn call(&mut self, client: usize) {
        self.wake_after(client, self.load.think / 2 + 50_000);
        let Kind::Caller(caller) = &mut self.clients[client].kind else {
            unreachable!("only callers call")
        };
        let program = &self.programs[caller.program];
        if self.closing || !program.alive || program.stopped {
            return;
        }
        if caller.session != program.session {
            *caller = Caller {
                session: program.session,
                ..Caller::of(caller.program)
            };
        }
        let request = self.number();
        self.go_elsewhere(client);
        let Kind::Caller(caller) = &mut self.clients[client].kind else {
            unreachable!("it was one")
        };
        if caller.id == 0 {
            caller.sent.insert(request, 0);
            let lease = caller.session;
            let register = ClientOperation::Register(Register { lease });
            let command = ClientCommand {
                operation: Some(register),
            };
            return self.send(client, request, Operation::Client(command));
        }
        let draw = self.rng.below(10);
        let pick = self.rng.next() as usize;
        if draw < 2 {
            let operation = self.number_wanted(client);
            return self.send(client, request, operation);
        }
        let again = match draw {
            2..4 => nth(&caller.answered, pick),
            4..7 => nth(&caller.unanswered, pick),
            _ => None,
        };
        match again {
            Some((sequence, operation)) => self.send_numbered(client, request, sequence, operation),
            None if caller.unanswered.len() < UNDER_WAY => {
                caller.last += 1;
                let sequence = caller.last;
                let operation = self.numbered(client, request);
                self.send_numbered(client, request, sequence, operation);
            }
            None => {}
        }
    }

    fn send(&mut self, client: usize, request: u64, operation: Operation) {
        let command = Command {
            trace: trace_id(request),
            operation: Some(operation),
            ..Command::default()
        };
        self.send_command(client, request, command);
    }

    fn send_command(&mut self, client: usize, request: u64, command: Command) {
        self.actions.push(Action::Ask {
            client,
            member: self.clients[client].member,
            request,
            body: Request::Propose(command),
        });
    }

    fn send_numbered(&mut self, client: usize, request: u64, sequence: u64, operation: Operation) {
        let forgets = self.rng.chance(200);
        let Kind::Caller(caller) = &mut self.clients[client].kind else {
            unreachable!("only callers call")
        };
        caller.sent.insert(request, sequence);
        if !caller.answered.contains_key(&sequence) {
            caller.unanswered.insert(sequence, operation.clone());
        }
        let lowest = caller.unanswered.keys().next().copied();
        let lowest = lowest.unwrap_or(sequence).min(sequence);
        let command = Command {
            client: caller.id,
            sequence,
            acknowledged_below: if forgets { 0 } else { lowest },
            trace: trace_id(request),
            operation: Some(operation),
            ..Command::default()
        };
        self.send_command(client, request, command);
    }

    /// What must not be done twice.
    fn numbered(&mut self, client: usize, request: u64) -> Operation {
        match self.rng.below(10) {
            0..5 => {
                let Kind::Caller(caller) = &self.clients[client].kind else {
                    unreachable!("only callers call")
                };
                let name = Bytes::from(format!("of {}", caller.id));
                id(IdOperation::Add(Add { name, delta: 1 }))
            }
            5..8 => Operation::Put(Put {
                key: self.key('o'),
                value: value_of(request),
                prev_kv: true,
                ..Put::default()
            }),
            _ => self.number_wanted(client),
        }
    }

    /// Numbers that nobody else is to get.
    fn number_wanted(&mut self, client: usize) -> Operation {
        let Kind::Caller(caller) = &self.clients[client].kind else {
            unreachable!("only callers call")
        };
        let session = caller.session;
        if self.rng.chance(500) {
            return id(IdOperation::Segment(TakeSegment {
                name: Bytes::from_static(b"orders"),
                count: self.rng.between(1, 100),
            }));
        }
        id(IdOperation::Worker(TakeWorker {
            pool: Bytes::from_static(b"pool"),
            session,
            workers: WORKERS,
            ahead_ms: self.rng.between(1, 2_000),
        }))
    }

    /// A caller's request has ended.
    pub(super) fn on_called(&mut self, client: usize, request: u64, outcome: &Outcome) {
        let Kind::Caller(caller) = &mut self.clients[client].kind else {
            unreachable!("only callers call")
        };
        let sequence = caller.sent.remove(&request);
        let Outcome::Ended(Ok(response)) = outcome else {
            return;
        };
        match (&response.body, sequence) {
            (Body::Reply(Reply::Client(ClientReply::Registered { client })), Some(0)) => {
                caller.id = *client;
            }
            // Let in anew, it may run.
            (Body::Reply(Reply::Rejected(Rejection::Auth(AuthRejection::OldRevision))), _) => {}
            (Body::Reply(_), Some(sequence)) => {
                if let Some(operation) = caller.unanswered.remove(&sequence) {
                    caller.answered.insert(sequence, operation);
                }
                while caller.answered.len() > UNDER_WAY {
                    caller.answered.pop_first();
                }
            }
            _ => {}
        }
    }
}

fn id(operation: IdOperation) -> Operation {
    let operation = Some(operation);
    Operation::Id(IdCommand { operation })
}

fn nth(of: &BTreeMap<u64, Operation>, pick: usize) -> Option<(u64, Operation)> {
    let place = pick.checked_rem(of.len())?;
    let (sequence, operation) = of.iter().nth(place)?;
    Some((*sequence, operation.clone()))
}
