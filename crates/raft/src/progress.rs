//! What the leader knows of one follower's log, and what is on its way there.
//!
//! Probe: where the logs meet is not known; one append at a time, another only after a sign of life. Replicate: appends flow ahead of their
//! answers, bounded in bytes and count. Snapshot: the follower needs what the log no longer has. Knows nothing of quorums.

use crate::amnesia::Suspicion;
use crate::core::Core;
use crate::log::{Missing, Position, weight};
use crate::message::{Body, Rejection};
use crate::{Boot, Effect, Entry, Index, Instant, PeerId};
use std::collections::VecDeque;

/// An append on its way.
#[derive(Debug)]
struct Inflight {
    last: Index,
    bytes: usize,
    sent: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// `paused`: an append is on its way and was not answered.
    Probe {
        paused: bool,
    },
    Replicate,
    Snapshot,
}

#[derive(Debug)]
pub(crate) struct Progress {
    /// The log is known to match through here, durably there.
    pub(crate) matched: Index,
    /// The next entry to send.
    pub(crate) next: Index,
    pub(crate) flow: Flow,
    inflights: VecDeque<Inflight>,
    inflight_bytes: usize,
    /// When the last append was sent whose answer tells where it stands: a probe, or an empty one after others.
    probed: Instant,
    /// The read from disk it waits for.
    fetching: Option<Index>,
    /// The newest commit index told.
    pub(crate) commit_told: Index,
    /// The newest round answered.
    pub(crate) round_acked: u64,
    /// When the newest answered round was sent.
    pub(crate) contact: Instant,
    /// It lost entries: nothing it says counts.
    pub(crate) suspicion: Option<Suspicion>,
    /// Since it is believed again: the process of it that answers. An acknowledgement from before the loss may still be on its way.
    pub(crate) believed: Option<Boot>,
}

impl Progress {
    /// `since` grants a fresh leader or a new member time to be heard.
    pub(crate) fn new(next: Index, since: Instant) -> Progress {
        Progress {
            matched: Index(0),
            next,
            flow: Flow::Probe { paused: false },
            inflights: VecDeque::new(),
            inflight_bytes: 0,
            probed: Instant(0),
            fetching: None,
            commit_told: Index(0),
            round_acked: 0,
            contact: since,
            suspicion: None,
            believed: None,
        }
    }

    pub(crate) fn counts(&self) -> bool {
        self.suspicion.is_none()
    }

    /// When the oldest append not yet answered was sent.
    pub(crate) fn oldest_sent(&self) -> Option<Instant> {
        self.inflights.front().map(|inflight| inflight.sent)
    }

    fn clear_inflights(&mut self) {
        self.inflights.clear();
        self.inflight_bytes = 0;
    }

    /// Sends what may be sent now.
    pub(crate) fn pump(&mut self, core: &mut Core, peer: PeerId) {
        loop {
            match self.flow {
                Flow::Snapshot | Flow::Probe { paused: true } => return,
                Flow::Replicate if self.next > core.log.last() || self.is_full(core) => return,
                Flow::Replicate | Flow::Probe { .. } => {}
            }
            if self.fetching.is_some() {
                return;
            }
            if self.next <= core.log.base().index {
                self.begin_snapshot(core, peer);
                return;
            }
            let entries = if self.next > core.log.last() {
                Vec::new()
            } else {
                match core
                    .log
                    .slice(self.next, core.log.last(), core.settings.append_bytes_max)
                {
                    Ok(entries) => entries,
                    Err(Missing::Compacted) => unreachable!(
                        "next {} is past the base {}",
                        self.next,
                        core.log.base().index
                    ),
                    Err(Missing::Evicted) => {
                        let bytes_max = core.settings.append_bytes_max;
                        if core
                            .fetches
                            .want_for_peer(&mut core.effects, peer, self.next, bytes_max)
                        {
                            self.fetching = Some(self.next);
                        }
                        return;
                    }
                }
            };
            self.send(core, peer, entries);
        }
    }

    fn is_full(&self, core: &Core) -> bool {
        self.inflights.len() >= core.settings.inflight_count_max
            || self.inflight_bytes >= core.settings.inflight_bytes_max
    }

    fn begin_snapshot(&mut self, core: &mut Core, peer: PeerId) {
        self.clear_inflights();
        self.flow = Flow::Snapshot;
        core.effects.push_back(Effect::SendSnapshot { to: peer });
    }

    /// Sends `entries`, which start at `next`, perhaps none.
    fn send(&mut self, core: &mut Core, peer: PeerId, entries: Vec<Entry>) {
        let prev_index = self.next.prev();
        let prev_term = core
            .log
            .term_at(prev_index)
            .expect("prev is in the log, or its base");
        let last = entries.last().map(|entry| entry.index);
        let bytes: usize = entries.iter().map(weight).sum();
        // Whether the follower can commit this far is for it to see: it has what this append shows, and no more.
        self.commit_told = core.commit.min(last.unwrap_or(prev_index));
        core.send(
            peer,
            Body::Append {
                prev_index,
                prev_term,
                commit: core.commit,
                entries,
            },
        );
        match self.flow {
            Flow::Probe { .. } => {
                self.flow = Flow::Probe { paused: true };
                self.probed = core.now;
            }
            Flow::Replicate => {
                let last = last.expect("replication sends entries");
                self.next = last.next();
                self.inflight_bytes += bytes;
                self.inflights.push_back(Inflight {
                    last,
                    bytes,
                    sent: core.now,
                });
            }
            Flow::Snapshot => unreachable!("no appends during a snapshot"),
        }
    }

