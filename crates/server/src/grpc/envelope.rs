//! What clients whose messages have no room for it say in metadata: locks that must be held, and the number of a request that must not be applied twice.

use super::method::{self, Method};
use etcd::{Advice, Code, Status};
use http::HeaderMap;
use native::parse_guards;
use state::{Command, Guard};

/// Locks that must be held: `name:token`, the name percent-coded; several with commas or in several headers.
pub(crate) const GUARD_HEADER: &str = "synod-guard";
/// Client id, number of the request, and the lowest number without an answer (PROPERTIES E1).
const CLIENT_HEADER: &str = "synod-client";
const SEQUENCE_HEADER: &str = "synod-sequence";
const ACKNOWLEDGED_HEADER: &str = "synod-acknowledged";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Envelope {
    guards: Vec<Guard>,
    client: u64,
    sequence: u64,
    acknowledged_below: u64,
}

impl Envelope {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// One of them makes no sense.
    pub fn of(headers: &HeaderMap) -> Result<Envelope, Status> {
        let guards = headers.get_all(GUARD_HEADER).into_iter();
        let guards = parse_guards(guards.map(|text| text.to_str().unwrap_or("?")))?;
        let client = number(headers, CLIENT_HEADER)?.unwrap_or(0);
        let sequence = number(headers, SEQUENCE_HEADER)?;
        let acknowledged = number(headers, ACKNOWLEDGED_HEADER)?;
        if (client == 0) != sequence.is_none() {
            return Err(invalid(format!(
                "{CLIENT_HEADER}, {SEQUENCE_HEADER}: one without the other says nothing; give both, or none"
            )));
        }
        Ok(Envelope {
            guards,
            client,
            sequence: sequence.unwrap_or(0),
            acknowledged_below: acknowledged.unwrap_or(0),
        })
    }

    /// Puts it on a change; what the change itself says counts more.
    pub fn seal(&self, change: &mut Command) {
        change.guards.extend(self.guards.iter().cloned());
        if change.client == 0 {
            change.client = self.client;
            change.sequence = self.sequence;
            change.acknowledged_below = self.acknowledged_below;
        }
    }

    /// Refuses a call for which it could not be kept. Calls that change nothing have no use for it.
    ///
    /// # Errors
    /// The call makes other changes than those of one command.
    pub fn check(&self, method: Method) -> Result<(), Status> {
        if self.client != 0 && !is_one_command(method) {
            return Err(unfit(CLIENT_HEADER, method));
        }
        if !self.guards.is_empty() && !is_guarded(method) {
            return Err(unfit(GUARD_HEADER, method));
        }
        Ok(())
    }
}

fn unfit(header: &str, method: Method) -> Status {
    let Method { service, name, .. } = method;
    invalid(format!(
        "{header}: {service}/{name} cannot be held to it; send it without"
    ))
}

fn invalid(text: String) -> Status {
    Status::new(Code::InvalidArgument, text).advised(Advice::permanent("invalid"))
}

/// All that the call changes, it changes by commands.
fn is_guarded(method: Method) -> bool {
    let by_commands = [
        "etcdserverpb.KV",
        "etcdserverpb.Watch",
        "etcdserverpb.Lease",
        "etcdserverpb.Auth",
        "v3lockpb.Lock",
        "v3electionpb.Election",
    ];
    let reads = [method::STATUS, method::MEMBER_LIST, method::LIST_MEMBERS];
    method.is_native() || by_commands.contains(&method.service) || reads.contains(&method)
}

/// It makes one command at most.
fn is_one_command(method: Method) -> bool {
    let several = [method::V1_SESSION_OPEN, method::V1_LEASE_REGISTER];
    let queues = ["v3lockpb.Lock", "v3electionpb.Election"];
    is_guarded(method) && !several.contains(&method) && !queues.contains(&method.service)
}

fn number(headers: &HeaderMap, name: &str) -> Result<Option<u64>, Status> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("?");
    let parsed = text.parse().map(Some);
    parsed.map_err(|_| invalid(format!("{name}: {text:?} is no number")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let each = all.iter().map(|&(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        each.collect()
    }

    #[test]
    fn guards_and_numbers_go_onto_the_command() {
        let of = headers(&[
            (GUARD_HEADER, "a%3Ab:7,c:8"),
            (GUARD_HEADER, "d:9"),
            (CLIENT_HEADER, "5"),
            (SEQUENCE_HEADER, "6"),
            (ACKNOWLEDGED_HEADER, "4"),
        ]);
        let mut command = Command::default();
        Envelope::of(&of).unwrap().seal(&mut command);
        let named = command.guards.iter();
        let named: Vec<_> = named.map(|guard| (&guard.name[..], guard.token)).collect();
        assert_eq!(named, [(&b"a:b"[..], 7), (b"c", 8), (b"d", 9)]);
        assert_eq!(
            (command.client, command.sequence, command.acknowledged_below),
            (5, 6, 4)
        );
    }

    #[test]
    fn nothing_said_is_nothing_put() {
        let envelope = Envelope::of(&HeaderMap::new()).unwrap();
        assert_eq!(envelope, Envelope::default());
        let mut command = Command::default();
        envelope.seal(&mut command);
        assert_eq!(command, Command::default());
    }

    #[test]
    fn nonsense_is_refused() {
        for all in [
            &[(GUARD_HEADER, "nightly")][..],
            &[(CLIENT_HEADER, "x"), (SEQUENCE_HEADER, "1")],
            &[(CLIENT_HEADER, "1")],
            &[(SEQUENCE_HEADER, "1")],
        ] {
            let status = Envelope::of(&headers(all)).unwrap_err();
            assert_eq!(status.code, Code::InvalidArgument, "{all:?}");
            assert_eq!(status.advice, Some(Advice::permanent("invalid")), "{all:?}");
        }
    }

    #[test]
    fn calls_that_could_not_keep_it_refuse_it() {
        let guarded = Envelope::of(&headers(&[(GUARD_HEADER, "a:1")])).unwrap();
        let numbered = [(CLIENT_HEADER, "1"), (SEQUENCE_HEADER, "1")];
        let numbered = Envelope::of(&headers(&numbered)).unwrap();
        assert_eq!(guarded.check(method::PUT), Ok(()));
        assert_eq!(guarded.check(method::LOCK), Ok(()));
        assert!(guarded.check(method::MEMBER_REMOVE).is_err());
        assert_eq!(numbered.check(method::TXN), Ok(()));
        assert!(numbered.check(method::LOCK).is_err());
        assert!(numbered.check(method::V1_SESSION_OPEN).is_err());
    }
}
