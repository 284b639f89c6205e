//! Bodies of responses: gRPC messages with their trailers, streams, pages.

use super::stream::Outgoing;
use super::waiting::Held;
use super::wire;
use bytes::{Bytes, BytesMut};
use etcd::RangeMessage;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Any body this server sends.
#[derive(Default)]
pub(crate) enum Body {
    /// Nothing: the headers say it all.
    #[default]
    Empty,
    /// One gRPC message with its prefix, then the trailers of success.
    Message(Bytes),
    /// The trailers of success.
    Trailers,
    /// A large range, written as the client reads it, then the trailers of success.
    Range(Pieces),
    /// A gRPC stream.
    Stream(Outgoing),
    /// Anything that is not gRPC.
    Page(axum::body::Body),
}

/// What can go wrong while a body is written.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Body::Empty => Poll::Ready(None),
            Body::Message(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Body::Trailers;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Body::Trailers => {
                *this = Body::Empty;
                Poll::Ready(Some(Ok(Frame::trailers(wire::success_trailers()))))
            }
            Body::Range(pieces) => match pieces.next() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => {
                    *this = Body::Empty;
                    Poll::Ready(Some(Ok(Frame::trailers(wire::success_trailers()))))
                }
            },
            Body::Stream(stream) => stream.poll_frame(context).map(|frame| frame.map(Ok)),
            Body::Page(page) => Pin::new(page).poll_frame(context).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Message(_) | Body::Trailers | Body::Range(_) => false,
            Body::Stream(stream) => stream.is_done(),
            Body::Page(page) => page.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Page(page) => page.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

/// Bytes of a large message written at once: well below a millisecond of work, and a few network frames.
const PIECE_BYTES: usize = 64 << 10;

/// Keys dropped in one go when a client does not want the rest of its answer.
const DROP_KEYS: usize = 4096;

/// A large message that is written piece by piece.
pub(crate) struct Pieces {
    /// `None` once it is written.
    message: Option<RangeMessage>,
    /// Goes before the first piece.
    prefix: Option<[u8; wire::PREFIX_BYTES]>,
    _held: Held,
}

impl Pieces {
    /// Begins to write a message, which must be measured.
    pub fn new(message: RangeMessage, held: Held) -> Pieces {
        let prefix = Some(wire::prefix(message.bytes()));
        Pieces {
            message: Some(message),
            prefix,
            _held: held,
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        let message = self.message.as_mut()?;
        // Room for the entry that crosses the mark.
        let mut piece = BytesMut::with_capacity(PIECE_BYTES + 1024);
        piece.extend_from_slice(
            self.prefix
                .take()
                .as_ref()
                .map_or(&[], |prefix| &prefix[..]),
        );
        if message.write_piece(&mut piece, PIECE_BYTES) {
            return Some(piece.freeze());
        }
        self.message = None;
        None
    }
}

impl Drop for Pieces {
    /// Gives a million keys back without holding up the loop that runs this.
    fn drop(&mut self) {
        let Some(mut message) = self.message.take() else {
            return;
        };
        if message.keys_left() > DROP_KEYS
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                while message.drop_some(DROP_KEYS) {
                    tokio::task::yield_now().await;
                }
            });
        }
    }
}
