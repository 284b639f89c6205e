//! A cluster is saved, goes on, dies, and is restored from what was saved: clients that lived through it must notice, each in its own way.

use crate::Outcome;
use crate::connection::Connection;
use crate::load::{self, Figures, Load, Work};
use crate::process::{Cluster, Place, Program};
use crate::report::Report;
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

/// How far revisions are raised.
const RAISE: i64 = 1_000_000_000;
/// How long members get to serve.
const PATIENCE: Duration = Duration::from_secs(60);
/// The lease that the file knows, and the one granted later.
const LEASE_BEFORE: i64 = 7001;
const LEASE_AFTER: i64 = 7002;
/// Seconds of both.
const TTL: i64 = 600;

/// Clients that put while a large state is saved.
const WRITERS: usize = 8;
/// Rounds of a load without and with a save, and seconds of each.
const ROUNDS: u64 = 3;
const ROUND: Duration = Duration::from_secs(10);

/// Runs it. True when all held. With `load_keys` it also saves a state of so many keys under load, and tells what the writers felt of it.
///
/// # Errors
/// When the members cannot even be started.
pub async fn run(program: &Path, directory: &Path, load_keys: u64) -> Outcome<bool> {
    let program = Program::at(program)?;
    let mut report = Report::default();
    if load_keys > 0 {
        under_load(&mut report, &program, &directory.join("load"), load_keys).await?;
    }
    three_members(&mut report, &program, &directory.join("three")).await?;
    with_users(&mut report, &program, &directory.join("users")).await?;
    Ok(report.finish())
}

/// What a client saw of the old cluster.
struct Seen {
    cluster: u64,
    /// When the file was written, and at the end.
    revision_saved: i64,
    revision_last: i64,
    stamp: String,
    keys: Vec<KeyValue>,
}

async fn three_members(report: &mut Report, program: &Program, directory: &Path) -> Outcome<()> {
    report.note("three members are saved, go on, and die");
    let places = Place::on_loopback(3)?;
    let mut cluster = Cluster::start_at(program, places.clone(), &directory.join("old"), &[])?;
    let mut client = Connection::new(cluster.clients()[0]);
    client.ready(PATIENCE).await?;
    let file = directory.join("state.snapshot");
    let seen = live(report, program, &cluster, &mut client, &file).await?;
    damaged_files_are_refused(report, program, directory, &file).await?;
    cluster.kill_all();
    drop(cluster);

    report.note("they are restored apart, and started");
    let new = directory.join("new");
    restore_all(report, program, &places, &file, &new).await?;
    let cluster = Cluster::start_at(program, places, &new, &[])?;
    for address in cluster.clients() {
        report.step(
            "a restored member serves",
            Connection::new(address).ready(PATIENCE).await,
        );
    }
    // The same client, whose connection comes back by itself.
    client.ready(PATIENCE).await?;
    everybody_notices(report, &mut client, &seen).await;
    life_goes_on(report, &cluster, &mut client, &seen).await;
    Ok(())
}

/// Gives the cluster a history, saves it in the midst, and goes on.
async fn live(
    report: &mut Report,
    program: &Program,
    cluster: &Cluster,
    client: &mut Connection,
    file: &Path,
) -> Outcome<Seen> {
    load::fill(&cluster.clients(), "restore/", 2_000, 100).await?;
    grant(client, LEASE_BEFORE).await?;
    for round in 0..3 {
        client.put("restore/changed", &round.to_string()).await?;
    }
    put_leased(client, "restore/leased", LEASE_BEFORE).await?;
    let keys = all(client).await?;
    let revision_saved = client.get("restore/changed").await?.1;
    let save = [
        "snapshot",
        "save",
        &file.display().to_string(),
        "--endpoints",
        &cluster.endpoints(),
    ];
    let (saved, said) = synod(program, &save).await?;
    report.check("the state is saved", saved, &said);
    let status = [
        "snapshot",
        "status",
        &file.display().to_string(),
        "--output",
        "json",
    ];
    let (checked, said) = synod(program, &status).await?;
    let told = serde_json::from_str::<serde_json::Value>(&said).unwrap_or_default();
    report.check(
        "the file tells what is in it",
        checked
            && told["revision"] == revision_saved
            && told["keys"] == keys.len()
            && told["leases"] == 1,
        &said,
    );

    grant(client, LEASE_AFTER).await?;
    put_leased(client, "restore/later", LEASE_AFTER).await?;
    load::fill(&cluster.clients(), "later/", 200, 100).await?;
    let read = client
        .kv
        .range(pb::RangeRequest {
            key: "restore/changed".into(),
            ..Default::default()
        })
        .await?;
    let stamp = read
        .metadata()
        .get("synod-stamp")
        .and_then(|stamp| stamp.to_str().ok())
        .ok_or("the answer has no stamp")?
        .to_owned();
    let header = read.into_inner().header.unwrap_or_default();
    Ok(Seen {
        cluster: header.cluster_id,
        revision_saved,
        revision_last: header.revision,
        stamp,
        keys,
    })
}

