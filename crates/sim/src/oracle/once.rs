//! E1, E2 and I1 by what clients are told, whatever the log says: a request has one reply however often it is sent, and no number is given out
//! twice.

use super::{Check, broken};
use bytes::Bytes;
use replica::{Body, Response};
use state::auth::AuthRejection;
use state::id::{Add, IdCommand, IdOperation, IdReply};
use state::{Command, Operation, Rejection, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// What a command was told to have been given, to whom: a sequence, or a worker id of a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Issuer {
    Sequence(Bytes),
    Worker(Bytes, u32),
}

/// The oracle.
#[derive(Debug, Default)]
pub struct Once {
    /// Replies by client and sequence.
    told: BTreeMap<(u64, u64), Reply>,
    /// Sequences in which a client adds one to a counter of its own.
    added: BTreeMap<u64, BTreeSet<u64>>,
    /// Ranges of numbers or of milliseconds, by their beginnings, with their ends and who got them.
    given: BTreeMap<(Issuer, u64), (u64, u64)>,
    repeated: u64,
}

impl Once {
    /// Replies told once more.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// What a client was told to the same request before.
    pub fn told(&self, command: &Command) -> Option<&Reply> {
        self.told.get(&(command.client, command.sequence))
    }

    /// A client sends a request.
    pub fn on_request(&mut self, command: &Command) {
        if let Some(Operation::Id(IdCommand {
            operation: Some(IdOperation::Add(Add { .. })),
        })) = &command.operation
        {
            let sequences = self.added.entry(command.client).or_default();
            sequences.insert(command.sequence);
        }
    }

    /// A client is told the reply to a command.
    pub fn on_reply(&mut self, request: u64, command: &Command, response: &Response) -> Check {
        let Body::Reply(reply) = &response.body else {
            return Ok(());
        };
        // Refused as a repetition, or because users changed since it was let in, it says nothing of what was done.
        if let Reply::Rejected(Rejection::Client(_) | Rejection::Auth(AuthRejection::OldRevision)) =
            reply
        {
            return Ok(());
        }
        if command.client != 0 {
            let name = (command.client, command.sequence);
            match self.told.insert(name, reply.clone()) {
                Some(before) if before != *reply => {
                    broken!("E1", "{name:?} was told {before:?} before")
                }
                Some(_) => self.repeated += 1,
                None => {}
            }
            if let Reply::Id(IdReply::Counter { value }) = reply
                && self.added.get(&command.client).map_or(0, BTreeSet::len) < *value as usize
            {
                broken!(
                    "E1",
                    "its own counter stands at {value}, which is more than it asked for"
                );
            }
        }
        self.check_given(request, command, reply)
    }

    /// I1: nobody else was given any of it.
    fn check_given(&mut self, request: u64, command: &Command, reply: &Reply) -> Check {
        let Some(Operation::Id(IdCommand { operation })) = &command.operation else {
            return Ok(());
        };
        let (issuer, first, end) = match (operation, reply) {
            (Some(IdOperation::Segment(take)), Reply::Id(IdReply::Segment { first, count })) => {
                (Issuer::Sequence(take.name.clone()), *first, first + count)
            }
            (
                Some(IdOperation::Worker(take)),
                Reply::Id(IdReply::Worker {
                    worker,
                    from_ms,
                    until_ms,
                    ..
                }),
            ) => (
                Issuer::Worker(take.pool.clone(), *worker),
                *from_ms,
                *until_ms,
            ),
            _ => return Ok(()),
        };
        // Sent again under its name, a request gets what it got.
        let owner = match command.client {
            0 => request,
            client => (client << 32) + command.sequence,
        };
        let upto = (issuer.clone(), end - 1);
        if let Some(((other, from), (to, of))) = self.given.range(..=upto).next_back()
            && *other == issuer
            && *to > first
            && *of != owner
        {
            broken!(
                "I1",
                "{issuer:?} gives out {first} to {end}, and gave out {from} to {to} before"
            );
        }
        self.given.insert((issuer, first), (end, owner));
        Ok(())
    }
}
