//! The native API as clients use it.

use super::*;
use crate::grpc::method::METHODS;
use fencing::{VerifyError, VerifyingKeys};
use proto::synod::v1;
use proto::synod::v1::election_client::ElectionClient;
use proto::synod::v1::group_client::GroupClient;
use proto::synod::v1::id_client::IdClient;
use proto::synod::v1::kv_client::KvClient as Keys;
use proto::synod::v1::lease_client::LeaseClient as Leases;
use proto::synod::v1::lock_client::LockClient;
use proto::synod::v1::session_client::SessionClient;
use proto::synod::v1::watch_client::WatchClient as Watches;
use std::time::Instant;
use tonic::Status;

async fn open(channel: &Channel) -> v1::OpenSessionResponse {
    let request = v1::OpenSessionRequest {
        ttl_ms: 60_000,
        session: 0,
    };
    let opened = SessionClient::new(channel.clone()).open(request).await;
    opened.unwrap().into_inner()
}

fn acquire(name: &str, session: i64, id: u64, wait_ms: Option<u64>) -> v1::AcquireRequest {
    v1::AcquireRequest {
        name: name.into(),
        session,
        id,
        wait_ms,
        ..Default::default()
    }
}

fn guarded(key: &'static str, name: &str, token: u64) -> v1::PutRequest {
    v1::PutRequest {
        change: Some(v1::Change {
            guards: vec![v1::Guard {
                name: name.into(),
                token,
            }],
            ..Default::default()
        }),
        key: Bytes::from_static(key.as_bytes()),
        ..Default::default()
    }
}

fn reason(status: &Status) -> (Code, &str, &str) {
    let said = |name| {
        status
            .metadata()
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    };
    (status.code(), said("synod-reason"), said("synod-class"))
}

async fn release(channel: &Channel, session: i64, id: u64) -> v1::ReleaseResponse {
    let request = v1::ReleaseRequest {
        change: None,
        session,
        id,
    };
    let released = LockClient::new(channel.clone()).release(request).await;
    released.unwrap().into_inner()
}

/// Who waits for a lock.
async fn waiters(channel: &Channel, name: &str) -> u64 {
    let request = v1::ShowLockRequest {
        name: name.into(),
        ..Default::default()
    };
    let shown = LockClient::new(channel.clone()).show(request).await;
    shown
        .unwrap()
        .into_inner()
        .lock
        .map_or(0, |lock| lock.waiters)
}

