//! The stage of a scenario: a directed world, what its script may do, and what is told of it. Everything told is something that happened;
//! every check looks at what the members did and hold.

use super::Played;
use crate::clients::{Load, Outcome};
use crate::clock::Micros;
use crate::director::{Director, Fate, way};
use crate::faults::Fault;
use crate::network::Weather;
use crate::oracle::{Request, trace_id, value_of};
use crate::timeline::{Kind, Moment, What, Window, name, sentence, words};
use crate::world::{Event, Phase, Setup, World};
use raft::{Configuration, MemberId, PeerId, Role, Status};
use replica::{Body, Consistency, Message, Response};
use state::{Answer, Command, Guard, Operation, Put, Query, Range, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// The longest a script waits for something to happen.
const PATIENCE: Micros = 30_000_000;

/// A statement about the run, and whether it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The statement.
    pub text: String,
    /// It held.
    pub held: bool,
}

/// The stage.
pub struct Stage<'a> {
    world: World,
    tell: &'a mut dyn FnMut(&str),
    /// Moments already told.
    told: usize,
    decided_told: u64,
    /// What is decided is not told.
    hushed: bool,
    leading: Vec<bool>,
    requests: u64,
    /// What was asked, by the request's number.
    asked: BTreeMap<u64, String>,
    /// Configurations told, of which each is news once.
    configurations: BTreeSet<String>,
    checks: Vec<Checked>,
}

impl<'a> Stage<'a> {
    /// An empty stage with so many members, none of which asks for votes yet.
    pub fn new(members: usize, raft: raft::Settings, tell: &'a mut dyn FnMut(&str)) -> Stage<'a> {
        let load = Load {
            writers: 0,
            lessees: 0,
            watchers: 0,
            programs: 0,
            think: 1_000_000,
            keys: 1,
            bulk: false,
            users: false,
        };
        let mut world = World::new(Setup {
            seed: 1,
            members,
            spares: 0,
            far_apart: false,
            faults: Vec::new(),
            heal_at: Micros::MAX,
            load,
            tight: None,
            drifts: false,
            trace: false,
            timeline: Some(Window::ALL),
            directed: Some(raft),
        });
        for member in 0..members {
            directing(&mut world).keep_still(member, true);
        }
        Stage {
            told: world.timeline.moments().len(),
            world,
            tell,
            decided_told: 0,
            hushed: false,
            leading: vec![false; members],
            requests: 0,
            asked: BTreeMap::new(),
            configurations: BTreeSet::new(),
            checks: Vec::new(),
        }
    }

    // Telling.

    /// Says something about what is to come, or what it means.
    pub fn say(&mut self, text: &str) {
        let (at, words) = (self.world.now, text.to_owned());
        self.world
            .timeline
            .note(at, None, || What::Note(words.clone()));
        self.tell_news();
    }

    /// Tells no longer what is decided: where sessions are, something is again and again.
    pub fn hush_decisions(&mut self) {
        self.hushed = true;
    }

    /// Tells what happened since.
    fn tell_news(&mut self) {
        let news = self.world.timeline.moments()[self.told..].to_vec();
        self.told += news.len();
        for moment in news {
            let Some(text) = self.news(&moment) else {
                continue;
            };
            let millis = moment.at / 1000;
            (self.tell)(&format!(
                "{:>3}.{:03} s {text}",
                millis / 1000,
                millis % 1000
            ));
        }
    }

    /// What is worth telling of a moment.
    fn news(&mut self, moment: &Moment) -> Option<String> {
        let who = moment.member.map_or(String::new(), name);
        let told = format!("     {who} {}", sentence(moment));
        match &moment.what {
            What::Note(text) => Some(format!(" {text}")),
            What::Healed => Some(" Everything is mended, and the cluster comes to rest.".into()),
            What::Fault(Fault::Cut(_) | Fault::Start(_)) => None,
            What::Fault(fault) => Some(format!("     {fault}")),
            What::Dies { .. } => {
                self.leading[moment.member.expect("a member dies")] = false;
                None
            }
            What::Role { role, term, .. } => {
                let member = moment.member.expect("a role is a member's");
                let led = std::mem::replace(&mut self.leading[member], *role == Role::Leader);
                match role {
                    Role::Leader | Role::Candidate => Some(told),
                    Role::Follower if led => {
                        Some(format!("     {who} leads no longer (term {term})"))
                    }
                    _ => None,
                }
            }
            What::Commits { commit } if *commit > self.decided_told && !self.hushed => {
                self.decided_told = *commit;
                Some(format!(
                    "     index {commit} is decided; {who} is the first to know"
                ))
            }
            What::Asked { request, text, .. } => {
                self.asked.insert(*request, text.clone());
                Some(format!("     {who} is asked: {text}"))
            }
            What::Answers { request, text, .. } => {
                let asked = &self.asked[request];
                Some(format!("     {who} answers to \"{asked}\": {text}"))
            }
            What::Configuration(text) => {
                let known = !self.configurations.insert(text.clone());
                let first = self.configurations.len() == 1;
                (!known && !first).then_some(told)
            }
            What::Starts { .. }
            | What::CannotStart(_)
            | What::Installs { .. }
            | What::Violation { .. } => Some(told),
            _ => None,
        }
    }

    // Time.

    /// Lets time pass.
    pub fn pass(&mut self, millis: u64) {
        let until = self.world.now + millis * 1000;
        self.world.queue.plan(until, Event::Pause);
        while self.world.now < until && self.world.step() {}
        self.tell_news();
    }

    /// Lets time pass until something holds; a script that waits in vain fails.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Stage<'_>) -> bool) -> bool {
        let give_up = self.world.now + PATIENCE;
        while !holds(self) {
            if self.world.now >= give_up || !self.world.step() {
                self.tell_news();
                self.check(&format!("it came about that {what}"), false);
                return false;
            }
        }
        self.tell_news();
        true
    }

