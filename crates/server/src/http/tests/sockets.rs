//! The gateway over WebSockets, spoken by hand.

use super::*;

/// A client that understands frames of fewer than 64 KiB.
struct Socket {
    stream: TcpStream,
}

impl Socket {
    async fn open(port: &Port, path: &str, more: &str) -> (Socket, String) {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (Socket { stream }, String::from_utf8(head).unwrap())
    }

    async fn say(&mut self, kind: u8, payload: &[u8]) {
        let mask = [7, 0, 9, 1];
        let mut frame = vec![0x80 | kind, 0x80 | 126];
        frame.extend((payload.len() as u16).to_be_bytes());
        frame.extend(mask);
        let masked = payload.iter().zip(mask.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next frame: its kind, and what it carries.
    async fn hear(&mut self) -> (u8, String) {
        let kind = self.stream.read_u8().await.unwrap();
        let length = match self.stream.read_u8().await.unwrap() {
            126 => self.stream.read_u16().await.unwrap(),
            short => short.into(),
        };
        let mut payload = vec![0; length.into()];
        self.stream.read_exact(&mut payload).await.unwrap();
        (kind & 0x0f, String::from_utf8_lossy(&payload).into_owned())
    }

    /// The next message, which is text.
    async fn message(&mut self) -> String {
        let (kind, text) = self.hear().await;
        assert_eq!(kind, TEXT, "{text}");
        text
    }
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Closed because all was said.
const OVER: &str = "\u{3}\u{fffd}";

#[tokio::test]
async fn a_watch_streams_both_ways() {
    let port = start().await;
    let (mut socket, head) = Socket::open(&port, "/v3/watch", "").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    socket
        .say(TEXT, br#"{"create_request":{"key":"aw=="}}"#)
        .await;
    let created = socket.message().await;
    assert!(created.contains(r#""created":true"#), "{created}");
    port.kv().await.put(put("k", "one")).await.unwrap();
    let event = socket.message().await;
    assert!(event.contains(r#""value":"b25l""#), "{event}");
    // Later requests find the same stream.
    socket.say(PING, b"there?").await;
    assert_eq!(socket.hear().await, (PONG, "there?".into()));
    let more =
        br#"{"create_request":{"key":"eA==","watch_id":"7"}} {"cancel_request":{"watch_id":"7"}}"#;
    socket.say(TEXT, more).await;
    assert!(socket.message().await.contains(r#""watch_id":"7""#));
    let canceled = socket.message().await;
    assert!(canceled.contains(r#""canceled":true"#), "{canceled}");
    socket.say(CLOSE, b"").await;
    assert_eq!(socket.hear().await, (CLOSE, OVER.into()));
    assert_eq!(socket.stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_call_of_one_answer_is_answered_and_over() {
    let port = start().await;
    let (mut socket, _) = Socket::open(&port, "/v3/kv/put", "").await;
    socket.say(TEXT, br#"{"key":"aw==","value":"dg=="}"#).await;
    let answer = socket.message().await;
    assert!(answer.contains(r#""revision":"2""#), "{answer}");
    assert_eq!(socket.hear().await, (CLOSE, OVER.into()));

    for (path, message, refusal) in [
        ("/v3/kv/put", "{}", "etcdserver: key is not provided"),
        ("/v3/kv/put", "{", "unexpected EOF"),
        ("/v3/no/such", "{}", "Not Found"),
    ] {
        let (mut socket, _) = Socket::open(&port, path, "").await;
        socket.say(TEXT, message.as_bytes()).await;
        let answer = socket.message().await;
        assert!(answer.contains(refusal), "{answer}");
    }
}

#[tokio::test]
async fn a_token_comes_as_a_subprotocol() {
    let port = start().await;
    let protocol = "sec-websocket-protocol: Bearer, nonsense\r\n";
    let (mut socket, head) = Socket::open(&port, "/v3/kv/range", protocol).await;
    assert!(head.contains("sec-websocket-protocol: Bearer"), "{head}");
    // While authentication is off, nobody asks for it.
    socket.say(TEXT, br#"{"key":"aw=="}"#).await;
    let answer = socket.message().await;
    assert!(answer.contains(r#""header""#), "{answer}");
}

#[tokio::test]
async fn sockets_end_with_the_server_and_on_nonsense() {
    let port = start().await;
    let (mut silent, _) = Socket::open(&port, "/v3/watch", "").await;
    let (mut waiting, _) = Socket::open(&port, "/v3/kv/range", "").await;
    let (mut wrong, _) = Socket::open(&port, "/v3/watch", "").await;
    wrong.stream.write_all(&[0x81, 1, b'x']).await.unwrap();
    assert_eq!(wrong.hear().await, (CLOSE, "\u{3}\u{fffd}".into()));
    let answer = port
        .raw("GET /v3/watch HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    drop(port.stop);
    let ended = silent.message().await;
    assert!(ended.contains("etcdserver: server stopped"), "{ended}");
    assert_eq!(waiting.hear().await.0, CLOSE);
}
