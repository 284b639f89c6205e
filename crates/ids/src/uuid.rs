//! UUIDs of version 7 (RFC 9562): the time in milliseconds, then a counter, then randomness. Those of one generator rise.

use std::fmt;
use std::str::FromStr;

/// Bits of the counter behind the time.
const COUNTER_BITS: u32 = 12;

/// A UUID. Its text form is the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub u128);

/// The text is no UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseUuidError;

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a UUID; 32 hexadecimal digits, such as 0190163d-8694-739b-aea5-966c26f8ad91",
        )
    }
}

impl std::error::Error for ParseUuidError {}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let part = |from: usize, to: usize| &digits[from..to];
        write!(
            f,
            "{}-{}-{}-{}-{}",
            part(0, 8),
            part(8, 12),
            part(12, 16),
            part(16, 20),
            part(20, 32)
        )
    }
}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Uuid, ParseUuidError> {
        let digits: String = text.chars().filter(|&digit| digit != '-').collect();
        let plain = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u128::from_str_radix(&digits, 16).ok().filter(|_| plain);
        number.map(Uuid).ok_or(ParseUuidError)
    }
}

impl Uuid {
    /// Its version.
    pub fn version(self) -> u8 {
        (self.0 >> 76) as u8 & 0xf
    }

    /// Of version 7: when it was made, in milliseconds since 1970.
    pub fn unix_ms(self) -> Option<u64> {
        (self.version() == 7).then_some((self.0 >> 80) as u64)
    }
}

/// Makes UUIDs of version 7 that rise, also when the clock it is told goes back or stands still.
#[derive(Debug, Default)]
pub struct UuidGenerator {
    /// Milliseconds and counter of the last one.
    last: u64,
}

impl UuidGenerator {
    /// Begins.
    pub fn new() -> UuidGenerator {
        UuidGenerator::default()
    }

    /// The next one, at this time and with this randomness.
    pub fn next(&mut self, unix_ms: u64, random: [u8; 10]) -> Uuid {
        let random = random
            .iter()
            .fold(0u128, |all, &byte| all << 8 | u128::from(byte));
        // A new millisecond begins its counter at random, in its lower half: it has room to rise. A full one borrows from the next.
        let begin = (random >> 64) as u64 & ((1 << (COUNTER_BITS - 1)) - 1);
        let fresh = (unix_ms & ((1 << 48) - 1)) << COUNTER_BITS | begin;
        self.last = if fresh >> COUNTER_BITS > self.last >> COUNTER_BITS {
            fresh
        } else {
            self.last + 1
        };
        let time = u128::from(self.last >> COUNTER_BITS);
        let counter = u128::from(self.last & ((1 << COUNTER_BITS) - 1));
        let low = random & ((1 << 62) - 1);
        Uuid(time << 80 | 7 << 76 | counter << 64 | 0b10 << 62 | low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_rise_whatever_the_clock_does() {
        let mut generator = UuidGenerator::new();
        let mut last = Uuid(0);
        for (step, unix_ms) in [
            1_700_000_000_000u64,
            1_700_000_000_001,
            5,
            5,
            1_700_000_000_002,
        ]
        .into_iter()
        .cycle()
        .take(20_000)
        .enumerate()
        {
            let next = generator.next(unix_ms, [(step * 37) as u8; 10]);
            assert!(next > last, "{next} after {last}");
            assert_eq!((next.version(), next.0 >> 62 & 3), (7, 2));
            last = next;
        }
    }

    #[test]
    fn time_and_text_come_back() {
        // The example of RFC 9562, A.6.
        let text = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(uuid.unix_ms(), Some(1_645_557_742_000));
        let made = UuidGenerator::new().next(1_645_557_742_000, [0xff; 10]);
        assert_eq!(made.unix_ms(), Some(1_645_557_742_000));
        assert_eq!(made.to_string().parse(), Ok(made));
        for text in [
            "",
            "017f22e2",
            "x17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "+17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        ] {
            assert_eq!(text.parse::<Uuid>(), Err(ParseUuidError), "{text}");
        }
    }
}