    // Members.

    /// What a member says of its consensus; `None`: it does not run.
    pub fn status(&self, member: usize) -> Option<Status> {
        let process = self.world.members[member].process.as_ref()?;
        Some(process.replica.status().raft)
    }

    /// The member leads this term.
    pub fn leads(&self, member: usize, term: u64) -> bool {
        self.status(member)
            .is_some_and(|status| status.role == Role::Leader && status.term.0 == term)
    }

    /// The terms of the entries of a member's log from index 1 on, as it would find them after a restart.
    pub fn log(&self, member: usize) -> Vec<u64> {
        self.world.consensus.log_terms(member)
    }

    /// Up to where a member knows entries to be decided.
    pub fn commit(&self, member: usize) -> u64 {
        self.status(member).map_or(0, |status| status.commit.0)
    }

    /// Lets only this member ask for votes.
    pub fn only_asks(&mut self, member: usize) {
        for other in 0..self.world.members.len() {
            directing(&mut self.world).keep_still(other, other != member);
        }
    }

    /// Lets a member ask for votes.
    pub fn may_ask(&mut self, member: usize) {
        directing(&mut self.world).keep_still(member, false);
    }

    /// Lets only this member ask for votes and waits until it leads a term in which something is decided.
    pub fn elect(&mut self, member: usize) -> bool {
        self.only_asks(member);
        let what = format!("{} leads", name(member));
        self.until(&what, |stage| {
            stage.status(member).is_some_and(|status| {
                let newest = status.commit.0.checked_sub(1);
                let decided =
                    newest.and_then(|place| stage.log(member).get(place as usize).copied());
                status.role == Role::Leader && decided == Some(status.term.0)
            })
        })
    }

    /// Waits until these members know everything that `leader` knows to be decided.
    pub fn caught_up(&mut self, leader: usize, members: &[usize]) -> bool {
        self.until("all know what is decided", |stage| {
            members
                .iter()
                .all(|member| stage.commit(*member) == stage.commit(leader))
        })
    }

    /// Prints the logs of members, an entry's term per place.
    pub fn show_logs(&mut self, members: &[usize]) {
        self.tell_news();
        for member in members {
            let terms: Vec<String> = self.log(*member).iter().map(u64::to_string).collect();
            let runs = if self.world.members[*member].process.is_some() {
                format!("decided up to {}", self.commit(*member))
            } else {
                "down".into()
            };
            let text = format!(
                "log of {}, a term per entry: {} ({runs})",
                name(*member),
                terms.join(" ")
            );
            (self.tell)(&format!("          {text}"));
        }
    }

