//! The contract itself, step by step on a store without objects: what each request of an apiserver must answer.

use super::cache::{Caches, Shared};
use super::storage::{COMPACT_KEY, Storage, Written};
use crate::Outcome;
use crate::report::Report;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Code, Status};

/// Objects of the little resource the contract is tried on.
const OBJECTS: usize = 25;

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Whether a request was refused so.
fn refused<T: std::fmt::Debug>(
    outcome: Result<T, Status>,
    code: Code,
    text: &str,
) -> Result<(), String> {
    match outcome {
        Err(status) if status.code() == code && status.message() == text => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn expect(held: bool, seen: impl std::fmt::Debug) -> Outcome<()> {
    if held {
        Ok(())
    } else {
        Err(format!("{seen:?}").into())
    }
}

/// Tries all of it. `first` and `second` are connected to different members, if there are several.
pub async fn check(report: &mut Report, first: &Storage, second: &Storage) {
    let (one, two) = (|| first.clone(), || second.clone());
    let steps: [(&str, Outcome<()>); 7] = [
        (
            "create, get, update and delete by revision",
            writes(one(), two()).await,
        ),
        ("lists by pages at one revision", pages(one(), two()).await),
        (
            "old, compacted and future revisions",
            revisions(one()).await,
        ),
        (
            "compactions that apiservers agree on",
            compactions(one(), two()).await,
        ),
        (
            "watches with previous objects, and progress",
            watches(one(), two()).await,
        ),
        ("a lease for many objects", leases(one()).await),
        (
            "the newest revision without objects",
            newest(one(), two()).await,
        ),
    ];
    for (what, outcome) in steps {
        report.step(what, outcome);
    }
}

async fn writes(mut one: Storage, mut two: Storage) -> Outcome<()> {
    let key = "/registry/contract/writes/a";
    let Written::Done(created) = one.create(key, value("1"), 0).await? else {
        return Err("an object that did not exist was not created".into());
    };
    let again = two.create(key, value("2"), 0).await?;
    expect(again == Written::Conflict(None), &again)?;
    let (found, revision) = two.get(key).await?;
    let found = found.ok_or("what was created is not there")?;
    expect(found.mod_revision == created && revision >= created, &found)?;
    let Written::Done(updated) = two.update(key, value("3"), created).await? else {
        return Err("an object was not updated at its revision".into());
    };
    expect(updated > created, (created, updated))?;
    match one.update(key, value("4"), created).await? {
        Written::Conflict(Some(now)) => expect(
            now.mod_revision == updated && now.value == value("3") && now.version == 2,
            now,
        )?,
        other => return Err(format!("a stale update gave {other:?}").into()),
    }
    match one.delete(key, created).await? {
        Written::Conflict(Some(now)) => expect(now.mod_revision == updated, now)?,
        other => return Err(format!("a stale delete gave {other:?}").into()),
    }
    let deleted = one.delete(key, updated).await?;
    expect(
        matches!(deleted, Written::Done(at) if at > updated),
        &deleted,
    )?;
    let gone = two.get(key).await?.0;
    expect(gone.is_none(), gone)?;
    let absent = two.update(key, value("5"), updated).await?;
    expect(absent == Written::Conflict(None), absent)
}

async fn fill(storage: &mut Storage, prefix: &str) -> Outcome<i64> {
    let mut last = 0;
    for n in 0..OBJECTS {
        match storage
            .create(&format!("{prefix}{n:02}"), value("x"), 0)
            .await?
        {
            Written::Done(revision) => last = revision,
            Written::Conflict(_) => return Err("the store is not empty".into()),
        }
    }
    Ok(last)
}

async fn pages(mut one: Storage, mut two: Storage) -> Outcome<()> {
    let prefix = "/registry/contract/pages/";
    let filled = fill(&mut one, prefix).await?;
    let first = one.page(prefix, None, 10, 0).await?;
    expect(
        first.kvs.len() == 10 && first.more && first.count == OBJECTS as i64,
        &first,
    )?;
    // Changes between the pages must not show.
    one.delete(&format!("{prefix}15"), filled - (OBJECTS as i64 - 16))
        .await?;
    one.create(&format!("{prefix}155"), value("new"), 0).await?;
    let second = two.page(prefix, first.next(), 10, first.revision).await?;
    expect(
        second.kvs.len() == 10 && second.more && second.count == 15,
        &second,
    )?;
    expect(
        second.revision > first.revision,
        (second.revision, first.revision),
    )?;
    let third = two.page(prefix, second.next(), 10, first.revision).await?;
    expect(
        third.kvs.len() == 5 && !third.more && third.count == 5,
        &third,
    )?;
    let all = [first.kvs, second.kvs, third.kvs].concat();
    let names: Vec<String> = (0..OBJECTS).map(|n| format!("{prefix}{n:02}")).collect();
    let found: Vec<String> = all
        .iter()
        .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
        .collect();
    expect(found == names, found)?;
    let counted = two.count(prefix).await?;
    expect(counted == OBJECTS as i64, counted)
}

async fn revisions(mut one: Storage) -> Outcome<()> {
    let prefix = "/registry/contract/revisions/";
    let filled = fill(&mut one, prefix).await?;
    let past = one.page(prefix, None, 0, filled - 5).await?;
    expect(past.kvs.len() == OBJECTS - 5, past.kvs.len())?;
    let future = one.page(prefix, None, 0, filled + 1_000_000).await;
    let text = "etcdserver: mvcc: required revision is a future revision";
    refused(future, Code::OutOfRange, text)?;
    one.compact(filled - 3).await?;
    let text = "etcdserver: mvcc: required revision has been compacted";
    refused(
        one.page(prefix, None, 0, filled - 5).await,
        Code::OutOfRange,
        text,
    )?;
    refused(one.compact(filled - 4).await, Code::OutOfRange, text)?;
    let kept = one.page(prefix, None, 0, filled - 3).await?;
    expect(kept.kvs.len() == OBJECTS - 3, kept.kvs.len())
}

async fn compactions(mut one: Storage, mut two: Storage) -> Outcome<()> {
    let (version, revision) = match one.get(COMPACT_KEY).await? {
        (Some(kv), revision) => (kv.version, revision),
        (None, revision) => (0, revision),
    };
    let (won, ours, _) = one.claim_compaction(version, revision).await?;
    expect(won && ours == version + 1, (won, ours))?;
    let (won, theirs, noted) = two.claim_compaction(version, revision).await?;
    expect(
        !won && theirs == ours && noted == revision,
        (won, theirs, noted),
    )?;
    let (won, theirs, now) = two.claim_compaction(theirs, revision).await?;
    expect(
        won && theirs == ours + 1 && now > revision,
        (won, theirs, now),
    )?;
    two.compact(revision).await?;
    Ok(())
}

async fn watches(one: Storage, mut two: Storage) -> Outcome<()> {
    let prefix = "/registry/contract/watches/";
    let filled = fill(&mut two, prefix).await?;
    let shared = Arc::new(Shared::default());
    let resources = [prefix.to_owned(), "/registry/contract/quiet/".to_owned()];
    let mut caches = Caches::open(one, &resources, shared.clone()).await?;
    let key = format!("{prefix}00");
    let found = two.get(&key).await?.0.ok_or("an object is gone")?;
    let Written::Done(updated) = two.update(&key, value("2"), found.mod_revision).await? else {
        return Err("an object was not updated at its revision".into());
    };
    two.delete(&key, updated).await?;
    let Written::Done(created) = two.create(&key, value("3"), 0).await? else {
        return Err("an object was not created again".into());
    };
    // A write elsewhere: the marks must go beyond it, though no watch of this stream hears of it.
    let Written::Done(elsewhere) = two.create("/registry/elsewhere", value("1"), 0).await? else {
        return Err("an object was not created".into());
    };
    caches.reach(elsewhere).await?;
    let events: Vec<u64> = {
        let caches = caches.caches.lock().expect("no holder panics");
        expect(
            caches[0].objects.get(key.as_bytes()) == Some(&created),
            filled,
        )?;
        caches.iter().map(|cache| cache.events).collect()
    };
    expect(events == [3, 0], events)?;
    expect(shared.breaches().is_empty(), shared.breaches())
}

async fn leases(mut one: Storage) -> Outcome<()> {
    let prefix = "/registry/contract/events/";
    let lease = one.grant(2).await?;
    for n in 0..OBJECTS {
        one.create(&format!("{prefix}{n}"), value("x"), lease)
            .await?;
    }
    let counted = one.count(prefix).await?;
    expect(counted == OBJECTS as i64, counted)?;
    let since = Instant::now();
    while one.count(prefix).await? > 0 {
        if since.elapsed() > Duration::from_secs(10) {
            return Err("the objects of a lease outlived it by 8 s".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let late = one
        .create(&format!("{prefix}late"), value("x"), lease)
        .await;
    refused(
        late,
        Code::NotFound,
        "etcdserver: requested lease not found",
    )?;
    Ok(())
}

async fn newest(mut one: Storage, mut two: Storage) -> Outcome<()> {
    let Written::Done(written) = one
        .create("/registry/contract/newest", value("1"), 0)
        .await?
    else {
        return Err("an object was not created".into());
    };
    // How an apiserver learns how far its cache must come: a get of a key that need not exist.
    let (_, revision) = two.get("/registry/no-such-resource/").await?;
    expect(revision >= written, (written, revision))
}
