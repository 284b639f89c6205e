//! How requests end, in words.

use super::text;
use replica::{Body, Failure, Response};
use state::auth::AuthRejection;
use state::client::ClientReply;
use state::id::IdReply;
use state::lock::{LockAnswer, LockReply};
use state::{Answer, RangeReply, Rejection, Reply};

/// How a request ended.
pub fn outcome(outcome: &Result<Response, Failure>) -> String {
    let response = match outcome {
        Ok(response) => response,
        Err(failure) => return failed(failure),
    };
    let at = format!("at revision {}", response.revision);
    match &response.body {
        Body::Reply(reply) => replied(reply, &at),
        Body::KeepAlive(Some(ttl)) => format!("alive for {ttl} ms"),
        Body::KeepAlive(None) => "there is no such lease".into(),
        Body::Answer(answer) => answered(answer, &at),
        Body::Checkpoint(index) => format!("there is a snapshot at {}", index.0),
        Body::MembershipChanged(_) => "the members are changed".into(),
    }
}

fn replied(reply: &Reply, at: &str) -> String {
    match reply {
        Reply::Rejected(rejection) => format!("refused: {}", refusal(rejection)),
        Reply::DeleteRange { deleted, .. } => format!("{deleted} deleted {at}"),
        Reply::Txn(txn) if !txn.succeeded => format!("comparisons did not hold, done {at}"),
        Reply::Lock(reply) => locked(reply),
        Reply::Client(ClientReply::Registered { client }) => format!("you are client {client}"),
        Reply::Id(reply) => identifier(*reply),
        Reply::Applied => format!("done before, {at}"),
        Reply::LeaseGrant { id, ttl_ms } => format!("lease {id:x} is there for {ttl_ms} ms"),
        Reply::Put { .. }
        | Reply::Txn(_)
        | Reply::Compact
        | Reply::LeaseRevoke
        | Reply::SetFeatureLevel
        | Reply::Auth
        | Reply::SetBytesMax
        | Reply::SetAlarm { .. } => format!("done {at}"),
    }
}

fn locked(reply: &LockReply) -> String {
    match reply {
        LockReply::Granted { token } => format!("yours, token {token}"),
        LockReply::Passed => "go on".into(),
        LockReply::Waiting { .. } => "wait".into(),
        LockReply::Busy => "it is not free".into(),
        LockReply::Released { held: true, .. } => {
            "given up, and held by another acquisition of yours".into()
        }
        LockReply::Released { .. } => "given up".into(),
        LockReply::Latch { count } => format!("{count} left to count down"),
        LockReply::ValueSet => "the text is changed".into(),
    }
}

fn identifier(reply: IdReply) -> String {
    match reply {
        IdReply::Segment { first, count } => format!("{count} numbers from {first} on"),
        IdReply::Counter { value } => format!("the counter is at {value}"),
        IdReply::Worker {
            worker,
            from_ms,
            until_ms,
            ..
        } => format!(
            "you are worker {worker} for {} ms",
            until_ms.saturating_sub(from_ms)
        ),
    }
}

fn answered(answer: &Answer, at: &str) -> String {
    match answer {
        Answer::Rejected(rejection) => format!("refused: {}", refusal(rejection)),
        Answer::Range(read) => keys(read, at),
        Answer::Txn(txn) if !txn.succeeded => format!("comparisons did not hold, answered {at}"),
        Answer::Lease(None) => "there is no such lease".into(),
        Answer::Lease(Some(lease)) => {
            format!("{} of {} ms are left", lease.remaining_ms, lease.granted_ms)
        }
        Answer::Leases(ids) => count(ids.len(), "lease"),
        Answer::Sessions { sessions, .. } => count(sessions.len(), "session"),
        Answer::HashKv { hash, .. } => format!("the hash is {hash:08x} {at}"),
        Answer::Alarms(alarms) => count(alarms.len(), "alarm"),
        Answer::Lock(answer) => about_lock(answer),
        Answer::Txn(_) | Answer::Position => format!("answered {at}"),
    }
}

fn keys(read: &RangeReply, at: &str) -> String {
    match read.kvs.as_slice() {
        [] if read.count == 0 => format!("nothing there {at}"),
        [only] if !only.value.is_empty() => {
            format!("{} = {} {at}", text(&only.key), text(&only.value))
        }
        _ => format!("{} {at}", count(read.count as usize, "key")),
    }
}

