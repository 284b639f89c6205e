//! Fencing of what is not Synod: tables, objects and files take writes of a holder that was stopped (SIGSTOP) until its session was over, as
//! docs/operate/fencing.md shows them. What the page's table says is what must happen.

mod gate;
mod holder;
mod page;
mod race;
mod script;
mod servers;
mod sql;

use crate::connection::Connection;
use crate::process::{Cluster, Product, Program};
use crate::report::Report;
use crate::{Outcome, http};
use client::{Client, Guard, Mutex, Session};
use gate::Gate;
pub use holder::hold;
use holder::{Holder, Told};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be done.
pub struct Plan {
    /// The binary under test.
    pub program: PathBuf,
    /// Where members and resources live.
    pub directory: PathBuf,
    /// How often the holder is stopped for each thing that may happen meanwhile.
    pub rounds: usize,
    /// Fail when a resource is not installed.
    pub require: bool,
}

/// A lock and the token of a grant.
#[derive(Clone, Debug)]
pub struct Mark {
    lock: String,
    token: u64,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Written {
    /// It is there.
    Applied,
    /// Its token is stale.
    Stale,
}

/// What takes writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resource(Target);

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Target {
    Table(sql::Table),
    Store(script::Store),
}

impl Resource {
    fn name(&self) -> String {
        match &self.0 {
            Target::Table(table) => {
                let name = table.database.name();
                format!(
                    "{name}, {}",
                    match table.pattern {
                        sql::Pattern::Row => "mark in the row",
                        sql::Pattern::Table => "table of marks",
                    }
                )
            }
            Target::Store(store) => store.name().to_owned(),
        }
    }

    async fn make(&self, key: u64) -> Outcome<()> {
        match &self.0 {
            Target::Table(table) => table.make(key).await,
            Target::Store(_) => Ok(()),
        }
    }

    async fn write(&self, mark: &Mark, key: u64, value: &str) -> Outcome<Written> {
        match &self.0 {
            Target::Table(table) => table.write(mark, key, value).await,
            Target::Store(store) => store.write(mark, key, value).await,
        }
    }

    async fn raise(&self, mark: &Mark, key: u64) -> Outcome<Written> {
        match &self.0 {
            Target::Table(table) => table.raise(mark, key).await,
            Target::Store(store) => store.raise(mark, key).await,
        }
    }

    async fn read(&self, lock: &str, key: u64) -> Outcome<(u64, String)> {
        match &self.0 {
            Target::Table(table) => table.read(lock, key).await,
            Target::Store(store) => store.read(key).await,
        }
    }

    async fn write_unfenced(&self, key: u64, value: &str) -> Outcome<()> {
        match &self.0 {
            Target::Table(table) => table.write_unfenced(key, value).await,
            Target::Store(store) => store.write_unfenced(key, value).await,
        }
    }
}

/// What somebody else does while the holder is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    /// Takes the lock and writes.
    Wrote,
    /// Takes the lock and raises the mark.
    Raised,
    /// Takes the lock.
    Took,
    /// Nothing; the lock is free.
    Nothing,
}

impl Meanwhile {
    const ALL: [Meanwhile; 4] = [
        Meanwhile::Wrote,
        Meanwhile::Raised,
        Meanwhile::Took,
        Meanwhile::Nothing,
    ];

    fn text(self) -> &'static str {
        match self {
            Meanwhile::Wrote => "somebody else took the lock and wrote",
            Meanwhile::Raised => "somebody else took the lock and raised the mark",
            Meanwhile::Took => "somebody else took the lock",
            Meanwhile::Nothing => "nobody took the lock",
        }
    }

    /// What a mark alone says to the one who comes late.
    fn by_mark(self) -> Written {
        match self {
            Meanwhile::Wrote | Meanwhile::Raised => Written::Stale,
            Meanwhile::Took | Meanwhile::Nothing => Written::Applied,
        }
    }
}

