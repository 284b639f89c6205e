//! Moving in from a real etcd and out to one again: by snapshot, by the database of a stopped member, by copying while it runs. What is on the other
//! side must be what was there, revision by revision where revisions are kept.

use crate::Outcome;
use crate::connection::Connection;
use crate::process::{Cluster, Place, Program};
use crate::random::Random;
use crate::report::Report;
use crate::restore::{all, synod};
use proto::authpb;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request as Op;
use proto::mvccpb::{Event, KeyValue};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use tonic::Status;

/// How long members get to serve.
const PATIENCE: Duration = Duration::from_secs(60);
/// How far a restore raises revisions.
const RAISE: i64 = 1_000_000_000;
/// Old revisions that are compared.
const REVISIONS: u64 = 40;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A real etcd.
    pub reference: PathBuf,
    /// The binary under test.
    pub subject: PathBuf,
    /// etcd's tool for files.
    pub etcdutl: Option<PathBuf>,
    /// Changes made before each move.
    pub operations: u64,
    /// Of all choices.
    pub seed: u64,
    /// Where everything lies.
    pub directory: PathBuf,
}

/// Runs it. True when all held.
///
/// # Errors
/// When the members cannot even be started.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let mut report = Report::default();
    moving_in(&mut report, plan).await?;
    moving_out(&mut report, plan).await?;
    Ok(report.finish())
}

async fn moving_in(report: &mut Report, plan: &Plan) -> Outcome<()> {
    let (etcd, subject) = (Program::at(&plan.reference)?, Program::at(&plan.subject)?);
    report.note(format!("an etcd ({}) lives", etcd.label()));
    let directory = plan.directory.join("in");
    let mut source = Cluster::start(&etcd, 1, &directory.join("etcd"), &[])?;
    let mut client = Connection::new(source.clients()[0]);
    client.ready(PATIENCE).await?;
    churn(&mut client, plan.seed, plan.operations).await?;
    make_users(&client).await?;
    let there = Contents::of(&mut client).await?;
    let file = directory.join("etcd.db");
    std::fs::write(&file, snapshot(&mut client).await?)?;

    report.note("it is copied while it runs");
    migrated(report, &subject, &source, &there, &directory).await?;

    report.note("it is restored from a snapshot, and from the database of its directory");
    source.stop(0, PATIENCE)?;
    let database = source.members()[0].data.join("member/snap/db");
    for (what, file) in [("snapshot", file), ("database", database)] {
        let shown = file.display().to_string();
        let (known, said) = synod(&subject, &["snapshot", "status", &shown]).await?;
        report.check(
            "the file is understood",
            known && said.contains("etcd"),
            said,
        );
        let places = Place::on_loopback(1)?;
        let new = directory.join(what);
        let data = new.join("n1").display().to_string();
        let list = format!("n1={}", places[0].peer);
        let arguments = [
            "snapshot",
            "restore",
            &shown,
            "--data-dir",
            &data,
            "--name",
            "n1",
            "--cluster",
            &list,
        ];
        let (restored, said) = synod(&subject, &arguments).await?;
        report.check(&format!("restored from a {what}"), restored, said);
        let cluster = Cluster::start_at(&subject, places, &new, &[])?;
        let mut client = Connection::new(cluster.clients()[0]);
        client.ready(PATIENCE).await?;
        let here = Contents::of(&mut client).await?;
        there.compare(report, &here, there.revision + RAISE);
        let auth = users(&client).await?;
        report.check(
            "users, roles and permissions came along",
            auth == ("ann,root".to_owned(), "app".to_owned(), 1),
            format!("{auth:?}"),
        );
    }
    Ok(())
}

