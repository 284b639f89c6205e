//! WebSocket (RFC 6455) from the side that serves: the handshake, and messages from bytes and to bytes. No extensions, no IO.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use sha1::{Digest, Sha1};

/// What the standard mixes into the key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The subprotocol in which a browser, which cannot set headers, hands over a token: `Bearer, TOKEN`.
const BEARER: &str = "Bearer";
/// What follows in frames about the connection itself at most.
const CONTROL_BYTES_MAX: usize = 125;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A request wants to go on as a WebSocket.
pub(super) fn is_asked(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::GET && has_word(headers, header::UPGRADE, "websocket")
}

fn has_word(headers: &HeaderMap, name: header::HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter();
    let mut words = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.any(|given| given.trim().eq_ignore_ascii_case(word))
}

/// The answer after which it goes on so; `None`: the request does not say all that is needed.
pub(super) fn accepted<B: Default>(headers: &HeaderMap) -> Option<Response<B>> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    let version = headers.get(header::SEC_WEBSOCKET_VERSION)?;
    if version != "13" || !has_word(headers, header::CONNECTION, "upgrade") {
        return None;
    }
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let given = response.headers_mut();
    given.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    given.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let proof = HeaderValue::try_from(proof(key)).ok()?;
    given.insert(header::SEC_WEBSOCKET_ACCEPT, proof);
    if token(headers).is_some() {
        let bearer = HeaderValue::from_static(BEARER);
        given.insert(header::SEC_WEBSOCKET_PROTOCOL, bearer);
    }
    Some(response)
}

fn proof(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}{GUID}")))
}

/// The token a browser handed over as a subprotocol.
pub(super) fn token(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let token = offered
        .strip_prefix(BEARER)?
        .trim_start()
        .strip_prefix(',')?;
    HeaderValue::from_str(token.trim()).ok()
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A message, text or not.
    Message(Bytes),
    /// To be answered with the same bytes.
    Ping(Bytes),
    /// It has said all.
    Close,
}

/// Why a connection cannot go on, as the standard numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is wrong: the conversation is over.
    Over = 1000,
    /// The bytes make no sense.
    Protocol = 1002,
    /// A message is larger than it may be.
    TooLarge = 1009,
}

/// Makes messages of bytes.
pub(super) struct Hearing {
    message_bytes_max: usize,
    /// A message whose end has not come.
    begun: Option<BytesMut>,
}

/// The head of a frame.
struct Head {
    last: bool,
    kind: u8,
    length: usize,
    mask: [u8; 4],
    /// Its own length.
    bytes: usize,
}

impl Hearing {
    pub(super) fn new(message_bytes_max: usize) -> Hearing {
        Hearing {
            message_bytes_max,
            begun: None,
        }
    }

    /// Takes the next thing said from the bytes that came; `None`: more are needed.
    ///
    /// # Errors
    /// It cannot go on.
    pub(super) fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Heard>, Fault> {
        while let Some(head) = self.head(bytes)? {
            if bytes.len() < head.bytes + head.length {
                return Ok(None);
            }
            bytes.advance(head.bytes);
            let mut payload = bytes.split_to(head.length);
            for (nth, byte) in payload.iter_mut().enumerate() {
                *byte ^= head.mask[nth % 4];
            }
            match head.kind {
                PING => return Ok(Some(Heard::Ping(payload.freeze()))),
                CLOSE => return Ok(Some(Heard::Close)),
                PONG => {}
                _ => {
                    let mut message = self.begun.take().unwrap_or_default();
                    message.unsplit(payload);
                    if head.last {
                        return Ok(Some(Heard::Message(message.freeze())));
                    }
                    self.begun = Some(message);
                }
            }
        }
        Ok(None)
    }

    /// Reads and judges the head of the next frame, if it is there.
    fn head(&self, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let (last, kind) = (first & 0x80 != 0, first & 0x0f);
        let is_control = kind & 0x8 != 0;
        let known = [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG].contains(&kind);
        let in_place = is_control || (kind == CONTINUATION) == self.begun.is_some();
        // A client masks what it sends, and there are no extensions.
        if first & 0x70 != 0 || second & 0x80 == 0 || !known || !in_place {
            return Err(Fault::Protocol);
        }
        let (length, length_bytes) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Ok(None),
            },
            length => (u64::from(length), 0),
        };
        if is_control && (!last || length > CONTROL_BYTES_MAX as u64) {
            return Err(Fault::Protocol);
        }
        let begun = self.begun.as_ref().map_or(0, BytesMut::len) as u64;
        if length.saturating_add(begun) > self.message_bytes_max as u64 {
            return Err(Fault::TooLarge);
        }
        let Some(mask) = rest[length_bytes..].first_chunk() else {
            return Ok(None);
        };
        Ok(Some(Head {
            last,
            kind,
            length: length as usize,
            mask: *mask,
            bytes: 2 + length_bytes + mask.len(),
        }))
    }
}

