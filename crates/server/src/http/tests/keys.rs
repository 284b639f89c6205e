//! Puts, ranges, what is refused, and answers of any size.

use super::*;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};

#[tokio::test]
async fn put_is_read_back_with_header_and_stamp() {
    let port = start().await;
    let mut kv = port.kv().await;
    let answer = kv.put(put("k", "v")).await.unwrap();
    let stamp = answer
        .metadata()
        .get("synod-stamp")
        .expect("answers carry a stamp")
        .clone();
    let header = answer.into_inner().header.unwrap();
    assert_eq!(
        (header.cluster_id, header.member_id, header.revision),
        (0xc, 0xa, 2)
    );
    assert!(header.raft_term > 0);

    for consistency in [
        "linearizable",
        "local",
        "bounded=10s",
        &format!("at-least={}", stamp.to_str().unwrap()),
    ] {
        let mut request = Request::new(range("k"));
        request
            .metadata_mut()
            .insert("synod-consistency", consistency.parse().unwrap());
        let answer = kv.range(request).await.unwrap().into_inner();
        assert_eq!(answer.kvs[0].value, &b"v"[..], "{consistency}");
        assert_eq!(answer.header.unwrap().revision, 2);
    }
}

#[tokio::test]
async fn refusals_have_etcds_codes_and_texts() {
    let port = start().await;
    let mut kv = port.kv().await;
    let refused = kv.put(put("", "v")).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "etcdserver: key is not provided")
    );
    let refused = kv
        .range(RangeRequest {
            revision: 99,
            ..range("k")
        })
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision"
        )
    );
    let refused = kv
        .put(PutRequest {
            lease: 5,
            ..put("k", "v")
        })
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, "etcdserver: requested lease not found")
    );

    let mut request = Request::new(range("k"));
    request
        .metadata_mut()
        .insert("synod-consistency", "psychic".parse().unwrap());
    let refused = kv.range(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("psychic") && refused.message().contains("at-least=STAMP"),
        "{}",
        refused.message()
    );
}

/// Sends any message to any path.
async fn call<M: prost::Message + 'static>(
    channel: Channel,
    path: &'static str,
    message: M,
) -> tonic::Status {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<M, RangeRequest>::default();
    grpc.unary(
        Request::new(message),
        http::uri::PathAndQuery::from_static(path),
        codec,
    )
    .await
    .unwrap_err()
}

#[tokio::test]
async fn nonsense_is_refused_and_the_connection_lives_on() {
    let port = start().await;
    let channel = port.channel().await;
    let refused = call(
        channel.clone(),
        "/etcdserverpb.KV/Put",
        LeaseGrantRequest { ttl: 5, id: 6 },
    )
    .await;
    assert_eq!(refused.code(), Code::Internal);
    let refused = call(channel.clone(), "/etcdserverpb.KV/Nonsense", range("k")).await;
    assert_eq!(refused.code(), Code::Unimplemented);
    let refused = call(channel.clone(), "/no.such.Service/Call", range("k")).await;
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(KvClient::new(channel).range(range("k")).await.is_ok());
}

#[tokio::test]
async fn too_large_requests_are_refused_by_their_kind() {
    let port = start().await;
    let mut kv = port.kv().await;
    let refused = kv.put(put("k", vec![0; 1_600_000])).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    let refused = kv.put(put("k", vec![0; 3_000_000])).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused
            .message()
            .starts_with("grpc: received message larger than max (3000"),
        "{}",
        refused.message()
    );
    assert!(kv.put(put("k", vec![0; 1_500_000])).await.is_ok());
}

#[tokio::test]
async fn client_deadline_is_kept() {
    let (_open, fate) = watch::channel(StreamFate::Open);
    let (handle, _stalled) = memory_member::stalled();
    let door = Door {
        handle,
        fate,
        txn_operations_max: 128,
        waiting: Waiting::default(),
        queueing: Arc::new(Semaphore::new(1)),
        users: auth::users(),
        exports: Arc::new(Semaphore::new(1)),
        issuers: Arc::default(),
        examiner: Arc::new(examiner()),
    };
    let services = Services {
        door,
        metrics: Arc::new(Metrics::new()),
        intake: Intake {
            bytes_max: 1000,
            arriving: Waiting::default(),
        },
    };
    let message = prost::Message::encode_to_vec(&put("k", "v"));
    let framed = [&(message.len() as u64).to_be_bytes()[3..], &message].concat();
    let request = http::Request::post("/etcdserverpb.KV/Put")
        .header("grpc-timeout", "20m")
        .body(http_body_util::Full::new(Bytes::from(framed)));
    let response = services.serve(request.unwrap()).await;
    assert_eq!(response.headers()["grpc-status"], "4");
    assert_eq!(
        response.headers()["grpc-message"],
        "context deadline exceeded"
    );
}