async fn restore_all(
    report: &mut Report,
    program: &Program,
    places: &[Place],
    file: &Path,
    directory: &Path,
) -> Outcome<()> {
    let list: Vec<String> = places
        .iter()
        .enumerate()
        .map(|(at, place)| format!("n{}={}", at + 1, place.peer))
        .collect();
    for at in 1..=places.len() {
        let data = directory.join(format!("n{at}"));
        let (restored, said) = restore(program, file, &data, at, &list.join(",")).await?;
        report.check("a member is restored", restored, &said);
        let (again, said) = restore(program, file, &data, at, &list.join(",")).await?;
        report.check(
            "a directory in use is refused",
            !again && said.contains("not empty"),
            &said,
        );
    }
    Ok(())
}

async fn restore(
    program: &Program,
    file: &Path,
    data: &Path,
    number: usize,
    list: &str,
) -> Outcome<(bool, String)> {
    let (file, data) = (file.display().to_string(), data.display().to_string());
    let name = format!("n{number}");
    let arguments = [
        "snapshot",
        "restore",
        &file,
        "--data-dir",
        &data,
        "--name",
        &name,
        "--cluster",
        list,
    ];
    synod(program, &arguments).await
}

async fn damaged_files_are_refused(
    report: &mut Report,
    program: &Program,
    directory: &Path,
    file: &Path,
) -> Outcome<()> {
    let whole = std::fs::read(file)?;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (what, bytes, wanted) in [
        ("cut short", &whole[..whole.len() - 1000], "cut short"),
        ("flipped", &flipped[..], "block at byte"),
        (
            "foreign",
            &b"a picture of a cat, and some more of it"[..],
            "byte 0",
        ),
    ] {
        let path = directory.join(what);
        std::fs::write(&path, bytes)?;
        let data = directory.join(format!("{what}.data"));
        let (restored, said) = restore(program, &path, &data, 1, "n1=127.0.0.1:1").await?;
        report.check(
            &format!("a file that is {what} is refused"),
            !restored && said.contains(wanted) && !data.join("version").exists(),
            said.trim_end(),
        );
    }
    Ok(())
}

async fn everybody_notices(report: &mut Report, client: &mut Connection, seen: &Seen) {
    let heard = watch_from(client, seen.revision_last + 1).await;
    report.check(
        "W11: an old watcher hears that its revision is compacted",
        matches!(&heard, Ok(response) if response.canceled && response.compact_revision == seen.revision_saved + RAISE),
        format!("{heard:?}"),
    );
    let old = client
        .kv
        .range(pb::RangeRequest {
            key: "restore/changed".into(),
            revision: seen.revision_last,
            ..Default::default()
        })
        .await;
    report.check(
        "an old revision cannot be read",
        refused(&old, "required revision has been compacted"),
        told(&old),
    );
    let renewed = keep_alive(client, LEASE_AFTER).await;
    report.check(
        "a lease granted later is gone",
        matches!(renewed, Ok(0)),
        format!("{renewed:?}"),
    );
    let renewed = keep_alive(client, LEASE_BEFORE).await;
    report.check(
        "a lease of before lives",
        matches!(renewed, Ok(TTL)),
        format!("{renewed:?}"),
    );
    let mut request = Request::new(pb::RangeRequest {
        key: "restore/changed".into(),
        ..Default::default()
    });
    if let Ok(value) = MetadataValue::try_from(format!("at-least={}", seen.stamp)) {
        request.metadata_mut().insert("synod-consistency", value);
    }
    let stamped = client.kv.range(request).await;
    report.check(
        "an old stamp is an error",
        refused(&stamped, "stamp"),
        told(&stamped),
    );
}