/// Writes a message of text.
pub(super) fn put_text(out: &mut BytesMut, text: &[u8]) {
    put_frame(out, TEXT, text);
}

/// Answers a ping.
pub(super) fn put_pong(out: &mut BytesMut, ping: &[u8]) {
    put_frame(out, PONG, ping);
}

/// Says that the conversation is over, and why.
pub(super) fn put_close(out: &mut BytesMut, why: Fault) {
    put_frame(out, CLOSE, &(why as u16).to_be_bytes());
}

fn put_frame(out: &mut BytesMut, kind: u8, payload: &[u8]) {
    out.put_u8(0x80 | kind);
    match payload.len() {
        short @ 0..126 => out.put_u8(short as u8),
        middle @ 126..=0xffff => {
            out.put_u8(126);
            out.put_u16(middle as u16);
        }
        long => {
            out.put_u8(127);
            out.put_u64(long as u64);
        }
    }
    out.put_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut plain = BytesMut::new();
        put_frame(&mut plain, first & 0x0f, payload);
        let head = plain.len() - payload.len();
        let mut out = plain[..head].to_vec();
        out[0] = first;
        out[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        out.extend(mask);
        out.extend(
            payload
                .iter()
                .enumerate()
                .map(|(nth, byte)| byte ^ mask[nth % 4]),
        );
        out
    }

    /// Everything that is heard, however the bytes are cut.
    fn heard(bytes: &[u8], piece: usize) -> (Vec<Heard>, Option<Fault>) {
        let mut hearing = Hearing::new(70_000);
        let (mut buffer, mut all) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                match hearing.next(&mut buffer) {
                    Ok(Some(heard)) => all.push(heard),
                    Ok(None) => break,
                    Err(fault) => return (all, Some(fault)),
                }
            }
        }
        (all, None)
    }

    #[test]
    fn the_proof_is_that_of_the_standard() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        assert_eq!(proof(key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let large = vec![b'x'; 66_000];
        let middle = vec![b'y'; 300];
        let bytes = [
            frame(0x81, b"one"),
            frame(0x01, b"t"),
            frame(0x89, b"ping"),
            frame(0x00, b"w"),
            frame(0x8a, b"pong"),
            frame(0x80, b"o"),
            frame(0x82, &large),
            frame(0x81, &middle),
            frame(0x88, b""),
        ]
        .concat();
        let expected = [
            Heard::Message("one".into()),
            Heard::Ping("ping".into()),
            Heard::Message("two".into()),
            Heard::Message(large.into()),
            Heard::Message(middle.into()),
            Heard::Close,
        ];
        for piece in [1, 7, 4096, usize::MAX] {
            let (all, fault) = heard(&bytes, piece);
            assert!(all == expected && fault.is_none(), "{piece}: {fault:?}");
        }
    }

    #[test]
    fn nonsense_ends_the_connection() {
        let unmasked = vec![0x81, 1, b'x'];
        let long_ping = frame(0x89, &[0; 126]);
        let endless = [&[0x81, 0xff][..], &[0xff; 8], &[0; 4]].concat();
        for (bytes, fault) in [
            (unmasked, Fault::Protocol),
            (frame(0xc1, b"extension"), Fault::Protocol),
            (frame(0x83, b"kind"), Fault::Protocol),
            (frame(0x80, b"goes on with nothing"), Fault::Protocol),
            (frame(0x09, b"ping in parts"), Fault::Protocol),
            (long_ping, Fault::Protocol),
            (
                [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
                Fault::Protocol,
            ),
            (endless, Fault::TooLarge),
            (
                [frame(0x01, &[0; 60_000]), frame(0x80, &[0; 20_000])].concat(),
                Fault::TooLarge,
            ),
        ] {
            assert_eq!(heard(&bytes, usize::MAX), (vec![], Some(fault)));
        }
    }

    #[test]
    fn only_whole_requests_are_accepted() {
        let whole = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "Bearer, abc"),
        ];
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let all = headers(&whole);
        assert!(is_asked(&Method::GET, &all) && !is_asked(&Method::POST, &all));
        let response: Response<String> = accepted(&all).expect("it says all");
        assert_eq!(response.headers()["sec-websocket-protocol"], BEARER);
        assert_eq!(token(&all).expect("there is one"), "abc");
        for left_out in 1..4 {
            let mut pairs = whole.to_vec();
            pairs.remove(left_out);
            assert!(accepted::<String>(&headers(&pairs)).is_none(), "{left_out}");
        }
    }
}
