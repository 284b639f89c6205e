//! One member of one cell: takes inputs, works in turns, gives effects. What each duty does is in its own file; here they meet.

use crate::apply::Applying;
use crate::clock::LeaderClock;
use crate::effect::{Body, Effect, Failure, Response, Status};
use crate::hashes::Hashes;
use crate::input::{Input, Now, StreamId, Ticket};
use crate::membership::Membership;
use crate::message::Message;
use crate::propose::Proposals;
use crate::read::Reads;
use crate::repair::Repair;
use crate::settings::{Advertised, Limits, Settings};
use crate::snapshot::{SnapshotFile, Snapshots};
use crate::stamp::Stamp;
use crate::timer::Timer;
use crate::upkeep::{self, Upkeep};
use crate::wait::Waits;
use crate::watch::WatchRequest;
use crate::watch_hub::WatchHub;
use raft::{Configuration, Index, Instant, PeerId, Raft, Restored, Role, Term};
use state::auth::Auth;
use state::{Budget, State};
use std::collections::VecDeque;
use std::time::Duration;

/// How often requests that wait are looked through for those that waited too long.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// Work of the watch hub in one turn, in changes.
const HUB_UNITS: u64 = 1000;
/// Background work of the state in one turn, in its units of about a microsecond.
const BACKGROUND_UNITS: u64 = 100;

/// What a member starts from.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The cluster.
    pub cluster: u64,
    /// The cell.
    pub cell: u64,
    /// For consensus.
    pub restored: Restored,
    /// Feeds every random choice.
    pub seed: u64,
}

/// One member of one cell.
pub struct Replica {
    pub(crate) limits: Limits,
    pub(crate) state_settings: state::Settings,
    pub(crate) advertised: Option<Advertised>,
    pub(crate) election_max: Duration,
    pub(crate) cluster: u64,
    pub(crate) cell: u64,
    pub(crate) me: PeerId,

    pub(crate) raft: Raft,
    pub(crate) role: Role,
    pub(crate) term: Term,
    pub(crate) leader: Option<PeerId>,
    /// The configuration in force, perhaps not committed.
    pub(crate) configuration: Configuration,

    pub(crate) state: State,
    pub(crate) applying: Applying,
    pub(crate) clock: LeaderClock,
    pub(crate) proposals: Proposals,
    pub(crate) reads: Reads,
    pub(crate) waits: Waits,
    pub(crate) hub: WatchHub,
    pub(crate) snapshots: Snapshots,
    pub(crate) hashes: Hashes,
    pub(crate) membership: Membership,
    pub(crate) repair: Repair,
    pub(crate) upkeep: Upkeep,

    /// The state is loaded.
    pub(crate) serving: bool,
    pub(crate) disk_full: bool,
    halted: bool,
    /// When to take watches even if the state may be older than what others have seen; `None` once it is not, or that time has come.
    watch_from: Option<Instant>,
    /// Watch requests that came before.
    early_watches: VecDeque<(StreamId, WatchRequest)>,
    sweep_at: Option<Instant>,
    timer: Timer,
    pub(crate) effects: VecDeque<Effect>,
}

impl Replica {
    /// Starts a member. If `boot.restored.snapshot.index` is not 0, it first loads that snapshot through [`Effect::ReadSnapshot`].
    pub fn new(settings: Settings, boot: Boot, now: Now) -> Replica {
        let Settings {
            raft: raft_settings,
            state: state_settings,
            limits,
            auto_compaction,
            advertised,
        } = settings;
        let Boot {
            cluster,
            cell,
            restored,
            seed,
        } = boot;
        let snapshot = restored.snapshot.clone();
        let (me, process) = (restored.id, restored.boot);
        let configuration = restored
            .configurations
            .last()
            .map_or(snapshot.configuration.clone(), |(_, configuration)| {
                configuration.clone()
            });
        let (election_max, heartbeat) = (raft_settings.election_max, raft_settings.heartbeat);
        let state = State::new(state_settings.clone());
        let mut replica = Replica {
            hub: WatchHub::new(limits.clone(), state.complete()),
            limits,
            state_settings,
            advertised,
            election_max,
            cluster,
            cell,
            me,
            term: restored.vote.term,
            raft: Raft::new(raft_settings, restored, seed, now.monotonic),
            role: Role::Follower,
            leader: None,
            configuration,
            state,
            applying: Applying::new(snapshot.term, snapshot.configuration.clone()),
            clock: LeaderClock::new(heartbeat, now.monotonic),
            proposals: Proposals::new(me, process.0),
            reads: Reads::default(),
            waits: Waits::default(),
            snapshots: Snapshots::default(),
            hashes: Hashes::default(),
            membership: Membership::new(process.0),
            repair: Repair::default(),
            upkeep: Upkeep::new(auto_compaction, now.monotonic),
            serving: false,
            disk_full: false,
            halted: false,
            watch_from: Some(now.monotonic + election_max * 2),
            early_watches: VecDeque::new(),
            sweep_at: None,
            timer: Timer::default(),
            effects: VecDeque::new(),
        };
        if snapshot.index > Index(0) {
            replica.begin_loading(snapshot);
        } else {
            replica.serving = true;
        }
        replica
    }

