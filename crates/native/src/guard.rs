//! Guards: of messages, and of the metadata of clients whose messages have no room for them.

use crate::names::percent_decode;
use crate::refusal;
use etcd::Status;
use proto::synod::v1;
use state::Guard;
use state::lock::GUARD_MODEL;

/// Guards of one request.
const GUARDS_MAX: usize = 16;

fn guard(name: impl Into<bytes::Bytes>, token: u64) -> Result<Guard, Status> {
    let name = name.into();
    if name.is_empty() || token == 0 {
        return Err(refusal::invalid(
            "guard: a name and a token above 0 are needed; the token came with the lock",
        ));
    }
    Ok(Guard {
        model: GUARD_MODEL,
        name,
        token,
    })
}

fn bounded(guards: Vec<Guard>) -> Result<Vec<Guard>, Status> {
    if guards.len() <= GUARDS_MAX {
        return Ok(guards);
    }
    let text = format!(
        "guards: {} are too many, at most {GUARDS_MAX}",
        guards.len()
    );
    Err(refusal::invalid(text))
}

/// The guards of a message.
pub(crate) fn guards(named: Vec<v1::Guard>) -> Result<Vec<Guard>, Status> {
    let each = named
        .into_iter()
        .map(|named| guard(named.name.into_bytes(), named.token));
    bounded(each.collect::<Result<_, _>>()?)
}

/// Guards as they come in metadata: `name:token`, the name percent-coded, several with commas between them.
///
/// # Errors
/// One of them is none, or they are too many.
pub fn parse_guards<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Guard>, Status> {
    let each = texts.into_iter().flat_map(|text| text.split(','));
    let parsed = each.map(|text| {
        let parts = text.trim().rsplit_once(':');
        let known =
            parts.and_then(|(name, token)| Some((percent_decode(name)?, token.parse().ok()?)));
        let (name, token) = known.ok_or_else(|| {
            refusal::invalid(format!(
                "synod-guard: {text:?} is no guard; write name:token, with the name percent-coded"
            ))
        })?;
        guard(name, token)
    });
    bounded(parsed.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_come_in_one_text_or_in_several() {
        let guards = parse_guards(["nightly:7, a%3Ab:18446744073709551615", "c:1"]).unwrap();
        let named: Vec<(&[u8], u64)> = guards
            .iter()
            .map(|guard| (&guard.name[..], guard.token))
            .collect();
        assert_eq!(named, [(&b"nightly"[..], 7), (b"a:b", u64::MAX), (b"c", 1)]);
        assert!(guards.iter().all(|guard| guard.model == GUARD_MODEL));
    }

    #[test]
    fn what_is_no_guard_is_refused_with_its_form() {
        for text in [
            "",
            "nightly",
            "nightly:",
            "nightly:x",
            ":5",
            "nightly:0",
            "%4:1",
            "a:1,,b:2",
        ] {
            let status = parse_guards([text]).unwrap_err();
            assert!(status.text.contains("guard"), "{text}: {status}");
            assert_eq!(status.advice.unwrap().reason, "invalid");
        }
        let many = vec!["a:1"; GUARDS_MAX + 1].join(",");
        assert!(
            parse_guards([&many[..]])
                .unwrap_err()
                .text
                .contains("at most 16")
        );
    }
}
