//! Whole numbers in any way that JSON can write them.

/// No number of 64 bits has more digits.
const DIGITS_MAX: i64 = 20;

/// The value of a number of JSON, if it is whole and not far beyond 64 bits. Exact, unlike a fraction's.
pub(super) fn whole(text: &[u8]) -> Option<i128> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (digits, text) = digits(text)?;
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    let (fraction, text) = match text.strip_prefix(b".") {
        Some(text) => self::digits(text)?,
        None => (&[][..], text),
    };
    let exponent = match text.split_first() {
        None => 0,
        Some((b'e' | b'E', text)) => exponent(text)?,
        Some(_) => return None,
    };
    let fraction = trim_zeros(fraction);
    let digits = if digits == b"0" { &[] } else { digits };
    if digits.is_empty() && fraction.is_empty() {
        return Some(0);
    }
    // The point moves to the right by the exponent; nothing may be left behind it.
    let after = fraction.len() as i64;
    let len = digits.len() as i64 + exponent;
    if !(0..=DIGITS_MAX).contains(&len) || after > exponent.max(0) {
        return None;
    }
    let all = digits.iter().chain(fraction);
    let zeros = std::iter::repeat(&b'0');
    let (kept, gone) = (all.clone().chain(zeros), all.skip(len as usize));
    if gone.into_iter().any(|&digit| digit != b'0') {
        return None;
    }
    let value = kept
        .take(len as usize)
        .fold(0, |value, digit| value * 10 + i128::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

/// Digits, at least one, and what follows them.
fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (len > 0).then(|| text.split_at(len))
}

fn exponent(text: &[u8]) -> Option<i64> {
    let unsigned = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-"));
    let (_, rest) = digits(unsigned.unwrap_or(text))?;
    let text = std::str::from_utf8(text).ok().filter(|_| rest.is_empty())?;
    text.parse::<i32>().ok().map(i64::from)
}

fn trim_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|&&digit| digit == b'0');
    &digits[..digits.len() - zeros.count()]
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn every_way_to_write_a_whole_number() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("0.000e99", 0),
            ("7", 7),
            ("-7", -7),
            ("1.50e1", 15),
            ("10000e-4", 1),
            ("0.05e2", 5),
            ("12e+2", 1200),
            ("18446744073709551615", u64::MAX.into()),
        ] {
            assert_eq!(whole(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "1.5",
            "0.05e1",
            "15e-1",
            "1e400",
            "1e",
            "1.",
            ".5",
            "1 ",
            " 1",
            "1e-3",
            "0x1",
            "1e99999999999",
        ] {
            assert_eq!(whole(text.as_bytes()), None, "{text}");
        }
    }
}
