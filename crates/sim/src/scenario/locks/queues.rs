//! Locks that are a queue of nodes in a service that never forgets: ZooKeeper's recipe and etcd's. A client's node is its place; it goes with its
//! session, if it is ephemeral; whoever has the first place has the lock.

use super::scene::{Fault, Lock, Millis, Scene, TTL};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How often a client tells the service that it lives, and the service looks who does not.
const PING: Millis = 3_000;
const LOOK: Millis = 500;

/// Why something is woken.
const PINGS: u64 = 1;
const LOOKS: u64 = 2;

/// A recipe.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Nodes go with their sessions.
    pub ephemeral: bool,
    /// A client watches all nodes, not only the one before its own.
    pub herd: bool,
    /// What a node is called.
    pub node: &'static str,
}

/// ZooKeeper's recipe.
pub const ZOOKEEPER: Recipe = Recipe {
    ephemeral: true,
    herd: false,
    node: "node",
};

/// etcd's.
pub const ETCD: Recipe = Recipe {
    node: "key",
    ..ZOOKEEPER
};

/// What is said.
#[derive(Clone, Debug)]
pub enum Word {
    Create(&'static str),
    /// Own place, and the nodes before it.
    Place(u64, Vec<u64>),
    Watch(u64),
    Look,
    Gone(u64),
    Delete(u64),
    Ping,
    Pong,
    Expired,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Create(node) => write!(f, "create a {node} in the queue"),
            Word::Place(own, before) if before.is_empty() => write!(f, "yours is {own}, the first"),
            Word::Place(own, before) => write!(f, "yours is {own}, {} before it", before.len()),
            Word::Watch(node) => write!(f, "tell me when {node} goes"),
            Word::Look => f.write_str("who is first now?"),
            Word::Gone(node) => write!(f, "{node} is gone"),
            Word::Delete(node) => write!(f, "delete {node}"),
            Word::Ping => f.write_str("I live"),
            Word::Pong => f.write_str("noted"),
            Word::Expired => f.write_str("your session has ended"),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Client {
    own: Option<u64>,
    holds: bool,
    /// When it last heard that its session lives.
    heard: Millis,
    pings: bool,
}

/// The service and the clients.
pub struct Queues {
    recipe: Recipe,
    nodes: BTreeMap<u64, usize>,
    watches: BTreeSet<(u64, usize)>,
    /// When each session was heard of; on a clock that does not jump.
    sessions: BTreeMap<usize, Millis>,
    next: u64,
    looks: bool,
    clients: Vec<Client>,
}

impl Queues {
    /// An empty queue.
    pub fn new(recipe: Recipe, clients: usize) -> Queues {
        Queues {
            recipe,
            nodes: BTreeMap::new(),
            watches: BTreeSet::new(),
            sessions: BTreeMap::new(),
            next: 1,
            looks: false,
            clients: vec![Client::default(); clients],
        }
    }

    fn delete(&mut self, scene: &mut Scene<Word>, at: usize, node: u64) {
        if self.nodes.remove(&node).is_none() {
            return;
        }
        let told: Vec<usize> = self
            .watches
            .iter()
            .filter(|(of, _)| *of == node)
            .map(|(_, to)| *to)
            .collect();
        self.watches.retain(|(of, _)| *of != node);
        scene.woken(told.len());
        for client in told {
            scene.send(at, client, Word::Gone(node));
        }
    }

    fn place(&mut self, scene: &mut Scene<Word>, at: usize, client: usize) {
        let mut own = self.nodes.iter().filter(|(_, of)| **of == client);
        if let Some(own) = own.next().map(|(node, _)| *node) {
            let before = self.nodes.range(..own).map(|(node, _)| *node).collect();
            scene.send(at, client, Word::Place(own, before));
        }
    }

    fn on_place(
        &mut self,
        scene: &mut Scene<Word>,
        me: usize,
        server: usize,
        own: u64,
        before: &[u64],
    ) {
        self.clients[me].own = Some(own);
        match before.last() {
            None if !self.clients[me].holds => {
                self.clients[me].holds = true;
                scene.granted(me);
            }
            None => {}
            Some(_) if self.recipe.herd => {
                scene.send(me, server, Word::Watch(before[0]));
            }
            Some(last) => scene.send(me, server, Word::Watch(*last)),
        }
    }

    /// Ends the sessions of which nothing was heard.
    fn look(&mut self, scene: &mut Scene<Word>, at: usize) {
        let silent = self
            .sessions
            .iter()
            .filter(|(_, heard)| scene.now - **heard >= TTL);
        let silent: Vec<usize> = silent.map(|(client, _)| *client).collect();
        for client in silent {
            self.sessions.remove(&client);
            let name = scene.name(client).to_owned();
            scene.say(at, format!("ends the session of {name}"));
            scene.send_quietly(at, client, Word::Expired);
            if !self.recipe.ephemeral {
                continue;
            }
            let of_client = self.nodes.iter().filter(|(_, of)| **of == client);
            let nodes: Vec<u64> = of_client.map(|(node, _)| *node).collect();
            for node in nodes {
                self.delete(scene, at, node);
            }
        }
        scene.wake(at, LOOK, LOOKS);
    }
}

impl Lock for Queues {
    type Word = Word;

    fn ask(&mut self, scene: &mut Scene<Word>, me: usize) {
        let server = scene.first_server();
        scene.tries();
        self.clients[me].heard = scene.now;
        if !std::mem::replace(&mut self.clients[me].pings, true) {
            scene.wake(me, PING, PINGS);
        }
        scene.send(me, server, Word::Create(self.recipe.node));
    }

    fn hear(&mut self, scene: &mut Scene<Word>, at: usize, from: usize, word: Word) {
        match word {
            Word::Create(_) => {
                self.sessions.insert(from, scene.now);
                if !std::mem::replace(&mut self.looks, true) {
                    scene.wake(at, LOOK, LOOKS);
                }
                self.nodes.insert(self.next, from);
                self.next += 1;
                self.place(scene, at, from);
            }
            Word::Place(own, before) => self.on_place(scene, at, from, own, &before),
            Word::Watch(node) if self.nodes.contains_key(&node) => {
                self.watches.insert((node, from));
            }
            // It has gone in the meantime.
            Word::Watch(_) | Word::Look => self.place(scene, at, from),
            Word::Gone(_) => scene.send(at, from, Word::Look),
            Word::Delete(node) => self.delete(scene, at, node),
            Word::Ping => match self.sessions.get_mut(&from) {
                Some(heard) => {
                    *heard = scene.now;
                    scene.send_quietly(at, from, Word::Pong);
                }
                None => scene.send_quietly(at, from, Word::Expired),
            },
            Word::Pong => self.clients[at].heard = scene.now,
            Word::Expired => {
                if std::mem::take(&mut self.clients[at].holds) {
                    scene.say(at, "hears that its session has ended");
                    scene.lost(at);
                }
            }
        }
    }

    fn wake(&mut self, scene: &mut Scene<Word>, at: usize, why: u64) {
        if why == LOOKS {
            return self.look(scene, at);
        }
        let client = &mut self.clients[at];
        // By its own clock its session may be over.
        if scene.now - client.heard >= TTL && std::mem::take(&mut client.holds) {
            scene.say(at, "has heard nothing for so long that it stops");
            scene.lost(at);
        }
        scene.send_quietly(at, scene.first_server(), Word::Ping);
        scene.wake(at, PING, PINGS);
    }

    fn leave(&mut self, scene: &mut Scene<Word>, me: usize) {
        self.clients[me].holds = false;
        if let Some(own) = self.clients[me].own.take() {
            scene.send(me, scene.first_server(), Word::Delete(own));
        }
    }

    fn happened(&mut self, scene: &mut Scene<Word>, fault: &Fault) {
        // What it has is on a majority of disks. Sessions get their whole time anew.
        if let Fault::Restart(lane, _) = fault {
            let now = scene.now;
            self.sessions.values_mut().for_each(|heard| *heard = now);
            scene.say(*lane, "has a new leader, which knows all that was decided");
            scene.wake(*lane, LOOK, LOOKS);
        }
    }
}
