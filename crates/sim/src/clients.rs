//! The clients of the cluster: some read and write keys, some hold leases, some watch, some use locks, some number their requests, some say who may do what. They know nothing but what members tell them, ask any
//! member, and go to another when one fails them.

mod admins;
mod callers;
mod lessees;
mod lockers;
mod programs;
mod reads;
mod requests;
mod shapes;
mod watchers;

use crate::clock::Micros;
use crate::model::Model;
use crate::oracle::{Check, History, Request, WatchOracle, trace_id, value_of};
use crate::rng::Rng;
use admins::Admin;
use bytes::Bytes;
use callers::Caller;
use lockers::Locker;
use programs::{Keeper, Program};
use reads::Pages;
use replica::{
    Body, Consistency, Failure, Response, Stamp, StreamId, WatchCreate, WatchRequest, WatchResponse,
};
pub(crate) use shapes::Shapes;
use state::{
    Answer, Command, Compact, Compare, DeleteRange, LeaseGrant, LeaseRevoke, Operation, Put, Query,
    Range, Rejection, Reply, StepReply, Txn, TxnOperation, TxnStep,
};
use std::collections::BTreeMap;

/// Longest time a client waits for an answer.
const PATIENCE: Micros = 4_000_000;

/// How many clients of each kind there are, and how busy they are.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients that read and write keys.
    pub writers: usize,
    /// Clients that hold leases.
    pub lessees: usize,
    /// Clients that watch.
    pub watchers: usize,
    /// Programs that use locks, with several clients each.
    pub programs: usize,
    /// Mean time between the requests of a writer.
    pub think: Micros,
    /// Keys per kind.
    pub keys: u64,
    /// Some writers write many keys of a kind of their own at once, and remove them all: work that takes more than one slice.
    pub bulk: bool,
    /// Clients are users with permissions, which change.
    pub users: bool,
}

/// What a client wants of the world.
#[derive(Clone, Debug)]
pub enum Action {
    /// Ask a member.
    Ask {
        /// The client.
        client: usize,
        /// The member.
        member: usize,
        /// The request's number.
        request: u64,
        /// The request.
        body: Request,
    },
    /// Tell a member that nobody waits for this answer any more.
    Cancel {
        /// The member.
        member: usize,
        /// The request's number.
        request: u64,
    },
    /// Open a watch stream.
    Open {
        /// The client.
        client: usize,
        /// The member.
        member: usize,
        /// The stream.
        stream: StreamId,
    },
    /// Ask something on a stream.
    Watch {
        /// The stream.
        stream: StreamId,
        /// What.
        request: WatchRequest,
    },
    /// Take more responses on a stream, after a while.
    Credit {
        /// The stream.
        stream: StreamId,
        /// How many.
        responses: u32,
        /// How long after.
        after: Micros,
    },
    /// Close a stream.
    Close {
        /// The stream.
        stream: StreamId,
    },
    /// Call back.
    Wake {
        /// The client.
        client: usize,
        /// After this time.
        after: Micros,
        /// Names the wish, so that an outdated one is known.
        token: u64,
    },
}

/// How a request ended for its client.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The member said so.
    Ended(Result<Response, Failure>),
    /// The connection broke, or could not be made.
    Lost,
}

/// All clients.
pub struct Clients {
    clients: Vec<Client>,
    programs: Vec<Program>,
    load: Load,
    members: usize,
    rng: Rng,
    next: u64,
    /// Values of keys as somebody saw them last, to make swaps that may succeed.
    seen: BTreeMap<Bytes, Option<Bytes>>,
    /// The newest revision somebody saw.
    revision: i64,
    /// No new requests, and watchers read at once: the run comes to its end.
    closing: bool,
    events_delivered: u64,
    actions: Vec<Action>,
}

struct Client {
    member: usize,
    /// The wish that a wake-up must name.
    token: u64,
    /// Its newest stamp.
    stamp: Option<Stamp>,
    /// On whose behalf it asks.
    user: Option<&'static str>,
    kind: Kind,
}

enum Kind {
    Writer {
        waiting: Option<u64>,
        pages: Option<Pages>,
    },
    Lessee(Lessee),
    Watcher(Watcher),
    Keeper(Keeper),
    Locker(Locker),
    Caller(Caller),
    Admin(Admin),
}

#[derive(Default)]
struct Lessee {
    lease: i64,
    ttl_ms: u64,
    held: bool,
    renewals_left: u64,
    puts_left: u64,
    waiting: Option<u64>,
}