    // Faults.

    /// Lets something go wrong, or mends it.
    pub fn fault(&mut self, fault: Fault) {
        let at = self.world.now;
        let told = fault.clone();
        self.world.timeline.note(at, None, || What::Fault(told));
        self.world.fault(fault);
        self.tell_news();
    }

    /// Cuts all links between these members and the others.
    pub fn cut_off(&mut self, side: &[usize]) {
        let all = 0..self.world.members.len();
        let links = all
            .clone()
            .flat_map(|from| all.clone().map(move |to| (from, to)))
            .filter(|(from, to)| side.contains(from) != side.contains(to))
            .collect();
        self.fault(Fault::Cut(links));
    }

    /// Judges all messages from now on.
    pub fn judge(&mut self, judge: impl Fn(usize, usize, &Message) -> Fate + 'static) {
        directing(&mut self.world).judge_with(Some(Box::new(judge)));
    }

    /// Number of messages held.
    pub fn held(&self) -> usize {
        let director = self.world.director.as_ref();
        director.expect("the stage is directed").held().len()
    }

    /// Judges no message any more, and sends off those that were held.
    pub fn release(&mut self) {
        let director = directing(&mut self.world);
        director.judge_with(None);
        for held in director.release() {
            let (from, to) = (held.from, held.to);
            let at = self.world.now + way(from, to);
            let (kind, label) = (Kind::of(&held.message), words::label(&held.message));
            let text = words::message(&held.message);
            self.world
                .timeline
                .note(held.sent_at, Some(from), || What::Sends {
                    to,
                    arrivals: [Some(at), None],
                    kind,
                    label,
                    text,
                });
            let message = held.message;
            let event = Event::Deliver {
                from,
                to,
                sender: self.world.members[from].id,
                addressee: self.world.members[to].id,
                message,
            };
            self.world.queue.plan(at, event);
        }
    }

    /// Flips a bit in a sector of a member's log, in its first segment.
    pub fn damage_log(&mut self, member: usize, sector: u64) {
        let machine = &mut self.world.members[member];
        let names = machine.platter.names().into_iter();
        let oldest = names.filter(|name| name.starts_with("log-")).min();
        let flipped =
            oldest.is_some_and(|name| machine.platter.flip_bit(&name, sector * 512 + 40, 3));
        assert!(flipped, "the log has a sector {sector}");
        machine.rotten = true;
        self.say(&format!("A bit flips in the log of {}.", name(member)));
    }

    // Members come and go.

    /// Who a member is.
    pub fn id(&self, member: usize) -> PeerId {
        self.world.members[member].id
    }

    /// The newest decided configuration.
    pub fn configuration(&self) -> &Configuration {
        self.world.consensus.decided_configuration()
    }

    /// An operator asks `leader` for these voters and nobody else.
    pub fn ask_for_voters(&mut self, leader: usize, voters: &[usize]) {
        let voters: BTreeSet<PeerId> = voters.iter().map(|member| self.id(*member)).collect();
        let mut target = self.configuration().clone();
        let stays = |member: &MemberId| voters.iter().any(|voter| voter.member == *member);
        target.members.retain(|member, _| stays(member));
        target.voters = voters;
        self.world.ask_for_members(leader, target);
    }

    /// An operator asks `leader` to make a voter of a member that is a learner, or a learner, for good, of one that is a voter.
    pub fn ask_to_switch(&mut self, leader: usize, member: usize) {
        let mut target = self.configuration().clone();
        let peer = self.id(member);
        let was_voter = target.voters.remove(&peer);
        if was_voter {
            target.learners.insert(peer);
        } else {
            target.learners.remove(&peer);
            target.voters.insert(peer);
        }
        if let Some(told) = target.members.get_mut(&peer.member) {
            told.stays_learner = was_voter;
        }
        self.world.ask_for_members(leader, target);
    }

    // Clients.

