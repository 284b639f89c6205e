//! A cell of real replicas with an instant disk and an instant network, on time that moves only when told.

pub use crate::disk::Disk;
use bytes::Bytes;
use raft::{Configuration, Incarnation, Instant, Member, MemberId, PeerId, Role, Standing, Term};
use replica::{
    Boot, Consistency, Effect, Failure, Input, Message, Now, Replica, Response, Settings, StreamId,
    Ticket, WatchRequest, WatchResponse,
};
use state::auth::Caller;
use state::{Command, Operation, Query};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const CLUSTER: u64 = 0xc1;
pub const CELL: u64 = 0;

pub struct Host {
    pub id: PeerId,
    pub disk: Disk,
    pub replica: Option<Replica>,
    pub paused: bool,
    pub halted: Option<String>,
    /// The member told that it left.
    pub departed: bool,
    /// Why it was to begin anew, each time, and how often it did.
    pub reopened: Vec<String>,
    lives_begun_anew: usize,
    /// What was told of states that differ.
    pub disputes: Vec<String>,
    timer: Option<Instant>,
    /// Effects that a pause holds back.
    inputs: VecDeque<Input>,
    pub role: Role,
    pub term: Term,
    pub leader: Option<PeerId>,
    /// Turns of `work` so far.
    pub turns: u64,
}

pub struct Cell {
    /// Microseconds.
    pub now: u64,
    pub wall_ms: u64,
    pub hosts: BTreeMap<u64, Host>,
    pub settings: Settings,
    wire: VecDeque<(u64, u64, Message)>,
    /// Connections cut, one way each.
    pub cut: BTreeSet<(u64, u64)>,
    pub outcomes: BTreeMap<Ticket, Result<Response, Failure>>,
    pub watched: BTreeMap<(u64, StreamId), Vec<WatchResponse>>,
    /// Messages delivered, by kind.
    pub snapshot_chunks: u64,
    /// Every how many snapshot messages one is lost; 0: none.
    pub lose_chunks: u64,
    processes: u64,
    last_ticket: u64,
    answered_twice: Vec<Ticket>,
}

pub fn member(nth: u64) -> PeerId {
    PeerId {
        member: MemberId(nth),
        incarnation: Incarnation(1),
    }
}

pub fn configuration(size: u64) -> Configuration {
    let mut configuration = Configuration::default();
    for nth in 1..=size {
        configuration.voters.insert(member(nth));
        let name = Member {
            incarnation: Incarnation(1),
            name: format!("n{nth}"),
            ..Member::default()
        };
        configuration.members.insert(MemberId(nth), name);
    }
    configuration
}

impl Cell {
    pub fn new(size: u64) -> Cell {
        Cell::with(size, Settings::default())
    }

    pub fn with(size: u64, settings: Settings) -> Cell {
        let mut cell = Cell {
            now: 1_000_000,
            wall_ms: 1_700_000_000_000,
            hosts: BTreeMap::new(),
            settings,
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            watched: BTreeMap::new(),
            snapshot_chunks: 0,
            lose_chunks: 0,
            processes: 0,
            last_ticket: 0,
            answered_twice: Vec::new(),
        };
        for nth in 1..=size {
            cell.add_host(nth, member(nth), configuration(size));
        }
        for nth in 1..=size {
            cell.start(nth);
        }
        cell
    }

    /// A cell of three that has a leader and has settled.
    pub fn settled() -> Cell {
        let mut cell = Cell::new(3);
        cell.elect();
        cell
    }

    pub fn add_host(&mut self, nth: u64, id: PeerId, bootstrap: Configuration) {
        let host = Host {
            id,
            disk: Disk::new(bootstrap),
            replica: None,
            paused: false,
            halted: None,
            departed: false,
            reopened: Vec::new(),
            lives_begun_anew: 0,
            disputes: Vec::new(),
            timer: None,
            inputs: VecDeque::new(),
            role: Role::Follower,
            term: Term(0),
            leader: None,
            turns: 0,
        };
        self.hosts.insert(nth, host);
    }

