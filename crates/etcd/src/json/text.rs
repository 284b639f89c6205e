//! Strings, and the bytes in them.

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Reads the string that a text begins with; with it comes how many bytes of the text it took.
///
/// # Errors
/// What is wrong, or `None` if the text ends too early.
pub(super) fn read(text: &[u8]) -> Result<(String, usize), Option<String>> {
    let mut out = String::new();
    let mut at = 1;
    loop {
        let plain = |byte: &&u8| !matches!(byte, b'"' | b'\\');
        let end = at + text[at..].iter().take_while(plain).count();
        let piece = std::str::from_utf8(&text[at..end]);
        out.push_str(piece.map_err(|_| Some("invalid UTF-8 in string".to_owned()))?);
        let rest = text.get(end..).ok_or(None)?;
        match rest {
            [b'"', ..] => return Ok((out, end + 1)),
            [b'\\', b'u', ..] => {
                let (letter, len) = escaped(rest)?;
                out.push(letter);
                at = end + len;
            }
            [b'\\', byte, ..] => {
                out.push(match byte {
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    byte => char::from(*byte),
                });
                at = end + 2;
            }
            _ => return Err(None),
        }
    }
}

/// A character by its number, and how many bytes say it: those outside of the first 65536 are said by a pair.
fn escaped(text: &[u8]) -> Result<(char, usize), Option<String>> {
    let unit = |from: usize| {
        let digits = std::str::from_utf8(text.get(from..from + 4)?).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(2).ok_or(None)?;
    if let Some(letter) = char::from_u32(first.into()) {
        return Ok((letter, 6));
    }
    if text.len() < 12 {
        return Err(None);
    }
    let second = unit(8).filter(|_| text[6..].starts_with(b"\\u"));
    let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    let second = String::from_utf8_lossy(&text[6..12]);
    let wrong = || Some(format!("invalid escape code {second:?} in string"));
    pair.map(|letter| (letter, 12)).ok_or_else(wrong)
}

const fn engine(alphabet: &Alphabet, padding: DecodePaddingMode) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(padding);
    GeneralPurpose::new(alphabet, config)
}

static PLAIN: GeneralPurpose = engine(&STANDARD, DecodePaddingMode::RequireNone);
static PLAIN_PADDED: GeneralPurpose = engine(&STANDARD, DecodePaddingMode::RequireCanonical);
static URL: GeneralPurpose = engine(&URL_SAFE, DecodePaddingMode::RequireNone);
static URL_PADDED: GeneralPurpose = engine(&URL_SAFE, DecodePaddingMode::RequireCanonical);

/// Bytes written in base64: in the alphabet and with the padding that they seem to be in. Ends of lines may stand anywhere.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let engine = match (text.contains(['-', '_']), text.len() % 4) {
        (false, 0) => &PLAIN_PADDED,
        (false, _) => &PLAIN,
        (true, 0) => &URL_PADDED,
        (true, _) => &URL,
    };
    if text.contains(['\r', '\n']) {
        engine.decode(text.replace(['\r', '\n'], "")).ok()
    } else {
        engine.decode(text).ok()
    }
}
