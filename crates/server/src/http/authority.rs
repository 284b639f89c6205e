//! Lets in clients whose `:authority` is none.
//!
//! Go clients of etcd put things like `#initially=[http://host:2379]` or `http://host:2379` there, and etcd does not mind; the HTTP/2 library
//! below us ends such requests with a protocol error. Nothing here looks at the authority, so what cannot be parsed is replaced, on its
//! way in, by letters. The compression of headers (HPACK, RFC 7541) is followed just far enough for that: a replacement has the length of
//! the original, so that both ends go on agreeing about the size of their tables.

use bytes::{Buf, BytesMut};
use http::uri::Authority;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How a client of HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER_BYTES: usize = 9;
const FRAME_HEADERS: u8 = 1;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;

/// Frames that carry headers are held until they are whole; larger ones than the protocol's default pass as they are.
const FRAME_BYTES_MAX: usize = 16_384;

/// `:authority` in HPACK's static table.
const AUTHORITY_INDEX: u64 = 1;

/// Header fields looked at per frame: the pseudo-headers come first, and there are at most five.
const FIELDS_MAX: usize = 8;

const READ_BYTES: usize = 8 << 10;

/// A connection whose clients may send any authority.
pub(crate) struct AnyAuthority<S> {
    inner: S,
    /// Bytes read and not yet passed on.
    unread: BytesMut,
    /// How many of them may be passed on.
    released: usize,
    mode: Mode,
}

enum Mode {
    /// Is this HTTP/2?
    Beginning,
    /// It is; so many bytes of the present frame are still to come.
    Frames { payload_left: usize },
    /// It is not, or it makes no sense: what comes is passed on as it is.
    Passing,
}

impl<S> AnyAuthority<S> {
    /// Wraps a connection before anything was read from it.
    pub(crate) fn new(inner: S) -> AnyAuthority<S> {
        AnyAuthority {
            inner,
            unread: BytesMut::new(),
            released: 0,
            mode: Mode::Beginning,
        }
    }

