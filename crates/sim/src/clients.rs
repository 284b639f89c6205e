//! The clients of the cluster: some read and write keys, some hold leases, some watch. They know nothing but what members tell them, ask any
//! member, and go to another when one fails them.

use crate::clock::Micros;
use crate::model::Model;
use crate::oracle::{Check, Request, WatchOracle, trace_id, value_of};
use crate::rng::Rng;
use bytes::Bytes;
use replica::{
    Body, Consistency, Failure, Response, Stamp, StreamId, WatchCreate, WatchRequest, WatchResponse,
};
use state::{
    Answer, Command, Compact, Compare, DeleteRange, LeaseGrant, LeaseRevoke, Operation, Put, Query,
    Range, Reply, StepReply, Txn, TxnOperation, TxnStep,
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
    /// Mean time between the requests of a writer.
    pub think: Micros,
    /// Keys per kind.
    pub keys: u64,
    /// Some writers write many keys of a kind of their own at once, and remove them all: work that takes more than one slice.
    pub bulk: bool,
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
    kind: Kind,
}

enum Kind {
    Writer { waiting: Option<u64> },
    Lessee(Lessee),
    Watcher(Watcher),
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
}

impl Clients {
    /// Makes the clients and their first wishes.
    pub fn new(load: Load, members: usize, mut rng: Rng) -> Clients {
        let mut clients = Vec::new();
        for n in 0..load.writers + load.lessees + load.watchers {
            let kind = if n < load.writers {
                Kind::Writer { waiting: None }
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
                kind,
            });
        }
        let mut clients = Clients {
            clients,
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
            Kind::Writer { waiting } => match waiting.take() {
                Some(request) => self.give_up(client, request),
                None => self.write(client),
            },
            Kind::Lessee(lessee) => match lessee.waiting.take() {
                Some(request) => self.give_up(client, request),
                None => self.hold(client),
            },
            Kind::Watcher(_) => self.watch(client, model),
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
            Kind::Writer { waiting } => *waiting = Some(request),
            Kind::Lessee(lessee) => lessee.waiting = Some(request),
            Kind::Watcher(_) => unreachable!("watchers ask on their stream"),
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
        if let Outcome::Ended(Ok(response)) = outcome {
            self.learn(client, response);
        }
        let failed = !matches!(outcome, Outcome::Ended(Ok(_)));
        let think = self.load.think;
        match &mut self.clients[client].kind {
            Kind::Writer { waiting } if *waiting == Some(request) => {
                *waiting = None;
                if failed {
                    self.go_elsewhere(client);
                }
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
                let pause = if lessee.held {
                    lessee.ttl_ms * 1000 / 4
                } else {
                    think
                };
                if failed {
                    self.go_elsewhere(client);
                }
                self.wake_after(client, pause);
            }
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

    fn key(&mut self, prefix: char) -> Bytes {
        Bytes::from(format!("{prefix}{}", self.rng.below(self.load.keys)))
    }

    fn write(&mut self, client: usize) {
        if self.closing {
            return;
        }
        let request = self.number();
        let body = match self.rng.below(100) {
            0..35 => self.put(request),
            35..45 => self.swap(request),
            45..52 => {
                let delete = DeleteRange {
                    key: self.key('k'),
                    prev_kv: self.rng.chance(300),
                    ..DeleteRange::default()
                };
                Operation::DeleteRange(delete)
            }
            52..57 => self.transaction(request),
            59..67 if self.load.bulk => self.bulk(),
            57..59 => {
                let revision = (self.revision - self.rng.below(60) as i64).max(1);
                Operation::Compact(Compact { revision })
            }
            _ => {
                let (consistency, query) = self.query(client);
                return self.ask(client, request, Request::Read(consistency, query));
            }
        };
        self.propose(client, request, body);
    }

    fn put(&mut self, request: u64) -> Operation {
        let put = Put {
            key: self.key('k'),
            value: value_of(request),
            prev_kv: self.rng.chance(300),
            ..Put::default()
        };
        self.seen.insert(put.key.clone(), Some(put.value.clone()));
        Operation::Put(put)
    }

    /// Compares a key with what was seen last, and sets it; reads it if it differs.
    fn swap(&mut self, request: u64) -> Operation {
        let key = self.key('k');
        let compare = match self.seen.get(&key).cloned().flatten() {
            Some(value) => Compare {
                target: 3,
                key: key.clone(),
                value,
                ..Compare::default()
            },
            None => Compare {
                target: 1,
                key: key.clone(),
                number: 0,
                ..Compare::default()
            },
        };
        let put = Put {
            key: key.clone(),
            value: value_of(request),
            ..Put::default()
        };
        self.seen.insert(key.clone(), Some(put.value.clone()));
        let range = Range {
            key,
            ..Range::default()
        };
        Operation::Txn(Txn {
            compares: vec![compare],
            success: vec![step(TxnStep::Put(put))],
            failure: vec![step(TxnStep::Range(range))],
        })
    }

    /// Several keys at once: one revision, whole or not at all, and later steps see earlier ones.
    fn transaction(&mut self, request: u64) -> Operation {
        let first = self.rng.below(self.load.keys);
        let key = |n: u64| Bytes::from(format!("m{}", n % self.load.keys));
        let put = |n: u64| {
            step(TxnStep::Put(Put {
                key: key(n),
                value: value_of(request),
                prev_kv: true,
                ..Put::default()
            }))
        };
        let delete = step(TxnStep::DeleteRange(DeleteRange {
            key: key(first + 2),
            prev_kv: true,
            ..DeleteRange::default()
        }));
        let range = step(TxnStep::Range(Range {
            key: "m".into(),
            range_end: "n".into(),
            ..Range::default()
        }));
        let compare = Compare {
            result: 2,
            target: 0,
            key: key(first),
            number: 4,
            ..Compare::default()
        };
        let everything = step(TxnStep::DeleteRange(DeleteRange {
            key: "m".into(),
            range_end: "n".into(),
            prev_kv: false,
        }));
        let success = vec![
            range.clone(),
            put(first),
            put(first + 1),
            delete,
            range.clone(),
        ];
        Operation::Txn(Txn {
            compares: vec![compare],
            success,
            failure: vec![everything, range],
        })
    }

    /// Sixty keys with large values in one transaction, or the removal of all such keys.
    fn bulk(&mut self) -> Operation {
        if self.rng.chance(100) {
            let everything = DeleteRange {
                key: "b".into(),
                range_end: "c".into(),
                prev_kv: self.rng.chance(300),
            };
            return Operation::DeleteRange(everything);
        }
        let first = self.rng.below(3_000);
        let value = Bytes::from(vec![b'x'; self.rng.below(600) as usize]);
        let put = |n: u64| Put {
            key: Bytes::from(format!("b{n:05}")),
            value: value.clone(),
            ..Put::default()
        };
        let success = (first..first + 60)
            .map(|n| step(TxnStep::Put(put(n))))
            .collect();
        let compare = Compare {
            result: 3,
            target: 0,
            key: "never".into(),
            number: 1,
            ..Compare::default()
        };
        Operation::Txn(Txn {
            compares: vec![compare],
            success,
            failure: Vec::new(),
        })
    }

    fn query(&mut self, client: usize) -> (Consistency, Query) {
        let consistency = match (self.rng.below(10), self.clients[client].stamp) {
            (0..2, _) => Consistency::Local,
            (2..4, Some(stamp)) => Consistency::AtLeast(stamp),
            _ => Consistency::Linearizable,
        };
        let all = |key: &'static str, end: &'static str| Range {
            key: key.into(),
            range_end: end.into(),
            ..Range::default()
        };
        let query = match self.rng.below(20) {
            0 => Query::Range(all("a", "z")),
            1 => Query::Range(Range {
                limit: 1 + self.rng.below(5) as i64,
                ..all("k", "m")
            }),
            2 => Query::Range(Range {
                keys_only: true,
                ..all("k", "l")
            }),
            3 => Query::Range(Range {
                count_only: true,
                ..all("a", "z")
            }),
            4..7 => {
                let revision = (self.revision + 3 - self.rng.below(80) as i64).max(1);
                Query::Range(Range {
                    revision,
                    ..all("a", "z")
                })
            }
            7 => Query::HashKv { revision: 0 },
            8 => match self.rng.below(3) {
                0 => Query::Leases,
                _ => Query::LeaseTimeToLive {
                    id: self.some_lease(),
                    keys: true,
                },
            },
            _ => Query::Range(Range {
                key: self.key('k'),
                ..Range::default()
            }),
        };
        (consistency, query)
    }

    fn some_lease(&mut self) -> i64 {
        let lease = |client: &Client| {
            if let Kind::Lessee(lessee) = &client.kind {
                Some(lessee.lease)
            } else {
                None
            }
        };
        let leases: Vec<i64> = self.clients.iter().filter_map(lease).collect();
        if leases.is_empty() {
            1
        } else {
            *self.rng.pick(&leases)
        }
    }

    /// The next step of a lessee: grant, attach keys, renew for a while, then revoke or fall silent.
    fn hold(&mut self, client: usize) {
        let request = self.number();
        let (fresh, key) = (1 + self.rng.below(1 << 40) as i64, self.key('l'));
        let (ttl_ms, puts_left, renewals_left) = (
            self.rng.between(1_000, 6_000),
            self.rng.below(4),
            self.rng.below(12),
        );
        let (revokes, closing) = (self.rng.chance(300), self.closing);
        let Kind::Lessee(lessee) = &mut self.clients[client].kind else {
            unreachable!("only lessees hold")
        };
        if !lessee.held {
            if closing {
                return;
            }
            *lessee = Lessee {
                lease: fresh,
                ttl_ms,
                puts_left,
                renewals_left,
                ..Lessee::default()
            };
            return self.propose(
                client,
                request,
                Operation::LeaseGrant(LeaseGrant { id: fresh, ttl_ms }),
            );
        }
        let lease = lessee.lease;
        if lessee.puts_left > 0 {
            lessee.puts_left -= 1;
            let put = Put {
                key,
                value: value_of(request),
                lease,
                ..Put::default()
            };
            self.propose(client, request, Operation::Put(put));
        } else if lessee.renewals_left > 0 && !closing {
            lessee.renewals_left -= 1;
            self.ask(client, request, Request::KeepAlive(lease));
        } else {
            lessee.held = false;
            if revokes {
                self.propose(
                    client,
                    request,
                    Operation::LeaseRevoke(LeaseRevoke { id: lease }),
                );
            } else {
                self.wake_after(client, 2_000_000);
            }
        }
    }

    /// A watcher opens its stream, or does something with it.
    fn watch(&mut self, client: usize, model: &Model) {
        let draw = self.rng.below(10);
        let stream = StreamId(self.number());
        let watches = self.rng.between(1, 3);
        let member = self.clients[client].member;
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        let Some(present) = watcher.stream else {
            watcher.stream = Some(stream);
            self.actions.push(Action::Open {
                client,
                member,
                stream,
            });
            self.actions.push(Action::Credit {
                stream,
                responses: 4,
                after: 0,
            });
            self.resume(client, model);
            let Kind::Watcher(watcher) = &self.clients[client].kind else {
                unreachable!("a watcher stays one")
            };
            for _ in watcher.watches.len() as u64..watches {
                self.create_watch(client);
            }
            return self.wake_after(client, 3_000_000);
        };
        match draw {
            0 if !self.closing => {
                self.actions.push(Action::Close { stream: present });
                watcher.stream = None;
                self.go_elsewhere(client);
                self.wake_after(client, 100_000);
            }
            1 if !self.closing && watcher.watches.len() > 1 => {
                let watch = *watcher.watches.keys().next().expect("there are some");
                self.actions.push(Action::Watch {
                    stream: present,
                    request: WatchRequest::Cancel { watch },
                });
                self.wake_after(client, 3_000_000);
            }
            2 | 3 if !self.closing && watcher.watches.len() < 4 => {
                self.create_watch(client);
                self.wake_after(client, 3_000_000);
            }
            _ => {
                self.actions.push(Action::Watch {
                    stream: present,
                    request: WatchRequest::Progress,
                });
                self.wake_after(client, 3_000_000);
            }
        }
    }

    /// Asks again for all watches on a new stream, each from where it stopped.
    fn resume(&mut self, client: usize, model: &Model) {
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        let stream = watcher.stream.expect("it was opened");
        watcher.watches.retain(|_, (_, oracle)| !oracle.ended());
        for (create, oracle) in watcher.watches.values_mut() {
            if let Some(revision) = oracle.resume_revision(model) {
                create.start_revision = revision;
            }
            *oracle = WatchOracle::new(create.clone());
            self.actions.push(Action::Watch {
                stream,
                request: WatchRequest::Create(create.clone()),
            });
        }
    }

    fn create_watch(&mut self, client: usize) {
        let (key, range_end) = match self.rng.below(4) {
            0 => (self.key('k'), Bytes::new()),
            1 => (Bytes::from_static(b"k"), Bytes::from_static(b"m")),
            2 => (Bytes::from_static(b"l"), Bytes::from_static(b"\0")),
            _ => (Bytes::from_static(b"a"), Bytes::from_static(b"z")),
        };
        let start_revision = match self.rng.below(4) {
            0 | 1 => 0,
            2 => (self.revision - self.rng.below(80) as i64).max(1),
            _ => self.revision + self.rng.below(20) as i64,
        };
        let mut create = WatchCreate {
            watch: 0,
            key,
            range_end,
            start_revision,
            progress_notify: self.rng.chance(300),
            no_put: self.rng.chance(100),
            no_delete: self.rng.chance(100),
            prev_kv: self.rng.chance(300),
            fragment: self.rng.chance(200),
        };
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        create.watch = watcher.next_watch;
        watcher.next_watch += 1;
        let stream = watcher.stream.expect("it was opened");
        watcher.watches.insert(
            create.watch,
            (create.clone(), WatchOracle::new(create.clone())),
        );
        self.actions.push(Action::Watch {
            stream,
            request: WatchRequest::Create(create),
        });
    }

    /// Responses arrived on a stream.
    pub fn on_watch_responses(
        &mut self,
        client: usize,
        stream: StreamId,
        responses: &[WatchResponse],
        model: &Model,
    ) -> Check {
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        if watcher.stream != Some(stream) {
            return Ok(());
        }
        for response in responses {
            if response.watch == -1 {
                watcher
                    .watches
                    .values_mut()
                    .try_for_each(|(_, oracle)| oracle.on_progress(response.revision, model))?;
                continue;
            }
            let Some((_, oracle)) = watcher.watches.get_mut(&response.watch) else {
                return Err((
                    "W2",
                    format!("a response for a watch that is not open: {response:?}"),
                ));
            };
            let before = oracle.delivered();
            oracle.on_response(response, model)?;
            self.events_delivered += oracle.delivered() - before;
            if oracle.ended() {
                watcher.watches.remove(&response.watch);
            }
        }
        let after = if watcher.slow && !self.closing {
            self.rng.wait(400_000)
        } else {
            self.rng.wait(300)
        };
        self.actions.push(Action::Credit {
            stream,
            responses: responses.len() as u32,
            after,
        });
        Ok(())
    }

    /// The connection of a stream broke.
    pub fn on_stream_lost(&mut self, client: usize, stream: StreamId) {
        let Kind::Watcher(watcher) = &mut self.clients[client].kind else {
            unreachable!("only watchers watch")
        };
        if watcher.stream == Some(stream) {
            watcher.stream = None;
            self.go_elsewhere(client);
            self.wake_after(client, 100_000);
        }
    }

    /// Watch events delivered.
    pub fn events_delivered(&self) -> u64 {
        self.events_delivered
    }

    /// Everything decided was delivered to every open watch, and every watch asked for is open.
    pub fn check_watches(&self, model: &Model) -> Check {
        for client in &self.clients {
            let Kind::Watcher(watcher) = &client.kind else {
                continue;
            };
            for (create, oracle) in watcher.watches.values() {
                if watcher.stream.is_none() || !oracle.open() {
                    return Err((
                        "V1",
                        format!(
                            "a watch was never opened on n{}: {create:?}",
                            client.member + 1
                        ),
                    ));
                }
                oracle.check_complete(model)?;
            }
        }
        Ok(())
    }
}

fn step(step: TxnStep) -> TxnOperation {
    TxnOperation { step: Some(step) }
}