    /// Takes entries read from disk for this follower. Empty: the log released them. None: they are no longer of this log.
    pub(crate) fn on_fetched(
        &mut self,
        core: &mut Core,
        peer: PeerId,
        from: Index,
        entries: Option<&Vec<Entry>>,
    ) {
        if self.fetching != Some(from) {
            return;
        }
        self.fetching = None;
        let may_send = matches!(self.flow, Flow::Probe { paused: false })
            || (self.flow == Flow::Replicate && !self.is_full(core));
        if self.next != from || !may_send {
            return;
        }
        match entries {
            // Released, or what stands before them was while they were read.
            Some(entries) if entries.is_empty() || from <= core.log.base().index => {
                self.begin_snapshot(core, peer)
            }
            Some(entries) => self.send(core, peer, entries.clone()),
            None => {}
        }
    }

    /// The follower's log matches through `matched`.
    pub(crate) fn on_matched(&mut self, core: &Core, matched: Index) {
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        while self
            .inflights
            .front()
            .is_some_and(|inflight| inflight.last <= self.matched)
        {
            let inflight = self.inflights.pop_front().expect("just seen");
            self.inflight_bytes -= inflight.bytes;
        }
        match self.flow {
            Flow::Probe { .. } if news || matched == self.matched => self.replicate(),
            Flow::Snapshot if self.matched >= core.log.base().index => self.replicate(),
            _ => {}
        }
    }

    fn replicate(&mut self) {
        self.clear_inflights();
        self.flow = Flow::Replicate;
        self.next = self.matched.next();
    }

    /// Goes back to where the logs may meet. Old and duplicate rejections are ignored.
    pub(crate) fn on_rejected(&mut self, core: &Core, rejection: Rejection) {
        let current = match self.flow {
            Flow::Probe { .. } => rejection.prev_index == self.next.prev(),
            Flow::Replicate => {
                rejection.prev_index > self.matched && rejection.prev_index < self.next
            }
            Flow::Snapshot => false,
        };
        if !current || rejection.prev_index.0 == 0 {
            return;
        }
        let meeting = core.log.last_agreeable(Position {
            index: rejection.hint_index,
            term: rejection.hint_term,
        });
        mutated!(
            RejectionHintAsMatch,
            self.matched = self.matched.max(meeting.index)
        );
        self.probe_from(meeting.index.next().min(rejection.prev_index));
    }

    fn probe_from(&mut self, next: Index) {
        self.clear_inflights();
        self.fetching = None;
        self.next = next.max(self.matched.next());
        self.flow = Flow::Probe { paused: false };
    }

    /// A round was answered: the follower lives. What it has not answered for long may be lost. At most one question per heartbeat:
    /// a slow disk there is no reason to send more.
    pub(crate) fn on_alive(&mut self, core: &mut Core, peer: PeerId, round_sent: Instant) {
        let long_ago =
            |sent: Instant| sent < round_sent && core.now.since(sent) >= core.settings.heartbeat;
        match self.flow {
            Flow::Probe { paused: true } if long_ago(self.probed) => {
                self.flow = Flow::Probe { paused: false }
            }
            // Appends sent before the round, and in order, have arrived by now. An empty append after the last of them finds out;
            // the answer frees the flow or rewinds it.
            Flow::Replicate
                if self.oldest_sent().is_some_and(long_ago) && long_ago(self.probed) =>
            {
                self.probed = core.now;
                let prev_index = self.next.prev();
                let Some(prev_term) = core.log.term_at(prev_index) else {
                    // Compacted meanwhile: what was lost can only come with a snapshot.
                    return self.probe_from(self.matched.next());
                };
                core.send(
                    peer,
                    Body::Append {
                        prev_index,
                        prev_term,
                        commit: core.commit,
                        entries: Vec::new(),
                    },
                );
            }
            _ => {}
        }
    }

    /// The connection broke: what was on its way is lost.
    pub(crate) fn on_lost(&mut self) {
        if self.flow == Flow::Replicate {
            self.probe_from(self.matched.next());
            // The next sign of life sets it going again.
            self.flow = Flow::Probe { paused: true };
            self.probed = Instant(0);
        }
    }

    /// A snapshot transfer ended.
    pub(crate) fn on_snapshot_sent(&mut self, index: Option<Index>, now: Instant) {
        if self.flow != Flow::Snapshot {
            return;
        }
        match index {
            Some(index) => self.probe_from(index.next()),
            // Tried again at a sign of life, after a while.
            None => {
                self.flow = Flow::Probe { paused: true };
                self.probed = now;
            }
        }
    }

    /// Begins anew with a follower that lost entries.
    pub(crate) fn distrust(&mut self, suspicion: Suspicion) {
        if !mutated!(DistrustKeepsCount) {
            self.forget_matched();
        }
        self.round_acked = 0;
        self.commit_told = Index(0);
        self.suspicion = Some(suspicion);
    }

    fn forget_matched(&mut self) {
        self.matched = Index(0);
        if self.flow != Flow::Snapshot {
            self.probe_from(self.next);
        }
    }

    /// The follower's log is good again, as this process of it says. What another one said since is forgotten: that may have been before a further loss.
    pub(crate) fn believe(&mut self, boot: Boot) {
        let suspicion = self.suspicion.take();
        if !suspicion.is_some_and(|suspicion| suspicion.is_about(boot)) {
            self.forget_matched();
        }
        self.believed = Some(boot);
    }

    /// It answered a newer round than ever: it is this process now.
    pub(crate) fn on_newest_round(&mut self, round: u64, boot: Boot) {
        self.round_acked = round;
        self.believed = self.believed.map(|_| boot);
    }

    /// An acknowledgement of this process may be from before a loss.
    pub(crate) fn is_from_before(&self, boot: Boot) -> bool {
        self.believed.is_some_and(|believed| believed != boot)
    }
}
