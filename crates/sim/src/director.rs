//! Whoever directs a scenario: decides what becomes of each message, who may ask for votes, and hears the answers to the requests made on the
//! stage. Ways and disks take the same time always, so that what happens is what the script says. A world without a director leaves all of
//! that to its seed.

use crate::clients::Outcome;
use crate::clock::Micros;
use raft::Body;
use replica::Message;
use std::collections::{BTreeMap, BTreeSet};

/// The time of a write and its sync.
pub const SYNC: Micros = 300;

/// The time of a message on its way; a little different on each link, so that no two arrive at once.
pub fn way(from: usize, to: usize) -> Micros {
    2_000 + 400 * to as Micros + 50 * from as Micros
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The network carries it.
    Travels,
    /// It waits until it is released.
    Held,
    /// It is lost.
    Lost,
}

/// Judges a message by its sender, its receiver and what it says.
pub type Judge = Box<dyn Fn(usize, usize, &Message) -> Fate>;

/// A message that waits.
#[derive(Debug)]
pub struct Held {
    /// Who sent it.
    pub from: usize,
    /// Who is to receive it.
    pub to: usize,
    /// It.
    pub message: Message,
    /// When it was sent.
    pub sent_at: Micros,
}

/// The director.
#[derive(Default)]
pub struct Director {
    judge: Option<Judge>,
    held: Vec<Held>,
    /// Members that ask nobody for votes.
    still: BTreeSet<usize>,
    outcomes: BTreeMap<u64, Outcome>,
}

impl Director {
    /// Judges all messages from now on with this; `None`: all travel. Messages held stay held.
    pub fn judge_with(&mut self, judge: Option<Judge>) {
        self.judge = judge;
    }

    /// Decides when a message sent now arrives, if it does; `None`: it is not even said.
    pub fn direct(
        &mut self,
        now: Micros,
        from: usize,
        to: usize,
        message: &Message,
        cut: bool,
    ) -> Option<Option<Micros>> {
        if self.is_still(from) && asks_for_votes(message) {
            return None;
        }
        let judge = self.judge.as_ref();
        match judge.map_or(Fate::Travels, |judge| judge(from, to, message)) {
            Fate::Travels if !cut => Some(Some(now + way(from, to))),
            Fate::Travels | Fate::Lost => Some(None),
            Fate::Held => {
                let message = message.clone();
                self.held.push(Held {
                    from,
                    to,
                    message,
                    sent_at: now,
                });
                None
            }
        }
    }

    /// The held messages, in the order they were sent.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Takes the held messages.
    pub fn release(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }

    /// Keeps a member from asking for votes, or lets it.
    pub fn keep_still(&mut self, member: usize, still: bool) {
        if still {
            self.still.insert(member);
        } else {
            self.still.remove(&member);
        }
    }

    /// This member asks nobody for votes.
    pub fn is_still(&self, member: usize) -> bool {
        self.still.contains(&member)
    }

    /// A request made on the stage has ended.
    pub fn on_outcome(&mut self, request: u64, outcome: Outcome) {
        self.outcomes.insert(request, outcome);
    }

    /// How a request ended, if it did.
    pub fn outcome(&self, request: u64) -> Option<&Outcome> {
        self.outcomes.get(&request)
    }
}

fn asks_for_votes(message: &Message) -> bool {
    matches!(message, Message::Raft(message) if matches!(message.body, Body::PreVote { .. }))
}
