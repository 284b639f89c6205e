//! Stamps: how much history a reply has seen, in a text form that clients carry around without reading it.

use std::fmt;
use std::str::FromStr;

/// How much history a reply has seen. Its text form is opaque to clients: `cluster.cell.index` in hexadecimal. A read answered while a batch is
/// being applied is stamped with that batch: the stamp may be newer than the view, never older, so that no read asked with it goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The cluster.
    pub cluster: u64,
    /// The cell.
    pub cell: u64,
    /// The log index.
    pub index: u64,
}

/// The text is no stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseStampError;

impl fmt::Display for ParseStampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not a stamp; pass one back as it came with an earlier reply"
        )
    }
}

impl std::error::Error for ParseStampError {}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}.{:x}", self.cluster, self.cell, self.index)
    }
}

impl FromStr for Stamp {
    type Err = ParseStampError;

    fn from_str(text: &str) -> Result<Stamp, ParseStampError> {
        let mut parts = text.split('.').map(|part| match part.len() {
            1..=16 if part.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                u64::from_str_radix(part, 16).map_err(|_| ParseStampError)
            }
            _ => Err(ParseStampError),
        });
        let mut next = || parts.next().unwrap_or(Err(ParseStampError));
        let stamp = Stamp {
            cluster: next()?,
            cell: next()?,
            index: next()?,
        };
        if parts.next().is_some() {
            Err(ParseStampError)
        } else {
            Ok(stamp)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_hexadecimal_and_comes_back() {
        let stamp = Stamp {
            cluster: 0xfeed_beef_0000_0001,
            cell: 0,
            index: 255,
        };
        assert_eq!(stamp.to_string(), "feedbeef00000001.0.ff");
        assert_eq!(stamp.to_string().parse(), Ok(stamp));
        let largest = Stamp {
            cluster: u64::MAX,
            cell: u64::MAX,
            index: u64::MAX,
        };
        assert_eq!(largest.to_string().parse(), Ok(largest));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ".",
            "1.2",
            "1.2.3.4",
            "1..3",
            "x.2.3",
            "+1.2.3",
            "1.2.-3",
            "11112222333344445.0.1",
            " 1.2.3",
            "1.2.3\n",
        ] {
            assert_eq!(text.parse::<Stamp>(), Err(ParseStampError), "{text:?}");
        }
    }
}
