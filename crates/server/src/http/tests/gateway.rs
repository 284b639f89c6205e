//! JSON in the place of gRPC.

use super::*;

#[tokio::test]
async fn gateway_speaks_etcds_json() {
    let port = start().await;
    let answer = port
        .post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy","unknown":1}"#)
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-type: application/json"),
        "{answer}"
    );
    assert!(
        answer.contains(
            r#"{"header":{"cluster_id":"12","member_id":"10","revision":"2","raft_term":"1"}}"#
        ),
        "{answer}"
    );
    let answer = port.post("/v3beta/kv/range", r#"{"key":"Zm9v"}"#).await;
    let kv = r#""kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","version":"1","value":"YmFy"}],"count":"1"}"#;
    assert!(answer.ends_with(kv) || answer.contains(kv), "{answer}");
    let answer = port.post("/v3/kv/range", "").await;
    let refusal = r#"{"error":"etcdserver: key is not provided","code":3,"message":"etcdserver: key is not provided"}"#;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.ends_with(refusal),
        "{answer}"
    );
    let answer = port.post("/v3/kv/range", "{").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#""code":3"#),
        "{answer}"
    );
    let answer = port.post("/v3/lease/keepalive", r#"{"ID":"5"}"#).await;
    assert!(
        answer.contains(r#"{"result":{"header":{"#) && answer.contains(r#""ID":"5"}}"#),
        "{answer}"
    );
    assert!(
        port.post("/v3/no/such", "{}")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
    assert!(port.get("/v3/kv/put").await.starts_with("HTTP/1.0 501 "));
    // Over HTTP/1.1 nothing is gRPC, whatever it calls itself.
    let body = r#"{"key":"Zm9v"}"#;
    let request = format!(
        "POST /v3/kv/range HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/grpc\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = port.raw(&request).await;
    assert!(answer.contains(r#""key":"Zm9v""#), "{answer}");
}

#[tokio::test]
async fn requests_before_one_that_cannot_be_read_are_answered() {
    let port = start().await;
    let error =
        r#""code":3,"message":"proto: (line 1:7): invalid value for int64 field ID: \"x\"""#;
    let answer = port
        .post("/v3/lease/keepalive", r#"{"ID":"5"} {"ID":"x"}{"ID":"5"}"#)
        .await;
    let lines: Vec<_> = answer.lines().filter(|line| line.contains("{")).collect();
    let [first, last] = lines[..] else {
        panic!("{answer}")
    };
    assert!(first.contains(r#""ID":"5"}}"#), "{answer}");
    assert!(
        last.starts_with(r#"{"error":{"#) && last.contains(error),
        "{answer}"
    );
    let answer = port.post("/v3/lease/keepalive", r#"{"ID":"x"}"#).await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains(error),
        "{answer}"
    );
    let two =
        r#"{"create_request":{"key":"YQ=="}}{"create_request":{"key":"Yg=="}}{"create_request":5}"#;
    let answer = port.post("/v3/watch", two).await;
    assert_eq!(answer.matches(r#""created":true"#).count(), 2, "{answer}");
    let error = r#""message":"proto: syntax error (line 1:19): unexpected token 5""#;
    assert!(answer.contains(error), "{answer}");
}

#[test]
fn older_paths_are_understood() {
    let of = |path: &'static str| current_path(&Uri::from_static(path)).map(|uri| uri.to_string());
    assert_eq!(of("/v3beta/kv/range").as_deref(), Some("/v3/kv/range"));
    assert_eq!(of("/v3alpha/kv/put?x=1").as_deref(), Some("/v3/kv/put?x=1"));
    assert_eq!(of("/v3/kv/put"), None);
}
