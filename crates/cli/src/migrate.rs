//! `migrate`: moves what lives in an etcd over to this cluster, while its clients go on there, until they are switched over.
//!
//! Live keys are copied as of one revision, in the order in which they were created and changed, so that whoever compares revisions finds them in the
//! same order; then every revision is followed as one transaction. How far it has come stands in the destination itself, changed in the same
//! transactions: an interrupted migration goes on where it stopped, and two at a time exclude each other. Many are on their way at a time.

mod copy;
mod leases;
mod pipeline;
mod range;
mod target;
mod verify;

use crate::output::{Failed, Output, line};
use clap::{Args, Subcommand};
use client::{Client, Security, Watch};
use copy::copy;
use leases::Leases;
use proto::etcdserverpb as pb;
use proto::mvccpb::event::EventType;
use range::KeyRange;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use target::{Change, Target};
use tokio::time::{sleep, timeout};
use verify::verify;

/// Requests that read much take their time.
const TIMEOUT_MIN: Duration = Duration::from_secs(30);
/// How often leases are looked after, and progress is told.
const TICK: Duration = Duration::from_secs(1);
/// The source has been silent for so long: what is there has been mirrored.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
pub(crate) enum MigrateCommand {
    /// Copy live data from an etcd (--endpoints) to a cluster of Synod (--to)
    ///
    /// Keys keep the order of their revisions and their leases; leases keep their ids. Interrupted, it goes on when the same command is given again.
    /// Users and roles are not copied: their passwords cannot be read. `synod snapshot restore` takes them, and history-keeping versions, from a
    /// snapshot of the etcd.
    Etcd(EtcdArgs),
}

#[derive(Args)]
pub(crate) struct EtcdArgs {
    /// Members of the destination, as HOST:PORT separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        required = true,
        value_name = "HOST:PORT,..."
    )]
    to: Vec<String>,
    /// Only keys that begin so
    #[arg(long, default_value = "", value_name = "PREFIX")]
    prefix: String,
    /// Go on mirroring changes until Ctrl-C, then finish
    #[arg(long, conflicts_with = "until_caught_up")]
    mirror: bool,
    /// Go on mirroring changes until there are none for a second, then finish
    #[arg(long)]
    until_caught_up: bool,
    /// Begin although the destination has keys there: those that the source lacks are removed
    #[arg(long)]
    force: bool,
    /// The user at the destination, with its password after a colon
    #[arg(long, value_name = "NAME[:PASSWORD]")]
    to_user: Option<String>,
    /// Authorities to trust at the destination, in PEM form
    #[arg(long, value_name = "FILE")]
    to_cacert: Option<PathBuf>,
    /// Certificate to show there
    #[arg(long, value_name = "FILE")]
    to_cert: Option<PathBuf>,
    /// Key of --to-cert
    #[arg(long, value_name = "FILE")]
    to_key: Option<PathBuf>,
    /// Take any server there for the right one; for tests only
    #[arg(long)]
    to_insecure_skip_tls_verify: bool,
}

impl EtcdArgs {
    fn destination(&self, timeout: Duration) -> Result<Client, Failed> {
        let security = Security {
            cacert: self.to_cacert.clone(),
            cert: self.to_cert.clone(),
            key: self.to_key.clone(),
            insecure_skip_verify: self.to_insecure_skip_tls_verify,
            tls: false,
        };
        let client = Client::secured(&self.to, &security)?.with_timeout(timeout);
        Ok(match &self.to_user {
            Some(user) => {
                let (name, password) = crate::password::user(user, None)?;
                client.with_user(name, password)
            }
            None => client,
        })
    }
}

pub(crate) async fn run(
    source: Client,
    output: Output,
    command: MigrateCommand,
) -> Result<(), Failed> {
    let MigrateCommand::Etcd(args) = command;
    let patience = source.timeout().max(TIMEOUT_MIN);
    let source = source.with_timeout(patience);
    let range = KeyRange::of_prefix(args.prefix.as_bytes());
    let now = range::present(&source, &range).await?;
    let client = args.destination(patience)?;
    if range::present(&client, &range).await?.cluster == now.cluster {
        return Err(Failed::Usage(
            "to: the destination is the source; pass the etcd with --endpoints, and the cluster to fill with --to".into(),
        ));
    }
    let target = Target::open(client, now.cluster, range, args.force).await?;
    let mut migration = Migration {
        source,
        leases: Leases::default(),
        target,
        ticked: None,
        told: Instant::now(),
        changes: 0,
    };
    migration.copy().await?;
    if args.mirror || args.until_caught_up {
        migration.mirror(args.until_caught_up).await?;
        // What a watch cannot tell, and what came since.
        migration.copy().await?;
    }
    let verified = verify(&migration.source, &migration.target).await?;
    migration.target.close().await?;
    if output == Output::Json {
        return line(json!({
            "keys": verified.keys,
            "leases": verified.leases,
            "sha256": verified.sha256,
            "source_revision": migration.target.done(),
            "changes": migration.changes,
        }));
    }
    line(format_args!(
        "{} keys and {} leases are the same in both, in the same order; source revision {}, sha256 {}",
        verified.keys,
        verified.leases,
        migration.target.done(),
        verified.sha256
    ))
}

