//! Calls as every gRPC dashboard counts them, and the text form of `/metrics`.

use super::health::HealthMetrics;
use crate::grpc::method::{METHODS, Method};
use crate::{Counter, Histogram};
use std::fmt::Write;
use std::sync::OnceLock;
use std::time::Duration;

/// The names of the gRPC codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Counts what happens on the client port.
pub(crate) struct Metrics {
    /// By [`Method::index`].
    calls: Vec<Calls>,
    /// Health checks.
    pub health: HealthMetrics,
    /// Bytes read from clients.
    pub client_bytes_received: Counter,
    /// Bytes written to clients.
    pub client_bytes_sent: Counter,
}

#[derive(Default)]
struct Calls {
    started: Counter,
    handled: [Counter; CODES.len()],
    /// Only calls that were made take room.
    handling: OnceLock<Histogram>,
}

impl Metrics {
    /// Begins at zero.
    pub fn new() -> Metrics {
        let calls = METHODS.iter().map(|_| Calls::default()).collect();
        Metrics {
            calls,
            health: HealthMetrics::default(),
            client_bytes_received: Counter::default(),
            client_bytes_sent: Counter::default(),
        }
    }

    /// A call began.
    pub fn started(&self, method: Method) {
        self.calls[method.index].started.inc();
    }

    /// A call ended with this gRPC code.
    pub fn handled(&self, method: Method, code: usize, duration: Duration) {
        let calls = &self.calls[method.index];
        if let Some(counter) = calls.handled.get(code) {
            counter.inc();
        }
        calls
            .handling
            .get_or_init(Histogram::default)
            .observe(duration);
    }

    /// Writes all of it. Series exist from the start, so that rates and alerts see the first event.
    pub fn write(&self, text: &mut Text) {
        let calls = || METHODS.iter().zip(&self.calls);
        text.family("grpc_server_started_total", "counter", "Calls begun.");
        for (method, calls) in calls() {
            text.sample(
                "grpc_server_started_total",
                &labels(method),
                calls.started.get(),
            );
        }
        text.family(
            "grpc_server_handled_total",
            "counter",
            "Calls ended, by code.",
        );
        for (method, calls) in calls() {
            for (code, count) in CODES.iter().zip(&calls.handled) {
                text.sample(
                    "grpc_server_handled_total",
                    &format!("grpc_code=\"{code}\",{}", labels(method)),
                    count.get(),
                );
            }
        }
        text.family(
            "grpc_server_handling_seconds",
            "histogram",
            "Duration of calls.",
        );
        for (method, calls) in calls() {
            if let Some(histogram) = calls.handling.get() {
                text.histogram("grpc_server_handling_seconds", &labels(method), histogram);
            }
        }
        text.counter(
            "etcd_network_client_grpc_received_bytes_total",
            "Bytes received from clients.",
            self.client_bytes_received.get(),
        );
        text.counter(
            "etcd_network_client_grpc_sent_bytes_total",
            "Bytes sent to clients.",
            self.client_bytes_sent.get(),
        );
        self.health.write(text);
    }
}

fn labels(method: &Method) -> String {
    format!(
        "grpc_method=\"{}\",grpc_service=\"{}\",grpc_type=\"{}\"",
        method.name, method.service, method.kind
    )
}

/// Metrics in Prometheus' text format.
#[derive(Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins a family of series.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// Writes one value of a family; labels without braces.
    pub fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        if labels.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{labels}}} {value}"));
        }
    }

    /// Writes a counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, "", value);
    }

    /// Writes a gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, "", value);
    }

    /// Writes the series of a histogram.
    pub fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in histogram.cumulative() {
            self.sample(
                &format!("{name}_bucket"),
                &format!("{labels}{comma}le=\"{bound}\""),
                count,
            );
        }
        self.sample(
            &format!("{name}_bucket"),
            &format!("{labels}{comma}le=\"+Inf\""),
            histogram.count(),
        );
        self.sample(&format!("{name}_sum"), labels, histogram.sum_seconds());
        self.sample(&format!("{name}_count"), labels, histogram.count());
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a String takes whatever is written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::method;

    #[test]
    fn calls_are_counted_by_code() {
        let metrics = Metrics::new();
        metrics.started(method::PUT);
        metrics.handled(method::PUT, 8, Duration::from_millis(3));
        let mut text = Text::default();
        metrics.write(&mut text);
        let page = text.finish();
        let labels = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
        for line in [
            format!("grpc_server_started_total{{{labels}}} 1"),
            format!("grpc_server_handled_total{{grpc_code=\"ResourceExhausted\",{labels}}} 1"),
            format!("grpc_server_handled_total{{grpc_code=\"OK\",{labels}}} 0"),
            format!("grpc_server_handling_seconds_bucket{{{labels},le=\"0.002\"}} 0"),
            format!("grpc_server_handling_seconds_bucket{{{labels},le=\"0.004\"}} 1"),
            format!("grpc_server_handling_seconds_count{{{labels}}} 1"),
        ] {
            assert!(page.lines().any(|given| given == line), "{line}");
        }
    }
}