    pub fn now(&self) -> Now {
        Now {
            monotonic: Instant(self.now),
            wall_ms: self.wall_ms + self.now / 1000,
        }
    }

    pub fn start(&mut self, nth: u64) {
        self.begin(nth);
        self.settle();
    }

    /// The process goes on with what a recovery of its disk finds. Its connections close.
    fn begin_anew(&mut self, nth: u64) {
        let host = self.hosts.get_mut(&nth).unwrap();
        host.lives_begun_anew += 1;
        host.inputs.clear();
        host.disk.staging.clear();
        self.begin(nth);
    }

    /// Starts a member whose disk damages these entries right after recovery looked at them.
    pub fn begin_unseen_damage(&mut self, nth: u64, first: u64, last: u64) {
        self.begin(nth);
        self.hosts.get_mut(&nth).unwrap().disk.damage(first, last);
        self.settle();
    }

    fn begin(&mut self, nth: u64) {
        self.processes += 1;
        let (process, now, settings) = (self.processes, self.now(), self.settings.clone());
        let host = self.hosts.get_mut(&nth).unwrap();
        let boot = Boot {
            cluster: CLUSTER,
            cell: CELL,
            restored: host.disk.recover(host.id, process),
            seed: process * 7919,
        };
        host.replica = Some(Replica::new(settings, boot, now));
        (host.role, host.leader, host.timer) = (Role::Follower, None, None);
    }

    /// The process ends; with `kill -9` its peers see refused connections.
    pub fn kill(&mut self, nth: u64) {
        let host = self.hosts.get_mut(&nth).unwrap();
        host.replica = None;
        host.inputs.clear();
        host.disk.staging.clear();
        let id = host.id;
        self.wire.retain(|&(from, to, _)| from != nth && to != nth);
        self.watched.retain(|&(at, _), _| at != nth);
        let others: Vec<u64> = self
            .hosts
            .keys()
            .copied()
            .filter(|&other| other != nth)
            .collect();
        for other in others {
            self.input(
                other,
                Input::PeerLost {
                    peer: id,
                    refused: true,
                },
            );
        }
        self.settle();
    }

