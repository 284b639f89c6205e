//! A small world for the locks of others: clients, the servers that keep the lock, and the resource that it is to protect. Messages take a
//! millisecond, programs no time. Everything follows from the faults, which are given; what comes of them is found out.
//!
//! Clients all do the same: get the lock, write twice to the resource with eight seconds of work in between, give the lock back. The resource
//! takes every write unless the recipe says otherwise, and remembers who wrote in which order: that is the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Milliseconds.
pub type Millis = u64;

/// How long a message takes, and how long the work between the two writes.
const WAY: Millis = 1;
pub const WORK: Millis = 8_000;
/// So long a client waits for an answer of the resource.
const ANSWER: Millis = 3_000;
/// A client that did not get the lock tries again after this.
pub const RETRY: Millis = 500;
/// What a client holds ends after this, or its session does, if it renews nothing.
pub const TTL: Millis = 10_000;

/// Something that goes wrong, or is mended. Lanes are numbered.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A program gets no time.
    Pause(usize, Millis, Millis),
    /// A program dies.
    Kill(usize, Millis),
    /// It is started again.
    Restart(usize, Millis),
    /// A wall clock jumps ahead.
    Clock(usize, Millis, Millis),
    /// Messages from one lane to another, sent within a time, take so much longer.
    Delay((usize, usize), (Millis, Millis), Millis),
    /// They are lost.
    Cut((usize, usize), (Millis, Millis)),
    /// The replica takes the place of the primary.
    Promote(usize, Millis),
}

impl Fault {
    fn at(&self) -> Millis {
        match *self {
            Fault::Pause(_, at, _)
            | Fault::Kill(_, at)
            | Fault::Restart(_, at)
            | Fault::Clock(_, at, _)
            | Fault::Delay(_, (at, _), _)
            | Fault::Cut(_, (at, _))
            | Fault::Promote(_, at) => at,
        }
    }
}

/// A recipe for a lock: what its servers and clients do.
pub trait Lock {
    /// What they say to each other.
    type Word: Clone + fmt::Display;
    /// A client begins to want the lock.
    fn ask(&mut self, scene: &mut Scene<Self::Word>, client: usize);
    /// Something arrives at a client or a server.
    fn hear(&mut self, scene: &mut Scene<Self::Word>, at: usize, from: usize, word: Self::Word);
    /// A client or a server wanted to be called.
    fn wake(&mut self, scene: &mut Scene<Self::Word>, at: usize, why: u64);
    /// A client is done with its work.
    fn leave(&mut self, scene: &mut Scene<Self::Word>, client: usize);
    /// A server died, came back, or was promoted.
    fn happened(&mut self, scene: &mut Scene<Self::Word>, fault: &Fault);
}

enum Event<W> {
    Ask(usize),
    Hear {
        from: usize,
        to: usize,
        word: W,
    },
    Wake {
        lane: usize,
        life: u64,
        why: u64,
    },
    /// The resource gets a write or a mark of a grant.
    Write {
        from: usize,
        grant: usize,
        part: u8,
    },
    /// Its answer.
    Wrote {
        to: usize,
        life: u64,
        grant: usize,
        part: u8,
        taken: bool,
    },
    /// A client's work, or its patience, is over.
    Work {
        lane: usize,
        life: u64,
        grant: usize,
        part: u8,
    },
    Fault(Fault),
    Resume(usize),
}

/// What can be seen, for the text and the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A message, and when it arrives, if it does.
    Sent {
        from: usize,
        to: usize,
        arrives: Option<Millis>,
        text: String,
    },
    /// A client has the lock, as it believes.
    Holds(usize),
    /// It no longer believes so.
    Leaves(usize),
    /// A lane is stopped, dead, or neither.
    State(usize, State),
    /// Something is said of a lane, or of all.
    Said(Option<usize>, String),
}

/// How a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Runs,
    Stopped,
    Dead,
}

struct Lane {
    name: String,
    state: State,
    life: u64,
    ahead: Millis,
}

/// A grant, as a client believes to have it.
#[derive(Clone, Debug)]
struct Grant {
    client: usize,
    left: bool,
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The writes of two are mixed: one of somebody who was let in earlier is among those of another.
    pub at_once: bool,
    /// A write came after one of somebody who was let in later.
    pub out_of_order: bool,
    /// Clients that never got the lock.
    pub stuck: Vec<String>,
    /// Writes that the resource refused.
    pub refused: usize,
    /// The same of those who had the lock last.
    pub refused_rightful: usize,
    /// Clients woken by one release, at most.
    pub woken: usize,
    /// Clients that got the lock.
    pub entered: usize,
    /// Tries to get it.
    pub tries: usize,
    /// When the first got it.
    pub first_at: Millis,
}