async fn life_goes_on(
    report: &mut Report,
    cluster: &Cluster,
    client: &mut Connection,
    seen: &Seen,
) {
    for address in cluster.clients() {
        let mut member = Connection::new(address);
        let keys = all(&mut member).await;
        report.check(
            "every key is as it was saved: revisions, version, lease, value",
            keys.as_ref().is_ok_and(|keys| *keys == seen.keys),
            format!("{address}: {:?} keys", keys.map(|keys| keys.len())),
        );
    }
    let changed = seen.keys.iter().find(|kv| kv.key == "restore/changed");
    let compare = pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Mod.into(),
        key: "restore/changed".into(),
        target_union: Some(pb::compare::TargetUnion::ModRevision(
            changed.map_or(0, |kv| kv.mod_revision),
        )),
        ..Default::default()
    };
    let put = pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: "restore/changed".into(),
            value: "after".into(),
            ..Default::default()
        })),
    };
    let txn = client
        .kv
        .txn(pb::TxnRequest {
            compare: vec![compare],
            success: vec![put],
            failure: vec![],
        })
        .await
        .map(|answer| answer.into_inner());
    let header = txn
        .as_ref()
        .ok()
        .and_then(|answer| answer.header)
        .unwrap_or_default();
    report.check(
        "what was saved can be compared and changed",
        txn.as_ref().is_ok_and(|answer| answer.succeeded)
            && header.revision == seen.revision_saved + RAISE + 1,
        format!("{txn:?}"),
    );
    report.check(
        "the cluster is another one",
        header.cluster_id != 0 && header.cluster_id != seen.cluster,
        format!("{:x}, it was {:x}", header.cluster_id, seen.cluster),
    );
    let heard = watch_from(client, seen.revision_saved + RAISE + 1).await;
    report.check(
        "a new watcher hears of changes",
        matches!(&heard, Ok(response) if response.events.len() == 1),
        format!("{heard:?}"),
    );
}

/// A large state is saved, again and again, while clients put.
async fn under_load(
    report: &mut Report,
    program: &Program,
    directory: &Path,
    keys: u64,
) -> Outcome<()> {
    report.note(format!("{keys} keys are saved under load"));
    let cluster = Cluster::start(program, 3, directory, &[])?;
    for address in cluster.clients() {
        Connection::new(address).ready(PATIENCE).await?;
    }
    load::fill(&cluster.clients(), "load/state/key/", keys, 256).await?;
    let (mut without, mut with, mut saves) = (Vec::new(), Vec::new(), 0);
    for seed in 0..ROUNDS {
        let load = Load {
            addresses: cluster.clients(),
            clients: WRITERS,
            work: Work::Put,
            keys,
            prefix: "load/state/key/",
            value_bytes: 256,
            duration: ROUND,
            seed,
        };
        without.push(load.drive().await);
        let mut saving = tokio::spawn(save_again_and_again(
            program.clone(),
            directory.join("state.snapshot"),
            cluster.endpoints(),
        ));
        with.push(load.drive().await);
        saves += tokio::select! {
            saved = &mut saving => saved??,
            () = tokio::time::sleep(PATIENCE) => return Err("a save does not end".into()),
        };
    }
    let (without, with) = (Figures::merged(without), Figures::merged(with));
    let told = |figures: &Figures| {
        format!(
            "{:.0} puts/s, p50 {:.2} ms, p99 {:.2} ms, longest {:.0} ms",
            figures.rate(),
            figures.quantile_ms(0.5),
            figures.quantile_ms(0.99),
            figures.quantile_ms(1.0)
        )
    };
    report.note(format!("without: {}", told(&without)));
    report.note(format!("while {saves} saves ran: {}", told(&with)));
    report.check(
        "no put failed while the state was saved",
        without.errors + with.errors == 0 && saves > 0,
        format!("{} errors", without.errors + with.errors),
    );
    Ok(())
}

/// Saves for a round; gives how often.
async fn save_again_and_again(program: Program, file: PathBuf, endpoints: String) -> Outcome<u32> {
    let (begun, mut saves) = (std::time::Instant::now(), 0);
    let file = file.display().to_string();
    while begun.elapsed() < ROUND {
        let (saved, said) = synod(
            &program,
            &["snapshot", "save", &file, "--endpoints", &endpoints],
        )
        .await?;
        if !saved {
            return Err(said.into());
        }
        saves += 1;
    }
    Ok(saves)
}

