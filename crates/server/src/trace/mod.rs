//! Traces of requests through the members, for those who collect them: OpenTelemetry's spans, sent as OTLP over gRPC.
//!
//! The span of a request begins at the member that was asked, below the client's if that sent one (`traceparent`). A change carries it in its envelope
//! through the log, so that every member tells its own steps of the same trace: see [`Steps`]. Off unless asked for; then it costs nothing.

mod export;
mod otlp;
mod steps;

pub(crate) use steps::Steps;

use crate::Metrics;
use crate::greet::random;
use bytes::Bytes;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::mpsc;

/// Spans that wait to be sent at most; further ones are dropped and counted.
const SPANS_QUEUED_MAX: usize = 8192;
/// Of so many requests a number is traced without being asked for.
pub(crate) const SAMPLED_OF: u64 = 1_000_000;
/// Where a request says on whose behalf it comes (W3C Trace Context).
pub(crate) const TRACE_PARENT_HEADER: &str = "traceparent";

/// Where spans go, and which requests have any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// The collector, as `host:port`.
    pub collector: String,
    /// What this service is called there.
    pub service: String,
    /// What this member is called there.
    pub instance: String,
    /// How many of a million requests are traced that do not ask for it.
    pub samples_per_million: u64,
}

/// A span as others refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId {
    trace: [u8; 16],
    span: [u8; 8],
}

impl SpanId {
    /// A span of a trace of its own.
    fn root() -> SpanId {
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&random().max(1).to_be_bytes());
        trace[8..].copy_from_slice(&random().to_be_bytes());
        SpanId {
            trace,
            span: [0; 8],
        }
        .child()
    }

    /// Another span of the same trace.
    fn child(self) -> SpanId {
        SpanId {
            span: random().max(1).to_be_bytes(),
            ..self
        }
    }

    /// As it rides in a command's envelope.
    pub(crate) fn to_bytes(self) -> Bytes {
        [&self.trace[..], &self.span].concat().into()
    }

    fn from_bytes(bytes: &[u8]) -> Option<SpanId> {
        let (trace, span) = bytes.split_at_checked(16)?;
        Some(SpanId {
            trace: trace.try_into().ok()?,
            span: span.try_into().ok()?,
        })
    }
}

/// The client's span, as its request tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceParent {
    id: SpanId,
    /// The client's side of it is collected.
    sampled: bool,
}

impl TraceParent {
    /// Reads `00-TRACE-SPAN-FLAGS`, in hexadecimal digits. What cannot be read is passed over, as the standard asks.
    pub(crate) fn parse(text: &str) -> Option<TraceParent> {
        let mut parts = text.trim().split('-');
        let version = u8::from_str_radix(parts.next()?, 16).ok()?;
        let trace = hex(parts.next()?)?;
        let span = hex(parts.next()?)?;
        let [flags] = hex(parts.next()?)?;
        let more = parts.next().is_some();
        let good = version != 0xff && trace != [0; 16] && span != [0; 8] && !(version == 0 && more);
        good.then_some(TraceParent {
            id: SpanId { trace, span },
            sampled: flags & 1 == 1,
        })
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (nth, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * nth..2 * nth + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Something that took time.
#[derive(Debug)]
pub(crate) struct Span {
    id: SpanId,
    parent: Option<[u8; 8]>,
    name: &'static str,
    /// It answers somebody outside.
    server: bool,
    /// Nanoseconds since 1970.
    since: u64,
    until: u64,
    attributes: Vec<(&'static str, Value)>,
    failed: bool,
}

/// What an attribute says.
#[derive(Debug)]
enum Value {
    Number(i64),
    Text(&'static str),
}

/// Takes spans, if anybody wants any. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tracer(Option<Arc<Wanted>>);

struct Wanted {
    spans: mpsc::Sender<Span>,
    samples_per_million: u64,
    metrics: Arc<Metrics>,
}

impl Tracer {
    /// Nobody wants any.
    pub(crate) fn off() -> Tracer {
        Tracer(None)
    }

    /// Sends spans as the settings say, from now on.
    pub(crate) fn start(settings: Option<&TraceSettings>, metrics: &Arc<Metrics>) -> Tracer {
        let Some(settings) = settings else {
            return Tracer::off();
        };
        let (spans, queue) = mpsc::channel(SPANS_QUEUED_MAX);
        tokio::spawn(export::run(settings.clone(), queue, metrics.clone()));
        Tracer(Some(Arc::new(Wanted {
            spans,
            samples_per_million: settings.samples_per_million,
            metrics: metrics.clone(),
        })))
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the span of a request, if it is traced.
    pub(crate) fn request(&self, parent: Option<TraceParent>) -> Option<RequestSpan> {
        let wanted = self.0.as_ref()?;
        let sampled = match parent {
            Some(parent) => parent.sampled,
            None => random() % SAMPLED_OF < wanted.samples_per_million,
        };
        sampled.then(|| RequestSpan {
            id: parent.map_or_else(SpanId::root, |parent| parent.id.child()),
            parent: parent.map(|parent| parent.id.span),
            since: now(),
        })
    }

    /// Ends the span of a request that was answered with a status.
    pub(crate) fn answered(&self, request: RequestSpan, path: &'static str, code: usize) {
        self.record(Span {
            id: request.id,
            parent: request.parent,
            name: path.trim_start_matches('/'),
            server: true,
            since: request.since,
            until: now(),
            attributes: vec![
                ("rpc.system", Value::Text("grpc")),
                ("rpc.grpc.status_code", Value::Number(code as i64)),
            ],
            failed: code != 0,
        });
    }

    /// A step of what another span asked for.
    fn step(
        &self,
        of: SpanId,
        name: &'static str,
        (since, until): (u64, u64),
        attributes: Vec<(&'static str, Value)>,
    ) {
        self.record(Span {
            id: of.child(),
            parent: Some(of.span),
            name,
            server: false,
            since,
            until,
            attributes,
            failed: false,
        });
    }

    fn record(&self, span: Span) {
        if let Some(wanted) = &self.0
            && wanted.spans.try_send(span).is_err()
        {
            wanted.metrics.trace_spans_dropped.inc();
        }
    }
}

/// A request that is traced and under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestSpan {
    pub(crate) id: SpanId,
    parent: Option<[u8; 8]>,
    since: u64,
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests;