async fn until_waiting(channel: &Channel, name: &str, count: u64) {
    let begun = Instant::now();
    while waiters(channel, name).await != count {
        assert!(begun.elapsed() < Duration::from_secs(20), "never {count}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn keys_are_written_and_read_at_every_level() {
    let port = start().await;
    let mut keys = Keys::new(port.channel().await);
    let put = v1::PutRequest {
        key: "a/1".into(),
        value: "x".into(),
        ..Default::default()
    };
    let written = keys.put(put).await.unwrap().into_inner().header.unwrap();
    assert_eq!((written.revision, written.answer_dropped), (2, false));
    let levels = [
        v1::Consistency::default(),
        v1::Consistency {
            level: v1::Level::AtLeast.into(),
            stamp: written.stamp.clone(),
            age_ms: 0,
        },
        v1::Consistency {
            level: v1::Level::Bounded.into(),
            stamp: String::new(),
            age_ms: 60_000,
        },
        v1::Consistency {
            level: v1::Level::Local.into(),
            ..Default::default()
        },
    ];
    for consistency in levels {
        let get = v1::GetRequest {
            consistency: Some(consistency),
            key: "a/1".into(),
            revision: 0,
        };
        let read = keys.get(get).await.unwrap().into_inner();
        assert_eq!(read.kv.unwrap().value, "x");
    }
    let foreign = v1::GetRequest {
        consistency: Some(v1::Consistency {
            level: v1::Level::AtLeast.into(),
            stamp: "1.0.1".into(),
            age_ms: 0,
        }),
        key: "a/1".into(),
        revision: 0,
    };
    let refused = keys.get(foreign).await.unwrap_err();
    assert_eq!(reason(&refused).1, "foreign-stamp");
    let all = v1::RangeRequest {
        key: "a/".into(),
        prefix: true,
        ..Default::default()
    };
    let range = keys.range(all).await.unwrap().into_inner();
    assert_eq!((range.count, range.kvs.len()), (1, 1));
    let delete = v1::DeleteRequest {
        key: "a/".into(),
        prefix: true,
        ..Default::default()
    };
    assert_eq!(keys.delete(delete).await.unwrap().into_inner().deleted, 1);
    let nothing = keys.put(v1::PutRequest::default()).await.unwrap_err();
    assert_eq!(
        reason(&nothing),
        (Code::InvalidArgument, "invalid", "permanent")
    );
}

#[tokio::test]
async fn lock_goes_from_hand_to_hand_and_tokens_rise() {
    let port = start().await;
    let channel = port.channel().await;
    let (one, two) = (open(&channel).await, open(&channel).await);
    assert!(one.client > 0 && two.client > one.client);
    let mut locks = LockClient::new(channel.clone());
    let held = locks
        .acquire(acquire("nightly", one.session, 1, None))
        .await;
    let held = held.unwrap().into_inner();
    // Repeated it is the same grant; somebody else who does not wait is told so.
    let again = locks
        .acquire(acquire("nightly", one.session, 1, None))
        .await;
    assert_eq!(again.unwrap().into_inner().token, held.token);
    let busy = locks
        .acquire(acquire("nightly", two.session, 1, Some(0)))
        .await;
    assert_eq!(
        reason(&busy.unwrap_err()),
        (Code::Aborted, "lock-busy", "permanent")
    );
    let late = locks
        .acquire(acquire("nightly", two.session, 2, Some(30)))
        .await;
    let late = late.unwrap_err();
    assert_eq!(
        reason(&late),
        (Code::DeadlineExceeded, "lock-timeout", "permanent")
    );
    let waiting = tokio::spawn({
        let mut locks = locks.clone();
        async move {
            locks
                .acquire(acquire("nightly", two.session, 3, None))
                .await
        }
    });
    until_waiting(&channel, "nightly", 1).await;
    let released = release(&channel, one.session, 1).await;
    assert_eq!((released.token, released.held), (held.token, false));
    let next = waiting.await.unwrap().unwrap().into_inner();
    assert!(
        next.token > held.token,
        "{} after {}",
        next.token,
        held.token
    );
    let check = |token| v1::CheckRequest {
        name: "nightly".into(),
        token,
        ..Default::default()
    };
    let old = locks.check(check(held.token)).await.unwrap().into_inner();
    assert!(!old.held && !old.newest && old.newest_token == next.token);
    let new = locks.check(check(next.token)).await.unwrap().into_inner();
    assert!(new.held && new.newest);
}

#[tokio::test]
async fn wait_that_its_client_leaves_gives_its_place_up() {
    let port = start().await;
    let channel = port.channel().await;
    let (one, two) = (open(&channel).await, open(&channel).await);
    let mut locks = LockClient::new(channel.clone());
    locks
        .acquire(acquire("l", one.session, 1, None))
        .await
        .unwrap();
    let waiting = tokio::spawn({
        let mut locks = locks.clone();
        async move { locks.acquire(acquire("l", two.session, 1, None)).await }
    });
    until_waiting(&channel, "l", 1).await;
    waiting.abort();
    until_waiting(&channel, "l", 0).await;
    // So does one whose time is over at its client.
    let mut timed = Request::new(acquire("l", two.session, 2, None));
    timed.set_timeout(Duration::from_millis(50));
    assert!(locks.acquire(timed).await.is_err());
    until_waiting(&channel, "l", 0).await;
}

#[tokio::test]
async fn stale_guard_is_refused_through_every_api() {
    let port = start().await;
    let channel = port.channel().await;
    let session = open(&channel).await.session;
    let mut locks = LockClient::new(channel.clone());
    let held = locks.acquire(acquire("a:b", session, 1, None)).await;
    let token = held.unwrap().into_inner().token;
    let (mut keys, mut etcd) = (Keys::new(channel.clone()), port.kv().await);
    let header = format!("a%3Ab:{token}");
    let by_etcd = || {
        let mut request = Request::new(put("k", "v"));
        request
            .metadata_mut()
            .insert("synod-guard", header.parse().unwrap());
        request
    };
    let body = "{\"key\":\"aw==\",\"value\":\"dg==\"}";
    let by_json = || {
        let length = body.len();
        format!(
            "POST /v3/kv/put HTTP/1.1\r\nhost: x\r\nconnection: close\r\nsynod-guard: {header}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    keys.put(guarded("k", "a:b", token)).await.unwrap();
    etcd.put(by_etcd()).await.unwrap();
    assert!(port.raw(&by_json()).await.starts_with("HTTP/1.1 200"));
    release(&channel, session, 1).await;
    let before = etcd.range(range("k")).await.unwrap().into_inner();
    let refused = keys.put(guarded("k", "a:b", token)).await.unwrap_err();
    let stale = (Code::FailedPrecondition, "guard-not-held", "permanent");
    assert_eq!(reason(&refused), stale);
    let refused = etcd.put(by_etcd()).await.unwrap_err();
    assert_eq!(reason(&refused), stale);
    assert!(
        refused.message().contains("is not held with token"),
        "{refused}"
    );
    let answer = port.raw(&by_json()).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("\"reason\":\"guard-not-held\""), "{answer}");
    let after = etcd.range(range("k")).await.unwrap().into_inner();
    assert_eq!(after.kvs, before.kvs);
}

#[tokio::test]
async fn repeated_request_is_applied_once_and_answered_the_same() {
    let port = start().await;
    let channel = port.channel().await;
    let client = open(&channel).await.client;
    let numbered = |sequence: u64| {
        let mut request = Request::new(put("k", "v"));
        let metadata = request.metadata_mut();
        metadata.insert("synod-client", client.into());
        metadata.insert("synod-sequence", sequence.into());
        request
    };
    let mut etcd = port.kv().await;
    let mut revision = async |sequence| {
        let answer = etcd.put(numbered(sequence)).await.unwrap();
        answer.into_inner().header.unwrap().revision
    };
    let first = revision(1).await;
    assert_eq!(revision(1).await, first);
    assert_eq!(revision(2).await, first + 1);
    let change = |sequence, acknowledged_below| v1::Change {
        client,
        sequence,
        acknowledged_below,
        guards: Vec::new(),
    };
    let mut ids = IdClient::new(channel.clone());
    let add = |change| v1::AddRequest {
        change: Some(change),
        name: "n".into(),
        delta: 5,
    };
    for _ in 0..3 {
        let added = ids.add(add(change(3, 3))).await.unwrap().into_inner();
        assert_eq!(added.value, 5);
    }
    let freed = ids.add(add(change(2, 2))).await.unwrap_err();
    assert_eq!(reason(&freed).1, "sequence-freed");
    let stranger = v1::Change {
        client: client + 1000,
        ..change(1, 1)
    };
    let unknown = ids.add(add(stranger)).await.unwrap_err();
    assert_eq!(reason(&unknown).1, "client-unknown");
}

#[tokio::test]
async fn leaders_are_followed() {
    let port = start().await;
    let channel = port.channel().await;
    let mut elections = ElectionClient::new(channel.clone());
    let name = "e".to_owned();
    let observe = v1::ObserveRequest { name: name.clone() };
    let mut heard = elections.observe(observe).await.unwrap().into_inner();
    let leader =
        |heard: Option<v1::LeaderResponse>| heard.unwrap().leader.map(|leader| leader.text);
    assert_eq!(leader(heard.message().await.unwrap()), None);
    for (at, text) in ["one", "two"].into_iter().enumerate() {
        let session = open(&channel).await.session;
        let campaign = v1::CampaignRequest {
            name: name.clone(),
            session,
            id: 1,
            text: text.into(),
            ..Default::default()
        };
        let won = elections.campaign(campaign).await.unwrap().into_inner();
        assert_eq!(
            leader(heard.message().await.unwrap()).as_deref(),
            Some(text)
        );
        let proclaim = v1::ProclaimRequest {
            change: None,
            session,
            id: 1,
            text: format!("{text} at {at}"),
        };
        elections.proclaim(proclaim).await.unwrap();
        let word = leader(heard.message().await.unwrap()).unwrap();
        assert_eq!(word, format!("{text} at {at}"));
        assert!(won.token > 0);
        let resign = v1::ResignRequest {
            change: None,
            session,
            id: 1,
        };
        elections.resign(resign).await.unwrap();
        assert_eq!(leader(heard.message().await.unwrap()), None);
    }
}

#[tokio::test]
async fn groups_tell_who_came_changed_and_left() {
    let port = start().await;
    let channel = port.channel().await;
    let mut groups = GroupClient::new(channel.clone());
    let session = open(&channel).await.session;
    let join = |id: u64, zone: &str| v1::JoinRequest {
        change: None,
        name: "g".into(),
        session,
        id,
        attributes: [("zone".to_owned(), zone.to_owned())].into(),
    };
    let first = groups.join(join(1, "a")).await.unwrap().into_inner();
    let observe = v1::ObserveGroupRequest { name: "g".into() };
    let mut heard = groups.observe(observe).await.unwrap().into_inner();
    let whole = heard.message().await.unwrap().unwrap();
    assert!(whole.whole && whole.changed.len() == 1 && whole.changed[0].attributes["zone"] == "a");
    let second = groups.join(join(2, "b")).await.unwrap().into_inner();
    let came = heard.message().await.unwrap().unwrap();
    assert_eq!(
        (came.whole, came.changed.len(), came.left.len()),
        (false, 1, 0)
    );
    assert_eq!(came.changed[0].token, second.token);
    let update = v1::UpdateMemberRequest {
        change: None,
        session,
        id: 1,
        attributes: [("zone".to_owned(), "c".to_owned())].into(),
    };
    groups.update(update).await.unwrap();
    let changed = heard.message().await.unwrap().unwrap();
    assert_eq!(changed.changed[0].attributes["zone"], "c");
    assert_eq!(changed.changed[0].token, first.token);
    // A session that ends takes all of its memberships with it.
    let close = v1::CloseSessionRequest { session };
    let closed = SessionClient::new(channel.clone()).close(close).await;
    closed.unwrap();
    let left = heard.message().await.unwrap().unwrap();
    assert_eq!(left.left, [first.token, second.token]);
}

#[tokio::test]
async fn named_lease_is_registered_once_and_refreshed_by_name() {
    let port = start().await;
    let mut leases = Leases::new(port.channel().await);
    let register = |id| v1::RegisterRequest {
        name: "worker-1".into(),
        id,
        ttl_ms: 30_000,
        text: "host-1".into(),
    };
    let mine = leases.register(register(77)).await.unwrap().into_inner();
    assert!(mine.id == 77 && mine.token > 0);
    let again = leases.register(register(77)).await.unwrap().into_inner();
    assert_eq!((again.id, again.token), (77, mine.token));
    let taken = leases.register(register(0)).await.unwrap_err();
    assert_eq!(
        reason(&taken),
        (Code::AlreadyExists, "lease-name-taken", "permanent")
    );
    let named = v1::RefreshRequest {
        id: 0,
        name: "worker-1".into(),
    };
    let refreshed = leases.refresh(named.clone()).await.unwrap().into_inner();
    assert_eq!((refreshed.id, refreshed.ttl_ms), (77, 30_000));
    // The one that lost has left no lease behind.
    let list = leases.list(v1::ListLeasesRequest::default()).await;
    assert_eq!(list.unwrap().into_inner().ids, [77]);
    let revoke = v1::RevokeRequest {
        change: None,
        id: 77,
    };
    leases.revoke(revoke).await.unwrap();
    let gone = leases.refresh(named).await.unwrap_err();
    assert_eq!(
        reason(&gone),
        (Code::NotFound, "lease-not-found", "permanent")
    );
}

#[tokio::test]
async fn sessions_are_kept_alive_on_a_stream_and_listed() {
    let port = start().await;
    let channel = port.channel().await;
    let mut sessions = SessionClient::new(channel.clone());
    let opened = open(&channel).await;
    let again = v1::OpenSessionRequest {
        ttl_ms: 60_000,
        session: opened.session,
    };
    let again = sessions.open(again).await.unwrap().into_inner();
    assert_eq!(
        (again.session, again.client),
        (opened.session, opened.client)
    );
    let requests = [opened.session, 4711].map(|session| v1::RefreshSessionRequest { session });
    let answers = sessions.keep_alive(tokio_stream::iter(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl_ms, 60_000);
    assert_eq!(answers.message().await.unwrap().unwrap().ttl_ms, 0);
    let mut locks = LockClient::new(channel.clone());
    locks
        .acquire(acquire("l", opened.session, 0, None))
        .await
        .unwrap();
    let list = sessions.list(v1::ListSessionsRequest::default()).await;
    let list = list.unwrap().into_inner();
    let [info] = &list.sessions[..] else {
        panic!("{list:?}")
    };
    assert_eq!((info.session, info.client), (opened.session, opened.client));
    assert_eq!(
        (info.ttl_ms, info.acquisitions, list.more),
        (60_000, 1, false)
    );
}

#[tokio::test]
async fn ids_are_made_decoded_and_never_twice() {
    let port = start().await;
    let mut ids = IdClient::new(port.channel().await);
    let next = |count| v1::NextRequest {
        count,
        ..Default::default()
    };
    let mut all = ids.next(next(10_000)).await.unwrap().into_inner().ids;
    all.extend(ids.next(next(1)).await.unwrap().into_inner().ids);
    assert_eq!(all.len(), 10_001);
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    let decode = |id: String| v1::DecodeRequest { id, layout: None };
    let decoded = ids
        .decode(decode(all[0].to_string()))
        .await
        .unwrap()
        .into_inner();
    assert!(decoded.unix_ms > 1_600_000_000_000, "{decoded:?}");
    let uuids = ids.uuid(v1::UuidRequest { count: 100 }).await.unwrap();
    let uuids = uuids.into_inner().uuids;
    assert!(uuids.windows(2).all(|pair| pair[0] < pair[1]));
    let decoded = ids
        .decode(decode(uuids[0].clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(decoded.uuid_version, 7);
    assert!(ids.decode(decode("x".into())).await.is_err());
    assert!(ids.next(next(10_001)).await.is_err());
}

#[tokio::test]
async fn watch_tells_what_happens_with_a_stamp() {
    let port = start().await;
    let channel = port.channel().await;
    let watch = v1::WatchRequest {
        key: "a/".into(),
        prefix: true,
        ..Default::default()
    };
    let mut watches = Watches::new(channel.clone());
    let mut heard = watches.watch(watch).await.unwrap().into_inner();
    assert!(heard.message().await.unwrap().unwrap().created);
    let mut etcd = port.kv().await;
    etcd.put(put("b", "no")).await.unwrap();
    etcd.put(put("a/1", "yes")).await.unwrap();
    let told = heard.message().await.unwrap().unwrap();
    assert_eq!(told.events.len(), 1);
    let header = told.header.unwrap();
    assert_eq!(header.revision, 3);
    let get = v1::GetRequest {
        consistency: Some(v1::Consistency {
            level: v1::Level::AtLeast.into(),
            stamp: header.stamp,
            age_ms: 0,
        }),
        key: "a/1".into(),
        revision: 0,
    };
    let read = Keys::new(channel).get(get).await.unwrap().into_inner();
    assert_eq!(read.kv.unwrap().value, "yes");
}

#[tokio::test]
async fn json_has_every_call_with_reasons() {
    let port = start().await;
    let opened = port
        .post("/synod/v1/session/open", "{\"ttl_ms\": 60000}")
        .await;
    assert!(opened.starts_with("HTTP/1.1 200"), "{opened}");
    let body = opened.split("\r\n\r\n").nth(1).unwrap();
    let opened: serde_json::Value = serde_json::from_str(body).unwrap();
    let session = opened["session"].as_str().unwrap();
    let lock = format!("{{\"name\":\"nightly\",\"session\":{session},\"wait_ms\":0}}");
    let held = port.post("/synod/v1/lock/acquire", &lock).await;
    assert!(held.contains("\"token\":\""), "{held}");
    let busy = port.post("/synod/v1/lock/acquire", &lock).await;
    assert!(busy.starts_with("HTTP/1.1 409"), "{busy}");
    assert!(
        busy.contains("\"reason\":\"lock-busy\",\"class\":\"permanent\""),
        "{busy}"
    );
    let ids = port.get("/synod/v1/id/next").await;
    assert!(
        ids.starts_with("HTTP/1.0 200") && ids.contains("\"ids\":[\""),
        "{ids}"
    );
    let wrong = port.get("/synod/v1/lock/acquire").await;
    assert!(wrong.starts_with("HTTP/1.0 501"), "{wrong}");
    assert!(
        port.post("/synod/v1/lock/none", "{}")
            .await
            .starts_with("HTTP/1.1 404")
    );
}

#[tokio::test]
async fn openapi_document_has_every_path() {
    let port = start().await;
    let answer = port.get("/openapi.json").await;
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let native = METHODS.iter().filter(|method| method.is_native());
    let native: Vec<_> = native.collect();
    for method in &native {
        let path = format!("/synod/v1/{}", method.native_path().unwrap());
        let operations = paths
            .get(&path)
            .unwrap_or_else(|| panic!("{path} is missing"));
        assert!(operations["post"]["requestBody"].is_object(), "{path}");
        assert_eq!(
            operations.get("get").is_some(),
            method.may_be_got(),
            "{path}"
        );
    }
    assert_eq!(paths.len(), native.len());
    // Whatever is referred to is there.
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for part in body.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
    let mode = &schemas["synod.v1.AcquireRequest"]["properties"]["wait_ms"];
    assert!(
        mode["description"]
            .as_str()
            .unwrap()
            .contains("How long to wait")
    );
}

/// The keys that a resource would fetch.
async fn fetched(port: &Port) -> VerifyingKeys {
    let page = port.get("/synod/v1/keys").await;
    let (_, set) = page.split_once("\r\n\r\n").expect("a page");
    VerifyingKeys::from_jwks(set).unwrap_or_else(|error| panic!("{error}: {page}"))
}

#[tokio::test]
async fn tokens_of_before_a_rotation_verify_until_their_key_is_dropped() {
    let port = start().await;
    let channel = port.channel().await;
    let session = open(&channel).await.session;
    let mut locks = LockClient::new(channel.clone());
    assert_eq!(fetched(&port).await, VerifyingKeys::new());
    let request = v1::AcquireRequest {
        sign: true,
        ..acquire("nightly", session, 1, None)
    };
    let old = locks.acquire(request).await.unwrap().into_inner();
    let (token, old) = (old.token, old.signed_token);
    let before = fetched(&port).await;
    assert_eq!(before.verify(&old).unwrap().token, token);
    let keys = locks.keys(v1::KeysRequest {}).await.unwrap().into_inner();
    let [first] = &keys.keys[..] else {
        panic!("{keys:?}")
    };
    assert!(first.signs);
    let rotate = v1::RotateKeyRequest {
        replaces: first.kid.clone(),
        keep_ms: None,
    };
    let rotated = locks.rotate_key(rotate.clone()).await.unwrap();
    let [second, kept] = &rotated.into_inner().keys[..] else {
        panic!("two keys")
    };
    assert!(second.signs && !kept.signs && kept.kid == first.kid);
    // Repeated, it does nothing.
    let again = locks.rotate_key(rotate).await.unwrap_err();
    assert_eq!(
        reason(&again),
        (Code::FailedPrecondition, "other-key", "permanent")
    );
    let request = v1::SignRequest { session, id: 1 };
    let new = locks.sign(request).await.unwrap().into_inner();
    let new = new.signed_token;
    let unknown = VerifyError::UnknownKey(second.kid.clone());
    assert_eq!(before.verify(&new), Err(unknown));
    let both = fetched(&port).await;
    assert_eq!(both.verify(&new).unwrap().token, token);
    assert_eq!(both.verify(&old).unwrap().token, token);
    let check = |signed_token: &String| v1::CheckRequest {
        signed_token: signed_token.clone(),
        ..v1::CheckRequest::default()
    };
    let checked = locks.check(check(&old)).await.unwrap().into_inner();
    assert!(checked.held && checked.newest);
    let signing = v1::DropKeyRequest {
        kid: second.kid.clone(),
    };
    let refused = locks.drop_key(signing).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::FailedPrecondition, "key-signs", "permanent")
    );
    let kid = first.kid.clone();
    let left = locks.drop_key(v1::DropKeyRequest { kid }).await.unwrap();
    assert_eq!(left.into_inner().keys.len(), 1);
    let after = fetched(&port).await;
    let unknown = VerifyError::UnknownKey(first.kid.clone());
    assert_eq!(after.verify(&old), Err(unknown));
    assert_eq!(after.verify(&new).unwrap().token, token);
    let refused = locks.check(check(&old)).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        (Code::InvalidArgument, "signed-token-invalid", "permanent")
    );
    assert!(locks.check(check(&new)).await.unwrap().into_inner().held);
}

#[tokio::test]
async fn nobody_follows_a_name_that_nothing_can_have() {
    let port = start().await;
    let channel = port.channel().await;
    let any = v1::ObserveRequest::default;
    let lock = LockClient::new(channel.clone()).observe(any()).await;
    let leader = ElectionClient::new(channel.clone()).observe(any()).await;
    let group = v1::ObserveGroupRequest::default();
    let group = GroupClient::new(channel.clone()).observe(group).await;
    // The refusal is the first that the stream says.
    let refusals = [
        lock.unwrap().into_inner().message().await.err(),
        leader.unwrap().into_inner().message().await.err(),
        group.unwrap().into_inner().message().await.err(),
    ];
    for refused in refusals {
        let refused = refused.expect("an empty name is nobody's");
        assert_eq!(
            reason(&refused),
            (Code::InvalidArgument, "out-of-bounds", "permanent"),
            "{refused}"
        );
    }
}
