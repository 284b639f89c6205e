//! The watch hub: all watches of this member, and how changes reach their streams (PROPERTIES W1–W12).
//!
//! A watch is in one of three places. In a *group*, it is fed together with the others there; the main group is at the newest revision. *Parked*, its
//! stream has no credit and it costs a cursor only. *Waiting*, it stands somewhere in history and is about to join a new group. A stream without credit
//! never holds anybody up: what it cannot take now it will read from history.
//!
//! "The newest revision" is the newest whose history is wholly written (`State::complete`): while a large removal is being written down, watches hear
//! nothing of it nor of later changes, and no progress goes beyond it.
//!
//! What it lacks on purpose: clocks, sockets, and knowledge of the wire.

use crate::input::StreamId;
use crate::settings::Limits;
use crate::table::Table;
use crate::watch::{WatchBody, WatchCreate, WatchRequest, WatchResponse};
use crate::watch_group::Group;
use crate::watch_index::{Keys, Slot};
use crate::watch_stream::{Stream, send_run};
use raft::Instant;
use state::State;
use state::auth::PermissionKind;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// etcd's id for "no watch": the progress of a whole stream, and refusals.
const NO_WATCH: i64 = -1;
/// Groups that catch up at the same time at most; more watches wait for one of them to end.
const GROUPS_MAX: usize = 8;
/// Matched and not handed out, at most; beyond it matching waits (and history keeps what it waits for).
const BACKLOG_MAX: usize = 200_000;
/// Changes matched for the main group at once.
const FEED_EVENTS_MAX: u64 = 4096;
/// Responses to requests a stream may have waiting for credit; requests beyond are dropped: such a client never reads.
const QUEUE_MAX: usize = 10_000;
/// Watches moved from a group that caught up to the main one in one slice.
const MERGE_SLICE: usize = 256;

/// One watch.
pub(crate) struct Watch {
    stream: u32,
    pub(crate) id: i64,
    keys: Keys,
    /// The revision it began with: its client has heard of everything below, maybe from a member that was ahead of this one.
    first: i64,
    /// The lowest revision it may still be sent.
    next: i64,
    place: Place,
    no_put: bool,
    no_delete: bool,
    pub(crate) prev_kv: bool,
    pub(crate) fragment: bool,
    progress_notify: bool,
    /// It heard something since the last progress round, so it needs no progress now.
    heard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Group(u64),
    Parked,
    Waiting,
}

impl Watch {
    pub(crate) fn wants(&self, revision: i64, deleted: bool) -> bool {
        let by_deletes = mutated!(FiltersSwapped, !deleted, deleted);
        revision >= self.next
            && !(if by_deletes {
                self.no_delete
            } else {
                self.no_put
            })
    }
}

/// All watches of this member.
pub(crate) struct WatchHub {
    watches: Table<Watch>,
    streams: Table<Stream>,
    names: BTreeMap<StreamId, u32>,
    main: Group,
    /// Groups that catch up; the front one is next.
    groups: VecDeque<Group>,
    groups_made: u64,
    waiting: BTreeSet<Slot>,
    /// Streams with something in their outbox.
    ready: BTreeSet<u32>,
    progress_wanted: BTreeSet<u32>,
    notify: BTreeSet<(Instant, u32)>,
    limits: Limits,
}