    pub fn isolate(&mut self, nth: u64) {
        let others: Vec<u64> = self
            .hosts
            .keys()
            .copied()
            .filter(|&other| other != nth)
            .collect();
        for other in others {
            self.cut.insert((nth, other));
            self.cut.insert((other, nth));
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Gives an input without running the member.
    pub fn input(&mut self, nth: u64, input: Input) {
        let host = self.hosts.get_mut(&nth).unwrap();
        if host.replica.is_some() {
            host.inputs.push_back(input);
        }
    }

    /// One turn of a member's loop; `true` if it has more to do.
    pub fn turn(&mut self, nth: u64) -> bool {
        let now = self.now();
        let host = self.hosts.get_mut(&nth).unwrap();
        let Some(replica) = &mut host.replica else {
            return false;
        };
        if host.paused {
            return false;
        }
        for input in std::mem::take(&mut host.inputs) {
            replica.handle(now, input);
        }
        host.turns += 1;
        let mut more = replica.work(now);
        while let Some(effect) = self
            .hosts
            .get_mut(&nth)
            .unwrap()
            .replica
            .as_mut()
            .unwrap()
            .poll()
        {
            self.perform(nth, effect);
        }
        let host = &self.hosts[&nth];
        if host.reopened.len() > host.lives_begun_anew {
            self.begin_anew(nth);
            return true;
        }
        more |= !self.hosts[&nth].inputs.is_empty();
        more
    }

    fn perform(&mut self, nth: u64, effect: Effect) {
        let host = self.hosts.get_mut(&nth).unwrap();
        let disk = &mut host.disk;
        match effect {
            Effect::Persist(persist) => {
                let sequence = persist.sequence;
                disk.persist(persist);
                host.inputs.push_back(Input::Persisted(sequence));
                let bytes = host.disk.log_bytes();
                host.inputs.push_back(Input::LogBytes(bytes));
            }
            Effect::Send { to, message } => {
                if let Some((&to, _)) = self.hosts.iter().find(|(_, host)| host.id == to) {
                    // Everything crosses the wire as bytes.
                    let message =
                        Message::decode(message.encode()).expect("what is encoded can be decoded");
                    self.wire.push_back((nth, to, message));
                }
            }
            Effect::Reply { ticket, outcome } => {
                if self.outcomes.insert(ticket, outcome).is_some() {
                    self.answered_twice.push(ticket);
                }
            }
            Effect::WatchResponses { stream, responses } => self
                .watched
                .entry((nth, stream))
                .or_default()
                .extend(responses),
            Effect::Fetch { from, bytes_max: _ } => host.inputs.push_back(disk.fetch(from)),
            Effect::Release(upto) => disk.release(upto),
            Effect::Stage { id, offset, bytes } => {
                let file = disk.staging.entry(id).or_default();
                assert_eq!(file.len() as u64, offset, "pieces in order");
                file.extend_from_slice(&bytes);
                let written = (!disk.staging_fails).then_some(file.len() as u64);
                host.inputs.push_back(Input::Staged { id, bytes: written });
            }
            Effect::StageFinish {
                id,
                mark,
                bytes,
                checksum,
            } => {
                let file = disk.staging.remove(&id).expect("the staging file exists");
                assert_eq!(file.len() as u64, bytes);
                let good = crc32c::crc32c(&file) == checksum;
                if good {
                    disk.snapshot = Some((mark, file.into()));
                }
                host.inputs.push_back(Input::Staged {
                    id,
                    bytes: good.then_some(bytes),
                });
            }
            Effect::StageAbort { id } => {
                disk.staging.remove(&id);
            }
            Effect::ReadSnapshot {
                index,
                offset,
                bytes_max,
            } => {
                let bytes = disk.read_snapshot(index, offset, bytes_max);
                host.inputs.push_back(Input::SnapshotRead {
                    index,
                    offset,
                    bytes,
                });
            }
            Effect::RoleChanged { role, term, leader } => {
                (host.role, host.term, host.leader) = (role, term, leader);
                let replica = host.replica.as_ref().expect("it runs");
                host.disk.entries_lost &= replica.status().raft.standing != Standing::Sound;
            }
            Effect::ConfigurationChanged(_) => {}
            Effect::StateDiffers(text) => host.disputes.push(text),
            Effect::DiscardSnapshot(_) => disk.discard_snapshot(),
            Effect::Reopen(why) => host.reopened.push(why),
            Effect::Halted(text) => host.halted = Some(text),
            Effect::Departed => host.departed = true,
            Effect::LocksChanged(_) | Effect::StateReplaced => {}
            Effect::SetTimer(at) => host.timer = Some(at),
        }
    }

    fn deliver(&mut self) -> bool {
        let Some((from, to, message)) = self.wire.pop_front() else {
            return false;
        };
        if self.cut.contains(&(from, to)) {
            return true;
        }
        if matches!(message, Message::SnapshotChunk { .. }) {
            self.snapshot_chunks += 1;
            if self.lose_chunks > 0 && self.snapshot_chunks.is_multiple_of(self.lose_chunks) {
                return true;
            }
        }
        let from = self.hosts[&from].id;
        self.input(to, Input::Message { from, message });
        true
    }

    /// Runs everything that can run without time passing.
    pub fn settle(&mut self) {
        self.settle_until(|_| false);
    }

    /// The same, and stops between two turns when `enough` says so.
    pub fn settle_until(&mut self, enough: impl Fn(&Cell) -> bool) {
        for _ in 0..2_000_000 {
            if enough(self) {
                return;
            }
            let mut busy = self.deliver();
            while self.deliver() {}
            let members: Vec<u64> = self.hosts.keys().copied().collect();
            for nth in members {
                let waiting = !self.hosts[&nth].inputs.is_empty() && !self.hosts[&nth].paused;
                busy |= waiting;
                busy |= self.turn(nth);
            }
            if !busy
                && self.wire.is_empty()
                && self
                    .hosts
                    .values()
                    .all(|host| host.inputs.is_empty() || host.paused)
            {
                return;
            }
        }
        panic!("the cell does not settle");
    }

    /// Lets time pass.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now + ms * 1000;
        loop {
            self.settle();
            let due = self
                .hosts
                .values()
                .filter(|host| host.replica.is_some() && !host.paused)
                .filter_map(|host| host.timer)
                .min();
            let Some(at) = due.filter(|at| at.0 <= end) else {
                break;
            };
            self.now = self.now.max(at.0);
            let members: Vec<u64> = self.hosts.keys().copied().collect();
            for nth in members {
                let host = self.hosts.get_mut(&nth).unwrap();
                if !host.paused && host.timer.is_some_and(|timer| timer.0 <= self.now) {
                    host.timer = None;
                    self.input(nth, Input::TimerFired);
                }
            }
        }
        self.now = end;
        self.settle();
    }

    /// Lets time pass until all running members follow one leader; gives it.
    pub fn elect(&mut self) -> u64 {
        for _ in 0..200 {
            self.advance(50);
            if let Some(leader) = self.leader() {
                let id = self.hosts[&leader].id;
                let running = self
                    .hosts
                    .values()
                    .filter(|host| host.replica.is_some() && host.halted.is_none());
                let reachable =
                    running.filter(|host| !self.cut.contains(&(leader, host.id.member.0)));
                if reachable.clone().all(|host| host.leader == Some(id)) {
                    self.advance(150);
                    return leader;
                }
            }
        }
        panic!(
            "no leader: {:?}",
            self.hosts
                .values()
                .map(|host| (host.role, host.term, host.leader))
                .collect::<Vec<_>>()
        );
    }

    /// The leader of the newest term.
    pub fn leader(&self) -> Option<u64> {
        let leads = |host: &&Host| {
            host.role == Role::Leader
                && host.replica.is_some()
                && !host.paused
                && host.halted.is_none()
        };
        let best = self
            .hosts
            .iter()
            .filter(|(_, host)| leads(host))
            .max_by_key(|(_, host)| host.term);
        best.map(|(&nth, _)| nth)
    }

    pub fn follower(&self) -> u64 {
        let leader = self.leader().expect("a leader");
        *self
            .hosts
            .iter()
            .find(|&(&nth, host)| nth != leader && host.replica.is_some() && host.halted.is_none())
            .unwrap()
            .0
    }

    pub fn replica(&self, nth: u64) -> &Replica {
        self.hosts[&nth].replica.as_ref().expect("it runs")
    }

    pub fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    pub fn propose(&mut self, nth: u64, operation: Operation) -> Ticket {
        let ticket = self.ticket();
        self.input(
            nth,
            Input::Propose {
                ticket,
                command: command(operation),
            },
        );
        ticket
    }

    pub fn read(&mut self, nth: u64, consistency: Consistency, query: Query) -> Ticket {
        let ticket = self.ticket();
        self.input(
            nth,
            Input::Read {
                ticket,
                caller: Caller::default(),
                consistency,
                query,
            },
        );
        ticket
    }

    pub fn keep_alive(&mut self, nth: u64, lease: i64) -> Ticket {
        let ticket = self.ticket();
        self.input(nth, Input::KeepAlive { ticket, lease });
        ticket
    }

    /// The outcome of a request, if there is one.
    pub fn outcome(&self, ticket: Ticket) -> Option<&Result<Response, Failure>> {
        self.outcomes.get(&ticket)
    }

    pub fn response(&self, ticket: Ticket) -> Response {
        match self.outcome(ticket) {
            Some(Ok(response)) => response.clone(),
            other => panic!("{ticket:?} has no answer: {other:?}"),
        }
    }

    pub fn failure(&self, ticket: Ticket) -> Failure {
        match self.outcome(ticket) {
            Some(Err(failure)) => failure.clone(),
            other => panic!("{ticket:?} has not failed: {other:?}"),
        }
    }

    pub fn put(&mut self, nth: u64, key: &str, value: &str) -> Response {
        let ticket = self.propose(nth, put(key, value));
        self.settle();
        self.response(ticket)
    }

    pub fn delete(&mut self, nth: u64, key: &str, end: &str) -> Response {
        let ticket = self.propose(nth, delete(key, end));
        self.settle();
        self.response(ticket)
    }

    pub fn compact(&mut self, nth: u64, revision: i64) -> Response {
        let ticket = self.propose(nth, Operation::Compact(state::Compact { revision }));
        self.settle();
        self.response(ticket)
    }

    pub fn grant(&mut self, nth: u64, id: i64, ttl_ms: u64) -> Response {
        let ticket = self.propose(nth, Operation::LeaseGrant(state::LeaseGrant { id, ttl_ms }));
        self.settle();
        self.response(ticket)
    }

    /// The value of a key by a linearizable read.
    pub fn get(&mut self, nth: u64, key: &str) -> Option<String> {
        self.get_with(nth, key, Consistency::Linearizable)
    }

    pub fn get_with(&mut self, nth: u64, key: &str, consistency: Consistency) -> Option<String> {
        let ticket = self.read(nth, consistency, range(key, ""));
        self.settle();
        value(&self.response(ticket))
    }

    pub fn watch(&mut self, nth: u64, stream: u64, request: WatchRequest) {
        self.input(
            nth,
            Input::Watch {
                stream: StreamId(stream),
                request,
            },
        );
    }

    pub fn credit(&mut self, nth: u64, stream: u64, responses: u32) {
        self.input(
            nth,
            Input::WatchCredit {
                stream: StreamId(stream),
                responses,
            },
        );
    }

    /// What a stream heard since the last call.
    pub fn heard(&mut self, nth: u64, stream: u64) -> Vec<WatchResponse> {
        self.watched
            .remove(&(nth, StreamId(stream)))
            .unwrap_or_default()
    }

    /// All running members have applied the same and have the same hash.
    pub fn check_equal(&self) {
        let positions: Vec<(u64, u64, i64)> = self
            .hosts
            .values()
            .filter_map(|host| host.replica.as_ref())
            .map(|replica| replica.status())
            .map(|status| (status.applied, status.state_hash, status.revision))
            .collect();
        assert!(
            positions.windows(2).all(|pair| pair[0] == pair[1]),
            "members differ: {positions:?}"
        );
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(
                self.answered_twice.is_empty(),
                "answered twice: {:?}",
                self.answered_twice
            );
        }
    }
}