#[derive(Default)]
struct Watcher {
    stream: Option<StreamId>,
    watches: BTreeMap<i64, (WatchCreate, WatchOracle)>,
    next_watch: i64,
    slow: bool,
    /// Watches asked for on this stream that make no sense: each is to be refused.
    senseless: u32,
    /// It reads nothing before then.
    reads_from: Micros,
}

impl Clients {
    /// Makes the clients and their first wishes.
    pub fn new(load: Load, members: usize, mut rng: Rng) -> Clients {
        let mut clients = Vec::new();
        for n in 0..load.writers + load.lessees + load.watchers {
            let kind = if n < load.writers {
                Kind::Writer {
                    waiting: None,
                    pages: None,
                }
            } else if n < load.writers + load.lessees {
                Kind::Lessee(Lessee::default())
            } else {
                Kind::Watcher(Watcher {
                    next_watch: 1,
                    slow: rng.chance(300),
                    ..Watcher::default()
                })
            };
            clients.push(Client {
                member: rng.below(members as u64) as usize,
                token: 0,
                stamp: None,
                user: None,
                kind,
            });
        }
        for program in 0..load.programs {
            let keeper = Keeper {
                program,
                waiting: None,
            };
            for kind in [
                Kind::Keeper(keeper),
                Kind::Locker(Locker::of(program)),
                Kind::Locker(Locker::of(program)),
                Kind::Caller(Caller::of(program)),
            ] {
                clients.push(Client {
                    member: rng.below(members as u64) as usize,
                    token: 0,
                    stamp: None,
                    user: None,
                    kind,
                });
            }
        }
        let mut clients = Clients {
            clients,
            programs: vec![Program::default(); load.programs],
            load,
            members,
            rng,
            next: 1,
            seen: BTreeMap::new(),
            revision: 1,
            closing: false,
            events_delivered: 0,
            actions: Vec::new(),
        };
        if load.users {
            clients.introduce_users();
        }
        for client in 0..clients.clients.len() {
            clients.wake_after(client, 500_000);
        }
        clients
    }

    /// Takes the wishes made since.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// From now on nothing new is asked, and slow watchers hurry.
    pub fn close(&mut self) {
        self.closing = true;
        // Leases end before the run does: nothing is to change in its last moments.
        for client in 0..self.clients.len() {
            let idle = match &self.clients[client].kind {
                Kind::Lessee(lessee) => lessee.waiting.is_none(),
                Kind::Keeper(keeper) => keeper.waiting.is_none(),
                Kind::Locker(locker) => locker.waiting.is_none(),
                _ => false,
            };
            if idle {
                self.wake_after(client, 50_000);
            }
        }
    }

    fn wake_after(&mut self, client: usize, mean: Micros) {
        let after = self.rng.wait(mean);
        self.wake_at(client, after);
    }

    fn wake_at(&mut self, client: usize, after: Micros) {
        self.clients[client].token += 1;
        self.actions.push(Action::Wake {
            client,
            after,
            token: self.clients[client].token,
        });
    }