impl Found {
    /// In a word or two.
    pub fn word(&self) -> &'static str {
        match (self.at_once, self.out_of_order, self.stuck.is_empty()) {
            (true, ..) => "two at once",
            (_, true, _) => "order broken",
            (.., false) => "stuck",
            _ => "holds",
        }
    }
}

/// The small world.
pub struct Scene<W> {
    pub now: Millis,
    lanes: Vec<Lane>,
    clients: usize,
    /// The resource wants the mark of who was let in last before it takes writes.
    marks: bool,
    mark: Option<usize>,
    queue: BTreeMap<(Millis, u64), Event<W>>,
    /// What waits for stopped lanes.
    waiting: BTreeMap<usize, Vec<Event<W>>>,
    planned: u64,
    faults: Vec<Fault>,
    seen: Vec<(Millis, Seen)>,
    grants: Vec<Grant>,
    /// The newest grant that has written.
    newest: Option<usize>,
    /// Those in the middle of whose work another one wrote.
    disturbed: BTreeSet<usize>,
    asked: BTreeSet<usize>,
    found: Found,
}

/// Who plays, and when each client begins to want the lock. The resource comes last.
pub struct Cast {
    pub clients: Vec<(&'static str, Millis)>,
    pub servers: Vec<&'static str>,
    /// See [`Scene::marks`].
    pub marks: bool,
}

impl<W: Clone + fmt::Display> Scene<W> {
    fn new(cast: &Cast, faults: Vec<Fault>) -> Scene<W> {
        let clients = cast.clients.iter().map(|(name, _)| *name);
        let names = clients.chain(cast.servers.iter().copied());
        let lanes = names.chain(["resource"]).map(|name| Lane {
            name: name.into(),
            state: State::Runs,
            life: 0,
            ahead: 0,
        });
        let mut scene = Scene {
            now: 0,
            lanes: lanes.collect(),
            clients: cast.clients.len(),
            marks: cast.marks,
            mark: None,
            queue: BTreeMap::new(),
            waiting: BTreeMap::new(),
            planned: 0,
            faults: faults.clone(),
            seen: Vec::new(),
            grants: Vec::new(),
            newest: None,
            disturbed: BTreeSet::new(),
            asked: BTreeSet::new(),
            found: Found::default(),
        };
        for (client, (_, at)) in cast.clients.iter().enumerate() {
            scene.plan(*at, Event::Ask(client));
        }
        for fault in faults {
            scene.plan(fault.at(), Event::Fault(fault));
        }
        scene
    }

    fn plan(&mut self, at: Millis, event: Event<W>) {
        self.planned += 1;
        self.queue.insert((at, self.planned), event);
    }

    fn see(&mut self, seen: Seen) {
        self.seen.push((self.now, seen));
    }

    // What recipes may do.

    /// Servers begin at this lane.
    pub fn first_server(&self) -> usize {
        self.clients
    }

    /// Name of a lane.
    pub fn name(&self, lane: usize) -> &str {
        &self.lanes[lane].name
    }

    /// The wall clock of a lane.
    pub fn wall(&self, lane: usize) -> Millis {
        self.now + self.lanes[lane].ahead
    }

    /// Says something about a lane.
    pub fn say(&mut self, lane: usize, text: impl Into<String>) {
        self.see(Seen::Said(Some(lane), text.into()));
    }

    /// Sends a message.
    pub fn send(&mut self, from: usize, to: usize, word: W) {
        let arrives = self.way(from, to);
        let text = word.to_string();
        self.see(Seen::Sent {
            from,
            to,
            arrives,
            text,
        });
        if let Some(at) = arrives {
            self.plan(at, Event::Hear { from, to, word });
        }
    }

    /// The same for what is too common to be told.
    pub fn send_quietly(&mut self, from: usize, to: usize, word: W) {
        if let Some(at) = self.way(from, to) {
            self.plan(at, Event::Hear { from, to, word });
        }
    }

    /// Calls a lane later; not if it dies before.
    pub fn wake(&mut self, lane: usize, after: Millis, why: u64) {
        let life = self.lanes[lane].life;
        self.plan(self.now + after, Event::Wake { lane, life, why });
    }

    /// A client tries.
    pub fn tries(&mut self) {
        self.found.tries += 1;
    }

    /// So many clients were woken by one release.
    pub fn woken(&mut self, clients: usize) {
        self.found.woken = self.found.woken.max(clients);
    }

