//! Locks that are a record in a store: a key of Redis, alone, with a replica, or on several servers (Redlock); a row of a database. A client makes
//! the record if there is none, or if its time is over, and removes it when done.

use super::scene::{Fault, Lock, Millis, RETRY, Scene, TTL};
use std::collections::BTreeSet;
use std::fmt;

/// How a client gives the lock back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It removes the record, whosever it is.
    Plain,
    /// It looks whether the record is its own, and then removes it.
    LookFirst,
    /// The store removes it if it is the client's own, in one step.
    IfOwn,
}

/// A recipe.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Records end by themselves.
    pub expires: bool,
    /// By the client's clock, which it sends along, not by the store's.
    pub client_clock: bool,
    /// See [`Release`].
    pub release: Release,
    /// Servers that are asked, of which most must agree.
    pub servers: usize,
    /// There is a replica, to which the primary sends what changed.
    pub replica: bool,
    /// What commands look like.
    pub words: Words,
}

/// What the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    Redis,
    Database,
}

/// Redis, and what is made of it.
pub const REDIS: Recipe = Recipe {
    expires: true,
    client_clock: false,
    release: Release::IfOwn,
    servers: 1,
    replica: true,
    words: Words::Redis,
};

/// An attempt to get the lock: the client, and a number nobody used before.
type Owner = (usize, u64);

/// What is said.
#[derive(Clone, Debug)]
pub enum Word {
    Take {
        owner: Owner,
        now: Option<Millis>,
        ttl: Option<Millis>,
        words: Words,
    },
    Taken(Owner, bool),
    Look(Owner),
    Is(Owner, bool),
    Remove(Option<Owner>, Words),
    Replicate(Option<Record>),
}

/// The record: whose, and until when by the wall clock.
type Record = (Owner, Option<Millis>);

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Take {
                owner: (_, n),
                ttl: None,
                ..
            } => write!(f, "SET lock {n} NX"),
            Word::Take {
                owner: (_, n),
                words: Words::Redis,
                ..
            } => {
                write!(f, "SET lock {n} NX PX {TTL}")
            }
            Word::Take {
                owner: (_, n),
                now: None,
                ..
            } => {
                write!(
                    f,
                    "UPDATE lock SET owner={n}, until=now()+10s WHERE until<now()"
                )
            }
            Word::Take {
                owner: (_, n),
                now: Some(now),
                ..
            } => {
                let seconds = now / 1000;
                write!(
                    f,
                    "UPDATE lock SET owner={n}, until={}s WHERE until<{seconds}s",
                    seconds + 10
                )
            }
            Word::Taken(_, true) => f.write_str("yes"),
            Word::Taken(_, false) => f.write_str("no"),
            Word::Look(_) => f.write_str("GET lock"),
            Word::Is((_, n), true) => write!(f, "it is {n}"),
            Word::Is(_, false) => f.write_str("it is another's"),
            Word::Remove(None, _) => f.write_str("DEL lock"),
            Word::Remove(Some((_, n)), Words::Redis) => write!(f, "if lock is {n}: DEL lock"),
            Word::Remove(Some((_, n)), Words::Database) => {
                write!(f, "UPDATE lock SET until=0 WHERE owner={n}")
            }
            Word::Replicate(Some(((_, n), _))) => write!(f, "replicate: lock is {n}"),
            Word::Replicate(None) => f.write_str("replicate: there is no lock"),
        }
    }
}

/// A client between asking and leaving.
#[derive(Clone, Debug, Default)]
struct Client {
    attempt: u64,
    asked: Millis,
    asking: bool,
    yes: BTreeSet<usize>,
    no: BTreeSet<usize>,
}

/// The stores and the clients.
pub struct Stores {
    recipe: Recipe,
    records: Vec<Option<Record>>,
    /// The server that clients of a single store talk to.
    primary: usize,
    clients: Vec<Client>,
    attempts: u64,
}

impl Stores {
    /// All empty; this many clients.
    pub fn new(recipe: Recipe, clients: usize) -> Stores {
        Stores {
            recipe,
            records: vec![None; recipe.servers + usize::from(recipe.replica)],
            primary: 0,
            clients: vec![Client::default(); clients],
            attempts: 0,
        }
    }

    /// The lanes a client talks to.
    fn servers(&self, scene: &Scene<Word>) -> Vec<usize> {
        let first = scene.first_server();
        if self.recipe.servers == 1 {
            vec![first + self.primary]
        } else {
            (first..first + self.recipe.servers).collect()
        }
    }

    fn owner(&self, client: usize) -> Owner {
        (client, self.clients[client].attempt)
    }

    fn take(&mut self, scene: &mut Scene<Word>, at: usize, word: &Word) -> bool {
        let Word::Take {
            owner, now, ttl, ..
        } = word
        else {
            unreachable!("only asked to take")
        };
        let now = now.unwrap_or(scene.wall(at));
        let place = at - scene.first_server();
        let free = self.records[place].is_none_or(|(_, until)| until.is_some_and(|it| it <= now));
        if free {
            self.records[place] = Some((*owner, ttl.map(|ttl| now + ttl)));
            self.replicate(scene, at);
        }
        free
    }