    fn go_elsewhere(&mut self, client: usize) {
        self.clients[client].member = self.rng.below(self.members as u64) as usize;
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A wish for a wake-up has come true.
    pub fn on_wake(&mut self, client: usize, token: u64, model: &Model) {
        if self.clients[client].token != token {
            return;
        }
        self.revision = self.revision.max(model.revision());
        match &mut self.clients[client].kind {
            Kind::Writer { waiting, .. } => match waiting.take() {
                Some(request) => self.give_up(client, request),
                None => self.write(client),
            },
            Kind::Lessee(lessee) => match lessee.waiting.take() {
                Some(request) => self.give_up(client, request),
                None => self.hold(client),
            },
            Kind::Watcher(_) => self.watch(client, model),
            Kind::Keeper(keeper) => match (keeper.waiting.take(), keeper.program) {
                (Some(request), _) => self.give_up(client, request),
                (None, program) => self.keep(client, program),
            },
            Kind::Locker(locker) => match locker.waiting.take() {
                Some(request) => self.give_up(client, request),
                None => self.lock(client),
            },
            Kind::Caller(_) => self.call(client),
            Kind::Admin(admin) => match admin.waiting.take() {
                Some(request) => self.give_up(client, request),
                None => self.administer(client),
            },
        }
    }

    /// The answer takes too long: it may still take effect. Sometimes the member is told that nobody waits.
    fn give_up(&mut self, client: usize, request: u64) {
        if self.rng.chance(500) {
            self.actions.push(Action::Cancel {
                member: self.clients[client].member,
                request,
            });
        }
        self.go_elsewhere(client);
        self.wake_after(client, self.load.think);
    }

    fn ask(&mut self, client: usize, request: u64, body: Request) {
        match &mut self.clients[client].kind {
            Kind::Writer { waiting, .. } => *waiting = Some(request),
            Kind::Lessee(lessee) => lessee.waiting = Some(request),
            Kind::Keeper(keeper) => keeper.waiting = Some(request),
            Kind::Locker(locker) => locker.waiting = Some(request),
            Kind::Admin(admin) => admin.waiting = Some(request),
            Kind::Watcher(_) => unreachable!("watchers ask on their stream"),
            Kind::Caller(_) => unreachable!("callers do not wait"),
        }
        self.actions.push(Action::Ask {
            client,
            member: self.clients[client].member,
            request,
            body,
        });
        self.wake_at(client, PATIENCE);
    }

    fn propose(&mut self, client: usize, request: u64, operation: Operation) {
        let command = Command {
            trace: trace_id(request),
            operation: Some(operation),
            ..Command::default()
        };
        self.ask(client, request, Request::Propose(command));
    }

    /// A request of a writer or lessee has ended.
    pub fn on_outcome(&mut self, client: usize, request: u64, outcome: &Outcome) {
        if client >= self.clients.len() {
            return;
        }
        if let Outcome::Ended(Ok(response)) = outcome {
            self.learn(client, response);
        }
        let failed = !matches!(outcome, Outcome::Ended(Ok(_)));
        let think = self.load.think;
        match &mut self.clients[client].kind {
            Kind::Writer { waiting, .. } if *waiting == Some(request) => {
                *waiting = None;
                if failed {
                    self.go_elsewhere(client);
                }
                self.turn_page(client, request, outcome);
                self.wake_after(client, think);
            }
            Kind::Lessee(lessee) if lessee.waiting == Some(request) => {
                lessee.waiting = None;
                if let Outcome::Ended(Ok(response)) = outcome {
                    match &response.body {
                        Body::Reply(Reply::LeaseGrant { .. }) => lessee.held = true,
                        Body::KeepAlive(None)
                        | Body::Reply(Reply::LeaseRevoke | Reply::Rejected(_)) => {
                            lessee.held = false
                        }
                        _ => {}
                    }
                }
                let pause = if lessee.held && !self.closing {
                    lessee.ttl_ms * 1000 / 4
                } else {
                    think
                };
                if failed {
                    self.go_elsewhere(client);
                }
                self.wake_after(client, pause);
            }
            Kind::Keeper(keeper) if keeper.waiting == Some(request) => {
                keeper.waiting = None;
                let program = keeper.program;
                self.on_kept(client, program, outcome);
            }
            Kind::Locker(locker) if locker.waiting == Some(request) => {
                locker.waiting = None;
                self.on_locked(client, outcome);
            }
            Kind::Admin(admin) if admin.waiting == Some(request) => {
                admin.waiting = None;
                self.on_administered(client, outcome);
            }
            Kind::Caller(_) => self.on_called(client, request, outcome),
            _ => {}
        }
    }

    fn learn(&mut self, client: usize, response: &Response) {
        let stamp = &mut self.clients[client].stamp;
        *stamp = Some(stamp.map_or(response.stamp, |seen| seen.max(response.stamp)));
        self.revision = self.revision.max(response.revision);
        let ranges = match &response.body {
            Body::Answer(Answer::Range(reply)) => vec![reply],
            Body::Reply(Reply::Txn(reply)) => {
                let range = |step: &'_ StepReply| matches!(step, StepReply::Range(_));
                reply
                    .steps
                    .iter()
                    .filter(|step| range(step))
                    .filter_map(|step| {
                        if let StepReply::Range(r) = step {
                            Some(r)
                        } else {
                            None
                        }
                    })
                    .collect()
            }
            _ => vec![],
        };
        for kv in ranges
            .into_iter()
            .flat_map(|range| &range.kvs)
            .filter(|kv| !kv.value.is_empty())
        {
            self.seen.insert(kv.key.clone(), Some(kv.value.clone()));
        }
    }
}
