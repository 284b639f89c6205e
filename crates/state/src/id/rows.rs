//! What identifiers are made from, as it stands in a snapshot, and what follows from it.

use crate::hash;
use crate::id::AHEAD_MS_MAX;
use crate::table::{Row, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Count {
    /// The last number of a sequence that was handed out.
    Sequence = 0,
    /// A counter's value.
    Counter = 1,
}

/// Names a number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub(crate) struct NumberName {
    #[prost(enumeration = "Count", tag = "1")]
    pub count: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
}

/// A number.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Number {
    #[prost(message, required, tag = "1")]
    pub name: NumberName,
    #[prost(sint64, tag = "2")]
    pub value: i64,
}

/// Names a worker id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub(crate) struct WorkerName {
    #[prost(bytes = "vec", tag = "1")]
    pub pool: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub worker: u32,
}

/// A worker id that was ever handed out. It is never forgotten: its time must not be handed out again.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Worker {
    #[prost(message, required, tag = "1")]
    pub name: WorkerName,
    /// Who has it; 0 if it is free.
    #[prost(int64, tag = "2")]
    pub session: i64,
    /// First millisecond that nobody was given.
    #[prost(uint64, tag = "3")]
    pub until_ms: u64,
}

impl Row for Number {
    type Key = NumberName;

    fn key(&self) -> &NumberName {
        &self.name
    }

    fn hash(&self) -> u64 {
        hash::message(self)
    }
}

impl Row for Worker {
    type Key = WorkerName;

    fn key(&self) -> &WorkerName {
        &self.name
    }

    fn hash(&self) -> u64 {
        hash::message(self)
    }
}

/// Bytes counted for a row besides its name.
const ROW_BYTES: u64 = 128;

pub(crate) fn row_bytes(name: usize) -> u64 {
    ROW_BYTES + name as u64
}

/// Worker ids of a pool are handed out from 0 on.
#[derive(Default)]
struct Pool {
    workers: u32,
    /// With the end of the time that was given to them.
    free: BTreeSet<(u64, u32)>,
}

/// Everything that identifiers are made from.
#[derive(Default)]
pub(crate) struct Ids {
    numbers: Table<Number>,
    workers: Table<Worker>,
    // What follows from them.
    pools: BTreeMap<Vec<u8>, Pool>,
    by_session: BTreeMap<(i64, Vec<u8>), u32>,
    bytes: u64,
}

impl Ids {
    /// Pins the rows.
    pub fn pin(&self) -> (Table<Number>, Table<Worker>) {
        (self.numbers.clone(), self.workers.clone())
    }

    /// Of all rows; `None` while there are none.
    pub fn hash(&self) -> Option<u64> {
        let rows = [self.numbers.len() as u64, self.workers.len() as u64];
        (rows != [0, 0])
            .then(|| hash::mix_all(&[self.numbers.sum(), rows[0], self.workers.sum(), rows[1]]))
    }

    /// Counted against the limit of the state.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rows of all kinds.
    pub fn len(&self) -> usize {
        self.numbers.len() + self.workers.len()
    }

    pub fn number(&self, name: &NumberName) -> Option<i64> {
        self.numbers.get(name).map(|number| number.value)
    }

    pub fn set_number(&mut self, number: Number) {
        let bytes = row_bytes(number.name.name.len());
        if self.numbers.set(number).is_none() {
            self.bytes += bytes;
        }
    }

    pub fn worker(&self, name: &WorkerName) -> Option<&Worker> {
        self.workers.get(name)
    }

    /// The worker id that a session has in a pool.
    pub fn of_session(&self, session: i64, pool: &[u8]) -> Option<u32> {
        self.by_session.get(&(session, pool.to_vec())).copied()
    }

    /// Worker ids of a session, one per pool.
    pub fn all_of_session(&self, session: i64) -> Vec<WorkerName> {
        let from = (Bound::Included((session, Vec::new())), Bound::Unbounded);
        let all = self.by_session.range(from);
        all.take_while(|((other, _), _)| *other == session)
            .map(|((_, pool), &worker)| WorkerName {
                pool: pool.clone(),
                worker,
            })
            .collect()
    }

    /// The worker id for a session that has none, of so many: the one whose time ended first, or a fresh one, if that time is not over yet and whoever
    /// gets it would have to wait.
    pub fn free_worker(&self, pool: &[u8], workers: u32, wall_ms: u64) -> Option<u32> {
        let Some(pool) = self.pools.get(pool) else {
            return Some(0);
        };
        let mut free = pool.free.iter().filter(|(_, worker)| *worker < workers);
        let fresh = Some(pool.workers).filter(|fresh| *fresh < workers);
        match (free.next(), fresh) {
            (Some(&(until_ms, _)), Some(fresh)) if until_ms > wall_ms => Some(fresh),
            (Some(&(_, worker)), _) => Some(worker),
            (None, fresh) => fresh,
        }
    }

    /// Passes over what a cluster may have handed out after the moment that another one goes on from: numbers of sequences, and times of worker ids.
    /// Counters are values, not ids, and stay.
    pub fn skip(&mut self, numbers: u64) {
        let (rows, workers) = self.pin();
        for number in rows.range(Bound::Unbounded) {
            if number.name.count == Count::Sequence as i32 {
                self.set_number(Number {
                    value: number.value.saturating_add_unsigned(numbers),
                    ..number.clone()
                });
            }
        }
        for worker in workers.range(Bound::Unbounded) {
            self.set_worker(Worker {
                until_ms: worker.until_ms.saturating_add(AHEAD_MS_MAX),
                ..worker.clone()
            });
        }
    }

    /// Adds a worker id, or changes who has it and for how long.
    pub fn set_worker(&mut self, worker: Worker) {
        let WorkerName {
            pool: name,
            worker: id,
        } = worker.name.clone();
        let pool = self.pools.entry(name.clone()).or_default();
        let (session, until_ms) = (worker.session, worker.until_ms);
        match self.workers.set(worker) {
            None => {
                pool.workers += 1;
                self.bytes += row_bytes(name.len());
            }
            Some(old) if old.session == 0 => {
                pool.free.remove(&(old.until_ms, id));
            }
            Some(old) => {
                self.by_session.remove(&(old.session, name.clone()));
            }
        }
        if session == 0 {
            pool.free.insert((until_ms, id));
        } else {
            self.by_session.insert((session, name), id);
        }
    }
}
