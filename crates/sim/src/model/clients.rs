//! Client records as the decided log says they are (E1-E3).

use bytes::Bytes;
use state::client::{ClientRejection, WINDOW};
use state::{Command, Reply};
use std::collections::BTreeMap;

/// A record.
#[derive(Debug)]
struct Record {
    lease: i64,
    /// The user that registered it.
    principal: String,
    acknowledged_below: u64,
    answered: BTreeMap<u64, (Reply, i64)>,
}

/// All records.
#[derive(Debug, Default)]
pub struct Clients {
    records: BTreeMap<u64, Record>,
}

/// What becomes of a command of a client.
pub enum Admission {
    /// It runs.
    Runs,
    /// It ran before: its reply, and the revision then.
    Ran(Reply, i64),
    /// It does not.
    Refused(ClientRejection),
}

impl Clients {
    /// The record that ends with a lease, and whose it is.
    pub fn of_lease(&self, lease: i64) -> Option<(u64, &str)> {
        let mut records = self.records.iter();
        records
            .find(|(_, record)| record.lease == lease)
            .map(|(id, record)| (*id, &record.principal[..]))
    }

    /// Makes a record.
    pub fn register(&mut self, id: u64, lease: i64, principal: &str) {
        let record = Record {
            lease,
            principal: principal.into(),
            acknowledged_below: 1,
            answered: BTreeMap::new(),
        };
        let old = self.records.insert(id, record);
        assert!(old.is_none(), "client {id} is there twice");
    }

    /// A lease has ended, and its record with it.
    pub fn end(&mut self, lease: i64) {
        self.records.retain(|_, record| record.lease != lease);
    }

    /// Whether a request is new; frees the replies that its client has. `alive` says whether a lease's time is not over.
    pub fn admit(&mut self, command: &Command, alive: impl Fn(i64) -> bool) -> Admission {
        let &Command {
            client,
            sequence,
            acknowledged_below,
            ref principal,
            ..
        } = command;
        let record = self.records.get_mut(&client);
        let own = |record: &&mut Record| alive(record.lease) && record.principal == *principal;
        let Some(record) = record.filter(own) else {
            return Admission::Refused(ClientRejection::Unknown);
        };
        if sequence == 0 || acknowledged_below > sequence {
            return Admission::Refused(ClientRejection::Sequence);
        }
        let acknowledged_below = record.acknowledged_below.max(acknowledged_below);
        if sequence < acknowledged_below {
            return Admission::Refused(ClientRejection::Freed { acknowledged_below });
        }
        if sequence >= acknowledged_below + WINDOW {
            let end = acknowledged_below + WINDOW;
            return Admission::Refused(ClientRejection::Window { end });
        }
        record.acknowledged_below = acknowledged_below;
        record.answered = record.answered.split_off(&acknowledged_below);
        match record.answered.get(&sequence) {
            Some((reply, revision)) => Admission::Ran(reply.clone(), *revision),
            None => Admission::Runs,
        }
    }

    /// Keeps a reply, unless the request ended its own record.
    pub fn keep(&mut self, client: u64, sequence: u64, reply: &Reply, revision: i64) {
        if let Some(record) = self.records.get_mut(&client) {
            record.answered.insert(sequence, (reply.clone(), revision));
        }
    }
}

/// What identifiers are made from, as the decided log says (I1).
#[derive(Debug, Default)]
pub struct Ids {
    /// The last number handed out of each sequence.
    sequences: BTreeMap<Bytes, u64>,
    counters: BTreeMap<Bytes, i64>,
    /// By pool and worker id: the session that has it (0: none), and the first millisecond nobody was given.
    workers: BTreeMap<(Bytes, u32), (i64, u64)>,
}

impl Ids {
    /// Hands out numbers; gives the first.
    pub fn take(&mut self, sequence: &Bytes, count: u64) -> u64 {
        let last = self.sequences.entry(sequence.clone()).or_default();
        *last += count;
        *last - count + 1
    }

    /// Adds to a counter; gives its value.
    pub fn add(&mut self, counter: &Bytes, delta: i64) -> i64 {
        let value = self.counters.entry(counter.clone()).or_default();
        *value += delta;
        *value
    }

    /// The worker id of a session, and its next window; nothing if all are taken.
    pub fn worker(
        &mut self,
        pool: &Bytes,
        session: i64,
        workers: u32,
        (wall_ms, ahead_ms): (u64, u64),
    ) -> Option<(u32, u64, u64)> {
        let all = self.workers.iter().filter(|((of, _), _)| of == pool);
        let fresh = all.clone().count() as u32;
        let had = all.clone().find(|(_, (owner, _))| *owner == session);
        let free = all.filter(|((_, worker), (owner, _))| *owner == 0 && *worker < workers);
        let free = free
            .map(|((_, worker), (_, until))| (*until, *worker))
            .min();
        let worker = match (had, free) {
            (Some(((_, worker), _)), _) => *worker,
            // Whoever got it now would have to wait.
            (None, Some((until, _))) if until > wall_ms && fresh < workers => fresh,
            (None, Some((_, worker))) => worker,
            (None, None) if fresh < workers => fresh,
            (None, None) => return None,
        };
        let place = (pool.clone(), worker);
        let known = self.workers.get(&place).map_or(0, |(_, until)| *until);
        let from_ms = known.max(wall_ms);
        let until_ms = from_ms + ahead_ms;
        self.workers.insert(place, (session, until_ms));
        Some((worker, from_ms, until_ms))
    }

    /// A session has ended: its worker ids are free.
    pub fn end(&mut self, session: i64) {
        let owners = self.workers.values_mut().map(|(owner, _)| owner);
        owners
            .filter(|owner| **owner == session)
            .for_each(|owner| *owner = 0);
    }
}