    fn remove(
        &mut self,
        scene: &mut Scene<Word>,
        (at, from): (usize, usize),
        owner: Option<Owner>,
    ) {
        let place = at - scene.first_server();
        let held = self.records[place];
        if held.is_some_and(|(of, _)| owner.is_none_or(|owner| owner == of)) {
            if let Some(((client, _), _)) = held.filter(|((client, _), _)| *client != from) {
                let text = format!(
                    "removes the lock of {} for {}",
                    scene.name(client),
                    scene.name(from)
                );
                scene.say(at, text);
            }
            self.records[place] = None;
            self.replicate(scene, at);
        }
    }

    fn replicate(&self, scene: &mut Scene<Word>, at: usize) {
        let place = at - scene.first_server();
        if self.recipe.replica && place == 0 {
            scene.send_quietly(at, at + 1, Word::Replicate(self.records[place]));
        }
    }

    /// A server has answered whether it gave the lock.
    fn count(&mut self, scene: &mut Scene<Word>, me: usize, from: usize, yes: bool) {
        let most = self.recipe.servers / 2 + 1;
        let client = &mut self.clients[me];
        if !client.asking {
            return;
        }
        if yes {
            client.yes.insert(from);
        } else {
            client.no.insert(from);
        }
        let passed = scene.now - client.asked;
        if client.yes.len() >= most {
            client.asking = false;
            // Redlock: what is left of the time, by the client's own clock, must be more than nothing.
            if self.recipe.servers == 1 || passed < TTL {
                return scene.granted(me);
            }
            scene.say(me, "has a majority too late to use it");
            self.give_back(scene, me);
        } else if client.no.len() > self.recipe.servers - most {
            client.asking = false;
            self.give_back(scene, me);
        }
    }

    /// Did not get the lock: undoes what it got of it, and tries again.
    fn give_back(&mut self, scene: &mut Scene<Word>, me: usize) {
        let owner = self.owner(me);
        for server in std::mem::take(&mut self.clients[me].yes) {
            scene.send(me, server, Word::Remove(Some(owner), self.recipe.words));
        }
        // Not all at the same time: the wait is different for each.
        scene.wake(me, RETRY + 37 * me as Millis, 0);
    }
}

impl Lock for Stores {
    type Word = Word;

    fn ask(&mut self, scene: &mut Scene<Word>, me: usize) {
        self.attempts += 1;
        let (recipe, asked) = (self.recipe, scene.now);
        self.clients[me] = Client {
            attempt: self.attempts,
            asked,
            asking: true,
            ..Client::default()
        };
        scene.tries();
        let word = Word::Take {
            owner: self.owner(me),
            now: recipe.client_clock.then(|| scene.wall(me)),
            ttl: recipe.expires.then_some(TTL),
            words: recipe.words,
        };
        for server in self.servers(scene) {
            scene.send(me, server, word.clone());
        }
        scene.wake(me, 1_000, self.attempts);
    }

    fn hear(&mut self, scene: &mut Scene<Word>, at: usize, from: usize, word: Word) {
        match word {
            Word::Take { owner, .. } => {
                let yes = self.take(scene, at, &word);
                scene.send(at, from, Word::Taken(owner, yes));
            }
            Word::Taken(owner, yes) if owner == self.owner(at) => {
                self.count(scene, at, from, yes);
            }
            // The answer to an attempt that was given up: it is undone where it succeeded.
            Word::Taken(owner, yes) => {
                if yes {
                    scene.send(at, from, Word::Remove(Some(owner), self.recipe.words));
                }
            }
            Word::Look(owner) => {
                let record = self.records[at - scene.first_server()];
                let own = record.is_some_and(|(of, _)| of == owner);
                scene.send(at, from, Word::Is(owner, own));
            }
            Word::Is(_, own) => {
                if own {
                    scene.send(at, from, Word::Remove(None, self.recipe.words));
                }
            }
            Word::Remove(owner, _) => self.remove(scene, (at, from), owner),
            Word::Replicate(record) => self.records[at - scene.first_server()] = record,
        }
    }

    fn wake(&mut self, scene: &mut Scene<Word>, me: usize, why: u64) {
        let client = &mut self.clients[me];
        if why == 0 {
            return self.ask(scene, me);
        }
        // No answers in time.
        if client.asking && client.attempt == why {
            client.asking = false;
            self.give_back(scene, me);
        }
    }

    fn leave(&mut self, scene: &mut Scene<Word>, me: usize) {
        let owner = self.owner(me);
        for server in self.servers(scene) {
            let word = match self.recipe.release {
                Release::Plain => Word::Remove(None, self.recipe.words),
                Release::LookFirst => Word::Look(owner),
                Release::IfOwn => Word::Remove(Some(owner), self.recipe.words),
            };
            scene.send(me, server, word);
        }
    }

    fn happened(&mut self, scene: &mut Scene<Word>, fault: &Fault) {
        match fault {
            // It kept the lock in memory.
            Fault::Restart(lane, _) => {
                self.records[lane - scene.first_server()] = None;
                scene.say(*lane, "starts again, and knows of no lock");
            }
            Fault::Promote(lane, _) => self.primary = lane - scene.first_server(),
            _ => {}
        }
    }
}