async fn migrated(
    report: &mut Report,
    subject: &Program,
    source: &Cluster,
    there: &Contents,
    directory: &Path,
) -> Outcome<()> {
    let cluster = Cluster::start(subject, 1, &directory.join("migrated"), &[])?;
    let mut client = Connection::new(cluster.clients()[0]);
    client.ready(PATIENCE).await?;
    let (from, to) = (source.endpoints(), cluster.endpoints());
    let arguments = [
        "migrate",
        "etcd",
        "--endpoints",
        &from,
        "--to",
        &to,
        "--until-caught-up",
    ];
    let (done, said) = synod(subject, &arguments).await?;
    report.check("copied and compared by itself", done, said);
    let here = Contents::of(&mut client).await?;
    let plain = |contents: &Contents| {
        let keys = contents.keys.iter();
        keys.map(|kv| (kv.key.clone(), kv.value.clone(), kv.lease))
            .collect::<Vec<_>>()
    };
    report.check(
        "keys, values and leases are the same",
        plain(there) == plain(&here),
        format!("{} and {} keys", there.keys.len(), here.keys.len()),
    );
    let order = |contents: &Contents, revision: fn(&KeyValue) -> i64| {
        let mut keys: Vec<&KeyValue> = contents.keys.iter().collect();
        keys.sort_by_key(|kv| (revision(kv), kv.key.clone()));
        keys.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>()
    };
    for revision in [
        |kv: &KeyValue| kv.create_revision,
        |kv: &KeyValue| kv.mod_revision,
    ] {
        report.check(
            "and so is the order of revisions",
            order(there, revision) == order(&here, revision),
            "",
        );
    }
    let granted = |contents: &Contents| {
        let leases = contents.leases.iter();
        leases.map(|lease| (lease.0, lease.1)).collect::<Vec<_>>()
    };
    report.check(
        "and leases with their times to live",
        granted(there) == granted(&here),
        format!("{:?} and {:?}", granted(there), granted(&here)),
    );
    let (again, said) = synod(subject, &arguments).await?;
    report.check(
        "a destination with keys is refused",
        !again && said.contains("--force"),
        said,
    );
    Ok(())
}

async fn moving_out(report: &mut Report, plan: &Plan) -> Outcome<()> {
    let Some(etcdutl) = &plan.etcdutl else {
        report.skip(
            "moving out to a real etcd",
            "no etcdutl; pass --etcdutl BINARY",
        );
        return Ok(());
    };
    let (etcd, subject) = (Program::at(&plan.reference)?, Program::at(&plan.subject)?);
    report.note("a Synod lives, and its snapshot becomes an etcd");
    let directory = plan.directory.join("out");
    let source = Cluster::start(&subject, 1, &directory.join("synod"), &[])?;
    let mut client = Connection::new(source.clients()[0]);
    client.ready(PATIENCE).await?;
    churn(&mut client, plan.seed + 1, plan.operations).await?;
    make_users(&client).await?;
    let there = Contents::of(&mut client).await?;
    let file = directory.join("synod.db");
    std::fs::write(&file, snapshot(&mut client).await?)?;

    let places = Place::on_loopback(1)?;
    let new = directory.join("etcd");
    let peer = format!("http://{}", places[0].peer);
    let status = Command::new(etcdutl)
        .args(["snapshot", "restore"])
        .arg(&file)
        .arg("--data-dir")
        .arg(new.join("n1"))
        .args(["--name", "n1", "--initial-cluster"])
        .arg(format!("n1={peer}"))
        .args(["--initial-advertise-peer-urls", &peer])
        .output()
        .await?;
    report.check(
        "etcdutl restores it",
        status.status.success(),
        String::from_utf8_lossy(&status.stderr)
            .lines()
            .last()
            .unwrap_or_default(),
    );
    let cluster = Cluster::start_at(&etcd, places, &new, &[])?;
    let mut other = Connection::new(cluster.clients()[0]);
    other.ready(PATIENCE).await?;
    let here = Contents::of(&mut other).await?;
    there.compare(report, &here, there.revision);
    let auth = users(&other).await?;
    report.check(
        "users, roles and permissions came along",
        auth == ("ann,root".to_owned(), "app".to_owned(), 1),
        format!("{auth:?}"),
    );
    let (mut random, mut differ) = (Random::new(plan.seed), None);
    for _ in 0..REVISIONS {
        let revision = 1 + random.below(there.revision.unsigned_abs() + 1) as i64;
        let (a, b) = (
            at(&mut client, revision).await,
            at(&mut other, revision).await,
        );
        if a != b {
            differ = Some((revision, a, b));
        }
    }
    report.check(
        "old revisions read the same, or are gone on both",
        differ.is_none(),
        format!("first difference {differ:?}"),
    );
    let compacted = history(&mut client, 1, there.revision).await;
    let from = compacted.err().unwrap_or(1).max(1);
    let (a, b) = (
        history(&mut client, from, there.revision).await,
        history(&mut other, from, there.revision).await,
    );
    report.check(
        "history is the same, event by event",
        a.is_ok() && a == b,
        format!(
            "{} events from revision {from}",
            a.as_ref().map_or(0, Vec::len)
        ),
    );
    Ok(())
}

