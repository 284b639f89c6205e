//! gRPC framing of unary calls: one message in, one out, status in trailers.
//!
//! Unary calls do not go through tonic's codec: it copies each message into a buffer of its own and holds a whole answer at once, and a range over a
//! million keys must be written piece by piece. Streams are tonic's.

use super::advice;
use super::body::Body;
use super::context::{STAMP_HEADER, stamp_value};
use super::waiting::Waiting;
use bytes::{BufMut, Bytes, BytesMut};
use etcd::{Code, Status};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use prost::Message;
use replica::Stamp;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

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

/// A request that is larger than this is counted while it arrives.
const COUNTED_BYTES_MIN: usize = 64 << 10;

/// How long a request may take to arrive once it has begun.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);

/// What requests are held to while they arrive.
#[derive(Clone)]
pub(crate) struct Intake {
    /// Bytes of a message at most.
    pub bytes_max: usize,
    /// Large requests that have begun to arrive.
    pub arriving: Waiting,
}

/// Reads the one message of a unary request.
///
/// # Errors
/// The body breaks off, is too large, compressed, or not one message; or too much is arriving already.
pub(crate) async fn read<B>(body: B, intake: &Intake) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut arriving = pin!(read_bytes(body, intake));
    // Nearly every request is here already: only the others need a timer.
    match poll_fn(|context| Poll::Ready(arriving.as_mut().poll(context))).await {
        Poll::Ready(bytes) => bytes,
        Poll::Pending => tokio::time::timeout(ARRIVAL_TIMEOUT, arriving)
            .await
            .unwrap_or(Err(Status::CANCELED)),
    }
}

async fn read_bytes<B>(mut body: B, intake: &Intake) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut received = Received::default();
    let mut counted = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Status::CANCELED);
        };
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        received.push(bytes);
        let expected = check(received.bytes(), intake.bytes_max)?;
        if body.is_end_stream() {
            break;
        }
        if expected > COUNTED_BYTES_MIN && counted.is_none() {
            if intake.arriving.is_full() {
                return Err(Status::TOO_MANY_REQUESTS);
            }
            counted = Some(intake.arriving.hold(expected));
        }
    }
    let bytes = received.finish();
    if bytes.len() < PREFIX_BYTES || bytes.len() - PREFIX_BYTES != length(&bytes) {
        return Err(Status::new(
            Code::Internal,
            "grpc: a unary request is one message, this body is not",
        ));
    }
    Ok(bytes.slice(PREFIX_BYTES..))
}

/// What has arrived of a body. The usual request is one frame, whose bytes its message then shares.
#[derive(Default)]
struct Received {
    first: Bytes,
    all: BytesMut,
}

impl Received {
    fn push(&mut self, bytes: Bytes) {
        if self.bytes().is_empty() {
            self.first = bytes;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&bytes);
    }

    fn bytes(&self) -> &[u8] {
        if self.all.is_empty() {
            &self.first
        } else {
            &self.all
        }
    }

    fn finish(self) -> Bytes {
        if self.all.is_empty() {
            self.first
        } else {
            self.all.freeze()
        }
    }
}

/// The length of the message, or 0 while it is not known; refuses what arrived so far if its prefix already says that it will not do.
fn check(bytes: &[u8], bytes_max: usize) -> Result<usize, Status> {
    if bytes.len() < PREFIX_BYTES {
        return Ok(0);
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
    Ok(length)
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
    if let Some(stamp) = stamp {
        headers.insert(&STAMP_HEADER, stamp_value(stamp));
    }
    response
}

/// A response that refuses.
pub(crate) fn refuse(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    *headers = trailers(status.code as u16, &status.text);
    if let Some(advice) = &status.advice {
        advice::write(advice, headers);
    }
    headers.insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
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

    fn intake() -> Intake {
        Intake {
            bytes_max: 1000,
            arriving: Waiting::default(),
        }
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&prefix(message.len())[..], message].concat()
    }

    async fn read_put<B>(body: B, intake: &Intake) -> Result<PutRequest, Status>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let message = read(body, intake).await?;
        Ok(PutRequest::decode(message).expect("the framing was right"))
    }

    async fn read_frames(frames: Vec<Vec<u8>>) -> Result<PutRequest, Status> {
        let frames = frames
            .into_iter()
            .map(|bytes| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(bytes))));
        read_put(
            StreamBody::new(futures_util::stream::iter(frames)),
            &intake(),
        )
        .await
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
    }

    #[tokio::test]
    async fn too_large_a_message_is_refused_by_its_prefix() {
        let bytes = [&[0][..], &1001u32.to_be_bytes()].concat();
        let status = read_put(Full::new(Bytes::from(bytes)), &intake())
            .await
            .unwrap_err();
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(
            status.text,
            "grpc: received message larger than max (1001 vs. 1000)"
        );
    }

    #[tokio::test]
    async fn large_requests_are_refused_while_too_much_is_arriving() {
        let intake = Intake {
            bytes_max: 1 << 20,
            arriving: Waiting::default(),
        };
        let _held = intake.arriving.hold(1 << 30);
        let put = |bytes| PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::from(vec![0; bytes]),
            ..Default::default()
        };
        let read = async |bytes| {
            let framed = framed(&put(bytes).encode_to_vec());
            let frames = framed.chunks(framed.len() / 2).map(|half| {
                Ok::<_, std::convert::Infallible>(Frame::data(Bytes::copy_from_slice(half)))
            });
            let frames = frames.collect::<Vec<_>>();
            read_put(StreamBody::new(futures_util::stream::iter(frames)), &intake).await
        };
        assert_eq!(read(100_000).await, Err(Status::TOO_MANY_REQUESTS));
        assert_eq!(read(1000).await, Ok(put(1000)));
    }

    #[test]
    fn status_text_is_percent_encoded() {
        assert_eq!(percent_encoded("a: 100%\né"), "a: 100%25%0A%C3%A9");
    }
}
