//! Names, as they come in headers: bytes with what is not plain written as `%xx`.

/// Undoes percent-coding; `None` if it is none.
pub fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    Some(decoded)
}

/// A name of the state as text. The native API makes no others.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_coded_names_come_back() {
        let of = |text| percent_decode(text);
        assert_eq!(of("nightly").as_deref(), Some(&b"nightly"[..]));
        assert_eq!(of("a%3Ab%00%fF").as_deref(), Some(&b"a:b\x00\xff"[..]));
        for broken in ["%", "%4", "%4x", "a%"] {
            assert_eq!(of(broken), None, "{broken}");
        }
    }
}
