//! What the streaming calls share: framing of what they send, statuses in tonic's form, and noting how each stream ended.

use super::advice;
use super::events::EventsMessage;
use super::method::Method;
use super::wire;
use crate::http::metrics::Metrics;
use bytes::{Bytes, BytesMut};
use etcd::{Code, Status};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http::HeaderMap;
use hyper::body::Frame;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A refusal in tonic's form.
pub(crate) fn tonic_status(status: &Status) -> tonic::Status {
    tonic::Status::with_metadata(
        tonic::Code::from_i32(status.code as i32),
        status.text.clone(),
        advice::metadata(status.advice.as_ref()),
    )
}

/// The time that the client gave is over.
pub(crate) fn context_deadline() -> Status {
    Status::new(Code::DeadlineExceeded, "context deadline exceeded")
}

/// Notes in the metrics how a stream ended; one that is dropped was given up by its client.
pub(crate) struct Ended {
    metrics: Arc<Metrics>,
    method: Method,
    begun: Instant,
    noted: bool,
}

impl Ended {
    /// Notes that a stream begins now.
    pub fn begin(metrics: Arc<Metrics>, method: Method) -> Ended {
        metrics.started(method);
        Ended {
            metrics,
            method,
            begun: Instant::now(),
            noted: false,
        }
    }

    /// Which call it is.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Passes the answers of a call on until its deadline, and notes how they ended.
    pub fn noting<M: Send>(
        self,
        answers: impl Stream<Item = Result<M, Status>> + Send,
        timeout: Option<Duration>,
    ) -> impl Stream<Item = Result<M, tonic::Status>> + Send {
        let deadline = timeout.map(|timeout| tokio::time::Instant::now() + timeout);
        futures_util::stream::unfold(Some((Box::pin(answers), self)), move |state| async move {
            let (mut answers, mut ended) = state?;
            let next = match deadline {
                None => answers.next().await,
                Some(deadline) => tokio::time::timeout_at(deadline, answers.next())
                    .await
                    .unwrap_or_else(|_| Some(Err(context_deadline()))),
            };
            match next {
                Some(Ok(answer)) => Some((Ok(answer), Some((answers, ended)))),
                Some(Err(status)) => Some((Err(ended.with(tonic_status(&status))), None)),
                None => {
                    ended.well();
                    None
                }
            }
        })
    }

    /// It ended with this status, which is given back.
    pub fn with(&mut self, status: tonic::Status) -> tonic::Status {
        self.note(status.code() as usize);
        status
    }

    /// It was refused before it began.
    pub fn refused(mut self, status: Status) -> Status {
        self.note(status.code as usize);
        status
    }

    /// It ended in good order.
    pub fn well(&mut self) {
        self.note(0);
    }

    fn note(&mut self, code: usize) {
        if !std::mem::replace(&mut self.noted, true) {
            self.metrics
                .handled(self.method, code, self.begun.elapsed());
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.note(Code::Canceled as usize);
    }
}

/// Small messages that are ready together leave together, up to about this size; larger ones leave in pieces of it.
const PIECE_BYTES: usize = 32 << 10;

/// Something a stream sends.
pub(crate) enum Message {
    /// A message with its prefix.
    Whole(Bytes),
    /// A large one, written piece by piece.
    Pieces(EventsPieces),
}

/// A large message under way.
pub(crate) struct EventsPieces {
    message: EventsMessage,
    /// Goes before the first piece.
    prefix: Option<[u8; wire::PREFIX_BYTES]>,
}

impl Message {
    /// Frames a message.
    pub fn whole(message: &impl prost::Message) -> Message {
        Message::Whole(wire::framed(message))
    }

