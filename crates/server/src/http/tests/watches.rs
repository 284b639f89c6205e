//! Watch streams.

use super::*;

#[tokio::test]
async fn watch_tells_changes_until_it_is_canceled() {
    let port = start().await;
    let mut kv = port.kv().await;
    let mut watching = Watching::open(&port).await;
    watching.create(WatchCreateRequest {
        watch_id: 7,
        prev_kv: true,
        ..all_keys()
    });
    let created = watching.hear().await;
    assert_eq!(
        (created.watch_id, created.created, created.canceled),
        (7, true, false)
    );
    assert_eq!(created.header.unwrap().cluster_id, 0xc);

    kv.put(put("k", "1")).await.unwrap();
    kv.put(put("k", "2")).await.unwrap();
    let mut events = Vec::new();
    while events.len() < 2 {
        events.extend(watching.hear().await.events);
    }
    let first = events[0].kv.as_ref().unwrap();
    assert_eq!(
        (
            &first.value[..],
            first.mod_revision,
            events[0].prev_kv.is_none()
        ),
        (&b"1"[..], 2, true)
    );
    assert_eq!(events[1].prev_kv.as_ref().unwrap().value, &b"1"[..]);

    watching.say(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    let progress = watching.hear().await;
    assert_eq!(
        (
            progress.watch_id,
            progress.events.len(),
            progress.header.unwrap().revision
        ),
        (-1, 0, 3)
    );

    watching.say(RequestUnion::CancelRequest(WatchCancelRequest {
        watch_id: 7,
    }));
    let canceled = watching.hear().await;
    assert_eq!(
        (
            canceled.watch_id,
            canceled.canceled,
            canceled.compact_revision
        ),
        (7, true, 0)
    );
}

#[tokio::test]
async fn watch_refusals_are_etcds() {
    let port = start().await;
    let mut watching = Watching::open(&port).await;
    let mut refused = async |create| {
        watching.create(create);
        let response = watching.hear().await;
        assert_eq!(
            (response.watch_id, response.created, response.canceled),
            (-1, true, true)
        );
        response.cancel_reason
    };
    let past = WatchCreateRequest {
        start_revision: -1,
        ..all_keys()
    };
    assert_eq!(
        refused(past).await,
        "etcdserver: mvcc: required revision has been compacted"
    );
    let empty = WatchCreateRequest {
        range_end: Bytes::from_static(b"A"),
        ..all_keys()
    };
    assert_eq!(refused(empty).await, "mvcc: watcher range is empty");
}

#[tokio::test]
async fn watch_from_a_compacted_revision_begins_and_ends() {
    let port = start().await;
    let mut kv = port.kv().await;
    for n in 0..5 {
        kv.put(put("k", n.to_string())).await.unwrap();
    }
    kv.compact(CompactionRequest {
        revision: 4,
        physical: false,
    })
    .await
    .unwrap();
    let mut watching = Watching::open(&port).await;
    watching.create(WatchCreateRequest {
        start_revision: 2,
        ..all_keys()
    });
    assert!(watching.hear().await.created);
    let ended = watching.hear().await;
    assert_eq!(
        (
            ended.canceled,
            ended.compact_revision,
            ended.cancel_reason.as_str()
        ),
        (true, 4, "")
    );
}

#[tokio::test]
async fn watch_goes_on_when_its_client_has_said_all() {
    let port = start().await;
    let mut watching = Watching::open(&port).await;
    watching.create(all_keys());
    assert!(watching.hear().await.created);
    let Watching { say, mut hear } = watching;
    drop(say);
    port.kv().await.put(put("k", "v")).await.unwrap();
    assert_eq!(hear.message().await.unwrap().unwrap().events.len(), 1);
}

/// etcd's client ends a watch for good that is refused for want of a leader, and one that lost its member opens it anew in the midst of an election.
#[tokio::test]
async fn a_watch_that_insists_on_a_leader_may_begin_in_an_election() {
    let (handle, _leaderless) = memory_member::stalled();
    let port = Port::open(handle, auth::users(), LIMITS).await;
    let begun = tokio::time::Instant::now();
    for refused_within in [Duration::MAX, Duration::from_secs(1)] {
        let asked = tokio::time::Instant::now();
        let mut request = Request::new(tokio_stream::pending());
        let insists = "true".parse().unwrap();
        request.metadata_mut().insert("hasleader", insists);
        let status = match WatchClient::new(port.channel().await).watch(request).await {
            Ok(answers) => answers.into_inner().message().await.unwrap_err(),
            Err(status) => status,
        };
        assert_eq!(status.message(), "etcdserver: no leader");
        assert!(asked.elapsed() < refused_within, "{:?}", asked.elapsed());
        assert!(begun.elapsed() > Duration::from_secs(2), "{begun:?}");
    }
}