    /// Takes an input. Cheap: work that can be long is done in [`Replica::work`].
    pub fn handle(&mut self, now: Now, input: Input) {
        let Now {
            monotonic: at,
            wall_ms: _,
        } = now;
        if self.halted {
            return self.refuse(input);
        }
        match input {
            Input::Message { from, message } => self.on_message(at, from, message),
            Input::Propose { ticket, command } => self.propose(at, ticket, &command),
            Input::KeepAlive { ticket, lease } => self.keep_alive(ticket, lease),
            Input::Read {
                ticket,
                caller,
                consistency,
                query,
            } => self.read(at, ticket, caller, consistency, query),
            Input::Checkpoint(ticket) => self.ask_checkpoint(ticket),
            Input::Cancel(ticket) => {
                self.snapshots.asked.retain(|(asked, _)| *asked != ticket);
                self.cancel_wait(at, ticket);
                self.cancel_read(ticket);
            }
            Input::Watch { stream, request } => self.on_watch(at, stream, request),
            Input::WatchCredit { stream, responses } => self.hub.credit(stream, responses),
            Input::WatchClosed(stream) => {
                self.early_watches.retain(|(early, _)| *early != stream);
                self.hub.closed(stream);
            }
            Input::Persisted(sequence) => self.raft.handle(at, raft::Input::Persisted(sequence)),
            Input::DiskFull(full) => self.on_disk_full(at, full),
            Input::Fetched { from, entries } => {
                self.raft.handle(at, raft::Input::Fetched { from, entries })
            }
            Input::Unreadable { from, through } => self.on_unreadable(at, from, through),
            Input::PeerLost { peer, refused } => {
                self.membership.lost(peer);
                self.raft
                    .handle(at, raft::Input::PeerLost { peer, refused });
            }
            Input::Staged { id, bytes } => {
                if !self.on_taking_staged(at, id, bytes) {
                    self.on_receiving_staged(at, id, bytes);
                }
            }
            Input::SnapshotRead {
                index,
                offset,
                bytes,
            } => {
                self.on_load_read(at, index, offset, bytes.as_ref());
                self.on_piece_read(at, index, offset, bytes.as_ref());
            }
            Input::Transfer { target } => {
                // A refusal changes nothing; the outcome of a transfer shows as a change of role.
                let _ = self
                    .raft
                    .transfer(at, target.and_then(|member| self.peer(member)));
            }
            Input::ChangeMembership { ticket, target } => {
                self.change_membership(at, ticket, target)
            }
            Input::ChangeMembers { ticket, request } => self.on_change_request(at, ticket, request),
            Input::Join(introduction) => self.on_join(at, introduction),
            Input::LogBytes(bytes) => self.snapshots.log_bytes = bytes,
            Input::TimerFired => self.timer.fired(),
        }
    }

    fn on_message(&mut self, now: Instant, from: PeerId, message: Message) {
        self.membership.heard(now, from);
        match message {
            Message::Raft(message) => self
                .raft
                .handle(now, raft::Input::Message { from, message }),
            Message::SnapshotChunk {
                mark,
                bytes_total,
                checksum,
                offset,
                bytes,
            } => {
                self.on_snapshot_chunk(
                    now,
                    from,
                    SnapshotFile {
                        mark,
                        bytes: bytes_total,
                        checksum,
                    },
                    offset,
                    bytes,
                );
            }
            Message::SnapshotAck { index, offset } => {
                self.on_snapshot_ack(now, from, index, offset)
            }
            Message::StateHash { index, hash } => self.on_state_hash(now, from, index, hash),
            Message::StateWanted { from: index } => self.on_state_wanted(now, from, index),
            Message::Publish(advertised) => self.on_publish(now, from, advertised),
            Message::ChangeAsked { sequence, request } => {
                self.on_change_asked(now, from, sequence, request)
            }
            Message::ChangeAnswered { sequence, outcome } => {
                self.on_change_answered(sequence, outcome)
            }
        }
    }

