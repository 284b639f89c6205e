//! Handing out numbers and worker ids.

use crate::id::rows::{Count, Number, NumberName, Worker, WorkerName, row_bytes};
use crate::id::{
    AHEAD_MS_MAX, Add, BORROWED_MS_MAX, IdCommand, IdOperation, IdRejection, IdReply,
    NAME_BYTES_MAX, POOLS_PER_SESSION_MAX, ROWS_MAX, SEGMENT_MAX, TakeSegment, TakeWorker,
    WORKERS_MAX,
};
use crate::{Rejection, Reply, State};

fn within(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), Rejection> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(Rejection::Id(IdRejection::Limit {
            what: what.into(),
            value,
            min,
            max,
        }))
    }
}

fn check_name(name: &[u8]) -> Result<(), Rejection> {
    within(
        "bytes of the name",
        name.len() as u64,
        1,
        NAME_BYTES_MAX as u64,
    )
}

impl State {
    pub(crate) fn change_ids(&mut self, command: &IdCommand) -> Result<Reply, Rejection> {
        let reply = match &command.operation {
            Some(IdOperation::Segment(take)) => self.take_segment(take)?,
            Some(IdOperation::Add(add)) => self.add(add)?,
            Some(IdOperation::Worker(take)) => self.take_worker(take)?,
            None => return Err(Rejection::Invalid("the command says nothing to do".into())),
        };
        Ok(Reply::Id(reply))
    }

    fn check_row(&self, name: &[u8], exists: bool) -> Result<(), Rejection> {
        check_name(name)?;
        if exists {
            return Ok(());
        }
        within(
            "sequences, counters and worker ids",
            self.ids.len() as u64 + 1,
            0,
            ROWS_MAX as u64,
        )?;
        self.check_space(row_bytes(name.len()))
    }

    fn count(&mut self, count: Count, name: &[u8], by: i64) -> Result<i64, Rejection> {
        let name = NumberName {
            count: count as i32,
            name: name.to_vec(),
        };
        let known = self.ids.number(&name);
        self.check_row(&name.name, known.is_some())?;
        let value = known.unwrap_or(0).checked_add(by);
        let value = value.ok_or(Rejection::Id(IdRejection::Exhausted))?;
        self.ids.set_number(Number { name, value });
        Ok(value)
    }

    fn take_segment(&mut self, take: &TakeSegment) -> Result<IdReply, Rejection> {
        within("numbers of the segment", take.count, 1, SEGMENT_MAX)?;
        let last = self.count(Count::Sequence, &take.name, take.count as i64)?;
        Ok(IdReply::Segment {
            first: last as u64 - take.count + mutated!(SegmentsOverlap, 0, 1),
            count: take.count,
        })
    }

    fn add(&mut self, add: &Add) -> Result<IdReply, Rejection> {
        let value = self.count(Count::Counter, &add.name, add.delta)?;
        Ok(IdReply::Counter { value })
    }

    /// Time goes on from where it was given to the id before, or from the wall clock of the log, whichever is later. So no two holders of one
    /// id ever have a millisecond in common, whatever clocks and sessions do (PROPERTIES I1).
    fn take_worker(&mut self, take: &TakeWorker) -> Result<IdReply, Rejection> {
        let TakeWorker {
            session,
            workers,
            ahead_ms,
            ref pool,
        } = *take;
        within(
            "worker ids of the pool",
            u64::from(workers),
            1,
            u64::from(WORKERS_MAX),
        )?;
        within("ms ahead", ahead_ms, 1, AHEAD_MS_MAX)?;
        if !self.leases.is_alive(session, self.clock.clock_ms) {
            return Err(Rejection::Id(IdRejection::SessionNotFound));
        }
        let had = self.ids.of_session(session, pool);
        let wall_ms = self.clock.wall_ms;
        let worker = had.or_else(|| self.ids.free_worker(pool, workers, wall_ms));
        let worker = worker.ok_or(Rejection::Id(IdRejection::NoWorker))?;
        if had.is_none() {
            let pools = self.ids.all_of_session(session).len() as u64 + 1;
            within(
                "pools of the session",
                pools,
                0,
                POOLS_PER_SESSION_MAX as u64,
            )?;
        }
        let name = WorkerName {
            pool: pool.to_vec(),
            worker,
        };
        let known = self.ids.worker(&name).map(|worker| worker.until_ms);
        self.check_row(pool, known.is_some())?;
        let from_ms = mutated!(WorkerTimeTwice, 0, known.unwrap_or(0)).max(wall_ms);
        let until_ms = from_ms.saturating_add(ahead_ms);
        within(
            "ms borrowed from the future",
            until_ms - wall_ms,
            0,
            BORROWED_MS_MAX,
        )?;
        self.ids.set_worker(Worker {
            name,
            session,
            until_ms,
        });
        Ok(IdReply::Worker {
            worker,
            now_ms: wall_ms,
            from_ms,
            until_ms,
        })
    }

    /// Frees the worker ids of a session that ends.
    pub(crate) fn free_workers(&mut self, session: i64) {
        for name in self.ids.all_of_session(session) {
            let worker = self
                .ids
                .worker(&name)
                .expect("it is of the session")
                .clone();
            self.ids.set_worker(Worker {
                session: 0,
                ..worker
            });
        }
    }

    /// Takes a row of a snapshot.
    ///
    /// # Errors
    /// It makes no sense, as the text says.
    pub(crate) fn restore_number(&mut self, number: Number) -> Result<(), String> {
        let count = number.name.count;
        if self.ids.number(&number.name).is_some() || Count::try_from(count).is_err() {
            return Err(format!(
                "{:?} is there twice, or counts nothing",
                number.name
            ));
        }
        self.ids.set_number(number);
        Ok(())
    }

    /// The same for a worker id. They come in order, and every pool has them from 0 on.
    ///
    /// # Errors
    /// It makes no sense, as the text says.
    pub(crate) fn restore_worker(&mut self, worker: Worker) -> Result<(), String> {
        let WorkerName { pool, worker: id } = &worker.name;
        let before = id.checked_sub(1).map(|before| WorkerName {
            pool: pool.clone(),
            worker: before,
        });
        let follows = before.is_none_or(|before| self.ids.worker(&before).is_some());
        if !follows || self.ids.worker(&worker.name).is_some() {
            return Err(format!("{:?} is out of order", worker.name));
        }
        let session = worker.session;
        if session != 0
            && (self.leases.get(session).is_none() || self.ids.of_session(session, pool).is_some())
        {
            return Err(format!("{:?} is of no session", worker.name));
        }
        self.ids.set_worker(worker);
        Ok(())
    }
}