pub fn command(operation: Operation) -> Command {
    Command {
        operation: Some(operation),
        ..Command::default()
    }
}

pub fn put(key: &str, value: &str) -> Operation {
    put_with_lease(key, value, 0)
}

pub fn put_with_lease(key: &str, value: &str, lease: i64) -> Operation {
    let (key, value) = (
        Bytes::copy_from_slice(key.as_bytes()),
        Bytes::copy_from_slice(value.as_bytes()),
    );
    Operation::Put(state::Put {
        key,
        value,
        lease,
        ..state::Put::default()
    })
}

pub fn delete(key: &str, end: &str) -> Operation {
    let (key, range_end) = (
        Bytes::copy_from_slice(key.as_bytes()),
        Bytes::copy_from_slice(end.as_bytes()),
    );
    Operation::DeleteRange(state::DeleteRange {
        key,
        range_end,
        prev_kv: false,
    })
}

pub fn range(key: &str, end: &str) -> Query {
    let (key, range_end) = (
        Bytes::copy_from_slice(key.as_bytes()),
        Bytes::copy_from_slice(end.as_bytes()),
    );
    Query::Range(state::Range {
        key,
        range_end,
        ..state::Range::default()
    })
}

/// The first value in the answer to a range.
pub fn value(response: &Response) -> Option<String> {
    match &response.body {
        replica::Body::Answer(state::Answer::Range(reply)) => reply
            .kvs
            .first()
            .map(|kv| String::from_utf8(kv.value.to_vec()).unwrap()),
        other => panic!("not the answer to a range: {other:?}"),
    }
}
