//! A member of one, alone and in memory, for tests of the doors: the real replica, with a disk that is always done at once.

use crate::clock::Clock;
use crate::handle::{Control, Inbox, Request, WatchStream};
use crate::members::MemberTable;
use crate::wire::Party;
use crate::{Handle, Metrics};
use raft::{
    Boot, Configuration, Incarnation, Index, Instant, Member, MemberId, PeerId, Restored,
    SnapshotMark, Standing, Term, Vote,
};
use replica::{Effect, Input, Replica, Settings, StreamId, Ticket, WatchResponse};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// The member behind a [`Handle`].
pub(crate) struct MemoryMember {
    replica: Replica,
    clock: Clock,
    inbox: Inbox,
    waiters: HashMap<Ticket, oneshot::Sender<crate::handle::Outcome>>,
    streams: HashMap<StreamId, mpsc::UnboundedSender<WatchResponse>>,
    timer: Option<Instant>,
}

/// Starts a member and gives the doors' way to it. It lives as long as the runtime.
pub(crate) fn start() -> Handle {
    limited_to(replica::Limits::default())
}

/// The same with limits of its own.
pub(crate) fn limited_to(limits: replica::Limits) -> Handle {
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let (handle, member) = with(settings);
    tokio::spawn(member.run());
    handle
}

/// A member that does nothing until it is run.
pub(crate) fn stalled() -> (Handle, MemoryMember) {
    with(Settings::default())
}

fn with(settings: Settings) -> (Handle, MemoryMember) {
    let id = PeerId {
        member: MemberId(0xa),
        incarnation: Incarnation(1),
    };
    let member = Member {
        incarnation: id.incarnation,
        name: "n1".into(),
        peer_addresses: vec!["127.0.0.1:2380".into()],
        client_addresses: vec!["127.0.0.1:2379".into()],
        ..Default::default()
    };
    let configuration = Configuration {
        voters: [id].into(),
        members: [(id.member, member.clone())].into(),
        ..Default::default()
    };
    let restored = Restored {
        id,
        boot: Boot(7),
        vote: Vote::default(),
        snapshot: SnapshotMark {
            index: Index(0),
            term: Term(0),
            configuration: configuration.clone(),
        },
        terms: Vec::new(),
        last: Index(0),
        configurations: Vec::new(),
        commit: Index(0),
        standing: Standing::Sound,
    };
    let clock = Clock::start();
    let boot = replica::Boot {
        cluster: 0xc,
        cell: 0,
        restored,
        seed: 1,
    };
    let replica = Replica::new(settings, boot, clock.now());
    let (handle, inbox) = Handle::new(
        0xc,
        replica.status(),
        Arc::new(Metrics::default()),
        crate::trace::Tracer::off(),
    );
    let party = Party {
        member: id.member.0,
        client_addresses: member.client_addresses,
        ..Party::default()
    };
    let mut members = MemberTable::new(&party, false);
    members.configure(configuration);
    inbox.members.send_replace(members);
    let member = MemoryMember {
        replica,
        clock,
        inbox,
        waiters: HashMap::new(),
        streams: HashMap::new(),
        timer: None,
    };
    (handle, member)
}

impl MemoryMember {
    async fn run(mut self) {
        loop {
            let more = self.turn();
            let deadline = self.timer.map(|timer| self.clock.deadline(timer));
            let sleep = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::task::yield_now(), if more => {}
                control = self.inbox.control.recv() => match control {
                    Some(control) => self.control(control),
                    None => return,
                },
                request = self.inbox.requests.recv() => match request {
                    Some(request) => self.request(request),
                    None => return,
                },
                () = sleep => {
                    self.timer = None;
                    self.replica.handle(self.clock.now(), Input::TimerFired);
                }
            }
        }
    }

    fn turn(&mut self) -> bool {
        loop {
            let more = self.replica.work(self.clock.now());
            let mut any = false;
            self.inbox.publish_auth(self.replica.auth());
            while let Some(effect) = self.replica.poll() {
                any = true;
                self.effect(effect);
            }
            self.inbox
                .status
                .send_replace(Arc::new(self.replica.status()));
            if !any {
                return more;
            }
        }
    }

    fn control(&mut self, control: Control) {
        let input = match control {
            Control::Cancel(ticket) => Input::Cancel(ticket),
            Control::Credit(stream, responses) => Input::WatchCredit { stream, responses },
            Control::Closed(stream) => {
                self.streams.remove(&stream);
                Input::WatchClosed(stream)
            }
            _ => return,
        };
        self.replica.handle(self.clock.now(), input);
    }

    fn request(&mut self, request: Request) {
        let now = self.clock.now();
        match request {
            Request::Ask {
                ticket,
                input,
                waiter,
                ..
            } => {
                self.waiters.insert(ticket, waiter);
                self.replica.handle(now, input);
            }
            Request::Watch {
                stream,
                request,
                opening,
            } => {
                if let Some(opening) = opening {
                    self.streams.insert(stream, opening);
                    self.replica.handle(
                        now,
                        Input::WatchCredit {
                            stream,
                            responses: WatchStream::CREDIT,
                        },
                    );
                }
                self.replica.handle(now, Input::Watch { stream, request });
            }
            Request::Status(waiter) => drop(waiter.send(Arc::new(self.replica.status()))),
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(persist) => self
                .replica
                .handle(self.clock.now(), Input::Persisted(persist.sequence)),
            Effect::Reply { ticket, outcome } => {
                if let Some(waiter) = self.waiters.remove(&ticket) {
                    let _ = waiter.send(outcome);
                }
            }
            Effect::WatchResponses { stream, responses } => {
                if let Some(sender) = self.streams.get(&stream) {
                    responses
                        .into_iter()
                        .for_each(|response| drop(sender.send(response)));
                }
            }
            Effect::SetTimer(at) => self.timer = Some(at),
            Effect::LocksChanged(names) => self.inbox.observers.changed(&names),
            Effect::Halted(reason) => panic!("{reason}"),
            // Snapshots and fetches do not come up in a test's time; the rest needs no answer.
            _ => {}
        }
    }
}