    fn on_watch(&mut self, now: Instant, stream: StreamId, request: WatchRequest) {
        if self.takes_watches() {
            self.hub.request(&self.state, now, stream, request);
        } else if self.early_watches.len() < self.limits.pending_queries_max {
            self.early_watches.push_back((stream, request));
        }
    }

    fn takes_watches(&self) -> bool {
        self.serving && self.watch_from.is_none()
    }

    /// After a start the state goes through old history while the log is applied. A watch "from now on" must not hear that, so watches wait until a read
    /// was confirmed and reached, or, without a quorum, for two elections.
    fn admit_watches(&mut self, now: Instant) {
        let Some(at) = self.watch_from else { return };
        if !self.serving || (now < at && !self.is_caught_up()) {
            return;
        }
        self.watch_from = None;
        for (stream, request) in std::mem::take(&mut self.early_watches) {
            self.hub.request(&self.state, now, stream, request);
        }
    }

    fn on_disk_full(&mut self, now: Instant, full: bool) {
        if full && !self.disk_full && self.role == Role::Leader {
            // A member with room leads better; if there is none, this one goes on with what frees space.
            let _ = self.raft.transfer(now, None);
        }
        if !full && self.disk_full {
            // There is room again for the snapshot that failed.
            self.snapshots.failed_at = None;
        }
        self.disk_full = full || (self.disk_full && mutated!(RoomUnnoticed));
    }

    /// Ends a turn: forms the batch of what was proposed since, applies and reads in slices of at most about a millisecond. `true` while more
    /// work is waiting: take inputs, then call again. The shell calls it after each drain of its queues.
    pub fn work(&mut self, now: Now) -> bool {
        let Now {
            monotonic: at,
            wall_ms,
        } = now;
        if self.halted {
            return false;
        }
        self.clock.turn(at);
        if self.timer.consensus_due(at) {
            self.raft.handle(at, raft::Input::TimerFired);
        }
        self.take_consensus(at);
        self.tend_reopening(at);
        self.tend_condemned(at);
        if self.halted {
            return false;
        }
        let mut more = self.load_slice(at);
        more |= self.apply_slice(at);
        self.tend_upkeep(at);
        self.send_proposals(at, wall_ms);
        self.confirm_reads(at);
        self.sweep(at);
        self.take_consensus(at);
        self.admit_watches(at);
        more |= self.run_queries();
        more |= self.serving && self.hub.step(&self.state, at, HUB_UNITS);
        more |= self.state.background_step(Budget(BACKGROUND_UNITS));
        more |= self.take_snapshot(at);
        self.tend_sending(at);
        self.tend_receiving(at);
        self.tend_membership(at);
        self.take_consensus(at);
        while let Some((stream, responses)) = self.hub.poll() {
            self.effects
                .push_back(Effect::WatchResponses { stream, responses });
        }
        self.set_timer(at);
        more && !self.halted
    }

    /// Takes what consensus has to say.
    fn take_consensus(&mut self, now: Instant) {
        while let Some(effect) = self.raft.poll() {
            match effect {
                raft::Effect::Persist(persist) => {
                    if persist.reset.is_some()
                        || persist
                            .entries
                            .iter()
                            .any(|entry| matches!(entry.payload, raft::Payload::Batch(_)))
                    {
                        self.clock.batch_stored();
                    }
                    self.effects.push_back(Effect::Persist(persist));
                }
                raft::Effect::Send { to, message } => self.send(to, Message::Raft(message)),
                raft::Effect::Fetch { from, bytes_max } => {
                    self.effects.push_back(Effect::Fetch { from, bytes_max })
                }
                raft::Effect::ReadReady { read, index, asked } => {
                    self.on_read_ready(read, index.0, asked)
                }
                raft::Effect::ReadFailed { read } => self.on_read_failed(read),
                raft::Effect::Forwarded {
                    origin,
                    boot,
                    sequence: _,
                    body,
                } => self.on_forwarded(origin, boot.0, body),
                raft::Effect::ForwardRefused { sequence } => self.on_forward_refused(sequence),
                raft::Effect::SendSnapshot { to } => self.on_send_snapshot(now, to),
                raft::Effect::RestoreSnapshot(mark) => self.begin_loading(mark),
                raft::Effect::RoleChanged { role, term, leader } => {
                    self.on_role(now, role, term, leader)
                }
                raft::Effect::ConfigurationChanged(configuration) => {
                    self.configuration = configuration.clone();
                    self.membership.look(now);
                    self.effects
                        .push_back(Effect::ConfigurationChanged(configuration));
                }
                raft::Effect::SetTimer(at) => self.timer.consensus = Some(at),
            }
        }
    }

