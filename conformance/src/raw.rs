//! Bytes that no honest client sends, through gRPC and beside it.

use crate::connection::Connection;
use crate::random::Random;
use bytes::{Buf, BufMut, Bytes};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

/// Sends bytes as the message of a unary call.
///
/// # Errors
/// As the server says.
pub async fn call(
    connection: &Connection,
    path: &'static str,
    bytes: Bytes,
) -> Result<Bytes, Status> {
    let mut grpc =
        tonic::client::Grpc::new(connection.channel.clone()).max_decoding_message_size(1 << 31);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let answer = grpc
        .unary(
            Request::new(bytes),
            path.parse().expect("a path"),
            Untouched,
        )
        .await?;
    Ok(answer.into_inner())
}

/// A transaction in a transaction in a transaction: TxnRequest.success = 2, RequestOp.request_txn = 4, both length-delimited.
pub fn nested_transactions(depth: usize) -> Bytes {
    let mut inner: Vec<u8> = Vec::new();
    for _ in 0..depth {
        for tag in [0x22, 0x12] {
            let mut outer = vec![tag];
            let mut length = inner.len();
            while length >= 0x80 {
                outer.push(length as u8 | 0x80);
                length >>= 7;
            }
            outer.push(length as u8);
            outer.append(&mut inner);
            inner = outer;
        }
    }
    inner.into()
}

/// Noise, half of it with a beginning that looks right.
pub fn garbage() -> Vec<Vec<u8>> {
    let mut random = Random::new(7);
    let beginnings: [&[u8]; 8] = [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"POST /v3/kv/put HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GET /v3/kv/range HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
    ];
    let noise = |random: &mut Random| {
        (0..random.below(20_000))
            .map(|_| random.bits() as u8)
            .collect::<Vec<u8>>()
    };
    (0..64)
        .map(|at| [beginnings[at % beginnings.len()], &noise(&mut random)].concat())
        .collect()
}

/// A codec that leaves bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Untouched;

impl Codec for Untouched {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Untouched;
    type Decoder = Untouched;

    fn encoder(&mut self) -> Untouched {
        Untouched
    }

    fn decoder(&mut self) -> Untouched {
        Untouched
    }
}

impl Encoder for Untouched {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Untouched {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