/// Runs it. True when all held.
///
/// # Errors
/// When something cannot be started, or does not answer.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let program = Program::at(&plan.program)?;
    if program.product != Product::Synod {
        return Err("etcd gives no tokens; pass Synod's binary".into());
    }
    let cluster = Cluster::start(&program, 3, &plan.directory.join("members"), &[])?;
    let mut report = Report::default();
    let mut servers = Vec::new();
    let mut resources = Vec::new();
    let directory = &plan.directory;
    for (name, found) in [
        ("SQLite", servers::sqlite(directory).await?),
        ("PostgreSQL", servers::postgresql(directory).await?),
        ("MariaDB", servers::mariadb(directory).await?),
        ("object store", servers::objects(directory).await?),
        ("file", servers::files(directory).await?),
    ] {
        match found {
            Ok((server, found)) => {
                servers.extend(server);
                resources.extend(found);
            }
            Err(why) if plan.require => report.check(name, false, why),
            Err(why) => report.skip(name, &why),
        }
    }
    for address in cluster.clients() {
        Connection::new(address).ready(PATIENCE).await?;
    }
    let mut stage = Stage::open(&cluster, resources).await?;
    for round in 0..plan.rounds as u64 {
        for (at, meanwhile) in (0..).zip(Meanwhile::ALL) {
            stage.play(&mut report, round * 4 + at, meanwhile).await?;
        }
    }
    stage.made_up(&mut report).await?;
    for resource in &stage.resources {
        race::run(resource, &mut report).await?;
    }
    race::back_again(&stage.resources, &mut report).await?;
    Ok(report.finish())
}

/// Everything that plays.
struct Stage {
    resources: Vec<Resource>,
    holder: Holder,
    session: Session,
    gate: Gate,
}

fn lock(key: u64) -> String {
    format!("stock:{key}")
}

impl Stage {
    async fn open(cluster: &Cluster, resources: Vec<Resource>) -> Outcome<Stage> {
        let endpoints: Vec<String> = cluster.clients().iter().map(ToString::to_string).collect();
        let client = Client::new(&endpoints)?;
        let holder = Holder::start(&endpoints, &resources)?;
        let session = Session::open_with_ttl(&client, Duration::from_secs(30)).await?;
        // The first signature draws the key.
        let guard = Mutex::new(&session, "keys").lock().await?;
        let signed = guard.sign().await?;
        let (status, keys) = http::request(cluster.clients()[0], "/synod/v1/keys", None).await?;
        if status != 200 {
            return Err(format!("/synod/v1/keys: {status} {keys}").into());
        }
        let gate = Gate::new(client, &keys, &signed)?;
        guard.release().await?;
        Ok(Stage {
            resources,
            holder,
            session,
            gate,
        })
    }

    /// One stop of the holder.
    async fn play(&mut self, report: &mut Report, key: u64, meanwhile: Meanwhile) -> Outcome<()> {
        for resource in &self.resources {
            resource.make(key).await?;
        }
        let first = self.holder.tell(&Told::Take(key)).await?;
        let held = self.holder.written.iter();
        let wrote = held.filter(|written| **written == Written::Applied).count();
        let all = self.resources.len();
        report.check(
            "who holds the lock writes",
            wrote == all && all > 0,
            format!("{wrote} of {all} resources"),
        );
        self.holder.pause(true)?;
        let stopped = Instant::now();
        let other = self.other(key, meanwhile).await?;
        self.holder.pause(false)?;
        let stopped = stopped.elapsed().as_secs_f64();
        report.note(format!("stopped for {stopped:.1} s: {}", meanwhile.text()));
        self.comes_late(report, key, meanwhile, &first).await?;
        if let Some(other) = other {
            self.goes_on(report, key, &other).await?;
            other.release().await?;
        }
        Ok(())
    }

    /// What somebody else does, once the lock can be had.
    async fn other(&self, key: u64, meanwhile: Meanwhile) -> Outcome<Option<Guard>> {
        let name = lock(key);
        if meanwhile == Meanwhile::Nothing {
            holder::until_free(self.session.client(), &name).await?;
            return Ok(None);
        }
        let guard = Mutex::new(&self.session, &name)
            .lock_within(PATIENCE)
            .await?;
        let guard = guard.ok_or("the holder's lock does not come free")?;
        let mark = Mark {
            lock: name,
            token: guard.token(),
        };
        for resource in &self.resources {
            let wrote = match meanwhile {
                Meanwhile::Wrote => resource.write(&mark, key, "second").await?,
                Meanwhile::Raised => resource.raise(&mark, key).await?,
                Meanwhile::Took | Meanwhile::Nothing => Written::Applied,
            };
            if wrote == Written::Stale {
                return Err(format!("{}: the newest token is refused", resource.name()).into());
            }
        }
        Ok(Some(guard))
    }