/// What a store holds, as its clients see it.
#[derive(Debug)]
struct Contents {
    revision: i64,
    keys: Vec<KeyValue>,
    /// Ids, times to live, keys.
    leases: Vec<(i64, i64, Vec<bytes::Bytes>)>,
}

impl Contents {
    async fn of(client: &mut Connection) -> Outcome<Contents> {
        let keys = all(client).await?;
        let revision = client.get("x").await?.1;
        let listed = client.lease.lease_leases(pb::LeaseLeasesRequest {}).await?;
        let mut leases = Vec::new();
        for lease in listed.into_inner().leases {
            let request = pb::LeaseTimeToLiveRequest {
                id: lease.id,
                keys: true,
            };
            let told = client.lease.lease_time_to_live(request).await?.into_inner();
            let mut keys = told.keys;
            keys.sort();
            leases.push((lease.id, told.granted_ttl, keys));
        }
        leases.sort();
        Ok(Contents {
            revision,
            keys,
            leases,
        })
    }

    fn compare(&self, report: &mut Report, here: &Contents, revision: i64) {
        report.check(
            "the revision is as it should be",
            here.revision == revision,
            format!("{}, it was {}", here.revision, self.revision),
        );
        let first = self.keys.iter().zip(&here.keys).find(|(a, b)| a != b);
        report.check(
            "every key is the same: revisions, version, lease, value",
            self.keys == here.keys,
            format!(
                "{} and {} keys, first difference {first:?}",
                self.keys.len(),
                here.keys.len()
            ),
        );
        report.check(
            "leases are the same, with their keys",
            self.leases == here.leases,
            format!("{} and {}", self.leases.len(), here.leases.len()),
        );
    }
}

/// Random changes of all kinds, and a compaction on the way.
async fn churn(client: &mut Connection, seed: u64, operations: u64) -> Outcome<()> {
    let mut random = Random::new(seed);
    let mut leases = Vec::new();
    for ttl in 0..10 {
        let request = pb::LeaseGrantRequest {
            id: if ttl == 0 { -5 } else { 100 + ttl },
            ttl: 6_000 + ttl,
        };
        leases.push(client.lease.lease_grant(request).await?.into_inner().id);
    }
    for at in 0..operations {
        let keys = operations / 4 + 1;
        let mut key = || format!("k/{:05}", random.below(keys));
        let operations_of_one = match at % 10 {
            0..6 => vec![(key(), true)],
            6 => vec![(key(), false)],
            _ => (0..5).map(|n| (key() + &n.to_string(), n != 4)).collect(),
        };
        let lease = if random.chance(20) {
            *random.pick(&leases)
        } else {
            0
        };
        let length = *random.pick(&[0, 1, 10, 300, 5_000, 20_000]);
        let operation = |(key, is_put): (String, bool)| pb::RequestOp {
            request: Some(if is_put {
                Op::RequestPut(pb::PutRequest {
                    key: key.into(),
                    value: vec![at as u8; length].into(),
                    lease,
                    ..Default::default()
                })
            } else {
                Op::RequestDeleteRange(pb::DeleteRangeRequest {
                    range_end: format!("{key}:").into(),
                    key: key.into(),
                    ..Default::default()
                })
            }),
        };
        let request = pb::TxnRequest {
            success: operations_of_one.into_iter().map(operation).collect(),
            ..Default::default()
        };
        client.kv.txn(request).await?;
        if at == operations * 2 / 3 {
            let revision = client.get("x").await?.1;
            let request = pb::CompactionRequest {
                revision: revision - 20,
                physical: true,
            };
            client.kv.compact(request).await?;
        }
    }
    let gone = pb::LeaseRevokeRequest { id: leases[3] };
    client.lease.lease_revoke(gone).await?;
    Ok(())
}