/// A migration under way.
struct Migration {
    source: Client,
    target: Target,
    leases: Leases,
    ticked: Option<Instant>,
    told: Instant,
    /// Changes made at the destination.
    changes: u64,
}

impl Migration {
    /// Brings the destination to the source's present revision.
    async fn copy(&mut self) -> Result<(), Failed> {
        let now = range::present(&self.source, self.target.range()).await?;
        self.look_after_leases(true).await?;
        copy(self, now.revision).await
    }

    /// Follows changes until told to stop, or until none come.
    async fn mirror(&mut self, until_quiet: bool) -> Result<(), Failed> {
        eprintln!(
            "mirroring from revision {}{}",
            self.target.done(),
            if until_quiet {
                ""
            } else {
                "; Ctrl-C switches over: stop the writers first"
            }
        );
        let stop = tokio::signal::ctrl_c();
        tokio::pin!(stop);
        let mut watch = self.watch();
        let mut quiet_since = Instant::now();
        loop {
            tokio::select! {
                _ = &mut stop => return self.target.flush().await,
                answer = self.target.answer(), if self.target.is_busy() => self.target.settle(answer).await?,
                heard = timeout(TICK, watch.next()) => match heard {
                    Ok(Ok(Some(response))) if response.canceled => {
                        // The source compacted what was still to come: look at all of it once more.
                        eprintln!("the source has forgotten changes that were not mirrored yet; comparing all keys");
                        self.copy().await?;
                        watch = self.watch();
                    }
                    Ok(Ok(Some(response))) => {
                        if !response.events.is_empty() {
                            quiet_since = Instant::now();
                        }
                        self.follow(response.events).await?;
                    }
                    Ok(Ok(None)) => {
                        self.target.flush().await?;
                        watch = self.watch();
                    }
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => {}
                },
            }
            self.look_after_leases(false).await?;
            self.tell();
            if until_quiet && quiet_since.elapsed() >= QUIET {
                return self.target.flush().await;
            }
        }
    }

    fn watch(&self) -> Watch {
        let range = self.target.range();
        self.source.watch(pb::WatchCreateRequest {
            key: range.start.clone(),
            range_end: range.end.clone(),
            start_revision: self.target.done() + 1,
            ..pb::WatchCreateRequest::default()
        })
    }

    /// Makes the changes of whole revisions.
    async fn follow(&mut self, events: Vec<proto::mvccpb::Event>) -> Result<(), Failed> {
        let mut group: Vec<Change> = Vec::new();
        let mut revision = 0;
        for event in events {
            let is_removal = event.r#type() == EventType::Delete;
            let Some(kv) = event.kv else { continue };
            if kv.mod_revision != revision && !group.is_empty() {
                self.write(std::mem::take(&mut group), revision).await?;
            }
            revision = kv.mod_revision;
            group.push(if is_removal {
                Change::Delete(kv.key)
            } else {
                Change::Put(kv)
            });
        }
        if group.is_empty() {
            return Ok(());
        }
        self.write(group, revision).await
    }

    /// Makes the changes of one revision of the source, all of which is mirrored then.
    async fn write(&mut self, mut group: Vec<Change>, revision: i64) -> Result<(), Failed> {
        for change in &mut group {
            if let Change::Put(kv) = change
                && kv.lease != 0
                && !self
                    .leases
                    .ensure(&self.source, self.target.client(), kv.lease)
                    .await?
            {
                // It has ended over there: the removal of the key follows.
                kv.lease = 0;
            }
        }
        self.changes += group.len() as u64;
        self.target.write(group, revision).await
    }

    /// Renews, makes and ends leases as they are at the source.
    async fn look_after_leases(&mut self, now: bool) -> Result<(), Failed> {
        if now || self.ticked.is_none_or(|ticked| ticked.elapsed() >= TICK) {
            self.leases
                .follow(&self.source, self.target.client(), self.target.done())
                .await?;
            self.ticked = Some(Instant::now());
        }
        Ok(())
    }

    /// Tells how far it is, now and then.
    fn tell(&mut self) {
        if self.told.elapsed() >= TICK {
            self.told = Instant::now();
            let mut talk = std::io::stderr();
            let _ = writeln!(
                talk,
                "at source revision {}, {} changes made",
                self.target.done(),
                self.changes
            );
        }
    }
}

/// A moment for the other side to recover.
async fn pause() {
    sleep(Duration::from_millis(100)).await;
}
