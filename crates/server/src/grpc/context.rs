//! What a request says beside its message: how fresh an answer must be, how long it waits, whether it insists on a leader.

use super::envelope::Envelope;
use crate::auth::Credentials;
use crate::connection::Connection;
use crate::trace::{SpanId, TRACE_PARENT_HEADER, TraceParent};
use etcd::{Advice, Code, Status};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use replica::{Consistency, Stamp};
use std::io::Write;
use std::time::Duration;

/// Where answers carry their stamp.
pub(crate) static STAMP_HEADER: HeaderName = HeaderName::from_static("synod-stamp");

/// Bytes of a stamp as text at most: three numbers and two dots.
const STAMP_TEXT_BYTES: usize = 3 * 16 + 2;

/// A stamp as an answer carries it. Each is another one, so it is kept out of the tables of HPACK (that is what "sensitive" means there): it would
/// push out what is worth remembering.
pub(crate) fn stamp_value(stamp: Stamp) -> HeaderValue {
    let mut text = [0; STAMP_TEXT_BYTES];
    let mut rest = &mut text[..];
    write!(rest, "{stamp}").expect("a stamp fits");
    let bytes = STAMP_TEXT_BYTES - rest.len();
    let mut value = HeaderValue::from_bytes(&text[..bytes]).expect("digits and dots");
    value.set_sensitive(true);
    value
}

/// Where requests say how fresh the answer must be.
pub(crate) const CONSISTENCY_HEADER: &str = "synod-consistency";

/// What a request's headers ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Context {
    /// Who asks.
    pub credentials: Credentials,
    /// How fresh, if said.
    pub consistency: Option<Consistency>,
    /// Refuse while no leader is known, rather than wait.
    pub require_leader: bool,
    /// What the client waits at most.
    pub timeout: Option<Duration>,
    /// The client's own span of it.
    pub trace_parent: Option<TraceParent>,
    /// The span of it here, if it is traced.
    pub span: Option<SpanId>,
    /// What changes are held to.
    pub envelope: Envelope,
}

impl Context {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// The consistency asked for is not known.
    pub fn of(headers: &HeaderMap) -> Result<Context, Status> {
        let mut context = Context::default();
        let (mut token, mut ours, mut last) = (None, false, None);
        // There are a handful of them: looking at each once is cheaper than asking for each that may be there.
        for (name, value) in headers {
            // Of several values the first counts.
            if last.replace(name) == Some(name) {
                continue;
            }
            // What is no text is nothing known either.
            let text = value.to_str().unwrap_or("?");
            match name.as_str() {
                "token" => token = Some(value),
                "authorization" => token = token.or(Some(value)),
                "hasleader" => context.require_leader = text == "true",
                "grpc-timeout" => context.timeout = parse_timeout(text),
                TRACE_PARENT_HEADER => context.trace_parent = TraceParent::parse(text),
                CONSISTENCY_HEADER => context.consistency = Some(parse_consistency(text)?),
                other => ours |= other.starts_with("synod-"),
            }
        }
        context.credentials.token = token.cloned();
        if ours {
            context.envelope = Envelope::of(headers)?;
        }
        Ok(context)
    }

    /// The same, over a connection whose certificate may name a user.
    pub fn with_connection(mut self, extensions: &Extensions) -> Context {
        let connection = extensions.get::<Connection>();
        self.credentials.common_name = connection.and_then(|known| known.common_name.clone());
        self
    }

    /// The same, within a span.
    pub fn within(&self, span: SpanId) -> Context {
        Context {
            span: Some(span),
            ..self.clone()
        }
    }

    /// The same, without saying who asks.
    pub fn anonymous(&self) -> Context {
        Context {
            credentials: Credentials::default(),
            ..self.clone()
        }
    }

    /// The freshness of a read whose message may already allow a local one.
    pub fn consistency(&self, serializable: bool) -> Consistency {
        self.consistency.unwrap_or(if serializable {
            Consistency::Local
        } else {
            Consistency::Linearizable
        })
    }
}

