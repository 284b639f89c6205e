//! Unary gRPC calls that cost the caller little: HTTP/2 by `h2` and nothing between. A load generator that shares the machine with the servers takes
//! from them whatever it spends itself; half of what tonic's channel costs is its layers, which a closed loop has no use for.

use crate::Outcome;
use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, Connection, SendRequest};
use http::uri::{Authority, Parts, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header};
use prost::Message;
use proto::etcdserverpb as pb;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpStream;
use tonic::{Code, Status};

/// Bytes that may be under way to the client: an answer never waits for room.
const WINDOW_BYTES: u32 = 16 << 20;
/// Compression flag and length, before each message of gRPC.
const PREFIX_BYTES: usize = 5;

/// What reads and writes a connection; it runs as a task of its own.
type Driver = Connection<TcpStream, Bytes>;

/// A connection to one member. Clones share it; it is made at the first call, and again by the call after it was lost.
#[derive(Clone)]
pub struct Unary {
    address: SocketAddr,
    authority: Authority,
    open: Arc<Mutex<Option<SendRequest<Bytes>>>>,
}

impl Unary {
    /// Prepares a connection.
    ///
    /// # Panics
    /// Never: a socket address is an authority.
    pub fn new(address: SocketAddr) -> Unary {
        let authority = address.to_string();
        Unary {
            address,
            authority: authority.parse().expect("an address is an authority"),
            open: Arc::default(),
        }
    }

    /// Connects now instead of at the first call.
    ///
    /// # Errors
    /// The connection cannot be made.
    pub async fn connect(&self) -> Outcome<()> {
        self.opened().await.map(drop)
    }

    /// Asks, and waits for the answer as long as it takes. `path` is that of the method, as in `/etcdserverpb.KV/Put`.
    ///
    /// # Errors
    /// As the server says; `Unavailable` when the connection cannot be made or is lost, and the next call makes a new one.
    pub async fn call<A: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<A, Status> {
        let answer = self.exchange(path, framed(request)).await;
        match answer {
            Ok(answer) => answer,
            Err(lost) => {
                self.forget();
                Err(Status::unavailable(format!("{}: {lost}", self.address)))
            }
        }
    }

    /// Puts a key.
    ///
    /// # Errors
    /// As [`Unary::call`].
    pub async fn put(&self, request: &pb::PutRequest) -> Result<pb::PutResponse, Status> {
        self.call("/etcdserverpb.KV/Put", request).await
    }

    /// Reads keys.
    ///
    /// # Errors
    /// As [`Unary::call`].
    pub async fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    /// The inner result is the server's word, the outer one that of the connection.
    async fn exchange<A: Message + Default>(
        &self,
        path: &'static str,
        body: Bytes,
    ) -> Outcome<Result<A, Status>> {
        let mut open = self.opened().await?;
        let (answer, mut sent) = open.send_request(self.head(path), false)?;
        sent.send_data(body, true)?;
        let (head, mut body) = answer.await?.into_parts();
        if head.status != StatusCode::OK {
            return Ok(Err(Status::unknown(format!("HTTP {}", head.status))));
        }
        if let Some(refused) = refusal(&head.headers) {
            return Ok(Err(refused));
        }
        let message = collect(&mut body).await?;
        let trailers = body.trailers().await?.unwrap_or_default();
        if let Some(refused) = refusal(&trailers) {
            return Ok(Err(refused));
        }
        let decoded = message
            .get(PREFIX_BYTES..)
            .map(A::decode)
            .ok_or_else(|| Status::internal("an answer without a message"));
        Ok(decoded.and_then(|answer| {
            answer.map_err(|error| Status::internal(format!("answer does not decode: {error}")))
        }))
    }

    async fn opened(&self) -> Outcome<SendRequest<Bytes>> {
        let open = self.slot().clone();
        if let Some(open) = open
            && let Ok(open) = open.ready().await
        {
            return Ok(open);
        }
        let (send, connection) = self.connected().await?;
        tokio::spawn(connection);
        *self.slot() = Some(send.clone());
        Ok(send.ready().await?)
    }

    async fn connected(&self) -> Outcome<(SendRequest<Bytes>, Driver)> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let mut settings = Builder::new();
        settings
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        Ok(settings.handshake(socket).await?)
    }

    fn forget(&self) {
        *self.slot() = None;
    }

    fn slot(&self) -> MutexGuard<'_, Option<SendRequest<Bytes>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn head(&self, path: &'static str) -> Request<()> {
        let mut uri = Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(PathAndQuery::from_static(path));
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(uri).expect("all parts are there");
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let grpc = HeaderValue::from_static("application/grpc");
        headers.insert(header::CONTENT_TYPE, grpc);
        request
    }
}

fn framed(request: &impl Message) -> Bytes {
    let length = request.encoded_len();
    let mut body = BytesMut::with_capacity(PREFIX_BYTES + length);
    body.put_u8(0);
    body.put_u32(length as u32);
    request
        .encode(&mut body)
        .expect("the buffer is large enough");
    body.freeze()
}

/// The error in these headers, if they have one.
fn refusal(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

/// The whole body; most come in one piece.
async fn collect(body: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut whole = Bytes::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        whole = if whole.is_empty() {
            piece
        } else {
            [whole, piece].concat().into()
        };
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use tokio::net::TcpListener;

    /// Serves one connection after another; each answers once, with the message in two pieces and with these trailers, and is closed.
    async fn serve(listener: TcpListener, trailers: Vec<HeaderMap>) {
        for trailers in trailers {
            let (socket, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            let message = framed(&pb::RangeResponse {
                count: 300,
                ..Default::default()
            });
            body.send_data(message.slice(..6), false).unwrap();
            body.send_data(message.slice(6..), false).unwrap();
            body.send_trailers(trailers).unwrap();
            connection.graceful_shutdown();
            assert!(
                connection.accept().await.is_none(),
                "one call, then no more"
            );
        }
    }

    fn status(code: &'static str, message: &'static str) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        trailers.insert("grpc-message", HeaderValue::from_static(message));
        trailers
    }

    #[tokio::test]
    async fn answers_refusals_and_lost_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let unary = Unary::new(listener.local_addr().unwrap());
        let range = pb::RangeRequest::default();
        let all = vec![status("0", ""), status("11", "compacted"), status("0", "")];
        let server = tokio::spawn(serve(listener, all));

        let answer = unary.range(&range).await.unwrap();
        assert_eq!(answer.count, 300, "both pieces of the body were read");
        let refused = again(&unary, &range).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        assert_eq!(refused.message(), "compacted");
        assert_eq!(again(&unary, &range).await.unwrap().count, 300);

        server.await.unwrap();
        let lost = again(&unary, &range).await.unwrap_err();
        assert_eq!(lost.code(), Code::Unavailable, "nobody listens any more");
    }

    /// Calls until the end of the last connection was noticed, which one call may have to find out.
    async fn again(unary: &Unary, range: &pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        match unary.range(range).await {
            Err(lost) if lost.code() == Code::Unavailable => unary.range(range).await,
            answer => answer,
        }
    }
}