impl WatchHub {
    pub(crate) fn new(limits: Limits, revision: i64) -> WatchHub {
        WatchHub {
            watches: Table::default(),
            streams: Table::default(),
            names: BTreeMap::new(),
            main: Group::new(0, revision, scan_events_max(&limits)),
            groups: VecDeque::new(),
            groups_made: 0,
            waiting: BTreeSet::new(),
            ready: BTreeSet::new(),
            progress_wanted: BTreeSet::new(),
            notify: BTreeSet::new(),
            limits,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.watches.len()
    }

    fn stream(&mut self, name: StreamId) -> u32 {
        if let Some(&at) = self.names.get(&name) {
            return at;
        }
        let at = self.streams.insert(Stream {
            name,
            credit: 0,
            queue: VecDeque::new(),
            outbox: Vec::new(),
            watches: BTreeMap::new(),
            next_id: 0,
            compacted: BTreeSet::new(),
            parked: BTreeSet::new(),
            behind: 0,
            progress_from: None,
            notified: 0,
            notify_at: Instant(0),
        });
        self.names.insert(name, at);
        at
    }

    /// Takes a stream's request.
    pub(crate) fn request(
        &mut self,
        state: &State,
        now: Instant,
        name: StreamId,
        request: WatchRequest,
    ) {
        let stream = self.stream(name);
        if self.streams[stream].queue.len() >= QUEUE_MAX {
            return;
        }
        match request {
            WatchRequest::Create(create) => self.create(state, now, stream, create),
            WatchRequest::Cancel { watch } => {
                if let Some(&slot) = self.streams[stream].watches.get(&watch) {
                    self.end(slot, state.revision(), WatchBody::Canceled);
                } else if self.streams[stream].compacted.remove(&watch) {
                    self.respond(
                        stream,
                        WatchResponse {
                            watch,
                            revision: state.revision(),
                            body: WatchBody::Canceled,
                        },
                    );
                }
            }
            WatchRequest::Progress => {
                // A stream without watches has no progress to tell; etcd says nothing either.
                if !self.streams[stream].watches.is_empty() {
                    self.streams[stream].progress_from = Some(state.revision());
                    self.progress_wanted.insert(stream);
                }
            }
        }
    }

    fn create(&mut self, state: &State, now: Instant, stream: u32, create: WatchCreate) {
        let revision = state.revision();
        let ended = |body| WatchResponse {
            watch: NO_WATCH,
            revision,
            body,
        };
        let refused = |reason: &str| ended(WatchBody::Refused(reason.to_owned()));
        if create.start_revision < 0 {
            return self.respond(
                stream,
                refused("etcdserver: mvcc: required revision has been compacted"),
            );
        }
        let (key, range_end) = (&create.key, &create.range_end);
        let principal = create.caller.principal();
        let allowed = state
            .auth()
            .check_range(principal, PermissionKind::Read, key, range_end);
        if let Err(denied) = allowed {
            return self.respond(stream, ended(WatchBody::Denied(denied)));
        }
        let Some(keys) = Keys::new(key, range_end) else {
            return self.respond(stream, refused("mvcc: watcher range is empty"));
        };
        for (watches, limit, of) in [
            (self.watches.len(), self.limits.watches_max, "this member"),
            (
                self.streams[stream].watches.len(),
                self.limits.stream_watches_max,
                "one stream",
            ),
        ] {
            if watches >= limit {
                let reason = format!("synod: too many watches, {of} takes {limit} at most");
                return self.respond(stream, refused(&reason));
            }
        }
        let names = &mut self.streams[stream];
        let id = if create.watch == 0 {
            while names.knows(names.next_id) {
                names.next_id += 1;
            }
            names.next_id += 1;
            names.next_id - 1
        } else if names.knows(create.watch) {
            return self.respond(
                stream,
                refused("mvcc: duplicate watch ID provided on the WatchStream"),
            );
        } else {
            create.watch
        };
        let next = if create.start_revision == 0 {
            revision + 1
        } else {
            let first = mutated!(
                FutureStartsNow,
                create.start_revision.min(revision + 1),
                create.start_revision
            );
            mutated!(ResumeOffByOne, first + 1, first)
        };
        let slot = self.watches.insert(Watch {
            stream,
            id,
            keys,
            first: next,
            next,
            place: Place::Waiting,
            no_put: create.no_put,
            no_delete: create.no_delete,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            progress_notify: create.progress_notify,
            heard: false,
        });
        self.streams[stream].watches.insert(id, slot);
        self.streams[stream].behind += 1;
        if next > self.main.horizon() {
            self.join_main(slot);
        } else {
            self.waiting.insert(slot);
        }
        if create.progress_notify {
            self.schedule_notify(stream, now);
        }
        self.respond(
            stream,
            WatchResponse {
                watch: id,
                revision,
                body: WatchBody::Created,
            },
        );
    }

    /// Notes that a stream can take more.
    pub(crate) fn credit(&mut self, name: StreamId, responses: u32) {
        let stream = self.stream(name);
        let at = &mut self.streams[stream];
        at.credit += u64::from(responses);
        while at.credit > 0
            && let Some(response) = at.queue.pop_front()
        {
            at.credit -= 1;
            at.outbox.push(response);
            self.ready.insert(stream);
        }
        if at.can_take() {
            for slot in std::mem::take(&mut at.parked) {
                self.watches[slot].place = Place::Waiting;
                self.waiting.insert(slot);
            }
        }
    }

    /// Forgets a stream and its watches.
    pub(crate) fn closed(&mut self, name: StreamId) {
        let Some(stream) = self.names.remove(&name) else {
            return;
        };
        let slots: Vec<Slot> = self.streams[stream].watches.values().copied().collect();
        for slot in slots {
            self.take_out(slot);
            self.watches.remove(slot);
        }
        self.notify
            .remove(&(self.streams[stream].notify_at, stream));
        self.progress_wanted.remove(&stream);
        self.ready.remove(&stream);
        self.streams.remove(stream);
    }

    /// Says something to a stream, or queues it until there is credit.
    fn respond(&mut self, stream: u32, response: WatchResponse) {
        let at = &mut self.streams[stream];
        if at.can_take() {
            at.credit -= 1;
            at.outbox.push(response);
            self.ready.insert(stream);
        } else {
            at.queue.push_back(response);
        }
    }

    /// Ends a watch and tells its stream.
    fn end(&mut self, slot: Slot, revision: i64, body: WatchBody) {
        self.take_out(slot);
        let watch = self.watches.remove(slot).expect("the watch exists");
        let stream = &mut self.streams[watch.stream];
        stream.watches.remove(&watch.id);
        if watch.progress_notify {
            stream.notified -= 1;
            if stream.notified == 0 {
                self.notify.remove(&(stream.notify_at, watch.stream));
            }
        }
        if stream.watches.is_empty() {
            stream.progress_from = None;
            self.progress_wanted.remove(&watch.stream);
        }
        self.respond(
            watch.stream,
            WatchResponse {
                watch: watch.id,
                revision,
                body,
            },
        );
    }

    /// Takes a watch out of its place.
    fn take_out(&mut self, slot: Slot) {
        let watch = &self.watches[slot];
        let (stream, place) = (watch.stream, watch.place);
        match place {
            Place::Group(id) if id == self.main.id => self.main.index.remove(&watch.keys, slot),
            Place::Group(id) => {
                let group = self
                    .groups
                    .iter_mut()
                    .find(|group| group.id == id)
                    .expect("a watch's group exists");
                group.index.remove(&watch.keys, slot);
            }
            Place::Parked => {
                self.streams[stream].parked.remove(&slot);
            }
            Place::Waiting => {
                self.waiting.remove(&slot);
            }
        }
        if place != Place::Group(self.main.id) {
            self.streams[stream].behind -= 1;
        }
    }

    fn join_main(&mut self, slot: Slot) {
        let watch = &mut self.watches[slot];
        let horizon = self.main.horizon();
        assert!(
            watch.next > horizon,
            "watch joins at {} a group that is at {horizon}",
            watch.next
        );
        watch.place = Place::Group(self.main.id);
        self.main.index.insert(&watch.keys, slot);
        self.streams[watch.stream].behind -= 1;
    }

    /// Matches what was applied with the watches at the newest revision. Called after every entry, so that no later entry can compact away what they
    /// have not seen; a very large revision goes on with the next turns.
    pub(crate) fn feed(&mut self, state: &State) {
        if !self.main.is_partial() {
            self.feed_slices(state);
        }
    }

    fn feed_slices(&mut self, state: &State) {
        let mut left = FEED_EVENTS_MAX;
        while left > 0 && self.main.cursor < state.complete() && self.main.backlog() < BACKLOG_MAX {
            match self.main.scan(state, &self.watches) {
                Ok(visited) => left = left.saturating_sub(visited.max(1)),
                // Matching lagged and history is gone: those watches are treated like any others that are behind.
                Err(_) => self.detach_main(state),
            }
            if self.main.is_partial() {
                return;
            }
        }
    }

    /// The main group falls behind as a whole; an empty one takes its place at the newest revision that can be read.
    fn detach_main(&mut self, state: &State) {
        self.groups_made += 1;
        let behind = std::mem::replace(
            &mut self.main,
            Group::new(
                self.groups_made,
                state.complete(),
                scan_events_max(&self.limits),
            ),
        );
        if behind.index.len() > 0 || !behind.deliveries.is_empty() {
            self.groups.push_back(behind);
        }
        for stream in self.streams.iter_mut() {
            stream.behind = stream.watches.len();
        }
    }

    /// The state was replaced by a snapshot: every watch goes on from its cursor in the history the snapshot brought (or is cancelled, W11).
    pub(crate) fn restored(&mut self, state: &State) {
        assert!(
            state.complete() >= self.main.cursor,
            "history fell from {} to {}",
            self.main.cursor,
            state.complete()
        );
        for group in std::iter::once(&mut self.main).chain(&mut self.groups) {
            group.forget_partial();
        }
        mutated!(WatchSkipsSnapshot, self.main.skip_to(state.revision()));
        self.detach_main(state);
    }

    /// Works for about `budget` changes handed out or read; `true` while more is waiting.
    pub(crate) fn step(&mut self, state: &State, now: Instant, budget: u64) -> bool {
        self.feed_slices(state);
        let mut left = budget;
        let mut main = std::mem::replace(&mut self.main, Group::new(u64::MAX, 0, 1));
        self.deliver(&mut main, true, &mut left);
        self.main = main;
        self.catch_up(state, budget.saturating_sub(budget - left).max(budget / 2));
        self.tell_progress(state);
        self.tell_idle(now);
        self.main.cursor < state.complete()
            || !self.main.deliveries.is_empty()
            || !self.groups.is_empty()
            || !self.waiting.is_empty()
    }

    /// Hands out what is matched, to as many watches as `left` allows.
    fn deliver(&mut self, group: &mut Group, main: bool, left: &mut u64) {
        mutated!(
            SlowWatchHoldsOthers,
            if self.streams.iter_mut().any(|stream| !stream.can_take()) {
                return;
            }
        );
        while *left > 0
            && let Some(delivery) = group.deliveries.front_mut()
        {
            let Some((slot, run)) = delivery.next_run() else {
                group.deliveries.pop_front();
                continue;
            };
            *left = left.saturating_sub(run.len() as u64);
            let Some(watch) = self.watches.get_mut(slot) else {
                continue;
            };
            if watch.place != Place::Group(group.id) {
                continue;
            }
            // A watch that came to this slot or group later has seen those revisions, or does not want them.
            let run = run.start
                + run
                    .clone()
                    .take_while(|&at| delivery.change(at).revision < watch.next)
                    .count()..run.end;
            if run.is_empty() {
                continue;
            }
            let stream = &mut self.streams[watch.stream];
            if !stream.can_take() {
                mutated!(SlowWatchSkips, continue);
                watch.next = delivery.change(run.start).revision;
                watch.place = Place::Parked;
                stream.parked.insert(slot);
                stream.behind += usize::from(main);
                group.index.remove(&watch.keys, slot);
                continue;
            }
            watch.next = delivery.upto + 1;
            watch.heard = true;
            send_run(watch, stream, delivery, run, main);
            self.ready.insert(watch.stream);
        }
    }

    /// Gives each group behind a slice in turn; one that has caught up joins the main group.
    fn catch_up(&mut self, state: &State, budget: u64) {
        let mut left = budget;
        if !self.waiting.is_empty() && self.groups.len() < GROUPS_MAX {
            self.form_group(state);
        }
        for _ in 0..self.groups.len() {
            if left == 0 {
                return;
            }
            let Some(mut group) = self.groups.pop_front() else {
                return;
            };
            if group.deliveries.is_empty() && group.cursor < state.complete() {
                match group.scan(state, &self.watches) {
                    Ok(visited) => left = left.saturating_sub(visited),
                    Err(compacted) => self.cancel_compacted(state, &mut group, compacted),
                }
            }
            self.deliver(&mut group, false, &mut left);
            if group.deliveries.is_empty()
                && group.cursor >= self.main.cursor
                && !self.main.is_partial()
            {
                self.merge(&mut group);
            }
            if group.index.len() > 0 {
                self.groups.push_back(group);
            }
        }
    }

    fn form_group(&mut self, state: &State) {
        let slots = std::mem::take(&mut self.waiting);
        let first = slots
            .iter()
            .map(|&slot| self.watches[slot].next)
            .min()
            .expect("somebody waits");
        self.groups_made += 1;
        let mut group = Group::new(
            self.groups_made,
            (first - 1).min(state.complete()),
            scan_events_max(&self.limits),
        );
        for slot in slots {
            let watch = &mut self.watches[slot];
            watch.place = Place::Group(group.id);
            group.index.insert(&watch.keys, slot);
        }
        self.groups.push_back(group);
    }

    /// Moves watches of a group that has caught up into the main group, a slice of them.
    fn merge(&mut self, group: &mut Group) {
        for slot in group.index.slots().into_iter().take(MERGE_SLICE) {
            let watch = &mut self.watches[slot];
            group.index.remove(&watch.keys, slot);
            let wanted = mutated!(MergeForgetsStart, 0, watch.next);
            watch.next = wanted.max(group.cursor + 1);
            self.join_main(slot);
        }
    }

    /// History up to `compacted` is gone: ends the watches of the group that still needed it (W11) and moves its cursor behind it.
    fn cancel_compacted(&mut self, state: &State, group: &mut Group, compacted: i64) {
        let from = group.cursor + 1;
        // Whether the compacted revision itself can still be read is for the state to say: it is tried once.
        let lost = if from < compacted {
            compacted - 1
        } else {
            compacted
        };
        group.skip_to(mutated!(DropAtCompaction, compacted, lost));
        for slot in group.index.slots() {
            let watch = &mut self.watches[slot];
            if watch.next.max(from) <= lost && !mutated!(CompactedStartSilent) {
                group.index.remove(&watch.keys, slot);
                watch.place = Place::Waiting;
                self.waiting.insert(slot);
                let (stream, id) = (watch.stream, watch.id);
                self.end(slot, state.revision(), WatchBody::Compacted { compacted });
                self.streams[stream].keep_compacted(id);
            }
        }
    }

    /// Tells the progress of whole streams to those that asked, once all their watches are at the newest revision, and that has reached where they began:
    /// a client that comes from a member that was ahead must not see its marks go back (W6).
    fn tell_progress(&mut self, state: &State) {
        if self.progress_wanted.is_empty() {
            return;
        }
        let mark = self.main.delivered().min(state.complete());
        let wanted: Vec<u32> = self.progress_wanted.iter().copied().collect();
        for stream in wanted {
            let at = &mut self.streams[stream];
            let all_there = at.behind == 0 || mutated!(ProgressAhead);
            if all_there && at.progress_from.is_some_and(|from| mark >= from) && at.can_take() {
                let firsts = at.watches.values().map(|&slot| self.watches[slot].first);
                if let Some(first) = firsts.max().filter(|&first| first - 1 > mark) {
                    at.progress_from = Some(first - 1);
                    continue;
                }
                at.progress_from = None;
                self.progress_wanted.remove(&stream);
                self.respond(
                    stream,
                    WatchResponse {
                        watch: NO_WATCH,
                        revision: mark,
                        body: WatchBody::Progress,
                    },
                );
            }
        }
    }

    fn schedule_notify(&mut self, stream: u32, now: Instant) {
        let at = &mut self.streams[stream];
        at.notified += 1;
        if at.notified == 1 {
            // Spread by stream, up to a tenth, so that streams opened together do not all speak at once.
            let interval = self.limits.watch_progress_interval;
            at.notify_at = now + interval + interval * (at.name.0 % 16) as u32 / 160;
            self.notify.insert((at.notify_at, stream));
        }
    }

    /// When the next idle stream is to hear of progress.
    pub(crate) fn next_notify(&self) -> Option<Instant> {
        self.notify.first().map(|&(at, _)| at)
    }

    /// Tells idle watches that asked for it how far they have come.
    fn tell_idle(&mut self, now: Instant) {
        while let Some(&(at, stream)) = self.notify.first()
            && at <= now
        {
            self.notify.pop_first();
            let next = now + self.limits.watch_progress_interval;
            self.streams[stream].notify_at = next;
            self.notify.insert((next, stream));
            let mark = self.main.delivered();
            let slots: Vec<Slot> = self.streams[stream].watches.values().copied().collect();
            for slot in slots {
                let watch = &mut self.watches[slot];
                if !watch.progress_notify {
                    continue;
                }
                let idle = !std::mem::replace(&mut watch.heard, false)
                    && watch.place == Place::Group(self.main.id)
                    && watch.first - 1 <= mark;
                if idle && self.streams[stream].can_take() {
                    let response = WatchResponse {
                        watch: watch.id,
                        revision: mark,
                        body: WatchBody::Progress,
                    };
                    self.respond(stream, response);
                }
            }
        }
    }

    /// The next stream with responses to send, and they.
    pub(crate) fn poll(&mut self) -> Option<(StreamId, Vec<WatchResponse>)> {
        let stream = self.ready.pop_first()?;
        let at = &mut self.streams[stream];
        Some((at.name, std::mem::take(&mut at.outbox)))
    }
}

fn scan_events_max(limits: &Limits) -> u64 {
    (limits.watch_buffer_events as u64).clamp(1, FEED_EVENTS_MAX)
}