    /// A client believes that it has the lock, and begins to work.
    pub fn granted(&mut self, client: usize) {
        let grant = self.grants.len();
        self.grants.push(Grant {
            client,
            left: false,
        });
        self.asked.remove(&client);
        if self.grants.len() == 1 {
            self.found.first_at = self.now;
        }
        self.found.entered += 1;
        self.see(Seen::Holds(client));
        self.write(client, grant, if self.marks { 0 } else { 1 });
    }

    /// The client no longer believes that it has the lock: it stops its work.
    pub fn lost(&mut self, client: usize) {
        let of_client = self.grants.iter_mut().rev();
        if let Some(grant) = of_client
            .into_iter()
            .find(|it| it.client == client && !it.left)
        {
            grant.left = true;
            self.see(Seen::Leaves(client));
        }
    }

    // The resource.

    fn resource(&self) -> usize {
        self.lanes.len() - 1
    }

    fn way(&self, from: usize, to: usize) -> Option<Millis> {
        let mut way = WAY;
        for fault in &self.faults {
            match fault {
                Fault::Cut(link, (begin, end))
                    if *link == (from, to) && (*begin..*end).contains(&self.now) =>
                {
                    return None;
                }
                Fault::Delay(link, (begin, end), by)
                    if *link == (from, to) && (*begin..*end).contains(&self.now) =>
                {
                    way += by;
                }
                _ => {}
            }
        }
        Some(self.now + way)
    }

    /// Sends part 0 (the mark), 1 or 2 of a client's work.
    fn write(&mut self, client: usize, grant: usize, part: u8) {
        let to = self.resource();
        let arrives = self.way(client, to);
        let text = match part {
            0 => "mark: only I may write from now on".to_string(),
            1 => "write: begin".to_string(),
            _ => "write: end".to_string(),
        };
        self.see(Seen::Sent {
            from: client,
            to,
            arrives,
            text,
        });
        if let Some(at) = arrives {
            let from = client;
            self.plan(at, Event::Write { from, grant, part });
        }
        let life = self.lanes[client].life;
        let patience = Event::Work {
            lane: client,
            life,
            grant,
            part: part + 10,
        };
        self.plan(self.now + ANSWER, patience);
    }

    fn take_write(&mut self, from: usize, grant: usize, part: u8) {
        let resource = self.resource();
        let taken = !self.marks || part == 0 || self.mark == Some(grant);
        let name = self.lanes[from].name.clone();
        if part == 0 {
            self.mark = Some(grant);
        } else if !taken {
            self.found.refused += 1;
            self.found.refused_rightful += usize::from(grant + 1 == self.grants.len());
            self.say(resource, format!("refuses {name}: the mark is another's"));
        } else {
            self.judge(from, grant);
        }
        let life = self.lanes[from].life;
        let answer = Event::Wrote {
            to: from,
            life,
            grant,
            part,
            taken,
        };
        self.plan(self.now + WAY, answer);
    }

    /// A write is taken: is it that of the newest holder?
    fn judge(&mut self, from: usize, grant: usize) {
        let (name, resource) = (self.lanes[from].name.clone(), self.resource());
        self.found.at_once |= self.disturbed.contains(&grant);
        let Some(newest) = self.newest.filter(|newest| *newest > grant) else {
            return self.newest = Some(grant);
        };
        let (other, done) = (self.grants[newest].client, self.grants[newest].left);
        let other = self.lanes[other].name.clone();
        self.found.out_of_order = true;
        let text = if done {
            format!("takes a late write of {name}, over what {other} did")
        } else {
            self.disturbed.insert(newest);
            format!("takes a write of {name} in the middle of {other}'s work")
        };
        self.say(resource, text);
    }
}

/// A recipe at work in its world.
pub struct Play<L: Lock> {
    lock: L,
    scene: Scene<L::Word>,
}

/// What came of it.
pub struct Played {
    /// Names of the lanes.
    pub lanes: Vec<String>,
    /// What could be seen, in order.
    pub seen: Vec<(Millis, Seen)>,
    /// The verdict.
    pub found: Found,
}

impl<L: Lock> Play<L> {
    /// Plays until the given time.
    pub fn run(lock: L, cast: &Cast, faults: Vec<Fault>, until: Millis) -> Played {
        let scene = Scene::new(cast, faults);
        let mut play = Play { lock, scene };
        while let Some(((at, _), event)) = play.scene.queue.pop_first() {
            if at > until {
                break;
            }
            play.scene.now = at;
            play.happen(event);
        }
        let scene = &mut play.scene;
        scene.now = until;
        let stuck = std::mem::take(&mut scene.asked).into_iter();
        let living = stuck.filter(|client| scene.lanes[*client].state == State::Runs);
        scene.found.stuck = living
            .map(|client| scene.lanes[client].name.clone())
            .collect();
        Played {
            lanes: scene.lanes.iter().map(|lane| lane.name.clone()).collect(),
            seen: std::mem::take(&mut scene.seen),
            found: std::mem::take(&mut scene.found),
        }
    }

