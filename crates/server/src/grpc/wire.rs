//! gRPC framing of unary calls: one message in, one out, status in trailers.
//!
//! Unary calls do not go through tonic's codec: it copies each message into a buffer of its own and holds a whole answer at once, and a range over a
//! million keys must be written piece by piece. Streams are tonic's.

use super::body::Body;
use super::context::STAMP_HEADER;
use bytes::{BufMut, Bytes, BytesMut};
use etcd::{Code, Status};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use prost::Message;
use replica::Stamp;

/// Bytes before each message: a flag for compression, then the length.
pub(crate) const PREFIX_BYTES: usize = 5;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// The prefix of a message.
pub(crate) fn prefix(bytes: usize) -> [u8; PREFIX_BYTES] {
    let length = u32::try_from(bytes)
        .expect("a message below 4 GiB")
        .to_be_bytes();
    [0, length[0], length[1], length[2], length[3]]
}

/// Reads and decodes the one message of a unary request.
///
/// # Errors
/// The body breaks off, is too large, compressed, or no such message.
pub(crate) async fn read<M, B>(body: B, bytes_max: usize) -> Result<M, Status>
where
    M: Message + Default,
    B: HttpBody<Data = Bytes> + Unpin,
{
    let bytes = read_bytes(body, bytes_max).await?;
    M::decode(bytes).map_err(|error| {
        Status::new(
            Code::Internal,
            format!("grpc: error unmarshalling request: {error}"),
        )
    })
}

async fn read_bytes<B>(mut body: B, bytes_max: usize) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let Some(frame) = body.frame().await else {
            break;
        };
        let Ok(frame) = frame else {
            return Err(Status::CANCELED);
        };
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        if rest.is_empty() && first.is_empty() {
            first = bytes;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&bytes);
        }
        check(if rest.is_empty() { &first } else { &rest }, bytes_max)?;
        if body.is_end_stream() {
            break;
        }
    }
    // The usual request is one frame, whose bytes the message shares.
    let bytes = if rest.is_empty() {
        first
    } else {
        rest.freeze()
    };
    if bytes.len() < PREFIX_BYTES || bytes.len() - PREFIX_BYTES != length(&bytes) {
        return Err(Status::new(
            Code::Internal,
            "grpc: a unary request is one message, this body is not",
        ));
    }
    Ok(bytes.slice(PREFIX_BYTES..))
}

/// Refuses what arrived so far if its prefix already says that it will not do.
fn check(bytes: &[u8], bytes_max: usize) -> Result<(), Status> {
    if bytes.len() < PREFIX_BYTES {
        return Ok(());
    }
    if bytes[0] != 0 {
        return Err(Status::new(
            Code::Unimplemented,
            "grpc: compressed requests are not supported",
        ));
    }
    let length = length(bytes);
    if length > bytes_max {
        let text = format!("grpc: received message larger than max ({length} vs. {bytes_max})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    if bytes.len() - PREFIX_BYTES > length {
        return Err(Status::new(
            Code::Internal,
            "grpc: a unary request is one message, this body is more",
        ));
    }
    Ok(())
}

fn length(bytes: &[u8]) -> usize {
    u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize
}

/// A message with its prefix.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    buffer.put_slice(&prefix(bytes));
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

/// A response with one message.
pub(crate) fn respond(message: &impl Message, stamp: Option<Stamp>) -> Response<Body> {
    respond_body(Body::Message(framed(message)), stamp)
}

/// A response with a body that ends in the trailers of success.
pub(crate) fn respond_body(body: Body, stamp: Option<Stamp>) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
    if let Some(stamp) = stamp.and_then(|stamp| HeaderValue::try_from(stamp.to_string()).ok()) {
        headers.insert(STAMP_HEADER, stamp);
    }
    response
}

/// A response that refuses.
pub(crate) fn refuse(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.headers_mut() = trailers(status.code as u16, &status.text);
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// The trailers after an answer.
pub(crate) fn success_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

/// The trailers that refuse.
pub(crate) fn trailers(code: u16, text: &str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", HeaderValue::from(code));
    if let Ok(text) = HeaderValue::try_from(percent_encoded(text)) {
        trailers.insert("grpc-message", text);
    }
    trailers
}

/// A status text as gRPC wants it in a header.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use proto::etcdserverpb::PutRequest;

    fn framed(message: &[u8]) -> Vec<u8> {
        [&prefix(message.len())[..], message].concat()
    }

    async fn read_frames(frames: Vec<Vec<u8>>) -> Result<PutRequest, Status> {
        let frames = frames
            .into_iter()
            .map(|bytes| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(bytes))));
        read(StreamBody::new(futures_util::stream::iter(frames)), 1000).await
    }

    #[tokio::test]
    async fn message_is_read_however_it_is_cut() {
        let put = PutRequest {
            key: Bytes::from_static(b"key"),
            value: Bytes::from(vec![7; 100]),
            ..Default::default()
        };
        let bytes = framed(&put.encode_to_vec());
        for cut in 0..bytes.len() {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(
                read_frames(vec![front.to_vec(), back.to_vec()]).await,
                Ok(put.clone()),
                "cut at {cut}"
            );
        }
        assert_eq!(
            read_frames(bytes.chunks(1).map(<[u8]>::to_vec).collect()).await,
            Ok(put)
        );
    }

    #[tokio::test]
    async fn broken_framing_is_refused() {
        let code = async |bytes: Vec<u8>| read_frames(vec![bytes]).await.unwrap_err().code;
        assert_eq!(code(vec![]).await, Code::Internal);
        assert_eq!(code(vec![0, 0, 0]).await, Code::Internal);
        assert_eq!(code(vec![0, 0, 0, 0, 9, 1]).await, Code::Internal);
        assert_eq!(code(vec![0, 0, 0, 0, 0, 1]).await, Code::Internal);
        assert_eq!(code(vec![1, 0, 0, 0, 0]).await, Code::Unimplemented);
        assert_eq!(code(framed(&[0xff; 20])).await, Code::Internal);
    }

    #[tokio::test]
    async fn too_large_a_message_is_refused_by_its_prefix() {
        let bytes = [&[0][..], &1001u32.to_be_bytes()].concat();
        let status = read::<PutRequest, _>(Full::new(Bytes::from(bytes)), 1000)
            .await
            .unwrap_err();
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(
            status.text,
            "grpc: received message larger than max (1001 vs. 1000)"
        );
    }

    #[test]
    fn status_text_is_percent_encoded() {
        assert_eq!(percent_encoded("a: 100%\né"), "a: 100%25%0A%C3%A9");
    }
}