fn parse_consistency(text: &str) -> Result<Consistency, Status> {
    let parsed = match text.split_once('=') {
        None if text == "linearizable" => Some(Consistency::Linearizable),
        None if text == "local" => Some(Consistency::Local),
        Some(("bounded", duration)) => parse_duration(duration).map(Consistency::Bounded),
        Some(("at-least", stamp)) => stamp.parse().ok().map(Consistency::AtLeast),
        _ => None,
    };
    parsed.ok_or_else(|| {
        let text = format!(
            "{CONSISTENCY_HEADER}: {text:?} is not known; one of linearizable, local, bounded=500ms, at-least=STAMP (from {STAMP_HEADER})"
        );
        Status::new(Code::InvalidArgument, text).advised(Advice::permanent("invalid"))
    })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "us" => Some(Duration::from_micros(number)),
        _ => None,
    }
}

/// Reads `grpc-timeout`: at most eight digits and a unit. One that cannot be read counts as none, as gRPC asks.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(name: &'static str, value: &'static str) -> Result<Context, Status> {
        let mut headers = HeaderMap::new();
        headers.insert(name, http::HeaderValue::from_static(value));
        Context::of(&headers)
    }

    #[test]
    fn stamp_of_an_answer_reads_back_and_stays_out_of_hpacks_tables() {
        for number in [0, 0x1c, u64::MAX] {
            let stamp = Stamp {
                cluster: number,
                cell: number,
                index: number,
            };
            let value = stamp_value(stamp);
            assert_eq!(value.to_str().unwrap().parse(), Ok(stamp));
            assert!(value.is_sensitive());
        }
    }

    #[test]
    fn first_of_several_values_counts_and_etcds_token_before_others() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "bearer"),
            ("grpc-timeout", "1S"),
            ("grpc-timeout", "2S"),
            ("token", "etcd"),
            ("token", "other"),
            ("hasleader", "true"),
            ("hasleader", "false"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let context = Context::of(&headers).unwrap();
        assert_eq!(context.timeout, Some(Duration::from_secs(1)));
        assert_eq!(
            context.credentials.token,
            Some(HeaderValue::from_static("etcd"))
        );
        assert!(context.require_leader);
    }

    #[test]
    fn consistency_is_read_from_the_header() {
        let of = |text| {
            context(CONSISTENCY_HEADER, text)
                .unwrap()
                .consistency(false)
        };
        assert_eq!(of("linearizable"), Consistency::Linearizable);
        assert_eq!(of("local"), Consistency::Local);
        assert_eq!(
            of("bounded=500ms"),
            Consistency::Bounded(Duration::from_millis(500))
        );
        assert_eq!(
            of("at-least=ff.0.1c"),
            Consistency::AtLeast(Stamp {
                cluster: 255,
                cell: 0,
                index: 28
            })
        );
    }

    #[test]
    fn unknown_consistency_is_refused_with_the_known_ones() {
        for text in [
            "strong",
            "bounded=",
            "bounded=5",
            "at-least=1.2",
            "at-least=1.2.3.4",
            "",
        ] {
            let status = context(CONSISTENCY_HEADER, text).unwrap_err();
            assert_eq!(status.code, Code::InvalidArgument, "{text}");
            assert!(status.text.contains("bounded=500ms"), "{text}");
            assert_eq!(status.advice, Some(Advice::permanent("invalid")), "{text}");
        }
    }

    #[test]
    fn serializable_is_local_unless_the_header_says_otherwise() {
        assert_eq!(Context::default().consistency(true), Consistency::Local);
        assert_eq!(
            Context::default().consistency(false),
            Consistency::Linearizable
        );
        assert_eq!(
            context(CONSISTENCY_HEADER, "linearizable")
                .unwrap()
                .consistency(true),
            Consistency::Linearizable
        );
    }

    #[test]
    fn timeouts_are_read_in_all_units_and_nonsense_is_none() {
        let of = |text| context("grpc-timeout", text).unwrap().timeout;
        assert_eq!(of("2S"), Some(Duration::from_secs(2)));
        assert_eq!(of("150m"), Some(Duration::from_millis(150)));
        assert_eq!(of("7n"), Some(Duration::from_nanos(7)));
        assert_eq!(of("1H"), Some(Duration::from_secs(3600)));
        for text in ["", "S", "123456789S", "1x", "-1S"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