    fn happen(&mut self, event: Event<L::Word>) {
        let scene = &mut self.scene;
        let (lane, life) = match &event {
            Event::Ask(lane) | Event::Hear { to: lane, .. } => (*lane, scene.lanes[*lane].life),
            Event::Wake { lane, life, .. }
            | Event::Wrote { to: lane, life, .. }
            | Event::Work { lane, life, .. } => (*lane, *life),
            Event::Write { from, grant, part } => {
                return scene.take_write(*from, *grant, *part);
            }
            Event::Fault(fault) => return self.fault(&fault.clone()),
            Event::Resume(lane) => return self.resume(*lane),
        };
        match scene.lanes[lane].state {
            State::Dead => return,
            State::Stopped => return scene.waiting.entry(lane).or_default().push(event),
            State::Runs if scene.lanes[lane].life != life => return,
            State::Runs => {}
        }
        match event {
            Event::Ask(client) => {
                scene.asked.insert(client);
                self.lock.ask(scene, client);
            }
            Event::Hear { from, to, word } => self.lock.hear(scene, to, from, word),
            Event::Wake { lane, why, .. } => self.lock.wake(scene, lane, why),
            Event::Wrote {
                to,
                grant,
                part,
                taken,
                ..
            } => self.wrote(to, grant, part, taken),
            Event::Work {
                lane, grant, part, ..
            } => self.work(lane, grant, part),
            Event::Write { .. } | Event::Fault(_) | Event::Resume(_) => unreachable!("done above"),
        }
    }

    /// The resource answered a client.
    fn wrote(&mut self, client: usize, grant: usize, part: u8, taken: bool) {
        let scene = &mut self.scene;
        if scene.grants[grant].left {
            return;
        }
        match part {
            _ if !taken => self.leave(client, grant),
            0 => scene.write(client, grant, 1),
            1 => {
                let life = scene.lanes[client].life;
                let work = Event::Work {
                    lane: client,
                    life,
                    grant,
                    part: 2,
                };
                scene.plan(scene.now + WORK, work);
            }
            _ => self.leave(client, grant),
        }
    }

    /// A client's work is done, or it has waited long enough for an answer.
    fn work(&mut self, client: usize, grant: usize, part: u8) {
        if self.scene.grants[grant].left {
            return;
        }
        match part {
            2 => self.scene.write(client, grant, 2),
            // Only the last answer is waited for: without it the client does not know, and gives up.
            12 => {
                self.scene.say(client, "hears no answer and gives up");
                self.leave(client, grant);
            }
            _ => {}
        }
    }

    fn leave(&mut self, client: usize, grant: usize) {
        self.scene.grants[grant].left = true;
        self.scene.see(Seen::Leaves(client));
        self.lock.leave(&mut self.scene, client);
    }

    fn fault(&mut self, fault: &Fault) {
        let scene = &mut self.scene;
        let state = |scene: &mut Scene<L::Word>, lane: usize, state: State| {
            scene.lanes[lane].state = state;
            scene.see(Seen::State(lane, state));
        };
        match *fault {
            Fault::Pause(lane, _, until) => {
                state(scene, lane, State::Stopped);
                scene.plan(until, Event::Resume(lane));
            }
            Fault::Kill(lane, _) => {
                scene.lanes[lane].life += 1;
                state(scene, lane, State::Dead);
            }
            Fault::Restart(lane, _) => state(scene, lane, State::Runs),
            Fault::Clock(lane, _, by) => {
                scene.lanes[lane].ahead += by;
                scene.say(
                    lane,
                    format!("has a wall clock that jumps {} s ahead", by / 1000),
                );
            }
            Fault::Delay((from, to), _, by) => {
                let to = scene.lanes[to].name.clone();
                scene.say(from, format!("sends to {to}, which takes {by} ms longer"));
            }
            Fault::Cut((from, to), _) => {
                let to = scene.lanes[to].name.clone();
                scene.say(from, format!("is not heard by {to} from now on"));
            }
            Fault::Promote(lane, _) => scene.say(lane, "takes the place of the primary"),
        }
        self.lock.happened(&mut self.scene, fault);
    }

    /// What has waited for a stopped program happens now, in order.
    fn resume(&mut self, lane: usize) {
        if self.scene.lanes[lane].state != State::Stopped {
            return;
        }
        self.scene.lanes[lane].state = State::Runs;
        self.scene.see(Seen::State(lane, State::Runs));
        for event in self.scene.waiting.remove(&lane).unwrap_or_default() {
            self.happen(event);
        }
    }
}