async fn make_users(client: &Connection) -> Outcome<()> {
    let mut auth = pb::auth_client::AuthClient::new(client.channel.clone());
    for name in ["root", "ann"] {
        let request = pb::AuthUserAddRequest {
            name: name.into(),
            password: "secret".into(),
            ..Default::default()
        };
        auth.user_add(request).await?;
    }
    let role = pb::AuthRoleAddRequest { name: "app".into() };
    auth.role_add(role).await?;
    let permission = authpb::Permission {
        perm_type: authpb::permission::Type::Readwrite.into(),
        key: "k/".into(),
        range_end: "k0".into(),
    };
    auth.role_grant_permission(pb::AuthRoleGrantPermissionRequest {
        name: "app".into(),
        perm: Some(permission),
    })
    .await?;
    let grant = pb::AuthUserGrantRoleRequest {
        user: "ann".into(),
        role: "app".into(),
    };
    auth.user_grant_role(grant).await?;
    Ok(())
}

/// Users, roles, and the number of permissions of the role.
async fn users(client: &Connection) -> Outcome<(String, String, usize)> {
    let mut auth = pb::auth_client::AuthClient::new(client.channel.clone());
    let mut users = auth
        .user_list(pb::AuthUserListRequest {})
        .await?
        .into_inner()
        .users;
    users.sort();
    let roles = auth.role_list(pb::AuthRoleListRequest {}).await?;
    let role = auth
        .role_get(pb::AuthRoleGetRequest { role: "app".into() })
        .await?;
    Ok((
        users.join(","),
        roles.into_inner().roles.join(","),
        role.into_inner().perm.len(),
    ))
}

/// The file that Maintenance.Snapshot streams.
async fn snapshot(client: &mut Connection) -> Outcome<Vec<u8>> {
    let mut pieces = client
        .maintenance
        .snapshot(pb::SnapshotRequest {})
        .await?
        .into_inner();
    let mut file = Vec::new();
    while let Some(piece) = pieces.message().await? {
        file.extend_from_slice(&piece.blob);
    }
    Ok(file)
}

/// All keys at a revision, or why not.
async fn at(client: &mut Connection, revision: i64) -> Result<Vec<KeyValue>, String> {
    let request = pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        ..Default::default()
    };
    let answer = client.kv.range(request).await;
    answer
        .map(|answer| answer.into_inner().kvs)
        .map_err(|status| status.message().to_owned())
}

/// All events of a stretch of history; the compacted revision if it is gone, 0 for anything else.
async fn history(client: &mut Connection, from: i64, until: i64) -> Result<Vec<Event>, i64> {
    let create = pb::WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: from,
        prev_kv: true,
        ..Default::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let (open, requests) = tokio::sync::mpsc::channel(1);
    open.send(request).await.map_err(|_| 0)?;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut events: Vec<Event> = Vec::new();
    let hearing = async {
        let mut answers = client.watch.watch(requests).await?.into_inner();
        while let Some(response) = answers.message().await? {
            if response.canceled {
                return Ok(Some(response.compact_revision));
            }
            events.extend(response.events);
            let last = events.last().and_then(|event| event.kv.as_ref());
            if last.is_some_and(|kv| kv.mod_revision >= until) {
                break;
            }
        }
        Ok::<_, Status>(None)
    };
    match tokio::time::timeout(Duration::from_secs(10), hearing).await {
        Ok(Ok(None)) => Ok(events),
        Ok(Ok(Some(compacted))) => Err(compacted),
        Ok(Err(_)) | Err(_) => Err(0),
    }
}