async fn with_users(report: &mut Report, program: &Program, directory: &Path) -> Outcome<()> {
    report.note("a cluster with users is restored");
    let places = Place::on_loopback(1)?;
    let mut cluster = Cluster::start_at(program, places.clone(), &directory.join("old"), &[])?;
    let address = cluster.clients()[0];
    Connection::new(address).ready(PATIENCE).await?;
    let endpoints = cluster.endpoints();
    let root = ["--endpoints", &endpoints, "--user", "root:secret"];
    for arguments in [
        &["user", "add", "root:secret"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        let (done, said) = synod(program, &[arguments, &root[..2]].concat()).await?;
        report.check(&arguments.join(" "), done || said.contains("exists"), &said);
    }
    let token = authenticate(address).await?;
    let file = directory.join("users.snapshot").display().to_string();
    let (saved, said) = synod(
        program,
        &["snapshot", "save", &file, "--endpoints", &endpoints],
    )
    .await?;
    report.check("nobody saves without a user", !saved, said.trim_end());
    let (saved, said) = synod(program, &[&["snapshot", "save", &file][..], &root].concat()).await?;
    report.check("root saves", saved, &said);
    cluster.kill_all();
    drop(cluster);
    let new = directory.join("new");
    restore_all(report, program, &places, &PathBuf::from(&file), &new).await?;
    let cluster = Cluster::start_at(program, places, &new, &[])?;
    let endpoints = cluster.endpoints();
    let root = [
        "--endpoints",
        &endpoints,
        "--user",
        "root:secret",
        "--timeout",
        "30s",
    ];
    let (put, said) = synod(program, &[&["put", "a", "1"][..], &root].concat()).await?;
    report.check("the password is the old one", put, &said);
    let nobody = Connection::new(address).put("a", "2").await;
    report.check(
        "nobody writes without a user",
        nobody
            .as_ref()
            .is_err_and(|status| status.message().contains("user name is empty")),
        format!("{nobody:?}"),
    );
    let mut request = Request::new(pb::RangeRequest {
        key: "a".into(),
        ..Default::default()
    });
    request
        .metadata_mut()
        .insert("token", MetadataValue::try_from(token)?);
    let stale = Connection::new(address).kv.range(request).await;
    report.check(
        "an old token is void",
        refused(&stale, "invalid auth token"),
        told(&stale),
    );
    Ok(())
}

async fn authenticate(address: SocketAddr) -> Outcome<String> {
    let channel = Connection::new(address).channel;
    let request = pb::AuthenticateRequest {
        name: "root".into(),
        password: "secret".into(),
    };
    let answer = pb::auth_client::AuthClient::new(channel)
        .authenticate(request)
        .await?;
    Ok(answer.into_inner().token)
}

/// Runs the binary under test; whether it succeeded, and all it said.
pub(crate) async fn synod(program: &Program, arguments: &[&str]) -> Outcome<(bool, String)> {
    let output = Command::new(&program.path)
        .args(arguments)
        .env_remove("SYNOD_ENDPOINTS")
        .kill_on_drop(true)
        .output()
        .await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    // What failed says why on standard error.
    let said = if output.status.success() { out } else { err };
    Ok((output.status.success(), said))
}

async fn grant(client: &mut Connection, id: i64) -> Result<(), Status> {
    let request = pb::LeaseGrantRequest { id, ttl: TTL };
    client.lease.lease_grant(request).await.map(|_| ())
}

async fn put_leased(client: &mut Connection, key: &str, lease: i64) -> Result<(), Status> {
    let request = pb::PutRequest {
        key: key.to_owned().into(),
        lease,
        ..Default::default()
    };
    client.kv.put(request).await.map(|_| ())
}

async fn keep_alive(client: &mut Connection, id: i64) -> Result<i64, Status> {
    let once = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
    let mut answers = client.lease.lease_keep_alive(once).await?.into_inner();
    Ok(answers.message().await?.map_or(-1, |answer| answer.ttl))
}

/// Every key of a store.
pub(crate) async fn all(client: &mut Connection) -> Result<Vec<KeyValue>, Status> {
    let request = pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        ..Default::default()
    };
    Ok(client.kv.range(request).await?.into_inner().kvs)
}

/// What a watcher of all keys hears first after its creation, or that it was cancelled.
async fn watch_from(client: &mut Connection, revision: i64) -> Result<pb::WatchResponse, String> {
    let create = pb::WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: revision,
        ..Default::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let (open, requests) = tokio::sync::mpsc::channel(1);
    open.send(request)
        .await
        .map_err(|error| error.to_string())?;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let hearing = async {
        let mut answers = client.watch.watch(requests).await?.into_inner();
        while let Some(response) = answers.message().await? {
            if response.canceled || !response.events.is_empty() {
                return Ok(response);
            }
        }
        Err(Status::unavailable("the stream ended"))
    };
    tokio::time::timeout(Duration::from_secs(5), hearing)
        .await
        .map_err(|_| "silence".to_owned())?
        .map_err(|status| status.message().to_owned())
}

fn refused<T>(answer: &Result<T, Status>, text: &str) -> bool {
    answer
        .as_ref()
        .is_err_and(|status| status.message().contains(text))
}

fn told<T>(answer: &Result<T, Status>) -> String {
    match answer {
        Ok(_) => "it was answered".into(),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}