    fn on_role(&mut self, now: Instant, role: Role, term: Term, leader: Option<PeerId>) {
        assert!(term >= self.term, "term regression {} → {term}", self.term);
        let leads_on = role == Role::Leader && self.role == Role::Leader && term == self.term;
        (self.role, self.term, self.leader) = (role, term, leader);
        if !leads_on {
            self.drop_forwarded();
            self.drop_waiting_changes();
            self.membership.forget_told();
            self.stop_sending();
            self.clock.deposed();
            if role == Role::Leader {
                self.clock.elected(term);
                self.membership.elected(now);
                mutated!(
                    ClockFromApplied,
                    self.clock
                        .applied(term, self.state.clock_ms(), self.state.wall_ms())
                );
            }
        }
        self.membership.look(now);
        self.effects
            .push_back(Effect::RoleChanged { role, term, leader });
    }

    /// Looks through what waits, now and then.
    fn sweep(&mut self, now: Instant) {
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep_proposals(now);
            self.sweep_reads(now);
            self.sweep_changes(now);
            self.sweep_at = None;
        }
        let waiting = self.proposals.is_waiting() || self.reads.is_waiting() || self.changes_wait();
        if self.sweep_at.is_none() && waiting {
            self.sweep_at = Some(now + SWEEP_INTERVAL);
        }
    }

    fn set_timer(&mut self, now: Instant) {
        let others = [
            self.sweep_at,
            self.watch_from.filter(|_| !self.early_watches.is_empty()),
            self.clock_batch_at(now),
            self.proposals.departure.due_at(now),
            self.hub.next_notify(),
            self.membership.due_at(),
            self.repair.due_at(),
            self.upkeep_at(),
            self.snapshots
                .sending
                .values()
                .map(|sending| sending.due_at())
                .min(),
            self.snapshots
                .receiving
                .as_ref()
                .map(|receiving| receiving.due_at()),
            self.snapshot_retry_at().filter(|&at| at > now),
        ];
        if let Some(at) = self.timer.arm(others) {
            self.effects.push_back(Effect::SetTimer(at));
        }
    }

    /// Gives the next effect; `None` when there is none left.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(crate) fn send(&mut self, to: PeerId, message: Message) {
        self.effects.push_back(Effect::Send { to, message });
    }

    pub(crate) fn reply(&mut self, ticket: Ticket, outcome: Result<Response, Failure>) {
        if ticket != upkeep::OWN {
            self.effects.push_back(Effect::Reply { ticket, outcome });
        }
    }

    pub(crate) fn response(&self, body: Body, revision: i64, index: u64) -> Response {
        Response {
            body,
            revision,
            term: self.term,
            stamp: Stamp {
                cluster: self.cluster,
                cell: self.cell,
                index,
            },
        }
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted
    }

    /// Stops for good: everybody who waits hears of it, nothing is answered from now on.
    pub(crate) fn halt(&mut self, text: String) {
        self.stop(Effect::Halted(text));
    }

    /// Everybody who waits hears that nothing is answered from now on; then the shell hears `why`.
    pub(crate) fn stop(&mut self, why: Effect) {
        if self.halted {
            return;
        }
        self.halted = true;
        self.serving = false;
        self.halt_proposals();
        self.halt_waits();
        self.halt_reads();
        self.fail_changes(&Failure::Unknown);
        self.effects.push_back(why);
    }

    /// What a halted member says to requests.
    fn refuse(&mut self, input: Input) {
        match input {
            Input::Propose { ticket, .. }
            | Input::KeepAlive { ticket, .. }
            | Input::Read { ticket, .. }
            | Input::Checkpoint(ticket)
            | Input::ChangeMembership { ticket, .. }
            | Input::ChangeMembers { ticket, .. } => {
                self.reply(ticket, Err(Failure::Halted));
            }
            _ => {}
        }
    }

    /// Users, roles and permissions, as far as this member has applied.
    pub fn auth(&self) -> &Auth {
        self.state.auth()
    }

    /// The last entry this member's state has.
    pub fn applied(&self) -> Index {
        Index(self.state.applied())
    }

    /// What this member says of itself.
    pub fn status(&self) -> Status {
        Status {
            raft: self.raft.status(),
            applied: self.state.applied(),
            revision: self.state.revision(),
            complete: self.state.complete(),
            compacted: self.state.compacted(),
            state_bytes: self.state.bytes(),
            state_bytes_max: self.state.bytes_max(),
            alarms: self.state.alarms().collect(),
            keys: self.state.keys(),
            state_hash: self.state.hash(),
            serving: self.serving,
            watchers: self.hub.len() as u64,
            pending_commands: self.proposals.commands as u64,
        }
    }
}
