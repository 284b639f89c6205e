//! What clients and members say to each other: requests, replies, watch streams.

use super::*;
use state::auth::Caller;

impl World {
    pub(super) fn carry_out_wishes(&mut self) {
        for action in self.clients.take_actions() {
            let way = self.rng.between(50, 300);
            match action {
                Action::Ask {
                    client,
                    member,
                    request,
                    body,
                } => {
                    self.queue.plan(
                        self.now + way,
                        Event::Ask {
                            client,
                            member,
                            request,
                            body,
                        },
                    );
                }
                Action::Cancel { member, request } => self
                    .queue
                    .plan(self.now + way, Event::Cancel { member, request }),
                Action::Open {
                    client,
                    member,
                    stream,
                } => self.open_stream(client, member, stream),
                Action::Watch { stream, request } => {
                    self.send_on_stream(stream, ToStream::Request(request), 0)
                }
                Action::Credit {
                    stream,
                    responses,
                    after,
                } => self.send_on_stream(stream, ToStream::Credit(responses), after),
                Action::Close { stream } => self.send_on_stream(stream, ToStream::Close, 0),
                Action::Wake {
                    client,
                    after,
                    token,
                } => self
                    .queue
                    .plan(self.now + after, Event::Wake { client, token }),
            }
        }
    }

    /// On whose behalf a member takes a request, as its door finds out: of nobody as long as it knows no need of users, then of the user as of its
    /// present revision. Some clients come with what they were let in by earlier, also at another member, and some forget to say who they are.
    fn let_in(&mut self, client: usize, member: usize) -> Caller {
        let (user, process) = (self.clients.user(client), &self.members[member].process);
        let (Some(user), Some(process)) = (user, process) else {
            return Caller::default();
        };
        let auth = process.replica.auth();
        if !auth.is_enabled() {
            return Caller::default();
        }
        let earlier = self.let_in.get(&client);
        match (self.rng.below(30), earlier) {
            (0, _) => Caller::default(),
            (1..4, Some(earlier)) => earlier.clone(),
            _ => {
                let caller = Caller {
                    user: user.into(),
                    revision: auth.revision(),
                };
                self.let_in.insert(client, caller.clone());
                caller
            }
        }
    }

    pub(crate) fn ask(&mut self, client: usize, member: usize, request: u64, mut body: Request) {
        if self.members[member].process.is_none() {
            let at = self.now + self.rng.between(50, 300);
            self.queue.plan(
                at,
                Event::Answer {
                    client,
                    request,
                    outcome: Outcome::Lost,
                },
            );
            return;
        }
        let caller = self.let_in(client, member);
        if let Request::Propose(command) = &mut body {
            command.principal = caller.user.clone();
            command.auth_revision = caller.revision;
        }
        self.trace
            .note(self.now, &self.members[member].lane, &[25, request], || {
                format!("is asked request {request}: {body:?}")
            });
        self.timeline.note_busy(self.now, member, || What::Asked {
            client,
            request,
            text: words::request(&body),
        });
        self.history
            .on_request(request, caller.clone(), body.clone(), self.now);
        let kind = self.flight_kind(member, &body);
        self.in_flight.insert(
            request,
            InFlight {
                client,
                member,
                asked_at: self.now,
                kind,
            },
        );
        let ticket = Ticket(request);
        let input = match body {
            Request::Propose(command) => Input::Propose { ticket, command },
            Request::KeepAlive(lease) => Input::KeepAlive { ticket, lease },
            Request::Read(_, query) if mutated!(StaleReads) => Input::Read {
                ticket,
                caller,
                consistency: replica::Consistency::Local,
                query,
            },
            Request::Read(consistency, query) => Input::Read {
                ticket,
                caller,
                consistency,
                query,
            },
        };
        if mutated!(ProposeTwice)
            && let Input::Propose { command, .. } = &input
            && self.rng.chance(50)
        {
            // A retry inside the cluster that nobody guards.
            self.give(
                member,
                Input::Propose {
                    ticket: Ticket(u64::MAX - request),
                    command: command.clone(),
                },
            );
        }
        self.give(member, input);
    }

    fn flight_kind(&self, member: usize, body: &Request) -> FlightKind {
        let machine = &self.members[member];
        let process = machine.process.as_ref().filter(|_| !machine.paused);
        let serves = process.is_some_and(|process| process.replica.status().serving);
        match body {
            Request::Read(Consistency::Local, _) if serves => FlightKind::Alone,
            Request::Read(Consistency::Bounded(_), _) if serves => FlightKind::Bounded,
            _ => FlightKind::Decided,
        }
    }

    pub(super) fn cancel(&mut self, member: usize, request: u64) {
        let Some(flight) = self.in_flight.get(&request) else {
            return;
        };
        if flight.member == member {
            self.in_flight.remove(&request);
            self.history.on_lost(request, self.now);
            self.give(member, Input::Cancel(Ticket(request)));
        }
    }