    /// Frames a response with changes, which must be measured.
    pub fn events(mut message: EventsMessage) -> Message {
        let bytes = message.bytes();
        if bytes > PIECE_BYTES {
            return Message::Pieces(EventsPieces {
                message,
                prefix: Some(wire::prefix(bytes)),
            });
        }
        let mut buffer = BytesMut::with_capacity(wire::PREFIX_BYTES + bytes);
        buffer.extend_from_slice(&wire::prefix(bytes));
        while message.write_piece(&mut buffer, PIECE_BYTES) {}
        Message::Whole(buffer.freeze())
    }
}

impl EventsPieces {
    fn next(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES + 1024);
        piece.extend_from_slice(
            self.prefix
                .take()
                .as_ref()
                .map_or(&[], |prefix| &prefix[..]),
        );
        self.message
            .write_piece(&mut piece, PIECE_BYTES)
            .then(|| piece.freeze())
    }
}

/// The messages of a stream as frames of its body; the trailers say how it ended.
pub(crate) struct Outgoing {
    /// `None` once it has ended.
    messages: Option<BoxStream<'static, Result<Message, tonic::Status>>>,
    pieces: Option<EventsPieces>,
    gathered: BytesMut,
    trailers: Option<HeaderMap>,
}

impl Outgoing {
    /// Begins to send.
    pub fn new(
        messages: impl Stream<Item = Result<Message, tonic::Status>> + Send + 'static,
    ) -> Outgoing {
        Outgoing {
            messages: Some(Box::pin(messages)),
            pieces: None,
            gathered: BytesMut::new(),
            trailers: None,
        }
    }

    /// The next frame.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            if self.gathered.len() >= PIECE_BYTES
                || (!self.gathered.is_empty() && (self.pieces.is_some() || self.messages.is_none()))
            {
                return Poll::Ready(Some(self.gathered_frame()));
            }
            if let Some(pieces) = &mut self.pieces {
                if let Some(piece) = pieces.next() {
                    return Poll::Ready(Some(Frame::data(piece)));
                }
                self.pieces = None;
            }
            let Some(messages) = &mut self.messages else {
                return Poll::Ready(self.trailers.take().map(Frame::trailers));
            };
            match messages.as_mut().poll_next(context) {
                Poll::Pending if self.gathered.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Some(self.gathered_frame())),
                Poll::Ready(Some(Ok(Message::Whole(bytes)))) => {
                    self.gathered.extend_from_slice(&bytes)
                }
                Poll::Ready(Some(Ok(Message::Pieces(pieces)))) => self.pieces = Some(pieces),
                Poll::Ready(Some(Err(status))) => {
                    let mut trailers = wire::trailers(status.code() as u16, status.message());
                    trailers.extend(status.metadata().clone().into_headers());
                    self.end(trailers)
                }
                Poll::Ready(None) => self.end(wire::success_trailers()),
            }
        }
    }

    /// All of it is sent.
    pub fn is_done(&self) -> bool {
        self.messages.is_none() && self.trailers.is_none() && self.gathered.is_empty()
    }

    fn end(&mut self, trailers: HeaderMap) {
        self.messages = None;
        self.trailers = Some(trailers);
    }

    fn gathered_frame(&mut self) -> Frame<Bytes> {
        // No buffer is kept while a stream is idle.
        Frame::data(std::mem::take(&mut self.gathered).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    async fn frames(messages: Vec<Result<Message, tonic::Status>>) -> Vec<Frame<Bytes>> {
        let mut outgoing = Outgoing::new(stream::iter(messages));
        let mut frames = Vec::new();
        while let Some(frame) = std::future::poll_fn(|context| outgoing.poll_frame(context)).await {
            frames.push(frame);
        }
        assert!(outgoing.is_done());
        frames
    }

    #[tokio::test]
    async fn ready_messages_leave_together_and_trailers_come_last() {
        let whole = |text: &'static str| Ok(Message::Whole(Bytes::from_static(text.as_bytes())));
        let sent = frames(vec![
            whole("a"),
            whole("b"),
            Err(tonic::Status::unavailable("gone")),
        ])
        .await;
        let [data, trailers] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(data.data_ref().unwrap(), &b"ab"[..]);
        assert_eq!(trailers.trailers_ref().unwrap()["grpc-status"], "14");
        assert_eq!(trailers.trailers_ref().unwrap()["grpc-message"], "gone");
        let sent = frames(vec![]).await;
        assert_eq!(sent[0].trailers_ref().unwrap()["grpc-status"], "0");
    }
}