    /// The holder runs again and writes, in every way.
    async fn comes_late(
        &mut self,
        report: &mut Report,
        key: u64,
        meanwhile: Meanwhile,
        first: &holder::Granted,
    ) -> Outcome<()> {
        let by_mark = meanwhile.by_mark();
        self.holder.tell(&Told::Write(key)).await?;
        let written = std::mem::take(&mut self.holder.written);
        for (resource, written) in self.resources.iter().zip(written) {
            let checked = self.gate.checked(resource, &first.mark, key).await?;
            let signed = self
                .gate
                .signed(resource, &first.signed, &lock(key), key)
                .await?;
            let (mark, value) = resource.read(&lock(key), key).await?;
            let value_due = match meanwhile {
                Meanwhile::Wrote => "second",
                Meanwhile::Raised => "first",
                // The last that was let in.
                Meanwhile::Took | Meanwhile::Nothing => "late, signed",
            };
            report.check(
                &format!("{}: {}", resource.name(), meanwhile.text()),
                written == by_mark
                    && signed == Ok(by_mark)
                    && checked.is_err()
                    && value == value_due,
                format!(
                    "mark: {written:?}; signed and mark: {signed:?}; checked and mark: {checked:?}; now {value:?} of token {mark}"
                ),
            );
            if meanwhile == Meanwhile::Wrote {
                resource.write_unfenced(key, "late, unfenced").await?;
                let (_, value) = resource.read(&lock(key), key).await?;
                if value != "late, unfenced" {
                    return Err(format!("without a fence it would be {value:?}").into());
                }
            }
        }
        Ok(())
    }

    /// The new holder is hindered by nothing that came late, and from then on the old one is.
    async fn goes_on(&mut self, report: &mut Report, key: u64, other: &Guard) -> Outcome<()> {
        let mark = Mark {
            lock: lock(key),
            token: other.token(),
        };
        for resource in &self.resources {
            // Without its mark, which an unfenced write removed, an object is written anew.
            resource.write(&mark, key, "second, again").await?;
        }
        self.holder.tell(&Told::Write(key)).await?;
        for (resource, late) in self.resources.iter().zip(&self.holder.written) {
            let (_, value) = resource.read(&lock(key), key).await?;
            report.check(
                &format!("{}: the new holder goes on", resource.name()),
                *late == Written::Stale && value == "second, again",
                format!("the old one: {late:?}; now {value:?}"),
            );
        }
        Ok(())
    }

    /// Tokens that nobody was granted, or for something else.
    async fn made_up(&mut self, report: &mut Report) -> Outcome<()> {
        let key = 1 << 20;
        for resource in &self.resources {
            resource.make(key).await?;
        }
        let guard = Mutex::new(&self.session, &lock(key)).lock().await?;
        let elsewhere = Mutex::new(&self.session, "elsewhere").lock().await?;
        let mark = Mark {
            lock: lock(key),
            token: guard.token() + 1000,
        };
        for resource in &self.resources {
            let forged = self.gate.forged(&guard.sign().await?, mark.token)?;
            let forged = self.gate.signed(resource, &forged, &lock(key), key).await?;
            let other = elsewhere.sign().await?;
            let other = self.gate.signed(resource, &other, &lock(key), key).await?;
            let checked = self.gate.checked(resource, &mark, key).await?;
            report.check(
                &format!("{}: a token that was made up", resource.name()),
                forged.is_err() && other.is_err() && checked.is_err(),
                format!("forged: {forged:?}; of another lock: {other:?}; checked: {checked:?}"),
            );
        }
        guard.release().await?;
        Ok(elsewhere.release().await?)
    }
}