    /// A member has ended a request.
    pub(crate) fn reply(
        &mut self,
        member: usize,
        ticket: Ticket,
        outcome: Result<Response, Failure>,
    ) {
        let request = ticket.0;
        // An answer may cross with the cancellation on its way.
        let Some(flight) = self.in_flight.remove(&request) else {
            return self.told_operator(request, &outcome);
        };
        if flight.member != member {
            self.fail(
                "V1",
                format!(
                    "n{} answers request {request}, which n{} was asked",
                    member + 1,
                    flight.member + 1
                ),
            );
        }
        if let Err(failure) = &outcome
            && self
                .must_serve_from
                .is_some_and(|from| flight.asked_at >= from)
            // It has found damage of before, and begins anew from its directory.
            && *failure != Failure::Halted
            && !self.is_lost_in_a_snapshot(member, flight.asked_at, failure)
        {
            let promise = match failure {
                Failure::DiskFull => "R3",
                _ => "V1",
            };
            self.fail(
                promise,
                format!(
                    "n{} ends request {request} with {failure:?} though all faults are over",
                    member + 1
                ),
            );
        }
        let as_promised = match (flight.kind, &outcome) {
            (_, Ok(_)) | (FlightKind::Decided, _) => true,
            // There are too many, a snapshot took the place of the state under it, or the member begins anew from its directory.
            (_, Err(Failure::Overloaded { .. } | Failure::LeaderChanged | Failure::Halted)) => true,
            (FlightKind::Bounded, Err(failure)) => matches!(failure, Failure::TooStale { .. }),
            (FlightKind::Alone, Err(_)) => false,
        };
        if !as_promised {
            let text = format!(
                "n{} ends the {:?} read {request} with {outcome:?}",
                member + 1,
                flight.kind
            );
            self.fail("V2", text);
        }
        let check = self.history.on_outcome(request, &outcome, self.now);
        self.judge(check);
        self.timeline.note_busy(self.now, member, || What::Answers {
            client: flight.client,
            request,
            ok: outcome.is_ok(),
            text: words::outcome(&outcome),
        });
        let changed = matches!(&outcome, Ok(response) if matches!(response.body, Body::Reply(_)));
        let at = self.now + self.rng.between(50, 300);
        self.queue.plan(
            at,
            Event::Answer {
                client: flight.client,
                request,
                outcome: Outcome::Ended(outcome),
            },
        );
        if changed && let Some(survival) = self.power_fails_at_reply.take() {
            self.trace.note(self.now, "", &[26], || {
                format!("all lose power at the answer to {request}")
            });
            (0..self.members.len()).for_each(|member| self.stop(member, Some(survival)));
        }
    }

    /// What became of a change is not known to a member that got a snapshot after it was asked: the snapshot may hold the effect, and holds no replies. When all
    /// faults are over that still happens to members that are being made whole, as one with a new disk; a member whose log goes on has no such excuse.
    fn is_lost_in_a_snapshot(&self, member: usize, asked_at: Micros, failure: &Failure) -> bool {
        let process = self.members[member].process.as_ref();
        let installed_at = process.and_then(|process| process.installed_at);
        *failure == Failure::Unknown && installed_at.is_some_and(|at| at >= asked_at)
    }

    pub(super) fn open_stream(&mut self, client: usize, member: usize, stream: StreamId) {
        let life = self.members[member].life;
        if self.members[member].process.is_none() {
            self.queue
                .plan(self.now + 200, Event::StreamLost { client, stream });
            return;
        }
        self.streams.insert(
            stream,
            Stream {
                client,
                member,
                life,
                credit: 0,
                up: self.now,
                down: self.now,
            },
        );
    }

    pub(super) fn send_on_stream(&mut self, stream: StreamId, what: ToStream, after: Micros) {
        let way = self.rng.between(50, 300);
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        let at = (self.now + after + way).max(state.up + 1);
        // Only the order of requests matters; a slow reader's credit delays nothing else.
        if after == 0 {
            state.up = at;
        }
        self.queue.plan(at, Event::OnStream { stream, what });
    }

    pub(super) fn on_stream(&mut self, stream: StreamId, what: ToStream) {
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        if let ToStream::Credit(responses) = what {
            state.credit += u64::from(responses);
        }
        let (client, member) = (state.client, state.member);
        assert_eq!(
            state.life, self.members[member].life,
            "a stream ends with its process"
        );
        match what {
            ToStream::Request(mut request) => {
                if let WatchRequest::Create(create) = &mut request {
                    create.caller = self.let_in(client, member);
                    let caller = create.caller.clone();
                    self.clients.on_let_in(client, create.watch, caller);
                }
                self.give(member, Input::Watch { stream, request });
            }
            ToStream::Credit(responses) => {
                self.give(member, Input::WatchCredit { stream, responses })
            }
            ToStream::Close => {
                self.streams.remove(&stream);
                self.give(member, Input::WatchClosed(stream));
            }
        }
    }

    /// A member has responses for a stream.
    pub(crate) fn watch_responses(&mut self, stream: StreamId, mut responses: Vec<WatchResponse>) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.credit = state.credit.saturating_sub(responses.len() as u64);
        }
        if mutated!(DropWatchResponse) && self.rng.chance(20) {
            return;
        }
        if mutated!(RepeatWatchResponse) && self.rng.chance(20) {
            responses.extend(responses.clone());
        }
        let way = self.rng.between(50, 300);
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        state.down = (self.now + way).max(state.down + 1);
        self.queue
            .plan(state.down, Event::Responses { stream, responses });
    }

    pub(super) fn responses(&mut self, stream: StreamId, responses: &[WatchResponse]) {
        let Some(state) = self.streams.get(&stream) else {
            return;
        };
        let (client, history) = (state.client, &self.history);
        let check = self
            .clients
            .on_watch_responses(client, stream, responses, self.now, history);
        self.judge(check);
    }
}