#[tokio::test]
async fn large_range_arrives_whole() {
    let port = start().await;
    let mut kv = port.kv().await;
    for n in 0..300 {
        kv.put(put(&format!("k{n:03}"), vec![n as u8; 3000]))
            .await
            .unwrap();
    }
    let whole = RangeRequest {
        range_end: Bytes::from_static(b"\0"),
        ..range("k")
    };
    let answer = kv.range(whole.clone()).await.unwrap().into_inner();
    assert_eq!((answer.count, answer.kvs.len()), (300, 300));
    assert!(
        answer
            .kvs
            .iter()
            .enumerate()
            .all(|(n, kv)| kv.key == format!("k{n:03}") && kv.value[..] == vec![n as u8; 3000])
    );

    let json = port
        .post("/v3/kv/range", r#"{"key":"aw==","range_end":"AA=="}"#)
        .await;
    assert!(json.contains(r#""count":"300"}"#));
    assert_eq!(json.matches(r#""create_revision""#).count(), 300);
}

#[tokio::test]
async fn unread_large_answers_do_not_hold_up_others() {
    let port = start().await;
    let mut kv = port.kv().await;
    for n in 0..12 {
        kv.put(put(&format!("k{n}"), vec![1; 300_000]))
            .await
            .unwrap();
    }
    // A client that asks and never reads: it takes the answer's headers only.
    let mut stalled = Vec::new();
    for _ in 0..5 {
        let body = r#"{"key":"aw==","range_end":"AA=="}"#;
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        let request = format!(
            "POST /v3/kv/range HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        stalled.push(stream);
    }
    for n in 0..100 {
        kv.put(put("other", n.to_string())).await.unwrap();
    }
}

#[tokio::test]
async fn range_stream_tells_one_revision_page_by_page() {
    let port = start().await;
    let mut kv = port.kv().await;
    for n in 0..700 {
        kv.put(put(&format!("k{n:03}"), vec![b'v'; 4096]))
            .await
            .unwrap();
    }
    let all = RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..Default::default()
    };
    for (limit, keys) in [(0, 700), (500, 500)] {
        let request = RangeRequest {
            limit,
            ..all.clone()
        };
        let mut stream = kv.range_stream(request).await.unwrap().into_inner();
        let (mut pages, mut told) = (0, Vec::new());
        let last = loop {
            let page = stream.message().await.unwrap().unwrap();
            let page = page.range_response.unwrap();
            pages += 1;
            if pages == 1 {
                // Later than the first page: nobody is to see it.
                kv.put(put("k000", "changed")).await.unwrap();
                kv.put(put("k999", "new")).await.unwrap();
            }
            told.extend(page.kvs);
            if let Some(header) = page.header {
                break (header, page.count, page.more);
            }
            assert_eq!((page.count, page.more), (0, false));
        };
        assert!(stream.message().await.unwrap().is_none());
        assert!(pages > 2, "{pages}");
        assert_eq!(told.len(), keys);
        assert!(told.iter().all(|kv| kv.mod_revision <= last.0.revision));
        assert!(told.is_sorted_by(|a, b| a.key < b.key));
        assert_eq!(last.2, limit > 0);
        kv.delete_range(proto::etcdserverpb::DeleteRangeRequest {
            key: "k999".into(),
            ..Default::default()
        })
        .await
        .unwrap();
        assert_eq!(last.1, 700);
    }
    // A target without an order is none, as in etcd.
    let unsorted = RangeRequest {
        sort_target: SortTarget::Mod.into(),
        ..all.clone()
    };
    let mut stream = kv.range_stream(unsorted).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let sorted = RangeRequest {
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Mod.into(),
        ..all.clone()
    };
    let filtered = RangeRequest {
        min_mod_revision: 5,
        ..all
    };
    for (request, what) in [
        (sorted, "custom sort orders"),
        (filtered, "revision filters"),
    ] {
        let mut stream = kv.range_stream(request).await.unwrap().into_inner();
        let refused = stream.message().await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
        let text = format!("RangeStream does not support {what}");
        assert_eq!(refused.message(), text);
    }
}