    /// Looks at what is not released yet, and releases what is clear.
    fn advance(&mut self) {
        loop {
            let waiting = &self.unread[self.released..];
            match &mut self.mode {
                Mode::Passing => {
                    self.released = self.unread.len();
                    return;
                }
                Mode::Beginning
                    if waiting.len() >= PREFACE.len() && waiting.starts_with(PREFACE) =>
                {
                    self.released += PREFACE.len();
                    self.mode = Mode::Frames { payload_left: 0 };
                }
                Mode::Beginning if PREFACE.starts_with(waiting) => return,
                Mode::Beginning => self.mode = Mode::Passing,
                Mode::Frames { payload_left } if *payload_left > 0 => {
                    let passed = waiting.len().min(*payload_left);
                    if passed == 0 {
                        return;
                    }
                    self.released += passed;
                    *payload_left -= passed;
                }
                Mode::Frames { payload_left } => {
                    if waiting.len() < FRAME_HEADER_BYTES {
                        return;
                    }
                    let length = usize::from(waiting[0]) << 16
                        | usize::from(waiting[1]) << 8
                        | usize::from(waiting[2]);
                    if waiting[3] != FRAME_HEADERS || length > FRAME_BYTES_MAX {
                        self.released += FRAME_HEADER_BYTES;
                        *payload_left = length;
                        continue;
                    }
                    if waiting.len() < FRAME_HEADER_BYTES + length {
                        return;
                    }
                    let frame = &waiting[..FRAME_HEADER_BYTES + length];
                    self.released += match mended(frame) {
                        None => frame.len(),
                        Some(mended) => {
                            let rest = self
                                .unread
                                .split_off(self.released + FRAME_HEADER_BYTES + length);
                            self.unread.truncate(self.released);
                            self.unread.extend_from_slice(&mended);
                            self.unread.unsplit(rest);
                            mended.len()
                        }
                    };
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.released == 0 {
            if let Mode::Passing = this.mode
                && this.unread.is_empty()
            {
                return Pin::new(&mut this.inner).poll_read(context, target);
            }
            this.unread.reserve(READ_BYTES);
            let outcome = pin!(this.inner.read_buf(&mut this.unread)).poll(context);
            if outcome.is_pending() && this.unread.is_empty() {
                // An idle connection keeps no buffer.
                this.unread = BytesMut::new();
            }
            if ready!(outcome)? == 0 {
                // The end: whatever was held back goes as it is.
                this.released = this.unread.len();
                break;
            }
            this.advance();
        }
        let passed = this.released.min(target.remaining());
        target.put_slice(&this.unread[..passed]);
        this.unread.advance(passed);
        this.released -= passed;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

/// A whole frame of headers with its authority replaced, if that is none.
fn mended(frame: &[u8]) -> Option<Vec<u8>> {
    let flags = frame[4];
    let mut begin = FRAME_HEADER_BYTES;
    let mut end = frame.len();
    if flags & FLAG_PADDED != 0 {
        end = end.checked_sub(usize::from(*frame.get(begin)?))?;
        begin += 1;
    }
    if flags & FLAG_PRIORITY != 0 {
        begin += 5;
    }
    let (at, value) = authority_literal(frame.get(begin..end)?)?;
    let text = text(value)?;
    if Authority::try_from(&text[..]).is_ok() {
        return None;
    }
    let mut mended = frame[..begin + at].to_vec();
    put_length(&mut mended, text.len() as u64);
    mended.resize(mended.len() + text.len(), b'x');
    mended.extend_from_slice(&frame[begin + at + value.len()..]);
    let length = u32::try_from(mended.len() - FRAME_HEADER_BYTES).ok()?;
    mended[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    (length as usize <= FRAME_BYTES_MAX).then_some(mended)
}

/// Finds the value given to `:authority` among the first fields of a block: where it begins, and the bytes it takes.
fn authority_literal(block: &[u8]) -> Option<(usize, &[u8])> {
    let mut at = 0;
    for _ in 0..FIELDS_MAX {
        let first = *block.get(at)?;
        // By its first bits: from the table; a literal that enters the table; a size of the table; a literal that stays outside of it.
        let prefix_bits = match first {
            0x80.. => 7,
            0x40..=0x7f => 6,
            0x20..=0x3f => 5,
            0..=0x1f => 4,
        };
        let (index, bytes) = integer(&block[at..], prefix_bits)?;
        at += bytes;
        if matches!(prefix_bits, 7 | 5) {
            continue;
        }
        if index == 0 {
            at += literal(block.get(at..)?)?.len();
        }
        let value = literal(block.get(at..)?)?;
        if index == AUTHORITY_INDEX {
            return Some((at, value));
        }
        at += value.len();
    }
    None
}

/// A string as HPACK writes it: the bytes it takes there.
fn literal(block: &[u8]) -> Option<&[u8]> {
    let (length, prefix) = integer(block, 7)?;
    block.get(..prefix.checked_add(usize::try_from(length).ok()?)?)
}

/// What a string says; `None` if it is coded and not printable.
fn text(literal: &[u8]) -> Option<Vec<u8>> {
    let (_, prefix) = integer(literal, 7)?;
    let raw = &literal[prefix..];
    if literal[0] & 0x80 == 0 {
        Some(raw.to_vec())
    } else {
        huffman_decoded(raw)
    }
}

/// Reads an integer that begins in the low `prefix_bits` of the first byte: its value, and the bytes it takes.
fn integer(bytes: &[u8], prefix_bits: u32) -> Option<(u64, usize)> {
    let mask = (1u64 << prefix_bits) - 1;
    let mut value = u64::from(*bytes.first()?) & mask;
    if value < mask {
        return Some((value, 1));
    }
    for (at, byte) in bytes.iter().enumerate().skip(1).take(5) {
        value += u64::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// Writes the length of a string that is not coded.
fn put_length(bytes: &mut Vec<u8>, length: u64) {
    const PREFIX_MAX: u64 = 0x7f;
    if length < PREFIX_MAX {
        bytes.push(length as u8);
        return;
    }
    bytes.push(PREFIX_MAX as u8);
    let mut rest = length - PREFIX_MAX;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// HPACK's code for printable text: bits, first code of that length, and the characters in the order of their codes.
const HUFFMAN: [(u32, u32, &[u8]); 10] = [
    (5, 0x0, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
    (10, 0x3f8, b"!\"()?"),
    (11, 0x7fa, b"'+|"),
    (12, 0xffa, b"#>"),
    (13, 0x1ff8, b"\0$@[]~"),
    (14, 0x3ffc, b"^}"),
    (15, 0x7ffc, b"<`{"),
];

/// The longest of these codes.
const HUFFMAN_BITS_MAX: u32 = 15;

/// Decodes printable text; `None` if there is anything else in it.
fn huffman_decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut code, mut bits) = (0u32, 0);
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1))
    {
        code = code << 1 | u32::from(bit);
        bits += 1;
        let symbols = HUFFMAN
            .iter()
            .find(|(length, first, _)| *length == bits && code >= *first);
        if let Some(symbol) =
            symbols.and_then(|(_, first, symbols)| symbols.get((code - first) as usize))
        {
            text.push(*symbol);
            (code, bits) = (0, 0);
        }
        if bits > HUFFMAN_BITS_MAX {
            return None;
        }
    }
    // What is left is padding: ones, less than a byte.
    (bits < 8 && code == (1 << bits) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples of RFC 7541, appendix C.
    #[test]
    fn huffman_code_is_hpacks() {
        let decoded =
            |bytes: &[u8]| huffman_decoded(bytes).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(
            decoded(b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff").as_deref(),
            Some("www.example.com")
        );
        assert_eq!(
            decoded(b"\xa8\xeb\x10\x64\x9c\xbf").as_deref(),
            Some("no-cache")
        );
        let date = b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff";
        assert_eq!(
            decoded(date).as_deref(),
            Some("Mon, 21 Oct 2013 20:13:21 GMT")
        );
        let location = b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3";
        assert_eq!(
            decoded(location).as_deref(),
            Some("https://www.example.com")
        );
        assert_eq!(decoded(b"\xff\xff\xff\xff"), None);
    }

    /// The first request of RFC 7541, appendix C.4.1, with an authority of one's own, as a frame.
    fn request(literal: &[u8], flags: u8, padding: &[u8]) -> Vec<u8> {
        let mut block = vec![0x82, 0x86, 0x84, 0x41];
        block.extend_from_slice(literal);
        block.extend_from_slice(b"\x40\x0acustom-key\x0ccustom-value");
        let mut payload = Vec::new();
        if flags & FLAG_PADDED != 0 {
            payload.push(padding.len() as u8);
        }
        if flags & FLAG_PRIORITY != 0 {
            payload.extend_from_slice(&[0, 0, 0, 0, 16]);
        }
        payload.extend_from_slice(&block);
        payload.extend_from_slice(padding);
        let length = (payload.len() as u32).to_be_bytes();
        [
            &length[1..],
            &[FRAME_HEADERS, flags | 0x4, 0, 0, 0, 1],
            &payload,
        ]
        .concat()
    }

    fn plain(text: &str) -> Vec<u8> {
        let mut literal = Vec::new();
        put_length(&mut literal, text.len() as u64);
        literal.extend_from_slice(text.as_bytes());
        literal
    }

    const CODED_URL: &[u8] =
        b"\x91\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3";

    #[test]
    fn authority_is_replaced_only_if_it_is_none() {
        assert_eq!(mended(&request(&plain("localhost:2379"), 0, b"")), None);
        assert_eq!(
            mended(&request(
                b"\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
                0,
                b""
            )),
            None
        );
        for text in [
            "http://localhost:2379",
            "#initially=[http://127.0.0.1:2379]",
            &"/".repeat(200),
            &"/".repeat(400),
        ] {
            for (flags, padding) in [
                (0, &b""[..]),
                (FLAG_PADDED, b"\0\0\0"),
                (FLAG_PADDED | FLAG_PRIORITY, b"\0"),
                (FLAG_PRIORITY, b""),
            ] {
                let expected = request(&plain(&"x".repeat(text.len())), flags, padding);
                assert_eq!(
                    mended(&request(&plain(text), flags, padding)),
                    Some(expected),
                    "{text}"
                );
            }
        }
        // The table of the other end counts decoded lengths, so the replacement of coded text is as long as the text.
        assert_eq!(
            mended(&request(CODED_URL, 0, b"")),
            Some(request(&plain(&"x".repeat(23)), 0, b""))
        );
    }

    #[test]
    fn nonsense_is_left_alone() {
        let frame = request(CODED_URL, FLAG_PADDED | FLAG_PRIORITY, b"\0\0");
        for cut in FRAME_HEADER_BYTES..frame.len() {
            let _ = mended(&frame[..cut]);
        }
        for at in 0..frame.len() {
            for byte in [0, 0x3f, 0x40, 0x41, 0x7f, 0x80, 0xff] {
                let mut damaged = frame.clone();
                damaged[at] = byte;
                let _ = mended(&damaged);
            }
        }
    }

    async fn passed(bytes: &[u8], chunk: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(chunk);
        let bytes = bytes.to_vec();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut client, &bytes).await });
        let mut passed = Vec::new();
        AnyAuthority::new(server)
            .read_to_end(&mut passed)
            .await
            .unwrap();
        passed
    }

    #[tokio::test]
    async fn everything_else_passes_as_it_is_however_it_arrives() {
        let data = [&[0, 0x80, 0, 0, 0, 0, 0, 0, 1][..], &[7; 0x8000]].concat();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let before = [PREFACE, &settings[..]].concat();
        let sent = [
            &before,
            &request(CODED_URL, 0, b"")[..],
            &data,
            &request(&plain("a:1"), 0, b""),
            &settings,
        ]
        .concat();
        let expected = [
            &before,
            &request(&plain(&"x".repeat(23)), 0, b"")[..],
            &data,
            &request(&plain("a:1"), 0, b""),
            &settings,
        ]
        .concat();
        for chunk in [1, 7, 100, 1 << 20] {
            assert!(
                passed(&sent, chunk).await == expected,
                "in chunks of {chunk}"
            );
        }
        let http1 = b"POST /v3/kv/range HTTP/1.1\r\nhost: http://x\r\n\r\n".repeat(400);
        assert!(passed(&http1, 1000).await == http1);
        assert_eq!(passed(b"PRI * HT", 100).await, b"PRI * HT");
    }
}