    /// A client puts key x through a member; the value is the request's number, which is returned.
    pub fn put(&mut self, member: usize) -> u64 {
        let request = self.requests + 1;
        let put = Put {
            key: "x".into(),
            value: value_of(request),
            ..Put::default()
        };
        self.propose(member, Operation::Put(put), Vec::new())
    }

    /// A client asks a member for a change, under guards or none; gives the request's number.
    pub fn propose(&mut self, member: usize, operation: Operation, guards: Vec<Guard>) -> u64 {
        let command = Command {
            trace: trace_id(self.requests + 1),
            guards,
            operation: Some(operation),
            ..Command::default()
        };
        self.ask(member, Request::Propose(command))
    }

    /// What a change was answered; nothing until then.
    pub fn reply(&self, request: u64) -> Option<&Reply> {
        match self.outcome(request)? {
            Outcome::Ended(Ok(Response {
                body: Body::Reply(reply),
                ..
            })) => Some(reply),
            _ => None,
        }
    }

    /// A client reads key x through a member.
    pub fn read(&mut self, member: usize, consistency: Consistency) -> u64 {
        let range = Range {
            key: "x".into(),
            ..Range::default()
        };
        self.ask(member, Request::Read(consistency, Query::Range(range)))
    }

    fn ask(&mut self, member: usize, body: Request) -> u64 {
        self.requests += 1;
        self.world.ask(0, member, self.requests, body);
        self.tell_news();
        self.requests
    }

    /// Puts and waits for the answer.
    pub fn put_done(&mut self, member: usize) -> u64 {
        let request = self.put(member);
        self.until(&format!("put {request} was answered"), |stage| {
            stage.done(request)
        });
        request
    }

    /// Reads and waits for the answer: the value, if there was one.
    pub fn read_value(&mut self, member: usize) -> Option<u64> {
        let request = self.read(member, Consistency::Linearizable);
        self.until("a read was answered", |stage| stage.ended(request));
        match self.outcome(request) {
            Some(Outcome::Ended(Ok(Response {
                body: Body::Answer(Answer::Range(range)),
                ..
            }))) => std::str::from_utf8(&range.kvs.first()?.value)
                .ok()?
                .parse()
                .ok(),
            _ => None,
        }
    }

    fn outcome(&self, request: u64) -> Option<&Outcome> {
        let director = self.world.director.as_ref();
        director.expect("the stage is directed").outcome(request)
    }

    /// The request has ended, well or not.
    pub fn ended(&self, request: u64) -> bool {
        self.outcome(request).is_some()
    }

    /// The request has succeeded.
    pub fn done(&self, request: u64) -> bool {
        matches!(self.outcome(request), Some(Outcome::Ended(Ok(_))))
    }

    // The verdict.

    /// True time.
    pub fn now(&self) -> Micros {
        self.world.now
    }

    /// Moments since a time.
    pub fn since(&self, from: Micros) -> impl Iterator<Item = &Moment> {
        let moments = self.world.timeline.moments().iter();
        moments.filter(move |moment| moment.at >= from)
    }

    /// States something that must hold.
    pub fn check(&mut self, text: &str, held: bool) {
        self.checks.push(Checked {
            text: text.into(),
            held,
        });
    }

    /// Mends everything, lets the cluster come to rest and hands over what was found.
    pub fn finish(mut self) -> Played {
        let end = self.world.now;
        directing(&mut self.world).judge_with(None);
        for member in 0..self.world.members.len() {
            self.may_ask(member);
        }
        self.world.phase(Phase::Heal);
        self.world.network.set_weather(Weather::CALM);
        self.pass(4_000);
        self.world.phase(Phase::End);
        self.told = self.world.timeline.moments().len();
        let broken = self.world.violation.clone();
        let text = match &broken {
            None => "no promise was broken, and all members hold equal states at the end".into(),
            Some(violation) => format!("no promise was broken: {violation}"),
        };
        self.check(&text, broken.is_none());
        Played {
            findings: Vec::new(),
            checks: self.checks,
            members: self.world.members.len(),
            timeline: self.world.timeline,
            end,
            violation: broken,
            scene: None,
        }
    }
}

fn directing(world: &mut World) -> &mut Director {
    world.director.as_mut().expect("the stage is directed")
}