fn about_lock(answer: &LockAnswer) -> String {
    match answer {
        LockAnswer::List { locks, .. } => count(locks.len(), "lock"),
        LockAnswer::Show(None) => "nobody has it or waits for it".into(),
        LockAnswer::Show(Some(detail)) => format!(
            "{} of it, {} waiting",
            count(detail.lock.holders, "holder"),
            detail.lock.waiters
        ),
        LockAnswer::Claim(None) => "there is no such acquisition".into(),
        LockAnswer::Claim(Some(claim)) if claim.token == 0 => "it waits".into(),
        LockAnswer::Claim(Some(claim)) => format!("it holds with token {}", claim.token),
        LockAnswer::Check { held: true, .. } => "the token holds".into(),
        LockAnswer::Check { newest: 0, .. } => "the token does not hold".into(),
        LockAnswer::Check { newest, .. } => {
            format!("the token does not hold, the newest is {newest}")
        }
    }
}

/// A number of things, with the right end.
fn count(number: usize, thing: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{end}")
}

fn refusal(rejection: &Rejection) -> String {
    match rejection {
        Rejection::KeyNotFound => "there is no such key".into(),
        Rejection::LeaseNotFound => "there is no such lease".into(),
        Rejection::LeaseExists => "the lease is there already".into(),
        Rejection::Compacted { compacted } => {
            format!("compacted away, revision {compacted} is the oldest")
        }
        Rejection::FutureRevision { current } => {
            format!("not reached yet, revision {current} is the newest")
        }
        Rejection::NoSpace { bytes, bytes_max } => {
            format!("no space: {bytes} of {bytes_max} bytes are taken")
        }
        Rejection::Corrupt => "the states of the members differ".into(),
        Rejection::Auth(rejection) => not_allowed(*rejection).into(),
        Rejection::Lock(why) => why.to_string(),
        Rejection::Guard(why) => why.to_string(),
        Rejection::Client(why) => why.to_string(),
        Rejection::Id(why) => why.to_string(),
        Rejection::Invalid(why) => why.clone(),
    }
}

fn not_allowed(rejection: AuthRejection) -> &'static str {
    match rejection {
        AuthRejection::RootUserNotExist => "there is no user root",
        AuthRejection::RootRoleNotExist => "user root lacks the role root",
        AuthRejection::UserAlreadyExists => "the user is there already",
        AuthRejection::UserEmpty => "no user is named",
        AuthRejection::UserNotFound => "there is no such user",
        AuthRejection::RoleAlreadyExists => "the role is there already",
        AuthRejection::RoleNotFound => "there is no such role",
        AuthRejection::RoleEmpty => "no role is named",
        AuthRejection::PermissionNotGiven => "no permission is named",
        AuthRejection::PermissionDenied => "the user may not do this",
        AuthRejection::RoleNotGranted => "the user does not have the role",
        AuthRejection::PermissionNotGranted => "the role does not have the permission",
        AuthRejection::InvalidManagement => {
            "nobody would be in charge, or the permission is for no key"
        }
        AuthRejection::OldRevision => "users changed since the request was let in",
    }
}

fn failed(failure: &Failure) -> String {
    match failure {
        Failure::NoLeader => "no leader is known, nothing happened".into(),
        Failure::LeaderChanged => "the leader changed, certainly not applied".into(),
        Failure::Unknown => "unknown: applied once, or never".into(),
        Failure::Overloaded { queue, limit } => {
            format!("overloaded, the limit of {queue} is {limit}")
        }
        Failure::TooLarge { bytes, bytes_max } => {
            format!("too large: {bytes} bytes, and {bytes_max} are allowed")
        }
        Failure::TooManyLeases { limit } => format!("{limit} leases are there already"),
        Failure::DiskFull => "the disk is full".into(),
        Failure::TooStale { .. } => "this member has heard too little of late".into(),
        Failure::ForeignStamp => "the stamp is of another cluster".into(),
        Failure::MembershipRefused(why) => format!("refused: {why}"),
        Failure::Halted => "this member has stopped".into(),
    }
}
